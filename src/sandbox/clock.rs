//! The one place in the room that reads a clock.
//!
//! Everything else takes `now` as an argument, so that the sandbox's world can be driven through hours in a test
//! that takes microseconds. Waiting is done with tokio's timers; what is waited *for* is always computed here.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// The wall clock: what the books, the events and the assertions of the clients are held against.
#[expect(clippy::disallowed_methods, reason = "the room's only reading of the wall clock")]
pub(super) fn now() -> DateTime<Utc> {
    Utc::now()
}

/// How long to wait from `now` until `due`: nothing, if that is past.
pub(super) fn until(due: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    (due - now).to_std().unwrap_or_default()
}
