//! The room against a small server that answers as it is told: every row of the table over real sockets.

mod answers;
mod tokens;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, post};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;

/// Made anew for each run of the tests: no key, not even a worthless one, belongs in a repository.
pub(super) static RSA: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate(KeySize::Rsa2048).unwrap());

pub(super) fn order() -> Order {
    Order {
        agent: AgentId::new("welcome-bot").unwrap(),
        phone: Phone::new("+12223334444").unwrap(),
        message_id: MessageId::new("msg-1").unwrap(),
        region: Region::Global,
    }
}

/// A key file as Google writes it.
pub(super) fn key_json(token_uri: &str) -> Value {
    let der = RSA.as_der().unwrap();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der.as_ref()));
    json!({
        "type": "service_account",
        "project_id": "example",
        "private_key_id": "0123abcd",
        "private_key": pem,
        "client_email": "revoker@example.iam.gserviceaccount.com",
        "token_uri": token_uri,
    })
}

/// A platform and a token endpoint that answer as they are told: by the number of the request, counted from 1. To answer
/// `None` is not to answer.
struct Fake {
    url: String,
    deletes: Arc<AtomicUsize>,
    tokens: Arc<AtomicUsize>,
    _files: tempfile::TempDir,
    key_file: PathBuf,
}

type Script = Arc<dyn Fn(usize, Request) -> Option<Response> + Send + Sync>;

impl Fake {
    /// With a token endpoint that hands out `token-1`, `token-2`, …
    async fn new(delete: impl Fn(usize, Request) -> Option<Response> + Send + Sync + 'static) -> Self {
        Self::with_tokens(delete, |n, _| Some(granted(n))).await
    }

    async fn with_tokens(
        on_delete: impl Fn(usize, Request) -> Option<Response> + Send + Sync + 'static,
        on_token: impl Fn(usize, Request) -> Option<Response> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (deletes, tokens) = (Arc::default(), Arc::default());
        let app = Router::new()
            .route("/v1/phones/{phone}/agentMessages/{id}", delete(handler(&deletes, Arc::new(on_delete))))
            .route("/token", post(handler(&tokens, Arc::new(on_token))));
        tokio::spawn(async move {
            axum::serve(listener, app.into_make_service_with_connect_info::<std::net::SocketAddr>()).await
        });

        let files = tempfile::tempdir().unwrap();
        let key_file = files.path().join("key.json");
        std::fs::write(&key_file, key_json(&format!("{url}/token")).to_string()).unwrap();
        Self { url, deletes, tokens, _files: files, key_file }
    }

    fn client(&self) -> RbmClient {
        self.client_of(&self.url)
    }

    /// A client with this server's tokens for another endpoint.
    fn client_of(&self, endpoint: &str) -> RbmClient {
        RbmClient::new(Settings { endpoint: Some(endpoint.to_owned()), ..self.settings() }).unwrap()
    }

    fn settings(&self) -> Settings {
        Settings {
            key_file: Some(self.key_file.clone()),
            accounts: Vec::new(),
            endpoint: Some(self.url.clone()),
            ca_file: None,
            timeouts: Timeouts { request: Duration::from_secs(2), ..Timeouts::default() },
        }
    }

    fn deletes(&self) -> usize {
        self.deletes.load(Ordering::SeqCst)
    }

    fn tokens(&self) -> usize {
        self.tokens.load(Ordering::SeqCst)
    }
}

fn handler(
    count: &Arc<AtomicUsize>,
    script: Script,
) -> impl Fn(Request) -> BoxFuture<'static, Response> + Clone + use<> {
    let count = Arc::clone(count);
    move |request| {
        let answer = script(count.fetch_add(1, Ordering::SeqCst) + 1, request);
        Box::pin(async move {
            match answer {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        })
    }
}

fn granted(n: usize) -> Response {
    axum::Json(json!({ "access_token": format!("token-{n}"), "expires_in": 3599, "token_type": "Bearer" }))
        .into_response()
}

/// The platform's error shape.
fn error(status: u16, message: &str) -> Response {
    let body = json!({ "error": { "code": status, "message": message, "status": "STATUS" } });
    (axum::http::StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response()
}
