//! The state directory: what lies in it, who may have it, and which of it counts after a crash.
//!
//! ```text
//! format                       "revoked store 2": the oldest program that may touch the rest
//! lock                         locked by the process that has the store
//! journal-<generation>-<part>  a database: the facts when the generation began, then every batch of it
//! run-<first>-<last>           a database: what generations first to last left behind, in order
//! new-…, old-…                 one of these being made, or being removed
//! ```
//!
//! Whatever lies here under its own name is whole: a rename is the instant from which it counts, or no longer does. No
//! list is kept anywhere, since the names say it all. A run that lies within the generations of another was merged into
//! it; a journal whose generation a run covers was written to it; both, and everything `new-` or `old-`, are what a crash
//! left behind and are removed at the next start.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::tree::{io, list};
use super::young::Generation;
use super::{Durability, StoreError, SyncWitness};
use crate::usage;

/// The format of the directory, raised when its layout changes or the [values](super::codec) in it do. Older ones are opened, and
/// are of this one from then on.
const FORMAT: u8 = 2;
const FORMAT_WORDS: &str = "revoked store ";

/// Room for more than one group of batches, or a disk that is full would be found well and full again by turns.
const PROBE_BYTES: usize = 2 << 20;
/// What a database takes for what is put into it: leaves are written anew when they are split.
const DISK_FOR_BYTE: usize = 2;

/// A locked state directory.
#[derive(Debug)]
pub(super) struct Home {
    dir: PathBuf,
    durability: Durability,
    witness: SyncWitness,
    /// Held, not used: the lock lasts as long as the file is open.
    _lock: File,
}

/// A journal in its directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct JournalDir {
    pub(super) generation: Generation,
    pub(super) part: u32,
    pub(super) path: PathBuf,
}

/// A run in its directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct RunDir {
    pub(super) generations: RangeInclusive<Generation>,
    pub(super) path: PathBuf,
}

impl Home {
    /// Makes the directory if need be, and locks it. Nothing is written into one of a newer format.
    pub(super) fn open(dir: &Path, durability: Durability, witness: SyncWitness) -> Result<Self, StoreError> {
        fs::create_dir_all(dir).map_err(|error| io("making", dir, error))?;
        let found = read_format(dir)?;
        let lock_path = dir.join("lock");
        let lock = File::create(&lock_path).map_err(|error| io("making", &lock_path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked(dir.display().to_string())),
            Err(TryLockError::Error(error)) => return Err(io("locking", &lock_path, error)),
        }
        let home = Self { dir: dir.to_owned(), durability, witness, _lock: lock };
        if found != Some(FORMAT) {
            home.write_format()?;
        }
        Ok(home)
    }

    fn write_format(&self) -> Result<(), StoreError> {
        let (new, path) = (self.dir.join("new-format"), self.dir.join("format"));
        let written = File::create(&new).and_then(|mut file| writeln!(file, "{FORMAT_WORDS}{FORMAT}"));
        written.map_err(|error| io("writing", &new, error))?;
        self.sync(&new)?;
        fs::rename(&new, &path).map_err(|error| io("renaming", &new, error))?;
        self.sync_names()
    }

    /// Where a journal of this generation stands.
    pub(super) fn journal(&self, generation: Generation, part: u32) -> PathBuf {
        self.dir.join(format!("journal-{generation:010}-{part:04}"))
    }

    /// Where the run of these generations stands.
    pub(super) fn run(&self, generations: &RangeInclusive<Generation>) -> PathBuf {
        self.dir.join(format!("run-{:010}-{:010}", generations.start(), generations.end()))
    }

    /// An empty place to make in what shall become `path`.
    pub(super) fn draft(&self, path: &Path) -> Result<PathBuf, StoreError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let draft = self.dir.join(format!("new-{name}"));
        if draft.exists() {
            delete(&draft)?;
        }
        Ok(draft)
    }

    /// Whether the disk takes something just now, and so many bytes of a database besides. Costs less than to begin one on a
    /// disk that does not, and nothing stays behind.
    pub(super) fn probe(&self, bytes: usize) -> Result<(), StoreError> {
        let path = self.dir.join("new-probe");
        let probed = File::create(&path).and_then(|mut file| {
            let block = vec![0x55; PROBE_BYTES];
            for _ in 0..=(bytes * DISK_FOR_BYTE).div_ceil(PROBE_BYTES) {
                file.write_all(&block)?;
            }
            self.sync_data(&file)
        });
        // What can't be removed is written over by the next probe, and goes with the next start.
        let _ = fs::remove_file(&path);
        probed.map_err(|error| io("writing in", &self.dir, error))
    }

    /// Makes a draft count: from now on it stands at `path`, and survives a power cut there.
    pub(super) fn publish(&self, draft: &Path, path: &Path) -> Result<(), StoreError> {
        self.sync_all(draft)?;
        fs::rename(draft, path).map_err(|error| io("renaming", draft, error))?;
        self.sync_names()
    }

    /// Which names there are survives a power cut.
    pub(super) fn sync_names(&self) -> Result<(), StoreError> {
        self.sync(&self.dir)
    }

    /// What all of it takes on disk. Looks at a few files for each journal and run, of which there are few.
    pub(super) fn disk_bytes(&self) -> u64 {
        usage::disk_bytes(&self.dir)
    }

    /// Whether what was synced does.
    pub(super) fn survives_power_cuts(&self) -> bool {
        self.durability == Durability::Disk
    }

    /// What was written to a file survives a power cut.
    pub(super) fn sync_data(&self, file: &File) -> std::io::Result<()> {
        if self.durability == Durability::Process {
            return Ok(());
        }
        self.witness.tell(file);
        file.sync_data()
    }

    /// A file or the entries of a directory.
    fn sync(&self, path: &Path) -> Result<(), StoreError> {
        if self.durability == Durability::Process {
            return Ok(());
        }
        let synced = File::open(path).and_then(|file| {
            self.witness.tell(&file);
            file.sync_all()
        });
        synced.map_err(|error| io("fsync of", path, error))
    }

    /// A quiet directory and all that is in it.
    fn sync_all(&self, dir: &Path) -> Result<(), StoreError> {
        for path in list(dir)? {
            if path.is_dir() { self.sync_all(&path)? } else { self.sync(&path)? }
        }
        self.sync(dir)
    }

    /// Removes what a crash left, and gives what counts: journals and runs, oldest first.
    pub(super) fn take_stock(&self) -> Result<(Vec<JournalDir>, Vec<RunDir>), StoreError> {
        let (mut journals, mut runs) = (Vec::new(), Vec::new());
        for path in list(&self.dir)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("new-") || name.starts_with("old-") {
                delete(&path)?;
            } else if let Some((generation, part)) = numbers(&name, "journal-") {
                let part = u32::try_from(part).map_err(super::codec::corrupt)?;
                journals.push(JournalDir { generation, part, path });
            } else if let Some((first, last)) = numbers(&name, "run-") {
                runs.push(RunDir { generations: first..=last, path });
            }
        }
        // Of runs that begin alike the widest comes first, so that whatever lies within it comes after.
        runs.sort_by_key(|run| (*run.generations.start(), u64::MAX - run.generations.end()));
        let mut covered = 0;
        let mut kept = Vec::new();
        for run in runs {
            if *run.generations.end() <= covered {
                remove(&run.path)?;
            } else {
                covered = *run.generations.end();
                kept.push(run);
            }
        }
        journals.sort();
        let (stale, journals): (Vec<_>, Vec<_>) = journals.into_iter().partition(|j| j.generation <= covered);
        stale.iter().try_for_each(|journal| remove(&journal.path))?;
        Ok((journals, kept))
    }

    /// Removes the journals of generations up to this one, oldest first: each that remains can be read without them.
    pub(super) fn drop_journals(&self, through: Generation) -> Result<(), StoreError> {
        let mut stale: Vec<_> = list(&self.dir)?
            .into_iter()
            .filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                numbers(&name, "journal-").is_some_and(|(generation, _)| generation <= through)
            })
            .collect();
        stale.sort();
        stale.iter().try_for_each(|path| remove(path))
    }
}

/// The format of the directory, if it has one and we know it.
fn read_format(dir: &Path) -> Result<Option<u8>, StoreError> {
    let path = dir.join("format");
    let words = match fs::read_to_string(&path) {
        Ok(words) => words,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io("reading", &path, error)),
    };
    let number = words.trim().strip_prefix(FORMAT_WORDS).and_then(|number| number.parse::<u8>().ok());
    match number {
        Some(found) if found > FORMAT => Err(StoreError::Newer { found, known: FORMAT }),
        Some(found) => Ok(Some(found)),
        None => Err(StoreError::Corrupt(format!("{} does not begin with {FORMAT_WORDS:?}", path.display()))),
    }
}

fn numbers(name: &str, kind: &str) -> Option<(u64, u64)> {
    let (first, second) = name.strip_prefix(kind)?.split_once('-')?;
    Some((first.parse().ok()?, second.parse().ok()?))
}

/// Removes a database. It stops counting at once: a directory is emptied file by file, and one by half would be damage.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let old = path.with_file_name(format!("old-{name}"));
    fs::rename(path, &old).map_err(|error| io("renaming", path, error))?;
    delete(&old)
}

fn delete(path: &Path) -> Result<(), StoreError> {
    let deleted = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    deleted.map_err(|error| io("removing", path, error))
}

/// Opens what is in this directory. Opening does away with what the database takes for torn, so what one opening has found to be
/// damaged the next one would not find: it is noted, and said again.
pub(super) fn finding_damage_again<T>(
    dir: &Path,
    open: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let note = dir.join("damage");
    if let Ok(words) = fs::read_to_string(&note) {
        let words = if words.is_empty() { format!("{}: damage was found before", dir.display()) } else { words };
        return Err(StoreError::Corrupt(words));
    }
    let opened = open();
    if let Err(StoreError::Corrupt(words)) = &opened {
        // If that can't be written either, there is worse to say of such a disk than what the next opening will.
        let _ = fs::write(note, words);
    }
    opened
}
