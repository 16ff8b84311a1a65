//! What a configuration does, and why a message has the deadline it has.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{MessageView, optional_duration};
use crate::engine::{Explained, Forecast, PlannedUseCase, RestReason};
use crate::model::{Timestamp, UseCase, time::wire_duration};

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
