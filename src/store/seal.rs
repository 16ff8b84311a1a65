//! How far a journal was synced, so that what is lost of it is missed.
//!
//! Where a message of its log does not match its checksum, the database takes that for the place where a crash cut the log
//! off, and drops all that follows without a word. That is right for what was never synced. Damage is told from it in two ways:
//!
//! - each slice bears in its key how many slices were synced before it, behind a number that is this journal's own. That is found
//!   in the bytes of the log even where the database no longer reads them, and is as durable as the slice;
//! - `synced`, a small file beside the log, is told how many are synced by now. It is not synced itself: it outlives the process,
//!   and a power cut once the system has written it. It is what knows of the last group.
//!
//! Nobody outside knows the journal's number, so nobody can put such words into a message.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use memchr::memmem;
use tracing::warn;

use super::StoreError;
use super::tree::io;

/// What is said in one place.
const WORD_BYTES: usize = 24;

/// The seal of a journal that is being written.
pub(super) struct Seal {
    file: File,
    /// The journal's own number.
    mark: u64,
    /// Slices that are synced.
    synced: u64,
}

impl Seal {
    /// For the journal in this directory.
    pub(super) fn create(dir: &Path, mark: u64) -> Result<Self, StoreError> {
        let path = path(dir);
        let made = File::create(&path).and_then(|file| file.write_all_at(&word(mark, 0), 0).map(|()| file));
        Ok(Self { file: made.map_err(|error| io("writing", &path, error))?, mark, synced: 0 })
    }

    /// The key of a slice. Begins with its number, so that the order of the keys is theirs.
    pub(super) fn key(&self, number: u64) -> [u8; 8 + WORD_BYTES] {
        let mut key = [0; 8 + WORD_BYTES];
        key[..8].copy_from_slice(&number.to_be_bytes());
        key[8..].copy_from_slice(&word(self.mark, self.synced));
        key
    }

    /// All slices up to this one are synced. What the file can't take costs no more than what it is for.
    pub(super) fn synced(&mut self, slices: u64) {
        self.synced = slices;
        let _ = self.file.write_all_at(&word(self.mark, slices), 0);
    }
}

/// How many slices of the journal in this directory were synced at least. Has to be asked before the database is opened, which
/// does away with what it takes for torn; the answer stays the same after that. 0 for a journal without a seal: older programs made none.
pub(super) fn synced(dir: &Path) -> Result<u64, StoreError> {
    let path = path(dir);
    let seal = match fs::read(&path) {
        Ok(seal) => seal,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(io("reading", &path, error)),
    };
    let Some((mark, noted)) = read(&seal) else {
        warn!(path = %path.display(), "makes no sense; whether all of its journal is there can't be told");
        return Ok(0);
    };
    let log = dir.join("db");
    let log = fs::read(&log).map_err(|error| io("reading", &log, error))?;
    let starts = mark.to_be_bytes();
    let words = memmem::find_iter(&log, &starts).filter_map(|at| read(log.get(at..at + WORD_BYTES)?));
    let told = words.filter(|(of, _)| *of == mark).map(|(_, synced)| synced).max().unwrap_or(0);
    if told > noted {
        let noted = File::options().write(true).open(&path).and_then(|file| {
            file.write_all_at(&word(mark, told), 0)?;
            file.sync_data()
        });
        noted.map_err(|error| io("writing", &path, error))?;
    }
    Ok(told.max(noted))
}

fn path(dir: &Path) -> PathBuf {
    dir.join("synced")
}

/// The mark, the number, and both turned over: damage must not make another number of it.
fn word(mark: u64, slices: u64) -> [u8; WORD_BYTES] {
    let mut word = [0; WORD_BYTES];
    word[..8].copy_from_slice(&mark.to_be_bytes());
    word[8..16].copy_from_slice(&slices.to_be_bytes());
    word[16..].copy_from_slice(&(!(mark ^ slices)).to_be_bytes());
    word
}

fn read(word: &[u8]) -> Option<(u64, u64)> {
    let (numbers, []) = word.as_chunks::<8>() else { return None };
    let [mark, slices, check] = numbers else { return None };
    let [mark, slices, check] = [mark, slices, check].map(|bytes| u64::from_be_bytes(*bytes));
    (!(mark ^ slices) == check).then_some((mark, slices))
}
