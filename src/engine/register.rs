//! What agents ask to be done: registering, withdrawing, revoking now, rescheduling, taking note of outcomes.

use std::time::Duration;

use super::asked::{Draft, OnConflict, Own, Verb};
use super::core::{Batch, Core};
use super::replies::{Described, Refusal, Registered};
use crate::model::agents::meant;
use crate::model::ledger::Cell;
use crate::model::{
    Agents, Attempts, Event, Identity, LaneSpec, Policy, Record, Rule, Seen, State, Timestamp, What,
    policy::PLATFORM_KEEPS,
};
use crate::store::{Change, Cursor, EarlyKind, Store};

/// Lanes there may be: use cases × agents × regions × traffic types. Each costs some kilobytes of memory.
const LANES_MAX: usize = 65_536;
/// How far ahead of our clock a send time may lie: clocks differ, and messages are registered after they are sent.
const AHEAD_MAX: Duration = Duration::from_secs(3600);

impl<S: Store> Core<S> {
    /// Registers messages, each on its own.
    pub(super) fn register(&mut self, drafts: Vec<Draft>, now: Timestamp) -> Vec<Result<Registered, Refusal>> {
        let mut batch = Batch::default();
        let mut results = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let identity = Identity { agent: draft.agent.clone(), message_id: draft.message_id.clone() };
            if batch.touches(&identity) {
                self.commit(std::mem::take(&mut batch));
            }
            let result = self.register_one(identity, draft, now, &mut batch);
            self.counters.registered(&result);
            results.push(result);
        }
        self.commit(batch);
        results
    }

    fn register_one(
        &mut self,
        identity: Identity,
        draft: Draft,
        now: Timestamp,
        batch: &mut Batch,
    ) -> Result<Registered, Refusal> {
        let policy = self.policies.get(&draft.use_case).cloned().ok_or_else(|| {
            let known: Vec<_> = self.policies.iter().map(|(name, _)| name.as_str()).collect();
            let message = format!("no use case {:?} is configured; there are: {}", draft.use_case, known.join(", "));
            Refusal::invalid("useCase", message)
        })?;
        // By a clock that is not believed it may have been sent tomorrow.
        let latest = if self.disbelief().is_some() { now } else { Timestamp::MAX };
        let send_time = draft.send_time.unwrap_or(now).min(latest);
        let deadline = own_deadline(&draft, &policy, send_time, now)?;
        let mut existing = self.load(&identity).map_err(|error| Refusal::unavailable(error.to_string()))?;
        if let Some((known, at)) = &mut existing
            && self.recall_first(known, *at, now, batch)
        {
            *at = known.position();
        }
        if let Some((known, at)) = &existing {
            if known.phone != draft.phone {
                return Err(Refusal {
                    field: Some("phone".into()),
                    ..Refusal::conflict("this message is registered for another handset: message ids are per agent")
                });
            }
            if let Some(answer) = self.conflict(known, draft.on_conflict, &policy, send_time, deadline)? {
                return Ok(Registered { message: self.describe(answer), created: false });
            }
            debug_assert_eq!(known.position(), *at, "only pending records are replaced, and they have no attempt out");
        }
        if policy.retired && existing.is_none() {
            let message = format!("use case {:?} is retired and takes no new messages", draft.use_case);
            return Err(Refusal::invalid("useCase", message));
        }
        let spec = LaneSpec {
            use_case: draft.use_case,
            agent: draft.agent,
            region: draft.region.unwrap_or(self.settings.default_region),
            traffic_type: draft.traffic_type.unwrap_or(policy.traffic_type),
            pinned: None,
        };
        self.has_room_for(&spec)?;
        let Some(lane) = self.lane(&spec, batch) else { unreachable!("its use case has a policy: it was just asked") };
        let known = existing.as_ref().map(|(record, _)| record);
        let mut record = Record {
            lane,
            seq: known.map_or_else(|| self.new_seq(), |known| known.seq),
            phone: draft.phone,
            tags: draft.tags,
            fallback: draft.fallback,
            time_zone: draft.time_zone,
            registered_at: known.map_or(now, |known| known.registered_at),
            send_time,
            deadline,
            state: State::Pending,
            held: false,
            recall: None,
            attempts: Attempts { unknown: known.is_some_and(|known| known.attempts.unknown), ..Attempts::default() },
            seen: Seen::default(),
            grant: None,
            trail: known.map(|known| known.trail.clone()).unwrap_or_default(),
            identity,
        };
        record.note(now, if known.is_some() { What::Replaced } else { What::Registered }, None);
        self.stand(existing.as_ref().map(|(_, at)| *at), &record, batch);
        if existing.is_none() {
            batch.book(now, &spec.use_case, [(Cell::REGISTERED, 1)]);
        }
        self.apply_early(&mut record, now, batch);
        Ok(Registered { created: existing.is_none(), message: self.describe(record) })
    }

    pub(super) fn has_room_for(&self, spec: &LaneSpec) -> Result<(), Refusal> {
        if self.lanes.id(spec).is_none() && self.lanes.len() >= LANES_MAX {
            return Err(Refusal::unavailable("too many combinations of agent, use case and region are in use"));
        }
        Ok(())
    }

    /// What a registration of a known message comes to: `Some` if it stays as it is.
    fn conflict(
        &self,
        known: &Record,
        on_conflict: OnConflict,
        policy: &Policy,
        send_time: Timestamp,
        deadline: Option<Timestamp>,
    ) -> Result<Option<Record>, Refusal> {
        if on_conflict == OnConflict::Reject {
            return Err(Refusal::conflict(format!(
                "message {:?} is registered already; its state is {}",
                known.identity.message_id,
                state_word(known)
            )));
        }
        // What is over stays over: a late registration can't bring back what was withdrawn, revoked or delivered.
        if known.state != State::Pending || on_conflict == OnConflict::Keep {
            return Ok(Some(known.clone()));
        }
        if on_conflict == OnConflict::Earliest {
            let standing = self.lanes.get(known.lane).map(|lane| known.deadline(&lane.policy));
            if standing.is_some_and(|standing| standing <= policy.deadline(send_time, deadline)) {
                return Ok(Some(known.clone()));
            }
        }
        Ok(None)
    }

    /// Evidence that came before the message takes effect right after its registration, in the same write.
    pub(super) fn apply_early(&mut self, record: &mut Record, now: Timestamp, batch: &mut Batch) {
        let Some(early) = self.early.take(&record.identity, record.phone, &mut batch.changes) else { return };
        let event = match early.kind {
            EarlyKind::Delivered => Event::Delivered,
            EarlyKind::Read => Event::Read,
            EarlyKind::TtlRevoked => Event::TtlRevoked,
        };
        let at = record.position();
        self.advance(record, at, event, now, batch);
    }

    /// Withdraws, revokes or reschedules a message.
    pub(super) fn act(&mut self, identity: &Identity, verb: Verb, now: Timestamp) -> Result<Described, Refusal> {
        self.takes_in()?;
        let found = self.load(identity).map_err(|error| Refusal::unavailable(error.to_string()))?;
        let (mut record, at) = found.ok_or_else(|| Refusal::not_found(identity))?;
        let event = match verb {
            Verb::Withdraw => Event::Withdraw,
            Verb::Revoke => Event::RevokeNow,
            Verb::Decide(give) => Event::Decide(give),
            Verb::Reschedule(deadline) => {
                let lane = self.lanes.get(record.lane).map(|lane| lane.policy.max_ttl);
                within_bounds(deadline, record.send_time, lane.unwrap_or(PLATFORM_KEEPS), now, "expireTime")?;
                Event::Reschedule(deadline)
            }
        };
        if verb == Verb::Revoke
            && record.state == State::Pending
            && let Some(hold) = self.hold_on(&record)
        {
            let (id, hold, of) = (&identity.message_id, hold.id, &hold.of);
            return Err(Refusal::conflict(format!("message {id:?} is held by hold {hold} ({of}): release that first")));
        }
        let mut batch = Batch::default();
        let step = self.advance(&mut record, at, event, now, &mut batch);
        self.commit(batch);
        if step.refused {
            let (id, state) = (&identity.message_id, state_word(&record));
            return Err(Refusal::conflict(match verb {
                Verb::Decide(_) => format!("no grant of message {id:?} is held back; its state is {state}"),
                Verb::Withdraw | Verb::Revoke | Verb::Reschedule(_) => {
                    format!("too late: the state of message {id:?} is {state}")
                }
            }));
        }
        Ok(self.describe(record))
    }

    /// Takes note of outcomes, for some agents or for all.
    pub(super) fn ack(&mut self, agents: Option<&Agents>, cursor: Cursor) -> Result<Cursor, Refusal> {
        if cursor > self.durable_cursor {
            let last = self.durable_cursor;
            return Err(Refusal::invalid(
                "cursor",
                format!("no outcome {cursor} was given out; the last one is {last}"),
            ));
        }
        let mut batch = Batch::default();
        // One that never registered anything has no outcomes, and nothing is kept for it.
        for agent in self.routes.iter().map(|route| &route.agent).filter(|agent| meant(agents, agent)) {
            let acked = self.acked.entry(agent.clone()).or_default();
            if cursor > *acked {
                *acked = cursor;
                batch.changes.push(Change::Acked(agent.clone(), cursor));
            }
        }
        self.commit(batch);
        Ok(cursor)
    }
}

/// The deadline that a message brings itself, if it does and it makes sense.
fn own_deadline(
    draft: &Draft,
    policy: &Policy,
    send_time: Timestamp,
    now: Timestamp,
) -> Result<Option<Timestamp>, Refusal> {
    if send_time > now.plus(AHEAD_MAX) {
        let message =
            format!("{send_time} is more than an hour ahead of this host's clock ({now}): register after sending");
        return Err(Refusal::invalid("sendTime", message));
    }
    if send_time.plus(PLATFORM_KEEPS) <= now {
        return Err(Refusal::invalid("sendTime", format!("{send_time}: the platform keeps messages for 30 days only")));
    }
    let (deadline, field) = match draft.own {
        None => {
            return match policy.rule {
                Rule::ExpiresAt(end) if end <= now => {
                    let message = format!(
                        "use case {:?} ended at {end}: give it a later expires_at, or the message an expireTime",
                        draft.use_case
                    );
                    Err(Refusal::invalid("useCase", message))
                }
                _ => Ok(None),
            };
        }
        Some(Own::At(deadline)) => (deadline, "expireTime"),
        Some(Own::Ttl(ttl)) => (send_time.plus(ttl), "ttl"),
    };
    within_bounds(deadline, send_time, policy.max_ttl, now, field)?;
    Ok(Some(deadline))
}

fn within_bounds(
    deadline: Timestamp,
    send_time: Timestamp,
    max_ttl: Duration,
    now: Timestamp,
    field: &'static str,
) -> Result<(), Refusal> {
    if deadline <= now {
        return Err(Refusal::invalid(field, format!("the deadline {deadline} is in the past; it is {now}")));
    }
    let latest = send_time.plus(max_ttl.min(PLATFORM_KEEPS));
    if deadline > latest {
        let message = format!("the deadline {deadline} is later than this use case allows (max_ttl): at most {latest}");
        return Err(Refusal::invalid(field, message));
    }
    Ok(())
}

fn state_word(record: &Record) -> String {
    match record.state {
        State::Pending => "PENDING".to_owned(),
        State::Revoking { .. } => "REVOKING".to_owned(),
        State::Settling { .. } => "SETTLING".to_owned(),
        State::Settled { outcome, .. } => format!("SETTLED as {}", outcome.as_str()),
    }
}
