//! The state table of the design, cell by cell, and the promises that rest on it.
//!
//! Tests of [`super::step`], apart from it so that the table itself stays readable. A message is sent at zero and due ten
//! minutes later; `show` writes what a step did as one line, so that a row here reads like a row of the design.

use std::time::Duration;

use proptest::prelude::*;
use rstest::rstest;

use super::ledger::{self, Cell};
use super::record::TRAIL_MAX;
use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const DUE: Event = Event::Due { maybe_attempted: false, moot: false };

fn sent() -> Timestamp {
    Timestamp::parse("2026-11-22T17:00:00Z").unwrap()
}

/// A message, its policy, and the time.
struct Life {
    record: Record,
    policy: Policy,
    now: Timestamp,
    acked: bool,
    unsubscribed: bool,
    held_until: Timestamp,
}

impl Life {
    /// A message at its deadline: due ten minutes after it was sent, settled within ten seconds, given up after an hour, its
    /// fallback of use for a day, and in doubt sent.
    fn new() -> Self {
        let policy = Policy { on_unknown: OnUnknown::Send, ..Policy::new(Rule::Ttl(MINUTE * 10)) };
        let record = Record {
            identity: Identity { agent: AgentId::new("bot").unwrap(), message_id: MessageId::new("msg-1").unwrap() },
            lane: LaneId(1),
            seq: 1,
            phone: Phone::new("+12223334444").unwrap(),
            tags: Vec::new(),
            fallback: None,
            time_zone: None,
            registered_at: sent(),
            send_time: sent(),
            deadline: None,
            state: State::Pending,
            held: false,
            recall: None,
            attempts: Attempts::default(),
            seen: Seen::default(),
            grant: None,
            trail: vec![Note { at: sent(), what: What::Registered, detail: None }],
        };
        Self {
            record,
            policy,
            now: sent().plus(MINUTE * 10),
            acked: false,
            unsubscribed: false,
            held_until: Timestamp::EPOCH,
        }
    }

    /// In the stage of that name, as `show` writes it.
    fn in_stage(stage: &str) -> Self {
        let mut life = Self::new();
        let not_found = Event::Answered(Answer::NotFound);
        let revoked = Event::Answered(Answer::Revoked);
        let way = match stage {
            "pending" => vec![],
            "waiting" => vec![DUE, Event::Answered(Answer::NotSent("no route".into()))],
            "in flight" => vec![DUE],
            "settling REVOKED" => vec![DUE, revoked],
            "settling PROBABLY_DELIVERED" => vec![DUE, not_found],
            "settling UNKNOWN" => vec![DUE, lost(), DUE, not_found],
            "settled DELIVERED" => vec![Event::Delivered],
            "settled REVOKED" => vec![DUE, revoked, Event::WindowEnded],
            "settled UNKNOWN" => vec![DUE, lost(), DUE, not_found, Event::WindowEnded],
            "settled FAILED" => vec![DUE, rejected()],
            "settled WITHDRAWN" => vec![Event::Withdraw],
            "settled SHADOW" => vec![DUE, answered(Answer::Shadow)],
            "settled MOOT" => vec![Event::Due { maybe_attempted: false, moot: true }],
            other => panic!("no stage {other:?}"),
        };
        let last = way.into_iter().map(|event| life.takes(event)).last();
        assert!(last.is_none_or(|shown| shown.starts_with(stage)), "{stage}");
        life
    }

    fn step(&mut self, event: Event) -> Step {
        let (policy, now, held_until) = (&self.policy, self.now, self.held_until);
        let (random, grant_acked, unsubscribed) = (u64::MAX / 2, self.acked, self.unsubscribed);
        step(&mut self.record, event, Input { policy, now, random, grant_acked, unsubscribed, held_until })
    }

    /// Takes a step and shows what it did.
    fn takes(&mut self, event: Event) -> String {
        let step = self.step(event);
        show(&self.record, &step)
    }

    fn after(mut self, span: Duration) -> Self {
        self.now = self.now.plus(span);
        self
    }

    fn grant(&self) -> Option<GrantState> {
        self.record.grant.map(|grant| grant.state)
    }
}

/// The state after a step, and what else came of it.
fn show(record: &Record, step: &Step) -> String {
    let (belief, state);
    let stage = match record.state {
        State::Pending => "pending",
        State::Revoking { in_flight: false, .. } => "waiting",
        State::Revoking { in_flight: true, .. } => "in flight",
        State::Settling { belief: held, .. } => {
            belief = format!("settling {}", serde_json::to_value(held).unwrap().as_str().unwrap());
            &belief
        }
        State::Settled { outcome, .. } => {
            state = format!("settled {}", outcome.as_str());
            &state
        }
    };
    let effects = [
        (step.attempt, "attempt"),
        (step.report == Some(Report::Settled), "report"),
        (matches!(step.report, Some(Report::Amended(_))), "amend"),
        (step.refused, "refused"),
        (step.duplicate, "duplicate"),
    ];
    effects.iter().filter(|(is, _)| *is).fold(stage.to_owned(), |line, (_, effect)| format!("{line}, {effect}"))
}

fn lost() -> Event {
    Event::Answered(Answer::Lost("no answer in time".into()))
}

fn rejected() -> Event {
    Event::Answered(Answer::Rejected("HTTP 400".into()))
}

fn answered(answer: Answer) -> Event {
    Event::Answered(answer)
}

#[rstest]
#[case("pending", "settled DELIVERED, report")]
#[case("waiting", "settled DELIVERED, report")]
#[case("in flight", "in flight")]
#[case("settling REVOKED", "settled DELIVERED, report")]
#[case("settling PROBABLY_DELIVERED", "settled DELIVERED, report")]
#[case("settling UNKNOWN", "settled DELIVERED, report")]
#[case("settled REVOKED", "settled DELIVERED, amend")]
#[case("settled UNKNOWN", "settled DELIVERED, amend")]
#[case("settled FAILED", "settled DELIVERED, amend")]
#[case("settled SHADOW", "settled DELIVERED, amend")]
#[case("settled DELIVERED", "settled DELIVERED, duplicate")]
#[case("settled WITHDRAWN", "settled WITHDRAWN, duplicate")]
#[case("settled MOOT", "settled MOOT, duplicate")]
fn delivered_and_read_alike_take_a_message_off(#[case] stage: &str, #[case] shown: &str) {
    for event in [Event::Delivered, Event::Read] {
        let mut life = Life::in_stage(stage);
        assert_eq!(life.takes(event.clone()), shown);
        assert!(!matches!(life.grant(), Some(GrantState::Offered | GrantState::Held)), "{stage} {event:?}");
        // At least once, unordered: the second one tells nothing new.
        assert!(life.takes(event).ends_with("duplicate"));
    }
}

#[rstest]
#[case("pending", "settling REVOKED")]
#[case("waiting", "settling REVOKED")]
#[case("in flight", "in flight")]
#[case("settling REVOKED", "settling REVOKED, duplicate")]
#[case("settling PROBABLY_DELIVERED", "settling REVOKED")]
#[case("settling UNKNOWN", "settling REVOKED")]
#[case("settled DELIVERED", "settled DELIVERED, duplicate")]
#[case("settled UNKNOWN", "settled UNKNOWN, duplicate")]
fn the_platforms_own_ttl_revokes(#[case] stage: &str, #[case] shown: &str) {
    assert_eq!(Life::in_stage(stage).takes(Event::TtlRevoked), shown);
}

#[rstest]
#[case("pending", "waiting")]
#[case("waiting", "waiting")]
#[case("in flight", "in flight")]
#[case("settling REVOKED", "settling REVOKED")]
#[case("settled REVOKED", "settled REVOKED, duplicate")]
fn a_failed_ttl_means_revoke_now_and_is_noted_once(#[case] stage: &str, #[case] shown: &str) {
    let mut life = Life::in_stage(stage);
    let event = || Event::TtlFailed("TTL_EXPIRATION_REVOKE_FAILED".into());
    assert_eq!(life.takes(event()), shown);
    assert!(life.takes(event()).ends_with("duplicate"));
    let settled = life.record.is_settled();
    assert_eq!(life.record.trail.iter().filter(|note| note.what == What::TtlFailed).count(), usize::from(!settled));
}

#[rstest]
#[case("pending", "settled WITHDRAWN, report", "waiting", "pending")]
#[case("waiting", "waiting, refused", "waiting, duplicate", "waiting, refused")]
#[case("in flight", "in flight, refused", "in flight, duplicate", "in flight, refused")]
#[case("settling REVOKED", "settling REVOKED, refused", "settling REVOKED, duplicate", "settling REVOKED, refused")]
#[case("settled REVOKED", "settled REVOKED, refused", "settled REVOKED, refused", "settled REVOKED, refused")]
fn an_agent_can_change_its_mind_while_the_message_is_pending(
    #[case] stage: &str,
    #[case] withdraw: &str,
    #[case] revoke: &str,
    #[case] reschedule: &str,
) {
    assert_eq!(Life::in_stage(stage).takes(Event::Withdraw), withdraw);
    assert_eq!(Life::in_stage(stage).takes(Event::RevokeNow), revoke);
    assert_eq!(Life::in_stage(stage).takes(Event::Reschedule(sent().plus(MINUTE * 20))), reschedule);
}

#[rstest]
#[case("pending", "pending")]
#[case("waiting", "waiting")]
#[case("in flight", "in flight, duplicate")]
#[case("settling REVOKED", "settling REVOKED, duplicate")]
#[case("settled REVOKED", "settled REVOKED, duplicate")]
fn a_hold_puts_aside_what_waits_and_its_release_brings_it_back(#[case] stage: &str, #[case] shown: &str) {
    let mut life = Life::in_stage(stage);
    let before = life.record.position();
    assert_eq!(life.takes(Event::PutAside("hold 7: tag \"spring\"".into())), shown);
    let aside = !shown.ends_with("duplicate");
    assert_eq!(life.record.position().queue == Queue::Held, aside);
    assert!(life.takes(Event::PutAside("hold 8".into())).ends_with("duplicate"));
    assert_eq!(life.takes(Event::Resume).ends_with("duplicate"), !aside);
    assert_eq!(life.record.position(), before);
}

#[rstest]
#[case("pending", "waiting", Queue::Recalled)]
#[case("waiting", "waiting", Queue::Recalled)]
#[case("in flight", "in flight", Queue::Recalled)]
#[case("settling REVOKED", "settling REVOKED", Queue::Settling)]
#[case("settled DELIVERED", "settled DELIVERED", Queue::Listed)]
#[case("settled REVOKED", "settled REVOKED, amend", Queue::Listed)]
#[case("settled WITHDRAWN", "settled WITHDRAWN", Queue::Listed)]
fn a_recall_revokes_what_is_open_and_marks_all_of_it(#[case] stage: &str, #[case] shown: &str, #[case] queue: Queue) {
    let mut life = Life::in_stage(stage);
    assert_eq!(life.takes(Event::Recall(7)), shown);
    assert_eq!((life.record.recall, life.record.position().queue), (Some(7), queue));
    assert!(life.takes(Event::Recall(8)).ends_with("duplicate"), "it belongs to the first recall that found it");
    assert!(!matches!(life.grant(), Some(GrantState::Offered | GrantState::Held)));
}

#[test]
fn a_recalled_message_gets_no_sms_however_it_ends_and_none_is_taken_back_that_was_noted() {
    for answers in [vec![Answer::Revoked], vec![Answer::NotFound, Answer::NotFound], vec![Answer::Rejected("".into())]]
    {
        let mut life = Life::new();
        life.takes(Event::PutAside("hold 7".into()));
        assert_eq!(life.takes(Event::Recall(7)), "waiting", "a recall beats a hold");
        for answer in answers {
            life.takes(DUE);
            life.takes(answered(answer));
            life.takes(Event::WindowEnded);
        }
        assert!(life.record.is_settled() && life.grant().is_none());
    }
    let mut life = Life::in_stage("settled REVOKED");
    life.acked = true;
    assert_eq!(life.takes(Event::Recall(7)), "settled REVOKED");
    assert_eq!(life.grant(), Some(GrantState::Offered), "the SMS may have been sent");
}

#[test]
fn what_is_put_aside_leaves_when_it_is_over_or_has_another_deadline() {
    for event in [Event::Delivered, Event::TtlRevoked, Event::Withdraw, Event::Reschedule(sent().plus(MINUTE * 20))] {
        let mut life = Life::new();
        life.takes(Event::PutAside("hold 7".into()));
        life.takes(event.clone());
        assert!(!life.record.held && life.record.position().queue != Queue::Held, "{event:?}");
    }
}

#[test]
fn the_time_under_a_hold_counts_neither_as_lateness_nor_against_patience() {
    let held_until = sent().plus(MINUTE * 600);
    let mut life = Life { held_until, ..Life::new() }.after(MINUTE * 591);
    assert_eq!(life.takes(DUE), "in flight, attempt");
    assert_eq!(life.record.attempts.lateness, Some(MINUTE));
    assert_eq!(life.takes(lost()), "waiting");
    life.now = held_until.plus(MINUTE * 61);
    assert_eq!(life.takes(DUE), "settled FAILED, report");
}

#[rstest]
#[case(Answer::Revoked, "settling REVOKED")]
#[case(Answer::NotFound, "settling PROBABLY_DELIVERED")]
#[case(Answer::Lost("".into()), "waiting")]
#[case(Answer::NotSent("".into()), "waiting")]
#[case(Answer::TooManyRequests(None), "waiting")]
#[case(Answer::Unauthorized("".into()), "waiting")]
#[case(Answer::Forbidden("".into()), "waiting")]
#[case(Answer::Rejected("".into()), "settled FAILED, report")]
#[case(Answer::Shadow, "settled SHADOW, report")]
fn an_answer_moves_a_message_that_is_in_flight_and_no_other(#[case] answer: Answer, #[case] shown: &str) {
    assert_eq!(Life::in_stage("in flight").takes(answered(answer.clone())), shown);
    for stage in ["pending", "waiting", "settling REVOKED", "settled REVOKED"] {
        assert_eq!(Life::in_stage(stage).takes(answered(answer.clone())), format!("{stage}, duplicate"));
    }
}

#[rstest]
#[case("pending", "in flight, attempt")]
#[case("waiting", "in flight, attempt")]
#[case("in flight", "in flight, duplicate")]
#[case("settling REVOKED", "settling REVOKED, duplicate")]
#[case("settled DELIVERED", "settled DELIVERED, duplicate")]
fn one_attempt_leaves_for_a_message_that_is_due(#[case] stage: &str, #[case] shown: &str) {
    assert_eq!(Life::in_stage(stage).takes(DUE), shown);
}

#[test]
fn a_lost_answer_then_404_is_not_delivered() {
    let mut life = Life::in_stage("in flight");
    assert_eq!(life.takes(lost()), "waiting");
    assert_eq!(life.takes(DUE), "in flight, attempt");
    assert_eq!(life.takes(answered(Answer::NotFound)), "settling UNKNOWN");
    assert_eq!(life.takes(Event::WindowEnded), "settled UNKNOWN, report");
    assert_eq!(life.grant(), Some(GrantState::Offered));
}

#[test]
fn an_attempt_that_may_have_left_before_a_crash_makes_a_404_say_nothing() {
    let mut life = Life::new();
    assert_eq!(life.takes(Event::Due { maybe_attempted: true, moot: false }), "in flight, attempt");
    assert_eq!(life.takes(answered(Answer::NotFound)), "settling UNKNOWN");
}

#[test]
fn a_request_that_was_never_sent_leaves_a_404_its_meaning() {
    let mut life = Life::in_stage("waiting");
    life.takes(DUE);
    assert_eq!(life.takes(answered(Answer::NotFound)), "settling PROBABLY_DELIVERED");
}

#[test]
fn a_404_without_delivered_is_looked_at_a_second_time_and_then_unknown() {
    let mut life = Life::in_stage("settling PROBABLY_DELIVERED");
    assert_eq!(life.takes(Event::WindowEnded), "waiting");
    assert_eq!(life.takes(DUE), "in flight, attempt");
    assert_eq!(life.takes(answered(Answer::NotFound)), "settled UNKNOWN, report");
}

#[test]
fn a_second_look_that_finds_it_revokes_it() {
    let mut life = Life::in_stage("settling PROBABLY_DELIVERED");
    life.takes(Event::WindowEnded);
    life.takes(DUE);
    assert_eq!(life.takes(answered(Answer::Revoked)), "settling REVOKED");
}

#[test]
fn a_404_past_the_time_for_a_second_look_is_unknown() {
    let mut life = Life::in_stage("settling PROBABLY_DELIVERED").after(MINUTE * 61);
    assert_eq!(life.takes(Event::WindowEnded), "settled UNKNOWN, report");
}

#[test]
fn delivered_in_flight_wins_over_every_answer() {
    for answer in [Answer::Revoked, Answer::NotFound, Answer::Lost("".into()), Answer::Forbidden("".into())] {
        let mut life = Life::in_stage("in flight");
        life.takes(Event::Delivered);
        assert_eq!(life.takes(answered(answer)), "settled DELIVERED, report");
        assert_eq!(life.grant(), None);
    }
}

#[test]
fn a_ttl_that_fired_in_flight_revokes_whatever_the_answer_is() {
    for answer in [Answer::NotFound, Answer::Lost("".into()), Answer::Forbidden("".into()), Answer::Rejected("".into())]
    {
        let mut life = Life::in_stage("in flight");
        life.takes(Event::TtlRevoked);
        assert_eq!(life.takes(answered(answer)), "settling REVOKED");
    }
}

#[test]
fn evidence_that_a_crash_cut_off_from_its_attempt_still_counts() {
    for (event, shown) in [(Event::Delivered, "settled DELIVERED, report"), (Event::TtlRevoked, "settling REVOKED")] {
        // Even for a message that is out of time.
        for turn in [Event::Due { maybe_attempted: true, moot: false }, Event::Stuck] {
            let mut life = Life::in_stage("in flight").after(MINUTE * 120);
            life.takes(event.clone());
            life.record.state = State::Revoking { next: life.now, in_flight: false };
            assert_eq!(life.takes(turn), shown);
        }
    }
}

#[test]
fn delivered_after_a_200_takes_the_grant_back_unless_it_was_used() {
    for (acked, state) in [(false, GrantState::Withdrawn), (true, GrantState::Offered)] {
        let mut life = Life::in_stage("settled REVOKED");
        assert_eq!(life.grant(), Some(GrantState::Offered));
        life.acked = acked;
        assert_eq!(life.step(Event::Delivered).report, Some(Report::Amended(Outcome::Revoked)));
        assert_eq!(life.grant(), Some(state));
    }
}

#[rstest]
#[case("settled REVOKED", [Some(GrantState::Offered), Some(GrantState::Offered), Some(GrantState::Offered)])]
#[case("settled UNKNOWN", [Some(GrantState::Offered), Some(GrantState::Held), None])]
#[case("settled FAILED", [Some(GrantState::Offered), Some(GrantState::Held), None])]
#[case("settled DELIVERED", [None, None, None])]
#[case("settled WITHDRAWN", [None, None, None])]
#[case("settled MOOT", [None, None, None])]
fn a_grant_follows_from_outcome_and_policy(#[case] stage: &str, #[case] grants: [Option<GrantState>; 3]) {
    for (on_unknown, expected) in [OnUnknown::Send, OnUnknown::Hold, OnUnknown::Drop].into_iter().zip(grants) {
        // The stage's last step once more, under this policy.
        let (before, last) = match stage {
            "settled REVOKED" => ("settling REVOKED", Event::WindowEnded),
            "settled UNKNOWN" => ("settling UNKNOWN", Event::WindowEnded),
            "settled FAILED" => ("in flight", rejected()),
            "settled DELIVERED" => ("settling REVOKED", Event::Delivered),
            "settled WITHDRAWN" => ("pending", Event::Withdraw),
            _ => ("pending", Event::Due { maybe_attempted: false, moot: true }),
        };
        let mut life = Life::in_stage(before);
        life.policy.on_unknown = on_unknown;
        assert_eq!(life.takes(last), format!("{stage}, report"));
        assert_eq!(life.grant(), expected, "{on_unknown:?}");
    }
}

#[test]
fn a_grant_that_comes_too_late_is_void() {
    let until = sent().plus(MINUTE * 10).plus(Life::new().policy.fallback_until);
    for (late, state) in [(Duration::ZERO, GrantState::Offered), (Duration::from_millis(1), GrantState::Void)] {
        let mut life = Life::in_stage("settling REVOKED");
        life.now = until.plus(late);
        life.takes(Event::WindowEnded);
        assert_eq!(life.record.grant, Some(Grant { state, cursor: 0, until, call: None }));
    }
}

#[rstest]
#[case("settling REVOKED", Event::WindowEnded, "settled REVOKED, report")]
#[case("settling UNKNOWN", Event::WindowEnded, "settled UNKNOWN, report")]
#[case("in flight", rejected(), "settled FAILED, report")]
fn nothing_is_granted_to_who_wants_no_promotions(#[case] stage: &str, #[case] last: Event, #[case] shown: &str) {
    let mut life = in_quiet_hours(stage);
    life.unsubscribed = true;
    assert_eq!((life.takes(last).as_str(), life.grant()), (shown, None), "and no quiet hours are waited for");
    assert_eq!(life.record.trail.last().unwrap().what, What::Unsubscribed);
    assert_eq!(life.takes(Event::Unsubscribed), format!("{}, duplicate", shown.strip_suffix(", report").unwrap()));
}

#[test]
fn an_unsubscription_takes_a_grant_back_unless_it_was_used() {
    let settled = |acked: bool, unsubscribed: bool| {
        let mut life = Life::in_stage("settled REVOKED");
        (life.acked, life.unsubscribed) = (acked, unsubscribed);
        life
    };
    let mut life = settled(false, true);
    assert_eq!(life.step(Event::Unsubscribed).report, Some(Report::Amended(Outcome::Revoked)));
    assert_eq!(life.grant(), Some(GrantState::Withdrawn));
    for mut life in [settled(true, true), settled(false, false)] {
        assert_eq!(life.takes(Event::Unsubscribed), "settled REVOKED, duplicate");
        assert_eq!(life.grant(), Some(GrantState::Offered));
    }
    // Where its hook was still to be called, or somebody to decide, that is the end of it.
    let mut life = settled(false, true);
    assert_eq!(life.step(Event::CallDue).report, Some(Report::Amended(Outcome::Revoked)));
    let mut life = Life::in_stage("settling UNKNOWN");
    life.policy.on_unknown = OnUnknown::Hold;
    life.takes(Event::WindowEnded);
    life.unsubscribed = true;
    assert_eq!(life.step(Event::Decide(true)).report, None);
    assert_eq!(life.grant(), Some(GrantState::Withdrawn));
}

/// A message whose settle window ends at 18:10 in Berlin, where no SMS may go out from six to eight.
fn in_quiet_hours(stage: &str) -> Life {
    let mut life = Life::in_stage(stage);
    let [from, to] = [18, 20].map(|hour| jiff::civil::time(hour, 0, 0, 0));
    let zone = jiff::tz::TimeZone::get("Europe/Berlin").unwrap();
    life.policy.not_between = Some(QuietHours { from, to, zone });
    life
}

#[rstest]
#[case("settling REVOKED", Event::WindowEnded, "settling REVOKED", "settled REVOKED, report")]
#[case("settling UNKNOWN", Event::WindowEnded, "settling UNKNOWN", "settled UNKNOWN, report")]
#[case("in flight", rejected(), "settling FAILED", "settled FAILED, report")]
fn an_sms_waits_for_the_end_of_the_quiet_hours_and_its_message_with_it(
    #[case] stage: &str,
    #[case] event: Event,
    #[case] waits: &str,
    #[case] ends: &str,
) {
    let mut life = in_quiet_hours(stage);
    assert_eq!((life.takes(event.clone()).as_str(), life.grant()), (waits, None));
    let State::Settling { until, .. } = life.record.state else { panic!() };
    assert_eq!(until, Timestamp::parse("2026-11-22T19:00:00Z").unwrap());
    let mut arrives = Life { record: life.record.clone(), policy: life.policy.clone(), ..life };
    life.now = until;
    assert_eq!((life.takes(Event::WindowEnded).as_str(), life.grant()), (ends, Some(GrantState::Offered)));
    assert_eq!((arrives.takes(Event::Delivered).as_str(), arrives.grant()), ("settled DELIVERED, report", None));

    let mut elsewhere = in_quiet_hours(stage);
    elsewhere.record.time_zone = Some("America/New_York".into());
    assert_eq!(elsewhere.takes(event), ends);
}

#[test]
fn an_sms_that_is_of_no_use_after_the_quiet_hours_is_void_when_its_time_is_over() {
    let mut life = in_quiet_hours("settling REVOKED");
    life.policy.fallback_until = MINUTE * 30;
    assert_eq!(life.takes(Event::WindowEnded), "settling REVOKED");
    let State::Settling { until, .. } = life.record.state else { panic!() };
    life.now = until;
    assert_eq!(
        (life.takes(Event::WindowEnded).as_str(), life.grant()),
        ("settled REVOKED, report", Some(GrantState::Void))
    );
}

/// It runs beside whatever revokes now, and that one sends the SMS.
#[test]
fn in_shadow_mode_no_sms_is_granted_whatever_ends_the_message() {
    for (stage, last) in [("settling REVOKED", Event::WindowEnded), ("in flight", rejected())] {
        let mut life = Life::in_stage(stage);
        life.policy.shadow = true;
        life.takes(last);
        assert!(life.record.is_settled());
        assert_eq!(life.grant(), None);
    }
}

#[test]
fn a_message_is_failed_when_its_next_attempt_would_come_past_give_up_after() {
    for answer in [Answer::Lost("".into()), Answer::NotSent("".into())] {
        let mut life = Life::in_stage("in flight").after(MINUTE * 59);
        assert_eq!(life.takes(answered(answer.clone())), "waiting");
        let mut life = Life::in_stage("in flight").after(MINUTE * 60);
        assert_eq!(life.takes(answered(answer)), "settled FAILED, report");
    }
    let mut life = Life::in_stage("waiting").after(MINUTE * 61);
    assert_eq!(life.takes(DUE), "settled FAILED, report");
}

#[test]
fn a_message_is_never_failed_for_its_lanes_troubles_only_for_waiting_too_long() {
    for answer in [Answer::TooManyRequests(None), Answer::Unauthorized("".into()), Answer::Forbidden("".into())] {
        // Overdue since long: the daemon was down. It gets its attempt, and gets it again when that one didn't count.
        let mut life = Life::new().after(MINUTE * 120);
        assert_eq!(life.takes(DUE), "in flight, attempt");
        assert_eq!(life.takes(answered(answer)), "waiting");
        assert_eq!(life.record.attempts.count, 0);
        assert_eq!(life.takes(DUE), "in flight, attempt");
    }
}

#[test]
fn what_never_reached_the_platform_counts_as_a_try_and_not_as_a_delete() {
    let mut life = Life::in_stage("waiting");
    assert_eq!((life.record.attempts.count, life.record.attempts.failures), (0, 1));
    let step = life.step(Event::Delivered);
    let counts = ledger::entries(None, &life.record, &step, life.now);
    let tells = [Cell::ATTEMPTS, Cell::RACED, Cell::AVOIDED].map(|cell| counts.get(cell));
    assert_eq!(tells, [0, 0, 1], "no DELETE crossed this delivery");
}

#[test]
fn a_message_whose_lane_rests_waits_for_as_long_as_there_is_time() {
    for stage in ["pending", "waiting"] {
        assert_eq!(Life::in_stage(stage).after(MINUTE * 60).takes(Event::Stuck), format!("{stage}, duplicate"));
        assert_eq!(Life::in_stage(stage).after(MINUTE * 61).takes(Event::Stuck), "settled FAILED, report");
    }
    for stage in ["in flight", "settling REVOKED", "settled REVOKED"] {
        assert_eq!(Life::in_stage(stage).after(MINUTE * 61).takes(Event::Stuck), format!("{stage}, duplicate"));
    }
}

#[test]
fn moot_is_only_what_was_never_tried() {
    let due = |maybe_attempted| Event::Due { maybe_attempted, moot: true };
    assert_eq!(Life::new().takes(due(false)), "settled MOOT, report");
    assert_eq!(Life::new().takes(due(true)), "in flight, attempt");
    assert_eq!(Life::in_stage("waiting").takes(due(false)), "in flight, attempt");
}

#[test]
fn lateness_is_what_the_first_attempt_was_late_and_stays() {
    let late = Duration::from_secs(7);
    let mut life = Life::new().after(late);
    life.takes(DUE);
    assert_eq!(life.record.attempts.lateness, Some(late));
    life.takes(lost());
    life.now = life.now.plus(MINUTE);
    life.takes(DUE);
    assert_eq!((life.record.attempts.lateness, life.record.attempts.count), (Some(late), 2));

    // With a lead the first one is due earlier; asked for by hand it is due at once, long before its deadline.
    let mut life = Life::new();
    life.policy.lead = MINUTE;
    life.takes(DUE);
    assert_eq!(life.record.attempts.lateness, Some(MINUTE));
    let mut life = Life::new();
    life.now = sent();
    life.takes(Event::RevokeNow);
    life.now = sent().plus(late);
    life.takes(DUE);
    assert_eq!(life.record.attempts.lateness, Some(late));
}

#[test]
fn the_deadline_that_applied_is_kept_when_the_policy_changes_later() {
    let mut life = Life::in_stage("in flight");
    life.policy.rule = Rule::Ttl(MINUTE * 5);
    life.takes(answered(Answer::Revoked));
    life.takes(Event::WindowEnded);
    assert_eq!(life.record.deadline, Some(sent().plus(MINUTE * 10)));
}

fn any_event() -> impl Strategy<Value = Event> {
    let answer = prop_oneof![
        Just(Answer::Revoked),
        Just(Answer::NotFound),
        Just(Answer::TooManyRequests(None)),
        Just(Answer::Unauthorized("401".into())),
        Just(Answer::Forbidden("403".into())),
        Just(Answer::Rejected("400".into())),
        Just(Answer::Lost("lost".into())),
        Just(Answer::NotSent("not sent".into())),
        Just(Answer::Shadow),
    ];
    prop_oneof![
        6 => any::<bool>().prop_map(|moot| Event::Due { maybe_attempted: false, moot }),
        6 => answer.prop_map(Event::Answered),
        3 => Just(Event::WindowEnded),
        1 => Just(Event::Stuck),
        1 => Just(Event::Delivered),
        1 => Just(Event::Read),
        1 => Just(Event::TtlRevoked),
        1 => "[A-C]".prop_map(|name| Event::TtlFailed(name.into())),
        1 => Just(Event::Withdraw),
        1 => Just(Event::RevokeNow),
        1 => Just(Event::PutAside("hold 7".into())),
        1 => Just(Event::Resume),
        1 => (7_u64..9).prop_map(Event::Recall),
        1 => (0_u64..7200).prop_map(|s| Event::Reschedule(sent().plus(Duration::from_secs(s)))),
    ]
}

/// One move of the world: time goes on, the process may crash first, the agent may acknowledge, then an event comes.
fn any_move() -> impl Strategy<Value = (u64, bool, bool, Event)> {
    (0_u64..600, prop::bool::weighted(0.1), prop::bool::weighted(0.1), any_event())
}

proptest! {
    #[test]
    fn state_only_moves_forward(moves in prop::collection::vec(any_move(), 1..60), on_unknown in 0_usize..3) {
        let mut life = Life::new();
        life.policy.on_unknown = [OnUnknown::Send, OnUnknown::Hold, OnUnknown::Drop][on_unknown];
        let mut stored = life.record.clone();
        let (mut fenced, mut was_delivered, mut reports) = (false, false, Vec::new());
        for (seconds, crash, ack, event) in moves {
            life.now = life.now.plus(Duration::from_secs(seconds));
            if crash {
                life.record = stored.clone();
            }
            life.acked |= ack && life.record.grant.is_some();
            // An attempt that left since the record was last stored is below the fence when its turn comes again.
            let event = match event {
                Event::Due { moot, .. } => Event::Due { maybe_attempted: fenced, moot },
                event => event,
            };
            let before = life.record.clone();
            let told_delivered = matches!(event, Event::Delivered | Event::Read);
            let step = life.step(event);
            let after = &life.record;

            prop_assert!(after.trail.len() <= TRAIL_MAX);
            prop_assert!(after.trail[0].what == What::Registered);
            if step.refused || step.duplicate {
                prop_assert_eq!(&before, after, "a step that did nothing changed something");
            }
            if step.attempt {
                prop_assert!(!before.is_settled() && !was_delivered, "a DELETE for a message that is done");
                fenced = true;
            }
            if let State::Settled { outcome, at } = before.state {
                let State::Settled { outcome: later, at: when } = after.state else {
                    return Err(TestCaseError::fail("it came back from Settled"));
                };
                prop_assert!(at == when && (outcome == later || later == Outcome::Delivered));
            }
            match (before.grant, after.grant) {
                (Some(old), Some(new)) => prop_assert!(old == new || new.state == GrantState::Withdrawn),
                (Some(_), None) => return Err(TestCaseError::fail("a grant vanished")),
                (None, Some(_)) => prop_assert!(step.report == Some(Report::Settled)),
                (None, None) => {}
            }
            if told_delivered && step.changed {
                was_delivered = true;
            }
            if was_delivered && !life.acked {
                let usable = after.grant.is_some_and(|g| matches!(g.state, GrantState::Offered | GrantState::Held));
                prop_assert!(!usable, "an SMS for a message that was delivered");
            }
            reports.extend(step.report);
            if step.changed {
                stored = after.clone();
                if let State::Revoking { in_flight, .. } = &mut stored.state {
                    fenced = std::mem::take(in_flight);
                }
            }
        }
        // A recall takes a grant back once, and a late DELIVERED may come before or after it.
        let fits = matches!(reports.as_slice(), [] | [Report::Settled] | [Report::Settled, Report::Amended(_)]
            | [Report::Settled, Report::Amended(_), Report::Amended(_)]);
        prop_assert!(fits, "{reports:?}");
    }
}
