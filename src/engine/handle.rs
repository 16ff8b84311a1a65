//! The engine's door: typed requests in, answers out when what they rest on is on disk.

use std::sync::Weak;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::asked::{Draft, Evidence, Filter, Said, Verb};
use super::books::Books;
use super::export::{ExportHead, ExportItem, ExportSlice, LogSpan};
use super::hold::{HoldStatus, Which};
use super::import::Imported;
use super::recall::Survey;
use super::replies::{
    Described, EvidenceEffect, Explained, Forecast, Outcomes, Page, Plan, Refusal, Registered, Status,
};
use super::retune::Tuning;
use super::time::Disbelief;
use crate::model::{Agents, Identity, Recall, Selector};
use crate::store::Cursor;

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// What can be asked of the engine.
#[derive(Debug)]
pub(super) enum Command {
    Register(Vec<Draft>, Reply<Vec<Result<Registered, Refusal>>>),
    Evidence(Vec<Evidence>, Reply<Vec<EvidenceEffect>>),
    Subscription(Said, Reply<EvidenceEffect>),
    Act(Identity, Verb, Reply<Described>),
    Get(Identity, Reply<Described>),
    List { filter: Filter, limit: usize, after: Option<String>, reply: Reply<Page> },
    Outcomes { after: Option<Cursor>, limit: usize, agents: Option<Agents>, reply: Reply<Outcomes> },
    Ack { agents: Option<Agents>, cursor: Cursor, reply: Reply<Cursor> },
    Plan(Box<Tuning>, Reply<Plan>),
    Retune(Box<Tuning>, Reply<Plan>),
    Forecast { step: Duration, steps: usize, agents: Option<Agents>, reply: Reply<Forecast> },
    Explain(Identity, Reply<Explained>),
    Books(Duration, Reply<Books>),
    Export(Weak<()>, Reply<ExportHead>),
    ExportSlice(Reply<ExportSlice>),
    Import(LogSpan, Vec<ExportItem>, Reply<Vec<Result<Imported, Refusal>>>),
    Status(Option<Agents>, Reply<Status>),
    Hold(Selector, Option<Box<str>>, Reply<HoldStatus>),
    Release(Which, Reply<HoldStatus>),
    Holds(Reply<Vec<HoldStatus>>),
    Recall(Selector, Option<Box<str>>, Reply<Recall>),
    Survey(Box<Survey>, Reply<Survey>),
    Recalls(Option<u64>, Reply<Vec<Recall>>),
    AcceptClock(Reply<Disbelief>),
    Received { id: u64, limit: usize, after: Option<String>, reply: Reply<Page> },
}

/// Asks the engine. Cheap to clone; answers leave when what they say is on disk.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    outcomes: watch::Receiver<Cursor>,
}

impl Handle {
    pub(super) fn new(commands: mpsc::Sender<Command>, outcomes: watch::Receiver<Cursor>) -> Self {
        Self { commands, outcomes }
    }

    pub(super) async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        let gone = || Refusal::unavailable("the daemon is stopping");
        self.commands.send(command(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Registers messages; each has its own answer, in order.
    ///
    /// # Errors
    /// If none could be looked at: the daemon stops, or its disk fails.
    pub async fn register(&self, drafts: Vec<Draft>) -> Result<Vec<Result<Registered, Refusal>>, Refusal> {
        self.ask(|reply| Command::Register(drafts, reply)).await
    }

    /// Hands in evidence; answered when it is on disk.
    ///
    /// # Errors
    /// As for [`Handle::register`].
    pub async fn evidence(&self, evidence: Vec<Evidence>) -> Result<Vec<EvidenceEffect>, Refusal> {
        self.ask(|reply| Command::Evidence(evidence, reply)).await
    }

    /// Withdraws, revokes or reschedules a message.
    ///
    /// # Errors
    /// 404, or 409 with the state it is in.
    pub async fn act(&self, identity: Identity, verb: Verb) -> Result<Described, Refusal> {
        self.ask(|reply| Command::Act(identity, verb, reply)).await
    }

    /// One message.
    ///
    /// # Errors
    /// 404.
    pub async fn get(&self, identity: Identity) -> Result<Described, Refusal> {
        self.ask(|reply| Command::Get(identity, reply)).await
    }

    /// A page of messages. May hold fewer than `limit`, even none, and still have a next page.
    ///
    /// # Errors
    /// 400 for a page token that is none of ours.
    pub async fn list(&self, filter: Filter, limit: usize, after: Option<String>) -> Result<Page, Refusal> {
        self.ask(|reply| Command::List { filter, limit, after, reply }).await
    }

    /// Outcomes after a cursor, or after what was acknowledged; only of some agents, if they are named.
    ///
    /// # Errors
    /// As for [`Handle::register`].
    pub async fn outcomes(
        &self,
        after: Option<Cursor>,
        limit: usize,
        agents: Option<Agents>,
    ) -> Result<Outcomes, Refusal> {
        self.ask(|reply| Command::Outcomes { after, limit, agents, reply }).await
    }

    /// Takes note of all outcomes up to `cursor`; of some agents, or of all.
    ///
    /// # Errors
    /// 400 for a cursor that was never given out.
    pub async fn ack(&self, agents: Option<Agents>, cursor: Cursor) -> Result<Cursor, Refusal> {
        self.ask(|reply| Command::Ack { agents, cursor, reply }).await
    }

    /// What other policies would do.
    ///
    /// # Errors
    /// 409 if they leave out a use case that has messages pending.
    pub async fn plan(&self, tuning: Tuning) -> Result<Plan, Refusal> {
        self.ask(|reply| Command::Plan(Box::new(tuning), reply)).await
    }

    /// Takes over other policies; all or nothing.
    ///
    /// # Errors
    /// As for [`Handle::plan`].
    pub async fn retune(&self, tuning: Tuning) -> Result<Plan, Refusal> {
        self.ask(|reply| Command::Retune(Box::new(tuning), reply)).await
    }

    /// How many messages fall due in each of `steps` spans of `step` from now; of some agents, or of all.
    ///
    /// # Errors
    /// As for [`Handle::register`].
    pub async fn forecast(&self, step: Duration, steps: usize, agents: Option<Agents>) -> Result<Forecast, Refusal> {
        self.ask(|reply| Command::Forecast { step, steps, agents, reply }).await
    }

    /// The books of the last `span`: what became of messages.
    ///
    /// # Errors
    /// As for [`Handle::register`].
    pub async fn books(&self, span: Duration) -> Result<Books, Refusal> {
        self.ask(|reply| Command::Books(span, reply)).await
    }

    /// Why a message has the deadline it has.
    ///
    /// # Errors
    /// 404.
    pub async fn explain(&self, identity: Identity) -> Result<Explained, Refusal> {
        self.ask(|reply| Command::Explain(identity, reply)).await
    }

    /// How the engine is doing; or how it does what it does for some agents.
    ///
    /// # Errors
    /// As for [`Handle::register`].
    pub async fn status(&self, agents: Option<Agents>) -> Result<Status, Refusal> {
        self.ask(|reply| Command::Status(agents, reply)).await
    }

    /// Waits until there is an outcome after `cursor`. Returns at once if there is one; ends when the engine does.
    pub async fn outcome_after(&self, cursor: Cursor) {
        let mut last = self.outcomes.clone();
        // An error means that the engine is gone: whoever waits then asks, and is told so.
        let _ = last.wait_for(|last| *last > cursor).await;
    }
}
