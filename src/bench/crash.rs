//! kill -9 again and again, at random moments, under load from many sides: is everything still there that was acknowledged,
//! and is nothing granted twice? Between the kills the daemon is stopped (SIGSTOP) and goes on (SIGCONT), or dies stopped.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::load::{self, AGENT, Client};
use super::rig::{LOOK_EVERY, Place, Rig, count, status};
use super::sheet::{Sheet, grouped};
use crate::child::Daemon;
use crate::engine::StateKind;
use crate::intake::wire::{ListView, MessageView, OutcomeView, OutcomesView};
use crate::model::Outcome;

/// kill -9 at random moments under load, again and again
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// How often
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    kills: u64,
    /// What all chance is drawn from; the n-th kill uses this number plus n
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
}

/// Long enough for DELETEs to be out when it ends, and outcomes too.
const ALIVE_MS: std::ops::Range<u64> = 20..600;
/// How often a life is interrupted at most, and for how long: deadlines, settle windows and answers fall into it.
const STOPS_MAX: u64 = 2;
const STOPPED_MS: std::ops::Range<u64> = 1..300;
const CLIENTS: u64 = 8;
/// Older messages that are looked at after each restart, besides all that are new.
const SAMPLE: usize = 200;
const PATIENCE: Duration = Duration::from_secs(60);
/// What the daemon says of its store if index and records do not agree.
const TORN: [&str; 2] = ["a place without a record", "makes no sense"];

const CONFIG: &str = "[log]\nlevel = \"warn\"\n[pace]\nin_flight = 256\nper_second = 100_000\n\
    [retention]\noutcomes = 100_000_000\n\
    [use_cases.otp]\nttl = \"200ms\"\nsettle = \"50ms\"\ntraffic_type = \"authentication\"\n\
    [use_cases.later]\nttl = \"10d\"\n";

/// What the daemon acknowledged. What was under way when it died may be there as well, or not.
#[derive(Default)]
struct Ledger {
    /// Each message, and whether its delivery was acknowledged too.
    messages: HashMap<String, bool>,
    /// Those that were not looked at yet.
    new: Vec<String>,
    /// Every outcome, by its cursor.
    told: BTreeMap<u64, Told>,
}

/// An outcome, as far as it must never change.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Told {
    id: String,
    outcome: Outcome,
    grant: Option<String>,
}

type Shared = Arc<Mutex<Ledger>>;

fn lock(ledger: &Shared) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Verdict {
    checked: u64,
    lost: u64,
    torn: u64,
    /// In words, the first few.
    wrong: Vec<String>,
}

impl Verdict {
    fn torn(&mut self, why: String) {
        self.torn += 1;
        self.wrong.push(why);
        self.wrong.truncate(5);
    }
}

pub(super) async fn run(args: Args, place: Place) -> anyhow::Result<Sheet> {
    let mut rig = place.start(&[], CONFIG).await?;
    let ledger = Shared::default();
    let (mut verdict, mut restarts) = (Verdict::default(), Histogram::<u64>::new(3)?);
    let mut stops = 0;
    for kill in 0..args.kills {
        let seed = args.seed + kill;
        let mut random = fastrand::Rng::with_seed(seed);
        let mut working = JoinSet::new();
        for client in 0..CLIENTS {
            let (socket, ledger, random) = (rig.daemon.socket(), Arc::clone(&ledger), random.fork());
            // It ends when nobody is there any more.
            working.spawn(async move { drop(register(socket, format!("{kill}-{client}"), random, &ledger).await) });
        }
        let (socket, reader, fork) = (rig.daemon.socket(), Arc::clone(&ledger), random.fork());
        working.spawn(async move { drop(read(socket, fork, &reader).await) });
        stops += live(&rig.daemon, &mut random).await?;
        rig.daemon.kill().await?;
        working.join_all().await;
        let took = rig.daemon.start_again().await.with_context(|| format!("after kill {kill}, seed {seed}"))?;
        restarts.record(u64::try_from(took.as_micros())?)?;
        check(&rig, &ledger, &mut random, &mut verdict)
            .await
            .with_context(|| format!("after kill {kill}, seed {seed}"))?;
        rig.progress().say(|| {
            let (all, lost) = (grouped(lock(&ledger).messages.len() as u64), verdict.lost);
            format!("kill {} of {} (seed {seed}): {all} acknowledged, {lost} lost", kill + 1, args.kills)
        });
    }
    let end = conclude(&rig, &ledger, &mut verdict).await?;
    for words in TORN {
        for line in rig.daemon.log().lines().filter(|line| line.contains(words)) {
            verdict.torn(line.to_owned());
        }
    }
    let acknowledged = lock(&ledger).messages.len();
    let broken = (verdict.lost + verdict.torn + end.twice > 0).then(|| {
        let (lost, torn, twice) = (verdict.lost, verdict.torn, end.twice);
        format!("{lost} lost, {torn} torn, {twice} granted twice; {}", verdict.wrong.join("; "))
    });
    let figures = Sheet::default()
        .with("kills", args.kills)
        .with("stops", stops)
        .with("seedFirst", args.seed)
        .with("seedLast", args.seed + args.kills - 1)
        .with("acknowledged", acknowledged)
        .with("checked", verdict.checked)
        .with("lost", verdict.lost)
        .with("torn", verdict.torn)
        .with("outcomes", end.outcomes)
        .with("grants", end.grants)
        .with("grantedTwice", end.twice)
        .broken(broken)
        .rows("restarts", vec![Sheet::default().with("restarts", restarts.len()).times(&restarts)]);
    rig.end(figures).await
}

/// Lets the daemon live for a while, stopped now and then, and some of them when it is over; returns how often.
async fn live(daemon: &Daemon, random: &mut fastrand::Rng) -> anyhow::Result<u64> {
    let stops = random.u64(..=STOPS_MAX);
    for stop in 1..=stops {
        tokio::time::sleep(Duration::from_millis(random.u64(ALIVE_MS) / stops)).await;
        daemon.freeze()?;
        tokio::time::sleep(Duration::from_millis(random.u64(STOPPED_MS))).await;
        if stop == stops && random.bool() {
            return Ok(stops);
        }
        daemon.thaw()?;
    }
    tokio::time::sleep(Duration::from_millis(random.u64(ALIVE_MS))).await;
    Ok(stops)
}

/// One client: registers, and says of some messages that they were delivered.
async fn register(socket: PathBuf, name: String, mut random: fastrand::Rng, ledger: &Shared) -> anyhow::Result<()> {
    let mut client = Client::connect(&socket).await?;
    for number in 0.. {
        let use_case = if random.bool() { "otp" } else { "later" };
        let id = format!("{use_case}-{name}-{number}");
        client.post("/v1/messages", load::registration(use_case, &id, number)).await?;
        {
            let mut ledger = lock(ledger);
            ledger.messages.insert(id.clone(), false);
            ledger.new.push(id.clone());
        }
        if random.u8(..4) == 0 {
            let answer: Value =
                serde_json::from_slice(&client.post("/v1/events", load::delivered(&id, number)).await?)?;
            lock(ledger).messages.insert(id, answer["effect"] == "APPLIED");
        }
    }
    Ok(())
}

/// Reads outcomes from where it was, and acknowledges some.
async fn read(socket: PathBuf, mut random: fastrand::Rng, ledger: &Shared) -> anyhow::Result<()> {
    let mut client = Client::connect(&socket).await?;
    loop {
        let after = lock(ledger).told.last_key_value().map_or(0, |(cursor, _)| *cursor);
        let cursor = take(&mut client, after, ledger).await?;
        if random.bool() {
            client.post("/v1/outcomes:ack", json!({"cursor": cursor}).to_string()).await?;
        }
    }
}

/// Reads a page of outcomes into the ledger; returns where the next one begins.
async fn take(client: &mut Client, after: u64, ledger: &Shared) -> anyhow::Result<String> {
    let page = outcomes(client, after).await?;
    let mut ledger = lock(ledger);
    for outcome in page.outcomes {
        let (cursor, told) = told(outcome)?;
        ledger.told.insert(cursor, told);
    }
    Ok(page.next_cursor)
}

async fn outcomes(client: &mut Client, after: u64) -> anyhow::Result<OutcomesView> {
    let path = format!("/v1/outcomes?after={after}&wait=0.1s&pageSize=1000");
    Ok(serde_json::from_slice(&client.get(&path).await?)?)
}

fn told(view: OutcomeView) -> anyhow::Result<(u64, Told)> {
    let grant = view.grant.map(|grant| grant.grant_id);
    Ok((view.cursor.parse()?, Told { id: view.message_id.to_string(), outcome: view.outcome, grant }))
}

/// Everything acknowledged since the last look is there, and some of what is older.
async fn check(rig: &Rig, ledger: &Shared, random: &mut fastrand::Rng, verdict: &mut Verdict) -> anyhow::Result<()> {
    let ids: Vec<String> = {
        let mut ledger = lock(ledger);
        let mut ids = std::mem::take(&mut ledger.new);
        let older = ledger.messages.keys().skip(random.usize(..ledger.messages.len().max(1))).take(SAMPLE);
        ids.extend(older.cloned());
        ids
    };
    let mut working = JoinSet::new();
    for ids in ids.chunks(ids.len().div_ceil(usize::try_from(CLIENTS)?).max(1)) {
        let (socket, ids) = (rig.daemon.socket(), ids.to_vec());
        let delivered: Vec<bool> = ids.iter().map(|id| lock(ledger).messages.get(id) == Some(&true)).collect();
        working.spawn(async move { look_at(&socket, ids, delivered).await });
    }
    while let Some(found) = working.join_next().await {
        let found = found??;
        verdict.checked += found.checked;
        verdict.lost += found.lost;
        found.wrong.into_iter().for_each(|wrong| verdict.wrong.push(wrong));
        verdict.torn += found.torn;
    }
    verdict.wrong.truncate(5);
    Ok(())
}

async fn look_at(socket: &Path, ids: Vec<String>, delivered: Vec<bool>) -> anyhow::Result<Verdict> {
    let mut client = Client::connect(socket).await?;
    let mut verdict = Verdict::default();
    for (id, delivered) in ids.into_iter().zip(delivered) {
        verdict.checked += 1;
        let Some(answer) = client.find(&format!("/v1/messages/{AGENT}/{id}")).await? else {
            verdict.lost += 1;
            verdict.wrong.push(format!("{id} was acknowledged and is not there"));
            continue;
        };
        let message: MessageView = serde_json::from_slice(&answer)?;
        let wrong = match (delivered, id.starts_with("later"), message.state, message.outcome) {
            (true, _, StateKind::Settled, Some(Outcome::Delivered)) | (false, false, ..) => None,
            // An event that crosses an attempt counts when the attempt is back.
            (true, false, StateKind::Revoking | StateKind::Settling, _) => None,
            // Of a delivery that was not acknowledged nobody knows.
            (false, true, StateKind::Pending, None) | (false, true, StateKind::Settled, Some(Outcome::Delivered)) => {
                None
            }
            (_, _, state, outcome) => Some(format!("{id}: delivered {delivered}, but {state:?} {outcome:?}")),
        };
        wrong.into_iter().for_each(|why| verdict.torn(why));
    }
    Ok(verdict)
}

struct End {
    outcomes: usize,
    grants: usize,
    twice: u64,
}

/// When all is settled: the whole list against the ledger, and all outcomes anew against those that were read.
async fn conclude(rig: &Rig, ledger: &Shared, verdict: &mut Verdict) -> anyhow::Result<End> {
    let mut client = rig.client().await?;
    let settled = async {
        let open = [StateKind::Pending, StateKind::Revoking, StateKind::Settling];
        while count(&status(&mut client).await?, "otp", &open) > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, settled).await.context("OTPs do not settle")??;
    let mut listed = HashSet::new();
    let mut page = String::new();
    loop {
        let path = format!("/v1/messages?pageSize=1000&pageToken={page}");
        let list: ListView = serde_json::from_slice(&client.get(&path).await?)?;
        for message in list.messages {
            if !listed.insert(message.message_id.to_string()) {
                verdict.torn(format!("{} is listed twice", message.message_id.as_str()));
            }
        }
        rig.progress().say(|| format!("listing: {}", grouped(listed.len() as u64)));
        let Some(next) = list.next_page_token else { break };
        page = next;
    }
    let counted: u64 = status(&mut client).await?.use_cases.values().flat_map(BTreeMap::values).sum();
    if counted != listed.len() as u64 {
        verdict.torn(format!("{counted} are counted, {} listed", listed.len()));
    }
    let missing = lock(ledger).messages.keys().filter(|id| !listed.contains(*id)).count();
    verdict.lost += missing as u64;

    let fresh = Shared::default();
    let mut after = 0;
    loop {
        let next = take(&mut client, after, &fresh).await?.parse()?;
        if next == after {
            break;
        }
        after = next;
    }
    let (ledger, fresh) = (lock(ledger), lock(&fresh));
    for (cursor, told) in &ledger.told {
        if fresh.told.get(cursor) != Some(told) {
            verdict.torn(format!("outcome {cursor} was {told:?} and is {:?}", fresh.told.get(cursor)));
        }
    }
    let with_outcome: HashSet<&str> = fresh.told.values().map(|told| told.id.as_str()).collect();
    for id in ledger.messages.keys().filter(|id| id.starts_with("otp") && !with_outcome.contains(id.as_str())) {
        verdict.torn(format!("{id} has settled without an outcome"));
    }
    let mut grants: HashMap<&str, &str> = HashMap::new();
    let mut granted: HashMap<&str, &str> = HashMap::new();
    let mut twice = 0;
    for told in fresh.told.values() {
        let Some(grant) = &told.grant else { continue };
        let (id, grant) = (told.id.as_str(), grant.as_str());
        twice += u64::from(*granted.entry(id).or_insert(grant) != grant || *grants.entry(grant).or_insert(id) != id);
    }
    Ok(End { outcomes: fresh.told.len(), grants: grants.len(), twice })
}
