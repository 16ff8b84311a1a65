//! A daemon that lives in the world: the engine's drive, its timers, and who waits for its answers.

use std::collections::BTreeMap;
use std::time::Duration;

use super::asked::Asked;
use super::disk::SimulatedStore;
use crate::engine::{Drive, Handle, Teller, WAIT_MAX};

/// One life of it, from a start to a crash or a stop.
pub(super) struct Daemon {
    pub drive: Drive<SimulatedStore>,
    pub handle: Handle,
    pub teller: Teller,
    pub asked: Vec<Asked>,
    /// DELETEs and calls that are out.
    pub out: usize,
    /// It is to stop: in a hurry or not.
    pub stopping: Option<bool>,
    timers: BTreeMap<usize, Duration>,
}

impl Daemon {
    pub(super) fn new(drive: Drive<SimulatedStore>, handle: Handle, teller: Teller) -> Self {
        Self { drive, handle, teller, asked: Vec::new(), out: 0, stopping: None, timers: BTreeMap::new() }
    }

    pub(super) fn arm(&mut self, route: usize, wait: Duration, now: Duration) {
        self.timers.insert(route, now + wait.min(WAIT_MAX));
    }

    /// The machine slept: timers did not go on, whatever the clocks say.
    pub(super) fn slept(&mut self, span: Duration) {
        self.timers.values_mut().for_each(|at| *at += span);
    }

    pub(super) fn disarm(&mut self, route: usize) {
        self.timers.remove(&route);
    }

    /// The timer that rings next.
    pub(super) fn next_timer(&self) -> Option<Duration> {
        if self.stopping.is_some() {
            return None;
        }
        self.timers.values().min().copied()
    }

    /// The route whose timer rings now.
    pub(super) fn rings(&mut self, now: Duration) -> Option<usize> {
        let (route, _) = self.timers.iter().filter(|(_, at)| **at <= now).min_by_key(|(_, at)| **at)?;
        let route = *route;
        self.timers.remove(&route);
        Some(route)
    }
}
