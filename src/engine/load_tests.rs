//! Backlogs, fences under a slow pace, steps of the clock, and an outcome log that nobody reads.

use std::time::Duration;

use super::asked::*;
use super::core::{Input, Settings};
use super::handle::*;
use super::pace::PaceLimits;
use super::replies::*;
use super::tests::{Rig, SECOND, draft, start};
use crate::model::*;
use crate::store::memory::MemoryStore;

fn slow(per_second: u32) -> Settings {
    let pace = PaceLimits { per_second, in_flight: 4, ..PaceLimits::default() };
    Settings { pace, ..Settings::default() }
}

/// A campaign that ends for everybody an hour from the start.
fn campaign(spread: Duration) -> Policies {
    let policy = Policy { spread, ..Policy::new(Rule::ExpiresAt(start().wall.plus(SECOND * 3600))) };
    [(UseCase::new("sale").unwrap(), policy)].into_iter().collect()
}

fn with_campaign(spread: Duration, settings: Settings, messages: usize) -> Rig {
    let mut rig = Rig::open(MemoryStore::default(), campaign(spread), settings, start());
    for n in 0..messages {
        rig.register(draft(&format!("m{n}"), "sale"));
    }
    rig
}

/// Lets time pass, with every attempt answered at once.
fn pass_answering(rig: &mut Rig, seconds: u32) {
    for _ in 0..seconds * 10 {
        rig.pass(SECOND / 10);
        while !rig.out.is_empty() {
            rig.answer(Answer::Revoked);
        }
    }
}

fn load(rig: &mut Rig) -> Option<Load> {
    rig.core.status(None, rig.now).routes[0].load
}

#[test]
fn a_backlog_is_told_with_the_time_at_which_it_will_be_done() {
    let mut rig = with_campaign(Duration::ZERO, slow(2), 400);
    rig.pass(SECOND * 3500);
    assert_eq!(load(&mut rig), None, "nothing is due");
    rig.pass(SECOND * 100);
    let told = load(&mut rig).unwrap();
    assert!(told.late && (390..=400).contains(&told.backlog), "{told:?}");
    let span = told.done_by.since(rig.now.wall);
    assert!((SECOND * 190..=SECOND * 201).contains(&span), "{span:?}");
    pass_answering(&mut rig, 150);
    let told = load(&mut rig).unwrap();
    assert!(!told.late, "what is left is done within a minute: {told:?}");
    pass_answering(&mut rig, 60);
    assert_eq!(load(&mut rig), None);
    assert!(!rig.core.routes[0].load.1, "and that was noticed");
}

#[test]
fn a_spread_that_the_pace_can_do_is_in_time_and_one_that_it_can_not_is_told_when_it_begins() {
    for (per_second, late) in [(2, false), (1, true)] {
        // 400 messages in 300 seconds.
        let mut rig = with_campaign(SECOND * 300, slow(per_second), 400);
        rig.pass(SECOND * 3299);
        assert_eq!(load(&mut rig), None);
        pass_answering(&mut rig, 8);
        let told = load(&mut rig).unwrap();
        assert_eq!((told.late, rig.core.routes[0].load.1), (late, late), "{told:?}");
        let end = start().wall.plus(SECOND * 3600);
        assert!(if late { told.done_by > end.plus(SECOND * 60) } else { told.done_by == end }, "{told:?}");
    }
}

#[test]
fn a_crash_puts_no_more_in_doubt_than_could_have_left() {
    for spread in [Duration::ZERO, SECOND * 300] {
        let mut rig = with_campaign(spread, slow(1), 100);
        rig.pass(SECOND * 3600 - spread + SECOND / 2);
        pass_answering(&mut rig, 3);
        let rig = rig.crash();
        let line = rig.core.lanes.iter().next().unwrap().1.line(Queue::Anchor);
        let doubts = line.places().filter(|place| line.crash_fence.is_some_and(|fence| *place <= fence)).count();
        assert!(doubts <= 8, "{doubts} of the window in doubt at one a second, spread {spread:?}");
    }
}

#[test]
fn fences_are_ahead_of_all_that_the_pace_lets_go() {
    let mut rig = with_campaign(Duration::ZERO, Settings::default(), 1000);
    rig.pass(SECOND * 3600);
    pass_answering(&mut rig, 6);
    assert_eq!(
        rig.core.settled.values().sum::<u64>()
            + rig
                .core
                .status(None, rig.now)
                .counts
                .iter()
                .filter(|((_, state), _)| *state == StateKind::Settling)
                .map(|(_, count)| count)
                .sum::<u64>(),
        1000
    );
}

#[test]
fn a_clock_that_is_set_back_prolongs_no_settle_window_and_no_wait_for_a_retry() {
    let mut rig = Rig::new();
    rig.register(draft("settles", "otp"));
    rig.register(draft("waits", "otp"));
    rig.pass(SECOND * 600);
    rig.answer(Answer::Revoked);
    rig.answer(Answer::Lost("reset".into()));
    assert!(matches!(rig.state("settles"), State::Settling { .. }));
    assert!(matches!(rig.state("waits"), State::Revoking { in_flight: false, .. }));
    rig.now.wall = rig.now.wall.minus(SECOND * 7200);
    rig.tell(Input::ClockStepped);
    rig.pass(SECOND * 10);
    assert_eq!(rig.outcome("settles"), Some(Outcome::Revoked), "its window is ten seconds");
    rig.pass(SECOND * 50);
    assert_eq!(rig.out.len(), 1, "no retry waits longer than a minute");
}

#[test]
fn a_clock_that_is_set_back_while_the_daemon_is_down_prolongs_no_settle_window_either() {
    let mut rig = Rig::new();
    rig.register(draft("m", "otp"));
    rig.pass(SECOND * 600);
    rig.answer(Answer::Revoked);
    rig.now.wall = rig.now.wall.minus(SECOND * 7200);
    let mut rig = rig.restart();
    rig.pass(SECOND * 10);
    assert_eq!(rig.outcome("m"), Some(Outcome::Revoked));
}

#[test]
fn an_amended_message_counts_under_one_outcome() {
    let mut rig = Rig::new();
    rig.register(draft("m", "otp"));
    rig.pass(SECOND * 600);
    rig.answer(Answer::Revoked);
    rig.pass(SECOND * 10);
    assert_eq!(rig.core.settled.get(&Outcome::Revoked), Some(&1));
    rig.evidence("m", EvidenceKind::Delivered);
    let told: Vec<_> = rig.core.settled.iter().filter(|(_, count)| **count > 0).collect();
    assert_eq!(told, [(&Outcome::Delivered, &1)]);
}

#[test]
fn outcomes_that_go_before_they_were_acknowledged_are_counted() {
    let mut rig = Rig::with(Settings { outcomes_max: 100, ..Settings::default() });
    let settle = |rig: &mut Rig, from: u32| {
        for n in from..from + 1024 {
            rig.register(draft(&format!("m{n}"), "otp"));
            rig.evidence(&format!("m{n}"), EvidenceKind::Delivered);
        }
    };
    let acknowledge = |rig: &mut Rig| {
        let cursor = rig.core.durable_cursor;
        rig.ask(|reply| Command::Ack { agents: None, cursor, reply }).try_recv().unwrap().unwrap();
    };
    settle(&mut rig, 0);
    assert_eq!((rig.core.status(None, rig.now).lost_outcomes, rig.core.losing), (924, true));
    acknowledge(&mut rig);
    settle(&mut rig, 1024);
    let lost = rig.core.status(None, rig.now).lost_outcomes;
    assert_eq!(lost, 924 + 924, "up to 1024 they were acknowledged, the 924 behind were not");
    for n in 2048..3072 {
        rig.register(draft(&format!("m{n}"), "otp"));
        rig.evidence(&format!("m{n}"), EvidenceKind::Delivered);
        acknowledge(&mut rig);
    }
    assert_eq!(
        (rig.core.status(None, rig.now).lost_outcomes, rig.core.losing),
        (lost, false),
        "the last were read in time"
    );
}

#[test]
fn a_list_goes_past_lanes_that_are_empty_and_sees_each_message_once() {
    let mut rig = Rig::new();
    for n in 0..50 {
        let agent = AgentId::new(&format!("bot-{n}")).unwrap();
        rig.register(Draft { agent, ..draft("m", "otp") });
    }
    let (mut seen, mut after, mut pages) = (0, None, 0);
    loop {
        let page = rig.core.list(&Filter::default(), 7, after.as_deref()).unwrap();
        (seen, pages) = (seen + page.messages.len(), pages + 1);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((seen, pages), (50, 8));
}
