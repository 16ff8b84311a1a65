//! `revokectl bench`: what the daemon does on this host.
//!
//! Each bench runs the real daemon as a child process over a temporary directory, durable to the disk as it is by default, and
//! a sandbox platform in another; the load comes from this process. What is measured is what an agent sees over the socket
//! and the platform over HTTP; nothing here looks inside. All of it shares the host's processors, so a host with more of
//! them does better than the load alone explains. The conditions stand beside every result.

mod books;
mod crash;
mod drain;
mod herd;
mod host;
mod load;
mod on_time;
mod outage;
mod pairs;
mod reader;
mod recover;
mod register;
mod rig;
mod sheet;

use std::path::PathBuf;

use self::rig::Place;
pub use self::sheet::Sheet;

/// What to measure, and where.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where temporary data goes, and so which disk is measured [default: the
    /// system's temporary directory]
    #[arg(long, global = true, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    which: Which,
}

#[derive(Debug, clap::Subcommand)]
enum Which {
    Register(register::Args),
    Pairs(pairs::Args),
    Recover(recover::Args),
    Crash(crash::Args),
    Herd(herd::Args),
    OnTime(on_time::Args),
    Drain(drain::Args),
    Outage(outage::Args),
}

/// Runs a bench. It takes all processors it can get.
///
/// # Errors
/// If a part of it can't be started or breaks down; a promise that is not kept is a result (see [`Sheet::broke`]).
pub async fn run(args: Args) -> anyhow::Result<Sheet> {
    let place = Place::new(args.dir.as_deref())?;
    let conditions = host::conditions(place.path())?;
    let (name, found) = match args.which {
        Which::Register(args) => ("register", register::run(args, place).await),
        Which::Pairs(args) => ("pairs", pairs::run(args, place).await),
        Which::Recover(args) => ("recover", recover::run(args, place).await),
        Which::Crash(args) => ("crash", crash::run(args, place).await),
        Which::Herd(args) => ("herd", herd::run(args, place).await),
        Which::OnTime(args) => ("on-time", on_time::run(args, place).await),
        Which::Drain(args) => ("drain", drain::run(args, place).await),
        Which::Outage(args) => ("outage", outage::run(args, place).await),
    };
    Ok(Sheet::default().with("bench", name).and(conditions).and(found?))
}
