//! Holds: somebody's word that what it names is not to be revoked for now.

use super::{Selector, Timestamp};

/// One hold. It outlives its release for a while: the time that messages were held does not count against them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Hold {
    /// Unique in the store, and never given again.
    pub id: u64,
    /// What it keeps back.
    pub of: Selector,
    /// Why, in somebody's words.
    pub reason: Option<Box<str>>,
    /// Since when.
    pub since: Timestamp,
    /// Until when; `None` while it is in force.
    pub released: Option<Timestamp>,
}
