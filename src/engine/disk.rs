//! What the disk has, what it does not take, and how far that is gone on without it.
//!
//! While the disk fails nothing new is taken on; what is known is revoked, and what is learnt of it is kept in memory, to be
//! written when the disk is well. Whoever waits for the disk is refused, and nothing is told that a crash would take back. When
//! too much waits for it, all stands still: see [`Store::is_overfull`].

use tracing::{error, info};

use super::core::{Core, Effect};
use super::replies::Refusal;
use crate::store::{Store, StoreError, Ticket};

impl<S: Store> Core<S> {
    /// Everything up to this ticket is on disk.
    pub(super) fn durable(&mut self, ticket: Ticket) {
        self.durable_ticket = ticket;
        if std::mem::take(&mut self.disk_fails) {
            self.dirty.extend(0..self.routes.len());
        }
        while self.waiting.front().is_some_and(|(wanted, _)| *wanted <= ticket) {
            if let Some((_, waiter)) = self.waiting.pop_front() {
                waiter(Ok(()));
            }
        }
        let mut readable = None;
        while self.cursors.front().is_some_and(|(wanted, _)| *wanted <= ticket) {
            readable = self.cursors.pop_front().map(|(_, cursor)| cursor);
        }
        if let Some(cursor) = readable {
            self.durable_cursor = cursor;
            self.effects.push(Effect::Outcomes(cursor));
        }
        let moved = self.lanes.durable(ticket);
        self.dirty.extend(moved);
    }

    /// The disk did not take what was written.
    pub(super) fn not_durable(&mut self, why: &StoreError) {
        // Fences don't get to the disk now. What is known is revoked all the same.
        self.disk_fails = true;
        self.dirty.extend(0..self.routes.len());
        let refusal = Refusal::unavailable(why.to_string());
        for (_, waiter) in std::mem::take(&mut self.waiting) {
            waiter(Err(refusal.clone()));
        }
    }

    /// Whether so much waits for a disk that fails that nothing is begun or learnt until it takes it. Said once when that begins,
    /// and once when it is over.
    pub(super) fn stands_still(&mut self) -> bool {
        let still = self.store.is_overfull();
        if still != std::mem::replace(&mut self.stood_still, still) {
            if still {
                error!(
                    name: "stands_still",
                    "too much waits for the disk: nothing more is revoked, and no event taken, until it can be written"
                );
            } else {
                info!(name: "moves_again", "what waited for the disk is written: revocations and events go on");
            }
        }
        still
    }

    /// The last of what was handed to the store.
    pub(super) fn written(&self) -> Ticket {
        self.last_ticket
    }

    pub(super) fn is_durable(&self, ticket: Ticket) -> bool {
        ticket <= self.durable_ticket
    }

    /// For whoever has news of messages that are known.
    ///
    /// # Errors
    /// 503 while too much waits for the disk.
    pub(super) fn takes_in(&mut self) -> Result<(), Refusal> {
        if !self.stands_still() {
            return Ok(());
        }
        let why = self.store.writable().err().map_or_else(String::new, |error| format!(": {error}"));
        Err(Refusal::unavailable(format!("too much waits for the disk{why}")))
    }
}
