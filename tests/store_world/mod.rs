//! A small world for the store's tests: messages that live as the engine would have them live, from random numbers alone.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![allow(dead_code, reason = "each test file uses its own part of it")]
#![allow(unreachable_pub, reason = "this is a module of several tests, not a crate")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use revoked::model::ledger::{Cell, Hour};
use revoked::model::{
    AgentId, Attempts, Belief, Call, Grant, GrantState, Hold, Identity, LaneId, LaneSpec, MessageId, Note, Outcome,
    Phone, Place, Position, Queue, Recall, Record, Region, Seen, Selector, State, Subscription, Timestamp, TrafficType,
    UseCase, What,
};
use revoked::store::{
    Change, EarlyEvent, EarlyKind, Entry, EntryKind, SledStore, Snapshot, Store, StoreError, StoreOptions as Options,
    Ticket,
};

pub const LANES: u32 = 3;

/// Opens a store and gives what it says to be durable as a channel.
pub fn open(dir: &Path, options: Options) -> (SledStore, Snapshot, Receiver<Result<Ticket, StoreError>>) {
    let (sender, durable) = channel();
    let (store, snapshot) = SledStore::open(dir, options, move |ticket| drop(sender.send(ticket))).unwrap();
    (store, snapshot, durable)
}

/// Waits until a ticket is durable.
pub fn wait_for(durable: &Receiver<Result<Ticket, StoreError>>, ticket: Ticket) {
    while durable.recv_timeout(Duration::from_secs(60)).unwrap().unwrap() < ticket {}
}

/// A generator of what the engine might do next.
pub struct World {
    random: fastrand::Rng,
    pub live: BTreeMap<u64, Record>,
    pub identities: Vec<Identity>,
    pub next_seq: u64,
    cursor: u64,
    trimmed: u64,
    early: Vec<Identity>,
    pub now: i64,
}

pub fn lane(id: u32) -> (LaneId, LaneSpec) {
    let spec = LaneSpec {
        use_case: UseCase::new(&format!("case-{id}")).unwrap(),
        agent: AgentId::new(&format!("agent-{id}")).unwrap(),
        region: Region::ALL[id as usize % 4],
        traffic_type: TrafficType::ALL[id as usize % 5],
        pinned: None,
    };
    (LaneId(id), spec)
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            live: BTreeMap::new(),
            identities: Vec::new(),
            next_seq: 1,
            cursor: 0,
            trimmed: 0,
            early: Vec::new(),
            now: 1_790_000_000_000,
        }
    }

    /// The changes that a new store begins with.
    pub fn lanes() -> Vec<Change> {
        (0..LANES).map(lane).map(|(id, spec)| Change::Lane(id, spec)).collect()
    }

    pub fn batch(&mut self, changes: usize) -> Vec<Change> {
        (0..changes).filter_map(|_| self.change()).collect()
    }

    fn change(&mut self) -> Option<Change> {
        self.now += self.random.i64(0..50);
        match self.random.u32(0..100) {
            0..38 => Some(self.register()),
            38 => {
                let (agent, phone) =
                    (lane(self.random.u32(0..LANES)).1.agent, Phone::from_digits(self.random.u64(1..20)));
                let (ended, said, heard) = (self.random.bool(), self.instant(), self.instant());
                Some(match self.random.u8(0..4) {
                    0 => Change::SubscriptionGone(agent, phone),
                    _ => Change::Subscription(Subscription { agent, phone, ended, said, heard }),
                })
            }
            39 => {
                let hour = Hour(self.random.u32(0..20));
                if self.random.u8(0..4) == 0 {
                    return Some(Change::Unbooked(hour));
                }
                let use_case = lane(self.random.u32(0..LANES)).1.use_case;
                let counts = (0..3).map(|_| (Cell(self.random.u16(..)), self.random.i64(-3..9))).collect();
                Some(Change::Booked(hour, use_case, counts))
            }
            40..65 => self.step(),
            65..85 => self.remove(),
            85..91 => Some(self.outcome()),
            91..93 => {
                self.trimmed = self.random.u64(self.trimmed..=self.cursor);
                Some(Change::TrimOutcomes(self.trimmed))
            }
            93..95 => Some(Change::Acked(lane(self.random.u32(0..LANES)).1.agent, self.random.u64(0..=self.cursor))),
            95..97 => {
                let place = Place { order: self.instant(), seq: self.random.u64(..) };
                let queue = Queue::ATTEMPTS[self.random.usize(0..3)];
                Some(Change::Fence(LaneId(self.random.u32(0..LANES)), queue, self.random.bool().then_some(place)))
            }
            97 => {
                let identity = self.identity(LaneId(0));
                self.early.push(identity.clone());
                let kind = [EarlyKind::TtlRevoked, EarlyKind::Read, EarlyKind::Delivered][self.random.usize(0..3)];
                Some(Change::Early(EarlyEvent { identity, phone: self.phone(), at: self.instant(), kind }))
            }
            99 => {
                let (id, released) = (self.random.u64(1..9), self.random.bool());
                let of = Selector {
                    use_case: self.random.bool().then(|| lane(0).1.use_case),
                    agent: self.random.bool().then(|| lane(1).1.agent),
                    tag: self.random.bool().then(|| "tag-1".into()),
                };
                let (since, reason) = (self.instant(), self.random.bool().then(|| "too early".into()));
                let hold = Hold { id, of, reason, since, released: released.then(|| self.instant()) };
                Some(match self.random.u8(0..6) {
                    0 => Change::HoldGone(id),
                    1 => Change::RecallGone(id),
                    2..4 => {
                        let mut recall = Recall::new(id, hold.of, hold.reason, hold.since);
                        (recall.open, recall.since[1], recall.ended) = (7, 12, hold.released);
                        recall.looked_to = self.live.values().next().map(Record::position);
                        Change::Recall(Box::new(recall))
                    }
                    _ => Change::Hold(hold),
                })
            }
            _ => self.random.choice(self.early.clone()).map(Change::EarlyGone),
        }
    }

    pub fn register(&mut self) -> Change {
        let (lane, seq) = (LaneId(self.random.u32(0..LANES)), self.next_seq);
        self.next_seq += 1;
        let record = Record {
            identity: self.identity(lane),
            lane,
            seq,
            phone: self.phone(),
            tags: (0..self.random.usize(0..3)).map(|n| format!("tag-{n}").into()).collect(),
            time_zone: self.random.bool().then(|| "Asia/Tokyo".into()),
            fallback: self
                .random
                .bool()
                .then(|| "{\"text\":\"your code is 1234\"}".repeat(self.random.usize(1..9)).into()),
            registered_at: Timestamp::from_millis(self.now),
            send_time: self.instant(),
            deadline: (self.random.u8(0..4) == 0).then(|| self.instant()),
            state: State::Pending,
            held: false,
            recall: None,
            attempts: Attempts::default(),
            seen: Seen::default(),
            grant: None,
            trail: vec![Note { at: Timestamp::from_millis(self.now), what: What::Registered, detail: None }],
        };
        self.identities.push(record.identity.clone());
        self.live.insert(seq, record.clone());
        Change::Put { from: None, record: Box::new(record) }
    }

    fn step(&mut self) -> Option<Change> {
        let seq = *self.random.choice(self.live.keys())?;
        let (at, other) = (self.instant(), self.instant());
        let record = self.live.get_mut(&seq)?;
        let from = record.position();
        record.held = self.random.bool();
        record.recall = self.random.bool().then_some(7);
        match self.random.u8(0..6) {
            0 => record.state = State::Pending,
            1 => record.state = State::Revoking { next: at, in_flight: false },
            2 => record.state = State::Settling { belief: Belief::ProbablyDelivered, until: at },
            3 => record.state = State::Settled { outcome: Outcome::ALL[self.random.usize(0..6)], at },
            4 => record.seen.delivered = true,
            _ => record.deadline = Some(at),
        }
        record.attempts.count += 1;
        record.attempts.lateness = Some(Duration::from_millis(self.random.u64(0..9_999)));
        record.attempts.unknown = self.random.bool();
        let state = [GrantState::Held, GrantState::Offered][self.random.usize(0..2)];
        let call = self.random.bool().then_some(Call { next: other, tries: 1 });
        record.grant = Some(Grant { state, cursor: self.cursor, until: other, call });
        record.note(at, What::ALL[self.random.usize(0..12)], self.random.bool().then(|| "503".to_owned()));
        Some(Change::Put { from: Some(from), record: Box::new(record.clone()) })
    }

    pub fn remove(&mut self) -> Option<Change> {
        let seq = *self.random.choice(self.live.keys())?;
        let record = self.live.remove(&seq)?;
        Some(Change::Remove { at: record.position(), identity: record.identity })
    }

    fn outcome(&mut self) -> Change {
        self.cursor += 1;
        let (lane, spec) = lane(self.random.u32(0..LANES));
        let entry = Entry {
            kind: [EntryKind::Settled, EntryKind::Amended, EntryKind::Granted][self.random.usize(0..3)],
            at: self.instant(),
            identity: self.identity(lane),
            phone: self.phone(),
            use_case: spec.use_case,
            outcome: Outcome::ALL[self.random.usize(0..6)],
            send_time: self.instant(),
            deadline: self.instant(),
            lateness: self.random.bool().then(|| Duration::from_millis(self.random.u64(0..99))),
            grant: self.random.bool().then_some(Grant {
                state: GrantState::Offered,
                cursor: 7,
                until: Timestamp::MAX,
                call: None,
            }),
            grant_id: self.random.bool().then(|| "00ff-17".into()),
            fallback: self.random.bool().then(|| "{}".into()),
            tags: vec!["blue".into()],
            detail: self.random.bool().then(|| "no such agent".into()),
        };
        Change::Outcome(self.cursor, Box::new(entry))
    }

    fn identity(&mut self, lane: LaneId) -> Identity {
        let message_id = format!("{:016x}-{:016x}", self.random.u64(..), self.random.u64(..));
        Identity { agent: self::lane(lane.0).1.agent, message_id: MessageId::new(&message_id).unwrap() }
    }

    fn phone(&mut self) -> Phone {
        Phone::from_digits(self.random.u64(12_220_000_000..12_229_999_999))
    }

    fn instant(&mut self) -> Timestamp {
        Timestamp::from_millis(self.now + self.random.i64(-500..500))
    }

    pub fn number(&mut self, below: usize) -> usize {
        self.random.usize(0..below)
    }
}

/// Every queue there may be.
pub fn queues() -> impl Iterator<Item = (LaneId, Queue)> {
    (0..LANES).flat_map(|lane| Queue::ALL.map(|queue| (LaneId(lane), queue)))
}

/// All records of a store, by walking its queues; checks that each is found by its identity as well.
pub fn all_records(store: &impl Store) -> BTreeMap<u64, Record> {
    let mut records = BTreeMap::new();
    for (lane, queue) in queues() {
        let mut after = None;
        loop {
            let places = store.places(lane, queue, after, 100).unwrap();
            let Some(last) = places.last() else { break };
            after = Some(*last);
            for place in places {
                let record = store.at(&Position { lane, queue, place }).unwrap().expect("a place holds a record");
                assert_eq!(record.position(), Position { lane, queue, place });
                assert_eq!(store.find(&record.identity).unwrap().as_ref(), Some(&record), "index and record disagree");
                assert!(records.insert(place.seq, record).is_none(), "a record stands twice");
            }
        }
    }
    records
}

/// Batches vary between one change and more than a page of the journal.
pub fn next(world: &mut World) -> Vec<Change> {
    let changes = [1, 3, 40, 200][world.number(4)];
    world.batch(changes)
}

/// A world and a count of batches, after `batches` of them.
pub fn world_after(batches: u64) -> World {
    let mut world = World::new(42);
    for _ in 1..batches {
        next(&mut world);
    }
    world
}

/// The batches that a store holds: each writes its number into the acknowledgement of an agent of its own.
pub fn batches(snapshot: &Snapshot) -> u64 {
    let counter = counter();
    snapshot.acked.iter().find(|(agent, _)| *agent == counter).map_or(0, |(_, batches)| *batches)
}

pub fn counter() -> AgentId {
    AgentId::new("counter").unwrap()
}
