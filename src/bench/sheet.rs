//! What a bench found: named figures, as JSON for programs and as tables for people, in the same words.

use std::fmt;

use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::Value;

/// Figures in the order in which they are read.
#[derive(Clone, Debug, Default)]
pub struct Sheet {
    figures: Vec<(&'static str, Figure)>,
    broken: Option<String>,
}

#[derive(Clone, Debug)]
enum Figure {
    One(Value),
    /// All of the same names.
    Rows(Vec<Sheet>),
}

impl Sheet {
    pub(super) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.figures.push((name, Figure::One(value.into())));
        self
    }

    pub(super) fn rows(mut self, name: &'static str, rows: Vec<Self>) -> Self {
        self.figures.push((name, Figure::Rows(rows)));
        self
    }

    /// Middle, tail and worst of times in microseconds, in milliseconds.
    pub(super) fn times(self, times: &Histogram<u64>) -> Self {
        let ms = |micros: u64| round(micros as f64 / 1000.0);
        self.with("p50Ms", ms(times.value_at_quantile(0.5)))
            .with("p99Ms", ms(times.value_at_quantile(0.99)))
            .with("p999Ms", ms(times.value_at_quantile(0.999)))
            .with("maxMs", ms(times.max()))
    }

    /// A promise was not kept: which.
    pub(super) fn broken(mut self, why: Option<String>) -> Self {
        self.broken = why;
        self
    }

    /// The promise that was not kept, if one was not.
    pub fn broke(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// These figures before those of `other`.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.figures.extend(other.figures);
        self.broken = self.broken.or(other.broken);
        self
    }
}

/// As many digits as mean something.
pub(super) fn round(value: f64) -> f64 {
    if value.abs() >= 1000.0 { value.round() } else { (value * 1000.0).round() / 1000.0 }
}

impl Serialize for Sheet {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.figures.len()))?;
        for (name, figure) in &self.figures {
            match figure {
                Figure::One(value) => map.serialize_entry(name, value)?,
                Figure::Rows(rows) => map.serialize_entry(name, rows)?,
            }
        }
        map.end()
    }
}

impl fmt::Display for Sheet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut facts = Table::new();
        facts.load_style(presets::NOTHING);
        for (name, figure) in &self.figures {
            if let Figure::One(value) = figure {
                facts.add_row([words(name), text(value)]);
            }
        }
        write!(f, "{}", trimmed(&facts))?;
        for (_, figure) in &self.figures {
            let Figure::Rows(rows) = figure else { continue };
            let Some(first) = rows.first() else { continue };
            let mut table = Table::new();
            table.load_style(presets::NOTHING);
            table.set_header(first.figures.iter().map(|(name, _)| words(name).to_uppercase()));
            for row in rows {
                table.add_row(row.figures.iter().map(|(_, figure)| match figure {
                    Figure::One(value) => text(value),
                    Figure::Rows(rows) => rows.len().to_string(),
                }));
            }
            for column in table.column_iter_mut().skip(1) {
                column.set_cell_alignment(CellAlignment::Right);
            }
            write!(f, "\n\n{}", trimmed(&table))?;
        }
        Ok(())
    }
}

fn trimmed(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// `p50Ms` is read as "p50 ms".
fn words(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            words.push(' ');
        }
        words.push(c.to_ascii_lowercase());
    }
    words
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_u64() {
            Some(count) => grouped(count),
            None => number.to_string(),
        },
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

/// 1234567 is read as 1,234,567.
pub(super) fn grouped(count: u64) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_people_read_the_same_figures() {
        let row = |load: &str, rate: u64| Sheet::default().with("load", load).with("perSecond", rate);
        let sheet = Sheet::default().with("cpus", 2).rows("loads", vec![row("one by one", 42_000), row("pairs", 7)]);
        let json = serde_json::to_string(&sheet).unwrap();
        assert_eq!(
            json,
            r#"{"cpus":2,"loads":[{"load":"one by one","perSecond":42000},{"load":"pairs","perSecond":7}]}"#
        );
        let screen = sheet.to_string();
        for part in ["cpus", "LOAD", "PER SECOND", "42,000", "pairs"] {
            assert!(screen.contains(part), "{screen}");
        }
    }

    #[test]
    fn large_numbers_are_grouped_by_three() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
