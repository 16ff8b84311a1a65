//! A campaign's end: all promotions fall due in the same second, at a platform that lets a few thousand a second through, while
//! OTPs go on falling due. The daemon does not know the platform's rate: it has to find it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;
use tokio::sync::watch;

use super::books;
use super::load::{self, phone};
use super::reader::Reader;
use super::rig::{LOOK_EVERY, Place, Rig, Stats, count, seconds_since, status};
use super::sheet::{Sheet, grouped, round};
use crate::clock;
use crate::engine::StateKind;
use crate::model::Timestamp;

/// A campaign's end beside OTPs, at a platform whose rate is not known
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Promotions that fall due in the same second
    #[arg(long, value_name = "NUMBER", default_value_t = 80_000, value_parser = clap::value_parser!(u64).range(1..))]
    promotions: u64,
    /// OTPs that fall due per second, throughout
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1000))]
    otps: u64,
    /// Requests per second that the platform lets through; 429 beyond
    #[arg(long, value_name = "NUMBER", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(10..))]
    rate: u32,
    /// Configure the platform's rate as the pace, instead of half as much again
    #[arg(long)]
    paced: bool,
}

/// How long an OTP lives.
const OTP_TTL: Duration = Duration::from_secs(2);
/// From the change of the campaign's end to the end.
const NOTICE: Duration = Duration::from_secs(1);
/// Until then the daemon may be looking for the platform's rate.
const FINDING: f64 = 10.0;

pub(super) async fn run(args: Args, place: Place) -> anyhow::Result<Sheet> {
    let pace = if args.paced { args.rate } else { args.rate.saturating_mul(3) / 2 };
    let far = clock::wall().plus(Duration::from_secs(20 * 24 * 3600));
    let config = format!(
        "[log]\nlevel = \"warn\"\n[pace]\nper_second = {pace}\n\
         [use_cases.otp]\nttl = \"{}s\"\ntraffic_type = \"authentication\"\nsettle = \"100ms\"\n\
         [use_cases.promotion]\nexpires_at = {far}\ntraffic_type = \"promotion\"\nsettle = \"100ms\"\non_unknown = \"drop\"\n",
        OTP_TTL.as_secs()
    );
    let rate = args.rate.to_string();
    let rig = place.start(&["--rate", &rate], &config).await?;
    let line = |number| load::registration("promotion", &format!("promotion-{number}"), number);
    load::fill(&rig.daemon.socket(), args.promotions, line, rig.progress()).await?;
    let resident_before = rig.resident_mib()?;

    let told = Reader::<BTreeMap<String, (Timestamp, Duration)>>::start(rig.daemon.socket(), |otps, outcome, _| {
        if outcome.use_case.as_str() == "otp" {
            let lateness = outcome.lateness.unwrap_or_default();
            otps.entry(outcome.message_id.to_string()).or_insert((outcome.deadline, lateness));
        }
    });
    let (over, is_over) = watch::channel(false);
    let (found, sent) = tokio::join!(drain(&rig, &args, far, over), send_otps(&rig, args.otps, is_over));
    let (Drained { due, wall, seconds, stats, early, resident_mib_max, rate_end }, sent) = (found?, sent?);
    rig.progress().say(|| "waiting for the last OTPs".to_owned());
    let all_told = async {
        while told.look(BTreeMap::len) < sent {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(OTP_TTL * 10, all_told).await.context("OTPs are without an outcome")?;
    let otps = told.end().await?;
    let beside = |deadline: Timestamp| deadline >= due && deadline <= wall;
    let (mut daemon, mut platform) = (Histogram::<u64>::new(3)?, Histogram::<u64>::new(3)?);
    let books = books::first_deletes(&rig).await?;
    for (id, (deadline, lateness)) in otps.iter().filter(|(_, (deadline, _))| beside(*deadline)) {
        daemon.record(u64::try_from(lateness.as_micros())?)?;
        if let Some(at) = books.get(id) {
            platform.record(books::micros_late(*at, *deadline))?;
        }
    }
    let (refused, requests) = (stats.answered(429), stats.deletes);
    let later = requests - early.as_ref().map_or(requests, |early| early.deletes);
    let refused_later = refused - early.as_ref().map_or(refused, |early| early.answered(429));
    let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { round(100.0 * part as f64 / whole as f64) };
    let figures = Sheet::default()
        .with("promotions", args.promotions)
        .with("platformPerSecond", args.rate)
        .with("configuredPerSecond", pace)
        .with("seconds", round(seconds))
        .with("promotionsPerSecond", round(args.promotions as f64 / seconds))
        .with("percentOfAllowed", round(100.0 * stats.answered(200) as f64 / (f64::from(args.rate) * seconds)))
        .with("requests", requests)
        .with("refused429", refused)
        .with("refused429Percent", share(refused, requests))
        .with("refused429PercentLater", share(refused_later, later))
        .with("pacePerSecondEnd", round(rate_end))
        .with("residentMibBefore", resident_before)
        .with("residentMibMax", resident_mib_max)
        .with("residentMibAfter", rig.resident_mib()?)
        .with("otpsBeside", daemon.len())
        .rows(
            "otpLateness",
            vec![
                Sheet::default().with("toldBy", "daemon").times(&daemon),
                Sheet::default().with("toldBy", "platform").times(&platform),
            ],
        );
    rig.end(figures).await
}

struct Drained {
    /// When the promotions fell due,
    due: Timestamp,
    /// and when none was left.
    wall: Timestamp,
    seconds: f64,
    /// Since they fell due.
    stats: Stats,
    /// The same some seconds later, if it took that long.
    early: Option<Stats>,
    resident_mib_max: f64,
    /// The daemon's pace at the end.
    rate_end: f64,
}

async fn drain(rig: &Rig, args: &Args, far: Timestamp, over: watch::Sender<bool>) -> anyhow::Result<Drained> {
    let mut client = rig.client().await?;
    // OTPs are to fall due before the herd does, too.
    tokio::time::sleep(OTP_TTL).await;
    let due = clock::wall().plus(NOTICE);
    rig.reload(&far.to_string(), &due.to_string()).await?;
    tokio::time::sleep(due.since(clock::wall())).await;
    let (start, before) = (clock::now().mono, rig.stats().await?);
    let (mut early, mut resident_mib_max) = (None, 0.0_f64);
    loop {
        let state = status(&mut client).await?;
        let left = count(&state, "promotion", &[StateKind::Pending, StateKind::Revoking]);
        resident_mib_max = resident_mib_max.max(rig.resident_mib()?);
        let seconds = seconds_since(start);
        if left == 0 {
            let (stats, wall) = (rig.stats().await?.since(&before), clock::wall());
            over.send_replace(true);
            let rate_end = state.routes.first().map_or(0.0, |route| route.per_second);
            return Ok(Drained { due, wall, seconds, stats, early, resident_mib_max, rate_end });
        }
        if seconds >= FINDING && early.is_none() {
            early = Some(rig.stats().await?.since(&before));
        }
        rig.progress().say(|| {
            let pace = state.routes.first().map_or(0.0, |route| route.per_second);
            let (left, all) = (grouped(left), grouped(args.promotions));
            format!("draining: {left} of {all} left after {seconds:.0} s, pace {pace:.0}/s")
        });
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Sends and registers OTPs evenly, until the herd is over. Returns how many.
async fn send_otps(rig: &Rig, per_second: u64, over: watch::Receiver<bool>) -> anyhow::Result<usize> {
    let mut client = rig.client().await?;
    let mut beat = tokio::time::interval(Duration::from_secs(1) / u32::try_from(per_second)?);
    let mut sent = 0;
    // A herd that could not be watched is over, too.
    while !*over.borrow() && over.has_changed().is_ok() {
        beat.tick().await;
        let id = format!("otp-{sent}");
        rig.send(&id, &phone(sent)).await?;
        client.post("/v1/messages", load::registration("otp", &id, sent)).await?;
        sent += 1;
    }
    Ok(usize::try_from(sent)?)
}
