//! Who looks on, and says when a promise is broken: from plain books of its own, by the slowest and most obvious means.
//!
//! It keeps every word that was spoken to the daemon and what was said to it ([`Word`]), every DELETE, and everything it
//! saw written. Whatever has been answered is known to the daemon from the round on in which it was taken in; what was not
//! answered may or may not be. It never asks the engine what should be: `life` knows one message, `orders` the holds and
//! recalls, `deletes` what leaves, `told` the outcomes and grants, `forward` how a message may change, `counts` what the
//! daemon says of itself.

mod clock;
mod counts;
mod deletes;
mod forward;
mod life;
mod orders;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub(super) use self::clock::Clock;
pub(super) use self::counts::Counted;
use self::deletes::Pace;
use self::life::{Life, is_as_drafted, is_delivery};
use self::told::Line;
use super::asked::{Request, Said};
use super::disk::Seen;
use super::plan::Plan;
use super::{Broken, broken};
use crate::clock::Now;
use crate::engine::{Draft, Evidence, EvidenceEffect, Refusal, RefusalKind, Registered, Tuning, Verb};
use crate::model::{AgentId, AppliesTo, Identity, LaneId, LaneSpec, Record, State, Timestamp, UseCase};
use crate::store::memory::MemoryStore;
use crate::store::{Change, Cursor, Entry};

/// When something was: on both clocks, in which life of the daemon, in which round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub now: Now,
    pub run: u64,
    pub round: u64,
}

/// Something that was asked of the daemon.
pub(super) struct Word {
    request: Request,
    at: Moment,
    /// For each message of a registration, else one.
    heard: Vec<Heard>,
    /// The number of the recall.
    recall: Option<u64>,
}

/// What was heard of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Heard {
    /// Nothing yet.
    Waiting,
    /// It is done, and on disk. For evidence: that it came before its message.
    Done { early: bool },
    /// No.
    Refused,
    /// Nothing, and nothing will be: it may be done or not.
    Never,
}

impl Word {
    fn evidence(&self) -> Option<&Evidence> {
        if let Request::Tell(evidence) = &self.request { Some(evidence) } else { None }
    }

    fn is_done(&self) -> bool {
        matches!(self.heard[..], [Heard::Done { .. }])
    }

    fn may_be_done(&self) -> bool {
        self.heard[..] != [Heard::Refused]
    }

    /// What was asked to be done to a message.
    fn verb(&self, identity: &Identity) -> Option<Verb> {
        match &self.request {
            Request::Do(whose, verb) if whose == identity => Some(*verb),
            _ => None,
        }
    }
}

/// See the module's documentation.
pub(super) struct Oracle {
    tunings: Vec<Tuning>,
    /// The one in force, and the one before it while the reload is not known to be on disk.
    tuning: usize,
    reload: Option<usize>,
    /// The daemon died while it took one over: which messages keep their rule may not be on disk.
    half_reloaded: bool,
    shadow: bool,
    window: usize,
    words: Vec<Word>,
    lives: Vec<Life>,
    current: BTreeMap<Identity, usize>,
    lanes: BTreeMap<LaneId, LaneSpec>,
    log: Vec<Line>,
    /// Outcomes up to this one may be read.
    readable: Cursor,
    read: BTreeMap<Cursor, Entry>,
    grant_ids: BTreeMap<String, usize>,
    sms: BTreeSet<String>,
    calls: BTreeMap<String, UseCase>,
    paces: BTreeMap<(AgentId, crate::model::Region), Pace>,
    clock_stepped: Option<Duration>,
    disk_fails: bool,
}

impl Oracle {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            tunings: plan.tunings.clone(),
            tuning: 0,
            reload: None,
            half_reloaded: false,
            shadow: plan.shadow,
            window: plan.scale.window,
            words: Vec::new(),
            lives: Vec::new(),
            current: BTreeMap::new(),
            lanes: BTreeMap::new(),
            log: Vec::new(),
            readable: 0,
            read: BTreeMap::new(),
            grant_ids: BTreeMap::new(),
            sms: BTreeSet::new(),
            calls: BTreeMap::new(),
            paces: BTreeMap::new(),
            clock_stepped: None,
            disk_fails: false,
        }
    }

    fn tuning(&self) -> &Tuning {
        &self.tunings[self.tuning]
    }

    fn life(&self, identity: &Identity) -> Option<usize> {
        self.current.get(identity).copied()
    }

    /// The time to go by stepped.
    pub(super) fn clock_stepped(&mut self, mono: Duration) {
        self.clock_stepped = Some(mono);
    }

    /// How long ago something was may not be known any more: there was a step of the clock since, and then a start of the daemon,
    /// to which a crash may not have left it.
    fn may_be_forgotten(&self, then: Moment, now: Moment) -> bool {
        then.run != now.run && self.clock_stepped.is_some_and(|at| at >= then.now.mono)
    }

    pub(super) fn disk_fails(&mut self, fails: bool) {
        self.disk_fails = fails;
    }

    /// The daemon came up, with this configuration.
    pub(super) fn started(&mut self, tuning: usize) {
        let another = tuning != self.tuning || std::mem::take(&mut self.half_reloaded);
        self.tuning = tuning;
        self.rules_change(|applies_to| applies_to == AppliesTo::Pending, another);
    }

    /// What is pending follows other rules: surely, or perhaps.
    fn rules_change(&mut self, surely: impl Fn(AppliesTo) -> bool, perhaps: bool) {
        let tuning = self.tunings[self.tuning].clone();
        for life in self.lives.iter_mut().filter(|life| !life.removed) {
            let Some(policy) = tuning.policies.get(&life.use_case) else { continue };
            if surely(policy.applies_to) {
                life.follows(vec![policy.rule.clone()]);
            } else if perhaps && !life.rules.contains(&policy.rule) {
                life.follows(life.rules.iter().cloned().chain([policy.rule.clone()]).collect());
            }
        }
    }

    /// Something is asked. The number is for [`Oracle::said`].
    pub(super) fn asked(&mut self, request: &Request, at: Moment) -> usize {
        let many = if let Request::Register(drafts) = request { drafts.len() } else { 1 };
        self.words.push(Word { request: request.clone(), at, heard: vec![Heard::Waiting; many], recall: None });
        self.words.len() - 1
    }

    /// A reload was taken in and not refused.
    pub(super) fn reloaded(&mut self, tuning: usize) {
        self.reload = Some(self.tuning);
        self.tuning = tuning;
        self.rules_change(|applies_to| applies_to == AppliesTo::Pending, false);
    }

    /// Something is answered.
    pub(super) fn said(&mut self, word: usize, answer: &Result<Said, Refusal>, at: Moment) -> Result<(), Broken> {
        let heard = match answer {
            // It was no news, and so nothing is done.
            Ok(Said::Heard(EvidenceEffect::Duplicate)) => Heard::Refused,
            Ok(_) => Heard::Done { early: false },
            Err(refusal) if refusal.kind == RefusalKind::Unavailable => Heard::Never,
            Err(_) => Heard::Refused,
        };
        self.words[word].heard.fill(heard);
        let request = self.words[word].request.clone();
        match (&request, answer) {
            (Request::Register(drafts), Ok(Said::Registered(results))) => {
                broken!(results.len() == drafts.len(), "an answer for each", "{} for {}", results.len(), drafts.len());
                for (n, (draft, result)) in drafts.iter().zip(results).enumerate() {
                    self.words[word].heard[n] = match result {
                        Ok(_) => Heard::Done { early: false },
                        Err(refusal) if refusal.kind == RefusalKind::Unavailable => Heard::Never,
                        Err(_) => Heard::Refused,
                    };
                    if let Ok(registered) = result {
                        self.registered(draft, registered)?;
                    }
                }
            }
            (Request::Tell(evidence), Ok(Said::Learnt(effects))) => {
                broken!(effects.len() == 1, "an answer for each", "{} for one", effects.len());
                self.learnt(word, evidence, effects[0], at)?;
            }
            (Request::Do(identity, Verb::Withdraw), Ok(Said::Done)) => {
                self.none_left_since(identity, word, "a withdrawn message is not revoked")?;
            }
            (Request::Hold(of), Ok(Said::Held)) => self.held(word, of)?,
            (Request::Recall(_), Ok(Said::Recalled(recall))) => self.words[word].recall = Some(*recall),
            (Request::Reload(_), Ok(_)) => self.reload = None,
            _ => {}
        }
        Ok(())
    }

    /// For a fault that is planted: it is said that it is done.
    pub(super) fn pretend(&mut self, word: usize) {
        self.words[word].heard.fill(Heard::Done { early: false });
    }

    fn registered(&mut self, draft: &Draft, registered: &Registered) -> Result<(), Broken> {
        let record = &registered.message.record;
        let id = &draft.message_id;
        let identity = Identity { agent: draft.agent.clone(), message_id: id.clone() };
        broken!(record.identity == identity, "an answer for each", "{id} was asked, {:?} answered", record.identity);
        // One that was over may have been removed since; one that a crash took is not what was found.
        let Some(life) = self.lives.iter().rposition(|life| life.identity == identity && !life.lost) else {
            return Err(Broken {
                promise: "no acknowledged message is lost",
                words: format!("{id} is acknowledged, and was never written"),
            });
        };
        self.lives[life].sure = true;
        Ok(())
    }

    fn learnt(&mut self, word: usize, told: &Evidence, effect: EvidenceEffect, at: Moment) -> Result<(), Broken> {
        let (id, since) = (&told.identity.message_id, self.words[word].at);
        let before = self.life(&told.identity).is_some_and(|life| self.lives[life].begun.round < since.round);
        // What says no more than what waits already may have come before its message as well.
        let early = effect == EvidenceEffect::Early || effect == EvidenceEffect::Duplicate && !before;
        self.words[word].heard = vec![Heard::Done { early }];
        let Some(life) = self.life(&told.identity).map(|life| &self.lives[life]) else { return Ok(()) };
        // It was there when the evidence came, and nothing was lost since.
        if life.sure && life.begun.round < since.round && life.begun.run == at.run {
            let wanted = if life.phone == told.phone {
                matches!(effect, EvidenceEffect::Applied | EvidenceEffect::Duplicate)
            } else {
                effect == EvidenceEffect::Ignored
            };
            broken!(wanted, "evidence is weighed", "{:?} of {id} is {effect:?}", told.kind);
        }
        // Of one round nobody knows the order, but by what is answered.
        let after =
            life.begun.round < since.round || life.begun.round == since.round && effect == EvidenceEffect::Applied;
        if is_delivery(&told.kind) && life.phone == told.phone && after {
            self.none_left_since(&told.identity, word, "a delivered message is not revoked")?;
        }
        Ok(())
    }

    /// It was delivered, and the daemon has to know.
    fn is_known_delivered(&self, life: &Life) -> bool {
        let mut told = life.told_of(&self.words, is_delivery).filter(|word| word.is_done());
        told.any(|word| {
            let same_round = word.at.round == life.begun.round && word.heard[..] == [Heard::Done { early: false }];
            word.at.round > life.begun.round || same_round || self.waited_for(life, word)
        })
    }

    /// Evidence came before its message, and has to have been kept for it.
    fn waited_for(&self, life: &Life, word: &Word) -> bool {
        let tight = |tuning: &Tuning| (tuning.settings.early_for, tuning.settings.early_max);
        let (keep_for, max) = self
            .tunings
            .iter()
            .map(tight)
            .fold((Duration::MAX, usize::MAX), |least, this| (least.0.min(this.0), least.1.min(this.1)));
        let others: BTreeSet<&Identity> =
            self.words.iter().filter_map(|word| word.evidence()).map(|told| &told.identity).collect();
        let contradicted = self
            .words
            .iter()
            .filter_map(|word| word.evidence())
            .any(|told| told.identity == life.identity && (told.phone != life.phone || !is_delivery(&told.kind)));
        let first = self.lives.iter().filter(|other| other.identity == life.identity).count() == 1;
        // What is told again is not kept for longer than what was told first, also where that was not answered.
        let first_told = life.told_of(&self.words, is_delivery).map(|word| word.at.now.mono).min().unwrap_or_default();
        let waited = life.begun.now.mono.saturating_sub(first_told.min(word.at.now.mono));
        first
            && !contradicted
            && others.len() <= max
            && waited + Duration::from_secs(1) < keep_for
            && !self.may_be_forgotten(word.at, life.begun)
    }

    /// The daemon has just written something.
    pub(super) fn wrote(&mut self, seen: &Seen, at: Moment) -> Result<(), Broken> {
        match &seen.change {
            Change::Lane(id, spec) => drop(self.lanes.insert(*id, spec.clone())),
            Change::Put { record, .. } => match &seen.before {
                Some(before) => self.changed(before, record, at)?,
                None => self.began(record, at)?,
            },
            Change::Remove { identity, .. } => self.removed(identity, seen.before.as_ref(), at)?,
            Change::Outcome(cursor, entry) => self.told(*cursor, entry, at)?,
            Change::TrimOutcomes(cursor) => {
                let most = self.tunings.iter().map(|tuning| tuning.settings.outcomes_max).min().unwrap_or(0);
                let last = self.log.last().map_or(0, |line| line.cursor);
                broken!(cursor + most <= last, "outcomes are kept", "trimmed up to {cursor} of {last}");
            }
            _ => {}
        }
        Ok(())
    }

    fn use_case(&self, record: &Record) -> Result<UseCase, Broken> {
        self.lanes.get(&record.lane).map(|spec| spec.use_case.clone()).ok_or_else(|| Broken {
            promise: "the store's contract",
            words: format!(
                "{} stands in lane {:?}, which was never described",
                record.identity.message_id, record.lane
            ),
        })
    }

    fn drafts<'a>(&'a self, identity: &'a Identity) -> impl Iterator<Item = &'a Draft> {
        self.words
            .iter()
            .filter_map(|word| if let Request::Register(drafts) = &word.request { Some(drafts) } else { None })
            .flatten()
            .filter(|draft| draft.agent == identity.agent && draft.message_id == identity.message_id)
    }

    fn began(&mut self, record: &Record, at: Moment) -> Result<(), Broken> {
        let use_case = self.use_case(record)?;
        let id = &record.identity.message_id;
        let asked = self.drafts(&record.identity).any(|draft| is_as_drafted(record, &use_case, draft, at.now.wall));
        broken!(asked, "what is registered is what was asked", "{id} is written as {record:?}");
        broken!(record.state == State::Pending, "state moves only forward", "{id} begins as {:?}", record.state);
        let rule = self.tuning().policies.get(&use_case).map(|policy| policy.rule.clone());
        self.current.insert(record.identity.clone(), self.lives.len());
        self.lives.push(Life::new(record, &use_case, at, rule));
        Ok(())
    }

    fn changed(&mut self, before: &Record, record: &Record, at: Moment) -> Result<(), Broken> {
        forward::check(before, record)?;
        let use_case = self.use_case(record)?;
        let id = &record.identity.message_id;
        let Some(life) = self.life(&record.identity) else { return Ok(()) };
        self.lives[life].latest = self.lives[life].latest.max(at.now.wall);
        if record.state == State::Pending && record.deadline != before.deadline
            || record.send_time != before.send_time
            || record.tags != before.tags
        {
            let drafted =
                self.drafts(&record.identity).any(|draft| is_as_drafted(record, &use_case, draft, at.now.wall));
            let moved = self.words.iter().filter_map(|word| word.verb(&record.identity)).any(|verb| {
                record.deadline.is_some_and(|deadline| verb == Verb::Reschedule(deadline))
                    && (record.send_time, &record.tags) == (before.send_time, &before.tags)
            });
            broken!(drafted || moved, "what is registered is what was asked", "{id} is written as {record:?}");
        }
        self.is_doubt_kept(life, before, record)?;
        self.is_belief_founded(life, before, record)?;
        let rule = self.tuning().policies.get(&use_case).map(|policy| policy.rule.clone());
        let life = &mut self.lives[life];
        let own = life.own;
        // Registered anew, in its use case's present lane.
        if life.see(record, &use_case) || before.lane != record.lane {
            life.follows(rule.into_iter().collect());
            life.since = at;
        }
        if life.own != own {
            life.since = at;
        }
        Ok(())
    }

    fn removed(&mut self, identity: &Identity, before: Option<&Record>, at: Moment) -> Result<(), Broken> {
        let id = &identity.message_id;
        let least = self.tunings.iter().map(|tuning| tuning.settings.retention).min().unwrap_or_default();
        let Some(life) = self.current.remove(identity) else { return Ok(()) };
        let settled = before.and_then(|record| match record.state {
            State::Settled { at, .. } => Some(at),
            _ => None,
        });
        broken!(
            settled.is_some_and(|settled| settled.plus(least) <= at.now.wall),
            "no acknowledged message is lost",
            "{id} is removed, settled at {settled:?}"
        );
        let waits = before.is_some_and(|record| record.next_call().is_some());
        broken!(!waits, "no grant is lost", "{id} is removed, and a hook is still to be called for it");
        self.lives[life].removed = true;
        Ok(())
    }

    /// The daemon is gone, and this is what is on disk.
    pub(super) fn died(&mut self, disk: &MemoryStore) -> Result<(), Broken> {
        for word in &mut self.words {
            for heard in word.heard.iter_mut().filter(|heard| **heard == Heard::Waiting) {
                *heard = Heard::Never;
            }
        }
        self.lanes = disk.lanes().iter().map(|(id, spec)| (*id, spec.clone())).collect();
        let last = disk.snapshot().last_cursor;
        broken!(self.readable <= last, "no outcome is lost", "{} was told of, {last} is the last one", self.readable);
        self.readable = last;
        self.log.retain(|line| line.cursor <= last);
        let lines = &self.log;
        self.grant_ids.retain(|id, _| lines.iter().any(|line| line.entry.grant_id.as_deref() == Some(id)));
        self.calls.clear();
        self.paces.clear();
        let before = self.reload.take().map(|before| self.tunings[before].clone());
        self.half_reloaded = before.is_some();
        for (n, life) in self.lives.iter_mut().enumerate() {
            let identity = &life.identity;
            let found = disk.identities().get(identity).and_then(|at| disk.records().get(at));
            let found = found.filter(|record| record.registered_at == life.registered_at);
            let id = &identity.message_id;
            life.deletes.iter_mut().for_each(|delete| delete.forget(found));
            let Some(record) = found else {
                let over = lines.iter().any(|line| line.life == n);
                broken!(!life.sure || over, "no acknowledged message is lost", "{id} was acknowledged and is gone");
                (life.removed, life.lost) = (true, !over);
                self.current.retain(|_, current| *current != n);
                continue;
            };
            // Its end was not on disk yet.
            life.removed = false;
            self.current.insert(identity.clone(), n);
            let Some(use_case) = self.lanes.get(&record.lane).map(|spec| &spec.use_case) else { continue };
            if life.see(record, use_case) {
                life.follows(life.rules_before.clone());
            }
            if let Some(rule) = before.as_ref().and_then(|before| before.policies.get(use_case)) {
                life.follows(
                    life.rules.iter().cloned().chain([rule.rule.clone()]).chain(life.rules_before.clone()).collect(),
                );
            }
        }
        Ok(())
    }

    /// Outcomes may be read up to this one.
    pub(super) fn readable(&mut self, cursor: Cursor) -> Result<(), Broken> {
        let last = self.log.last().map_or(0, |line| line.cursor);
        broken!(self.readable <= cursor, "cursors only grow", "{cursor} is readable after {}", self.readable);
        broken!(cursor <= last, "cursors only grow", "{cursor} is readable, and the last one is {last}");
        self.readable = cursor;
        Ok(())
    }

    /// The last deadline that anything still waits for.
    pub(super) fn latest_deadline(&self, now: Timestamp) -> Timestamp {
        let waiting = self.lives.iter().filter(|life| !life.removed && life.pending);
        waiting.flat_map(|life| life.deadlines_ever().collect::<Vec<_>>()).fold(now, Timestamp::max)
    }

    /// An SMS may have to wait for the morning.
    pub(super) fn has_nights(&self) -> bool {
        let mut policies = self.tunings.iter().flat_map(|tuning| tuning.policies.iter());
        policies.any(|(_, policy)| policy.not_between.is_some())
    }

    /// Messages whose registration was acknowledged.
    pub(super) fn messages(&self) -> u64 {
        self.lives.iter().filter(|life| life.sure).count() as u64
    }

    /// Entries of the outcome log.
    pub(super) fn outcomes(&self) -> u64 {
        self.log.len() as u64
    }
}
