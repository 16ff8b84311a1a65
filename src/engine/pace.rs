//! How fast requests may leave for one agent and region.
//!
//! Three brakes, all on monotonic time: requests in flight, requests per second (GCRA with a rate that adapts: additive
//! increase, multiplicative decrease on 429), and a rest while the platform asks for one or does not answer. A rest ends with
//! a single probe, so a platform that is down costs one request per backoff and not a storm.

use std::time::Duration;

use crate::model::{Answer, retry};

/// The rate never falls below this many requests per second.
const RATE_MIN: f64 = 1.0;
/// A 429 multiplies the rate by this, at most once per [`DECREASE_EVERY`]: a burst of them is one piece of news.
const DECREASE: f64 = 0.7;
const DECREASE_EVERY: Duration = Duration::from_millis(500);
/// The share of the configured rate that a second without a 429 gives back.
const INCREASE_PER_SECOND: f64 = 0.05;
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
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
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
    rate: f64,
    rate_since: Duration,
    decreased_at: Option<Duration>,
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
                () => Permit::Go,
            };
        }
        if self.in_flight >= self.limits.in_flight {
            return Permit::WhenBack;
        }
        if self.next > now + BURST { Permit::At(self.next - BURST) } else { Permit::Go }
    }

    /// A request leaves.
    pub(super) fn leaves(&mut self, now: Duration) {
        self.in_flight += 1;
        let rate = self.rate_at(now);
        (self.rate, self.rate_since) = (rate, now);
        self.next = self.next.max(now) + Duration::from_secs_f64(1.0 / rate);
    }

    /// A request is back.
    pub(super) fn back(&mut self, answer: &Answer, now: Duration, random: u64) -> Change {
        self.in_flight = self.in_flight.saturating_sub(1);
        match answer {
            Answer::TooManyRequests(asked_for) => {
                if self.decreased_at.is_none_or(|at| now >= at + DECREASE_EVERY) {
                    (self.rate, self.rate_since) = ((self.rate_at(now) * DECREASE).max(RATE_MIN), now);
                    self.decreased_at = Some(now);
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
                self.failures = 0;
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

    fn rate_at(&self, now: Duration) -> f64 {
        let most = f64::from(self.limits.per_second);
        let gained = now.saturating_sub(self.rate_since).as_secs_f64() * INCREASE_PER_SECOND * most;
        (self.rate + gained).min(most)
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
        self.rate_at(now)
    }

    /// Requests that are out.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(per_second: u32) -> Pace {
        Pace::new(PaceLimits { per_second, ..PaceLimits::default() })
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// How many requests leave and are answered within a second from `start`.
    fn leave_in_a_second(pace: &mut Pace, start: Duration) -> u32 {
        let mut left = 0;
        let mut now = start;
        loop {
            match pace.permit(now) {
                Permit::Go => {
                    pace.leaves(now);
                    pace.back(&Answer::Revoked, now, 0);
                    left += 1;
                }
                Permit::At(at) => now = at,
                Permit::WhenBack => unreachable!("everything is answered at once"),
            }
            if now >= start + SECOND {
                return left;
            }
        }
    }

    #[test]
    fn no_more_leave_than_the_configured_rate_and_a_small_burst() {
        let left = leave_in_a_second(&mut pace(200), SECOND);
        assert!((200..=212).contains(&left), "{left}");
    }

    #[test]
    fn a_429_slows_down_and_quiet_seconds_give_it_back() {
        let mut pace = pace(200);
        pace.leaves(SECOND);
        let change = pace.back(&Answer::TooManyRequests(Some(SECOND * 2)), SECOND, 0);
        assert_eq!(change, Change::Rests(RestReason::TooManyRequests, SECOND * 2));
        assert_eq!(pace.permit(SECOND), Permit::At(SECOND * 3));
        pace.leaves(SECOND * 3);
        assert_eq!(pace.permit(SECOND * 3), Permit::WhenBack, "one probe and no more");
        assert_eq!(pace.back(&Answer::Revoked, SECOND * 3, 0), Change::Resumes(RestReason::TooManyRequests));
        assert!(pace.rate(SECOND * 3) < 170.0);
        assert!(pace.rate(SECOND * 60) > 199.0);
    }

    #[test]
    fn a_platform_that_is_down_costs_one_probe_per_growing_rest() {
        let mut pace = pace(200);
        let mut now = SECOND;
        let mut sent = 0;
        let mut said = 0;
        while now < SECOND * 600 {
            match pace.permit(now) {
                Permit::Go => {
                    pace.leaves(now);
                    sent += 1;
                    said += u32::from(pace.back(&Answer::NotSent("down".into()), now, u64::MAX) != Change::None);
                }
                Permit::At(at) => now = at,
                Permit::WhenBack => unreachable!("everything is answered at once"),
            }
        }
        assert!(sent < 25, "{sent} requests in ten minutes");
        assert_eq!(said, 1, "one change of state, one line");
    }

    #[test]
    fn answers_of_requests_from_before_the_rest_do_not_end_it() {
        let mut pace = pace(200);
        pace.leaves(SECOND);
        pace.leaves(SECOND);
        pace.back(&Answer::TooManyRequests(Some(SECOND)), SECOND, 0);
        assert_eq!(pace.back(&Answer::Revoked, SECOND, 0), Change::None);
        assert_eq!(pace.permit(SECOND), Permit::At(SECOND * 2));
    }

    #[test]
    fn an_answer_that_got_lost_does_not_shorten_the_rest_that_was_asked_for() {
        let mut pace = pace(200);
        pace.leaves(SECOND);
        pace.leaves(SECOND);
        pace.back(&Answer::TooManyRequests(Some(SECOND * 30)), SECOND, 0);
        assert_eq!(pace.back(&Answer::Lost("reset".into()), SECOND * 2, 0), Change::None, "the same news");
        assert_eq!(pace.permit(SECOND * 3), Permit::At(SECOND * 31));
    }

    #[test]
    fn a_429_that_asks_for_no_rest_is_no_invitation_to_a_storm() {
        let mut pace = pace(200);
        let mut now = SECOND;
        let mut sent = 0;
        while now < SECOND * 2 {
            match pace.permit(now) {
                Permit::Go => {
                    pace.leaves(now);
                    sent += 1;
                    assert!(sent < 20, "a storm");
                    pace.back(&Answer::TooManyRequests(Some(Duration::ZERO)), now, 0);
                }
                Permit::At(at) => now = at,
                Permit::WhenBack => unreachable!("everything is answered at once"),
            }
        }
    }
}
