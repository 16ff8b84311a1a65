//! What each command takes, and how the words of people become values.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error as WordError;
use serde_json::value::RawValue;

use crate::engine::{OnConflict, StateKind};
use crate::model::{AgentId, MessageId, Region, Timestamp, UseCase};

/// Which message.
#[derive(Debug, Args)]
pub(in crate::ctl) struct MessageRef {
    /// Who sent it, with or without @rbm.goog
    #[arg(value_parser = AgentId::new)]
    pub(in crate::ctl) agent: AgentId,
    /// The id its agent gave it
    #[arg(value_parser = MessageId::new)]
    pub(in crate::ctl) message: MessageId,
}

#[derive(Debug, Args)]
#[command(override_usage = "\
revokectl register <AGENT> <MESSAGE> --phone <E164> --use-case <NAME>
       revokectl register --file <FILE>")]
pub(in crate::ctl) struct RegisterArgs {
    #[command(flatten)]
    pub(in crate::ctl) one: Box<OneMessage>,
    /// Register one JSON object per line from here; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "OneMessage")]
    pub(in crate::ctl) file: Option<PathBuf>,
}

/// One message, from the command line.
#[derive(Debug, Args)]
pub(in crate::ctl) struct OneMessage {
    /// Who sent it, with or without @rbm.goog
    #[arg(value_parser = AgentId::new, required_unless_present = "file")]
    pub(in crate::ctl) agent: Option<AgentId>,
    /// The id its agent gave it
    #[arg(value_parser = MessageId::new, required_unless_present = "file")]
    pub(in crate::ctl) message: Option<MessageId>,
    /// The handset, as +12223334444
    #[arg(long, value_name = "E164", required_unless_present = "file")]
    pub(in crate::ctl) phone: Option<String>,
    /// The policy that gives it its deadline
    #[arg(long, value_name = "NAME", required_unless_present = "file")]
    pub(in crate::ctl) use_case: Option<String>,
    /// When it was sent, RFC 3339 [default: now]
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    pub(in crate::ctl) send_time: Option<Timestamp>,
    /// A deadline of its own, RFC 3339
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse, conflicts_with = "ttl")]
    pub(in crate::ctl) expire_time: Option<Timestamp>,
    /// Or a time to live of its own, such as 10m or 1h30m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(in crate::ctl) ttl: Option<Duration>,
    /// The region it was sent through [default: the daemon's]
    #[arg(long, value_parser = word::<Region>(&["global", "us", "europe", "asia"]))]
    pub(in crate::ctl) region: Option<Region>,
    /// A word to find it by; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    pub(in crate::ctl) tags: Vec<String>,
    /// Comes back with the SMS grant, as it is
    #[arg(long, value_name = "JSON", value_parser = json)]
    pub(in crate::ctl) fallback: Option<Box<RawValue>>,
    /// The recipient's time zone, for quiet hours [default: the use case's]
    #[arg(long, value_name = "ZONE")]
    pub(in crate::ctl) time_zone: Option<String>,
    /// What to do if it is registered already [default: replace]
    #[arg(
        long,
        value_name = "WHAT",
        value_parser = word::<OnConflict>(&["replace", "keep", "earliest", "reject"]),
    )]
    pub(in crate::ctl) on_conflict: Option<OnConflict>,
}

#[derive(Debug, Args)]
pub(in crate::ctl) struct ListArgs {
    /// Only in this state
    #[arg(
        long,
        value_parser = word::<StateKind>(&["pending", "revoking", "settling", "settled"]),
    )]
    pub(in crate::ctl) state: Option<StateKind>,
    /// Only of this use case
    #[arg(long, value_name = "NAME", value_parser = UseCase::new)]
    pub(in crate::ctl) use_case: Option<UseCase>,
    /// Only of this agent
    #[arg(long, value_parser = AgentId::new)]
    pub(in crate::ctl) agent: Option<AgentId>,
    /// Only with this tag
    #[arg(long)]
    pub(in crate::ctl) tag: Option<String>,
    /// Not more than this many [default: 100 in a table, all with --json]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(in crate::ctl) limit: Option<u64>,
}

/// Which messages; all that is given must match.
#[derive(Debug, Default, Args)]
#[group(id = "of", required = true, multiple = true)]
pub(in crate::ctl) struct SelectorArgs {
    /// Of this use case
    #[arg(long, value_name = "NAME", value_parser = UseCase::new)]
    pub(in crate::ctl) use_case: Option<UseCase>,
    /// Of this agent
    #[arg(long, value_parser = AgentId::new)]
    pub(in crate::ctl) agent: Option<AgentId>,
    /// With this tag
    #[arg(long)]
    pub(in crate::ctl) tag: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::ctl) struct HoldArgs {
    #[command(flatten)]
    pub(in crate::ctl) of: SelectorArgs,
    /// Why, for whoever wonders later
    #[arg(long, value_name = "WORDS")]
    pub(in crate::ctl) reason: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    override_usage = "revokectl release <HOLD>\n       revokectl release [--use-case <NAME>] [--agent <AGENT>] [--tag <TAG>]"
)]
pub(in crate::ctl) struct ReleaseArgs {
    /// Its number
    #[arg(value_name = "HOLD", group = "of", conflicts_with_all = ["use_case", "agent", "tag"])]
    pub(in crate::ctl) id: Option<u64>,
    #[command(flatten)]
    pub(in crate::ctl) of: SelectorArgs,
}

#[derive(Debug, Args)]
pub(in crate::ctl) struct RescheduleArgs {
    #[command(flatten)]
    pub(in crate::ctl) of: MessageRef,
    #[command(flatten)]
    pub(in crate::ctl) to: NewDeadline,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(in crate::ctl) struct NewDeadline {
    /// The new deadline, RFC 3339
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    pub(in crate::ctl) at: Option<Timestamp>,
    /// So long from now, such as 10m or 1h30m
    #[arg(long = "in", value_name = "DURATION", value_parser = duration)]
    pub(in crate::ctl) within: Option<Duration>,
}

#[derive(Debug, Args)]
pub(in crate::ctl) struct OutcomesArgs {
    /// Those behind this cursor [default: 0, the oldest that is kept]
    #[arg(long, value_name = "CURSOR", default_value_t, hide_default_value = true)]
    pub(in crate::ctl) after: u64,
    /// Go on with new ones as they come, also after a restart of the daemon
    #[arg(long)]
    pub(in crate::ctl) follow: bool,
    /// Only of this agent
    #[arg(long, value_parser = AgentId::new)]
    pub(in crate::ctl) agent: Option<AgentId>,
    /// Acknowledge what was printed
    #[arg(long)]
    pub(in crate::ctl) ack: bool,
}

#[derive(Debug, Args)]
pub(in crate::ctl) struct ForecastArgs {
    /// What each bar is: half an hour of minutes, a day of hours, or 30 days
    #[arg(long, value_name = "SPAN", value_enum, default_value_t = By::Minute)]
    pub(in crate::ctl) by: By,
    /// Only of this use case
    #[arg(long, value_name = "NAME", value_parser = UseCase::new)]
    pub(in crate::ctl) use_case: Option<UseCase>,
}

#[derive(Debug, Args)]
pub(in crate::ctl) struct ReportArgs {
    /// How far back, such as 2h or 7d
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "24h")]
    pub(in crate::ctl) since: Duration,
}

#[derive(Debug, Args)]
pub(in crate::ctl) struct AdviseArgs {
    /// How far back, such as 2h or 7d
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "7d")]
    pub(in crate::ctl) since: Duration,
    /// Only of this use case
    #[arg(long, value_name = "NAME", value_parser = UseCase::new)]
    pub(in crate::ctl) use_case: Option<UseCase>,
}

/// The length of a bar.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(in crate::ctl) enum By {
    Minute,
    Hour,
    Day,
}

/// `10m`, `1h 30m`, `2 days` or `600s`, as people write durations. A day is 24 hours.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration such as 10m, 1h30m or 2d");
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    let exact = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    exact.try_into().map_err(|_| wrong())
}

fn json(text: &str) -> Result<Box<RawValue>, String> {
    serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))
}

/// One of the wire's words, in lower case; they stand in the help.
fn word<T>(words: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: for<'de> Deserialize<'de> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(words).try_map(|word| {
        let read = |word: &str| T::deserialize(IntoDeserializer::<WordError>::into_deserializer(word));
        read(&word).or_else(|_| read(&word.to_ascii_uppercase()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_people_do_and_as_the_wire_does() {
        for (text, seconds) in [("10m", 600), ("600s", 600), ("1h30m", 5400), ("2 days", 172_800), ("PT1M", 60)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "10", "soon", "-5m", "1 month"] {
            assert!(duration(wrong).is_err(), "{wrong:?} was accepted");
        }
    }
}
