//! Messages, as they are handed in and as they are shown.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{ErrorBody, optional_duration, raw};
use crate::engine::{Described, OnConflict, StateKind};
use crate::intake::holds::HoldView;
use crate::model::{
    AgentId, Belief, Call, GrantState, MessageId, Note, Outcome, Region, State, Timestamp, TrafficType, UseCase, What,
};

/// `POST /v1/messages`. The daemon reads it field by field (see `parse`), so that each error can name its field.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisterRequest {
    /// With or without `@rbm.goog`.
    pub agent_id: String,
    /// E.164.
    pub phone: String,
    /// The agent's id for the message.
    pub message_id: String,
    /// Which policy it follows.
    pub use_case: String,
    /// When it was sent; now, if it does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_time: Option<String>,
    /// A deadline of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expire_time: Option<String>,
    /// Or a time to live of its own, `"600s"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// `us`, `europe`, `asia` or `global`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
    /// Words to find it by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Anything; comes back with the grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Box<RawValue>>,
    /// The recipient's, for quiet hours: a name of the IANA database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// `replace`, `keep`, `earliest` or `reject`.
    pub on_conflict: OnConflict,
}

/// A message as it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageView {
    /// Its agent.
    pub agent_id: AgentId,
    /// The agent's id for it.
    pub message_id: MessageId,
    /// The handset.
    pub phone: String,
    /// The policy it follows.
    pub use_case: UseCase,
    /// The region it went through.
    pub region: Region,
    /// How urgent it is.
    pub message_traffic_type: TrafficType,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Box<str>>,
    /// The recipient's time zone, if the agent gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<Box<str>>,
    /// When it was sent.
    pub send_time: Timestamp,
    /// When we heard of it.
    pub registered_at: Timestamp,
    /// When it is to be gone. For what follows its policy: under the policy of now.
    pub deadline: Timestamp,
    /// Where it is in its life.
    pub state: StateKind,
    /// While it settles: what we hold to be true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub belief: Option<Belief>,
    /// Once it has settled: how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// When it settled, or will at the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settle_time: Option<Timestamp>,
    /// DELETEs that were sent and count.
    pub attempts: u32,
    /// How long after it was due the first one left.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_duration")]
    pub lateness: Option<Duration>,
    /// What keeps it from being revoked: already, or when its deadline comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<HoldView>,
    /// The recall that it belongs to. There is no SMS for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recall: Option<String>,
    /// Its fallback grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantView>,
    /// What was learnt, when.
    #[serde(default)]
    pub trail: Vec<NoteView>,
}

/// Leave to send the SMS.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrantView {
    /// The idempotency key of the SMS: the same for the whole life of the message.
    pub grant_id: String,
    /// What became of it.
    pub state: GrantState,
    /// Its agent took note of it.
    pub acked: bool,
    /// After this an SMS is of no use any more.
    pub valid_until: Timestamp,
    /// What the agent wanted to have back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Box<RawValue>>,
    /// Where a hook sends the SMS, and nobody else is to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<CallView>,
}

/// How far a hook is with a grant.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallView {
    /// Calls that failed.
    pub tries: u32,
    /// When it may be called next, while it is.
    pub next_time: Timestamp,
    /// Why the last call failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<Box<str>>,
}

/// One line of a message's story.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NoteView {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: What,
    /// In words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Box<str>>,
}

impl From<Note> for NoteView {
    fn from(note: Note) -> Self {
        Self { at: note.at, what: note.what, detail: note.detail }
    }
}

impl From<Described> for MessageView {
    fn from(described: Described) -> Self {
        let Described { record, lane, deadline, grant_id, grant_acked, hold } = described;
        let state = StateKind::from(&record);
        let (belief, outcome, settle_time) = match record.state {
            State::Pending | State::Revoking { .. } => (None, None, None),
            State::Settling { belief, until } => (Some(belief), None, Some(until)),
            State::Settled { outcome, at } => (None, Some(outcome), Some(at)),
        };
        let failure = record.trail.iter().rfind(|note| note.what == What::CallFailed);
        let last_error = failure.and_then(|note| note.detail.clone());
        let grant = record.grant.zip(grant_id).map(|(grant, grant_id)| GrantView {
            grant_id,
            state: grant.state,
            acked: grant_acked,
            valid_until: grant.until,
            fallback: raw(record.fallback),
            call: grant.call.map(|Call { next, tries }| CallView { tries, next_time: next, last_error }),
        });
        Self {
            agent_id: record.identity.agent,
            message_id: record.identity.message_id,
            phone: record.phone.reveal(),
            use_case: lane.use_case,
            region: lane.region,
            message_traffic_type: lane.traffic_type,
            tags: record.tags,
            time_zone: record.time_zone,
            send_time: record.send_time,
            registered_at: record.registered_at,
            deadline,
            state,
            belief,
            outcome,
            settle_time,
            attempts: record.attempts.count,
            lateness: record.attempts.lateness,
            hold: hold.map(HoldView::from),
            recall: record.recall.map(|id| id.to_string()),
            grant,
            trail: record.trail.into_iter().map(NoteView::from).collect(),
        }
    }
}

/// A page of messages.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListView {
    /// The messages; may be few or none although there is a next page.
    pub messages: Vec<MessageView>,
    /// Ask for the next page with it; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// One line of a batch's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchLine {
    /// What the status of a single request would have been.
    pub code: u16,
    /// The message, if it is registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageView>,
    /// Why not, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}
