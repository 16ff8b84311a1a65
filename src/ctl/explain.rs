//! `revokectl explain`: why a message has its deadline and what happened to it, told in sentences.

use std::time::Duration;

use clap::builder::styling::Style;
use comfy_table::Cell;

use super::args::MessageRef;
use super::client::{Client, Method};
use super::exit::Failure;
use super::holds::about;
use super::messages::grant_line;
use super::output::Output;
use super::show::{self, Column, Here};
use crate::engine::StateKind;
use crate::intake::wire::{ExplainView, NoteView};
use crate::model::deadline::human;
use crate::model::{Belief, Outcome, Timestamp, What};

pub(super) async fn print(client: &Client, out: &mut Output, of: &MessageRef) -> Result<(), Failure> {
    let url = Client::message_url(&of.agent, &of.message, Some("explain"));
    let view: ExplainView = client.call(Method::POST, url, None).await?;
    out.value(&view, screen)
}

fn screen(view: &ExplainView, here: &Here) -> String {
    let message = &view.message;
    let bold = Style::new().bold();
    let state = show::word(&message.state);
    let state = message.outcome.map_or(state, |outcome| format!("settled: {}", show::word(&outcome)));
    let mut parts = vec![format!("{bold}{} {}{bold:#} is {state}.", message.agent_id, message.message_id)];
    let paragraphs = match message.state {
        StateKind::Pending => vec![deadline(view, here), leaving(view, here), origin(view, here)],
        StateKind::Revoking => vec![attempts(view, here), origin(view, here)],
        StateKind::Settling => vec![attempts(view, here), belief(view, here)],
        StateKind::Settled => vec![attempts(view, here), ending(view, here)],
    };
    parts.extend(paragraphs.iter().chain(&held(view, here)).chain(&resting(view)).map(|words| here.wrap(words, 0)));
    parts.push(story(view, here));
    if !view.message_hash.is_empty() {
        parts.push(format!("In the journal: MESSAGE_HASH={}", view.message_hash));
    }
    parts.join("\n\n")
}

/// Which rule gave a pending message its deadline.
fn deadline(view: &ExplainView, here: &Here) -> String {
    let message = &view.message;
    let (use_case, policy) = (&message.use_case, show::plain(&view.policy));
    let at = here.when(message.deadline);
    if view.own_deadline {
        let moved = message.trail.iter().rfind(|note| note.what == What::Rescheduled);
        let how = match moved {
            Some(note) => format!("when it rescheduled it at {}", here.moment(note.at)),
            None => "when it registered it".to_owned(),
        };
        return format!(
            "Its deadline is {at}. It is its own: its agent gave it {how}. The rule of its use case {use_case} \
             ({policy}) does not count for it, and a reload does not move it."
        );
    }
    let sent = here.moment(message.send_time);
    format!("Its deadline is {at}. Its use case {use_case} says \"{policy}\", and it was sent at {sent}.")
}

/// When the DELETE of a pending message leaves, as far as that is not the deadline itself.
fn leaving(view: &ExplainView, here: &Here) -> String {
    let lead = view.message.deadline.since(view.release_time);
    let mut words = if view.release_time <= here.now {
        format!("It was due at {}: its DELETE waits for its turn", here.when(view.release_time))
    } else if lead.is_zero() {
        "Its DELETE leaves then".to_owned()
    } else {
        format!("Its DELETE leaves {} earlier (lead), at {}", human(lead), here.when(view.release_time))
    };
    // What brings its own deadline is not part of a campaign.
    if !view.spread.is_zero() && !view.own_deadline {
        words += &format!(", or up to {} before that, as its use case is spread", human(view.spread));
    }
    words + ", unless DELIVERED comes first."
}

/// Which configuration brought the policy.
fn origin(view: &ExplainView, here: &Here) -> String {
    let (hash, since) = (&view.config_hash, here.when(view.policy_since));
    if view.pinned {
        return format!(
            "It keeps the rule that it was registered under: the one of configuration {hash}, since {since}, applies \
             to new messages only."
        );
    }
    let what = if view.own_deadline { "The rest of its policy" } else { "This policy" };
    format!("{what} is in force since {since}, with configuration {hash}.")
}

/// What was tried so far.
fn attempts(view: &ExplainView, here: &Here) -> String {
    let message = &view.message;
    let deadline = format!("Its deadline was {}.", here.when(message.deadline));
    let late = message.lateness.map(|late| format!(", the first {}", show::late(late))).unwrap_or_default();
    match message.attempts {
        0 if message.state == StateKind::Revoking => format!("{deadline} No DELETE has an answer yet."),
        0 => format!("{deadline} No DELETE was needed."),
        1 => format!("{deadline} One DELETE was sent{}.", late.replace(", the first", ",")),
        count => format!("{deadline} {count} DELETEs were sent{late}."),
    }
}

fn belief(view: &ExplainView, here: &Here) -> String {
    let believed = match view.message.belief {
        Some(Belief::Revoked) => "The platform says that it took it back",
        Some(Belief::ProbablyDelivered) => "The platform does not know it any more, so it was most likely delivered",
        Some(Belief::Unknown) => {
            "The platform does not know it any more, but an earlier DELETE may have been the reason: revoked or \
             delivered, nobody can say"
        }
        Some(Belief::Failed) => "It could not be revoked in time",
        None => "What is known of it is being weighed",
    };
    match view.message.settle_time {
        Some(until) => format!("{believed}. A DELIVERED may still change that until {}.", here.when(until)),
        None => format!("{believed}."),
    }
}

fn ending(view: &ExplainView, here: &Here) -> String {
    let ending = match view.message.outcome {
        Some(Outcome::Delivered) => "It reached the handset",
        Some(Outcome::Revoked) => "It was taken back before it reached the handset",
        Some(Outcome::Unknown) => "It was revoked or delivered, nobody can say which",
        Some(Outcome::Failed) => "It could not be revoked; why stands below",
        Some(Outcome::Withdrawn) => "Its agent took it back, so it was left alone",
        Some(Outcome::Moot) => "Its deadline passed while the daemon was down, and its policy leaves it alone then",
        Some(Outcome::Shadow) => "It would have been revoked; in shadow mode it was left alone, and may still arrive",
        None => "It is through",
    };
    let sms = view.message.grant.as_ref().map(|grant| format!(" The SMS: {}.", grant_line(grant, here)));
    format!("{ending}.{}", sms.unwrap_or_default())
}

/// The hold that keeps it back.
fn held(view: &ExplainView, here: &Here) -> Option<String> {
    let hold = view.message.hold.as_ref()?;
    let reason = hold.reason.as_deref().map(|reason| format!(": {}", show::plain(reason))).unwrap_or_default();
    let (id, since, of) = (&hold.id, here.when(hold.hold_time), about(&hold.of));
    Some(format!(
        "It is held since {since} by hold {id} ({of}){reason}. No DELETE leaves for it before `revokectl release {id}`."
    ))
}

/// What keeps everything of its agent from leaving.
fn resting(view: &ExplainView) -> Option<String> {
    let reason = view.resting.filter(|_| matches!(view.message.state, StateKind::Pending | StateKind::Revoking))?;
    let wait = view.resumes_in.map(|wait| format!(", for {} yet", show::span(wait))).unwrap_or_default();
    let (agent, region) = (&view.message.agent_id, view.message.region);
    Some(format!("No DELETE leaves for {agent} in region {region}{wait}: {}.", show::rest(reason)))
}

/// Everything that happened, and what is known to come, in order.
fn story(view: &ExplainView, here: &Here) -> String {
    let message = &view.message;
    let mut lines: Vec<(Timestamp, String)> = vec![(message.send_time, "sent, says its agent".to_owned())];
    lines.extend(message.trail.iter().map(|note| (note.at, told(note, message.send_time, here))));
    if message.state == StateKind::Pending {
        lines.push((message.deadline, "its deadline".to_owned()));
    }
    match (message.settle_time, message.outcome) {
        (Some(at), Some(outcome)) => lines.push((at, format!("settled: {}", show::word(&outcome)))),
        (Some(at), None) => lines.push((at, "the end of its settle window".to_owned())),
        _ => {}
    }
    // Stable: what was noted in the same millisecond stays in the order in which it was noted.
    lines.sort_by_key(|(at, _)| *at);
    let mut table = here.table([Column::word(""), Column::text("")]);
    for (at, words) in lines {
        let ahead = if at > here.now { format!("(ahead) {words}") } else { words };
        table.add_row([Cell::new(format!("  {}", here.moment(at))), Cell::new(ahead)]);
    }
    let bold = Style::new().bold();
    format!("{bold}What happened{bold:#}\n{}", show::rows(&table))
}

fn told(note: &NoteView, sent: Timestamp, here: &Here) -> String {
    let detail = note.detail.as_deref().map(show::plain).unwrap_or_default();
    match note.what {
        What::Registered => match note.at.since(sent) {
            Duration::ZERO => "registered by its agent".to_owned(),
            after => format!("registered by its agent, {} after the send", show::span(after)),
        },
        What::Replaced => "registered again, in place of what was there".to_owned(),
        What::Rescheduled => match Timestamp::parse(&detail) {
            Ok(to) => format!("its agent moved its deadline to {}", here.moment(to)),
            Err(_) => "its agent moved its deadline".to_owned(),
        },
        What::Withdrawn => "its agent took it back".to_owned(),
        What::RevokeAsked => "its agent asked to revoke it now".to_owned(),
        What::Delivered => "DELIVERED came: it is on the handset".to_owned(),
        What::Read => "READ came: it was seen on the handset".to_owned(),
        What::TtlRevoked => "the platform says that its own ttl revoked it".to_owned(),
        What::TtlFailed => format!("the platform says that its own ttl did not revoke it ({detail})"),
        What::Answered if detail.starts_with("shadow") => "its DELETE would have left: shadow mode".to_owned(),
        What::Answered => format!("DELETE answered: {detail}"),
        What::MaybeAttempted => "a DELETE may have left just before a crash; nobody saw its answer".to_owned(),
        What::Quiet => format!("its SMS has to wait for the end of the quiet hours ({detail})"),
        What::Held => format!("its turn came, and it was put aside for {detail}"),
        What::Recalled => format!("taken back with others: {detail}"),
        What::Released => "the hold was released".to_owned(),
        What::Decided => format!("its SMS was decided on: {detail}"),
        What::Taken => "its fallback hook took the SMS".to_owned(),
        What::Unsubscribed => "its user wants no promotions any more, by SMS neither".to_owned(),
        What::CallFailed => format!("its fallback hook did not take the SMS, the last time: {detail}"),
        What::Amended => format!("its outcome was wrong ({}), and is amended", detail.to_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::show::tests::here;
    use super::*;

    fn shown(message: &str, about: &str) -> String {
        let text = format!(
            r#"{{"message":{{"agentId":"welcome-bot","messageId":"otp-7731","phone":"+12223334444","useCase":"otp",
            "region":"us","messageTrafficType":"AUTHENTICATION","sendTime":"2026-11-22T11:55:00Z",
            "registeredAt":"2026-11-22T11:55:00.040Z","deadline":"2026-11-22T12:05:00Z",{message}}},
            "policy":"ttl 10m, lead 30s","configHash":"3f2a91bc04de","policySince":"2026-11-22T11:00:00Z",
            "releaseTime":"2026-11-22T12:04:30Z",{about}}}"#
        );
        let view = serde_json::from_str(&text).unwrap();
        let screen = anstream::adapter::strip_str(&screen(&view, &here())).to_string();
        assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
        // Where the lines end is not what these tests are about.
        screen.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn holds(screen: &str, parts: &[&str]) {
        for part in parts {
            assert!(screen.contains(part), "{part:?} is missing:\n{screen}");
        }
    }

    const PENDING: &str =
        r#""state":"PENDING","attempts":0,"trail":[{"at":"2026-11-22T11:55:00.040Z","what":"REGISTERED"}]"#;

    #[test]
    fn a_pending_message_names_its_rule_its_configuration_and_what_holds_it_back() {
        let screen = shown(PENDING, r#""ownDeadline":false,"spread":"0s","resting":"FORBIDDEN","resumesIn":"12s""#);
        holds(
            &screen,
            &[
                "welcome-bot otp-7731 is pending.",
                "says \"ttl 10m, lead 30s\", and it was sent at 20:55:00.000.",
                "leaves 30s earlier (lead), at 21:04:30.000 (in 5 min), unless DELIVERED comes first.",
                "in force since 20:00:00.000 (60 min ago), with configuration 3f2a91bc04de.",
                "No DELETE leaves for welcome-bot in region us, for 12 s yet: 403",
                "registered by its agent, 40 ms after the send",
                "(ahead) its deadline",
            ],
        );
    }

    #[test]
    fn what_is_held_names_its_hold_and_the_way_out() {
        let held = format!(
            r#"{PENDING},"hold":{{"id":"77","tag":"spring","holdTime":"2026-11-22T11:00:00Z","reason":"ask marketing"}}"#
        );
        let screen = shown(&held, r#""ownDeadline":false,"spread":"0s""#);
        holds(&screen, &["by hold 77 (tag spring): ask marketing.", "before `revokectl release 77`."]);
    }

    #[test]
    fn a_deadline_of_its_own_says_who_gave_it_and_is_not_spread() {
        let screen = shown(PENDING, r#""ownDeadline":true,"spread":"7200s""#);
        holds(&screen, &["It is its own: its agent gave it when it registered it.", "does not count for it"]);
        assert!(!screen.contains("spread"), "{screen}");
        let moved = PENDING.replace(
            "\"REGISTERED\"}",
            r#""REGISTERED"},{"at":"2026-11-22T11:56:00Z","what":"RESCHEDULED","detail":"2026-11-22T12:05:00Z"}"#,
        );
        let screen = shown(&moved, r#""ownDeadline":true,"spread":"0s""#);
        holds(&screen, &["when it rescheduled it at 20:56:00.000", "moved its deadline to 21:05:00.000"]);
    }

    #[test]
    fn a_kept_rule_is_not_put_down_to_the_configuration_that_left_it_alone() {
        let screen = shown(PENDING, r#""ownDeadline":false,"spread":"0s","pinned":true"#);
        holds(&screen, &["It keeps the rule that it was registered under", "applies to new messages only"]);
        assert!(!screen.contains("This policy is in force"), "{screen}");
    }

    #[test]
    fn what_is_over_is_told_to_its_end() {
        let settled = r#""state":"SETTLED","outcome":"REVOKED","settleTime":"2026-11-22T11:59:59Z","attempts":1,
            "lateness":"0.012s","grant":{"grantId":"g","state":"OFFERED","acked":false,"validUntil":"2026-11-23T12:00:00Z"},
            "trail":[{"at":"2026-11-22T11:55:00.040Z","what":"REGISTERED"},
            {"at":"2026-11-22T11:59:49Z","what":"ANSWERED","detail":"200 after 78 ms"}]"#;
        let screen = shown(settled, r#""ownDeadline":false,"spread":"0s""#);
        holds(
            &screen,
            &[
                "is settled: revoked.",
                "One DELETE was sent, 12 ms late.",
                "It was taken back before it reached the handset. The SMS: granted, not acknowledged",
                "DELETE answered: 200 after 78 ms",
                "20:59:59.000 settled: revoked",
            ],
        );
    }

    #[test]
    fn a_doubt_is_told_with_its_end() {
        let settling = r#""state":"SETTLING","belief":"UNKNOWN","settleTime":"2026-11-22T12:00:08Z","attempts":2"#;
        let screen = shown(settling, r#""ownDeadline":false,"spread":"0s""#);
        holds(&screen, &["2 DELETEs were sent.", "revoked or delivered, nobody can say. A DELIVERED may still"]);
    }
}
