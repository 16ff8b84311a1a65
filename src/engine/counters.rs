//! What happened since the start, in plain numbers for whoever watches. Decisions never look at them.
//!
//! What became of messages is counted where it is booked (see [`ledger`](crate::model::ledger)), so that both agree; the
//! rest is counted where it happens. Nothing here grows but with the use cases that are configured.

use std::collections::BTreeMap;

use super::asked::EvidenceKind;
use super::pace::RestReason;
use super::replies::{EvidenceEffect, Refusal, Registered};
use crate::model::UseCase;
use crate::model::ledger::Counts;
use crate::spans::Spans;

/// See the module's documentation.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Counters {
    /// What was booked: new registrations, outcomes, grants.
    pub booked: BTreeMap<UseCase, Counts>,
    /// Registrations of messages that were known.
    pub repeated: u64,
    /// Evidence by its kind (see [`EvidenceKind::NAMES`]) and what it did.
    pub evidence: BTreeMap<(&'static str, EvidenceEffect), u64>,
    /// DELETEs that came back, by what came back (see [`Answer::KINDS`](crate::model::Answer::KINDS)).
    pub answers: BTreeMap<&'static str, u64>,
    /// Rests that began.
    pub rests: BTreeMap<RestReason, u64>,
}

impl Counters {
    pub(super) fn book(&mut self, use_case: &UseCase, counts: &Counts) {
        match self.booked.get_mut(use_case) {
            Some(booked) => booked.extend(counts.iter()),
            None => drop(self.booked.insert(use_case.clone(), counts.clone())),
        }
    }

    /// Those that are new are booked, and those that are refused are counted where they are answered.
    pub(super) fn registered(&mut self, result: &Result<Registered, Refusal>) {
        self.repeated += u64::from(result.as_ref().is_ok_and(|registered| !registered.created));
    }

    pub(super) fn learnt(&mut self, kind: &'static str, effect: EvidenceEffect) {
        *self.evidence.entry((kind, effect)).or_default() += 1;
    }

    pub(super) fn answered(&mut self, kind: &'static str) {
        *self.answers.entry(kind).or_default() += 1;
    }

    pub(super) fn rests(&mut self, reason: RestReason) {
        *self.rests.entry(reason).or_default() += 1;
    }
}

/// How long things took since the start.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// From when a message was due until its first DELETE left.
    pub lateness: Spans,
    /// From when a DELETE left until it was back.
    pub answers: Spans,
}

impl EvidenceKind {
    /// All that [`EvidenceKind::name`] can say.
    pub const NAMES: [&'static str; 4] = ["delivered", "read", "ttl_revoked", "ttl_failed"];

    /// In a word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Read => "read",
            Self::TtlRevoked => "ttl_revoked",
            Self::TtlFailed(_) => "ttl_failed",
        }
    }
}
