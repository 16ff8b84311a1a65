//! The HTTP client as this room wants it, and the reading of what may be any bytes at all.
//!
//! One client at a time, with one pool of connections and one idea of whom to trust, serves the DELETEs and the token requests.

use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Response};

/// As much of an answer as is read. The platform's are a few hundred bytes; what is longer is not the platform's.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// As much of somebody else's words as is kept.
const WORDS_CHARS_MAX: usize = 200;

/// How long this room waits for the network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// For a connection: DNS, TCP and TLS together.
    pub connect: Duration,
    /// For a request from its first byte to the answer's last.
    pub request: Duration,
    /// Before an idle connection is closed.
    pub pool_idle: Duration,
    /// Before connections are replaced by new ones, idle or not.
    pub life: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            request: Duration::from_secs(10),
            pool_idle: Duration::from_secs(60),
            life: Duration::from_secs(300),
        }
    }
}

/// The connections, in a client that is not kept for long: one that is in use never ends by itself, so it would go on to the
/// address that DNS had when it was made, whatever has become of that. Clones share them.
#[derive(Clone)]
pub(super) struct Http(Arc<Connections>);

struct Connections {
    make: Box<dyn Fn() -> reqwest::Result<Client> + Send + Sync>,
    life: Duration,
    current: Mutex<Current>,
}

struct Current {
    client: Client,
    /// When another one is due, on the monotonic clock.
    renew: Duration,
}

impl Http {
    /// Connects to nothing. For `sandbox` see [`client`].
    pub(super) fn new(
        timeouts: Timeouts,
        roots: Vec<Certificate>,
        sandbox: bool,
        now: Duration,
    ) -> reqwest::Result<Self> {
        let make = Box::new(move || client(timeouts, roots.clone(), sandbox));
        let current = Mutex::new(Current { client: make()?, renew: now + timeouts.life });
        Ok(Self(Arc::new(Connections { make, life: timeouts.life, current })))
    }

    /// The client to use at `now`. When it is old, another one is made behind the backs of those who use it; its connections
    /// are closed when the last request on them is done.
    pub(super) fn client(&self, now: Duration) -> Client {
        let mut current = self.0.current();
        if now >= current.renew {
            // Others go on with the old one meanwhile, and so does everybody if no new one can be made.
            current.renew = now + self.0.life;
            let connections = Arc::clone(&self.0);
            // Reads all the certificates of the system: too long for a thread that drives sockets.
            tokio::task::spawn_blocking(move || match (connections.make)() {
                Ok(client) => connections.current().client = client,
                Err(error) => tracing::warn!("can't make new connections, keeping the old: {}", reason(&error)),
            });
        }
        current.client.clone()
    }
}

impl Connections {
    fn current(&self) -> MutexGuard<'_, Current> {
        // Each change is a single one, so a panic elsewhere leaves nothing half-changed.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a client. `sandbox` is for an endpoint without TLS: it is reached directly, and the token may travel in clear
/// text too; the real platform's never does.
fn client(timeouts: Timeouts, roots: Vec<Certificate>, sandbox: bool) -> reqwest::Result<Client> {
    let builder = Client::builder()
        .user_agent(concat!("revoked/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(timeouts.connect)
        .timeout(timeouts.request)
        .pool_idle_timeout(timeouts.pool_idle)
        // A dead connection that a ping finds costs nothing; one that a DELETE finds costs a message of unknown result.
        .http2_keep_alive_interval(Duration::from_secs(20))
        .http2_keep_alive_timeout(Duration::from_secs(5))
        .http2_keep_alive_while_idle(true)
        // Whoever redirects a DELETE is not the platform, and must not be handed the token or the phone number.
        .redirect(Policy::none())
        .tls_certs_merge(roots);
    // Left at its default is what reqwest sends again by itself: only what HTTP/2 says was never processed
    // (REFUSED_STREAM, a stream beyond the last one of a GOAWAY). That can't turn a 200 into a 404.
    let builder = if sandbox { builder.no_proxy() } else { builder.https_only(true) };
    builder.build()
}

/// What was read of a body.
#[derive(Debug, Default)]
pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    /// It ended where it should and is all there.
    pub(super) whole: bool,
}

impl Body {
    /// Reads at most [`BODY_BYTES_MAX`]; the rest is left on the wire and the connection closed.
    pub(super) async fn read(mut response: Response) -> Self {
        let mut bytes = Vec::new();
        let whole = loop {
            match response.chunk().await {
                Ok(Some(chunk)) if bytes.len() + chunk.len() <= BODY_BYTES_MAX => bytes.extend_from_slice(&chunk),
                Ok(None) => break true,
                Ok(Some(_)) | Err(_) => break false,
            }
        };
        Self { bytes, whole }
    }

    /// Whether nothing was said, which is not the same as nothing having been heard.
    pub(super) fn is_empty(&self) -> bool {
        self.whole && self.bytes.trim_ascii().is_empty()
    }

    /// The body as JSON, if it is all there and is JSON.
    pub(super) fn json<T: serde::de::DeserializeOwned>(&self) -> Option<T> {
        if self.whole { serde_json::from_slice(&self.bytes).ok() } else { None }
    }
}

/// Why a request failed, without its URL: the host, and the last cause in the chain, which is the one that says something.
pub(super) fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let host = error.url().and_then(reqwest::Url::host_str).unwrap_or("the host");
    // Without a cause the outermost error is left, and that one names the URL.
    let cause = if error.source().is_some() { cause.to_string() } else { "the request could not be made".to_owned() };
    clean(&format!("{host}: {cause}"))
}

/// Somebody else's words, fit for one line of a log: no control characters, not too many.
pub(super) fn clean(text: &str) -> String {
    let blank = |c: char| c.is_control() || c.is_whitespace();
    let line = text.split(blank).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(WORDS_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_others_become_one_short_line() {
        assert_eq!(clean("  a\r\nb\u{1b}[31m\tc "), "a b [31m c");
        assert_eq!(clean(&"ü".repeat(500)).chars().count(), WORDS_CHARS_MAX + 1);
    }

    #[test]
    fn a_body_that_was_cut_off_is_neither_empty_nor_json() {
        let cut = Body { bytes: Vec::new(), whole: false };
        assert!(!cut.is_empty());
        let cut = Body { bytes: b"{}".to_vec(), whole: false };
        assert!(cut.json::<serde_json::Value>().is_none());
    }
}
