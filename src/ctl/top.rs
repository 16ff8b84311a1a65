//! `revokectl top`: how the daemon is doing, live.

use std::fmt::Write as _;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Style};
use comfy_table::{Cell, Color};
use tokio::signal::unix::{SignalKind, signal};

use super::client::{Client, Method};
use super::exit::Failure;
use super::forecast::sketch;
use super::outcomes;
use super::output::Output;
use super::show::{self, Column, Here};
use super::status;
use super::terminal::{self, Terminal};
use crate::clock;
use crate::config::Mode;
use crate::engine::StateKind;
use crate::intake::wire::{ForecastView, OutcomeView, OutcomesView, StatusView, TimesView};
use crate::model::UseCase;
use crate::model::time::wire_duration;

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What is ahead: the next ten minutes, a column for each step.
const STEP: Duration = Duration::from_secs(30);
const STEPS: usize = 20;
/// Terminals that are narrower have no room for that.
const SKETCH_WIDTH_MIN: u16 = 76;
/// Outcomes that are asked for: more than most terminals have room for.
const OUTCOMES: u64 = 40;
/// Lines that are always there for outcomes, however many agents there are.
const OUTCOME_LINES_MIN: usize = 6;
/// Lines without a terminal to fit into.
const LINES: usize = 40;

/// What was seen at once.
struct Look {
    /// On the monotonic clock.
    at: Duration,
    status: StatusView,
    ahead: ForecastView,
    outcomes: OutcomesView,
}

impl Look {
    async fn take(client: &Client) -> Result<Self, Failure> {
        let status: StatusView = client.call(Method::GET, Client::url(&["status"]), None).await?;
        let at = clock::now().mono;
        let mut url = Client::url(&["forecast"]);
        url.query_pairs_mut().append_pair("step", &wire_duration::show(STEP)).append_pair("steps", &STEPS.to_string());
        let ahead = client.call(Method::GET, url, None).await?;
        let last: u64 =
            status.last_cursor.parse().map_err(|error| Failure::Protocol(format!("lastCursor: {error}")))?;
        let mut url = Client::url(&["outcomes"]);
        url.query_pairs_mut()
            .append_pair("after", &last.saturating_sub(OUTCOMES).to_string())
            .append_pair("pageSize", &OUTCOMES.to_string());
        let outcomes = client.call(Method::GET, url, None).await?;
        Ok(Self { at, status, ahead, outcomes })
    }
}

pub(super) async fn print(client: &Client, out: &mut Output, once: bool) -> Result<(), Failure> {
    let first = Look::take(client).await?;
    if once || out.is_json() || !terminal::is_there() {
        tokio::time::sleep(LOOK_EVERY).await;
        let second = Look::take(client).await?;
        return out.value(&second.status, |_, here| screen(&second, Some(&first), None, LINES, here));
    }
    watch(client, out, first).await
}

/// Until somebody has seen enough.
async fn watch(client: &Client, out: &Output, first: Look) -> Result<(), Failure> {
    let mut ends = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
        .into_iter()
        .map(signal)
        .collect::<Result<Vec<_>, _>>()?;
    let mut resized = signal(SignalKind::window_change())?;
    let mut terminal = Terminal::take()?;
    let colours = anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
    let (mut before, mut look, mut trouble) = (None, first, None);
    let next = || async {
        tokio::time::sleep(LOOK_EVERY).await;
        Look::take(client).await
    };
    // Awaited beside the keys: a daemon that hangs does not keep anybody from leaving.
    let mut looking = Box::pin(next());
    loop {
        let (rows, columns) = terminal.size()?;
        let here = Here { width: Some(columns), ..out.here() };
        let screen = screen(&look, before.as_ref(), trouble.as_deref(), rows.saturating_sub(1), &here);
        let screen = format!("{screen}\n{}", here.wrap("q quits", 0));
        if colours {
            terminal.show(&screen)?;
        } else {
            terminal.show(&anstream::adapter::strip_str(&screen).to_string())?;
        }
        let [interrupted, terminated, hung_up] = &mut ends[..] else { unreachable!("three signals were asked for") };
        tokio::select! {
            key = terminal.keys.recv() => match key {
                Some(b'q' | b'Q' | 3 | 4) | None => return Ok(()),
                Some(_) => {}
            },
            _ = interrupted.recv() => return Ok(()),
            _ = terminated.recv() => return Ok(()),
            _ = hung_up.recv() => return Ok(()),
            _ = resized.recv() => {}
            looked = &mut looking => {
                match looked {
                    Ok(new) => (before, look, trouble) = (Some(look), new, None),
                    // It may come back, and what was seen last is still of interest.
                    Err(failure) => trouble = Some(failure.to_string()),
                }
                looking.set(next());
            }
        }
    }
}

/// In so many lines. What was seen `before` tells how fast things go.
fn screen(look: &Look, before: Option<&Look>, trouble: Option<&str>, lines: usize, here: &Here) -> String {
    let status = &look.status;
    let mut top = head(look, before, trouble, here);
    let sketched = here.width.is_none_or(|width| width >= SKETCH_WIDTH_MIN);
    let ahead: status::Beside<'_> = ("NEXT 10 MINUTES", &|name| ahead(look, name));
    if let Some(use_cases) = status::use_cases(status, here, Some(ahead).filter(|_| sketched)) {
        let _ = write!(top, "\n\n{use_cases}");
    }
    let routes = status::routes(status, here).unwrap_or_default();
    let left = lines.saturating_sub(top.lines().count() + 2 + OUTCOME_LINES_MIN);
    top += "\n\n";
    top += &cut(&routes, left);
    let left = lines.saturating_sub(top.lines().count() + 1);
    if left > 1 && !look.outcomes.outcomes.is_empty() {
        // The latest first: they are what somebody looks for.
        let latest: Vec<_> = look.outcomes.outcomes.iter().rev().take(left - 1).collect();
        let _ = write!(top, "\n\n{}", latest_outcomes(&latest, here));
    }
    top
}

/// The first lines of a table, and how many there would be more.
fn cut(table: &str, lines: usize) -> String {
    let all = table.lines().count();
    if all <= lines {
        return table.to_owned();
    }
    let shown = lines.saturating_sub(1);
    let mut kept: Vec<_> = table.lines().take(shown).map(str::to_owned).collect();
    kept.push(format!("… and {} lines more", all - shown));
    kept.join("\n")
}

fn head(look: &Look, before: Option<&Look>, trouble: Option<&str>, here: &Here) -> String {
    let status = &look.status;
    let bold = Style::new().bold();
    let alarm = bold.fg_color(Some(AnsiColor::Red.into()));
    let mut head = format!(
        "{bold}revoked {}{bold:#}  {}  started {}, configuration {}",
        status.version,
        here.short(here.now),
        here.relative(status.started_at),
        status.config_hash
    );
    if status.mode == Mode::Shadow {
        head += "\nshadow mode: nothing is revoked, what would have been is recorded";
    }
    if let Some(error) = &status.store_error {
        let words = here.wrap(&format!("registrations are refused: {}", show::plain(error)), 0);
        let _ = write!(head, "\n{alarm}{words}{alarm:#}");
    }
    if let Some(trouble) = trouble {
        let _ = write!(head, "\n{alarm}{}{alarm:#}", here.wrap(&show::plain(trouble), 0));
    }
    let mut facts = here.table([Column::word(""), Column::text("")]);
    let mut fact = |name: &str, value: String| {
        facts.add_row([Cell::new(name), Cell::new(value)]);
    };
    let pending: u64 = status.use_cases.values().filter_map(|states| states.get(&StateKind::Pending)).sum();
    let next = status.next_due.map_or_else(|| "nothing due".to_owned(), |at| format!("next due {}", here.relative(at)));
    let overdue = if status.backlog_age.is_zero() {
        String::new()
    } else {
        format!(", the longest overdue for {}", show::span(status.backlog_age))
    };
    fact("pending", format!("{}, {next}{overdue}", show::count(pending)));
    // What is counted, and how fast it grows.
    let rates = |of: fn(&StatusView) -> Option<u64>| {
        let now = of(status)?;
        let rate = before.and_then(|before| Some((of(&before.status)?, before.at))).map(|(then, at)| {
            let span = (look.at - at).as_secs_f64().max(0.001);
            format!(" ({}/s)", show::count((now.saturating_sub(then) as f64 / span).round() as u64))
        });
        Some(format!("{}{}", show::count(now), rate.unwrap_or_default()))
    };
    match (rates(|status| status.registered), rates(|status| status.deletes)) {
        (Some(registered), Some(deletes)) => {
            fact("registered", format!("{registered}, DELETEs {deletes}, {} out", status.in_flight));
        }
        _ => fact("in flight", format!("{} DELETEs", status.in_flight)),
    }
    let times = |times: &TimesView| {
        let [p50, p99, max] = [times.p50, times.p99, times.max].map(show::moment);
        format!("p50 {p50}, p99 {p99}, max {max}")
    };
    if let Some(lateness) = &status.lateness {
        fact("lateness", times(lateness));
    }
    if let Some(answers) = &status.answer_times {
        fact("answers", times(answers));
    }
    if let Some(store) = &status.store {
        fact("store", status::store(store));
    }
    let _ = write!(head, "\n\n{}", show::rows(&facts));
    head
}

/// A line each: what is too long for it is cut off.
fn latest_outcomes(outcomes: &[&OutcomeView], here: &Here) -> String {
    let widths = [11, 9, 9, 7];
    let left = here.width.map(|width| width.saturating_sub(widths.iter().map(|width| width + 2).sum()));
    let left = left.map_or(usize::MAX, |left| usize::from(left).max(8));
    let [time, outcome, sms, late] = widths;
    let mut table = here.table([
        Column::wide("TIME", time),
        Column::wide("OUTCOME", outcome),
        Column::wide("SMS", sms),
        Column::wide("LATE", late),
        Column::word("MESSAGE"),
    ]);
    for outcome in outcomes {
        table.add_row([
            Cell::new(here.short(outcome.at)),
            Cell::new(show::word(&outcome.outcome)).fg(show::color(outcome.outcome)),
            Cell::new(outcomes::sms(outcome)),
            Cell::new(outcome.lateness.map(show::span).unwrap_or_default()),
            Cell::new(shorter(&outcomes::what(outcome), left)),
        ]);
    }
    show::text(&table)
}

/// Not longer than this, and to be seen where something is missing.
fn shorter(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        None => text.to_owned(),
        Some(_) => text.chars().take(chars_max.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// When what there is of a use case falls due.
fn ahead(look: &Look, name: &UseCase) -> Cell {
    let held = look.ahead.held.get(name).copied().unwrap_or(0);
    if held > 0 {
        return Cell::new(format!("{} held", show::count(held))).fg(Color::Yellow);
    }
    Cell::new(look.ahead.use_cases.get(name).map(|row| sketch(row)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::show::tests::here;
    use super::*;

    fn look(at: u64, registered: u64, agents: usize, outcomes: usize) -> Look {
        let route = |n| {
            format!(
                r#"{{"agentId":"bot-{n}","region":"us","inFlight":1,"perSecond":200.0,"backlog":1000000,
                "doneBy":"2026-11-22T13:23:20Z","late":true}}"#
            )
        };
        let outcome = |n| {
            format!(
                r#"{{"cursor":"{n}","at":"2026-11-22T11:59:00Z","agentId":"bot","phone":"+12223334444","useCase":"otp",
                "messageId":"m-{n}","sendTime":"2026-11-22T11:50:00Z","deadline":"2026-11-22T11:58:00Z",
                "kind":"SETTLED","outcome":"REVOKED","lateness":"0.012s"}}"#
            )
        };
        let all = |count, of: &dyn Fn(usize) -> String| (1..=count).map(of).collect::<Vec<_>>().join(",");
        let status = format!(
            r#"{{"version":"0.1.0","mode":"LIVE","startedAt":"2026-11-22T09:00:00Z","configHash":"1a2b3c4d5e6f",
            "useCases":{{"otp":{{"PENDING":1204000,"SETTLED":812}},"promotion":{{"PENDING":7}}}},"inFlight":64,
            "nextDue":"2026-11-22T12:00:03Z","backlogAge":"12s","settled":{{}},"registered":{registered},"deletes":40,
            "lateness":{{"count":7,"p50":"0.003s","p99":"0.012s","max":"1.4s"}},"routes":[{}],
            "store":{{"diskBytes":1363148800,"youngBytes":41943040,"frozenBytes":0,"backlog":0}},
            "lastCursor":"1042","earlyEvents":3}}"#,
            all(agents, &route)
        );
        let ahead = r#"{"from":"2026-11-22T12:00:00Z","step":"20s","counting":false,"held":{"promotion":7},"later":{},
            "useCases":{"otp":[1,0,0,9,2],"promotion":[]}}"#;
        let outcomes = format!(r#"{{"outcomes":[{}],"nextCursor":"9"}}"#, all(outcomes, &outcome));
        Look {
            at: Duration::from_secs(at),
            status: serde_json::from_str(&status).unwrap(),
            ahead: serde_json::from_str(ahead).unwrap(),
            outcomes: serde_json::from_str(&outcomes).unwrap(),
        }
    }

    fn shown(look: &Look, before: Option<&Look>, trouble: Option<&str>, lines: usize) -> String {
        let screen = screen(look, before, trouble, lines, &here());
        let screen = anstream::adapter::strip_str(&screen).to_string();
        assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
        screen
    }

    #[test]
    fn a_picture_has_rates_what_is_ahead_and_the_latest_outcomes_first() {
        let screen = shown(&look(12, 1700, 1, 3), Some(&look(10, 1500, 1, 3)), None, 40);
        for part in ["1,700 (100/s)", "40 (0/s)", "next due in 3.0 s", "7 held", "█", "p99 12 ms", "1.3 GiB on disk"]
        {
            assert!(screen.contains(part), "{part} is missing:\n{screen}");
        }
        let at = |part: &str| screen.find(part).unwrap_or_else(|| panic!("{part} is missing:\n{screen}"));
        assert!(at("m-3") < at("m-1"));
        assert!(!shown(&look(12, 1700, 1, 3), None, None, 40).contains("/s"), "nothing to compare with");
        assert!(shown(&look(12, 1700, 1, 0), None, Some("no daemon answers"), 40).contains("no daemon answers"));
    }

    #[test]
    fn who_may_ask_about_some_agents_sees_no_counts_that_are_made_for_all_together() {
        let mut look = look(12, 1700, 1, 1);
        (look.status.registered, look.status.deletes, look.status.lateness) = (None, None, None);
        let screen = shown(&look, Some(&look), None, 40);
        assert!(screen.contains("in flight  64 DELETEs") && !screen.contains("registered"), "{screen}");
    }

    #[test]
    fn a_picture_fits_the_lines_there_are_and_says_what_it_leaves_out() {
        for lines in [16, 24, 40] {
            let screen = shown(&look(12, 1700, 100, 40), None, None, lines);
            assert!(screen.lines().count() <= lines, "{} lines of {lines}:\n{screen}", screen.lines().count());
            if lines >= 24 {
                assert!(screen.contains("lines more") && screen.contains("m-40"), "{screen}");
            }
        }
    }
}
