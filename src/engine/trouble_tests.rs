//! What goes wrong around the core: disks that can't be read or written, platforms that ask for peace, crashes and stops at
//! bad moments, one agent in the way of another.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::asked::*;
use super::core::{Input, Settings};
use super::handle::*;
use super::pace::PaceLimits;
use super::replies::*;
use super::tests::{Rig, SECOND, draft, identity, phone, policies, start, tuning};
use super::{Doors, Engine};
use crate::fallback::Hooks;
use crate::model::*;
use crate::platform::{Order, Platform};
use crate::store::memory::MemoryStore;
use crate::store::{Change, Cursor, Entry, Figures, Snapshot, Store, StoreError, Ticket};

/// A store that can't be read, for a while or in one place.
#[derive(Default)]
struct Shaky {
    inner: MemoryStore,
    /// Reads of records until they fail.
    reads_left: Cell<Option<u32>>,
    /// What stands there makes no sense.
    damaged: Option<Position>,
    /// Too much waits for the disk.
    overfull: bool,
}

impl Shaky {
    fn read(&self) -> Result<(), StoreError> {
        match self.reads_left.get() {
            None => Ok(()),
            Some(0) => Err(StoreError::Io("no".to_owned())),
            Some(left) => {
                self.reads_left.set(Some(left - 1));
                Ok(())
            }
        }
    }
}

impl Store for Shaky {
    fn append(&mut self, batch: Vec<Change>) -> Ticket {
        self.inner.append(batch)
    }

    fn writable(&mut self) -> Result<(), StoreError> {
        self.inner.writable()
    }

    fn is_overfull(&self) -> bool {
        self.overfull
    }

    fn find(&self, identity: &Identity) -> Result<Option<Record>, StoreError> {
        self.read()?;
        self.inner.find(identity)
    }

    fn at(&self, position: &Position) -> Result<Option<Record>, StoreError> {
        self.read()?;
        if self.damaged == Some(*position) {
            return Err(StoreError::Corrupt("damaged on purpose".to_owned()));
        }
        self.inner.at(position)
    }

    fn places(&self, lane: LaneId, queue: Queue, after: Option<Place>, limit: usize) -> Result<Vec<Place>, StoreError> {
        self.inner.places(lane, queue, after, limit)
    }

    fn outcomes(&self, after: Cursor, limit: usize) -> Result<Vec<(Cursor, Entry)>, StoreError> {
        self.inner.outcomes(after, limit)
    }

    fn figures(&self) -> Figures {
        self.inner.figures()
    }
}

fn shaky() -> Rig<Shaky> {
    Rig::over(Shaky::default(), &Snapshot::default(), policies(), Settings::default(), start())
}

/// One request at a time for each agent.
fn one_by_one() -> Settings {
    Settings { pace: PaceLimits { in_flight: 1, ..PaceLimits::default() }, ..Settings::default() }
}

fn policy(name: &str, policy: Policy) -> Policies {
    [(UseCase::new(name).unwrap(), policy)].into_iter().collect()
}

#[test]
fn what_was_never_tried_is_not_given_up_for_a_short_rest() {
    let mut rig = Rig::with(one_by_one());
    rig.register(draft("m", "otp"));
    rig.register(draft("n", "otp"));
    // Nobody is there until long after `give_up_after`.
    rig.move_to(rig.now.mono + SECOND * 8000);
    let mut rig = rig.restart();
    rig.answer(Answer::TooManyRequests(Some(SECOND)));
    rig.pass(SECOND * 2);
    while !rig.out.is_empty() {
        rig.answer(Answer::Revoked);
        rig.pass(SECOND);
    }
    rig.pass(SECOND * 10);
    for id in ["m", "n"] {
        assert_eq!(rig.outcome(id), Some(Outcome::Revoked), "{id}");
    }
}

#[test]
fn a_lane_that_rests_is_not_looked_at_all_the_time() {
    let spread = Policy { spread: SECOND * 7200, ..Policy::new(Rule::Ttl(SECOND * 7200)) };
    let mut rig = Rig::open(MemoryStore::default(), policy("sale", spread), one_by_one(), start());
    for n in 0..50 {
        rig.register(draft(&format!("m{n}"), "sale"));
    }
    rig.move_to(rig.now.mono + SECOND);
    let mut rig = rig.restart();
    for _ in 0..16_000 {
        while !rig.out.is_empty() {
            rig.answer(Answer::Forbidden("not yours".into()));
        }
        rig.pass(SECOND);
    }
    assert!((0..50).all(|n| rig.outcome(&format!("m{n}")) == Some(Outcome::Failed)));
    assert!(rig.wakes < 20_000, "{} looks", rig.wakes);
}

#[test]
fn what_was_decided_before_a_read_fails_is_written_all_the_same() {
    let mut rig = shaky();
    rig.register(draft("m", "otp"));
    rig.register(draft("n", "otp"));
    rig.pass(SECOND * 600);
    rig.answer(Answer::Revoked);
    rig.answer(Answer::Revoked);
    // The first window can be ended, the second one can't be read.
    rig.core.store.reads_left.set(Some(1));
    rig.pass(SECOND * 11);
    rig.core.store.reads_left.set(None);
    rig.pass(SECOND * 5);
    assert_eq!([rig.outcome("m"), rig.outcome("n")], [Some(Outcome::Revoked); 2]);
    let told: Vec<_> =
        rig.core.outcomes(Some(0), 10, None).unwrap().entries.into_iter().map(|(cursor, _)| cursor).collect();
    assert_eq!(told, [1, 2]);
}

#[test]
fn evidence_that_can_not_be_weighed_is_asked_for_again() {
    let mut rig = shaky();
    rig.register(draft("m", "otp"));
    rig.core.store.reads_left.set(Some(0));
    let evidence = vec![Evidence { identity: identity("m"), phone: phone(), kind: EvidenceKind::Delivered }];
    let refused = rig.ask(|reply| Command::Evidence(evidence, reply)).try_recv().unwrap();
    assert_eq!(refused.unwrap_err().kind, RefusalKind::Unavailable);
    rig.core.store.reads_left.set(None);
    assert_eq!(rig.evidence("m", EvidenceKind::Delivered), EvidenceEffect::Applied);
}

#[test]
fn a_damaged_record_does_not_hold_up_those_behind_it() {
    let mut rig = shaky();
    let first = rig.register(draft("m", "otp")).message.record;
    rig.register(draft("n", "otp"));
    rig.core.store.damaged = Some(first.position());
    rig.pass(SECOND * 602);
    let left: Vec<_> = rig.out.iter().map(|(_, order)| order.message_id.as_str()).collect();
    assert_eq!(left, ["n"]);
}

#[test]
fn only_a_deadline_that_passed_while_nobody_watched_is_moot() {
    let missed = |lead, spread| Policy { lead, spread, missed: Missed::Moot, ..Policy::new(Rule::Ttl(SECOND * 600)) };
    for sale in [missed(SECOND * 60, Duration::ZERO), missed(Duration::ZERO, SECOND * 60)] {
        for (back_at, is_moot) in [(599, false), (601, true)] {
            let mut rig = Rig::open(MemoryStore::default(), policy("sale", sale.clone()), Settings::default(), start());
            rig.register(draft("m", "sale"));
            rig.pass(SECOND * 530);
            rig.move_to(rig.now.mono + SECOND * (back_at - 530));
            let mut rig = rig.restart();
            assert_eq!((rig.out.len(), rig.outcome("m") == Some(Outcome::Moot)), (usize::from(!is_moot), is_moot));
        }
    }
}

fn of(agent: &str, id: &str) -> Draft {
    Draft { agent: AgentId::new(agent).unwrap(), ..draft(id, "otp") }
}

#[test]
fn a_free_place_in_the_total_goes_on_to_who_can_use_it() {
    let pace = PaceLimits { in_flight: 1, in_flight_total: 2, ..PaceLimits::default() };
    let mut rig = Rig::with(Settings { pace, ..Settings::default() });
    for draft in [of("one", "m"), of("two", "n"), of("one", "o"), of("two", "p"), of("three", "q")] {
        rig.register(draft);
    }
    rig.pass(SECOND * 600);
    for agent in ["one", "two"] {
        rig.register(of(agent, "another"));
    }
    for (seq, _) in std::mem::take(&mut rig.out) {
        rig.core.apply(Input::Answered(seq, Answer::TooManyRequests(Some(SECOND * 3000))), rig.now);
    }
    rig.settle();
    let out: Vec<_> = rig.out.iter().map(|(_, order)| order.agent.as_str()).collect();
    assert_eq!(out, ["three"], "nothing else is out that could come back and bring another look");
}

#[test]
fn in_the_total_too_the_earliest_deadline_goes_first() {
    let pace = PaceLimits { in_flight_total: 1, ..PaceLimits::default() };
    let mut rig = Rig::with(Settings { pace, ..Settings::default() });
    for (agent, id, age) in [("one", "m", 10), ("one", "n", 1), ("two", "o", 5)] {
        let sent = rig.now.wall.minus(SECOND * age);
        rig.register(Draft { send_time: Some(sent), ..of(agent, id) });
    }
    rig.pass(SECOND * 600);
    let mut left = Vec::new();
    while let Some((_, order)) = rig.out.first() {
        left.push(order.message_id.to_string());
        rig.answer(Answer::Revoked);
    }
    assert_eq!(left, ["m", "o", "n"]);
}

struct Nobody;

impl Platform for Nobody {
    fn revoke(&self, _: Order) -> BoxFuture<'static, Answer> {
        Box::pin(async { Answer::Revoked })
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_due_is_looked_at_however_much_news_there_is() {
    let doors = Doors::default();
    let teller = doors.teller();
    let tuning = tuning(policies(), Settings::default());
    let mut engine =
        Engine::new(doors, MemoryStore::default(), &Snapshot::default(), Arc::new(Nobody), Hooks::default(), tuning)
            .unwrap();
    engine.wheel.arm(3, SECOND);
    tokio::time::advance(SECOND * 2).await;
    teller.durable(Ok(0));
    let next = engine.select(&CancellationToken::new()).await;
    assert!(matches!(next, Some(Input::Wake(3))), "{next:?}");
}

#[test]
fn the_lateness_of_a_message_is_counted_once() {
    let mut rig = Rig::new();
    rig.register(draft("m", "otp"));
    rig.pass(SECOND * 600);
    rig.answer(Answer::TooManyRequests(Some(SECOND)));
    rig.pass(SECOND);
    rig.answer(Answer::Revoked);
    assert_eq!(rig.core.times.lateness.measured().count, 1);
}

#[test]
fn an_attempt_that_is_out_while_something_is_noted_is_known_to_the_next_start() {
    let mut rig = Rig::new();
    rig.register(draft("m", "otp"));
    rig.pass(SECOND * 600);
    rig.evidence("m", EvidenceKind::TtlFailed("TTL_EXPIRATION_REVOKE_FAILED".into()));
    let mut rig = rig.crash();
    rig.pass(SECOND);
    rig.answer(Answer::NotFound);
    assert!(matches!(rig.state("m"), State::Settling { belief: Belief::Unknown, .. }), "{:?}", rig.state("m"));
}

/// After a crash with one attempt out and another message behind the same fence; the route rests.
fn crashed_with_a_doubt() -> Rig {
    let mut rig = Rig::with(one_by_one());
    rig.register(draft("m", "otp"));
    rig.register(draft("n", "otp"));
    rig.pass(SECOND * 600);
    let mut rig = rig.crash();
    rig.answer(Answer::TooManyRequests(Some(SECOND * 30)));
    rig
}

fn is_in_doubt(mut rig: Rig, id: &str) -> bool {
    loop {
        rig.pass(SECOND);
        let Some((_, order)) = rig.out.first() else { continue };
        if order.message_id.as_str() == id {
            rig.answer(Answer::NotFound);
            return matches!(rig.state(id), State::Settling { belief: Belief::Unknown, .. });
        }
        rig.answer(Answer::Revoked);
    }
}

#[test]
fn a_doubt_that_a_crash_left_survives_an_orderly_stop() {
    assert!(is_in_doubt(crashed_with_a_doubt(), "n"), "without a stop");
    assert!(is_in_doubt(crashed_with_a_doubt().restart(), "n"));
}

#[test]
fn a_doubt_that_a_crash_left_survives_what_the_agent_asks_for() {
    let verb = |verb| move |rig: &mut Rig| drop(rig.ask(|reply| Command::Act(identity("n"), verb, reply)));
    let again = |rig: &mut Rig| drop(rig.register(draft("n", "promo")));
    type Asked = Box<dyn Fn(&mut Rig)>;
    let asked: [Asked; 3] = [
        Box::new(verb(Verb::Revoke)),
        Box::new(verb(Verb::Reschedule(start().wall.plus(SECOND * 900)))),
        Box::new(again),
    ];
    for ask in asked {
        let mut rig = crashed_with_a_doubt();
        ask(&mut rig);
        assert!(is_in_doubt(rig, "n"));
    }
}

#[test]
fn a_reload_is_answered_when_it_is_on_disk() {
    let mut rig = Rig::new();
    rig.register(draft("m", "otp"));
    rig.disk = false;
    let new = Policy { applies_to: AppliesTo::New, ..Policy::new(Rule::Ttl(SECOND * 60)) };
    let others = policies().iter().map(|(name, policy)| (name.clone(), Policy::clone(policy))).collect::<Vec<_>>();
    let all = others.into_iter().chain([(UseCase::new("otp").unwrap(), new)]).collect();
    let changed = Box::new(tuning(all, Settings::default()));
    let mut answer = rig.ask(|reply| Command::Retune(changed, reply));
    assert!(answer.try_recv().is_err(), "a crash now would give what is pending the new rule");
    rig.disk = true;
    rig.settle();
    assert!(answer.try_recv().unwrap().is_ok());
}

#[test]
fn a_disk_that_fails_does_not_keep_what_is_known_from_being_revoked() {
    let mut rig = Rig::new();
    rig.register(draft("m", "otp"));
    rig.disk = false;
    rig.tell(Input::Durable(Err(StoreError::Io("full".to_owned()))));
    rig.pass(SECOND * 600);
    assert_eq!(rig.out.len(), 1);
    rig.answer(Answer::Revoked);
    rig.pass(SECOND * 10);
    assert!(
        rig.core.outcomes(Some(0), 10, None).unwrap().entries.is_empty(),
        "nothing is told that a crash would take back"
    );
    rig.disk = true;
    rig.settle();
    assert_eq!(rig.core.outcomes(Some(0), 10, None).unwrap().entries.len(), 1);
}

#[test]
fn when_too_much_waits_for_the_disk_nothing_is_begun_or_learnt_until_it_is_written() {
    let mut rig = shaky();
    rig.register(draft("m", "otp"));
    rig.register(draft("n", "otp"));
    rig.core.store.overfull = true;
    rig.pass(SECOND * 700);
    assert!(rig.out.is_empty());
    assert!(rig.wakes < 1500, "{} looks", rig.wakes);
    let evidence = vec![Evidence { identity: identity("n"), phone: phone(), kind: EvidenceKind::Delivered }];
    let refused = rig.ask(|reply| Command::Evidence(evidence, reply)).try_recv().unwrap();
    assert_eq!(refused.unwrap_err().kind, RefusalKind::Unavailable);
    let refused = rig.ask(|reply| Command::Act(identity("n"), Verb::Withdraw, reply)).try_recv().unwrap();
    assert_eq!(refused.unwrap_err().kind, RefusalKind::Unavailable);
    assert_eq!([rig.state("m"), rig.state("n")], [State::Pending; 2]);

    rig.core.store.overfull = false;
    assert_eq!(rig.evidence("n", EvidenceKind::Delivered), EvidenceEffect::Applied);
    rig.pass(SECOND * 2);
    assert_eq!(rig.out.iter().map(|(_, order)| order.message_id.as_str()).collect::<Vec<_>>(), ["m"]);
}

#[test]
fn a_grant_held_back_goes_when_its_message_turns_out_delivered_whatever_was_acknowledged() {
    let mut rig = Rig::new();
    rig.register(draft("m", "promo"));
    rig.pass(SECOND * 3600);
    rig.answer(Answer::Rejected("no".into()));
    assert_eq!(rig.get("m").record.grant.map(|grant| grant.state), Some(GrantState::Held));
    let cursor = rig.core.durable_cursor;
    rig.ask(|reply| Command::Ack { agents: None, cursor, reply }).try_recv().unwrap().unwrap();
    rig.evidence("m", EvidenceKind::Delivered);
    assert_eq!(rig.get("m").record.grant.map(|grant| grant.state), Some(GrantState::Withdrawn));
    let given = rig.ask(|reply| Command::Act(identity("m"), Verb::Decide(true), reply)).try_recv().unwrap();
    assert!(given.is_err(), "an SMS for what the handset shows");
}

#[test]
fn a_message_that_is_turned_back_twice_within_a_millisecond_is_tried_again() {
    let mut rig = Rig::new();
    rig.register(draft("m", "otp"));
    rig.pass(SECOND * 600);
    for _ in 0..4 {
        assert_eq!(rig.out.len(), 1);
        rig.answer(Answer::TooManyRequests(None));
    }
    rig.answer(Answer::Revoked);
    assert!(matches!(rig.state("m"), State::Settling { .. }));
}
