//! The one place that reads clocks.
//!
//! There are two times. *Wall* time is what is stored and promised; it can step. *Monotonic* time is what is waited on and
//! what pace is measured in; it never steps, and it goes on while the host sleeps. Everybody else is handed a
//! [`Now`] that carries both, read in the same breath.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::model::Timestamp;

/// Both clocks at one instant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// What the world agrees on; may step.
    pub wall: Timestamp,
    /// Since the host was started; never steps.
    pub mono: Duration,
}

/// Reads both clocks.
pub fn now() -> Now {
    Now { mono: mono(), wall: wall() }
}

/// Reads the monotonic clock: for whoever measures how long something takes, and need not know what time it is.
pub fn mono() -> Duration {
    let since_start = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(since_start.tv_sec).unwrap_or_default();
    let nanoseconds = u32::try_from(since_start.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanoseconds)
}

/// Which start of the host [`Now::mono`] counts from; 0 if nobody says. The unit says it, since it hides the file.
pub fn boot() -> u64 {
    let told = std::env::var("REVOKED_BOOT_ID").ok();
    let id = told.or_else(|| fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()).unwrap_or_default();
    let digits: String = id.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    u64::from_str_radix(&digits, 16).unwrap_or_default()
}

/// Reads the wall clock.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn wall() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}
