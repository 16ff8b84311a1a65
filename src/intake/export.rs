//! An export, as lines: written by the daemon, or by `revoked export` where none runs, and read by `revokectl import`.
//!
//! One JSON object a line, with one key that says what it is: first `revokedExport`, the header; then, in this order,
//! `outcome`, `acked`, `early`, `subscription`, `message`, as many as there are; last `end`, the trailer, without which a file is cut off.
//! Outcomes come before the messages whose grants they told.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::wire::{AckView, NoteView, OutcomeView, optional_duration, raw};
use crate::engine::{ExportHead, ExportItem, LogSpan, Refusal, StateKind};
use crate::model::{
    AgentId, Attempts, Belief, Call, Grant, GrantState, Identity, LaneId, LaneSpec, MessageId, Note, Outcome, Phone,
    Record, Region, Seen, State, Subscription, Timestamp, TrafficType, UseCase,
};
use crate::store::{EarlyEvent, EarlyKind, Entry, EntryKind};

/// The format of these lines, raised when an older program could misread them.
pub const FORMAT: u32 = 1;

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Line {
    /// The first.
    RevokedExport(HeaderView),
    /// An entry of the outcome log.
    Outcome(Box<OutcomeView>),
    /// What an agent has taken note of.
    Acked(AckView),
    /// An event that came before its message.
    Early(EarlyView),
    /// What a user said last of an agent's promotions.
    Subscription(SubscriptionView),
    /// A message.
    Message(Box<ExportedMessage>),
    /// The last.
    End(TrailerView),
}

/// The first line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeaderView {
    /// [`FORMAT`]
    pub format: u32,
    /// The program that wrote it.
    pub version: String,
    /// The instant it is of.
    pub at: Timestamp,
    /// Which outcome log it holds.
    pub log_id: String,
    /// The cursor before its first outcome.
    pub after_cursor: String,
    /// The cursor of its last outcome.
    pub last_cursor: String,
}

/// The last line: how many there are of each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrailerView {
    /// Lines before this one, the header among them.
    pub lines: u64,
    /// Entries of the outcome log.
    pub outcomes: u64,
    /// Agents that have taken note of some.
    pub acked: u64,
    /// Early events.
    pub early: u64,
    /// What users said of promotions.
    #[serde(default)]
    pub subscriptions: u64,
    /// Messages.
    pub messages: u64,
}

/// An event that came before its message.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EarlyView {
    agent_id: AgentId,
    message_id: MessageId,
    phone: String,
    at: Timestamp,
    kind: EarlyKind,
}

/// What a user said last of an agent's promotions.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionView {
    agent_id: AgentId,
    phone: String,
    /// `UNSUBSCRIBE`, and not `SUBSCRIBE`.
    ended: bool,
    said: Timestamp,
    heard: Timestamp,
}

/// A message with everything that is kept of it; unlike [`MessageView`](super::wire::MessageView), nothing that follows from
/// a policy.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportedMessage {
    agent_id: AgentId,
    message_id: MessageId,
    phone: String,
    use_case: UseCase,
    region: Region,
    message_traffic_type: TrafficType,
    /// The rule it keeps although its use case has another one by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rule: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fallback: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time_zone: Option<Box<str>>,
    send_time: Timestamp,
    registered_at: Timestamp,
    /// While pending: its own, if it has one. Afterwards: the one that applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expire_time: Option<Timestamp>,
    state: StateKind,
    /// While it is being revoked: when the next DELETE may leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_attempt: Option<Timestamp>,
    /// While it settles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    belief: Option<Belief>,
    /// Once it has settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    /// When it settled, or will.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settle_time: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "is_default")]
    attempts: AttemptsView,
    #[serde(default, skip_serializing_if = "is_default")]
    seen: SeenView,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grant: Option<ExportedGrant>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    trail: Vec<NoteView>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AttemptsView {
    count: u32,
    failures: u32,
    not_found: u32,
    /// One of them may have revoked it without our hearing of it.
    unknown: bool,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_duration")]
    lateness: Option<Duration>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SeenView {
    delivered: bool,
    ttl_revoked: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExportedGrant {
    state: GrantState,
    /// The outcome that told of it.
    cursor: String,
    valid_until: Timestamp,
    /// Where a hook is to be called for it: when next, and how often that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_call: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "is_default")]
    failed_calls: u32,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl From<&ExportHead> for HeaderView {
    fn from(head: &ExportHead) -> Self {
        Self {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            at: head.at,
            log_id: format!("{:016x}", head.log.store_id),
            after_cursor: head.log.after.to_string(),
            last_cursor: head.log.last.to_string(),
        }
    }
}

impl HeaderView {
    /// Which log it speaks of.
    ///
    /// # Errors
    /// 400 for a format that is not ours, or numbers that are none.
    pub fn log(&self) -> Result<LogSpan, Refusal> {
        if self.format != FORMAT {
            let message = format!("an export of format {}; this program reads format {FORMAT}", self.format);
            return Err(Refusal::invalid("format", message));
        }
        let store_id = u64::from_str_radix(&self.log_id, 16);
        let store_id = store_id.map_err(|_| Refusal::invalid("logId", "not an id that was given out"))?;
        Ok(LogSpan {
            store_id,
            after: cursor("afterCursor", &self.after_cursor)?,
            last: cursor("lastCursor", &self.last_cursor)?,
        })
    }
}

impl TrailerView {
    /// Counts an item, and gives its line.
    pub fn line(&mut self, item: ExportItem) -> Line {
        self.lines += 1;
        match item {
            ExportItem::Outcome(cursor, entry) => {
                self.outcomes += 1;
                Line::Outcome(Box::new((cursor, *entry).into()))
            }
            ExportItem::Acked(agent, cursor) => {
                self.acked += 1;
                Line::Acked(AckView { cursor: cursor.to_string(), agent_id: Some(agent) })
            }
            ExportItem::Early(event) => {
                self.early += 1;
                let EarlyEvent { identity, phone, at, kind } = event;
                let Identity { agent: agent_id, message_id } = identity;
                Line::Early(EarlyView { agent_id, message_id, phone: phone.reveal(), at, kind })
            }
            ExportItem::Subscription(Subscription { agent, phone, ended, said, heard }) => {
                self.subscriptions += 1;
                Line::Subscription(SubscriptionView { agent_id: agent, phone: phone.reveal(), ended, said, heard })
            }
            ExportItem::Message(record, lane) => {
                self.messages += 1;
                Line::Message(Box::new(exported(*record, lane)))
            }
        }
    }
}

impl Line {
    /// What is to be taken over; `None` for the header and the trailer.
    ///
    /// # Errors
    /// 400 with the field at fault.
    pub fn item(self) -> Result<Option<ExportItem>, Refusal> {
        Ok(Some(match self {
            Self::RevokedExport(_) | Self::End(_) => return Ok(None),
            Self::Outcome(view) => ExportItem::Outcome(cursor("cursor", &view.cursor)?, Box::new(entry(*view)?)),
            Self::Acked(AckView { cursor: to, agent_id }) => {
                let agent = agent_id.ok_or_else(|| Refusal::invalid("agentId", "agentId is missing"))?;
                ExportItem::Acked(agent, cursor("cursor", &to)?)
            }
            Self::Early(EarlyView { agent_id, message_id, phone: number, at, kind }) => {
                let identity = Identity { agent: agent_id, message_id };
                ExportItem::Early(EarlyEvent { identity, phone: phone(&number)?, at, kind })
            }
            Self::Subscription(SubscriptionView { agent_id: agent, phone: number, ended, said, heard }) => {
                ExportItem::Subscription(Subscription { agent, phone: phone(&number)?, ended, said, heard })
            }
            Self::Message(message) => message.item()?,
        }))
    }
}

fn cursor(field: &'static str, text: &str) -> Result<u64, Refusal> {
    text.parse().map_err(|_| Refusal::invalid(field, "not a cursor"))
}

fn phone(text: &str) -> Result<Phone, Refusal> {
    Phone::new(text).map_err(|message| Refusal::invalid("phone", message))
}

fn exported(record: Record, lane: LaneSpec) -> ExportedMessage {
    let (next_attempt, belief, outcome, settle_time) = match record.state {
        State::Pending => (None, None, None, None),
        State::Revoking { next, .. } => (Some(next), None, None, None),
        State::Settling { belief, until } => (None, Some(belief), None, Some(until)),
        State::Settled { outcome, at } => (None, None, Some(outcome), Some(at)),
    };
    ExportedMessage {
        state: StateKind::from(&record),
        agent_id: record.identity.agent,
        message_id: record.identity.message_id,
        phone: record.phone.reveal(),
        use_case: lane.use_case,
        region: lane.region,
        message_traffic_type: lane.traffic_type,
        rule: lane.pinned,
        tags: record.tags,
        fallback: raw(record.fallback),
        time_zone: record.time_zone,
        send_time: record.send_time,
        registered_at: record.registered_at,
        expire_time: record.deadline,
        next_attempt,
        belief,
        outcome,
        settle_time,
        attempts: AttemptsView {
            count: record.attempts.count,
            failures: record.attempts.failures,
            not_found: record.attempts.not_found,
            unknown: record.attempts.unknown,
            lateness: record.attempts.lateness,
        },
        seen: SeenView { delivered: record.seen.delivered, ttl_revoked: record.seen.ttl_revoked },
        grant: record.grant.map(|grant| ExportedGrant {
            state: grant.state,
            cursor: grant.cursor.to_string(),
            valid_until: grant.until,
            next_call: grant.call.map(|call| call.next),
            failed_calls: grant.call.map_or(0, |call| call.tries),
        }),
        trail: record.trail.into_iter().map(NoteView::from).collect(),
    }
}

impl ExportedMessage {
    fn item(self) -> Result<ExportItem, Refusal> {
        let missing = |field: &'static str| Refusal::invalid(field, format!("{field} is missing in this state"));
        let state = match self.state {
            StateKind::Pending => State::Pending,
            StateKind::Revoking => {
                State::Revoking { next: self.next_attempt.ok_or_else(|| missing("nextAttempt"))?, in_flight: false }
            }
            StateKind::Settling => State::Settling {
                belief: self.belief.ok_or_else(|| missing("belief"))?,
                until: self.settle_time.ok_or_else(|| missing("settleTime"))?,
            },
            StateKind::Settled => State::Settled {
                outcome: self.outcome.ok_or_else(|| missing("outcome"))?,
                at: self.settle_time.ok_or_else(|| missing("settleTime"))?,
            },
        };
        let grant = self.grant.map(|grant| {
            let cursor = cursor("grant", &grant.cursor)?;
            let call = grant.next_call.map(|next| Call { next, tries: grant.failed_calls });
            Ok::<_, Refusal>(Grant { state: grant.state, cursor, until: grant.valid_until, call })
        });
        let record = Record {
            phone: phone(&self.phone)?,
            identity: Identity { agent: self.agent_id.clone(), message_id: self.message_id },
            // Given by the store that takes it over.
            lane: LaneId(0),
            seq: 0,
            tags: self.tags,
            fallback: self.fallback.map(|fallback| fallback.get().into()),
            time_zone: self.time_zone,
            // Whether it is held is up to the holds where it goes to.
            held: false,
            // A recall belongs to the host where it was made.
            recall: None,
            registered_at: self.registered_at,
            send_time: self.send_time,
            deadline: self.expire_time,
            state,
            attempts: Attempts {
                count: self.attempts.count,
                failures: self.attempts.failures,
                not_found: self.attempts.not_found,
                unknown: self.attempts.unknown,
                lateness: self.attempts.lateness,
            },
            seen: Seen { delivered: self.seen.delivered, ttl_revoked: self.seen.ttl_revoked },
            grant: grant.transpose()?,
            trail: self.trail.into_iter().map(|n| Note { at: n.at, what: n.what, detail: n.detail }).collect(),
        };
        let lane = LaneSpec {
            use_case: self.use_case,
            agent: self.agent_id,
            region: self.region,
            traffic_type: self.message_traffic_type,
            pinned: self.rule,
        };
        Ok(ExportItem::Message(Box::new(record), lane))
    }
}

fn entry(view: OutcomeView) -> Result<Entry, Refusal> {
    let at = cursor("cursor", &view.cursor)?;
    let (grant, grant_id, fallback) = match view.grant {
        None => (None, None, None),
        Some(grant) => {
            // What amends an outcome does not hand out a grant.
            let cursor = if view.kind == EntryKind::Amended { 0 } else { at };
            let fallback = grant.fallback.map(|fallback| fallback.get().into());
            let id = grant.grant_id.into();
            (Some(Grant { state: grant.state, cursor, until: grant.valid_until, call: None }), Some(id), fallback)
        }
    };
    Ok(Entry {
        kind: view.kind,
        at: view.at,
        identity: Identity { agent: view.agent_id, message_id: view.message_id },
        phone: phone(&view.phone)?,
        use_case: view.use_case,
        outcome: view.outcome,
        send_time: view.send_time,
        deadline: view.deadline,
        lateness: view.lateness,
        grant,
        grant_id,
        fallback,
        tags: view.tags,
        detail: view.detail,
    })
}
