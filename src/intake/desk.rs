//! The desk: requests that concern the daemon itself rather than messages. The gate hands them in; the process behind it owns
//! the configuration and answers.

use tokio::sync::{mpsc, oneshot};

use super::wire::{ConfigView, ReloadView};
use crate::engine::Refusal;
use crate::model::Timestamp;

/// Requests that may wait at the desk.
const WAITING_MAX: usize = 16;

type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// How reloads went since the start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reloads {
    /// The last one did; so did the start.
    pub successful: bool,
    /// Those that did, also where nothing had changed.
    pub good: u64,
    /// Those that did not.
    pub failed: u64,
    /// When one did last.
    pub good_at: Option<Timestamp>,
}

impl Default for Reloads {
    fn default() -> Self {
        Self { successful: true, good: 0, failed: 0, good_at: None }
    }
}

/// What can be asked for.
#[derive(Debug)]
pub enum Request {
    /// Read the configuration file again and take it over.
    Reload(Reply<ReloadView>),
    /// Say what this text would do as the configuration file.
    Plan {
        /// What a report on it calls it.
        name: String,
        /// What the file says.
        text: String,
        /// The answer.
        reply: Reply<ReloadView>,
    },
    /// Show the configuration in force.
    Config(Reply<ConfigView>),
}

/// Hands requests in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Desk(mpsc::Sender<Request>);

impl Desk {
    /// A desk, and where its requests arrive.
    pub fn open() -> (Self, mpsc::Receiver<Request>) {
        let (sender, requests) = mpsc::channel(WAITING_MAX);
        (Self(sender), requests)
    }

    /// Hands in one request.
    ///
    /// # Errors
    /// As the request says, or 503 when the daemon stops.
    pub async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Refusal> {
        let gone = || Refusal::unavailable("the daemon is stopping");
        let (reply, answer) = oneshot::channel();
        self.0.send(request(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}
