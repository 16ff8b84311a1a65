//! The journal of one generation: what makes a batch durable.
//!
//! It is one stream of bytes: first a head (see [`Facts`]), then the batches in order, each with its serial number. The
//! stream is cut into slices that stand under 1, 2, 3, … in a database of their own, each behind a version byte; a group
//! of batches is a whole number of slices and one write, so that a crash leaves all of the group or nothing. That a journal has
//! lost none of the groups that were synced its [`seal`] tells.
//!
//! A write of sled's own kind for batches costs a second write to the disk for its beginning. Without it, slices one by one, 2
//! of some 500 power cuts (`tests/store_power.rs`, on a busy machine) left journals in which sled found what was synced before
//! damaged: what of a group is torn has to go as a whole.
//!
//! When a write fails, the writer leaves that journal alone and goes on in the next *part* of the same generation with
//! whatever was not acknowledged. The part left behind may hold some of that as well; serial numbers tell. A journal is
//! never written to again after a restart either: that begins a generation of its own.

use minicbor::Decoder;

use super::StoreError;
use super::codec::{self, corrupt};
use super::disk::random;
use super::home::{Home, JournalDir, finding_damage_again};
use super::logged::{Logged, StoredChange};
use super::seal::{self, Seal};
use super::state::{Facts, State};
use super::tree::{Batch, Nudge, Tree};
use super::young::Generation;

/// A leaf of 17 of these stays below sled's limit of 128 KiB.
const SLICE_BYTES: usize = 4096;

/// Journals are read once, from front to back.
const CACHE_BYTES: u64 = 1 << 20;

/// A journal that is being written.
pub(super) struct Journal {
    /// Ends before the database does.
    _nudge: Nudge,
    tree: Tree,
    seal: Seal,
    slices: u64,
}

impl Journal {
    /// Makes a journal; when this returns, its head is durable.
    pub(super) fn create(home: &Home, generation: Generation, part: u32, head: &[u8]) -> Result<Self, StoreError> {
        let path = home.journal(generation, part);
        let draft = home.draft(&path)?;
        let made = Tree::open(&draft, CACHE_BYTES).and_then(|tree| {
            let seal = Seal::create(&draft, random())?;
            let mut journal = Self { _nudge: tree.nudge()?, tree, seal, slices: 0 };
            journal.append(head, home)?;
            home.publish(&draft, &path).inspect_err(|_| journal.tree.spoil())?;
            Ok(journal)
        });
        made.inspect_err(|_| {
            // On a full disk a draft by half would keep it full. What can't be removed goes with the next start.
            let _ = home.draft(&path);
        })
    }

    /// Adds to the stream; when this returns, all of it is durable.
    pub(super) fn append(&mut self, stream: &[u8], home: &Home) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for slice in stream.chunks(SLICE_BYTES) {
            self.slices += 1;
            let mut value = Vec::with_capacity(1 + slice.len());
            value.push(codec::VERSION);
            value.extend_from_slice(slice);
            batch.insert(&self.seal.key(self.slices), value);
        }
        self.tree.write(batch)?;
        self.tree.sync(home)?;
        if home.survives_power_cuts() {
            self.seal.synced(self.slices);
        }
        Ok(())
    }
}

/// Applies a journal to what its predecessors gave, or to its own head if it is the first.
pub(super) fn replay(dir: &JournalDir, state: &mut Option<State>) -> Result<(), StoreError> {
    finding_damage_again(&dir.path, || read(dir, state))
}

fn read(dir: &JournalDir, state: &mut Option<State>) -> Result<(), StoreError> {
    let synced = seal::synced(&dir.path)?;
    let tree = Tree::open(&dir.path, CACHE_BYTES)?;
    let (mut stream, mut slices) = (Vec::new(), 0_u64);
    for slice in tree.from(&[]) {
        let (key, value) = slice?;
        slices += 1;
        if key.first_chunk() != Some(&slices.to_be_bytes()) {
            return Err(StoreError::Corrupt(format!("{}: slice {slices} is missing", dir.path.display())));
        }
        stream.extend_from_slice(codec::body(&value)?);
    }
    if slices < synced {
        let path = dir.path.display();
        return Err(StoreError::Corrupt(format!("{path}: of {synced} slices that were synced, {slices} are left")));
    }
    let mut decoder = Decoder::new(&stream);
    let head = Facts::decode(&mut decoder).map_err(|error| error.within(&dir.path.display()))?;
    let state = state.get_or_insert_with(|| State { facts: head, ..State::default() });
    state.young.begin(dir.generation);
    while decoder.position() < stream.len() {
        let at = decoder.position();
        replay_batch(&mut decoder, state).map_err(|error| {
            error.within(&format_args!("{}, the batch at byte {at} of {}", dir.path.display(), stream.len()))
        })?;
    }
    Ok(())
}

fn replay_batch(stream: &mut Decoder<'_>, state: &mut State) -> Result<(), StoreError> {
    stream.array().map_err(corrupt)?;
    let serial = stream.u64().map_err(corrupt)?;
    let expected = state.facts.serial + 1;
    if serial > expected {
        return Err(StoreError::Corrupt(format!("batches {expected} to {} are missing", serial - 1)));
    }
    let changes = stream.array_iter::<StoredChange<'_>>().map_err(corrupt)?;
    for change in changes {
        let change = Logged::try_from(change.map_err(corrupt)?)?;
        if serial == expected {
            state.apply(change);
        }
    }
    state.facts.serial = state.facts.serial.max(serial);
    Ok(())
}
