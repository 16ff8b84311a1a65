//! The rate limit: so many requests per second and agent, and 429 beyond.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};

/// The paces of all agents, each a token bucket kept as one number: the time at which it would be full again (GCRA).
#[derive(Debug)]
pub(super) struct Paces {
    /// Time one request takes out of the bucket; `None` for no limit.
    interval: Option<TimeDelta>,
    /// How far ahead of its pace an agent may run: a tenth of a second's requests, at least one.
    burst: TimeDelta,
    full_at: HashMap<String, DateTime<Utc>>,
}

impl Paces {
    pub(super) fn new(rate: Option<u32>) -> Self {
        let interval = rate.map(|rate| TimeDelta::nanoseconds(1_000_000_000 / i64::from(rate.max(1))));
        let burst =
            interval.unwrap_or_default() * (rate.unwrap_or_default() / 10).max(1).try_into().unwrap_or(i32::MAX);
        Paces { interval, burst, full_at: HashMap::new() }
    }

    /// Whether one more request of the agent is within its pace.
    pub(super) fn admits(&mut self, agent: &str, now: DateTime<Utc>) -> bool {
        let Some(interval) = self.interval else { return true };
        let full_at = match self.full_at.get_mut(agent) {
            Some(full_at) => full_at,
            None => self.full_at.entry(agent.to_owned()).or_insert(now),
        };
        let after = now.max(*full_at) + interval;
        let admitted = after - now <= self.burst;
        if admitted {
            *full_at = after;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_gets_its_rate_and_a_small_burst_and_not_more() {
        let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let mut paces = Paces::new(Some(100));
        let admitted = |paces: &mut Paces, agent, from: i64, to: i64| {
            (from..to).filter(|ms| paces.admits(agent, start + TimeDelta::milliseconds(*ms))).count()
        };
        let first_second = admitted(&mut paces, "shop", 0, 1000);
        assert!((100..=110).contains(&first_second), "{first_second}");
        assert_eq!(admitted(&mut paces, "shop", 1000, 2000), 100);
        assert!(admitted(&mut paces, "bank", 1999, 2000) == 1, "another agent has a pace of its own");
    }

    #[test]
    fn no_rate_is_no_limit() {
        let mut paces = Paces::new(None);
        assert!((0..10_000).all(|_| paces.admits("shop", DateTime::UNIX_EPOCH)));
    }
}
