//! Wall-clock instants as they are stored and promised, and the two ways in which people and programs write durations.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A wall-clock instant in milliseconds since the Unix epoch.
///
/// Eight bytes instead of chrono's twelve, and big-endian order is time order: that is how it stands in store keys.
/// On every interface it is RFC 3339 in UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The latest instant that can be written as RFC 3339 (9999-12-31T23:59:59.999Z).
    pub const MAX: Self = Self(253_402_300_799_999);
    /// The Unix epoch: earlier than anything that happens here.
    pub const EPOCH: Self = Self(0);

    /// From milliseconds since the Unix epoch, clamped to what RFC 3339 can write.
    pub const fn from_millis(millis: i64) -> Self {
        if millis < 0 {
            Self::EPOCH
        } else if millis > Self::MAX.0 {
            Self::MAX
        } else {
            Self(millis)
        }
    }

    /// Milliseconds since the Unix epoch; never negative.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// This instant and `span` more; saturates at [`Timestamp::MAX`].
    pub fn plus(self, span: Duration) -> Self {
        Self::from_millis(self.0.saturating_add(millis_of(span)))
    }

    /// This instant less `span`; saturates at the epoch.
    pub fn minus(self, span: Duration) -> Self {
        Self::from_millis(self.0.saturating_sub(millis_of(span)))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The same instant for chrono.
    pub fn to_chrono(self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.0).unwrap_or(DateTime::UNIX_EPOCH)
    }

    /// Reads RFC 3339 with any offset; what is finer than a millisecond is cut off.
    ///
    /// # Errors
    /// A sentence for the person who wrote the value.
    pub fn parse(text: &str) -> Result<Self, String> {
        let at = DateTime::parse_from_rfc3339(text)
            .map_err(|_| format!("{text:?} is not an RFC 3339 time such as 2026-12-31T23:59:59Z"))?;
        Ok(at.to_utc().into())
    }
}

fn millis_of(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(at: DateTime<Utc>) -> Self {
        Self::from_millis(at.timestamp_millis())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_chrono().to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

/// Durations as the platform writes them in JSON: seconds with up to nine digits after the point and an `s`
/// (<https://protobuf.dev/programming-guides/json/>). For `#[serde(with = "wire_duration")]`.
pub mod wire_duration {
    use super::*;

    /// `"600s"`, `"3.5s"`.
    pub fn show(span: Duration) -> String {
        let nanos = span.subsec_nanos();
        if nanos == 0 {
            return format!("{}s", span.as_secs());
        }
        let fraction = format!("{nanos:09}");
        format!("{}.{}s", span.as_secs(), fraction.trim_end_matches('0'))
    }

    /// Reads what [`show`] writes.
    ///
    /// # Errors
    /// A sentence for the person who wrote the value.
    pub fn parse(text: &str) -> Result<Duration, String> {
        let wrong = || format!("{text:?} is not a duration such as \"600s\" or \"3.5s\"");
        let digits = text.strip_suffix('s').ok_or_else(wrong)?;
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let numeric = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !numeric(whole) || !numeric(fraction) || fraction.len() > 9 {
            return Err(wrong());
        }
        let secs = whole.parse::<u64>().map_err(|_| wrong())?;
        let nanos = format!("{fraction:0<9}").parse::<u32>().map_err(|_| wrong())?;
        Ok(Duration::new(secs, nanos))
    }

    /// For serde.
    pub fn serialize<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&show(*span))
    }

    /// For serde.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_survives_being_written_and_read() {
        let at = Timestamp::parse("2026-12-31T23:59:59.123456+09:00").unwrap();
        assert_eq!(at.to_string(), "2026-12-31T14:59:59.123Z");
        assert_eq!(Timestamp::parse(&at.to_string()), Ok(at));
        assert!(Timestamp::parse("tomorrow").unwrap_err().contains("RFC 3339"));
    }

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        assert_eq!(Timestamp::MAX.plus(Duration::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::EPOCH.minus(Duration::MAX), Timestamp::EPOCH);
        assert_eq!(Timestamp::EPOCH.since(Timestamp::MAX), Duration::ZERO);
    }

    #[test]
    fn wire_durations_follow_the_protobuf_mapping() {
        for (text, millis) in [("600s", 600_000), ("3.5s", 3_500), ("0.001s", 1)] {
            let span = wire_duration::parse(text).unwrap();
            assert_eq!(span, Duration::from_millis(millis));
            assert_eq!(wire_duration::show(span), text);
        }
        for wrong in ["", "s", "10", "10m", "-1s", "1.s", ".5s", "1.0000000001s", "1e3s", "+1s"] {
            assert!(wire_duration::parse(wrong).is_err(), "{wrong:?} was accepted");
        }
    }
}
