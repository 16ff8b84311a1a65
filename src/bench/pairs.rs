//! The common path, for as long as one likes: a message is registered, then delivered. Does the rate stay, and the disk?

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::host::mib;
use super::load::{self, Client};
use super::rig::{LOOK_EVERY, Place, Rig, seconds_since};
use super::sheet::{Sheet, grouped, round};
use crate::clock;
use crate::usage;

/// Messages registered and then delivered, per second, and whether it lasts
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// How long it goes on
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// End when so many pairs have passed, however long it takes
    #[arg(long, value_name = "NUMBER", conflicts_with = "seconds")]
    passed: Option<u64>,
    /// Messages that are registered before and stay pending
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pending: u64,
    /// Clients, each over a connection of its own
    #[arg(long, value_name = "NUMBER", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1000))]
    clients: u64,
}

/// Settled messages are purged soon, so that purging is part of what lasts.
const CONFIG: &str = "[log]\nlevel = \"warn\"\n[retention]\nsettled = \"10s\"\noutcomes = 100_000\n\
    [use_cases.otp]\nttl = \"1h\"\n[use_cases.later]\nttl = \"10d\"\n";
/// Rows that are shown, at most.
const ROWS_MAX: usize = 12;

pub(super) async fn run(args: Args, place: Place) -> anyhow::Result<Sheet> {
    let rig = place.start(&[], CONFIG).await?;
    let line = |number| load::registration("later", &format!("later-{number}"), number);
    load::fill(&rig.daemon.socket(), args.pending, line, rig.progress()).await?;

    let (passed, done) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
    let start = clock::now().mono;
    let mut working = JoinSet::new();
    for client in 0..args.clients {
        let (socket, passed, done) = (rig.daemon.socket(), Arc::clone(&passed), done.clone());
        working.spawn(async move { work(&socket, client, &passed, &done).await });
    }
    let mut samples = Vec::new();
    let mut beat = tokio::time::interval(Duration::from_secs(1));
    beat.tick().await;
    loop {
        // The end of a number of pairs is looked for more often than samples are taken.
        let next = tokio::select! {
            _ = beat.tick() => Some(sample(&rig, &passed, start)?),
            () = tokio::time::sleep(LOOK_EVERY) => None,
            // Workers end by an error only, before they are told to.
            Some(worker) = working.join_next() => { worker??; None }
        };
        samples.extend(next);
        let count = passed.load(Ordering::Relaxed);
        rig.progress().say(|| format!("passed: {} in {:.0} s", grouped(count), seconds_since(start)));
        if args.passed.map_or(seconds_since(start) >= args.seconds as f64, |wanted| count >= wanted) {
            break;
        }
    }
    let end = sample(&rig, &passed, start)?;
    done.cancel();
    let mut times = Histogram::<u64>::new(3)?;
    while let Some(worker) = working.join_next().await {
        times.add(worker??)?;
    }
    if samples.is_empty() {
        samples.push(end);
    }
    let rates = intervals(&samples, ROWS_MAX);
    let of = |row: &Interval| row.per_second;
    let most = |of: fn(&Sample) -> f64| samples.iter().map(of).fold(0.0, f64::max);
    let figures = Sheet::default()
        .with("clients", args.clients)
        .with("pending", args.pending)
        .with("settledKept", "10s")
        .with("pairs", end.passed)
        .with("seconds", round(end.at))
        .with("pairsPerSecond", round(end.passed as f64 / end.at))
        .with("slowestInterval", rates.iter().map(of).fold(f64::INFINITY, f64::min))
        .with("fastestInterval", rates.iter().map(of).fold(0.0, f64::max))
        .with("diskMibMax", most(|sample| sample.disk_mib).max(end.disk_mib))
        .with("diskMibEnd", end.disk_mib)
        .with("residentMibMax", most(|sample| sample.resident_mib).max(end.resident_mib))
        .with("residentMibEnd", end.resident_mib)
        .times(&times)
        .rows("intervals", rates.iter().map(Interval::row).collect());
    rig.end(figures).await
}

/// One client's pairs. Returns the times that each of the two answers took, in microseconds.
async fn work(
    socket: &Path,
    client: u64,
    passed: &AtomicU64,
    done: &CancellationToken,
) -> anyhow::Result<Histogram<u64>> {
    let mut connection = Client::connect(socket).await?;
    let mut times = Histogram::<u64>::new(3)?;
    for number in 0.. {
        if done.is_cancelled() {
            break;
        }
        let id = format!("p-{client}-{number}");
        let steps =
            [("/v1/messages", load::registration("otp", &id, number)), ("/v1/events", load::delivered(&id, number))];
        for (path, body) in steps {
            let before = clock::now().mono;
            connection.post(path, body).await?;
            times.record(u64::try_from((clock::now().mono - before).as_micros())?)?;
        }
        passed.fetch_add(1, Ordering::Relaxed);
    }
    Ok(times)
}

#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    at: f64,
    passed: u64,
    disk_mib: f64,
    resident_mib: f64,
}

fn sample(rig: &Rig, passed: &AtomicU64, start: Duration) -> anyhow::Result<Sample> {
    Ok(Sample {
        at: seconds_since(start),
        passed: passed.load(Ordering::Relaxed),
        disk_mib: mib(usage::disk_bytes(&rig.store())),
        resident_mib: rig.resident_mib()?,
    })
}

/// The rate between two samples, and how things stood at the second.
#[derive(Debug)]
struct Interval {
    end: Sample,
    per_second: f64,
}

impl Interval {
    fn row(&self) -> Sheet {
        Sheet::default()
            .with("untilSecond", round(self.end.at))
            .with("pairsPerSecond", self.per_second)
            .with("diskMib", self.end.disk_mib)
            .with("residentMib", self.end.resident_mib)
    }
}

/// As many intervals of equal length as fit into so many rows; what is left at the end is too short to say much.
fn intervals(samples: &[Sample], rows: usize) -> Vec<Interval> {
    let stride = samples.len().div_ceil(rows).max(1);
    let mut last = Sample::default();
    let ends = samples.iter().skip(stride - 1).step_by(stride);
    let interval = |end: &Sample| {
        let per_second = round((end.passed - last.passed) as f64 / (end.at - last.at).max(f64::EPSILON));
        last = *end;
        Interval { end: *end, per_second }
    };
    ends.map(interval).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_equal_and_few() {
        let sample = |second: u32| Sample { at: second.into(), passed: u64::from(second) * 10, ..Sample::default() };
        let samples: Vec<Sample> = (1..=25).map(sample).collect();
        let rates = intervals(&samples, 12);
        let ends: Vec<f64> = rates.iter().map(|rate| rate.end.at).collect();
        assert_eq!(ends, [3.0, 6.0, 9.0, 12.0, 15.0, 18.0, 21.0, 24.0]);
        assert!(rates.iter().all(|rate| (rate.per_second - 10.0).abs() < 0.001), "{rates:?}");
        assert_eq!(intervals(&samples[..2], 12).len(), 2);
    }
}
