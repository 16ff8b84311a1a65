//! Quiet hours: when no SMS may go out, on the recipient's clocks.

use std::fmt;

use jiff::civil::Time;
use jiff::tz::TimeZone;

use super::Timestamp;
use super::deadline::next_cutoff;

/// From one time of day to another, over midnight if the second is the earlier one.
#[derive(Clone, PartialEq, Debug)]
pub struct QuietHours {
    /// When they begin …
    pub from: Time,
    /// … and end. The same time of day would be none at all.
    pub to: Time,
    /// The zone of recipients who bring none of their own.
    pub zone: TimeZone,
}

impl QuietHours {
    /// When the quiet hours that `now` lies in end; `None` outside of them. `zone` is the recipient's own, if it is known.
    pub fn end(&self, now: Timestamp, zone: Option<&TimeZone>) -> Option<Timestamp> {
        let zone = zone.unwrap_or(&self.zone);
        let instant = jiff::Timestamp::from_millisecond(now.millis()).ok()?;
        let clock = zone.to_datetime(instant).time();
        let quiet = if self.from <= self.to {
            self.from <= clock && clock < self.to
        } else {
            self.from <= clock || clock < self.to
        };
        quiet.then(|| next_cutoff(now, self.to, zone))
    }
}

/// In the words of the configuration.
impl fmt::Display for QuietHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [from, to] = [self.from, self.to].map(|at| at.strftime("%H:%M"));
        write!(f, "no SMS from {from} to {to} {}", self.zone.iana_name().unwrap_or("UTC"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quiet(from: &str, to: &str, zone: &str) -> QuietHours {
        QuietHours { from: from.parse().unwrap(), to: to.parse().unwrap(), zone: TimeZone::get(zone).unwrap() }
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[test]
    fn a_night_ends_in_the_morning_of_the_recipient() {
        let night = quiet("22:00", "08:00", "Europe/Berlin");
        assert_eq!(night.end(at("2026-11-24T20:59:59Z"), None), None);
        for inside in ["2026-11-24T21:00:00Z", "2026-11-24T23:30:00Z", "2026-11-25T06:59:59Z"] {
            assert_eq!(night.end(at(inside), None), Some(at("2026-11-25T07:00:00Z")), "{inside}");
        }
        assert_eq!(night.end(at("2026-11-25T07:00:00Z"), None), None);
        let tokyo = TimeZone::get("Asia/Tokyo").unwrap();
        assert_eq!(night.end(at("2026-11-24T21:00:00Z"), Some(&tokyo)), Some(at("2026-11-24T23:00:00Z")));
    }

    #[test]
    fn a_rest_at_noon_does_not_reach_over_midnight() {
        let noon = quiet("12:00", "14:00", "UTC");
        assert_eq!(noon.end(at("2026-11-24T13:00:00Z"), None), Some(at("2026-11-24T14:00:00Z")));
        assert_eq!(noon.end(at("2026-11-24T23:00:00Z"), None), None);
    }

    proptest! {
        /// Against clocks that are looked at minute by minute, over a year with both changes of the clocks.
        #[test]
        fn the_end_is_the_first_minute_that_is_not_quiet(
            minute in 0_i64..366 * 24 * 60, from in 0_i8..24, to in 0_i8..24,
            zone in prop::sample::select(vec!["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]),
        ) {
            let hour = |hour| jiff::civil::time(hour, 0, 0, 0);
            let quiet = QuietHours { from: hour(from), to: hour(to), zone: TimeZone::get(zone).unwrap() };
            let start = at("2026-01-01T00:00:00Z").millis();
            let minute_at = |minute: i64| Timestamp::from_millis(start + minute * 60_000);
            let is_quiet = |minute: i64| {
                let clock = quiet.zone.to_datetime(jiff::Timestamp::from_millisecond(minute_at(minute).millis()).unwrap());
                let hours = (0..24).filter(|hour| {
                    let since = (hour + 24 - i16::from(from)) % 24;
                    since < (i16::from(to) + 24 - i16::from(from)) % 24
                });
                hours.into_iter().any(|hour| hour == i16::from(clock.hour()))
            };
            match quiet.end(minute_at(minute), None) {
                None => prop_assert!(!is_quiet(minute)),
                Some(end) => {
                    let first = (minute..).find(|minute| !is_quiet(*minute)).unwrap();
                    // Where the clocks are put back into quiet hours, they may be left a little early and never entered again.
                    prop_assert!(end <= minute_at(first), "{end} is after {}", minute_at(first));
                    prop_assert!(end > minute_at(minute));
                    prop_assert!(minute_at(first).since(end) <= std::time::Duration::from_secs(3600));
                }
            }
        }
    }
}
