//! What the demo shows: a line for each thing worth a look, and a table at the end.

use std::io::Write as _;

use anstream::stdout;
use comfy_table::{CellAlignment, Table, presets};

use super::verdict::Verdict;
use crate::clock::{self, Now};
use crate::intake::wire::OutcomeView;
use crate::model::{GrantState, Outcome};
use crate::store::EntryKind;

const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const RED: &str = "\x1b[31m";
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// Colours are taken out where the output is no terminal.
pub(super) struct Screen {
    json: bool,
    start: Now,
}

impl Screen {
    pub(super) fn new(json: bool, start: Now) -> Self {
        Self { json, start }
    }

    pub(super) fn say(&self, line: &str) {
        self.print(&format!("{BOLD}{line}{PLAIN}"));
    }

    /// Something that happened to the daemon itself.
    pub(super) fn note(&self, line: &str) {
        self.print(&format!("{} {RED}{BOLD}{line}{PLAIN}", self.clock()));
    }

    /// Something an agent was told.
    pub(super) fn outcome(&self, told: &OutcomeView) {
        let (colour, word) = match (told.kind, told.outcome) {
            (EntryKind::Amended, Outcome::Delivered) => (YELLOW, "raced"),
            (_, Outcome::Delivered) => (DIM, "delivered"),
            (_, Outcome::Revoked) => (GREEN, "revoked"),
            (_, Outcome::Unknown) => (YELLOW, "unknown"),
            (_, Outcome::Failed | Outcome::Withdrawn | Outcome::Moot | Outcome::Shadow) => (RED, told.outcome.as_str()),
        };
        let late = told.lateness.map(|late| format!("{} ms late", late.as_millis())).unwrap_or_default();
        let sms = match told.grant.as_ref().map(|grant| grant.state) {
            Some(GrantState::Offered | GrantState::Taken) => "→ SMS granted",
            Some(GrantState::Withdrawn) => "→ grant withdrawn",
            Some(GrantState::Held) => "→ grant held back",
            Some(GrantState::Void) => "→ too late for an SMS",
            None => "",
        };
        let line = format!("{word:<9} {:<14} {late:>10}  {sms}", told.message_id.as_str());
        self.print(&format!("{} {colour}{}{PLAIN}", self.clock(), line.trim_end()));
    }

    /// The table, and the sentence.
    pub(super) fn conclude(&self, verdict: &Verdict) -> anyhow::Result<()> {
        let mut out = stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(verdict)?)?;
            return Ok(());
        }
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(["use case", "registered", "delivered", "revoked", "unknown", "raced", "SMS grants"]);
        for (use_case, row) in &verdict.by_use_case {
            let numbers = row.iter().map(ToString::to_string);
            table.add_row(std::iter::once(use_case.clone()).chain(numbers));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        writeln!(out, "\n{table}")?;
        if let Some(lateness) = verdict.lateness {
            writeln!(
                out,
                "First DELETEs since the restart: {} ms (p50), {} ms (p99), {} ms (max) late.",
                lateness.p50.as_millis(),
                lateness.p99.as_millis(),
                lateness.max.as_millis(),
            )?;
        }
        for wrong in &verdict.wrong {
            writeln!(out, "{RED}{wrong}{PLAIN}")?;
        }
        let (colour, sentence) = if verdict.is_good() {
            (
                GREEN,
                format!(
                    "Nothing was lost: {} registered, {} accounted for, and no SMS granted twice.",
                    verdict.registered, verdict.registered
                ),
            )
        } else {
            (
                RED,
                format!(
                    "{} of {} messages were lost, {} were granted twice.",
                    verdict.lost, verdict.registered, verdict.granted_twice
                ),
            )
        };
        writeln!(out, "{BOLD}{colour}{sentence}{PLAIN}")?;
        Ok(())
    }

    fn clock(&self) -> String {
        format!("{DIM}{:5.1} s{PLAIN}", (clock::now().mono - self.start.mono).as_secs_f64())
    }

    fn print(&self, line: &str) {
        if !self.json {
            // Whoever stopped reading does not need the rest.
            let _ = writeln!(stdout(), "{line}");
        }
    }
}
