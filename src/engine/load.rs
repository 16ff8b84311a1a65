//! What a route has before it, and when it will be through: the backlog, at the present pace.
//!
//! Told from the [tallies](super::tally), so it costs counters and no reads. It is looked at when somebody asks for the status,
//! and every few seconds while requests go out: the log says once when a backlog can't be done in time, and once when it can.

use std::time::Duration;

use tracing::{info, warn};

use super::core::Core;
use super::replies::Load;
use super::retune::release;
use crate::clock::Now;
use crate::model::{Queue, Timestamp};
use crate::store::Store;

/// How often a route that sends is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Later than this is late. Below it lies what every burst of deadlines does.
const LATE: Duration = Duration::from_secs(60);

impl<S: Store> Core<S> {
    /// The load of a route; `None` if nothing is due there.
    pub(super) fn load_of(&self, route: usize, now: Now) -> Option<Load> {
        let route = &self.routes[route];
        // Groups of what may leave now, by when it has to have left.
        let mut groups: Vec<(Timestamp, u64)> = Vec::new();
        for lane in route.lanes.iter().filter_map(|id| self.lanes.get(*id)) {
            for queue in [Queue::Anchor, Queue::Own].into_iter().filter(|queue| !lane.keeps_back(*queue)) {
                let spread = if queue == Queue::Anchor { lane.policy.spread } else { Duration::ZERO };
                // Deadlines never run backwards, so what is due is the first part of the queue.
                let due = lane.line(queue).tally.iter().map(|(at, count)| (release(queue, at, &lane.policy), count));
                for (by, count) in due.take_while(|(by, _)| by.minus(spread) <= now.wall) {
                    match groups.last_mut() {
                        Some((last, n)) if *last == by => *n += count,
                        _ => groups.push((by, count)),
                    }
                }
            }
            for queue in [Queue::Retry, Queue::Recalled].into_iter().filter(|queue| !lane.keeps_back(*queue)) {
                let retries = lane.line(queue);
                if retries.head().is_some_and(|head| head.order <= now.wall) {
                    groups.push((now.wall, retries.count));
                }
            }
        }
        let backlog: u64 = groups.iter().map(|(_, count)| count).sum();
        if backlog == 0 {
            return None;
        }
        groups.sort_unstable();
        let rest = route.pace.resting(now.mono).map_or(Duration::ZERO, |(_, wait)| wait);
        let rate = route.pace.throughput(now.mono).max(f64::MIN_POSITIVE);
        let (mut before, mut late, mut done_by) = (0, false, now.wall);
        for (by, count) in groups {
            before += count;
            let span = Duration::try_from_secs_f64(before as f64 / rate).unwrap_or(Duration::MAX).saturating_add(rest);
            let done = now.wall.plus(span);
            late |= done > by.max(now.wall).plus(LATE);
            // What is spread takes the time it has.
            done_by = done_by.max(done).max(by);
        }
        Some(Load { backlog, done_by, late })
    }

    /// Says once when a route falls behind, and once when it has caught up.
    pub(super) fn watch_load(&mut self, route: usize, now: Now) {
        let (looked, was_late) = self.routes[route].load;
        let nothing_out = was_late && self.routes[route].pace.in_flight() == 0;
        if now.mono < looked + LOOK_EVERY && !nothing_out {
            return;
        }
        let load = self.load_of(route, now);
        let late = load.is_some_and(|load| load.late);
        self.routes[route].load = (now.mono, late);
        let (found, per_second) = (&self.routes[route], self.routes[route].pace.throughput(now.mono));
        let (agent, region) = (&found.agent, found.region);
        match load {
            Some(Load { backlog, done_by, .. }) if late && !was_late => {
                warn!(name: "falls_behind", %agent, %region, backlog, per_second, %done_by, "revocations can't all leave in time at this pace");
            }
            _ if was_late && !late => info!(name: "catches_up", %agent, %region, "revocations leave in time again"),
            _ => {}
        }
    }
}
