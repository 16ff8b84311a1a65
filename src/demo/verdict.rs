//! What the daemon said, held against what happened.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::agent::Ledger;
use crate::intake::wire::{StatusView, TimesView};
use crate::model::{GrantState, Outcome, Timestamp};
use crate::sandbox::{MessageBook, State};

/// How it went.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Verdict {
    /// Acknowledged by the daemon.
    pub registered: usize,
    pub delivered: usize,
    pub revoked: usize,
    pub unknown: usize,
    pub failed: usize,
    /// Delivered although the platform had answered 200 to the DELETE, and noticed.
    pub raced: usize,
    /// Messages with a grant that stood at the end.
    pub granted: usize,
    /// Grants taken back since the message turned out to be delivered.
    pub withdrawn_grants: usize,
    /// Acknowledged and without an outcome, or revoked on the platform's side and called delivered, or the reverse.
    pub lost: usize,
    /// More than one grant for a message.
    pub granted_twice: usize,
    /// First DELETEs, since the restart.
    pub lateness: Option<TimesView>,
    #[serde(skip)]
    pub by_use_case: BTreeMap<String, [usize; 6]>,
    #[serde(skip)]
    pub wrong: Vec<String>,
}

impl Verdict {
    pub(super) fn new(ledger: &Ledger, books: &[MessageBook], status: &StatusView) -> Self {
        let books: BTreeMap<&str, &MessageBook> = books.iter().map(|book| (book.message_id.as_str(), book)).collect();
        let mut verdict = Self {
            registered: ledger.len(),
            delivered: 0,
            revoked: 0,
            unknown: 0,
            failed: 0,
            raced: 0,
            granted: 0,
            withdrawn_grants: 0,
            lost: 0,
            granted_twice: 0,
            lateness: status.lateness,
            by_use_case: BTreeMap::new(),
            wrong: Vec::new(),
        };
        for (id, entry) in ledger {
            let row = verdict.by_use_case.entry(entry.use_case.clone()).or_default();
            row[0] += 1;
            let Some(last) = entry.told.last() else {
                verdict.lost += 1;
                verdict.wrong.push(format!("{id}: acknowledged, and no outcome"));
                continue;
            };
            let book = books.get(id.as_str());
            if let Some(wrong) = book.and_then(|book| contradiction(last.outcome, book)) {
                verdict.lost += 1;
                verdict.wrong.push(format!("{id}: {wrong}"));
            }
            match last.outcome {
                Outcome::Delivered => (verdict.delivered, row[1]) = (verdict.delivered + 1, row[1] + 1),
                Outcome::Revoked => (verdict.revoked, row[2]) = (verdict.revoked + 1, row[2] + 1),
                Outcome::Unknown => (verdict.unknown, row[3]) = (verdict.unknown + 1, row[3] + 1),
                _ => verdict.failed += 1,
            }
            let raced = book.is_some_and(|book| book.revoked_at.is_some() && book.shown_at.is_some());
            if raced && last.outcome == Outcome::Delivered {
                (verdict.raced, row[4]) = (verdict.raced + 1, row[4] + 1);
            }
            let grants = entry.told.iter().filter_map(|told| told.grant.as_ref());
            let ids: BTreeSet<&str> = grants.clone().map(|grant| grant.grant_id.as_str()).collect();
            verdict.granted_twice += usize::from(ids.len() > 1);
            match grants.clone().next_back().map(|grant| grant.state) {
                Some(GrantState::Offered | GrantState::Taken) => {
                    (verdict.granted, row[5]) = (verdict.granted + 1, row[5] + 1);
                }
                Some(GrantState::Withdrawn) => verdict.withdrawn_grants += 1,
                Some(GrantState::Held | GrantState::Void) | None => {}
            }
        }
        verdict
    }

    pub(super) fn is_good(&self) -> bool {
        self.lost == 0 && self.granted_twice == 0
    }
}

/// What the outcome says and the platform's own books deny. *Unknown* claims nothing, so nothing can deny it.
fn contradiction(outcome: Outcome, book: &MessageBook) -> Option<String> {
    let shown = book.shown_at.map(|at| Timestamp::from(at).to_string());
    match (outcome, shown) {
        (Outcome::Revoked, Some(at)) => Some(format!("called revoked, and the handset showed it at {at}")),
        (Outcome::Delivered, None) => Some("called delivered, and no handset showed it".to_owned()),
        (Outcome::Revoked, None) if book.state == State::Queued => {
            Some("called revoked, and the platform still has it".to_owned())
        }
        _ => None,
    }
}
