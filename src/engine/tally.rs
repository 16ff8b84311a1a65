//! How many messages stand at which instant: counters, so that a forecast or a plan over ten million messages reads none.
//!
//! One counter per ten seconds of anchors (or own deadlines), kept up with every insert and remove. After a start the counters are
//! filled by a scan that goes on a stride at a time beside the work: what stands before the scan's place is counted as it
//! comes and goes, what stands behind it will be counted when the scan gets there.

use std::collections::BTreeMap;

use crate::model::{Place, Timestamp};

/// The width of a bucket: what falls into one is told apart no further.
const BUCKET_MS: i64 = 10_000;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Tally {
    buckets: BTreeMap<i64, u64>,
    counted_to: Option<Place>,
    complete: bool,
}

impl Tally {
    /// Of a queue that is empty.
    pub(super) fn complete() -> Self {
        Self { complete: true, ..Self::default() }
    }

    fn counts(&self, place: Place) -> bool {
        self.complete || self.counted_to.is_some_and(|to| place <= to)
    }

    pub(super) fn insert(&mut self, place: Place) {
        if self.counts(place) {
            *self.buckets.entry(bucket(place)).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, place: Place) {
        if self.counts(place)
            && let Some(count) = self.buckets.get_mut(&bucket(place))
        {
            *count -= 1;
            if *count == 0 {
                self.buckets.remove(&bucket(place));
            }
        }
    }

    /// Where the scan has to go on, if it isn't at its end: behind this place.
    pub(super) fn scan_from(&self) -> Option<Option<Place>> {
        (!self.complete).then_some(self.counted_to)
    }

    /// Takes in what the scan found; fewer than were `wanted` are the last.
    pub(super) fn scanned(&mut self, places: &[Place], wanted: usize) {
        for place in places {
            *self.buckets.entry(bucket(*place)).or_default() += 1;
        }
        self.counted_to = places.last().copied().or(self.counted_to);
        self.complete = places.len() < wanted;
    }

    /// Whether everything is counted.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Instants and how many messages stand at them, in order. Each bucket is told as its middle.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Timestamp, u64)> {
        let middle = |bucket: i64| Timestamp::from_millis(bucket * BUCKET_MS + BUCKET_MS / 2);
        self.buckets.iter().map(move |(bucket, count)| (middle(*bucket), *count))
    }
}

fn bucket(place: Place) -> i64 {
    place.order.millis() / BUCKET_MS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(at: u64, seq: u64) -> Place {
        Place { order: Timestamp::from_millis(i64::try_from(at).unwrap()), seq }
    }

    proptest! {
        /// Whatever comes and goes while the scan is under way, in the end each is counted once.
        #[test]
        fn a_scan_beside_the_work_counts_each_place_once(
            before in prop::collection::btree_set((0_u64..200_000, 0_u64..1000), 0..60),
            work in prop::collection::vec((any::<bool>(), 0_u64..200_000, 1000_u64..2000, any::<bool>()), 0..80),
        ) {
            let mut standing: std::collections::BTreeSet<Place> = before.iter().map(|(at, seq)| place(*at, *seq)).collect();
            let mut tally = Tally::default();
            for (insert, at, seq, scan) in work {
                if insert && standing.insert(place(at, seq)) {
                    tally.insert(place(at, seq));
                } else if let Some(gone) = standing.range(place(at, 0)..).next().copied() {
                    standing.remove(&gone);
                    tally.remove(gone);
                }
                if scan {
                    stride(&mut tally, &standing);
                }
            }
            while !tally.is_complete() {
                stride(&mut tally, &standing);
            }
            let mut wanted: BTreeMap<i64, u64> = BTreeMap::new();
            for place in &standing {
                *wanted.entry(bucket(*place)).or_default() += 1;
            }
            prop_assert_eq!(tally.buckets, wanted);
        }
    }

    fn stride(tally: &mut Tally, standing: &std::collections::BTreeSet<Place>) {
        const WANTED: usize = 5;
        if let Some(from) = tally.scan_from() {
            let behind = |place: &&Place| from.is_none_or(|from| **place > from);
            let places: Vec<Place> = standing.iter().filter(behind).take(WANTED).copied().collect();
            tally.scanned(&places, WANTED);
        }
    }
}
