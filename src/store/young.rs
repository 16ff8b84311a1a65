//! The young generations: everything that was written lately, in memory and in order.
//!
//! Reads ask here first: a slot says what its key holds now, or that it holds nothing, whatever the runs below say. Each
//! slot bears the number of the *generation* in which it was last touched, which is also the number of the journal that
//! would bring it back after a crash. A generation is *frozen* when the one after the next begins: what is still untouched
//! then is written to a run and forgotten here.
//!
//! Most messages are delivered within seconds. A slot that no run knows of (`below` is false) leaves no trace when it is
//! deleted: that is what keeps the short-lived away from the runs.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::key::Key;
use super::tree::Bytes;

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
#[derive(Default, Debug)]
pub(super) struct Young {
    slots: BTreeMap<Key, Slot>,
    bytes: usize,
    now: Generation,
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

    /// `known_below`: whether the runs hold something under a key that has no slot.
    pub(super) fn put(&mut self, key: Key, value: Bytes, known_below: bool) {
        let below = self.take(key).map_or(known_below, |slot| slot.below);
        self.insert(key, Slot { value: Some(value), touched: self.now, below });
    }

    /// A key without a slot is held by the runs, or nobody would delete it.
    pub(super) fn delete(&mut self, key: Key) {
        let below = self.take(key).is_none_or(|slot| slot.below);
        if below {
            self.insert(key, Slot { value: None, touched: self.now, below });
        }
    }

    /// Drops the slots of these keys, where nothing below will be asked for them either.
    pub(super) fn forget(&mut self, keys: impl Iterator<Item = Key>) {
        for key in keys {
            self.take(key);
        }
    }

    /// Drops the slot of a key that a run holds now, unless it was touched since `through`.
    pub(super) fn settle(&mut self, key: Key, through: Generation) {
        if self.slots.get(&key).is_some_and(|slot| slot.touched <= through) {
            self.take(key);
        }
    }

    /// `None`: ask the runs. `Some(None)`: there is nothing.
    pub(super) fn get(&self, key: &Key) -> Option<Option<&Bytes>> {
        self.slots.get(key).map(|slot| slot.value.as_ref())
    }

    /// Whether the runs may hold something under a key that has a slot.
    pub(super) fn below(&self, key: &Key) -> Option<bool> {
        self.slots.get(key).map(|slot| slot.below)
    }

    /// The slots from `start` on, in order.
    pub(super) fn from(&self, start: Bound<Key>) -> impl Iterator<Item = (Key, Option<&Bytes>)> {
        self.slots.range((start, Bound::Unbounded)).map(|(key, slot)| (*key, slot.value.as_ref()))
    }

    /// What was last touched in a generation up to `through`, in order, on its way to a run.
    pub(super) fn freeze(&mut self, through: Generation) -> Vec<(Key, Option<Bytes>)> {
        let frozen = self.slots.iter_mut().filter(|(_, slot)| slot.touched <= through);
        frozen
            .map(|(key, slot)| {
                slot.below = true;
                (*key, slot.value.clone())
            })
            .collect()
    }

    fn insert(&mut self, key: Key, slot: Slot) {
        self.bytes += slot.bytes();
        self.slots.insert(key, slot);
    }

    fn take(&mut self, key: Key) -> Option<Slot> {
        let slot = self.slots.remove(&key)?;
        self.bytes -= slot.bytes();
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key::Outcome(1);

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
        assert_eq!(young.freeze(1), [(KEY, Some(Bytes::from(b"1")))]);
        young.begin(2);
        young.delete(KEY);
        young.settle(KEY, 1);
        assert_eq!(young.get(&KEY), Some(None), "touched since: must cover what the run holds");
        assert_eq!(young.freeze(2), [(KEY, None)]);
        young.settle(KEY, 2);
        assert_eq!((young.get(&KEY), young.bytes()), (None, 0));
    }
}
