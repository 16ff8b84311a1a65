//! `revokectl hold`, `release` and `holds`: deadlines that pass without a DELETE.

use comfy_table::Cell;
use serde_json::json;

use super::args::{HoldArgs, ReleaseArgs, SelectorArgs};
use super::client::{Client, Method};
use super::exit::Failure;
use super::output::Output;
use super::show::{self, Column, Here};
use crate::intake::holds::{HoldView, HoldsView, OrderView, SelectorView};

/// What the daemon is told to act on.
pub(super) fn order(of: SelectorArgs, reason: Option<String>) -> Vec<u8> {
    let order = OrderView {
        use_case: of.use_case.map(|name| name.as_str().into()),
        agent_id: of.agent.map(|agent| agent.as_str().into()),
        tag: of.tag.map(Into::into),
        reason: reason.map(Into::into),
    };
    json!(order).to_string().into_bytes()
}

pub(super) async fn hold(client: &Client, out: &mut Output, args: HoldArgs) -> Result<(), Failure> {
    let body = order(args.of, args.reason);
    let view: HoldView = client.call(Method::POST, Client::url(&["holds"]), Some(body)).await?;
    out.value(&view, |view, here| {
        let words = format!(
            "Hold {}: nothing of {} is revoked until `revokectl release {}`, also what is registered from now on.",
            view.id,
            about(&view.of),
            view.id
        );
        here.wrap(&words, 0)
    })
}

pub(super) async fn release(client: &Client, out: &mut Output, args: ReleaseArgs) -> Result<(), Failure> {
    let (url, body) = match args.id {
        Some(id) => (Client::url(&["holds", &format!("{id}:release")]), None),
        None => (Client::url(&["holds:release"]), Some(order(args.of, None))),
    };
    let view: HoldView = client.call(Method::POST, url, body).await?;
    out.value(&view, |view, here| {
        let waiting = show::count(view.waiting.unwrap_or(0));
        let words = format!(
            "Hold {} ({}) is released: it kept back {waiting} messages. What is overdue of them leaves now, within the pace.",
            view.id,
            about(&view.of)
        );
        here.wrap(&words, 0)
    })
}

pub(super) async fn list(client: &Client, out: &mut Output) -> Result<(), Failure> {
    let view: HoldsView = client.call(Method::GET, Client::url(&["holds"]), None).await?;
    out.value(&view, |view, here| match view.holds.as_slice() {
        [] => "Nothing is held.".to_owned(),
        holds => table(holds, here),
    })
}

/// `use case otp, tag spring`
pub(super) fn about(of: &SelectorView) -> String {
    let parts = [
        of.use_case.as_ref().map(|name| format!("use case {name}")),
        of.agent_id.as_ref().map(|agent| format!("agent {agent}")),
        of.tag.as_ref().map(|tag| format!("tag {}", show::plain(tag))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

pub(super) fn table(holds: &[HoldView], here: &Here) -> String {
    let mut table = here.table([
        Column::word("HOLD"),
        Column::text("OF"),
        Column::word("SINCE"),
        Column::number("WAITING"),
        Column::text("REASON"),
    ]);
    for hold in holds {
        table.add_row([
            Cell::new(&hold.id),
            Cell::new(about(&hold.of)),
            Cell::new(here.relative(hold.hold_time)),
            Cell::new(show::count(hold.waiting.unwrap_or(0))),
            Cell::new(hold.reason.as_deref().map(show::plain).unwrap_or_default()),
        ]);
    }
    show::text(&table)
}

#[cfg(test)]
mod tests {
    use super::super::show::tests::here;
    use super::*;

    #[test]
    fn a_table_says_what_is_held_since_when_and_why_and_fits() {
        let view: HoldsView = serde_json::from_str(
            r#"{"holds":[{"id":"1200007","useCase":"year_end_sale","agentId":"welcome-bot","tag":"spring","waiting":1204000,
            "holdTime":"2026-11-22T11:00:00Z","reason":"the offer was prolonged, ask marketing"}]}"#,
        )
        .unwrap();
        let screen = anstream::adapter::strip_str(&table(&view.holds, &here())).to_string();
        for part in ["1200007", "year_end_sale", "60 min ago", "1,204,000"] {
            assert!(screen.contains(part), "{part} is missing:\n{screen}");
        }
        assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
    }
}
