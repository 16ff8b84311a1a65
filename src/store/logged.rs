//! A change as the journal holds it.
//!
//! The engine's [`Change`] with its records and entries already in their stored form: they are encoded once, go to disk and
//! into memory as the same bytes, and are decoded only when somebody reads them. A replayed journal gives exactly these
//! values again, so that one function applies what is new and what is recovered.

use std::time::Duration;

use minicbor::{Decode, Encode, Encoder};

use super::codec::{self, StoredEarly, StoredHold, StoredLane, StoredRecall, StoredSubscription, corrupt};
use super::key::{IdentityHash, POSITION_BYTES, position_bytes, read_position};
use super::tree::Bytes;
use super::{Change, Cursor, EarlyEvent, Reckoning, StoreError};
use crate::model::ledger::{Cell, Counts, Hour};
use crate::model::{
    AgentId, Hold, Identity, LaneId, LaneSpec, Phone, Place, Position, Queue, Recall, Subscription, Timestamp, UseCase,
};

/// See [`Change`].
#[derive(Clone, Debug)]
pub(super) enum Logged {
    Lane(LaneId, LaneSpec),
    Put { from: Option<Position>, at: Position, hash: IdentityHash, record: Bytes },
    Remove { at: Position, hash: IdentityHash },
    Outcome(Cursor, Bytes),
    ContinueLog(u64, Cursor),
    TrimOutcomes(Cursor),
    Acked(AgentId, Cursor),
    Fence(LaneId, Queue, Option<Place>),
    Early(EarlyEvent),
    EarlyGone(Identity),
    Subscription(Subscription),
    SubscriptionGone(AgentId, Phone),
    Booked(Hour, UseCase, Counts),
    Unbooked(Hour),
    Hold(Hold),
    HoldGone(u64),
    Recall(Box<Recall>),
    RecallGone(u64),
    Reckoning(Reckoning),
}

/// Its bytes: an array of the code and the fields.
#[derive(Encode, Decode)]
#[cbor(flat)]
pub(super) enum StoredChange<'a> {
    #[n(0)]
    Lane(#[n(0)] u32, #[b(1)] StoredLane<'a>),
    #[n(1)]
    Put(
        #[cbor(n(0), with = "minicbor::bytes")] Option<[u8; POSITION_BYTES]>,
        #[cbor(n(1), with = "minicbor::bytes")] [u8; POSITION_BYTES],
        #[cbor(n(2), with = "minicbor::bytes")] [u8; 16],
        #[cbor(b(3), with = "minicbor::bytes")] &'a [u8],
    ),
    #[n(2)]
    Remove(
        #[cbor(n(0), with = "minicbor::bytes")] [u8; POSITION_BYTES],
        #[cbor(n(1), with = "minicbor::bytes")] [u8; 16],
    ),
    #[n(3)]
    Outcome(#[n(0)] u64, #[cbor(b(1), with = "minicbor::bytes")] &'a [u8]),
    #[n(4)]
    TrimOutcomes(#[n(0)] u64),
    #[n(5)]
    Acked(#[b(0)] &'a str, #[n(1)] u64),
    #[n(6)]
    Fence(#[n(0)] u32, #[n(1)] u8, #[n(2)] Option<(i64, u64)>),
    #[n(7)]
    Early(#[b(0)] StoredEarly<'a>),
    #[n(8)]
    EarlyGone(#[b(0)] &'a str, #[b(1)] &'a str),
    #[n(9)]
    Hold(#[n(0)] u64, #[b(1)] StoredHold<'a>),
    #[n(10)]
    HoldGone(#[n(0)] u64),
    #[n(11)]
    Recall(#[n(0)] u64, #[b(1)] StoredRecall<'a>),
    #[n(12)]
    RecallGone(#[n(0)] u64),
    #[n(13)]
    Subscription(#[b(0)] StoredSubscription<'a>),
    #[n(14)]
    SubscriptionGone(#[b(0)] &'a str, #[n(1)] u64),
    #[n(20)]
    Booked(#[n(0)] u32, #[b(1)] &'a str, #[n(2)] Vec<(u16, i64)>),
    #[n(21)]
    Unbooked(#[n(0)] u32),
    #[n(22)]
    ContinueLog(#[n(0)] u64, #[n(1)] u64),
    #[n(23)]
    Reckoning(#[n(0)] u64, #[n(1)] i64, #[n(2)] bool, #[n(3)] Option<u32>, #[n(4)] Option<Vec<(i64, u64)>>),
}

impl From<Change> for Logged {
    fn from(change: Change) -> Self {
        match change {
            Change::Lane(id, spec) => Self::Lane(id, spec),
            Change::Put { from, record } => Self::Put {
                from,
                at: record.position(),
                hash: IdentityHash::of(&record.identity),
                record: codec::encode_record(&record),
            },
            Change::Remove { identity, at } => Self::Remove { at, hash: IdentityHash::of(&identity) },
            Change::Outcome(cursor, entry) => Self::Outcome(cursor, codec::encode_entry(&entry)),
            Change::ContinueLog { store_id, after } => Self::ContinueLog(store_id, after),
            Change::TrimOutcomes(cursor) => Self::TrimOutcomes(cursor),
            Change::Acked(agent, cursor) => Self::Acked(agent, cursor),
            Change::Fence(lane, queue, place) => Self::Fence(lane, queue, place),
            Change::Early(event) => Self::Early(event),
            Change::EarlyGone(identity) => Self::EarlyGone(identity),
            Change::Subscription(one) => Self::Subscription(one),
            Change::SubscriptionGone(agent, phone) => Self::SubscriptionGone(agent, phone),
            Change::Booked(hour, use_case, counts) => Self::Booked(hour, use_case, counts),
            Change::Unbooked(before) => Self::Unbooked(before),
            Change::Hold(hold) => Self::Hold(hold),
            Change::HoldGone(id) => Self::HoldGone(id),
            Change::Recall(recall) => Self::Recall(recall),
            Change::RecallGone(id) => Self::RecallGone(id),
            Change::Reckoning(reckoning) => Self::Reckoning(reckoning),
        }
    }
}

impl Logged {
    /// Its stored form.
    pub(super) fn stored(&self) -> StoredChange<'_> {
        match self {
            Self::Lane(id, spec) => StoredChange::Lane(id.0, StoredLane::of(spec)),
            Self::Put { from, at, hash, record } => {
                StoredChange::Put(from.as_ref().map(position_bytes), position_bytes(at), hash.0, record)
            }
            Self::Remove { at, hash } => StoredChange::Remove(position_bytes(at), hash.0),
            Self::Outcome(cursor, entry) => StoredChange::Outcome(*cursor, entry),
            Self::ContinueLog(store_id, after) => StoredChange::ContinueLog(*store_id, *after),
            Self::TrimOutcomes(cursor) => StoredChange::TrimOutcomes(*cursor),
            Self::Acked(agent, cursor) => StoredChange::Acked(agent.as_str(), *cursor),
            Self::Fence(lane, queue, place) => {
                StoredChange::Fence(lane.0, *queue as u8, place.map(|place| (place.order.millis(), place.seq)))
            }
            Self::Early(event) => StoredChange::Early(StoredEarly::of(event)),
            Self::EarlyGone(identity) => StoredChange::EarlyGone(identity.agent.as_str(), identity.message_id.as_str()),
            Self::Subscription(one) => StoredChange::Subscription(StoredSubscription::of(one)),
            Self::SubscriptionGone(agent, phone) => StoredChange::SubscriptionGone(agent.as_str(), phone.digits()),
            Self::Booked(hour, use_case, counts) => {
                let counts = counts.iter().map(|(cell, n)| (cell.0, n)).collect();
                StoredChange::Booked(hour.0, use_case.as_str(), counts)
            }
            Self::Unbooked(before) => StoredChange::Unbooked(before.0),
            Self::Hold(hold) => StoredChange::Hold(hold.id, StoredHold::of(hold)),
            Self::HoldGone(id) => StoredChange::HoldGone(*id),
            Self::Recall(recall) => StoredChange::Recall(recall.id, StoredRecall::of(recall)),
            Self::RecallGone(id) => StoredChange::RecallGone(*id),
            Self::Reckoning(Reckoning { boot, zero, held, seen, steps }) => {
                let steps = steps.iter().map(|(to, by)| (to.millis(), codec::millis(*by))).collect();
                StoredChange::Reckoning(*boot, zero.millis(), *held, seen.map(|hour| hour.0), Some(steps))
            }
        }
    }
}

impl TryFrom<StoredChange<'_>> for Logged {
    type Error = StoreError;

    fn try_from(stored: StoredChange<'_>) -> Result<Self, StoreError> {
        Ok(match stored {
            StoredChange::Lane(id, spec) => Self::Lane(LaneId(id), spec.read()?),
            StoredChange::Put(from, at, hash, record) => Self::Put {
                from: from.as_ref().map(|from| read_position(from)).transpose()?,
                at: read_position(&at)?,
                hash: IdentityHash(hash),
                record: record.into(),
            },
            StoredChange::Remove(at, hash) => Self::Remove { at: read_position(&at)?, hash: IdentityHash(hash) },
            StoredChange::Outcome(cursor, entry) => Self::Outcome(cursor, entry.into()),
            StoredChange::ContinueLog(store_id, after) => Self::ContinueLog(store_id, after),
            StoredChange::TrimOutcomes(cursor) => Self::TrimOutcomes(cursor),
            StoredChange::Acked(agent, cursor) => Self::Acked(AgentId::new(agent).map_err(corrupt)?, cursor),
            StoredChange::Fence(lane, queue, place) => Self::Fence(
                LaneId(lane),
                read_queue(queue)?,
                place.map(|(order, seq)| Place { order: Timestamp::from_millis(order), seq }),
            ),
            StoredChange::Early(event) => Self::Early(event.read()?),
            StoredChange::EarlyGone(agent, message_id) => Self::EarlyGone(codec::identity(agent, message_id)?),
            StoredChange::Subscription(one) => Self::Subscription(one.read()?),
            StoredChange::SubscriptionGone(agent, phone) => {
                Self::SubscriptionGone(AgentId::new(agent).map_err(corrupt)?, Phone::from_digits(phone))
            }
            StoredChange::Booked(hour, use_case, counts) => Self::Booked(
                Hour(hour),
                UseCase::new(use_case).map_err(corrupt)?,
                counts.into_iter().map(|(cell, n)| (Cell(cell), n)).collect(),
            ),
            StoredChange::Unbooked(before) => Self::Unbooked(Hour(before)),
            StoredChange::Hold(id, hold) => Self::Hold(hold.read(id)?),
            StoredChange::HoldGone(id) => Self::HoldGone(id),
            StoredChange::Recall(id, recall) => Self::Recall(Box::new(recall.read(id)?)),
            StoredChange::RecallGone(id) => Self::RecallGone(id),
            StoredChange::Reckoning(boot, zero, held, seen, steps) => {
                let step = |(to, by)| (Timestamp::from_millis(to), Duration::from_millis(by));
                let (zero, seen) = (Timestamp::from_millis(zero), seen.map(Hour));
                let steps = steps.unwrap_or_default().into_iter().map(step).collect();
                Self::Reckoning(Reckoning { boot, zero, held, seen, steps })
            }
        })
    }
}

/// The queue of a stored code.
pub(super) fn read_queue(code: u8) -> Result<Queue, StoreError> {
    Queue::ALL.get(usize::from(code)).copied().ok_or_else(|| corrupt(format!("queue {code} is not known")))
}

/// A batch as it stands in a journal: its serial number, then its changes.
pub(super) fn encode_batch(serial: u64, changes: &[Logged]) -> Vec<u8> {
    let mut stream = Encoder::new(Vec::with_capacity(64 + 192 * changes.len()));
    let written = (|| {
        stream.array(2)?.u64(serial)?.array(changes.len() as u64)?;
        changes.iter().try_for_each(|change| stream.encode(change.stored()).map(drop))
    })();
    written.expect("a Vec takes every write");
    stream.into_writer()
}
