//! When to try again: exponential backoff with full jitter, as a pure function.

use std::time::Duration;

const BASE: Duration = Duration::from_millis(500);
/// No wait is longer.
pub const CEILING: Duration = Duration::from_secs(60);
/// Even the luckiest draw waits this long, so that a row of instant failures can't become a busy loop.
const FLOOR: Duration = Duration::from_millis(100);

/// The wait before the next attempt after `failures` in a row, `random` being uniform over all of `u64`.
///
/// Full jitter (uniform between nothing and the exponential bound) spreads a crowd that failed together better than any
/// fixed share does (<https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>).
pub fn backoff(failures: u32, random: u64) -> Duration {
    let bound = BASE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(CEILING);
    let draw = (u128::from(random) * bound.as_nanos()) >> 64;
    Duration::from_nanos(u64::try_from(draw).unwrap_or(u64::MAX)).max(FLOOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_grows_to_its_ceiling_and_never_falls_below_its_floor() {
        assert_eq!(backoff(1, 0), FLOOR);
        assert!(backoff(1, u64::MAX) <= BASE);
        assert!(backoff(2, u64::MAX) > BASE);
        assert!(backoff(u32::MAX, u64::MAX) <= CEILING);
        assert!(backoff(20, u64::MAX) > CEILING - Duration::from_millis(1));
    }
}
