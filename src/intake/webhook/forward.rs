//! The tee: every authentic push goes on to the webhook that the agent had before, as it came.
//!
//! What it says is on disk here before anything is passed on, so that nothing that happens behind us can lose it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use reqwest::Client;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use url::Url;

use crate::intake::api::{Failure, error};

/// How long the agent's webhook may take for a connection, and for an answer.
const CONNECT_TIME: Duration = Duration::from_secs(2);
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Handshakes with a client token that is none of ours that are passed on in this time: somebody sets up a webhook now and then …
const STRANGERS_TIME: Duration = Duration::from_secs(60);
const STRANGERS_MAX: usize = 10;
/// … and says no more than this. Nobody has vouched for them.
const STRANGER_BYTES_MAX: usize = 4096;
/// As much of its answer as is passed back.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Pushes on their way at a time, of those that nobody waits for.
const IN_FLIGHT: usize = 16;
/// Bytes of pushes that wait for their turn, and what each counts besides its body.
const QUEUE_BYTES_MAX: usize = 16 << 20;
const QUEUE_ENTRY_BYTES: usize = 1024;

/// Where pushes go on to.
#[derive(Clone, Debug)]
pub struct Forward {
    target: Target,
    http: Client,
}

/// Where, and whether its answer is waited for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// The agent's own webhook.
    pub url: Url,
    /// The platform gets the agent's answer, and not ours.
    pub answers: bool,
}

impl Forward {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// If there can be no client for it, in words.
    pub fn to(target: Target) -> Result<Self, String> {
        let builder = Client::builder()
            .user_agent(concat!("revoked/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIME)
            .timeout(ANSWER_TIME)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none());
        // Without TLS there is nobody to trust, and perhaps no certificates on this machine either.
        let builder = if target.url.scheme() == "http" { builder.tls_certs_only([]) } else { builder };
        let http = builder.build().map_err(|error| format!("can't set up [webhook] forward_to: {error}"))?;
        Ok(Self { target, http })
    }

    /// Whether the platform gets the agent's answer.
    pub(super) fn answers(&self) -> bool {
        self.target.answers
    }

    /// One push as it came: the same bytes, and the headers that belong to them.
    async fn send(&self, headers: HeaderMap, body: Bytes) -> reqwest::Result<Response> {
        let mut answer = self.http.post(self.target.url.clone()).headers(headers).body(body).send().await?;
        let mut bytes = Vec::new();
        while bytes.len() < ANSWER_BYTES_MAX
            && let Some(chunk) = answer.chunk().await?
        {
            bytes.extend_from_slice(&chunk[..chunk.len().min(ANSWER_BYTES_MAX - bytes.len())]);
        }
        let mut response = Response::new(Body::from(bytes));
        *response.status_mut() = answer.status();
        for name in [CONTENT_TYPE, RETRY_AFTER] {
            if let Some(value) = answer.headers().get(&name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        Ok(response)
    }
}

/// Passes on, within bounds, and counts.
#[derive(Debug, Default)]
pub(super) struct Tee {
    pub(super) counts: Arc<Counts>,
    bounds: Arc<Bounds>,
    tasks: TaskTracker,
}

/// Since the start.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Answered with 200.
    pub(super) passed: AtomicU64,
    /// Not.
    pub(super) failed: AtomicU64,
    /// Nobody waited for them, and there was no room for them to wait.
    pub(super) dropped: AtomicU64,
    /// The last one failed.
    fails: AtomicBool,
}

#[derive(Debug)]
struct Bounds {
    queue: Arc<Semaphore>,
    in_flight: Semaphore,
    strangers: Arc<Semaphore>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            queue: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)),
            in_flight: Semaphore::new(IN_FLIGHT),
            strangers: Arc::new(Semaphore::new(STRANGERS_MAX)),
        }
    }
}

impl Tee {
    /// Passes a push on; the answer for the platform comes back.
    pub(super) async fn pass_on(&self, forward: &Forward, headers: &HeaderMap, body: Bytes) -> Response {
        let headers = kept(headers);
        if forward.answers() {
            return self.counts.judge(forward.send(headers, body).await);
        }
        let (counts, bounds, forward) = (Arc::clone(&self.counts), Arc::clone(&self.bounds), forward.clone());
        let size = u32::try_from(body.len() + QUEUE_ENTRY_BYTES).unwrap_or(u32::MAX);
        match Arc::clone(&bounds.queue).try_acquire_many_owned(size) {
            Err(_) => drop(counts.dropped.fetch_add(1, Ordering::Relaxed)),
            Ok(room) => drop(self.tasks.spawn(async move {
                // Never closed, so it never fails.
                let _turn = bounds.in_flight.acquire().await;
                drop(counts.judge(forward.send(headers, body).await));
                drop(room);
            })),
        }
        StatusCode::OK.into_response()
    }

    /// Whether a handshake that nobody has vouched for may be passed on.
    ///
    /// # Errors
    /// 413 or 429.
    pub(super) fn admit_stranger(&self, body: &Bytes) -> Result<(), Failure> {
        if body.len() > STRANGER_BYTES_MAX {
            return Err(error(413, "INVALID_ARGUMENT", "no handshake of the platform is that long"));
        }
        let Ok(turn) = Arc::clone(&self.bounds.strangers).try_acquire_owned() else {
            let words = "too many handshakes with client tokens that are not in [webhook]: try again in a minute";
            return Err(error(429, "RESOURCE_EXHAUSTED", words));
        };
        tokio::spawn(async move {
            tokio::time::sleep(STRANGERS_TIME).await;
            drop(turn);
        });
        Ok(())
    }

    /// Waits for those that nobody waited for.
    pub(super) async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Counts {
    /// Counts, and says when it begins to fail and when that is over.
    fn judge(&self, result: reqwest::Result<Response>) -> Response {
        let (words, response) = match result {
            Ok(response) => (format!("it answered {}", response.status()), response),
            Err(cause) if cause.is_timeout() => {
                let words = "the webhook behind this one did not answer in time; what the push says is kept here";
                ("no answer in time".to_owned(), error(504, "DEADLINE_EXCEEDED", words).into_response())
            }
            Err(cause) => {
                let words = "the webhook behind this one can't be reached; what the push says is kept here";
                (cause.without_url().to_string(), error(502, "UNAVAILABLE", words).into_response())
            }
        };
        let good = response.status() == StatusCode::OK;
        (if good { &self.passed } else { &self.failed }).fetch_add(1, Ordering::Relaxed);
        match (good, self.fails.swap(!good, Ordering::Relaxed)) {
            (false, false) => {
                warn!(name: "forward_fails", "[webhook] forward_to fails: {words}; what fails after this is only counted");
            }
            (true, true) => info!(name: "forward_takes", "[webhook] forward_to takes pushes again"),
            _ => {}
        }
        response
    }
}

/// The headers that belong to the body: its signature, the platform's hints, and what kind of bytes it is.
fn kept(headers: &HeaderMap) -> HeaderMap {
    let belongs =
        |name: &HeaderName| *name == CONTENT_TYPE || *name == CONTENT_ENCODING || name.as_str().starts_with("x-goog-");
    headers.iter().filter(|(name, _)| belongs(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}
