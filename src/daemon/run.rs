//! The order of starting and stopping.
//!
//! Start: configuration → logs → platform client → store → engine → socket, webhook → ready. Nothing is bound before the configuration is known to
//! be good, and no client is let in before its registrations can be durable. Stop: no new clients → requests in progress
//! are answered → attempts that are out come back → the store is flushed and closed.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::logs::Logs;
use super::reload::Reloader;
use super::signals::{self, Stop};
use super::sockets::Passed;
use super::{clock_watch, exit, file_watch, hooks, logs, pushes, systemd};
use crate::clock;
use crate::config::{self, Config, Loaded, Mode};
use crate::engine::{Doors, Engine, PaceLimits, Settings, Tuning};
use crate::fallback::Hooks;
use crate::intake::access::Rules;
use crate::intake::desk::{Desk, Reloads};
use crate::intake::{self, Gate, Limits, Refused, socket::SocketError, webhook::Webhook};
use crate::platform::{self, Platform, RbmClient, Shadow};
use crate::store::{Durability, SledStore, StoreError, StoreOptions, is_of_database};

/// How long requests in progress may take to end once a stop was asked for.
const GRACE: Duration = Duration::from_secs(10);
/// How long attempts that are out may then take to come back. With the above it is less than `TimeoutStopSec=` of the unit, so that
/// it is us who leaves, and in order.
const GRACE_OF_ATTEMPTS: Duration = Duration::from_secs(25);

/// Less would make a run of every few thousand messages.
const YOUNG_BYTES_MIN: usize = 16 << 20;

/// Connections for scrapes at a time; one that is idle makes room for another.
const METRICS_CLIENTS_MAX: usize = 16;

/// Out of a damaged store. What is lost of it nobody here can make up for.
const WAY_OUT: &str = "nothing was revoked. Put a copy of the state directory in its place, or move it away, start with an empty one \
    and `revokectl import` the last export";

/// Why the daemon does not run: what to say, and the exit code that goes with it.
pub(super) struct Failure(pub exit::Code, pub String);

impl Failure {
    pub(super) fn new(code: exit::Code, error: impl fmt::Display) -> Self {
        Self(code, error.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let code = match error {
            StoreError::Locked(_) => exit::UNAVAILABLE,
            StoreError::Newer { .. } => exit::CONFIG,
            StoreError::Corrupt(_) | StoreError::Io(_) | StoreError::Spent => exit::IO,
        };
        if let StoreError::Corrupt(_) = error {
            return Self(code, format!("{error}; {WAY_OUT}"));
        }
        Self::new(code, error)
    }
}

impl From<SocketError> for Failure {
    fn from(error: SocketError) -> Self {
        let code = match &error {
            SocketError::InUse(_) => exit::UNAVAILABLE,
            SocketError::NotASocket(_) => exit::CONFIG,
            SocketError::Io { error, .. } if error.kind() == ErrorKind::PermissionDenied => exit::NO_PERMISSION,
            SocketError::Io { .. } => exit::IO,
        };
        Self::new(code, error)
    }
}

/// Runs until it is told to stop.
pub(super) fn run(path: &Path) -> ExitCode {
    let loaded = match config::load(path, &config::Env::of_process(), clock::wall()) {
        Ok(loaded) => loaded,
        Err(report) => {
            anstream::eprintln!("{}", report.styled());
            return exit::CONFIG.into();
        }
    };
    let logs = match logs::start(&loaded.config.log) {
        Ok(logs) => logs,
        Err(error) => {
            anstream::eprintln!("error: [log] level: {error}");
            return exit::CONFIG.into();
        }
    };
    for problem in loaded.warnings.problems() {
        warn!(file = %path.display(), "{}", problem.title);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(workers()).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "can't start");
            return exit::SOFTWARE.into();
        }
    };
    match runtime.block_on(live(path, loaded, logs)) {
        Ok(()) => {
            info!(name: "stopped", "stopped");
            ExitCode::SUCCESS
        }
        Err(Failure(code, words)) => {
            error!("{words}");
            code.into()
        }
    }
}

/// Half of the processors for requests and attempts. Engine and store have threads of their own, and on a small host every
/// further thread costs more in being woken than it helps.
fn workers() -> usize {
    thread::available_parallelism().map_or(1, |processors| processors.get().div_ceil(2))
}

async fn live(path: &Path, loaded: Loaded, logs: Logs) -> Result<(), Failure> {
    let Loaded { config, hash, .. } = loaded.clone();
    let started_at = clock::wall();
    let setup = pushes::setup(&config.webhook).map_err(|error| Failure::new(exit::CONFIG, error))?;
    let hooks = hooks::set_up(config.fallbacks()).map_err(|error| Failure::new(exit::CONFIG, error))?;
    let (hook_set, hooks) = Hooks::open(hooks);
    let (set_up, pushes) = watch::channel(Arc::new(setup));
    let (rules, access) = watch::channel(Arc::new(Rules::from(config.access.clone())));
    let platform: Arc<dyn Platform> = match config.platform.mode {
        Mode::Live => Arc::new(client(&config).map_err(|error| Failure::new(exit::CONFIG, error))?),
        Mode::Shadow => {
            warn!(name: "shadow_mode", "SHADOW MODE: nothing will be revoked; what would have been is recorded as outcome SHADOW");
            Arc::new(Shadow)
        }
    };
    let doors = Doors::default();
    let (handle, teller) = (doors.handle(), doors.teller());

    let stop = Stop::default();
    let signals = signals::listen(stop.clone()).map_err(|error| Failure::new(exit::SOFTWARE, error))?;
    tokio::spawn(signals);
    // A SIGHUP during the start is a reload that comes early, and not the end.
    let hangup = signal(SignalKind::hangup()).map_err(|error| Failure::new(exit::SOFTWARE, error))?;

    let (directory, options) = (config.store.path.clone(), store_options(&config));
    end_with_the_database(directory.clone());
    let options = StoreOptions { progress: Some(systemd::opening), ..options };
    let news = teller.clone();
    // Opening reads, and after a crash much: not on a thread that others wait for.
    let opened = tokio::task::spawn_blocking(move || {
        SledStore::open(&directory, options, move |progress| {
            if let Err(error @ StoreError::Spent) = progress {
                // Nothing that was acknowledged is lost by it, and there is nothing that could be written in order.
                error!(name: "store_spent", "{error}");
                std::process::exit(exit::IO.0.into());
            }
            news.durable(progress);
        })
    });
    let (store, snapshot) = opened.await.map_err(|error| Failure::new(exit::SOFTWARE, error))??;
    let pending: u64 = snapshot.counts.iter().map(|(.., count)| count).sum();
    info!(name: "store_open", path = %config.store.path.display(), messages = pending, "the store is open");

    let engine = Engine::new(doors, store, &snapshot, platform, hooks, tuning(&config, &hash)).map_err(|name| {
        let words = format!(
            "messages wait under use case {name:?}, which the configuration does not know: \
             put [use_cases.{name}] back, with retired = true if it is to take no new ones"
        );
        Failure(exit::CONFIG, words)
    })?;
    clock_watch::watch(move || teller.clock_stepped()).map_err(|error| Failure::new(exit::SOFTWARE, error))?;

    let listens = [("webhook", config.webhook.listen), ("metrics", config.metrics.listen)];
    let served = listens.iter().filter(|(_, listen)| listen.is_some()).map(|(name, _)| *name);
    let mut passed = Passed::from_env(&["api"].into_iter().chain(served).collect::<Vec<_>>())?;
    let listener = passed.api(&config.server)?;
    let door = passed.tcp("webhook", config.webhook.listen).await?;
    let metrics = passed.tcp("metrics", config.metrics.listen).await?;
    let drain = CancellationToken::new();
    let mut closed = start_engine(engine, drain.clone(), stop.leave.clone())?;

    let (desk, requests) = Desk::open();
    let changed = if config.server.watch_config {
        file_watch::watch(path).map_err(|error| Failure::new(exit::SOFTWARE, error))?
    } else {
        tokio::sync::mpsc::channel(1).1
    };
    let (told_reloads, reloads) = watch::channel(Reloads::default());
    let reloader = Reloader {
        path: path.to_owned(),
        looked_at: Some(loaded.hash.clone()),
        current: loaded,
        since: started_at,
        engine: handle.clone(),
        logs,
        pushes: set_up,
        hooks: hook_set,
        told: told_reloads,
        rules,
        last: None,
    };
    tokio::spawn(reloader.run(requests, changed, hangup, stop.drain.clone()));

    let mut servers = JoinSet::new();
    let mut webhook = None;
    if let Some(door) = door {
        let address = door.local_addr().map_err(|error| Failure::new(exit::SOFTWARE, error))?;
        let serving = Arc::new(Webhook::new(address, handle.clone(), pushes.clone()));
        servers.spawn(Arc::clone(&serving).serve(door, stop.drain.clone()));
        info!(%address, "the webhook listens");
        webhook = Some(serving);
    }
    let gate = Arc::new(Gate {
        engine: handle.clone(),
        access,
        desk,
        limits: Limits { request_bytes: config.server.request_bytes_max, batch_bytes: config.server.batch_bytes_max },
        pushes,
        webhook,
        mode: config.platform.mode,
        started_at,
        reloads,
        refused: Refused::default(),
        stopping: stop.drain.clone(),
    });
    if let Some(metrics) = metrics {
        let address = metrics.local_addr().map_err(|error| Failure::new(exit::SOFTWARE, error))?;
        let routes = intake::metrics_router(Arc::clone(&gate));
        servers.spawn(intake::server::run(metrics, routes, METRICS_CLIENTS_MAX, stop.drain.clone()));
        info!(%address, "metrics are served");
    }
    let server = intake::server::run(listener, intake::router(gate), config.server.clients_max, stop.drain.clone());
    servers.spawn(server);
    info!(name: "ready", version = env!("CARGO_PKG_VERSION"), socket = %config.server.socket.display(), config = %hash, "ready");
    systemd::tell(&[NotifyState::Ready]);
    tokio::spawn(systemd::keep_telling(handle, config.platform.mode, stop.drain.clone()));

    stop.drain.cancelled().await;
    systemd::tell(&[NotifyState::Stopping]);
    tokio::select! {
        _ = servers.join_all() => {}
        () = tokio::time::sleep(GRACE) => warn!("some clients did not let go; leaving them"),
        () = stop.leave.cancelled() => {}
    }
    // Only now: requests in progress were answered by the engine.
    drain.cancel();
    let ended = tokio::select! {
        ended = &mut closed => ended,
        () = tokio::time::sleep(GRACE_OF_ATTEMPTS) => {
            warn!("some attempts did not come back; they count as in doubt, as after a crash");
            stop.leave.cancel();
            closed.await
        }
    };
    ended.map_err(|_| Failure(exit::SOFTWARE, "the engine ended by itself".to_owned()))
}

/// The database panics where its files, or the disk, are not what it counts on. That is not a fault of this program, and is said
/// as what it is.
fn end_with_the_database(store: PathBuf) {
    let otherwise = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        otherwise(panic);
        if panic.location().is_some_and(|place| is_of_database(place)) {
            error!(name: "store_panics", "the store in {} is damaged, or its disk fails; {WAY_OUT}", store.display());
            std::process::exit(exit::IO.0.into());
        }
    }));
}

/// Runs the engine on a thread of its own. What is returned is told when the store is closed.
fn start_engine(
    engine: Engine<SledStore, dyn Platform>,
    drain: CancellationToken,
    leave: CancellationToken,
) -> Result<oneshot::Receiver<()>, Failure> {
    let software = |error: std::io::Error| Failure::new(exit::SOFTWARE, error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(software)?;
    let (closed, is_closed) = oneshot::channel();
    let living = move || {
        let store = runtime.block_on(engine.run(drain, leave));
        store.close();
        let _ = closed.send(());
    };
    thread::Builder::new().name("engine".to_owned()).spawn(living).map_err(software)?;
    Ok(is_closed)
}

/// Whether what the configuration names can be used: tokens, certificates, hooks' secrets, keys. Connects to nothing.
///
/// # Errors
/// In words.
pub(super) fn prepare(config: &Config) -> Result<(), String> {
    pushes::setup(&config.webhook)?;
    hooks::set_up(config.fallbacks())?;
    if config.platform.mode == Mode::Live {
        client(config).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn client(config: &Config) -> Result<RbmClient, platform::SetupError> {
    let from = &config.platform;
    let account = |account: &config::Account| platform::Account {
        key_file: account.credentials.clone(),
        agents: account.agents.clone(),
    };
    RbmClient::new(platform::Settings {
        key_file: from.credentials.clone(),
        accounts: from.accounts.iter().map(account).collect(),
        endpoint: from.endpoint.as_ref().map(ToString::to_string),
        ca_file: from.ca_file.clone(),
        timeouts: platform::Timeouts {
            connect: from.connect_timeout,
            request: from.request_timeout,
            ..platform::Timeouts::default()
        },
    })
}

pub(super) fn store_options(config: &Config) -> StoreOptions {
    StoreOptions {
        cache_bytes: config.store.cache as u64,
        // What was written lately is the larger part of what loading takes; it follows the same key.
        young_bytes: (config.store.cache / 2).max(YOUNG_BYTES_MIN),
        durability: match config.store.durability {
            config::Durability::Disk => Durability::Disk,
            config::Durability::Process => Durability::Process,
        },
        ..StoreOptions::default()
    }
}

/// What the engine takes from a configuration, at the start and at each reload.
pub(super) fn tuning(config: &Config, hash: &str) -> Tuning {
    let (pace, retention) = (&config.pace, &config.retention);
    let settings = Settings {
        pace: PaceLimits {
            in_flight: pace.in_flight,
            per_second: pace.per_second,
            in_flight_total: pace.in_flight_total,
        },
        default_region: config.platform.default_region,
        retention: retention.settled,
        outcomes_max: retention.outcomes as u64,
        early_for: retention.early_events,
        early_max: retention.early_events_max,
        unsubscribed_max: retention.unsubscribed_max,
    };
    Tuning { policies: config.policies().clone(), settings, config_hash: hash.into() }
}
