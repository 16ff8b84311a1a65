//! `revokectl plan` and `revokectl reload`: what another configuration would do, or did, like a diff.

use std::fmt::Write;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use clap::builder::styling::AnsiColor;
use comfy_table::Cell;

use super::batch::{open, unreadable};
use super::client::{Client, Method, Url};
use super::exit::Failure;
use super::output::Output;
use super::show::{self, Column, Here};
use crate::intake::wire::{ChangeView, PlannedView, ReloadView};
use crate::model::deadline::human;

pub(super) async fn plan(client: &Client, out: &mut Output, path: &Path) -> Result<(), Failure> {
    let mut text = Vec::new();
    open(path)?.read_to_end(&mut text).map_err(|error| unreadable(path, error))?;
    let mut url = Client::url(&["plan"]);
    let name = path.to_string_lossy();
    // What a report on the file calls it.
    url.query_pairs_mut().append_pair("name", if name == "-" { "standard input" } else { &name });
    let view = ask(client, url, Some(text)).await?;
    out.value(&view, |view, here| {
        let head = format!("With {} ({}) in force:", show::plain(&name), view.config_hash);
        let end = "Nothing was changed: this is only a plan. To take it over, put it in the place of the daemon's \
                   file and run `revokectl reload`.";
        if view.changes.is_empty() {
            return here.wrap("No key differs from what is in force: a reload would change nothing.", 0);
        }
        format!("{}\n{}\n{}", here.wrap(&head, 0), effects(view, Tense::Would, here), here.wrap(end, 0))
    })
}

pub(super) async fn reload(client: &Client, out: &mut Output) -> Result<(), Failure> {
    let view = ask(client, Client::url(&["reload"]), None).await?;
    out.value(&view, |view, here| {
        let hash = &view.config_hash;
        if !view.applied {
            format!("Nothing to do: the file is the same ({hash}).")
        } else if view.changes.is_empty() {
            format!("Taken over ({hash}), though no key differs from what was in force.")
        } else {
            let head = format!("Taken over: configuration {hash} is in force.");
            format!("{head}\n{}", effects(view, Tense::Did, here)).trim_end().to_owned()
        }
    })
}

/// Of all that can be wrong here only the file itself is answered with 400.
async fn ask(client: &Client, url: Url, body: Option<Vec<u8>>) -> Result<ReloadView, Failure> {
    client.call(Method::POST, url, body).await.map_err(|failure| match failure {
        Failure::Refused(error) if error.code == 400 => Failure::Config(error.message),
        other => other,
    })
}

/// Whether it is done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tense {
    Would,
    Did,
}

/// What it does to whom, which keys that takes, and what somebody should look at.
fn effects(view: &ReloadView, tense: Tense, here: &Here) -> String {
    let mut screen = String::new();
    // Writing to a string does not fail.
    let (touched, others): (Vec<_>, Vec<_>) =
        view.use_cases.iter().partition(|planned| is_touched(planned, &view.changes));
    for planned in touched {
        let _ = writeln!(screen, "\n{}", use_case(planned, tense, here));
    }
    if !others.is_empty() {
        let others: Vec<String> = others.into_iter().map(untouched).collect();
        let _ = writeln!(screen, "\n{}", here.wrap(&format!("The same as before: {}.", others.join(", ")), 0));
    }
    let _ = writeln!(screen, "\nChanged keys\n{}", keys(view, here));
    if let Some(warnings) = &view.warnings {
        let _ = writeln!(screen, "\n{}", show::plain_lines(warnings));
    }
    if view.counting {
        let words = "The daemon has just started and is still counting: the numbers are too low.";
        let _ = writeln!(screen, "\n{}", here.wrap(words, 0));
    }
    screen
}

fn is_touched(planned: &PlannedView, changes: &[ChangeView]) -> bool {
    planned.before != planned.after || planned.moved > 0 || changes.iter().any(|change| belongs(change, planned))
}

/// A key of this use case.
fn belongs(change: &ChangeView, planned: &PlannedView) -> bool {
    let rest = change.key.strip_prefix("use_cases.");
    rest.and_then(|rest| rest.strip_prefix(planned.use_case.as_str())).is_some_and(|rest| rest.starts_with('.'))
}

fn untouched(planned: &PlannedView) -> String {
    let PlannedView { use_case, pending, due_at_once, .. } = planned;
    match (*pending, *due_at_once) {
        (0, _) => use_case.to_string(),
        (pending, 0) => format!("{use_case} ({} pending)", show::count(pending)),
        (pending, due) => format!("{use_case} ({} pending, {} of them due)", show::count(pending), show::count(due)),
    }
}

/// The rule before and after, and what that means for what is pending.
fn use_case(planned: &PlannedView, tense: Tense, here: &Here) -> String {
    let (red, green) = (AnsiColor::Red.on_default(), AnsiColor::Green.on_default());
    let name = &planned.use_case;
    let line = |sign: char, words: &str| here.wrap(&format!("{sign} {}", show::plain(words)), 2);
    let mut block = match (&planned.before, &planned.after) {
        (Some(before), Some(after)) if before == after => format!("{name}\n{}", line(' ', after)),
        (Some(before), Some(after)) => {
            format!("{name}\n{red}{}{red:#}\n{green}{}{green:#}", line('-', before), line('+', after))
        }
        (None, Some(after)) => format!("{name} (new)\n{green}{}{green:#}", line('+', after)),
        (Some(before), None) => format!("{name} (gone)\n{red}{}{red:#}", line('-', before)),
        (None, None) => name.to_string(),
    };
    for sentence in [moved(planned, tense), due(planned, here)].into_iter().flatten() {
        block += &format!("\n  {}", here.wrap(&sentence, 2));
    }
    block
}

fn moved(planned: &PlannedView, tense: Tense) -> Option<String> {
    let PlannedView { before, pending, moved, shift_ms_min, shift_ms_max, .. } = planned;
    // Nothing can wait under what is only beginning.
    before.as_ref()?;
    let shift = match (shift_ms_min, shift_ms_max) {
        (Some(min), Some(max)) if min == max => shift(*min),
        (Some(min), Some(max)) => format!("between {} and {}", shift(*min), shift(*max)),
        _ => String::new(),
    };
    let (all, verb) = (show::count(*pending), if tense == Tense::Did { "moved" } else { "would move" });
    Some(match (*pending, *moved) {
        (0, _) => "nothing pending".to_owned(),
        (_, 0) => format!("{all} pending, none of their deadlines {verb}"),
        (pending, moved) if pending == moved => format!("{all} pending, all their deadlines {verb}: {shift}"),
        (_, moved) => format!("{all} pending, {} of their deadlines {verb}: {shift}", show::count(moved)),
    })
}

/// `5m earlier`
fn shift(ms: i64) -> String {
    format!("{} {}", human(Duration::from_millis(ms.unsigned_abs())), if ms < 0 { "earlier" } else { "later" })
}

fn due(planned: &PlannedView, here: &Here) -> Option<String> {
    let due = show::count(planned.due_at_once);
    (planned.due_at_once > 0).then(|| match planned.done_by {
        Some(by) if by > here.now.plus(Duration::from_secs(1)) => {
            format!(
                "{due} due at once, the last of them revoked by {} ({}) at this pace",
                here.short(by),
                here.relative(by)
            )
        }
        _ => format!("{due} due at once, revoked within a second or so at this pace"),
    })
}

/// What differs, key by key; a use case that comes or goes is one line.
fn keys(view: &ReloadView, here: &Here) -> String {
    let mut table = here.table([Column::word(""), Column::text(""), Column::text("")]);
    for planned in &view.use_cases {
        let count = view.changes.iter().filter(|change| belongs(change, planned)).count();
        let sort = match (&planned.before, &planned.after) {
            (None, Some(_)) => "new",
            (Some(_), None) => "gone",
            _ => continue,
        };
        table.add_row([
            Cell::new(format!("  use_cases.{}.*", planned.use_case)),
            Cell::new(sort),
            Cell::new(format!("{count} keys")),
        ]);
    }
    let whole = |change: &&ChangeView| {
        let of = view.use_cases.iter().find(|planned| belongs(change, planned));
        of.is_none_or(|planned| planned.before.is_some() == planned.after.is_some())
    };
    for ChangeView { key, before, after } in view.changes.iter().filter(whole) {
        let value = |value: &Option<String>| value.as_deref().map_or_else(|| "nothing".to_owned(), show::plain);
        let after = format!("-> {}", value(after));
        table.add_row([Cell::new(format!("  {key}")), Cell::new(value(before)), Cell::new(after)]);
    }
    show::rows(&table)
}

#[cfg(test)]
mod tests {
    use super::super::show::tests::here;
    use super::*;

    fn view() -> ReloadView {
        serde_json::from_str(
            r#"{"configHash":"3f2a91bc04de","applied":false,"counting":false,
            "changes":[{"key":"pace.per_second","before":"200","after":"100"},
            {"key":"use_cases.otp.ttl","before":"\"10m\"","after":"\"5m\""},
            {"key":"use_cases.sale.lead","after":"\"0s\""},{"key":"use_cases.sale.expires_at","after":"2026-12-31"}],
            "useCases":[
            {"useCase":"notice","before":"ttl 8s","after":"ttl 8s","pending":12,"moved":0,"dueAtOnce":2},
            {"useCase":"otp","before":"ttl 10m","after":"ttl 5m","pending":1204,"moved":1204,"shiftMsMin":-300000,
            "shiftMsMax":-300000,"dueAtOnce":310,"doneBy":"2026-11-22T12:00:03.100Z"},
            {"useCase":"sale","after":"expires at 2026-12-31T14:59:59.000Z, spread 2h","pending":0,"moved":0,"dueAtOnce":0}],
            "warnings":"warning: is it meant?"}"#,
        )
        .unwrap()
    }

    fn shown(view: &ReloadView, tense: Tense) -> String {
        let screen = anstream::adapter::strip_str(&effects(view, tense, &here())).to_string();
        assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
        screen
    }

    #[test]
    fn a_use_case_is_shown_like_a_diff_with_what_it_means() {
        let screen = shown(&view(), Tense::Would);
        let otp =
            "otp\n- ttl 10m\n+ ttl 5m\n  1,204 pending, all their deadlines would move: 5m earlier\n  310 due at once";
        for part in [otp, "sale (new)\n+ expires at", "notice (12 pending, 2 of them due)", "is it meant?"] {
            assert!(screen.contains(part), "{part} is missing:\n{screen}");
        }
        assert!(shown(&view(), Tense::Did).contains("deadlines moved: 5m earlier"));
    }

    #[test]
    fn keys_of_what_comes_or_goes_as_a_whole_are_only_counted() {
        let screen = shown(&view(), Tense::Would);
        assert!(screen.contains("use_cases.sale.*") && screen.contains("2 keys"), "{screen}");
        assert!(!screen.contains("sale.lead"), "{screen}");
        assert!(screen.lines().any(|line| line.contains("pace.per_second") && line.ends_with("-> 100")), "{screen}");
    }

    #[test]
    fn a_use_case_with_a_longer_name_is_another_one() {
        let change = |key: &str| ChangeView { key: key.into(), before: None, after: None };
        let otp = &view().use_cases[1];
        assert!(belongs(&change("use_cases.otp.ttl"), otp));
        assert!(!belongs(&change("use_cases.otp2.ttl"), otp) && !belongs(&change("pace.in_flight"), otp));
    }

    #[test]
    fn a_shift_says_which_way() {
        assert_eq!([-300_000, 5_400_000, -1_500].map(shift), ["5m earlier", "1h 30m later", "1s 500ms earlier"]);
    }
}
