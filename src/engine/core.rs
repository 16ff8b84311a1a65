//! The owner of everything that is decided: one struct, changed only by [`Core::apply`], without a lock, a clock or an await.
//!
//! What comes in is an [`Input`]; what is to be done outside leaves as an [`Effect`]. Work returns as an input. So there is
//! one order in which a delivery and a deadline meet, and a test can drive the whole by hand.
//!
//! After each batch of inputs comes [`Core::finish`]: invariant maintenance, cheap and always the same. It looks at every
//! route that something happened to, lets go what is due within the pace, moves fences ahead and says when to look again.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub(super) use super::batch::Batch;
use super::calls::Calls;
use super::chores::{CHORES, Sifting, sift_all};
use super::counters::{Counters, Times};
use super::early::EarlyEvents;
use super::export::Export;
use super::handle::Command;
use super::hold::Holds;
use super::lanes::{Lanes, with_rule_of};
use super::pace::{Pace, PaceLimits};
use super::recall::Recalls;
use super::replies::Refusal;
use super::retune::Tuning;
use super::subscriptions::Subscriptions;
use super::time::{Stepped, Time};
use crate::clock::Now;
use crate::fallback::Granted;
use crate::model::ledger::{self, Hour, Ledger};
use crate::model::{
    self, AgentId, Answer, Called, Event, Identity, LaneId, LaneSpec, Outcome, Policies, Position, Record, Region,
    Step, Timestamp, TrafficType, UseCase,
};
use crate::platform::Order;
use crate::store::{Change, Cursor, Snapshot, Store, StoreError, Ticket};

/// How much is kept at hand, and done in one go. Everywhere the same but in tests and simulations, which have few messages and
/// are to go through the edges of all of these.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Places kept in memory per queue.
    pub window: usize,
    /// Records taken up in one go before the engine listens again.
    pub stride: usize,
    /// Places counted in one go by the scan that fills the tallies after a start.
    pub counted: usize,
    /// The outcome log is trimmed in strides, so that it does not cost a change for each entry.
    pub trim_every: u64,
}

impl Default for Scale {
    fn default() -> Self {
        Self { window: 4096, stride: 256, counted: 2048, trim_every: 1024 }
    }
}

/// What the configuration says about the engine.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// How fast requests may leave.
    pub pace: PaceLimits,
    /// Where messages go that do not say.
    pub default_region: Region,
    /// How long settled messages are kept.
    pub retention: Duration,
    /// Entries kept in the outcome log.
    pub outcomes_max: u64,
    /// How long evidence waits for its message.
    pub early_for: Duration,
    /// How much evidence may wait.
    pub early_max: usize,
    /// How many phones are remembered that have unsubscribed.
    pub unsubscribed_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            pace: PaceLimits::default(),
            default_region: Region::Global,
            retention: Duration::from_secs(24 * 3600),
            outcomes_max: 1_000_000,
            early_for: Duration::from_secs(3600),
            early_max: 100_000,
            unsubscribed_max: 100_000,
        }
    }
}

/// What happens to the engine.
#[derive(Debug)]
pub(super) enum Input {
    /// Somebody asks.
    Command(Command),
    /// An attempt is back.
    Answered(u64, Answer),
    /// A call of a hook is back.
    Called(u64, Called),
    /// Everything up to this ticket is on disk, or can't be written for now.
    Durable(Result<Ticket, StoreError>),
    /// It is time to look at a route.
    Wake(usize),
    /// The wall clock stepped: every wait is wrong.
    ClockStepped,
}

/// What is to be done outside.
#[derive(Clone, PartialEq, Debug)]
pub enum Effect {
    /// Send a DELETE; its answer comes back under this number.
    Launch(u64, Order),
    /// Call the hook of its use case; what came of it comes back under this number.
    Call(u64, Box<Granted>),
    /// Wake for this route after that time.
    Arm(usize, Duration),
    /// Don't.
    Disarm(usize),
    /// Outcomes up to this cursor may be read.
    Outcomes(Cursor),
}

/// One agent and region: what shares a pace.
#[derive(Debug)]
pub(super) struct Route {
    pub agent: AgentId,
    pub region: Region,
    pub pace: Pace,
    pub lanes: Vec<LaneId>,
    /// What the wall clock did since the waits were last looked at: they may be longer than they can be.
    pub stepped: Option<Stepped>,
    /// The store could not be read when it was last looked at.
    pub unreadable: bool,
    /// When its load was last looked at, on the monotonic clock, and whether it was behind then.
    pub load: (Duration, bool),
    /// First attempts let go; every so many of them the oldest goes first, whatever its class.
    pub picks: u64,
}

/// An attempt that is out.
#[derive(Debug)]
pub(super) struct Flight {
    pub record: Record,
    /// Where the store has it: it is not moved for the attempt alone.
    pub stored_at: Position,
    pub route: usize,
    /// When it left, on the monotonic clock.
    pub left: Duration,
}

pub(super) type Waiter = Box<dyn FnOnce(Result<(), Refusal>) + Send>;

/// See the module's documentation.
pub(super) struct Core<S> {
    pub store: S,
    pub scale: Scale,
    pub settings: Settings,
    pub policies: Arc<Policies>,
    pub lanes: Lanes,
    pub routes: Vec<Route>,
    route_ids: HashMap<(AgentId, Region), usize>,
    /// Attempts that are out, by `seq`.
    pub flights: BTreeMap<u64, Flight>,
    /// Routes that have something due and wait for the total of requests in flight to fall: most urgent first, then by what is
    /// due earliest. Each is in it once at most.
    pub starved: BTreeSet<(TrafficType, Timestamp, usize)>,
    /// Hooks that are being called.
    pub calls: Calls,
    /// Routes that something happened to since they were last looked at.
    pub dirty: BTreeSet<usize>,
    pub early: EarlyEvents,
    pub subscriptions: Subscriptions,
    /// What became of messages, in numbers.
    pub ledger: Ledger,
    pub holds: Holds,
    pub recalls: Recalls,
    pub sifting: Sifting,
    /// The last time that there was something to do beside the work, the store could not be read.
    pub chores_fail: bool,
    pub acked: HashMap<AgentId, Cursor>,
    pub last_cursor: Cursor,
    pub durable_cursor: Cursor,
    /// Where the outcome log was begun.
    pub store_id: u64,
    pub next_seq: u64,
    lane_id_max: u32,
    /// Records below this `seq` were there when the daemon started, at that time.
    pub boot: (u64, Timestamp),
    pub last_ticket: Ticket,
    pub durable_ticket: Ticket,
    /// The last that was heard of the disk is that it can't be written.
    pub disk_fails: bool,
    pub time: Time,
    /// Too much waits for a disk that fails.
    pub stood_still: bool,
    /// A copy of everything that is being read.
    pub export: Option<Export>,
    pub waiting: VecDeque<(Ticket, Waiter)>,
    /// Entries of the outcome log on their way to the disk.
    pub cursors: VecDeque<(Ticket, Cursor)>,
    pub effects: Vec<Effect>,
    pub random: fastrand::Rng,
    pub settled: BTreeMap<Outcome, u64>,
    /// Up to where the outcome log was trimmed since the start, how many of those nobody had taken note of, and whether that is
    /// so just now.
    pub trimmed: Cursor,
    pub lost_outcomes: u64,
    pub losing: bool,
    pub counters: Counters,
    pub times: Times,
    /// The configuration in force.
    pub config_hash: Box<str>,
    /// Since when each use case has its policy, and from which configuration.
    pub policy_since: HashMap<UseCase, (Box<str>, Timestamp)>,
}

impl<S: Store> Core<S> {
    /// Takes over a store.
    ///
    /// # Errors
    /// The name of a use case that has messages in the store and no policy.
    pub(super) fn new(
        store: S,
        snapshot: &Snapshot,
        tuning: Tuning,
        scale: Scale,
        random: fastrand::Rng,
        now: Timestamp,
    ) -> Result<Self, String> {
        let Tuning { policies, settings, config_hash } = tuning;
        let policy_since = policies.iter().map(|(name, _)| (name.clone(), (config_hash.clone(), now))).collect();
        let kept_at_most = settings.outcomes_max.saturating_add(scale.trim_every);
        let mut core = Self {
            store,
            scale,
            policies: Arc::new(policies),
            policy_since,
            config_hash,
            lanes: Lanes::default(),
            routes: Vec::new(),
            route_ids: HashMap::new(),
            flights: BTreeMap::new(),
            starved: BTreeSet::new(),
            calls: Calls::default(),
            dirty: BTreeSet::new(),
            early: EarlyEvents::recover(&snapshot.early),
            subscriptions: Subscriptions::recover(snapshot),
            ledger: snapshot.ledger.clone(),
            holds: Holds::recover(snapshot),
            recalls: Recalls::recover(snapshot),
            sifting: sift_all(snapshot),
            chores_fail: false,
            acked: snapshot.acked.iter().cloned().collect(),
            last_cursor: snapshot.last_cursor,
            durable_cursor: snapshot.last_cursor,
            store_id: snapshot.store_id,
            next_seq: snapshot.next_seq.max(1),
            lane_id_max: snapshot.lanes.iter().map(|(id, _)| id.0).max().unwrap_or(0),
            boot: (snapshot.next_seq, now),
            last_ticket: 0,
            durable_ticket: 0,
            disk_fails: false,
            time: Time::default(),
            stood_still: false,
            export: None,
            waiting: VecDeque::new(),
            cursors: VecDeque::new(),
            effects: Vec::new(),
            random,
            settled: BTreeMap::new(),
            trimmed: snapshot.last_cursor.saturating_sub(kept_at_most),
            lost_outcomes: 0,
            losing: false,
            counters: Counters::default(),
            times: Times::default(),
            settings,
        };
        let policies = Arc::clone(&core.policies);
        let mut routes = std::mem::take(&mut core.routes);
        let (ids, pace) = (&mut core.route_ids, core.settings.pace);
        core.lanes = Lanes::recover(snapshot, &policies, scale.window, |spec, lane| {
            route_of(&mut routes, ids, pace, spec, lane)
        })?;
        core.dirty = (0..routes.len()).chain([CHORES]).collect();
        core.routes = routes;
        core.heed_policies();
        core.heed_holds();
        Ok(core)
    }

    /// Takes in what happened.
    pub(super) fn apply(&mut self, input: Input, now: Now) {
        let now = self.heed(now);
        match input {
            Input::Command(command) => self.command(command, now),
            Input::Answered(seq, answer) => self.answered(seq, answer, now),
            Input::Called(seq, called) => self.called(seq, called, now.wall),
            Input::Durable(Ok(ticket)) => self.durable(ticket),
            Input::Durable(Err(error)) => self.not_durable(&error),
            Input::Wake(route) => {
                self.dirty.insert(route);
            }
            Input::ClockStepped => self.clock_stepped(Stepped::Perhaps),
        }
    }

    /// Leaves everything as it should be, until the next input.
    pub(super) fn finish(&mut self, now: Now) {
        let now = self.heed(now);
        // What became free in the total goes to the most urgent of those that wait for it, and on to the next one if that
        // one's own pace does not let it.
        while self.flights.len() < self.settings.pace.in_flight_total
            && let Some((.., route)) = self.starved.pop_first()
        {
            self.service(route, now);
        }
        while let Some(route) = self.calls.next(&self.policies) {
            self.service(route, now);
        }
        for route in std::mem::take(&mut self.dirty) {
            if route == CHORES {
                self.chores(now);
            } else {
                self.service(route, now);
            }
        }
        // Last: what came in together with the disk's news, or a recall that went on just now, may have taken a grant back.
        loop {
            self.let_calls_go(now.wall);
            let Some(route) = self.calls.next(&self.policies) else { break };
            self.service(route, now);
        }
    }

    /// Hands changes to the store.
    pub(super) fn commit(&mut self, mut batch: Batch) -> Ticket {
        for ((hour, use_case), counts) in std::mem::take(&mut batch.booked) {
            let oldest = Hour::of(hour.start().minus(ledger::KEPT));
            if self.ledger.first().is_some_and(|first| first < oldest) {
                self.ledger.forget(oldest);
                batch.changes.push(Change::Unbooked(oldest));
            }
            self.ledger.book(hour, &use_case, counts.iter());
            self.counters.book(&use_case, &counts);
            batch.changes.push(Change::Booked(hour, use_case, counts));
        }
        let recalls = batch.recalls.iter().filter_map(|id| self.recalls.get(*id));
        batch.changes.extend(recalls.map(|recall| Change::Recall(Box::new(recall.clone()))));
        if !batch.changes.is_empty() {
            self.save_for_export(&batch.changes);
            let told = batch.changes.iter().any(|change| matches!(change, Change::Outcome(..)));
            let arrivals = batch.arrivals();
            self.last_ticket = self.store.append(batch.changes);
            arrivals.into_iter().for_each(|at| self.lanes.arrives(at, self.last_ticket));
            if told {
                self.cursors.push_back((self.last_ticket, self.last_cursor));
            }
        }
        self.last_ticket
    }

    /// A message as it is: the attempt that is out knows more than the store.
    pub(super) fn load(&self, identity: &Identity) -> Result<Option<(Record, Position)>, StoreError> {
        let Some(stored) = self.store.find(identity)? else { return Ok(None) };
        Ok(Some(match self.flights.get(&stored.seq) {
            Some(flight) => (flight.record.clone(), flight.stored_at),
            None => {
                let position = stored.position();
                let mut stored = stored;
                // What is asked of it may move it away from the place that says so.
                stored.attempts.unknown |= self.is_in_doubt(position);
                (stored, position)
            }
        }))
    }

    /// Whether an attempt for what stands there may have left before the daemon last died.
    pub(super) fn is_in_doubt(&self, position: Position) -> bool {
        let fence = self.lanes.get(position.lane).and_then(|lane| lane.line(position.queue).crash_fence);
        position.place.seq < self.boot.0 && fence.is_some_and(|fence| position.place <= fence)
    }

    /// Lets a message take a step, and notes in `batch` what that changes.
    pub(super) fn advance(
        &mut self,
        record: &mut Record,
        stored_at: Position,
        event: Event,
        now: Timestamp,
        batch: &mut Batch,
    ) -> Step {
        let mut stored_at = stored_at;
        if !matches!(event, Event::Recall(_)) && self.recall_first(record, stored_at, now, batch) {
            stored_at = record.position();
        }
        let was = record.recall.map(|_| record.state);
        let Some(lane) = self.lanes.get(record.lane) else { unreachable!("every record stands in a lane we know") };
        let policy = Arc::clone(&lane.policy);
        let (use_case, grant) = (lane.spec.use_case.clone(), record.grant);
        let unsubscribed = self.is_unsubscribed(&lane.spec, record.phone);
        let (grant_acked, held_until) = (self.is_acked(record), self.held_until(record));
        let random = self.random.u64(..);
        let input = model::step::Input { policy: &policy, now, random, grant_acked, unsubscribed, held_until };
        let step = model::step(record, event, input);
        if step.changed {
            batch.book(now, &use_case, ledger::entries(grant, record, &step, now).iter());
        }
        if let Some(report) = step.report {
            self.report(record, report, now, batch);
        }
        if step.changed {
            if let Some(id) = record.recall {
                self.recount(id, was, record, now, batch);
            }
            self.stand(Some(stored_at), record, batch);
        }
        step
    }

    /// The record now stands where its state puts it.
    pub(super) fn stand(&mut self, from: Option<Position>, record: &Record, batch: &mut Batch) {
        let to = record.position();
        if from != Some(to) {
            if let Some(from) = from {
                self.leave(from);
            }
            if let Some(lane) = self.lanes.get_mut(to.lane) {
                lane.line_mut(to.queue).insert(to.place);
                self.dirty.insert(lane.route);
            }
        } else if !self.flights.contains_key(&record.seq)
            && !self.calls.is_out(record.seq)
            && let Some(lane) = self.lanes.get_mut(to.lane)
        {
            // It comes back to where it left from: to be tried again within the same millisecond.
            lane.line_mut(to.queue).show(to.place);
            self.dirty.insert(lane.route);
        }
        batch.touched.insert(record.identity.clone());
        let mut stored = Box::new(record.clone());
        if let model::State::Revoking { in_flight, .. } = &mut stored.state {
            // Not for the disk: after a crash nothing is out. For an attempt that is, the fence of the queue it left from speaks
            // no longer, since the record stands elsewhere now; so the record itself says that it may have been made.
            stored.attempts.unknown |= std::mem::take(in_flight);
        }
        batch.changes.push(Change::Put { from, record: stored });
    }

    /// Nothing stands there any more.
    pub(super) fn leave(&mut self, position: Position) {
        if let Some(lane) = self.lanes.get_mut(position.lane) {
            lane.line_mut(position.queue).remove(position.place);
            self.dirty.insert(lane.route);
        }
    }

    pub(super) fn new_seq(&mut self) -> u64 {
        self.next_seq += 1;
        self.next_seq - 1
    }

    /// The lane of such messages; made if it is new.
    pub(super) fn lane(&mut self, spec: &LaneSpec, batch: &mut Batch) -> Option<LaneId> {
        if let Some(id) = self.lanes.id(spec) {
            return Some(id);
        }
        let policy = with_rule_of(spec, Arc::clone(self.policies.get(&spec.use_case)?));
        let id = self.lanes.next_id(self.lane_id_max);
        let route = route_of(&mut self.routes, &mut self.route_ids, self.settings.pace, spec, id);
        let held = self.holds.on(spec);
        self.lanes.create(id, spec.clone(), policy, route, held);
        batch.changes.push(Change::Lane(id, spec.clone()));
        Some(id)
    }

    /// Somebody still waits for what is not on disk yet.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// An orderly stop: nothing is out, so no fence needs to warn the next start, but for doubts that a crash left and that were
    /// not resolved since.
    pub(super) fn close(mut self) -> S {
        if self.flights.is_empty() {
            let fences = self.lanes.fences();
            let changes = fences.into_iter().map(|(lane, queue, to)| Change::Fence(lane, queue, to)).collect();
            self.commit(Batch { changes, ..Batch::default() });
        }
        self.store
    }
}

fn route_of(
    routes: &mut Vec<Route>,
    ids: &mut HashMap<(AgentId, Region), usize>,
    limits: PaceLimits,
    spec: &LaneSpec,
    lane: LaneId,
) -> usize {
    let id = *ids.entry((spec.agent.clone(), spec.region)).or_insert_with(|| {
        let (agent, region) = (spec.agent.clone(), spec.region);
        routes.push(Route {
            agent,
            region,
            pace: Pace::new(limits),
            lanes: Vec::new(),
            stepped: Some(Stepped::Perhaps),
            unreadable: false,
            load: Default::default(),
            picks: 0,
        });
        routes.len() - 1
    });
    routes[id].lanes.push(lane);
    id
}
