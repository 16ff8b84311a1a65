//! The accept loop: bounded in clients, patient with errors, and able to stop.
//!
//! Our own rather than `axum::serve`, which has no time limit on a request's head, no bound on connections and no way to wait
//! for those that are open. Every wait for a client has its limit: for what opens the connection, for a request's head, for
//! its body (where it is read), and for the client to read its answer.

use std::future::{Ready, ready};
use std::hash::Hash;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready as ready_or_pending};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::Request;
use futures_util::FutureExt as _;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_io_timeout::TimeoutWriter;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::access::Peer;
use super::seats::{Seat, Seats, Sitter};

/// How long a client may take for the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// How long a client that was let in just before the stop may take to say anything.
const FIRST_TIME: Duration = Duration::from_secs(1);
/// How long it may read nothing of an answer.
const READ_TIME: Duration = Duration::from_secs(30);
/// Bytes of a request's head, and of what is read ahead of its body.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// The rest after an error of accept: it is most often that the process has no descriptors left, and does not go away at once.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Where connections come from.
pub trait Listener: Send + Sync {
    /// What is read from and written to.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// Who is at the other end.
    type Peer: Copy + Holder + Send + Sync + 'static;
    /// What a connection needs before it can be read from, such as TLS.
    type Opening: Future<Output = io::Result<Self::Stream>> + Send + 'static;

    /// The next connection. Its opening is left to a task of its own: a client that is slow holds up no other.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Opening, Self::Peer)>> + Send;

    /// There is no place for it.
    fn turn_away(opening: Self::Opening);
}

/// Whose the places of a peer are: one who has several faces has but one share.
pub trait Holder {
    /// What all of its faces have in common.
    type Key: Copy + Eq + Hash + Send + Sync + 'static;

    /// See [`Holder`].
    fn key(&self) -> Self::Key;
}

impl Holder for Peer {
    type Key = u32;

    /// Whoever is in several groups may come with any of them as their own.
    fn key(&self) -> u32 {
        self.uid
    }
}

impl Holder for IpAddr {
    type Key = u128;

    /// Of IPv6, a whole network is given to one customer.
    fn key(&self) -> u128 {
        match self.to_canonical() {
            Self::V4(address) => address.to_bits().into(),
            Self::V6(address) => address.to_bits() & (u128::MAX << 64),
        }
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;
    type Peer = IpAddr;
    type Opening = Ready<io::Result<TcpStream>>;

    async fn accept(&self) -> io::Result<(Self::Opening, IpAddr)> {
        let (stream, from) = Self::accept(self).await?;
        Ok((ready(Ok(stream)), from.ip()))
    }

    fn turn_away(_: Self::Opening) {}
}

impl Listener for UnixListener {
    type Stream = UnixStream;
    type Peer = Peer;
    type Opening = Ready<io::Result<UnixStream>>;

    async fn accept(&self) -> io::Result<(Self::Opening, Peer)> {
        let (stream, _) = Self::accept(self).await?;
        let found = stream.peer_cred()?;
        let peer = Peer { uid: found.uid(), gid: found.gid() };
        Ok((ready(Ok(stream)), peer))
    }

    fn turn_away(opening: Self::Opening) {
        const BODY: &str = "{\"error\":{\"code\":503,\"status\":\"UNAVAILABLE\",\"message\":\"this user has as many requests \
                            under way as one may have: raise [server] clients_max, or use fewer connections\"}}";
        let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1";
        let answer = format!("{head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{BODY}", BODY.len());
        // It fits into the socket's buffer; if not, or if nobody is there any more, the end says as much.
        drop(opening.into_inner().and_then(|stream| stream.try_write(answer.as_bytes())));
    }
}

/// Serves until `stopping` is cancelled, then lets requests that are being answered end. At most `clients_max` connections
/// are open (see [`super::seats`]). Nothing that goes wrong with a connection ends it.
pub async fn run<L: Listener>(listener: L, routes: Router, clients_max: usize, stopping: CancellationToken) {
    let seats = Seats::new(clients_max);
    let clients = TaskTracker::new();
    let mut failing = false;
    loop {
        let (opening, peer) = tokio::select! {
            () = stopping.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => {
                    failing = false;
                    accepted
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        warn!(%error, "can't accept connections; trying again and again");
                    }
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            },
        };
        let seat = tokio::select! {
            () = stopping.cancelled() => break,
            seat = seats.take(peer.key()) => seat,
        };
        let Some(seat) = seat else {
            debug!("a connection was turned away: its peer has as many as one may have");
            L::turn_away(opening);
            continue;
        };
        let (routes, stopping) = (routes.clone(), stopping.clone());
        clients.spawn(attend(opening, peer, seat, routes, stopping));
    }
    clients.close();
    clients.wait().await;
}

/// One connection, until it is closed, breaks, or has to make room.
async fn attend<S: AsyncRead + AsyncWrite, P: Copy + Holder + Send + Sync + 'static>(
    opening: impl Future<Output = io::Result<S>>,
    peer: P,
    seat: Seat<P::Key>,
    routes: Router,
    stopping: CancellationToken,
) {
    let sitter = seat.sitter();
    let stream = tokio::select! {
        opened = tokio::time::timeout(HEAD_TIME, opening) => match opened {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return debug!(%error, "a connection did not open"),
            Err(_) => return debug!("a connection took too long to open"),
        },
        () = sitter.makes_room() => return,
    };
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(READ_TIME));
    let routes = TowerToHyperService::new(routes);
    let asked = CancellationToken::new();
    let service = service_fn(|mut request: Request<Incoming>| {
        asked.cancel();
        request.extensions_mut().insert(peer);
        let answer = routes.call(request.map(|body| Upload::new(body, sitter.clone())));
        let sitter = sitter.clone();
        answer.map(|answer| {
            // Also where nobody cared for the body.
            sitter.is_served();
            answer.map(|answer| answer.map(|body| Answering { body, sitter }))
        })
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stopping.cancelled() => {
            // hyper closes at once what it has read nothing from, and a client that writes just then is reset without an answer.
            let first = tokio::select! {
                result = connection.as_mut() => Some(result),
                () = asked.cancelled() => None,
                () = tokio::time::sleep(FIRST_TIME) => None,
            };
            match first {
                Some(result) => result,
                None => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        }
        () = sitter.makes_room() => {
            if !sitter.has_our_attention() {
                return debug!("a connection that kept us waiting made room");
            }
            // Its request came at the last moment.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        debug!(%error, "a connection ended early");
    }
}

/// The body of a request: until it is here, its sender keeps us waiting.
struct Upload {
    body: Incoming,
    sitter: Sitter,
}

impl Upload {
    fn new(body: Incoming, sitter: Sitter) -> Self {
        if body.is_end_stream() {
            sitter.is_served();
        } else {
            sitter.keeps_us_waiting();
        }
        Self { body, sitter }
    }
}

impl hyper::body::Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready_or_pending!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() || self.body.is_end_stream() {
            self.sitter.is_served();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer: when it has gone, it is the client's turn again.
struct Answering {
    body: Body,
    sitter: Sitter,
}

impl hyper::body::Body for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.sitter.keeps_us_waiting();
    }
}
