//! Many seeds, on as many threads as there are processors.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::{Failure, Tally, run};

/// What a number of seeds amounted to.
#[derive(Debug, Default)]
pub struct Sweep {
    /// Seeds that were run to their end.
    pub seeds: u64,
    /// The sums of all of them.
    pub tally: Tally,
    /// Those that broke a promise.
    pub failures: Vec<Failure>,
}

/// Runs `seeds` seeds from `first` on, and stops when so many have failed. `told` hears of each seed before it is run (on its
/// thread, with `None`) and after it, with all there is so far.
pub fn sweep(first: u64, seeds: u64, failures_max: usize, told: impl Fn(u64, Option<&Sweep>) + Sync) -> Sweep {
    let (next, enough) = (AtomicU64::new(0), AtomicBool::new(false));
    let sums = Mutex::new(Sweep::default());
    let work = || {
        while !enough.load(Ordering::Relaxed) {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= seeds {
                return;
            }
            let seed = first.wrapping_add(n);
            told(seed, None);
            let done = run(seed);
            let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
            sums.seeds += 1;
            match done {
                Ok(tally) => sums.tally += tally,
                Err(failure) => sums.failures.push(*failure),
            }
            enough.fetch_or(sums.failures.len() >= failures_max, Ordering::Relaxed);
            told(seed, Some(&sums));
        }
    };
    thread::scope(|scope| {
        for _ in 1..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
        work();
    });
    let mut sweep = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
    sweep.failures.sort_by_key(|failure| failure.seed);
    sweep
}
