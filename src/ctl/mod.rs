//! `revokectl`: arguments in, one call over the daemon's socket, an answer that people or programs can read.
//!
//! Each command parses (`args`), asks (`client`) and prints (`output`); what it prints is rendered by pure functions
//! of the answer, the time and the width of the terminal (`show`), so that every screen is tested as text. This room knows
//! the wire's types and where the socket is; it must not know the engine or the store, and decides nothing: the daemon does, and says why.

mod advise;
mod args;
mod batch;
mod bench;
mod client;
mod config;
mod events;
pub mod exit;
mod explain;
mod export;
mod forecast;
mod holds;
mod messages;
mod outcomes;
mod output;
mod recall;
mod reload;
mod report;
mod show;
mod status;
mod terminal;
mod top;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};
use tokio::runtime;

use self::args::{Arguments, Command};
use self::client::Client;
use self::exit::Failure;
use self::output::Output;
use crate::config::Env;

/// The command line, for manual pages and completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// What `revokectl` does. Returns the exit code (see [`exit`]).
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Printing can only fail if nobody reads.
            let _ = error.print();
            return if error.use_stderr() { exit::USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    if arguments.no_color {
        anstream::ColorChoice::Never.write_global();
    }
    let mut builder = match arguments.command {
        // The load is work for all processors.
        Command::Bench(_) => runtime::Builder::new_multi_thread(),
        // One call, one answer: a runtime with threads would only start and stop them.
        _ => runtime::Builder::new_current_thread(),
    };
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::from(error).report(),
    };
    match runtime.block_on(run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let client = Client::new(arguments.socket.unwrap_or_else(|| Env::of_process().socket().0))?;
    let mut out = Output::stdout(arguments.json);
    let done = match arguments.command {
        Command::Register(args) => match args.file {
            Some(path) => batch::register(&client, &mut out, &path).await,
            None => messages::register(&client, &mut out, *args.one).await,
        },
        Command::Get(of) => messages::get(&client, &mut out, &of).await,
        Command::List(filter) => messages::list(&client, &mut out, filter).await,
        Command::Withdraw(of) => messages::act(&client, &mut out, &of, "withdraw").await,
        Command::Revoke(of) => messages::act(&client, &mut out, &of, "revoke").await,
        Command::Grant(of) => messages::act(&client, &mut out, &of, "grant").await,
        Command::Drop(of) => messages::act(&client, &mut out, &of, "drop").await,
        Command::Reschedule(args) => messages::reschedule(&client, &mut out, &args).await,
        Command::Events { file } => events::hand_in(&client, &mut out, &file).await,
        Command::Outcomes(args) => outcomes::print(&client, &mut out, args).await,
        Command::Ack { cursor, agent } => outcomes::ack(&client, &mut out, cursor, agent).await,
        Command::Explain(of) => explain::print(&client, &mut out, &of).await,
        Command::Forecast(args) => forecast::print(&client, &mut out, args).await,
        Command::Plan { config } => reload::plan(&client, &mut out, &config).await,
        Command::Reload => reload::reload(&client, &mut out).await,
        Command::Config => config::print(&client, &mut out).await,
        Command::Report(args) => report::print(&client, &mut out, args).await,
        Command::Advise(args) => advise::print(&client, &mut out, args).await,
        Command::Export { output } => export::export(&client, &mut out, output).await,
        Command::Import { file } => export::import(&client, &mut out, &file).await,
        Command::Bench(args) => bench::print(&mut out, args).await,
        Command::Status => status::print(&client, &mut out).await,
        Command::Top { once } => top::print(&client, &mut out, once).await,
        Command::Hold(args) => holds::hold(&client, &mut out, args).await,
        Command::Release(args) => holds::release(&client, &mut out, args).await,
        Command::Recall(args) => recall::recall(&client, &mut out, args).await,
        Command::Recalls => recall::list(&client, &mut out).await,
        // There is one verb, and clap has seen to it.
        Command::Clock { .. } => status::accept_clock(&client, &mut out).await,
        Command::Holds => holds::list(&client, &mut out).await,
    };
    // What was printed before a failure belongs before its words.
    out.flush().and(done)
}
