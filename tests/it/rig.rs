//! What every test stands on: a sandbox, a daemon that is configured for it, and a client on the daemon's socket.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::{DateTime, Utc};
use reqwest::{Body, Client, Method, RequestBuilder, Response};
use revoked::sandbox::{Behaviour, MessageBook, Options, Sandbox};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::daemon::{Daemon, PATIENCE, soon};

pub(crate) const AGENT: &str = "shop";
pub(crate) const PHONE: &str = "+15550100";

/// Short clocks, so that whole lives fit into a test; each use case for what sets it apart.
const USE_CASES: &str = r#"
[use_cases.otp]
ttl = "600ms"
settle = "150ms"
traffic_type = "authentication"

[use_cases.held]
ttl = "600ms"
settle = "150ms"
on_unknown = "hold"

[use_cases.dropped]
ttl = "600ms"
settle = "150ms"
on_unknown = "drop"

[use_cases.patient]
ttl = "600ms"
settle = "30s"

[use_cases.fleeting]
ttl = "600ms"
settle = "150ms"
missed = "moot"

[use_cases.promo]
ttl = "10m"
settle = "150ms"
max_ttl = "1h"
"#;

/// See the module's documentation.
pub(crate) struct Rig {
    pub(crate) sandbox: Sandbox,
    pub(crate) daemon: Option<Daemon>,
    directory: TempDir,
    http: Client,
    pub(crate) plain: Client,
    /// How long the daemon waits for an answer of the platform.
    request_timeout: &'static str,
    /// How far the outcomes have been read.
    cursor: String,
    /// How far the sandbox's events have been read.
    event: u64,
    _stop: DropGuard,
}

impl Rig {
    /// With handsets that are all offline: nothing is delivered unless a test wants it.
    pub(crate) async fn start() -> Rig {
        Rig::with(Options::default(), "").await
    }

    /// With more in the configuration.
    pub(crate) async fn with(options: Options, more: &str) -> Rig {
        Rig::waiting("2s", silent(options), more).await
    }

    /// The same with a daemon that does not lose patience with an answer that is held.
    pub(crate) async fn patient(options: Options, more: &str) -> Rig {
        Rig::waiting("1h", silent(options), more).await
    }

    /// With handsets as the options have them, and a daemon that waits so long for an answer.
    pub(crate) async fn waiting(request_timeout: &'static str, options: Options, more: &str) -> Rig {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stop = CancellationToken::new();
        let sandbox = Sandbox::start(listener, options, stop.clone()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let client = || Client::builder().no_proxy().tls_certs_only([]).timeout(PATIENCE);
        // No connection outlives its request: the daemon behind the socket may be another one by the next.
        let http = client().unix_socket(directory.path().join("sock")).pool_max_idle_per_host(0).build().unwrap();
        let plain = client().build().unwrap();
        let stop = stop.drop_guard();
        let (daemon, cursor) = (None, "0".into());
        let mut rig = Rig { sandbox, daemon, directory, http, plain, request_timeout, cursor, event: 0, _stop: stop };
        rig.configure("config.toml", "sock", "store", more);
        rig.restart().await;
        rig
    }

    /// Writes a configuration, and tells where.
    pub(crate) fn configure(&self, name: &str, socket: &str, store: &str, more: &str) -> PathBuf {
        let (socket, store, path) = (self.path(socket), self.path(store), self.path(name));
        let text = format!(
            "[server]\nsocket = {socket:?}\n[store]\npath = {store:?}\n\
             [platform]\nendpoint = {:?}\ncredentials = {:?}\nconnect_timeout = \"1s\"\nrequest_timeout = {:?}\n\
             [log]\nlevel = \"trace\"\nformat = \"text\"\n{USE_CASES}{more}",
            self.sandbox.base_url(),
            self.sandbox.key_path(),
            self.request_timeout,
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    /// Starts the daemon, after it was ended.
    pub(crate) async fn restart(&mut self) {
        assert!(self.daemon.is_none(), "the daemon is still running");
        self.daemon = Some(Daemon::start(&self.path("config.toml")).await);
    }

    /// Ends the daemon as a crash would.
    pub(crate) async fn kill9(&mut self) {
        self.daemon.take().unwrap().kill9().await;
    }

    /// Stops the daemon in order.
    pub(crate) async fn stop(&mut self) {
        let mut daemon = self.daemon.take().unwrap();
        daemon.terminate();
        assert_eq!(daemon.ended().await.code(), Some(0));
    }

    /// A request to the daemon.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("http://revoked{path}"))
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        parts(self.request(Method::GET, path).send().await.unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Body>) -> (u16, Value) {
        parts(self.request(Method::POST, path).body(body).send().await.unwrap()).await
    }

    pub(crate) async fn patch(&self, id: &str, body: &Value) -> (u16, Value) {
        let request = self.request(Method::PATCH, &message_path(id)).body(body.to_string());
        parts(request.send().await.unwrap()).await
    }

    pub(crate) async fn register(&self, draft: &Value) -> (u16, Value) {
        self.post("/v1/messages", draft.to_string()).await
    }

    /// Sends a message and registers it, as an agent does.
    pub(crate) async fn send(&self, id: &str, use_case: &str) -> Value {
        self.sandbox.send(AGENT, PHONE, id);
        let (code, message) = self.register(&draft(id, use_case)).await;
        assert_eq!((code, &message["state"]), (201, &json!("PENDING")), "{message}");
        message
    }

    /// One message as the daemon has it.
    pub(crate) async fn message(&self, id: &str) -> Value {
        let (code, message) = self.get(&message_path(id)).await;
        assert_eq!(code, 200, "{message}");
        message
    }

    /// What the platform knows of a message.
    pub(crate) fn book(&self, id: &str) -> MessageBook {
        self.sandbox.book(AGENT, id).unwrap()
    }

    /// Waits for the next outcome.
    pub(crate) async fn outcome(&mut self) -> Value {
        let path = format!("/v1/outcomes?after={}&wait=25s&pageSize=1", self.cursor);
        let coming = async {
            loop {
                let (code, page) = self.get(&path).await;
                assert_eq!(code, 200, "{page}");
                if page["outcomes"][0].is_object() {
                    return page;
                }
            }
        };
        let page = soon("an outcome", coming).await;
        let outcome = page["outcomes"][0].clone();
        assert_eq!(outcome["cursor"], page["nextCursor"]);
        self.cursor = outcome["cursor"].as_str().unwrap().into();
        outcome
    }

    /// All outcomes there are.
    pub(crate) async fn outcomes(&self) -> Vec<Value> {
        let (code, page) = self.get("/v1/outcomes?after=0&pageSize=1000").await;
        assert_eq!(code, 200, "{page}");
        page["outcomes"].as_array().unwrap().clone()
    }

    /// Waits for the outcome of a message that is revoked from now on: what was to happen before has happened then.
    pub(crate) async fn marker(&mut self) {
        self.handset(Behaviour::Offline);
        self.send("marker", "promo").await;
        let (code, answer) = self.post(&format!("{}:revoke", message_path("marker")), "").await;
        assert_eq!(code, 200, "{answer}");
        let outcome = self.outcome().await;
        assert_eq!((&outcome["messageId"], &outcome["outcome"]), (&json!("marker"), &json!("REVOKED")), "{outcome}");
    }

    /// Waits for the next event of the sandbox, without passing it on.
    pub(crate) async fn event(&mut self) -> Value {
        let url = format!("{}/sandbox/events?after={}&wait=20s", self.sandbox.base_url(), self.event);
        let coming = async {
            loop {
                let (_, page) = parts(self.plain.get(&url).send().await.unwrap()).await;
                if page["events"][0].is_object() {
                    return page["events"][0].clone();
                }
            }
        };
        let event = soon("an event of the sandbox", coming).await;
        self.event = event["number"].as_u64().unwrap();
        event
    }

    /// Passes the sandbox's next event on as an agent's webhook does, and tells what it did.
    pub(crate) async fn forward(&mut self) -> String {
        let event = self.event().await;
        let push =
            self.request(Method::POST, "/v1/events").header("x-goog-signature", event["signature"].as_str().unwrap());
        let (code, answer) = parts(push.body(event["envelope"].to_string()).send().await.unwrap()).await;
        assert_eq!(code, 200, "{answer}");
        answer["effect"].as_str().unwrap().into()
    }

    /// Hands in a `DELIVERED` that nobody sent.
    pub(crate) async fn delivered(&self, id: &str) -> String {
        let event = json!({"senderPhoneNumber": PHONE, "eventType": "DELIVERED", "eventId": "e", "messageId": id,
            "agentId": format!("{AGENT}@rbm.goog")});
        let (code, answer) = self.post("/v1/events", event.to_string()).await;
        assert_eq!(code, 200, "{answer}");
        answer["effect"].as_str().unwrap().into()
    }

    /// What `revokectl` prints on success.
    pub(crate) async fn ctl(&self, line: &str) -> String {
        let mut ctl = tokio::process::Command::new(env!("CARGO_BIN_EXE_revokectl"));
        ctl.args(line.split(' ')).env("REVOKED_SOCKET", self.path("sock")).kill_on_drop(true);
        let output = soon("revokectl", ctl.output()).await.unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Gives an order to the sandbox.
    pub(crate) async fn order(&self, path: &str, order: Value) {
        let url = format!("{}/sandbox/{path}", self.sandbox.base_url());
        let (code, answer) = parts(self.plain.post(url).json(&order).send().await.unwrap()).await;
        assert_eq!(code, 200, "{answer}");
    }

    pub(crate) fn handset(&self, behaviour: Behaviour) {
        self.sandbox.set_handset(PHONE, behaviour);
    }
}

fn silent(options: Options) -> Options {
    Options { handsets: "offline=100".parse().unwrap(), ..options }
}

pub(crate) async fn parts(response: Response) -> (u16, Value) {
    let code = response.status().as_u16();
    let text = response.text().await.unwrap();
    (code, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{code} {error}: {text}")))
}

/// The least that a registration says.
pub(crate) fn draft(id: &str, use_case: &str) -> Value {
    json!({"agentId": AGENT, "phone": PHONE, "messageId": id, "useCase": use_case})
}

/// The same with more in it, or with other values.
pub(crate) fn with(mut object: Value, more: Value) -> Value {
    let Value::Object(more) = more else { panic!("not an object: {more}") };
    object.as_object_mut().unwrap().extend(more);
    object
}

pub(crate) fn message_path(id: &str) -> String {
    format!("/v1/messages/{AGENT}/{id}")
}

pub(crate) fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "an agent knows what time it is")]
pub(crate) fn now() -> DateTime<Utc> {
    Utc::now()
}

/// Waits until an instant has passed; for tests in which nobody is there who could tell.
pub(crate) async fn past(instant: DateTime<Utc>) {
    while let Ok(wait) = (instant - now()).to_std() {
        tokio::time::sleep(wait + Duration::from_millis(1)).await;
    }
}

/// The codes of the DELETEs that the platform got for a message; 0 for one without an answer.
pub(crate) fn deletes(book: &MessageBook) -> Vec<u16> {
    use revoked::sandbox::Answered;
    let code = |answered| match answered {
        Answered::Status(code) => code,
        Answered::Not(_) => 0,
    };
    book.delete_requests.iter().map(|request| code(request.answered)).collect()
}

/// Whether anything is at this path.
pub(crate) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// No DELETE at all.
pub(crate) const NONE: [u16; 0] = [];
