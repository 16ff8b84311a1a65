//! A run: what some generations left behind, in the order of its keys, written once and never changed.
//!
//! ```text
//! "b" ++ last key of the block   version ++ entries: key, value (or null: the key is gone)
//! "f" ++ number                  version ++ a slice of the filter over its records and identities
//! "m"                            version ++ how much is in it
//! ```
//!
//! A block holds some two dozen entries. sled keeps at most 16 items to a leaf and a pointer for every leaf, whatever
//! their size: so a few large values load, open and scan many times as fast as many small ones.

use std::ops::{Bound, RangeInclusive};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use minicbor::data::Type;
use minicbor::{Decode, Decoder, Encode, Encoder};

use super::codec::{self, corrupt};
use super::filter::Filter;
use super::home::{Home, RunDir, remove};
use super::key::Key;
use super::tree::{Bytes, Tree};
use super::young::Generation;
use super::{Cursor, StoreError};

/// A block is closed by the entry that passes it, and with sled's count of 8 bytes mostly fits into 2048; the allocator's next class
/// is 2560. sled's cache takes the nine of a leaf for 32 KiB: with blocks below 1,800 it would take them for 16, and keep twice as many.
const BLOCK_BYTES: usize = 1904;
const FILTER_SLICE_BYTES: usize = 4096;
/// No more is on its way to a slow disk when a run is finished: the journal waits for as long as a flush lasts.
const UNFLUSHED_MAX: usize = 4 << 20;

/// An entry of a run; without a value it hides what older runs hold.
pub(super) type Item = Result<(Key, Option<Bytes>), StoreError>;

/// How much is in a run.
#[derive(Encode, Decode, Clone, Default, Debug)]
#[cbor(map)]
pub(super) struct Extent {
    /// Entries, those that hide others included.
    #[n(0)]
    pub(super) entries: u64,
    /// Bytes of its blocks.
    #[n(1)]
    pub(super) bytes: u64,
    /// The first and the last cursor of the outcome log in it.
    #[n(2)]
    outcomes: Option<(u64, u64)>,
}

impl Extent {
    /// Entries that are still worth keeping when the outcome log is trimmed up to there.
    pub(super) fn worth(&self, trimmed: Cursor) -> u64 {
        let gone = self.outcomes.map_or(0, |(first, last)| (trimmed.min(last) + 1).saturating_sub(first));
        self.entries.saturating_sub(gone)
    }
}

/// A finished run.
pub(super) struct Run {
    tree: Tree,
    filter: Filter,
    pub(super) extent: Extent,
    pub(super) generations: RangeInclusive<Generation>,
    path: PathBuf,
    /// Its directory goes when the last reader lets go of it.
    doomed: AtomicBool,
}

impl Run {
    /// Opens a run.
    pub(super) fn open(dir: RunDir, cache_bytes: u64) -> Result<Self, StoreError> {
        let tree = Tree::open(&dir.path, cache_bytes)?;
        let damaged = |why: StoreError| why.within(&dir.path.display());
        let extent = tree.get(b"m")?.ok_or_else(|| damaged(corrupt("it has no end")))?;
        let mut bits = Vec::new();
        for item in tree.from(b"f") {
            let (key, slice) = item?;
            if key.first() != Some(&b'f') {
                break;
            }
            bits.extend_from_slice(codec::body(&slice)?);
        }
        Ok(Self {
            tree,
            filter: Filter::read(&bits),
            extent: codec::read(&extent).map_err(damaged)?,
            generations: dir.generations,
            path: dir.path,
            doomed: AtomicBool::new(false),
        })
    }

    /// That nothing is missing. Reads all of it.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let (mut found, of) = (0, self.extent.entries);
        for entry in self.from(Bound::Unbounded) {
            entry?;
            found += 1;
        }
        let path = self.path.display();
        if found == of { Ok(()) } else { Err(corrupt(format!("{path}: of {of} entries {found} are left"))) }
    }

    /// Lets its directory go with it.
    pub(super) fn doom(&self) {
        self.doomed.store(true, Ordering::Release);
    }

    /// `None`: ask an older run. `Some(None)`: there is nothing.
    pub(super) fn get(&self, key: &Key) -> Result<Option<Option<Bytes>>, StoreError> {
        if !self.filter.may_hold(&key.bytes()) {
            return Ok(None);
        }
        match self.from(Bound::Included(*key)).next().transpose()? {
            Some((found, value)) if found == *key => Ok(Some(value)),
            _ => Ok(None),
        }
    }

    /// Its entries from `start` on, in order.
    pub(super) fn from(&self, start: Bound<Key>) -> Entries {
        let mut from = vec![b'b'];
        if let Bound::Included(key) | Bound::Excluded(key) = start {
            from.extend_from_slice(&key.bytes());
        }
        Entries { blocks: Box::new(self.tree.from(&from)), block: Bytes::default(), at: 0, start }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.doomed.load(Ordering::Acquire) {
            // What stays behind lies within a wider run, and so is removed by the next start.
            let _ = remove(&self.path);
        }
    }
}

/// See [`Run::from`].
pub(super) struct Entries {
    blocks: Box<dyn Iterator<Item = Result<(Bytes, Bytes), StoreError>> + Send>,
    block: Bytes,
    at: usize,
    start: Bound<Key>,
}

impl Entries {
    fn step(&mut self) -> Result<Option<(Key, Option<Bytes>)>, StoreError> {
        loop {
            if self.at >= self.block.len() {
                match self.blocks.next().transpose()? {
                    Some((key, block)) if key.first() == Some(&b'b') => {
                        codec::body(&block)?;
                        (self.block, self.at) = (block, 1);
                    }
                    _ => return Ok(None),
                }
                continue;
            }
            let mut decoder = Decoder::new(&self.block);
            decoder.set_position(self.at);
            let key = Key::read(decoder.bytes().map_err(corrupt)?)?;
            let value = match decoder.datatype().map_err(corrupt)? {
                Type::Null => {
                    decoder.null().map_err(corrupt)?;
                    None
                }
                _ => {
                    let length = decoder.bytes().map_err(corrupt)?.len();
                    Some(self.block.subslice(decoder.position() - length, length))
                }
            };
            self.at = decoder.position();
            let before = match self.start {
                Bound::Included(start) => key < start,
                Bound::Excluded(start) => key <= start,
                Bound::Unbounded => false,
            };
            if !before {
                self.start = Bound::Unbounded;
                return Ok(Some((key, value)));
            }
        }
    }
}

impl Iterator for Entries {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        self.step().transpose()
    }
}

/// A run that is being made.
pub(super) struct Builder<'a> {
    home: &'a Home,
    draft: PathBuf,
    dir: RunDir,
    tree: Tree,
    filter: Filter,
    extent: Extent,
    block: Encoder<Vec<u8>>,
    unflushed: usize,
    last: Option<Key>,
}

impl<'a> Builder<'a> {
    /// Begins one of at most so many entries.
    pub(super) fn create(
        home: &'a Home,
        generations: RangeInclusive<Generation>,
        entries: u64,
        cache_bytes: u64,
    ) -> Result<Self, StoreError> {
        let path = home.run(&generations);
        let draft = home.draft(&path)?;
        Ok(Self {
            home,
            tree: Tree::open(&draft, cache_bytes)?,
            draft,
            dir: RunDir { generations, path },
            filter: Filter::with_room_for(entries),
            extent: Extent::default(),
            block: Encoder::new(vec![codec::VERSION]),
            unflushed: 0,
            last: None,
        })
    }

    /// Adds the next entry.
    pub(super) fn push(&mut self, key: Key, value: Option<&[u8]>) -> Result<(), StoreError> {
        let bytes = key.bytes();
        let written = self.block.bytes(&bytes).and_then(|block| match value {
            Some(value) => block.bytes(value),
            None => block.null(),
        });
        written.map(drop).expect("a Vec takes every write");
        self.last = Some(key);
        self.extent.entries += 1;
        match key {
            // Never asked for one by one.
            Key::Outcome(cursor) => {
                self.extent.outcomes = Some((self.extent.outcomes.map_or(cursor, |(first, _)| first), cursor));
            }
            Key::Record(_) | Key::Identity(_) => self.filter.insert(&bytes),
        }
        if self.block.writer().len() >= BLOCK_BYTES { self.close_block() } else { Ok(()) }
    }

    fn close_block(&mut self) -> Result<(), StoreError> {
        let Some(last) = self.last.take() else { return Ok(()) };
        let key = [b"b", &*last.bytes()].concat();
        let block = std::mem::replace(&mut self.block, Encoder::new(vec![codec::VERSION])).into_writer();
        self.extent.bytes += block.len() as u64;
        self.tree.insert(&key, &block)?;
        self.unflushed += block.len();
        if self.unflushed < UNFLUSHED_MAX {
            return Ok(());
        }
        self.unflushed = 0;
        self.tree.flush()
    }

    /// Makes it count.
    pub(super) fn finish(mut self) -> Result<RunDir, StoreError> {
        self.close_block()?;
        for (number, slice) in (0_u32..).zip(self.filter.bytes().chunks(FILTER_SLICE_BYTES)) {
            let value = [&[codec::VERSION], slice].concat();
            self.tree.insert(&[b"f", &number.to_be_bytes()[..]].concat(), &value)?;
        }
        self.tree.insert(b"m", &codec::value(&self.extent))?;
        let Self { home, draft, dir, tree, .. } = self;
        tree.sync(home)?;
        // Closed and opened again, it is as it will be found at the next start, and its pages leave the memory.
        drop(tree);
        home.publish(&draft, &dir.path)?;
        Ok(dir)
    }
}
