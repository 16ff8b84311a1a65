//! Grants on their way out: for each that is offered, the hook of its use case is called until it takes it.
//!
//! A grant that waits for its hook stands in a queue of its lane, ordered by when the hook may be called next; so what fails
//! for long is out of the way of what comes after it, a restart finds it again, and memory does not grow with it. The
//! message's state is looked at when its turn comes, on the same thread that learns of deliveries: what was delivered by then
//! is not in that queue any more. A call leaves when the grant is on disk, so that no crash can take back what an SMS was sent
//! for; one that is out when the daemon dies is made again under the same key.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use tracing::{error, info, warn};

use super::core::{Batch, Core, Effect};
use super::replies::CallsStatus;
use crate::fallback::Granted;
use crate::model::{Called, Event, Identity, LaneId, Policies, Queue, Record, Report, State, Timestamp, UseCase};
use crate::store::{Store, StoreError, Ticket};

/// The calls that are out, and what waits for one of them to come back.
#[derive(Debug, Default)]
pub(super) struct Calls {
    out: HashMap<u64, (UseCase, Identity)>,
    /// Those of them that leave when this is on disk.
    held: VecDeque<(Ticket, u64)>,
    hooks: BTreeMap<UseCase, Hook>,
}

/// The hook of one use case.
#[derive(Debug, Default)]
struct Hook {
    /// In flight, and since the start.
    status: CallsStatus,
    /// The last call failed: said when it begins and when it is over.
    fails: bool,
    /// Routes that have something due for it, and found no room.
    starved: BTreeSet<usize>,
    /// The one that was served last: the others come first.
    served: usize,
}

impl Calls {
    pub(super) fn is_out(&self, seq: u64) -> bool {
        self.out.contains_key(&seq)
    }

    /// The next route for which there is room now, each in its turn.
    pub(super) fn next(&mut self, policies: &Policies) -> Option<usize> {
        let room =
            |name, hook: &Hook| policies.get(name).is_some_and(|policy| hook.status.in_flight < policy.calls_max);
        let (_, hook) = self.hooks.iter_mut().find(|(name, hook)| !hook.starved.is_empty() && room(*name, hook))?;
        let next = hook.starved.range(hook.served + 1..).next().or_else(|| hook.starved.first()).copied()?;
        hook.starved.remove(&next);
        hook.served = next;
        Some(next)
    }

    /// A call is over, or was not made.
    fn over(&mut self, seq: u64) -> Option<(UseCase, Identity)> {
        let (use_case, identity) = self.out.remove(&seq)?;
        self.hook(&use_case).status.in_flight -= 1;
        Some((use_case, identity))
    }

    fn hook(&mut self, use_case: &UseCase) -> &mut Hook {
        if !self.hooks.contains_key(use_case) {
            self.hooks.insert(use_case.clone(), Hook::default());
        }
        self.hooks.get_mut(use_case).unwrap_or_else(|| unreachable!("it was inserted just now"))
    }
}

impl<S: Store> Core<S> {
    /// Calls the hook for what is due in a lane. True if there is more than one stride takes.
    pub(super) fn call(&mut self, lane: LaneId, now: Timestamp) -> Result<bool, StoreError> {
        let Some(found) = self.lanes.get(lane).filter(|found| found.line(Queue::Calling).count > 0) else {
            return Ok(false);
        };
        let (calls_max, route, use_case) = (found.policy.calls_max, found.route, found.spec.use_case.clone());
        let mut batch = Batch::default();
        let (mut voided, mut handed_back, mut more) = (0_u64, 0_u64, true);
        for _ in 0..self.scale.stride {
            let Some(due) = self.due(lane, Queue::Calling, now) else {
                more = false;
                break;
            };
            let hook = self.calls.hook(&use_case);
            if calls_max > 0 && hook.status.in_flight >= calls_max {
                hook.starved.insert(route);
                more = false;
                break;
            }
            let mut record = match self.read(due.position) {
                Ok(Some(record)) => record,
                Ok(None) => continue,
                Err(error) => return self.cut_short(batch, error),
            };
            let event = if calls_max > 0 { Event::CallDue } else { Event::HandedBack };
            let step = self.advance(&mut record, due.position, event, now, &mut batch);
            if step.report == Some(Report::Voided) {
                voided += 1;
            } else if step.report == Some(Report::Granted) {
                handed_back += 1;
            } else if !step.changed {
                let hook = self.calls.hook(&use_case);
                hook.status.in_flight += 1;
                hook.served = route;
                if let Some(found) = self.lanes.get_mut(lane) {
                    found.line_mut(Queue::Calling).hide(due.position.place);
                }
                self.calls.held.push_back((self.written(), record.seq));
                self.calls.out.insert(record.seq, (use_case.clone(), record.identity));
            }
        }
        self.commit(batch);
        if voided > 0 {
            self.calls.hook(&use_case).status.voided += voided;
            warn!(name: "grants_void", %use_case, grants = voided, "no hook took these grants while they were of use: they are void");
        }
        if handed_back > 0 {
            warn!(%use_case, grants = handed_back, "there is no hook any more: these grants are left to their agents");
        }
        Ok(more)
    }

    /// Makes the calls whose grants are on disk, if they are still offered. Whoever recalled it, or wants no promotions any more,
    /// may have been told so although the grants of it were not all looked through.
    pub(super) fn let_calls_go(&mut self, now: Timestamp) {
        while let Some((_, seq)) = self.calls.held.front().copied().filter(|(ticket, _)| self.is_durable(*ticket)) {
            self.calls.held.pop_front();
            let Some((_, identity)) = self.calls.out.get(&seq).cloned() else { continue };
            let granted = match self.load(&identity) {
                Ok(Some((mut record, at))) if record.seq == seq => {
                    let mut batch = Batch::default();
                    let unsubscribed =
                        self.lanes.get(record.lane).is_some_and(|lane| self.is_unsubscribed(&lane.spec, record.phone));
                    if !self.recall_first(&mut record, at, now, &mut batch) && unsubscribed {
                        self.advance(&mut record, at, Event::Unsubscribed, now, &mut batch);
                    }
                    self.commit(batch);
                    if record.next_call().is_some() { self.granted(&record) } else { None }
                }
                Ok(_) => None,
                Err(error) => {
                    error!(seq, %error, "a grant can't be read; its hook is called after the next start");
                    None
                }
            };
            match granted {
                Some(granted) => self.effects.push(Effect::Call(seq, Box::new(granted))),
                None => drop(self.calls.over(seq)),
            }
        }
    }

    /// A call is back.
    pub(super) fn called(&mut self, seq: u64, called: Called, now: Timestamp) {
        let Some((use_case, identity)) = self.calls.over(seq) else { return };
        let hook = self.calls.hook(&use_case);
        let good = called == Called::Taken;
        let words: Box<str> = match &called {
            Called::Taken => "".into(),
            Called::Failed(words) | Called::Refused(words) => words.clone(),
            Called::Later(wait) => format!("asks to be left alone for {} s", wait.as_secs()).into(),
        };
        if good {
            hook.status.taken += 1;
        } else {
            hook.status.failed += 1;
        }
        match (good, std::mem::replace(&mut hook.fails, !good)) {
            (false, false) => {
                warn!(name: "hook_fails", %use_case, error = %words, "its fallback hook fails; grants wait and are tried again");
            }
            (true, true) => info!(name: "hook_takes", %use_case, "its fallback hook takes grants again"),
            _ => {}
        }
        if !good {
            hook.status.last_error = Some((now, words));
        }
        match self.load(&identity) {
            Ok(Some((mut record, at))) if record.seq == seq => {
                let mut batch = Batch::default();
                self.advance(&mut record, at, Event::Called(called), now, &mut batch);
                self.commit(batch);
            }
            // Taken back meanwhile, and kept no longer.
            Ok(_) => {}
            Err(error) => error!(seq, %error, "a grant can't be read; its hook is called again after the next start"),
        }
    }

    /// What a hook is told.
    fn granted(&self, record: &Record) -> Option<Granted> {
        let State::Settled { outcome, .. } = record.state else { return None };
        let (found, grant) = (self.lanes.get(record.lane)?, record.grant?);
        Some(Granted {
            grant_id: super::told::grant_id(record),
            agent_id: record.identity.agent.clone(),
            message_id: record.identity.message_id.clone(),
            phone: record.phone,
            use_case: found.spec.use_case.clone(),
            outcome,
            fallback: record.fallback.clone(),
            tags: record.tags.clone(),
            send_time: record.send_time,
            deadline: record.deadline.unwrap_or(record.send_time),
            valid_until: grant.until,
        })
    }

    pub(super) fn calls_status(&self) -> BTreeMap<UseCase, CallsStatus> {
        let known = self.calls.hooks.iter().map(|(name, hook)| (name.clone(), hook.status.clone()));
        let mut all: BTreeMap<UseCase, CallsStatus> = known.collect();
        for (name, policy) in self.policies.iter() {
            if policy.calls_max > 0 {
                all.entry(name.clone()).or_default();
            }
        }
        for (_, lane) in self.lanes.iter() {
            let waiting = lane.line(Queue::Calling).count;
            if waiting > 0 {
                all.entry(lane.spec.use_case.clone()).or_default().waiting += waiting;
            }
        }
        all
    }
}
