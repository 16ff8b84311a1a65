//! The truth: what was registered, what became of it, what the agents are still to be told.
//!
//! This file is the contract between the engine and whatever keeps its data; it names nothing of any database. The engine
//! is the only writer and calls from one thread. [`Store::append`] makes a batch visible to the reads that follow at
//! once, and durable later: the store then calls back with the batch's [`Ticket`], in order. So the engine decides on
//! what it has just written, and answers its clients only when that is on disk.
//!
//! A store must not know the time of day, HTTP, or what a message's state means.

pub mod memory;

// The store on disk. `disk` is the way in and says how the others fit together; only `tree` names the database.
mod codec;
mod disk;
mod filter;
mod home;
mod journal;
mod keeper;
mod key;
mod logged;
mod merge;
mod run;
mod seal;
mod state;
mod tree;
mod writer;
mod young;

pub use disk::{Options as StoreOptions, SledStore};
pub use tree::{QUIET, is_of_database};

use std::time::Duration;

use crate::model::ledger::{Counts, Hour, Ledger};
use crate::model::{
    AgentId, Hold, Identity, LaneId, LaneSpec, Outcome, Phone, Place, Position, Queue, Recall, Record, Subscription,
    Timestamp, UseCase,
};
use crate::spans::Measured;

/// The number of a batch: 1, 2, 3, … in the order of appending.
pub type Ticket = u64;

/// What it takes for a batch to be called durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// It survives a power cut: its bytes are on the disk.
    #[default]
    Disk,
    /// It survives the end of the process: the operating system has its bytes.
    Process,
}

type Witness = dyn Fn(&std::fs::File) + Send + Sync;

/// For tests: told of each file and directory just before it is made to survive a power cut. Nobody, by default.
#[derive(Clone, Default)]
pub struct SyncWitness(Option<std::sync::Arc<Witness>>);

impl SyncWitness {
    /// Tells this one.
    pub fn new(witness: impl Fn(&std::fs::File) + Send + Sync + 'static) -> Self {
        Self(Some(std::sync::Arc::new(witness)))
    }

    fn tell(&self, file: &std::fs::File) {
        if let Some(witness) = &self.0 {
            witness(file);
        }
    }
}

impl std::fmt::Debug for SyncWitness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SyncWitness")
    }
}

/// The place of an entry in the outcome log: 1, 2, 3, … without holes.
pub type Cursor = u64;

/// One change of a batch.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    /// A lane exists from now on, or is described anew. Comes before the first record that stands in it.
    Lane(LaneId, LaneSpec),
    /// The record now stands at its position, and no longer at `from`.
    Put {
        /// Where it stood before; `None` for one that is new.
        from: Option<Position>,
        /// The record; its identity never changes under one `seq`.
        record: Box<Record>,
    },
    /// The record at that position is gone, and its identity with it.
    Remove {
        /// Whose it was.
        identity: Identity,
        /// Where it stood.
        at: Position,
    },
    /// The next entry of the outcome log; in an import also one that was left out before.
    Outcome(Cursor, Box<Entry>),
    /// The outcome log goes on where another store's began, behind that entry. Only where there is no log yet.
    ContinueLog {
        /// Whose log it is.
        store_id: u64,
        /// The entry before its first one.
        after: Cursor,
    },
    /// Entries up to this one are not needed any more.
    TrimOutcomes(Cursor),
    /// An agent has taken note of all outcomes up to this one.
    Acked(AgentId, Cursor),
    /// Attempts may leave from places up to this one of this queue; see [`Snapshot::fences`]. `None` takes it back.
    Fence(LaneId, Queue, Option<Place>),
    /// Evidence for a message that isn't registered yet.
    Early(EarlyEvent),
    /// That evidence was applied, or is too old.
    EarlyGone(Identity),
    /// What a user said last of an agent's promotions.
    Subscription(Subscription),
    /// That is not to be remembered any more.
    SubscriptionGone(AgentId, Phone),
    /// Entries in the books.
    Booked(Hour, UseCase, Counts),
    /// The books before that hour are not needed any more.
    Unbooked(Hour),
    /// A hold is as it says from now on.
    Hold(Hold),
    /// That hold is of no consequence any more.
    HoldGone(u64),
    /// A recall is as it says from now on.
    Recall(Box<Recall>),
    /// That recall, and its list, are not needed any more.
    RecallGone(u64),
    /// What time it is follows from this.
    Reckoning(Reckoning),
}

/// How the time that is gone by follows from the clock that never steps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reckoning {
    /// Which start of the host that clock counts from.
    pub boot: u64,
    /// The time at its zero.
    pub zero: Timestamp,
    /// The wall clock says otherwise, and is not believed.
    pub held: bool,
    /// The last hour in which anything happened, by that time. Older versions did not write it.
    pub seen: Option<Hour>,
    /// The last steps ahead that were followed: the time right after each, and by how much it was ahead.
    pub steps: Vec<(Timestamp, Duration)>,
}

/// Evidence that came before its message. At most one is kept per message: the strongest.
#[derive(Clone, PartialEq, Debug)]
pub struct EarlyEvent {
    /// What message it is about.
    pub identity: Identity,
    /// The handset it is about.
    pub phone: Phone,
    /// When it came.
    pub at: Timestamp,
    /// What it says.
    pub kind: EarlyKind,
}

/// What an early event says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[repr(u8)]
pub enum EarlyKind {
    /// The platform's own ttl took the message.
    TtlRevoked = 0,
    /// The user read it.
    Read = 1,
    /// The handset has it.
    Delivered = 2,
}

/// One entry of the outcome log: a message as it was when its agent had to be told something.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// What happened.
    pub kind: EntryKind,
    /// When.
    pub at: Timestamp,
    /// To which message.
    pub identity: Identity,
    /// On which handset.
    pub phone: Phone,
    /// Under which policy.
    pub use_case: UseCase,
    /// How it ended.
    pub outcome: Outcome,
    /// When it was sent.
    pub send_time: Timestamp,
    /// The deadline that applied.
    pub deadline: Timestamp,
    /// How long after it was due the first DELETE left, if one did.
    pub lateness: Option<Duration>,
    /// Its grant at that time.
    pub grant: Option<crate::model::Grant>,
    /// The grant's id.
    pub grant_id: Option<Box<str>>,
    /// What the agent wanted to have back with the grant.
    pub fallback: Option<Box<str>>,
    /// The agent's words for it.
    pub tags: Vec<Box<str>>,
    /// Why, in the platform's words, where it failed.
    pub detail: Option<Box<str>>,
}

/// What an entry of the outcome log tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EntryKind {
    /// The message has its outcome.
    Settled,
    /// It has another outcome than was told before.
    Amended,
    /// A grant that was held back is now given.
    Granted,
    /// A hook took its grant: the SMS is on its way.
    Taken,
    /// No hook took its grant while it was of use.
    Voided,
}

/// What a store knows when it is opened: little, and none of it grows with the messages.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Snapshot {
    /// Random and made with the store: which outcome log this is. A store that continues the log of another has its id.
    pub store_id: u64,
    /// The lanes.
    pub lanes: Vec<(LaneId, LaneSpec)>,
    /// Up to which place attempts may have left when the store was last written to, by queue. An orderly stop leaves none.
    pub fences: Vec<(LaneId, Queue, Place)>,
    /// Higher than any `seq` in use.
    pub next_seq: u64,
    /// The last entry ever written to the outcome log; 0 if none was.
    pub last_cursor: Cursor,
    /// What each agent has taken note of.
    pub acked: Vec<(AgentId, Cursor)>,
    /// Evidence that waits for its message.
    pub early: Vec<EarlyEvent>,
    /// What users said last of promotions.
    pub subscriptions: Vec<Subscription>,
    /// Holds, in force and released.
    pub holds: Vec<Hold>,
    /// Recalls, under way and ended.
    pub recalls: Vec<Recall>,
    /// How many records stand in each queue.
    pub counts: Vec<(LaneId, Queue, u64)>,
    /// The books.
    pub ledger: Ledger,
    /// What time it was follows from this.
    pub reckoning: Option<Reckoning>,
}

/// Why a store can't do what it is asked to.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the directory.
    #[error("{0} is in use by another process: only one daemon can run on a state directory")]
    Locked(String),
    /// The bytes were written by a newer version.
    #[error(
        "the store was written by a newer version of revoked (format {found}, this one reads up to {known}): nothing was touched"
    )]
    Newer {
        /// The format of the bytes.
        found: u8,
        /// The newest this program reads.
        known: u8,
    },
    /// The bytes make no sense.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    /// The disk is full or failing.
    #[error("the store can't write: {0}")]
    Io(String),
    /// The disk failed so often, and well in between, that this process can't take any more of it. The next one can.
    #[error("the disk failed too often: what it left behind in memory only a restart clears")]
    Spent,
}

impl StoreError {
    /// The same, with where the damage is.
    fn within(self, place: &dyn std::fmt::Display) -> Self {
        match self {
            Self::Corrupt(what) => Self::Corrupt(format!("{place}: {what}")),
            error => error,
        }
    }
}

/// How a store is doing.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Figures {
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Bytes of memory for what was written lately …
    pub young_bytes: u64,
    /// … and for what of that is on its way to where it stays.
    pub frozen_bytes: u64,
    /// Batches that are not durable yet.
    pub backlog: u64,
    /// How long it took to make batches durable, as many as go at once.
    pub flushes: Measured,
}

/// What the engine asks of its store. See the module's documentation.
pub trait Store {
    /// Applies a batch as one: all of it or nothing survives a crash. Visible at once; durable when the ticket comes back.
    /// Never refuses, so that what was learnt is not forgotten while a disk is full: ask [`Store::writable`] before taking on
    /// anything new.
    fn append(&mut self, batch: Vec<Change>) -> Ticket;

    /// Somebody waits for the last ticket. What nobody waits for may go to the disk a few milliseconds later, together with more.
    fn hurry(&mut self) {}

    /// Whether new messages may be taken on. Asking is also what lets a store that refuses make room.
    ///
    /// # Errors
    /// Why not: the disk is full or fails, or too much waits to be written.
    fn writable(&mut self) -> Result<(), StoreError>;

    /// Whether memory holds so much that a failing disk did not take that nothing should be appended that can wait: what is then
    /// lost in a crash, or for want of memory, would be more than what is won by going on.
    fn is_overfull(&self) -> bool {
        false
    }

    /// The record of a message.
    ///
    /// # Errors
    /// If it can't be read.
    fn find(&self, identity: &Identity) -> Result<Option<Record>, StoreError>;

    /// The record at a position.
    ///
    /// # Errors
    /// If it can't be read.
    fn at(&self, position: &Position) -> Result<Option<Record>, StoreError>;

    /// The first `limit` places of a queue behind `after`, in order.
    ///
    /// # Errors
    /// If they can't be read.
    fn places(&self, lane: LaneId, queue: Queue, after: Option<Place>, limit: usize) -> Result<Vec<Place>, StoreError>;

    /// The first `limit` entries of the outcome log behind `after`.
    ///
    /// # Errors
    /// If they can't be read.
    fn outcomes(&self, after: Cursor, limit: usize) -> Result<Vec<(Cursor, Entry)>, StoreError>;

    /// How it is doing: what is known without reading what is kept.
    fn figures(&self) -> Figures;
}
