//! The daemon's decisions under virtual time, in a world where everything goes wrong: one seed, one run, the same each time.
//!
//! What is simulated is the engine as it is ([`Drive`](crate::engine::Drive)) over a store that can fail, between agents, a
//! platform with handsets, and hooks. All of it lives in one thread and in virtual time, so that months of trouble pass in
//! seconds. Whatever is to happen is drawn from the seed beforehand (`plan`), and what chance does to a message from the
//! message's name. After each event the [oracle] compares what the daemon did with what it promised, from
//! its own plain books; and a failure is shrunk to the few acts that it takes (`shrink`).
//!
//! The parts: `plan` and `tunings` say what happens, `world` lets it happen, `shell` does for the daemon what its own loop
//! does, `network` is the other side, `disk` the store, `asked` the requests, `sweep` many seeds. This room knows the engine by
//! its doors and the store by its contract. It must not know clocks, files, HTTP, or how the engine decides: the oracle may
//! not ask who is to be examined.

mod asked;
mod daemon;
mod disk;
mod network;
mod oracle;
mod plan;
mod shell;
mod shrink;
mod sweep;
mod tunings;
mod world;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use self::plan::Plan;
use self::world::World;

pub use self::sweep::{Sweep, sweep};

/// What one run amounted to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    /// Things that happened: acts, events, answers, timers, flushes.
    pub events: u64,
    /// Rounds of the daemon's decisions.
    pub rounds: u64,
    /// Messages whose registration was acknowledged.
    pub messages: u64,
    /// DELETEs that left.
    pub deletes: u64,
    /// Entries of the outcome log.
    pub outcomes: u64,
    /// Crashes, and stops in order.
    pub crashes: u64,
    /// Virtual seconds.
    pub seconds: u64,
    /// What was done and decided, in one number: the same for the same seed.
    pub digest: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.rounds += other.rounds;
        self.messages += other.messages;
        self.deletes += other.deletes;
        self.outcomes += other.outcomes;
        self.crashes += other.crashes;
        self.seconds += other.seconds;
        self.digest ^= other.digest;
    }
}

/// A promise that was not kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// Which.
    pub promise: &'static str,
    /// By what.
    pub words: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken: {}: {}", self.promise, self.words)
    }
}

/// Goes on only if the condition holds; else some promise is broken, in these words.
macro_rules! broken {
    ($holds:expr, $promise:literal, $($words:tt)+) => {
        if !$holds {
            return Err($crate::simulation::Broken { promise: $promise, words: format!($($words)+) });
        }
    };
}
use broken;

/// A run that broke a promise.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What to run it again with.
    pub seed: u64,
    /// What was broken.
    pub broken: Broken,
    /// How many acts the run had, and how many of them it takes.
    pub acts: (usize, usize),
    /// The acts it takes, and what came of them, line by line.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (of, takes) = self.acts;
        writeln!(f, "seed {}: {}", self.seed, self.broken)?;
        writeln!(f, "It takes {takes} of its {of} acts:")?;
        self.trace.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

/// A fault that is built into the world around the daemon, to see that the oracle finds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plant {
    /// The store says that a batch is on disk, and it is not.
    ForgottenBatch,
    /// The store says so a little too soon.
    EarlyDurable,
    /// The daemon's clock is two minutes ahead of its agents'.
    FastClock,
    /// A timer does not ring.
    LostTimer,
    /// A DELETE is sent twice.
    SentTwice,
    /// An event is answered and goes nowhere.
    LostEvent,
    /// A 404 is taken for a 200.
    WrongAnswer,
    /// A withdrawal is answered and goes nowhere.
    LostWithdrawal,
    /// An entry of the outcome log reads otherwise the second time.
    ChangedOutcome,
}

impl Plant {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::ForgottenBatch,
        Self::EarlyDurable,
        Self::FastClock,
        Self::LostTimer,
        Self::SentTwice,
        Self::LostEvent,
        Self::WrongAnswer,
        Self::LostWithdrawal,
        Self::ChangedOutcome,
    ];
}

/// Runs one seed.
///
/// # Errors
/// The promise that was broken, and the shortest way to it that was found.
pub fn run(seed: u64) -> Result<Tally, Box<Failure>> {
    run_with(seed, None)
}

/// Runs one seed in a world with a fault.
///
/// # Errors
/// As [`run`]; and that is what the fault is for.
pub fn run_with(seed: u64, plant: Option<Plant>) -> Result<Tally, Box<Failure>> {
    let plan = Plan::draw(seed);
    play(&plan, plant, false).map_err(|(broken, _)| Box::new(shrink::shrink(plan, plant, broken)))
}

/// Lets a plan happen. A panic is a promise broken as well, where panics can be caught.
fn play(plan: &Plan, plant: Option<Plant>, traced: bool) -> Result<Tally, (Broken, Vec<String>)> {
    let mut world = World::new(plan, plant, traced);
    let lived = catch_unwind(AssertUnwindSafe(|| world.live())).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
        Err(Broken { promise: "nothing panics", words: words.unwrap_or_default() })
    });
    lived.map_err(|broken| (broken, std::mem::take(&mut world.trace)))
}
