//! What agents are told of a message: its outcome, its grant, and the message as it is.

use aws_lc_rs::{digest, hmac};
use tracing::{debug, warn};

use super::core::{Batch, Core};
use super::replies::Described;
use crate::model::deadline::human;
use crate::model::{self, GrantState, Identity, Outcome, Record, Report, Timestamp};
use crate::store::{Change, Cursor, Entry, EntryKind, Store};

/// Entries looked at for one trim, which takes some thousand; more only where `retention.outcomes` was lowered.
const LOST_LOOKED_AT_MAX: usize = 65_536;

impl<S: Store> Core<S> {
    /// Adds an entry to the outcome log, and ties the grant to it.
    pub(super) fn report(&mut self, record: &mut Record, report: Report, now: Timestamp, batch: &mut Batch) {
        let Some(lane) = self.lanes.get(record.lane) else { return };
        let model::State::Settled { outcome, at: settled_at } = record.state else { return };
        let use_case = lane.spec.use_case.clone();
        let kind = match report {
            Report::Settled => EntryKind::Settled,
            Report::Amended(_) => EntryKind::Amended,
            Report::Granted => EntryKind::Granted,
            Report::Taken => EntryKind::Taken,
            Report::Voided => EntryKind::Voided,
        };
        // It counts under one outcome. What it was may be from before the start, where the counts begin; and a recall that takes
        // a grant back leaves it what it was.
        let was = if let Report::Amended(was) = report { Some(was) } else { None };
        if matches!(kind, EntryKind::Settled | EntryKind::Amended) && was != Some(outcome) {
            *self.settled.entry(outcome).or_default() += 1;
            if let Some(count) = was.and_then(|was| self.settled.get_mut(&was)) {
                *count = count.saturating_sub(1);
            }
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
            grant_id: record.grant.map(|_| grant_id(record).into()),
            fallback: record.grant.and(record.fallback.clone()),
            tags: record.tags.clone(),
            detail: match (outcome, report) {
                (Outcome::Failed, _) => record.trail.iter().rev().find_map(why),
                // What shadow mode is for: who would not have got it, and got it all the same.
                (_, Report::Amended(Outcome::Shadow)) => {
                    let after = human(now.since(settled_at));
                    Some(format!("arrived {after} after its DELETE would have left").into())
                }
                _ if record.trail.last().is_some_and(|last| last.what == model::What::Unsubscribed) => {
                    Some("no SMS: its user wants no promotions any more (UNSUBSCRIBE)".into())
                }
                _ => None,
            },
        };
        debug!(
            name: "told",
            agent = %entry.identity.agent,
            use_case = %entry.use_case,
            outcome = outcome.as_str(),
            ?kind,
            message_hash = message_hash(self.store_id, &entry.identity),
            "an outcome"
        );
        self.subscriptions.told(self.last_cursor, entry.grant.as_ref());
        batch.changes.push(Change::Outcome(self.last_cursor, Box::new(entry)));
        let surplus = self.last_cursor.saturating_sub(self.settings.outcomes_max);
        if surplus > 0 && self.last_cursor.is_multiple_of(self.scale.trim_every) {
            self.lose_outcomes(surplus);
            batch.changes.push(Change::TrimOutcomes(surplus));
        }
    }

    /// Outcomes up to `surplus` have to go. Those that nobody took note of are counted, and said once until somebody does.
    fn lose_outcomes(&mut self, surplus: Cursor) {
        let from = std::mem::replace(&mut self.trimmed, surplus).max(self.acknowledged(None)).min(surplus);
        let going = usize::try_from(surplus - from).unwrap_or(usize::MAX).min(LOST_LOOKED_AT_MAX);
        // What can't be read is lost in any case, and there is worse to say about such a disk.
        let entries = if going == 0 { Vec::new() } else { self.store.outcomes(from, going).unwrap_or_default() };
        let unread = |(cursor, entry): &&(Cursor, Entry)| {
            *cursor <= surplus && self.acked.get(&entry.identity.agent).is_none_or(|acked| *acked < *cursor)
        };
        let lost = entries.iter().filter(unread).count() as u64;
        if lost > 0 && !self.losing {
            let agent = entries.iter().find(unread).map(|(_, entry)| &entry.identity.agent);
            warn!(
                name: "outcomes_lost",
                ?agent,
                lost,
                kept = self.settings.outcomes_max,
                "outcomes are removed that were never acknowledged: let the agent acknowledge what it has read \
                 (POST /v1/outcomes:ack), or raise [retention] outcomes"
            );
        }
        self.losing = lost > 0;
        self.lost_outcomes += lost;
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
            grant_id: record.grant.map(|_| grant_id(&record)),
            grant_acked: self.is_acked(&record),
            hold: self.hold_on(&record).cloned(),
            record,
        }
    }
}

/// What stands for a message in the log, since ids are at times made of phone numbers: the same for as long as there is the
/// store, and of no use to whoever does not have it.
pub(super) fn message_hash(store_id: u64, identity: &Identity) -> String {
    let mut signing = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &store_id.to_be_bytes()));
    signing.update(&(identity.agent.as_str().len() as u64).to_be_bytes());
    signing.update(identity.agent.as_str().as_bytes());
    signing.update(identity.message_id.as_str().as_bytes());
    let part = signing.sign().as_ref().first_chunk().copied().unwrap_or_default();
    format!("{:016x}", u64::from_be_bytes(part))
}

/// The same for a message's whole life, also in a store that takes it over, and for no other message: the idempotency key
/// of its SMS. An id that is used again after its message was purged is another registration.
pub(super) fn grant_id(record: &Record) -> String {
    let Identity { agent, message_id } = &record.identity;
    let mut digest = digest::Context::new(&digest::SHA256);
    digest.update(&(agent.as_str().len() as u64).to_be_bytes());
    digest.update(agent.as_str().as_bytes());
    digest.update(&record.registered_at.millis().to_be_bytes());
    digest.update(message_id.as_str().as_bytes());
    let half = digest.finish().as_ref().first_chunk().copied().unwrap_or_default();
    format!("{:032x}", u128::from_be_bytes(half))
}
