//! The platform goes away, in each of the ways it can, under a steady load: how much is asked and said meanwhile, is anything
//! lost, and how does the backlog go when it is back?

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::host::refused_connections;
use super::load::{self, Client};
use super::reader::Reader;
use super::rig::{LOOK_EVERY, Place, Rig, seconds_since, status};
use super::sheet::{Sheet, round};
use crate::clock;
use crate::model::{Outcome, Timestamp};

/// The platform fails in four ways, under load: what is asked, said and lost
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// How long each outage lasts
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Messages that fall due per second; a tenth of them are OTPs
    #[arg(long, value_name = "NUMBER", default_value_t = 200, value_parser = clap::value_parser!(u64).range(10..=10_000))]
    rate: u64,
}

/// How long a message lives.
const TTL: Duration = Duration::from_secs(2);
/// The load comes in portions of that much time.
const PORTION: Duration = Duration::from_millis(100);
/// What is overdue by less is no backlog.
const ON_TIME: Duration = Duration::from_secs(1);
/// When a backlog counts as stuck: the platform is tried again at least once a minute.
const PATIENCE: Duration = Duration::from_secs(240);

#[derive(Clone, Copy)]
enum Outage {
    /// Nobody listens.
    Refused,
    /// As the platform's control interface calls it.
    Kind(&'static str),
}

const OUTAGES: [(&str, Outage); 4] = [
    ("refused", Outage::Refused),
    ("black hole", Outage::Kind("blackHole")),
    ("503", Outage::Kind("503")),
    ("429", Outage::Kind("429")),
];

/// What became of a message, as far as it was told.
struct Told {
    deadline: Timestamp,
    at: Duration,
    outcome: Outcome,
    times: u32,
}

type Outcomes = BTreeMap<String, Told>;

pub(super) async fn run(args: Args, place: Place) -> anyhow::Result<Sheet> {
    let (ttl, pace) = (TTL.as_secs(), args.rate * 5 / 2);
    // It goes on in the section of the platform.
    let config = format!(
        "request_timeout = \"5s\"\n[pace]\nper_second = {pace}\n\
         [use_cases.otp]\nttl = \"{ttl}s\"\ntraffic_type = \"authentication\"\nsettle = \"100ms\"\n\
         [use_cases.promotion]\nttl = \"{ttl}s\"\ntraffic_type = \"promotion\"\nsettle = \"100ms\"\non_unknown = \"drop\"\n"
    );
    let mut rig = place.start(&[], &config).await?;
    let told = Reader::<Outcomes>::start(rig.daemon.socket(), |told, outcome, at| {
        let (deadline, outcome, id) = (outcome.deadline, outcome.outcome, outcome.message_id.to_string());
        told.entry(id).or_insert(Told { deadline, at, outcome, times: 0 }).times += 1;
    });
    let done = CancellationToken::new();
    let loading = tokio::spawn(keep_coming(rig.client().await?, args.rate, done.clone()));
    tokio::time::sleep(TTL * 2).await;
    let mut rows = Vec::new();
    for (name, outage) in OUTAGES {
        rows.push(strike(&mut rig, &told, name, outage, Duration::from_secs(args.seconds)).await?);
    }
    done.cancel();
    let registered = loading.await??;
    rig.progress().say(|| "waiting for the last outcomes".to_owned());
    let all_told = async {
        while (told.look(BTreeMap::len) as u64) < registered {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    // Whoever is missing then is lost, and said to be below.
    let _ = tokio::time::timeout(PATIENCE, all_told).await;
    let told = told.end().await?;
    let lost = registered - told.len() as u64;
    let twice = told.values().filter(|told| told.times > 1).count();
    let ended = |wanted: Outcome| told.values().filter(|told| told.outcome == wanted).count();
    let figures = Sheet::default()
        .with("messages", registered)
        .with("perSecond", args.rate)
        .with("pacePerSecond", pace)
        .with("outageSeconds", args.seconds)
        .with("lost", lost)
        .with("toldTwice", twice)
        .with("revoked", ended(Outcome::Revoked))
        .with("unknown", ended(Outcome::Unknown))
        .with("failed", ended(Outcome::Failed))
        .broken((lost > 0 || twice > 0).then(|| format!("{lost} messages were lost, {twice} settled twice")))
        .rows("outages", rows);
    rig.end(figures).await
}

/// Registers messages evenly until it is told to stop. Returns how many.
async fn keep_coming(mut client: Client, rate: u64, done: CancellationToken) -> anyhow::Result<u64> {
    let start = clock::now().mono;
    let mut beat = tokio::time::interval(PORTION);
    let mut registered = 0;
    while !done.is_cancelled() {
        beat.tick().await;
        let line = |number: u64| {
            let use_case = if number.is_multiple_of(10) { "otp" } else { "promotion" };
            load::registration(use_case, &format!("{use_case}-{number}"), number)
        };
        let until = (seconds_since(start) * rate as f64) as u64;
        let lines: Vec<String> = (registered..until).map(line).collect();
        if !lines.is_empty() {
            client.register(&lines).await?;
        }
        registered = until.max(registered);
    }
    Ok(registered)
}

/// One outage, and what came after it.
async fn strike(
    rig: &mut Rig,
    told: &Reader<Outcomes>,
    name: &str,
    outage: Outage,
    span: Duration,
) -> anyhow::Result<Sheet> {
    let lines = |rig: &Rig| rig.daemon.log().lines().count();
    let (lines_before, began) = (lines(rig), clock::wall());
    let progress = rig.progress().clone();
    progress.say(|| format!("outage: {name}"));
    let requests = match outage {
        Outage::Refused => {
            let before = refused_connections();
            let address = rig.platform.url.trim_start_matches("http://").to_owned();
            rig.platform.halt().await?;
            tokio::time::sleep(span).await;
            let after = refused_connections();
            rig.platform = rig.place.platform(Some(&address), &[]).await?;
            after.zip(before).map(|(after, before)| after - before)
        }
        Outage::Kind(kind) => {
            let before = rig.stats().await?;
            rig.order("outage", &json!({"kind": kind})).await?;
            tokio::time::sleep(span).await;
            let requests = rig.stats().await?.since(&before).deletes;
            rig.order("outage", &json!({"kind": "none"})).await?;
            Some(requests)
        }
    };
    let (back, ended) = (clock::now().mono, clock::wall());
    let mut client = rig.client().await?;
    let backlog_age = status(&mut client).await?.backlog_age;
    let held_up = |told: &Told| told.deadline >= began && told.deadline <= ended && told.at > back;
    loop {
        let state = status(&mut client).await?;
        let waiting = state.backlog_age;
        if waiting < ON_TIME && state.routes.iter().all(|route| route.resting.is_none()) {
            break;
        }
        progress.say(|| format!("after {name}: the longest wait is {:.0} s", waiting.as_secs_f64()));
        ensure!(clock::now().mono - back < PATIENCE, "{name}: the backlog does not go");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let clear = seconds_since(back);
    let log_lines = lines(rig) - lines_before;
    // Those that left last are told a settle window later.
    tokio::time::sleep(ON_TIME).await;
    let after = |told: &Outcomes, use_case: &str| {
        let of = told.iter().filter(|(id, told)| id.starts_with(use_case) && held_up(told));
        let mut times: Vec<f64> = of.map(|(_, told)| (told.at - back).as_secs_f64()).collect();
        times.sort_by(f64::total_cmp);
        (times.len(), times.get(times.len() / 2).copied().map(round), times.last().copied().map(round))
    };
    let (otps, promotions) = told.look(|told| (after(told, "otp"), after(told, "promotion")));
    Ok(Sheet::default()
        .with("outage", name)
        .with("requests", requests)
        .with("logLines", log_lines)
        .with("backlogAge", round(backlog_age.as_secs_f64()))
        .with("clearAfter", round(clear))
        .with("otps", otps.0)
        .with("otpsP50", otps.1)
        .with("otpsLast", otps.2)
        .with("promos", promotions.0)
        .with("promosP50", promotions.1)
        .with("promosLast", promotions.2))
}
