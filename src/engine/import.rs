//! Taking over what another store held, line by line; what is here already is passed over, so that it can be done again.
//!
//! Messages get a new `seq` and keep everything else. The outcome log is taken over as it is, cursors and all, so that each
//! agent reads on from where it was: into a store that has no outcomes yet, which from then on continues that log. Into a
//! store that has a log of its own come only messages of which nothing was told: two sequences of cursors can't be one, and
//! an acknowledgement in the one says nothing about the other.

use super::core::{Batch, Core};
use super::evidence;
use super::export::{ExportItem, LogSpan};
use super::handle::{Command, Handle};
use super::replies::{EvidenceEffect, Refusal};
use crate::model::{Attempts, Event, LaneSpec, Missed, Record, State, Timestamp};
use crate::store::{Change, Cursor, Entry, Store};

/// What became of one line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Imported {
    /// It is here now.
    New,
    /// It was here before.
    Known,
}

impl<S: Store> Core<S> {
    /// Takes over what it can, each on its own. `log` is the one the items come from.
    pub(super) fn import(
        &mut self,
        log: LogSpan,
        items: Vec<ExportItem>,
        now: Timestamp,
    ) -> Vec<Result<Imported, Refusal>> {
        let mut batch = Batch::default();
        if self.last_cursor == 0 && self.acked.is_empty() && log.last > 0 {
            batch.changes.push(Change::ContinueLog { store_id: log.store_id, after: log.after });
            (self.store_id, self.last_cursor) = (log.store_id, log.after);
        }
        let same_log = self.store_id == log.store_id;
        let mut results = Vec::with_capacity(items.len());
        for item in items {
            let told = match &item {
                ExportItem::Message(record, _) => record.grant.is_some(),
                ExportItem::Outcome(..) | ExportItem::Acked(..) => true,
                ExportItem::Early(_) | ExportItem::Subscription(_) => false,
            };
            if told && !same_log {
                results.push(Err(foreign_log()));
                continue;
            }
            results.push(match item {
                ExportItem::Outcome(cursor, entry) => self.import_outcome(cursor, entry, &mut batch),
                ExportItem::Acked(agent, cursor) if cursor > self.last_cursor => Err(Refusal::invalid(
                    "cursor",
                    format!("{agent} took note of outcomes up to {cursor}, and they are not here: import them first"),
                )),
                ExportItem::Acked(agent, cursor) => {
                    let acked = self.acked.entry(agent.clone()).or_default();
                    if cursor > *acked {
                        *acked = cursor;
                        batch.changes.push(Change::Acked(agent, cursor));
                        Ok(Imported::New)
                    } else {
                        Ok(Imported::Known)
                    }
                }
                ExportItem::Early(event) => {
                    self.commit(std::mem::take(&mut batch));
                    let effects = self.learn(vec![evidence::of_early(event)], now);
                    effects.map(|effects| match effects[..] {
                        [EvidenceEffect::Duplicate] => Imported::Known,
                        _ => Imported::New,
                    })
                }
                ExportItem::Subscription(subscription) => {
                    self.commit(std::mem::take(&mut batch));
                    Ok(match self.hear(subscription) {
                        EvidenceEffect::Duplicate => Imported::Known,
                        _ => Imported::New,
                    })
                }
                ExportItem::Message(record, spec) => {
                    if batch.touches(&record.identity) {
                        self.commit(std::mem::take(&mut batch));
                    }
                    self.import_message(*record, &spec, now, &mut batch)
                }
            });
        }
        self.commit(batch);
        results
    }

    fn import_outcome(&mut self, cursor: Cursor, entry: Box<Entry>, batch: &mut Batch) -> Result<Imported, Refusal> {
        if cursor > self.last_cursor {
            self.last_cursor = cursor;
            batch.changes.push(Change::Outcome(cursor, entry));
            return Ok(Imported::New);
        }
        // What is in the batch can't be read yet, and cursors only grow: this one is not in it, or its line came twice.
        let here = self.store.outcomes(cursor.saturating_sub(1), 1);
        let here = here.map_err(|error| Refusal::unavailable(error.to_string()))?;
        let other = |here: &Entry| (&here.identity, here.kind, here.at) != (&entry.identity, entry.kind, entry.at);
        match here.first() {
            Some((at, here)) if *at == cursor && other(here) => Err(Refusal::conflict(format!(
                "outcome {cursor} of this store is another one: both stores went on since they were one; \
                 import into a new store"
            ))),
            Some((at, _)) if *at > cursor && self.is_behind_the_first(cursor)? => {
                // Its line was refused when those after it were taken.
                batch.changes.push(Change::Outcome(cursor, entry));
                Ok(Imported::New)
            }
            // Or it was here, and is trimmed by now.
            _ => Ok(Imported::Known),
        }
    }

    fn is_behind_the_first(&self, cursor: Cursor) -> Result<bool, Refusal> {
        let first = self.store.outcomes(0, 1).map_err(|error| Refusal::unavailable(error.to_string()))?;
        Ok(first.first().is_some_and(|(first, _)| *first < cursor))
    }

    fn import_message(
        &mut self,
        mut record: Record,
        spec: &LaneSpec,
        now: Timestamp,
        batch: &mut Batch,
    ) -> Result<Imported, Refusal> {
        let Some(policy) = self.policies.get(&spec.use_case).cloned() else {
            let name = &spec.use_case;
            return Err(Refusal::invalid(
                "useCase",
                format!(
                    "no use case {name:?} is configured: add [use_cases.{name}] (with retired = true if it takes no \
                     new messages), reload, and import again"
                ),
            ));
        };
        let known = self.load(&record.identity).map_err(|error| Refusal::unavailable(error.to_string()))?;
        if let Some((known, _)) = known {
            return if known.phone == record.phone {
                Ok(Imported::Known)
            } else {
                Err(Refusal::conflict("this message is registered for another handset: message ids are per agent"))
            };
        }
        if record.grant.is_some_and(|grant| grant.cursor > self.last_cursor) {
            return Err(Refusal::invalid("grant", "the outcome that told of it is not here: import that first"));
        }
        self.has_room_for(spec)?;
        let Some(lane) = self.lane(spec, batch) else { unreachable!("its use case has a policy: it was just asked") };
        (record.lane, record.seq) = (lane, self.new_seq());
        self.stand(None, &record, batch);
        self.apply_early(&mut record, now, batch);
        let overdue = record.state == State::Pending && record.deadline(&policy) <= now;
        let waits = self.hold_on(&record).is_some();
        if overdue && !waits && policy.missed == Missed::Moot && record.attempts == Attempts::default() {
            // Nobody watched while it was on its way here.
            let at = record.position();
            self.advance(&mut record, at, Event::Due { maybe_attempted: false, moot: true }, now, batch);
        }
        Ok(Imported::New)
    }
}

fn foreign_log() -> Refusal {
    Refusal::conflict(
        "this store has outcomes of its own, and cursors and grants of another one mean nothing to them: \
         import into a new store, before its agents use it",
    )
}

impl Handle {
    /// Takes over what another store held; each item has its own answer, in order.
    ///
    /// # Errors
    /// If none could be looked at: the daemon stops, or its disk fails.
    pub async fn import(
        &self,
        log: LogSpan,
        items: Vec<ExportItem>,
    ) -> Result<Vec<Result<Imported, Refusal>>, Refusal> {
        self.ask(|reply| Command::Import(log, items, reply)).await
    }
}
