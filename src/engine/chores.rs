//! What is done beside the work, a stride at a time: so that none of it keeps a message waiting.

use std::collections::BTreeMap;
use std::time::Duration;

use tracing::warn;

use super::core::{Batch, Core, Effect};
use super::dispatch::STORE_AGAIN;
use crate::clock::Now;
use crate::model::{Event, LaneId, Place, Position, Queue, Record, Selector, Timestamp};
use crate::store::{Change, Snapshot, Store, StoreError};

/// The wheel's entry for what concerns no route.
pub(super) const CHORES: usize = usize::MAX;

/// Queues from which some may have to go, and behind which place to go on looking.
pub(super) type Sifting = BTreeMap<(LaneId, Queue), Option<Place>>;

/// After a start everything is looked through once that waits for somebody's word.
pub(super) fn sift_all(snapshot: &Snapshot) -> Sifting {
    let untimed = snapshot.counts.iter().filter(|(_, queue, _)| !queue.is_timed());
    untimed.map(|(lane, queue, _)| ((*lane, *queue), None)).collect()
}

impl<S: Store> Core<S> {
    /// One stride of each chore. Comes back until all are done.
    pub(super) fn chores(&mut self, now: Now) {
        if self.stands_still() {
            self.effects.push(Effect::Arm(CHORES, STORE_AGAIN));
            return;
        }
        let strides = [self.count_on(), self.look_on(now.wall), self.sift(now.wall), self.sweep(now.wall)];
        let trouble = strides.iter().find_map(|stride| stride.as_ref().err());
        let failed = std::mem::replace(&mut self.chores_fail, trouble.is_some());
        if let Some(error) = trouble.filter(|_| !failed) {
            warn!(%error, "the store can't be read; what is done beside the work waits");
        }
        let waits = strides.into_iter().filter_map(|stride| match stride {
            Ok(more) => more.then_some(Duration::ZERO),
            Err(_) => Some(STORE_AGAIN),
        });
        // A store that can't be read is not asked all the time, whatever else there is to do.
        let wait = waits.max().or_else(|| self.forget_recalls(now.wall));
        if let Some(wait) = wait {
            self.effects.push(Effect::Arm(CHORES, wait));
        }
    }

    /// Looks through such a queue once more, wherever this covers anything.
    pub(super) fn sift_again(&mut self, of: &Selector, queue: Queue) {
        let lanes = self.lanes.iter().filter(|(_, lane)| of.covers(&lane.spec) && lane.line(queue).count > 0);
        self.sifting.extend(lanes.map(|(id, _)| ((id, queue), None)));
        self.dirty.insert(CHORES);
    }

    /// One stride: what no hold names any more comes back, and what no recall lists any more goes. `false`: there is nothing more
    /// to look through.
    fn sift(&mut self, now: Timestamp) -> Result<bool, StoreError> {
        let Some(((lane, queue), from)) = self.sifting.iter().next().map(|(of, from)| (*of, *from)) else {
            return Ok(false);
        };
        let places = self.store.places(lane, queue, from, self.scale.stride)?;
        let mut batch = Batch::default();
        for place in &places {
            let position = Position { lane, queue, place: *place };
            match self.read(position) {
                Ok(Some(record)) => self.sift_one(record, position, now, &mut batch),
                Ok(None) => {}
                Err(error) => return self.cut_short(batch, error),
            }
        }
        self.commit(batch);
        match places.last() {
            Some(last) if places.len() == self.scale.stride => self.sifting.insert((lane, queue), Some(*last)),
            _ => self.sifting.remove(&(lane, queue)),
        };
        Ok(true)
    }

    fn sift_one(&mut self, mut record: Record, at: Position, now: Timestamp, batch: &mut Batch) {
        if at.queue == Queue::Held {
            if self.hold_on(&record).is_none() {
                self.advance(&mut record, at, Event::Resume, now, batch);
            }
        } else if record.recall.is_some_and(|id| self.recalls.get(id).is_none()) {
            // The list is not needed any more, but the message is, for as long as any other: or a late registration would bring
            // it back.
            if self.kept_until(at.place.order) <= now {
                self.leave(at);
                batch.changes.push(Change::Remove { identity: record.identity, at });
            } else {
                record.recall = None;
                self.stand(Some(at), &record, batch);
            }
        }
    }
}
