//! The young generations: everything that was written lately, in memory and in order.
//!
//! Reads ask here first: a slot says what its key holds now, or that it holds nothing, whatever the runs below say. Each
//! slot bears the number of the *generation* in which it was last touched, which is also the number of the journal that
//! would bring it back after a crash. A generation is *frozen* when the one after the next begins: what is still untouched
//! then is written to a run and forgotten here.
//!
//! Most messages are delivered within seconds. A slot that no run knows of (`below` is false) leaves no trace when it is
//! deleted: that is what keeps the short-lived away from the runs.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Bound;

use super::Cursor;
use super::key::{IdentityHash, Key};
use super::tree::Bytes;
use crate::model::Position;

/// The number of a generation: 1, 2, 3, …
pub(super) type Generation = u64;

/// About what a slot costs besides its value: key and slot in a tree whose nodes are two thirds full, and the value's
/// allocation.
const SLOT_BYTES: usize = 112;

#[derive(Debug)]
struct Slot {
    /// `None`: deleted.
    value: Option<Bytes>,
    touched: Generation,
    /// The runs may hold something under this key.
    below: bool,
}

impl Slot {
    fn bytes(&self) -> usize {
        SLOT_BYTES + self.value.as_ref().map_or(0, |value| value.len())
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Young {
    records: BTreeMap<Position, Slot>,
    /// Random, and never walked but to freeze them: a tree took more than half of the time of a replay. In shards, so that they
    /// can be walked a little at a time.
    identities: Shards,
    outcomes: BTreeMap<Cursor, Slot>,
    bytes: usize,
    now: Generation,
}

type Shard = HashMap<IdentityHash, Slot, BuildHasherDefault<HashOfHash>>;

/// As many as a byte has values.
#[derive(Debug)]
struct Shards(Vec<Shard>);

impl Shards {
    const COUNT: usize = 256;

    /// Chosen by a byte that the maps do not look at.
    fn of(&self, hash: &IdentityHash) -> &Shard {
        &self.0[usize::from(hash.0[15])]
    }

    fn of_mut(&mut self, hash: &IdentityHash) -> &mut Shard {
        &mut self.0[usize::from(hash.0[15])]
    }
}

impl Default for Young {
    fn default() -> Self {
        Self {
            records: BTreeMap::new(),
            identities: Shards((0..Shards::COUNT).map(|_| Shard::default()).collect()),
            outcomes: BTreeMap::new(),
            bytes: 0,
            now: 0,
        }
    }
}

/// How far the slots were walked in order to freeze them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Walk {
    Records(Bound<Position>),
    /// From this shard on.
    Identities(usize),
    Outcomes(Bound<Cursor>),
    Done,
}

impl Walk {
    pub(super) const START: Self = Self::Records(Bound::Unbounded);
}

impl Young {
    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What is touched from now on belongs to this generation.
    pub(super) fn begin(&mut self, generation: Generation) {
        self.now = generation;
    }

    /// `known_below`: whether the runs may hold something under a key that has no slot.
    pub(super) fn put(&mut self, key: Key, value: Bytes, known_below: bool) {
        let old = self.insert(key, Slot { value: Some(value), touched: self.now, below: known_below });
        // Told apart only afterwards, so that what is put every time is looked up once.
        if let Some(old) = old.filter(|old| old.below != known_below)
            && let Some(slot) = self.slot_mut(&key)
        {
            slot.below = old.below;
        }
    }

    /// A key without a slot is held by the runs, or nobody would delete it.
    pub(super) fn delete(&mut self, key: Key) {
        let below = self.take(key).is_none_or(|slot| slot.below);
        if below {
            self.insert(key, Slot { value: None, touched: self.now, below });
        }
    }

    /// Drops the entries of the outcome log up to this one; of the runs nobody will ask for them either.
    pub(super) fn trim_outcomes(&mut self, through: Cursor) {
        while let Some(first) = self.outcomes.first_entry().filter(|first| *first.key() <= through) {
            self.bytes -= first.remove().bytes();
        }
    }

    /// Drops the slot of a key that a run holds now, unless it was touched since `through`.
    pub(super) fn settle(&mut self, key: Key, through: Generation) {
        if self.slot(&key).is_some_and(|slot| slot.touched <= through) {
            self.take(key);
        }
    }

    /// `None`: ask the runs. `Some(None)`: there is nothing.
    pub(super) fn get(&self, key: &Key) -> Option<Option<&Bytes>> {
        self.slot(key).map(|slot| slot.value.as_ref())
    }

    /// Whether the runs may hold something under a key that has a slot.
    pub(super) fn below(&self, key: &Key) -> Option<bool> {
        self.slot(key).map(|slot| slot.below)
    }

    /// The records at and behind a position, or the outcomes at and behind a cursor, in order.
    pub(super) fn from(&self, start: Bound<Key>) -> Box<dyn Iterator<Item = (Key, Option<&Bytes>)> + '_> {
        let cursor = start.map(|key| if let Key::Outcome(cursor) = key { cursor } else { 0 });
        match start {
            Bound::Included(Key::Record(at)) => Box::new(walk(&self.records, Bound::Included(at), Key::Record)),
            Bound::Excluded(Key::Record(at)) => Box::new(walk(&self.records, Bound::Excluded(at), Key::Record)),
            _ => Box::new(walk(&self.outcomes, cursor, Key::Outcome)),
        }
    }

    /// How many slots there are.
    pub(super) fn slots(&self) -> usize {
        self.records.len() + self.identities.0.iter().map(Shard::len).sum::<usize>() + self.outcomes.len()
    }

    /// Walks on over some `slots`, and takes down what was last touched in a generation up to `through`, in no order, on its way
    /// to a run. Slots may change between two walks: one that was touched since is in a later journal, whether it was
    /// reached before or not, and a later run will have it.
    pub(super) fn freeze(
        &mut self,
        walk: Walk,
        through: Generation,
        slots: usize,
        frozen: &mut Vec<(Key, Option<Bytes>)>,
    ) -> Walk {
        let mut take = |key, slot: &mut Slot| {
            if slot.touched <= through {
                slot.below = true;
                frozen.push((key, slot.value.clone()));
            }
        };
        match walk {
            Walk::Records(from) => {
                let mut last = None;
                for (at, slot) in self.records.range_mut((from, Bound::Unbounded)).take(slots) {
                    take(Key::Record(*at), slot);
                    last = Some(*at);
                }
                last.map_or(Walk::Identities(0), |last| Walk::Records(Bound::Excluded(last)))
            }
            Walk::Identities(shard) => {
                let (mut walked, mut next) = (0, shard);
                while walked < slots
                    && let Some(shard) = self.identities.0.get_mut(next)
                {
                    walked += shard.len();
                    next += 1;
                    shard.iter_mut().for_each(|(hash, slot)| take(Key::Identity(*hash), slot));
                }
                if next < Shards::COUNT { Walk::Identities(next) } else { Walk::Outcomes(Bound::Unbounded) }
            }
            Walk::Outcomes(from) => {
                let mut last = None;
                for (cursor, slot) in self.outcomes.range_mut((from, Bound::Unbounded)).take(slots) {
                    take(Key::Outcome(*cursor), slot);
                    last = Some(*cursor);
                }
                last.map_or(Walk::Done, |last| Walk::Outcomes(Bound::Excluded(last)))
            }
            Walk::Done => Walk::Done,
        }
    }

    fn slot(&self, key: &Key) -> Option<&Slot> {
        match key {
            Key::Record(at) => self.records.get(at),
            Key::Identity(hash) => self.identities.of(hash).get(hash),
            Key::Outcome(cursor) => self.outcomes.get(cursor),
        }
    }

    fn slot_mut(&mut self, key: &Key) -> Option<&mut Slot> {
        match key {
            Key::Record(at) => self.records.get_mut(at),
            Key::Identity(hash) => self.identities.of_mut(hash).get_mut(hash),
            Key::Outcome(cursor) => self.outcomes.get_mut(cursor),
        }
    }

    /// Returns what was there before.
    fn insert(&mut self, key: Key, slot: Slot) -> Option<Slot> {
        self.bytes += slot.bytes();
        let old = match key {
            Key::Record(at) => self.records.insert(at, slot),
            Key::Identity(hash) => self.identities.of_mut(&hash).insert(hash, slot),
            Key::Outcome(cursor) => self.outcomes.insert(cursor, slot),
        };
        self.bytes -= old.as_ref().map_or(0, Slot::bytes);
        old
    }

    fn take(&mut self, key: Key) -> Option<Slot> {
        let slot = match key {
            Key::Record(at) => self.records.remove(&at),
            Key::Identity(hash) => self.identities.of_mut(&hash).remove(&hash),
            Key::Outcome(cursor) => self.outcomes.remove(&cursor),
        }?;
        self.bytes -= slot.bytes();
        Some(slot)
    }
}

fn walk<K: Ord + Copy>(
    slots: &BTreeMap<K, Slot>,
    start: Bound<K>,
    key: impl Fn(K) -> Key,
) -> impl Iterator<Item = (Key, Option<&Bytes>)> {
    slots.range((start, Bound::Unbounded)).map(move |(at, slot)| (key(*at), slot.value.as_ref()))
}

/// An identity is a cryptographic hash already: any eight bytes of it do.
#[derive(Default)]
struct HashOfHash(u64);

impl Hasher for HashOfHash {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_ne_bytes(*first);
        }
    }

    /// The length, which is always the same.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key::Outcome(1);

    /// All of it, one slot after the other.
    fn freeze(young: &mut Young, through: Generation) -> Vec<(Key, Option<Bytes>)> {
        let (mut walk, mut frozen) = (Walk::START, Vec::new());
        while !matches!(walk, Walk::Done) {
            walk = young.freeze(walk, through, 1, &mut frozen);
        }
        frozen
    }

    #[test]
    fn what_no_run_knows_leaves_no_trace() {
        let mut young = Young::default();
        young.put(KEY, Bytes::from(b"1"), false);
        young.delete(KEY);
        assert_eq!((young.get(&KEY), young.bytes()), (None, 0));
    }

    #[test]
    fn what_a_run_may_know_is_covered_until_the_run_knows_better() {
        let mut young = Young::default();
        young.begin(1);
        young.put(KEY, Bytes::from(b"1"), false);
        assert_eq!(freeze(&mut young, 1), [(KEY, Some(Bytes::from(b"1")))]);
        young.begin(2);
        young.delete(KEY);
        young.settle(KEY, 1);
        assert_eq!(young.get(&KEY), Some(None), "touched since: must cover what the run holds");
        assert_eq!(freeze(&mut young, 2), [(KEY, None)]);
        young.settle(KEY, 2);
        assert_eq!((young.get(&KEY), young.bytes()), (None, 0));
    }
}
