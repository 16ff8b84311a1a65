//! What goes to the store as one.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::ledger::{Cell, Counts, Hour};
use crate::model::{Identity, Position, Queue, Timestamp, UseCase};
use crate::store::Change;

/// Changes that go to the store as one.
#[derive(Default)]
pub(super) struct Batch {
    pub changes: Vec<Change>,
    pub touched: BTreeSet<Identity>,
    /// Recalls that count otherwise after it.
    pub recalls: BTreeSet<u64>,
    /// What it adds to the books.
    pub booked: BTreeMap<(Hour, UseCase), Counts>,
}

impl Batch {
    /// Whether this message is already changed here, where reads can't see it yet.
    pub(super) fn touches(&self, identity: &Identity) -> bool {
        self.touched.contains(identity)
    }

    /// Enters something into the books.
    pub(super) fn book(&mut self, now: Timestamp, use_case: &UseCase, entries: impl IntoIterator<Item = (Cell, i64)>) {
        let mut entries = entries.into_iter().peekable();
        if entries.peek().is_some() {
            self.booked.entry((Hour::of(now), use_case.clone())).or_default().extend(entries);
        }
    }

    /// Where records come to by it that were elsewhere, if attempts leave from such places.
    pub(super) fn arrivals(&self) -> Vec<Position> {
        let arrival = |change: &Change| {
            let Change::Put { from, record } = change else { return None };
            let to = record.position();
            (*from != Some(to) && Queue::ATTEMPTS.contains(&to.queue)).then_some(to)
        };
        self.changes.iter().filter_map(arrival).collect()
    }
}
