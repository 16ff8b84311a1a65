//! `revoked demo`: the main job at a glance, without any set-up.
//!
//! A sandbox platform in this process, the real daemon as a child over a temporary store, and a small agent between them that
//! sends, registers, forwards events and reads outcomes. In the middle the daemon is killed (-9) and started again. At the
//! end the daemon's outcomes are held against the sandbox's own books: what was acknowledged has to have an outcome, and the
//! outcome has to be what happened.

mod agent;
mod screen;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::agent::Agent;
use self::screen::Screen;
use crate::child::Daemon;
use crate::clock;
use crate::model::Timestamp;
use crate::sandbox::{Chance, Fault, FaultKind, Mix, Options, Sandbox};

/// Show the main job on a sandbox platform, in about 30 seconds
///
/// Sends a lively mix of OTPs, notices and promotions on short clocks to
/// handsets of which some are off, kills the daemon with -9 in the middle, and
/// says at the end what was delivered, revoked and lost. Needs no set-up and
/// leaves nothing behind. Exit code 0 if nothing was lost.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print nothing but one JSON object at the end
    #[arg(long)]
    json: bool,
    /// What handsets, faults and order are drawn from
    #[arg(long, value_name = "NUMBER", default_value_t = 7)]
    seed: u64,
}

/// How long messages are sent.
const SENDING: Duration = Duration::from_secs(16);
/// A message every so often.
const EVERY: Duration = Duration::from_millis(50);
/// When the daemon is killed.
const KILL_AT: Duration = Duration::from_secs(10);
/// When the promotion ends, from the start.
const PROMOTION_ENDS: Duration = Duration::from_secs(19);
/// When whatever has no outcome counts as lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the demo. True if nothing was lost.
///
/// # Errors
/// If a part of it can't be started.
pub async fn main(args: Args) -> anyhow::Result<bool> {
    let directory = tempfile::Builder::new().prefix("revoked-demo-").tempdir().context("no temporary directory")?;
    let listener = TcpListener::bind("127.0.0.1:0").await.context("can't listen on the loopback address")?;
    let stop = CancellationToken::new();
    let options = options(args.seed, directory.path().join("key"))?;
    let sandbox = Arc::new(Sandbox::start(listener, options, stop.clone())?);
    let start = clock::now();
    let screen = Arc::new(Screen::new(args.json, start));
    let (messages, ends) = (SENDING.as_millis() / EVERY.as_millis(), PROMOTION_ENDS.as_secs());
    screen.say(&format!("A sandbox platform, the real daemon, and an agent with some {messages} messages:"));
    screen.say(&format!("OTPs that live 4 s, notices 8 s, a promotion that ends in {ends} s. Some of the"));
    screen.say("handsets are off.");

    let program = std::env::current_exe().context("where is this program?")?;
    let platform = (sandbox.base_url(), sandbox.key_path());
    let use_cases = use_cases(start.wall.plus(PROMOTION_ENDS));
    let mut daemon = Daemon::start(&program, directory.path(), platform, &use_cases).await?;
    let agent = Arc::new(Agent::new(daemon.client()?, Arc::clone(&sandbox), Arc::clone(&screen))?);
    let done = CancellationToken::new();
    let forwarding = tokio::spawn(Arc::clone(&agent).forward_events(done.clone()));
    let reading = tokio::spawn(Arc::clone(&agent).read_outcomes(done.clone()));
    let sending = tokio::spawn(Arc::clone(&agent).send(args.seed, SENDING, EVERY));

    tokio::time::sleep(KILL_AT).await;
    daemon.kill().await?;
    screen.note("kill -9: the daemon is gone. Started again over the same store");
    let back = daemon.start_again().await?;
    screen.note(&format!("back, and answering, {} ms after it was started", back.as_millis()));

    sending.await.context("the agent broke down")??;
    let settled = agent.all_settled();
    let in_time = tokio::time::timeout(PATIENCE, settled).await.is_ok();
    done.cancel();
    forwarding.await.context("forwarding broke down")?;
    reading.await.context("reading broke down")?;
    let status = agent.status().await?;
    daemon.stop().await?;
    stop.cancel();

    let verdict = verdict::Verdict::new(&agent.ledger(), &sandbox.books(), &status);
    screen.conclude(&verdict)?;
    if !in_time && verdict.lost == 0 {
        bail!("the demo ran out of time although nothing was lost: is this machine very busy?");
    }
    Ok(verdict.is_good())
}

fn use_cases(promotion_ends: Timestamp) -> String {
    format!(
        "[use_cases.otp]\nttl = \"4s\"\ntraffic_type = \"authentication\"\nsettle = \"2s\"\n\
         [use_cases.notice]\nttl = \"8s\"\nsettle = \"2s\"\non_unknown = \"send\"\n\
         [use_cases.promotion]\nexpires_at = {promotion_ends}\ntraffic_type = \"promotion\"\nsettle = \"2s\"\non_unknown = \"drop\"\n"
    )
}

fn options(seed: u64, key: std::path::PathBuf) -> anyhow::Result<Options> {
    let handsets: Mix = "online=72,slow=10,offline=14,returns=4"
        .parse()
        .map_err(|why| anyhow::anyhow!("the mix of handsets: {why}"))?;
    let chance = |kind: FaultKind, percent| Chance { fault: kind.into(), percent };
    let slow_down = Fault { retry_after: Some("1".to_owned()), ..FaultKind::TooManyRequests.into() };
    Ok(Options {
        dir: Some(key),
        seed,
        handsets,
        slow_delay: Duration::from_secs(3),
        returns_after: Duration::from_secs(6),
        faults: vec![
            chance(FaultKind::DeliveredAfterRevoke, 12.0),
            chance(FaultKind::LoseAnswer, 8.0),
            chance(FaultKind::ServerError, 4.0),
            Chance { fault: slow_down, percent: 2.0 },
        ],
        ..Options::default()
    })
}
