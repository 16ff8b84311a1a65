//! Times as people write them: `"1h30m"`, `"21:00"`, `"Europe/Berlin"`, `2026-12-31T23:59:59+09:00`.

use std::time::Duration;

use jiff::SpanRelativeTo;
use jiff::civil::Time;
use jiff::fmt::friendly::SpanParser;
use jiff::tz::TimeZone;
use toml::de::DeValue;

use super::near;
use super::value::{Value, Wrong, text};
use crate::model::Timestamp;

/// In whole milliseconds, as everything that is stored; a day has 24 hours, so that it can't depend on a zone.
impl Value for Duration {
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let expected = "a duration such as \"10m\", \"1h30m\" or \"30d\"";
        if let Some(number) = value.as_integer() {
            return Err(Wrong::new("without its unit").help(format!("in seconds: \"{number}s\"")));
        }
        let text = text(value, expected)?;
        let span = SpanParser::new()
            .parse_span(text)
            .and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()))
            .map_err(|_| Wrong::new("not a duration").expected(expected))?;
        let span = Self::try_from(span).map_err(|_| Wrong::new("negative").expected(expected))?;
        if !span.subsec_nanos().is_multiple_of(1_000_000) {
            return Err(Wrong::new("too fine").expected("whole milliseconds, which is as fine as deadlines are"));
        }
        Ok(span)
    }

    fn show(&self) -> toml::Value {
        let mut rest = self.as_millis();
        let mut shown = String::new();
        for (unit, millis) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
            if rest >= millis {
                shown += &format!("{}{unit}", rest / millis);
                rest %= millis;
            }
        }
        if shown.is_empty() { "0s".into() } else { shown.into() }
    }
}

/// A duration where none at all makes no sense.
#[derive(Clone, Copy)]
pub(super) struct Positive(pub(super) Duration);

impl Value for Positive {
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match Duration::read(value)? {
            Duration::ZERO => Err(Wrong::new("no time at all").expected("a longer duration")),
            span => Ok(Self(span)),
        }
    }

    fn show(&self) -> toml::Value {
        self.0.show()
    }
}

/// An instant, with its offset: one without would mean another instant on another machine.
impl Value for Timestamp {
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let expected = "a date, time and offset such as 2026-12-31T23:59:59+09:00";
        let written = match value {
            DeValue::Datetime(at) => at.to_string(),
            _ => text(value, expected)?.to_owned(),
        };
        Self::parse(&written).map_err(|_| {
            let offset = matches!(value, DeValue::Datetime(at) if at.offset.is_some());
            Wrong::new(if offset { "out of range" } else { "not an instant" }).expected(expected)
        })
    }

    fn show(&self) -> toml::Value {
        self.to_string().into()
    }
}

/// A time of day, in quotes or as TOML's own local time.
impl Value for Time {
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let expected = "a time of day from \"00:00\" to \"23:59\"";
        let written = match value {
            DeValue::Datetime(at) if at.date.is_none() => at.to_string(),
            _ => text(value, expected)?.to_owned(),
        };
        ["%H:%M", "%H:%M:%S"]
            .iter()
            .find_map(|form| Self::strptime(form, &written).ok())
            .ok_or_else(|| Wrong::new("not a time of day").expected(expected))
    }

    fn show(&self) -> toml::Value {
        let form = if self.second() == 0 { "%H:%M" } else { "%H:%M:%S" };
        self.strftime(form).to_string().into()
    }
}

/// Two times of day.
pub(super) struct Between(pub(super) Time, pub(super) Time);

impl Value for Between {
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let expected = "two times of day such as \"22:00-08:00\"";
        let (from, to) = text(value, expected)?
            .split_once('-')
            .ok_or_else(|| Wrong::new("not a span of hours").expected(expected))?;
        let time = |text: &str| {
            Time::strptime("%H:%M", text.trim()).map_err(|_| Wrong::new("not a time of day").expected(expected))
        };
        let (from, to) = (time(from)?, time(to)?);
        if from == to {
            return Err(Wrong::new("no time at all").expected(expected));
        }
        Ok(Self(from, to))
    }

    fn show(&self) -> toml::Value {
        let [from, to] = [self.0, self.1].map(|at| at.strftime("%H:%M").to_string());
        format!("{from}-{to}").into()
    }
}

/// A zone by its name in the IANA database of this machine.
impl Value for TimeZone {
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let expected = "the name of a time zone such as \"Europe/Berlin\"";
        let name = text(value, expected)?;
        Self::get(name).map_err(|_| {
            let near = zones_near(name);
            let near: Vec<_> = near.iter().map(String::as_str).collect();
            let wrong = Wrong::new("not known to this machine");
            match near.as_slice() {
                [] => wrong.help("`timedatectl list-timezones` lists them; the package tzdata has them"),
                near => wrong.help(format!("did you mean {}?", near::list(near, '"'))),
            }
        })
    }

    fn show(&self) -> toml::Value {
        self.iana_name().unwrap_or("UTC").into()
    }
}

/// Up to three zones whose name, or city alone, is nearly the given one.
fn zones_near(name: &str) -> Vec<String> {
    let city = |name: &str| name.rsplit('/').next().unwrap_or_default().replace('_', " ");
    let wanted = city(name).replace('-', " ");
    let mut near: Vec<_> = jiff::tz::db()
        .available()
        .filter_map(|zone| {
            let whole = near::distance(name, zone.as_str());
            let part = near::distance(&wanted, &city(zone.as_str()));
            Some((whole.into_iter().chain(part).min()?, zone.to_string()))
        })
        .collect();
    near.sort_unstable();
    let best = near.first().map_or(0, |(wrong, _)| *wrong);
    near.into_iter().take_while(|(wrong, _)| *wrong == best).take(3).map(|(_, zone)| zone).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read<T: Value>(text: &str) -> Result<T, Wrong> {
        T::read(DeValue::parse(text).unwrap().get_ref())
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in
            [("10m", 600), ("1h30m", 5400), ("1h 30m", 5400), ("30d", 2_592_000), ("90 minutes", 5400)]
        {
            assert_eq!(read::<Duration>(&format!("{text:?}")).unwrap(), Duration::from_secs(seconds), "{text}");
        }
        for wrong in ["10", "-10m", "10m ago", "1 month", "1y", "10 parsecs", "", "1us"] {
            assert!(read::<Duration>(&format!("{wrong:?}")).is_err(), "{wrong:?} was accepted");
        }
        assert_eq!(read::<Duration>("600").unwrap_err().help.as_deref(), Some("in seconds: \"600s\""));
    }

    proptest! {
        #[test]
        fn a_duration_survives_being_written_and_read(millis in 0_u64..400 * 86_400_000) {
            let span = Duration::from_millis(millis);
            prop_assert_eq!(read::<Duration>(&span.show().to_string()).unwrap(), span);
        }
    }

    #[test]
    fn an_instant_has_an_offset_whichever_way_it_is_written() {
        let at = Timestamp::parse("2026-12-31T14:59:59Z").unwrap();
        for right in ["2026-12-31T23:59:59+09:00", "\"2026-12-31T23:59:59+09:00\"", "2026-12-31 14:59:59z"] {
            assert_eq!(read::<Timestamp>(right).unwrap(), at, "{right}");
        }
        assert_eq!(read::<Timestamp>(&at.show().to_string()).unwrap(), at);
        for wrong in ["2026-12-31T23:59:59", "2026-12-31", "23:59:59", "\"soon\"", "7"] {
            assert!(read::<Timestamp>(wrong).is_err(), "{wrong} was accepted");
        }
    }

    #[test]
    fn a_time_of_day_is_nothing_else() {
        for (right, shown) in [("\"21:00\"", "21:00"), ("21:00:00", "21:00"), ("\"23:59:59\"", "23:59:59")] {
            assert_eq!(read::<Time>(right).unwrap().show().as_str(), Some(shown));
        }
        for wrong in ["\"24:00\"", "\"9pm\"", "\"21\"", "21", "2026-12-31T21:00:00Z", "\"2026-12-31T21:00\""] {
            assert!(read::<Time>(wrong).is_err(), "{wrong} was accepted");
        }
    }

    #[test]
    fn a_zone_is_found_by_its_city_and_in_spite_of_a_slip() {
        assert_eq!(zones_near("Berlin"), ["Europe/Berlin"]);
        assert_eq!(zones_near("Europe/Berln"), ["Europe/Berlin"]);
        assert_eq!(zones_near("New York").first().map(String::as_str), Some("America/New_York"));
        assert!(zones_near("Middle-earth/Shire").is_empty());
    }
}
