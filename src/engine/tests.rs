//! The core driven by hand: real decisions, a store in memory, time that moves when the test says so.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::oneshot;

use super::asked::*;
use super::core::{Core, Effect, Input, Scale, Settings};
use super::handle::*;
use super::pace::PaceLimits;
use super::replies::*;
use super::retune::Tuning;
use crate::clock::Now;
use crate::fallback::Granted;
use crate::model::*;
use crate::platform::Order;
use crate::store::memory::MemoryStore;
use crate::store::{EntryKind, Snapshot, Store};

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// A core, its surroundings, and what it asked them to do.
pub(super) struct Rig<S = MemoryStore> {
    pub core: Core<S>,
    pub now: Now,
    /// Attempts that left and are not answered.
    pub out: Vec<(u64, Order)>,
    /// Calls of hooks that are not back.
    pub calls: Vec<(u64, Granted)>,
    timers: BTreeMap<usize, Duration>,
    /// Whether what is appended reaches the disk by itself.
    pub disk: bool,
    ticket: u64,
    /// How often a timer woke the core.
    pub wakes: u64,
}

/// A small window, so that every test goes through its edges.
pub(super) fn small() -> Scale {
    Scale { window: 16, ..Scale::default() }
}

pub(super) fn start() -> Now {
    Now { wall: Timestamp::parse("2026-11-22T12:00:00Z").unwrap(), mono: SECOND * 100 }
}

pub(super) fn policies() -> Policies {
    let otp = Policy {
        traffic_type: TrafficType::Authentication,
        on_unknown: OnUnknown::Send,
        ..Policy::new(Rule::Ttl(SECOND * 600))
    };
    let promo = Policy { traffic_type: TrafficType::Promotion, ..Policy::new(Rule::Ttl(SECOND * 3600)) };
    let name = |name| UseCase::new(name).unwrap();
    [(name("otp"), otp), (name("promo"), promo)].into_iter().collect()
}

pub(super) fn tuning(policies: Policies, settings: Settings) -> Tuning {
    Tuning { policies, settings, config_hash: "c0ffee".into() }
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(Settings::default())
    }

    pub(super) fn with(settings: Settings) -> Self {
        Self::open(MemoryStore::default(), policies(), settings, start())
    }

    pub(super) fn open(store: MemoryStore, policies: Policies, settings: Settings, now: Now) -> Self {
        let snapshot = store.snapshot();
        Self::over(store, &snapshot, policies, settings, now)
    }

    /// Dies on the spot and comes back over what is on disk.
    pub(super) fn crash(self) -> Self {
        let (policies, settings) = (Policies::clone(&self.core.policies), self.core.settings.clone());
        Self::open(self.core.store, policies, settings, self.now)
    }

    /// Stops in order and comes back.
    pub(super) fn restart(self) -> Self {
        let (policies, settings) = (Policies::clone(&self.core.policies), self.core.settings.clone());
        Self::open(self.core.close(), policies, settings, self.now)
    }
}

impl<S: Store> Rig<S> {
    pub(super) fn over(store: S, snapshot: &Snapshot, policies: Policies, settings: Settings, now: Now) -> Self {
        Self::in_boot(0, store, snapshot, policies, settings, now)
    }

    /// In a start of the host that is known.
    pub(super) fn in_boot(
        boot: u64,
        store: S,
        snapshot: &Snapshot,
        policies: Policies,
        settings: Settings,
        now: Now,
    ) -> Self {
        let random = fastrand::Rng::with_seed(7);
        let mut core = Core::new(store, snapshot, tuning(policies, settings), small(), random, now.wall).unwrap();
        core.take_up_time(boot, snapshot.reckoning.clone(), now);
        let mut rig = Self {
            core,
            now,
            out: Vec::new(),
            calls: Vec::new(),
            timers: BTreeMap::new(),
            disk: true,
            ticket: 0,
            wakes: 0,
        };
        rig.settle();
        rig
    }

    pub(super) fn tell(&mut self, input: Input) {
        self.core.apply(input, self.now);
        self.settle();
    }

    pub(super) fn settle(&mut self) {
        loop {
            self.core.finish(self.now);
            let effects = std::mem::take(&mut self.core.effects);
            let written = self.core.commit(super::core::Batch::default());
            let news = self.disk && written > self.ticket;
            if news {
                self.ticket = written;
                self.core.apply(Input::Durable(Ok(written)), self.now);
            }
            for effect in effects {
                match effect {
                    Effect::Launch(seq, order) => self.out.push((seq, order)),
                    Effect::Call(seq, granted) => self.calls.push((seq, *granted)),
                    Effect::Arm(route, wait) => drop(self.timers.insert(route, self.now.mono + wait)),
                    Effect::Disarm(route) => drop(self.timers.remove(&route)),
                    Effect::Outcomes(_) => {}
                }
            }
            if !news {
                return;
            }
        }
    }

    /// Lets time pass, waking the core exactly when it asked to be.
    pub(super) fn pass(&mut self, span: Duration) {
        let end = self.now.mono + span;
        while let Some((route, at)) = self.timers.iter().map(|(r, at)| (*r, *at)).min_by_key(|(_, at)| *at) {
            if at > end {
                break;
            }
            self.timers.remove(&route);
            self.move_to(at.max(self.now.mono));
            self.wakes += 1;
            self.tell(Input::Wake(route));
        }
        self.move_to(end);
    }

    pub(super) fn move_to(&mut self, mono: Duration) {
        self.now.wall = self.now.wall.plus(mono - self.now.mono);
        self.now.mono = mono;
    }

    pub(super) fn ask<T>(
        &mut self,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> oneshot::Receiver<Result<T, Refusal>> {
        let (reply, answer) = oneshot::channel();
        self.tell(Input::Command(command(reply)));
        answer
    }

    pub(super) fn register(&mut self, draft: Draft) -> Registered {
        let answer = self.ask(|reply| Command::Register(vec![draft], reply)).try_recv();
        answer.unwrap().unwrap().pop().unwrap().unwrap()
    }

    pub(super) fn evidence(&mut self, id: &str, kind: EvidenceKind) -> EvidenceEffect {
        let evidence = Evidence { identity: identity(id), phone: phone(), kind };
        self.ask(|reply| Command::Evidence(vec![evidence], reply)).try_recv().unwrap().unwrap()[0]
    }

    pub(super) fn answer(&mut self, answer: Answer) {
        let (seq, _) = self.out.remove(0);
        self.tell(Input::Answered(seq, answer));
    }

    pub(super) fn get(&mut self, id: &str) -> Described {
        self.core.get(&identity(id)).unwrap()
    }

    pub(super) fn state(&mut self, id: &str) -> State {
        self.get(id).record.state
    }

    pub(super) fn outcome(&mut self, id: &str) -> Option<Outcome> {
        match self.state(id) {
            State::Settled { outcome, .. } => Some(outcome),
            _ => None,
        }
    }
}

pub(super) fn phone() -> Phone {
    Phone::new("+12223334444").unwrap()
}

pub(super) fn identity(id: &str) -> Identity {
    Identity { agent: AgentId::new("bot").unwrap(), message_id: MessageId::new(id).unwrap() }
}

pub(super) fn draft(id: &str, use_case: &str) -> Draft {
    Draft {
        agent: AgentId::new("bot").unwrap(),
        message_id: MessageId::new(id).unwrap(),
        phone: phone(),
        use_case: UseCase::new(use_case).unwrap(),
        send_time: None,
        own: None,
        region: None,
        traffic_type: None,
        tags: Vec::new(),
        fallback: None,
        time_zone: None,
        on_conflict: OnConflict::Replace,
    }
}

#[test]
fn a_message_is_revoked_at_its_deadline_and_granted_when_its_window_is_over() {
    let mut rig = Rig::new();
    rig.register(draft("m", "otp"));
    rig.pass(SECOND * 600 - Duration::from_millis(1));
    assert!(rig.out.is_empty(), "a DELETE before the deadline");
    rig.pass(Duration::from_millis(1));
    assert_eq!(rig.out.len(), 1);
    rig.answer(Answer::Revoked);
    assert!(matches!(rig.state("m"), State::Settling { belief: Belief::Revoked, .. }));
    rig.pass(SECOND * 10);
    assert_eq!(rig.outcome("m"), Some(Outcome::Revoked));
    let described = rig.get("m");
    assert_eq!(described.record.attempts.lateness, Some(Duration::ZERO));
    assert_eq!(described.record.grant.map(|grant| grant.state), Some(GrantState::Offered));
    let told = rig.core.outcomes(Some(0), 10, None).unwrap();
    assert_eq!(told.entries.len(), 1);
    assert_eq!(told.entries[0].1.grant_id.as_deref(), described.grant_id.as_deref());
}

#[test]
fn a_delivered_message_gets_no_delete() {
    let mut rig = Rig::new();
    rig.register(draft("m", "otp"));
    assert_eq!(rig.evidence("m", EvidenceKind::Delivered), EvidenceEffect::Applied);
    assert_eq!(rig.evidence("m", EvidenceKind::Delivered), EvidenceEffect::Duplicate);
    rig.pass(SECOND * 700);
    assert!(rig.out.is_empty());
    assert_eq!(rig.outcome("m"), Some(Outcome::Delivered));
}

#[test]
fn a_delivery_that_comes_before_its_message_settles_it_at_once() {
    let mut rig = Rig::new();
    assert_eq!(rig.evidence("m", EvidenceKind::Read), EvidenceEffect::Early);
    let registered = rig.register(draft("m", "otp"));
    assert!(matches!(registered.message.record.state, State::Settled { outcome: Outcome::Delivered, .. }));
    assert_eq!(rig.core.early.len(), 0);
}

#[test]
fn an_early_event_of_another_handset_is_about_another_message() {
    let mut rig = Rig::new();
    let other = Phone::new("+19998887777").unwrap();
    let evidence = Evidence { identity: identity("m"), phone: other, kind: EvidenceKind::Delivered };
    drop(rig.ask(|reply| Command::Evidence(vec![evidence], reply)));
    assert_eq!(rig.register(draft("m", "otp")).message.record.state, State::Pending);
}

#[test]
fn nothing_is_answered_and_no_outcome_told_before_it_is_on_disk() {
    let mut rig = Rig::new();
    rig.disk = false;
    let mut answer = rig.ask(|reply| Command::Register(vec![draft("m", "otp")], reply));
    assert!(answer.try_recv().is_err());
    let mut effect = rig.ask(|reply| {
        let evidence = Evidence { identity: identity("m"), phone: phone(), kind: EvidenceKind::Delivered };
        Command::Evidence(vec![evidence], reply)
    });
    assert!(effect.try_recv().is_err());
    assert!(rig.core.outcomes(Some(0), 10, None).unwrap().entries.is_empty());
    rig.disk = true;
    rig.settle();
    assert!(answer.try_recv().unwrap().is_ok());
    assert!(effect.try_recv().unwrap().is_ok());
    assert_eq!(rig.core.outcomes(Some(0), 10, None).unwrap().entries.len(), 1);
}

#[test]
fn no_attempt_leaves_before_its_fence_is_on_disk() {
    let mut rig = Rig::new();
    rig.register(draft("m", "otp"));
    rig.disk = false;
    rig.pass(SECOND * 601);
    assert!(rig.out.is_empty(), "a crash now would not know of this attempt");
    rig.disk = true;
    rig.settle();
    assert_eq!(rig.out.len(), 1);
}

#[test]
fn no_attempt_leaves_from_where_a_crash_would_not_find_its_message() {
    let mut rig = Rig::new();
    rig.register(draft("old", "otp"));
    rig.pass(SECOND * 599);
    rig.register(draft("m", "otp"));
    rig.disk = false;
    // Now it is behind the fence that "old" is behind, but on disk it still stands ahead of it.
    let earlier = Draft { send_time: Some(rig.now.wall.minus(SECOND * 600)), ..draft("m", "otp") };
    drop(rig.ask(|reply| Command::Register(vec![earlier], reply)));
    rig.pass(SECOND * 2);
    let left: Vec<_> = rig.out.iter().map(|(_, order)| order.message_id.as_str().to_owned()).collect();
    assert!(!left.contains(&"m".to_owned()), "after a crash a 404 would pass for a delivery");
    rig.disk = true;
    rig.settle();
    assert!(rig.out.iter().any(|(_, order)| order.message_id.as_str() == "m"));
}

#[test]
fn an_attempt_that_a_crash_cut_off_makes_a_404_unknown() {
    let mut rig = Rig::new();
    rig.register(draft("m", "otp"));
    rig.pass(SECOND * 600);
    let mut rig = rig.crash();
    assert_eq!(rig.out.len(), 1, "overdue ones fire at start");
    rig.answer(Answer::NotFound);
    assert!(matches!(rig.state("m"), State::Settling { belief: Belief::Unknown, .. }));
    rig.pass(SECOND * 10);
    assert_eq!(rig.outcome("m"), Some(Outcome::Unknown));
    assert_eq!(rig.get("m").record.grant.map(|grant| grant.state), Some(GrantState::Offered), "otp: on_unknown = send");
}

#[test]
fn an_orderly_stop_leaves_no_doubt() {
    let mut rig = Rig::new();
    rig.register(draft("m", "otp"));
    rig.pass(SECOND * 599);
    rig.move_to(rig.now.mono + SECOND * 60);
    let mut rig = rig.restart();
    assert_eq!(rig.out.len(), 1);
    rig.answer(Answer::NotFound);
    assert!(matches!(rig.state("m"), State::Settling { belief: Belief::ProbablyDelivered, .. }));
}

#[test]
fn a_404_is_looked_at_twice_before_it_is_unknown() {
    let mut rig = Rig::new();
    rig.register(draft("m", "promo"));
    rig.pass(SECOND * 3600);
    rig.answer(Answer::NotFound);
    rig.pass(SECOND * 11);
    assert_eq!(rig.out.len(), 1, "the second look");
    rig.answer(Answer::NotFound);
    assert_eq!(rig.outcome("m"), Some(Outcome::Unknown));
    assert_eq!(rig.get("m").record.grant.map(|grant| grant.state), Some(GrantState::Held), "promo: on_unknown = hold");
}

#[test]
fn a_delivery_while_the_attempt_is_out_wins_when_it_is_back() {
    for answer in [Answer::Revoked, Answer::NotFound, Answer::TooManyRequests(None), Answer::Lost("reset".into())] {
        let mut rig = Rig::new();
        rig.register(draft("m", "otp"));
        rig.pass(SECOND * 600);
        assert_eq!(rig.evidence("m", EvidenceKind::Delivered), EvidenceEffect::Applied);
        assert!(matches!(rig.state("m"), State::Revoking { in_flight: true, .. }));
        rig.answer(answer);
        assert_eq!(rig.outcome("m"), Some(Outcome::Delivered));
        rig.pass(SECOND * 4000);
        assert!(rig.out.is_empty() && rig.get("m").record.grant.is_none());
    }
}

#[test]
fn a_delivery_noted_before_a_crash_is_not_forgotten() {
    let mut rig = Rig::new();
    rig.register(draft("m", "otp"));
    rig.pass(SECOND * 600);
    rig.evidence("m", EvidenceKind::Delivered);
    let mut rig = rig.crash();
    assert!(rig.out.is_empty(), "no DELETE for a message known to be delivered");
    assert_eq!(rig.outcome("m"), Some(Outcome::Delivered));
}

#[test]
fn a_late_delivery_withdraws_the_grant_unless_it_was_acknowledged() {
    for acked in [false, true] {
        let mut rig = Rig::new();
        rig.register(draft("m", "otp"));
        rig.pass(SECOND * 600);
        rig.answer(Answer::Revoked);
        rig.pass(SECOND * 10);
        if acked {
            let cursor = rig.core.durable_cursor;
            rig.ask(|reply| Command::Ack { agents: None, cursor, reply }).try_recv().unwrap().unwrap();
        }
        let unread = rig.core.outcomes(None, 10, None).unwrap().entries.len();
        assert_eq!(unread, usize::from(!acked), "without a cursor: from what was acknowledged");
        rig.evidence("m", EvidenceKind::Delivered);
        let state = rig.get("m").record.grant.unwrap().state;
        assert_eq!(state, if acked { GrantState::Offered } else { GrantState::Withdrawn });
        let told = rig.core.outcomes(Some(0), 10, None).unwrap().entries;
        assert_eq!((told[1].1.kind, told[1].1.outcome), (EntryKind::Amended, Outcome::Delivered));
    }
}

#[test]
fn a_grant_that_was_held_back_is_given_or_dropped_by_decision_and_only_once() {
    for give in [true, false] {
        let mut rig = Rig::new();
        rig.register(draft("m", "promo"));
        rig.pass(SECOND * 3600);
        rig.answer(Answer::NotFound);
        rig.pass(SECOND * 11);
        rig.answer(Answer::NotFound);
        assert_eq!(rig.get("m").record.grant.map(|grant| grant.state), Some(GrantState::Held));
        let decide =
            |rig: &mut Rig| rig.ask(|reply| Command::Act(identity("m"), Verb::Decide(give), reply)).try_recv().unwrap();
        let wanted = if give { GrantState::Offered } else { GrantState::Withdrawn };
        assert_eq!(decide(&mut rig).unwrap().record.grant.map(|grant| grant.state), Some(wanted));
        assert_eq!(decide(&mut rig).unwrap_err().kind, RefusalKind::Conflict);
        let told = rig.core.outcomes(Some(0), 10, None).unwrap().entries;
        let kinds: Vec<_> = told.iter().map(|(_, entry)| entry.kind).collect();
        assert_eq!(kinds, if give { vec![EntryKind::Settled, EntryKind::Granted] } else { vec![EntryKind::Settled] });
    }
}

#[test]
fn a_429_rests_the_lane_and_costs_the_message_no_attempt() {
    let mut rig = Rig::new();
    rig.register(draft("m", "otp"));
    rig.register(draft("n", "otp"));
    rig.pass(SECOND * 600);
    rig.answer(Answer::TooManyRequests(Some(SECOND * 30)));
    rig.answer(Answer::TooManyRequests(Some(SECOND * 30)));
    rig.pass(SECOND * 29);
    assert!(rig.out.is_empty());
    rig.pass(SECOND);
    assert_eq!(rig.out.len(), 1, "one probe");
    rig.answer(Answer::Revoked);
    rig.pass(SECOND);
    assert_eq!(rig.out.len(), 1, "then the rest");
    rig.answer(Answer::Revoked);
    assert_eq!(rig.get("m").record.attempts.count, 1);
}

#[test]
fn a_lane_that_rests_for_good_fails_its_messages_in_time_for_the_sms() {
    let mut rig = Rig::new();
    rig.register(draft("m", "otp"));
    rig.pass(SECOND * 600);
    while rig.outcome("m").is_none() {
        if !rig.out.is_empty() {
            rig.answer(Answer::Forbidden("not yours".into()));
        }
        rig.pass(SECOND);
        assert!(rig.now.mono < SECOND * 5000, "still waiting: {:?}", rig.state("m"));
    }
    assert_eq!(rig.outcome("m"), Some(Outcome::Failed));
    assert_eq!(rig.get("m").record.grant.map(|grant| grant.state), Some(GrantState::Offered));
}

#[test]
fn an_otp_does_not_wait_behind_a_campaign() {
    let pace = PaceLimits { in_flight: 4, per_second: 100, in_flight_total: 16 };
    let mut rig = Rig::with(Settings { pace, ..Settings::default() });
    for n in 0..10_000 {
        rig.register(draft(&format!("p{n}"), "promo"));
    }
    rig.pass(SECOND * 3010);
    rig.register(draft("code", "otp"));
    // All promotions are due ten seconds before the code is.
    let mut sent = 0;
    while sent < 6000 {
        rig.pass(Duration::from_millis(1));
        for (seq, order) in std::mem::take(&mut rig.out) {
            sent += 1;
            if order.message_id.as_str() == "code" {
                let lateness = rig.get("code").record.attempts.lateness.unwrap();
                assert!(lateness <= Duration::from_millis(50), "{lateness:?}");
                assert!(sent > 500, "there was a backlog to overtake");
                return;
            }
            rig.tell(Input::Answered(seq, Answer::Revoked));
        }
    }
    panic!("the code never left");
}

#[test]
fn a_window_is_bounded_and_nothing_behind_it_is_dropped() {
    let pace = PaceLimits { in_flight: 64, per_second: 100_000, in_flight_total: 512 };
    let mut rig = Rig::with(Settings { pace, ..Settings::default() });
    let mut wanted = Vec::new();
    for n in 0..12_000_u64 {
        let mut draft = draft(&format!("m{n}"), "otp");
        // Out of order, so that places come before, in and behind the window.
        draft.send_time = Some(rig.now.wall.minus(Duration::from_millis(n * 7919 % 300_000)));
        wanted.push((draft.send_time.unwrap(), draft.message_id.clone()));
        rig.register(draft);
    }
    wanted.sort_by_key(|(at, _)| *at);
    let mut rig = rig.restart();
    let mut left: Vec<(Timestamp, MessageId)> = Vec::new();
    while left.len() < wanted.len() {
        rig.pass(Duration::from_millis(200));
        for (seq, order) in std::mem::take(&mut rig.out) {
            let sent = rig.get(order.message_id.as_str()).record.send_time;
            left.push((sent, order.message_id));
            rig.tell(Input::Answered(seq, Answer::Revoked));
        }
        let near: usize = rig.core.lanes.iter().map(|(_, lane)| lane.line(Queue::Anchor).places().count()).sum();
        assert!(near <= small().window);
        assert!(rig.now.mono < SECOND * 2000, "{} of {} left", left.len(), wanted.len());
    }
    assert!(left.is_sorted_by_key(|(at, _)| *at), "the earliest deadline first");
    left.sort();
    wanted.sort();
    assert_eq!(left, wanted);
}

#[test]
fn a_step_back_of_the_clock_fires_nothing_early_and_a_step_forward_nothing_late() {
    let mut rig = Rig::new();
    rig.register(draft("m", "otp"));
    rig.now.wall = rig.now.wall.minus(SECOND * 3600);
    rig.tell(Input::ClockStepped);
    rig.pass(SECOND * 601);
    assert!(rig.out.is_empty(), "the deadline is a wall-clock time, and it has not come");
    rig.now.wall = rig.now.wall.plus(SECOND * 3600);
    rig.tell(Input::ClockStepped);
    assert_eq!(rig.out.len(), 1);
}

#[test]
fn registering_again_does_as_it_was_asked() {
    let mut rig = Rig::new();
    let first = rig.register(draft("m", "otp"));
    assert!(first.created);
    let in_a_minute = |rig: &Rig| Some(Own::At(rig.now.wall.plus(SECOND * 60)));
    let own = in_a_minute(&rig);
    let kept = rig.register(Draft { own, on_conflict: OnConflict::Keep, ..draft("m", "otp") });
    assert_eq!((kept.created, kept.message.deadline), (false, first.message.deadline));
    let earlier = rig.register(Draft { own, on_conflict: OnConflict::Earliest, ..draft("m", "otp") });
    assert_eq!(earlier.message.deadline, rig.now.wall.plus(SECOND * 60));
    let not_earlier = rig.register(Draft { on_conflict: OnConflict::Earliest, ..draft("m", "otp") });
    assert_eq!(not_earlier.message.deadline, earlier.message.deadline);
    let replaced = rig.register(draft("m", "promo"));
    assert_eq!(replaced.message.lane.use_case.as_str(), "promo");
    assert_eq!(replaced.message.record.seq, first.message.record.seq);
    let reject = Draft { on_conflict: OnConflict::Reject, ..draft("m", "otp") };
    let refused = rig.ask(|reply| Command::Register(vec![reject], reply)).try_recv().unwrap().unwrap();
    assert_eq!(refused[0].as_ref().unwrap_err().kind, RefusalKind::Conflict);
    assert_eq!(rig.core.list(&Filter::default(), 10, None).unwrap().messages.len(), 1);
}

#[test]
fn what_is_over_is_not_brought_back_by_a_late_registration() {
    let mut rig = Rig::new();
    rig.register(draft("m", "otp"));
    rig.ask(|reply| Command::Act(identity("m"), Verb::Withdraw, reply)).try_recv().unwrap().unwrap();
    let again = rig.register(draft("m", "otp"));
    assert!(!again.created);
    assert!(matches!(again.message.record.state, State::Settled { outcome: Outcome::Withdrawn, .. }));
    rig.pass(SECOND * 700);
    assert!(rig.out.is_empty());
}

#[test]
fn one_message_twice_in_a_batch_is_one_message() {
    let mut rig = Rig::new();
    let drafts = vec![draft("m", "otp"), draft("m", "promo"), draft("n", "nothing"), draft("o", "otp")];
    let results = rig.ask(|reply| Command::Register(drafts, reply)).try_recv().unwrap().unwrap();
    assert!(results[0].as_ref().unwrap().created);
    assert!(!results[1].as_ref().unwrap().created);
    let refusal = results[2].as_ref().unwrap_err();
    assert_eq!(refusal.field.as_deref(), Some("useCase"));
    assert!(refusal.message.contains("otp, promo"), "{}", refusal.message);
    assert!(results[3].as_ref().unwrap().created);
    assert_eq!(rig.get("m").lane.use_case.as_str(), "promo");
}

#[test]
fn settled_messages_are_purged_when_their_time_is_over() {
    let mut rig = Rig::new();
    rig.register(draft("m", "otp"));
    rig.evidence("m", EvidenceKind::Delivered);
    rig.pass(SECOND * (24 * 3600 - 1));
    assert_eq!(rig.outcome("m"), Some(Outcome::Delivered));
    rig.pass(SECOND * 2);
    assert!(rig.core.get(&identity("m")).is_err());
    assert!(rig.core.store.snapshot().counts.is_empty());
}

#[test]
fn pages_show_every_message_once() {
    let mut rig = Rig::new();
    for n in 0..25 {
        rig.register(draft(&format!("m{n}"), if n % 2 == 0 { "otp" } else { "promo" }));
    }
    let mut seen = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let page = rig.core.list(&Filter::default(), 4, token.as_deref()).unwrap();
        seen.extend(page.messages.into_iter().map(|described| described.record.identity.message_id));
        token = page.next;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 25);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 25);
    assert!(rig.core.list(&Filter::default(), 4, Some("x.y")).is_err());
}

#[test]
fn a_use_case_that_vanished_while_messages_wait_in_it_is_an_error() {
    let mut rig = Rig::new();
    rig.register(draft("m", "otp"));
    let store = rig.core.store;
    let snapshot = store.snapshot();
    let without = tuning(Policies::default(), Settings::default());
    let opened = Core::new(store, &snapshot, without, small(), fastrand::Rng::with_seed(1), rig.now.wall);
    assert_eq!(opened.err().as_deref(), Some("otp"));
}
