//! Holds and recalls as the journal has them.

use minicbor::{Decode, Encode};

use super::{boxed, corrupt};
use crate::model::{AgentId, Hold, Outcome, Recall, Selector, Timestamp, UseCase};
use crate::store::StoreError;
use crate::store::key::{POSITION_BYTES, position_bytes, read_position};

/// A hold, in the journal.
#[derive(Encode, Decode)]
pub(in crate::store) struct StoredHold<'a> {
    #[b(0)]
    of: StoredSelector<'a>,
    #[b(1)]
    reason: Option<&'a str>,
    #[n(2)]
    since: i64,
    #[n(3)]
    released: Option<i64>,
}

/// A recall, in the journal.
#[derive(Encode, Decode)]
pub(in crate::store) struct StoredRecall<'a> {
    #[b(0)]
    of: StoredSelector<'a>,
    #[b(1)]
    reason: Option<&'a str>,
    #[n(2)]
    began: i64,
    #[cbor(n(3), with = "minicbor::bytes")]
    looked_to: Option<[u8; POSITION_BYTES]>,
    #[n(4)]
    looked_through: bool,
    #[n(5)]
    open: u64,
    /// By [`Outcome::ALL`].
    #[n(6)]
    before: Vec<u64>,
    #[n(7)]
    since: Vec<u64>,
    #[n(8)]
    ended: Option<i64>,
}

#[derive(Encode, Decode)]
struct StoredSelector<'a> {
    #[b(0)]
    use_case: Option<&'a str>,
    #[b(1)]
    agent: Option<&'a str>,
    #[b(2)]
    tag: Option<&'a str>,
}

impl<'a> StoredHold<'a> {
    pub(in crate::store) fn of(hold: &'a Hold) -> Self {
        Self {
            of: StoredSelector::of(&hold.of),
            reason: hold.reason.as_deref(),
            since: hold.since.millis(),
            released: hold.released.map(Timestamp::millis),
        }
    }

    pub(in crate::store) fn read(&self, id: u64) -> Result<Hold, StoreError> {
        Ok(Hold {
            id,
            of: self.of.read()?,
            reason: self.reason.map(boxed),
            since: Timestamp::from_millis(self.since),
            released: self.released.map(Timestamp::from_millis),
        })
    }
}

impl<'a> StoredRecall<'a> {
    pub(in crate::store) fn of(recall: &'a Recall) -> Self {
        Self {
            of: StoredSelector::of(&recall.of),
            reason: recall.reason.as_deref(),
            began: recall.began.millis(),
            looked_to: recall.looked_to.as_ref().map(position_bytes),
            looked_through: recall.looked_through,
            open: recall.open,
            before: recall.before.to_vec(),
            since: recall.since.to_vec(),
            ended: recall.ended.map(Timestamp::millis),
        }
    }

    pub(in crate::store) fn read(&self, id: u64) -> Result<Recall, StoreError> {
        // Fewer than there are outcomes by now: those that came later did not occur.
        let counts = |stored: &[u64]| {
            let mut counts = [0; Outcome::ALL.len()];
            counts.iter_mut().zip(stored).for_each(|(count, stored)| *count = *stored);
            counts
        };
        Ok(Recall {
            looked_to: self.looked_to.as_ref().map(|at| read_position(at)).transpose()?,
            looked_through: self.looked_through,
            open: self.open,
            before: counts(&self.before),
            since: counts(&self.since),
            ended: self.ended.map(Timestamp::from_millis),
            ..Recall::new(id, self.of.read()?, self.reason.map(boxed), Timestamp::from_millis(self.began))
        })
    }
}

impl<'a> StoredSelector<'a> {
    fn of(selector: &'a Selector) -> Self {
        Self {
            use_case: selector.use_case.as_ref().map(UseCase::as_str),
            agent: selector.agent.as_ref().map(AgentId::as_str),
            tag: selector.tag.as_deref(),
        }
    }

    fn read(&self) -> Result<Selector, StoreError> {
        Ok(Selector {
            use_case: self.use_case.map(UseCase::new).transpose().map_err(corrupt)?,
            agent: self.agent.map(AgentId::new).transpose().map_err(corrupt)?,
            tag: self.tag.map(boxed),
        })
    }
}
