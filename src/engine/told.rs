//! What agents are told of a message: its outcome, its grant, and the message as it is.

use super::core::{Batch, Core};
use super::handle::Described;
use crate::model::{self, GrantState, Outcome, Record, Report, Timestamp};
use crate::store::{Change, Entry, EntryKind, Store};

impl<S: Store> Core<S> {
    /// Adds an entry to the outcome log, and ties the grant to it.
    pub(super) fn report(&mut self, record: &mut Record, report: Report, now: Timestamp, batch: &mut Batch) {
        let Some(lane) = self.lanes.get(record.lane) else { return };
        let model::State::Settled { outcome, .. } = record.state else { return };
        let use_case = lane.spec.use_case.clone();
        let kind = match report {
            Report::Settled => EntryKind::Settled,
            Report::Amended(_) => EntryKind::Amended,
            Report::Granted => EntryKind::Granted,
            Report::Taken => EntryKind::Taken,
            Report::Voided => EntryKind::Voided,
        };
        if matches!(kind, EntryKind::Settled | EntryKind::Amended) {
            *self.settled.entry(outcome).or_default() += 1;
        }
        self.last_cursor += 1;
        // An amendment leaves it where it was handed out: there its acknowledgement is looked for.
        if let (Some(grant), EntryKind::Settled | EntryKind::Granted) = (&mut record.grant, kind) {
            grant.cursor = self.last_cursor;
        }
        let why = |note: &model::Note| note.detail.clone().filter(|_| note.what == model::What::Answered);
        let entry = Entry {
            kind,
            at: now,
            identity: record.identity.clone(),
            phone: record.phone,
            use_case,
            outcome,
            send_time: record.send_time,
            deadline: record.deadline.unwrap_or(now),
            lateness: record.attempts.lateness,
            grant: record.grant,
            grant_id: record.grant.map(|_| self.grant_id(record).into()),
            fallback: record.grant.and(record.fallback.clone()),
            tags: record.tags.clone(),
            detail: if outcome == Outcome::Failed { record.trail.iter().rev().find_map(why) } else { None },
        };
        batch.changes.push(Change::Outcome(self.last_cursor, Box::new(entry)));
        // Trimmed in strides, so that it does not cost a change for each entry.
        let surplus = self.last_cursor.saturating_sub(self.settings.outcomes_max);
        if surplus > 0 && self.last_cursor.is_multiple_of(1024) {
            batch.changes.push(Change::TrimOutcomes(surplus));
        }
    }

    /// The same for a message's whole life, and for no other message of any store: the idempotency key of its SMS.
    pub(super) fn grant_id(&self, record: &Record) -> String {
        format!("{:016x}-{:x}", self.store_id, record.seq)
    }

    pub(super) fn is_acked(&self, record: &Record) -> bool {
        let acked = self.acked.get(&record.identity.agent).copied().unwrap_or(0);
        record.grant.is_some_and(|grant| match grant.call {
            // What an agent reads says nothing of what a hook did.
            Some(_) => grant.state == GrantState::Taken,
            None => grant.cursor > 0 && grant.cursor <= acked,
        })
    }

    pub(super) fn describe(&self, record: Record) -> Described {
        let Some(lane) = self.lanes.get(record.lane) else { unreachable!("every record stands in a lane we know") };
        Described {
            deadline: record.deadline(&lane.policy),
            lane: lane.spec.clone(),
            grant_id: record.grant.map(|_| self.grant_id(&record)),
            grant_acked: self.is_acked(&record),
            record,
        }
    }
}
