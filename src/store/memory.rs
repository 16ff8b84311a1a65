//! A store in memory: slow to forget, obvious to read. The oracle that the real one is compared with, and the ground of
//! the engine's tests and of the simulation.

use std::collections::{BTreeMap, HashMap};

use super::{Change, Cursor, Entry, Figures, Snapshot, Store, StoreError, Ticket};
use crate::model::{Identity, LaneId, LaneSpec, Place, Position, Queue, Record};

/// See the module's documentation. Everything is durable as soon as it is appended.
#[derive(Clone, Default, Debug)]
pub struct MemoryStore {
    records: BTreeMap<Position, Record>,
    identities: HashMap<Identity, Position>,
    outcomes: BTreeMap<Cursor, Entry>,
    snapshot: Snapshot,
    tickets: Ticket,
}

impl MemoryStore {
    /// What opening it again would give.
    pub fn snapshot(&self) -> Snapshot {
        let mut counts: BTreeMap<(LaneId, Queue), u64> = BTreeMap::new();
        for position in self.records.keys() {
            *counts.entry((position.lane, position.queue)).or_default() += 1;
        }
        Snapshot {
            counts: counts.into_iter().map(|((lane, queue), count)| (lane, queue, count)).collect(),
            next_seq: self.snapshot.next_seq.max(1),
            ..self.snapshot.clone()
        }
    }

    /// Every record, by its position.
    pub fn records(&self) -> &BTreeMap<Position, Record> {
        &self.records
    }

    /// The position that is known of every message.
    pub fn identities(&self) -> &HashMap<Identity, Position> {
        &self.identities
    }

    /// The lanes there are.
    pub fn lanes(&self) -> &[(LaneId, LaneSpec)] {
        &self.snapshot.lanes
    }

    fn apply(&mut self, change: Change) {
        let known = &mut self.snapshot;
        match change {
            Change::Lane(id, spec) => {
                known.lanes.retain(|(known, _)| *known != id);
                known.lanes.push((id, spec));
            }
            Change::Put { from, record } => {
                if let Some(from) = from {
                    self.records.remove(&from);
                }
                known.next_seq = known.next_seq.max(record.seq + 1);
                self.identities.insert(record.identity.clone(), record.position());
                self.records.insert(record.position(), *record);
            }
            Change::Remove { identity, at } => {
                self.records.remove(&at);
                self.identities.remove(&identity);
            }
            Change::Outcome(cursor, entry) => {
                known.last_cursor = known.last_cursor.max(cursor);
                self.outcomes.insert(cursor, *entry);
            }
            Change::ContinueLog { store_id, after } => (known.store_id, known.last_cursor) = (store_id, after),
            Change::TrimOutcomes(cursor) => self.outcomes = self.outcomes.split_off(&(cursor + 1)),
            Change::Acked(agent, cursor) => {
                known.acked.retain(|(other, _)| *other != agent);
                known.acked.push((agent, cursor));
            }
            Change::Fence(lane, queue, place) => {
                known.fences.retain(|(l, q, _)| (*l, *q) != (lane, queue));
                known.fences.extend(place.map(|place| (lane, queue, place)));
            }
            Change::Early(event) => {
                known.early.retain(|other| other.identity != event.identity);
                known.early.push(event);
            }
            Change::Subscription(one) => {
                known.subscriptions.retain(|other| (&other.agent, other.phone) != (&one.agent, one.phone));
                known.subscriptions.push(one);
            }
            Change::SubscriptionGone(agent, phone) => {
                known.subscriptions.retain(|other| (&other.agent, other.phone) != (&agent, phone));
            }
            Change::Booked(hour, use_case, counts) => known.ledger.book(hour, &use_case, counts.iter()),
            Change::Unbooked(before) => known.ledger.forget(before),
            Change::Hold(hold) => {
                known.holds.retain(|other| other.id != hold.id);
                known.next_seq = known.next_seq.max(hold.id + 1);
                known.holds.push(hold);
            }
            Change::HoldGone(id) => known.holds.retain(|hold| hold.id != id),
            Change::Recall(recall) => {
                known.recalls.retain(|other| other.id != recall.id);
                known.next_seq = known.next_seq.max(recall.id + 1);
                known.recalls.push(*recall);
            }
            Change::Reckoning(reckoning) => known.reckoning = Some(reckoning),
            Change::RecallGone(id) => known.recalls.retain(|recall| recall.id != id),
            Change::EarlyGone(identity) => known.early.retain(|event| event.identity != identity),
        }
    }
}

impl Store for MemoryStore {
    fn append(&mut self, batch: Vec<Change>) -> Ticket {
        for change in batch {
            self.apply(change);
        }
        self.tickets += 1;
        self.tickets
    }

    fn writable(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn find(&self, identity: &Identity) -> Result<Option<Record>, StoreError> {
        Ok(self.identities.get(identity).and_then(|position| self.records.get(position)).cloned())
    }

    fn at(&self, position: &Position) -> Result<Option<Record>, StoreError> {
        Ok(self.records.get(position).cloned())
    }

    fn places(&self, lane: LaneId, queue: Queue, after: Option<Place>, limit: usize) -> Result<Vec<Place>, StoreError> {
        let lowest = Place { order: crate::model::Timestamp::EPOCH, seq: 0 };
        let start = Position { lane, queue, place: after.unwrap_or(lowest) };
        Ok(self
            .records
            .range(start..)
            .map(|(position, _)| *position)
            .take_while(|position| (position.lane, position.queue) == (lane, queue))
            .filter(|position| Some(position.place) != after)
            .map(|position| position.place)
            .take(limit)
            .collect())
    }

    fn outcomes(&self, after: Cursor, limit: usize) -> Result<Vec<(Cursor, Entry)>, StoreError> {
        Ok(self.outcomes.range(after + 1..).take(limit).map(|(cursor, entry)| (*cursor, entry.clone())).collect())
    }

    fn figures(&self) -> Figures {
        Figures::default()
    }
}
