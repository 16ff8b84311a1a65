//! Who wants no promotions any more, and what becomes of the grants that there are for them.
//!
//! That a phone has unsubscribed is asked whenever one of its promotions takes a step, so whatever settles from then on grants
//! nothing. What was granted before is looked for beside the work: where a hook is to be called, in the queues of the
//! lanes; and in the part of the outcome log that its agent did not acknowledge, as far as any grant is there that no hook
//! has. (Which way a grant went was said by the configuration of its day.) A crash on the way costs one look through
//! all of that at the next start, for everybody who is unsubscribed.

use std::collections::{BTreeSet, HashMap, VecDeque};

use tracing::{error, warn};

use super::asked::Said;
use super::core::{Batch, Core};
use super::handle::{Command, Handle};
use super::replies::{EvidenceEffect, Refusal};
use crate::model::agents::meant;
use crate::model::subscription::REPEATED_FOR;
use crate::model::{
    AgentId, Agents, Event, Grant, GrantState, LaneId, LaneSpec, Phone, Place, Position, Queue, Record, Subscription,
    Timestamp, TrafficType,
};
use crate::store::{Change, Cursor, Snapshot, Store, StoreError};

/// What was said last, by agent and phone.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    by_agent: HashMap<AgentId, HashMap<Phone, Subscription>>,
    /// In the order in which they may go: those that are no more than a guard against what comes late are first.
    order: BTreeSet<(bool, Timestamp, AgentId, Phone)>,
    sweep: Sweep,
    /// No entry of the log behind this one carries a grant that no hook has. After a start any of them may.
    pub(super) unhooked: Cursor,
    /// Some had to go that may still matter: said once.
    overflown: bool,
}

/// Whose grants are being looked for, and how far.
#[derive(Debug, Default)]
struct Sweep {
    of: BTreeSet<(AgentId, Phone)>,
    /// Those who come next: one look serves all that came meanwhile.
    next: BTreeSet<(AgentId, Phone)>,
    lanes: VecDeque<LaneId>,
    place: Option<Place>,
    /// Behind this entry of the log, up to that one.
    log: (Cursor, Cursor),
    /// The last of those looked through that carries a grant which no hook has. `None`: not all of the log is looked through.
    unhooked: Option<Cursor>,
}

/// Whether its agent may take note of it yet, or somebody decide on it.
fn is_unhooked(grant: Option<&Grant>) -> bool {
    grant.is_some_and(|grant| grant.call.is_none() && matches!(grant.state, GrantState::Offered | GrantState::Held))
}

fn is_promotion(lane: &LaneSpec) -> bool {
    lane.traffic_type == TrafficType::Promotion
}

impl Subscriptions {
    pub(super) fn recover(snapshot: &Snapshot) -> Self {
        let mut all = Self { unhooked: snapshot.last_cursor, ..Self::default() };
        for known in &snapshot.subscriptions {
            all.insert(known.clone());
        }
        all
    }

    fn insert(&mut self, one: Subscription) {
        let key = (one.agent.clone(), one.phone);
        self.order.insert((one.ended, one.heard, one.agent.clone(), one.phone));
        if one.ended {
            self.sweep.next.insert(key);
        } else {
            self.sweep.next.remove(&key);
        }
        self.by_agent.entry(one.agent.clone()).or_default().insert(one.phone, one);
    }

    fn remove(&mut self, agent: &AgentId, phone: Phone) {
        let Some(phones) = self.by_agent.get_mut(agent) else { return };
        if let Some(gone) = phones.remove(&phone) {
            self.order.remove(&(gone.ended, gone.heard, gone.agent, phone));
        }
        if phones.is_empty() {
            self.by_agent.remove(agent);
        }
    }

    fn known(&self, agent: &AgentId, phone: Phone) -> Option<&Subscription> {
        self.by_agent.get(agent)?.get(&phone)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Subscription> {
        self.by_agent.values().flat_map(HashMap::values)
    }

    /// How many are unsubscribed, of some agents or of all.
    pub(super) fn ended(&self, agents: Option<&Agents>) -> usize {
        self.iter().filter(|one| one.ended && meant(agents, &one.agent)).count()
    }

    /// An entry of the log comes with this grant.
    pub(super) fn told(&mut self, cursor: Cursor, grant: Option<&Grant>) {
        if is_unhooked(grant) {
            self.unhooked = cursor;
        }
    }

    /// Takes note of it, if it is news, and makes room for it.
    fn hear(&mut self, news: Subscription, max: usize, changes: &mut Vec<Change>) -> bool {
        if self.known(&news.agent, news.phone).is_some_and(|known| !news.supersedes(known)) {
            return false;
        }
        self.remove(&news.agent, news.phone);
        let now = news.heard;
        changes.push(Change::Subscription(news.clone()));
        self.insert(news);
        while let Some((ended, heard, agent, phone)) = self.order.first().cloned() {
            let late = !ended && heard.plus(REPEATED_FOR) <= now;
            if !late && self.order.len() <= max {
                break;
            }
            if ended && !std::mem::replace(&mut self.overflown, true) {
                warn!(kept = max, "the oldest unsubscriptions are forgotten: raise [retention] unsubscribed_max");
            }
            self.remove(&agent, phone);
            changes.push(Change::SubscriptionGone(agent, phone));
        }
        true
    }
}

impl<S: Store> Core<S> {
    /// Takes note of what a user said.
    pub(super) fn listen(&mut self, said: Said, now: Timestamp) -> EvidenceEffect {
        let Said { agent, phone, ended, at } = said;
        // A handset's clock may be wrong; what it said from the future would never be superseded.
        self.hear(Subscription { agent, phone, ended, said: at.unwrap_or(now).min(now), heard: now })
    }

    /// Takes it over, if it is news.
    pub(super) fn hear(&mut self, news: Subscription) -> EvidenceEffect {
        let mut batch = Batch::default();
        let is_news = self.subscriptions.hear(news, self.settings.unsubscribed_max, &mut batch.changes);
        self.commit(batch);
        self.dirty.insert(super::chores::CHORES);
        if is_news { EvidenceEffect::Applied } else { EvidenceEffect::Duplicate }
    }

    /// No SMS may stand in for what this agent sends to this phone in that lane.
    pub(super) fn is_unsubscribed(&self, lane: &LaneSpec, phone: Phone) -> bool {
        is_promotion(lane) && self.subscriptions.known(&lane.agent, phone).is_some_and(|known| known.ended)
    }

    /// One stride of looking for their grants. `false`: there is nobody whose grants are to be looked for.
    pub(super) fn sweep(&mut self, now: Timestamp) -> Result<bool, StoreError> {
        if self.subscriptions.sweep.of.is_empty() && !self.begin_sweep() {
            return Ok(false);
        }
        let mut batch = Batch::default();
        let Sweep { lanes, place, log: (from, to), .. } = &self.subscriptions.sweep;
        let (from, to, place) = (*from, *to, *place);
        if let Some(lane) = lanes.front().copied() {
            let places = self.store.places(lane, Queue::Calling, place, self.scale.stride)?;
            for place in &places {
                let position = Position { lane, queue: Queue::Calling, place: *place };
                match self.read(position) {
                    Ok(Some(record)) => self.take_back(record, position, now, &mut batch),
                    Ok(None) => {}
                    Err(error) => return self.cut_short(batch, error),
                }
            }
            let sweep = &mut self.subscriptions.sweep;
            sweep.place = places.last().copied().filter(|_| places.len() == self.scale.stride);
            if sweep.place.is_none() {
                sweep.lanes.pop_front();
            }
        } else if from < to {
            let entries = self.store.outcomes(from, self.scale.stride)?;
            for (_, entry) in &entries {
                if entry.grant.is_none() || !self.is_swept(&entry.identity.agent, entry.phone) {
                    continue;
                }
                if batch.touches(&entry.identity) {
                    self.commit(std::mem::take(&mut batch));
                }
                match self.load(&entry.identity) {
                    Ok(Some((record, at))) => self.take_back(record, at, now, &mut batch),
                    Ok(None) => {}
                    Err(StoreError::Corrupt(why)) => {
                        error!(%why, "a record makes no sense: its grant is not taken back");
                    }
                    Err(error) => return self.cut_short(batch, error),
                }
            }
            let last = entries.iter().rev().find(|(_, entry)| is_unhooked(entry.grant.as_ref()));
            let sweep = &mut self.subscriptions.sweep;
            sweep.unhooked = sweep.unhooked.map(|known| last.map_or(known, |(cursor, _)| *cursor));
            sweep.log.0 = entries.last().map_or(to, |(cursor, _)| *cursor);
        } else {
            self.subscriptions.sweep.of.clear();
            // Unless another one came meanwhile: so the next look need not go through all of it again.
            if let Some(last) = self.subscriptions.sweep.unhooked.filter(|_| self.subscriptions.unhooked <= to) {
                self.subscriptions.unhooked = last;
            }
        }
        self.commit(batch);
        Ok(true)
    }

    /// Whose turn it is, and where their grants may be.
    fn begin_sweep(&mut self) -> bool {
        let of = std::mem::take(&mut self.subscriptions.sweep.next);
        if of.is_empty() {
            return false;
        }
        let agents: BTreeSet<&AgentId> = of.iter().map(|(agent, _)| agent).collect();
        let promotions =
            || self.lanes.iter().filter(|(_, lane)| is_promotion(&lane.spec) && agents.contains(&lane.spec.agent));
        let calling = promotions().filter(|(_, lane)| lane.line(Queue::Calling).count > 0);
        let acked = |agent| self.acked.get(agent).copied().unwrap_or(0);
        let from = promotions().map(|(_, lane)| acked(&lane.spec.agent)).min().unwrap_or(self.last_cursor);
        let lanes = calling.map(|(id, _)| id).collect();
        let (place, log, next) = (None, (from, self.last_cursor.min(self.subscriptions.unhooked)), BTreeSet::new());
        let unhooked = (from <= self.trimmed).then_some(0);
        self.subscriptions.sweep = Sweep { of, next, lanes, place, log, unhooked };
        true
    }

    fn is_swept(&self, agent: &AgentId, phone: Phone) -> bool {
        self.subscriptions.sweep.of.contains(&(agent.clone(), phone))
    }

    fn take_back(&mut self, mut record: Record, at: Position, now: Timestamp, batch: &mut Batch) {
        if self.is_swept(&record.identity.agent, record.phone) {
            self.advance(&mut record, at, Event::Unsubscribed, now, batch);
        }
    }
}

impl Handle {
    /// Hands in what a user said of an agent's promotions; answered when it is on disk.
    ///
    /// # Errors
    /// As for [`Handle::register`].
    pub async fn subscription(&self, said: Said) -> Result<EvidenceEffect, Refusal> {
        self.ask(|reply| Command::Subscription(said, reply)).await
    }
}
