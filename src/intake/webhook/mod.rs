//! The webhook: events straight from the platform, for which nobody has to pass anything on.
//!
//! Google pushes user messages, delivery events and its own notices to one address, and repeats for seven days whatever is
//! not answered with exactly 200, on one queue for all agents of a partner. So everything that is authentic is answered 200
//! as soon as what it says is on disk, also where it says nothing to us; and what is not authentic leaves no trace but a
//! count. An agent that wants its users' messages stands behind it (see [`forward`]).

mod forward;
mod listen;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::forward::Tee;
use super::api::{Failure, error};
use super::body::discard;
use super::events::{self, Pushed};
use super::parse::words;
use super::signature::ClientTokens;
use super::wire::WebhookView;
use crate::engine::{Handle, Refusal};

pub use forward::{Forward, Target};
pub use listen::{Tls, tls};

/// The longest push. The platform's are a few kilobytes: a file is sent as a link.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// How long one may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);
/// Connections at a time; for others those make room that keep us waiting. With the above it bounds what strangers can make us hold.
const CLIENTS_MAX: usize = 256;

const SIGNATURE: HeaderName = HeaderName::from_static("x-goog-signature");

/// What a reload may change.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// What pushes may be signed with.
    pub tokens: ClientTokens,
    /// `None`: plain HTTP, behind a proxy on this machine.
    pub tls: Option<Tls>,
    /// Who else wants every push.
    pub forward: Option<Forward>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Webhook {
    address: SocketAddr,
    engine: Handle,
    setup: watch::Receiver<Arc<Setup>>,
    tee: Tee,
    /// What was answered, by its code.
    answers: Mutex<BTreeMap<u16, u64>>,
    /// The last push was not authentic: said once, and not for each.
    doubted: AtomicBool,
}

impl Webhook {
    /// A webhook at this address that tells this engine.
    pub fn new(address: SocketAddr, engine: Handle, setup: watch::Receiver<Arc<Setup>>) -> Self {
        let (tee, doubted) = Default::default();
        // Those that are watched from the first one on: a rate begins at nought.
        let answers = Mutex::new(BTreeMap::from([(200, 0), (401, 0)]));
        Self { address, engine, setup, tee, answers, doubted }
    }

    /// Serves until `stopping` is cancelled; returns when what was begun is answered and passed on.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stopping: CancellationToken) {
        let door = listen::Door { listener, setup: self.setup.clone() };
        // Any path: the one that was given to Google is a matter of the proxy, or of taste.
        let routes = Router::new().fallback(post(push)).with_state(Arc::clone(&self));
        super::server::run(door, routes, CLIENTS_MAX, stopping).await;
        self.tee.drain().await;
    }

    /// How it goes.
    pub fn view(&self) -> WebhookView {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (accepted, refused): (Vec<_>, Vec<_>) = self.answers().into_iter().partition(|(code, _)| *code == 200);
        let sum = |answers: Vec<(u16, u64)>| answers.into_iter().map(|(_, n)| n).sum();
        WebhookView {
            address: self.address.to_string(),
            accepted: sum(accepted),
            refused: sum(refused),
            forwarded: count(&self.tee.counts.passed),
            forward_failures: count(&self.tee.counts.failed),
            forward_dropped: count(&self.tee.counts.dropped),
        }
    }

    /// What is answered, unless somebody behind us is asked for it.
    async fn take(&self, setup: &Setup, headers: &HeaderMap, body: &Bytes) -> Result<Taken, Failure> {
        match read(body)? {
            Push::Handshake { client_token, secret } if setup.tokens.knows(&client_token) => {
                info!("the webhook's handshake is answered");
                Ok(Taken::Handshake(secret))
            }
            // Perhaps one of theirs.
            Push::Handshake { .. } if setup.forward.as_ref().is_some_and(Forward::answers) => {
                self.tee.admit_stranger(body)?;
                Ok(Taken::Strange)
            }
            Push::Handshake { .. } => Err(error(401, "UNAUTHENTICATED", "not one of the client tokens in [webhook]")),
            Push::Event(message) => {
                let data = message.decode()?;
                let signature = headers.get(SIGNATURE).and_then(|value| value.to_str().ok()).unwrap_or_default();
                if !setup.tokens.verify(&data, signature) {
                    let words = "X-Goog-Signature is not one of this data under any of the client tokens in [webhook]";
                    return Err(error(401, "UNAUTHENTICATED", words));
                }
                if let Some(heard) = events::of_data(&data) {
                    heard.tell(&self.engine).await?;
                }
                Ok(Taken::Event)
            }
        }
    }

    /// What was answered here, by its code; 200 also where somebody behind us is asked for the answer.
    pub(super) fn answers(&self) -> BTreeMap<u16, u64> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self, taken: Result<(), &Failure>) {
        let code = taken.map_or_else(Failure::code, |()| 200);
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_default() += 1;
        match taken {
            Ok(()) => self.doubted.store(false, Ordering::Relaxed),
            Err(failure) => {
                if failure.code() == 401 && !self.doubted.swap(true, Ordering::Relaxed) {
                    warn!(name: "forged_pushes", "a push that is signed with none of our client tokens was refused; more are only counted");
                }
            }
        }
    }
}

/// What became of a push.
enum Taken {
    /// Ours to answer, with this.
    Handshake(String),
    /// On disk, if it said anything to us.
    Event,
    /// Not for us, but perhaps for whoever stands behind us.
    Strange,
}

pub(super) enum Push {
    Handshake { client_token: String, secret: String },
    Event(Pushed),
}

pub(super) fn read(body: &[u8]) -> Result<Push, Refusal> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Fields {
        client_token: Option<String>,
        secret: Option<String>,
        message: Option<Pushed>,
    }
    let strange = |why: String| Refusal::invalid("message", format!("not a push of the platform: {why}"));
    let fields: Fields = serde_json::from_slice(body).map_err(|error| strange(words(&error)))?;
    match fields {
        Fields { message: Some(message), .. } => Ok(Push::Event(message)),
        Fields { client_token: Some(client_token), secret: Some(secret), .. } => {
            Ok(Push::Handshake { client_token, secret })
        }
        _ => Err(strange("neither `message` nor `clientToken` and `secret`".to_owned())),
    }
}

async fn push(State(webhook): State<Arc<Webhook>>, headers: HeaderMap, body: Body) -> Response {
    let body = match whole(body).await {
        Ok(body) => body,
        Err(failure) => {
            webhook.count(Err(&failure));
            return failure.into_response();
        }
    };
    let setup = Arc::clone(&webhook.setup.borrow());
    let taken = webhook.take(&setup, &headers, &body).await;
    webhook.count(taken.as_ref().map(drop));
    match taken {
        Err(failure) => failure.into_response(),
        Ok(Taken::Handshake(secret)) => secret.into_response(),
        Ok(Taken::Event | Taken::Strange) => match &setup.forward {
            None => StatusCode::OK.into_response(),
            Some(forward) => webhook.tee.pass_on(forward, &headers, body).await,
        },
    }
}

/// The whole body, within bounds of size and time.
async fn whole(mut body: Body) -> Result<Bytes, Failure> {
    match tokio::time::timeout(BODY_TIME, Limited::new(&mut body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(cause)) if cause.is::<LengthLimitError>() => {
            discard(body).await;
            Err(error(413, "INVALID_ARGUMENT", "the body is longer than any push of the platform"))
        }
        Ok(Err(_)) => Err(error(400, "INVALID_ARGUMENT", "the body broke off")),
        Err(_) => Err(error(408, "DEADLINE_EXCEEDED", "the body took too long")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_is_a_handshake_an_event_or_refused() {
        assert!(matches!(read(br#"{"clientToken":"t","secret":"s"}"#), Ok(Push::Handshake { .. })));
        let event = br#"{"message":{"data":"e30=","attributes":{}},"subscription":"s"}"#;
        assert!(matches!(read(event), Ok(Push::Event(_))));
        for noise in ["", "{}", "[]", "7", "\u{0}", r#"{"message":7}"#, r#"{"clientToken":"t"}"#, r#"{"message":{}}"#] {
            assert!(read(noise.as_bytes()).is_err(), "{noise:?}");
        }
    }
}
