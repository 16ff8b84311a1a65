//! The keys that everything below the contract is ordered by.
//!
//! ```text
//! 1 ++ lane (4) ++ queue (1) ++ order (8) ++ seq (8)   a record, at its position        (22 bytes)
//! 2 ++ first 16 bytes of SHA-256 of the identity       the position of that message     (17 bytes)
//! 3 ++ cursor (8)                                      an entry of the outcome log       (9 bytes)
//! ```
//!
//! Numbers are big-endian, so the order of the bytes is the order of the values, which is also the order of [`Key`] itself.

use std::ops::Deref;

use crate::model::{Identity, LaneId, Place, Position, Queue, Timestamp};
use crate::store::{Cursor, StoreError};

/// A position without its kind byte.
pub(super) const POSITION_BYTES: usize = 21;

/// What stands for an identity in keys. 128 bits of SHA-256: no two messages share one, and it does not grow with names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct IdentityHash(pub(super) [u8; 16]);

impl IdentityHash {
    /// The length of the agent's name comes first, so that no two identities give the same bytes.
    pub(super) fn of(identity: &Identity) -> Self {
        let agent = identity.agent.as_str().as_bytes();
        let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        digest.update(&(agent.len() as u64).to_be_bytes());
        digest.update(agent);
        digest.update(identity.message_id.as_str().as_bytes());
        let mut hash = [0; 16];
        hash.copy_from_slice(&digest.finish().as_ref()[..16]);
        Self(hash)
    }
}

/// One key. See the module's documentation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Key {
    /// Holds a record.
    Record(Position),
    /// Holds the position of a record.
    Identity(IdentityHash),
    /// Holds an entry of the outcome log.
    Outcome(Cursor),
}

/// A key as it is stored; never on the heap.
#[derive(Clone, Copy)]
pub(super) struct KeyBytes {
    bytes: [u8; POSITION_BYTES + 1],
    len: usize,
}

impl Deref for KeyBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Key {
    /// The key as it is stored.
    pub(super) fn bytes(&self) -> KeyBytes {
        let mut bytes = [0; POSITION_BYTES + 1];
        let mut fill = |kind: u8, rest: &[u8]| {
            bytes[0] = kind;
            bytes[1..=rest.len()].copy_from_slice(rest);
            1 + rest.len()
        };
        let len = match self {
            Self::Record(position) => fill(1, &position_bytes(position)),
            Self::Identity(hash) => fill(2, &hash.0),
            Self::Outcome(cursor) => fill(3, &cursor.to_be_bytes()),
        };
        KeyBytes { bytes, len }
    }

    /// What [`Key::bytes`] gave.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, StoreError> {
        let wrong = || StoreError::Corrupt(format!("{bytes:?} is not a key"));
        let (kind, rest) = bytes.split_first().ok_or_else(wrong)?;
        Ok(match kind {
            1 => Self::Record(read_position(rest)?),
            2 => Self::Identity(IdentityHash(rest.try_into().map_err(|_| wrong())?)),
            3 => Self::Outcome(u64::from_be_bytes(rest.try_into().map_err(|_| wrong())?)),
            _ => return Err(wrong()),
        })
    }
}

/// A position in 21 bytes whose order is its own.
pub(super) fn position_bytes(position: &Position) -> [u8; POSITION_BYTES] {
    let mut bytes = [0; POSITION_BYTES];
    bytes[..4].copy_from_slice(&position.lane.0.to_be_bytes());
    bytes[4] = position.queue as u8;
    bytes[5..13].copy_from_slice(&position.place.order.millis().to_be_bytes());
    bytes[13..].copy_from_slice(&position.place.seq.to_be_bytes());
    bytes
}

/// What [`position_bytes`] gave.
pub(super) fn read_position(bytes: &[u8]) -> Result<Position, StoreError> {
    let wrong = || StoreError::Corrupt(format!("{bytes:?} is not a position"));
    let (lane, rest) = bytes.split_first_chunk::<4>().ok_or_else(wrong)?;
    let (queue, rest) = rest.split_first().ok_or_else(wrong)?;
    let (order, rest) = rest.split_first_chunk::<8>().ok_or_else(wrong)?;
    Ok(Position {
        lane: LaneId(u32::from_be_bytes(*lane)),
        queue: Queue::ALL.get(usize::from(*queue)).copied().ok_or_else(wrong)?,
        place: Place {
            order: Timestamp::from_millis(i64::from_be_bytes(*order)),
            seq: u64::from_be_bytes(rest.try_into().map_err(|_| wrong())?),
        },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = Key> {
        let position =
            (any::<u32>(), 0..Queue::ALL.len(), 0..i64::MAX, any::<u64>()).prop_map(|(lane, queue, order, seq)| {
                let place = Place { order: Timestamp::from_millis(order), seq };
                Position { lane: LaneId(lane), queue: Queue::ALL[queue], place }
            });
        prop_oneof![
            position.prop_map(Key::Record),
            any::<[u8; 16]>().prop_map(|hash| Key::Identity(IdentityHash(hash))),
            any::<u64>().prop_map(Key::Outcome),
        ]
    }

    proptest! {
        #[test]
        fn bytes_are_ordered_as_keys_are_and_read_back(a in key(), b in key()) {
            prop_assert_eq!(a.bytes().cmp(&b.bytes()), a.cmp(&b));
            prop_assert_eq!(Key::read(&a.bytes()).unwrap(), a);
        }
    }

    #[test]
    fn an_agent_and_an_id_do_not_run_into_each_other() {
        use crate::model::{AgentId, MessageId};
        let identity =
            |agent, id| Identity { agent: AgentId::new(agent).unwrap(), message_id: MessageId::new(id).unwrap() };
        assert_ne!(IdentityHash::of(&identity("ab", "c")), IdentityHash::of(&identity("a", "bc")));
    }
}
