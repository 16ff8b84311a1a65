//! What leaves: not too early, not for what is known to be over or held, one at a time, and no faster than allowed.

use std::time::Duration;

use super::life::{Delete, Life};
use super::{Broken, Moment, Oracle, Word, broken};
use crate::engine::{EvidenceKind, Verb};
use crate::model::{Answer, Belief, Identity, Record, State};
use crate::platform::Order;

/// The bounds of a rest that a `Retry-After` asks for, as they are documented.
const REST_MAX: Duration = Duration::from_secs(3600);

/// What is known of the pace of one agent and region, in one life of the daemon.
#[derive(Default)]
pub(super) struct Pace {
    out: usize,
    rests_until: Duration,
    left: Vec<Duration>,
}

impl Delete {
    /// The daemon died. What it does not know any more is in doubt.
    pub(super) fn forget(&mut self, on_disk: Option<&Record>) {
        let told = match &self.answer {
            None | Some((Answer::Lost(_), _)) => false,
            // It may not have been written down.
            Some((Answer::Revoked, _)) => {
                on_disk.is_some_and(|record| matches!(record.state, State::Settling { .. } | State::Settled { .. }))
            }
            Some(_) => true,
        };
        self.forgotten |= !told;
        // Without a disk an attempt is not waited for to be known to the next start.
        self.excused |= !self.fenced && !on_disk.is_some_and(|record| record.attempts.unknown);
    }

    /// It may have revoked the message without the daemon's knowing.
    fn is_in_doubt(&self) -> bool {
        !self.excused && (self.forgotten || matches!(self.answer, Some((Answer::Lost(_), _))))
    }
}

impl Oracle {
    /// A DELETE leaves.
    pub(in crate::simulation) fn leaves(&mut self, order: &Order, at: Moment) -> Result<(), Broken> {
        let identity = Identity { agent: order.agent.clone(), message_id: order.message_id.clone() };
        let id = &order.message_id;
        let Some(number) = self.life(&identity) else {
            return Err(Broken { promise: "only what is registered is revoked", words: format!("{id} is not") });
        };
        let life = &self.lives[number];
        broken!(life.phone == order.phone, "only what is registered is revoked", "{id} goes to another handset");
        broken!(!life.is_out(at.run), "one DELETE at a time", "{id} is out already");
        let told = self.outcome_of(number);
        broken!(told.is_none(), "what is settled is not revoked", "{id} settled as {told:?}");
        broken!(!self.is_known_delivered(life), "a delivered message is not revoked", "{id} leaves");
        let withdrawn = self.words.iter().any(|word| {
            word.verb(&identity) == Some(Verb::Withdraw) && word.is_done() && word.at.round >= life.begun.round
        });
        broken!(!withdrawn, "a withdrawn message is not revoked", "{id} leaves");
        if let Some(of) = self.hold_on(life).filter(|_| !self.may_be_recalled(life)) {
            broken!(false, "what is held is not revoked", "{id} leaves under hold {of}");
        }
        if life.pending && !self.is_hurried(life) {
            let earliest = life.earliest(self.tuning());
            broken!(
                at.now.wall >= earliest,
                "no DELETE before its time",
                "{id} leaves at {}, and is due at {earliest}; its deadline is {:?}",
                at.now.wall,
                life.deadlines()
            );
        }
        self.keeps_pace(order, at)?;
        let fenced = !self.disk_fails;
        self.lives[number].deletes.push(Delete { at, fenced, answer: None, forgotten: false, excused: false });
        Ok(())
    }

    /// Where nothing went wrong, whatever was not delivered was revoked on time: but for what the pace holds up.
    pub(in crate::simulation) fn on_time(&self) -> Result<(), Broken> {
        // One at a time, as slow as answers can be, for each that there is.
        let most = Duration::from_secs(2) + Duration::from_millis(500) * self.lives.len() as u32;
        for life in self.lives.iter().filter(|life| !self.is_hurried(life)) {
            let (Some(first), Some(deadline)) = (life.deletes.first(), life.deadlines().into_iter().max()) else {
                continue;
            };
            let Some(policy) = self.tuning().policies.get(&life.use_case) else { continue };
            let late = first.at.now.wall.since(deadline.minus(policy.lead).max(life.since.now.wall));
            broken!(late <= most, "on time", "{} leaves {late:?} late", life.identity.message_id);
        }
        Ok(())
    }

    /// Somebody may have wanted it revoked before its deadline.
    fn is_hurried(&self, life: &Life) -> bool {
        let asked = |word: &Word| word.verb(&life.identity) == Some(Verb::Revoke) && word.may_be_done();
        let failed = |kind: &EvidenceKind| matches!(kind, EvidenceKind::TtlFailed(_));
        self.words.iter().any(asked)
            || life.told_of(&self.words, failed).any(Word::may_be_done)
            || self.may_be_recalled(life)
    }

    fn keeps_pace(&mut self, order: &Order, at: Moment) -> Result<(), Broken> {
        let limits = self.tunings.iter().map(|tuning| tuning.settings.pace);
        let (in_flight, total, per_second) = limits.fold((0, 0, 0), |most, pace| {
            (most.0.max(pace.in_flight), most.1.max(pace.in_flight_total), most.2.max(pace.per_second))
        });
        let all: usize = self.paces.values().map(|pace| pace.out).sum();
        broken!(all < total, "the pace is kept", "{} are out, of {total} in all", all + 1);
        let pace = self.paces.entry((order.agent.clone(), order.region)).or_default();
        let (now, id) = (at.now.mono, &order.message_id);
        broken!(now >= pace.rests_until, "the pace is kept", "{id} leaves while its route rests");
        pace.out += 1;
        broken!(pace.out <= in_flight, "the pace is kept", "{} are out, of {in_flight} on a route", pace.out);
        pace.left.push(now);
        pace.left.retain(|left| *left + Duration::from_secs(1) > now);
        // A second's worth, what may leave at once after idling, and one.
        let most = per_second as usize + per_second as usize / 20 + 2;
        broken!(pace.left.len() <= most, "the pace is kept", "{} left in a second, of {most}", pace.left.len());
        Ok(())
    }

    /// The daemon is told what came of a DELETE.
    pub(in crate::simulation) fn answer(&mut self, order: &Order, answer: &Answer, at: Moment) {
        let pace = self.paces.entry((order.agent.clone(), order.region)).or_default();
        pace.out = pace.out.saturating_sub(1);
        if let Answer::TooManyRequests(Some(wait)) = answer {
            pace.rests_until = pace.rests_until.max(at.now.mono + (*wait).min(REST_MAX));
        }
        let identity = Identity { agent: order.agent.clone(), message_id: order.message_id.clone() };
        if let Some(life) = self.life(&identity)
            && let Some(delete) = self.lives[life].deletes.last_mut()
        {
            delete.answer = Some((answer.clone(), at));
        }
    }

    /// Whether a DELETE of it left since this was taken in.
    pub(super) fn left_since(&self, life: &Life, word: usize) -> bool {
        let since = self.words[word].at;
        life.deletes.iter().any(|delete| delete.at.run == since.run && delete.at.round >= since.round)
    }

    pub(super) fn none_left_since(
        &self,
        identity: &Identity,
        word: usize,
        promise: &'static str,
    ) -> Result<(), Broken> {
        let left = self.life(identity).is_some_and(|life| self.left_since(&self.lives[life], word));
        let words = format!("{} left all the same", identity.message_id);
        if left { Err(Broken { promise, words }) } else { Ok(()) }
    }

    /// What is written while a DELETE is out is in doubt until its answer is there. Every other doubt stays.
    pub(super) fn is_doubt_kept(&self, life: usize, before: &Record, record: &Record) -> Result<(), Broken> {
        let deletes = &self.lives[life].deletes;
        let answered = deletes.last().is_some_and(|delete| delete.answer.is_some() && !delete.forgotten);
        let resolved = answered && !deletes.iter().any(Delete::is_in_doubt);
        let id = &record.identity.message_id;
        let kept = !before.attempts.unknown || record.attempts.unknown || resolved;
        broken!(kept, "a doubt is never forgotten", "{id}: a DELETE may have done its work");
        Ok(())
    }

    /// A 404 says "delivered" only if no attempt can explain it.
    pub(super) fn is_belief_founded(&self, life: usize, before: &Record, record: &Record) -> Result<(), Broken> {
        let State::Settling { belief: Belief::ProbablyDelivered, .. } = record.state else { return Ok(()) };
        if matches!(before.state, State::Settling { .. }) {
            return Ok(());
        }
        let doubt = self.lives[life].deletes.iter().any(Delete::is_in_doubt);
        let id = &record.identity.message_id;
        broken!(!doubt, "a lost answer, then 404, is not delivered", "{id} is held to be delivered");
        Ok(())
    }
}
