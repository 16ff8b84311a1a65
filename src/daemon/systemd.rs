//! What systemd is told: that we are ready, reload or stop; in a line, how it goes; and that we live.
//!
//! That we live is told after the engine has answered, and at no other time: a daemon whose engine is stuck takes registrations
//! that it never answers, and is better started again (`WatchdogSec=`).

use std::fmt::Write as _;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::clock;
use crate::config::Mode;
use crate::engine::{Handle, RestReason, RouteStatus, StateKind, Status};

/// How often the line may change.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// Opening may take so much longer after each step. The longest step opens the largest part of the store.
const STEP_TIME_US: u32 = 600_000_000;
/// Agents that the line names; more are counted.
const NAMED_MAX: usize = 3;

/// Without systemd nobody listens, and that is fine.
pub(super) fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "systemd can't be told");
    }
}

/// How far the store is opened, in bytes. As long as that goes on, nobody should think it hangs.
pub(super) fn opening(done: u64, of: u64) {
    let line = format!("opening the store: {} % of {}", percent(done, of), shown(of));
    tell(&[NotifyState::ExtendTimeoutUsec(STEP_TIME_US), NotifyState::Status(&line)]);
}

/// Tells how it goes for as long as the engine lives.
pub(super) async fn keep_telling(engine: Handle, mode: Mode, stopping: CancellationToken) {
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        beat(engine, mode, stopping, sd_notify::watchdog_enabled(), tell).await;
    }
}

async fn beat(
    engine: Handle,
    mode: Mode,
    stopping: CancellationToken,
    watchdog: Option<Duration>,
    tell: impl Fn(&[NotifyState<'_>]),
) {
    let every = watchdog.map_or(TELL_EVERY, |within| (within / 2).min(TELL_EVERY));
    let (mut told, mut told_at) = (String::new(), None);
    // No answer, no beat; no engine, no more of them.
    while let Ok(status) = engine.status(None).await {
        let line = if stopping.is_cancelled() { stopping_line(&status) } else { line(&status, mode) };
        let now = clock::now().mono;
        let may_tell = told_at.is_none_or(|at| now >= at + TELL_EVERY) || stopping.is_cancelled();
        let mut states = Vec::new();
        if watchdog.is_some() {
            states.push(NotifyState::Watchdog);
        }
        if may_tell && line != told {
            (told, told_at) = (line, Some(now));
            states.push(NotifyState::Status(&told));
        }
        if !states.is_empty() {
            tell(&states);
        }
        if stopping.is_cancelled() {
            tokio::time::sleep(every).await;
        } else {
            // A stop is told of at once.
            tokio::select! {
                () = stopping.cancelled() => {}
                () = tokio::time::sleep(every) => {}
            }
        }
    }
}

/// What `systemctl status` shows.
fn line(status: &Status, mode: Mode) -> String {
    let pending: u64 =
        status.counts.iter().filter(|((_, state), _)| *state == StateKind::Pending).map(|(_, count)| count).sum();
    let mut line = format!("{pending} armed");
    if mode == Mode::Shadow {
        line += " (shadow mode: nothing is revoked)";
    }
    // Writing to a string does not fail; nor below.
    if let Some(next) = status.next_due {
        let _ = write!(line, ", next due {next}");
    }
    if !status.backlog_age.is_zero() {
        let _ = write!(line, "; overdue for {} s", status.backlog_age.as_secs());
    }
    if status.lateness.count > 0 {
        let _ = write!(line, "; lateness p99 {} ms", status.lateness.p99.as_millis());
    }
    line += &resting(&status.routes);
    match &status.store_error {
        Some(error) => {
            let _ = write!(line, "; REGISTRATIONS ARE REFUSED: {error}");
        }
        None => {
            let _ = write!(line, "; store {}", shown(status.store.disk_bytes));
        }
    }
    line
}

fn resting(routes: &[RouteStatus]) -> String {
    let resting: Vec<_> = routes.iter().filter_map(|route| Some((route, route.resting?.0))).collect();
    let mut words = String::new();
    for (place, (route, reason)) in resting.iter().take(NAMED_MAX).enumerate() {
        let begin = if place == 0 { "; resting: " } else { ", " };
        let _ = write!(words, "{begin}{} {} ({})", route.agent, route.region, why(*reason));
    }
    if resting.len() > NAMED_MAX {
        let _ = write!(words, " and {} more", resting.len() - NAMED_MAX);
    }
    words
}

fn why(reason: RestReason) -> &'static str {
    match reason {
        RestReason::TooManyRequests => "429",
        RestReason::Unauthorized => "401",
        RestReason::Forbidden => "403",
        RestReason::Unreachable => "unreachable",
    }
}

fn stopping_line(status: &Status) -> String {
    format!("stopping; {} DELETEs are out", status.in_flight)
}

fn percent(done: u64, of: u64) -> u64 {
    // An empty store is open at once.
    (done * 100).checked_div(of).unwrap_or(100)
}

fn shown(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::engine::{Doors, Engine, Settings, Tuning};
    use crate::fallback::Hooks;
    use crate::model::{AgentId, Region, UseCase};
    use crate::platform::Shadow;
    use crate::store::memory::MemoryStore;
    use crate::store::{Change, Cursor, Entry, Figures, Snapshot, Store, StoreError, Ticket};

    const WATCHDOG: Option<Duration> = Some(Duration::from_millis(20));

    /// A store on a disk that does not answer while somebody else holds the lock.
    struct Hanging(MemoryStore, Arc<Mutex<()>>);

    impl Store for Hanging {
        fn append(&mut self, batch: Vec<Change>) -> Ticket {
            self.0.append(batch)
        }

        fn writable(&mut self) -> Result<(), StoreError> {
            drop(self.1.lock());
            Ok(())
        }

        fn find(&self, identity: &crate::model::Identity) -> Result<Option<crate::model::Record>, StoreError> {
            self.0.find(identity)
        }

        fn at(&self, position: &crate::model::Position) -> Result<Option<crate::model::Record>, StoreError> {
            self.0.at(position)
        }

        fn places(
            &self,
            lane: crate::model::LaneId,
            queue: crate::model::Queue,
            after: Option<crate::model::Place>,
            limit: usize,
        ) -> Result<Vec<crate::model::Place>, StoreError> {
            self.0.places(lane, queue, after, limit)
        }

        fn outcomes(&self, after: Cursor, limit: usize) -> Result<Vec<(Cursor, Entry)>, StoreError> {
            self.0.outcomes(after, limit)
        }

        fn figures(&self) -> Figures {
            self.0.figures()
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_heart_beats_while_the_engine_answers_and_not_while_it_is_stuck() {
        let disk = Arc::new(Mutex::new(()));
        let doors = Doors::default();
        let (handle, stop) = (doors.handle(), CancellationToken::new());
        let tuning =
            Tuning { policies: Default::default(), settings: Settings::default(), config_hash: "0123456789ab".into() };
        let store = Hanging(MemoryStore::default(), Arc::clone(&disk));
        let hooks = Hooks::open(Default::default()).1;
        let engine = Engine::new(doors, store, &Snapshot::default(), Arc::new(Shadow), hooks, tuning).unwrap();
        let ends = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            drop(runtime.block_on(engine.run(ends.clone(), ends)));
        });

        let (beats, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let telling = beat(handle.clone(), Mode::Live, CancellationToken::new(), WATCHDOG, move |states| {
            if states.iter().any(|state| matches!(state, NotifyState::Watchdog)) {
                let _ = beats.send(());
            }
        });
        let told = tokio::spawn(telling);
        for _ in 0..3 {
            heard.recv().await.unwrap();
        }

        let (go_on, told_to) = std::sync::mpsc::channel::<()>();
        let (hung, hangs) = tokio::sync::oneshot::channel();
        let hanging = std::thread::spawn(move || {
            let _lock = disk.lock().unwrap();
            hung.send(()).unwrap();
            told_to.recv().unwrap();
        });
        hangs.await.unwrap();
        // What was answered before it hung may still be told of; this is not answered before it goes on.
        let asked = tokio::spawn(async move { handle.status(None).await });
        while heard.try_recv().is_ok() {}
        tokio::time::timeout(Duration::from_millis(300), async {
            heard.recv().await;
            heard.recv().await
        })
        .await
        .expect_err("it beats although the engine is stuck");
        assert!(!asked.is_finished());
        go_on.send(()).unwrap();
        hanging.join().unwrap();
        heard.recv().await.unwrap();
        assert!(asked.await.unwrap().is_ok());

        stop.cancel();
        told.await.unwrap();
        thread.join().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_told_before_the_engine_answers() {
        // Nobody takes what is asked: it has not begun.
        let doors = Doors::default();
        let told = RefCell::new(Vec::new());
        let telling = beat(doors.handle(), Mode::Live, CancellationToken::new(), WATCHDOG, |states| {
            told.borrow_mut().push(format!("{states:?}"));
        });
        assert!(tokio::time::timeout(Duration::from_secs(3600), telling).await.is_err());
        assert!(told.borrow().is_empty(), "{told:?}");
    }

    #[test]
    fn a_line_says_what_somebody_wants_to_know_first() {
        let otp = UseCase::new("otp").unwrap();
        let route = |agent: &str, resting| RouteStatus {
            agent: AgentId::new(agent).unwrap(),
            region: Region::Us,
            in_flight: 0,
            per_second: 1.0,
            resting,
            load: None,
        };
        let mut status = Status { counts: [((otp, StateKind::Pending), 12_041)].into(), ..Status::default() };
        assert_eq!(line(&status, Mode::Live), "12041 armed; store 0 B");
        let rest = Some((RestReason::Forbidden, Duration::from_secs(9)));
        status.routes = ["a", "b", "c", "d", "e"].map(|agent| route(agent, rest.filter(|_| agent != "a"))).to_vec();
        status.lateness.count = 1;
        status.lateness.p99 = Duration::from_millis(3);
        assert_eq!(
            line(&status, Mode::Live),
            "12041 armed; lateness p99 3 ms; resting: b us (403), c us (403), d us (403) and 1 more; store 0 B"
        );
        status.store_error = Some("no space".to_owned());
        assert!(line(&status, Mode::Live).ends_with("; REGISTRATIONS ARE REFUSED: no space"));
        assert_eq!([percent(0, 0), percent(1, 3), percent(7, 7)], [100, 33, 100]);
    }
}
