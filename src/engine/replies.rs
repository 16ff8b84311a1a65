//! What the engine replies, as types; and how it refuses.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use super::asked::StateKind;
use super::counters::Counters;
use super::hold::HoldStatus;
use super::pace::RestReason;
use super::time::Disbelief;
use crate::model::{AgentId, Hold, Identity, LaneSpec, Outcome, Record, Region, Timestamp, UseCase};
use crate::spans::Measured;
use crate::store::{Cursor, Entry, Figures};

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

/// A stretch of the outcome log.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcomes {
    /// The entries, in order.
    pub entries: Vec<(Cursor, Entry)>,
    /// Where to go on from: also past entries of other agents.
    pub next: Cursor,
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
