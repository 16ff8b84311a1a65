//! Grants on their way to a hook: once each, in bounds, past what fails, and never for what was delivered.

use std::sync::Arc;

use super::asked::*;
use super::core::{Input, Settings};
use super::handle::*;
use super::tests::{Rig, SECOND, draft, identity, policies, start, tuning};
use crate::model::*;
use crate::store::EntryKind;
use crate::store::memory::MemoryStore;

/// With a hook for OTPs that may be called so often at a time; no hook with 0.
fn with_hook(calls_max: usize) -> Policies {
    let hooked =
        |(name, policy): (&UseCase, &Arc<Policy>)| (name.clone(), Policy { calls_max, ..Policy::clone(policy) });
    policies().iter().map(hooked).collect()
}

fn rig(calls_max: usize) -> Rig {
    Rig::open(MemoryStore::default(), with_hook(calls_max), Settings::default(), start())
}

/// Has these messages revoked and granted.
fn grant(rig: &mut Rig, ids: &[&str]) {
    for id in ids {
        rig.register(draft(id, "otp"));
    }
    rig.pass(SECOND * 600);
    while !rig.out.is_empty() {
        rig.answer(Answer::Revoked);
        if rig.out.is_empty() {
            // The pace may hold back some.
            rig.pass(SECOND);
        }
    }
    rig.pass(SECOND * 10);
}

fn back(rig: &mut Rig, called: Called) -> String {
    let (seq, granted) = rig.calls.remove(0);
    rig.tell(Input::Called(seq, called));
    granted.message_id.as_str().to_owned()
}

fn failed() -> Called {
    Called::Failed("it can't be reached".into())
}

fn state(rig: &mut Rig, id: &str) -> GrantState {
    rig.get(id).record.grant.unwrap().state
}

fn kinds(rig: &Rig) -> Vec<EntryKind> {
    rig.core.outcomes(Some(0), 100, None).unwrap().entries.iter().map(|(_, entry)| entry.kind).collect()
}

#[test]
fn a_grant_is_handed_to_its_hook_once_and_what_took_it_is_told() {
    let mut rig = rig(8);
    grant(&mut rig, &["m"]);
    assert_eq!(rig.calls.len(), 1);
    let key = rig.get("m").grant_id;
    assert_eq!(Some(&rig.calls[0].1.grant_id), key.as_ref());
    assert!(!rig.get("m").grant_acked);
    back(&mut rig, Called::Taken);
    assert!(state(&mut rig, "m") == GrantState::Taken && rig.get("m").grant_acked);
    assert_eq!(kinds(&rig), [EntryKind::Settled, EntryKind::Taken]);
    rig.pass(SECOND * 3600);
    assert!(rig.calls.is_empty());
    // The SMS is out: what comes now can't take it back.
    rig.evidence("m", EvidenceKind::Delivered);
    assert_eq!((state(&mut rig, "m"), rig.outcome("m")), (GrantState::Taken, Some(Outcome::Delivered)));
}

#[test]
fn no_call_leaves_before_its_grant_is_on_disk_nor_for_what_was_delivered_meanwhile() {
    let mut rig = rig(8);
    for id in ["m", "n"] {
        rig.register(draft(id, "otp"));
    }
    rig.pass(SECOND * 600);
    while !rig.out.is_empty() {
        rig.answer(Answer::Revoked);
    }
    rig.disk = false;
    rig.pass(SECOND * 10);
    assert!(rig.outcome("m").is_some() && rig.calls.is_empty(), "a crash now would forget the grants");
    let evidence = Evidence { identity: identity("m"), phone: super::tests::phone(), kind: EvidenceKind::Delivered };
    drop(rig.ask(|reply| Command::Evidence(vec![evidence], reply)));
    rig.disk = true;
    rig.settle();
    assert_eq!(rig.calls.len(), 1, "n only");
    assert_eq!(back(&mut rig, Called::Taken), "n");
    assert_eq!(state(&mut rig, "m"), GrantState::Withdrawn);
    assert_eq!(rig.core.calls_status()[&UseCase::new("otp").unwrap()].in_flight, 0);
}

#[test]
fn a_delivery_that_is_taken_in_together_with_the_disks_news_keeps_the_call_from_leaving() {
    let mut rig = rig(8);
    rig.register(draft("m", "otp"));
    rig.pass(SECOND * 600);
    rig.answer(Answer::Revoked);
    rig.disk = false;
    rig.pass(SECOND * 10);
    let evidence = Evidence { identity: identity("m"), phone: super::tests::phone(), kind: EvidenceKind::Delivered };
    let (reply, _answer) = tokio::sync::oneshot::channel();
    // In one round.
    rig.core.apply(Input::Durable(Ok(rig.core.written())), rig.now);
    rig.core.apply(Input::Command(Command::Evidence(vec![evidence], reply)), rig.now);
    rig.disk = true;
    rig.settle();
    assert!(rig.calls.is_empty(), "an SMS beside a message that is known delivered");
    assert_eq!(state(&mut rig, "m"), GrantState::Withdrawn);
    assert_eq!(rig.core.calls_status()[&UseCase::new("otp").unwrap()].in_flight, 0);
}

#[test]
fn what_an_agent_acknowledges_in_the_stream_says_nothing_of_the_hook() {
    let mut rig = rig(8);
    grant(&mut rig, &["m"]);
    back(&mut rig, failed());
    let cursor = rig.core.durable_cursor;
    rig.ask(|reply| Command::Ack { agents: None, cursor, reply }).try_recv().unwrap().unwrap();
    rig.evidence("m", EvidenceKind::Delivered);
    assert_eq!(state(&mut rig, "m"), GrantState::Withdrawn);
    rig.pass(SECOND * 3600);
    assert!(rig.calls.is_empty());
}

#[test]
fn a_delivery_that_crosses_a_call_counts_as_the_call_went() {
    for (called, wanted) in [(Called::Taken, GrantState::Taken), (failed(), GrantState::Withdrawn)] {
        let mut rig = rig(8);
        grant(&mut rig, &["m"]);
        rig.evidence("m", EvidenceKind::Delivered);
        assert_eq!(state(&mut rig, "m"), GrantState::Withdrawn);
        back(&mut rig, called);
        assert_eq!(state(&mut rig, "m"), wanted);
        rig.pass(SECOND * 3600);
        assert!(rig.calls.is_empty());
    }
}

#[test]
fn a_hook_is_called_so_often_at_a_time_and_what_fails_is_out_of_the_way() {
    let mut rig = rig(2);
    grant(&mut rig, &["a", "b", "c", "d"]);
    assert_eq!(rig.calls.len(), 2);
    assert_eq!(back(&mut rig, failed()), "a");
    assert_eq!(back(&mut rig, Called::Refused("it answered 400".into())), "b");
    assert_eq!((back(&mut rig, Called::Taken), back(&mut rig, Called::Taken)), ("c".into(), "d".into()));
    assert!(rig.calls.is_empty());
    rig.pass(SECOND * 60);
    assert_eq!(back(&mut rig, Called::Later(SECOND * 300)), "a", "a failure is soon tried again");
    rig.pass(SECOND * 299);
    assert!(rig.calls.is_empty());
    rig.pass(SECOND);
    assert_eq!(back(&mut rig, Called::Taken), "a");
    rig.pass(SECOND * 600);
    assert_eq!(back(&mut rig, Called::Taken), "b", "a refusal is tried slowly");
    let status = &rig.core.calls_status()[&UseCase::new("otp").unwrap()];
    assert_eq!((status.waiting, status.in_flight, status.taken, status.failed), (0, 0, 4, 3));
    assert_eq!(status.last_error.as_ref().map(|(_, why)| &**why), Some("asks to be left alone for 300 s"));
}

#[test]
fn more_than_a_window_of_grants_all_reach_their_hook() {
    let ids: Vec<String> = (0..100).map(|n| format!("m{n}")).collect();
    let mut rig = rig(3);
    grant(&mut rig, &ids.iter().map(String::as_str).collect::<Vec<_>>());
    let mut seen = Vec::new();
    for turn in 0.. {
        if rig.calls.is_empty() {
            rig.pass(SECOND * 60);
        }
        if rig.calls.is_empty() {
            break;
        }
        assert!(rig.calls.len() <= 3);
        let fails = turn % 3 == 0;
        let id = back(&mut rig, if fails { failed() } else { Called::Taken });
        if !fails {
            seen.push(id);
        }
    }
    seen.sort();
    let count = seen.len();
    seen.dedup();
    assert_eq!((count, seen.len()), (100, 100), "each is taken once");
}

#[test]
fn two_agents_share_a_hook_by_turns() {
    let mut rig = rig(1);
    for (agent, id) in [("a", "1"), ("a", "2"), ("a", "3"), ("b", "4"), ("b", "5")] {
        rig.register(Draft { agent: AgentId::new(agent).unwrap(), ..draft(id, "otp") });
    }
    rig.pass(SECOND * 600);
    while !rig.out.is_empty() {
        rig.answer(Answer::Revoked);
    }
    rig.pass(SECOND * 10);
    let order: String = std::iter::repeat_with(|| back(&mut rig, Called::Taken)).take(5).collect();
    assert_eq!(order, "14253");
}

#[test]
fn lanes_of_one_agent_do_not_make_each_other_forgotten() {
    let mut rig = rig(1);
    grant(&mut rig, &["first"]);
    back(&mut rig, Called::Taken);
    // A lane behind the first one, in which something waits for long.
    rig.register(Draft { traffic_type: Some(TrafficType::Promotion), ..draft("slow", "otp") });
    grant(&mut rig, &[]);
    assert_eq!(back(&mut rig, Called::Later(SECOND * 3600)), "slow");
    // Somebody else's call is out while the first lane finds no room.
    rig.register(Draft { agent: AgentId::new("other").unwrap(), ..draft("theirs", "otp") });
    grant(&mut rig, &[]);
    grant(&mut rig, &["m"]);
    assert_eq!((back(&mut rig, Called::Taken), back(&mut rig, Called::Taken)), ("theirs".into(), "m".into()));
}

#[test]
fn what_no_hook_took_in_time_is_void_and_that_is_told() {
    let day = SECOND * 24 * 3600;
    let settings = Settings { retention: day * 2, ..Settings::default() };
    let mut rig = Rig::open(MemoryStore::default(), with_hook(8), settings, start());
    grant(&mut rig, &["m"]);
    while !rig.calls.is_empty() {
        back(&mut rig, failed());
        rig.pass(SECOND * 61);
    }
    assert_eq!(state(&mut rig, "m"), GrantState::Void);
    let record = rig.get("m").record;
    let grant = record.grant.unwrap();
    assert!(grant.call.unwrap().tries > 1000 && rig.now.wall <= grant.until.plus(SECOND * 122), "{grant:?}");
    assert_eq!(record.trail.iter().filter(|note| note.what == What::CallFailed).count(), 1);
    assert_eq!(kinds(&rig), [EntryKind::Settled, EntryKind::Voided]);
    assert_eq!(rig.core.calls_status()[&UseCase::new("otp").unwrap()].voided, 1);
    rig.pass(day / 2);
    assert!(rig.calls.is_empty());
}

#[test]
fn a_call_that_is_out_at_a_crash_is_made_again_under_the_same_key() {
    let mut rig = rig(8);
    grant(&mut rig, &["m", "n"]);
    let key = rig.calls[0].1.grant_id.clone();
    let (seq, _) = rig.calls.remove(1);
    rig.tell(Input::Called(seq, Called::Taken));
    let mut rig = rig.crash();
    assert_eq!(rig.calls.len(), 1, "what was taken is not called again");
    assert_eq!(rig.calls[0].1.grant_id, key);
    back(&mut rig, Called::Taken);
    let mut rig = rig.restart();
    assert!(rig.calls.is_empty());
    assert_eq!(state(&mut rig, "m"), GrantState::Taken);
}

#[test]
fn a_grant_that_waits_is_kept_longer_than_what_is_over() {
    let settings = Settings { retention: SECOND * 60, ..Settings::default() };
    let mut rig = Rig::open(MemoryStore::default(), with_hook(8), settings, start());
    grant(&mut rig, &["m"]);
    back(&mut rig, Called::Later(SECOND * 3600));
    rig.pass(SECOND * 3599);
    assert_eq!(rig.core.list(&Filter { calling: true, ..Filter::default() }, 10, None).unwrap().messages.len(), 1);
    rig.pass(SECOND);
    back(&mut rig, Called::Taken);
    rig.pass(SECOND * 60);
    assert!(rig.core.get(&identity("m")).is_err(), "and then it is over, too");
}

#[test]
fn a_reload_may_bring_a_hook_for_what_comes_and_take_it_from_what_waits() {
    let mut rig = rig(0);
    grant(&mut rig, &["m"]);
    assert!(rig.calls.is_empty() && rig.get("m").record.grant.unwrap().call.is_none());
    let retune = |rig: &mut Rig, calls_max| {
        let tuning = Box::new(tuning(with_hook(calls_max), Settings::default()));
        rig.ask(|reply| Command::Retune(tuning, reply)).try_recv().unwrap().unwrap();
    };
    retune(&mut rig, 1);
    assert!(rig.calls.is_empty(), "it was its agent's, and stays so");
    grant(&mut rig, &["n", "o"]);
    back(&mut rig, failed());
    retune(&mut rig, 0);
    back(&mut rig, failed());
    rig.pass(SECOND * 3600);
    assert!(rig.calls.is_empty());
    for id in ["n", "o"] {
        let grant = rig.get(id).record.grant.unwrap();
        assert_eq!((grant.state, grant.call), (GrantState::Offered, None), "left to its agent");
    }
    rig.evidence("n", EvidenceKind::Delivered);
    assert_eq!(state(&mut rig, "n"), GrantState::Withdrawn);
}
