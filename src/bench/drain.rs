//! DELETEs as fast as they go, beside what a bare HTTP client gets out of the same platform.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio::task::JoinSet;

use super::host::cpu_time;
use super::load::{self, AGENT, phone};
use super::rig::{Place, Rig, count, seconds_since, status};
use super::sheet::{Sheet, grouped, round};
use crate::clock;
use crate::engine::StateKind;
use crate::platform::ServiceKey;

/// DELETEs per second when nothing limits them, beside a bare HTTP client
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Messages to revoke, by the daemon and by the bare client each
    #[arg(long, value_name = "NUMBER", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    messages: u64,
    /// Requests in flight, of either
    #[arg(long, value_name = "NUMBER", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=512))]
    in_flight: u64,
}

const NOTICE: Duration = Duration::from_secs(1);
/// Less than a percent of what a run takes; the daemon has better to do than to answer us.
const LOOK_EVERY: Duration = Duration::from_millis(40);

pub(super) async fn run(args: Args, place: Place) -> anyhow::Result<Sheet> {
    let far = clock::wall().plus(Duration::from_secs(20 * 24 * 3600));
    let config = format!(
        "[log]\nlevel = \"warn\"\n[pace]\nin_flight = {}\nper_second = 1_000_000\n\
         [use_cases.promotion]\nexpires_at = {far}\ntraffic_type = \"promotion\"\non_unknown = \"drop\"\n",
        args.in_flight
    );
    let rig = place.start(&[], &config).await?;
    // Half before and half after: a host shared with others is not as fast at all times.
    let bare_before = bare(&rig, &args, 0..args.messages / 2).await?;
    let line = |number| load::registration("promotion", &id(number), number);
    load::fill(&rig.daemon.socket(), args.messages, line, rig.progress()).await?;

    let (mut client, process) = (rig.client().await?, rig.daemon.id()?);
    let before = rig.stats().await?;
    let due = clock::wall().plus(NOTICE);
    rig.reload(&far.to_string(), &due.to_string()).await?;
    tokio::time::sleep(due.since(clock::wall())).await;
    let (start, cpu_before) = (clock::now().mono, cpu_time(process)?);
    loop {
        let left = count(&status(&mut client).await?, "promotion", &[StateKind::Pending, StateKind::Revoking]);
        if left == 0 {
            break;
        }
        rig.progress().say(|| format!("draining: {} of {} left", grouped(left), grouped(args.messages)));
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let (seconds, cpu) = (seconds_since(start), cpu_time(process)? - cpu_before);
    let sent = rig.stats().await?.since(&before).deletes;
    ensure!(sent == args.messages, "{sent} DELETEs for {} messages", args.messages);
    let bare = args.messages as f64 / (bare_before + bare(&rig, &args, args.messages / 2..args.messages).await?);
    let rate = args.messages as f64 / seconds;
    let figures = Sheet::default()
        .with("messages", args.messages)
        .with("inFlight", args.in_flight)
        .with("seconds", round(seconds))
        .with("deletesPerSecond", round(rate))
        .with("deletesPerCpuSecond", round(args.messages as f64 / cpu.as_secs_f64().max(0.01)))
        .with("barePerSecond", round(bare))
        .with("percentOfBare", round(100.0 * rate / bare));
    rig.end(figures).await
}

fn id(number: u64) -> String {
    format!("d-{number}")
}

/// How many seconds a loop takes that does nothing but ask and read the answer.
async fn bare(rig: &Rig, args: &Args, messages: Range<u64>) -> anyhow::Result<f64> {
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build()?;
    let token: Arc<str> = token(rig, &client).await?.into();
    let base: Arc<str> = format!("{}/v1/phones", rig.platform.url).into();
    let (next, end, start) = (Arc::new(AtomicU64::new(messages.start)), messages.end, clock::now().mono);
    let mut working = JoinSet::new();
    for _ in 0..args.in_flight {
        let (client, token, base, next) = (client.clone(), Arc::clone(&token), Arc::clone(&base), Arc::clone(&next));
        let progress = rig.progress().clone();
        working.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= end {
                    return anyhow::Ok(());
                }
                let (phone, id) = (phone(number).replace('+', "%2B"), id(number));
                let url = format!("{base}/{phone}/agentMessages/{id}?agentId={AGENT}");
                client.delete(url).bearer_auth(&token).send().await?.error_for_status()?.bytes().await?;
                progress.say(|| format!("bare client: {} of {}", grouped(number), grouped(end)));
            }
        });
    }
    while let Some(worker) = working.join_next().await {
        worker??;
    }
    Ok(seconds_since(start))
}

/// An access token, got as anybody gets one.
async fn token(rig: &Rig, client: &reqwest::Client) -> anyhow::Result<String> {
    let key = ServiceKey::read(&rig.platform.key)?;
    let assertion = key.assertion(clock::wall())?;
    let form =
        [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", assertion.expose_secret())];
    let answer = client.post(&key.token_uri).form(&form).send().await?.error_for_status()?.bytes().await?;
    let granted: Value = serde_json::from_slice(&answer)?;
    Ok(granted["access_token"].as_str().context("no token")?.to_owned())
}
