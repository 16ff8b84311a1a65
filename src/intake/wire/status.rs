//! How the daemon is doing.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::optional_duration;
use crate::config::Mode;
use crate::engine::{CallsStatus, Disbelief, RestReason, StateKind};
use crate::intake::holds::HoldView;
use crate::model::{AgentId, Outcome, Region, Timestamp, UseCase, time::wire_duration};
use crate::spans::Measured;
use crate::store::Figures;

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
    pub(in crate::intake) fn of(measured: &Measured) -> Option<Self> {
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
