//! `revokectl advise`: how long deliveries take, and what another ttl would mean.

use std::fmt::Write;

use comfy_table::Cell;

use super::args::AdviseArgs;
use super::client::{Client, Method};
use super::exit::Failure;
use super::output::Output;
use super::show::{self, Column, Here};
use crate::intake::books::{AdviceView, CurvePoint, UseCaseAdvice};
use crate::model::time::wire_duration;

/// Lines of a plot.
const HEIGHT: usize = 8;
/// The eighths of a block, upwards.
const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Fewer than this many messages, still watched, are too few to go by.
const FEW: u64 = 30;

pub(super) async fn print(client: &Client, out: &mut Output, args: AdviseArgs) -> Result<(), Failure> {
    let mut url = Client::url(&["advice"]);
    url.query_pairs_mut().append_pair("since", &wire_duration::show(args.since));
    let mut view: AdviceView = client.call(Method::GET, url, None).await?;
    if let Some(asked) = &args.use_case {
        view.use_cases.retain(|name, _| name == asked);
    }
    out.value(&view, screen)
}

fn screen(view: &AdviceView, here: &Here) -> String {
    if view.use_cases.is_empty() {
        return format!("Since {}: nothing was observed yet.", here.both(view.from));
    }
    let mut screen = String::new();
    // Writing to a string does not fail.
    for (name, advice) in &view.use_cases {
        let policy = advice.policy.as_deref().map(|policy| format!(" ({policy})")).unwrap_or_default();
        let _ = writeln!(screen, "{name}{policy}");
        let [delivered, censored, pending] = [advice.delivered, advice.censored, advice.pending].map(show::count);
        let words = format!(
            "{delivered} were seen to arrive; {censored} were revoked or given up before, {pending} are on their way: they \
             count for as long as they were watched. Longer than {} nobody waited.",
            show::span(advice.horizon)
        );
        let _ = writeln!(screen, "{}\n\n{}\n\n{}\n", here.wrap(&words, 0), plot(&advice.curve), ttls(advice, here));
    }
    if view.counting {
        let words = "The daemon has just started and is still counting what is on its way. Ask again soon.";
        let _ = writeln!(screen, "{}\n", here.wrap(words, 0));
    }
    let words = format!(
        "WOULD REVOKE: the share of messages that has not arrived by then, with 95 % confidence. WOULD COST: the share that \
         arrives later, as far as was watched. * rests on fewer than {FEW} messages."
    );
    screen + &here.wrap(&words, 0)
}

fn ttls(advice: &UseCaseAdvice, here: &Here) -> String {
    let mut table = here.table([
        Column::number("A TTL OF"),
        Column::number("WOULD REVOKE"),
        Column::word(""),
        Column::number("WOULD COST"),
        Column::number("STILL WATCHED"),
    ]);
    for ttl in &advice.ttls {
        let few = if ttl.at_risk < FEW { " *" } else { "" };
        table.add_row([
            Cell::new(show::span(ttl.ttl)),
            Cell::new(percent(ttl.revoked)),
            Cell::new(format!("± {}{few}", percent(ttl.margin))),
            Cell::new(percent(ttl.arrives_later)),
            Cell::new(show::count(ttl.at_risk)),
        ]);
    }
    show::text(&table)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// The share that is undelivered, from all of it down to nothing, over time on a scale of ratios.
fn plot(curve: &[CurvePoint]) -> String {
    let mut plot = String::new();
    for line in (0..HEIGHT).rev() {
        let label = match line {
            0 => "  0 %",
            line if line == HEIGHT - 1 => "100 %",
            line if line == HEIGHT / 2 => " 50 %",
            _ => "     ",
        };
        let block = |point: &CurvePoint| {
            let eighths = (point.undelivered * (HEIGHT * 8) as f64).round() as usize;
            EIGHTHS[eighths.saturating_sub(line * 8).min(8)]
        };
        let blocks: String = curve.iter().map(block).collect();
        let _ = writeln!(plot, "{label} │{}", blocks.trim_end());
    }
    let _ = writeln!(plot, "      └{}", "─".repeat(curve.len()));
    plot + "       " + &axis(curve)
}

/// A word under every sixteenth column, as far as there is room.
fn axis(curve: &[CurvePoint]) -> String {
    let marks = curve.iter().step_by(16).map(|point| format!("{:<16}", show::span(point.after)));
    marks.collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::show::tests::here;
    use super::*;

    #[test]
    fn the_curve_falls_and_everything_fits() {
        let curve: Vec<_> = (0..64)
            .map(|step| {
                let undelivered = 1.0 - f64::from(step) / 80.0;
                serde_json::json!({"after": format!("{}s", step * 10), "undelivered": undelivered})
            })
            .collect();
        let view: AdviceView = serde_json::from_value(serde_json::json!({
            "from": "2026-11-21T12:00:00Z", "counting": false, "useCases": {"otp": {
                "policy": "ttl 10m", "delivered": 90210, "censored": 1204, "pending": 12, "horizon": "640s",
                "ttls": [{"ttl": "60s", "revoked": 0.31, "margin": 0.004, "arrivesLater": 0.21, "atRisk": 30000},
                         {"ttl": "600s", "revoked": 0.1, "margin": 0.04, "arrivesLater": 0.0, "atRisk": 12}],
                "curve": curve}}}))
        .unwrap();
        let screen = anstream::adapter::strip_str(&screen(&view, &here())).to_string();
        for part in ["otp (ttl 10m)", "31.0 %", "± 4.0 % *", "100 %", "90,210 were seen"] {
            assert!(screen.contains(part), "{part} is missing:\n{screen}");
        }
        let heights: Vec<usize> =
            screen.lines().filter_map(|line| Some(line.split_once('│')?.1.chars().count())).collect();
        assert!(heights.is_sorted() && heights.len() == HEIGHT, "{screen}");
        assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
    }
}
