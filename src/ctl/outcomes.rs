//! Outcomes: what is there, or for as long as somebody watches; and acknowledging them.

use std::time::Duration;

use comfy_table::Cell;
use serde_json::json;

use super::args::OutcomesArgs;
use super::client::{Client, Method, Url};
use super::exit::Failure;
use super::output::Output;
use super::show::{self, Column, Here};
use crate::intake::wire::{AckView, OutcomeView, OutcomesView};
use crate::model::{AgentId, GrantState};
use crate::store::EntryKind;

/// Outcomes asked for at once.
const PAGE_SIZE: &str = "1000";
/// Between attempts to find a daemon that restarts.
const AGAIN: Duration = Duration::from_millis(500);

pub(super) async fn print(client: &Client, out: &mut Output, args: OutcomesArgs) -> Result<(), Failure> {
    let OutcomesArgs { after, follow, agent, ack } = args;
    let mut reader = Reader { client, agent, ack, after: after.to_string(), acked: after.to_string(), headed: false };
    if follow { reader.follow(out).await } else { reader.read(out).await }
}

pub(super) async fn ack(client: &Client, out: &mut Output, cursor: u64, agent: Option<AgentId>) -> Result<(), Failure> {
    let view = acknowledge(client, cursor.to_string(), agent).await?;
    out.value(&view, |view, _| match &view.agent_id {
        Some(agent) => format!("{agent}: acknowledged up to {}", view.cursor),
        None => format!("acknowledged up to {}, for all agents", view.cursor),
    })
}

async fn acknowledge(client: &Client, cursor: String, agent_id: Option<AgentId>) -> Result<AckView, Failure> {
    let body = json!(AckView { cursor, agent_id }).to_string().into_bytes();
    client.call(Method::POST, Client::url(&["outcomes:ack"]), Some(body)).await
}

/// Somebody who reads on from a cursor.
struct Reader<'a> {
    client: &'a Client,
    agent: Option<AgentId>,
    ack: bool,
    /// The last outcome that was printed, or passed over as another agent's.
    after: String,
    /// The last one that was acknowledged.
    acked: String,
    /// The table has its heading.
    headed: bool,
}

impl Reader<'_> {
    /// All there are by now.
    async fn read(&mut self, out: &mut Output) -> Result<(), Failure> {
        let mut total = 0;
        loop {
            let page: OutcomesView = self.client.call(Method::GET, self.url("pageSize", PAGE_SIZE), None).await?;
            total += page.outcomes.len() as u64;
            let end = page.next_cursor == self.after;
            self.hand_out(out, &page.outcomes, page.next_cursor).await?;
            if end {
                break;
            }
        }
        if out.is_json() {
            return Ok(());
        }
        let after = &self.after;
        match total {
            0 => out.line(&format!("No outcomes after {after}.")),
            _ => out.line(&format!("\n{} outcomes; those to come: --after {after}", show::count(total))),
        }
    }

    /// For as long as somebody reads. A daemon that was there and is gone is waited for; what was printed is not printed again.
    async fn follow(&mut self, out: &mut Output) -> Result<(), Failure> {
        let mut met = false;
        let mut told = false;
        loop {
            let why = match self.follow_once(out, &mut met, &mut told).await {
                Ok(()) => "the daemon is stopping".to_owned(),
                Err(Failure::Unavailable(why)) if met => why,
                // What a daemon that is on its way out answers.
                Err(Failure::Refused(error)) if met && error.code == 503 => error.message,
                Err(failure) => return Err(failure),
            };
            if !told {
                anstream::eprintln!("waiting for the daemon after outcome {}: {why}", self.after);
                told = true;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Until the stream ends or breaks.
    async fn follow_once(&mut self, out: &mut Output, met: &mut bool, told: &mut bool) -> Result<(), Failure> {
        // What was printed just before the daemon left still waits for its acknowledgement.
        self.acknowledge().await?;
        let mut stream = self.client.stream(self.url("follow", "true")).await?;
        *met = true;
        if std::mem::take(told) {
            anstream::eprintln!("the daemon is back");
        }
        let mut unread = Vec::new();
        while let Some(chunk) = self.client.next_chunk(&mut stream).await? {
            unread.extend(chunk);
            // What follows the last end of a line is the beginning of one.
            let Some(end) = unread.iter().rposition(|byte| *byte == b'\n') else { continue };
            let rest = unread.split_off(end + 1);
            let outcomes: Result<Vec<OutcomeView>, _> =
                serde_json::Deserializer::from_slice(&unread).into_iter().collect();
            let outcomes = outcomes.map_err(|error| Failure::Protocol(error.to_string()))?;
            unread = rest;
            if let Some(last) = outcomes.last() {
                let next = last.cursor.clone();
                self.hand_out(out, &outcomes, next).await?;
            }
        }
        Ok(())
    }

    /// Prints, sees it leave, and only then goes on and acknowledges: what is lost on the way comes again.
    async fn hand_out(&mut self, out: &mut Output, outcomes: &[OutcomeView], next: String) -> Result<(), Failure> {
        if out.is_json() {
            for outcome in outcomes {
                out.json(outcome)?;
            }
        } else if !outcomes.is_empty() {
            let here = out.here();
            out.line(&table(outcomes, &here, !std::mem::replace(&mut self.headed, true)))?;
        }
        out.flush()?;
        self.after = next;
        self.acknowledge().await
    }

    async fn acknowledge(&mut self) -> Result<(), Failure> {
        if self.ack && self.acked != self.after {
            acknowledge(self.client, self.after.clone(), self.agent.clone()).await?;
            self.acked.clone_from(&self.after);
        }
        Ok(())
    }

    fn url(&self, name: &str, value: &str) -> Url {
        let mut url = Client::url(&["outcomes"]);
        let agent = self.agent.as_ref().map(|agent| ("agentId", agent.as_str()));
        url.query_pairs_mut().append_pair("after", &self.after).append_pair(name, value).extend_pairs(agent);
        url
    }
}

/// Rows of outcomes. All columns but the last have a width of their own, so that what comes later stands below what came before.
fn table(outcomes: &[OutcomeView], here: &Here, headed: bool) -> String {
    let mut table = here.table([
        Column::wide_number("CURSOR", 6),
        Column::wide("TIME", 11),
        Column::wide("OUTCOME", 9),
        Column::wide("SMS", 9),
        Column::wide("LATE", 7),
        Column::id("MESSAGE"),
    ]);
    for outcome in outcomes {
        table.add_row([
            Cell::new(&outcome.cursor),
            Cell::new(here.short(outcome.at)),
            Cell::new(show::word(&outcome.outcome)).fg(show::color(outcome.outcome)),
            Cell::new(sms(outcome)),
            Cell::new(outcome.lateness.map(show::span).unwrap_or_default()),
            show::id(what(outcome)),
        ]);
    }
    if headed { show::text(&table) } else { show::rows(&table) }
}

/// Whether the SMS may go out.
pub(super) fn sms(outcome: &OutcomeView) -> &'static str {
    match outcome.grant.as_ref().map(|grant| grant.state) {
        Some(GrantState::Offered) => "send",
        Some(GrantState::Taken) => "taken",
        Some(GrantState::Held) => "held",
        Some(GrantState::Withdrawn) => "withdrawn",
        Some(GrantState::Void) => "too late",
        None => "",
    }
}

/// Which message, what is special about this entry, and why it failed.
pub(super) fn what(outcome: &OutcomeView) -> String {
    let OutcomeView { agent_id, message_id, use_case, .. } = outcome;
    let kind = match outcome.kind {
        EntryKind::Settled => "",
        EntryKind::Amended => ", amended",
        EntryKind::Granted => ", granted",
        EntryKind::Taken => ", taken by its hook",
        EntryKind::Voided => ", void: no hook took it in time",
    };
    let why = outcome.detail.as_deref().map(|why| format!(": {}", show::plain(why))).unwrap_or_default();
    format!("{agent_id} {message_id} {use_case}{kind}{why}")
}

#[cfg(test)]
mod tests {
    use super::super::show::tests::here;
    use super::*;

    fn outcome(cursor: u64, extra: &str) -> OutcomeView {
        let text = format!(
            r#"{{"cursor":"{cursor}","at":"2026-11-22T11:59:00Z","agentId":"bot","phone":"+12223334444","useCase":"otp",
            "messageId":"0190a5c2-7b3e-7e61-8a01-5f2b9c3d4e5f","sendTime":"2026-11-22T11:50:00Z",
            "deadline":"2026-11-22T11:58:00Z",{extra}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn rows_of_later_tables_stand_below_those_of_the_first() {
        let here = here();
        let bare = |text: String| anstream::adapter::strip_str(&text).to_string();
        let first = bare(table(
            &[outcome(
                1,
                r#""kind":"SETTLED","outcome":"REVOKED","lateness":"0.012s","grant":{"grantId":"g","state":"OFFERED",
                "acked":false,"validUntil":"2026-11-23T12:00:00Z"}"#,
            )],
            &here,
            true,
        ));
        let later = bare(table(
            &[outcome(123_456, r#""kind":"AMENDED","outcome":"DELIVERED","detail":"late proof""#)],
            &here,
            false,
        ));
        let column = |text: &str| text.find("bot 0190").expect(text);
        assert_eq!(column(first.lines().nth(1).unwrap()), column(later.lines().next().unwrap()));
        assert!(first.contains("send") && first.contains("12 ms"), "{first}");
        assert!(later.contains("amended: late proof") && !later.contains("CURSOR"), "{later}");
        assert!(first.lines().chain(later.lines()).all(|line| line.chars().count() <= 80), "{first}\n{later}");
        assert!(!first.contains("3334444"));
    }
}
