//! The command line. Comments here are what `--help` prints, so they are short, and wrapped for 80 columns.
//!
//! What has a form of its own (a time, a duration, an id) is checked here and answered with the usage; what only the daemon
//! can judge (a use case, a deadline that has passed, a phone) goes to it as it is.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::Error as WordError;
use serde_json::value::RawValue;

use crate::engine::{OnConflict, StateKind};
use crate::model::{AgentId, MessageId, Region, Timestamp, UseCase};

/// Ask the daemon that revokes undelivered RCS messages
#[derive(Debug, Parser)]
#[command(
    name = "revokectl",
    version,
    max_term_width = 80,
    after_help = "\
Examples:
  revokectl status
  revokectl register my-bot otp-7731 --phone +12223334444 --use-case otp
  revokectl outcomes --follow

Exit codes: 0 done · 1 refused by the daemon · 64 wrong usage · 66 unreadable
file · 69 no daemon answers · 74 output failed · 76 answer not understood"
)]
pub(super) struct Arguments {
    /// The daemon's socket [default: /run/revoked/revoked.sock, or the same
    /// name in $XDG_RUNTIME_DIR]
    #[arg(long, global = true, value_name = "PATH", env = "REVOKED_SOCKET", hide_env = true, help_heading = GLOBAL)]
    pub(super) socket: Option<PathBuf>,
    /// JSON, one value per line, in the daemon's own words
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(super) json: bool,
    /// No colours (nor with NO_COLOR set, or when piped)
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub(super) no_color: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

const GLOBAL: &str = "Global options";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Register a message that was sent, or many from a file
    #[command(after_help = "\
Examples:
  revokectl register my-bot otp-7731 --phone +12223334444 --use-case otp
  revokectl register my-bot promo-9 --phone +12223334444 --use-case promo \\
      --ttl 2h --tag spring --fallback '{\"text\":\"20% off until 9 pm\"}'
  revokectl register --file sent.ndjson

A file holds one JSON object per line, with the fields of POST /v1/messages:
  {\"agentId\":\"my-bot\",\"messageId\":\"m1\",\"phone\":\"+12223334444\",\"useCase\":\"otp\"}
Lines that are refused are named, harm no other, and make the exit code 1.")]
    Register(RegisterArgs),
    /// Show everything about a message, with its story
    #[command(after_help = "\
Examples:
  revokectl get my-bot otp-7731
  revokectl get my-bot otp-7731 --json | jq .deadline")]
    Get(MessageRef),
    /// List messages
    #[command(after_help = "\
Examples:
  revokectl list --state pending --use-case otp
  revokectl list --tag spring --json > spring.ndjson")]
    List(ListArgs),
    /// Take a message back before its deadline: no revocation, no SMS
    #[command(after_help = "\
Example:
  revokectl withdraw my-bot otp-7731")]
    Withdraw(MessageRef),
    /// Revoke a message now instead of at its deadline
    #[command(after_help = "\
Example:
  revokectl revoke my-bot otp-7731")]
    Revoke(MessageRef),
    /// Give a message another deadline
    #[command(after_help = "\
Examples:
  revokectl reschedule my-bot promo-9 --in 10m
  revokectl reschedule my-bot promo-9 --at 2026-12-31T23:59:59+09:00")]
    #[command(override_usage = "revokectl reschedule <AGENT> <MESSAGE> <--at <TIME>|--in <DURATION>>")]
    Reschedule(RescheduleArgs),
    /// Hand in delivery events of the platform
    #[command(after_help = "\
Takes the decoded event or the platform's whole push envelope: a single one over
as many lines as it likes, or one per line.

Examples:
  revokectl events event.json
  tail -f webhook.ndjson | revokectl events")]
    Events {
        /// Where they are; - is standard input
        #[arg(default_value = "-", value_name = "FILE")]
        file: PathBuf,
    },
    /// Show how messages ended, and which SMS may go out
    #[command(after_help = "\
Examples:
  revokectl outcomes --after 1042
  revokectl outcomes --follow --agent my-bot --json

The cursor of an outcome is what to go on from, and what to acknowledge. With
--ack that is done as soon as it has been printed; a program that must not lose
an SMS runs `revokectl ack` itself, once the SMS is on its way.")]
    Outcomes(OutcomesArgs),
    /// Acknowledge outcomes up to a cursor
    #[command(after_help = "\
An SMS grant that was acknowledged is not taken back any more, even if the
message turns out to be delivered.

Example:
  revokectl ack 1042 --agent my-bot")]
    Ack {
        /// The last outcome that was taken care of
        cursor: u64,
        /// Only this agent's outcomes [default: all agents']
        #[arg(long, value_parser = AgentId::new)]
        agent: Option<AgentId>,
    },
    /// Show how the daemon is doing
    #[command(after_help = "\
Examples:
  revokectl status
  watch -n 1 revokectl status")]
    Status,
}

/// Which message.
#[derive(Debug, Args)]
pub(super) struct MessageRef {
    /// Who sent it, with or without @rbm.goog
    #[arg(value_parser = AgentId::new)]
    pub(super) agent: AgentId,
    /// The id its agent gave it
    #[arg(value_parser = MessageId::new)]
    pub(super) message: MessageId,
}

#[derive(Debug, Args)]
#[command(override_usage = "\
revokectl register <AGENT> <MESSAGE> --phone <E164> --use-case <NAME>
       revokectl register --file <FILE>")]
pub(super) struct RegisterArgs {
    #[command(flatten)]
    pub(super) one: Box<OneMessage>,
    /// Register one JSON object per line from here; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "OneMessage")]
    pub(super) file: Option<PathBuf>,
}

/// One message, from the command line.
#[derive(Debug, Args)]
pub(super) struct OneMessage {
    /// Who sent it, with or without @rbm.goog
    #[arg(value_parser = AgentId::new, required_unless_present = "file")]
    pub(super) agent: Option<AgentId>,
    /// The id its agent gave it
    #[arg(value_parser = MessageId::new, required_unless_present = "file")]
    pub(super) message: Option<MessageId>,
    /// The handset, as +12223334444
    #[arg(long, value_name = "E164", required_unless_present = "file")]
    pub(super) phone: Option<String>,
    /// The policy that gives it its deadline
    #[arg(long, value_name = "NAME", required_unless_present = "file")]
    pub(super) use_case: Option<String>,
    /// When it was sent, RFC 3339 [default: now]
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    pub(super) send_time: Option<Timestamp>,
    /// A deadline of its own, RFC 3339
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse, conflicts_with = "ttl")]
    pub(super) expire_time: Option<Timestamp>,
    /// Or a time to live of its own, such as 10m or 1h30m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(super) ttl: Option<Duration>,
    /// The region it was sent through [default: the daemon's]
    #[arg(long, value_parser = word::<Region>(&["global", "us", "europe", "asia"]))]
    pub(super) region: Option<Region>,
    /// A word to find it by; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    pub(super) tags: Vec<String>,
    /// Comes back with the SMS grant, as it is
    #[arg(long, value_name = "JSON", value_parser = json)]
    pub(super) fallback: Option<Box<RawValue>>,
    /// What to do if it is registered already [default: replace]
    #[arg(
        long,
        value_name = "WHAT",
        value_parser = word::<OnConflict>(&["replace", "keep", "earliest", "reject"]),
    )]
    pub(super) on_conflict: Option<OnConflict>,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Only in this state
    #[arg(
        long,
        value_parser = word::<StateKind>(&["pending", "revoking", "settling", "settled"]),
    )]
    pub(super) state: Option<StateKind>,
    /// Only of this use case
    #[arg(long, value_name = "NAME", value_parser = UseCase::new)]
    pub(super) use_case: Option<UseCase>,
    /// Only of this agent
    #[arg(long, value_parser = AgentId::new)]
    pub(super) agent: Option<AgentId>,
    /// Only with this tag
    #[arg(long)]
    pub(super) tag: Option<String>,
    /// Not more than this many [default: 100 in a table, all with --json]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) limit: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct RescheduleArgs {
    #[command(flatten)]
    pub(super) of: MessageRef,
    #[command(flatten)]
    pub(super) to: NewDeadline,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct NewDeadline {
    /// The new deadline, RFC 3339
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    pub(super) at: Option<Timestamp>,
    /// So long from now, such as 10m or 1h30m
    #[arg(long = "in", value_name = "DURATION", value_parser = duration)]
    pub(super) within: Option<Duration>,
}

#[derive(Debug, Args)]
pub(super) struct OutcomesArgs {
    /// Those behind this cursor [default: 0, the oldest that is kept]
    #[arg(long, value_name = "CURSOR", default_value_t, hide_default_value = true)]
    pub(super) after: u64,
    /// Go on with new ones as they come, also after a restart of the daemon
    #[arg(long)]
    pub(super) follow: bool,
    /// Only of this agent
    #[arg(long, value_parser = AgentId::new)]
    pub(super) agent: Option<AgentId>,
    /// Acknowledge what was printed
    #[arg(long)]
    pub(super) ack: bool,
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
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_help_fits_80_columns_and_every_command_shows_an_example() {
        let names: Vec<String> =
            Arguments::command().get_subcommands().map(|name| name.get_name().to_owned()).collect();
        for name in std::iter::once("").chain(names.iter().map(String::as_str)) {
            let line = ["revokectl", name, "--help"].into_iter().filter(|word| !word.is_empty());
            let help = Arguments::command().term_width(80).try_get_matches_from(line).unwrap_err().to_string();
            assert!(help.contains("Example"), "{help}");
            let wide = help.lines().find(|line| line.chars().count() > 80);
            assert_eq!(wide, None, "{help}");
        }
    }

    #[test]
    fn durations_are_written_as_people_do_and_as_the_wire_does() {
        for (text, seconds) in [("10m", 600), ("600s", 600), ("1h30m", 5400), ("2 days", 172_800), ("PT1M", 60)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "10", "soon", "-5m", "1 month"] {
            assert!(duration(wrong).is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn a_file_and_a_message_of_its_own_exclude_each_other() {
        assert!(parse("revokectl --socket s --json register --file -").is_ok());
        assert!(parse("revokectl register bot m1 --phone +12223334444 --use-case otp").is_ok());
        for wrong in [
            "revokectl register",
            "revokectl register bot",
            "revokectl register bot m1 --phone +12223334444",
            "revokectl register bot m1 --phone +12223334444 --use-case otp --file -",
            "revokectl register --file - --tag spring",
            "revokectl register bot m1 --phone + --use-case otp --ttl 1m --expire-time 2026-11-22T12:00:00Z",
            "revokectl reschedule bot m1",
            "revokectl reschedule bot m1 --in 1m --at 2026-11-22T12:00:00Z",
            "revokectl get bot a/b",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn words_of_the_wire_are_read_in_lower_case() {
        let Command::List(list) = parse("revokectl list --state pending").unwrap().command else { panic!() };
        assert_eq!(list.state, Some(StateKind::Pending));
        let one = parse("revokectl register b m --phone + --use-case o --on-conflict keep --region us").unwrap();
        let Command::Register(RegisterArgs { one, .. }) = one.command else { panic!() };
        assert_eq!((one.on_conflict, one.region), (Some(OnConflict::Keep), Some(Region::Us)));
    }
}
