//! The life of a message: the one table of what each piece of evidence does in each state.
//!
//! [`step`] is the state table of the design written as code, and the only place where a message changes state. It mutates
//! the record it is given and says what is to be done about it; it sends nothing, stores nothing and knows no clock.
//!
//! ```text
//! Pending ──deadline──▶ Revoking ──answer──▶ Settling ──window──▶ Settled(outcome) ─▶ purged
//!    │                    │   ▲ retry            │
//!    └── DELIVERED/READ, withdraw ───────────────┴──▶ Settled
//! ```

use std::time::Duration;

use super::grant::{self, Called};
use super::record::{Belief, Outcome, Record, State, What};
use super::{GrantState, Policy, Timestamp, retry};

/// What comes in about one message.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// Its turn has come to be tried.
    Due {
        /// A request for it may have left before a crash (the fence of its queue lies beyond it).
        maybe_attempted: bool,
        /// The deadline passed while the daemon was down and the policy calls that moot.
        moot: bool,
    },
    /// Its turn has come, but its lane rests: is there still time to wait?
    Stuck,
    /// Its turn has come, but a hold keeps it back: this one, in words.
    PutAside(Box<str>),
    /// No hold keeps it back any more.
    Resume,
    /// It is recalled: by this recall.
    Recall(u64),
    /// An attempt is back.
    Answered(Answer),
    /// `DELIVERED`.
    Delivered,
    /// `READ`, which implies that it was delivered.
    Read,
    /// `TTL_EXPIRATION_REVOKED`: the platform's own ttl took it.
    TtlRevoked,
    /// `TTL_EXPIRATION_REVOKE_FAILED`, or another server event about a ttl, by its name.
    TtlFailed(Box<str>),
    /// Its user wants no promotions any more, and it has a grant.
    Unsubscribed,
    /// The settle window is over.
    WindowEnded,
    /// Its agent takes it back.
    Withdraw,
    /// Its agent wants it revoked now.
    RevokeNow,
    /// Its agent gives it a deadline of its own.
    Reschedule(Timestamp),
    /// Somebody decides on the grant that was held back: it is given, or not.
    Decide(bool),
    /// Its turn has come for a hook to be called; a step that changes nothing lets it be.
    CallDue,
    /// A hook was called for its grant.
    Called(Called),
    /// The hook that was to be called for its grant is not there any more.
    HandedBack,
}

/// What the platform said to one DELETE.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// 200: taken off the queue.
    Revoked,
    /// 404: delivered, or unknown to the platform.
    NotFound,
    /// 429, with the wait that `Retry-After` asked for.
    TooManyRequests(Option<Duration>),
    /// 401 although the token was renewed.
    Unauthorized(Box<str>),
    /// 403.
    Forbidden(Box<str>),
    /// 400, or another 4xx: it won't be accepted however often it is sent. In the platform's words.
    Rejected(Box<str>),
    /// It left, and what became of it is not known: a timeout, a reset, a 5xx.
    Lost(Box<str>),
    /// It never reached the platform: no connection, no token.
    NotSent(Box<str>),
    /// It was not sent: in shadow mode nothing is.
    Shadow,
}

impl Answer {
    /// All that [`Answer::kind`] can say.
    pub const KINDS: [&'static str; 9] = ["200", "404", "429", "401", "403", "rejected", "lost", "not sent", "shadow"];

    /// For the trail and for metrics: few words, no secrets.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Revoked => "200",
            Self::NotFound => "404",
            Self::TooManyRequests(_) => "429",
            Self::Unauthorized(_) => "401",
            Self::Forbidden(_) => "403",
            Self::Rejected(_) => "rejected",
            Self::Lost(_) => "lost",
            Self::NotSent(_) => "not sent",
            Self::Shadow => "shadow",
        }
    }

    /// In words, for the trail and the log: the status, and what the platform said.
    pub fn words(&self) -> String {
        match self {
            Self::Revoked | Self::NotFound | Self::TooManyRequests(_) => self.kind().to_owned(),
            Self::Shadow => "shadow: the DELETE would have left now".to_owned(),
            Self::Unauthorized(words)
            | Self::Forbidden(words)
            | Self::Rejected(words)
            | Self::Lost(words)
            | Self::NotSent(words) => format!("{}: {words}", self.kind()),
        }
    }
}

/// What a step is taken with.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The policy of the message's use case.
    pub policy: &'a Policy,
    /// The wall clock.
    pub now: Timestamp,
    /// Uniform over all of `u64`; for jitter.
    pub random: u64,
    /// Whether the agent has acknowledged the outcome that carried the grant.
    pub grant_acked: bool,
    /// It is a promotion, and its user wants none any more: no SMS may stand in for it.
    pub unsubscribed: bool,
    /// Until when a hold kept it back, or since when it is recalled: the time before does not count against it. Else the epoch.
    pub held_until: Timestamp,
}

/// What is to be done after a step.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Step {
    /// The record is not what it was: store it.
    pub changed: bool,
    /// Send one DELETE.
    pub attempt: bool,
    /// Tell the agent.
    pub report: Option<Report>,
    /// The agent asked for something that can't be done in this state.
    pub refused: bool,
    /// The event told nothing new.
    pub duplicate: bool,
}

/// What the agent is told about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Report {
    /// It has an outcome.
    Settled,
    /// It had another outcome before; a grant that was not acknowledged is withdrawn.
    Amended(Outcome),
    /// The grant that was held back is given.
    Granted,
    /// A hook took the grant.
    Taken,
    /// No hook took the grant while it was of use.
    Voided,
}

/// Takes one step: applies `event` to `record` and says what is to be done.
pub fn step(record: &mut Record, event: Event, input: Input<'_>) -> Step {
    match event {
        Event::Due { maybe_attempted, moot } => due(record, maybe_attempted, moot, input),
        Event::Stuck => stuck(record, input),
        Event::PutAside(hold) => match record.state {
            State::Pending | State::Revoking { in_flight: false, .. } if !record.held && record.recall.is_none() => {
                record.held = true;
                record.note(input.now, What::Held, Some(hold.into()));
                STORED
            }
            _ => DUPLICATE,
        },
        Event::Resume if record.held => {
            record.held = false;
            record.note(input.now, What::Released, None);
            STORED
        }
        Event::Resume => DUPLICATE,
        Event::Recall(id) => recall(record, id, input),
        Event::Answered(answer) => answered(record, &answer, input),
        Event::Delivered => delivered(record, What::Delivered, input),
        Event::Read => delivered(record, What::Read, input),
        Event::TtlRevoked => ttl_revoked(record, input),
        Event::TtlFailed(name) => ttl_failed(record, &name, input),
        Event::Unsubscribed => grant::unsubscribed(record, input),
        Event::WindowEnded => window_ended(record, input),
        Event::Withdraw => match record.state {
            State::Pending => {
                record.note(input.now, What::Withdrawn, None);
                settle(record, Outcome::Withdrawn, input)
            }
            _ => REFUSED,
        },
        Event::RevokeNow => match record.state {
            State::Pending => {
                record.note(input.now, What::RevokeAsked, None);
                start_revoking(record, input.now, input);
                STORED
            }
            State::Revoking { .. } | State::Settling { .. } => Step { duplicate: true, ..Step::default() },
            State::Settled { .. } => REFUSED,
        },
        Event::Reschedule(deadline) => match record.state {
            State::Pending => {
                record.deadline = Some(deadline);
                // Its turn comes again, and a hold that is still in force is met then.
                record.held = false;
                record.note(input.now, What::Rescheduled, Some(deadline.to_string()));
                STORED
            }
            _ => REFUSED,
        },
        Event::Decide(give) => grant::decide(record, give, input),
        Event::CallDue => grant::call_due(record, input),
        Event::Called(called) => grant::called(record, &called, input),
        Event::HandedBack => grant::handed_back(record, input),
    }
}

pub(super) const STORED: Step = Step { changed: true, attempt: false, report: None, refused: false, duplicate: false };
pub(super) const REFUSED: Step = Step { changed: false, attempt: false, report: None, refused: true, duplicate: false };
pub(super) const DUPLICATE: Step =
    Step { changed: false, attempt: false, report: None, refused: false, duplicate: true };

fn due(record: &mut Record, maybe_attempted: bool, moot: bool, input: Input<'_>) -> Step {
    match record.state {
        State::Pending | State::Revoking { in_flight: false, .. } => {}
        _ => return DUPLICATE,
    }
    if maybe_attempted && !record.attempts.unknown {
        record.attempts.unknown = true;
        record.note(input.now, What::MaybeAttempted, None);
    }
    if let Some(step) = by_what_was_seen(record, input) {
        return step;
    }
    let deadline = record.deadline(input.policy);
    if moot && record.attempts == super::Attempts::default() {
        return settle(record, Outcome::Moot, input);
    }
    // A message that was never tried gets its one attempt however late: that is what "missed" deadlines are owed.
    if record.attempts.made() && out_of_time(record, input.now, input) {
        return settle(record, Outcome::Failed, input);
    }
    if record.attempts.lateness.is_none() {
        let asked_for = match record.state {
            State::Revoking { next, .. } => next.min(input.policy.release(deadline)),
            _ => input.policy.release(deadline),
        };
        record.attempts.lateness = Some(input.now.since(asked_for.max(input.held_until)));
    }
    start_revoking(record, input.now, input);
    record.state = State::Revoking { next: input.now, in_flight: true };
    record.attempts.count += 1;
    // Not stored: the fence of the queue, made durable ahead, says that this attempt may have left.
    Step { attempt: true, ..Step::default() }
}

/// Revoked now, whatever it waited for. From here on there is no SMS for it: what is taken back as a whole is not to arrive
/// another way. What settled already keeps its outcome, and loses what grant it has that nobody took note of.
fn recall(record: &mut Record, id: u64, input: Input<'_>) -> Step {
    if record.recall.is_some() {
        return DUPLICATE;
    }
    record.recall = Some(id);
    record.note(input.now, What::Recalled, Some(format!("recall {id}")));
    match record.state {
        State::Pending | State::Revoking { in_flight: false, .. } => {
            record.held = false;
            start_revoking(record, input.now, input);
            STORED
        }
        State::Revoking { in_flight: true, .. } => STORED,
        State::Settling { .. } => {
            // There will be no grant, so no quiet hours to wait for.
            record.wait_until(input.now.plus(input.policy.settle));
            STORED
        }
        State::Settled { outcome, .. } => match &mut record.grant {
            Some(grant) if grant.state == GrantState::Offered && !input.grant_acked => {
                grant.state = GrantState::Withdrawn;
                Step { report: Some(Report::Amended(outcome)), ..STORED }
            }
            Some(grant) if grant.state == GrantState::Held => {
                grant.state = GrantState::Withdrawn;
                STORED
            }
            _ => STORED,
        },
    }
}

fn stuck(record: &mut Record, input: Input<'_>) -> Step {
    if !matches!(record.state, State::Pending | State::Revoking { in_flight: false, .. }) {
        return DUPLICATE;
    }
    if let Some(step) = by_what_was_seen(record, input) {
        return step;
    }
    if out_of_time(record, input.now, input) { settle(record, Outcome::Failed, input) } else { DUPLICATE }
}

/// Evidence that came while an attempt was out, and had to wait for it: once the attempt is back, or a crash made an end of
/// it, another one is of no use, whatever the answer was.
fn by_what_was_seen(record: &mut Record, input: Input<'_>) -> Option<Step> {
    if record.seen.delivered {
        Some(settle(record, Outcome::Delivered, input))
    } else if record.seen.ttl_revoked {
        Some(settling(record, Belief::Revoked, input))
    } else {
        None
    }
}

fn start_revoking(record: &mut Record, next: Timestamp, input: Input<'_>) {
    record.deadline = Some(record.deadline(input.policy));
    record.state = State::Revoking { next, in_flight: false };
}

fn answered(record: &mut Record, answer: &Answer, input: Input<'_>) -> Step {
    if !matches!(record.state, State::Revoking { in_flight: true, .. }) {
        return DUPLICATE;
    }
    record.note(input.now, What::Answered, Some(answer.words()));
    if matches!(answer, Answer::Lost(_)) {
        record.attempts.unknown = true;
    }
    // The lane is at fault, or the way to the platform, and not the message: the attempt is not counted.
    if matches!(
        answer,
        Answer::TooManyRequests(_) | Answer::Unauthorized(_) | Answer::Forbidden(_) | Answer::NotSent(_)
    ) {
        record.attempts.count -= 1;
    }
    if let Some(step) = by_what_was_seen(record, input) {
        return step;
    }
    match answer {
        Answer::Revoked => settling(record, Belief::Revoked, input),
        Answer::NotFound => {
            record.attempts.not_found += 1;
            if record.attempts.unknown {
                settling(record, Belief::Unknown, input)
            } else if record.attempts.not_found > 1 {
                settle(record, Outcome::Unknown, input)
            } else {
                settling(record, Belief::ProbablyDelivered, input)
            }
        }
        Answer::Rejected(_) => settle(record, Outcome::Failed, input),
        // No window: there is no revocation that a DELIVERED could cross, and one that comes amends it.
        Answer::Shadow => settle(record, Outcome::Shadow, input),
        Answer::Lost(_) | Answer::NotSent(_) => {
            record.attempts.failures += 1;
            let next = input.now.plus(retry::backoff(record.attempts.failures, input.random));
            if out_of_time(record, next, input) {
                return settle(record, Outcome::Failed, input);
            }
            record.state = State::Revoking { next, in_flight: false };
            STORED
        }
        // Back in line, and never failed for it: whether there is time to wait is asked when its turn comes again.
        Answer::TooManyRequests(_) | Answer::Unauthorized(_) | Answer::Forbidden(_) => {
            record.state = State::Revoking { next: input.now, in_flight: false };
            STORED
        }
    }
}

fn out_of_time(record: &Record, at: Timestamp, input: Input<'_>) -> bool {
    at > record.deadline(input.policy).max(input.held_until).plus(input.policy.give_up_after)
}

fn delivered(record: &mut Record, what: What, input: Input<'_>) -> Step {
    match record.state {
        State::Pending | State::Revoking { in_flight: false, .. } | State::Settling { .. } => {
            record.note(input.now, what, None);
            settle(record, Outcome::Delivered, input)
        }
        State::Revoking { in_flight: true, .. } if !record.seen.delivered => {
            record.note(input.now, what, None);
            record.seen.delivered = true;
            STORED
        }
        State::Settled {
            outcome: outcome @ (Outcome::Revoked | Outcome::Unknown | Outcome::Failed | Outcome::Shadow),
            at,
        } => {
            record.note(input.now, what, None);
            record.note(input.now, What::Amended, Some(outcome.as_str().to_owned()));
            record.state = State::Settled { outcome: Outcome::Delivered, at };
            if let Some(grant) = &mut record.grant
                // Who took note of an offer may have sent the SMS; of one that was held back, certainly not.
                && (grant.state == GrantState::Held || grant.state == GrantState::Offered && !input.grant_acked)
            {
                grant.state = GrantState::Withdrawn;
            }
            Step { report: Some(Report::Amended(outcome)), ..STORED }
        }
        State::Revoking { .. } | State::Settled { .. } => DUPLICATE,
    }
}

fn ttl_revoked(record: &mut Record, input: Input<'_>) -> Step {
    match record.state {
        State::Settled { .. } => return DUPLICATE,
        State::Settling { belief: Belief::Revoked, .. } => return DUPLICATE,
        State::Revoking { in_flight: true, .. } if record.seen.ttl_revoked => return DUPLICATE,
        _ => record.note(input.now, What::TtlRevoked, None),
    }
    record.seen.ttl_revoked = true;
    match record.state {
        State::Settling { until, .. } => {
            record.state = State::Settling { belief: Belief::Revoked, until };
            STORED
        }
        State::Revoking { in_flight: true, .. } => STORED,
        // `DELIVERED` may have been seen before a crash; it is the stronger of the two.
        _ => by_what_was_seen(record, input).unwrap_or(STORED),
    }
}

fn ttl_failed(record: &mut Record, name: &str, input: Input<'_>) -> Step {
    let known = record.trail.iter().any(|note| note.what == What::TtlFailed && note.detail.as_deref() == Some(name));
    if known || record.is_settled() {
        return DUPLICATE;
    }
    record.note(input.now, What::TtlFailed, Some(name.to_owned()));
    if record.state == State::Pending {
        start_revoking(record, input.now, input);
    }
    STORED
}

fn window_ended(record: &mut Record, input: Input<'_>) -> Step {
    let State::Settling { belief, .. } = record.state else { return DUPLICATE };
    match belief {
        Belief::Revoked => settle(record, Outcome::Revoked, input),
        Belief::Unknown => settle(record, Outcome::Unknown, input),
        Belief::Failed => settle(record, Outcome::Failed, input),
        // No time for a second look: one 404 is all that will ever be known.
        Belief::ProbablyDelivered if out_of_time(record, input.now, input) => settle(record, Outcome::Unknown, input),
        // The second look: had it been delivered, DELIVERED would have come by now.
        Belief::ProbablyDelivered => {
            record.state = State::Revoking { next: input.now, in_flight: false };
            STORED
        }
    }
}

fn settling(record: &mut Record, belief: Belief, input: Input<'_>) -> Step {
    record.deadline = Some(record.deadline(input.policy));
    record.attempts.failures = 0;
    record.held = false;
    record.state = State::Settling { belief, until: input.now.plus(input.policy.settle) };
    STORED
}

fn settle(record: &mut Record, outcome: Outcome, input: Input<'_>) -> Step {
    record.deadline = Some(record.deadline(input.policy));
    record.held = false;
    let mut grant = grant::granted(record, outcome, input);
    if input.unsubscribed && grant.take().is_some() {
        record.note(input.now, What::Unsubscribed, None);
    }
    if let Some(until) = grant::quiet_until(record, grant, input) {
        let belief = match outcome {
            Outcome::Revoked => Belief::Revoked,
            Outcome::Failed => Belief::Failed,
            _ => Belief::Unknown,
        };
        // Waits that are broken off and begun anew, at each start, are one line.
        record.trail.pop_if(|last| last.what == What::Quiet);
        record.note(input.now, What::Quiet, Some(until.to_string()));
        record.state = State::Settling { belief, until };
        return STORED;
    }
    record.state = State::Settled { outcome, at: input.now };
    record.grant = grant;
    Step { report: Some(Report::Settled), ..STORED }
}
