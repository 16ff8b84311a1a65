//! How fast registrations become durable: one by one from many clients, then in batches from a few.

use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use super::load::{self, BATCH, Client};
use super::rig::{Place, Rig, seconds_since};
use super::sheet::{Sheet, round};
use crate::clock;

/// Registrations per second: one by one, and in batches of 1,000
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// How long each of the two loads goes on
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Clients that register one by one, each over a connection of its own
    #[arg(long, value_name = "NUMBER", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1000))]
    clients: u64,
    /// Clients that register batches
    #[arg(long, value_name = "NUMBER", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=64))]
    batch_clients: u64,
}

const CONFIG: &str = "[log]\nlevel = \"warn\"\n[use_cases.otp]\nttl = \"1h\"\n";

pub(super) async fn run(args: Args, place: Place) -> anyhow::Result<Sheet> {
    let rig = place.start(&[], CONFIG).await?;
    let mut rows = Vec::new();
    for (name, clients, lines) in [("one by one", args.clients, 1), ("batches", args.batch_clients, BATCH)] {
        rows.push(measure(&rig, name, clients, lines, Duration::from_secs(args.seconds)).await?);
    }
    rig.end(Sheet::default().rows("loads", rows)).await
}

async fn measure(rig: &Rig, name: &str, clients: u64, lines: u64, span: Duration) -> anyhow::Result<Sheet> {
    let socket: Arc<std::path::Path> = rig.daemon.socket().into();
    let start = clock::now().mono;
    let mut working = JoinSet::new();
    for client in 0..clients {
        let (socket, progress) = (Arc::clone(&socket), rig.progress().clone());
        working.spawn(async move {
            let mut connection = Client::connect(&socket).await?;
            let (mut done, mut times) = (0, Histogram::<u64>::new(3)?);
            while clock::now().mono < start + span {
                let line = |number: u64| load::registration("otp", &format!("r{lines}-{client}-{number}"), number);
                let registrations: Vec<String> = (done..done + lines).map(line).collect();
                let before = clock::now().mono;
                match registrations.as_slice() {
                    [one] => drop(connection.post("/v1/messages", one.clone()).await?),
                    many => connection.register(many).await?,
                }
                times.record(u64::try_from((clock::now().mono - before).as_micros())?)?;
                done += lines;
                progress.say(|| format!("registering: {:.0} s", seconds_since(start)));
            }
            anyhow::Ok((done, times))
        });
    }
    let (mut done, mut times) = (0, Histogram::<u64>::new(3)?);
    while let Some(worker) = working.join_next().await {
        let (count, its) = worker??;
        done += count;
        times.add(its)?;
    }
    let per_second = round(done as f64 / seconds_since(start));
    let sheet = Sheet::default().with("load", name).with("clients", clients).with("perRequest", lines);
    Ok(sheet.with("perSecond", per_second).times(&times).with("residentMib", rig.resident_mib()?))
}
