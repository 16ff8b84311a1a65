//! The one place that reads clocks.
//!
//! There are two times. *Wall* time is what is stored and promised; it can step. *Monotonic* time is what is waited on and
//! what pace is measured in; it never steps, and it stands still while the machine sleeps. Everybody else is handed a
//! [`Now`] that carries both, read in the same breath.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::model::Timestamp;

/// Both clocks at one instant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// What the world agrees on; may step.
    pub wall: Timestamp,
    /// Since some fixed instant of this process; never steps.
    pub mono: Duration,
}

static START: LazyLock<Instant> = LazyLock::new(monotonic);

/// Reads both clocks.
pub fn now() -> Now {
    Now { mono: monotonic().saturating_duration_since(*START), wall: wall() }
}

/// Reads the wall clock.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn wall() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
fn monotonic() -> Instant {
    Instant::now()
}
