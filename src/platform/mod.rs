//! The platform contract.
use std::future::Future;
use std::pin::Pin;

use crate::model::{AgentId, Answer, MessageId, Phone, Region};

/// One DELETE.
#[derive(Clone, PartialEq, Debug)]
pub struct Order {
    /// Whose message.
    pub agent: AgentId,
    /// On which handset.
    pub phone: Phone,
    /// Which message.
    pub message_id: MessageId,
    /// Through which region it was sent.
    pub region: Region,
}

/// Sends DELETEs.
pub trait Platform: Send + Sync + 'static {
    /// Sends one.
    fn revoke(&self, order: Order) -> Pin<Box<dyn Future<Output = Answer> + Send + '_>>;
}
