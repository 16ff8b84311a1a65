//! How long deliveries take, from what was observed.
//!
//! A message that was revoked after ten minutes tells that it had not arrived by then, and nothing of when it would have: it
//! is *censored*. Leaving such messages out, or taking them for never delivered, would make every ttl look like the right
//! one. The estimate of Kaplan and Meier (1958) uses both kinds: the share still undelivered after t is the product, over
//! all times up to t at which something arrived, of the share of those still in the race then that did not arrive.

use std::collections::BTreeMap;
use std::time::Duration;

use super::ledger::Bucket;

/// One step of the curve.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Point {
    bucket: Bucket,
    /// Still undelivered, and watched, when the bucket begins.
    at_risk: u64,
    /// The share still undelivered when it ends.
    undelivered: f64,
    /// Greenwood's sum up to there: the variance is this times the square of the share.
    greenwood: f64,
}

/// The share of messages that has not arrived, by the time since they were sent.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Curve {
    points: Vec<Point>,
    observed: u64,
}

/// What a curve says of one instant.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Undelivered {
    /// The share that has not arrived.
    pub share: f64,
    /// How far it may be off to either side, with 95 % confidence.
    pub margin: f64,
    /// Messages that were still watched then, and undelivered: what the figure rests on.
    pub at_risk: u64,
}

impl Curve {
    /// From how many arrived, and how many were taken out of the race undelivered, after which time.
    pub fn new(
        delivered: impl IntoIterator<Item = (Bucket, u64)>,
        censored: impl IntoIterator<Item = (Bucket, u64)>,
    ) -> Self {
        let mut steps: BTreeMap<Bucket, (u64, u64)> = BTreeMap::new();
        for (bucket, n) in delivered {
            steps.entry(bucket).or_default().0 += n;
        }
        for (bucket, n) in censored {
            steps.entry(bucket).or_default().1 += n;
        }
        let observed = steps.values().map(|(arrived, left)| arrived + left).sum();
        let (mut at_risk, mut undelivered, mut greenwood) = (observed, 1.0, 0.0);
        let mut points = Vec::with_capacity(steps.len());
        for (bucket, (arrived, left)) in steps {
            // Of one bucket, who arrives counts before who leaves: both were in the race when it began.
            let (n, d) = (at_risk as f64, arrived as f64);
            undelivered *= 1.0 - d / n;
            if d < n {
                greenwood += d / (n * (n - d));
            }
            points.push(Point { bucket, at_risk, undelivered, greenwood });
            at_risk -= arrived + left;
        }
        Self { points, observed }
    }

    /// How many messages it rests on.
    pub fn observed(&self) -> u64 {
        self.observed
    }

    /// How long the longest of them was watched. The curve says nothing of what comes after.
    pub fn horizon(&self) -> Duration {
        self.points.last().map_or(Duration::ZERO, |last| last.bucket.end())
    }

    /// What has not arrived so long after it was sent; `None` where nobody was watched so long. Within a bucket the line
    /// is straight.
    pub fn after(&self, span: Duration) -> Option<Undelivered> {
        if self.points.is_empty() || span >= self.horizon() {
            return None;
        }
        let next = self.points.partition_point(|point| point.bucket.end() <= span);
        let before = next.checked_sub(1).map(|last| self.points[last]);
        let point = self.points[next];
        let from = before.map_or(1.0, |before| before.undelivered);
        // Those who are censored within a bucket left at its end, as far as is known; who arrived did so all over it.
        let (start, end) = (point.bucket.start(), point.bucket.end());
        let within = span.saturating_sub(start).as_secs_f64() / (end - start).as_secs_f64();
        let share = from + (point.undelivered - from) * within;
        Some(Undelivered { share, margin: 1.96 * share * point.greenwood.sqrt(), at_risk: point.at_risk })
    }

    /// How much still arrives after that time, as a share of all, as far as the curve reaches.
    pub fn arrives_after(&self, span: Duration) -> Option<f64> {
        let last = self.points.last()?.undelivered;
        self.after(span).map(|here| (here.share - last).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn curve(observed: &[(u64, bool)]) -> Curve {
        let of = |wanted| observed.iter().filter(move |(_, arrived)| *arrived == wanted);
        let buckets = |wanted| of(wanted).map(|(after, _)| (Bucket::of(ms(*after)), 1)).collect::<Vec<_>>();
        Curve::new(buckets(true), buckets(false))
    }

    #[test]
    fn without_censoring_it_is_the_plain_share() {
        let curve = curve(&[(1, true), (2, true), (3, true), (4, true)]);
        let shares: Vec<f64> = (0..5).map(|at| curve.after(ms(at)).map_or(0.0, |here| here.share)).collect();
        assert_eq!(shares, [1.0, 1.0, 0.75, 0.5, 0.25]);
        assert_eq!((curve.observed(), curve.horizon()), (4, ms(5)));
    }

    #[test]
    fn who_was_revoked_is_neither_delivered_nor_lost() {
        // The example of a textbook: of six, one leaves undelivered at 3 and one at 5.
        let curve = curve(&[(1, true), (3, false), (4, true), (5, false), (6, true), (7, true)]);
        let share = |at| curve.after(ms(at)).unwrap().share;
        assert!((share(2) - 5.0 / 6.0).abs() < 1e-12);
        assert!((share(5) - 5.0 / 6.0 * 3.0 / 4.0).abs() < 1e-12);
        assert!((share(7) - 5.0 / 6.0 * 3.0 / 4.0 / 2.0).abs() < 1e-12);
        assert_eq!(curve.after(ms(8)), None, "nobody was watched so long");
    }

    #[test]
    fn nothing_observed_says_nothing() {
        assert_eq!(Curve::new([], []).after(ms(0)), None);
    }

    #[test]
    fn a_known_distribution_is_found_again_although_half_is_censored() {
        // Exponential with a mean of two minutes; one in two is revoked between one and three minutes.
        let mut random = fastrand::Rng::with_seed(7);
        let observed: Vec<(u64, bool)> = (0..50_000)
            .map(|_| {
                let arrives = (-random.f64().ln() * 120_000.0) as u64;
                let revoked = if random.bool() { random.u64(60_000..180_000) } else { 900_000 };
                (arrives.min(revoked), arrives <= revoked)
            })
            .collect();
        let curve = curve(&observed);
        for minutes in [1, 2, 5, 10] {
            let truth = (-f64::from(minutes) / 2.0).exp();
            let here = curve.after(Duration::from_secs(60 * u64::from(minutes as u32))).unwrap();
            assert!((here.share - truth).abs() < 0.01, "after {minutes} min: {here:?}, in truth {truth}");
            assert!(here.margin < 0.01 && here.at_risk > 0);
        }
    }

    proptest! {
        /// Against the definition, message by message, with instants that have a bucket each.
        #[test]
        fn it_is_the_product_of_kaplan_and_meier(observed in prop::collection::vec((0_u64..16, any::<bool>()), 1..60)) {
            let curve = curve(&observed);
            let mut share = 1.0;
            for at in 0..16 {
                let here = curve.after(ms(at));
                prop_assert!(here.is_none_or(|here| (here.share - share).abs() < 1e-9), "{at}: {here:?} {share}");
                prop_assert_eq!(here.is_none(), observed.iter().all(|(after, _)| *after < at));
                let at_risk = observed.iter().filter(|(after, _)| *after >= at).count();
                let arrive = observed.iter().filter(|(after, arrived)| *after == at && *arrived).count();
                if at_risk > 0 {
                    share *= 1.0 - arrive as f64 / at_risk as f64;
                }
            }
        }
    }
}
