//! The store on disk.
//!
//! ```text
//! append ─▶ young generations (memory)      every read asks here first …
//!    │            │ what stays
//!    ▼            ▼
//! journal ◀┄┄┄ covers ┄┄┄▶ runs             … and then here, newest first
//! (disk: durable)          (disk: for long)
//! ```
//!
//! *Append* applies a batch to the [`young`](super::young) generations and hands its bytes to the
//! [`writer`](super::writer), which makes them durable in the [`journal`](super::journal). That is all that happens to a
//! message which is delivered within its generation.
//!
//! # A crash at any instant
//!
//! The journal of a generation begins with the facts of that instant and holds every batch since. Opening takes the oldest
//! journal's head, applies all journals in order, and has exactly the state of the last durable batch; a batch is in the
//! journal wholly or not at all.

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::home::Home;
use super::journal::{self, Journal};
use super::key::{IdentityHash, Key, read_position};
use super::logged::{Logged, encode_batch};
use super::state::{Facts, State};
use super::tree::Bytes;
use super::writer::{Order, Turn, Writer};
use super::{Change, Cursor, Durability, Entry, Snapshot, Store, StoreError, Ticket, codec};
use crate::model::{Identity, LaneId, Place, Position, Queue, Record, Timestamp};

/// Batches that may wait for the disk; the engine is expected to refuse long before.
const BACKLOG_MAX: u64 = 65_536;

/// How to open a store.
#[derive(Clone, Debug)]
pub struct Options {
    /// Memory for pages of the database.
    pub cache_bytes: u64,
    /// What a ticket promises.
    pub durability: Durability,
    /// For tests and drills: while it is set, every write fails as on a broken disk.
    pub broken: Arc<AtomicBool>,
}

impl Default for Options {
    fn default() -> Self {
        Self { cache_bytes: 256 << 20, durability: Durability::Disk, broken: Arc::default() }
    }
}

/// See the module's documentation.
pub struct SledStore {
    state: State,
    writer: Writer,
    tickets: Ticket,
}

impl std::fmt::Debug for SledStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SledStore").field("tickets", &self.tickets).finish_non_exhaustive()
    }
}

impl SledStore {
    /// Opens the store in `dir`, or makes one there. `on_durable` is called from the writer's thread.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process has it, [`StoreError::Newer`] if a newer program wrote it.
    pub fn open(
        dir: &Path,
        options: Options,
        on_durable: impl Fn(Result<Ticket, StoreError>) + Send + 'static,
    ) -> Result<(Self, Snapshot), StoreError> {
        let home = Arc::new(Home::open(dir, options.durability)?);
        let (journals, _) = home.take_stock()?;
        let mut recovered = None;
        for journal in &journals {
            journal::replay(journal, &mut recovered)?;
        }
        let mut state = recovered.unwrap_or_else(|| State { facts: Facts::new(random()), ..State::default() });
        let generation = journals.last().map_or(1, |newest| newest.generation + 1);
        state.young.begin(generation);
        let first = Turn { generation, head: state.facts.encode(), then: None };
        let journal = Journal::create(&home, generation, 0, &first.head)?;
        let writer = Writer::start(home, journal, first, options.broken, on_durable)?;
        let snapshot = state.facts.snapshot();
        Ok((Self { state, writer, tickets: 0 }, snapshot))
    }

    /// Batches that are not durable yet.
    pub fn backlog(&self) -> u64 {
        self.tickets - self.writer.durable()
    }

    /// Makes everything durable that still can be. Dropping the store does the same.
    pub fn close(self) {}

    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        Ok(self.state.young.get(key).flatten().cloned())
    }

    fn scan(&self, start: Bound<Key>) -> impl Iterator<Item = Result<(Key, Bytes), StoreError>> {
        self.state.young.from(start).filter_map(|(key, value)| Some(Ok((key, value?.clone()))))
    }
}

/// `std` seeds its hash maps from the operating system; a store's name needs no more than that.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

impl Store for SledStore {
    fn append(&mut self, batch: Vec<Change>) -> Ticket {
        let changes: Vec<Logged> = batch.into_iter().map(Logged::from).collect();
        let (ticket, serial) = (self.tickets + 1, self.state.facts.serial + 1);
        let _ = self.writer.send(Order::Batch { ticket, stream: encode_batch(serial, &changes) });
        (self.tickets, self.state.facts.serial) = (ticket, serial);
        changes.into_iter().for_each(|change| self.state.apply(change));
        ticket
    }

    fn writable(&self) -> Result<(), StoreError> {
        if self.writer.is_failing() {
            return Err(StoreError::Io("the last write failed and is being tried again".to_owned()));
        }
        if self.backlog() >= BACKLOG_MAX {
            return Err(StoreError::Io(format!("{BACKLOG_MAX} batches wait for the disk")));
        }
        Ok(())
    }

    fn find(&self, identity: &Identity) -> Result<Option<Record>, StoreError> {
        let Some(value) = self.get(&Key::Identity(IdentityHash::of(identity)))? else { return Ok(None) };
        let record = self.at(&read_position(codec::body(&value)?)?)?;
        Ok(record.filter(|record| record.identity == *identity))
    }

    fn at(&self, position: &Position) -> Result<Option<Record>, StoreError> {
        let bytes = self.get(&Key::Record(*position))?;
        bytes.map(|bytes| codec::decode_record(position, &self.state.facts.lanes, &bytes)).transpose()
    }

    fn places(&self, lane: LaneId, queue: Queue, after: Option<Place>, limit: usize) -> Result<Vec<Place>, StoreError> {
        let lowest = Place { order: Timestamp::EPOCH, seq: 0 };
        let position = |place| Key::Record(Position { lane, queue, place });
        let start = after.map_or(Bound::Included(position(lowest)), |after| Bound::Excluded(position(after)));
        let mut places = Vec::new();
        for item in self.scan(start) {
            match item?.0 {
                Key::Record(at) if (at.lane, at.queue) == (lane, queue) && places.len() < limit => {
                    places.push(at.place)
                }
                _ => break,
            }
        }
        Ok(places)
    }

    fn outcomes(&self, after: Cursor, limit: usize) -> Result<Vec<(Cursor, Entry)>, StoreError> {
        let start = Bound::Excluded(Key::Outcome(after.max(self.state.facts.trimmed)));
        let mut entries = Vec::new();
        for item in self.scan(start).take(limit) {
            if let (Key::Outcome(cursor), value) = item? {
                entries.push((cursor, codec::decode_entry(&value)?));
            }
        }
        Ok(entries)
    }
}
