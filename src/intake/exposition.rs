//! Prometheus' text format, version 0.0.4: the one that every scraper, and `promtool check metrics`, reads.
//!
//! What is shown is a copy of plain counters, made for one scrape; so this is a writer and no registry. The client library
//! (prometheus-client) writes OpenMetrics only, under whose names `promtool` of today finds no help.

use std::fmt::{Display, Write};
use std::time::Duration;

use crate::model::Timestamp;
use crate::spans::{BOUNDS, Measured};

/// What a scrape gets to read.
#[derive(Debug, Default)]
pub(super) struct Exposition(String);

/// What kind of number it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The samples of one name.
pub(super) struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Exposition {
    /// Begins the samples of a name. There may be none.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &'static str) -> Family<'_> {
        debug_assert!(matches!(kind, Kind::Counter) == name.ends_with("_total"), "{name}");
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing to a string does not fail; nor below.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Family { text: &mut self.0, name }
    }

    /// A name with one sample.
    pub(super) fn one(&mut self, name: &'static str, kind: Kind, help: &'static str, value: impl Display) {
        self.family(name, kind, help).sample(&[], value);
    }

    /// What was measured.
    pub(super) fn histogram(&mut self, name: &'static str, help: &'static str, measured: &Measured) {
        let mut family = self.family(name, Kind::Histogram, help);
        for (bound, count) in BOUNDS.iter().zip(&measured.up_to) {
            family.write("_bucket", &[("le", &bound.as_secs_f64())], count);
        }
        family.write("_bucket", &[("le", &"+Inf")], measured.count);
        family.write("_sum", &[], seconds(measured.sum));
        family.write("_count", &[], measured.count);
    }

    pub(super) fn text(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// One sample.
    pub(super) fn sample(&mut self, labels: &[(&str, &dyn Display)], value: impl Display) {
        self.write("", labels, value);
    }

    fn write(&mut self, suffix: &str, labels: &[(&str, &dyn Display)], value: impl Display) {
        let Self { text, name } = self;
        let _ = write!(text, "{name}{suffix}");
        for (place, (label, value)) in labels.iter().enumerate() {
            let open = if place == 0 { '{' } else { ',' };
            let _ = write!(text, "{open}{label}=\"{}\"", escaped(&value.to_string()));
        }
        if !labels.is_empty() {
            text.push('}');
        }
        let _ = writeln!(text, " {value}");
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Prometheus' unit of spans.
pub(super) fn seconds(span: Duration) -> f64 {
    span.as_secs_f64()
}

/// And of instants: seconds since the epoch.
pub(super) fn unix(at: Timestamp) -> f64 {
    at.millis() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spans::Spans;

    #[test]
    fn what_is_written_reads_as_the_format_wants_it() {
        let mut all = Exposition::default();
        all.family("a_total", Kind::Counter, "Things.").sample(&[("name", &"a\"b\\c\nd"), ("n", &1)], 2);
        let mut spans = Spans::default();
        spans.record(Duration::from_millis(3));
        all.histogram("b_seconds", "Times.", &spans.measured());
        let text = all.text();
        assert!(text.starts_with(
            "# HELP a_total Things.\n# TYPE a_total counter\na_total{name=\"a\\\"b\\\\c\\nd\",n=\"1\"} 2\n\
             # HELP b_seconds Times.\n# TYPE b_seconds histogram\nb_seconds_bucket{le=\"0.00025\"} 0\n"
        ));
        assert!(text.contains("b_seconds_bucket{le=\"0.0025\"} 0\nb_seconds_bucket{le=\"0.005\"} 1\n"), "{text}");
        assert!(text.ends_with("b_seconds_bucket{le=\"+Inf\"} 1\nb_seconds_sum 0.003\nb_seconds_count 1\n"), "{text}");
    }
}
