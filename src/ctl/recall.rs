//! `revokectl recall` and `recalls`: a whole campaign is taken back, and watched while it is.

use std::io::IsTerminal;
use std::time::Duration;

use comfy_table::Cell;

use super::args::RecallArgs;
use super::client::{Client, Method};
use super::exit::Failure;
use super::holds::{about, order};
use super::messages;
use super::output::Output;
use super::show::{self, Column, Here};
use crate::intake::recalls::{RecallState, RecallView, RecallsView, SurveyView};
use crate::intake::wire::ListView;
use crate::model::Outcome;

/// Between looks at how far it is, and between attempts to find a daemon that restarts.
const AGAIN: Duration = Duration::from_millis(500);
/// Columns of the bar.
const BAR: u64 = 30;

pub(super) async fn recall(client: &Client, out: &mut Output, args: RecallArgs) -> Result<(), Failure> {
    let RecallArgs { id, received, of, reason, dry_run } = args;
    let id = match id {
        Some(id) if received => return list_received(client, out, id).await,
        Some(id) => id.to_string(),
        None => {
            let mut url = Client::url(&["recalls"]);
            if dry_run {
                url.query_pairs_mut().append_pair("dryRun", "true");
                let view: SurveyView = client.call_at_length(Method::POST, url, order(of, reason)).await?;
                return out.value(&view, survey);
            }
            let view: RecallView = client.call(Method::POST, url, Some(order(of, reason))).await?;
            view.id
        }
    };
    let view = watch(client, &id).await?;
    out.value(&view, ending)
}

/// Looks on until it has ended. It goes on without us: whoever has enough may leave.
async fn watch(client: &Client, id: &str) -> Result<RecallView, Failure> {
    let shown = std::io::stderr().is_terminal();
    let mut met = false;
    loop {
        match client.call::<RecallView>(Method::GET, Client::url(&["recalls", id]), None).await {
            Ok(view) => {
                if shown {
                    anstream::eprint!("\r\x1b[K{}", progress(&view));
                } else if !met && view.state != RecallState::Done {
                    anstream::eprintln!("recall {id} is under way; `revokectl recall {id}` goes on watching");
                }
                met = true;
                if view.state == RecallState::Done {
                    if shown {
                        anstream::eprintln!();
                    }
                    return Ok(view);
                }
            }
            // A daemon that was there and restarts goes on with it.
            Err(Failure::Unavailable(_)) if met => {}
            Err(Failure::Refused(error)) if met && error.code == 503 => {}
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// One line: `recall 77 [██████····] 1,204 of 2,000, finding more`.
fn progress(view: &RecallView) -> String {
    let through: u64 = view.since.values().sum();
    let all = through + view.open;
    let full = (through * BAR).checked_div(all).unwrap_or(0);
    let bar: String = (0..BAR).map(|column| if column < full { '█' } else { '·' }).collect();
    let (through, all) = (show::count(through), show::count(all));
    let finding = if view.state == RecallState::Finding { ", finding more" } else { "" };
    format!("recall {} [{bar}] {through} of {all}{finding}", view.id)
}

fn survey(view: &SurveyView, here: &Here) -> String {
    let delivered = view.before.get(&Outcome::Delivered).copied().unwrap_or(0);
    let words = format!(
        "A recall of {} would revoke {} messages, which takes about {} at the present pace. Of those retained {} were \
         delivered already. Nothing was changed.",
        about(&view.of),
        show::count(view.open),
        show::span(view.takes),
        show::count(delivered)
    );
    here.wrap(&words, 0)
}

fn ending(view: &RecallView, here: &Here) -> String {
    let mut table = here.table([Column::word("OUTCOME"), Column::number("BEFORE"), Column::number("SINCE")]);
    let count = |counts: &std::collections::BTreeMap<Outcome, u64>, outcome| counts.get(&outcome).copied().unwrap_or(0);
    let mut unsure = 0;
    for outcome in Outcome::ALL {
        let (before, since) = (count(&view.before, outcome), count(&view.since, outcome));
        if before + since > 0 {
            table.add_row([
                Cell::new(show::word(&outcome)).fg(show::color(outcome)),
                Cell::new(show::count(before)),
                Cell::new(show::count(since)),
            ]);
        }
        unsure += if outcome == Outcome::Revoked { 0 } else { before + since };
    }
    let began = here.both(view.begin_time);
    let words = format!("Recall {} of {}, begun {began}, is through.", view.id, about(&view.of));
    let last = format!("{} were not surely taken back: `revokectl recall {} --received`", show::count(unsure), view.id);
    format!("{}\n\n{}\n\n{}", here.wrap(&words, 0), show::text(&table), here.wrap(&last, 0))
}

async fn list_received(client: &Client, out: &mut Output, id: u64) -> Result<(), Failure> {
    let id = id.to_string();
    messages::print_pages(out, Some(u64::MAX), |size, token| {
        let mut url = Client::url(&["recalls", &id, "received"]);
        let token = token.map(|token| ("pageToken", token));
        url.query_pairs_mut().append_pair("pageSize", &size.to_string()).extend_pairs(token);
        async move { client.call::<ListView>(Method::GET, url, None).await }
    })
    .await
}

pub(super) async fn list(client: &Client, out: &mut Output) -> Result<(), Failure> {
    let view: RecallsView = client.call(Method::GET, Client::url(&["recalls"]), None).await?;
    out.value(&view, |view, here| match view.recalls.as_slice() {
        [] => "No recall is under way, and none ended lately.".to_owned(),
        recalls => table(recalls, here),
    })
}

fn table(recalls: &[RecallView], here: &Here) -> String {
    let mut table = here.table([
        Column::word("RECALL"),
        Column::text("OF"),
        Column::word("BEGUN"),
        Column::word("STATE"),
        Column::number("OPEN"),
        Column::number("REVOKED"),
    ]);
    for recall in recalls {
        table.add_row([
            Cell::new(&recall.id),
            Cell::new(about(&recall.of)),
            Cell::new(here.relative(recall.begin_time)),
            Cell::new(show::word(&recall.state)),
            Cell::new(show::count(recall.open)),
            Cell::new(show::count(recall.since.get(&Outcome::Revoked).copied().unwrap_or(0))),
        ]);
    }
    show::text(&table)
}

#[cfg(test)]
mod tests {
    use super::super::show::tests::here;
    use super::*;

    fn view(rest: &str) -> RecallView {
        let text = format!(r#"{{"id":"1200077","tag":"spring","beginTime":"2026-11-22T11:00:00Z",{rest}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn progress_is_one_line_and_the_ending_tells_who_may_have_it() {
        let under_way = view(r#""state":"FINDING","open":500,"before":{"DELIVERED":7},"since":{"REVOKED":1500}"#);
        let line = progress(&under_way);
        assert!(line.ends_with("1,500 of 2,000, finding more") && line.chars().count() <= 80, "{line}");
        assert_eq!(line.matches('█').count(), 22);
        let done = view(
            r#""state":"DONE","endTime":"2026-11-22T11:50:00Z","open":0,"before":{"DELIVERED":1700},
            "since":{"REVOKED":2000,"UNKNOWN":3}"#,
        );
        let screen = anstream::adapter::strip_str(&ending(&done, &here())).to_string();
        for part in ["is through", "delivered   1,700      0", "1,703 were not surely taken back"] {
            assert!(screen.contains(part), "{part} is missing:\n{screen}");
        }
        let screen = screen + "\n" + &anstream::adapter::strip_str(&table(&[under_way, done], &here())).to_string();
        assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
    }
}
