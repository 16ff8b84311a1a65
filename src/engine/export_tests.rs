//! An export is of one instant, whatever happens while it is read; and what it says can be taken over once.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use super::asked::*;
use super::core::Input;
use super::export::{ExportItem, LogSpan};
use super::handle::*;
use super::import::Imported;
use super::replies::*;
use super::tests::{Rig, SECOND, draft, identity, phone};
use crate::model::*;
use crate::store::memory::MemoryStore;

fn begin(rig: &mut Rig, lease: &Arc<()>) -> LogSpan {
    let weak = Arc::downgrade(lease);
    rig.ask(|reply| Command::Export(weak, reply)).try_recv().unwrap().unwrap().log
}

/// One slice, and whether it was the last.
fn slice(rig: &mut Rig, items: &mut Vec<ExportItem>) -> bool {
    let slice = rig.ask(Command::ExportSlice).try_recv().unwrap().unwrap();
    items.extend(slice.items);
    slice.done
}

fn export(rig: &mut Rig) -> (LogSpan, Vec<ExportItem>) {
    let (lease, mut items) = (Arc::default(), Vec::new());
    let log = begin(rig, &lease);
    while !slice(rig, &mut items) {}
    (log, items)
}

fn messages(items: &[ExportItem]) -> BTreeMap<Identity, Record> {
    let mut messages = BTreeMap::new();
    for item in items {
        if let ExportItem::Message(record, _) = item {
            assert!(messages.insert(record.identity.clone(), Record::clone(record)).is_none(), "told twice");
        }
    }
    messages
}

fn import(rig: &mut Rig, log: LogSpan, items: Vec<ExportItem>) -> Vec<Result<Imported, Refusal>> {
    rig.ask(|reply| Command::Import(log, items, reply)).try_recv().unwrap().unwrap()
}

fn message<'a>(items: &'a [ExportItem], id: &str) -> &'a Record {
    let is_it = |item: &&ExportItem| matches!(item, ExportItem::Message(record, _) if record.identity == identity(id));
    let Some(ExportItem::Message(record, _)) = items.iter().find(is_it) else { panic!("{id} is missing") };
    record
}

#[test]
fn an_export_tells_each_message_once_as_it_was_when_it_began() {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut rig = Rig::new();
        for n in 0..1500 {
            let case = ["otp", "promo"][random.usize(0..2)];
            rig.register(draft(&format!("m{n}"), case));
        }
        let before: BTreeMap<Identity, Record> = (0..1500)
            .map(|n| identity(&format!("m{n}")))
            .map(|id| (id.clone(), rig.core.get(&id).unwrap().record))
            .collect();
        let (lease, mut items) = (Arc::default(), Vec::new());
        begin(&mut rig, &lease);
        loop {
            for _ in 0..random.usize(0..150) {
                let id = format!("m{}", random.usize(0..1700));
                match random.u8(0..5) {
                    0 => drop(rig.evidence(&id, EvidenceKind::Delivered)),
                    1 => drop(rig.core.act(&identity(&id), Verb::Withdraw, rig.now.wall)),
                    2 => {
                        let later = rig.now.wall.plus(SECOND * random.u32(60..600));
                        drop(rig.core.act(&identity(&id), Verb::Reschedule(later), rig.now.wall));
                    }
                    // Into the other lane, or back to the front of its own.
                    3 => drop(rig.register(draft(&id, ["otp", "promo"][random.usize(0..2)]))),
                    _ => drop(rig.core.act(&identity(&id), Verb::Revoke, rig.now.wall)),
                }
            }
            rig.settle();
            if slice(&mut rig, &mut items) {
                break;
            }
        }
        let told = messages(&items);
        assert_eq!(told.len(), before.len(), "seed {seed}");
        for (id, record) in &before {
            let mut told = told[id].clone();
            // What is revoked meanwhile is told with the doubt that comes with its queue's fence.
            if told.attempts.unknown {
                told.attempts.unknown = false;
                told.trail.pop();
            }
            assert_eq!(told, *record, "seed {seed}");
        }
    }
}

#[test]
fn an_export_that_nobody_reads_is_forgotten_and_two_at_a_time_are_refused() {
    let mut rig = Rig::new();
    rig.register(draft("m", "otp"));
    let lease = Arc::default();
    begin(&mut rig, &lease);
    let second = rig.ask(|reply| Command::Export(Weak::new(), reply)).try_recv().unwrap();
    assert_eq!(second.unwrap_err().kind, RefusalKind::Conflict);
    drop(lease);
    rig.register(draft("m2", "otp"));
    assert!(rig.core.export.is_none(), "it costs nothing any more");
    assert_eq!(messages(&export(&mut rig).1).len(), 2);
}

#[test]
fn a_message_whose_delete_is_out_is_taken_over_in_doubt() {
    let mut rig = Rig::new();
    rig.register(draft("out", "otp"));
    rig.pass(SECOND);
    rig.register(draft("fenced", "otp"));
    rig.pass(SECOND * 599);
    assert_eq!(rig.out.len(), 1);
    let (log, items) = export(&mut rig);
    assert!(message(&items, "out").attempts.unknown && message(&items, "fenced").attempts.unknown);

    let mut other = Rig::new();
    other.now = rig.now;
    assert!(import(&mut other, log, items).iter().all(|result| *result == Ok(Imported::New)));
    assert_eq!(other.out.len(), 1, "due at once");
    other.answer(Answer::NotFound);
    other.pass(SECOND * 10);
    assert_eq!(other.outcome("out"), Some(Outcome::Unknown), "a 404 is not taken for a delivery");
}

#[test]
fn a_grant_keeps_its_id_and_an_acknowledged_one_is_not_taken_back_elsewhere() {
    let mut rig = Rig::new();
    for id in ["acked", "open"] {
        rig.register(draft(id, "otp"));
        rig.core.act(&identity(id), Verb::Revoke, rig.now.wall).unwrap();
        rig.settle();
        rig.pass(SECOND);
        rig.answer(Answer::Revoked);
        rig.pass(SECOND * 10);
        if id == "acked" {
            drop(rig.ask(|reply| Command::Ack { agents: None, cursor: 1, reply }));
        }
    }
    let (log, items) = export(&mut rig);
    let mut other = Rig::new();
    other.now = rig.now;
    assert!(import(&mut other, log, items.clone()).iter().all(|result| *result == Ok(Imported::New)));
    assert!(import(&mut other, log, items).iter().all(|result| *result == Ok(Imported::Known)));
    let told = |rig: &mut Rig| rig.core.outcomes(Some(0), 10, None).unwrap();
    assert_eq!(told(&mut other).entries, told(&mut rig).entries);
    for id in ["acked", "open"] {
        let (here, there) = (rig.get(id), other.get(id));
        assert_eq!((here.grant_id, here.grant_acked), (there.grant_id, there.grant_acked));
        other.evidence(id, EvidenceKind::Delivered);
    }
    assert_eq!(other.get("acked").record.grant.map(|grant| grant.state), Some(GrantState::Offered));
    assert_eq!(other.get("open").record.grant.map(|grant| grant.state), Some(GrantState::Withdrawn));
    assert_eq!(told(&mut other).next, 4, "the log goes on where it was");
}

#[test]
fn a_store_with_outcomes_of_its_own_takes_only_what_was_not_told() {
    let mut rig = Rig::new();
    rig.register(draft("done", "otp"));
    rig.evidence("done", EvidenceKind::Delivered);
    rig.register(draft("pending", "otp"));
    rig.core.store_id = 1;
    let (log, items) = export(&mut rig);
    let mut other = Rig::new();
    other.core.store_id = 2;
    other.register(draft("own", "otp"));
    other.evidence("own", EvidenceKind::Delivered);
    let results = import(&mut other, log, items.clone());
    let kinds: Vec<_> =
        items.iter().zip(&results).filter(|(_, result)| result.is_err()).map(|(item, _)| item).collect();
    assert!(matches!(kinds[..], [ExportItem::Outcome(1, _)]), "{results:?}");
    assert_eq!(other.state("pending"), State::Pending);
    assert_eq!(other.core.outcomes(Some(0), 10, None).unwrap().entries.len(), 1);
}

#[test]
fn what_fell_due_on_its_way_is_moot_where_its_policy_says_so_and_evidence_finds_its_message() {
    let mut rig = Rig::new();
    for id in ["late", "delivered"] {
        rig.register(draft(id, "promo"));
    }
    let (log, items) = export(&mut rig);
    let policies: Policies = [("promo", Missed::Moot)]
        .map(|(name, missed)| (UseCase::new(name).unwrap(), Policy { missed, ..Policy::new(Rule::Ttl(SECOND * 3600)) }))
        .into_iter()
        .collect();
    let mut other = Rig::open(MemoryStore::default(), policies, super::core::Settings::default(), rig.now);
    other.pass(SECOND * 4000);
    other.evidence("delivered", EvidenceKind::Delivered);
    import(&mut other, log, items);
    assert_eq!(other.outcome("late"), Some(Outcome::Moot));
    assert_eq!(other.outcome("delivered"), Some(Outcome::Delivered));
    assert!(other.out.is_empty());
    other.tell(Input::ClockStepped);
    assert_eq!(other.get("late").record.phone, phone());
}

#[test]
fn a_message_without_a_policy_is_refused_with_the_way_out() {
    let mut rig = Rig::new();
    rig.register(draft("m", "promo"));
    let (log, items) = export(&mut rig);
    let otp = UseCase::new("otp").unwrap();
    let policies: Policies = [(otp, Policy::new(Rule::Ttl(SECOND * 600)))].into_iter().collect();
    let mut other = Rig::open(MemoryStore::default(), policies, super::core::Settings::default(), rig.now);
    let results = import(&mut other, log, items);
    let [Err(refusal)] = &results[..] else { panic!("{results:?}") };
    assert!(refusal.message.contains("[use_cases.promo]"), "{}", refusal.message);
}
