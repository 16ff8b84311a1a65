//! Lanes: where a message stands in line.
//!
//! A *lane* is all messages of one use case that go to the same agent and region. Within it a message stands in exactly
//! one [`Queue`], by its state, ordered by one instant. A pending message that follows a policy is ordered by its
//! *anchor* (its `sendTime`), not its deadline: the deadline is a function of anchor and policy that never runs
//! backwards, so the head of the queue is always the first one due, and a reload that changes the policy moves every
//! deadline of the lane without touching a record.

use super::{AgentId, Region, Timestamp, TrafficType, UseCase};

/// The number under which the store knows a lane.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LaneId(pub u32);

/// What makes messages stand in the same lane.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LaneSpec {
    /// The policy they follow.
    pub use_case: UseCase,
    /// Whose they are.
    pub agent: AgentId,
    /// Through which region they are revoked.
    pub region: Region,
    /// How urgent they are.
    pub traffic_type: TrafficType,
    /// The rule they keep, in its words, since a reload brought another one for new messages only. `None`: their use case's.
    pub pinned: Option<Box<str>>,
}

/// The queues of a lane; a message's state says in which one it stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Queue {
    /// Pending under the policy, ordered by anchor.
    Anchor = 0,
    /// Pending with a deadline of its own, ordered by it.
    Own = 1,
    /// Revoking and waiting for the next attempt, ordered by when that may leave.
    Retry = 2,
    /// Settling, ordered by the end of the settle window.
    Settling = 3,
    /// Settled and kept for late events, ordered by when it settled.
    Kept = 4,
    /// Put aside because its turn came while a hold named its tag, ordered by its `sendTime`.
    Held = 5,
}

impl Queue {
    /// All of them, in the order of their stored codes.
    pub const ALL: [Self; 6] = [Self::Anchor, Self::Own, Self::Retry, Self::Settling, Self::Kept, Self::Held];
    /// Those out of which DELETEs leave.
    pub const ATTEMPTS: [Self; 3] = [Self::Anchor, Self::Own, Self::Retry];

    /// Whether what stands in it has its turn when its time comes, and not when somebody says so.
    pub const fn is_timed(self) -> bool {
        !matches!(self, Self::Held)
    }

    /// Whether a hold keeps back what is due in it.
    pub const fn may_be_held(self) -> bool {
        matches!(self, Self::Anchor | Self::Own | Self::Retry)
    }

    /// Whether what stands in it has settled.
    pub const fn is_settled(self) -> bool {
        matches!(self, Self::Kept)
    }
}

/// A place in a queue. `seq` is given once to each registration and makes places unique among equal instants.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Place {
    /// Anchor, deadline, next attempt, end of window or time of settlement, as the queue says.
    pub order: Timestamp,
    /// Unique in the store, growing with registrations.
    pub seq: u64,
}

/// Where exactly a record stands: the key under which a store keeps it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Position {
    /// The lane.
    pub lane: LaneId,
    /// The queue of that lane.
    pub queue: Queue,
    /// The place in that queue.
    pub place: Place,
}
