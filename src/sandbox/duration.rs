//! Durations as people and as the platform write them.
//!
//! Flags, scenario files and the control API take `"250ms"`, `"10s"`, `"1m 30s"`; the platform's own `ttl` is stricter:
//! seconds with up to nine decimals and an `s`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error as _};

/// Longer than anything the sandbox is asked to wait for, and short enough that no sum of times overflows.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Reads a duration as people write it.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration (write it like \"250ms\", \"10s\" or \"1m 30s\")");
    let signed: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(signed).ok().filter(|d| *d <= LONGEST).ok_or_else(wrong)
}

/// Reads a duration of the platform's JSON mapping: `"3.5s"`.
pub(super) fn parse_platform(text: &str) -> Option<Duration> {
    let number = text.strip_suffix('s')?;
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 9 {
        return None;
    }
    let nanos = format!("{decimals:0<9}").parse().ok()?;
    Some(Duration::new(whole.parse().ok()?, nanos))
}

/// A duration inside a JSON or TOML document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written(pub(super) Duration);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).map(Written).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_durations_in_many_ways() {
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("600s"), Ok(Duration::from_secs(600)));
        for wrong in ["", "10", "-3s", "soon", "400000000h"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_platform_writes_them_in_one() {
        assert_eq!(parse_platform("3.5s"), Some(Duration::from_millis(3500)));
        assert_eq!(parse_platform("86400s"), Some(Duration::from_secs(86_400)));
        for wrong in ["3.5", "s", ".5s", "5.s", "-1s", "1m", "1.0000000001s", "99999999999999999999s"] {
            assert_eq!(parse_platform(wrong), None, "{wrong}");
        }
    }
}
