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
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::home::{Home, RunDir, finding_damage_again};
use super::key::Key;
use super::merge::Merge;
use super::run::{Builder, Item, Run};
use super::tree::{Bytes, has_noted_pages};
use super::young::Generation;
use super::{Cursor, StoreError};

/// How much larger than all newer ones together a run must be to be left alone.
const RATIO: u64 = 2;

/// Pages of a run that is only written.
const BUILD_CACHE_BYTES: u64 = 8 << 20;

/// Pages of the smallest run.
const RUN_CACHE_BYTES_MIN: u64 = 1 << 20;

const RETRY_PAUSE: Duration = Duration::from_secs(1);
const RETRY_PAUSES_MAX: u32 = 16;

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
    /// Opens the runs that count, and tells of each.
    pub(super) fn open(
        home: Arc<Home>,
        runs: Vec<RunDir>,
        cache_bytes: u64,
        opened: impl Fn(&Path),
    ) -> Result<Self, StoreError> {
        let shelf = Self {
            home,
            cache_bytes,
            runs: Mutex::default(),
            trimmed: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            turn_due: AtomicBool::new(false),
        };
        for run in runs {
            let path = run.path.clone();
            let run = finding_damage_again(&path, || {
                let noted = has_noted_pages(&path)?;
                let run = shelf.take(run)?;
                // Without: a crash came in between, or damage; what opening has taken for torn is missing.
                if noted { Ok(run) } else { run.check().map(|()| run) }
            })?;
            shelf.change(|runs| runs.push(run));
            opened(&path);
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

    /// Opens a run with its part of the memory: half of it for the oldest, half of the rest for the next, and so on. So all
    /// have no more than there is; and they are as large, since each is larger than all newer ones together.
    fn take(&self, run: RunDir) -> Result<Arc<Run>, StoreError> {
        let older = self.runs().iter().filter(|other| other.generations.end() < run.generations.start()).count();
        let part = self.cache_bytes >> (older + 1).min(63);
        Run::open(run, part.max(RUN_CACHE_BYTES_MIN)).map(Arc::new)
    }

    /// The run of these generations, once `fill` has put its entries in and it counts. `None`: `fill` gave up.
    fn make(
        &self,
        generations: RangeInclusive<Generation>,
        entries: u64,
        fill: impl FnOnce(&mut Builder<'_>) -> Result<bool, StoreError>,
    ) -> Result<Option<Arc<Run>>, StoreError> {
        let path = self.home.run(&generations);
        if path.exists() {
            // It was made, and something failed after that.
            self.home.sync_names()?;
        } else {
            let built =
                Builder::create(&self.home, generations.clone(), entries, BUILD_CACHE_BYTES).and_then(|mut run| {
                    let filled = fill(&mut run)?;
                    filled.then(|| run.finish()).transpose()
                });
            let built = built.inspect_err(|_| {
                // On a full disk a run by half would keep it full. What can't be removed goes with the next start.
                let _ = self.home.draft(&path);
            })?;
            if built.is_none() {
                return Ok(None);
            }
        }
        self.take(RunDir { generations, path }).map(Some)
    }

    /// Makes a run of what is frozen.
    fn age(&self, ageing: &Ageing) -> Result<(), StoreError> {
        let entries = &*ageing.entries;
        if !entries.is_empty() {
            let run = self.make(ageing.first..=ageing.through, entries.len() as u64, |run| {
                let mut in_order: Vec<_> = entries.iter().collect();
                in_order.sort_unstable_by_key(|(key, _)| *key);
                in_order.into_iter().try_for_each(|(key, value)| run.push(*key, value.as_deref()))?;
                Ok(true)
            })?;
            self.change(|runs| runs.extend(run));
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
        let most = old.iter().map(|run| run.extent.entries).sum();
        let run = self.make(generations, most, |run| self.fill(run, old, from > 0))?;
        let Some(run) = run else { return Ok(false) };
        // Nobody else replaces runs; meanwhile some may have been added behind these.
        self.change(|now| drop(now.splice(from..from + old.len(), [run])));
        old.iter().for_each(|run| run.doom());
        Ok(true)
    }

    /// Fills the run that takes the place of some. `false`: the store is closing.
    fn fill(&self, merged: &mut Builder<'_>, old: &[Arc<Run>], older_remain: bool) -> Result<bool, StoreError> {
        let trimmed = self.trimmed.load(Ordering::Acquire);
        let newest_first =
            old.iter().rev().map(|run| Box::new(run.from(Bound::Unbounded)) as Box<dyn Iterator<Item = Item>>);
        for item in Merge::new(newest_first) {
            if self.stopped() {
                return Ok(false);
            }
            let (key, value) = item?;
            // With the oldest run in it there is nothing below that a mark would have to hide.
            let of_use =
                if let Key::Outcome(cursor) = key { cursor > trimmed } else { value.is_some() || older_remain };
            if of_use {
                merged.push(key, value.as_deref())?;
            }
        }
        Ok(true)
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
            if !self.age_at_last(&ageing) {
                return;
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

    /// Tries until it works. `false`: the store is closing.
    fn age_at_last(&self, ageing: &Ageing) -> bool {
        let Err(error) = self.age(ageing) else { return true };
        tracing::warn!(%error, "can't write a run; the journals stay until it works");
        let mut said = error.to_string();
        let mut pauses = 1;
        loop {
            for _ in 0..pauses {
                std::thread::sleep(RETRY_PAUSE);
                if self.stopped() {
                    return false;
                }
            }
            pauses = (pauses * 2).min(RETRY_PAUSES_MAX);
            let Err(error) = self.home.probe(0).and_then(|()| self.age(ageing)) else {
                tracing::info!("the run that could not be written is written");
                return true;
            };
            // The same over and over again is no news; another reason is.
            let why = error.to_string();
            if why != said {
                tracing::warn!(%error, "can't write a run, and now for another reason");
                said = why;
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

#[cfg(test)]
mod tests {
    use super::super::{Durability, SyncWitness};
    use super::*;

    #[test]
    fn a_run_that_was_made_and_could_not_be_opened_is_taken_by_the_next_try() {
        let dir = tempfile::tempdir().unwrap();
        let home = Arc::new(Home::open(dir.path(), Durability::Process, SyncWitness::default()).unwrap());
        let entries = Arc::new(vec![(Key::Outcome(7), Some(Bytes::from(b"seven")))]);
        let ageing = Ageing { first: 1, through: 3, entries, trimmed: 0 };
        let shelf = || Shelf::open(home.clone(), Vec::new(), 1 << 20, |_| ()).unwrap();
        shelf().age(&ageing).unwrap();
        // It stands there, and is not on this shelf: as if the disk had failed between the two.
        let again = shelf();
        again.age(&ageing).unwrap();
        let runs = again.runs();
        let [run] = &**runs else { panic!("{} runs", runs.len()) };
        let found = run.from(Bound::Unbounded).next().unwrap().unwrap();
        assert_eq!(found, (Key::Outcome(7), Some(Bytes::from(b"seven"))));
    }
}
