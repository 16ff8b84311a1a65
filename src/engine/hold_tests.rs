//! What is held is not revoked, whatever happens meanwhile; and what is released leaves.

use super::asked::*;
use super::core::{Input, Settings};
use super::handle::*;
use super::hold::{HoldStatus, Which};
use super::pace::PaceLimits;
use super::replies::*;
use super::tests::{Rig, SECOND, draft, identity, policies, start};
use crate::model::*;
use crate::store::memory::MemoryStore;

fn of(use_case: Option<&str>, tag: Option<&str>) -> Selector {
    Selector { use_case: use_case.map(|name| UseCase::new(name).unwrap()), agent: None, tag: tag.map(Into::into) }
}

fn hold(rig: &mut Rig, of: Selector) -> HoldStatus {
    rig.ask(|reply| Command::Hold(of, Some("why".into()), reply)).try_recv().unwrap().unwrap()
}

fn release(rig: &mut Rig, which: Which) -> Result<HoldStatus, Refusal> {
    rig.ask(|reply| Command::Release(which, reply)).try_recv().unwrap()
}

fn tagged(id: &str, use_case: &str) -> Draft {
    Draft { tags: vec!["spring".into()], ..draft(id, use_case) }
}

fn left(rig: &Rig) -> Vec<&str> {
    let mut ids: Vec<_> = rig.out.iter().map(|(_, order)| order.message_id.as_str()).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn what_is_held_is_not_revoked_until_it_is_released_and_then_at_once() {
    for (name, tag) in [(Some("otp"), None), (None, Some("spring")), (Some("otp"), Some("spring"))] {
        let mut rig = Rig::new();
        rig.register(tagged("m", "otp"));
        rig.register(draft("free", "promo"));
        let status = hold(&mut rig, of(name, tag));
        rig.register(tagged("late", "otp"));
        rig.pass(SECOND * 3700);
        assert_eq!(left(&rig), ["free"], "{name:?} {tag:?}");
        let held = rig.get("late").hold.unwrap();
        assert_eq!((held.id, &held.of), (status.hold.id, &of(name, tag)));
        // In force again after a crash.
        let mut rig = rig.crash();
        rig.pass(SECOND * 10);
        assert_eq!(rig.get("free").hold, None);
        assert_eq!(left(&rig), ["free"]);
        let released = release(&mut rig, Which::Of(of(name, tag))).unwrap();
        assert_eq!((released.waiting, released.hold.released), (2, Some(rig.now.wall)));
        rig.pass(SECOND);
        assert_eq!(left(&rig), ["free", "late", "m"]);
        assert!(rig.get("m").record.attempts.lateness.unwrap() <= SECOND, "the time under the hold is not lateness");
        assert_eq!(release(&mut rig, Which::Id(status.hold.id)).unwrap_err().kind, RefusalKind::NotFound);
    }
}

#[test]
fn the_time_under_a_hold_does_not_count_against_a_message() {
    for (name, tag) in [(Some("otp"), None), (None, Some("spring"))] {
        let mut rig = Rig::new();
        rig.register(tagged("m", "otp"));
        hold(&mut rig, of(name, tag));
        // An hour is its patience, and seven have gone by.
        rig.pass(SECOND * 7 * 3600);
        release(&mut rig, Which::Of(of(name, tag))).unwrap();
        rig.pass(SECOND);
        rig.answer(Answer::Lost("reset".into()));
        assert!(matches!(rig.state("m"), State::Revoking { .. }), "{:?}", rig.state("m"));
        let mut rig = rig.crash();
        rig.pass(SECOND * 60);
        rig.answer(Answer::Lost("reset".into()));
        assert!(matches!(rig.state("m"), State::Revoking { .. }), "also after a crash: {:?}", rig.state("m"));
        rig.pass(SECOND * 3700);
        rig.answer(Answer::Lost("reset".into()));
        assert_eq!(rig.outcome("m"), Some(Outcome::Failed), "its patience begins with the release");
    }
}

#[test]
fn a_retry_is_held_and_a_route_that_rests_fails_nothing_that_is_held() {
    for (name, tag) in [(Some("otp"), None), (None, Some("spring"))] {
        let mut rig = Rig::new();
        rig.register(tagged("m", "otp"));
        rig.register(draft("other", "promo"));
        rig.pass(SECOND * 600);
        rig.answer(Answer::NotSent("no route".into()));
        hold(&mut rig, of(name, tag));
        // The promotion's probes keep its route resting for longer than anybody's patience.
        for _ in 0..9000 {
            rig.pass(SECOND);
            if !rig.out.is_empty() {
                assert_eq!(left(&rig), ["other"]);
                rig.answer(Answer::Forbidden("not yours".into()));
            }
        }
        assert!(matches!(rig.state("m"), State::Revoking { .. }), "{tag:?}: {:?}", rig.state("m"));
        assert_eq!(rig.outcome("other"), Some(Outcome::Failed));
    }
}

#[test]
fn a_held_message_is_delivered_withdrawn_and_rescheduled_as_ever_but_not_revoked() {
    for put_aside in [false, true] {
        for tag in [None, Some("spring")] {
            let name = tag.is_none().then_some("otp");
            let mut rig = Rig::new();
            for id in ["a", "b", "c", "d"] {
                rig.register(tagged(id, "otp"));
            }
            hold(&mut rig, of(name, tag));
            if put_aside {
                rig.pass(SECOND * 601);
            }
            let verb = |rig: &mut Rig, id, verb| rig.ask(|reply| Command::Act(identity(id), verb, reply)).try_recv();
            assert_eq!(rig.evidence("a", EvidenceKind::Delivered), EvidenceEffect::Applied);
            assert!(verb(&mut rig, "b", Verb::Withdraw).unwrap().is_ok());
            let later = rig.now.wall.plus(SECOND * 60);
            assert!(verb(&mut rig, "c", Verb::Reschedule(later)).unwrap().is_ok());
            let refused = verb(&mut rig, "d", Verb::Revoke).unwrap().unwrap_err();
            assert!(refused.message.contains("is held by hold") && refused.message.contains("release that first"));
            rig.pass(SECOND * 1000);
            assert!(rig.out.is_empty());
            assert_eq!(
                (rig.outcome("a"), rig.outcome("b")),
                (Some(Outcome::Delivered), Some(Outcome::Withdrawn)),
                "{put_aside} {tag:?}"
            );
            release(&mut rig, Which::Of(of(name, tag))).unwrap();
            rig.pass(SECOND);
            assert_eq!(left(&rig), ["c", "d"]);
        }
    }
}

#[test]
fn many_come_back_in_strides_and_a_crash_in_between_forgets_none() {
    const MANY: usize = 1000;
    let pace = PaceLimits { in_flight: 10_000, per_second: 100_000_000, in_flight_total: 10_000 };
    let settings = Settings { pace, ..Settings::default() };
    let mut rig = Rig::open(MemoryStore::default(), policies(), settings, start());
    for n in 0..MANY {
        rig.register(tagged(&format!("m{n}"), "otp"));
    }
    rig.register(Draft { tags: vec!["spring".into(), "blue".into()], ..draft("twice", "otp") });
    hold(&mut rig, of(None, Some("spring")));
    hold(&mut rig, of(None, Some("blue")));
    rig.pass(SECOND * 601);
    let held = |rig: &Rig| rig.core.lanes.iter().map(|(_, lane)| lane.line(Queue::Held).count).sum::<u64>();
    assert_eq!(held(&rig), MANY as u64 + 1);
    // One stride, and then it dies.
    release(&mut rig, Which::Of(of(None, Some("spring")))).unwrap();
    assert!((1..MANY as u64).contains(&held(&rig)), "{}", held(&rig));
    rig = rig.crash();
    let mut revoked = 0;
    for _ in 0..MANY {
        rig.pass(SECOND / 100);
        for (seq, _) in std::mem::take(&mut rig.out) {
            rig.tell(Input::Answered(seq, Answer::Revoked));
            revoked += 1;
        }
    }
    assert_eq!((held(&rig), revoked), (1, MANY), "what another hold names stays");
    assert_eq!(rig.get("twice").hold.unwrap().of, of(None, Some("blue")));
}

#[test]
fn a_hold_leaves_no_doubt_behind() {
    let mut rig = Rig::new();
    rig.register(draft("m", "otp"));
    hold(&mut rig, of(Some("otp"), None));
    rig.pass(SECOND * 700);
    let mut rig = rig.crash();
    release(&mut rig, Which::Of(of(Some("otp"), None))).unwrap();
    rig.pass(SECOND);
    rig.answer(Answer::NotFound);
    assert!(matches!(rig.state("m"), State::Settling { belief: Belief::ProbablyDelivered, .. }), "nothing had left");
}

#[test]
fn what_was_held_over_a_restart_was_not_missed() {
    let moot = policies().iter().map(|(name, policy)| (name.clone(), Policy::clone(policy))).collect::<Vec<_>>();
    let moot = moot.into_iter().map(|(name, policy)| (name, Policy { missed: Missed::Moot, ..policy })).collect();
    let mut rig = Rig::open(MemoryStore::default(), moot, Settings::default(), start());
    rig.register(draft("m", "otp"));
    hold(&mut rig, of(Some("otp"), None));
    rig.pass(SECOND * 700);
    let mut rig = rig.restart();
    release(&mut rig, Which::Of(of(Some("otp"), None))).unwrap();
    rig.pass(SECOND);
    assert_eq!(left(&rig), ["m"]);
}

#[test]
fn what_is_held_is_told_apart_in_forecast_and_status() {
    let mut rig = Rig::new();
    rig.register(tagged("m", "otp"));
    rig.register(draft("n", "otp"));
    rig.register(draft("o", "promo"));
    hold(&mut rig, of(None, Some("spring")));
    hold(&mut rig, of(Some("promo"), None));
    rig.pass(SECOND * 601);
    let forecast = rig.core.forecast(SECOND * 60, 100, None, rig.now.wall);
    let name = |name| UseCase::new(name).unwrap();
    assert_eq!((forecast.held[&name("otp")], forecast.held[&name("promo")]), (1, 1));
    assert_eq!(forecast.use_cases.values().flatten().sum::<u64>(), 1, "the one whose DELETE is out");
    rig.answer(Answer::Revoked);
    rig.pass(SECOND * 7200);
    let status = rig.core.status(None, rig.now);
    assert_eq!(status.backlog_age, std::time::Duration::ZERO, "nobody is late who is held");
    assert_eq!(status.holds.iter().map(|hold| hold.waiting).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(status.counts[&(name("otp"), StateKind::Pending)], 1);
}

#[test]
fn holds_are_bounded_and_the_same_twice_is_one_and_no_number_is_given_again() {
    let mut rig = Rig::new();
    let first = hold(&mut rig, of(None, Some("spring")));
    assert_eq!(hold(&mut rig, of(None, Some("spring"))).hold, first.hold);
    release(&mut rig, Which::Id(first.hold.id)).unwrap();
    let mut rig = rig.crash();
    for n in 0..100 {
        assert!(hold(&mut rig, of(None, Some(&format!("tag-{n}")))).hold.id > first.hold.id);
    }
    let refused = rig.ask(|reply| Command::Hold(of(None, Some("more")), None, reply)).try_recv().unwrap();
    assert_eq!(refused.unwrap_err().kind, RefusalKind::Conflict);
    for _ in 0..3 {
        for n in 0..100 {
            release(&mut rig, Which::Of(of(None, Some(&format!("tag-{n}"))))).unwrap();
            hold(&mut rig, of(None, Some(&format!("tag-{n}"))));
        }
    }
    assert_eq!(rig.core.store.snapshot().holds.len(), 200, "a hundred in force, and a hundred that were");
    rig.move_to(rig.now.mono + SECOND * 31 * 24 * 3600);
    release(&mut rig, Which::Of(of(None, Some("tag-1")))).unwrap();
    assert_eq!(rig.core.store.snapshot().holds.len(), 100, "what nobody can remember any more is forgotten");
}
