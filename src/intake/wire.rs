//! What goes over the socket, as types: written by the daemon, read by `revokectl`.
//!
//! camelCase, RFC 3339 in UTC, durations as `"600s"`, cursors as strings (a JavaScript number can't hold them all).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::holds::HoldView;
use crate::config::Mode;
use crate::engine::{
    CallsStatus, Described, Disbelief, EvidenceEffect, Explained, Forecast, OnConflict, PlannedUseCase, Refusal,
    RefusalKind, RestReason, StateKind,
};
use crate::model::{
    AgentId, Belief, Call, GrantState, MessageId, Outcome, Region, State, Timestamp, TrafficType, UseCase, What,
    time::wire_duration,
};
use crate::spans::Measured;
use crate::store::{Cursor, Entry, EntryKind, Figures};

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
        let note = |note: crate::model::Note| NoteView { at: note.at, what: note.what, detail: note.detail };
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
            trail: record.trail.into_iter().map(note).collect(),
        }
    }
}

pub(super) fn raw(text: Option<Box<str>>) -> Option<Box<RawValue>> {
    text.and_then(|text| RawValue::from_string(text.into()).ok())
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

/// `GET /v1/status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusView {
    /// The daemon's version.
    pub version: Cow<'static, str>,
    /// Whether anything is revoked.
    pub mode: Mode,
    /// When it started.
    pub started_at: Timestamp,
    /// The loaded configuration's hash.
    pub config_hash: String,
    /// Messages by use case and state.
    pub use_cases: BTreeMap<UseCase, BTreeMap<StateKind, u64>>,
    /// DELETEs that are out.
    pub in_flight: usize,
    /// When something is due next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_due: Option<Timestamp>,
    /// How long the longest overdue message has been waiting.
    #[serde(with = "wire_duration")]
    pub backlog_age: Duration,
    /// Settled since the start, by outcome. This and the next four are counted for all agents together: who may ask about
    /// some does not get them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<BTreeMap<Outcome, u64>>,
    /// How late first DELETEs left since the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lateness: Option<TimesView>,
    /// How long DELETEs took to come back since the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_times: Option<TimesView>,
    /// Messages registered since the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered: Option<u64>,
    /// DELETEs that came back since the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletes: Option<u64>,
    /// Agents and regions.
    pub routes: Vec<RouteView>,
    /// The last outcome's cursor.
    pub last_cursor: String,
    /// Outcomes that were removed since the start (`retention.outcomes`) although nobody had acknowledged them.
    #[serde(default)]
    pub lost_outcomes: u64,
    /// Events that wait for their message.
    pub early_events: usize,
    /// Phones that want no promotions any more, by agent.
    #[serde(default)]
    pub unsubscribed: usize,
    /// The holds in force.
    #[serde(default)]
    pub holds: Vec<HoldView>,
    /// The wall clock stepped ahead, and is not believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<ClockView>,
    /// Why registrations are refused, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_error: Option<String>,
    /// The store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreView>,
    /// The hooks that grants are handed to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fallback: BTreeMap<UseCase, FallbackView>,
    /// The webhook, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookView>,
}

/// A wall clock that is not believed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClockView {
    /// Since when deadlines go by the time before the step.
    pub hold_time: Timestamp,
    /// How far the clock is ahead of that.
    #[serde(with = "wire_duration")]
    pub ahead: Duration,
}

impl From<Disbelief> for ClockView {
    fn from(Disbelief { since, ahead }: Disbelief) -> Self {
        Self { hold_time: since, ahead }
    }
}

/// The hook of one use case. All but the first two since the start.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FallbackView {
    /// Grants that it has not taken.
    pub waiting: u64,
    /// Calls that are out.
    pub in_flight: usize,
    /// Grants that it took.
    pub taken: u64,
    /// Calls that failed.
    pub failed_calls: u64,
    /// Grants that it did not take while they were of use.
    pub voided: u64,
    /// Why the last one of the failed calls failed …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<Box<str>>,
    /// … and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error_time: Option<Timestamp>,
}

impl From<CallsStatus> for FallbackView {
    fn from(status: CallsStatus) -> Self {
        let CallsStatus { waiting, in_flight, taken, failed, voided, last_error } = status;
        let (last_error_time, last_error) = last_error.unzip();
        Self { waiting, in_flight, taken, failed_calls: failed, voided, last_error, last_error_time }
    }
}

/// The webhook since the start.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookView {
    /// Where it listens.
    pub address: String,
    /// Pushes that were authentic and are taken note of.
    pub accepted: u64,
    /// Pushes that were not answered with 200 here.
    pub refused: u64,
    /// Passed on, and answered with 200 there.
    pub forwarded: u64,
    /// Passed on, and not answered with 200.
    pub forward_failures: u64,
    /// Not passed on: too many were waiting for it.
    pub forward_dropped: u64,
}

/// How long something took, several times.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct TimesView {
    /// How many there were.
    pub count: u64,
    /// Half of them within this.
    #[serde(with = "wire_duration")]
    pub p50: Duration,
    /// 99 of 100 within this.
    #[serde(with = "wire_duration")]
    pub p99: Duration,
    /// The longest.
    #[serde(with = "wire_duration")]
    pub max: Duration,
}

impl TimesView {
    /// Nothing where nothing was measured.
    pub(super) fn of(measured: &Measured) -> Option<Self> {
        let Measured { count, p50, p99, max, .. } = *measured;
        (count > 0).then_some(Self { count, p50, p99, max })
    }
}

/// The store.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreView {
    /// What it takes on disk.
    pub disk_bytes: u64,
    /// Memory for what was written lately …
    pub young_bytes: u64,
    /// … and for what of that is on its way to where it stays.
    pub frozen_bytes: u64,
    /// Batches that are not durable yet.
    pub backlog: u64,
    /// How long it took to make batches durable, since the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flushes: Option<TimesView>,
}

impl From<Figures> for StoreView {
    fn from(figures: Figures) -> Self {
        let Figures { disk_bytes, young_bytes, frozen_bytes, backlog, flushes } = figures;
        Self { disk_bytes, young_bytes, frozen_bytes, backlog, flushes: TimesView::of(&flushes) }
    }
}

/// One agent and region.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteView {
    /// The agent.
    pub agent_id: AgentId,
    /// The region.
    pub region: Region,
    /// DELETEs that are out.
    pub in_flight: usize,
    /// Requests per second that may leave now.
    pub per_second: f64,
    /// Why none leave, if none do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resting: Option<RestReason>,
    /// For how long yet.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_duration")]
    pub resumes_in: Option<Duration>,
    /// DELETEs that are due, or may leave early because they are spread.
    #[serde(default)]
    pub backlog: u64,
    /// When the last of those will have left at the present pace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_by: Option<Timestamp>,
    /// Some of them will be more than a minute late then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub late: bool,
}

/// `GET /v1/forecast`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ForecastView {
    /// The start of the first span.
    pub from: Timestamp,
    /// The length of each.
    #[serde(with = "wire_duration")]
    pub step: Duration,
    /// How many fall due in each span, per use case; what is overdue is in the first.
    pub use_cases: BTreeMap<UseCase, Vec<u64>>,
    /// Behind the last span, per use case.
    pub later: BTreeMap<UseCase, u64>,
    /// Kept back by holds, per use case, and in none of the counts above: those whose use case or agent is held, and those with
    /// a tag whose turn has come.
    pub held: BTreeMap<UseCase, u64>,
    /// After a start, what is pending is still being counted: the numbers are too low.
    pub counting: bool,
}

impl From<Forecast> for ForecastView {
    fn from(forecast: Forecast) -> Self {
        let Forecast { from, step, use_cases, later, held, counting } = forecast;
        Self { from, step, use_cases, later, held, counting }
    }
}

/// What a configuration does, or would do, to what is pending.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReloadView {
    /// The configuration's hash.
    pub config_hash: String,
    /// It is in force now; a plan's is not.
    pub applied: bool,
    /// Every key that differs.
    pub changes: Vec<ChangeView>,
    /// What it does, per use case.
    pub use_cases: Vec<PlannedView>,
    /// What somebody should look at, as it would be printed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnings: Option<String>,
    /// As for a forecast.
    pub counting: bool,
}

/// One key that differs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangeView {
    /// `use_cases.otp.ttl`
    pub key: String,
    /// What it was, as it is written in the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What it is then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// What a configuration does to one use case. Deadlines are told apart to ten seconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedView {
    /// Which.
    pub use_case: UseCase,
    /// Its policy before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Its policy after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Messages that wait for their deadline.
    pub pending: u64,
    /// How many of them are due at another time.
    pub moved: u64,
    /// By how many milliseconds at least; below zero is earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shift_ms_min: Option<i64>,
    /// At most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shift_ms_max: Option<i64>,
    /// How many are due at once.
    pub due_at_once: u64,
    /// When the last of those would have left, at the configured pace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_by: Option<Timestamp>,
}

impl From<PlannedUseCase> for PlannedView {
    fn from(planned: PlannedUseCase) -> Self {
        let PlannedUseCase {
            use_case,
            before,
            after,
            pending,
            moved,
            shift_ms_min,
            shift_ms_max,
            due_at_once,
            done_by,
        } = planned;
        Self { use_case, before, after, pending, moved, shift_ms_min, shift_ms_max, due_at_once, done_by }
    }
}

/// `GET /v1/config`: what is in force, each value with where it comes from. Secrets are not in it: the file names files.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigView {
    /// Where it was read from.
    pub file: String,
    /// Its hash.
    pub config_hash: String,
    /// When it was taken over.
    pub loaded_at: Timestamp,
    /// In the order of the sections.
    pub settings: Vec<SettingView>,
    /// How the last reload went, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_reload: Option<LastReloadView>,
}

/// How a reload went.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastReloadView {
    /// When.
    pub at: Timestamp,
    /// Whether the file is in force since, or was already.
    pub successful: bool,
    /// Reloads that failed since the start.
    pub failures: u64,
    /// Why, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// One value.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SettingView {
    /// `use_cases.otp.ttl`
    pub key: String,
    /// As it would be written in the file.
    pub value: String,
    /// Where it comes from: a line of the file, the environment, the default.
    pub origin: String,
}

/// `POST /v1/messages/{agentId}/{messageId}:explain`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainView {
    /// The message, and everything that happened to it.
    pub message: MessageView,
    /// The policy it follows, in words.
    pub policy: String,
    /// The configuration that brought the policy.
    pub config_hash: Box<str>,
    /// When it did: at a reload, or at the start.
    pub policy_since: Timestamp,
    /// It keeps the rule it was registered under: that configuration's is for new messages only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
    /// It has a deadline of its own, and the policy's rule does not count.
    pub own_deadline: bool,
    /// When its DELETE is due: the deadline less the policy's lead.
    pub release_time: Timestamp,
    /// How much before that it may leave.
    #[serde(with = "wire_duration")]
    pub spread: Duration,
    /// Its agent and region rest: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resting: Option<RestReason>,
    /// For how long yet.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_duration")]
    pub resumes_in: Option<Duration>,
    /// What stands for it in the log: `MESSAGE_HASH=` in the journal.
    #[serde(default)]
    pub message_hash: String,
}

impl From<Explained> for ExplainView {
    fn from(explained: Explained) -> Self {
        Self {
            message: explained.message.into(),
            policy: explained.policy,
            config_hash: explained.config_hash,
            policy_since: explained.since,
            pinned: explained.pinned,
            own_deadline: explained.own,
            release_time: explained.release,
            spread: explained.spread,
            resting: explained.resting.map(|(reason, _)| reason),
            resumes_in: explained.resting.map(|(_, wait)| wait),
            message_hash: explained.message_hash,
        }
    }
}

/// Every error, in the platform's own shape.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErrorView {
    /// The error.
    pub error: ErrorBody,
}

/// What is in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The HTTP status.
    pub code: u16,
    /// The canonical name of it.
    pub status: Cow<'static, str>,
    /// In words, with the way out.
    pub message: String,
    /// The field at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<Cow<'static, str>>,
}

impl From<Refusal> for ErrorBody {
    fn from(refusal: Refusal) -> Self {
        let (code, status) = match refusal.kind {
            RefusalKind::Invalid => (400, "INVALID_ARGUMENT"),
            RefusalKind::Forbidden => (403, "PERMISSION_DENIED"),
            RefusalKind::NotFound => (404, "NOT_FOUND"),
            RefusalKind::Conflict => (409, "FAILED_PRECONDITION"),
            RefusalKind::Unavailable => (503, "UNAVAILABLE"),
        };
        Self { code, status: status.into(), message: refusal.message, field: refusal.field }
    }
}

pub(super) mod optional_duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    use super::wire_duration;

    pub(in crate::intake) fn serialize<S: Serializer>(span: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        span.map(wire_duration::show).serialize(to)
    }

    pub(in crate::intake) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| wire_duration::parse(&text).map_err(de::Error::custom)).transpose()
    }
}
