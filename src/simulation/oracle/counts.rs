//! What the daemon says of itself, counted anew from what is written.

use std::collections::BTreeMap;
use std::time::Duration;

use super::told::Line;
use super::{Broken, Moment, Oracle, broken};
use crate::engine::{Books, Described, Footprint, StateKind, Status};
use crate::model::ledger::Cell;
use crate::model::{Outcome, Recall, State, UseCase};
use crate::simulation::asked::BOOKS;
use crate::store::EntryKind;
use crate::store::memory::MemoryStore;

/// What there is, at one moment.
#[derive(Default)]
pub(in crate::simulation) struct Counted {
    messages: BTreeMap<(UseCase, StateKind), u64>,
    out: usize,
    early: usize,
}

impl Oracle {
    /// Every message that was acknowledged and not removed is there, and each stands in one place.
    pub(in crate::simulation) fn scan(&self, store: &MemoryStore) -> Result<(), Broken> {
        let (records, identities) = (store.records().len(), store.identities().len());
        broken!(records == identities, "the store's contract", "{records} records of {identities} messages");
        for life in self.lives.iter().filter(|life| life.sure && !life.removed) {
            let id = &life.identity.message_id;
            let there = store.identities().contains_key(&life.identity);
            broken!(there, "no acknowledged message is lost", "{id} is nowhere");
        }
        Ok(())
    }

    /// What is kept in memory stays within its bounds.
    pub(in crate::simulation) fn footprint(&self, kept: Footprint, asked: usize) -> Result<(), Broken> {
        let settings = || self.tunings.iter().map(|tuning| &tuning.settings);
        let flights = settings().map(|settings| settings.pace.in_flight_total).max().unwrap_or(0);
        let early = settings().map(|settings| settings.early_max).max().unwrap_or(0);
        let within =
            kept.window <= self.window && kept.flights <= flights && kept.early <= early && kept.waiting <= asked;
        broken!(
            within,
            "memory has its bounds",
            "{kept:?}; a window of {}, {flights} flights, {early} early",
            self.window
        );
        Ok(())
    }

    /// What there is.
    pub(in crate::simulation) fn count(&self, store: &MemoryStore, at: Moment) -> Result<Counted, Broken> {
        let mut counted = Counted { early: store.snapshot().early.len(), ..Counted::default() };
        for record in store.records().values() {
            let is_out = self.life(&record.identity).is_some_and(|life| self.lives[life].is_out(at.run));
            counted.out += usize::from(is_out);
            let kind = match record.state {
                _ if is_out => StateKind::Revoking,
                _ if record.held => StateKind::Pending,
                State::Pending => StateKind::Pending,
                State::Revoking { .. } => StateKind::Revoking,
                State::Settling { .. } => StateKind::Settling,
                State::Settled { .. } => StateKind::Settled,
            };
            *counted.messages.entry((self.use_case(record)?, kind)).or_default() += 1;
        }
        Ok(counted)
    }

    /// The status agrees with what there was when it was asked for.
    pub(in crate::simulation) fn status(&self, status: &Status, counted: Option<&Counted>) -> Result<(), Broken> {
        let Some(Counted { messages, out, early }) = counted else { return Ok(()) };
        let said: BTreeMap<_, _> =
            status.counts.iter().filter(|(_, n)| **n > 0).map(|(k, n)| (k.clone(), *n)).collect();
        broken!(said == *messages, "the counts are right", "said to be {said:?}, and are {messages:?}");
        broken!(status.in_flight == *out, "the counts are right", "{} said to be out, and {out} are", status.in_flight);
        let waits = status.early_events;
        broken!(waits == *early, "the counts are right", "{waits} early events said to be there, and {early} are");
        let (last, readable) = (status.last_cursor, self.readable);
        broken!(last == readable, "the counts are right", "{last} said to be the last outcome, and {readable} is");
        Ok(())
    }

    /// What is shown of each message is what applies to it. An answer that waited for the disk may not be so any more.
    pub(in crate::simulation) fn shown(&self, word: usize, messages: &[Described], at: Moment) -> Result<(), Broken> {
        if self.words[word].at.round != at.round {
            return Ok(());
        }
        for message in messages.iter().filter(|message| message.record.state == State::Pending) {
            let identity = &message.record.identity;
            let Some(life) = self.life(identity).map(|life| &self.lives[life]) else { continue };
            let (id, shown, deadlines) = (&identity.message_id, message.deadline, life.deadlines());
            let right = deadlines.is_empty() || deadlines.contains(&shown);
            broken!(right, "a reload moves what it concerns", "{id} is shown with {shown}, and has {deadlines:?}");
        }
        Ok(())
    }

    /// At the end every recall has ended, and counts what is on its list.
    pub(in crate::simulation) fn recalls(&self, recalls: &[Recall], store: &MemoryStore) -> Result<(), Broken> {
        for recall in recalls {
            broken!(recall.ended.is_some() && recall.open == 0, "every recall ends", "{recall:?}");
            let listed = store.records().values().filter(|record| record.recall == Some(recall.id));
            let mut outcomes = [0; Outcome::ALL.len()];
            for record in listed {
                if let State::Settled { outcome, .. } = record.state {
                    outcomes[outcome as usize] += 1;
                }
            }
            for (n, listed) in outcomes.into_iter().enumerate() {
                let counted = recall.before[n] + recall.since[n];
                broken!(counted == listed, "the counts are right", "{listed} {:?} of {recall:?}", Outcome::ALL[n]);
            }
        }
        Ok(())
    }

    /// The books agree with what was told.
    pub(in crate::simulation) fn books(&self, books: &Books, at: Moment) -> Result<(), Broken> {
        let first = at.now.wall.minus(BOOKS).plus(Duration::from_secs(3600));
        let told_before = self.log.iter().any(|line| line.entry.at < first);
        if told_before || self.lives.iter().any(|life| life.registered_at < first) {
            return Ok(());
        }
        let sum = |cell| books.use_cases.values().map(|of| of.counts.get(cell)).sum::<u64>();
        for outcome in Outcome::ALL {
            let settled = |line: &&Line| (line.entry.kind, line.entry.outcome) == (EntryKind::Settled, outcome);
            let (booked, told) = (sum(Cell::settled(outcome)), self.log.iter().filter(settled).count() as u64);
            broken!(booked == told, "the counts are right", "{booked} booked as {outcome:?}, and {told} were told");
        }
        let began = self.lives.iter().filter(|life| !life.lost).count() as u64;
        let booked = sum(Cell::REGISTERED);
        broken!(booked == began, "the counts are right", "{booked} booked as registered, and {began} were");
        Ok(())
    }
}
