//! What records and log entries look like on disk.
//!
//! A stored value is one version byte and then CBOR: maps with the explicit indices below. The shapes are types of their
//! own, so that the model can change without the disk noticing. Not stored, since the key or the lane table tells it: a
//! record's lane, its `seq` and its agent. Never stored: that an attempt is in flight.
//!
//! # How to change it
//!
//! *A new optional field* takes the next free index, as an `Option` or with `skip_if`: old values read as if it was absent
//! and older programs skip it. *Anything else* (a new meaning, a field that must not be skipped, a new variant or code)
//! is a new version: raise [`VERSION`], keep the old shape as `…V1` with a conversion, choose by the version byte where
//! the value is read (where codes were only added, the new shape reads the old values); and raise the format of the
//! [directory](super::home), so that older programs leave it alone. In both cases add a fixture of the bytes before the change
//! to `tests/fixtures` and to the test below. Never use an index again.

use std::collections::BTreeMap;
use std::time::Duration;

use minicbor::{Decode, Encode};

pub(super) use self::orders::{StoredHold, StoredRecall};
pub(super) use self::subscription::StoredSubscription;
use super::tree::Bytes;
use super::{EarlyEvent, EarlyKind, Entry, EntryKind, StoreError};
use crate::model::{
    AgentId, Attempts, Belief, Call, Grant, GrantState, Identity, LaneId, LaneSpec, MessageId, Note, Outcome, Phone,
    Position, Record, Region, Seen, State, Timestamp, TrafficType, UseCase, What,
};

/// The version of all values this program writes, and the newest it reads. All since the first are read:
///
/// 2. What users said of promotions, and the note of it; what time it is follows from: one code and three kinds of change more,
///    nothing else.
pub(super) const VERSION: u8 = 2;

// Codes are places in these: append only.
const BELIEFS: [Belief; 4] = [Belief::Revoked, Belief::ProbablyDelivered, Belief::Unknown, Belief::Failed];
const GRANTS: [GrantState; 5] =
    [GrantState::Offered, GrantState::Held, GrantState::Withdrawn, GrantState::Void, GrantState::Taken];
const ENTRIES: [EntryKind; 5] =
    [EntryKind::Settled, EntryKind::Amended, EntryKind::Granted, EntryKind::Taken, EntryKind::Voided];
const EARLY: [EarlyKind; 3] = [EarlyKind::TtlRevoked, EarlyKind::Read, EarlyKind::Delivered];

fn code<T: PartialEq>(all: &[T], value: &T) -> u8 {
    let place = all.iter().position(|other| other == value).expect("the tables above name every variant");
    u8::try_from(place).expect("no table has more than 100 lines")
}

fn of_code<T: Copy>(all: &[T], code: u8) -> Result<T, StoreError> {
    all.get(usize::from(code)).copied().ok_or_else(|| StoreError::Corrupt(format!("code {code} is not known")))
}

fn empty<T>(all: &[T]) -> bool {
    all.is_empty()
}

const fn zero(bits: &u8) -> bool {
    *bits == 0
}

const fn no(flag: &bool) -> bool {
    !*flag
}

/// A record; lane and `seq` stand in its key, its agent in the lane table. Instants are milliseconds.
#[derive(Encode, Decode)]
#[cbor(map)]
struct StoredRecord<'a> {
    #[b(0)]
    message_id: &'a str,
    #[n(1)]
    phone: u64,
    #[n(2)]
    send_time: i64,
    /// After `send_time`.
    #[n(3)]
    registered: i64,
    #[n(4)]
    deadline: Option<i64>,
    #[n(5)]
    state: StoredState,
    #[n(6)]
    attempts: Option<StoredAttempts>,
    /// Bit 0: delivered; bit 1: taken by the platform's ttl.
    #[n(7)]
    #[cbor(skip_if = "zero")]
    seen: u8,
    #[n(8)]
    grant: Option<StoredGrant>,
    #[b(9)]
    #[cbor(skip_if = "empty")]
    tags: Vec<&'a str>,
    #[b(10)]
    fallback: Option<&'a str>,
    #[b(11)]
    #[cbor(skip_if = "empty")]
    trail: Vec<StoredNote<'a>>,
    #[n(12)]
    #[cbor(skip_if = "no")]
    held: bool,
    #[n(13)]
    recall: Option<u64>,
    #[b(20)]
    time_zone: Option<&'a str>,
}

#[derive(Encode, Decode)]
#[cbor(flat)]
enum StoredState {
    #[n(0)]
    Pending,
    #[n(1)]
    Revoking(#[n(0)] i64),
    #[n(2)]
    Settling(#[n(0)] u8, #[n(1)] i64),
    #[n(3)]
    Settled(#[n(0)] u8, #[n(1)] i64),
}

#[derive(Encode, Decode)]
struct StoredAttempts {
    #[n(0)]
    count: u32,
    #[n(1)]
    failures: u32,
    #[n(2)]
    not_found: u32,
    #[n(3)]
    unknown: bool,
    #[n(4)]
    lateness: Option<u64>,
}

#[derive(Encode, Decode)]
struct StoredGrant {
    #[n(0)]
    state: u8,
    #[n(1)]
    cursor: u64,
    #[n(2)]
    until: i64,
    #[n(3)]
    call: Option<StoredCall>,
}

#[derive(Encode, Decode)]
struct StoredCall {
    #[n(0)]
    next: i64,
    #[n(1)]
    tries: u32,
}

#[derive(Encode, Decode)]
struct StoredNote<'a> {
    #[n(0)]
    what: u8,
    /// After `send_time`.
    #[n(1)]
    at: i64,
    #[b(2)]
    detail: Option<&'a str>,
}

/// An entry of the outcome log; its cursor stands in its key.
#[derive(Encode, Decode)]
#[cbor(map)]
struct StoredEntry<'a> {
    #[n(0)]
    kind: u8,
    #[n(1)]
    at: i64,
    #[b(2)]
    agent: &'a str,
    #[b(3)]
    message_id: &'a str,
    #[n(4)]
    phone: u64,
    #[b(5)]
    use_case: &'a str,
    #[n(6)]
    outcome: u8,
    #[n(7)]
    send_time: i64,
    #[n(8)]
    deadline: i64,
    #[n(9)]
    lateness: Option<u64>,
    #[n(10)]
    grant: Option<StoredGrant>,
    #[b(11)]
    grant_id: Option<&'a str>,
    #[b(12)]
    fallback: Option<&'a str>,
    #[b(13)]
    #[cbor(skip_if = "empty")]
    tags: Vec<&'a str>,
    #[b(14)]
    detail: Option<&'a str>,
}

/// A lane, in the journal.
#[derive(Encode, Decode)]
pub(super) struct StoredLane<'a> {
    #[b(0)]
    use_case: &'a str,
    #[b(1)]
    agent: &'a str,
    #[n(2)]
    region: u8,
    #[n(3)]
    traffic_type: u8,
    #[b(4)]
    pinned: Option<&'a str>,
}

/// An early event, in the journal.
#[derive(Encode, Decode)]
pub(super) struct StoredEarly<'a> {
    #[b(0)]
    agent: &'a str,
    #[b(1)]
    message_id: &'a str,
    #[n(2)]
    phone: u64,
    #[n(3)]
    at: i64,
    #[n(4)]
    kind: u8,
}

/// The rest of a value, if its version is one we read.
pub(super) fn body(value: &[u8]) -> Result<&[u8], StoreError> {
    match value.split_first() {
        Some((1..=VERSION, rest)) => Ok(rest),
        Some((&found, _)) if found > VERSION => Err(StoreError::Newer { found, known: VERSION }),
        _ => Err(StoreError::Corrupt("a value without a version".to_owned())),
    }
}

/// A value of this version. Writing to memory can't fail.
pub(super) fn value<T: Encode<()>>(shape: &T) -> Bytes {
    // So many do for most, and to grow step by step takes as long as to fill.
    let mut bytes = Vec::with_capacity(256);
    bytes.push(VERSION);
    minicbor::encode(shape, &mut bytes).expect("a Vec takes every write");
    bytes.into()
}

pub(super) fn read<'a, T: Decode<'a, ()>>(value: &'a [u8]) -> Result<T, StoreError> {
    minicbor::decode(body(value)?).map_err(corrupt)
}

pub(super) fn corrupt(error: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(error.to_string())
}

pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn boxed(text: &str) -> Box<str> {
    text.into()
}

fn stored_grant(grant: &Grant) -> StoredGrant {
    let call = grant.call.map(|call| StoredCall { next: call.next.millis(), tries: call.tries });
    StoredGrant { state: code(&GRANTS, &grant.state), cursor: grant.cursor, until: grant.until.millis(), call }
}

fn grant(stored: &StoredGrant) -> Result<Grant, StoreError> {
    Ok(Grant {
        state: of_code(&GRANTS, stored.state)?,
        cursor: stored.cursor,
        until: Timestamp::from_millis(stored.until),
        call: stored.call.as_ref().map(|call| Call { next: Timestamp::from_millis(call.next), tries: call.tries }),
    })
}

/// A record's bytes.
pub(super) fn encode_record(record: &Record) -> Bytes {
    let sent = record.send_time.millis();
    let attempts = &record.attempts;
    value(&StoredRecord {
        message_id: record.identity.message_id.as_str(),
        phone: record.phone.digits(),
        send_time: sent,
        registered: record.registered_at.millis() - sent,
        deadline: record.deadline.map(Timestamp::millis),
        state: match record.state {
            State::Pending => StoredState::Pending,
            State::Revoking { next, .. } => StoredState::Revoking(next.millis()),
            State::Settling { belief, until } => StoredState::Settling(code(&BELIEFS, &belief), until.millis()),
            State::Settled { outcome, at } => StoredState::Settled(code(&Outcome::ALL, &outcome), at.millis()),
        },
        attempts: (*attempts != Attempts::default()).then(|| StoredAttempts {
            count: attempts.count,
            failures: attempts.failures,
            not_found: attempts.not_found,
            unknown: attempts.unknown,
            lateness: attempts.lateness.map(millis),
        }),
        seen: u8::from(record.seen.delivered) | u8::from(record.seen.ttl_revoked) << 1,
        grant: record.grant.as_ref().map(stored_grant),
        tags: record.tags.iter().map(|tag| &**tag).collect(),
        fallback: record.fallback.as_deref(),
        trail: record
            .trail
            .iter()
            .map(|note| StoredNote {
                what: code(&What::ALL, &note.what),
                at: note.at.millis() - sent,
                detail: note.detail.as_deref(),
            })
            .collect(),
        time_zone: record.time_zone.as_deref(),
        held: record.held,
        recall: record.recall,
    })
}

/// The record at `position`, from its bytes and the lanes.
pub(super) fn decode_record(
    position: &Position,
    lanes: &BTreeMap<LaneId, LaneSpec>,
    bytes: &[u8],
) -> Result<Record, StoreError> {
    let stored: StoredRecord<'_> = read(bytes)?;
    let lane = lanes.get(&position.lane).ok_or_else(|| corrupt(format!("{:?} was never told", position.lane)))?;
    let after_sent = |offset: i64| Timestamp::from_millis(stored.send_time.saturating_add(offset));
    Ok(Record {
        identity: Identity {
            agent: lane.agent.clone(),
            message_id: MessageId::new(stored.message_id).map_err(corrupt)?,
        },
        lane: position.lane,
        seq: position.place.seq,
        phone: Phone::from_digits(stored.phone),
        tags: stored.tags.iter().copied().map(boxed).collect(),
        fallback: stored.fallback.map(boxed),
        time_zone: stored.time_zone.map(boxed),
        registered_at: after_sent(stored.registered),
        send_time: Timestamp::from_millis(stored.send_time),
        deadline: stored.deadline.map(Timestamp::from_millis),
        state: match stored.state {
            StoredState::Pending => State::Pending,
            StoredState::Revoking(next) => State::Revoking { next: Timestamp::from_millis(next), in_flight: false },
            StoredState::Settling(belief, until) => {
                State::Settling { belief: of_code(&BELIEFS, belief)?, until: Timestamp::from_millis(until) }
            }
            StoredState::Settled(outcome, at) => {
                State::Settled { outcome: of_code(&Outcome::ALL, outcome)?, at: Timestamp::from_millis(at) }
            }
        },
        held: stored.held,
        recall: stored.recall,
        attempts: stored.attempts.as_ref().map_or_else(Attempts::default, |attempts| Attempts {
            count: attempts.count,
            failures: attempts.failures,
            not_found: attempts.not_found,
            unknown: attempts.unknown,
            lateness: attempts.lateness.map(Duration::from_millis),
        }),
        seen: Seen { delivered: stored.seen & 1 != 0, ttl_revoked: stored.seen & 2 != 0 },
        grant: stored.grant.as_ref().map(grant).transpose()?,
        trail: stored
            .trail
            .iter()
            .map(|note| {
                Ok(Note {
                    at: after_sent(note.at),
                    what: of_code(&What::ALL, note.what)?,
                    detail: note.detail.map(boxed),
                })
            })
            .collect::<Result<_, StoreError>>()?,
    })
}

/// An entry's bytes.
pub(super) fn encode_entry(entry: &Entry) -> Bytes {
    value(&StoredEntry {
        kind: code(&ENTRIES, &entry.kind),
        at: entry.at.millis(),
        agent: entry.identity.agent.as_str(),
        message_id: entry.identity.message_id.as_str(),
        phone: entry.phone.digits(),
        use_case: entry.use_case.as_str(),
        outcome: code(&Outcome::ALL, &entry.outcome),
        send_time: entry.send_time.millis(),
        deadline: entry.deadline.millis(),
        lateness: entry.lateness.map(millis),
        grant: entry.grant.as_ref().map(stored_grant),
        grant_id: entry.grant_id.as_deref(),
        fallback: entry.fallback.as_deref(),
        tags: entry.tags.iter().map(|tag| &**tag).collect(),
        detail: entry.detail.as_deref(),
    })
}

/// What [`encode_entry`] gave.
pub(super) fn decode_entry(bytes: &[u8]) -> Result<Entry, StoreError> {
    let stored: StoredEntry<'_> = read(bytes)?;
    Ok(Entry {
        kind: of_code(&ENTRIES, stored.kind)?,
        at: Timestamp::from_millis(stored.at),
        identity: identity(stored.agent, stored.message_id)?,
        phone: Phone::from_digits(stored.phone),
        use_case: UseCase::new(stored.use_case).map_err(corrupt)?,
        outcome: of_code(&Outcome::ALL, stored.outcome)?,
        send_time: Timestamp::from_millis(stored.send_time),
        deadline: Timestamp::from_millis(stored.deadline),
        lateness: stored.lateness.map(Duration::from_millis),
        grant: stored.grant.as_ref().map(grant).transpose()?,
        grant_id: stored.grant_id.map(boxed),
        fallback: stored.fallback.map(boxed),
        tags: stored.tags.iter().copied().map(boxed).collect(),
        detail: stored.detail.map(boxed),
    })
}

pub(super) fn identity(agent: &str, message_id: &str) -> Result<Identity, StoreError> {
    Ok(Identity {
        agent: AgentId::new(agent).map_err(corrupt)?,
        message_id: MessageId::new(message_id).map_err(corrupt)?,
    })
}

impl<'a> StoredLane<'a> {
    pub(super) fn of(lane: &'a LaneSpec) -> Self {
        Self {
            use_case: lane.use_case.as_str(),
            agent: lane.agent.as_str(),
            region: code(&Region::ALL, &lane.region),
            traffic_type: code(&TrafficType::ALL, &lane.traffic_type),
            pinned: lane.pinned.as_deref(),
        }
    }

    pub(super) fn read(&self) -> Result<LaneSpec, StoreError> {
        Ok(LaneSpec {
            use_case: UseCase::new(self.use_case).map_err(corrupt)?,
            agent: AgentId::new(self.agent).map_err(corrupt)?,
            region: of_code(&Region::ALL, self.region)?,
            traffic_type: of_code(&TrafficType::ALL, self.traffic_type)?,
            pinned: self.pinned.map(Into::into),
        })
    }
}

impl<'a> StoredEarly<'a> {
    pub(super) fn of(event: &'a EarlyEvent) -> Self {
        Self {
            agent: event.identity.agent.as_str(),
            message_id: event.identity.message_id.as_str(),
            phone: event.phone.digits(),
            at: event.at.millis(),
            kind: code(&EARLY, &event.kind),
        }
    }

    pub(super) fn read(&self) -> Result<EarlyEvent, StoreError> {
        Ok(EarlyEvent {
            identity: identity(self.agent, self.message_id)?,
            phone: Phone::from_digits(self.phone),
            at: Timestamp::from_millis(self.at),
            kind: of_code(&EARLY, self.kind)?,
        })
    }
}

#[cfg(test)]
mod fuzz_tests;
mod orders;
mod subscription;
#[cfg(test)]
mod tests;
