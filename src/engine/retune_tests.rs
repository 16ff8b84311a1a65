//! Policies that change over what is queued: against a plain list, and case by case.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::asked::*;
use super::core::{Input, Settings};
use super::handle::*;
use super::pace::PaceLimits;
use super::replies::*;
use super::tests::{Rig, SECOND, draft, identity, tuning};
use crate::model::*;

fn use_case(name: &str) -> UseCase {
    UseCase::new(name).unwrap()
}

fn retune(rig: &mut Rig, changed: &str, policy: Policy) -> Result<Plan, Refusal> {
    let all = rig.core.policies.iter().map(|(name, policy)| (name.clone(), Policy::clone(policy)));
    let policies = all.filter(|(name, _)| name.as_str() != changed).chain([(use_case(changed), policy)]).collect();
    let tuning = Box::new(tuning(policies, rig.core.settings.clone()));
    rig.ask(|reply| Command::Retune(tuning, reply)).try_recv().unwrap()
}

/// A pace that never holds anything back.
fn unlimited() -> Settings {
    let pace = PaceLimits { in_flight: 1_000_000, per_second: 100_000_000, in_flight_total: 1_000_000 };
    Settings { pace, ..Settings::default() }
}

#[test]
fn a_shorter_ttl_makes_due_at_once_what_is_too_old_for_it() {
    let mut rig = Rig::with(unlimited());
    for minutes in 1..=8 {
        let sent = rig.now.wall.minus(SECOND * 60 * minutes);
        rig.register(Draft { send_time: Some(sent), ..draft(&format!("m{minutes}"), "otp") });
    }
    let plan = retune(&mut rig, "otp", Policy::new(Rule::Ttl(SECOND * 330))).unwrap();
    let row = plan.use_cases.iter().find(|row| row.use_case.as_str() == "otp").unwrap();
    assert_eq!((row.before.as_deref(), row.after.as_deref()), (Some("ttl 10m"), Some("ttl 5m 30s")));
    assert_eq!((row.pending, row.moved, row.due_at_once), (8, 8, 3));
    assert_eq!((row.shift_ms_min, row.shift_ms_max), (Some(-270_000), Some(-270_000)));
    let left: BTreeSet<_> = rig.out.iter().map(|(_, order)| order.message_id.as_str().to_owned()).collect();
    assert_eq!(left, ["m6", "m7", "m8"].map(str::to_owned).into());
}

#[test]
fn a_longer_ttl_lets_what_was_nearly_due_wait() {
    let mut rig = Rig::with(unlimited());
    rig.register(draft("m", "otp"));
    rig.pass(SECOND * 599);
    retune(&mut rig, "otp", Policy::new(Rule::Ttl(SECOND * 1200))).unwrap();
    rig.pass(SECOND * 600);
    assert!(rig.out.is_empty());
    rig.pass(SECOND);
    assert_eq!(rig.out.len(), 1);
}

#[test]
fn a_rule_for_new_messages_only_leaves_the_pending_ones_theirs_until_it_is_for_all() {
    let mut rig = Rig::with(unlimited());
    rig.register(draft("old", "otp"));
    let for_new = Policy { applies_to: AppliesTo::New, ..Policy::new(Rule::Ttl(SECOND * 60)) };
    let plan = retune(&mut rig, "otp", for_new.clone()).unwrap();
    assert_eq!(plan.use_cases[0].moved, 0);
    rig.register(draft("new", "otp"));
    // A restart keeps them apart, and so does a change of something else.
    let mut rig = rig.restart();
    retune(&mut rig, "otp", Policy { lead: SECOND, ..for_new }).unwrap();
    let deadline = |rig: &mut Rig, id| rig.get(id).deadline.since(rig.now.wall);
    assert_eq!((deadline(&mut rig, "old"), deadline(&mut rig, "new")), (SECOND * 600, SECOND * 60));
    retune(&mut rig, "otp", Policy::new(Rule::Ttl(SECOND * 30))).unwrap();
    assert_eq!((deadline(&mut rig, "old"), deadline(&mut rig, "new")), (SECOND * 30, SECOND * 30));
    rig.pass(SECOND * 30);
    assert_eq!(rig.out.len(), 2);
}

#[test]
fn a_start_with_a_rule_for_all_moves_what_a_reload_had_left_with_its_own() {
    let mut rig = Rig::with(unlimited());
    rig.register(draft("old", "otp"));
    let for_new = Policy { applies_to: AppliesTo::New, ..Policy::new(Rule::Ttl(SECOND * 60)) };
    retune(&mut rig, "otp", for_new).unwrap();
    let for_all = [(use_case("otp"), Policy::new(Rule::Ttl(SECOND * 30)))].into_iter().collect();
    let mut rig = Rig::open(rig.core.close(), for_all, unlimited(), rig.now);
    assert_eq!(rig.get("old").deadline.since(rig.now.wall), SECOND * 30, "as after a reload");
    // And that is on disk.
    let mut rig = rig.crash();
    assert_eq!(rig.get("old").deadline.since(rig.now.wall), SECOND * 30);
    rig.pass(SECOND * 30);
    assert_eq!(rig.out.len(), 1);
}

#[test]
fn a_use_case_may_not_vanish_under_its_messages_but_may_retire() {
    let mut rig = Rig::with(unlimited());
    rig.register(draft("m", "otp"));
    let without = rig.core.policies.iter().filter(|(name, _)| name.as_str() != "otp");
    let without = without.map(|(name, policy)| (name.clone(), Policy::clone(policy))).collect();
    let tuning = Box::new(tuning(without, rig.core.settings.clone()));
    let refused = rig.ask(|reply| Command::Retune(tuning, reply)).try_recv().unwrap().unwrap_err();
    assert!(refused.message.starts_with("1 messages wait under use case \"otp\""), "{}", refused.message);
    let retired = Policy { retired: true, ..Policy::new(Rule::Ttl(SECOND * 600)) };
    retune(&mut rig, "otp", retired).unwrap();
    let late = rig.ask(|reply| Command::Register(vec![draft("n", "otp")], reply)).try_recv().unwrap().unwrap();
    assert_eq!(late[0].as_ref().unwrap_err().field.as_deref(), Some("useCase"));
    rig.pass(SECOND * 600);
    assert_eq!(rig.out.len(), 1, "what was pending is seen through");
}

#[test]
fn a_spread_campaign_is_through_when_it_ends_and_never_starts_before_its_spread() {
    let mut rig = Rig::with(unlimited());
    let end = rig.now.wall.plus(SECOND * 3600);
    let policy = Policy { spread: SECOND * 600, ..Policy::new(Rule::ExpiresAt(end)) };
    retune(&mut rig, "promo", policy).unwrap();
    for n in 0..600 {
        rig.register(draft(&format!("m{n}"), "promo"));
    }
    rig.pass(SECOND * 2999);
    assert!(rig.out.is_empty());
    let mut left = [0; 10];
    for second in 0..600 {
        rig.pass(SECOND);
        for (seq, _) in std::mem::take(&mut rig.out) {
            left[second / 60] += 1;
            rig.tell(Input::Answered(seq, Answer::Revoked));
        }
    }
    rig.pass(SECOND);
    left[9] += rig.out.len();
    assert_eq!(left.iter().sum::<usize>(), 600);
    assert!(left.iter().all(|minute| (55..=65).contains(minute)), "evenly: {left:?}");
}

#[test]
fn a_forecast_is_what_will_leave_and_survives_a_restart() {
    let mut rig = Rig::with(unlimited());
    for n in 0..100 {
        let own = Some(Own::Ttl(SECOND * (60 + n)));
        rig.register(Draft { own, ..draft(&format!("o{n}"), "otp") });
        rig.register(draft(&format!("p{n}"), "promo"));
    }
    rig.evidence("p7", EvidenceKind::Delivered);
    for _ in 0..2 {
        rig.pass(SECOND);
        let forecast = rig.core.forecast(SECOND * 60, 62, None, rig.now.wall);
        assert!(!forecast.counting);
        let otp = &forecast.use_cases[&use_case("otp")];
        assert_eq!(otp.iter().sum::<u64>(), 100);
        assert_eq!(forecast.use_cases[&use_case("promo")].iter().sum::<u64>(), 99);
        // Told apart to ten seconds.
        assert!((50..=70).contains(&otp[1]), "{otp:?}");
        rig = rig.restart();
    }
}

#[derive(Clone, Debug)]
enum Op {
    Register { promo: bool, age_s: u64, own_s: Option<u64> },
    Retune { promo: bool, rule: usize },
    Deliver(usize),
    Reschedule(usize, u64),
    Pass(u64),
    Step(i64),
    Restart,
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (any::<bool>(), 0_u64..600, prop::option::of(1_u64..4000))
            .prop_map(|(promo, age_s, own_s)| Op::Register { promo, age_s, own_s }),
        1 => (any::<bool>(), 0_usize..6).prop_map(|(promo, rule)| Op::Retune { promo, rule }),
        2 => (0_usize..100).prop_map(Op::Deliver),
        1 => (0_usize..100, 1_u64..4000).prop_map(|(n, s)| Op::Reschedule(n, s)),
        4 => (1_u64..900_000).prop_map(Op::Pass),
        1 => (-3600_i64..3600).prop_map(Op::Step),
        1 => Just(Op::Restart),
        1 => Just(Op::Crash),
    ]
}

fn rule(number: usize, start: Timestamp) -> Rule {
    let zone = |name| jiff::tz::TimeZone::get(name).unwrap();
    let at = |hour| jiff::civil::time(hour, 30, 0, 0);
    match number {
        0 => Rule::Ttl(SECOND * 30),
        1 => Rule::Ttl(SECOND * 600),
        2 => Rule::Ttl(SECOND * 3600),
        3 => Rule::ExpiresAt(start.plus(SECOND * 5000)),
        4 => Rule::DailyCutoff { at: at(13), zone: zone("Europe/Berlin") },
        _ => Rule::DailyCutoff { at: at(2), zone: zone("America/New_York") },
    }
}

/// What the oracle knows of a message: all of it, in a list.
#[derive(Clone, Debug)]
struct Plain {
    use_case: &'static str,
    anchor: Timestamp,
    own: Option<Timestamp>,
    gone: bool,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Registrations, reloads, deliveries, steps of the clock, restarts and crashes at random: what leaves is exactly what a plain
    /// list of deadlines says, when it says so.
    #[test]
    fn lanes_fire_what_a_sorted_list_fires(ops in prop::collection::vec(op(), 1..60)) {
        let mut rig = Rig::with(unlimited());
        let start = rig.now.wall;
        let mut rules: BTreeMap<&str, Rule> = [("otp", rule(1, start)), ("promo", rule(2, start))].into();
        let mut list: BTreeMap<String, Plain> = BTreeMap::new();
        for (number, op) in ops.into_iter().enumerate() {
            match op {
                Op::Register { promo, age_s, own_s } => {
                    let name = if promo { "promo" } else { "otp" };
                    let anchor = rig.now.wall.minus(SECOND * u32::try_from(age_s).unwrap());
                    let own = own_s.map(|s| rig.now.wall.plus(Duration::from_secs(s)));
                    let id = format!("m{number}");
                    let draft = Draft { send_time: Some(anchor), own: own.map(Own::At), ..draft(&id, name) };
                    let answer = rig.ask(|reply| Command::Register(vec![draft], reply)).try_recv().unwrap().unwrap();
                    // Refused once the fixed date has passed; then the list does not have it either.
                    if answer[0].is_ok() {
                        list.insert(id, Plain { use_case: name, anchor, own, gone: false });
                    }
                }
                Op::Retune { promo, rule: number } => {
                    let name = if promo { "promo" } else { "otp" };
                    rules.insert(name, rule(number, start));
                    retune(&mut rig, name, Policy::new(rule(number, start))).unwrap();
                }
                Op::Deliver(n) => {
                    if let Some((id, plain)) = list.iter_mut().nth(n) {
                        rig.evidence(id, EvidenceKind::Delivered);
                        plain.gone = true;
                    }
                }
                Op::Reschedule(n, s) => {
                    let deadline = rig.now.wall.plus(Duration::from_secs(s));
                    if let Some((id, plain)) = list.iter_mut().nth(n).filter(|(_, plain)| !plain.gone) {
                        let verb = Verb::Reschedule(deadline);
                        let done = rig.ask(|reply| Command::Act(identity(id), verb, reply)).try_recv().unwrap();
                        prop_assert!(done.is_ok(), "{done:?}");
                        plain.own = Some(deadline);
                    }
                }
                Op::Pass(ms) => rig.pass(Duration::from_millis(ms)),
                Op::Step(s) => {
                    let span = Duration::from_secs(s.unsigned_abs());
                    rig.now.wall = if s < 0 { rig.now.wall.minus(span) } else { rig.now.wall.plus(span) };
                    rig.tell(Input::ClockStepped);
                    // Refused where the step was believed.
                    drop(rig.ask(Command::AcceptClock));
                }
                Op::Restart => rig = rig.restart(),
                Op::Crash => rig = rig.crash(),
            }
            let due: BTreeSet<String> = list
                .iter()
                .filter(|(_, plain)| !plain.gone)
                .filter(|(_, plain)| plain.own.unwrap_or_else(|| rules[plain.use_case].deadline(plain.anchor)) <= rig.now.wall)
                .map(|(id, _)| id.clone())
                .collect();
            let left: BTreeSet<String> = rig.out.iter().map(|(_, order)| order.message_id.to_string()).collect();
            prop_assert_eq!(&left, &due);
            for id in due {
                list.get_mut(&id).unwrap().gone = true;
            }
            for (seq, _) in std::mem::take(&mut rig.out) {
                rig.tell(Input::Answered(seq, Answer::Revoked));
            }
            let pending = list.values().filter(|plain| !plain.gone).count() as u64;
            let forecast = rig.core.forecast(SECOND * 60, 1, None, rig.now.wall);
            let told = forecast.use_cases.values().flatten().sum::<u64>() + forecast.later.values().sum::<u64>();
            prop_assert!(forecast.counting || told == pending, "{told} forecast of {pending} pending");
        }
    }
}
