//! What the books say: for the settlement report and for advice on ttls.

use std::collections::BTreeMap;
use std::time::Duration;

use super::core::Core;
use crate::model::ledger::{Bucket, Counts, Hour, KEPT};
use crate::model::{Queue, Timestamp, UseCase};
use crate::store::Store;

/// The books from an hour on.
#[derive(Clone, PartialEq, Debug)]
pub struct Books {
    /// The start of the first hour that counts.
    pub from: Timestamp,
    /// Use cases for which anything stands in them, or that are configured.
    pub use_cases: BTreeMap<UseCase, UseCaseBooks>,
    /// As for a forecast: the ages of what is pending are not complete yet.
    pub counting: bool,
}

/// What they say of one use case.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct UseCaseBooks {
    /// Its policy in words; `None` if the configuration has none any more.
    pub policy: Option<String>,
    /// What was counted.
    pub counts: Counts,
    /// What still waits for its deadline, by the time since it was sent. Without those that have a deadline of their own:
    /// they are kept in the order of it, and not of when they were sent.
    pub ages: BTreeMap<Bucket, u64>,
}

impl<S: Store> Core<S> {
    /// The books of the last `span`, in whole hours.
    pub(super) fn books(&self, span: Duration, now: Timestamp) -> Books {
        let first = Hour::of(now.minus(span.min(KEPT)));
        let mut books = Books { from: first.start(), use_cases: BTreeMap::new(), counting: false };
        for (name, policy) in self.policies.iter() {
            books.use_cases.entry(name.clone()).or_default().policy = Some(policy.to_string());
        }
        for (name, counts) in self.ledger.since(first) {
            books.use_cases.entry(name).or_default().counts = counts;
        }
        for (_, lane) in self.lanes.iter() {
            let tally = &lane.line(Queue::Anchor).tally;
            books.counting |= !tally.is_complete();
            let Some(of) = books.use_cases.get_mut(&lane.spec.use_case) else { continue };
            for (sent, count) in tally.iter() {
                *of.ages.entry(Bucket::of(now.since(sent))).or_default() += count;
            }
        }
        books
    }
}
