//! Deadlines spread evenly, with nothing in the way: how late does each DELETE leave?

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use hdrhistogram::Histogram;

use super::books;
use super::load::{self, phone};
use super::reader::Reader;
use super::rig::{LOOK_EVERY, Place};
use super::sheet::{Sheet, grouped};
use crate::clock;
use crate::model::Timestamp;

/// How late DELETEs leave when deadlines are spread evenly
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Deadlines per second
    #[arg(long, value_name = "NUMBER", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(10..=50_000))]
    rate: u64,
    /// How long it goes on
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
}

const CONFIG: &str = "[log]\nlevel = \"warn\"\n[pace]\nin_flight = 256\nper_second = 200_000\n\
    [use_cases.notice]\nttl = \"1h\"\nsettle = \"100ms\"\non_unknown = \"drop\"\n";
/// Messages are registered in portions of that much time,
const PORTION: Duration = Duration::from_millis(100);
/// so long before they are due.
const AHEAD: Duration = Duration::from_secs(2);
/// One message in so many is sent through the platform, which then keeps a book on it.
const BOOKED: u64 = 10;

pub(super) async fn run(args: Args, place: Place) -> anyhow::Result<Sheet> {
    let rig = place.start(&[], CONFIG).await?;
    let told = Reader::<BTreeMap<String, (Timestamp, Duration)>>::start(rig.daemon.socket(), |told, outcome, _| {
        let lateness = outcome.lateness.unwrap_or_default();
        told.entry(outcome.message_id.to_string()).or_insert((outcome.deadline, lateness));
    });
    let mut client = rig.client().await?;
    let mut beat = tokio::time::interval(PORTION);
    let first_due = clock::wall().plus(AHEAD + PORTION);
    let wanted = args.rate * args.seconds;
    let mut registered = 0;
    while registered < wanted {
        beat.tick().await;
        // By the clock and not by the beat: what a slow moment held up is caught up with.
        let until = clock::wall().plus(AHEAD + PORTION).since(first_due).as_secs_f64() * args.rate as f64;
        let portion: Vec<u64> = (registered..wanted.min(until as u64)).collect();
        for number in portion.iter().filter(|number| *number % BOOKED == 0) {
            rig.send(&format!("t-{number}"), &phone(*number)).await?;
        }
        let line = |number: &u64| {
            let due = first_due.plus(Duration::from_secs_f64(*number as f64 / args.rate as f64));
            load::registration_until("notice", &format!("t-{number}"), *number, due)
        };
        for lines in portion.chunks(usize::try_from(load::BATCH)?) {
            client.register(&lines.iter().map(line).collect::<Vec<_>>()).await?;
        }
        registered += portion.len() as u64;
        rig.progress().say(|| format!("registered: {} of {}", grouped(registered), grouped(wanted)));
    }
    let all_told = async {
        while (told.look(BTreeMap::len) as u64) < wanted {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all_told).await.context("messages are without an outcome")?;
    let told = told.end().await?;
    let (mut daemon, mut platform) = (Histogram::<u64>::new(3)?, Histogram::<u64>::new(3)?);
    for (_, lateness) in told.values() {
        daemon.record(u64::try_from(lateness.as_micros())?)?;
    }
    let books = books::first_deletes(&rig).await?;
    for (id, at) in &books {
        let (deadline, _) = told.get(id).context("a message was revoked that nobody registered")?;
        ensure!(at.timestamp_millis() >= deadline.millis(), "{id} was revoked before its deadline");
        platform.record(books::micros_late(*at, *deadline))?;
    }
    let row = |by: &str, unit: &str, times: &Histogram<u64>| {
        let sheet = Sheet::default().with("toldBy", by).with("precision", unit).with("messages", times.len());
        sheet.times(times)
    };
    let figures = Sheet::default()
        .with("messages", wanted)
        .with("perSecond", args.rate)
        .rows("lateness", vec![row("daemon", "1 ms", &daemon), row("platform", "1 us", &platform)]);
    rig.end(figures).await
}
