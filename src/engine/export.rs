//! Everything there is, as of one instant, read in slices beside the work.
//!
//! The instant is that of [`Core::begin_export`]. From then on the store goes on changing, so before a message that was not
//! reached yet is changed, what it was is put aside; and what was changed is passed over where it stands later. So each
//! message is told once, as it was at that instant, however long the reading takes. Memory follows what changes meanwhile,
//! within bounds: an export that is read too slowly is given up.
//!
//! A message for which a DELETE is out, or may be since its queue's fence covers it, is told as one whose attempt is of
//! unknown result: whoever takes it over must not take a 404 for a delivery.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Weak};

use super::core::{Core, Scale};
use super::handle::{Command, Handle};
use super::replies::{Refusal, RefusalKind};
use super::retune::Tuning;
use crate::model::{AgentId, LaneId, LaneSpec, Place, Position, Queue, Record, Subscription, Timestamp, What};
use crate::store::{Change, Cursor, EarlyEvent, Entry, Snapshot, Store, StoreError};

/// Items of one slice: some milliseconds of the engine's time where the store's cache is cold.
const SLICE: usize = 256;
/// Messages put aside until the reader comes for them …
const SAVED_MAX: usize = 100_000;
/// … and messages remembered as told or put aside: some 40 MB.
const CHANGED_MAX: usize = 2_000_000;

/// What an export begins with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExportHead {
    /// The instant it is of.
    pub at: Timestamp,
    /// The outcome log it holds.
    pub log: LogSpan,
}

/// Which outcome log, and how much of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogSpan {
    /// The store in which it was begun: cursors of different logs have nothing to do with each other.
    pub store_id: u64,
    /// The entry before the first one.
    pub after: Cursor,
    /// The last one.
    pub last: Cursor,
}

/// One thing of a store.
#[derive(Clone, PartialEq, Debug)]
pub enum ExportItem {
    /// An entry of the outcome log.
    Outcome(Cursor, Box<Entry>),
    /// What an agent has taken note of.
    Acked(AgentId, Cursor),
    /// Evidence that waits for its message.
    Early(EarlyEvent),
    /// What a user said last of an agent's promotions.
    Subscription(Subscription),
    /// A message, and the lane it stands in.
    Message(Box<Record>, LaneSpec),
}

impl ExportItem {
    /// Whose it is.
    pub fn agent(&self) -> &AgentId {
        match self {
            Self::Outcome(_, entry) => &entry.identity.agent,
            Self::Acked(agent, _) => agent,
            Self::Early(event) => &event.identity.agent,
            Self::Subscription(subscription) => &subscription.agent,
            Self::Message(record, _) => &record.identity.agent,
        }
    }
}

/// Some of an export, and whether it is the last of it.
#[derive(Clone, PartialEq, Debug)]
pub struct ExportSlice {
    /// What is in it.
    pub items: Vec<ExportItem>,
    /// Nothing follows.
    pub done: bool,
}

/// Keeps an export going; when it is dropped, the engine forgets about it.
#[derive(Debug)]
pub struct ExportLease(Arc<()>);

/// An export that is being read.
pub(super) struct Export {
    lease: Weak<()>,
    at: Timestamp,
    log: LogSpan,
    /// Few, and taken down at the beginning.
    others: VecDeque<ExportItem>,
    /// Messages from here on are younger than the export.
    next_seq: u64,
    /// Everything up to here was told.
    passed: Position,
    /// Messages that are not to be told where they stand now.
    changed: HashSet<u64>,
    saved: Vec<ExportItem>,
    /// Why it can't be gone on with.
    failed: Option<String>,
}

const BEGINNING: Place = Place { order: Timestamp::EPOCH, seq: 0 };
const END: Place = Place { order: Timestamp::MAX, seq: u64::MAX };

impl<S: Store> Core<S> {
    /// Takes down what is to be told.
    pub(super) fn begin_export(&mut self, lease: Weak<()>, now: Timestamp) -> Result<ExportHead, Refusal> {
        if self.export.as_ref().is_some_and(|export| export.lease.strong_count() > 0) {
            return Err(Refusal::conflict("another export is under way: one at a time"));
        }
        let first = self.store.outcomes(0, 1).map_err(|error| Refusal::unavailable(error.to_string()))?;
        let after = first.first().map_or(self.last_cursor, |(cursor, _)| cursor - 1);
        let log = LogSpan { store_id: self.store_id, after, last: self.last_cursor };
        let acked = self.acked.iter().map(|(agent, cursor)| ExportItem::Acked(agent.clone(), *cursor));
        let early = self.early.iter().cloned().map(ExportItem::Early);
        let subscriptions = self.subscriptions.iter().cloned().map(ExportItem::Subscription);
        self.export = Some(Export {
            lease,
            at: now,
            log,
            others: acked.chain(early).chain(subscriptions).collect(),
            next_seq: self.next_seq,
            passed: Position { lane: LaneId(0), queue: Queue::Anchor, place: BEGINNING },
            changed: HashSet::new(),
            saved: Vec::new(),
            failed: None,
        });
        Ok(ExportHead { at: now, log })
    }

    /// The next of it.
    pub(super) fn export_slice(&mut self) -> Result<ExportSlice, Refusal> {
        let Some(mut export) = self.export.take() else {
            return Err(Refusal::conflict("no export is under way"));
        };
        let slice = self.read_slice(&mut export).map_err(|error| Refusal::unavailable(error.to_string()))?;
        if let Some(words) = export.failed {
            return Err(Refusal { kind: RefusalKind::Unavailable, message: words, field: None });
        }
        if !slice.done {
            self.export = Some(export);
        }
        Ok(slice)
    }

    fn read_slice(&self, export: &mut Export) -> Result<ExportSlice, StoreError> {
        let more = |items| Ok(ExportSlice { items, done: false });
        if export.log.after < export.log.last {
            let mut entries = self.store.outcomes(export.log.after, SLICE)?;
            entries.retain(|(cursor, _)| *cursor <= export.log.last);
            export.log.after = entries.last().map_or(export.log.last, |(cursor, _)| *cursor);
            return more(entries.into_iter().map(|(cursor, e)| ExportItem::Outcome(cursor, Box::new(e))).collect());
        }
        if !export.others.is_empty() {
            return more(export.others.drain(..export.others.len().min(SLICE)).collect());
        }
        let mut items = std::mem::take(&mut export.saved);
        let done = self.walk(export, &mut items)?;
        Ok(ExportSlice { items, done })
    }

    /// Goes on through lanes, queues and places. True at the end.
    fn walk(&self, export: &mut Export, items: &mut Vec<ExportItem>) -> Result<bool, StoreError> {
        let mut left = SLICE;
        let first = export.passed.lane;
        for (lane, found) in self.lanes.iter().filter(|(lane, _)| *lane >= first) {
            for queue in Queue::ALL {
                let from = if (lane, queue) < (export.passed.lane, export.passed.queue) {
                    continue;
                } else if (lane, queue) == (export.passed.lane, export.passed.queue) {
                    export.passed.place
                } else {
                    BEGINNING
                };
                if found.line(queue).count > 0 {
                    let places = self.store.places(lane, queue, Some(from), left)?;
                    for place in &places {
                        let position = Position { lane, queue, place: *place };
                        if place.seq < export.next_seq && !export.changed.contains(&place.seq) {
                            items.extend(self.exported(position, export.at)?);
                        }
                        export.passed = position;
                    }
                    left -= places.len();
                }
                if left == 0 {
                    return Ok(false);
                }
                export.passed = Position { lane, queue, place: END };
            }
        }
        Ok(true)
    }

    /// What stands at a position, with what is not written there.
    fn exported(&self, position: Position, at: Timestamp) -> Result<Option<ExportItem>, StoreError> {
        let Some(lane) = self.lanes.get(position.lane) else { return Ok(None) };
        let (mut record, out) = match self.flights.get(&position.place.seq) {
            Some(flight) => (flight.record.clone(), true),
            None => match self.store.at(&position)? {
                Some(record) => (record, false),
                None => return Ok(None),
            },
        };
        let line = lane.line(position.queue);
        let may_be_out = Queue::ATTEMPTS.contains(&position.queue)
            && (line.may_have_left(position.place) || self.is_in_doubt(position) || self.disk_fails);
        if (out || may_be_out) && !record.attempts.unknown {
            record.attempts.unknown = true;
            record.note(at, What::MaybeAttempted, None);
        }
        Ok(Some(ExportItem::Message(Box::new(record), lane.spec.clone())))
    }

    /// Before messages change: what they were is put aside for an export that has not reached them.
    pub(super) fn save_for_export(&mut self, changes: &[Change]) {
        let Some(mut export) = self.export.take_if(|export| export.lease.strong_count() > 0) else {
            self.export = None;
            return;
        };
        for change in changes {
            let (at, gone) = match change {
                Change::Put { from: Some(from), .. } => (*from, false),
                Change::Remove { at, .. } => (*at, true),
                _ => continue,
            };
            let seq = at.place.seq;
            if seq >= export.next_seq || export.changed.contains(&seq) {
                continue;
            }
            if at > export.passed {
                match self.exported(at, export.at) {
                    Ok(item) => export.saved.extend(item),
                    Err(error) => export.failed = Some(error.to_string()),
                }
            }
            if !gone {
                export.changed.insert(seq);
            }
        }
        if export.saved.len() > SAVED_MAX || export.changed.len() > CHANGED_MAX {
            let words = "too much changed while the export was read: read it faster, or at a quieter time";
            (export.saved, export.changed) = Default::default();
            export.failed = Some(words.to_owned());
        }
        self.export = Some(export);
    }
}

/// Reads a store that no daemon runs on.
///
/// # Errors
/// In words: a use case without a policy, a store that can't be read, or what `each` says.
pub fn export_store<S: Store>(
    store: S,
    snapshot: &Snapshot,
    tuning: Tuning,
    now: Timestamp,
    mut each: impl FnMut(&ExportHead, ExportSlice) -> Result<(), String>,
) -> Result<(), String> {
    let mut core = Core::new(store, snapshot, tuning, Scale::default(), fastrand::Rng::with_seed(0), now)
        .map_err(|name| format!("messages wait under use case {name:?}, which the configuration does not know"))?;
    let lease = Arc::new(());
    let head = core.begin_export(Arc::downgrade(&lease), now).map_err(|refusal| refusal.message)?;
    loop {
        let slice = core.export_slice().map_err(|refusal| refusal.message)?;
        let done = slice.done;
        each(&head, slice)?;
        if done {
            return Ok(());
        }
    }
}

impl Handle {
    /// Begins an export of everything as it is now.
    ///
    /// # Errors
    /// 409 while another one is read.
    pub async fn export(&self) -> Result<(ExportLease, ExportHead), Refusal> {
        let lease = ExportLease(Arc::default());
        let weak = Arc::downgrade(&lease.0);
        let head = self.ask(|reply| Command::Export(weak, reply)).await?;
        Ok((lease, head))
    }

    /// The next of an export.
    ///
    /// # Errors
    /// 503 if it can't be gone on with.
    pub async fn export_slice(&self, _lease: &ExportLease) -> Result<ExportSlice, Refusal> {
        self.ask(Command::ExportSlice).await
    }
}
