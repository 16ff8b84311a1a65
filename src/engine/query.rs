//! What can be asked: one message, a page of them, outcomes, how it goes. Every answer is bounded work.

use std::collections::BTreeMap;
use std::fmt;

use super::asked::{Filter, StateKind};
use super::core::Core;
use super::counters::Counters;
use super::replies::{Described, Outcomes, Page, Refusal, RouteStatus, Status};
use crate::clock::Now;
use crate::model::agents::meant;
use crate::model::{AgentId, Agents, Identity, LaneId, LaneSpec, Place, Position, Queue, Record, Timestamp};
use crate::spans::Measured;
use crate::store::{Cursor, Store, StoreError};

/// Records looked at for one page, matching or not.
const LOOKED_AT_MAX: usize = 4096;

impl<S: Store> Core<S> {
    pub(super) fn get(&self, identity: &Identity) -> Result<Described, Refusal> {
        let found = self.load(identity).map_err(unreadable)?;
        found.map(|(record, _)| self.describe(record)).ok_or_else(|| Refusal::not_found(identity))
    }

    /// A page, in the order of lanes, queues and places. What changes state while the pages are turned may be missed or
    /// seen twice; what stays is seen once.
    pub(super) fn list(&self, filter: &Filter, limit: usize, after: Option<&str>) -> Result<Page, Refusal> {
        let lanes = |lane: &LaneSpec| {
            filter.use_case.as_ref().is_none_or(|name| *name == lane.use_case)
                && meant(filter.agents.as_ref(), &lane.agent)
        };
        let queues = |queue| may_hold(queue, filter.state) && (!filter.calling || queue == Queue::Calling);
        self.page(lanes, queues, |record| matches(record, filter), limit, after)
    }

    /// A page of what stands in some queues of some lanes and is meant.
    pub(super) fn page(
        &self,
        lanes: impl Fn(&LaneSpec) -> bool,
        queues: impl Fn(Queue) -> bool,
        is_meant: impl Fn(&Record) -> bool,
        limit: usize,
        after: Option<&str>,
    ) -> Result<Page, Refusal> {
        let mut from: Option<Position> = after.map(parse_token).transpose()?;
        let mut page = Page::default();
        let mut looked_at = 0;
        loop {
            let wanted = (LOOKED_AT_MAX - looked_at).min(512);
            let stretch = self.stretch(&lanes, &queues, from, wanted).map_err(unreadable)?;
            for position in &stretch {
                looked_at += 1;
                if let Some(record) = self.standing(position).map_err(unreadable)?.filter(&is_meant) {
                    page.messages.push(self.describe(record));
                }
                if page.messages.len() >= limit || looked_at >= LOOKED_AT_MAX {
                    page.next = Some(Token(*position).to_string());
                    return Ok(page);
                }
            }
            if stretch.len() < wanted {
                return Ok(page);
            }
            from = stretch.last().copied();
        }
    }

    /// The first `limit` positions behind `after` in these lanes and in these queues, in order. Fewer are the last.
    pub(super) fn stretch(
        &self,
        lanes: impl Fn(&LaneSpec) -> bool,
        queues: impl Fn(Queue) -> bool,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Vec<Position>, StoreError> {
        let mut found = Vec::new();
        let first = after.map_or(LaneId(0), |after| after.lane);
        for (id, lane) in self.lanes.from(first).filter(|(_, lane)| lanes(&lane.spec)) {
            for queue in Queue::ALL.into_iter().filter(|queue| queues(*queue) && lane.line(*queue).count > 0) {
                let from = match after.filter(|after| after.lane == id) {
                    Some(after) if queue < after.queue => continue,
                    Some(after) if queue == after.queue => Some(after.place),
                    _ => None,
                };
                let places = self.store.places(id, queue, from, limit - found.len())?;
                found.extend(places.into_iter().map(|place| Position { lane: id, queue, place }));
                if found.len() >= limit {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    pub(super) fn standing(&self, position: &Position) -> Result<Option<Record>, StoreError> {
        match self.flights.get(&position.place.seq) {
            Some(flight) => Ok(Some(flight.record.clone())),
            None => self.store.at(position),
        }
    }

    /// Outcomes after a cursor; without one, after what was acknowledged.
    pub(super) fn outcomes(
        &self,
        after: Option<Cursor>,
        limit: usize,
        agents: Option<&Agents>,
    ) -> Result<Outcomes, Refusal> {
        let after = after.unwrap_or_else(|| self.acknowledged(agents));
        let looked_at = self.store.outcomes(after, limit.min(LOOKED_AT_MAX)).map_err(unreadable)?;
        let mut next = after;
        let mut entries = Vec::with_capacity(looked_at.len());
        // Only what is on disk is told: a crash must not take back an outcome that an agent acted on.
        for (cursor, entry) in looked_at.into_iter().take_while(|(cursor, _)| *cursor <= self.durable_cursor) {
            next = cursor;
            if meant(agents, &entry.identity.agent) {
                entries.push((cursor, entry));
            }
        }
        Ok(Outcomes { entries, next })
    }

    /// What the slowest of some agents, or of all, has taken note of.
    pub(super) fn acknowledged(&self, agents: Option<&Agents>) -> Cursor {
        let of = |agent: &AgentId| self.acked.get(agent).copied().unwrap_or(0);
        let asked = self.routes.iter().map(|route| &route.agent).filter(|agent| meant(agents, agent));
        asked.map(of).min().unwrap_or(0)
    }

    /// How it goes. Of some agents: what is counted for each agent, and nothing of what is only counted for all together.
    pub(super) fn status(&mut self, agents: Option<&Agents>, now: Now) -> Status {
        let mut counts: BTreeMap<_, u64> = BTreeMap::new();
        let mut next_due: Option<Timestamp> = None;
        let mut oldest: Option<Timestamp> = None;
        let mut window = 0;
        for (_, lane) in self.lanes.iter().filter(|(_, lane)| meant(agents, &lane.spec.agent)) {
            for queue in Queue::ALL {
                let line = lane.line(queue);
                window += line.places().len();
                *counts.entry((lane.spec.use_case.clone(), kind(queue))).or_default() += line.count;
                if queue.is_settled() || !queue.is_timed() || lane.keeps_back(queue) {
                    continue;
                }
                let Some(head) = line.head() else { continue };
                let due = self.looked_at(lane, queue, head);
                if due > now.wall {
                    next_due = Some(next_due.map_or(due, |next| next.min(due)));
                } else if Queue::ATTEMPTS.contains(&queue) {
                    oldest = Some(oldest.map_or(due, |oldest| oldest.min(due)));
                }
            }
        }
        // An attempt that is out still stands where it waited; to those who ask it is being revoked.
        let flights = self.flights.values().filter(|flight| meant(agents, &flight.record.identity.agent));
        let in_flight = flights.clone().count();
        for flight in flights {
            let Some(lane) = self.lanes.get(flight.record.lane) else { continue };
            let use_case = &lane.spec.use_case;
            if let Some(count) = counts.get_mut(&(use_case.clone(), kind(flight.stored_at.queue))) {
                *count -= 1;
            }
            *counts.entry((use_case.clone(), StateKind::Revoking)).or_default() += 1;
        }
        let route = |(id, route): (usize, &super::core::Route)| RouteStatus {
            load: self.load_of(id, now),
            agent: route.agent.clone(),
            region: route.region,
            in_flight: route.pace.in_flight(),
            per_second: route.pace.rate(now.mono),
            resting: route.pace.resting(now.mono),
        };
        let early = match agents {
            None => self.early.len(),
            Some(agents) => self.early.iter().filter(|event| agents.has(&event.identity.agent)).count(),
        };
        let for_all = agents.is_none();
        Status {
            counts,
            in_flight,
            next_due,
            backlog_age: oldest.map(|oldest| now.wall.since(oldest)).unwrap_or_default(),
            routes: self
                .routes
                .iter()
                .enumerate()
                .filter(|(_, route)| meant(agents, &route.agent))
                .map(route)
                .collect(),
            settled: if for_all { self.settled.clone() } else { BTreeMap::new() },
            lateness: if for_all { self.times.lateness.measured() } else { Measured::default() },
            answer_times: if for_all { self.times.answers.measured() } else { Measured::default() },
            counters: if for_all { self.counters.clone() } else { Counters::default() },
            last_cursor: self.durable_cursor,
            lost_outcomes: self.lost_outcomes,
            early_events: early,
            unsubscribed: self.subscriptions.ended(agents),
            holds: self.holds(),
            config_hash: self.config_hash.clone(),
            use_cases: self.policies.iter().map(|(name, _)| name.clone()).collect(),
            calls: if for_all { self.calls_status() } else { BTreeMap::new() },
            clock: self.disbelief(),
            store_error: self.store.writable().err().map(|error| error.to_string()),
            store: self.store.figures(),
            window,
        }
    }
}

/// The state of what stands in a queue, but for attempts that are out. What was put aside may also wait for a retry; it counts
/// as pending.
fn kind(queue: Queue) -> StateKind {
    match queue {
        Queue::Anchor | Queue::Own | Queue::Held => StateKind::Pending,
        Queue::Retry | Queue::Recalled => StateKind::Revoking,
        Queue::Settling => StateKind::Settling,
        Queue::Kept | Queue::Listed | Queue::Calling => StateKind::Settled,
    }
}

/// Attempts that are out still stand where they waited.
fn may_hold(queue: Queue, state: Option<StateKind>) -> bool {
    match state {
        None => true,
        Some(StateKind::Revoking) => Queue::ATTEMPTS.contains(&queue) || queue == Queue::Held,
        Some(state) => kind(queue) == state,
    }
}

fn matches(record: &Record, filter: &Filter) -> bool {
    filter.state.is_none_or(|state| state == StateKind::from(record))
        && filter.tag.as_ref().is_none_or(|tag| record.tags.contains(tag))
}

fn unreadable(error: impl fmt::Display) -> Refusal {
    Refusal::unavailable(error.to_string())
}

/// A position as an opaque word.
struct Token(Position);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { lane, queue, place } = self.0;
        write!(f, "{:x}.{:x}.{:x}.{:x}", lane.0, queue as u8, place.order.millis(), place.seq)
    }
}

fn parse_token(token: &str) -> Result<Position, Refusal> {
    let mut parts = token.split('.').map(|part| u64::from_str_radix(part, 16).ok());
    let mut part = || parts.next().flatten();
    let position = || {
        let lane = LaneId(part()?.try_into().ok()?);
        let queue = *Queue::ALL.get(usize::try_from(part()?).ok()?)?;
        let order = Timestamp::from_millis(part()?.try_into().ok()?);
        Some(Position { lane, queue, place: Place { order, seq: part()? } })
    };
    let mut position = position;
    position().ok_or_else(|| Refusal::invalid("pageToken", "not a page token that was given out here"))
}
