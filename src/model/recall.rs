//! Recalls: a whole campaign is taken back now.

use super::{Outcome, Position, Record, Selector, State, Timestamp};

/// One recall: what it is about, how far its messages have been looked through, and what became of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recall {
    /// Unique in the store. From the same row as the `seq` of messages: whatever was registered later has a higher one.
    pub id: u64,
    /// What is recalled.
    pub of: Selector,
    /// Why, in somebody's words.
    pub reason: Option<Box<str>>,
    /// When it began.
    pub began: Timestamp,
    /// The last position that was looked at.
    pub looked_to: Option<Position>,
    /// Every message was looked at.
    pub looked_through: bool,
    /// Messages that have no outcome yet.
    pub open: u64,
    /// How those ended that had an outcome when it began, by [`Outcome::ALL`].
    pub before: [u64; Outcome::ALL.len()],
    /// How those ended that had none.
    pub since: [u64; Outcome::ALL.len()],
    /// When the last of them had its outcome.
    pub ended: Option<Timestamp>,
}

impl Recall {
    /// One that begins.
    pub fn new(id: u64, of: Selector, reason: Option<Box<str>>, began: Timestamp) -> Self {
        Self {
            id,
            of,
            reason,
            began,
            looked_to: None,
            looked_through: false,
            open: 0,
            before: [0; Outcome::ALL.len()],
            since: [0; Outcome::ALL.len()],
            ended: None,
        }
    }

    /// A message of it is not what it was: counts it as it is now.
    pub fn recount(&mut self, before: Option<State>, now: State) {
        if let Some(before) = before {
            let count = self.count(before);
            *count = count.saturating_sub(1);
        }
        *self.count(now) += 1;
    }

    fn count(&mut self, state: State) -> &mut u64 {
        match state {
            State::Settled { outcome, at } if at < self.began => &mut self.before[outcome as usize],
            State::Settled { outcome, .. } => &mut self.since[outcome as usize],
            _ => &mut self.open,
        }
    }

    /// Whether this message was not surely taken back: it arrived, or may have, or may yet.
    pub fn may_be_received(record: &Record) -> bool {
        matches!(record.state, State::Settled { outcome, .. } if outcome != Outcome::Revoked)
    }
}
