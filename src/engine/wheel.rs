//! The timer wheel: one entry per agent and region, for the instant at which it has to be looked at next.
//!
//! A lane's next due message is always its first, so a timer per message would buy nothing: the wheel holds as many
//! entries as there are routes, and a reload that moves ten million deadlines re-arms a handful.

use std::collections::HashMap;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio_util::time::{DelayQueue, delay_queue};

/// Longest wait that is armed. `DelayQueue` panics at 2^36 ms; and an hour bounds what a missed clock step can cost,
/// since the wall clock is asked again at each wake-up.
pub const WAIT_MAX: Duration = Duration::from_secs(3600);

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Wheel {
    queue: DelayQueue<usize>,
    keys: HashMap<usize, delay_queue::Key>,
}

impl Wheel {
    /// Wakes for `route` after `wait`, and not before: an earlier arming is forgotten.
    pub(super) fn arm(&mut self, route: usize, wait: Duration) {
        let wait = wait.min(WAIT_MAX);
        match self.keys.get(&route) {
            Some(key) => self.queue.reset(key, wait),
            None => {
                self.keys.insert(route, self.queue.insert(route, wait));
            }
        }
    }

    /// Nothing is to be waited for.
    pub(super) fn disarm(&mut self, route: usize) {
        if let Some(key) = self.keys.remove(&route) {
            self.queue.try_remove(&key);
        }
    }

    /// The next route whose time has come. Never ready while nothing is armed: an empty `DelayQueue` would say `None` at
    /// once, again and again. Cancel-safe.
    pub(super) async fn expired(&mut self) -> usize {
        poll_fn(|cx| match self.queue.poll_expired(cx) {
            Poll::Ready(Some(expired)) => {
                let route = expired.into_inner();
                // The key is dead from here on, and may be given to another entry.
                self.keys.remove(&route);
                Poll::Ready(route)
            }
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_route_wakes_once_at_its_latest_arming() {
        let mut wheel = Wheel::default();
        wheel.arm(1, Duration::from_secs(5));
        wheel.arm(2, Duration::from_secs(1));
        wheel.arm(1, Duration::from_secs(3));
        assert_eq!(wheel.expired().await, 2);
        assert_eq!(wheel.expired().await, 1);
        let idle = tokio::time::timeout(Duration::from_secs(10), wheel.expired()).await;
        assert!(idle.is_err(), "an empty wheel never wakes");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_disarmed_does_not_wake_and_no_wait_is_too_long() {
        let mut wheel = Wheel::default();
        wheel.arm(1, Duration::from_secs(1));
        wheel.disarm(1);
        wheel.arm(2, Duration::MAX);
        assert_eq!(wheel.expired().await, 2);
    }
}
