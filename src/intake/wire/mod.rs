//! What goes over the socket, as types: written by the daemon, read by `revokectl`.
//!
//! camelCase, RFC 3339 in UTC, durations as `"600s"`, cursors as strings (a JavaScript number can't hold them all). A file per
//! group of routes; errors look the same everywhere.

mod message;
mod outcome;
mod status;
mod tuning;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::engine::{Refusal, RefusalKind};
use crate::model::time::wire_duration;

pub use self::message::{BatchLine, CallView, GrantView, ListView, MessageView, NoteView, RegisterRequest};
pub use self::outcome::{AckView, EventView, OutcomeView, OutcomesView};
pub use self::status::{ClockView, FallbackView, RouteView, StatusView, StoreView, TimesView, WebhookView};
pub use self::tuning::{
    ChangeView, ConfigView, ExplainView, ForecastView, LastReloadView, PlannedView, ReloadView, SettingView,
};

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

pub(super) fn raw(text: Option<Box<str>>) -> Option<Box<RawValue>> {
    text.and_then(|text| RawValue::from_string(text.into()).ok())
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
