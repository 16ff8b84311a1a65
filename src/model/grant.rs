//! The fallback grant: leave to send the SMS, given at most once for a message; and what comes of the calls of a hook that
//! sends it.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::record::{State, What};
use super::step::{DUPLICATE, REFUSED, STORED};
use super::{Input, OnUnknown, Outcome, Record, Report, Step, Timestamp, retry};

/// Between tries of what a hook refused: somebody has to change something first, and it may be changed at any time.
const REFUSED_AGAIN: Duration = Duration::from_secs(600);
/// The longest that a hook's `Retry-After` is believed.
pub const LATER_MAX: Duration = Duration::from_secs(3600);
/// The least that is later.
const MOMENT: Duration = Duration::from_millis(1);

/// A message's one grant. Whether an agent acknowledged it is not kept here: it did if its entry in the outcome log lies at
/// or before the agent's acknowledged cursor. A hook's acknowledgement is: each grant has its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grant {
    /// What became of it.
    pub state: GrantState,
    /// The cursor of the outcome that carried it; 0 until it is carried.
    pub cursor: u64,
    /// After this an SMS is of no use any more.
    pub until: Timestamp,
    /// Where a hook is to be called for it. `None`: its agent finds it in the outcome log.
    pub call: Option<Call>,
}

/// How far a hook is with a grant. After a crash: the same, and a call that was out is made again under the same key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call {
    /// When it may be called next.
    pub next: Timestamp,
    /// Calls that failed.
    pub tries: u32,
}

/// What came of a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Called {
    /// It took the grant: the SMS is its business now.
    Taken,
    /// It may work the next time: no connection, no answer in time, a 5xx, another exit code. In words.
    Failed(Box<str>),
    /// It says that this will never do (a 4xx), or there is nothing it could be asked: in words.
    Refused(Box<str>),
    /// It wants to be left alone for so long.
    Later(Duration),
}

/// What became of a grant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum GrantState {
    /// Handed out: the SMS may be sent.
    Offered,
    /// The truth is not known and the policy says to ask first (`on_unknown = "hold"`).
    Held,
    /// Taken back: the message turned out to be delivered before the grant was acknowledged, or somebody decided against it.
    Withdrawn,
    /// Came too late to be of use (`fallback_until`), or no hook took it until then.
    Void,
    /// A hook took it.
    Taken,
}

impl Record {
    /// A hook is still to be called for its grant, then.
    pub fn next_call(&self) -> Option<Timestamp> {
        let grant = self.grant.filter(|grant| grant.state == GrantState::Offered)?;
        grant.call.map(|call| call.next)
    }
}

/// A call's turn has come: is the SMS still of use?
pub(super) fn call_due(record: &mut Record, input: Input<'_>) -> Step {
    let Some(grant) = record.grant.as_mut().filter(|grant| grant.state == GrantState::Offered) else {
        return DUPLICATE;
    };
    if input.unsubscribed {
        return unsubscribed(record, input);
    }
    if input.now <= grant.until {
        return DUPLICATE;
    }
    grant.state = GrantState::Void;
    Step { report: Some(Report::Voided), ..STORED }
}

/// A call is back.
pub(super) fn called(record: &mut Record, called: &Called, input: Input<'_>) -> Step {
    let Some(Grant { state, until, call: Some(call), .. }) = &mut record.grant else { return DUPLICATE };
    let (wait, words) = match (called, *state) {
        // Also one that was taken back meanwhile: the SMS is out, and that is what is to be known.
        (Called::Taken, GrantState::Offered | GrantState::Withdrawn | GrantState::Void) => {
            *state = GrantState::Taken;
            record.note(input.now, What::Taken, None);
            return Step { report: Some(Report::Taken), ..STORED };
        }
        (Called::Failed(words), GrantState::Offered) => {
            (retry::backoff(call.tries.saturating_add(1), input.random), words.to_string())
        }
        (Called::Refused(words), GrantState::Offered) => (REFUSED_AGAIN, words.to_string()),
        (Called::Later(wait), GrantState::Offered) => {
            let wait = (*wait).clamp(Duration::from_secs(1), LATER_MAX);
            (wait, format!("asks to be left alone for {} s", wait.as_secs()))
        }
        _ => return DUPLICATE,
    };
    call.tries = call.tries.saturating_add(1);
    // Not later than the instant at which it is void, so that this is said then.
    call.next = input.now.plus(wait).min(until.plus(MOMENT));
    // One line for all of them: a hook that is down for a day must not push out the message's own story.
    record.trail.pop_if(|last| last.what == What::CallFailed);
    record.note(input.now, What::CallFailed, Some(words));
    STORED
}

/// There is no hook any more: the grant is its agent's again, who is told of it anew. It was told before that a hook has it.
pub(super) fn handed_back(record: &mut Record, input: Input<'_>) -> Step {
    if input.unsubscribed {
        return unsubscribed(record, input);
    }
    let offered = record.grant.as_mut().filter(|grant| grant.state == GrantState::Offered);
    match offered.and_then(|grant| grant.call.take()) {
        Some(_) => Step { report: Some(Report::Granted), ..STORED },
        None => DUPLICATE,
    }
}

/// Its user wants no promotions any more: a grant that nobody took note of is taken back.
pub(super) fn unsubscribed(record: &mut Record, input: Input<'_>) -> Step {
    let (State::Settled { outcome, .. }, Some(grant)) = (record.state, &mut record.grant) else { return DUPLICATE };
    let report = match grant.state {
        _ if !input.unsubscribed => return DUPLICATE,
        GrantState::Offered if !input.grant_acked => Some(Report::Amended(outcome)),
        GrantState::Held => None,
        GrantState::Offered | GrantState::Withdrawn | GrantState::Void | GrantState::Taken => return DUPLICATE,
    };
    grant.state = GrantState::Withdrawn;
    record.note(input.now, What::Unsubscribed, None);
    Step { report, ..STORED }
}

/// Somebody decides on a grant that was held back.
pub(super) fn decide(record: &mut Record, give: bool, input: Input<'_>) -> Step {
    let Some(grant) = record.grant.as_mut().filter(|grant| grant.state == GrantState::Held) else { return REFUSED };
    if !give || input.unsubscribed {
        grant.state = GrantState::Withdrawn;
    } else if input.now > grant.until {
        grant.state = GrantState::Void;
    } else {
        grant.state = GrantState::Offered;
        grant.call = call(input);
    }
    let given = grant.state == GrantState::Offered;
    let words = match (give, given) {
        (false, _) => "dropped",
        (true, true) => "granted",
        (true, false) if input.unsubscribed => "granted, and taken back: its user wants no promotions any more",
        (true, false) => "granted too late to be of use",
    };
    record.note(input.now, What::Decided, Some(words.to_owned()));
    Step { report: given.then_some(Report::Granted), ..STORED }
}

/// Until when a grant would have to wait for the end of the quiet hours. The message waits with it: should it arrive in the
/// night after all, there is no SMS in the morning.
pub(super) fn quiet_until(record: &Record, grant: Option<Grant>, input: Input<'_>) -> Option<Timestamp> {
    let hours = input.policy.not_between.as_ref()?;
    let grant = grant.filter(|grant| grant.state == GrantState::Offered)?;
    let zone = record.time_zone.as_deref().and_then(|name| TimeZone::get(name).ok());
    // One that is of no use any more by then is void, and that can be said at once.
    hours.end(input.now, zone.as_ref()).map(|end| end.min(grant.until.plus(MOMENT)))
}

/// The grant that goes with an outcome: one where the message is surely not on the handset, and where that can't be known,
/// what the policy says.
pub(super) fn granted(record: &Record, outcome: Outcome, input: Input<'_>) -> Option<Grant> {
    if record.recall.is_some() || input.policy.shadow {
        return None;
    }
    let state = match (outcome, input.policy.on_unknown) {
        (Outcome::Revoked, _) | (Outcome::Unknown | Outcome::Failed, OnUnknown::Send) => GrantState::Offered,
        (Outcome::Unknown | Outcome::Failed, OnUnknown::Hold) => GrantState::Held,
        (Outcome::Unknown | Outcome::Failed, OnUnknown::Drop)
        // In shadow mode it may arrive yet, and an SMS as well.
        | (Outcome::Delivered | Outcome::Withdrawn | Outcome::Moot | Outcome::Shadow, _) => return None,
    };
    let until = record.deadline(input.policy).plus(input.policy.fallback_until);
    let state = if input.now > until { GrantState::Void } else { state };
    let call = call(input).filter(|_| state == GrantState::Offered);
    Some(Grant { state, cursor: 0, until, call })
}

/// Where a hook takes the grants of a use case, it is called at once.
fn call(input: Input<'_>) -> Option<Call> {
    (input.policy.calls_max > 0).then_some(Call { next: input.now, tries: 0 })
}
