//! What the store knows without asking the disk: the young generations and the few facts that do not grow with messages.
//!
//! All of it is a function of the changes in their order. So it is rebuilt by starting from the *head* of the oldest
//! journal, which is a copy of the facts as they were when that journal began, and applying the changes that follow.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use super::codec::corrupt;
use super::key::{Key, position_bytes};
use super::logged::{Logged, StoredChange, read_queue};
use super::tree::Bytes;
use super::young::Young;
use super::{Cursor, EarlyEvent, Reckoning, Snapshot, StoreError, codec};
use crate::model::ledger::Ledger;
use crate::model::{AgentId, Hold, Identity, LaneId, LaneSpec, Phone, Place, Position, Queue, Recall, Subscription};

/// The facts that do not grow with messages. A [`Snapshot`], ready to be changed.
#[derive(Clone, Default, Debug)]
pub(super) struct Facts {
    pub(super) store_id: u64,
    /// The number of the last batch ever appended; goes on across restarts, unlike tickets.
    pub(super) serial: u64,
    pub(super) next_seq: u64,
    pub(super) last_cursor: Cursor,
    /// Entries of the outcome log up to this one are gone, whatever the runs still hold.
    pub(super) trimmed: Cursor,
    pub(super) lanes: BTreeMap<LaneId, LaneSpec>,
    fences: BTreeMap<(LaneId, Queue), Place>,
    acked: BTreeMap<AgentId, Cursor>,
    early: BTreeMap<Identity, EarlyEvent>,
    subscriptions: BTreeMap<(AgentId, Phone), Subscription>,
    holds: BTreeMap<u64, Hold>,
    recalls: BTreeMap<u64, Box<Recall>>,
    counts: BTreeMap<(LaneId, Queue), u64>,
    ledger: Ledger,
    reckoning: Option<Reckoning>,
}

/// [`Facts`] as they stand at the head of a journal.
#[derive(Encode, Decode)]
#[cbor(map)]
struct StoredHead<'a> {
    #[n(0)]
    store_id: u64,
    #[n(1)]
    serial: u64,
    #[n(2)]
    next_seq: u64,
    #[n(3)]
    last_cursor: u64,
    #[n(4)]
    trimmed: u64,
    #[n(5)]
    counts: Vec<(u32, u8, u64)>,
    /// Lanes, fences, acknowledgements, early events, subscriptions, holds, recalls, the time and the books, as the changes that
    /// make them.
    #[b(6)]
    others: Vec<StoredChange<'a>>,
}

impl Facts {
    /// Those of a store that was just made.
    pub(super) fn new(store_id: u64) -> Self {
        Self { store_id, next_seq: 1, ..Self::default() }
    }

    /// As the contract wants them.
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            store_id: self.store_id,
            lanes: self.lanes.iter().map(|(id, spec)| (*id, spec.clone())).collect(),
            fences: self.fences.iter().map(|((lane, queue), place)| (*lane, *queue, *place)).collect(),
            next_seq: self.next_seq,
            last_cursor: self.last_cursor,
            acked: self.acked.iter().map(|(agent, cursor)| (agent.clone(), *cursor)).collect(),
            early: self.early.values().cloned().collect(),
            subscriptions: self.subscriptions.values().cloned().collect(),
            holds: self.holds.values().cloned().collect(),
            recalls: self.recalls.values().map(|recall| Recall::clone(recall)).collect(),
            counts: self.counts.iter().map(|((lane, queue), count)| (*lane, *queue, *count)).collect(),
            ledger: self.ledger.clone(),
            reckoning: self.reckoning.clone(),
        }
    }

    /// The bytes of a head.
    pub(super) fn encode(&self) -> Vec<u8> {
        let lanes = self.lanes.iter().map(|(id, spec)| Logged::Lane(*id, spec.clone()));
        let fences = self.fences.iter().map(|((lane, queue), place)| Logged::Fence(*lane, *queue, Some(*place)));
        let acked = self.acked.iter().map(|(agent, cursor)| Logged::Acked(agent.clone(), *cursor));
        let early = self.early.values().cloned().map(Logged::Early);
        let subscriptions = self.subscriptions.values().cloned().map(Logged::Subscription);
        let told = early.chain(subscriptions);
        let books = self.ledger.pages().map(|(hour, of, page)| Logged::Booked(hour, of.clone(), page.clone()));
        let holds = self.holds.values().cloned().map(Logged::Hold);
        let recalls = self.recalls.values().cloned().map(Logged::Recall);
        let rules = holds.chain(recalls).chain(self.reckoning.clone().map(Logged::Reckoning));
        let others: Vec<_> = lanes.chain(fences).chain(acked).chain(told).chain(rules).chain(books).collect();
        let head = StoredHead {
            store_id: self.store_id,
            serial: self.serial,
            next_seq: self.next_seq,
            last_cursor: self.last_cursor,
            trimmed: self.trimmed,
            counts: self.counts.iter().map(|((lane, queue), count)| (lane.0, *queue as u8, *count)).collect(),
            others: others.iter().map(Logged::stored).collect(),
        };
        minicbor::to_vec(head).expect("a Vec takes every write")
    }

    /// Reads what [`Facts::encode`] wrote, at the front of a stream.
    pub(super) fn decode(stream: &mut minicbor::Decoder<'_>) -> Result<Self, StoreError> {
        let head: StoredHead<'_> = stream.decode().map_err(corrupt)?;
        let mut facts = Self::new(head.store_id);
        for other in head.others {
            facts.apply(&other.try_into()?);
        }
        for (lane, queue, count) in head.counts {
            facts.counts.insert((LaneId(lane), read_queue(queue)?), count);
        }
        Ok(Self {
            serial: head.serial,
            next_seq: head.next_seq,
            last_cursor: head.last_cursor,
            trimmed: head.trimmed,
            ..facts
        })
    }

    fn apply(&mut self, change: &Logged) {
        match change {
            Logged::Lane(id, spec) => drop(self.lanes.insert(*id, spec.clone())),
            Logged::Put { from, at, .. } => {
                self.next_seq = self.next_seq.max(at.place.seq.saturating_add(1));
                if let Some(from) = from {
                    self.left(from);
                }
                *self.counts.entry((at.lane, at.queue)).or_default() += 1;
            }
            Logged::Remove { at, .. } => self.left(at),
            Logged::Outcome(cursor, _) => self.last_cursor = self.last_cursor.max(*cursor),
            Logged::ContinueLog(store_id, after) => {
                (self.store_id, self.last_cursor, self.trimmed) = (*store_id, *after, *after);
            }
            Logged::TrimOutcomes(cursor) => self.trimmed = self.trimmed.max(*cursor),
            Logged::Acked(agent, cursor) => drop(self.acked.insert(agent.clone(), *cursor)),
            Logged::Fence(lane, queue, Some(place)) => drop(self.fences.insert((*lane, *queue), *place)),
            Logged::Fence(lane, queue, None) => drop(self.fences.remove(&(*lane, *queue))),
            Logged::Early(event) => drop(self.early.insert(event.identity.clone(), event.clone())),
            Logged::EarlyGone(identity) => drop(self.early.remove(identity)),
            Logged::Subscription(one) => drop(self.subscriptions.insert((one.agent.clone(), one.phone), one.clone())),
            Logged::SubscriptionGone(agent, phone) => drop(self.subscriptions.remove(&(agent.clone(), *phone))),
            Logged::Booked(hour, use_case, counts) => self.ledger.book(*hour, use_case, counts.iter()),
            Logged::Unbooked(before) => self.ledger.forget(*before),
            Logged::Hold(hold) => {
                self.next_seq = self.next_seq.max(hold.id.saturating_add(1));
                self.holds.insert(hold.id, hold.clone());
            }
            Logged::HoldGone(id) => drop(self.holds.remove(id)),
            Logged::Recall(recall) => {
                self.next_seq = self.next_seq.max(recall.id.saturating_add(1));
                self.recalls.insert(recall.id, recall.clone());
            }
            Logged::RecallGone(id) => drop(self.recalls.remove(id)),
            Logged::Reckoning(reckoning) => self.reckoning = Some(reckoning.clone()),
        }
    }

    fn left(&mut self, position: &Position) {
        let queue = (position.lane, position.queue);
        let count = self.counts.get(&queue).map_or(0, |count| count.saturating_sub(1));
        if count == 0 {
            self.counts.remove(&queue);
        } else {
            self.counts.insert(queue, count);
        }
    }
}

/// See the module's documentation.
#[derive(Default, Debug)]
pub(super) struct State {
    pub(super) facts: Facts,
    pub(super) young: Young,
}

impl State {
    /// Applies one change, new or recovered.
    pub(super) fn apply(&mut self, change: Logged) {
        let Self { facts, young } = self;
        facts.apply(&change);
        match change {
            Logged::Put { from, at, hash, record } => {
                let identity = Key::Identity(hash);
                // A message that is new to the runs has no position there either. Of one that came from elsewhere the
                // runs may hold any position, even this one from earlier, and this journal need not tell that it left.
                let below = young.below(&identity).unwrap_or(from.is_some());
                if let Some(from) = from.filter(|from| *from != at) {
                    young.delete(Key::Record(from));
                }
                young.put(Key::Record(at), record, below);
                young.put(identity, position_value(&at), below);
            }
            Logged::Remove { at, hash } => {
                young.delete(Key::Record(at));
                young.delete(Key::Identity(hash));
            }
            Logged::Outcome(cursor, entry) => young.put(Key::Outcome(cursor), entry, false),
            // What the runs hold of them is hidden by the mark, and left out when they are merged.
            Logged::TrimOutcomes(cursor) => young.trim_outcomes(cursor),
            Logged::Lane(..) | Logged::ContinueLog(..) | Logged::Acked(..) | Logged::Fence(..) | Logged::Booked(..) => {
            }
            Logged::Early(_) | Logged::EarlyGone(_) | Logged::Hold(_) | Logged::HoldGone(_) | Logged::Unbooked(_) => {}
            Logged::Recall(_) | Logged::RecallGone(_) | Logged::Reckoning(_) => {}
            Logged::Subscription(_) | Logged::SubscriptionGone(..) => {}
        }
    }
}

/// The value under an identity.
fn position_value(position: &Position) -> Bytes {
    let mut value = [codec::VERSION; 1 + super::key::POSITION_BYTES];
    value[1..].copy_from_slice(&position_bytes(position));
    Bytes::from(&value)
}
