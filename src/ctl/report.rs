//! `revokectl report`: what became of messages in the last hours.

use comfy_table::Cell;

use super::args::ReportArgs;
use super::client::{Client, Method};
use super::exit::Failure;
use super::output::Output;
use super::show::{self, Column, Here};
use crate::intake::books::{ReportView, UseCaseReport};
use crate::model::UseCase;
use crate::model::time::wire_duration;

pub(super) async fn print(client: &Client, out: &mut Output, args: ReportArgs) -> Result<(), Failure> {
    let mut url = Client::url(&["report"]);
    url.query_pairs_mut().append_pair("since", &wire_duration::show(args.since));
    let view: ReportView = client.call(Method::GET, url, None).await?;
    out.value(&view, screen)
}

fn screen(view: &ReportView, here: &Here) -> String {
    let since = format!("Since {}", here.both(view.from));
    let active = || view.use_cases.iter().filter(|(_, report)| **report != UseCaseReport::default());
    if active().next().is_none() {
        return format!("{since}: nothing happened.");
    }
    let tables = [outcomes(active(), here), deletes(active(), here), grants(active(), here)];
    let notes = "LATE: delivered after the deadline. RACED: delivered although a DELETE had left. AVOIDED: settled by an \
                 event, without a DELETE. TWICE: delivered after the SMS grant was acknowledged.";
    format!("{since}\n\n{}\n\n{}", tables.join("\n\n"), here.wrap(notes, 0))
}

fn outcomes<'a>(rows: impl Iterator<Item = (&'a UseCase, &'a UseCaseReport)>, here: &Here) -> String {
    let mut table = here.table([
        Column::id("USE CASE"),
        Column::number("REGISTERED"),
        Column::number("DELIVERED"),
        Column::number("LATE"),
        Column::number("RACED"),
        Column::number("REVOKED"),
        Column::number("UNKNOWN"),
        Column::number("FAILED"),
        Column::number("OTHER"),
    ]);
    for (name, report) in rows {
        let delivered = report.delivered_in_time + report.delivered_late;
        let numbers = [
            report.registered,
            delivered,
            report.delivered_late,
            report.raced,
            report.revoked,
            report.unknown,
            report.failed,
            report.withdrawn + report.moot,
        ];
        table.add_row(row(name, numbers));
    }
    show::text(&table)
}

fn deletes<'a>(rows: impl Iterator<Item = (&'a UseCase, &'a UseCaseReport)>, here: &Here) -> String {
    let mut table = here.table([
        Column::id("USE CASE"),
        Column::number("DELETES"),
        Column::number("AVOIDED"),
        Column::number("LATENESS p50"),
        Column::number("p99"),
    ]);
    for (name, report) in rows {
        let mut row = row(name, [report.deletes, report.deletes_avoided]);
        let late = report.lateness.as_ref().map(|late| [late.p50, late.p99].map(show::span));
        row.extend(late.unwrap_or_else(|| ["–".to_owned(), "–".to_owned()]).map(Cell::new));
        table.add_row(row);
    }
    show::text(&table)
}

fn grants<'a>(rows: impl Iterator<Item = (&'a UseCase, &'a UseCaseReport)>, here: &Here) -> String {
    let mut table = here.table([
        Column::id("USE CASE"),
        Column::number("SMS GRANTS"),
        Column::number("HELD"),
        Column::number("WITHDRAWN"),
        Column::number("TOO LATE"),
        Column::number("TWICE"),
    ]);
    for (name, UseCaseReport { grants, .. }) in rows {
        table.add_row(row(name, [grants.offered, grants.held, grants.withdrawn, grants.void, grants.duplicates]));
    }
    show::text(&table)
}

fn row<const N: usize>(name: &UseCase, numbers: [u64; N]) -> Vec<Cell> {
    std::iter::once(show::id(name)).chain(numbers.map(|number| Cell::new(show::count(number)))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::show::tests::here;
    use super::*;

    #[test]
    fn a_screen_fits_and_leaves_out_what_did_not_happen() {
        let view: ReportView = serde_json::from_str(
            r#"{"from":"2026-11-21T12:00:00Z","useCases":{
            "otp":{"registered":1204000,"deliveredInTime":1100000,"deliveredLate":1204,"raced":312,"revoked":98000,
              "unknown":412,"failed":3,"withdrawn":1,"moot":0,"deletes":101000,"deletesAvoided":1100000,
              "grants":{"offered":98415,"held":0,"withdrawn":200,"void":1,"duplicates":12},
              "lateness":{"count":101000,"p50":"0.001s","p99":"0.009s"}},
            "idle":{"registered":0,"deliveredInTime":0,"deliveredLate":0,"raced":0,"revoked":0,"unknown":0,"failed":0,
              "withdrawn":0,"moot":0,"deletes":0,"deletesAvoided":0,
              "grants":{"offered":0,"held":0,"withdrawn":0,"void":0,"duplicates":0}}}}"#,
        )
        .unwrap();
        let screen = anstream::adapter::strip_str(&screen(&view, &here())).to_string();
        for part in ["1,204,000", "1,101,204", "9 ms", "98,415", "TWICE"] {
            assert!(screen.contains(part), "{part} is missing:\n{screen}");
        }
        assert!(!screen.contains("idle"), "{screen}");
        assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
    }
}
