//! What the platform answers to a call: the order of its checks, its methods, and the faults in its way.
//!
//! Everything here runs inside one short hold of the world's lock. Waiting, closing a connection and never answering
//! are only *decided* here; the server carries them out.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::watch;

use super::{
    answer::Answer,
    books::{Answered, DeleteRequest, Unanswered},
    duration,
    fault::{Fault, FaultKind, Target},
    feed::timestamp,
    scenario::Happening,
    token::Grant,
    wire::{Call, Operation},
    world::{NewMessage, World},
};

/// No message lives longer than this by its ttl.
const LONGEST_TTL: TimeDelta = TimeDelta::days(15);
/// How slow a slow answer is when nothing else is said.
const SLOW: Duration = Duration::from_secs(2);
/// How long create waits for the event that is to be pushed before its answer.
const EVENT_AHEAD: Duration = Duration::from_millis(50);
/// What every handset of the sandbox can do.
const FEATURES: &str = r#"{"features":["REVOCATION","RICHCARD_STANDALONE","RICHCARD_CAROUSEL","ACTION_CREATE_CALENDAR_EVENT","ACTION_DIAL","ACTION_OPEN_URL","ACTION_SHARE_LOCATION","ACTION_VIEW_LOCATION"]}"#;

/// A failure of the whole API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) enum Outage {
    /// All is well.
    #[default]
    #[serde(rename = "none")]
    None,
    /// 503 to everything.
    #[serde(rename = "503")]
    Unavailable,
    /// 429 to everything.
    #[serde(rename = "429")]
    Exhausted,
    /// No answer to anything.
    #[serde(rename = "blackHole")]
    BlackHole,
}

/// What becomes of a request: an answer or the lack of one, after a delay or when it is let go.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) outcome: Result<Answer, Unanswered>,
    pub(super) delay: Duration,
    /// Told when an answer that is held may leave.
    pub(super) held: Option<watch::Receiver<()>>,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Reply { outcome: Ok(answer), delay: Duration::ZERO, held: None }
    }
}

impl From<Unanswered> for Reply {
    fn from(unanswered: Unanswered) -> Self {
        Reply { outcome: Err(unanswered), delay: Duration::ZERO, held: None }
    }
}

impl Reply {
    fn answered(&self) -> Answered {
        match &self.outcome {
            Ok(answer) => Answered::Status(answer.status),
            Err(unanswered) => Answered::Not(*unanswered),
        }
    }
}

impl World {
    /// Answers a request to the API.
    pub(super) fn call(&mut self, bearer: Option<&str>, call: Result<Call, Answer>, now: DateTime<Utc>) -> Reply {
        self.stats.request(now);
        let deletion = match &call {
            Ok(call) if call.operation == Operation::Delete => Some((call.agent.clone(), call.id.clone())),
            _ => None,
        };
        self.stats.deletes += u64::from(deletion.is_some());
        let reply = self.decide(bearer, call, now);
        self.stats.answered(reply.answered());
        if let Some((agent, message_id)) = deletion {
            self.note_delete(&agent, &message_id, DeleteRequest { at: now, answered: reply.answered() });
        }
        reply
    }

    fn decide(&mut self, bearer: Option<&str>, call: Result<Call, Answer>, now: DateTime<Utc>) -> Reply {
        let retry_after = || self.options.retry_after.clone();
        match self.outage {
            Outage::None => {}
            Outage::Unavailable => return Answer::server_error(503, None).into(),
            Outage::Exhausted => return Answer::too_many_requests(retry_after()).into(),
            Outage::BlackHole => return Unanswered::Silent.into(),
        }
        if !bearer.is_some_and(|bearer| self.tokens.admits(bearer, now)) {
            return Answer::unauthorized().into();
        }
        let call = match call {
            Ok(call) => call,
            Err(answer) => return answer.into(),
        };
        let nth = match call.operation {
            // A message that doesn't exist counts nothing: the requests themselves have to tell its attempts apart.
            Operation::Delete => self.count_delete(&call.agent, &call.id).unwrap_or(self.stats.deletes),
            _ => 0,
        };
        if !self.paces.admits(&call.agent, now) {
            return Answer::too_many_requests(self.options.retry_after.clone()).into();
        }
        let target = Target { on: call.operation, agent: &call.agent, phone: &call.phone, message_id: &call.id };
        match self.strike(&target, nth) {
            None => self.act(call, None, now),
            Some(fault) => match self.instead(&fault) {
                Some(reply) => reply,
                None => self.act(call, Some(&fault), now),
            },
        }
    }

    /// Answers a request for a token.
    pub(super) fn grant(&mut self, grant: Option<Grant>, now: DateTime<Utc>) -> Reply {
        let target = Target { on: Operation::Token, agent: "", phone: "", message_id: "" };
        let fault = self.strike(&target, 0);
        if let Some(reply) = fault.as_ref().and_then(|fault| self.instead(fault)) {
            return reply;
        }
        let malformed = || Answer::oauth_error(400, "invalid_request", "Bad Request");
        let answer = grant.ok_or_else(malformed).and_then(|grant| self.tokens.exchange(&grant, now));
        match &answer {
            Ok(_) => self.stats.tokens_issued += 1,
            Err(_) => self.stats.tokens_refused += 1,
        }
        self.afterwards(answer.unwrap_or_else(|refusal| refusal), fault.as_ref())
    }

    /// The fault that strikes this request: one that was ordered, or one that chance has in store.
    fn strike(&mut self, target: &Target<'_>, nth: u64) -> Option<Fault> {
        let ordered = self.orders.take(target, false);
        let fault = ordered.or_else(|| {
            if target.on != Operation::Delete || self.options.faults.is_empty() {
                return None;
            }
            let name = format!("{}/{}", target.agent, target.message_id);
            let strikes = |chance: &&super::fault::Chance| {
                let kind = chance.fault.kind;
                kind != FaultKind::TtlRevokeFailed && self.dice.chance(chance.percent, kind.name(), &name, nth)
            };
            self.options.faults.iter().find(strikes).map(|chance| chance.fault.clone())
        })?;
        *self.stats.faults.entry(fault.kind).or_default() += 1;
        Some(fault)
    }

    /// What a fault answers in place of the method; `None` if the method is to run.
    fn instead(&self, fault: &Fault) -> Option<Reply> {
        let retry_after = fault.retry_after.clone();
        Some(match fault.kind {
            FaultKind::TooManyRequests => {
                Answer::too_many_requests(retry_after.or_else(|| self.options.retry_after.clone())).into()
            }
            FaultKind::ServerError => Answer::server_error(fault.status.unwrap_or(503), retry_after).into(),
            FaultKind::Unauthorized => Answer::unauthorized().into(),
            FaultKind::Forbidden => Answer::error(403, "The caller does not have permission").into(),
            FaultKind::BadRequest => {
                Answer::error(fault.status.unwrap_or(400), "Request contains an invalid argument.").into()
            }
            FaultKind::NotFound => Answer::not_found().into(),
            FaultKind::Garbage => Answer::garbage().into(),
            FaultKind::Redirect => Answer::redirect().into(),
            FaultKind::HugeBody => Answer::huge().into(),
            FaultKind::Reset => Unanswered::Reset.into(),
            FaultKind::BlackHole => Unanswered::Silent.into(),
            FaultKind::Slow
            | FaultKind::Hold
            | FaultKind::LoseAnswer
            | FaultKind::DeliveredAfterRevoke
            | FaultKind::TtlRevokeFailed => return None,
        })
    }

    fn act(&mut self, call: Call, fault: Option<&Fault>, now: DateTime<Utc>) -> Reply {
        match call.operation {
            Operation::Create => {
                let mut early = false;
                let answer = self.create_message(call, &mut early, now).unwrap_or_else(|refusal| refusal);
                let mut reply = self.afterwards(answer, fault);
                if early {
                    reply.delay += EVENT_AHEAD;
                }
                reply
            }
            Operation::Delete => {
                let revoked = self.revoke(&call.agent, &call.phone, &call.id, now);
                let unknown = || self.message(&call.agent, &call.id).is_none();
                let ok = revoked || self.options.unknown_delete_ok && unknown();
                if let Some(fault) = fault.filter(|fault| fault.kind == FaultKind::DeliveredAfterRevoke)
                    && revoked
                {
                    self.show_anyway(&call.agent, &call.id, fault.delay, now);
                }
                self.afterwards(if ok { Answer::ok("{}") } else { Answer::not_found() }, fault)
            }
            Operation::Event => {
                let mut event = call.body;
                event.insert("name".into(), format!("phones/{}/agentEvents/{}", call.phone, call.id).into());
                event.insert("sendTime".into(), timestamp(now).into());
                self.afterwards(Answer::ok(Value::Object(event).to_string()), fault)
            }
            Operation::Capabilities => self.afterwards(Answer::ok(FEATURES), fault),
            Operation::Token => Answer::not_found().into(),
        }
    }

    /// `phones.agentMessages.create`; an id that was used before creates nothing and is answered as it was then.
    fn create_message(&mut self, call: Call, early: &mut bool, now: DateTime<Utc>) -> Result<Answer, Answer> {
        if let Some(message) = self.message(&call.agent, &call.id) {
            return Ok(Answer::ok(message.created_answer.to_string()));
        }
        let Call { agent, phone, id, mut body, .. } = call;
        let expires_at = expiry(&body, now)?;
        body.remove("ttl");
        body.insert("name".into(), format!("phones/{phone}/agentMessages/{id}").into());
        body.insert("sendTime".into(), timestamp(now).into());
        if let Some(expires_at) = expires_at {
            body.insert("expireTime".into(), timestamp(expires_at).into());
        }
        let answer = Value::Object(body).to_string();
        *early = self.is_early(&agent, &id);
        let new = NewMessage { agent: &agent, phone: &phone, message_id: &id, expires_at, answer: answer.clone() };
        self.create(new, *early, now);
        Ok(Answer::ok(answer))
    }

    /// The method has run: what the fault makes of its answer.
    fn afterwards(&self, answer: Answer, fault: Option<&Fault>) -> Reply {
        match fault {
            Some(Fault { kind: FaultKind::Slow, delay, .. }) => {
                Reply { delay: delay.unwrap_or(SLOW), ..Reply::from(answer) }
            }
            Some(Fault { kind: FaultKind::Hold, .. }) => {
                Reply { held: Some(self.answers_held.subscribe()), ..Reply::from(answer) }
            }
            Some(Fault { kind: FaultKind::LoseAnswer, .. }) => Unanswered::Lost.into(),
            _ => answer.into(),
        }
    }

    /// Lets all answers go that are held.
    pub(super) fn release_answers(&self) {
        self.answers_held.send_replace(());
    }

    /// Does what a scenario or the control API wants done.
    pub(super) fn happen(&mut self, happening: Happening, now: DateTime<Utc>) {
        match happening {
            Happening::Fault(order) => {
                // The order was checked when it was read; a full book of orders has room for no more.
                let _ = self.orders.place(order);
            }
            Happening::Handset { phone, behaviour } => self.set_handset(&phone, behaviour, now),
            Happening::Connect { phone } => self.connect(&phone, now),
            Happening::Outage(outage) => self.outage = outage,
            Happening::ExpireTokens => self.tokens.expire_all(now),
        }
    }
}

/// When a new message expires, by its `ttl` or its `expireTime`.
fn expiry(body: &Map<String, Value>, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, Answer> {
    let invalid = |field: &str, what: &str| Err(Answer::invalid(&format!("Invalid value at '{field}': {what}.")));
    let text = |field: &str| match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(Answer::invalid(&format!("Invalid value at '{field}': not a string."))),
    };
    let (field, expires_at) = match (text("ttl")?, text("expireTime")?) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return invalid("expiration", "ttl and expireTime are alternatives"),
        (Some(ttl), None) => {
            let ttl = duration::parse_platform(ttl).and_then(|ttl| TimeDelta::from_std(ttl).ok());
            ("ttl", ttl.and_then(|ttl| now.checked_add_signed(ttl)))
        }
        (None, Some(time)) => ("expireTime", time.parse().ok()),
    };
    match expires_at {
        None => invalid(field, "not well-formed"),
        Some(at) if at <= now => invalid(field, "not in the future"),
        Some(at) if at > now + LONGEST_TTL => invalid(field, "more than 15 days from now"),
        Some(at) => Ok(Some(at)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(body: &Value) -> Result<Option<i64>, u16> {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let expires_at = expiry(body.as_object().unwrap(), now).map_err(|answer| answer.status)?;
        Ok(expires_at.map(|at| (at - now).num_milliseconds()))
    }

    #[test]
    fn a_message_expires_by_its_ttl_or_its_time_but_not_by_both() {
        assert_eq!(at(&json!({})), Ok(None));
        assert_eq!(at(&json!({"ttl": "3.5s"})), Ok(Some(3500)));
        assert_eq!(at(&json!({"expireTime": "2027-01-15T08:00:10Z"})), Ok(Some(10_000)));
        assert_eq!(at(&json!({"ttl": "1296000s"})), Ok(Some(1_296_000_000)));
        for wrong in [
            json!({"ttl": "3.5s", "expireTime": "2027-01-15T08:00:10Z"}),
            json!({"ttl": "1296001s"}),
            json!({"ttl": "0s"}),
            json!({"ttl": 10}),
            json!({"ttl": "10"}),
            json!({"ttl": "9999999999999s"}),
            json!({"expireTime": "2027-01-15T07:59:59Z"}),
            json!({"expireTime": "tomorrow"}),
        ] {
            assert_eq!(at(&wrong), Err(400), "{wrong}");
        }
    }
}
