//! The store on disk.
//!
//! ```text
//!             append
//!               │
//!               ▼  at once
//!   ┌──── young generations ────┐  memory: what was written lately     ◀─ reads ask here first …
//!   ▼ in groups                 ▼ what is still there a generation later
//! journals ◀┄┄┄ covered by ┄┄ runs  disk: in order, merged now and then   ◀─ … and then here, newest first
//! ```
//!
//! *Append* applies a batch to the [`young`](super::young) generations and hands its bytes to the
//! [`writer`](super::writer), which makes them durable in the [`journal`] of the generation. That is all
//! that happens to a message which is delivered soon. What is left of a generation when the one after the next begins is
//! *frozen*: the [`keeper`](super::keeper) makes a [`run`](super::run) of it, and its journal is removed. So the disk holds
//! what is pending and retained, and not what passed.
//!
//! Everything is a pair of [`Key`] and bytes: records at their positions, positions under identities, entries of the
//! outcome log. A pair in a younger place hides the same key in all older ones, and "nothing" is a value that hides, too.
//!
//! # A crash at any instant
//!
//! The journal of a generation begins with the facts of that instant and holds every batch since, each wholly or not at
//! all. Opening takes the runs, the head of the oldest journal that no run covers, applies the journals in order, and has
//! exactly the state after the last durable batch. The steps that could be cut short:
//!
//! | step | cut before it is done | afterwards |
//! | --- | --- | --- |
//! | a generation begins: journal with head, then its batches | the last one goes on to be the newest | the new one is |
//! | a generation is made a run | its journal is replayed, and it is frozen again | the run counts, the journal is removed |
//! | runs are merged | the old ones count | the wider one counts, those within it are removed |
//!
//! What counts changes in one `rename`, of a directory that was made and synced under another name.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::home::{Home, JournalDir, RunDir};
use super::journal::{self, Journal};
use super::keeper::{Ageing, Keeper, Shelf};
use super::key::{IdentityHash, Key, read_position};
use super::logged::{Logged, encode_batch};
use super::merge::Merge;
use super::run::Item;
use super::state::{Facts, State};
use super::tree::Bytes;
use super::writer::{Order, Turn, Writer};
use super::young::{Generation, Walk};
use super::{Change, Cursor, Durability, Entry, Figures, Snapshot, Store, StoreError, SyncWitness, Ticket, codec};
use crate::model::{Identity, LaneId, Place, Position, Queue, Record, Timestamp};
use crate::usage;

/// Batches that may wait for the disk; the engine is expected to refuse long before.
const BACKLOG_MAX: u64 = 65_536;

/// Slots that are looked at with each append, and for each change of it, on their way to a run, and dropped from memory once
/// the run has what is in them: no append waits for all of them, and they go faster than new ones come.
const SLOTS_PER_APPEND: usize = 512;
const SLOTS_PER_CHANGE: usize = 16;
/// And when memory is short: who is refused comes again soon.
const SLOTS_PER_REFUSAL: usize = 65_536;

/// Young generations may outgrow their bound while the disk is slow, but not beyond all measure: then nothing new is taken on …
const YOUNG_EXCESS: usize = 2;
/// … and here nothing more is even to be learnt of what there is.
const YOUNG_LIMIT: usize = 4;

/// How to open a store.
#[derive(Clone, Debug)]
pub struct Options {
    /// Memory for pages of the runs.
    pub cache_bytes: u64,
    /// Memory for the young generations. Also bounds the journals, and so how long opening takes.
    pub young_bytes: usize,
    /// How long a generation lasts at most; what is gone after one or two of them is never written in order.
    pub generation: Duration,
    /// What a ticket promises.
    pub durability: Durability,
    /// Sees what is synced, in what order.
    pub witness: SyncWitness,
    /// Told how far opening has come: bytes that were read, and of how many.
    pub progress: Option<fn(u64, u64)>,
    /// For tests and drills: while it is set, every write fails as on a broken disk.
    pub broken: Arc<AtomicBool>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 256 << 20,
            young_bytes: 96 << 20,
            generation: Duration::from_secs(60),
            durability: Durability::Disk,
            witness: SyncWitness::default(),
            progress: None,
            broken: Arc::default(),
        }
    }
}

/// See the module's documentation.
pub struct SledStore {
    state: State,
    generation: Generation,
    /// Bytes of the current journal.
    written: usize,
    young_bytes: usize,
    /// Generations up to this one are in runs, or on their way.
    frozen: Generation,
    ageing: Option<Settling>,
    /// Where each queue begins: nothing stands before that place. Spares a scan from the front the places that were left.
    fronts: RefCell<HashMap<(LaneId, Queue), Place>>,
    tickets: Ticket,
    home: Arc<Home>,
    // Stopped in this order: what the writer completes may have to be refused by the keeper, not the reverse.
    writer: Writer,
    keeper: Keeper,
}

/// A generation between memory and a run.
struct Settling {
    first: Generation,
    through: Generation,
    stage: Stage,
}

type Frozen = Vec<(Key, Option<Bytes>)>;

enum Stage {
    /// Being taken down.
    Walking(Walk, Frozen),
    /// On its way to disk.
    Ageing(Arc<Frozen>),
    /// A run holds it, and memory has forgotten so many.
    Aged(Arc<Frozen>, usize),
}

/// How far opening has come. Several threads get on with it; what is told never goes backwards.
struct Progress {
    tell: fn(u64, u64),
    done: Mutex<u64>,
    of: u64,
}

impl Progress {
    fn begin(journals: &[JournalDir], runs: &[RunDir], tell: Option<fn(u64, u64)>) -> Self {
        let all = journals.iter().map(|journal| &journal.path).chain(runs.iter().map(|run| &run.path));
        let of = all.map(|path| usage::disk_bytes(path)).sum();
        let progress = Self { tell: tell.unwrap_or(|_, _| ()), done: Mutex::default(), of };
        (progress.tell)(0, of);
        progress
    }

    /// What is in there was read, or can be from now on.
    fn passed(&self, path: &Path) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        *done += usage::disk_bytes(path);
        // Opening may write a little.
        (self.tell)((*done).min(self.of), self.of);
    }
}

impl std::fmt::Debug for SledStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SledStore").field("tickets", &self.tickets).finish_non_exhaustive()
    }
}

impl SledStore {
    /// Opens the store in `dir`, or makes one there.
    ///
    /// `on_durable` is called from the writer's thread: with the last ticket that is durable, which is the one before again
    /// when a disk that failed is well and nothing new was written; and with the error at each try that failed.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process has it, [`StoreError::Newer`] if a newer program wrote it.
    pub fn open(
        dir: &Path,
        options: Options,
        on_durable: impl Fn(Result<Ticket, StoreError>) + Send + 'static,
    ) -> Result<(Self, Snapshot), StoreError> {
        let home = Arc::new(Home::open(dir, options.durability, options.witness)?);
        let (journals, runs) = home.take_stock()?;
        let covered = runs.last().map_or(0, |run| *run.generations.end());
        if covered > 0 && journals.is_empty() {
            return Err(StoreError::Corrupt(format!("{} has runs and no journal", dir.display())));
        }
        let progress = Progress::begin(&journals, &runs, options.progress);
        // Each takes about as long as the other, and whoever starts the daemon waits for both.
        let opened = |run: &Path| progress.passed(run);
        let (recovered, shelf) = std::thread::scope(|scope| {
            let shelf = scope.spawn(|| Shelf::open(home.clone(), runs, options.cache_bytes, opened));
            let recovered = replay(&journals, &progress);
            (recovered, shelf.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let (mut state, shelf) = (recovered?, shelf?);
        let generation = journals.last().map_or(1, |newest| newest.generation + 1);
        state.young.begin(generation);
        let first = Turn { generation, head: state.facts.encode() };
        let journal = Journal::create(&home, generation, 0, &first.head)?;
        let mut store = Self {
            generation,
            written: 0,
            young_bytes: options.young_bytes,
            frozen: covered,
            ageing: None,
            fronts: RefCell::default(),
            tickets: 0,
            writer: Writer::start(home.clone(), journal, first, options.broken, on_durable)?,
            home,
            keeper: Keeper::start(shelf, options.generation)?,
            state,
        };
        store.freeze();
        while store.ageing.as_ref().is_some_and(|ageing| matches!(ageing.stage, Stage::Walking(..))) {
            store.settle(usize::MAX);
        }
        let snapshot = store.state.facts.snapshot();
        Ok((store, snapshot))
    }

    /// Batches that are not durable yet.
    pub fn backlog(&self) -> u64 {
        self.tickets - self.writer.durable()
    }

    /// Makes everything durable that still can be. Dropping the store does the same.
    pub fn close(self) {}

    /// Begins the next generation if this one is old or large enough, and the last one frozen is out of the way.
    fn turn(&mut self) {
        if self.writer.is_failing() || self.ageing.is_some() {
            return;
        }
        // A third each for the generation that grows, the one before it, and the one on its way to a run.
        let large = self.written >= self.young_bytes / 3 || self.state.young.bytes() >= self.young_bytes;
        // What a failing disk can't take now would only be begun.
        let due = large || (self.written > 0 && self.keeper.shelf.take_turn_due());
        if !due {
            return;
        }
        self.generation += 1;
        self.written = 0;
        self.state.young.begin(self.generation);
        let (generation, head) = (self.generation, self.state.facts.encode());
        self.writer.send(Order::Turn(Turn { generation, head }));
        self.freeze();
    }

    /// Begins to freeze all generations before the last.
    fn freeze(&mut self) {
        let (first, through) = (self.frozen + 1, self.generation.saturating_sub(2));
        if first <= through {
            self.frozen = through;
            // Room for all at once: to move half a million of them is no better than to take them down in one go.
            let frozen = Vec::with_capacity(self.state.young.slots());
            self.ageing = Some(Settling { first, through, stage: Stage::Walking(Walk::START, frozen) });
        }
    }

    /// Goes on with the generations that are to become a run, by so many slots.
    fn settle(&mut self, slots: usize) {
        let Some(Settling { first, through, stage }) = self.ageing.take() else { return };
        let stage = match stage {
            Stage::Walking(walk, mut frozen) => match self.state.young.freeze(walk, through, slots, &mut frozen) {
                Walk::Done => self.age(first, through, frozen),
                walk => Stage::Walking(walk, frozen),
            },
            Stage::Ageing(frozen) if self.keeper.aged.try_iter().any(|aged| aged == through) => Stage::Aged(frozen, 0),
            Stage::Ageing(frozen) => Stage::Ageing(frozen),
            Stage::Aged(frozen, done) if done == frozen.len() => {
                // To give back that much memory takes a while, and nobody waits for it.
                // If there is no thread to be had, it goes at once.
                drop(std::thread::Builder::new().spawn(move || drop(frozen)));
                return;
            }
            Stage::Aged(frozen, done) => {
                let some = frozen.iter().skip(done).take(slots);
                let settled = some.map(|(key, _)| self.state.young.settle(*key, through)).count();
                Stage::Aged(frozen, done + settled)
            }
        };
        self.ageing = Some(Settling { first, through, stage });
    }

    /// What is frozen goes to the keeper when everything that was written so far is durable, the head of the next journal
    /// above all.
    fn age(&self, first: Generation, through: Generation, frozen: Frozen) -> Stage {
        let (entries, trimmed) = (Arc::new(frozen), self.state.facts.trimmed);
        let ageing = Ageing { first, through, entries: entries.clone(), trimmed };
        // If the keeper is gone the store is closing, and the journals stay for the next start.
        if let Some(orders) = self.keeper.orders() {
            self.writer.send(Order::Then(Box::new(move || drop(orders.send(ageing)))));
        }
        Stage::Ageing(entries)
    }

    fn get(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        if let Some(young) = self.state.young.get(key) {
            return Ok(young.cloned());
        }
        for run in self.keeper.shelf.runs().iter().rev() {
            if let Some(found) = run.get(key)? {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// What is said of the keys from `start` on, in order. Those that hold nothing are among them: only who asked knows
    /// where to stop, and there may be many of them behind that.
    fn scan(&self, start: Bound<Key>) -> impl Iterator<Item = Item> {
        let young = self.state.young.from(start).map(|(key, value)| Ok((key, value.cloned())));
        let young: Box<dyn Iterator<Item = Item>> = Box::new(young);
        let runs = self.keeper.shelf.runs();
        let runs: Vec<Box<dyn Iterator<Item = Item>>> =
            runs.iter().rev().map(|run| Box::new(run.from(start)) as Box<_>).collect();
        Merge::new(std::iter::once(young).chain(runs))
    }

    /// Keeps [`SledStore::fronts`] true: only a put can bring a place before the front.
    fn apply(&mut self, change: Logged) {
        if let Logged::Put { at, .. } = &change
            && let Some(front) = self.fronts.get_mut().get_mut(&(at.lane, at.queue))
        {
            *front = at.place.min(*front);
        }
        self.state.apply(change);
    }
}

/// What the journals say, one after the other.
fn replay(journals: &[JournalDir], progress: &Progress) -> Result<State, StoreError> {
    let mut recovered = None;
    for journal in journals {
        journal::replay(journal, &mut recovered)?;
        progress.passed(&journal.path);
    }
    Ok(recovered.unwrap_or_else(|| State { facts: Facts::new(random()), ..State::default() }))
}

/// `std` seeds its hash maps from the operating system; a store's name needs no more than that.
pub(super) fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

impl Store for SledStore {
    fn append(&mut self, batch: Vec<Change>) -> Ticket {
        let changes: Vec<Logged> = batch.into_iter().map(Logged::from).collect();
        let (ticket, serial) = (self.tickets + 1, self.state.facts.serial + 1);
        let stream = encode_batch(serial, &changes);
        self.written += stream.len();
        self.writer.send(Order::Batch { ticket, stream });
        (self.tickets, self.state.facts.serial) = (ticket, serial);
        let slots = SLOTS_PER_APPEND + SLOTS_PER_CHANGE * changes.len();
        changes.into_iter().for_each(|change| self.apply(change));
        self.settle(slots);
        self.turn();
        ticket
    }

    fn hurry(&mut self) {
        self.writer.hurry(self.tickets);
    }

    fn writable(&mut self) -> Result<(), StoreError> {
        self.settle(SLOTS_PER_APPEND);
        self.turn();
        if let Some(failure) = self.writer.failure() {
            return Err(failure);
        }
        let short = self.state.young.bytes() >= self.young_bytes.saturating_mul(YOUNG_EXCESS);
        if short {
            self.settle(SLOTS_PER_REFUSAL);
        }
        if short || self.backlog() >= BACKLOG_MAX {
            return Err(StoreError::Io("too much waits for the disk".to_owned()));
        }
        Ok(())
    }

    fn is_overfull(&self) -> bool {
        // What failed to be written is kept in memory twice: as what is known, and as what is to be written.
        self.writer.is_failing() && self.written.max(self.state.young.bytes()) >= self.young_bytes * YOUNG_LIMIT
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
        let front = self.fronts.borrow().get(&(lane, queue)).copied().unwrap_or(lowest);
        let position = |place| Key::Record(Position { lane, queue, place });
        let start = match after {
            Some(after) if after >= front => Bound::Excluded(position(after)),
            _ => Bound::Included(position(front)),
        };
        let mut places = Vec::new();
        let mut all = self.scan(start);
        while places.len() < limit
            && let Some((Key::Record(at), value)) = all.next().transpose()?
            && (at.lane, at.queue) == (lane, queue)
        {
            places.extend(value.map(|_| at.place));
        }
        if limit > 0 && start == Bound::Included(position(front)) {
            let last = Place { order: Timestamp::MAX, seq: u64::MAX };
            self.fronts.borrow_mut().insert((lane, queue), places.first().copied().unwrap_or(last));
        }
        Ok(places)
    }

    fn outcomes(&self, after: Cursor, limit: usize) -> Result<Vec<(Cursor, Entry)>, StoreError> {
        let start = Bound::Excluded(Key::Outcome(after.max(self.state.facts.trimmed)));
        let mut entries = Vec::new();
        let mut all = self.scan(start);
        while entries.len() < limit
            && let Some((Key::Outcome(cursor), value)) = all.next().transpose()?
        {
            if let Some(value) = value {
                entries.push((cursor, codec::decode_entry(&value)?));
            }
        }
        Ok(entries)
    }

    fn figures(&self) -> Figures {
        let frozen = match self.ageing.as_ref().map(|ageing| &ageing.stage) {
            Some(Stage::Walking(_, frozen)) => frozen.capacity(),
            Some(Stage::Ageing(frozen) | Stage::Aged(frozen, _)) => frozen.capacity(),
            None => 0,
        };
        Figures {
            disk_bytes: self.home.disk_bytes(),
            young_bytes: self.state.young.bytes() as u64,
            frozen_bytes: (frozen * size_of::<(Key, Option<Bytes>)>()) as u64,
            backlog: self.backlog(),
            flushes: self.writer.flushes(),
        }
    }
}
