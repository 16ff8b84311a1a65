//! What users said of promotions, as the journal has it. Since version 2.

use minicbor::{Decode, Encode};

use super::corrupt;
use crate::model::{AgentId, Phone, Subscription, Timestamp};
use crate::store::StoreError;

/// What a user said last, in the journal.
#[derive(Encode, Decode)]
pub(in crate::store) struct StoredSubscription<'a> {
    #[b(0)]
    agent: &'a str,
    #[n(1)]
    phone: u64,
    #[n(2)]
    ended: bool,
    #[n(3)]
    said: i64,
    #[n(4)]
    heard: i64,
}

impl<'a> StoredSubscription<'a> {
    pub(in crate::store) fn of(subscription: &'a Subscription) -> Self {
        Self {
            agent: subscription.agent.as_str(),
            phone: subscription.phone.digits(),
            ended: subscription.ended,
            said: subscription.said.millis(),
            heard: subscription.heard.millis(),
        }
    }

    pub(in crate::store) fn read(&self) -> Result<Subscription, StoreError> {
        Ok(Subscription {
            agent: AgentId::new(self.agent).map_err(corrupt)?,
            phone: Phone::from_digits(self.phone),
            ended: self.ended,
            said: Timestamp::from_millis(self.said),
            heard: Timestamp::from_millis(self.heard),
        })
    }
}
