//! The platform: one DELETE in, one typed answer out.
//!
//! [`Platform`] is the contract between the engine and whatever takes messages off the handsets' queues; [`RbmClient`] is
//! the real one, tests and the simulator bring their own. Behind the contract lie the URL, the access token and the
//! reading of answers:
//!
//! ```text
//! Order ─▶ client ──▶ token (cached, one request at a time) ─▶ key (the service-account file)
//!            │
//!            └──────▶ DELETE ─▶ answer (what a status and a body are worth) ─▶ Answer
//! ```
//!
//! This room must not know the store, and it never tries twice: when to try again is a decision, and decisions are the
//! model's. (A token that turns out stale is renewed and the request sent again, since the first one was refused unread.)
//! It must also not let a phone number out: whatever the platform says is scrubbed before it becomes words of an
//! [`Answer`], for those end in logs and in the message's trail.

mod answer;
mod client;
mod http;
mod key;
#[cfg(test)]
mod tests;
mod token;

use futures_util::future::BoxFuture;

pub use client::{Account, RbmClient, Settings, SetupError};
pub use http::Timeouts;
pub use key::{KeyError, ServiceKey};

use crate::model::{AgentId, Answer, MessageId, Phone, Region};

/// One message to be revoked: what the request is made of, and nothing of why. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// Who sent it.
    pub agent: AgentId,
    /// The handset it was sent to.
    pub phone: Phone,
    /// The sender's id for it.
    pub message_id: MessageId,
    /// The region that took it.
    pub region: Region,
}

/// Takes messages back.
pub trait Platform: Send + Sync + 'static {
    /// Sends one DELETE and says what came of it. Never fails: that nothing is known is an [`Answer`] too.
    ///
    /// The future owns what it needs, so the engine can spawn it as it is. Dropping it before it is done leaves unknown
    /// whether the request left: the caller has to treat that as [`Answer::Lost`].
    fn revoke(&self, order: Order) -> BoxFuture<'static, Answer>;
}
