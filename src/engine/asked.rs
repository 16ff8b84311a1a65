//! What is asked of the engine, or told it, as types.

use std::time::Duration;

use crate::model::{AgentId, Agents, Identity, MessageId, Phone, Record, Region, Timestamp, TrafficType, UseCase};

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
