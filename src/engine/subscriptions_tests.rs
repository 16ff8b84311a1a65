//! `UNSUBSCRIBE`: what was granted for promotions is taken back, and nothing is granted any more, until a `SUBSCRIBE`.

use std::sync::Arc;

use super::asked::*;
use super::core::Scale;
use super::core::Settings;
use super::handle::*;
use super::replies::*;
use super::tests::{Rig, SECOND, draft, identity, phone, policies, start, tuning};
use crate::model::*;
use crate::store::memory::MemoryStore;
use crate::store::{Change, EntryKind, Store};

/// Promotions whose truth is not known are held back; a hook takes grants, if it may be called at all.
fn rig(calls_max: usize) -> Rig {
    let policy = |(name, policy): (&UseCase, &Arc<Policy>)| {
        (name.clone(), Policy { calls_max, on_unknown: OnUnknown::Hold, ..Policy::clone(policy) })
    };
    let settings = Settings { unsubscribed_max: 3, ..Settings::default() };
    Rig::open(MemoryStore::default(), policies().iter().map(policy).collect(), settings, start())
}

fn says(rig: &mut Rig, ended: bool, phone: Phone, at: Option<Timestamp>) -> EvidenceEffect {
    let said = Said { agent: identity("m").agent, phone, ended, at };
    rig.ask(|reply| Command::Subscription(said, reply)).try_recv().unwrap().unwrap()
}

fn unsubscribes(rig: &mut Rig) {
    assert_eq!(says(rig, true, phone(), None), EvidenceEffect::Applied);
}

fn act(rig: &mut Rig, id: &str, verb: Verb) {
    rig.ask(|reply| Command::Act(identity(id), verb, reply)).try_recv().unwrap().unwrap();
}

fn acknowledge(rig: &mut Rig) {
    let cursor = rig.core.durable_cursor;
    rig.ask(|reply| Command::Ack { agents: None, cursor, reply }).try_recv().unwrap().unwrap();
}

/// Has such a message revoked.
fn revoke(rig: &mut Rig, id: &str, use_case: &str) {
    rig.register(draft(id, use_case));
    act(rig, id, Verb::Revoke);
    rig.answer(Answer::Revoked);
}

fn grant(rig: &mut Rig, id: &str) -> Option<GrantState> {
    rig.get(id).record.grant.map(|grant| grant.state)
}

fn last_told(rig: &Rig) -> (EntryKind, Option<GrantState>) {
    let entries = rig.core.outcomes(Some(0), 1000, None).unwrap().entries;
    let last = &entries.last().unwrap().1;
    (last.kind, last.grant.map(|grant| grant.state))
}

#[test]
fn what_settles_later_grants_nothing_and_says_why_until_they_subscribe_again() {
    let mut rig = rig(0);
    revoke(&mut rig, "settling", "promo");
    unsubscribes(&mut rig);
    revoke(&mut rig, "later", "promo");
    revoke(&mut rig, "code", "otp");
    rig.pass(SECOND * 10);
    assert_eq!((grant(&mut rig, "settling"), grant(&mut rig, "later")), (None, None));
    assert_eq!(grant(&mut rig, "code"), Some(GrantState::Offered), "an OTP is no promotion");
    assert!(rig.get("later").record.trail.iter().any(|note| note.what == What::Unsubscribed));
    let mut rig = rig.crash();
    revoke(&mut rig, "after-the-crash", "promo");
    rig.pass(SECOND * 10);
    assert_eq!(grant(&mut rig, "after-the-crash"), None);
    assert_eq!(says(&mut rig, false, phone(), None), EvidenceEffect::Applied);
    revoke(&mut rig, "again", "promo");
    rig.pass(SECOND * 10);
    assert_eq!(grant(&mut rig, "again"), Some(GrantState::Offered));
}

#[test]
fn a_grant_that_nobody_took_note_of_is_taken_back_and_that_is_told() {
    let mut rig = rig(0);
    revoke(&mut rig, "acked", "promo");
    rig.pass(SECOND * 10);
    acknowledge(&mut rig);
    revoke(&mut rig, "m", "promo");
    revoke(&mut rig, "code", "otp");
    rig.register(Draft { phone: Phone::new("+15550101").unwrap(), ..draft("other", "promo") });
    act(&mut rig, "other", Verb::Revoke);
    rig.answer(Answer::Revoked);
    rig.pass(SECOND * 10);
    unsubscribes(&mut rig);
    rig.pass(SECOND);
    assert_eq!(grant(&mut rig, "m"), Some(GrantState::Withdrawn));
    for (id, why) in [("acked", "its SMS may be out"), ("code", "no promotion"), ("other", "another handset")] {
        assert_eq!(grant(&mut rig, id), Some(GrantState::Offered), "{why}");
    }
    assert_eq!(last_told(&rig), (EntryKind::Amended, Some(GrantState::Withdrawn)));
    assert_eq!(rig.outcome("m"), Some(Outcome::Revoked));
}

#[test]
fn what_waits_for_its_hook_is_taken_back_however_much_there_is() {
    let mut rig = rig(1);
    let many = Scale::default().stride + 10;
    for n in 0..many {
        rig.register(draft(&format!("m{n}"), "promo"));
    }
    rig.pass(SECOND * 3600);
    while !rig.out.is_empty() {
        rig.answer(Answer::Revoked);
        if rig.out.is_empty() {
            rig.pass(SECOND);
        }
    }
    rig.pass(SECOND * 10);
    assert_eq!(rig.calls.len(), 1, "one at a time");
    unsubscribes(&mut rig);
    rig.pass(SECOND);
    let withdrawn = (0..many).filter(|n| grant(&mut rig, &format!("m{n}")) == Some(GrantState::Withdrawn)).count();
    assert_eq!(withdrawn, many);
    let (seq, granted) = rig.calls.remove(0);
    rig.tell(super::core::Input::Called(seq, Called::Taken));
    let out = granted.message_id.as_str().to_owned();
    assert_eq!(grant(&mut rig, &out), Some(GrantState::Taken), "it was out already, and that is what is to be known");
    rig.pass(SECOND * 3600);
    assert!(rig.calls.is_empty());
}

#[test]
fn a_crash_before_the_grants_were_looked_for_takes_them_back_at_the_next_start() {
    let mut rig = rig(0);
    revoke(&mut rig, "m", "promo");
    rig.pass(SECOND * 10);
    // On disk, and nothing done about it yet.
    let (agent, now) = (identity("m").agent, rig.now.wall);
    let subscription = Subscription { agent, phone: phone(), ended: true, said: now, heard: now };
    rig.core.store.append(vec![Change::Subscription(subscription)]);
    let mut rig = rig.crash();
    rig.pass(SECOND);
    assert_eq!(grant(&mut rig, "m"), Some(GrantState::Withdrawn));
}

#[test]
fn what_was_held_back_is_not_granted_after_it() {
    let mut rig = rig(0);
    rig.register(draft("m", "promo"));
    act(&mut rig, "m", Verb::Revoke);
    rig.answer(Answer::Rejected("HTTP 400".into()));
    assert_eq!(grant(&mut rig, "m"), Some(GrantState::Held));
    acknowledge(&mut rig);
    unsubscribes(&mut rig);
    act(&mut rig, "m", Verb::Decide(true));
    assert_eq!(grant(&mut rig, "m"), Some(GrantState::Withdrawn));
}

#[test]
fn the_last_that_was_said_counts_in_whatever_order_it_comes() {
    let mut rig = rig(0);
    let at = |seconds| Some(start().wall.minus(SECOND * 1000).plus(SECOND * seconds));
    let unsubscribed = |rig: &Rig| rig.core.subscriptions.ended(None) == 1;
    assert_eq!(says(&mut rig, false, phone(), at(2)), EvidenceEffect::Applied);
    assert_eq!(says(&mut rig, true, phone(), at(1)), EvidenceEffect::Duplicate, "said before, and late");
    assert!(!unsubscribed(&rig));
    assert_eq!(says(&mut rig, true, phone(), at(2)), EvidenceEffect::Applied, "in doubt there is no SMS");
    assert_eq!(says(&mut rig, false, phone(), at(2)), EvidenceEffect::Duplicate);
    assert!(unsubscribed(&rig));
    // A clock that is ahead can't make it final.
    assert_eq!(says(&mut rig, true, phone(), Some(Timestamp::MAX)), EvidenceEffect::Applied);
    rig.pass(SECOND);
    assert_eq!(says(&mut rig, false, phone(), None), EvidenceEffect::Applied);
    assert!(!unsubscribed(&rig));
}

#[test]
fn there_is_a_bound_and_the_oldest_go_first_those_that_are_no_bar_before_all_others() {
    let mut rig = rig(0);
    let number = |n: u64| Phone::from_digits(15_550_000_000 + n);
    let known = |rig: &Rig| {
        let mut all: Vec<u64> = rig.core.subscriptions.iter().map(|one| one.phone.digits() - 15_550_000_000).collect();
        all.sort_unstable();
        all
    };
    for n in 0..3 {
        says(&mut rig, n != 1, number(n), None);
        rig.pass(SECOND);
    }
    says(&mut rig, true, number(3), None);
    assert_eq!(known(&rig), [0, 2, 3], "who subscribed again is forgotten before who did not");
    rig.pass(SECOND);
    says(&mut rig, true, number(4), None);
    assert_eq!(known(&rig), [2, 3, 4]);
    let mut rig = rig.crash();
    assert_eq!(known(&rig), [2, 3, 4]);
    // A SUBSCRIBE guards against what comes late, and nothing comes later than a week.
    rig.pass(SECOND);
    says(&mut rig, false, number(4), None);
    rig.pass(SECOND * 3600 * 24 * 7);
    says(&mut rig, true, number(3), None);
    assert_eq!(known(&rig), [2, 3]);
}

#[test]
fn a_grant_from_before_there_was_a_hook_is_taken_back_as_well() {
    let mut rig = rig(0);
    revoke(&mut rig, "m", "promo");
    rig.pass(SECOND * 10);
    assert_eq!(grant(&mut rig, "m"), Some(GrantState::Offered));
    let hooked =
        |(name, policy): (&UseCase, &Arc<Policy>)| (name.clone(), Policy { calls_max: 2, ..Policy::clone(policy) });
    let policies = rig.core.policies.iter().map(hooked).collect();
    let tuning = Box::new(tuning(policies, rig.core.settings.clone()));
    rig.ask(|reply| Command::Retune(tuning, reply)).try_recv().unwrap().unwrap();
    unsubscribes(&mut rig);
    assert_eq!(grant(&mut rig, "m"), Some(GrantState::Withdrawn));
    // And is not looked for again by each who unsubscribes.
    assert_eq!(rig.core.subscriptions.unhooked, 1, "all of the log was looked through");
}
