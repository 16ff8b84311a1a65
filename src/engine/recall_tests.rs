//! A recall takes back all that it names and nothing else, through holds and crashes, and knows in the end who has it.

use super::asked::*;
use super::core::{Input, Settings};
use super::handle::*;
use super::pace::PaceLimits;
use super::tests::{Rig, SECOND, draft, identity};
use crate::model::*;
use crate::store::EntryKind;

fn spring() -> Selector {
    Selector { tag: Some("spring".into()), ..Selector::default() }
}

fn tagged(id: &str, use_case: &str) -> Draft {
    Draft { tags: vec!["spring".into()], ..draft(id, use_case) }
}

fn recall(rig: &mut Rig, of: Selector) -> Recall {
    rig.ask(|reply| Command::Recall(of, None, reply)).try_recv().unwrap().unwrap()
}

fn status(rig: &mut Rig, id: u64) -> Recall {
    rig.ask(|reply| Command::Recalls(Some(id), reply)).try_recv().unwrap().unwrap().pop().unwrap()
}

fn received(rig: &mut Rig, id: u64) -> Vec<(String, Outcome)> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = rig.ask(|reply| Command::Received { id, limit: 3, after, reply }).try_recv().unwrap().unwrap();
        all.extend(page.messages.into_iter().map(|message| match message.record.state {
            State::Settled { outcome, .. } => (message.record.identity.message_id.to_string(), outcome),
            state => panic!("{state:?}"),
        }));
        after = page.next;
        if after.is_none() {
            all.sort();
            return all;
        }
    }
}

fn fast() -> Settings {
    let pace = PaceLimits { in_flight: 10_000, per_second: 1_000_000, in_flight_total: 10_000 };
    Settings { pace, ..Settings::default() }
}

/// Lets attempts leave and be answered, by what each is given, until the recall has ended.
fn see_through(mut rig: Rig, id: u64, answer: impl Fn(&str) -> Answer) -> Rig {
    for _ in 0..20_000 {
        rig.pass(SECOND / 20);
        for (seq, order) in std::mem::take(&mut rig.out) {
            rig.tell(Input::Answered(seq, answer(order.message_id.as_str())));
        }
        if status(&mut rig, id).ended.is_some() {
            return rig;
        }
    }
    panic!("the recall does not end: {:?}", status(&mut rig, id));
}

#[test]
fn a_recall_takes_back_what_is_open_grants_nothing_and_tells_who_has_it() {
    let mut rig = Rig::with(fast());
    for id in ["had", "taken", "lost", "gone", "held", "out", "settling", "noted", "decided"] {
        rig.register(tagged(id, if matches!(id, "out" | "settling" | "noted") { "otp" } else { "promo" }));
    }
    rig.register(draft("other", "promo"));
    rig.evidence("had", EvidenceKind::Delivered);
    rig.ask(|reply| Command::Act(identity("gone"), Verb::Withdraw, reply)).try_recv().unwrap().unwrap();
    rig.ask(|reply| Command::Act(identity("held"), Verb::Reschedule(rig_now().plus(SECOND * 300)), reply));
    let held = Selector { use_case: Some(UseCase::new("promo").unwrap()), ..Selector::default() };
    rig.ask(|reply| Command::Hold(held, None, reply)).try_recv().unwrap().unwrap();
    rig.pass(SECOND * 600);
    for _ in 0..3 {
        let (seq, order) = rig.out.remove(0);
        match order.message_id.as_str() {
            "out" => rig.out.push((seq, order)),
            _ => rig.tell(Input::Answered(seq, Answer::Revoked)),
        }
    }
    // "noted" settles, and its grant waits for its agent; the others of its kind are under way.
    let mut survey = rig.ask(|reply| Command::Survey(Box::new(super::recall::Survey::new(spring())), reply));
    let survey = survey.try_recv().unwrap().unwrap();
    assert!(survey.done && survey.takes > std::time::Duration::ZERO);
    assert_eq!((survey.open, survey.settled[&Outcome::Delivered], survey.settled[&Outcome::Withdrawn]), (7, 1, 1));

    let id = recall(&mut rig, spring()).id;
    assert_eq!(recall(&mut rig, spring()).id, id, "the same one twice is one");
    rig.register(tagged("later", "promo"));
    let mut rig = see_through(rig, id, |id| if id == "lost" { Answer::NotFound } else { Answer::Revoked });
    let done = status(&mut rig, id);
    assert_eq!((done.open, done.before[0], done.before[4]), (0, 1, 1), "{done:?}");
    assert_eq!((done.since[Outcome::Revoked as usize], done.since[Outcome::Unknown as usize]), (6, 1), "{done:?}");
    let expected = [("gone", Outcome::Withdrawn), ("had", Outcome::Delivered), ("lost", Outcome::Unknown)];
    assert_eq!(received(&mut rig, id), expected.map(|(id, outcome)| (id.to_owned(), outcome)));
    for id in ["taken", "lost", "held", "out", "settling", "noted", "decided"] {
        assert_eq!(rig.get(id).record.grant, None, "{id}: no SMS in place of what is recalled");
    }
    for id in ["other", "later"] {
        assert_eq!(rig.state(id), State::Pending, "{id} is not recalled");
    }
    // Proof that comes late is counted, and listed.
    rig.evidence("taken", EvidenceKind::Delivered);
    let done = status(&mut rig, id);
    assert_eq!((done.since[Outcome::Delivered as usize], done.since[Outcome::Revoked as usize]), (1, 5));
    assert_eq!(received(&mut rig, id).len(), 4);
}

fn rig_now() -> Timestamp {
    super::tests::start().wall
}

#[test]
fn a_recall_takes_back_a_grant_that_nobody_took_note_of_and_says_so() {
    let mut rig = Rig::new();
    rig.register(tagged("m", "otp"));
    rig.pass(SECOND * 600);
    rig.answer(Answer::Revoked);
    rig.pass(SECOND * 10);
    assert_eq!(rig.get("m").record.grant.map(|grant| grant.state), Some(GrantState::Offered));
    let id = recall(&mut rig, spring()).id;
    rig.pass(SECOND);
    assert!(status(&mut rig, id).ended.is_some());
    assert_eq!(rig.get("m").record.grant.map(|grant| grant.state), Some(GrantState::Withdrawn));
    let told = rig.core.outcomes(Some(0), 10, None).unwrap().entries;
    assert_eq!((told[1].1.kind, told[1].1.outcome), (EntryKind::Amended, Outcome::Revoked));
    assert_eq!(rig.core.settled[&Outcome::Revoked], 1, "it settled once");
}

#[test]
fn a_recall_goes_on_after_a_crash_at_any_stride_and_counts_each_message_once() {
    const MANY: u64 = 1500;
    for strides in [0, 1, 3, 7, 20] {
        let mut rig = Rig::with(fast());
        for n in 0..MANY {
            rig.register(tagged(&format!("m{n}"), if n % 2 == 0 { "otp" } else { "promo" }));
            if n % 10 == 0 {
                rig.evidence(&format!("m{n}"), EvidenceKind::Delivered);
            }
        }
        rig.pass(SECOND);
        let id = recall(&mut rig, spring()).id;
        for _ in 0..strides {
            rig.tell(Input::Wake(super::chores::CHORES));
            // Between the strides they are touched, and move.
            let n = strides * 17 % 100;
            rig.evidence(&format!("m{}", 1400 + n), EvidenceKind::Delivered);
            let later = rig.now.wall.plus(SECOND * 5);
            let verb = Verb::Reschedule(later);
            let _ = rig.ask(|reply| Command::Act(identity(&format!("m{}", 1300 + n)), verb, reply)).try_recv();
            let (seq, _) = if rig.out.is_empty() { continue } else { rig.out.remove(0) };
            rig.tell(Input::Answered(seq, Answer::Revoked));
        }
        let rig = rig.crash();
        let mut rig = see_through(rig, id, |_| Answer::Revoked);
        let done = status(&mut rig, id);
        let sum = done.before.iter().chain(&done.since).sum::<u64>();
        assert_eq!(sum, MANY, "{strides}: {done:?}");
        let delivered = done.before[Outcome::Delivered as usize] + done.since[Outcome::Delivered as usize];
        let unknown = done.since[Outcome::Unknown as usize];
        assert_eq!(received(&mut rig, id).len() as u64, delivered + unknown, "{strides}: {done:?}");
        assert!(rig.core.lanes.iter().all(|(_, lane)| {
            Queue::ALL.into_iter().all(|queue| queue == Queue::Listed || lane.line(queue).count == 0)
        }));
    }
}

#[test]
fn the_list_is_kept_as_long_as_its_recall_and_no_longer() {
    let mut rig = Rig::with(fast());
    for n in 0..40 {
        rig.register(tagged(&format!("m{n}"), "promo"));
        rig.evidence(&format!("m{n}"), EvidenceKind::Delivered);
    }
    rig.pass(SECOND * 23 * 3600);
    let id = recall(&mut rig, spring()).id;
    rig.pass(SECOND * 3 * 3600);
    assert_eq!(received(&mut rig, id).len(), 40, "their own retention is over");
    let mut rig = rig.crash();
    rig.pass(SECOND * 22 * 3600);
    assert!(rig.core.recalls.get(id).is_none());
    rig.pass(SECOND * 10);
    assert_eq!(rig.core.store.snapshot().counts, [], "and so is everything of it");
    assert!(rig.core.store.snapshot().recalls.is_empty());
    let again = recall(&mut rig, spring());
    assert!(again.id > id, "no number is given again");
}

#[test]
fn a_message_outlives_the_list_of_its_recall_if_its_own_time_is_not_over() {
    let mut rig = Rig::with(fast());
    rig.register(tagged("m", "promo"));
    rig.evidence("m", EvidenceKind::Delivered);
    let id = recall(&mut rig, spring()).id;
    rig.pass(SECOND);
    for n in 0..16 {
        recall(&mut rig, Selector { tag: Some(format!("autumn-{n}").into()), ..Selector::default() });
        rig.pass(SECOND);
    }
    assert!(rig.core.recalls.get(id).is_none(), "only so many are kept");
    let late = rig.register(Draft { on_conflict: OnConflict::Keep, ..tagged("m", "promo") });
    assert!(!late.created, "a late registration brought it back");
    rig.pass(SECOND * 25 * 3600);
    assert_eq!(rig.core.store.snapshot().counts, [], "until its own time is over");
}

#[test]
fn a_retry_of_a_recalled_message_has_its_patience_from_the_recall_on() {
    let mut rig = Rig::new();
    rig.register(tagged("m", "otp"));
    rig.ask(|reply| Command::Hold(spring(), None, reply)).try_recv().unwrap().unwrap();
    rig.pass(SECOND * 7 * 3600);
    let id = recall(&mut rig, spring()).id;
    rig.pass(SECOND);
    rig.answer(Answer::Lost("reset".into()));
    assert!(matches!(rig.state("m"), State::Revoking { .. }));
    let mut rig = see_through(rig.crash(), id, |_| Answer::Revoked);
    assert_eq!(rig.outcome("m"), Some(Outcome::Revoked));
    assert!(rig.get("m").record.attempts.lateness.unwrap() <= SECOND, "late since it was asked for");
}
