//! Recalls: a whole campaign is taken back now, and who has it already is known to the message.
//!
//! A recall is a durable job. It looks through everything that it names, a stride at a time, and marks what was registered
//! before it began; what is open then stands in a queue of its own and leaves within the pace as all else does, also from
//! under a hold. The mark, the counts and how far it got are one write with each stride, so a crash changes nothing.
//!
//! Nothing slips through while it looks: whoever touches a message that it names and has not reached yet marks it first (see
//! [`Core::advance`]), so what is unmarked stands where it stood. A message belongs to the first recall that finds it. What is
//! settled is kept as long as its recall, for the list of who received it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tracing::info;

use super::core::{Batch, Core};
use super::handle::{Command, Handle};
use super::replies::{Page, Refusal, RefusalKind};
use crate::clock::Now;
use crate::model::{Event, Outcome, Position, Queue, Recall, Record, Selector, State, Timestamp};
use crate::store::{Change, Snapshot, Store, StoreError};

/// Recalls under way at a time: each is asked about every message that is touched.
const UNDER_WAY_MAX: usize = 16;
/// Ended recalls that are kept at most, with their lists; none longer than settled messages.
const ENDED_MAX: usize = 16;
/// Messages counted in one go by a dry run.
const SURVEYED_MAX: usize = 1024;

/// What a recall would do, as far as it was counted.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Survey {
    /// What would be recalled.
    pub of: Selector,
    /// Messages that would be revoked.
    pub open: u64,
    /// Messages that have an outcome already, of those retained.
    pub settled: BTreeMap<Outcome, u64>,
    /// How long it would take to send the DELETEs at the present pace.
    pub takes: Duration,
    /// Everything is counted.
    pub done: bool,
    after: Option<Position>,
    by_route: BTreeMap<usize, u64>,
}

impl Survey {
    /// One that begins.
    pub(super) fn new(of: Selector) -> Self {
        Self { of, ..Self::default() }
    }
}

/// All recalls.
#[derive(Debug, Default)]
pub(super) struct Recalls(BTreeMap<u64, Recall>);

impl Recalls {
    pub(super) fn recover(snapshot: &Snapshot) -> Self {
        Self(snapshot.recalls.iter().map(|recall| (recall.id, recall.clone())).collect())
    }

    pub(super) fn get(&self, id: u64) -> Option<&Recall> {
        self.0.get(&id)
    }
}

/// Where it looks: what it has marked stands elsewhere.
fn is_unmarked(queue: Queue) -> bool {
    !matches!(queue, Queue::Recalled | Queue::Listed)
}

impl<S: Store> Core<S> {
    /// Begins a recall. The same one twice is one, until it has ended.
    pub(super) fn recall(&mut self, of: Selector, reason: Option<Box<str>>, now: Timestamp) -> Result<Recall, Refusal> {
        let mut under_way = self.recalls.0.values().filter(|recall| recall.ended.is_none());
        if let Some(known) = under_way.clone().find(|recall| recall.of == of) {
            return Ok(known.clone());
        }
        if under_way.nth(UNDER_WAY_MAX - 1).is_some() {
            let message = format!("{UNDER_WAY_MAX} recalls are under way: wait until one has ended");
            return Err(Refusal::conflict(message));
        }
        self.store.writable().map_err(|error| Refusal::unavailable(error.to_string()))?;
        let id = self.new_seq();
        info!(name: "recalled", recall = id, %of, "recalled: all of it is revoked now");
        self.recalls.0.insert(id, Recall::new(id, of, reason, now));
        let mut batch = Batch { recalls: BTreeSet::from([id]), ..Batch::default() };
        // What is out is to be marked before its answer is back.
        let out: Vec<_> = self.flights.values().map(|flight| (flight.record.clone(), flight.stored_at)).collect();
        for (mut record, at) in out {
            if self.recall_of(&record) == Some(id) {
                self.advance(&mut record, at, Event::Recall(id), now, &mut batch);
                self.still_out(record);
            }
        }
        self.commit(batch);
        self.dirty.insert(super::chores::CHORES);
        Ok(self.recalls.0[&id].clone())
    }

    /// The recall that still looks for this message, if one does.
    pub(super) fn recall_of(&self, record: &Record) -> Option<u64> {
        let mut looking = self.recalls.0.values().filter(|recall| !recall.looked_through && record.seq < recall.id);
        let lane = self.lanes.get(record.lane)?;
        looking.find(|recall| record.recall.is_none() && recall.of.matches(&lane.spec, &record.tags)).map(|r| r.id)
    }

    /// Marks a message that its recall has not reached yet. `false`: none looks for it.
    pub(super) fn recall_first(
        &mut self,
        record: &mut Record,
        at: Position,
        now: Timestamp,
        batch: &mut Batch,
    ) -> bool {
        let Some(id) = self.recall_of(record) else { return false };
        // It moves away from the fence that says so.
        record.attempts.unknown |= self.is_in_doubt(at);
        self.advance(record, at, Event::Recall(id), now, batch);
        true
    }

    /// A message of a recall was changed.
    pub(super) fn recount(
        &mut self,
        id: u64,
        before: Option<State>,
        record: &Record,
        now: Timestamp,
        batch: &mut Batch,
    ) {
        if let Some(recall) = self.recalls.0.get_mut(&id) {
            recall.recount(before, record.state);
            batch.recalls.insert(id);
            self.end_recall(id, now);
        }
    }

    fn end_recall(&mut self, id: u64, now: Timestamp) {
        let Some(recall) = self.recalls.0.get_mut(&id) else { return };
        if recall.ended.is_some() || recall.open > 0 || !recall.looked_through {
            return;
        }
        recall.ended = Some(now);
        let count = |outcome: Outcome| recall.before[outcome as usize] + recall.since[outcome as usize];
        let (delivered, unknown) = (count(Outcome::Delivered), count(Outcome::Unknown));
        info!(name: "recall_ended", recall = id, revoked = count(Outcome::Revoked), delivered, unknown, "recall ended");
        self.dirty.insert(super::chores::CHORES);
    }

    /// One stride of the oldest recall that still looks. `false`: none does.
    pub(super) fn look_on(&mut self, now: Timestamp) -> Result<bool, StoreError> {
        let Some(recall) = self.recalls.0.values().find(|recall| !recall.looked_through) else { return Ok(false) };
        let (id, after) = (recall.id, recall.looked_to);
        let stretch = self.stretch(|lane| recall.of.covers(lane), is_unmarked, after, self.scale.stride)?;
        let mut batch = Batch { recalls: BTreeSet::from([id]), ..Batch::default() };
        for position in &stretch {
            // Whatever is out was marked when it began, or left from under a mark.
            if position.place.seq >= id || self.flights.contains_key(&position.place.seq) {
                continue;
            }
            match self.read(*position) {
                Ok(Some(mut record)) => drop(self.recall_first(&mut record, *position, now, &mut batch)),
                Ok(None) => {}
                // Those before it are marked, and are passed by the next time.
                Err(error) => return self.cut_short(batch, error),
            }
        }
        if let Some(recall) = self.recalls.0.get_mut(&id) {
            recall.looked_to = stretch.last().copied().or(after);
            recall.looked_through = stretch.len() < self.scale.stride;
        }
        self.end_recall(id, now);
        self.commit(batch);
        Ok(true)
    }

    /// Forgets ended recalls that are too old or too many. Returns when to look again.
    pub(super) fn forget_recalls(&mut self, now: Timestamp) -> Option<Duration> {
        let mut ended: Vec<_> = self.recalls.0.values().filter_map(|recall| Some((recall.ended?, recall.id))).collect();
        ended.sort_unstable();
        let surplus = ended.len().saturating_sub(ENDED_MAX);
        let (kept, gone): (Vec<_>, Vec<_>) =
            (0..).zip(ended).partition(|(n, (at, _))| *n >= surplus && self.kept_until(*at) > now);
        let next = kept.first().map(|(_, (at, _))| self.kept_until(*at).since(now));
        // Lists to be looked through: at once.
        let next = if gone.is_empty() { next } else { Some(Duration::ZERO) };
        let mut batch = Batch::default();
        for (_, (_, id)) in gone {
            let Some(recall) = self.recalls.0.remove(&id) else { continue };
            batch.changes.push(Change::RecallGone(id));
            self.sift_again(&recall.of, Queue::Listed);
        }
        self.commit(batch);
        next
    }

    /// The next part of a dry run.
    pub(super) fn survey(&self, mut survey: Survey, now: Now) -> Result<Survey, StoreError> {
        let stretch = self.stretch(|lane| survey.of.covers(lane), is_unmarked, survey.after, SURVEYED_MAX)?;
        for position in &stretch {
            let Some(lane) = self.lanes.get(position.lane) else { continue };
            let settled = if survey.of.tag.is_none() && !position.queue.is_settled() {
                None
            } else {
                let Some(record) = self.standing(position)? else { continue };
                if record.recall.is_some() || !survey.of.matches(&lane.spec, &record.tags) {
                    continue;
                }
                if let State::Settled { outcome, .. } = record.state { Some(outcome) } else { None }
            };
            match settled {
                Some(outcome) => *survey.settled.entry(outcome).or_default() += 1,
                None => {
                    survey.open += 1;
                    *survey.by_route.entry(lane.route).or_default() += 1;
                }
            }
        }
        survey.after = stretch.last().copied().or(survey.after);
        survey.done = stretch.len() < SURVEYED_MAX;
        let takes = |(route, count): (&usize, &u64)| *count as f64 / self.routes[*route].pace.rate(now.mono).max(1.0);
        let seconds = survey.by_route.iter().map(takes).fold(0.0, f64::max);
        survey.takes = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        Ok(survey)
    }

    /// A recall.
    pub(super) fn recall_status(&self, id: u64) -> Result<Recall, Refusal> {
        self.recalls.get(id).cloned().ok_or_else(|| {
            let message = format!("there is no recall {id}, or it ended too long ago: `revokectl recalls` shows them");
            Refusal { kind: RefusalKind::NotFound, message, field: None }
        })
    }

    /// A page of the messages of a recall that were not surely taken back.
    pub(super) fn received(&self, id: u64, limit: usize, after: Option<&str>) -> Result<Page, Refusal> {
        let recall = self.recall_status(id)?;
        let is_meant = |record: &Record| record.recall == Some(id) && Recall::may_be_received(record);
        self.page(|lane| recall.of.covers(lane), |queue| queue == Queue::Listed, is_meant, limit, after)
    }
}

impl Handle {
    /// Begins a recall; goes on without whoever asked.
    ///
    /// # Errors
    /// 409 if there are too many.
    pub async fn recall(&self, of: Selector, reason: Option<Box<str>>) -> Result<Recall, Refusal> {
        self.ask(|reply| Command::Recall(of, reason, reply)).await
    }

    /// What a recall would do.
    ///
    /// # Errors
    /// As for [`Handle::register`].
    pub async fn survey(&self, of: Selector) -> Result<Survey, Refusal> {
        let mut survey = Survey::new(of);
        // Part by part: others are served in between.
        while !survey.done {
            survey = self.ask(|reply| Command::Survey(Box::new(survey), reply)).await?;
        }
        Ok(survey)
    }

    /// The recalls there are, or the one with this number.
    ///
    /// # Errors
    /// 404.
    pub async fn recalls(&self, id: Option<u64>) -> Result<Vec<Recall>, Refusal> {
        self.ask(|reply| Command::Recalls(id, reply)).await
    }

    /// A page of the messages of a recall that were not surely taken back.
    ///
    /// # Errors
    /// 404, or 400 for a page token that is none of ours.
    pub async fn received(&self, id: u64, limit: usize, after: Option<String>) -> Result<Page, Refusal> {
        self.ask(|reply| Command::Received { id, limit, after, reply }).await
    }
}

impl Recalls {
    /// In the order in which they began.
    pub(super) fn all(&self) -> Vec<Recall> {
        self.0.values().cloned().collect()
    }
}
