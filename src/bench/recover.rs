//! kill -9 over a large store: how soon is the daemon of use again, and how soon of full use?

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use serde_json::Value;
use tokio::task::JoinSet;

use super::host::{mib, resident_mib};
use super::load::{self, AGENT, Client};
use super::rig::{Place, Rig, count, status};
use super::sheet::{Sheet, grouped, round};
use crate::clock;
use crate::engine::StateKind;
use crate::intake::wire::MessageView;
use crate::usage;

/// kill -9 with many messages pending, and what it takes to come back
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Messages that are pending when the daemon is killed
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pending: u64,
    /// Messages that are looked up before and after, one after the other
    #[arg(long, value_name = "NUMBER", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..))]
    lookups: u64,
    /// What the looked-up messages are drawn from
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
}

const CONFIG: &str = "[log]\nlevel = \"warn\"\n[use_cases.later]\nttl = \"10d\"\nsettle = \"1ms\"\n";
/// Clients that register when the daemon is killed, and until then.
const CLIENTS: u64 = 8;
const LOAD_TIME: Duration = Duration::from_secs(1);
/// How often a daemon that starts is asked.
const ASK_EVERY: Duration = Duration::from_millis(1);
/// When a start counts as failed.
const PATIENCE: Duration = Duration::from_secs(300);

pub(super) async fn run(args: Args, place: Place) -> anyhow::Result<Sheet> {
    let mut rig = place.start(&[], CONFIG).await?;
    let line = |number| load::registration("later", &id(number), number);
    load::fill(&rig.daemon.socket(), args.pending, line, rig.progress()).await?;
    let disk = usage::disk_bytes(&rig.store());
    let resident_before = rig.resident_mib()?;
    let lookups_before = lookups(&mut rig.client().await?, &args).await?;

    let acknowledged = kill_under_load(&mut rig).await?;
    let killed = clock::now().mono;
    rig.daemon.spawn_again()?;
    let socket = rig.daemon.socket();
    let mut first = tokio::time::timeout(PATIENCE, connect(&socket)).await.context("the daemon does not start")?;
    first.post("/v1/messages", load::registration("later", "first", 0)).await?;
    let first_registration = clock::now().mono - killed;

    let state = status(&mut first).await?;
    let first_status = clock::now().mono - killed;
    let recovered = count(&state, "later", &[StateKind::Pending]);
    let wanted = args.pending + acknowledged + 1;
    // A registration that was under way may be there although nobody was told.
    ensure!((wanted..=wanted + CLIENTS).contains(&recovered), "{wanted} were acknowledged and {recovered} are there");

    let one = first.post(&format!("/v1/messages/{AGENT}/{}:revoke", id(args.pending / 2)), String::new()).await;
    one.context("a recovered message can't be revoked")?;
    let outcomes: Value = serde_json::from_slice(&first.get("/v1/outcomes?after=0&wait=30s").await?)?;
    ensure!(outcomes["outcomes"][0]["outcome"] == "REVOKED", "no DELETE left: {outcomes}");
    let first_delete = clock::now().mono - killed;

    loop {
        let forecast: Value = serde_json::from_slice(&first.get("/v1/forecast").await?)?;
        if forecast["counting"] == false {
            break;
        }
        ensure!(clock::now().mono - killed < PATIENCE, "still counting what is pending");
        rig.progress().say(|| "counting what is pending".to_owned());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let all_counted = clock::now().mono - killed;
    let lookups_after = lookups(&mut first, &args).await?;
    let before = clock::now().mono;
    first.get("/v1/messages?state=pending&pageSize=100").await?;
    let page = clock::now().mono - before;

    let seconds = |span: Duration| round(span.as_secs_f64());
    let figures = Sheet::default()
        .with("pending", recovered)
        .with("acknowledgedUnderLoad", acknowledged)
        .with("seed", args.seed)
        .with("diskMib", mib(disk))
        .with("diskBytesPerMessage", round(disk as f64 / args.pending as f64))
        .with("firstRegistrationSeconds", seconds(first_registration))
        .with("allRecoveredSeconds", seconds(first_status))
        .with("firstDeleteDoneSeconds", seconds(first_delete))
        .with("forecastCompleteSeconds", seconds(all_counted))
        .with("residentMibBefore", resident_before)
        .with("residentMibAfter", resident_mib(rig.daemon.id()?)?)
        .with("firstPageMs", round(page.as_secs_f64() * 1000.0))
        .rows(
            "lookups",
            vec![
                Sheet::default().with("when", "before").times(&lookups_before),
                Sheet::default().with("when", "after").times(&lookups_after),
            ],
        );
    rig.end(figures).await
}

fn id(number: u64) -> String {
    format!("m-{number}")
}

/// SIGKILL while clients register. Returns how many of their registrations were acknowledged.
async fn kill_under_load(rig: &mut Rig) -> anyhow::Result<u64> {
    let mut working = JoinSet::new();
    for client in 0..CLIENTS {
        let mut connection = rig.client().await?;
        working.spawn(async move {
            let mut acknowledged = 0;
            loop {
                let line = load::registration("later", &format!("l-{client}-{acknowledged}"), acknowledged);
                // It ends when nobody is there any more.
                if connection.post("/v1/messages", line).await.is_err() {
                    return acknowledged;
                }
                acknowledged += 1;
            }
        });
    }
    tokio::time::sleep(LOAD_TIME).await;
    rig.daemon.kill().await?;
    Ok(working.join_all().await.into_iter().sum())
}

async fn connect(socket: &Path) -> Client {
    loop {
        match Client::connect(socket).await {
            Ok(client) => return client,
            Err(_) => tokio::time::sleep(ASK_EVERY).await,
        }
    }
}

/// How long it takes to look up messages at random, in microseconds.
async fn lookups(client: &mut Client, args: &Args) -> anyhow::Result<Histogram<u64>> {
    let mut random = fastrand::Rng::with_seed(args.seed);
    let mut times = Histogram::<u64>::new(3)?;
    for _ in 0..args.lookups {
        let id = id(random.u64(..args.pending));
        let before = clock::now().mono;
        let answer = client.get(&format!("/v1/messages/{AGENT}/{id}")).await?;
        times.record(u64::try_from((clock::now().mono - before).as_micros())?)?;
        let message: MessageView = serde_json::from_slice(&answer)?;
        ensure!(message.message_id.as_str() == id, "asked for {id}, got {}", grouped(message.attempts.into()));
    }
    Ok(times)
}
