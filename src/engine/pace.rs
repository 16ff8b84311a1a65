//! How fast requests may leave for one agent and region.
//!
//! Three brakes, all on monotonic time: requests in flight, requests per second (GCRA with a rate that adapts: it goes down on
//! 429 and on [latency](super::latency) that rises), and a rest while the platform asks for one, refuses everything or does
//! not answer. A rest ends with a single probe, so a platform that is down costs one request per backoff and not a storm.
//!
//! A 429 among good answers says that the platform's own limit was just passed. The rate goes down at once, comes
//! back quickly to a little below where the 429 came, and feels its way from there (as CUBIC does, RFC 9438): most of the time
//! is spent close to a limit that nobody tells, and a request refused is rare. There is no rest for it: what is urgent would
//! wait as well.

use std::time::Duration;

use super::latency::Latency;
use crate::model::{Answer, retry};

/// The rate never falls below this many requests per second.
const RATE_MIN: f64 = 1.0;
/// A 429 multiplies the rate by this, at most once per [`DECREASE_EVERY`]: a burst of them is one piece of news.
const DECREASE: f64 = 0.7;
const DECREASE_EVERY: Duration = Duration::from_millis(500);
/// Answers that are slow multiply it by this, more gently and not below this share of the configured rate: a platform that is
/// merely slow is to be pressed less, but it takes everything it gets.
const DECREASE_SLOW: f64 = 0.8;
const SLOW_SHARE_MIN: f64 = 0.1;
/// That is done once per answer time, since what a decrease brings is not felt sooner; but answers that have become very slow
/// are not waited for.
const DECREASE_SLOW_EVERY_MAX: Duration = Duration::from_secs(1);
/// The rate comes back to this share of what it was when the 429 came,
const KNEE: f64 = 0.95;
/// within this time,
const BACK_WITHIN: Duration = Duration::from_secs(1);
/// and then feels its way by this share of the configured rate per second,
const FEEL_PER_SECOND: f64 = 0.005;
/// for so long. If no 429 came, the limit is not there any more,
const FEEL_FOR: Duration = Duration::from_secs(10);
/// and the rate grows by this share per second, as it does after slow answers.
const INCREASE_PER_SECOND: f64 = 0.05;
/// Answers 429 in a row, without a good one between them, before the rest.
const REFUSALS_MAX: u32 = 20;
/// How much of a second may leave at once after idling.
const BURST: Duration = Duration::from_millis(50);
/// Requests in a row that did not reach the platform, or came back without its word, before the rest.
const FAILURES_MAX: u32 = 5;
/// Bounds of the rest that a `Retry-After` can ask for: none at all would make a probe of each round trip.
const REST_MIN: Duration = Duration::from_millis(100);
const REST_MAX: Duration = Duration::from_secs(3600);
const REFUSED_BASE: Duration = Duration::from_secs(5);

/// What the configuration allows.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PaceLimits {
    /// Requests in flight per agent and region.
    pub in_flight: usize,
    /// Requests per second per agent and region.
    pub per_second: u32,
    /// Requests in flight altogether.
    pub in_flight_total: usize,
}

impl Default for PaceLimits {
    fn default() -> Self {
        Self { in_flight: 64, per_second: 200, in_flight_total: 512 }
    }
}

/// Why a route rests.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RestReason {
    /// The platform answered 429.
    TooManyRequests,
    /// It answered 401 to a fresh token, or the key was refused.
    Unauthorized,
    /// It answered 403.
    Forbidden,
    /// It can't be reached, or its answers do not come back.
    Unreachable,
}

impl RestReason {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::TooManyRequests, Self::Unauthorized, Self::Forbidden, Self::Unreachable];
}

/// Whether a request may leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Permit {
    /// Now.
    Go,
    /// Not before this instant of the monotonic clock.
    At(Duration),
    /// When one that is out is back.
    WhenBack,
}

/// What an answer changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    None,
    /// A rest began, or the reason for it is another one.
    Rests(RestReason, Duration),
    /// The first answer after a rest.
    Resumes(RestReason),
}

/// The pace of one agent and region.
#[derive(Debug)]
pub(super) struct Pace {
    limits: PaceLimits,
    /// As it was at `rate_since`; it grows from there.
    rate: f64,
    rate_since: Duration,
    decreased_at: Option<Duration>,
    /// The rate at which a 429 came, if it was a 429 that lowered it last.
    ceiling: Option<f64>,
    /// Answers 429 in a row.
    refusals: u32,
    latency: Latency,
    /// Answers are slow: nothing of the rate is given back.
    slow: bool,
    /// GCRA's theoretical arrival time: when the next request would leave if they left evenly.
    next: Duration,
    in_flight: usize,
    rest: Option<Rest>,
    /// Failures in a row of the kind that says nothing about a message.
    failures: u32,
}

#[derive(Clone, Copy, Debug)]
struct Rest {
    until: Duration,
    /// When the first of this row of rests began.
    since: Duration,
    reason: RestReason,
    /// How many rests in a row had no good answer between them.
    round: u32,
}

impl Pace {
    pub(super) fn new(limits: PaceLimits) -> Self {
        Self {
            limits,
            rate: f64::from(limits.per_second),
            rate_since: Duration::ZERO,
            decreased_at: None,
            ceiling: None,
            refusals: 0,
            latency: Latency::default(),
            slow: false,
            next: Duration::ZERO,
            in_flight: 0,
            rest: None,
            failures: 0,
        }
    }

    /// New limits, from a reload.
    pub(super) fn set_limits(&mut self, limits: PaceLimits) {
        self.limits = limits;
        self.rate = self.rate.min(f64::from(limits.per_second));
    }

    /// May a request leave at `now`?
    pub(super) fn permit(&self, now: Duration) -> Permit {
        if let Some(rest) = self.rest {
            return match () {
                () if now < rest.until => Permit::At(rest.until),
                // The probe: one, until it is back.
                () if self.in_flight > 0 => Permit::WhenBack,
                // Rests may be asked for that are shorter than the time from one request to the next.
                () => self.by_rate(now),
            };
        }
        if self.in_flight >= self.limits.in_flight { Permit::WhenBack } else { self.by_rate(now) }
    }

    fn by_rate(&self, now: Duration) -> Permit {
        if self.next > now + BURST { Permit::At(self.next - BURST) } else { Permit::Go }
    }

    /// A request leaves.
    pub(super) fn leaves(&mut self, now: Duration) {
        self.in_flight += 1;
        self.next = self.next.max(now) + Duration::from_secs_f64(1.0 / self.rate(now));
    }

    /// A request that left at `left` is back.
    pub(super) fn back(&mut self, answer: &Answer, left: Duration, now: Duration, random: u64) -> Change {
        self.in_flight = self.in_flight.saturating_sub(1);
        match answer {
            Answer::TooManyRequests(asked_for) => {
                self.refusals += 1;
                let rate = self.rate(now);
                // What a probe is told says nothing about a rate.
                if self.rest.is_none() && self.decrease(DECREASE, DECREASE_EVERY, RATE_MIN, now) {
                    self.ceiling = Some(rate);
                }
                if asked_for.is_none() && self.refusals < REFUSALS_MAX && self.rest.is_none() {
                    return Change::None;
                }
                self.rests(RestReason::TooManyRequests, *asked_for, now, random)
            }
            Answer::Unauthorized(_) => self.rests(RestReason::Unauthorized, None, now, random),
            Answer::Forbidden(_) => self.rests(RestReason::Forbidden, None, now, random),
            Answer::Lost(_) | Answer::NotSent(_) => {
                self.failures += 1;
                if self.failures < FAILURES_MAX && self.rest.is_none() {
                    return Change::None;
                }
                self.rests(RestReason::Unreachable, None, now, random)
            }
            Answer::Revoked | Answer::NotFound | Answer::Rejected(_) | Answer::Shadow => {
                (self.failures, self.refusals) = (0, 0);
                let slow = self.latency.learn(left, now);
                if slow != self.slow {
                    (self.rate, self.rate_since, self.slow) = (self.rate(now), now, slow);
                }
                if slow {
                    let every = self.latency.smoothed().clamp(DECREASE_EVERY, DECREASE_SLOW_EVERY_MAX);
                    let least = f64::from(self.limits.per_second) * SLOW_SHARE_MIN;
                    if self.decrease(DECREASE_SLOW, every, least, now) {
                        self.ceiling = None;
                    }
                }
                match self.rest {
                    // Those that were already out when the rest began say nothing about its end.
                    Some(rest) if now >= rest.until => {
                        self.rest = None;
                        Change::Resumes(rest.reason)
                    }
                    _ => Change::None,
                }
            }
        }
    }

    /// Lowers the rate to a share of itself, unless it was lowered just now; never below `least`, and never raises it.
    fn decrease(&mut self, share: f64, every: Duration, least: f64, now: Duration) -> bool {
        if self.decreased_at.is_some_and(|at| now < at + every) {
            return false;
        }
        let rate = self.rate(now);
        (self.rate, self.rate_since) = ((rate * share).max(least.max(RATE_MIN)).min(rate), now);
        self.decreased_at = Some(now);
        true
    }

    fn rests(&mut self, reason: RestReason, asked_for: Option<Duration>, now: Duration, random: u64) -> Change {
        let previous = self.rest;
        // Answers to what was already out when the rest began are the same news.
        if let Some(rest) = previous
            && now < rest.until
        {
            let until = asked_for.map_or(rest.until, |wait| (now + wait.min(REST_MAX)).max(rest.until));
            self.rest = Some(Rest { until, ..rest });
            return Change::None;
        }
        let round = previous.map_or(0, |rest| rest.round) + 1;
        let since = previous.map_or(now, |rest| rest.since);
        let wait = match (asked_for, reason) {
            (Some(wait), _) => wait.clamp(REST_MIN, REST_MAX),
            (None, RestReason::Unauthorized | RestReason::Forbidden) => {
                REFUSED_BASE.max(retry::backoff(round, random)) * round.min(12)
            }
            (None, _) => retry::backoff(round, random),
        };
        self.rest = Some(Rest { until: now + wait, since, reason, round });
        match previous {
            Some(rest) if rest.reason == reason => Change::None,
            _ => Change::Rests(reason, wait),
        }
    }

    /// Why it rests and for how long yet.
    pub(super) fn resting(&self, now: Duration) -> Option<(RestReason, Duration)> {
        self.rest.map(|rest| (rest.reason, rest.until.saturating_sub(now)))
    }

    /// For how long there has been nothing but rests and probes; `None` if it does not rest.
    pub(super) fn rested(&self, now: Duration) -> Option<Duration> {
        self.rest.map(|rest| now.saturating_sub(rest.since))
    }

    /// Requests per second that may leave now.
    pub(super) fn rate(&self, now: Duration) -> f64 {
        let most = f64::from(self.limits.per_second);
        if self.slow {
            return self.rate.min(most);
        }
        let since = now.saturating_sub(self.rate_since);
        let grown = match self.ceiling {
            Some(ceiling) => {
                let knee = (ceiling * KNEE).max(self.rate);
                let back = since.min(BACK_WITHIN).div_duration_f64(BACK_WITHIN) * (knee - self.rate);
                let felt = since.saturating_sub(BACK_WITHIN).min(FEEL_FOR).as_secs_f64() * FEEL_PER_SECOND * most;
                let free = since.saturating_sub(BACK_WITHIN + FEEL_FOR).as_secs_f64() * INCREASE_PER_SECOND * most;
                back + felt + free
            }
            None => since.as_secs_f64() * INCREASE_PER_SECOND * most,
        };
        (self.rate + grown).min(most)
    }

    /// Requests per second that can be done: what may leave, and what comes back in time to make room for it.
    pub(super) fn throughput(&self, now: Duration) -> f64 {
        let room = self.limits.in_flight as f64 / self.latency.smoothed().as_secs_f64().max(1e-3);
        self.rate(now).min(room)
    }

    /// How many may leave within `span` at most.
    pub(super) fn reach(&self, now: Duration, span: Duration) -> usize {
        ((span + BURST).as_secs_f64() * self.rate(now + span)).ceil() as usize + 1
    }

    /// Requests that are out.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }
}

#[cfg(test)]
mod tests;
