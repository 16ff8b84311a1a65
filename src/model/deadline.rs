//! From an anchor to a deadline.
//!
//! Every rule is monotone: a later anchor never has an earlier deadline. Lanes rest on that (see [`super::lane`]), so it is
//! tested over random anchors in every zone that observes daylight saving.

use std::fmt;
use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::TimeZone;

use super::Timestamp;

/// How a use case gives its messages a deadline. Exactly one per use case.
#[derive(Clone, PartialEq, Debug)]
pub enum Rule {
    /// So long after the message was sent.
    Ttl(Duration),
    /// At one fixed instant, whenever it was sent.
    ExpiresAt(Timestamp),
    /// At the next such time of day after it was sent, in that zone.
    DailyCutoff {
        /// The time of day.
        at: Time,
        /// The zone it is meant in.
        zone: TimeZone,
    },
}

impl Rule {
    /// The deadline of a message sent at `anchor`.
    pub fn deadline(&self, anchor: Timestamp) -> Timestamp {
        match self {
            Self::Ttl(span) => anchor.plus(*span),
            Self::ExpiresAt(at) => *at,
            Self::DailyCutoff { at, zone } => next_cutoff(anchor, *at, zone),
        }
    }
}

/// In the words of the configuration.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ttl(span) => write!(f, "ttl {}", human(*span)),
            Self::ExpiresAt(at) => write!(f, "expires at {at}"),
            Self::DailyCutoff { at, zone } => {
                let shown = if at.second() == 0 { at.strftime("%H:%M") } else { at.strftime("%H:%M:%S") };
                write!(f, "daily at {shown} {}", zone.iana_name().unwrap_or("UTC"))
            }
        }
    }
}

impl Rule {
    /// Reads what `Display` writes.
    pub fn parse(words: &str) -> Option<Self> {
        if let Some(span) = words.strip_prefix("ttl ") {
            let span: jiff::SignedDuration = span.parse().ok()?;
            return Some(Self::Ttl(span.try_into().ok()?));
        }
        if let Some(at) = words.strip_prefix("expires at ") {
            return Some(Self::ExpiresAt(Timestamp::parse(at).ok()?));
        }
        let (at, zone) = words.strip_prefix("daily at ")?.split_once(' ')?;
        Some(Self::DailyCutoff { at: at.parse().ok()?, zone: TimeZone::get(zone).ok()? })
    }
}

/// A duration as people write it: `10m`, `1h 30m`.
pub fn human(span: Duration) -> String {
    jiff::SignedDuration::try_from(span).map_or_else(|_| format!("{span:?}"), |span| format!("{span:#}"))
}

/// The first instant strictly after `anchor` at which clocks in `zone` show `at`.
///
/// A time that a forward step of the clocks leaves out counts as the moment just after the gap as far in ("compatible"
/// in RFC 5545's sense), one that occurs twice as its first occurrence; so each civil day has exactly one cutoff, in order.
pub(super) fn next_cutoff(anchor: Timestamp, at: Time, zone: &TimeZone) -> Timestamp {
    let Ok(start) = jiff::Timestamp::from_millisecond(anchor.millis()) else {
        return Timestamp::MAX;
    };
    // Yesterday's cutoff can still be ahead where a whole civil day was skipped (Samoa, 2011-12-30).
    let mut day = start.to_zoned(zone.clone()).date().yesterday().ok();
    while let Some(date) = day {
        let Ok(cutoff) = zone.to_ambiguous_zoned(date.to_datetime(at)).compatible() else {
            return Timestamp::MAX;
        };
        if cutoff.timestamp() > start {
            return Timestamp::from_millis(cutoff.timestamp().as_millisecond());
        }
        day = date.tomorrow().ok();
    }
    Timestamp::MAX
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cutoff(zone: &str, time: &str) -> Rule {
        Rule::DailyCutoff { at: time.parse().unwrap(), zone: TimeZone::get(zone).unwrap() }
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[test]
    fn a_ttl_counts_from_the_send_time_and_a_fixed_date_does_not_care() {
        let sent = at("2026-11-22T17:00:00Z");
        assert_eq!(Rule::Ttl(Duration::from_secs(600)).deadline(sent), at("2026-11-22T17:10:00Z"));
        let end = at("2026-12-31T23:59:59+09:00");
        assert_eq!(Rule::ExpiresAt(end).deadline(sent), end);
    }

    #[test]
    fn a_cutoff_is_the_next_one_strictly_after_the_send_time() {
        let rule = cutoff("Europe/Berlin", "21:00");
        assert_eq!(rule.deadline(at("2026-11-22T19:59:59.999Z")), at("2026-11-22T20:00:00Z"));
        assert_eq!(rule.deadline(at("2026-11-22T20:00:00Z")), at("2026-11-23T20:00:00Z"));
    }

    #[test]
    fn a_cutoff_in_the_gap_moves_past_it_and_one_in_the_fold_is_its_first_occurrence() {
        let rule = cutoff("Europe/Berlin", "02:30");
        // 2026-03-29: 02:00 becomes 03:00. 2026-10-25: 03:00 becomes 02:00.
        assert_eq!(rule.deadline(at("2026-03-28T12:00:00Z")), at("2026-03-29T03:30:00+02:00"));
        assert_eq!(rule.deadline(at("2026-10-24T12:00:00Z")), at("2026-10-25T02:30:00+02:00"));
        assert_eq!(rule.deadline(at("2026-10-25T02:30:00+02:00")), at("2026-10-26T02:30:00+01:00"));
    }

    #[test]
    fn a_rule_is_read_as_it_is_written() {
        let rules = [
            Rule::Ttl(Duration::from_millis(93_784_005)),
            Rule::ExpiresAt(at("2026-12-31T14:59:59.500Z")),
            cutoff("Europe/Berlin", "21:00"),
            cutoff("America/New_York", "02:30:01"),
        ];
        for rule in rules {
            assert_eq!(Rule::parse(&rule.to_string()), Some(rule));
        }
    }

    proptest! {
        #[test]
        fn no_rule_runs_backwards_in_the_anchor(
            zone in prop::sample::select(vec![
                "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca", "Asia/Tokyo",
            ]),
            minute in 0_i64..1440,
            start in 1_200_000_000_000_i64..2_000_000_000_000,
            step in 0_i64..200_000_000,
        ) {
            let rule = cutoff(zone, &format!("{:02}:{:02}", minute / 60, minute % 60));
            let (first, second) = (Timestamp::from_millis(start), Timestamp::from_millis(start + step));
            prop_assert!(rule.deadline(first) <= rule.deadline(second));
            prop_assert!(rule.deadline(first) > first);
        }
    }
}
