//! Holds: pending deadlines that pass without a DELETE until somebody says that they may.
//!
//! A hold without a tag keeps back whole lanes: they are not picked from, which costs nothing however much waits in them. One
//! with a tag is met message by message: whose turn comes while it is in force is put aside, durably, and comes back in
//! strides once no hold names it any more. Nothing of that has to be remembered across a crash but the holds and who is
//! put aside: at a start everything aside is looked through once.
//!
//! What is held may be delivered or withdrawn as ever. The time under a hold does not count: not for `give_up_after`, and not
//! as lateness. So a hold is kept for a while after its release.

use std::collections::BTreeMap;

use tracing::info;

use super::core::{Batch, Core};
use super::handle::{Command, Handle};
use super::replies::{Refusal, RefusalKind};
use crate::model::{
    Event, Hold, LaneSpec, Position, Queue, Record, Selector, State, Timestamp, policy::PLATFORM_KEEPS,
};
use crate::store::{Change, Snapshot, Store};

/// Holds in force at a time: each is asked about every message under a tag.
const HOLDS_MAX: usize = 100;
/// Released holds that are remembered at most. No message lives longer than the platform keeps it, and so none of them either.
const RELEASED_MAX: usize = 100;

/// A hold, and what it does.
#[derive(Clone, PartialEq, Debug)]
pub struct HoldStatus {
    /// The hold.
    pub hold: Hold,
    /// Messages that wait in the lanes it keeps back. With a tag: those put aside so far, for this one and others with a tag.
    pub waiting: u64,
}

/// Which hold is to be released.
#[derive(Clone, PartialEq, Debug)]
pub enum Which {
    /// The one with this number.
    Id(u64),
    /// The one that names exactly this.
    Of(Selector),
}

/// What the holds mean for one lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Held {
    /// None of its messages may be tried.
    pub all: bool,
    /// Those with some tag may not.
    pub some: bool,
    /// When the last hold was released that concerned any of its messages; else the epoch.
    pub until: Timestamp,
}

/// All holds.
#[derive(Debug, Default)]
pub(super) struct Holds(BTreeMap<u64, Hold>);

impl Holds {
    pub(super) fn recover(snapshot: &Snapshot) -> Self {
        Self(snapshot.holds.iter().map(|hold| (hold.id, hold.clone())).collect())
    }

    fn in_force(&self) -> impl Iterator<Item = &Hold> {
        self.0.values().filter(|hold| hold.released.is_none())
    }

    /// What they mean for a lane.
    pub(super) fn on(&self, lane: &LaneSpec) -> Held {
        let mut held = Held::default();
        for hold in self.0.values().filter(|hold| hold.of.covers(lane)) {
            match hold.released {
                Some(at) => held.until = held.until.max(at),
                None if hold.of.tag.is_none() => held.all = true,
                None => held.some = true,
            }
        }
        held
    }

    /// The holds that are not needed any more.
    fn worn_out(&self, now: Timestamp) -> Vec<u64> {
        let mut released: Vec<_> = self.0.values().filter_map(|hold| Some((hold.released?, hold.id))).collect();
        released.sort_unstable();
        let surplus = released.len().saturating_sub(RELEASED_MAX);
        let old = |at: Timestamp| at.plus(PLATFORM_KEEPS) < now;
        (0..).zip(released).filter(|(n, (at, _))| *n < surplus || old(*at)).map(|(_, (_, id))| id).collect()
    }
}

impl<S: Store> Core<S> {
    /// Puts a hold in force. The same one twice is one.
    pub(super) fn hold(
        &mut self,
        of: Selector,
        reason: Option<Box<str>>,
        now: Timestamp,
    ) -> Result<HoldStatus, Refusal> {
        if let Some(known) = self.holds.in_force().find(|hold| hold.of == of) {
            return Ok(self.hold_status(known));
        }
        self.store.writable().map_err(|error| Refusal::unavailable(error.to_string()))?;
        if self.holds.in_force().count() >= HOLDS_MAX {
            let message = format!("{HOLDS_MAX} holds are in force already: release one, or hold with fewer words");
            return Err(Refusal::conflict(message));
        }
        let hold = Hold { id: self.new_seq(), of, reason, since: now, released: None };
        info!(name: "held", hold = hold.id, of = %hold.of, "held: nothing of it is revoked until the hold is released");
        Ok(self.put_hold(&hold, now))
    }

    /// Ends a hold: what it kept back and is due leaves as the pace lets it.
    pub(super) fn release(&mut self, which: &Which, now: Timestamp) -> Result<HoldStatus, Refusal> {
        let is_meant = |hold: &&Hold| match which {
            Which::Id(id) => hold.id == *id,
            Which::Of(of) => hold.of == *of,
        };
        let Some(hold) = self.holds.in_force().find(is_meant).cloned() else {
            let in_force: Vec<_> = self.holds.in_force().map(|hold| format!("{} ({})", hold.id, hold.of)).collect();
            let in_force = if in_force.is_empty() { "none".to_owned() } else { in_force.join("; ") };
            let message = format!("no such hold is in force; there are: {in_force}");
            return Err(Refusal { kind: RefusalKind::NotFound, message, field: None });
        };
        let waiting = self.hold_status(&hold).waiting;
        info!(name: "released", hold = hold.id, of = %hold.of, waiting, "released: what is due leaves now");
        let status = self.put_hold(&Hold { released: Some(now), ..hold }, now);
        self.sift_again(&status.hold.of, Queue::Held);
        Ok(HoldStatus { waiting, ..status })
    }

    fn put_hold(&mut self, hold: &Hold, now: Timestamp) -> HoldStatus {
        let mut changes = vec![Change::Hold(hold.clone())];
        self.holds.0.insert(hold.id, hold.clone());
        for id in self.holds.worn_out(now) {
            self.holds.0.remove(&id);
            changes.push(Change::HoldGone(id));
        }
        self.commit(Batch { changes, ..Batch::default() });
        self.heed_holds();
        self.dirty.extend((0..self.routes.len()).chain([super::chores::CHORES]));
        self.hold_status(hold)
    }

    /// The lanes know what the holds mean for them.
    pub(super) fn heed_holds(&mut self) {
        for lane in self.lanes.iter_mut() {
            lane.held = self.holds.on(&lane.spec);
        }
    }

    pub(super) fn hold_status(&self, hold: &Hold) -> HoldStatus {
        let lanes = self.lanes.iter().filter(|(_, lane)| hold.released.is_none() && hold.of.covers(&lane.spec));
        let waiting = |queue: Queue| lanes.clone().map(move |(_, lane)| lane.line(queue).count).sum::<u64>();
        let aside = waiting(Queue::Held);
        let waiting = match hold.of.tag {
            Some(_) => aside,
            None => aside + Queue::ATTEMPTS.into_iter().filter(|queue| queue.may_be_held()).map(waiting).sum::<u64>(),
        };
        HoldStatus { hold: hold.clone(), waiting }
    }

    /// The holds in force.
    pub(super) fn holds(&self) -> Vec<HoldStatus> {
        self.holds.in_force().map(|hold| self.hold_status(hold)).collect()
    }

    /// The hold that keeps a message back, if one does: also before its deadline.
    pub(super) fn hold_on(&self, record: &Record) -> Option<&Hold> {
        let lane = self.lanes.get(record.lane)?;
        let waits = matches!(record.state, State::Pending | State::Revoking { in_flight: false, .. });
        if !waits || !record.position().queue.may_be_held() && !record.held || lane.held == Held::default() {
            return None;
        }
        self.holds.in_force().find(|hold| hold.of.matches(&lane.spec, &record.tags))
    }

    /// Until when a hold kept a message back that does so no longer, or when its recall began; the epoch if neither.
    pub(super) fn held_until(&self, record: &Record) -> Timestamp {
        let recalled =
            record.recall.and_then(|id| self.recalls.get(id)).map_or(Timestamp::EPOCH, |recall| recall.began);
        let Some(lane) = self.lanes.get(record.lane).filter(|lane| lane.held.until > Timestamp::EPOCH) else {
            return recalled;
        };
        let matching = self.holds.0.values().filter(|hold| hold.of.matches(&lane.spec, &record.tags));
        matching.filter_map(|hold| hold.released).fold(recalled, Timestamp::max)
    }

    /// Puts a message aside whose turn has come, if a hold names its tag.
    pub(super) fn put_aside(&mut self, record: &mut Record, at: Position, now: Timestamp, batch: &mut Batch) -> bool {
        let some = at.queue.may_be_held() && self.lanes.get(at.lane).is_some_and(|lane| lane.held.some);
        let Some(hold) = self.hold_on(record).filter(|_| some) else { return false };
        let words = format!("hold {}: {}", hold.id, hold.of).into();
        // The fence that says so may be another one when it comes back.
        record.attempts.unknown |= self.is_in_doubt(at);
        self.advance(record, at, Event::PutAside(words), now, batch);
        true
    }
}

impl Handle {
    /// Puts a hold in force.
    ///
    /// # Errors
    /// 409 if there are too many.
    pub async fn hold(&self, of: Selector, reason: Option<Box<str>>) -> Result<HoldStatus, Refusal> {
        self.ask(|reply| Command::Hold(of, reason, reply)).await
    }

    /// Releases a hold; tells how many it kept back.
    ///
    /// # Errors
    /// 404 if it is not in force.
    pub async fn release(&self, which: Which) -> Result<HoldStatus, Refusal> {
        self.ask(|reply| Command::Release(which, reply)).await
    }

    /// The holds in force.
    ///
    /// # Errors
    /// As for [`Handle::register`].
    pub async fn holds(&self) -> Result<Vec<HoldStatus>, Refusal> {
        self.ask(Command::Holds).await
    }
}
