//! Steps of the wall clock: what is due, and by which time.

use std::time::Duration;

use super::asked::*;
use super::core::{Input, Settings};
use super::handle::*;
use super::replies::*;
use super::tests::{Rig, SECOND, draft, identity, policies, start};
use super::time::STEP_MAX;
use crate::clock::Now;
use crate::model::*;
use crate::store::Snapshot;
use crate::store::memory::MemoryStore;

const DAY: Duration = Duration::from_secs(24 * 3600);
const HOUR: Duration = Duration::from_secs(3600);
/// A start of the host, and another one.
const BOOTS: [u64; 2] = [7, 8];

fn step(rig: &mut Rig, ahead: bool, by: Duration) {
    rig.now.wall = if ahead { rig.now.wall.plus(by) } else { rig.now.wall.minus(by) };
    rig.tell(Input::ClockStepped);
}

/// A daemon that knows which start of the host it lives in.
fn lives(store: MemoryStore, boot: u64, now: Now) -> Rig {
    let snapshot = store.snapshot();
    Rig::in_boot(boot, store, &snapshot, policies(), Settings::default(), now)
}

/// Dies; the next one starts after a while in which the clock stepped as well.
fn dies(rig: Rig, boot: u64, down: Duration, ahead: Duration) -> Rig {
    let now = Now { wall: rig.now.wall.plus(down).plus(ahead), mono: rig.now.mono + down };
    lives(rig.core.store, boot, now)
}

fn accept(rig: &mut Rig) -> Result<super::Disbelief, Refusal> {
    rig.ask(Command::AcceptClock).try_recv().unwrap()
}

#[test]
fn a_step_ahead_that_is_taken_back_revokes_nothing_before_its_time() {
    for by in [HOUR, DAY] {
        let mut rig = Rig::new();
        rig.register(draft("m", "otp"));
        step(&mut rig, true, by);
        assert!(rig.out.is_empty());
        let held = rig.core.disbelief().unwrap();
        assert_eq!((held.since, held.ahead), (start().wall, by));
        rig.pass(SECOND * 300);
        step(&mut rig, false, by);
        assert_eq!((rig.core.disbelief(), rig.out.len()), (None, 0));
        rig.pass(SECOND * 299);
        assert!(rig.out.is_empty());
        rig.pass(SECOND);
        assert_eq!(rig.out.len(), 1, "at its deadline");
    }
}

#[test]
fn deadlines_are_kept_by_the_time_before_a_step_that_is_not_believed() {
    let mut rig = Rig::new();
    rig.register(draft("m", "otp"));
    step(&mut rig, true, DAY);
    let sent = rig.now.wall;
    rig.register(Draft { send_time: Some(sent), ..draft("n", "otp") });
    rig.pass(SECOND * 600);
    assert_eq!(rig.out.len(), 2, "by the time before, although an agent's clock stepped with the host's");
    rig.answer(Answer::Revoked);
    rig.pass(SECOND * 10);
    assert_eq!(rig.outcome("m"), Some(Outcome::Revoked));
}

#[test]
fn a_clock_that_is_accepted_is_gone_by() {
    let mut rig = Rig::new();
    assert_eq!(accept(&mut rig).unwrap_err().kind, RefusalKind::Conflict, "nothing is held");
    rig.register(draft("m", "promo"));
    step(&mut rig, true, DAY);
    assert!(rig.out.is_empty());
    assert_eq!(accept(&mut rig).unwrap().ahead, DAY);
    assert_eq!((rig.out.len(), rig.core.disbelief()), (1, None));
    // And back again: that is no step ahead of anything.
    step(&mut rig, false, DAY);
    step(&mut rig, true, DAY);
    assert_eq!(rig.core.disbelief(), None);
}

#[test]
fn small_steps_are_followed_and_so_are_the_hours_that_a_host_sleeps() {
    for (ahead, by) in [(true, SECOND), (true, STEP_MAX), (false, SECOND)] {
        let mut rig = Rig::new();
        rig.register(draft("m", "promo"));
        step(&mut rig, ahead, by);
        assert_eq!(rig.core.disbelief(), None);
        rig.pass(if ahead { SECOND * 3600 - by } else { SECOND * 3600 + by });
        assert_eq!(rig.out.len(), 1);
    }
    let mut rig = Rig::new();
    rig.register(draft("m", "promo"));
    rig.move_to(rig.now.mono + DAY);
    rig.tell(Input::ClockStepped);
    assert_eq!((rig.core.disbelief(), rig.out.len()), (None, 1), "both clocks saw the day pass");
}

#[test]
fn nothing_is_missed_after_a_step_back() {
    for by in [HOUR, DAY] {
        let mut rig = Rig::new();
        rig.register(draft("m", "otp"));
        rig.pass(SECOND * 599);
        step(&mut rig, false, by);
        rig.pass(by + SECOND);
        assert_eq!(rig.out.len(), 1, "when the clock shows its deadline");
    }
    // And if the step back was the mistake, what it held up leaves when it is taken back.
    let mut rig = Rig::new();
    rig.register(draft("m", "otp"));
    step(&mut rig, false, DAY);
    rig.pass(SECOND * 700);
    assert!(rig.out.is_empty());
    step(&mut rig, true, DAY);
    assert_eq!((rig.core.disbelief(), rig.out.len()), (None, 1));
}

#[test]
fn a_step_while_the_daemon_is_down_is_no_more_believed_than_one_before_its_eyes() {
    let mut rig = lives(MemoryStore::default(), BOOTS[0], start());
    rig.register(draft("m", "otp"));
    let mut rig = dies(rig, BOOTS[0], SECOND * 10, DAY);
    assert_eq!((rig.core.disbelief().map(|held| held.ahead), rig.out.len()), (Some(DAY), 0));
    // Nor does the next restart make it true.
    let mut again = dies(rig, BOOTS[0], SECOND * 10, Duration::ZERO);
    assert!(again.core.disbelief().is_some());
    again.pass(SECOND * 579);
    assert!(again.out.is_empty());
    again.pass(SECOND);
    assert_eq!(again.out.len(), 1);
    // After a start of the host, what was not believed has to be accepted all the same.
    rig = dies(again, BOOTS[1], HOUR, Duration::ZERO);
    assert!(rig.core.disbelief().is_some());
    assert!(accept(&mut rig).is_ok());
    assert_eq!(dies(rig, BOOTS[1], HOUR, Duration::ZERO).core.disbelief(), None);
}

#[test]
fn a_host_that_was_off_for_days_is_believed() {
    let mut rig = lives(MemoryStore::default(), BOOTS[0], start());
    rig.register(draft("m", "otp"));
    let rig = dies(rig, BOOTS[1], DAY * 3, Duration::ZERO);
    assert_eq!((rig.core.disbelief(), rig.out.len()), (None, 1), "overdue");
}

#[test]
fn a_clock_that_is_behind_the_store_at_the_start_is_put_right_by_any_step() {
    let mut rig = lives(MemoryStore::default(), BOOTS[0], start());
    rig.register(draft("m", "promo"));
    let long_ago = Now { wall: Timestamp::parse("2000-01-01T00:00:00Z").unwrap(), mono: SECOND };
    let mut rig = lives(rig.core.store, BOOTS[1], long_ago);
    assert_eq!((rig.core.disbelief(), rig.out.len()), (None, 0));
    rig.now.wall = start().wall.plus(SECOND * 60);
    rig.tell(Input::ClockStepped);
    assert_eq!((rig.core.disbelief(), rig.out.len()), (None, 0));
    rig.pass(SECOND * 3540);
    assert_eq!(rig.out.len(), 1, "at its deadline");
    // Put right once. The next one is a step like any other.
    step(&mut rig, true, DAY);
    assert!(rig.core.disbelief().is_some());
}

#[test]
fn a_step_ahead_does_not_make_moot_what_falls_due_later() {
    let fleeting = Policy { missed: Missed::Moot, ..Policy::new(Rule::Ttl(SECOND * 600)) };
    let policies: Policies = [(UseCase::new("otp").unwrap(), fleeting)].into_iter().collect();
    let first = MemoryStore::default();
    let settings = Settings::default;
    let mut rig = Rig::in_boot(BOOTS[0], first, &Snapshot::default(), policies.clone(), settings(), start());
    rig.register(draft("m", "otp"));
    let now = Now { wall: start().wall.plus(DAY), mono: start().mono + SECOND };
    let snapshot = rig.core.store.snapshot();
    let mut rig = Rig::in_boot(BOOTS[0], rig.core.store, &snapshot, policies, settings(), now);
    rig.pass(SECOND * 600);
    assert_eq!(rig.out.len(), 1, "it fell due while somebody watched");
}

#[test]
fn no_step_ahead_ends_a_settle_window_and_no_restart_after_it() {
    let mut rig = lives(MemoryStore::default(), BOOTS[0], start());
    rig.register(draft("m", "otp"));
    step(&mut rig, true, DAY);
    rig.pass(SECOND * 600);
    rig.answer(Answer::Revoked);
    rig.pass(SECOND * 4);
    accept(&mut rig).unwrap();
    step(&mut rig, true, STEP_MAX);
    let mut rig = dies(rig, BOOTS[0], SECOND, STEP_MAX);
    rig.pass(SECOND * 5 - SECOND / 1000);
    assert_eq!(rig.outcome("m"), None, "it has not waited for ten seconds");
    rig.pass(SECOND / 1000);
    assert_eq!(rig.outcome("m"), Some(Outcome::Revoked));
    // What begins after the steps is not concerned, nor after they are taken back.
    for n in ["after", "taken-back"] {
        rig.register(draft(n, "otp"));
        rig.pass(SECOND * 600);
        rig.answer(Answer::Revoked);
        rig.pass(SECOND * 10);
        assert_eq!(rig.outcome(n), Some(Outcome::Revoked), "{n}");
        step(&mut rig, false, DAY);
    }
}

#[test]
fn an_accepted_step_makes_nothing_old_that_is_kept_for_a_while() {
    let mut rig = Rig::new();
    rig.register(draft("withdrawn", "otp"));
    rig.ask(|reply| Command::Act(identity("withdrawn"), Verb::Withdraw, reply)).try_recv().unwrap().unwrap();
    rig.evidence("early", EvidenceKind::Delivered);
    step(&mut rig, true, DAY * 2);
    accept(&mut rig).unwrap();
    rig.pass(SECOND);
    rig.evidence("another", EvidenceKind::Delivered);
    rig.register(draft("withdrawn", "otp"));
    rig.register(draft("early", "otp"));
    assert_eq!(rig.outcome("withdrawn"), Some(Outcome::Withdrawn), "a late registration does not bring it back");
    assert_eq!(rig.outcome("early"), Some(Outcome::Delivered));
    rig.pass(DAY - SECOND * 2);
    rig.get("withdrawn");
    rig.pass(SECOND * 2);
    assert!(rig.core.get(&identity("withdrawn")).is_err(), "but it is not kept for longer");
}

#[test]
fn after_a_step_back_an_sms_waits_for_the_end_of_this_night_and_no_later_one() {
    let [from, to] = [22, 8].map(|hour| jiff::civil::time(hour, 0, 0, 0));
    let hours = QuietHours { from, to, zone: jiff::tz::TimeZone::UTC };
    let policy = Policy { not_between: Some(hours), ..Policy::new(Rule::Ttl(SECOND * 60)) };
    let policies: Policies = [(UseCase::new("otp").unwrap(), policy)].into_iter().collect();
    let now = Now { wall: Timestamp::parse("2026-05-02T23:00:00Z").unwrap(), ..start() };
    let mut rig = Rig::open(MemoryStore::default(), policies, Settings::default(), now);
    rig.register(draft("m", "otp"));
    rig.pass(SECOND * 60);
    rig.answer(Answer::Revoked);
    rig.pass(HOUR);
    step(&mut rig, false, DAY);
    rig.pass(HOUR * 8 - SECOND * 90);
    assert_eq!(rig.outcome("m"), None);
    rig.pass(SECOND * 60);
    assert_eq!(rig.outcome("m"), Some(Outcome::Revoked), "at eight, on the day that it is");
}

#[test]
fn small_steps_put_a_clock_right_as_well_as_one_that_is_not() {
    let mut rig = lives(MemoryStore::default(), BOOTS[0], start());
    rig.register(draft("m", "promo"));
    let behind = Now { wall: start().wall.minus(SECOND * 900), mono: SECOND };
    let mut rig = lives(rig.core.store, BOOTS[1], behind);
    for _ in 0..3 {
        step(&mut rig, true, STEP_MAX);
    }
    assert_eq!(rig.core.disbelief(), None);
    step(&mut rig, true, DAY);
    assert!(rig.core.disbelief().is_some(), "it was right, and is not any more");
}

#[test]
fn a_wrong_clock_that_was_put_right_is_no_measure_for_the_next_start() {
    let tomorrow = Now { wall: start().wall.plus(DAY), ..start() };
    let mut rig = lives(MemoryStore::default(), BOOTS[0], tomorrow);
    rig.register(draft("m", "promo"));
    step(&mut rig, false, DAY);
    let mut rig = dies(rig, BOOTS[1], SECOND, Duration::ZERO);
    step(&mut rig, true, DAY);
    assert!(rig.core.disbelief().is_some(), "what was booked for tomorrow does not make that today");
}

#[test]
fn a_step_that_a_restart_of_the_host_takes_back_makes_no_wait_longer() {
    let mut rig = lives(MemoryStore::default(), BOOTS[0], start());
    step(&mut rig, true, DAY);
    accept(&mut rig).unwrap();
    rig.pass(SECOND);
    let right = Now { wall: start().wall.plus(SECOND * 2), mono: SECOND };
    let rig = lives(rig.core.store, BOOTS[1], right);
    let end = start().wall.plus(HOUR);
    assert_eq!(rig.core.time.over(end, SECOND * 10), end);
}
