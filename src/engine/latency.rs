//! Whether answers take longer than they used to: the first sign that the platform is being pressed, before it says 429.
//!
//! Compared is a moving average of the answer times with the least it was of late. The least of the *average*, since jitter
//! moves that hardly at all: answer times that scatter are no reason to slow down, answer times that drift up are. One outlier
//! is cut down to a multiple of the average, so that it takes a row of slow answers to move it.
//!
//! The least is forgotten within a minute. If we were the reason for the rise, the lower rate has drained the platform's
//! queue long before that, and the least is seen again; if we were not (another route, a slower day), what was slow has become
//! the new normal, and the rate comes back. So the rate can be low for long only while it helps.

use std::time::Duration;

/// Answers that make an average; each further one moves it by that part.
const ANSWERS: u32 = 16;
/// An answer counts as no slower than this many averages.
const OUTLIER: f64 = 4.0;
/// Answers are slow if the average is more than this many times the least …
const TOLERANCE: f64 = 2.0;
/// … and this more: where answers take a millisecond, twice as long means nothing.
const SLACK: f64 = 0.025;
/// The least is that of this span and the one before it.
const SPAN: Duration = Duration::from_secs(30);

/// See the module's documentation. In seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Latency {
    average: f64,
    /// How many answers are in the average, up to [`ANSWERS`].
    answers: u32,
    /// The first time it was that many. What left before came back in the order of its haste: the quick ones first.
    begun: Duration,
    /// The least of the present span, and of the one before.
    least: [f64; 2],
    since: Duration,
}

impl Latency {
    /// An answer came to what left at `left`. True if answers are slow now.
    pub(super) fn learn(&mut self, left: Duration, now: Duration) -> bool {
        let took = now.saturating_sub(left).as_secs_f64();
        let counts = self.answers < ANSWERS;
        if counts {
            (self.answers, self.begun) = (self.answers + 1, now);
        }
        let begins = counts || left < self.begun;
        // No average is that short that it could not grow.
        let bound = if counts { f64::INFINITY } else { self.average.max(1e-3) * OUTLIER };
        self.average += (took.min(bound) - self.average) / f64::from(self.answers);
        let spans = now.saturating_sub(self.since).as_secs_f64() / SPAN.as_secs_f64();
        if begins || spans >= 2.0 {
            (self.least, self.since) = ([self.average; 2], now);
        } else if spans >= 1.0 {
            (self.least, self.since) = ([self.average, self.least[0]], now);
        }
        self.least[0] = self.least[0].min(self.average);
        self.average > self.least[0].min(self.least[1]) * TOLERANCE + SLACK
    }

    /// The average; nothing before the first answer.
    pub(super) fn smoothed(&self) -> Duration {
        Duration::try_from_secs_f64(self.average).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::pace::{Pace, PaceLimits, Permit};
    use super::*;
    use crate::model::Answer;

    const SECOND: Duration = Duration::from_secs(1);

    /// Requests against answers that take as long as `took(now)` says; the lowest rate there was.
    fn run(pace: &mut Pace, from: Duration, span: Duration, mut took: impl FnMut(Duration) -> Duration) -> f64 {
        let (mut now, mut out, mut n, mut lowest) = (from, BTreeSet::new(), 0_u64, f64::MAX);
        while now < from + span {
            let back: Option<(Duration, u64, Duration)> = out.first().copied();
            let may = match pace.permit(now) {
                Permit::Go => Some(now),
                Permit::At(at) => Some(at),
                Permit::WhenBack => None,
            };
            match (back, may) {
                (Some(next @ (at, _, left)), may) if may.is_none_or(|may| at <= may) => {
                    out.remove(&next);
                    now = at;
                    pace.back(&Answer::Revoked, left, now, 0);
                    lowest = lowest.min(pace.rate(now));
                }
                (_, Some(at)) => {
                    now = at;
                    pace.leaves(now);
                    n += 1;
                    out.insert((now + took(now), n, now));
                }
                (_, None) => unreachable!("something is out or may leave"),
            }
        }
        // Nothing stays behind: the next run begins with nothing out.
        for (at, _, left) in out {
            pace.back(&Answer::Revoked, left, at.min(now), 0);
        }
        lowest
    }

    fn pace(in_flight: usize) -> Pace {
        Pace::new(PaceLimits { in_flight, ..PaceLimits::default() })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn neither_constant_answer_times_nor_jitter_slow_anything_down(
            base_ms in 1_u64..3000,
            scatter in 0.0_f64..2.0,
            seed in any::<u64>(),
        ) {
            let mut random = fastrand::Rng::with_seed(seed);
            let base = Duration::from_millis(base_ms);
            let lowest = run(&mut pace(4096), SECOND, SECOND * 60, |_| base.mul_f64(1.0 + scatter * random.f64()));
            prop_assert!(lowest > 199.0, "{lowest}");
        }

        /// A platform that does `capacity` a second and lets the rest wait.
        #[test]
        fn a_platform_that_is_pressed_too_hard_is_pressed_less_and_never_starved(capacity in 40_u32..150) {
            const IN_FLIGHT: usize = 256;
            let each = SECOND / capacity;
            let (mut pace, mut free, mut wait) = (pace(IN_FLIGHT), Duration::ZERO, Duration::ZERO);
            let base = Duration::from_millis(20);
            run(&mut pace, SECOND, SECOND * 10, |_| base);
            let lowest = run(&mut pace, SECOND * 11, SECOND * 40, |now| {
                free = free.max(now) + each;
                wait = free - now;
                base + wait
            });
            prop_assert!(lowest < f64::from(capacity), "{lowest} of {capacity}");
            prop_assert!(lowest >= 20.0, "{lowest}");
            // Without it as many would wait as may be out.
            prop_assert!(wait < each * IN_FLIGHT as u32 / 2, "{wait:?} at {capacity}");
            run(&mut pace, SECOND * 60, SECOND * 120, |_| base);
            prop_assert!(pace.rate(SECOND * 180) > 199.0);
        }
    }

    #[test]
    fn a_longer_way_becomes_the_new_normal() {
        let mut pace = pace(64);
        run(&mut pace, SECOND, SECOND * 20, |_| Duration::from_millis(20));
        let lowest = run(&mut pace, SECOND * 21, SECOND * 30, |_| Duration::from_millis(300));
        assert!((20.0..100.0).contains(&lowest), "{lowest}");
        run(&mut pace, SECOND * 51, SECOND * 90, |_| Duration::from_millis(300));
        assert!(pace.rate(SECOND * 141) > 199.0, "{}", pace.rate(SECOND * 141));
    }

    #[test]
    fn one_slow_answer_is_no_sign() {
        let (mut pace, mut n) = (pace(4096), 0);
        let lowest = run(&mut pace, SECOND, SECOND * 60, |_| {
            n += 1;
            if n % 400 == 0 { SECOND * 10 } else { Duration::from_millis(30) }
        });
        assert!(lowest > 199.0, "{lowest}");
    }
}
