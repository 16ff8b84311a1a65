//! Commands about messages: register one, get, list, withdraw, revoke, reschedule.

use comfy_table::Cell;
use serde_json::json;

use super::args::{ListArgs, MessageRef, OneMessage, RescheduleArgs};
use super::client::{Client, Method, Url};
use super::exit::Failure;
use super::holds::about;
use super::output::Output;
use super::show::{self, Column, Here};
use crate::engine::StateKind;
use crate::intake::wire::{GrantView, ListView, MessageView, RegisterRequest};
use crate::model::GrantState;
use crate::model::time::wire_duration;

/// Rows of a table if nobody says otherwise.
const TABLE_ROWS: u64 = 100;
/// Messages asked for at once.
const PAGE_SIZE: u64 = 1000;

pub(super) async fn register(client: &Client, out: &mut Output, one: OneMessage) -> Result<(), Failure> {
    // What clap requires is there; a field that were not would be named by the daemon.
    let request = RegisterRequest {
        agent_id: one.agent.map(|agent| agent.to_string()).unwrap_or_default(),
        phone: one.phone.unwrap_or_default(),
        message_id: one.message.map(|message| message.to_string()).unwrap_or_default(),
        use_case: one.use_case.unwrap_or_default(),
        send_time: one.send_time.map(|at| at.to_string()),
        expire_time: one.expire_time.map(|at| at.to_string()),
        ttl: one.ttl.map(wire_duration::show),
        region: one.region,
        tags: one.tags,
        fallback: one.fallback,
        time_zone: one.time_zone,
        on_conflict: one.on_conflict.unwrap_or_default(),
    };
    let body = json!(request).to_string().into_bytes();
    let view: MessageView = client.call(Method::POST, Client::url(&["messages"]), Some(body)).await?;
    out.value(&view, sentence)
}

pub(super) async fn get(client: &Client, out: &mut Output, of: &MessageRef) -> Result<(), Failure> {
    let url = Client::message_url(&of.agent, &of.message, None);
    let view: MessageView = client.call(Method::GET, url, None).await?;
    out.value(&view, everything)
}

/// Withdraws or revokes.
pub(super) async fn act(client: &Client, out: &mut Output, of: &MessageRef, verb: &str) -> Result<(), Failure> {
    let url = Client::message_url(&of.agent, &of.message, Some(verb));
    let view: MessageView = client.call(Method::POST, url, None).await?;
    out.value(&view, sentence)
}

pub(super) async fn reschedule(client: &Client, out: &mut Output, args: &RescheduleArgs) -> Result<(), Failure> {
    // clap sees to it that exactly one is given.
    let now = out.here().now;
    let deadline = args.to.at.or(args.to.within.map(|span| now.plus(span))).unwrap_or(now);
    let body = json!({ "expireTime": deadline }).to_string().into_bytes();
    let url = Client::message_url(&args.of.agent, &args.of.message, None);
    let view: MessageView = client.call(Method::PATCH, url, Some(body)).await?;
    out.value(&view, sentence)
}

/// Turns the pages. Lines of JSON leave page by page; a table is printed when its last row is known.
pub(super) async fn list(client: &Client, out: &mut Output, args: ListArgs) -> Result<(), Failure> {
    let mut left = args.limit.unwrap_or(if out.is_json() { u64::MAX } else { TABLE_ROWS });
    let mut rows = Vec::new();
    let mut token: Option<String> = None;
    let more = loop {
        let url = list_url(&args, left.min(PAGE_SIZE), token.as_deref());
        let page: ListView = client.call(Method::GET, url, None).await?;
        left = left.saturating_sub(page.messages.len() as u64);
        if out.is_json() {
            for message in &page.messages {
                out.json(message)?;
            }
        } else {
            rows.extend(page.messages);
        }
        token = page.next_page_token;
        if token.is_none() || left == 0 {
            break token.is_some();
        }
    };
    if out.is_json() {
        return Ok(());
    }
    let here = out.here();
    out.line(&table(&rows, &here))?;
    // A next page may turn out to be empty, so this promises nothing.
    if more {
        out.line(&format!("\nThe first {}; there may be more: --limit", show::count(rows.len() as u64)))
    } else {
        Ok(())
    }
}

fn list_url(args: &ListArgs, size: u64, token: Option<&str>) -> Url {
    let mut url = Client::url(&["messages"]);
    let state = args.state.map(|state| show::word(&state));
    let filters = [
        ("state", state.as_deref()),
        ("useCase", args.use_case.as_ref().map(|name| name.as_str())),
        ("agentId", args.agent.as_ref().map(|agent| agent.as_str())),
        ("tag", args.tag.as_deref()),
        ("pageToken", token),
    ];
    let given = filters.into_iter().filter_map(|(name, value)| Some((name, value?)));
    url.query_pairs_mut().append_pair("pageSize", &size.to_string()).extend_pairs(given);
    url
}

/// Where a message is in its life, in as few words as it takes.
fn state(view: &MessageView) -> String {
    match (view.outcome, view.belief) {
        (Some(outcome), _) => show::word(&outcome),
        (None, Some(belief)) => format!("settling: {}", show::word(&belief)),
        (None, None) => show::word(&view.state),
    }
}

/// What a command left a message in.
fn sentence(view: &MessageView, here: &Here) -> String {
    let MessageView { agent_id, message_id, .. } = view;
    let state = state(view);
    let what = match view.state {
        StateKind::Pending if view.hold.is_some() => {
            format!("pending, due at {}, but held", here.both(view.deadline))
        }
        StateKind::Pending => format!("pending, to be revoked at {}", here.both(view.deadline)),
        StateKind::Revoking => "being revoked".to_owned(),
        StateKind::Settling => match view.settle_time {
            Some(until) => format!("{state}, final {}", here.relative(until)),
            None => state,
        },
        StateKind::Settled => match view.grant.as_ref().map(|grant| grant.state) {
            Some(GrantState::Offered) => format!("settled: {state}, the SMS is granted"),
            Some(GrantState::Held) => format!("settled: {state}, the SMS is held back"),
            Some(GrantState::Withdrawn) => format!("settled: {state}, no SMS"),
            Some(GrantState::Void) => format!("settled: {state}, too late for an SMS"),
            None => format!("settled: {state}"),
        },
    };
    format!("{agent_id} {message_id}: {what}")
}

fn table(rows: &[MessageView], here: &Here) -> String {
    if rows.is_empty() {
        return "No message matches.".to_owned();
    }
    let mut table = here.table([
        Column::id("AGENT"),
        Column::id("MESSAGE"),
        Column::word("PHONE"),
        Column::id("USE CASE"),
        Column::word("STATE"),
        Column::word("DEADLINE"),
    ]);
    for row in rows {
        // What it settles as is told by `get`; here the width is needed for what tells messages apart.
        let state = match (row.outcome, row.state) {
            (Some(outcome), _) => Cell::new(show::word(&outcome)).fg(show::color(outcome)),
            (None, _) if row.hold.is_some() => Cell::new("held"),
            (None, state) => Cell::new(show::word(&state)),
        };
        table.add_row([
            show::id(&row.agent_id),
            show::id(&row.message_id),
            Cell::new(show::masked(&row.phone)),
            show::id(&row.use_case),
            state,
            Cell::new(here.relative(row.deadline)),
        ]);
    }
    show::text(&table)
}

/// Everything about a message.
fn everything(view: &MessageView, here: &Here) -> String {
    let mut facts = here.table([Column::word(""), Column::text("")]);
    let mut fact = |name: &str, value: String| {
        facts.add_row([format!("  {name}"), value]);
    };
    fact("state", state(view));
    fact("deadline", here.both(view.deadline));
    fact("sent", here.both(view.send_time));
    fact("registered", here.both(view.registered_at));
    if let Some(at) = view.settle_time {
        fact(if view.outcome.is_some() { "settled" } else { "settles" }, here.both(at));
    }
    fact("phone", view.phone.clone());
    fact("use case", format!("{}, {}, region {}", view.use_case, show::word(&view.message_traffic_type), view.region));
    if let Some(hold) = &view.hold {
        fact("held", format!("since {} by hold {} ({})", here.both(hold.hold_time), hold.id, about(&hold.of)));
    }
    if !view.tags.is_empty() {
        fact("tags", show::plain(&view.tags.join(", ")));
    }
    fact(
        "attempts",
        match view.lateness {
            Some(lateness) => format!("{}, the first {}", view.attempts, show::late(lateness)),
            None => view.attempts.to_string(),
        },
    );
    if let Some(grant) = &view.grant {
        fact("SMS", grant_line(grant, here));
        fact("  grant", grant.grant_id.clone());
        if let Some(fallback) = &grant.fallback {
            fact("  fallback", show::plain(fallback.get()));
        }
    }
    let mut trail = here.table([Column::word("  TRAIL"), Column::word(""), Column::text("")]);
    for note in &view.trail {
        let detail = note.detail.as_deref().map(show::plain).unwrap_or_default();
        trail.add_row([format!("  {}", here.exact(note.at)), show::word(&note.what), detail]);
    }
    // The message itself stands where a heading would.
    format!("{} {}\n{}\n\n{}", view.agent_id, view.message_id, show::rows(&facts), show::text(&trail))
}

pub(super) fn grant_line(grant: &GrantView, here: &Here) -> String {
    let acked = if grant.acked { "acknowledged" } else { "not acknowledged" };
    let useful = if grant.valid_until > here.now { "of use until" } else { "of use only until" };
    match grant.state {
        GrantState::Offered => format!("granted, {acked}, {useful} {}", here.both(grant.valid_until)),
        GrantState::Held => {
            format!("held: nobody can tell whether it arrived; {useful} {}", here.both(grant.valid_until))
        }
        GrantState::Withdrawn => "withdrawn: delivered after all, or decided against".to_owned(),
        GrantState::Void => "none: it would have come too late to be of use".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::show::tests::here;
    use super::*;

    fn message(extra: &str) -> MessageView {
        let text = format!(
            r#"{{"agentId":"welcome-bot","messageId":"0190a5c2-7b3e-7e61-8a01-5f2b9c3d4e5f","phone":"+12223334444",
            "useCase":"otp","region":"us","messageTrafficType":"AUTHENTICATION","sendTime":"2026-11-22T11:50:00Z",
            "registeredAt":"2026-11-22T11:50:00.040Z","deadline":"2026-11-22T12:00:00Z",{extra}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn settled() -> MessageView {
        message(
            r#""state":"SETTLED","outcome":"REVOKED","settleTime":"2026-11-22T11:59:50Z","attempts":1,"lateness":"0.012s",
            "tags":["spring","a\u001b[2J"],
            "grant":{"grantId":"g-1","state":"OFFERED","acked":false,"validUntil":"2026-11-23T12:00:00Z",
            "fallback":{"text":"Your code is 1234"}},
            "trail":[{"at":"2026-11-22T11:50:00.040Z","what":"REGISTERED"},
            {"at":"2026-11-22T12:00:00.090Z","what":"ANSWERED","detail":"200 after 78 ms"}]"#,
        )
    }

    #[test]
    fn a_sentence_says_where_a_message_is() {
        let pending = message(r#""state":"PENDING","attempts":0"#);
        let told = sentence(&pending, &here());
        assert!(told.ends_with("pending, to be revoked at 2026-11-22T21:00:00.000+09:00 (0 ms ago)"), "{told}");
        assert!(sentence(&settled(), &here()).ends_with("settled: revoked, the SMS is granted"));
        let settling = message(
            r#""state":"SETTLING","belief":"PROBABLY_DELIVERED","settleTime":"2026-11-22T12:00:08Z","attempts":1"#,
        );
        assert!(sentence(&settling, &here()).ends_with("settling: probably delivered, final in 8.0 s"));
    }

    #[test]
    fn everything_about_a_message_is_told_and_fits() {
        let screen = everything(&settled(), &here());
        for part in
            ["+12223334444", "the first 12 ms late", "200 after 78 ms", r#"{"text":"Your code is 1234"}"#, "g-1"]
        {
            assert!(screen.contains(part), "{part} is missing:\n{screen}");
        }
        let bare = anstream::adapter::strip_str(&screen).to_string();
        assert!(bare.lines().all(|line| line.chars().count() <= 80), "{bare}");
        assert!(!bare.contains('\u{1b}'));
    }

    #[test]
    fn a_table_masks_phones_and_breaks_ids_at_their_dashes() {
        let rows = [settled(), message(r#""state":"PENDING","attempts":0"#)];
        let screen = anstream::adapter::strip_str(&table(&rows, &here())).to_string();
        assert!(screen.contains("+1•••••4444") && !screen.contains("2223334444"), "{screen}");
        assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
        assert!(screen.lines().any(|line| line.contains("5f2b9c3d4e5f")), "{screen}");
        let wide = Here { width: None, ..here() };
        assert!(table(&rows, &wide).contains("0190a5c2-7b3e-7e61-8a01-5f2b9c3d4e5f"));
    }
}
