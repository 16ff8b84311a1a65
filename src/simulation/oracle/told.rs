//! What agents are told: one outcome for each message, founded on what happened; one grant at most; nothing twice otherwise.

use std::time::Duration;

use super::life::{Life, is_delivery, is_quiet};
use super::{Broken, Moment, Oracle, Request, Seen, broken};
use crate::engine::{EvidenceKind, Outcomes, Verb};
use crate::fallback::Granted;
use crate::model::{AgentId, Answer, Grant, GrantState, Missed, OnUnknown, Outcome, Policy, State, Timestamp};
use crate::store::memory::MemoryStore;
use crate::store::{Change, Cursor, Entry, EntryKind};

/// The longest wait between two tries, as it is documented: if the next one would be too late, that is said at once.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// An entry of the outcome log.
pub(super) struct Line {
    pub cursor: Cursor,
    pub entry: Entry,
    pub life: usize,
}

impl Oracle {
    fn lines(&self, life: usize) -> impl DoubleEndedIterator<Item = &Line> {
        self.log.iter().filter(move |line| line.life == life)
    }

    /// How it ended, as its agent is or will be told.
    pub(super) fn outcome_of(&self, life: usize) -> Option<Outcome> {
        self.lines(life).next_back().map(|line| line.entry.outcome)
    }

    /// What all configurations allow in one way or another.
    fn policies(&self, life: &Life) -> impl Iterator<Item = &Policy> {
        let name = life.use_case.clone();
        self.tunings.iter().filter_map(move |tuning| tuning.policies.get(&name)).map(|policy| &**policy)
    }

    /// The daemon has just written an entry.
    pub(super) fn told(&mut self, cursor: Cursor, entry: &Entry, at: Moment) -> Result<(), Broken> {
        let id = &entry.identity.message_id;
        let last = self.log.last().map_or(0, |line| line.cursor);
        broken!(cursor == last + 1, "cursors only grow", "{cursor} follows {last}");
        let Some(number) = self.life(&entry.identity) else {
            return Err(Broken { promise: "an outcome is founded", words: format!("{id} was never registered") });
        };
        let life = &self.lives[number];
        let before = self.lines(number).next_back().map(|line| (line.entry.outcome, line.entry.grant));
        match (entry.kind, before) {
            (EntryKind::Settled, None) => {
                self.is_outcome_founded(life, entry, at)?;
                self.is_grant_founded(life, entry, at)?;
            }
            (EntryKind::Settled, Some(_)) => {
                broken!(false, "one outcome for each", "{id} settles a second time, as {:?}", entry.outcome);
            }
            (_, None) => broken!(false, "one outcome for each", "{id} is {:?} before it settled", entry.kind),
            (EntryKind::Amended, Some((was, _))) if was != entry.outcome => {
                broken!(
                    entry.outcome == Outcome::Delivered,
                    "state moves only forward",
                    "{id} was {was:?}, and is {:?}",
                    entry.outcome
                );
                self.is_outcome_founded(life, entry, at)?;
                self.no_grant_beside_delivered(number, entry)?;
            }
            (EntryKind::Amended, Some(_)) => {
                let taken_back = self.may_be_recalled(life) || self.may_be_unsubscribed(life);
                broken!(taken_back, "one outcome for each", "{id} is amended to what it was");
            }
            (EntryKind::Granted, Some((was, grant))) => {
                broken!(was == entry.outcome, "one outcome for each", "{id} was {was:?}, and is {:?}", entry.outcome);
                self.is_given(life, grant, entry, at)?;
            }
            (EntryKind::Taken, Some(_)) => {
                let taken = entry.grant_id.as_deref().is_some_and(|grant| self.sms.contains(grant));
                broken!(taken, "a grant is taken by a hook", "{id}: no hook took it");
            }
            (EntryKind::Voided, Some(_)) => {
                let until = entry.grant.map(|grant| grant.until);
                broken!(
                    until.is_some_and(|until| at.now.wall > until),
                    "no grant is lost",
                    "{id} is void before {until:?}"
                );
            }
        }
        if let Some(grant) = entry.grant_id.as_deref() {
            let other = self.grant_ids.insert(grant.to_owned(), number).filter(|other| *other != number);
            broken!(other.is_none(), "one grant for each", "{id} has the grant of another message");
            let ids = self.grant_ids.iter().filter(|(_, life)| **life == number).count();
            broken!(ids == 1, "one grant for each", "{id} has {ids} grant ids");
        }
        self.log.push(Line { cursor, entry: entry.clone(), life: number });
        Ok(())
    }

    fn is_outcome_founded(&self, life: &Life, entry: &Entry, at: Moment) -> Result<(), Broken> {
        let answered = |wanted: &dyn Fn(&Answer) -> bool| {
            life.deletes.iter().filter_map(|delete| delete.answer.as_ref()).any(|(answer, _)| wanted(answer))
        };
        let ttl = |kind: &EvidenceKind| *kind == EvidenceKind::TtlRevoked;
        let founded = match entry.outcome {
            Outcome::Delivered => life.told_of(&self.words, is_delivery).next().is_some(),
            Outcome::Revoked => {
                answered(&|answer| *answer == Answer::Revoked) || life.told_of(&self.words, ttl).next().is_some()
            }
            Outcome::Unknown => answered(&|answer| *answer == Answer::NotFound),
            Outcome::Failed => {
                answered(&|answer| matches!(answer, Answer::Rejected(_)))
                    || self.is_out_of_time(life, at.now.wall.max(life.latest))
            }
            Outcome::Withdrawn => {
                self.words.iter().any(|word| word.verb(&life.identity) == Some(Verb::Withdraw) && word.may_be_done())
            }
            Outcome::Moot => {
                self.policies(life).any(|policy| policy.missed == Missed::Moot)
                    && life.begun.run < at.run
                    && life.deletes.iter().all(|delete| !delete.fenced)
            }
            Outcome::Shadow => self.shadow,
        };
        let (id, outcome) = (&entry.identity.message_id, entry.outcome);
        broken!(founded, "an outcome is founded", "{id} is told to be {outcome:?}, and nothing says so");
        let ignored = self.is_known_delivered(life) && outcome != Outcome::Delivered && outcome != Outcome::Withdrawn;
        broken!(!ignored, "what is known delivered is told so", "{id} is told to be {outcome:?}");
        Ok(())
    }

    /// Past the last instant at which it was worth trying, by any of its deadlines.
    fn is_out_of_time(&self, life: &Life, now: Timestamp) -> bool {
        let patience = self.policies(life).map(|policy| policy.give_up_after).min().unwrap_or_default();
        // Of one that was revoked before its deadline, that one counts all the same.
        let next = now.plus(RETRY_MAX);
        life.deadlines_ever().min().is_some_and(|deadline| next > deadline.plus(patience))
    }

    fn is_grant_founded(&self, life: &Life, entry: &Entry, at: Moment) -> Result<(), Broken> {
        let id = &entry.identity.message_id;
        let policy = self.tuning().policies.get(&life.use_case);
        let Some(grant) = entry.grant else {
            let owed = matches!(
                (entry.outcome, policy.map(|policy| policy.on_unknown)),
                (Outcome::Revoked, Some(_))
                    | (Outcome::Unknown | Outcome::Failed, Some(OnUnknown::Send | OnUnknown::Hold))
            );
            let may_be_none = self.shadow || self.may_be_recalled(life) || self.may_be_unsubscribed(life);
            broken!(!owed || may_be_none, "no grant is lost", "{id} is {:?}, and has none", entry.outcome);
            return Ok(());
        };
        broken!(!self.shadow, "shadow mode grants nothing", "{id}");
        let unsubscribed = self.is_unsubscribed(life, at.round);
        broken!(!unsubscribed, "who unsubscribed gets no SMS for a promotion", "{id} has {:?}", grant.state);
        broken!(!self.is_recalled(life, at.round), "what is recalled is granted no SMS", "{id} has {:?}", grant.state);
        let allowed = match (entry.outcome, policy.map(|policy| policy.on_unknown)) {
            (Outcome::Revoked, _) => grant.state != GrantState::Held,
            (Outcome::Unknown | Outcome::Failed, Some(OnUnknown::Send)) => grant.state != GrantState::Held,
            (Outcome::Unknown | Outcome::Failed, Some(OnUnknown::Hold)) => grant.state != GrantState::Offered,
            _ => false,
        };
        broken!(
            allowed,
            "no grant beside what may be delivered",
            "{id} is {:?}, with {:?}",
            entry.outcome,
            grant.state
        );
        if grant.state != GrantState::Offered {
            return Ok(());
        }
        broken!(at.now.wall <= grant.until, "no SMS that is of no use", "{id} is granted until {}", grant.until);
        if let Some(hours) = policy.and_then(|policy| policy.not_between.as_ref()) {
            let quiet = is_quiet(hours, life.zone.as_deref(), at.now.wall);
            broken!(!quiet, "no SMS in the quiet hours", "{id} is granted at {}, {hours}", at.now.wall);
        }
        let hook = policy.is_some_and(|policy| policy.calls_max > 0);
        broken!(hook == grant.call.is_some(), "a grant goes one way", "{id}: a hook {hook}, and {:?}", grant.call);
        self.has_waited(life, entry, at)
    }

    /// The settle window: a `DELIVERED` may cross the DELETE.
    fn has_waited(&self, life: &Life, entry: &Entry, at: Moment) -> Result<(), Broken> {
        let answers = life.deletes.iter().filter_map(|delete| delete.answer.as_ref());
        let revoked =
            answers.filter(|(answer, _)| matches!(answer, Answer::Revoked | Answer::NotFound)).map(|(_, at)| *at);
        let ttl = |kind: &EvidenceKind| *kind == EvidenceKind::TtlRevoked;
        let noticed = life.told_of(&self.words, ttl).map(|word| word.at);
        let Some(first) = revoked.chain(noticed).min_by_key(|at| at.now.mono) else { return Ok(()) };
        let window = self.policies(life).map(|policy| policy.settle).min().unwrap_or_default();
        let waited = at.now.mono.saturating_sub(first.now.mono) + Duration::from_millis(1);
        let (id, early) = (&entry.identity.message_id, entry.outcome == Outcome::Revoked && waited < window);
        broken!(
            !early || self.may_be_forgotten(first, at),
            "no SMS before the settle window is over",
            "{id} after {waited:?}"
        );
        Ok(())
    }

    /// A grant is given that was held back, or that a hook had.
    fn is_given(&self, life: &Life, before: Option<Grant>, entry: &Entry, at: Moment) -> Result<(), Broken> {
        let id = &entry.identity.message_id;
        let decided = self.words.iter().any(|word| word.verb(&life.identity) == Some(Verb::Decide(true)));
        let handed_back = before.is_some_and(|grant| grant.call.is_some());
        broken!(
            decided || handed_back,
            "no grant beside what may be delivered",
            "{id} is granted, and nobody decided so"
        );
        let state = before.map(|grant| grant.state);
        let open = matches!(state, Some(GrantState::Held | GrantState::Offered));
        broken!(open, "one grant for each", "{id} is granted again, after {state:?}");
        broken!(entry.outcome != Outcome::Delivered, "no grant beside delivered", "{id} is granted");
        broken!(!self.is_recalled(life, at.round), "what is recalled is granted no SMS", "{id}");
        broken!(!self.is_unsubscribed(life, at.round), "who unsubscribed gets no SMS for a promotion", "{id}");
        Ok(())
    }

    /// It turned out delivered: what nobody took note of is taken back.
    fn no_grant_beside_delivered(&self, life: usize, entry: &Entry) -> Result<(), Broken> {
        let Some(grant) = entry.grant.filter(|grant| grant.state == GrantState::Offered) else { return Ok(()) };
        let handed_out =
            self.lines(life).rfind(|line| matches!(line.entry.kind, EntryKind::Settled | EntryKind::Granted));
        let noted = handed_out.is_some_and(|line| self.may_be_noted(&entry.identity.agent, line.cursor));
        let id = &entry.identity.message_id;
        broken!(noted && grant.call.is_none(), "no grant beside delivered", "{id} keeps a grant nobody took note of");
        Ok(())
    }

    /// An agent may have taken note of an entry.
    fn may_be_noted(&self, agent: &AgentId, cursor: Cursor) -> bool {
        self.words.iter().filter(|word| word.may_be_done()).any(|word| match &word.request {
            Request::Acknowledge(whose, up_to) => whose.as_ref().is_none_or(|whose| whose == agent) && *up_to >= cursor,
            _ => false,
        })
    }

    /// A hook is called.
    pub(in crate::simulation) fn calls(&mut self, granted: &Granted, at: Moment) -> Result<(), Broken> {
        let id = &granted.message_id;
        let Some(number) = self.grant_ids.get(&granted.grant_id).copied() else {
            return Err(Broken { promise: "only what is granted is sent", words: format!("{id} was not") });
        };
        let life = &self.lives[number];
        let last = self.lines(number).next_back();
        let offered = last.is_some_and(|line| {
            line.cursor <= self.readable
                && line.entry.grant.is_some_and(|grant| grant.state == GrantState::Offered && grant.call.is_some())
        });
        broken!(offered, "only what is granted is sent", "{id}: {:?}", last.map(|line| &line.entry));
        broken!(!self.is_known_delivered(life), "no grant beside delivered", "the hook is called for {id}");
        broken!(!self.is_recalled(life, at.round), "what is recalled is granted no SMS", "the hook is called for {id}");
        let unsubscribed = self.is_unsubscribed(life, at.round);
        broken!(!unsubscribed, "who unsubscribed gets no SMS for a promotion", "the hook is called for {id}");
        let most = self.policies(life).map(|policy| policy.calls_max).max().unwrap_or(0);
        let out = self.calls.values().filter(|use_case| **use_case == granted.use_case).count();
        broken!(out < most, "the pace is kept", "{} calls are out, of {most}", out + 1);
        let other = self.calls.insert(granted.grant_id.clone(), granted.use_case.clone());
        broken!(other.is_none(), "one grant for each", "the hook is called for {id} twice at a time");
        Ok(())
    }

    /// A hook sends an SMS.
    pub(in crate::simulation) fn sms(&mut self, grant_id: &str) {
        self.sms.insert(grant_id.to_owned());
    }

    /// The daemon is told what came of a call.
    pub(in crate::simulation) fn called(&mut self, grant_id: &str) {
        self.calls.remove(grant_id);
    }

    /// Somebody read outcomes.
    pub(in crate::simulation) fn read(
        &mut self,
        agent: Option<&AgentId>,
        after: Cursor,
        read: &Outcomes,
    ) -> Result<(), Broken> {
        let least = self.tunings.iter().map(|tuning| tuning.settings.outcomes_max).min().unwrap_or(0);
        let last = self.log.last().map_or(0, |line| line.cursor);
        let mut previous = after;
        for (cursor, entry) in &read.entries {
            broken!(*cursor > previous, "cursors only grow", "{cursor} is read after {previous}");
            broken!(*cursor <= self.readable, "only what is on disk is told", "{cursor}, of {}", self.readable);
            let whole = agent.is_some() || *cursor == previous + 1 || previous + least < last;
            broken!(whole, "no outcome is lost", "{cursor} is read after {previous}, of {last}");
            let mine = agent.is_none_or(|agent| entry.identity.agent == *agent);
            broken!(mine, "outcomes are told to their agent", "{:?} reads {:?}", agent, entry.identity);
            let other = self.read.insert(*cursor, entry.clone()).filter(|other| other != entry);
            broken!(other.is_none(), "what was told stays so", "{cursor} was {other:?}, and is {entry:?}");
            let written = self.log.iter().find(|line| line.cursor == *cursor).is_some_and(|line| line.entry == *entry);
            broken!(written, "what was told stays so", "{cursor} was not written so: {entry:?}");
            previous = *cursor;
        }
        broken!(read.next >= previous, "cursors only grow", "{} is next after {previous}", read.next);
        Ok(())
    }

    /// Everything that was acknowledged has its outcome, and may be read.
    pub(in crate::simulation) fn all_settled(&self, at: Moment) -> Result<(), Broken> {
        for (number, life) in self.lives.iter().enumerate().filter(|(_, life)| life.sure) {
            let told = self.lines(number).next().is_some_and(|line| line.cursor <= self.readable);
            let (id, deadlines) = (&life.identity.message_id, life.deadlines());
            broken!(told, "every message ends", "{id} has no outcome at {}; its deadline: {deadlines:?}", at.now.wall);
        }
        Ok(())
    }

    /// The end: everybody has read everything, and no grant stands beside a delivery that nobody took note of.
    pub(in crate::simulation) fn end(&self, readers: &[Cursor], store: &MemoryStore) -> Result<(), Broken> {
        for reader in readers {
            broken!(
                *reader >= self.readable,
                "no outcome is lost",
                "somebody could read up to {reader} only, of {}",
                self.readable
            );
        }
        let last = self.log.last().map_or(0, |line| line.cursor);
        let kept = self.tunings.iter().map(|tuning| tuning.settings.outcomes_max).min().unwrap_or(0);
        for record in store.records().values() {
            let Some(grant) = record.grant.filter(|grant| grant.state == GrantState::Offered) else { continue };
            let noted = self.may_be_noted(&record.identity.agent, grant.cursor);
            let id = &record.identity.message_id;
            let delivered = matches!(record.state, State::Settled { outcome: Outcome::Delivered, .. });
            broken!(noted || !delivered, "no grant beside delivered", "{id} keeps a grant nobody took note of");
            // What fell out of the log is not found by it.
            let found = grant.call.is_some() || grant.cursor + kept > last;
            let unsubscribed =
                self.life(&record.identity).is_some_and(|life| self.is_unsubscribed(&self.lives[life], u64::MAX));
            broken!(
                !unsubscribed || noted || !found,
                "who unsubscribed gets no SMS for a promotion",
                "{id} keeps a grant nobody took note of"
            );
        }
        Ok(())
    }

    /// What was written, for people.
    pub(in crate::simulation) fn in_words(seen: &Seen) -> Option<String> {
        match &seen.change {
            Change::Put { record, .. } => {
                let last = record.trail.last().map(|note| note.what);
                let words = format!("  {} {:?} ({last:?})", record.identity.message_id, record.state);
                let grant = record.grant.map(|grant| format!(", grant {:?}", grant.state)).unwrap_or_default();
                Some(words + &grant + if record.held { ", held" } else { "" })
            }
            Change::Remove { identity, .. } => Some(format!("  {} is removed", identity.message_id)),
            Change::Outcome(cursor, entry) => {
                let (id, kind, outcome) = (&entry.identity.message_id, entry.kind, entry.outcome);
                Some(format!(
                    "  outcome {cursor}: {id} {kind:?} {outcome:?}, grant {:?}",
                    entry.grant.map(|grant| grant.state)
                ))
            }
            _ => None,
        }
    }
}
