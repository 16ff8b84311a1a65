//! How long things take, counted: for quantiles that people read, and for the buckets that Prometheus adds up.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Where the buckets end. What takes longer than the last is in none of them.
pub const BOUNDS: [Duration; 20] = [
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(300),
    Duration::from_secs(1800),
    Duration::from_secs(3600),
];

/// Up to a day, in microseconds, two digits: some thirty kilobytes.
const LONGEST_US: u64 = 24 * 3600 * 1_000_000;

/// Spans, as they are measured.
#[derive(Debug)]
pub struct Spans {
    histogram: Histogram<u64>,
    /// How many were no longer than each bound, and longer than the one before.
    buckets: [u64; BOUNDS.len()],
    sum: Duration,
    max: Duration,
}

impl Default for Spans {
    fn default() -> Self {
        let histogram = Histogram::new_with_max(LONGEST_US, 2).unwrap_or_else(|_| unreachable!("bounds are valid"));
        Self { histogram, buckets: Default::default(), sum: Duration::ZERO, max: Duration::ZERO }
    }
}

impl Spans {
    /// One more.
    pub fn record(&mut self, span: Duration) {
        self.histogram.saturating_record(u64::try_from(span.as_micros()).unwrap_or(u64::MAX));
        if let Some(bucket) = self.buckets.get_mut(BOUNDS.partition_point(|bound| *bound < span)) {
            *bucket += 1;
        }
        self.sum = self.sum.saturating_add(span);
        self.max = self.max.max(span);
    }

    /// What there is to tell of them.
    pub fn measured(&self) -> Measured {
        let quantile = |q| Duration::from_micros(self.histogram.value_at_quantile(q)).min(self.max);
        let up_to = self.buckets.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        Measured {
            count: self.histogram.len(),
            p50: quantile(0.5),
            p99: quantile(0.99),
            max: self.max,
            sum: self.sum,
            up_to: up_to.collect(),
        }
    }
}

/// What was measured.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Measured {
    /// How many.
    pub count: u64,
    /// Half of them took no longer than this; to 1 %, as the next.
    pub p50: Duration,
    /// 99 of 100 took no longer than this.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
    /// All together.
    pub sum: Duration,
    /// How many took no longer than each of the [`BOUNDS`]. Empty where nothing is measured.
    pub up_to: Vec<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_counts_in_its_bucket_and_in_all_above() {
        let mut spans = Spans::default();
        for ms in [0, 1, 2, 30, 100_000, 4_000_000] {
            spans.record(Duration::from_millis(ms));
        }
        let measured = spans.measured();
        let up_to = |bound| measured.up_to[BOUNDS.iter().position(|other| *other == bound).unwrap()];
        assert_eq!(up_to(Duration::from_micros(250)), 1);
        assert_eq!(up_to(Duration::from_millis(1)), 2);
        assert_eq!(up_to(Duration::from_millis(25)), 3);
        assert_eq!(up_to(Duration::from_secs(3600)), 5);
        assert_eq!((measured.count, measured.max), (6, Duration::from_secs(4000)));
        assert_eq!(measured.sum, Duration::from_millis(4_100_033));
        assert!((1..=3).contains(&measured.p50.as_millis()), "{:?}", measured.p50);
        assert_eq!(Spans::default().measured().p99, Duration::ZERO);
    }
}
