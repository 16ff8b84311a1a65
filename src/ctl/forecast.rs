//! `revokectl forecast`: what falls due when, as bars.

use std::fmt::Write;
use std::time::Duration;

use comfy_table::Cell;

use super::args::{By, ForecastArgs};
use super::client::{Client, Method};
use super::exit::Failure;
use super::output::Output;
use super::show::{self, Column, Here};
use crate::intake::wire::ForecastView;
use crate::model::Timestamp;
use crate::model::time::wire_duration;

/// Columns where there is no terminal to fit into.
const WIDTH: usize = 80;
/// Columns of the little picture of each use case.
const SKETCH: usize = 30;
/// The eighths of a block: what a bar ends with.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
/// The eighths of a block, upwards: what a sketch is made of.
const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// How a forecast is asked for, and spoken of.
struct Spans {
    step: Duration,
    steps: usize,
    each: &'static str,
    all: &'static str,
    /// How the start of one is shown.
    start: &'static str,
}

impl By {
    fn spans(self) -> Spans {
        let seconds = Duration::from_secs;
        match self {
            Self::Minute => {
                Spans { step: seconds(60), steps: 30, each: "minute", all: "30 minutes", start: "%H:%M:%S" }
            }
            Self::Hour => Spans { step: seconds(3_600), steps: 24, each: "hour", all: "24 hours", start: "%a %H:%M" },
            // The platform keeps nothing for longer than 30 days.
            Self::Day => {
                Spans { step: seconds(86_400), steps: 30, each: "day", all: "30 days", start: "%a %m-%d %H:%M" }
            }
        }
    }
}

pub(super) async fn print(client: &Client, out: &mut Output, args: ForecastArgs) -> Result<(), Failure> {
    let spans = args.by.spans();
    let mut url = Client::url(&["forecast"]);
    url.query_pairs_mut()
        .append_pair("step", &wire_duration::show(spans.step))
        .append_pair("steps", &spans.steps.to_string());
    let mut view: ForecastView = client.call(Method::GET, url, None).await?;
    if let Some(asked) = &args.use_case {
        if !out.is_json() && !view.use_cases.contains_key(asked) {
            let known: Vec<_> = view.use_cases.keys().map(|name| name.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let words = format!("No message was ever registered under use case {asked}. Those with messages: {known}.");
            let words = out.here().wrap(&words, 0);
            return out.line(&words);
        }
        view.use_cases.retain(|name, _| name == asked);
        view.later.retain(|name, _| name == asked);
        view.held.retain(|name, _| name == asked);
    }
    out.value(&view, |view, here| screen(view, &spans, here))
}

fn screen(view: &ForecastView, spans: &Spans, here: &Here) -> String {
    let mut totals = vec![0_u64; spans.steps];
    for (total, count) in view.use_cases.values().flat_map(|row| totals_of(row, spans.steps)) {
        totals[total] += count;
    }
    let within: u64 = totals.iter().sum();
    let later: u64 = view.later.values().sum();
    let held: u64 = view.held.values().sum();
    let mut screen = match (within, later) {
        (0, 0) if held > 0 => "Nothing is due.".to_owned(),
        (0, 0) => "Nothing is pending.".to_owned(),
        (0, later) => {
            format!("Nothing is due within {}; {} messages are due later.", spans.all, show::count(later))
        }
        _ => format!("Due per {} from {} on", spans.each, here.format(view.from, "%Y-%m-%d %H:%M:%S %:z")),
    };
    // Writing to a string does not fail.
    if within > 0 {
        let _ = write!(screen, "\n\n{}", bars(view.from, &totals, spans, here));
        let due = show::count(within);
        let _ = write!(screen, "\n{due} within {}, {} later.", spans.all, show::count(later));
    }
    if view.use_cases.len() > 1 && within + later > 0 {
        let _ = write!(screen, "\n\n{}", by_use_case(view, here));
    }
    if held > 0 {
        let _ = write!(screen, "\n\n{} more are held: `revokectl holds`.", show::count(held));
    }
    if view.counting {
        let words = "The daemon has just started and is still counting: the numbers are too low. Ask again soon.";
        let _ = write!(screen, "\n\n{}", here.wrap(words, 0));
    }
    screen
}

/// The numbers of a use case, as far as there are spans for them.
fn totals_of(row: &[u64], steps: usize) -> impl Iterator<Item = (usize, u64)> {
    row.iter().copied().take(steps).enumerate()
}

/// One bar per span. Empty ones at the end are left out, and several in between are one line.
fn bars(from: Timestamp, totals: &[u64], spans: &Spans, here: &Here) -> String {
    let most = totals.iter().copied().max().unwrap_or(0);
    let end = totals.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
    let starts: Vec<String> = (0..)
        .map_while(|step: u32| spans.step.checked_mul(step))
        .take(end)
        .map(|after| here.format(from.plus(after), spans.start))
        .collect();
    let label = starts.first().map_or(0, |start| start.chars().count());
    let number = show::count(most).len();
    let room = here.width.map_or(WIDTH, usize::from).saturating_sub(label + number + 4).max(8);
    let mut lines = String::new();
    let mut step = 0;
    while step < end {
        let empty = totals[step..end].iter().take_while(|count| **count == 0).count();
        if empty > 2 {
            let _ = writeln!(lines, "{:>label$}", "⋮");
            step += empty;
            continue;
        }
        let (start, count) = (&starts[step], totals[step]);
        let line = format!("{start:>label$}  {:>number$}  {}", show::count(count), bar(count, most, room));
        // What is overdue is told with the first span.
        let _ = writeln!(lines, "{}", line.trim_end());
        step += 1;
    }
    lines
}

/// As long as its share of the room, and never nothing for something.
fn bar(count: u64, most: u64, room: usize) -> String {
    let eighths = share(count, most, room * 8);
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

/// `count` on a scale on which `most` is `full`; at least 1 if there is anything.
fn share(count: u64, most: u64, full: usize) -> usize {
    let scaled = u128::from(count) * full as u128 / u128::from(most.max(1));
    usize::try_from(scaled).unwrap_or(full).max(usize::from(count > 0))
}

/// Whose they are: numbers, and a sketch of when, each on a scale of its own.
fn by_use_case(view: &ForecastView, here: &Here) -> String {
    let mut table = here.table([
        Column::id("USE CASE"),
        Column::number("DUE"),
        Column::number("LATER"),
        Column::word("WHEN (each on its own scale)"),
    ]);
    for (name, row) in &view.use_cases {
        let (due, later) = (row.iter().sum(), view.later.get(name).copied().unwrap_or(0));
        if due + later > 0 {
            table.add_row([
                show::id(name),
                Cell::new(show::count(due)),
                Cell::new(show::count(later)),
                Cell::new(sketch(row)),
            ]);
        }
    }
    show::text(&table)
}

pub(super) fn sketch(row: &[u64]) -> String {
    let sums: Vec<u64> = row.chunks(row.len().div_ceil(SKETCH).max(1)).map(|part| part.iter().sum()).collect();
    let most = sums.iter().copied().max().unwrap_or(0);
    let height = |count: &u64| match share(*count, most, HEIGHTS.len()) {
        0 => '·',
        height => HEIGHTS[height - 1],
    };
    sums.iter().map(height).collect()
}

#[cfg(test)]
mod tests {
    use super::super::show::tests::here;
    use super::*;

    fn view(use_cases: &[(&str, &[(usize, u64)])], later: &str) -> ForecastView {
        let row = |due: &[(usize, u64)]| {
            let mut row = vec![0; 30];
            due.iter().for_each(|(at, count)| row[*at] = *count);
            row
        };
        let rows: std::collections::BTreeMap<_, _> = use_cases.iter().map(|(name, due)| (*name, row(due))).collect();
        let text = format!(
            r#"{{"from":"2026-11-22T12:00:37Z","step":"60s","counting":false,"held":{{}},"later":{later},"useCases":{}}}"#,
            serde_json::to_string(&rows).unwrap()
        );
        serde_json::from_str(&text).unwrap()
    }

    fn shown(view: &ForecastView) -> String {
        let screen = screen(view, &By::Minute.spans(), &here());
        let screen = anstream::adapter::strip_str(&screen).to_string();
        assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
        screen
    }

    #[test]
    fn bars_are_to_scale_and_a_single_message_is_seen_beside_a_million() {
        let screen = shown(&view(&[("otp", &[(0, 1_000_000), (1, 500_000), (9, 1)])], "{}"));
        let bars: Vec<usize> =
            screen.lines().map(|line| line.chars().filter(|c| *c == '█').count()).filter(|bar| *bar > 0).collect();
        assert_eq!(bars, [59, 29]);
        assert!(screen.contains("21:09:37          1  ▏"), "{screen}");
        assert!(screen.contains("⋮") && screen.contains("1,500,001 within 30 minutes, 0 later."), "{screen}");
    }

    #[test]
    fn whose_they_are_is_told_where_there_are_several() {
        let screen = shown(&view(&[("otp", &[(0, 7)]), ("year_end_sale", &[(29, 3)])], r#"{"year_end_sale":12000}"#));
        assert!(screen.contains("year_end_sale    3  12,000  ·····························█"), "{screen}");
        assert!(!shown(&view(&[("otp", &[(0, 7)])], "{}")).contains("USE CASE"));
    }

    #[test]
    fn nothing_is_said_in_a_sentence() {
        assert_eq!(shown(&view(&[("otp", &[])], "{}")), "Nothing is pending.");
        let far = shown(&view(&[("otp", &[])], r#"{"otp":1200}"#));
        assert_eq!(far, "Nothing is due within 30 minutes; 1,200 messages are due later.");
        let mut held = view(&[("otp", &[])], "{}");
        held.held.insert(crate::model::UseCase::new("otp").unwrap(), 1500);
        assert_eq!(shown(&held), "Nothing is due.\n\n1,500 more are held: `revokectl holds`.");
    }
}
