//! The load: connections to the daemon's socket, and what goes over them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::ensure;
use http_body_util::{BodyExt as _, Full};
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use super::sheet::grouped;
use crate::model::Timestamp;
use crate::progress::Progress;

/// The agent of all messages.
pub(super) const AGENT: &str = "bench";
/// Lines of a batch.
pub(super) const BATCH: u64 = 1000;
/// Clients that register batches.
const BATCH_CLIENTS: u64 = 4;
/// Before a batch that a store was too busy for is handed in again.
const AGAIN: Duration = Duration::from_millis(20);

/// One connection, kept open.
pub(super) struct Client(SendRequest<Full<Bytes>>);

impl Client {
    pub(super) async fn connect(socket: &Path) -> anyhow::Result<Self> {
        let (sender, connection) = handshake(TokioIo::new(UnixStream::connect(socket).await?)).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    pub(super) async fn get(&mut self, path: &str) -> anyhow::Result<Bytes> {
        self.ask("GET", path, String::new()).await
    }

    pub(super) async fn post(&mut self, path: &str, body: String) -> anyhow::Result<Bytes> {
        self.ask("POST", path, body).await
    }

    async fn ask(&mut self, method: &str, path: &str, body: String) -> anyhow::Result<Bytes> {
        let (status, body) = self.exchange(method, path, body).await?;
        ensure!(status.is_success(), "{path}: {status}: {}", String::from_utf8_lossy(&body));
        Ok(body)
    }

    /// `None` if nothing is there.
    pub(super) async fn find(&mut self, path: &str) -> anyhow::Result<Option<Bytes>> {
        let (status, body) = self.exchange("GET", path, String::new()).await?;
        ensure!(status.is_success() || status == 404, "{path}: {status}: {}", String::from_utf8_lossy(&body));
        Ok(status.is_success().then_some(body))
    }

    async fn exchange(&mut self, method: &str, path: &str, body: String) -> anyhow::Result<(StatusCode, Bytes)> {
        self.0.ready().await?;
        let request = hyper::Request::builder().method(method).uri(path).header("host", "localhost");
        let answer = self.0.send_request(request.body(Full::from(body))?).await?;
        Ok((answer.status(), answer.into_body().collect().await?.to_bytes()))
    }

    /// Registers all lines. A store that is behind refuses with 503: that is its back-pressure, and the time it takes counts.
    pub(super) async fn register(&mut self, lines: &[String]) -> anyhow::Result<()> {
        let body = lines.join("\n");
        loop {
            let answers = self.post("/v1/messages:batch", body.clone()).await?;
            let count =
                |code: &[u8]| answers.split(|byte| *byte == b'\n').filter(|line| line.starts_with(code)).count();
            let (good, busy) = (count(b"{\"code\":201"), count(b"{\"code\":503"));
            if good == lines.len() {
                return Ok(());
            }
            ensure!(busy == lines.len(), "{good} of {} registered: {}", lines.len(), String::from_utf8_lossy(&answers));
            tokio::time::sleep(AGAIN).await;
        }
    }
}

pub(super) fn phone(number: u64) -> String {
    format!("+1222{:07}", number % 10_000_000)
}

/// A registration under the deadline of its use case.
pub(super) fn registration(use_case: &str, id: &str, number: u64) -> String {
    format!(r#"{{"agentId":"{AGENT}","phone":"{}","messageId":"{id}","useCase":"{use_case}"}}"#, phone(number))
}

/// A registration with a deadline of its own.
pub(super) fn registration_until(use_case: &str, id: &str, number: u64, deadline: Timestamp) -> String {
    format!(
        r#"{{"agentId":"{AGENT}","phone":"{}","messageId":"{id}","useCase":"{use_case}","expireTime":"{deadline}"}}"#,
        phone(number)
    )
}

/// The event that takes a message off the list.
pub(super) fn delivered(id: &str, number: u64) -> String {
    format!(
        r#"{{"senderPhoneNumber":"{}","eventType":"DELIVERED","eventId":"e","messageId":"{id}","agentId":"{AGENT}@rbm.goog"}}"#,
        phone(number)
    )
}

/// Registers messages `0..count` in batches.
pub(super) async fn fill(
    socket: &Path,
    count: u64,
    line: impl Fn(u64) -> String + Send + Sync + 'static,
    progress: &Progress,
) -> anyhow::Result<()> {
    let (line, next, done) = (Arc::new(line), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut working = JoinSet::new();
    for _ in 0..BATCH_CLIENTS {
        let (socket, line) = (PathBuf::from(socket), Arc::clone(&line));
        let (next, done, progress) = (Arc::clone(&next), Arc::clone(&done), progress.clone());
        working.spawn(async move {
            let mut client = Client::connect(&socket).await?;
            loop {
                let from = next.fetch_add(BATCH, Ordering::Relaxed);
                if from >= count {
                    return anyhow::Ok(());
                }
                let lines: Vec<String> = (from..count.min(from + BATCH)).map(|number| line(number)).collect();
                client.register(&lines).await?;
                let done = done.fetch_add(lines.len() as u64, Ordering::Relaxed) + lines.len() as u64;
                progress.say(|| format!("registering: {} of {}", grouped(done), grouped(count)));
            }
        });
    }
    while let Some(worker) = working.join_next().await {
        worker??;
    }
    Ok(())
}
