//! Somebody else's HTTP server: an agent's own webhook, or the gateway that SMS go out through. It keeps what it got, and
//! answers as it is told.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use crate::daemon::soon;

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }
}

#[derive(Clone)]
struct Shared {
    seen: Arc<watch::Sender<Vec<Seen>>>,
    /// Status and body; `None` for no answer until there is one.
    answer: Arc<watch::Sender<Option<(u16, String)>>>,
}

/// See the module's documentation. Gone when dropped.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    shared: Shared,
    server: JoinHandle<()>,
}

impl Peer {
    /// On a port of its own, answering 200.
    pub(crate) async fn start() -> Peer {
        Peer::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    pub(crate) async fn start_at(address: SocketAddr) -> Peer {
        let listener = TcpListener::bind(address).await.unwrap();
        let answer = Arc::new(watch::Sender::new(Some((200, String::new()))));
        let shared = Shared { seen: Arc::new(watch::Sender::new(Vec::new())), answer };
        let address = listener.local_addr().unwrap();
        let routes = axum::Router::new().fallback(take).with_state(shared.clone());
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Peer { address, shared, server }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What is answered from now on, also to those that wait for an answer.
    pub(crate) fn answers(&self, status: u16, body: &str) {
        self.shared.answer.send_replace(Some((status, body.to_owned())));
    }

    /// Nothing is answered until something is.
    pub(crate) fn holds(&self) {
        self.shared.answer.send_replace(None);
    }

    /// Waits until so many requests have come.
    pub(crate) async fn seen(&self, count: usize) -> Vec<Seen> {
        let mut seen = self.shared.seen.subscribe();
        let all = soon("a request", seen.wait_for(|seen| seen.len() >= count)).await.unwrap().clone();
        all
    }

    /// All that have come by now.
    pub(crate) fn so_far(&self) -> Vec<Seen> {
        self.shared.seen.borrow().clone()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn take(State(shared): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let seen = Seen { path: uri.path().to_owned(), headers, body };
    shared.seen.send_modify(|all| all.push(seen));
    let mut answer = shared.answer.subscribe();
    let (status, body) = answer.wait_for(Option::is_some).await.unwrap().clone().unwrap();
    (StatusCode::from_u16(status).unwrap(), body).into_response()
}
