//! What users say of an agent's promotional messages: `SUBSCRIBE` and `UNSUBSCRIBE`.
//!
//! After an `UNSUBSCRIBE` promotional messages are not allowed, and neither are the SMS that stand in for them. It is said of a
//! phone and not of a message: it holds for what was sent before as for what is registered later, until a `SUBSCRIBE`.

use std::time::Duration;

use super::{AgentId, Phone, Timestamp};

/// The platform repeats an event for so long, and unordered: one that was said earlier may come that much later.
pub const REPEATED_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// The last that a phone's user said to an agent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subscription {
    /// To whom.
    pub agent: AgentId,
    /// On which handset.
    pub phone: Phone,
    /// `UNSUBSCRIBE`, and not `SUBSCRIBE`.
    pub ended: bool,
    /// When it was said, by the handset's clock; not later than it was heard.
    pub said: Timestamp,
    /// When it came here.
    pub heard: Timestamp,
}

impl Subscription {
    /// Whether this is news to who knows that. Of two that were said in the same instant, the `UNSUBSCRIBE` counts.
    pub fn supersedes(&self, known: &Self) -> bool {
        (self.said, self.ended) > (known.said, known.ended)
    }
}
