//! How messages ended, and what is told of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{CallView, GrantView, optional_duration, raw};
use crate::engine::EvidenceEffect;
use crate::model::{AgentId, Call, GrantState, MessageId, Outcome, Timestamp, UseCase};
use crate::store::{Cursor, Entry, EntryKind};

/// One entry of the outcome log.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutcomeView {
    /// Go on from here; acknowledge with it.
    pub cursor: String,
    /// What happened.
    pub kind: EntryKind,
    /// When.
    pub at: Timestamp,
    /// Whose message.
    pub agent_id: AgentId,
    /// Which.
    pub message_id: MessageId,
    /// On which handset.
    pub phone: String,
    /// Under which policy.
    pub use_case: UseCase,
    /// How it ended.
    pub outcome: Outcome,
    /// When it was sent.
    pub send_time: Timestamp,
    /// The deadline that applied.
    pub deadline: Timestamp,
    /// How long after it was due the first DELETE left.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_duration")]
    pub lateness: Option<Duration>,
    /// Its grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantView>,
    /// The agent's words for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Box<str>>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Box<str>>,
}

impl From<(Cursor, Entry)> for OutcomeView {
    fn from((cursor, entry): (Cursor, Entry)) -> Self {
        let grant = entry.grant.zip(entry.grant_id).map(|(grant, grant_id)| GrantView {
            grant_id: grant_id.into(),
            state: grant.state,
            acked: grant.state == GrantState::Taken,
            valid_until: grant.until,
            fallback: raw(entry.fallback),
            call: grant.call.map(|Call { next, tries }| CallView { tries, next_time: next, last_error: None }),
        });
        Self {
            cursor: cursor.to_string(),
            kind: entry.kind,
            at: entry.at,
            agent_id: entry.identity.agent,
            message_id: entry.identity.message_id,
            phone: entry.phone.reveal(),
            use_case: entry.use_case,
            outcome: entry.outcome,
            send_time: entry.send_time,
            deadline: entry.deadline,
            lateness: entry.lateness,
            grant,
            tags: entry.tags,
            detail: entry.detail,
        }
    }
}

/// A stretch of the outcome log.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutcomesView {
    /// In order.
    pub outcomes: Vec<OutcomeView>,
    /// Ask for the next ones with `after=` this.
    pub next_cursor: String,
}

/// `POST /v1/outcomes:ack`, and its answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AckView {
    /// All up to this one.
    pub cursor: String,
    /// Of this agent; of all, if none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
}

/// What `POST /v1/events` did.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct EventView {
    /// What it did.
    pub effect: EvidenceEffect,
}
