//! The fallback grant: leave to send the SMS, given at most once for a message.

use super::Timestamp;

/// A message's one grant. Whether it was acknowledged is not kept here: it was if its entry in the outcome log lies at or
/// before the agent's acknowledged cursor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grant {
    /// What became of it.
    pub state: GrantState,
    /// The cursor of the outcome that carried it; 0 until it is carried.
    pub cursor: u64,
    /// After this an SMS is of no use any more.
    pub until: Timestamp,
}

/// What became of a grant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum GrantState {
    /// Handed out: the SMS may be sent.
    Offered,
    /// The truth is not known and the policy says to ask first (`on_unknown = "hold"`).
    Held,
    /// Taken back: the message turned out to be delivered before the grant was acknowledged, or somebody decided against it.
    Withdrawn,
    /// Came too late to be of use (`fallback_until`).
    Void,
}
