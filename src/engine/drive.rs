//! The core behind its doors, without a clock, a timer or a task of its own.
//!
//! [`Engine`](super::Engine) drives it in the daemon, and the simulation does in virtual time. Whoever
//! drives says what time it is and which timer rang, and runs the errands that come out of each [round](Drive::round); what
//! comes of those comes back through the [`Teller`](super::Teller). In which order things are taken in is decided here, so
//! that both see the same.

use tokio::sync::mpsc;

use super::core::{Core, Effect, Input, Scale};
use super::retune::Tuning;
use super::{Doors, News, handle};
use crate::clock::Now;
use crate::model::{Queue, Timestamp};
use crate::store::{Reckoning, Snapshot, Store};

/// Inputs taken in before the core is asked what follows from them.
const INPUTS_MAX: usize = 256;

/// See the module's documentation.
pub struct Drive<S> {
    core: Core<S>,
    pub(super) commands: mpsc::Receiver<handle::Command>,
    pub(super) news: mpsc::UnboundedReceiver<News>,
}

/// What is kept in memory, where it grows with what happens: for whoever has to see that it stays within bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Footprint {
    /// Places in the fullest window on a queue.
    pub window: usize,
    /// Attempts that are out.
    pub flights: usize,
    /// Evidence that waits for its message.
    pub early: usize,
    /// Answers that wait for the disk.
    pub waiting: usize,
}

impl<S: Store> Drive<S> {
    /// Takes over a store that was just opened.
    ///
    /// # Errors
    /// The name of a use case that has messages in the store and no policy.
    pub fn new(
        doors: Doors,
        store: S,
        snapshot: &Snapshot,
        tuning: Tuning,
        scale: Scale,
        random: fastrand::Rng,
        now: Timestamp,
    ) -> Result<Self, String> {
        let core = Core::new(store, snapshot, tuning, scale, random, now)?;
        Ok(Self { core, commands: doors.commands, news: doors.news })
    }

    /// Takes up the time where the last life left it; `boot` says which start of the host the monotonic clock counts from. Comes
    /// before the first round.
    pub fn take_up_time(&mut self, boot: u64, reckoning: Option<Reckoning>, now: Now) {
        self.core.take_up_time(boot, reckoning, now);
    }

    pub(super) fn apply(&mut self, input: Input, now: Now) {
        self.core.apply(input, now);
    }

    /// The timer of a route rang.
    pub fn wake(&mut self, route: usize, now: Now) {
        self.core.apply(Input::Wake(route), now);
    }

    /// Takes in what waits, and says what is to be done outside. What is taken in may have come since the round began: an
    /// answer must not be dated before it was given, or its settle window would end too soon.
    pub fn round(&mut self, clock: impl Fn() -> Now) -> Vec<Effect> {
        for _ in 1..INPUTS_MAX {
            let Some(input) = self.waiting() else { break };
            self.core.apply(input, clock());
        }
        self.core.finish(clock());
        std::mem::take(&mut self.core.effects)
    }

    fn waiting(&mut self) -> Option<Input> {
        match self.news.try_recv() {
            Ok(news) => Some(news.into()),
            Err(_) => self.commands.try_recv().ok().map(Input::Command),
        }
    }

    /// The end has come: nobody asks any more, and nothing new leaves. What is still out comes back by [`Drive::come_back`].
    pub fn stop(&mut self) {
        self.commands.close();
    }

    /// Takes in what came back since the stop.
    pub fn come_back(&mut self, now: Now) {
        while let Ok(news) = self.news.try_recv() {
            self.core.apply(news.into(), now);
        }
    }

    /// Somebody still waits for what is not on disk yet.
    pub fn has_waiting(&self) -> bool {
        self.core.has_waiting()
    }

    /// Hands the store back after a stop.
    pub fn close(self) -> S {
        self.core.close()
    }

    /// How much is kept in memory.
    pub fn footprint(&self) -> Footprint {
        let lines = self.core.lanes.iter().flat_map(|(_, lane)| Queue::ALL.map(|queue| lane.line(queue)));
        Footprint {
            window: lines.map(|line| line.places().count()).max().unwrap_or(0),
            flights: self.core.flights.len(),
            early: self.core.early.len(),
            waiting: self.core.waiting.len(),
        }
    }
}
