//! A store on a disk that can be slow, full, unreadable, or cut off in the middle.
//!
//! Two stores in memory: what the daemon sees, and what was flushed. A crash throws away the first, but for as many of the
//! batches under way as chance lets reach the disk, in their order. It also sees to it that the daemon keeps its side of the
//! store's contract: what is moved or removed has to stand where the daemon says.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::{Broken, Plant, broken};
use crate::model::{Identity, LaneId, Place, Position, Queue, Record};
use crate::store::memory::MemoryStore;
use crate::store::{Change, Cursor, Entry, Figures, Snapshot, Store, StoreError, Ticket};

/// Batches that may wait while the disk fails, before all stands still.
const OVERFULL: usize = 40;

/// One change that the daemon has just made, and what stood there before.
pub(super) struct Seen {
    pub change: Change,
    pub before: Option<Record>,
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Disk {
    /// What the daemon sees.
    pub live: MemoryStore,
    flushed: MemoryStore,
    unflushed: VecDeque<(Ticket, Vec<Change>)>,
    tickets: Ticket,
    /// Writes fail.
    pub fails: bool,
    /// Reads fail.
    pub unreadable: bool,
    /// What was appended since somebody last looked.
    pub seen: Vec<Seen>,
    /// The first thing that was wrong with it.
    pub wrong: Option<Broken>,
    plant: Option<Plant>,
}

impl Disk {
    pub(super) fn new(plant: Option<Plant>) -> Self {
        Self { plant, ..Self::default() }
    }

    /// Writes everything that waits up to this ticket.
    pub(super) fn flush(&mut self, through: Ticket) {
        while self.unflushed.front().is_some_and(|(ticket, _)| *ticket <= through) {
            let Some((ticket, batch)) = self.unflushed.pop_front() else { return };
            if self.plant == Some(Plant::ForgottenBatch) && ticket.is_multiple_of(7) {
                continue;
            }
            self.flushed.append(batch);
        }
    }

    /// The last batch there is.
    pub(super) fn last(&self) -> Ticket {
        self.tickets
    }

    /// Batches that are not on disk.
    pub(super) fn waiting(&self) -> usize {
        self.unflushed.len()
    }

    /// The power is gone; the first `survive` of the batches under way made it.
    pub(super) fn crash(&mut self, survive: usize) {
        let last = survive.checked_sub(1).and_then(|last| self.unflushed.get(last));
        let through = last.map_or(0, |(ticket, _)| *ticket);
        self.flush(through);
        self.unflushed.clear();
        self.seen.clear();
        self.live = self.flushed.clone();
    }

    /// Opens it once more.
    pub(super) fn open(&mut self) -> Snapshot {
        self.tickets = 0;
        self.live.snapshot()
    }

    fn see(&mut self, change: &Change) -> Result<(), Broken> {
        let before = match change {
            Change::Put { from, record } => {
                let known = self.live.identities().get(&record.identity).copied();
                let (id, at) = (&record.identity.message_id, record.position());
                broken!(known == *from, "the store's contract", "{id} is put from {from:?} and stands at {known:?}");
                let other = self.live.records().get(&at).filter(|other| other.identity != record.identity);
                broken!(other.is_none(), "the store's contract", "{id} is put to {at:?}, where another one stands");
                known.and_then(|known| self.live.records().get(&known).cloned())
            }
            Change::Remove { identity, at } => {
                let known = self.live.identities().get(identity).copied();
                let id = &identity.message_id;
                broken!(
                    known == Some(*at),
                    "the store's contract",
                    "{id} is removed at {at:?} and stands at {known:?}"
                );
                self.live.records().get(at).cloned()
            }
            _ => None,
        };
        self.seen.push(Seen { change: change.clone(), before });
        Ok(())
    }
}

/// The daemon's side of the disk.
#[derive(Clone)]
pub(super) struct SimulatedStore(pub Rc<RefCell<Disk>>);

impl SimulatedStore {
    fn read<T>(&self, read: impl FnOnce(&MemoryStore) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let disk = self.0.borrow();
        if disk.unreadable { Err(StoreError::Io("read error".to_owned())) } else { read(&disk.live) }
    }
}

impl Store for SimulatedStore {
    fn append(&mut self, batch: Vec<Change>) -> Ticket {
        let mut disk = self.0.borrow_mut();
        for change in &batch {
            if let Err(broken) = disk.see(change) {
                disk.wrong.get_or_insert(broken);
            }
            disk.live.append(vec![change.clone()]);
        }
        disk.tickets += 1;
        let ticket = disk.tickets;
        disk.unflushed.push_back((ticket, batch));
        ticket
    }

    fn writable(&mut self) -> Result<(), StoreError> {
        if self.0.borrow().fails { Err(StoreError::Io("no space left on device".to_owned())) } else { Ok(()) }
    }

    fn is_overfull(&self) -> bool {
        let disk = self.0.borrow();
        disk.fails && disk.unflushed.len() >= OVERFULL
    }

    fn find(&self, identity: &Identity) -> Result<Option<Record>, StoreError> {
        self.read(|store| store.find(identity))
    }

    fn at(&self, position: &Position) -> Result<Option<Record>, StoreError> {
        self.read(|store| store.at(position))
    }

    fn places(&self, lane: LaneId, queue: Queue, after: Option<Place>, limit: usize) -> Result<Vec<Place>, StoreError> {
        self.read(|store| store.places(lane, queue, after, limit))
    }

    fn outcomes(&self, after: Cursor, limit: usize) -> Result<Vec<(Cursor, Entry)>, StoreError> {
        self.read(|store| store.outcomes(after, limit))
    }

    fn figures(&self) -> Figures {
        Figures::default()
    }
}
