//! The command line. Comments here are what `--help` prints, so they are short, and wrapped for 80 columns.
//!
//! What has a form of its own (a time, a duration, an id) is checked here and answered with the usage; what only the daemon
//! can judge (a use case, a deadline that has passed, a phone) goes to it as it is.

mod options;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::bench;
use crate::model::AgentId;

pub(super) use options::{
    AdviseArgs, By, ForecastArgs, HoldArgs, ListArgs, MessageRef, OneMessage, OutcomesArgs, RecallArgs, RegisterArgs,
    ReleaseArgs, ReportArgs, RescheduleArgs, SelectorArgs,
};

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
  revokectl plan --config new.toml

Exit codes: 0 done · 1 refused by the daemon · 64 wrong usage · 66 unreadable
file · 69 no daemon answers · 70 a bench broke down · 74 output failed ·
76 answer not understood · 78 a configuration with errors"
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
    /// Give the SMS grant that was held back (on_unknown = "hold")
    #[command(after_help = "\
Example:
  revokectl grant my-bot promo-9")]
    Grant(MessageRef),
    /// Decide that no SMS is sent where the grant was held back
    #[command(after_help = "\
Example:
  revokectl drop my-bot promo-9")]
    Drop(MessageRef),
    /// Give a message another deadline
    #[command(after_help = "\
Examples:
  revokectl reschedule my-bot promo-9 --in 10m
  revokectl reschedule my-bot promo-9 --at 2026-12-31T23:59:59+09:00")]
    #[command(override_usage = "revokectl reschedule <AGENT> <MESSAGE> <--at <TIME>|--in <DURATION>>")]
    Reschedule(RescheduleArgs),
    /// Let deadlines pass without revoking, until the hold is released
    #[command(after_help = "\
All that is given must match, and what is registered later is held as well. A
held message may still be delivered or withdrawn; DELETEs that are already out
are not called back.

Examples:
  revokectl hold --use-case promotion --reason 'prolonged, ask marketing'
  revokectl hold --agent my-bot --tag spring")]
    Hold(HoldArgs),
    /// End a hold: what is overdue leaves at once, within the pace
    #[command(after_help = "\
The time under a hold does not count: neither for give_up_after nor as lateness.

Examples:
  revokectl release 1042
  revokectl release --agent my-bot --tag spring")]
    Release(ReleaseArgs),
    /// Show the holds in force, and how many messages wait for them
    #[command(after_help = "\
Example:
  revokectl holds")]
    Holds,
    /// Say that the host's clock is right, although it stepped ahead
    #[command(after_help = "\
After a step ahead of more than five minutes deadlines go by the time before it,
since a step may be taken back, and a revocation may not. Once the clock is
accepted, what is overdue by it leaves at once, within the pace.

Example:
  revokectl clock accept")]
    Clock {
        /// What to do about it
        #[arg(value_parser = ["accept"])]
        verb: String,
    },
    /// Revoke a whole campaign now, and watch it; no SMS goes out instead
    #[command(after_help = "\
Takes what was registered before it began, also what is held, at the usual pace.
It goes on when this program is stopped, and after a restart of the daemon. Who
received it all the same is listed as long as settled messages are kept.

Examples:
  revokectl recall --tag spring --dry-run
  revokectl recall --tag spring --reason 'wrong price'
  revokectl recall 1042
  revokectl recall 1042 --received --json")]
    Recall(RecallArgs),
    /// Show the recalls under way, and those that ended lately
    #[command(after_help = "\
Example:
  revokectl recalls")]
    Recalls,
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
    /// Show why a message has its deadline, and what happened to it
    #[command(after_help = "\
Examples:
  revokectl explain my-bot otp-7731
  revokectl explain my-bot otp-7731 --json | jq .configHash")]
    Explain(MessageRef),
    /// Show how many messages fall due when
    #[command(after_help = "\
Examples:
  revokectl forecast
  revokectl forecast --by hour --use-case promotion
  revokectl forecast --by day --json | jq .useCases

What is overdue is in the first bar.")]
    Forecast(ForecastArgs),
    /// Show what became of messages: outcomes, DELETEs, SMS grants
    #[command(after_help = "\
Examples:
  revokectl report
  revokectl report --since 2h --json | jq .useCases.otp.grants

What happened is kept by the hour, for eight days.")]
    Report(ReportArgs),
    /// Show how long deliveries take, and what another ttl would mean
    #[command(after_help = "\
A message that was revoked at its deadline tells that it had not arrived until
then, and no more. The curve takes such messages for what they are (Kaplan and
Meier), so it can be trusted up to the longest ttl that was in force.

Examples:
  revokectl advise --use-case otp
  revokectl advise --since 2h --json | jq .useCases.otp.ttls")]
    Advise(AdviseArgs),
    /// Show what another configuration would do; changes nothing
    #[command(after_help = "\
Shows each use case before and after, how many pending deadlines move and how
far, how many are due at once, and when the last of those would be revoked.

Examples:
  revokectl plan --config new.toml
  revokectl plan --config new.toml --json | jq '.useCases[].moved'

A file with errors is shown with its mistakes (exit code 78). Keys that are read
at the start only are named and refused (exit code 1).")]
    Plan {
        /// The new configuration; - is standard input
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Take over the configuration file, all of it or nothing
    #[command(after_help = "\
Shows what that did, as `revokectl plan` shows what it would do.

Examples:
  revokectl reload
  revokectl reload --json | jq .configHash

After a refusal (exit code 1) or mistakes in the file (78) the configuration is
what it was.")]
    Reload,
    /// Show the configuration in force, and who says so
    #[command(after_help = "\
Examples:
  revokectl config
  revokectl config --json | jq -r .configHash

There is nothing secret in it: secrets are in files, and these are only named.")]
    Config,
    /// Write out everything the daemon keeps, as lines of JSON
    #[command(after_help = "\
All of it as of one instant, while the daemon goes on: messages, outcomes, what
was acknowledged. The last line is a trailer: a file without it is cut off.
Phone numbers are in it, so the file is its owner's only.

Examples:
  revokectl export --output backup.ndjson
  revokectl export | zstd > backup.ndjson.zst

To move to another host, stop the daemon and use `revoked export` there: a
daemon that runs goes on revoking what it has exported.")]
    Export {
        /// Where to; appears when it is whole [default: standard output]
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Take over what an export holds; what is here already is left as it is
    #[command(after_help = "\
Lines that are refused are named, harm no other, and make the exit code 1. An
import that broke off can be done again: what is here is passed over.

Examples:
  revokectl import backup.ndjson
  zstd -dc backup.ndjson.zst | revokectl import -

Every use case needs its policy here. Outcomes, acknowledgements and grants go
only into a store that has no outcomes yet: import before agents use it.")]
    Import {
        /// The export; - is standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Measure what the daemon does on this host
    #[command(after_help = "\
Runs a daemon of its own over a temporary directory, and a sandbox platform;
the daemon that may run on this host is not touched. What counts is an idle
machine, an optimised build, and --dir on the disk that is to be used.

Examples:
  revokectl bench register --dir /var/lib
  revokectl bench pairs --seconds 300 --pending 1000000
  revokectl bench herd --promotions 1000000 --json | jq .otpLateness")]
    Bench(bench::Args),
    /// Show how the daemon is doing
    #[command(after_help = "\
Examples:
  revokectl status
  watch -n 1 revokectl status")]
    Status,
    /// Watch how the daemon is doing, live; q quits
    #[command(after_help = "\
What falls due in the next ten minutes is sketched per use case, each on its own
scale. Piped, or with --once, it is one picture as text, with the rates of one
second.

Examples:
  revokectl top
  revokectl top --once")]
    Top {
        /// One picture, as text
        #[arg(long)]
        once: bool,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::engine::{OnConflict, StateKind};
    use crate::model::Region;

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
            "revokectl plan new.toml",
            "revokectl forecast --by second",
            "revokectl hold",
            "revokectl hold --reason x",
            "revokectl release",
            "revokectl release 7 --tag spring",
            "revokectl recall",
            "revokectl recall 7 --tag spring",
            "revokectl recall 7 --dry-run",
            "revokectl recall --tag spring --received",
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
