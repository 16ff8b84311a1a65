//! The engine's door: typed requests in, answers out when what they rest on is on disk.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::books::Books;
use super::counters::Counters;
use super::export::{ExportHead, ExportItem, ExportSlice, LogSpan};
use super::hold::{HoldStatus, Which};
use super::import::Imported;
use super::pace::RestReason;
use super::recall::Survey;
use super::retune::Tuning;
use super::time::Disbelief;
use crate::model::{
    AgentId, Agents, Hold, Identity, LaneSpec, MessageId, Outcome, Phone, Recall, Record, Region, Selector, Timestamp,
    TrafficType, UseCase,
};
use crate::spans::Measured;
use crate::store::{Cursor, Entry, Figures};

/// A registration that was found well formed.
#[derive(Clone, PartialEq, Debug)]
pub struct Draft {
    /// Whose message.
    pub agent: AgentId,
    /// The agent's id for it.
    pub message_id: MessageId,
    /// To which handset.
    pub phone: Phone,
    /// Under which policy.
    pub use_case: UseCase,
    /// When it was sent; now if it does not say.
    pub send_time: Option<Timestamp>,
    /// A deadline of its own.
    pub own: Option<Own>,
    /// Through which region it went; the configured one if it does not say.
    pub region: Option<Region>,
    /// How urgent, if not as the use case says.
    pub traffic_type: Option<TrafficType>,
    /// Words to find it by.
    pub tags: Vec<Box<str>>,
    /// Opaque JSON for the grant.
    pub fallback: Option<Box<str>>,
    /// The recipient's time zone.
    pub time_zone: Option<Box<str>>,
    /// What to do if it is registered already.
    pub on_conflict: OnConflict,
}

/// A deadline that an agent gives a message itself.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Own {
    /// `expireTime`
    At(Timestamp),
    /// `ttl`, from its send time.
    Ttl(Duration),
}

/// What a registration does to one of the same message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnConflict {
    /// Takes its place.
    #[default]
    Replace,
    /// Leaves it as it is.
    Keep,
    /// Takes its place if its deadline is earlier.
    Earliest,
    /// Is refused.
    Reject,
}

/// One thing that was learnt about a message from outside.
#[derive(Clone, PartialEq, Debug)]
pub struct Evidence {
    /// Which message.
    pub identity: Identity,
    /// On which handset. An event for another handset is about another message.
    pub phone: Phone,
    /// What happened.
    pub kind: EvidenceKind,
}

/// What happened to a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EvidenceKind {
    /// `DELIVERED`
    Delivered,
    /// `READ`
    Read,
    /// `TTL_EXPIRATION_REVOKED`
    TtlRevoked,
    /// `TTL_EXPIRATION_REVOKE_FAILED`, or another server event about a ttl, by its name.
    TtlFailed(Box<str>),
}

/// What a user said of an agent's promotions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    /// To whom.
    pub agent: AgentId,
    /// On which handset.
    pub phone: Phone,
    /// `UNSUBSCRIBE`, and not `SUBSCRIBE`.
    pub ended: bool,
    /// When, by the handset's clock.
    pub at: Option<Timestamp>,
}

/// What evidence did.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EvidenceEffect {
    /// It moved its message on, or was news of its phone.
    Applied,
    /// It told nothing new.
    Duplicate,
    /// Its message is not known yet; kept for when it is.
    Early,
    /// Nothing can be made of it.
    Ignored,
}

/// A message with what surrounds it.
#[derive(Clone, PartialEq, Debug)]
pub struct Described {
    /// The message.
    pub record: Record,
    /// Its lane.
    pub lane: LaneSpec,
    /// Its deadline under the present policy.
    pub deadline: Timestamp,
    /// Its grant's id, if it has a grant.
    pub grant_id: Option<String>,
    /// Whether its agent took note of the grant.
    pub grant_acked: bool,
    /// What keeps it from being revoked, when its time comes or already.
    pub hold: Option<Hold>,
}

/// What became of a registration.
#[derive(Clone, PartialEq, Debug)]
pub struct Registered {
    /// The message as it now is.
    pub message: Described,
    /// It is new.
    pub created: bool,
}

/// Why a request is not done, in words for the one who asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Of which kind.
    pub kind: RefusalKind,
    /// In words, with the way out.
    pub message: String,
    /// Which field is at fault.
    pub field: Option<Cow<'static, str>>,
}

/// Kinds of refusals, as HTTP knows them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum RefusalKind {
    /// 400
    Invalid,
    /// 403, which is the gate's to say: the engine does not know who asks.
    Forbidden,
    /// 404
    NotFound,
    /// 409
    Conflict,
    /// 503, try again later.
    Unavailable,
}

impl Refusal {
    /// 400 for a field.
    pub fn invalid(field: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { kind: RefusalKind::Invalid, message: message.into(), field: Some(field.into()) }
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self { kind: RefusalKind::Conflict, message: message.into(), field: None }
    }

    /// 503.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { kind: RefusalKind::Unavailable, message: message.into(), field: None }
    }

    pub(super) fn not_found(identity: &Identity) -> Self {
        let Identity { agent, message_id } = identity;
        let message = format!("no message {message_id:?} of agent {agent:?} is registered, or it settled too long ago");
        Self { kind: RefusalKind::NotFound, message, field: None }
    }
}

/// What may be asked to be done to a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// Take it off the list: no DELETE, no grant.
    Withdraw,
    /// Revoke it now.
    Revoke,
    /// Give it this deadline.
    Reschedule(Timestamp),
    /// Decide on the grant that its use case held back (`on_unknown = "hold"`): give it, or not.
    Decide(bool),
}

/// Which messages a list is about. Everything that is `None` matches all.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Filter {
    /// Only in this state.
    pub state: Option<StateKind>,
    /// Only of this use case.
    pub use_case: Option<UseCase>,
    /// Only of these agents.
    pub agents: Option<Agents>,
    /// Only with this tag.
    pub tag: Option<Box<str>>,
    /// Only with a grant that waits for a hook to take it.
    pub calling: bool,
}

/// A message's state without what goes with it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StateKind {
    /// Waits for its deadline.
    Pending,
    /// Is being revoked.
    Revoking,
    /// Waits for evidence against what was answered.
    Settling,
    /// Has its outcome.
    Settled,
}

/// A page of a list.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Page {
    /// The messages.
    pub messages: Vec<Described>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<String>,
}

/// How the engine is doing.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Status {
    /// Messages by use case and state.
    pub counts: BTreeMap<(UseCase, StateKind), u64>,
    /// Attempts that are out.
    pub in_flight: usize,
    /// The next instant at which something is due.
    pub next_due: Option<Timestamp>,
    /// How long the longest overdue message has been waiting for its first attempt.
    pub backlog_age: Duration,
    /// The agents and regions requests go to.
    pub routes: Vec<RouteStatus>,
    /// Settled since the start, by outcome.
    pub settled: BTreeMap<Outcome, u64>,
    /// How late first attempts left since the start.
    pub lateness: Measured,
    /// How long attempts took to come back since the start.
    pub answer_times: Measured,
    /// What else happened since the start.
    pub counters: Counters,
    /// The last entry of the outcome log.
    pub last_cursor: Cursor,
    /// Entries of the outcome log that had to go since the start and that nobody had acknowledged.
    pub lost_outcomes: u64,
    /// Evidence that waits for its message.
    pub early_events: usize,
    /// Phones that want no promotions any more, by agent.
    pub unsubscribed: usize,
    /// The holds in force.
    pub holds: Vec<HoldStatus>,
    /// The hooks that grants are handed to.
    pub calls: BTreeMap<UseCase, CallsStatus>,
    /// The wall clock is not believed.
    pub clock: Option<Disbelief>,
    /// Why registrations are refused, if they are.
    pub store_error: Option<String>,
    /// How the store is doing.
    pub store: Figures,
    /// Places of queues that are kept in memory.
    pub window: usize,
    /// The configuration in force …
    pub config_hash: Box<str>,
    /// … and its use cases.
    pub use_cases: Vec<UseCase>,
}

/// The hook of one use case. All but the first two since the start.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct CallsStatus {
    /// Grants that it has not taken.
    pub waiting: u64,
    /// Calls that are out.
    pub in_flight: usize,
    /// Grants that it took.
    pub taken: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Grants that it did not take while they were of use.
    pub voided: u64,
    /// The last failure, in words, and when it was.
    pub last_error: Option<(Timestamp, Box<str>)>,
}

/// One agent and region.
#[derive(Clone, PartialEq, Debug)]
pub struct RouteStatus {
    /// The agent.
    pub agent: AgentId,
    /// The region.
    pub region: Region,
    /// Attempts that are out.
    pub in_flight: usize,
    /// Requests per second that may leave now.
    pub per_second: f64,
    /// Why it rests, and for how long yet.
    pub resting: Option<(RestReason, Duration)>,
    /// What is due there, if anything is.
    pub load: Option<Load>,
}

/// What may leave now, and when it will have left at the present pace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Load {
    /// How many. Deadlines are told apart to ten seconds.
    pub backlog: u64,
    /// When the last of them will have left.
    pub done_by: Timestamp,
    /// Some of them will leave more than a minute after they should.
    pub late: bool,
}

/// What a change of policies does, or would do.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Plan {
    /// In the order of their names.
    pub use_cases: Vec<PlannedUseCase>,
    /// The numbers are not complete yet: after a start, what is pending is still being counted.
    pub counting: bool,
}

/// What it does to one use case. Deadlines are told apart to ten seconds.
#[derive(Clone, PartialEq, Debug)]
pub struct PlannedUseCase {
    /// Which.
    pub use_case: UseCase,
    /// Its policy now, if it has one.
    pub before: Option<String>,
    /// Its policy then.
    pub after: Option<String>,
    /// Messages that wait for their deadline.
    pub pending: u64,
    /// How many of them are due at another time.
    pub moved: u64,
    /// By how many milliseconds at least …
    pub shift_ms_min: Option<i64>,
    /// … and at most; below zero is earlier.
    pub shift_ms_max: Option<i64>,
    /// How many are due at once then.
    pub due_at_once: u64,
    /// When the last of those would have left, at the configured pace.
    pub done_by: Option<Timestamp>,
}

impl PlannedUseCase {
    pub(super) fn new(use_case: UseCase) -> Self {
        Self {
            use_case,
            before: None,
            after: None,
            pending: 0,
            moved: 0,
            shift_ms_min: None,
            shift_ms_max: None,
            due_at_once: 0,
            done_by: None,
        }
    }
}

/// How many messages fall due when.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Forecast {
    /// The start of the first span.
    pub from: Timestamp,
    /// The length of each.
    pub step: Duration,
    /// Counts per use case; what is overdue is in the first.
    pub use_cases: BTreeMap<UseCase, Vec<u64>>,
    /// Behind the last span, per use case.
    pub later: BTreeMap<UseCase, u64>,
    /// Kept back by a hold, per use case: in none of the counts above.
    pub held: BTreeMap<UseCase, u64>,
    /// As in [`Plan::counting`].
    pub counting: bool,
}

/// Why a message has the deadline it has.
#[derive(Clone, PartialEq, Debug)]
pub struct Explained {
    /// The message, and everything that happened to it.
    pub message: Described,
    /// The policy it follows, in words.
    pub policy: String,
    /// The configuration that brought the policy …
    pub config_hash: Box<str>,
    /// … and when.
    pub since: Timestamp,
    /// Its lane keeps the rule it had before that configuration, which is for new messages only.
    pub pinned: bool,
    /// It waits for a deadline of its own, and the rule does not count.
    pub own: bool,
    /// When its DELETE is due: the deadline less the policy's lead.
    pub release: Timestamp,
    /// How much before that it may leave.
    pub spread: Duration,
    /// Its agent and region rest: why, and for how long yet.
    pub resting: Option<(RestReason, Duration)>,
    /// What stands for it in the log.
    pub message_hash: String,
}

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

/// A stretch of the outcome log.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcomes {
    /// The entries, in order.
    pub entries: Vec<(Cursor, Entry)>,
    /// Where to go on from: also past entries of other agents.
    pub next: Cursor,
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

impl From<&Record> for StateKind {
    fn from(record: &Record) -> Self {
        use crate::model::State;
        match record.state {
            State::Pending => Self::Pending,
            State::Revoking { .. } => Self::Revoking,
            State::Settling { .. } => Self::Settling,
            State::Settled { .. } => Self::Settled,
        }
    }
}
