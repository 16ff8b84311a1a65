//! The books: what truly happened, for judging a daemon by.
//!
//! The platform tells its clients as little as the real one does. The books tell everything: whether a handset showed a
//! message, when, and how each DELETE of it was answered.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::fault::FaultKind;

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// In the platform's queue.
    Queued,
    /// On the handset.
    Delivered,
    /// Taken out of the queue by a DELETE.
    Revoked,
    /// Taken out of the queue by its own ttl.
    Expired,
}

/// How a request ended for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Answered {
    /// With this status.
    Status(u16),
    /// Without an answer, in the way the word says.
    Not(Unanswered),
}

/// The ways to leave a client without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Unanswered {
    /// Done, then the connection was closed.
    Lost,
    /// The connection was closed before anything was done.
    Reset,
    /// Nothing was done and nothing will ever be said.
    Silent,
}

/// One DELETE of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteRequest {
    /// When it arrived.
    pub at: DateTime<Utc>,
    /// What the client learned of it.
    pub answered: Answered,
}

/// The whole truth about one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageBook {
    /// The agent that sent it, without `@rbm.goog`.
    pub agent_id: String,
    /// The phone it was sent to.
    pub phone: String,
    /// Its id.
    pub message_id: String,
    /// Where it is.
    pub state: State,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When its ttl ends.
    pub expires_at: Option<DateTime<Utc>>,
    /// When the handset showed it: a message can be shown *after* a DELETE was answered 200.
    pub shown_at: Option<DateTime<Utc>>,
    /// When a DELETE took it out of the queue.
    pub revoked_at: Option<DateTime<Utc>>,
    /// Every DELETE of it, oldest first, at most [`MessageBook::REQUESTS_KEPT`].
    pub delete_requests: Vec<DeleteRequest>,
}

impl MessageBook {
    /// How many DELETEs of one message are kept: enough for any sound client, a bound for any other.
    pub const REQUESTS_KEPT: usize = 100;
}

/// Counters since the start or the last reset.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Messages created.
    pub creates: u64,
    /// DELETE requests, however they were answered.
    pub deletes: u64,
    /// API requests of any kind.
    pub requests: u64,
    /// API answers by status.
    pub answers: BTreeMap<u16, u64>,
    /// API requests that got no answer.
    pub unanswered: u64,
    /// Faults that struck, by kind.
    pub faults: BTreeMap<FaultKind, u64>,
    /// Access tokens issued.
    pub tokens_issued: u64,
    /// Requests for a token that were refused.
    pub tokens_refused: u64,
    /// Messages shown by handsets.
    pub shown: u64,
    /// Events published, repetitions included.
    pub events: u64,
    /// Events lost on purpose.
    pub events_lost: u64,
    /// Pushes the webhook answered 200.
    pub pushes: u64,
    /// Pushes it answered otherwise, or not at all; each is tried again.
    pub pushes_failed: u64,
    /// Events given up after the last try.
    pub pushes_given_up: u64,
    /// The most API requests within one second of the clock.
    pub peak_requests_per_second: u64,
    #[serde(skip)]
    current_second: (i64, u64),
}

impl Stats {
    /// Counts an API request that arrived.
    pub(super) fn request(&mut self, now: DateTime<Utc>) {
        self.requests += 1;
        let second = now.timestamp();
        if self.current_second.0 != second {
            self.current_second = (second, 0);
        }
        self.current_second.1 += 1;
        self.peak_requests_per_second = self.peak_requests_per_second.max(self.current_second.1);
    }

    /// Counts how it ended.
    pub(super) fn answered(&mut self, answered: Answered) {
        match answered {
            Answered::Status(status) => *self.answers.entry(status).or_default() += 1,
            Answered::Not(_) => self.unanswered += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_the_busiest_second() {
        let mut stats = Stats::default();
        let at = |millis| DateTime::from_timestamp_millis(millis).unwrap();
        for millis in [100, 200, 900, 1000, 1100] {
            stats.request(at(millis));
        }
        assert_eq!((stats.requests, stats.peak_requests_per_second), (5, 3));
    }

    #[test]
    fn an_answer_is_a_number_and_its_absence_a_word() {
        let json = |answered| serde_json::to_string(&answered).unwrap();
        assert_eq!(json(Answered::Status(404)), "404");
        assert_eq!(json(Answered::Not(Unanswered::Lost)), "\"lost\"");
    }
}
