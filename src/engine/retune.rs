//! New policies over what is already queued: what a change would do, doing it, and what is ahead.
//!
//! A pending message's deadline is a function of its anchor and its lane's policy, so a new policy is a new function: the
//! lanes get it, the routes are looked at again, and no record is read. What it does to how many is told from the
//! [tallies](super::tally).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tracing::info;

use super::core::{Batch, Core, Settings};
use super::lanes::with_rule_of;
use super::replies::{Explained, Forecast, Plan, PlannedUseCase, Refusal, RefusalKind};
use super::told::message_hash;
use crate::clock::Now;
use crate::model::agents::meant;
use crate::model::{Agents, AppliesTo, Identity, LaneId, Policies, Policy, Position, Queue, Timestamp, UseCase};
use crate::store::{Change, Store, StoreError};

/// The queues of what waits for its deadline, or would if it were not held.
const PENDING: [Queue; 3] = [Queue::Anchor, Queue::Own, Queue::Held];

/// What a reload can change while the daemon runs.
#[derive(Clone, PartialEq, Debug)]
pub struct Tuning {
    /// One per use case.
    pub policies: Policies,
    /// Pace and retention.
    pub settings: Settings,
    /// The configuration's hash.
    pub config_hash: Box<str>,
}

impl<S: Store> Core<S> {
    /// What [`Core::retune`] would do.
    ///
    /// # Errors
    /// 409 for a use case that has messages pending and is not there any more.
    pub(super) fn plan(&self, tuning: &Tuning, now: Now) -> Result<Plan, Refusal> {
        let mut rows: BTreeMap<UseCase, PlannedUseCase> = BTreeMap::new();
        for (name, _) in self.policies.iter().chain(tuning.policies.iter()) {
            let words = |policies: &Policies| policies.get(name).map(|policy| policy.to_string());
            let row = PlannedUseCase {
                use_case: name.clone(),
                before: words(&self.policies),
                after: words(&tuning.policies),
                ..PlannedUseCase::new(name.clone())
            };
            rows.entry(name.clone()).or_insert(row);
        }
        let mut counting = false;
        let mut rates: BTreeMap<UseCase, f64> = BTreeMap::new();
        for (_, lane) in self.lanes.iter() {
            let name = &lane.spec.use_case;
            let waiting: u64 =
                Queue::ALL.into_iter().filter(|queue| queue.needs_policy()).map(|queue| lane.line(queue).count).sum();
            let Some(after) = tuning.policies.get(name) else {
                if waiting > 0 {
                    return Err(vanished(name, waiting));
                }
                continue;
            };
            // What is pending keeps its rule where the new one is for new messages only.
            let after = match after.applies_to {
                AppliesTo::Pending => Policy::clone(after),
                AppliesTo::New => Policy { rule: lane.policy.rule.clone(), ..Policy::clone(after) },
            };
            let row = rows.entry(name.clone()).or_insert_with(|| PlannedUseCase::new(name.clone()));
            row.pending += PENDING.map(|queue| lane.line(queue).count).iter().sum::<u64>();
            for queue in [Queue::Anchor, Queue::Own] {
                let tally = &lane.line(queue).tally;
                counting |= !tally.is_complete();
                for (at, count) in tally.iter() {
                    let moved = Moved::new(queue, at, &lane.policy, &after);
                    if moved.shift_ms != 0 {
                        row.moved += count;
                        row.shift_ms_min = Some(row.shift_ms_min.map_or(moved.shift_ms, |ms| ms.min(moved.shift_ms)));
                        row.shift_ms_max = Some(row.shift_ms_max.map_or(moved.shift_ms, |ms| ms.max(moved.shift_ms)));
                    }
                    if moved.after <= now.wall && !lane.keeps_back(queue) {
                        row.due_at_once += count;
                    }
                }
            }
            // What a route may send at most under the new limits; what it has lost to 429s it will win back.
            *rates.entry(name.clone()).or_default() += f64::from(tuning.settings.pace.per_second);
        }
        for (name, row) in &mut rows {
            if let Some(rate) = rates.get(name).filter(|_| row.due_at_once > 0) {
                let span = Duration::try_from_secs_f64(row.due_at_once as f64 / rate.max(1.0)).unwrap_or(Duration::MAX);
                row.done_by = Some(now.wall.plus(span));
            }
        }
        Ok(Plan { use_cases: rows.into_values().collect(), counting })
    }

    /// Takes over new policies and limits, all or nothing.
    ///
    /// # Errors
    /// As for [`Core::plan`]; nothing is changed then.
    pub(super) fn retune(&mut self, tuning: Tuning, now: Now) -> Result<Plan, Refusal> {
        let plan = self.plan(&tuning, now)?;
        let policies = Arc::new(tuning.policies);
        for (name, policy) in policies.iter() {
            if self.policies.get(name) != Some(policy) {
                self.policy_since.insert(name.clone(), (tuning.config_hash.clone(), now.wall));
            }
        }
        self.policies = policies;
        self.heed_policies();
        for route in &mut self.routes {
            route.pace.set_limits(tuning.settings.pace);
        }
        self.settings = tuning.settings;
        self.dirty.extend(0..self.routes.len());
        info!(config = %tuning.config_hash, "policies taken over");
        self.config_hash = tuning.config_hash;
        Ok(plan)
    }

    /// The lanes follow the policies in force: all of a lane, or only what comes new, in a lane of its own. Also at a start, since
    /// the configuration may have changed while nothing ran; but a rule that was in force before the stop is known then only of
    /// lanes that were pinned to it, so all others follow the new one.
    pub(super) fn heed_policies(&mut self) {
        let policies = Arc::clone(&self.policies);
        let ids: Vec<LaneId> = self.lanes.iter().map(|(id, _)| id).collect();
        let mut batch = Batch::default();
        for id in ids {
            let Some(lane) = self.lanes.get(id) else { continue };
            // A lane of a use case that is gone holds nothing but what is settled, and that needs no rule.
            let Some(policy) = policies.get(&lane.spec.use_case) else { continue };
            let changed = match (policy.applies_to, lane.spec.pinned.is_some()) {
                (AppliesTo::New, false) if policy.rule != lane.policy.rule => self.lanes.pin(id),
                (AppliesTo::Pending, true) => self.lanes.unpin(id),
                _ => None,
            };
            batch.changes.extend(changed.map(|spec| Change::Lane(id, spec)));
            if let Some(lane) = self.lanes.get_mut(id) {
                lane.policy = with_rule_of(&lane.spec, Arc::clone(policy));
            }
        }
        self.commit(batch);
    }

    /// How many fall due in each of `steps` spans of `step` from now, per use case; what is overdue counts into the first.
    pub(super) fn forecast(&self, step: Duration, steps: usize, agents: Option<&Agents>, now: Timestamp) -> Forecast {
        let mut forecast = Forecast { from: now, step, ..Forecast::default() };
        let step_ms = i64::try_from(step.as_millis()).unwrap_or(i64::MAX).max(1);
        for (_, lane) in self.lanes.iter().filter(|(_, lane)| meant(agents, &lane.spec.agent)) {
            let name = &lane.spec.use_case;
            let row = forecast.use_cases.entry(name.clone()).or_insert_with(|| vec![0; steps]);
            let later = forecast.later.entry(name.clone()).or_default();
            let held = forecast.held.entry(name.clone()).or_default();
            *held += lane.line(Queue::Held).count;
            for queue in [Queue::Anchor, Queue::Own] {
                let tally = &lane.line(queue).tally;
                forecast.counting |= !tally.is_complete();
                if lane.keeps_back(queue) {
                    *held += lane.line(queue).count;
                    continue;
                }
                for (at, count) in tally.iter() {
                    let due = release(queue, at, &lane.policy);
                    let index = usize::try_from((due.millis() - now.millis()).max(0) / step_ms).unwrap_or(usize::MAX);
                    match row.get_mut(index) {
                        Some(bin) => *bin += count,
                        None => *later += count,
                    }
                }
            }
        }
        forecast
    }

    /// Why a message has the deadline it has.
    pub(super) fn explain(&self, identity: &Identity, now: Now) -> Result<Explained, Refusal> {
        let message = self.get(identity)?;
        let Some(lane) = self.lanes.get(message.record.lane) else {
            unreachable!("every record stands in a lane we know")
        };
        let policy = &lane.policy;
        let (config_hash, since) = self.policy_since.get(&lane.spec.use_case).cloned().unwrap_or_default();
        Ok(Explained {
            policy: policy.to_string(),
            config_hash,
            since,
            pinned: lane.spec.pinned.is_some(),
            own: message.record.position().queue == Queue::Own,
            release: policy.release(message.deadline),
            spread: policy.spread,
            resting: self.routes[lane.route].pace.resting(now.mono),
            message_hash: message_hash(self.store_id, identity),
            message,
        })
    }

    /// One stride of the scan that fills the tallies after a start. `false`: all are full.
    pub(super) fn count_on(&mut self) -> Result<bool, StoreError> {
        let open = self.lanes.iter().find_map(|(id, lane)| {
            let queues = [Queue::Anchor, Queue::Own].into_iter();
            queues.filter_map(|queue| Some((id, queue, lane.line(queue).tally.scan_from()?))).next()
        });
        let Some((id, queue, from)) = open else { return Ok(false) };
        let places = self.store.places(id, queue, from, self.scale.counted)?;
        if let Some(lane) = self.lanes.get_mut(id) {
            lane.line_mut(queue).tally.scanned(&places, self.scale.counted);
        }
        Ok(true)
    }

    /// A message left its queue: where its lane is spread, the next one has its turn when that is due.
    pub(super) fn spread_on(&mut self, left: Position, now: Timestamp) {
        let Some(lane) = self.lanes.get_mut(left.lane).filter(|_| left.queue == Queue::Anchor) else { return };
        if lane.policy.spread.is_zero() {
            return;
        }
        let end = release(Queue::Anchor, left.place.order, &lane.policy);
        let remaining = u32::try_from(lane.line(Queue::Anchor).count.max(1)).unwrap_or(u32::MAX);
        lane.spread_next = now.plus(end.since(now) / remaining);
    }
}

/// What a change of policy does to the messages of one bucket.
struct Moved {
    shift_ms: i64,
    after: Timestamp,
}

impl Moved {
    fn new(queue: Queue, at: Timestamp, before: &Policy, after: &Policy) -> Self {
        let (before, after) = (release(queue, at, before), release(queue, at, after));
        Self { shift_ms: after.millis() - before.millis(), after }
    }
}

/// When a DELETE is due at the latest.
pub(super) fn release(queue: Queue, at: Timestamp, policy: &Policy) -> Timestamp {
    match queue {
        Queue::Anchor => policy.release(policy.rule.deadline(at)),
        _ => policy.release(at),
    }
}

fn vanished(name: &UseCase, waiting: u64) -> Refusal {
    let message = format!(
        "{waiting} messages wait under use case {name:?}, which is not in the new configuration: \
         keep [use_cases.{name}] with retired = true until they are through"
    );
    Refusal { kind: RefusalKind::Conflict, message, field: None }
}
