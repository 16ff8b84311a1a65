//! A message as we keep it.

use std::time::Duration;

use super::{Grant, Identity, LaneId, Phone, Place, Policy, Position, Queue, Timestamp};

/// Notes kept per message; the oldest after the first make room.
pub const TRAIL_MAX: usize = 16;

/// Everything we know of one message.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    /// Its agent and id.
    pub identity: Identity,
    /// The lane it belongs to for life.
    pub lane: LaneId,
    /// Given at its first registration; breaks ties among equal instants.
    pub seq: u64,
    /// The handset.
    pub phone: Phone,
    /// Free words to find it by.
    pub tags: Vec<Box<str>>,
    /// Opaque JSON that is handed back with the grant.
    pub fallback: Option<Box<str>>,
    /// The recipient's time zone, for quiet hours: a name of the IANA database.
    pub time_zone: Option<Box<str>>,
    /// When we first heard of it from its agent.
    pub registered_at: Timestamp,
    /// The anchor of its deadline.
    pub send_time: Timestamp,
    /// While pending: the deadline it brought itself, if any. Afterwards: the one that applied.
    pub deadline: Option<Timestamp>,
    /// Where it is in its life.
    pub state: State,
    /// It was put aside for a hold, and waits for its release.
    pub held: bool,
    /// The recall that it belongs to.
    pub recall: Option<u64>,
    /// What was tried.
    pub attempts: Attempts,
    /// Evidence that came while an attempt was out.
    pub seen: Seen,
    /// Its fallback grant, once there is one.
    pub grant: Option<Grant>,
    /// What was learnt, when.
    pub trail: Vec<Note>,
}

/// Where a message is in its life. Beside each state: what a crash leaves of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Waits for its deadline. After a crash: the same; it is overdue if the deadline passed meanwhile.
    Pending,
    /// Its deadline passed and it is being revoked. That an attempt is in flight is not written for each message: the
    /// queue's *fence* says which may have left. After a crash: due again, with every attempt below the fence counted as
    /// one of unknown result.
    Revoking {
        /// When the next attempt may leave.
        next: Timestamp,
        /// An attempt is out. Never stored.
        in_flight: bool,
    },
    /// The platform answered; evidence against it may still come. After a crash: the same, the window goes on.
    Settling {
        /// What we hold to be true.
        belief: Belief,
        /// The end of the settle window.
        until: Timestamp,
    },
    /// Done. After a crash: the same; its outcome is in the log, since both are one write.
    Settled {
        /// How it ended.
        outcome: Outcome,
        /// When.
        at: Timestamp,
    },
}

/// What an answer lets us believe while the settle window is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Belief {
    /// The platform said it took it off its queue.
    Revoked,
    /// It answered 404, and no earlier attempt can explain that: most likely delivered.
    ProbablyDelivered,
    /// It answered 404 after an attempt whose answer we never saw: revoked or delivered.
    Unknown,
    /// It can't be revoked any more; only quiet hours hold up the grant.
    Failed,
}

/// How a message ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Outcome {
    /// The handset showed it.
    Delivered,
    /// It was taken off the platform's queue.
    Revoked,
    /// It was revoked or delivered; nobody can say which.
    Unknown,
    /// The platform refused, or time ran out.
    Failed,
    /// Its agent took it back before the deadline.
    Withdrawn,
    /// Its deadline passed while nobody watched, and the policy says that it is of no consequence.
    Moot,
    /// It would have been revoked, but the daemon runs in shadow mode: it may still arrive.
    Shadow,
}

impl Outcome {
    /// All of them, in the order of their stored codes.
    pub const ALL: [Self; 7] =
        [Self::Delivered, Self::Revoked, Self::Unknown, Self::Failed, Self::Withdrawn, Self::Moot, Self::Shadow];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "DELIVERED",
            Self::Revoked => "REVOKED",
            Self::Unknown => "UNKNOWN",
            Self::Failed => "FAILED",
            Self::Withdrawn => "WITHDRAWN",
            Self::Moot => "MOOT",
            Self::Shadow => "SHADOW",
        }
    }
}

/// What was tried for a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Attempts {
    /// Requests that left and count.
    pub count: u32,
    /// Failures since the last real answer: what the backoff grows with.
    pub failures: u32,
    /// How often the platform said 404.
    pub not_found: u32,
    /// At least one attempt may have revoked it without our hearing of it.
    pub unknown: bool,
    /// When the first one left, past the instant it was due: the *lateness*.
    pub lateness: Option<Duration>,
}

impl Attempts {
    /// An attempt was made and came to something, if only to a failure: the lane did not turn it back.
    pub fn made(&self) -> bool {
        self.count > 0 || self.failures > 0
    }
}

/// Evidence that can't be acted on before an attempt is back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// `DELIVERED` or `READ` came.
    pub delivered: bool,
    /// `TTL_EXPIRATION_REVOKED` came.
    pub ttl_revoked: bool,
}

/// One line of a message's story.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// When we learnt it.
    pub at: Timestamp,
    /// What it was.
    pub what: What,
    /// More, in words: an HTTP status, the platform's message.
    pub detail: Option<Box<str>>,
}

/// What a note is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[repr(u8)]
pub enum What {
    /// Its agent registered it.
    Registered = 0,
    /// Its agent registered it again, in place of what was there.
    Replaced = 1,
    /// Its agent gave it another deadline.
    Rescheduled = 2,
    /// Its agent took it back.
    Withdrawn = 3,
    /// Its agent asked to revoke it now.
    RevokeAsked = 4,
    /// `DELIVERED` came.
    Delivered = 5,
    /// `READ` came.
    Read = 6,
    /// `TTL_EXPIRATION_REVOKED` came.
    TtlRevoked = 7,
    /// `TTL_EXPIRATION_REVOKE_FAILED`, or a server event we don't know, came.
    TtlFailed = 8,
    /// An attempt came back: its answer is in the detail.
    Answered = 9,
    /// An attempt may have left before a crash.
    MaybeAttempted = 10,
    /// What it had settled as was wrong: that outcome is in the detail.
    Amended = 11,
    /// Somebody decided on the grant that was held back: how is in the detail.
    Decided = 12,
    /// Its turn came, and it was put aside for a hold: which is in the detail.
    Held = 13,
    /// No hold keeps it back any more.
    Released = 14,
    /// It was recalled: by which is in the detail.
    Recalled = 15,
    /// Its SMS may not go out before the quiet hours are over: their end is in the detail.
    Quiet = 16,
    /// A hook took the grant.
    Taken = 17,
    /// A hook did not take the grant, the last time it was called: why is in the detail.
    CallFailed = 18,
    /// No SMS goes out for it: its user wants no promotions any more.
    Unsubscribed = 19,
}

impl What {
    /// All of them, in the order of their stored codes.
    pub const ALL: [Self; 20] = [
        Self::Registered,
        Self::Replaced,
        Self::Rescheduled,
        Self::Withdrawn,
        Self::RevokeAsked,
        Self::Delivered,
        Self::Read,
        Self::TtlRevoked,
        Self::TtlFailed,
        Self::Answered,
        Self::MaybeAttempted,
        Self::Amended,
        Self::Decided,
        Self::Held,
        Self::Released,
        Self::Recalled,
        Self::Quiet,
        Self::Taken,
        Self::CallFailed,
        Self::Unsubscribed,
    ];
}

impl Record {
    /// Whatever it waits for while it is revoked or settles, or its hook is to be called, it waits no longer than until `latest`.
    pub fn wait_until(&mut self, latest: Timestamp) {
        match &mut self.state {
            State::Revoking { next: until, .. } | State::Settling { until, .. } => *until = (*until).min(latest),
            State::Settled { .. } => {
                if let Some(Grant { call: Some(call), .. }) = &mut self.grant {
                    call.next = call.next.min(latest);
                }
            }
            State::Pending => {}
        }
    }

    /// The deadline that applies.
    pub fn deadline(&self, policy: &Policy) -> Timestamp {
        policy.deadline(self.send_time, self.deadline)
    }

    /// Where it stands: a function of its state, so that the two can't disagree.
    pub fn position(&self) -> Position {
        let (queue, order) = match (self.state, self.deadline) {
            (State::Pending | State::Revoking { .. }, _) if self.held => (Queue::Held, self.send_time),
            (State::Pending, None) => (Queue::Anchor, self.send_time),
            (State::Pending, Some(deadline)) => (Queue::Own, deadline),
            (State::Revoking { next, .. }, _) if self.recall.is_some() => (Queue::Recalled, next),
            (State::Revoking { next, .. }, _) => (Queue::Retry, next),
            (State::Settling { until, .. }, _) => (Queue::Settling, until),
            (State::Settled { at, .. }, _) if self.recall.is_some() => (Queue::Listed, at),
            (State::Settled { at, .. }, _) => match self.next_call() {
                Some(next) => (Queue::Calling, next),
                None => (Queue::Kept, at),
            },
        };
        Position { lane: self.lane, queue, place: Place { order, seq: self.seq } }
    }

    /// Whether nothing more will be tried for it.
    pub fn is_settled(&self) -> bool {
        matches!(self.state, State::Settled { .. })
    }

    /// Adds a line to its story, within [`TRAIL_MAX`]: how it began stays, and what came last.
    pub fn note(&mut self, at: Timestamp, what: What, detail: Option<String>) {
        if self.trail.len() >= TRAIL_MAX {
            self.trail.remove(1);
        }
        self.trail.push(Note { at, what, detail: detail.map(String::into_boxed_str) });
    }
}
