//! The process: arguments, the order of starting and stopping, signals, logs, what systemd is told.
//!
//! This room knows everybody and decides nothing about messages.

mod clock_watch;
pub mod exit;
mod export;
mod file_watch;
mod hooks;
mod journal;
mod logs;
mod pushes;
mod reload;
mod run;
mod signals;
mod simulate;
mod sockets;
mod systemd;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::{clock, config, demo, sandbox};

/// Revokes RCS business messages that are not delivered by their deadline
///
/// Agents register what they send over a unix socket; at its deadline a
/// message that is still undelivered is revoked, and its agent is told
/// whether an SMS should go out instead. Without a command, runs the daemon.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 80)]
struct Arguments {
    /// The configuration
    #[arg(
        long,
        value_name = "FILE",
        global = true,
        env = "REVOKED_CONFIG",
        hide_env = true,
        default_value = "/etc/revoked/config.toml"
    )]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon (what happens without a command)
    Run,
    /// Check a configuration as the daemon would read it; binds and changes nothing
    Check,
    /// Write everything a store holds to standard output; the daemon must be stopped
    ///
    /// For a move to another host: the lines are those of `revokectl export`,
    /// and nobody revokes on while they are written. Phone numbers are in them.
    Export,
    Sandbox(Box<sandbox::Args>),
    Demo(demo::Args),
    Simulate(simulate::Args),
}

/// The command line, for manual pages and completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// What `revoked` does. Returns the exit code (see [`exit`]).
pub fn main() -> ExitCode {
    // Keys, phone numbers and texts are in memory: a crash must not leave them on disk, whatever the limits and the host's handler
    // of crashes say. An error would only mean that it may.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Printing can only fail if nobody reads.
            let _ = error.print();
            return if error.use_stderr() { exit::USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    match arguments.command {
        None | Some(Command::Run) => run::run(&arguments.config),
        Some(Command::Check) => check(&arguments.config),
        Some(Command::Export) => export::export(&arguments.config),
        Some(Command::Sandbox(args)) => finish(block_on(sandbox::main(*args)).map(|()| true)),
        Some(Command::Demo(args)) => finish(block_on(demo::main(args))),
        Some(Command::Simulate(args)) => finish(simulate::main(&args)),
    }
}

fn check(path: &Path) -> ExitCode {
    match config::load(path, &config::Env::of_process(), clock::wall()) {
        Ok(loaded) => {
            if !loaded.warnings.is_empty() {
                anstream::eprintln!("{}", loaded.warnings.styled());
            }
            if let Err(words) = run::prepare(&loaded.config) {
                anstream::eprintln!("error: {words}");
                return exit::CONFIG.into();
            }
            let cases = loaded.config.policies().iter().count();
            anstream::println!("{}: good ({cases} use cases, hash {})", path.display(), loaded.hash);
            ExitCode::SUCCESS
        }
        Err(report) => {
            anstream::eprintln!("{}", report.styled());
            exit::CONFIG.into()
        }
    }
}

fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(future)
}

/// `false` is a result and not an error: the demo or the simulation ran, and found a promise broken.
fn finish(result: anyhow::Result<bool>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            anstream::eprintln!("error: {error:#}");
            exit::SOFTWARE.into()
        }
    }
}
