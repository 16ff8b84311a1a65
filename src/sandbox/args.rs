//! The command line of `revoked sandbox`.

use std::{io::Write as _, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context as _;
use hyper::header::HeaderValue;
use serde::Deserialize;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Chance, Mix, Options, Sandbox, duration, scenario, server};

/// An RBM platform on loopback, to test against
///
/// Speaks the platform's protocol: a token endpoint, create, delete and signed
/// events. Orders are given and the truth is read under /sandbox/: handsets,
/// handsets:connect, faults, answers:release, outage, tokens:expire, webhook,
/// events, messages, stats, reset.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to listen; a loopback address
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8008")]
    listen: SocketAddr,

    /// Where to write the service-account key [default: a temporary directory]
    ///
    /// A key that lies there already is used again, so that its clients
    /// survive a restart.
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,

    /// Print one line of JSON at the start instead of a greeting
    #[arg(long)]
    json: bool,

    /// Options and timed actions from a TOML file; flags win over it
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,

    /// What all chance is drawn from [default: 1]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,

    /// Shares of the handsets in percent [default: online=100]
    ///
    /// For example online=70,slow=10,offline=10,returns=10. How a handset
    /// behaves depends on the seed and its number only.
    #[arg(long, value_name = "MIX")]
    handsets: Option<Mix>,

    /// How long a slow handset takes, about [default: 4s]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    slow_delay: Option<Duration>,

    /// When a handset that returns is back [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    returns_after: Option<Duration>,

    /// Share of delivered messages that are read as well
    #[arg(long, value_name = "PERCENT", value_parser = percent, help_heading = "Events")]
    read: Option<f64>,

    /// Share of delivered messages with a READ but no DELIVERED
    #[arg(long, value_name = "PERCENT", value_parser = percent, help_heading = "Events")]
    read_only: Option<f64>,

    /// Share of events that are pushed before create has answered
    #[arg(long, value_name = "PERCENT", value_parser = percent, help_heading = "Events")]
    early_events: Option<f64>,

    /// Share of events that are never pushed
    #[arg(long, value_name = "PERCENT", value_parser = percent, help_heading = "Events")]
    events_lost: Option<f64>,

    /// Share of events that are pushed twice
    #[arg(long, value_name = "PERCENT", value_parser = percent, help_heading = "Events")]
    events_duplicated: Option<f64>,

    /// Share of events that are held back and overtaken
    #[arg(long, value_name = "PERCENT", value_parser = percent, help_heading = "Events")]
    events_delayed: Option<f64>,

    /// How long they are held back [default: 2s]
    #[arg(long, value_name = "TIME", value_parser = duration::parse, help_heading = "Events")]
    events_delay: Option<Duration>,

    /// Where to push events; without it, GET /sandbox/events has them
    #[arg(long, value_name = "URL", value_parser = webhook_url, help_heading = "Events")]
    webhook: Option<String>,

    /// The key of the events' signatures [default: drawn from the seed]
    #[arg(long, value_name = "TOKEN", value_parser = clap::builder::NonEmptyStringValueParser::new(), help_heading = "Events")]
    client_token: Option<String>,

    /// How long an access token lives [default: 1h]
    #[arg(long, value_name = "TIME", value_parser = duration::parse, help_heading = "Faults")]
    token_lifetime: Option<Duration>,

    /// Requests per second an agent may send; 429 beyond
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Faults")]
    rate: Option<u32>,

    /// The Retry-After of a 429 [default: none]
    #[arg(long, value_name = "TEXT", value_parser = header_text, help_heading = "Faults")]
    retry_after: Option<String>,

    /// A fault that strikes a share of the DELETEs, in percent
    ///
    /// For example --fault loseAnswer=0.5; can be given more than once. The
    /// kinds: tooManyRequests, serverError, slow, loseAnswer, reset,
    /// deliveredAfterRevoke, unauthorized, forbidden, badRequest, notFound,
    /// garbage, redirect, hugeBody, blackHole, hold (until
    /// POST /sandbox/answers:release), and for expiries ttlRevokeFailed.
    #[arg(long = "fault", value_name = "KIND=PERCENT", value_parser = Chance::parse, help_heading = "Faults")]
    faults: Vec<Chance>,

    /// How to answer a DELETE of an unknown message [default: not-found]
    #[arg(long, value_name = "HOW", help_heading = "Faults")]
    unknown_delete: Option<UnknownDelete>,
}

/// How a DELETE of a message that was never created is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum UnknownDelete {
    /// 404, as the platform does.
    NotFound,
    /// 200, for load tests that create nothing.
    Ok,
}

fn percent(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=100.0).contains(share));
    share.ok_or_else(|| format!("{text:?} is not a share in percent"))
}

fn webhook_url(text: &str) -> Result<String, String> {
    super::webhook::parse_url(text).map(|_| text.to_owned())
}

/// The text, if a header can hold it.
pub(super) fn header_text(text: &str) -> Result<String, String> {
    HeaderValue::from_str(text).map(|_| text.to_owned()).map_err(|_| "it can't stand in a header".into())
}

impl Args {
    fn options(self) -> anyhow::Result<Options> {
        let file = match &self.scenario {
            Some(path) => scenario::load(path)?,
            None => Options::default(),
        };
        Ok(Options {
            dir: self.dir,
            seed: self.seed.unwrap_or(file.seed),
            handsets: self.handsets.unwrap_or(file.handsets),
            slow_delay: self.slow_delay.unwrap_or(file.slow_delay),
            returns_after: self.returns_after.unwrap_or(file.returns_after),
            read: self.read.unwrap_or(file.read),
            read_only: self.read_only.unwrap_or(file.read_only),
            early_events: self.early_events.unwrap_or(file.early_events),
            events_lost: self.events_lost.unwrap_or(file.events_lost),
            events_duplicated: self.events_duplicated.unwrap_or(file.events_duplicated),
            events_delayed: self.events_delayed.unwrap_or(file.events_delayed),
            events_delay: self.events_delay.unwrap_or(file.events_delay),
            token_lifetime: self.token_lifetime.unwrap_or(file.token_lifetime),
            rate: self.rate.or(file.rate),
            retry_after: self.retry_after.or(file.retry_after),
            unknown_delete_ok: self.unknown_delete.map_or(file.unknown_delete_ok, |how| how == UnknownDelete::Ok),
            faults: if self.faults.is_empty() { file.faults } else { self.faults },
            webhook: self.webhook.or(file.webhook),
            client_token: self.client_token.or(file.client_token),
            actions: file.actions,
        })
    }
}

/// Runs the sandbox until SIGTERM or SIGINT.
///
/// # Errors
///
/// When it can't start: a bad scenario, an address that is taken or not loopback, a directory that can't be written.
pub async fn main(args: Args) -> anyhow::Result<()> {
    let (listen, as_json) = (args.listen, args.json);
    let options = args.options()?;
    let (mix, seed) = (options.handsets, options.seed);
    // Before the greeting: who reads it may send a signal at once.
    let mut terminate = signal(SignalKind::terminate()).context("can't wait for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("can't wait for signals")?;
    let listener = server::bind(listen).await.with_context(|| format!("can't listen on {listen}"))?;
    let shutdown = CancellationToken::new();
    let sandbox = Sandbox::start(listener, options, shutdown.clone())?;
    let (url, key, token) = (sandbox.base_url(), sandbox.key_path().display(), sandbox.client_token());
    let greeting = if as_json {
        json!({"listening": url, "key": key.to_string(), "clientToken": token}).to_string()
    } else {
        format!(
            "An RBM platform listens on {url} (handsets {mix}, seed {seed}).\n\
             Point the daemon or the agent at it with\n\
             \x20 the platform's URL   {url}\n\
             \x20 service account      {key}\n\
             \x20 webhook clientToken  {token}\n\
             Events are at {url}/sandbox/events, the truth about messages at {url}/sandbox/messages.\n\
             Ctrl-C ends it."
        )
    };
    // Nobody has to read it: a closed pipe is no reason to stop.
    let _ = writeln!(std::io::stdout(), "{greeting}");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    shutdown.cancel();
    sandbox.stopped().await;
    Ok(())
}
