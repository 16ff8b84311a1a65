//! The accept loop: bounded in clients, patient with errors, and able to stop.
//!
//! Our own rather than `axum::serve`, which has no time limit on a request's head, no bound on connections and no way to wait
//! for those that are open.

use std::future::{Ready, ready};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

/// How long a client may take for the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Bytes of a request's head, and of what is read ahead of its body.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// The rest after an error of accept: it is most often that the process has no descriptors left, and does not go away at once.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Where connections come from.
pub trait Listener: Send + Sync {
    /// What is read from and written to.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// What a connection needs before it can be read from, such as TLS.
    type Opening: Future<Output = io::Result<Self::Stream>> + Send + 'static;

    /// The next connection. Its opening is left to a task of its own: a client that is slow holds up no other.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Opening>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;
    type Opening = Ready<io::Result<TcpStream>>;

    async fn accept(&self) -> io::Result<Self::Opening> {
        Self::accept(self).await.map(|(stream, _)| ready(Ok(stream)))
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;
    type Opening = Ready<io::Result<UnixStream>>;

    async fn accept(&self) -> io::Result<Self::Opening> {
        Self::accept(self).await.map(|(stream, _)| ready(Ok(stream)))
    }
}

/// Serves until `stopping` is cancelled, then lets requests that are being answered end. At most `clients_max` connections
/// are open; others wait in the listener's queue. Nothing that goes wrong with a connection ends it.
pub async fn run(listener: impl Listener, routes: Router, clients_max: usize, stopping: CancellationToken) {
    let places = Arc::new(Semaphore::new(clients_max));
    let clients = TaskTracker::new();
    loop {
        let place = tokio::select! {
            () = stopping.cancelled() => break,
            // Never closed, so it never fails.
            Ok(place) = Arc::clone(&places).acquire_owned() => place,
        };
        let opening = tokio::select! {
            () = stopping.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(opening) => opening,
                Err(error) => {
                    warn!(%error, "can't accept a connection; trying again");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            },
        };
        let (routes, stopping) = (routes.clone(), stopping.clone());
        clients.spawn(async move {
            match tokio::time::timeout(HEAD_TIME, opening).await {
                Ok(Ok(stream)) => serve(stream, routes, stopping).await,
                Ok(Err(error)) => debug!(%error, "a connection did not open"),
                Err(_) => debug!("a connection took too long to open"),
            }
            drop(place);
        });
    }
    clients.close();
    clients.wait().await;
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, routes: Router, stopping: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        debug!(%error, "a connection ended early");
    }
}
