//! The keeper of the runs: two threads that carry what stays from memory to disk, and keep the disk from growing.
//!
//! The *ager* makes a run of each frozen generation, then removes its journal. The *merger* makes one run of the newest
//! few whenever the one before them is no more than twice their size: so the number of runs grows with the logarithm of
//! what is pending, and what is dead in the old ones (hidden by newer entries, or trimmed from the log) is never more than
//! a part of what lives. Merging is a thread of its own since it may take long, and ageing must not wait for it.
//!
//! Both only ever add a finished run, then remove what it replaces. A crash in between leaves something superfluous, which
//! the names give away (see [`home`](super::home)). If the disk fails they try again; until then the journals stay.

use std::ops::{Bound, RangeInclusive};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::home::{Home, RunDir};
use super::key::Key;
use super::merge::Merge;
use super::run::{Builder, Item, Run};
use super::tree::{self, Bytes};
use super::young::Generation;
use super::{Cursor, StoreError};

/// How much larger than all newer ones together a run must be to be left alone.
const RATIO: u64 = 2;

/// Pages of a run that is only written.
const BUILD_CACHE_BYTES: u64 = 8 << 20;

const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What is to become a run.
pub(super) struct Ageing {
    pub(super) first: Generation,
    pub(super) through: Generation,
    /// In no order.
    pub(super) entries: Arc<Vec<(Key, Option<Bytes>)>>,
    /// The outcome log is durably trimmed up to there.
    pub(super) trimmed: Cursor,
}

/// The runs, oldest first, as of some instant.
pub(super) type Runs = Arc<Vec<Arc<Run>>>;

/// The shelf the runs stand on, and how they are to be kept.
pub(super) struct Shelf {
    home: Arc<Home>,
    cache_bytes: u64,
    runs: Mutex<Runs>,
    trimmed: AtomicU64,
    stop: AtomicBool,
    turn_due: AtomicBool,
}

impl Shelf {
    /// Opens the runs that count.
    pub(super) fn open(home: Arc<Home>, runs: Vec<RunDir>, cache_bytes: u64) -> Result<Self, StoreError> {
        let shelf = Self {
            home,
            cache_bytes,
            runs: Mutex::default(),
            trimmed: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            turn_due: AtomicBool::new(false),
        };
        for run in runs {
            let run = shelf.take(run)?;
            shelf.change(|runs| runs.push(run));
        }
        Ok(shelf)
    }

    /// The runs as they stand now.
    pub(super) fn runs(&self) -> Runs {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a generation is old enough to end; asking takes note of it.
    pub(super) fn take_turn_due(&self) -> bool {
        self.turn_due.swap(false, Ordering::Relaxed)
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Run>>)) {
        change(Arc::make_mut(&mut self.runs.lock().unwrap_or_else(PoisonError::into_inner)));
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Opens a run with its part of the memory. Sizes fall geometrically: half for the largest is enough for all.
    fn take(&self, run: RunDir) -> Result<Arc<Run>, StoreError> {
        let cache_bytes = tree::size(&run.path)?.clamp(self.cache_bytes / 8, self.cache_bytes / 2);
        Run::open(run, cache_bytes).map(Arc::new)
    }

    /// Makes a run of what is frozen.
    fn age(&self, ageing: &Ageing) -> Result<(), StoreError> {
        let entries = &*ageing.entries;
        if !entries.is_empty() {
            let generations = ageing.first..=ageing.through;
            let mut run = Builder::create(&self.home, generations, entries.len() as u64, BUILD_CACHE_BYTES)?;
            let mut in_order: Vec<_> = entries.iter().collect();
            in_order.sort_unstable_by_key(|(key, _)| *key);
            for (key, value) in in_order {
                run.push(*key, value.as_deref())?;
            }
            let run = self.take(run.finish()?)?;
            self.change(|runs| runs.push(run));
        }
        self.trimmed.fetch_max(ageing.trimmed, Ordering::AcqRel);
        Ok(())
    }

    /// Which runs, counted from the oldest, should become one now.
    fn merge_from(&self, runs: &[Arc<Run>]) -> Option<usize> {
        let trimmed = self.trimmed.load(Ordering::Acquire);
        let worth: Vec<u64> = runs.iter().map(|run| run.extent.worth(trimmed)).collect();
        let (newest, older) = worth.split_last()?;
        let (mut from, mut sum) = (older.len(), *newest);
        while from > 0 && worth[from - 1] <= RATIO * sum {
            from -= 1;
            sum += worth[from];
        }
        (from < older.len()).then_some(from)
    }

    /// Makes one run of some. `false`: there is nothing to do, or the store is closing.
    fn merge(&self) -> Result<bool, StoreError> {
        let runs = self.runs();
        let Some(from) = self.merge_from(&runs) else { return Ok(false) };
        let old = &runs[from..];
        let (Some(oldest), Some(newest)) = (old.first(), old.last()) else { return Ok(false) };
        let generations = *oldest.generations.start()..=*newest.generations.end();
        let run = self.merged(old, generations.clone(), from > 0).inspect_err(|_| {
            // On a full disk a run by half would keep it full. What can't be removed goes with the next start.
            let _ = self.home.draft(&self.home.run(&generations));
        })?;
        let Some(run) = run else { return Ok(false) };
        // Nobody else replaces runs; meanwhile some may have been added behind these.
        self.change(|now| drop(now.splice(from..from + old.len(), [run])));
        old.iter().for_each(|run| run.doom());
        Ok(true)
    }

    /// The run that takes the place of some. `None`: the store is closing.
    fn merged(
        &self,
        old: &[Arc<Run>],
        generations: RangeInclusive<Generation>,
        older_remain: bool,
    ) -> Result<Option<Arc<Run>>, StoreError> {
        let trimmed = self.trimmed.load(Ordering::Acquire);
        let most = old.iter().map(|run| run.extent.entries).sum();
        let mut merged = Builder::create(&self.home, generations, most, BUILD_CACHE_BYTES)?;
        let newest_first =
            old.iter().rev().map(|run| Box::new(run.from(Bound::Unbounded)) as Box<dyn Iterator<Item = Item>>);
        for item in Merge::new(newest_first) {
            if self.stopped() {
                return Ok(None);
            }
            let (key, value) = item?;
            // With the oldest run in it there is nothing below that a mark would have to hide.
            let of_use =
                if let Key::Outcome(cursor) = key { cursor > trimmed } else { value.is_some() || older_remain };
            if of_use {
                merged.push(key, value.as_deref())?;
            }
        }
        self.take(merged.finish()?).map(Some)
    }

    fn keep_ageing(&self, inbox: &Receiver<Ageing>, period: Duration, aged: &Sender<Generation>, merge: &Sender<()>) {
        loop {
            let ageing = match inbox.recv_timeout(period) {
                Ok(ageing) => ageing,
                Err(RecvTimeoutError::Timeout) => {
                    self.turn_due.store(true, Ordering::Relaxed);
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            while let Err(error) = self.age(&ageing) {
                tracing::warn!(%error, "can't write a run; the journals stay meanwhile");
                std::thread::sleep(RETRY_PAUSE);
                if self.stopped() {
                    return;
                }
            }
            if let Err(error) = self.home.drop_journals(ageing.through) {
                tracing::warn!(%error, "can't remove old journals; the next start will");
            }
            let told = aged.send(ageing.through).is_ok() && merge.send(()).is_ok();
            if !told || self.stopped() {
                return;
            }
        }
    }

    fn keep_merging(&self, wake: &Receiver<()>) {
        while let Ok(()) = wake.recv() {
            loop {
                match self.merge() {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        tracing::warn!(%error, "can't merge runs; will try again after the next one");
                        break;
                    }
                }
            }
            if self.stopped() {
                return;
            }
        }
    }
}

/// The store's side of both threads. Dropping it stops them; what they were at is done again after the next start.
pub(super) struct Keeper {
    pub(super) shelf: Arc<Shelf>,
    orders: Option<Sender<Ageing>>,
    /// The generations that are in runs now.
    pub(super) aged: Receiver<Generation>,
    threads: Vec<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the threads; `period` is how long a generation lasts that does not grow too large before.
    pub(super) fn start(shelf: Shelf, period: Duration) -> Result<Self, StoreError> {
        let shelf = Arc::new(shelf);
        let (orders, inbox) = channel();
        let (told, aged) = channel();
        let (merge, wake) = channel();
        let (ager, merger) = (shelf.clone(), shelf.clone());
        let threads = vec![
            spawn("store-ager", move || ager.keep_ageing(&inbox, period, &told, &merge))?,
            spawn("store-merger", move || merger.keep_merging(&wake))?,
        ];
        Ok(Self { shelf, orders: Some(orders), aged, threads })
    }

    /// For whoever knows when something may age.
    pub(super) fn orders(&self) -> Option<Sender<Ageing>> {
        self.orders.clone()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shelf.stop.store(true, Ordering::Release);
        self.orders = None;
        for thread in self.threads.drain(..) {
            // It ends by panic only if sled does, and has said so by then.
            let _ = thread.join();
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map_err(|error| StoreError::Io(format!("starting {name}: {error}")))
}
