//! Connections: HTTP/1.1 and HTTP/2 on one port, the API answered here, `/sandbox/…` by the control router.
//!
//! The API doesn't go through a router, since some of its answers are no answers: a connection that closes, or one that
//! stays open and silent.

use std::{convert::Infallible, fmt, io, sync::Arc, time::Duration};

use axum::{Router, body::Body, response::IntoResponse as _};
use hyper::{
    Request, Response,
    body::Incoming,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Shared, books::Unanswered, platform::Reply, wire};

/// Accepts connections until the sandbox stops; then closes them all.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>, control: Router, shutdown: CancellationToken) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (shared, control) = (Arc::clone(&shared), control.clone());
                let shutdown = shutdown.clone();
                connections.spawn(async move {
                    shutdown.run_until_cancelled(connection(stream, shared, control)).await;
                });
            }
            // Out of descriptors, most likely: the connections there are will free some.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    connections.close();
    connections.wait().await;
}

async fn connection(stream: TcpStream, shared: Arc<Shared>, control: Router) {
    let control = TowerToHyperService::new(control);
    // An option that can't be set costs speed, not sense.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let (shared, control) = (Arc::clone(&shared), control.clone());
        async move { answer(&shared, control, request).await }
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(60));
    server.http2().timer(TokioTimer::new()).max_concurrent_streams(1000);
    // How a connection ends is the client's affair, or a fault's.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(
    shared: &Shared,
    control: TowerToHyperService<Router>,
    request: Request<Incoming>,
) -> Result<Response<Body>, HangUp> {
    let reply = match request.uri().path() {
        path if path.starts_with("/v1/") => {
            let (head, body) = request.into_parts();
            let call = wire::read_call(&head, body).await;
            shared.with(|world, now| world.call(wire::bearer(&head), call, now))
        }
        "/token" if request.method() == hyper::Method::POST => {
            let (head, body) = request.into_parts();
            let grant = wire::read_form(&head, body).await;
            shared.with(|world, now| world.grant(grant, now))
        }
        _ => {
            let answered: Result<_, Infallible> = control.call(request).await;
            return answered.map_err(|never| match never {});
        }
    };
    finish(reply).await
}

/// Does to the connection what was decided.
async fn finish(reply: Reply) -> Result<Response<Body>, HangUp> {
    if !reply.delay.is_zero() {
        tokio::time::sleep(reply.delay).await;
    }
    if let Some(mut held) = reply.held {
        // The other end lives as long as the world.
        let _ = held.changed().await;
    }
    match reply.outcome {
        Ok(answer) => Ok(answer.into_response()),
        Err(Unanswered::Lost | Unanswered::Reset) => Err(HangUp),
        Err(Unanswered::Silent) => std::future::pending().await,
    }
}

/// Makes hyper close the connection (or reset the stream, with HTTP/2) instead of answering.
#[derive(Debug)]
struct HangUp;

impl fmt::Display for HangUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no answer, by order")
    }
}

impl std::error::Error for HangUp {}

/// Refuses what isn't loopback: the sandbox lets anybody in who reaches it.
pub(super) async fn bind(address: std::net::SocketAddr) -> io::Result<TcpListener> {
    if !address.ip().is_loopback() {
        let why = format!("{address} is not a loopback address: the sandbox must not be reached from elsewhere");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    TcpListener::bind(address).await
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn only_loopback_is_listened_on() {
        let error = super::bind("0.0.0.0:0".parse().unwrap()).await.unwrap_err();
        assert!(error.to_string().contains("loopback"));
        assert!(super::bind("127.0.0.1:0".parse().unwrap()).await.is_ok());
    }
}
