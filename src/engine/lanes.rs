//! The near end of every queue, in memory.
//!
//! The store is the schedule. A [`Line`] is a window on one queue of it: the places from its head up to `loaded_to`, at most
//! [`Scale::window`](super::core::Scale::window) of them, refilled by range scan when it runs low. So memory follows the number of lanes, not of messages,
//! and a million messages that fall due together stay in the store until the pace lets them go.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::hold::Held;
use super::tally::Tally;
use crate::model::{LaneId, LaneSpec, Place, Policies, Policy, Position, Queue, Rule, Timestamp};
use crate::store::{Snapshot, Store, StoreError, Ticket};

/// Fences are moved when the first place behind one is due within this time …
pub(super) const FENCE_LOW: Duration = Duration::from_secs(1);
/// … and then over everything due within this: one small write every two seconds, however many deadlines lie in them.
const FENCE_HIGH: Duration = Duration::from_secs(3);

/// A lane, with a window on each of its queues.
#[derive(Debug)]
pub(super) struct Lane {
    pub spec: LaneSpec,
    pub policy: Arc<Policy>,
    /// The agent and region it shares its pace with.
    pub route: usize,
    /// Where the policy spreads: when the next message of it has its turn.
    pub spread_next: Timestamp,
    /// What the holds mean for it.
    pub held: Held,
    /// After a step back: up to where those that wait for the end of a night were asked again for which one.
    pub night_asked: Option<Place>,
    lines: [Line; Queue::ALL.len()],
}

/// A window on one queue.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Places kept in memory at most.
    window: usize,
    /// Every place of the queue up to `loaded_to`, but for those whose attempt is out.
    near: BTreeSet<Place>,
    loaded_to: Option<Place>,
    /// Nothing stands behind `loaded_to`.
    complete: bool,
    /// How many records stand in the queue, near or not.
    pub count: u64,
    /// Attempts may leave from places up to this one: it is on disk.
    pub fence: Option<Place>,
    /// On its way to the disk.
    moving_fence: Option<Place>,
    /// Places behind the fence that something came to by a change which is not on disk yet, and under which ticket it will be.
    arriving: BTreeMap<Place, Ticket>,
    /// What the fence was when the daemon last died; says which messages may have been tried.
    pub crash_fence: Option<Place>,
    /// How many stand at which instant.
    pub tally: Tally,
}

impl Line {
    /// A record now stands here.
    pub(super) fn insert(&mut self, place: Place) {
        self.count += 1;
        self.tally.insert(place);
        self.show(place);
    }

    /// What stands here is to be picked, once it is due.
    pub(super) fn show(&mut self, place: Place) {
        if self.complete || self.loaded_to.is_some_and(|last| place <= last) {
            self.near.insert(place);
            if self.near.len() > self.window {
                self.near.pop_last();
                self.complete = false;
                self.loaded_to = self.near.last().copied();
            }
        }
    }

    /// A record stands here no longer.
    pub(super) fn remove(&mut self, place: Place) {
        self.count = self.count.saturating_sub(1);
        self.tally.remove(place);
        self.near.remove(&place);
    }

    /// Its attempt leaves: it still stands in the store, but is not to be picked again.
    pub(super) fn hide(&mut self, place: Place) {
        self.near.remove(&place);
    }

    /// The places of the window, in order.
    pub(super) fn places(&self) -> impl ExactSizeIterator<Item = Place> {
        self.near.iter().copied()
    }

    /// The first place, if the window has any.
    pub(super) fn head(&self) -> Option<Place> {
        self.near.first().copied()
    }

    /// Everything of the window is used up, and there may be more behind it.
    pub(super) fn ran_dry(&self) -> bool {
        self.near.is_empty() && !self.complete
    }

    /// Loads the next stretch when the window runs low. `hidden` are those whose attempt is out.
    pub(super) fn refill<S: Store>(
        &mut self,
        store: &S,
        (lane, queue): (LaneId, Queue),
        hidden: impl Fn(u64) -> bool,
    ) -> Result<(), StoreError> {
        // Well before it runs dry.
        while !self.complete && self.near.len() < self.window.div_ceil(4) {
            let wanted = self.window - self.near.len();
            let places = store.places(lane, queue, self.loaded_to, wanted)?;
            self.complete = places.len() < wanted;
            self.loaded_to = places.last().copied().or(self.loaded_to);
            self.near.extend(places.into_iter().filter(|place| !hidden(place.seq)));
        }
        Ok(())
    }

    /// Whether an attempt may leave from this place: only what is fenced is known to a restart. A crash that forgets how a record
    /// came here would leave it where no fence may cover it.
    pub(super) fn is_fenced(&self, place: Place) -> bool {
        self.fence.is_some_and(|fence| place <= fence) && !self.arriving.contains_key(&place)
    }

    /// Whether an attempt may have left from this place by now.
    pub(super) fn may_have_left(&self, place: Place) -> bool {
        self.fence.max(self.moving_fence).is_some_and(|fence| place <= fence)
    }

    /// The first place that no fence covers, neither one on disk nor one on its way.
    pub(super) fn first_unfenced(&self) -> Option<Place> {
        let covered = self.moving_fence.max(self.fence);
        match covered {
            None => self.head(),
            Some(fence) => {
                self.near.range((std::ops::Bound::Excluded(fence), std::ops::Bound::Unbounded)).next().copied()
            }
        }
    }

    /// Where the fence should be moved to, if it is time to. `reach` is how many may leave within [`FENCE_LOW`]: twice that
    /// much further than what is covered is more than can be tried before the fence is moved again, and whatever a fence
    /// covers without need is in doubt after a crash.
    pub(super) fn fence_wanted(&self, now: Timestamp, reach: usize, due: impl Fn(Place) -> Timestamp) -> Option<Place> {
        let first = self.first_unfenced()?;
        if self.moving_fence.is_some() || due(first) > now.plus(FENCE_LOW) || self.is_ahead(reach) {
            return None;
        }
        let horizon = now.plus(FENCE_HIGH);
        self.near.range(first..).copied().take(reach * 2).take_while(|place| due(*place) <= horizon).last()
    }

    /// Whether the fence covers as many as may leave for now.
    fn is_ahead(&self, reach: usize) -> bool {
        // Most often there are not so many at all, and counting costs as much as there are.
        self.near.len() >= reach
            && self.fence.is_some_and(|fence| self.near.range(..=fence).take(reach).count() == reach)
    }

    /// What the last crash left in doubt, if something still stands there.
    fn doubts(&self) -> Option<Place> {
        let is_gone = |fence| match self.head() {
            Some(head) => head > fence,
            None => self.complete,
        };
        self.crash_fence.filter(|fence| !is_gone(*fence))
    }

    pub(super) fn fence_is_moving(&self) -> bool {
        self.moving_fence.is_some()
    }
}

impl Lane {
    fn new(spec: LaneSpec, policy: Arc<Policy>, route: usize, window: usize) -> Self {
        let lines = std::array::from_fn(|_| Line { window, ..Line::default() });
        Self { spec, policy, route, spread_next: Timestamp::EPOCH, held: Held::default(), night_asked: None, lines }
    }

    pub(super) fn line(&self, queue: Queue) -> &Line {
        &self.lines[queue as usize]
    }

    pub(super) fn line_mut(&mut self, queue: Queue) -> &mut Line {
        &mut self.lines[queue as usize]
    }

    /// When the record at a place has its turn, if it ever has.
    pub(super) fn due(&self, queue: Queue, place: Place) -> Timestamp {
        match queue {
            Queue::Anchor => {
                let release = self.policy.release(self.policy.rule.deadline(place.order));
                release.minus(self.policy.spread).max(self.spread_next).min(release)
            }
            Queue::Own => self.policy.release(place.order),
            Queue::Retry | Queue::Settling | Queue::Recalled | Queue::Calling => place.order,
            Queue::Kept | Queue::Held | Queue::Listed => Timestamp::MAX,
        }
    }

    /// How many of a queue may leave within [`FENCE_LOW`], where its route lets so many go.
    pub(super) fn reach(&self, queue: Queue, route: usize, now: Timestamp) -> usize {
        match self.spread_step(queue, now) {
            Some(step) => route.min(1 + (FENCE_LOW.as_secs_f64() / step.as_secs_f64().max(1e-6)) as usize),
            None => route,
        }
    }

    /// The time from one message to the next, where the policy spreads and there still is time.
    pub(super) fn spread_step(&self, queue: Queue, now: Timestamp) -> Option<Duration> {
        let line = self.line(queue);
        let head = line.head().filter(|_| queue == Queue::Anchor && !self.policy.spread.is_zero())?;
        let end = self.policy.release(self.policy.rule.deadline(head.order));
        let left = u32::try_from(line.count.max(1)).unwrap_or(u32::MAX);
        (end > now).then(|| end.since(now) / left)
    }

    /// When the pending message at a place is not worth an attempt any more if its route rests.
    pub(super) fn given_up(&self, queue: Queue, place: Place) -> Timestamp {
        let deadline = if queue == Queue::Anchor { self.policy.rule.deadline(place.order) } else { place.order };
        deadline.max(self.held.until).plus(self.policy.give_up_after)
    }

    /// Whether a hold keeps back all of a queue.
    pub(super) fn keeps_back(&self, queue: Queue) -> bool {
        self.held.all && queue.may_be_held()
    }

    /// When the fence of a line has to be moved for its first uncovered place.
    pub(super) fn fence_due(&self, queue: Queue, reach: usize) -> Option<Timestamp> {
        let line = self.line(queue);
        if line.fence_is_moving() || line.is_ahead(reach) {
            return None; // its arrival on disk wakes us, or what leaves
        }
        let first = line.first_unfenced()?;
        Some(self.due(queue, first).minus(FENCE_LOW))
    }
}

/// The policy of a lane's use case, with the lane's own rule where it keeps one.
pub(super) fn with_rule_of(spec: &LaneSpec, policy: Arc<Policy>) -> Arc<Policy> {
    match spec.pinned.as_deref().and_then(Rule::parse) {
        Some(rule) => Arc::new(Policy { rule, ..Policy::clone(&policy) }),
        None => policy,
    }
}

/// All lanes, by number and by what they are.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    window: usize,
    by_id: BTreeMap<LaneId, Lane>,
    ids: HashMap<LaneSpec, LaneId>,
    /// Queues whose fence is on its way to the disk, in the order of their tickets.
    moving: VecDeque<(Ticket, LaneId, Queue)>,
    /// See [`Line::arriving`], in the order of their tickets.
    arriving: VecDeque<(Ticket, Position)>,
}

impl Lanes {
    /// The lanes of a store that was just opened. `Err` names a use case that the configuration does not know.
    pub(super) fn recover(
        snapshot: &Snapshot,
        policies: &Policies,
        window: usize,
        mut route: impl FnMut(&LaneSpec, LaneId) -> usize,
    ) -> Result<Self, String> {
        let mut lanes = Self { window, ..Self::default() };
        for (id, spec) in &snapshot.lanes {
            let waits = |(lane, queue, count): &(LaneId, Queue, u64)| lane == id && queue.needs_policy() && *count > 0;
            let policy = match policies.get(&spec.use_case) {
                Some(policy) => Arc::clone(policy),
                None if snapshot.counts.iter().any(waits) => return Err(spec.use_case.to_string()),
                // All that is left of it is settled, and needs no rule.
                None => Arc::new(Policy { retired: true, ..Policy::new(Rule::Ttl(Duration::ZERO)) }),
            };
            let policy = with_rule_of(spec, policy);
            let route = route(spec, *id);
            lanes.add(*id, Lane::new(spec.clone(), policy, route, window));
        }
        for (id, queue, count) in &snapshot.counts {
            if let Some(lane) = lanes.by_id.get_mut(id) {
                lane.line_mut(*queue).count = *count;
            }
        }
        for (id, queue, place) in &snapshot.fences {
            if let Some(lane) = lanes.by_id.get_mut(id) {
                let line = lane.line_mut(*queue);
                (line.fence, line.crash_fence) = (Some(*place), Some(*place));
            }
        }
        Ok(lanes)
    }

    /// A lane that did not exist before: it has nothing in the store.
    pub(super) fn create(&mut self, id: LaneId, spec: LaneSpec, policy: Arc<Policy>, route: usize, held: Held) {
        let mut lane = Lane { held, ..Lane::new(spec, policy, route, self.window) };
        for line in &mut lane.lines {
            line.complete = true;
            line.tally = Tally::complete();
        }
        self.add(id, lane);
    }

    /// The lane keeps the rule it has, and new messages of its kind get another lane.
    pub(super) fn pin(&mut self, id: LaneId) -> Option<LaneSpec> {
        let lane = self.by_id.get_mut(&id)?;
        self.ids.remove(&lane.spec);
        lane.spec.pinned = Some(lane.policy.rule.to_string().into());
        Some(lane.spec.clone())
    }

    /// The lane follows its use case's rule again. Lanes of the same kind may then stand side by side; new messages go to one.
    pub(super) fn unpin(&mut self, id: LaneId) -> Option<LaneSpec> {
        let lane = self.by_id.get_mut(&id)?;
        if self.ids.get(&lane.spec) == Some(&id) {
            self.ids.remove(&lane.spec);
        }
        lane.spec.pinned = None;
        self.ids.entry(lane.spec.clone()).or_insert(id);
        Some(lane.spec.clone())
    }

    fn add(&mut self, id: LaneId, lane: Lane) {
        // Of a pinned kind there may be several, and no new message asks for one.
        self.ids.insert(lane.spec.clone(), id);
        self.by_id.insert(id, lane);
    }

    pub(super) fn id(&self, spec: &LaneSpec) -> Option<LaneId> {
        self.ids.get(spec).copied()
    }

    pub(super) fn get(&self, id: LaneId) -> Option<&Lane> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: LaneId) -> Option<&mut Lane> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.by_id.values_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (LaneId, &Lane)> + Clone {
        self.by_id.iter().map(|(id, lane)| (*id, lane))
    }

    /// The lanes from this one on, in the order of their numbers.
    pub(super) fn from(&self, id: LaneId) -> impl Iterator<Item = (LaneId, &Lane)> {
        self.by_id.range(id..).map(|(id, lane)| (*id, lane))
    }

    /// The fence of a queue was written under `ticket`, and holds when that is on disk.
    pub(super) fn fence_moves(&mut self, lane: LaneId, queue: Queue, to: Place, ticket: Ticket) {
        if let Some(found) = self.by_id.get_mut(&lane) {
            found.line_mut(queue).moving_fence = Some(to);
            self.moving.push_back((ticket, lane, queue));
        }
    }

    /// A record came to `at` by a change that is written under `ticket`. What no fence covers yet need not be noted: the fence
    /// that will is written later.
    pub(super) fn arrives(&mut self, at: Position, ticket: Ticket) {
        let line = self.by_id.get_mut(&at.lane).map(|lane| lane.line_mut(at.queue));
        if let Some(line) = line.filter(|line| line.may_have_left(at.place)) {
            line.arriving.insert(at.place, ticket);
            self.arriving.push_back((ticket, at));
        }
    }

    /// Everything up to `ticket` is on disk. Returns the routes where attempts may leave that could not before.
    pub(super) fn durable(&mut self, ticket: Ticket) -> Vec<usize> {
        let mut routes = Vec::new();
        while let Some((_, lane, queue)) = self.moving.front().copied().filter(|(wanted, ..)| *wanted <= ticket) {
            self.moving.pop_front();
            if let Some(lane) = self.by_id.get_mut(&lane) {
                let line = lane.line_mut(queue);
                line.fence = line.fence.max(line.moving_fence.take());
                routes.push(lane.route);
            }
        }
        while let Some((wanted, at)) = self.arriving.pop_front_if(|(wanted, _)| *wanted <= ticket) {
            if let Some(lane) = self.by_id.get_mut(&at.lane) {
                let arriving = &mut lane.line_mut(at.queue).arriving;
                // It may have left since, and come again.
                if arriving.get(&at.place) == Some(&wanted) {
                    arriving.remove(&at.place);
                }
                routes.push(lane.route);
            }
        }
        routes
    }

    /// The queues that have a fence, be it still on its way to the disk; and the one that has to stay when nothing is out.
    pub(super) fn fences(&self) -> Vec<(LaneId, Queue, Option<Place>)> {
        let all = self.iter().flat_map(|(id, lane)| Queue::ATTEMPTS.map(|queue| (id, queue, lane.line(queue))));
        let fenced = all.filter(|(.., line)| line.fence.is_some() || line.fence_is_moving());
        fenced.map(|(id, queue, line)| (id, queue, line.doubts())).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn next_id(&self, snapshot_max: u32) -> LaneId {
        LaneId(self.by_id.keys().next_back().map_or(0, |id| id.0).max(snapshot_max) + 1)
    }
}
