//! What is learnt from outside about messages: delivery events and the platform's own notices.

use super::asked::{Evidence, EvidenceKind};
use super::core::{Batch, Core};
use super::replies::{EvidenceEffect, Refusal};
use crate::model::{Event, Position, Record, Timestamp};
use crate::store::{EarlyEvent, EarlyKind, Store};

impl<S: Store> Core<S> {
    /// Weighs evidence, piece by piece.
    ///
    /// # Errors
    /// 503 if a message can't be read: whether it is known decides what its evidence is worth. Whoever told tells it again;
    /// the pieces before it are taken, and told again they are duplicates. The same while too much waits for the disk.
    pub(super) fn learn(&mut self, evidence: Vec<Evidence>, now: Timestamp) -> Result<Vec<EvidenceEffect>, Refusal> {
        self.takes_in()?;
        let mut batch = Batch::default();
        let mut effects = Vec::with_capacity(evidence.len());
        for piece in evidence {
            if batch.touches(&piece.identity) {
                self.commit(std::mem::take(&mut batch));
            }
            match self.load(&piece.identity) {
                Ok(found) => {
                    let kind = piece.kind.name();
                    let effect = self.learn_one(found, piece, now, &mut batch);
                    self.counters.learnt(kind, effect);
                    effects.push(effect);
                }
                Err(error) => {
                    self.commit(batch);
                    return Err(Refusal::unavailable(error.to_string()));
                }
            }
        }
        self.commit(batch);
        Ok(effects)
    }

    fn learn_one(
        &mut self,
        found: Option<(Record, Position)>,
        piece: Evidence,
        now: Timestamp,
        batch: &mut Batch,
    ) -> EvidenceEffect {
        let Some((mut record, at)) = found else { return self.keep_early(piece, now, batch) };
        if record.phone != piece.phone {
            return EvidenceEffect::Ignored;
        }
        let event = match piece.kind {
            EvidenceKind::Delivered => Event::Delivered,
            EvidenceKind::Read => Event::Read,
            EvidenceKind::TtlRevoked => Event::TtlRevoked,
            EvidenceKind::TtlFailed(name) => Event::TtlFailed(name),
        };
        let step = self.advance(&mut record, at, event, now, batch);
        if step.changed {
            self.still_out(record);
        }
        if step.duplicate { EvidenceEffect::Duplicate } else { EvidenceEffect::Applied }
    }

    /// An attempt that is out goes on, with this record. It is not to be picked up from where that stands now.
    pub(super) fn still_out(&mut self, record: Record) {
        let (seq, position) = (record.seq, record.position());
        let Some(flight) = self.flights.get_mut(&seq) else { return };
        (flight.record, flight.stored_at) = (record, position);
        if let Some(lane) = self.lanes.get_mut(position.lane) {
            lane.line_mut(position.queue).hide(position.place);
        }
    }

    fn keep_early(&mut self, piece: Evidence, now: Timestamp, batch: &mut Batch) -> EvidenceEffect {
        let kind = match piece.kind {
            EvidenceKind::Delivered => EarlyKind::Delivered,
            EvidenceKind::Read => EarlyKind::Read,
            EvidenceKind::TtlRevoked => EarlyKind::TtlRevoked,
            EvidenceKind::TtlFailed(_) => return EvidenceEffect::Ignored,
        };
        let event = EarlyEvent { identity: piece.identity, phone: piece.phone, at: now, kind };
        let (max, keep_for) = (self.settings.early_max, self.settings.early_for);
        let kept_until = |at: Timestamp| self.time.over(at.plus(keep_for), keep_for);
        if self.early.keep(event, max, kept_until, &mut batch.changes) {
            EvidenceEffect::Early
        } else {
            EvidenceEffect::Duplicate
        }
    }
}

/// Evidence that waited elsewhere.
pub(super) fn of_early(event: EarlyEvent) -> Evidence {
    let kind = match event.kind {
        EarlyKind::Delivered => EvidenceKind::Delivered,
        EarlyKind::Read => EvidenceKind::Read,
        EarlyKind::TtlRevoked => EvidenceKind::TtlRevoked,
    };
    Evidence { identity: event.identity, phone: event.phone, kind }
}
