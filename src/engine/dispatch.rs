//! What leaves next, and when to look again.
//!
//! [`Core::service`] looks at one route. Settle windows that are over and messages kept long enough come first, in strides. Then
//! fences are moved ahead of what falls due soon. Then, as the pace lets them, attempts leave: by traffic type, first
//! attempts before retries, earliest due first; every so often the one that waits longest, so that nothing starves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, error, info, warn};

use super::calls::Calls;
use super::core::{Batch, Core, Effect, Flight, Route};
use super::lanes::{FENCE_LOW, Lane};
use super::pace::{self, Permit};
use super::time::Stepped;
use super::told::message_hash;
use crate::clock::Now;
use crate::model::{
    Answer, Event, Identity, LaneId, Missed, Place, Position, Queue, Record, Timestamp, TrafficType, grant, retry,
};
use crate::platform::Order;
use crate::store::{Change, Store, StoreError};

/// One pick in so many goes to the longest wait, whatever its class.
const FAIR_EVERY: u64 = 16;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// How soon a route is looked at again whose store could not be read, or takes no more.
pub(super) const STORE_AGAIN: Duration = Duration::from_secs(1);
/// How often retries are looked at while their route rests.
const STUCK_AGAIN: Duration = Duration::from_secs(1);
/// The least wait for something that was found undone.
const SOON: Duration = Duration::from_millis(10);

/// Something that is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) position: Position,
    due: Timestamp,
    class: TrafficType,
}

impl Candidate {
    fn rank(&self) -> (TrafficType, bool, Timestamp) {
        (self.class, self.position.queue == Queue::Retry, self.due)
    }
}

/// Whether an attempt, or the call of a hook, is out for what stands in such a queue.
fn is_out(flights: &BTreeMap<u64, Flight>, calls: &Calls, queue: Queue, seq: u64) -> bool {
    if queue == Queue::Calling { calls.is_out(seq) } else { flights.contains_key(&seq) }
}

impl<S: Store> Core<S> {
    /// Does everything that is due on a route and arms its next look.
    pub(super) fn service(&mut self, route: usize, now: Now) {
        let worked = if self.stands_still() { Ok(Some(STORE_AGAIN)) } else { self.work(route, now) };
        let was_unreadable = std::mem::replace(&mut self.routes[route].unreadable, worked.is_err());
        let wait = worked.unwrap_or_else(|error| {
            if !was_unreadable {
                let Route { agent, region, .. } = &self.routes[route];
                error!(name: "store_unreadable", %agent, %region, %error, "the store can't be read; trying again and again");
            }
            Some(STORE_AGAIN)
        });
        let Route { agent, region, unreadable, .. } = &self.routes[route];
        if was_unreadable && !unreadable {
            info!(name: "store_readable", %agent, %region, "the store can be read again");
        }
        // What was done just now concerned this route, and has been looked at.
        self.dirty.remove(&route);
        self.effects.push(match wait {
            Some(wait) => Effect::Arm(route, wait),
            None => Effect::Disarm(route),
        });
    }

    fn work(&mut self, route: usize, now: Now) -> Result<Option<Duration>, StoreError> {
        let mut again = false;
        for lane in self.routes[route].lanes.clone() {
            for queue in Queue::ALL.into_iter().filter(|queue| queue.is_timed()) {
                self.refill(lane, queue)?;
            }
            if let Some(stepped) = self.routes[route].stepped {
                again |= self.cap_waits(lane, stepped, now.wall)?;
            }
            again |= self.end_windows(lane, now.wall)?;
            again |= self.purge(lane, now.wall)?;
        }
        if !again {
            self.routes[route].stepped = None;
        }
        self.move_fences(route, now);
        let blocked = self.dispatch(route, now)?;
        // Last: what settled just now may have a grant to call for.
        for lane in self.routes[route].lanes.clone() {
            again |= self.call(lane, now.wall)?;
        }
        self.watch_load(route, now);
        if again {
            return Ok(Some(Duration::ZERO));
        }
        Ok(self.next_look(route, blocked, now))
    }

    fn refill(&mut self, lane: LaneId, queue: Queue) -> Result<(), StoreError> {
        let (flights, calls) = (&self.flights, &self.calls);
        let hidden = |seq| is_out(flights, calls, queue, seq);
        match self.lanes.get_mut(lane) {
            Some(found) => found.line_mut(queue).refill(&self.store, (lane, queue), hidden),
            None => Ok(()),
        }
    }

    /// The head of a queue, if it is due.
    pub(super) fn due(&self, lane: LaneId, queue: Queue, now: Timestamp) -> Option<Candidate> {
        let found = self.lanes.get(lane)?;
        let place = found.line(queue).head()?;
        let due = self.looked_at(found, queue, place);
        let position = Position { lane, queue, place };
        (due <= now).then_some(Candidate { position, due, class: found.spec.traffic_type })
    }

    /// When the record at a place has to be looked at, whatever steps the clock took. A retry, or the call of a hook, may come
    /// early for a step ahead: the pace holds as ever.
    pub(super) fn looked_at(&self, lane: &Lane, queue: Queue, place: Place) -> Timestamp {
        match queue {
            Queue::Kept => self.kept_until(place.order),
            Queue::Settling => self.time.over(place.order, lane.policy.settle),
            _ => lane.due(queue, place),
        }
    }

    /// How long what settled then is kept.
    pub(super) fn kept_until(&self, settled: Timestamp) -> Timestamp {
        let retention = self.settings.retention;
        self.time.over(settled.plus(retention), retention)
    }

    /// Ends settle windows. True if there are more than one stride takes.
    fn end_windows(&mut self, lane: LaneId, now: Timestamp) -> Result<bool, StoreError> {
        let mut batch = Batch::default();
        for _ in 0..self.scale.stride {
            let Some(ended) = self.due(lane, Queue::Settling, now) else {
                self.commit(batch);
                return Ok(false);
            };
            match self.read(ended.position) {
                Ok(Some(mut record)) => {
                    self.advance(&mut record, ended.position, Event::WindowEnded, now, &mut batch);
                }
                Ok(None) => {}
                Err(error) => return self.cut_short(batch, error),
            }
        }
        self.commit(batch);
        Ok(true)
    }

    /// After a step back of the wall clock, what waits for an instant of it would wait that much longer: none waits longer
    /// than it could have if it had begun just now. True if there are more than one stride takes.
    fn cap_waits(&mut self, lane: LaneId, stepped: Stepped, now: Timestamp) -> Result<bool, StoreError> {
        let Some(policy) = self.lanes.get(lane).map(|lane| Arc::clone(&lane.policy)) else { return Ok(false) };
        // Quiet hours are over within a day; after a step back, the end that is waited for may be that of another night.
        let (by_night, back) = (policy.not_between.is_some(), stepped == Stepped::Back);
        let settle = if by_night && !back { policy.settle.max(DAY) } else { policy.settle };
        let longest = [
            (Queue::Retry, retry::CEILING),
            (Queue::Recalled, retry::CEILING),
            (Queue::Settling, settle),
            (Queue::Calling, grant::LATER_MAX),
        ];
        let mut batch = Batch::default();
        let mut more = false;
        for (queue, longest) in longest {
            if self.lanes.get(lane).is_none_or(|lane| lane.line(queue).count == 0) {
                continue;
            }
            let latest = now.plus(longest);
            let mut from = Place { order: latest, seq: u64::MAX };
            // Those may well come back to where they are: each is asked once.
            let nights = by_night && back && queue == Queue::Settling;
            if nights && let Some(found) = self.lanes.get(lane) {
                from = from.max(found.night_asked.unwrap_or(from));
            }
            let places = match self.store.places(lane, queue, Some(from), self.scale.stride) {
                Ok(places) => places,
                Err(error) => return self.cut_short(batch, error),
            };
            let full = places.len() == self.scale.stride;
            if nights && let Some(found) = self.lanes.get_mut(lane) {
                found.night_asked = places.last().copied().or(found.night_asked);
            }
            for place in places {
                // What is out has its turn already.
                if is_out(&self.flights, &self.calls, queue, place.seq) {
                    continue;
                }
                more |= full;
                let position = Position { lane, queue, place };
                match self.read(position) {
                    Ok(Some(mut record)) => {
                        // A recall that has not reached it yet must not find it elsewhere, unmarked.
                        if self.recall_first(&mut record, position, now, &mut batch) {
                            continue;
                        }
                        record.wait_until(latest);
                        self.stand(Some(position), &record, &mut batch);
                    }
                    Ok(None) => {}
                    Err(error) => return self.cut_short(batch, error),
                }
            }
        }
        self.commit(batch);
        Ok(more)
    }

    /// Removes what was kept long enough. True if there is more than one stride takes.
    fn purge(&mut self, lane: LaneId, now: Timestamp) -> Result<bool, StoreError> {
        let mut batch = Batch::default();
        for _ in 0..self.scale.stride {
            let Some(old) = self.due(lane, Queue::Kept, now) else {
                self.commit(batch);
                return Ok(false);
            };
            match self.read(old.position) {
                Ok(Some(mut record)) => {
                    if !self.recall_first(&mut record, old.position, now, &mut batch) {
                        self.leave(old.position);
                        batch.changes.push(Change::Remove { identity: record.identity, at: old.position });
                    }
                }
                Ok(None) => {}
                Err(error) => return self.cut_short(batch, error),
            }
        }
        self.commit(batch);
        Ok(true)
    }

    /// Something can't be read. What was decided before it is decided: windows, cursors and counts have moved on already.
    pub(super) fn cut_short<T>(&mut self, batch: Batch, error: StoreError) -> Result<T, StoreError> {
        self.commit(batch);
        Err(error)
    }

    /// The record at a place of the window. `None` if there is none that makes sense: said, and out of the way of those behind.
    pub(super) fn read(&mut self, position: Position) -> Result<Option<Record>, StoreError> {
        let (lane, queue, seq) = (position.lane.0, position.queue, position.place.seq);
        match self.store.at(&position) {
            Ok(None) => {
                warn!(lane, ?queue, seq, "a place without a record was dropped");
                self.leave(position);
                Ok(None)
            }
            Err(StoreError::Corrupt(why)) => {
                error!(lane, ?queue, seq, %why, "a record makes no sense and is left alone until the next start");
                if let Some(found) = self.lanes.get_mut(position.lane) {
                    found.line_mut(queue).hide(position.place);
                }
                Ok(None)
            }
            other => other,
        }
    }

    fn move_fences(&mut self, route: usize, now: Now) {
        let reach = self.routes[route].pace.reach(now.mono, FENCE_LOW);
        let now = now.wall;
        let mut moves = Vec::new();
        for lane in &self.routes[route].lanes {
            let Some(found) = self.lanes.get(*lane) else { continue };
            // Behind a fence everything is in doubt after a crash, and what is held back is not tried.
            for queue in Queue::ATTEMPTS.into_iter().filter(|queue| !found.keeps_back(*queue)) {
                let reach = found.reach(queue, reach, now);
                let to = found.line(queue).fence_wanted(now, reach, |place| found.due(queue, place));
                moves.extend(to.map(|to| (*lane, queue, to)));
            }
        }
        if moves.is_empty() {
            return;
        }
        let changes = moves.iter().map(|(lane, queue, to)| Change::Fence(*lane, *queue, Some(*to))).collect();
        let ticket = self.commit(Batch { changes, ..Batch::default() });
        for (lane, queue, to) in moves {
            self.lanes.fence_moves(lane, queue, to, ticket);
        }
    }

    /// Lets go what is due, as long as the pace permits. Returns what holds up the rest, if it is the pace.
    fn dispatch(&mut self, route: usize, now: Now) -> Result<Option<Permit>, StoreError> {
        self.starved.retain(|(.., starved)| *starved != route);
        for _ in 0..self.scale.stride {
            let fair = self.routes[route].picks % FAIR_EVERY == FAIR_EVERY - 1;
            let Some(next) = self.pick(route, fair, now.wall) else { return Ok(None) };
            if self.flights.len() >= self.settings.pace.in_flight_total {
                self.starved.insert((next.class, next.due, route));
                return Ok(Some(Permit::WhenBack));
            }
            match self.routes[route].pace.permit(now.mono) {
                Permit::Go => self.launch(route, next, now)?,
                held @ (Permit::At(_) | Permit::WhenBack) => {
                    self.give_up_stuck(route, now)?;
                    return Ok(Some(held));
                }
            }
        }
        Ok(Some(Permit::At(now.mono)))
    }

    /// The next attempt of a route that may leave as far as time and fences go. Fences are not waited for while the disk fails: a
    /// crash then costs a 404 a second look, and waiting would leave messages on handsets for as long as the disk likes.
    fn pick(&mut self, route: usize, fair: bool, now: Timestamp) -> Option<Candidate> {
        let lanes = &self.routes[route].lanes;
        let heads = lanes.iter().flat_map(|lane| Queue::ATTEMPTS.map(|queue| self.due(*lane, queue, now))).flatten();
        let ready = heads.filter(|head| {
            let line = self.lanes.get(head.position.lane).map(|lane| lane.line(head.position.queue));
            !self.is_kept_back(head.position)
                && (self.disk_fails || line.is_some_and(|line| line.is_fenced(head.position.place)))
        });
        if fair { ready.min_by_key(|head| head.due) } else { ready.min_by_key(Candidate::rank) }
    }

    fn is_kept_back(&self, position: Position) -> bool {
        self.lanes.get(position.lane).is_some_and(|lane| lane.keeps_back(position.queue))
    }

    fn launch(&mut self, route: usize, next: Candidate, now: Now) -> Result<(), StoreError> {
        let Position { lane, queue, place } = next.position;
        let Some(mut record) = self.read(next.position)? else { return Ok(()) };
        let mut batch = Batch::default();
        // A recall beats a hold.
        if self.recall_first(&mut record, next.position, now.wall, &mut batch)
            || self.put_aside(&mut record, next.position, now.wall, &mut batch)
        {
            self.commit(batch);
            return Ok(());
        }
        let event = self.due_event(next.position, &record);
        let tried_before = record.attempts.lateness.is_some();
        let step = self.advance(&mut record, next.position, event, now.wall, &mut batch);
        self.commit(batch);
        if !step.attempt {
            return Ok(());
        }
        if let Some(found) = self.lanes.get_mut(lane) {
            found.line_mut(queue).hide(place);
        }
        self.spread_on(next.position, now.wall);
        if !tried_before && let Some(lateness) = record.attempts.lateness {
            self.times.lateness.record(lateness);
        }
        let Some(found) = self.lanes.get(lane) else { return Ok(()) };
        let order = Order {
            agent: record.identity.agent.clone(),
            phone: record.phone,
            message_id: record.identity.message_id.clone(),
            region: found.spec.region,
        };
        self.effects.push(Effect::Launch(record.seq, order));
        self.flights.insert(record.seq, Flight { record, stored_at: next.position, route, left: now.mono });
        let route = &mut self.routes[route];
        route.pace.leaves(now.mono);
        route.picks += 1;
        Ok(())
    }

    fn due_event(&self, position: Position, record: &Record) -> Event {
        let (boot_seq, boot_time) = self.boot;
        let old = position.place.seq < boot_seq;
        let Some(found) = self.lanes.get(position.lane) else {
            return Event::Due { maybe_attempted: false, moot: false };
        };
        Event::Due {
            maybe_attempted: self.is_in_doubt(position),
            // The deadline itself: with a lead or a spread its turn comes before that. What was held at the start was not
            // missed: somebody wanted it to wait, and to be revoked then.
            moot: old
                && found.policy.missed == Missed::Moot
                && record.recall.is_none()
                && record.deadline(&found.policy) <= boot_time
                && self.held_until(record) < boot_time,
        }
    }

    /// What is due while its route rests is not kept waiting beyond its policy's `give_up_after`. What was never tried is
    /// given that time from the beginning of the rest too: it may have become overdue while the daemon was down or the pace
    /// was slow, and a rest of a second is no reason to fail a whole backlog that one probe may set going again.
    fn give_up_stuck(&mut self, route: usize, now: Now) -> Result<(), StoreError> {
        let Some(rested) = self.routes[route].pace.rested(now.mono) else { return Ok(()) };
        let mut stuck = Vec::new();
        for lane in &self.routes[route].lanes {
            let Some(found) = self.lanes.get(*lane) else { continue };
            for queue in Queue::ATTEMPTS.into_iter().filter(|queue| !found.keeps_back(*queue)) {
                let places = found.line(queue).places().take(self.scale.stride);
                // Retries are not in the order of their deadlines, and few: each is looked at.
                let overdue = places.take_while(|place| match queue {
                    Queue::Retry | Queue::Recalled => place.order <= now.wall,
                    _ => rested > found.policy.give_up_after && found.given_up(queue, *place) <= now.wall,
                });
                stuck.extend(overdue.map(|place| (Position { lane: *lane, queue, place }, found.policy.give_up_after)));
            }
        }
        let mut batch = Batch::default();
        for (position, patience) in stuck {
            match self.read(position) {
                Ok(Some(record)) if !record.attempts.made() && rested <= patience => {}
                Ok(Some(mut record)) => {
                    if !self.put_aside(&mut record, position, now.wall, &mut batch) {
                        self.advance(&mut record, position, Event::Stuck, now.wall, &mut batch);
                    }
                }
                Ok(None) => {}
                Err(error) => return self.cut_short(batch, error),
            }
        }
        self.commit(batch);
        Ok(())
    }

    /// How long until a route has to be looked at again; `None` if only an answer or a write can change anything.
    fn next_look(&self, route: usize, held: Option<Permit>, now: Now) -> Option<Duration> {
        let rested = self.routes[route].pace.rested(now.mono);
        let reach = self.routes[route].pace.reach(now.mono, FENCE_LOW);
        let mut next: Option<Timestamp> = None;
        let mut sooner = |at: Timestamp| next = Some(next.map_or(at, |next| next.min(at)));
        for lane in &self.routes[route].lanes {
            let Some(found) = self.lanes.get(*lane) else { continue };
            for queue in Queue::ALL.into_iter().filter(|queue| queue.is_timed() && !found.keeps_back(*queue)) {
                let Some(head) = found.line(queue).head() else {
                    if found.line(queue).ran_dry() {
                        sooner(now.wall);
                    }
                    continue;
                };
                let due = self.looked_at(found, queue, head);
                if queue == Queue::Calling && due <= now.wall {
                    continue; // the return of a call wakes us
                }
                if !Queue::ATTEMPTS.contains(&queue) {
                    sooner(due);
                    continue;
                }
                let reach = found.reach(queue, reach, now.wall);
                found.fence_due(queue, reach).into_iter().for_each(&mut sooner);
                match (due <= now.wall, rested, queue) {
                    (false, ..) => sooner(due),
                    // Due, and held back: the permit, an answer or the fence's arrival on disk wakes us …
                    (true, None, _) => {}
                    // … but while the route rests, somebody's patience may end first.
                    (true, Some(_), Queue::Retry | Queue::Recalled) => sooner(now.wall.plus(STUCK_AGAIN)),
                    (true, Some(rested), _) => {
                        let rest_ends = now.wall.plus(found.policy.give_up_after.saturating_sub(rested));
                        sooner(found.given_up(queue, head).max(rest_ends).max(now.wall.plus(SOON)));
                    }
                }
            }
        }
        let wait = next.map(|at| at.since(now.wall));
        match held {
            Some(Permit::At(at)) => {
                let permit = at.saturating_sub(now.mono);
                Some(wait.map_or(permit, |wait| wait.min(permit)))
            }
            Some(Permit::WhenBack | Permit::Go) | None => wait,
        }
    }

    /// An attempt is back.
    pub(super) fn answered(&mut self, seq: u64, answer: Answer, now: Now) {
        let Some(Flight { mut record, stored_at, route, left }) = self.flights.remove(&seq) else { return };
        let random = self.random.u64(..);
        let change = self.routes[route].pace.back(&answer, left, now.mono, random);
        self.say(route, change, &answer);
        self.counters.answered(answer.kind());
        self.times.answers.record(now.mono.saturating_sub(left));
        let Identity { agent, .. } = &record.identity;
        let message_hash = || message_hash(self.store_id, &record.identity);
        debug!(name: "answered", %agent, message_hash = message_hash(), answer = answer.kind(), "an attempt is back");
        let mut batch = Batch::default();
        self.advance(&mut record, stored_at, Event::Answered(answer), now.wall, &mut batch);
        self.commit(batch);
        self.dirty.insert(route);
    }

    /// One line per change of a route's state, and no more.
    fn say(&mut self, route: usize, change: pace::Change, answer: &Answer) {
        let route = &self.routes[route];
        let (agent, region) = (&route.agent, route.region);
        match change {
            pace::Change::None => {}
            pace::Change::Rests(reason, wait) => {
                self.counters.rests(reason);
                let words = answer.words();
                warn!(name: "rests", %agent, %region, ?reason, answer = %words, first_wait = ?wait, "no requests for now; trying again by and by");
            }
            pace::Change::Resumes(reason) => {
                info!(name: "goes_on", %agent, %region, after = ?reason, "requests go out again");
            }
        }
    }
}
