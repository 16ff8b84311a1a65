//! How things look to people: spans, instants, phones, words, and the one kind of table.
//!
//! Pure functions of what is shown and of [`Here`]; the screens of the commands are put together from these.

use std::fmt::Display;
use std::time::Duration;

use comfy_table::{Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table, Width, presets};
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::engine::RestReason;
use crate::intake::wire::ErrorBody;
use crate::model::{Outcome, Timestamp};

/// When and where the reader sits.
#[derive(Clone, Debug)]
pub(super) struct Here {
    pub(super) now: Timestamp,
    pub(super) zone: TimeZone,
    /// Columns of the terminal; `None` if there is none to fit into.
    pub(super) width: Option<u16>,
}

impl Here {
    /// `in 3 min`, `12 s ago`
    pub(super) fn relative(&self, at: Timestamp) -> String {
        if at > self.now {
            format!("in {}", span(at.since(self.now)))
        } else {
            format!("{} ago", span(self.now.since(at)))
        }
    }

    /// RFC 3339 in the reader's zone: exact, and can be given back to `--at`.
    pub(super) fn exact(&self, at: Timestamp) -> String {
        self.format(at, "%Y-%m-%dT%H:%M:%S%.3f%:z").replace("+00:00", "Z")
    }

    /// The time of day, or of another day.
    pub(super) fn short(&self, at: Timestamp) -> String {
        let day = |at| self.format(at, "%m-%d");
        let near = at.since(self.now).max(self.now.since(at)) < Duration::from_secs(24 * 3600);
        if near && day(at) == day(self.now) { self.format(at, "%H:%M:%S") } else { self.format(at, "%m-%d %H:%M") }
    }

    /// Both: when exactly, and how far that is.
    pub(super) fn both(&self, at: Timestamp) -> String {
        format!("{} ({})", self.exact(at), self.relative(at))
    }

    /// The time of day to the millisecond, with the day where it is another one.
    pub(super) fn moment(&self, at: Timestamp) -> String {
        let day = |at| self.format(at, "%Y-%m-%d");
        self.format(at, if day(at) == day(self.now) { "%H:%M:%S%.3f" } else { "%Y-%m-%d %H:%M:%S%.3f" })
    }

    /// The same, and how far that is: for sentences.
    pub(super) fn when(&self, at: Timestamp) -> String {
        format!("{} ({})", self.moment(at), self.relative(at))
    }

    /// Words in lines that fit, to stand behind a margin: each line but the first brings its own.
    pub(super) fn wrap(&self, text: &str, margin: usize) -> String {
        let Some(width) = self.width.map(usize::from) else { return text.to_owned() };
        let mut wrapped = String::with_capacity(text.len());
        let mut column = margin;
        for word in text.split(' ') {
            let length = word.chars().count();
            if column > margin && column + 1 + length > width {
                wrapped.push('\n');
                wrapped.extend(std::iter::repeat_n(' ', margin));
                column = margin;
            } else if !wrapped.is_empty() {
                wrapped.push(' ');
                column += 1;
            }
            wrapped.push_str(word);
            column += length;
        }
        wrapped
    }

    pub(super) fn format(&self, at: Timestamp, format: &str) -> String {
        match jiff::Timestamp::from_millisecond(at.millis()) {
            Ok(instant) => instant.to_zoned(self.zone.clone()).strftime(format).to_string(),
            Err(_) => at.to_string(),
        }
    }

    /// A table without lines: columns two blanks apart, a bold heading if there is one.
    pub(super) fn table<const N: usize>(&self, columns: [Column; N]) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).enforce_styling();
        table.style_text_only();
        if let Some(width) = self.width {
            // Trailing blanks of the last column are trimmed, so they may stand outside.
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width.saturating_add(2));
        }
        let heading = |column: &Column| match column.name {
            // Codes around nothing would only keep the blanks of an empty heading from being trimmed.
            "" => Cell::new(""),
            name => Cell::new(name).add_attribute(Attribute::Bold),
        };
        table.set_header(columns.iter().map(heading));
        for (column, shape) in table.column_iter_mut().zip(&columns) {
            column.set_padding((0, 2));
            match shape.kind {
                Kind::Number => {
                    column.set_cell_alignment(CellAlignment::Right);
                    column.set_constraint(ColumnConstraint::ContentWidth);
                }
                Kind::Word => {
                    column.set_constraint(ColumnConstraint::ContentWidth);
                }
                Kind::Wide(width, alignment) => {
                    column.set_cell_alignment(alignment);
                    column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(width + 2)));
                }
                Kind::Id => {
                    column.set_delimiter(JOINT);
                }
                Kind::Text => {}
            }
        }
        table
    }
}

/// Where an id may be broken: behind a dash or the like, which the table would swallow if it were the delimiter itself.
const JOINT: char = '\u{200b}';

/// The content of an [`Column::id`]: stays whole wherever it fits, and can be put together again where it does not.
pub(super) fn id(text: impl Display) -> Cell {
    let mut broken = String::new();
    for c in text.to_string().chars() {
        broken.push(c);
        if matches!(c, '-' | '_' | '.' | ' ') {
            broken.push(JOINT);
        }
    }
    Cell::new(broken)
}

/// A table as text.
pub(super) fn text(table: &Table) -> String {
    table.trim_fmt().replace(JOINT, "")
}

/// A table's rows as text, where its heading is not wanted.
pub(super) fn rows(table: &Table) -> String {
    let text = text(table);
    text.split_once('\n').map(|(_, rows)| rows.to_owned()).unwrap_or_default()
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    name: &'static str,
    kind: Kind,
}

/// What gives way when a table is too wide.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Number,
    Word,
    Wide(u16, CellAlignment),
    Id,
    Text,
}

impl Column {
    /// To the right, never broken.
    pub(super) const fn number(name: &'static str) -> Self {
        Self { name, kind: Kind::Number }
    }

    /// Never broken.
    pub(super) const fn word(name: &'static str) -> Self {
        Self { name, kind: Kind::Word }
    }

    /// At least so wide, so that tables can stand below each other.
    pub(super) const fn wide(name: &'static str, width: u16) -> Self {
        Self { name, kind: Kind::Wide(width, CellAlignment::Left) }
    }

    /// The same to the right.
    pub(super) const fn wide_number(name: &'static str, width: u16) -> Self {
        Self { name, kind: Kind::Wide(width, CellAlignment::Right) }
    }

    /// Broken at dashes; see [`id`].
    pub(super) const fn id(name: &'static str) -> Self {
        Self { name, kind: Kind::Id }
    }

    /// Broken at blanks.
    pub(super) const fn text(name: &'static str) -> Self {
        Self { name, kind: Kind::Text }
    }
}

/// `12 ms`, `3.2 s`, `85 s`, `17 min`, `5 h`, `12 d`: one unit, rounded, so that ten minutes are not "9 min" as soon as they began.
pub(super) fn span(span: Duration) -> String {
    let rounded = |millis: u128| (span.as_micros() + millis * 500) / (millis * 1000);
    match span.as_secs() {
        0 => format!("{} ms", rounded(1)),
        1..10 => format!("{}.{} s", rounded(100) / 10, rounded(100) % 10),
        10..120 => format!("{} s", rounded(1_000)),
        120..7_200 => format!("{} min", rounded(60_000)),
        7_200..172_800 => format!("{} h", rounded(3_600_000)),
        _ => format!("{} d", rounded(86_400_000)),
    }
}

/// The same for what is shorter than that as a rule: `0.18 ms`, `3.1 ms`.
pub(super) fn moment(short: Duration) -> String {
    let ms = short.as_secs_f64() * 1000.0;
    match short.as_micros() {
        1..995 => format!("{ms:.2} ms"),
        995..9_950 => format!("{ms:.1} ms"),
        _ => span(short),
    }
}

/// `812 KiB`, `1.3 GiB`
pub(super) fn bytes(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

/// How late the first DELETE left.
pub(super) fn late(lateness: Duration) -> String {
    if lateness.is_zero() { "on time".to_owned() } else { format!("{} late", span(lateness)) }
}

/// `1,204,000`
pub(super) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `+1•••••4444`: whom to ask about, not whom to call. Country codes are one digit long (1, 7) or begin with two telling ones.
pub(super) fn masked(phone: &str) -> String {
    let digits = phone.strip_prefix('+').unwrap_or(phone);
    let code = if digits.starts_with(['1', '7']) { 1 } else { 2 };
    match (digits.get(..code), digits.len().checked_sub(4).and_then(|from| digits.get(from..))) {
        (Some(code), Some(end)) if digits.len() > 6 => format!("+{code}•••••{end}"),
        _ => "•••••".to_owned(),
    }
}

/// A word of the wire as people write it: `REVOKE_ASKED` is "revoke asked".
pub(super) fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word.to_lowercase().replace('_', " "),
        _ => "?".to_owned(),
    }
}

/// Text from outside without what a terminal would obey.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The same for text of several lines.
pub(super) fn plain_lines(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

/// Why an agent and region rest.
pub(super) fn rest(reason: RestReason) -> &'static str {
    match reason {
        RestReason::TooManyRequests => "429, too many requests",
        RestReason::Unauthorized => "401, check the service account key",
        RestReason::Forbidden => "403, may this account act for the agent?",
        RestReason::Unreachable => "the platform can't be reached",
    }
}

/// `message (field)`
pub(super) fn refusal(error: &ErrorBody) -> String {
    let message = plain(&error.message);
    match &error.field {
        // Where the message names it already, once is enough.
        Some(field) if !message.contains(field.as_ref()) => format!("{message} ({})", plain(field)),
        _ => message,
    }
}

/// Good, bad, and in need of a second look.
pub(super) fn color(outcome: Outcome) -> Color {
    match outcome {
        Outcome::Delivered => Color::Green,
        Outcome::Revoked => Color::Cyan,
        Outcome::Unknown => Color::Yellow,
        Outcome::Failed => Color::Red,
        Outcome::Withdrawn | Outcome::Moot | Outcome::Shadow => Color::DarkGrey,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// 2026-11-22T12:00:00Z in Tokyo, on a terminal of 80 columns.
    pub(in crate::ctl) fn here() -> Here {
        let zone = TimeZone::fixed(jiff::tz::offset(9));
        Here { now: Timestamp::parse("2026-11-22T12:00:00Z").unwrap(), zone, width: Some(80) }
    }

    #[test]
    fn a_span_shows_one_unit() {
        let shown = |ms| span(Duration::from_millis(ms));
        let spans = [0, 12, 999, 1_000, 3_250, 10_000, 89_980, 120_000, 599_980, 7_200_000, 172_800_000];
        let expected = ["0 ms", "12 ms", "999 ms", "1.0 s", "3.3 s", "10 s", "90 s", "2 min", "10 min", "2 h", "2 d"];
        assert_eq!(spans.map(shown), expected);
        let moments = [0, 180, 999, 3_140, 9_990, 12_000].map(Duration::from_micros).map(moment);
        assert_eq!(moments, ["0 ms", "0.18 ms", "1.0 ms", "3.1 ms", "10 ms", "12 ms"]);
    }

    #[test]
    fn an_instant_is_shown_from_where_the_reader_sits() {
        let here = here();
        assert_eq!(here.relative(here.now.plus(Duration::from_secs(180))), "in 3 min");
        assert_eq!(here.relative(here.now.minus(Duration::from_secs(12))), "12 s ago");
        assert_eq!(here.exact(here.now), "2026-11-22T21:00:00.000+09:00");
        assert_eq!(here.short(here.now), "21:00:00");
        assert_eq!(here.short(here.now.plus(Duration::from_secs(4 * 3600))), "11-23 01:00");
        assert_eq!(here.short(here.now.minus(Duration::from_secs(365 * 86_400))), "11-22 21:00");
    }

    #[test]
    fn words_are_wrapped_and_what_follows_is_indented() {
        let narrow = Here { width: Some(10), ..here() };
        assert_eq!(narrow.wrap("one two three four", 2), "one two\n  three\n  four");
        assert_eq!(narrow.wrap("longer-than-that x", 2), "longer-than-that\n  x");
        assert_eq!(Here { width: None, ..here() }.wrap("one two three four", 2), "one two three four");
    }

    #[test]
    fn a_masked_phone_keeps_its_country_and_its_end() {
        assert_eq!(masked("+12223334444"), "+1•••••4444");
        assert_eq!(masked("+819012345678"), "+81•••••5678");
        for odd in ["", "+", "+123", "é", "+éééééé"] {
            masked(odd);
        }
    }

    #[test]
    fn numbers_are_grouped_and_words_are_readable() {
        assert_eq!([0, 999, 1_000, 1_204_000].map(count), ["0", "999", "1,000", "1,204,000"]);
        assert_eq!(word(&crate::model::What::RevokeAsked), "revoke asked");
        assert_eq!(plain("no\u{1b}[2J\nway"), "no [2J way");
    }
}
