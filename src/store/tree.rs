//! The only file that names sled: one small database in one directory, and what of it we rely on.
//!
//! sled 0.34 was measured to keep a batch whole across `kill -9` and power cuts as long as it goes to one tree, is
//! followed by `flush()`, and then by our own `fdatasync` of its log file: sled itself only asks for `sync_file_range`,
//! which promises nothing about a volatile disk cache or the file's metadata. It was also measured never to give space
//! back and to open the slower the more passed through it. So no database here lives long: journals and runs are written
//! once, in order, and end as directories that are removed.
//!
//! Values stay far below an eighth of a segment, or sled would move whole leaves (up to 17 values) into files of their own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::StoreError;
use super::home::Home;

/// Bytes that are cheap to clone and to take a part of.
pub(super) type Bytes = sled::IVec;

/// A writer of one batch.
pub(super) type Batch = sled::Batch;

/// sled gives its lock back from a background thread some time after it was closed.
const LOCK_TRIES: u32 = 500;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// For the log's filter: what the database says by itself. Each error that it has comes back to the store, which knows what it means.
pub const QUIET: &str = "sled=off";

/// Whether it is the database that panics there: at files that are not as it left them, or a disk that fails where it counts on it.
pub fn is_of_database(place: &std::panic::Location<'_>) -> bool {
    // From a registry, or vendored.
    ["/sled-0.34", "/sled/src/"].iter().any(|part| place.file().contains(part))
}

/// Each database has a cache of 256 parts, and a part looks at what it holds only after 64 touches. So pages that are touched once
/// each, 16,384 of them or 300 MB, may be in memory beyond its capacity; where a read touches its page so many times, an eighth
/// of that.
const TOUCHES: usize = 8;

/// How long a flush lasts that may wait in vain.
const NUDGE_AFTER: Duration = Duration::from_secs(1);

/// Databases that can't be closed any more, see [`Tree`]'s drop …
static LEFT_OPEN: AtomicUsize = AtomicUsize::new(0);
/// … each of some MiB, and how many of them are enough.
const LEFT_OPEN_MAX: usize = 16;

/// Whether so many databases can't be closed that the process should rather begin anew.
pub(super) fn is_spent() -> bool {
    LEFT_OPEN.load(Ordering::Relaxed) >= LEFT_OPEN_MAX
}

/// One database.
pub(super) struct Tree {
    db: sled::Db,
    dir: Arc<Path>,
    log: File,
    /// Where in memory the value is that the last read began with: a page that was just touched is not touched again.
    begun_with: Arc<AtomicUsize>,
    flushing: Arc<AtomicBool>,
    spoilt: AtomicBool,
}

pub(super) fn io(what: &str, path: &Path, error: impl std::fmt::Display) -> StoreError {
    StoreError::Io(format!("{what} {}: {error}", path.display()))
}

impl Tree {
    /// Opens the database in `dir`, or makes one there.
    pub(super) fn open(dir: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        remove_half_made_snapshots(dir)?;
        let config = sled::Config::new().path(dir).cache_capacity(cache_bytes).flush_every_ms(None);
        let mut tries = 0;
        let db = loop {
            match config.open() {
                Ok(db) => break db,
                Err(sled::Error::Io(error)) if tries < LOCK_TRIES && error.to_string().contains("acquire lock") => {
                    tries += 1;
                    std::thread::sleep(LOCK_PAUSE);
                }
                Err(error @ sled::Error::Io(_)) => return Err(io("opening", dir, words(&error))),
                Err(error) => return Err(reading(dir, &error)),
            }
        };
        let log = File::open(dir.join("db")).map_err(|error| io("opening the log of", dir, error))?;
        let spoilt = AtomicBool::new(false);
        Ok(Self { db, dir: dir.into(), log, begun_with: Arc::default(), flushing: Arc::default(), spoilt })
    }

    /// All of it or, after a crash, nothing. Durable after [`Tree::sync`].
    pub(super) fn write(&self, batch: Batch) -> Result<(), StoreError> {
        self.db.apply_batch(batch).map_err(|error| writing(&error))
    }

    /// One value of a database that nobody reads before all of it is written.
    pub(super) fn insert(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.db.insert(key, value).map_err(|error| writing(&error)).map(drop)
    }

    /// What was written has left this process. While that lasts no database of it takes a batch: sled has one lock for all.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        self.db.flush().map(drop).map_err(|error| writing(&error))
    }

    /// What was written is on disk, or at least no longer in this process.
    pub(super) fn sync(&self, home: &Home) -> Result<(), StoreError> {
        self.flushing.store(true, Ordering::Release);
        let flushed = self.flush();
        self.flushing.store(false, Ordering::Release);
        flushed?;
        home.sync_data(&self.log).map_err(|error| {
            self.spoil();
            StoreError::Io(format!("fdatasync: {error}"))
        })
    }

    /// The disk failed, and sled does not know it: see the drop.
    pub(super) fn spoil(&self) {
        self.spoilt.store(true, Ordering::Release);
    }

    /// What a database needs that is written in batches, for as long as it is.
    pub(super) fn nudge(&self) -> Result<Nudge, StoreError> {
        let (db, flushing) = (self.db.clone(), self.flushing.clone());
        let (stop, stopped) = channel::<()>();
        let watching = move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(NUDGE_AFTER) {
                // Not before there is an error: it would wait beside the other one, and in vain with it.
                if flushing.load(Ordering::Acquire) && db.context.global_error().is_err() {
                    // Who waits for the other one hears how it went.
                    let _ = db.flush();
                }
            }
        };
        let thread = std::thread::Builder::new().name("store-nudge".to_owned()).spawn(watching);
        let thread = thread.map_err(|error| StoreError::Io(format!("starting a thread: {error}")))?;
        Ok(Nudge { stop: Some(stop), thread: Some(thread) })
    }

    /// What is kept under `key`.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.db.get(key).map_err(|error| reading(&self.dir, &error))
    }

    /// What is kept from `key` on, in order.
    pub(super) fn from(&self, key: &[u8]) -> impl Iterator<Item = Result<(Bytes, Bytes), StoreError>> + use<> {
        let (db, dir, begun_with) = (self.db.clone(), self.dir.clone(), self.begun_with.clone());
        let mut touches = TOUCHES;
        self.db.range(key..).map(move |item| {
            let touched = item.and_then(|(key, value)| {
                let (place, begins) = (value.as_ptr().addr(), touches == TOUCHES);
                if !begins || begun_with.swap(place, Ordering::Relaxed) != place {
                    (0..touches).try_for_each(|_| db.contains_key(&key).map(drop))?;
                }
                // An iterator of sled's touches a page once for all that is in it, which are eight or nine.
                touches = 1;
                Ok((key, value))
            });
            touched.map_err(|error| reading(&dir, &error))
        })
    }
}

impl Drop for Tree {
    /// sled syncs when it is closed, and panics where that fails. On a disk that does, the database stays open: that costs
    /// some memory until the process ends, but the process lives.
    fn drop(&mut self) {
        if self.spoilt.load(Ordering::Acquire) || self.log.sync_all().is_err() {
            std::mem::forget(self.db.clone());
            LEFT_OPEN.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Another flush beside one that takes long. The write that holds the beginning of a batch is a small one of its own, and where
/// it fails after all others sled notes the error and wakes nobody: the flush that waits would wait for ever. One that comes
/// later looks at the error first, and wakes those who wait.
pub(super) struct Nudge {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Nudge {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It ends by panic only if sled does, and has said so by then.
            let _ = thread.join();
        }
    }
}

const HALF_MADE: &str = ".generating";

/// When sled opens a database it may note where it stands, in `snap.N.generating` which becomes `snap.N`. A process killed
/// in between leaves the former by half, and sled 0.34 takes that for the newest snapshot and calls the database corrupt
/// (it passes over `.in___motion`, as such files were called once). Nothing is lost with it: snapshots only spare reading.
fn remove_half_made_snapshots(dir: &Path) -> Result<(), StoreError> {
    if !dir.exists() {
        return Ok(());
    }
    let mut half_made = list(dir)?.into_iter().filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("snap.") && name.ends_with(HALF_MADE)
    });
    half_made.try_for_each(|path| fs::remove_file(&path).map_err(|error| io("removing", &path, error)))
}

/// Whether the database in `dir` has noted which of its pages count: then it takes none for torn.
pub(super) fn has_noted_pages(dir: &Path) -> Result<bool, StoreError> {
    let is_snapshot = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("snap.") && !name.ends_with(HALF_MADE)
    };
    Ok(list(dir)?.iter().any(is_snapshot))
}

fn writing(error: &sled::Error) -> StoreError {
    StoreError::Io(words(error))
}

/// An error of the system comes out of sled as what `{:?}` makes of it, once or twice over; the message in it is for people.
fn words(error: &sled::Error) -> String {
    let all = error.to_string();
    match all.split_once("message: ") {
        Some((_, rest)) => {
            rest.trim_start_matches(['\\', '"']).split(['\\', '"']).next().unwrap_or_default().to_owned()
        }
        None => all,
    }
}

fn reading(dir: &Path, error: &sled::Error) -> StoreError {
    let dir = dir.display();
    match error {
        sled::Error::Io(_) => StoreError::Io(format!("{dir}: {}", words(error))),
        sled::Error::Corruption { at: Some(at), .. } => {
            StoreError::Corrupt(format!("{dir}: what is read at {at:?} is not what was written"))
        }
        sled::Error::Corruption { at: None, .. } => StoreError::Corrupt(format!("{dir}: its files are not as written")),
        error => StoreError::Corrupt(format!("{dir}: {error}")),
    }
}

/// The paths in a directory.
pub(super) fn list(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = fs::read_dir(dir).map_err(|error| io("reading", dir, error))?;
    entries.map(|entry| entry.map(|e| e.path()).map_err(|error| io("reading", dir, error))).collect()
}
