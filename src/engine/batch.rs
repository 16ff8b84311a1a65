//! What goes to the store as one.

use std::collections::BTreeSet;

use crate::model::Identity;
use crate::store::Change;

/// Changes that go to the store as one.
#[derive(Default)]
pub(super) struct Batch {
    pub changes: Vec<Change>,
    pub touched: BTreeSet<Identity>,
    /// Recalls that count otherwise after it.
    pub recalls: BTreeSet<u64>,
}

impl Batch {
    /// Whether this message is already changed here, where reads can't see it yet.
    pub(super) fn touches(&self, identity: &Identity) -> bool {
        self.touched.contains(identity)
    }
}
