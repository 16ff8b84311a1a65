//! The owner: everything that happens to messages happens here, one thing after the other.
//!
//! The program is `loop { select().await; apply(input, now) }`. [`select`](Engine::select) is the only async part and only
//! waits; [`core::Core::apply`] is synchronous and only decides, so there are no locks, and a test drives the core with a
//! stream of inputs. What is between the two is [`Drive`], which a simulation turns as well. The price: whatever takes several steps is written out as states, and nothing here may block for long.
//! The engine therefore lives on a thread of its own: reads of the store may take a millisecond when its cache is cold, and
//! must not hold up the servers.
//!
//! This room knows the store and the platform by their contracts, and hooks as something to call; it must not know sled, reqwest or HTTP.

mod asked;
mod batch;
mod books;
mod calls;
#[cfg(test)]
mod calls_tests;
mod chores;
mod commands;
mod core;
mod counters;
mod disk;
mod dispatch;
mod drive;
mod early;
mod evidence;
mod export;
#[cfg(test)]
mod export_tests;
mod handle;
mod hold;
#[cfg(test)]
mod hold_tests;
mod import;
mod lanes;
mod latency;
mod load;
#[cfg(test)]
mod load_tests;
mod pace;
mod query;
mod recall;
#[cfg(test)]
mod recall_tests;
mod register;
mod replies;
mod retune;
#[cfg(test)]
mod retune_tests;
mod subscriptions;
#[cfg(test)]
mod subscriptions_tests;
mod tally;
#[cfg(test)]
mod tests;
mod time;
#[cfg(test)]
mod time_tests;
mod told;
#[cfg(test)]
mod trouble_tests;
mod wheel;

use std::sync::Arc;

use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::core::Input;
use self::wheel::Wheel;
use crate::clock;
use crate::fallback::Hooks;
use crate::model::{Answer, Called};
use crate::platform::Platform;
use crate::store::{Cursor, Snapshot, Store, StoreError, Ticket};

pub use self::asked::{Draft, Evidence, EvidenceKind, Filter, OnConflict, Own, Said, StateKind, Verb};
pub use self::books::{Books, UseCaseBooks};
pub use self::core::{Effect, Scale, Settings};
pub use self::counters::Counters;
pub use self::drive::{Drive, Footprint};
pub use self::export::{ExportHead, ExportItem, ExportLease, ExportSlice, LogSpan, export_store};
pub use self::handle::Handle;
pub use self::hold::{HoldStatus, Which};
pub use self::import::Imported;
pub use self::pace::{PaceLimits, RestReason};
pub use self::recall::Survey;
pub use self::replies::{
    CallsStatus, Described, EvidenceEffect, Explained, Forecast, Load, Outcomes, Page, Plan, PlannedUseCase, Refusal,
    RefusalKind, Registered, RouteStatus, Status,
};
pub use self::retune::Tuning;
pub use self::time::Disbelief;
pub use self::wheel::WAIT_MAX;

/// Requests that may wait for the engine; beyond that, whoever asks waits to ask.
const COMMANDS_MAX: usize = 1024;

/// What the world tells the engine besides requests: answers of attempts and the store's progress.
#[derive(Debug)]
enum News {
    Answered(u64, Answer),
    Called(u64, Called),
    Durable(Result<Ticket, StoreError>),
    ClockStepped,
}

/// Tells the engine from other threads. Cheap to clone, never blocks.
#[derive(Clone, Debug)]
pub struct Teller(mpsc::UnboundedSender<News>);

impl Teller {
    /// The store's news: what is on disk, or why not.
    pub fn durable(&self, progress: Result<Ticket, StoreError>) {
        // Who is gone need not be told.
        let _ = self.0.send(News::Durable(progress));
    }

    /// An attempt is back.
    pub fn answered(&self, seq: u64, answer: Answer) {
        let _ = self.0.send(News::Answered(seq, answer));
    }

    /// A call of a hook is back.
    pub fn called(&self, seq: u64, called: Called) {
        let _ = self.0.send(News::Called(seq, called));
    }

    /// The wall clock stepped.
    pub fn clock_stepped(&self) {
        let _ = self.0.send(News::ClockStepped);
    }
}

/// The channels of an engine that does not run yet. The store's callback and the servers need them before there is one.
#[derive(Debug)]
pub struct Doors {
    commands: mpsc::Receiver<handle::Command>,
    news: mpsc::UnboundedReceiver<News>,
    outcomes: watch::Sender<Cursor>,
    handle: Handle,
    teller: Teller,
}

impl Default for Doors {
    fn default() -> Self {
        let (ask, commands) = mpsc::channel(COMMANDS_MAX);
        // Unbounded, and bounded all the same: by the attempts that may be out and the batches that may be unwritten.
        let (tell, news) = mpsc::unbounded_channel();
        let (outcomes, last) = watch::channel(0);
        Self { commands, news, outcomes, handle: Handle::new(ask, last), teller: Teller(tell) }
    }
}

impl Doors {
    /// For those who ask.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// For those who tell.
    pub fn teller(&self) -> Teller {
        self.teller.clone()
    }
}

/// The shell around the core: waits, sends, and knows what time it is.
pub struct Engine<S, P: ?Sized> {
    drive: Drive<S>,
    wheel: Wheel,
    platform: Arc<P>,
    hooks: Hooks,
    teller: Teller,
    outcomes: watch::Sender<Cursor>,
    attempts: TaskTracker,
    runtime: runtime::Handle,
}

impl<S: Store, P: Platform + ?Sized> Engine<S, P> {
    /// An engine over a store that was just opened. Attempts and calls run on the current runtime.
    ///
    /// # Errors
    /// The name of a use case that has messages in the store and no policy.
    pub fn new(
        doors: Doors,
        store: S,
        snapshot: &Snapshot,
        platform: Arc<P>,
        hooks: Hooks,
        tuning: Tuning,
    ) -> Result<Self, String> {
        let (teller, outcomes) = (doors.teller(), doors.outcomes.clone());
        let (random, now) = (fastrand::Rng::new(), clock::now());
        let mut drive = Drive::new(doors, store, snapshot, tuning, Scale::default(), random, now.wall)?;
        drive.take_up_time(clock::boot(), snapshot.reckoning.clone(), now);
        outcomes.send_replace(snapshot.last_cursor);
        Ok(Self {
            drive,
            wheel: Wheel::default(),
            platform,
            hooks,
            teller,
            outcomes,
            attempts: TaskTracker::new(),
            runtime: runtime::Handle::current(),
        })
    }

    /// Runs until `drain` is cancelled; then lets attempts come back until `leave` is, and hands the store back.
    pub async fn run(mut self, drain: CancellationToken, leave: CancellationToken) -> S {
        let errands = self.drive.round(clock::now);
        self.run_errands(errands);
        while let Some(input) = self.select(&drain).await {
            self.drive.apply(input, clock::now());
            let errands = self.drive.round(clock::now);
            self.run_errands(errands);
        }
        self.drive.stop();
        self.come_back(&leave).await;
        self.drive.close()
    }

    /// Waits for the next input; `None` when it is time to stop. Nothing is lost if the wait is given up.
    async fn select(&mut self, drain: &CancellationToken) -> Option<Input> {
        tokio::select! {
            // In this order: what is due is looked at, and what is on disk is answered, before more is taken on. Each round
            // goes on with news and requests (see `Drive::round`), so timers can't starve those; the other way round, news that
            // never end would starve timers.
            biased;
            () = drain.cancelled() => None,
            route = self.wheel.expired() => Some(Input::Wake(route)),
            Some(news) = self.drive.news.recv() => Some(news.into()),
            Some(command) = self.drive.commands.recv() => Some(Input::Command(command)),
        }
    }

    fn run_errands(&mut self, errands: Vec<Effect>) {
        for effect in errands {
            match effect {
                Effect::Arm(route, wait) => self.wheel.arm(route, wait),
                Effect::Disarm(route) => self.wheel.disarm(route),
                Effect::Outcomes(cursor) => drop(self.outcomes.send_replace(cursor)),
                Effect::Launch(seq, order) => {
                    let (platform, teller) = (Arc::clone(&self.platform), self.teller.clone());
                    let attempt = async move { teller.answered(seq, platform.revoke(order).await) };
                    drop(self.attempts.spawn_on(attempt, &self.runtime));
                }
                Effect::Call(seq, granted) => {
                    let (hooks, teller) = (self.hooks.clone(), self.teller.clone());
                    let call = async move { teller.called(seq, hooks.call(*granted).await) };
                    drop(self.attempts.spawn_on(call, &self.runtime));
                }
            }
        }
    }

    /// The last act: nothing new leaves, what is out comes back, and whoever waits for the disk is answered.
    async fn come_back(&mut self, leave: &CancellationToken) {
        self.attempts.close();
        let attempts = self.attempts.clone();
        let mut all_back = false;
        while !all_back || self.drive.has_waiting() {
            tokio::select! {
                biased;
                () = leave.cancelled() => break,
                Some(news) = self.drive.news.recv() => self.drive.apply(news.into(), clock::now()),
                () = attempts.wait(), if !all_back => all_back = true,
            }
        }
        // An attempt tells its answer before it counts as back, so none is left behind here.
        self.drive.come_back(clock::now());
    }
}

impl From<News> for Input {
    fn from(news: News) -> Self {
        match news {
            News::Answered(seq, answer) => Self::Answered(seq, answer),
            News::Called(seq, called) => Self::Called(seq, called),
            News::Durable(progress) => Self::Durable(progress),
            News::ClockStepped => Self::ClockStepped,
        }
    }
}
