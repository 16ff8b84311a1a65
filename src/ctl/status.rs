//! `revokectl status`: one screen on how the daemon is doing.

use std::fmt::Write;

use comfy_table::{Attribute, Cell, Color};

use super::client::{Client, Method};
use super::exit::Failure;
use super::holds::about;
use super::output::Output;
use super::show::{self, Column, Here};
use crate::config::Mode;
use crate::engine::StateKind;
use crate::intake::wire::{ClockView, RouteView, StatusView, StoreView, WebhookView};
use crate::model::UseCase;

/// As much of a failure as fits a line.
const CHARS_MAX: usize = 76;

const STATES: [StateKind; 4] = [StateKind::Pending, StateKind::Revoking, StateKind::Settling, StateKind::Settled];

pub(super) async fn print(client: &Client, out: &mut Output) -> Result<(), Failure> {
    let view: StatusView = client.call(Method::GET, Client::url(&["status"]), None).await?;
    out.value(&view, screen)
}

pub(super) async fn accept_clock(client: &Client, out: &mut Output) -> Result<(), Failure> {
    let view: ClockView = client.call(Method::POST, Client::url(&["clock:accept"]), None).await?;
    out.value(&view, |view, here| {
        let ahead = show::span(view.ahead);
        let words = format!("The clock is believed, {ahead} ahead. What is overdue by it leaves now, within the pace.");
        here.wrap(&words, 0)
    })
}

fn screen(view: &StatusView, here: &Here) -> String {
    let mut screen = format!(
        "revoked {}, started {}, configuration {}\n",
        view.version,
        here.relative(view.started_at),
        view.config_hash
    );
    for part in
        [facts(view, here), use_cases(view, here, None), fallback(view, here), routes(view, here)].into_iter().flatten()
    {
        // Writing to a string does not fail.
        let _ = write!(screen, "\n{part}\n");
    }
    screen.truncate(screen.trim_end().len());
    screen
}

fn facts(view: &StatusView, here: &Here) -> Option<String> {
    let mut facts = here.table([Column::word(""), Column::text("")]);
    if view.mode == Mode::Shadow {
        let words = "shadow: nothing is revoked, what would have been is recorded";
        facts.add_row([Cell::new("mode").fg(Color::Yellow), Cell::new(words).fg(Color::Yellow)]);
    }
    let mut fact = |name: &str, value: String| {
        facts.add_row([Cell::new(name), Cell::new(value)]);
    };
    fact("next due", view.next_due.map_or_else(|| "nothing".to_owned(), |at| here.both(at)));
    if !view.backlog_age.is_zero() {
        fact("overdue", format!("the longest for {}", show::span(view.backlog_age)));
    }
    fact("in flight", format!("{} DELETEs", view.in_flight));
    if let Some(late) = &view.lateness {
        let [p50, p99, max] = [late.p50, late.p99, late.max].map(show::span);
        fact("lateness", format!("p50 {p50}, p99 {p99}, max {max} (of {})", show::count(late.count)));
    }
    if let Some(settled) = &view.settled {
        let counts: Vec<String> =
            settled.iter().map(|(outcome, n)| format!("{} {}", show::count(*n), show::word(outcome))).collect();
        fact("settled", if counts.is_empty() { "nothing since the start".to_owned() } else { counts.join(", ") });
    }
    fact("last outcome", format!("cursor {}", view.last_cursor));
    if view.early_events > 0 {
        fact(
            "early events",
            format!("{}, kept until their message is registered", show::count(view.early_events as u64)),
        );
    }
    if view.unsubscribed > 0 {
        let phones = show::count(view.unsubscribed as u64);
        fact("unsubscribed", format!("{phones} phones, which get no SMS in place of promotions"));
    }
    if view.lost_outcomes > 0 {
        fact("lost", format!("{} outcomes removed that nobody acknowledged", show::count(view.lost_outcomes)));
    }
    if let Some(webhook) = &view.webhook {
        fact("webhook", self::webhook(webhook));
    }
    if !view.holds.is_empty() {
        let held: Vec<_> = view.holds.iter().map(|hold| format!("{} ({})", hold.id, about(&hold.of))).collect();
        facts.add_row([Cell::new("held").fg(Color::Yellow), Cell::new(held.join("; ")).fg(Color::Yellow)]);
    }
    if let Some(store) = &view.store {
        facts.add_row([Cell::new("store"), Cell::new(self::store(store))]);
    }
    if let Some(clock) = &view.clock {
        let words = format!("stepped ahead by {}: deadlines go by the time before", show::span(clock.ahead));
        facts.add_row([Cell::new("clock").fg(Color::Red), Cell::new(words).fg(Color::Red)]);
        facts.add_row([Cell::new(""), Cell::new("if it is right: revokectl clock accept").fg(Color::Red)]);
    }
    if let Some(error) = &view.store_error {
        let alarm = |text: String| Cell::new(text).fg(Color::Red).add_attribute(Attribute::Bold);
        facts.add_row([alarm("store".to_owned()), alarm(format!("registrations are refused: {}", show::plain(error)))]);
    }
    Some(show::rows(&facts))
}

/// How much there is, and how long it takes to add to it.
pub(super) fn store(view: &StoreView) -> String {
    let StoreView { disk_bytes, young_bytes, frozen_bytes, backlog, flushes } = view;
    let mut words =
        format!("{} on disk, {} in memory", show::bytes(*disk_bytes), show::bytes(young_bytes + frozen_bytes));
    if let Some(times) = flushes {
        let [p50, p99] = [times.p50, times.p99].map(show::moment);
        let _ = write!(words, "; flushes p50 {p50}, p99 {p99}");
    }
    if *backlog > 0 {
        let _ = write!(words, "; {} waiting for it", show::count(*backlog));
    }
    words
}

/// What came in, and what became of it where it is passed on.
fn webhook(view: &WebhookView) -> String {
    let WebhookView { accepted, refused, forwarded, forward_failures, forward_dropped, .. } = view;
    let counted = [
        ("pushes taken", accepted),
        ("refused", refused),
        ("passed on", forwarded),
        ("not taken there", forward_failures),
        ("dropped", forward_dropped),
    ];
    let counts = counted.into_iter().filter(|(_, n)| **n > 0).map(|(what, n)| format!("{} {what}", show::count(*n)));
    let said = counts.collect::<Vec<_>>().join(", ");
    format!("{}: {}", view.address, if said.is_empty() { "nothing came yet" } else { &said })
}

/// What stands beside the counts of each use case: a heading, and what is below it.
pub(super) type Beside<'a> = (&'static str, &'a dyn Fn(&UseCase) -> Cell);

pub(super) fn use_cases(view: &StatusView, here: &Here, beside: Option<Beside<'_>>) -> Option<String> {
    if view.use_cases.is_empty() {
        return None;
    }
    let mut table = here.table([
        Column::id("USE CASE"),
        Column::number("PENDING"),
        Column::number("REVOKING"),
        Column::number("SETTLING"),
        Column::number("SETTLED"),
        Column::word(beside.map_or("", |(heading, _)| heading)),
    ]);
    for (name, states) in &view.use_cases {
        let count = |state| Cell::new(show::count(states.get(&state).copied().unwrap_or(0)));
        let last = beside.map_or_else(|| Cell::new(""), |(_, of)| of(name));
        table.add_row(std::iter::once(show::id(name)).chain(STATES.map(count)).chain([last]));
    }
    Some(show::text(&table))
}

/// The hooks that SMS go out through, with what is wrong with one below its row.
fn fallback(view: &StatusView, here: &Here) -> Option<String> {
    if view.fallback.is_empty() {
        return None;
    }
    let mut table = here.table([
        Column::id("FALLBACK"),
        Column::number("WAITING"),
        Column::number("IN FLIGHT"),
        Column::number("TAKEN"),
        Column::number("FAILED CALLS"),
        Column::number("VOID"),
    ]);
    let mut errors = String::new();
    for (name, hook) in &view.fallback {
        let counts = [hook.waiting, hook.in_flight as u64, hook.taken, hook.failed_calls, hook.voided];
        table.add_row(std::iter::once(show::id(name)).chain(counts.map(|n| Cell::new(show::count(n)))));
        if let (Some(why), Some(at)) = (&hook.last_error, hook.last_error_time) {
            let why = show::plain(why).chars().take(CHARS_MAX).collect::<String>();
            // Writing to a string does not fail.
            let _ = write!(errors, "\n  {name} failed {}:\n    {why}", here.relative(at));
        }
    }
    Some(show::text(&table) + &errors)
}

pub(super) fn routes(view: &StatusView, here: &Here) -> Option<String> {
    if view.routes.is_empty() {
        return None;
    }
    let mut table = here.table([
        Column::id("AGENT"),
        Column::word("REGION"),
        Column::number("IN FLIGHT"),
        Column::number("PER SECOND"),
        Column::text("STATE"),
    ]);
    for route in &view.routes {
        table.add_row([
            show::id(&route.agent_id),
            Cell::new(route.region),
            Cell::new(show::count(route.in_flight as u64)),
            Cell::new(format!("{:.1}", route.per_second)),
            state(route, here),
        ]);
    }
    Some(show::text(&table))
}

fn state(route: &RouteView, here: &Here) -> Cell {
    let mut words = Vec::new();
    if let Some(reason) = route.resting {
        let wait = route.resumes_in.map(|wait| format!(" for {}", show::span(wait))).unwrap_or_default();
        words.push(format!("rests{wait}: {}", show::rest(reason)));
    }
    if let Some(done_by) = route.done_by {
        let late = if route.late { ", late" } else { "" };
        words.push(format!("backlog {}, done {}{late}", show::count(route.backlog), here.relative(done_by)));
    }
    if words.is_empty() {
        return Cell::new("good");
    }
    let cell = Cell::new(words.join("; "));
    if route.resting.is_some() || route.late { cell.fg(Color::Yellow) } else { cell }
}

#[cfg(test)]
mod tests {
    use super::super::show::tests::here;
    use super::*;

    #[test]
    fn a_screen_shows_trouble_and_fits() {
        let view: StatusView = serde_json::from_str(
            r#"{"version":"0.1.0","mode":"SHADOW","startedAt":"2026-11-22T09:00:00Z","configHash":"1a2b3c4d",
            "useCases":{"otp":{"PENDING":1204000,"REVOKING":2},"promotion":{"SETTLED":7}},"inFlight":2,
            "nextDue":"2026-11-22T12:00:03Z","backlogAge":"12s","settled":{"DELIVERED":812,"REVOKED":120},
            "lateness":{"count":1204,"p50":"0.003s","p99":"0.012s","max":"1.4s"},
            "routes":[{"agentId":"welcome-bot","region":"europe","inFlight":2,"perSecond":50.0},
            {"agentId":"promo-bot","region":"us","inFlight":0,"perSecond":1.5,"resting":"FORBIDDEN","resumesIn":"12s"},
            {"agentId":"sale-bot","region":"us","inFlight":64,"perSecond":200.0,"backlog":1000000,
            "doneBy":"2026-11-22T13:23:20Z","late":true}],"lostOutcomes":1024,
            "store":{"diskBytes":1363148800,"youngBytes":41943040,"frozenBytes":0,
            "backlog":3,"flushes":{"count":7,"p50":"0.00018s","p99":"0.0031s","max":"0.5s"}},
            "lastCursor":"1042","earlyEvents":3,"clock":{"holdTime":"2026-11-22T11:00:00Z","ahead":"86400s"},"storeError":"the store can't write: No space left on device",
            "holds":[{"id":"77","useCase":"promotion","holdTime":"2026-11-22T11:00:00Z"}],
            "fallback":{"otp":{"waiting":12,"inFlight":8,"taken":1207,"failedCalls":31,"voided":0,
            "lastError":"it answered 503 Service Unavailable","lastErrorTime":"2026-11-22T11:59:00Z"}},
            "webhook":{"address":"127.0.0.1:8480","accepted":1204,"refused":3,"forwarded":1200,"forwardFailures":4,
            "forwardDropped":0}}"#,
        )
        .unwrap();
        let screen = anstream::adapter::strip_str(&screen(&view, &here())).to_string();
        for part in [
            "started 3 h ago",
            "1,204,000",
            "the longest for 12 s",
            "p99 12 ms",
            "403",
            "No space left",
            "revokectl clock accept",
            "77 (use case promotion)",
            "1,204 pushes taken",
            "1,000,000",
            "1,024 outcomes",
            "nothing is revoked",
            "1,207",
            "1.3 GiB on disk, 40.0 MiB in memory; flushes p50 0.18 ms",
            "3 waiting for it",
            "otp failed 60 s",
        ] {
            assert!(screen.contains(part), "{part} is missing:\n{screen}");
        }
        assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
    }
}
