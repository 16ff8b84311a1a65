//! What a reload costs with N messages pending: `cargo bench --bench retune -- [--pending N,N] [--json]`.
//!
//! The engine on its own thread over a real store, a platform that answers at once. N messages of one use case are pending under
//! `ttl = "10m"`, sent evenly over the last nine minutes; then the ttl becomes five minutes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use revoked::clock;
use revoked::engine::{Doors, Draft, Engine, OnConflict, PaceLimits, Settings, Tuning};
use revoked::model::{AgentId, Answer, MessageId, Phone, Policies, Policy, Rule, TrafficType, UseCase};
use revoked::platform::{Order, Platform};
use revoked::store::{SledStore, StoreOptions};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Answers at once, and tells when the first request came.
#[derive(Default)]
struct Instant {
    requests: AtomicU64,
    first: Notify,
}

impl Platform for Instant {
    fn revoke(&self, _: Order) -> BoxFuture<'static, Answer> {
        if self.requests.fetch_add(1, Ordering::Relaxed) == 0 {
            self.first.notify_one();
        }
        Box::pin(std::future::ready(Answer::Revoked))
    }
}

fn tuning(minutes: u64) -> Tuning {
    let rule = Rule::Ttl(Duration::from_secs(60 * minutes));
    let policy = Policy { traffic_type: TrafficType::Authentication, ..Policy::new(rule) };
    let pace = PaceLimits { in_flight: 256, per_second: 100_000, in_flight_total: 1024 };
    let policies: Policies = [(use_case(), policy)].into_iter().collect();
    Tuning { policies, settings: Settings { pace, ..Settings::default() }, config_hash: format!("{minutes}m").into() }
}

fn use_case() -> UseCase {
    UseCase::new("otp").expect("a plain word")
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

/// Resident memory of this process in MiB (proc(5)).
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}

async fn measure(pending: u64, json: bool) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let doors = Doors::default();
    let (handle, teller) = (doors.handle(), doors.teller());
    let (store, snapshot) =
        SledStore::open(directory.path(), StoreOptions::default(), move |progress| teller.durable(progress))?;
    let platform = Arc::new(Instant::default());
    let engine = Engine::new(doors, store, &snapshot, Arc::clone(&platform), tuning(10))
        .map_err(|name| anyhow::anyhow!("no policy for {name}"))?;
    let stop = CancellationToken::new();
    let (drain, leave) = (stop.clone(), stop.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let thread = std::thread::spawn(move || drop(runtime.block_on(engine.run(drain, leave))));

    let before = clock::now();
    for start in (0..pending).step_by(1000) {
        let drafts: Vec<Draft> = (start..pending.min(start + 1000)).map(|number| draft(number, before.wall)).collect();
        // A store that is behind refuses: that is its back-pressure, and a client's reason to wait.
        let registered = loop {
            match handle.register(drafts.clone()).await {
                Ok(registered) => break registered,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        for one in registered {
            one.map_err(|refusal| anyhow::anyhow!(refusal.message))?;
        }
    }
    let loading = clock::now().mono - before.mono;

    let start = clock::now().mono;
    let plan = handle.plan(tuning(5)).await.map_err(|refusal| anyhow::anyhow!(refusal.message))?;
    let planned = clock::now().mono - start;
    let start = clock::now().mono;
    handle.retune(tuning(5)).await.map_err(|refusal| anyhow::anyhow!(refusal.message))?;
    let retuned = clock::now().mono - start;
    platform.first.notified().await;
    let first = clock::now().mono - start;

    let row = &plan.use_cases[0];
    let (moved, due) = (row.moved, row.due_at_once);
    if json {
        println!(
            "{{\"pending\":{pending},\"planMs\":{:.3},\"retuneMs\":{:.3},\"firstDeleteMs\":{:.3},\"moved\":{moved},\"dueAtOnce\":{due},\"rssMib\":{}}}",
            millis(planned),
            millis(retuned),
            millis(first),
            resident_mib()
        );
    } else {
        println!(
            "{pending:>10} pending (loaded in {:.1} s, {} MiB resident): plan {:.2} ms, retune {:.2} ms, first DELETE {:.2} ms \
             after it; {moved} moved, {due} due at once",
            loading.as_secs_f64(),
            resident_mib(),
            millis(planned),
            millis(retuned),
            millis(first)
        );
    }
    stop.cancel();
    thread.join().map_err(|_| anyhow::anyhow!("the engine broke down"))
}

fn draft(number: u64, now: revoked::model::Timestamp) -> Draft {
    Draft {
        agent: AgentId::new("bench").expect("a plain word"),
        message_id: MessageId::new(&format!("m{number}")).expect("a plain word"),
        phone: Phone::from_digits(12_223_334_444),
        use_case: use_case(),
        send_time: Some(now.minus(Duration::from_millis(number * 7919 % 540_000))),
        own: None,
        region: None,
        traffic_type: None,
        tags: Vec::new(),
        fallback: None,
        time_zone: None,
        on_conflict: OnConflict::Replace,
    }
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let json = arguments.iter().any(|argument| argument == "--json");
    let pending = arguments.iter().skip_while(|argument| *argument != "--pending").nth(1);
    let pending =
        pending.map_or("100000,1000000", String::as_str).split(',').map(str::parse).collect::<Result<Vec<u64>, _>>()?;
    let cpus = std::thread::available_parallelism()?;
    if !json {
        println!("ttl 10m -> 5m, {cpus} CPUs, store on the temporary directory, durability = disk");
    }
    let runtime = tokio::runtime::Runtime::new()?;
    pending.into_iter().try_for_each(|pending| runtime.block_on(measure(pending, json)))
}
