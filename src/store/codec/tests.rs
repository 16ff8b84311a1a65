//! What is written is read; what was written once stays readable; and it is small.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::model::{Place, Queue, Subscription};

/// Record and entry as version 1 wrote them on 2026-11-22. Never regenerate it: add another beside it.
const FIXTURE: &str = include_str!("../../../tests/fixtures/store-v1.hex");

fn instant() -> impl Strategy<Value = Timestamp> {
    (0..=Timestamp::MAX.millis()).prop_map(Timestamp::from_millis)
}

fn text() -> impl Strategy<Value = Box<str>> {
    "\\PC{0,40}".prop_map(String::into_boxed_str)
}

fn span() -> impl Strategy<Value = Duration> {
    any::<u32>().prop_map(|millis| Duration::from_millis(millis.into()))
}

fn name() -> impl Strategy<Value = Identity> {
    ("[a-z0-9_-]{1,64}", "[A-Za-z0-9_.~-]{3,64}").prop_map(|(agent, id)| identity(&agent, &id).unwrap())
}

fn some_grant() -> impl Strategy<Value = Grant> {
    let call = option::of((instant(), any::<u32>()).prop_map(|(next, tries)| Call { next, tries }));
    let parts = (select(&GRANTS[..]), any::<u64>(), instant(), call);
    parts.prop_map(|(state, cursor, until, call)| Grant { state, cursor, until, call })
}

fn state() -> impl Strategy<Value = State> {
    prop_oneof![
        Just(State::Pending),
        instant().prop_map(|next| State::Revoking { next, in_flight: false }),
        (select(&BELIEFS[..]), instant()).prop_map(|(belief, until)| State::Settling { belief, until }),
        (select(&Outcome::ALL[..]), instant()).prop_map(|(outcome, at)| State::Settled { outcome, at }),
    ]
}

prop_compose! {
    fn attempts()(
        count: u32, failures: u32, not_found: u32, unknown: bool, lateness in option::of(span())
    ) -> Attempts {
        Attempts { count, failures, not_found, unknown, lateness }
    }
}

prop_compose! {
    fn note()(at in instant(), what in select(&What::ALL[..]), detail in option::of(text())) -> Note {
        Note { at, what, detail }
    }
}

prop_compose! {
    fn record()(
        (identity, seq, phone, tags) in (name(), any::<u64>(), any::<u64>(), vec(text(), 0..4)),
        (fallback, registered_at, send_time) in (option::of(text()), instant(), instant()),
        (deadline, state, attempts) in (option::of(instant()), state(), attempts()),
        (delivered, ttl_revoked, held, recall) in any::<(bool, bool, bool, Option<u64>)>(),
        (grant, trail) in (option::of(some_grant()), vec(note(), 0..8)),
    ) -> Record {
        let (lane, phone, seen) = (LaneId(7), Phone::from_digits(phone), Seen { delivered, ttl_revoked });
        let time_zone = (seq % 2 == 0).then(|| "Europe/Berlin".into());
        Record {
            identity, lane, seq, phone, tags, fallback, time_zone, registered_at, send_time, deadline, state, held, recall,
            attempts, seen, grant, trail,
        }
    }
}

prop_compose! {
    fn entry()(
        (kind, at, identity, phone) in (select(&ENTRIES[..]), instant(), name(), any::<u64>()),
        (use_case, outcome) in ("[a-z]{1,64}", select(&Outcome::ALL[..])),
        (send_time, deadline, lateness) in (instant(), instant(), option::of(span())),
        (grant, grant_id, fallback) in (option::of(some_grant()), option::of(text()), option::of(text())),
        (tags, detail) in (vec(text(), 0..4), option::of(text())),
    ) -> Entry {
        let (phone, use_case) = (Phone::from_digits(phone), UseCase::new(&use_case).unwrap());
        Entry {
            kind, at, identity, phone, use_case, outcome, send_time, deadline, lateness, grant, grant_id, fallback, tags, detail,
        }
    }
}

pub(super) fn lanes(agent: &AgentId) -> BTreeMap<LaneId, LaneSpec> {
    let spec = LaneSpec {
        use_case: UseCase::new("otp").unwrap(),
        agent: agent.clone(),
        region: Region::Europe,
        traffic_type: TrafficType::Authentication,
        pinned: None,
    };
    [(LaneId(7), spec)].into()
}

proptest! {
    #[test]
    fn a_record_is_read_as_it_was_written(record in record()) {
        let bytes = encode_record(&record);
        prop_assert_eq!(decode_record(&record.position(), &lanes(&record.identity.agent), &bytes).unwrap(), record);
    }

    #[test]
    fn an_entry_is_read_as_it_was_written(entry in entry()) {
        prop_assert_eq!(decode_entry(&encode_entry(&entry)).unwrap(), entry);
    }

    #[test]
    fn nonsense_is_refused_and_not_a_panic(bytes in vec(any::<u8>(), 0..200), record in record()) {
        let _ = decode_entry(&bytes);
        let _ = decode_record(&record.position(), &lanes(&record.identity.agent), &bytes);
    }
}

/// A record with something in every field.
fn full_record() -> Record {
    let at = |millis: i64| Timestamp::from_millis(1_790_000_000_000 + millis);
    Record {
        identity: identity("acme-alerts", "3f2a9c1e-7b64-4d0a-9f3e-0c5d8a7b6e21").unwrap(),
        lane: LaneId(7),
        seq: 99,
        phone: Phone::from_digits(12_223_334_444),
        tags: vec!["blue".into(), "campaign-7".into()],
        fallback: Some(r#"{"text":"your code is 1234"}"#.into()),
        time_zone: None,
        registered_at: at(40),
        send_time: at(0),
        deadline: Some(at(600_000)),
        state: State::Settling { belief: Belief::Unknown, until: at(611_000) },
        held: false,
        recall: None,
        attempts: Attempts {
            count: 3,
            failures: 1,
            not_found: 1,
            unknown: true,
            lateness: Some(Duration::from_millis(12)),
        },
        seen: Seen { delivered: false, ttl_revoked: true },
        grant: Some(Grant { state: GrantState::Held, cursor: 12, until: at(700_000), call: None }),
        trail: vec![
            Note { at: at(40), what: What::Registered, detail: None },
            Note { at: at(601_000), what: What::Answered, detail: Some("404".into()) },
        ],
    }
}

fn full_entry() -> Entry {
    let record = full_record();
    Entry {
        kind: EntryKind::Amended,
        at: Timestamp::from_millis(1_790_000_611_000),
        identity: record.identity,
        phone: record.phone,
        use_case: UseCase::new("otp").unwrap(),
        outcome: Outcome::Unknown,
        send_time: record.send_time,
        deadline: record.deadline.unwrap(),
        lateness: record.attempts.lateness,
        grant: record.grant,
        grant_id: Some("00c0ffee-99".into()),
        fallback: record.fallback,
        tags: record.tags,
        detail: Some("404: no such message".into()),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn bytes_of_version_1_are_read() {
    let mut lines = FIXTURE.lines();
    let (record, entry) = (lines.next().unwrap(), lines.next().unwrap());
    let expected = full_record();
    let read = decode_record(&expected.position(), &lanes(&expected.identity.agent), &unhex(record));
    assert_eq!(read.unwrap(), expected, "now: {}", hex(&encode_record(&expected)));
    assert_eq!(decode_entry(&unhex(entry)).unwrap(), full_entry(), "now: {}", hex(&encode_entry(&full_entry())));
}

/// The record of version 1 with a note that it did not know, and what it stands for in the journal, as version 2 wrote them on
/// 2026-11-25.
const FIXTURE_2: &str = include_str!("../../../tests/fixtures/store-v2.hex");

#[test]
fn bytes_of_version_2_are_read() {
    let mut lines = FIXTURE_2.lines();
    let (record, change) = (lines.next().unwrap(), lines.next().unwrap());
    let mut expected = full_record();
    expected.note(Timestamp::from_millis(1_790_000_611_000), What::Unsubscribed, None);
    let read = decode_record(&expected.position(), &lanes(&expected.identity.agent), &unhex(record));
    let now = hex(&encode_record(&expected));
    assert_eq!(read.unwrap_or_else(|error| panic!("{error}; now: {now}")), expected, "now: {now}");
    let subscription = Subscription {
        agent: expected.identity.agent,
        phone: expected.phone,
        ended: true,
        said: Timestamp::from_millis(1_790_000_610_000),
        heard: Timestamp::from_millis(1_790_000_610_400),
    };
    let now = minicbor::to_vec(StoredSubscription::of(&subscription)).unwrap();
    let bytes = unhex(change);
    let stored: StoredSubscription<'_> = minicbor::decode(&bytes).unwrap_or_else(|_| panic!("now: {}", hex(&now)));
    assert_eq!(stored.read().unwrap(), subscription, "now: {}", hex(&now));
}

#[test]
fn a_value_of_a_newer_version_is_told_from_damage() {
    let mut newer = encode_entry(&full_entry()).to_vec();
    newer[0] = VERSION + 1;
    assert!(matches!(decode_entry(&newer), Err(StoreError::Newer { .. })));
    assert!(matches!(decode_entry(&[]), Err(StoreError::Corrupt(_))));
    assert!(matches!(decode_entry(&newer[1..]), Err(StoreError::Newer { .. } | StoreError::Corrupt(_))));
}

#[test]
fn an_attempt_in_flight_is_not_stored() {
    let mut record = full_record();
    record.state = State::Revoking { next: record.send_time, in_flight: true };
    let bytes = encode_record(&record);
    let read = decode_record(&record.position(), &lanes(&record.identity.agent), &bytes).unwrap();
    assert_eq!(read.state, State::Revoking { next: record.send_time, in_flight: false });
}

#[test]
fn a_plain_pending_record_is_small() {
    let plain = Record {
        tags: Vec::new(),
        fallback: None,
        deadline: None,
        state: State::Pending,
        attempts: Attempts::default(),
        seen: Seen::default(),
        grant: None,
        trail: vec![Note { at: Timestamp::from_millis(1_790_000_000_040), what: What::Registered, detail: None }],
        ..full_record()
    };
    assert_eq!(plain.position().queue, Queue::Anchor);
    assert_eq!(plain.position().place, Place { order: plain.send_time, seq: 99 });
    let size = encode_record(&plain).len();
    assert!(size < 80, "{size} bytes");
}
