//! The configuration while the daemon runs: one owner, three ways to ask (SIGHUP, the socket, a changed file), one way through.
//!
//! All or nothing: a file with an error, a change that needs a restart, or a use case that vanished under its messages leaves
//! the last good configuration in force, and says so. The file may be replaced, renamed over, or swapped behind a symbolic link
//! in any number of steps: whatever happens, what counts is what is there when it has been quiet for a moment.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::logs::Logs;
use super::run::tuning;
use super::{hooks, pushes, systemd};
use crate::clock;
use crate::config::{self, Change, Config, Diff, Env, Loaded};
use crate::engine::{Handle, Plan, Refusal, RefusalKind};
use crate::fallback::HookSet;
use crate::intake::access::Rules;
use crate::intake::desk::{Reloads, Request};
use crate::intake::webhook::Setup;
use crate::intake::wire::{ChangeView, ConfigView, LastReloadView, PlannedView, ReloadView, SettingView};
use crate::model::Timestamp;

/// How long a watched file must be quiet before it is read: editors write in several steps.
const QUIET: Duration = Duration::from_millis(200);
/// How long that is waited for: a file that is never quiet must not keep those waiting who ask at the desk.
const QUIET_BY: Duration = Duration::from_secs(2);

/// Owns the configuration in force.
pub(super) struct Reloader {
    pub path: PathBuf,
    pub current: Loaded,
    pub since: Timestamp,
    pub engine: Handle,
    pub logs: Logs,
    /// What the webhook works with.
    pub pushes: watch::Sender<Arc<Setup>>,
    /// The hash of the file when it was last looked at because it changed; what could not be read has none.
    pub looked_at: Option<String>,
    /// What grants are handed to.
    pub hooks: watch::Sender<Arc<HookSet>>,
    /// Who may do what.
    pub rules: watch::Sender<Arc<Rules>>,
    /// How reloads went, for whoever watches …
    pub told: watch::Sender<Reloads>,
    /// … and the last one for whoever asks.
    pub last: Option<LastReloadView>,
}

impl Reloader {
    /// Answers until `stopping` is cancelled. `changed` tells of each change that may concern the file.
    pub(super) async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        mut changed: mpsc::Receiver<()>,
        mut hangup: Signal,
        stopping: CancellationToken,
    ) {
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                _ = hangup.recv() => self.told_to("SIGHUP").await,
                Some(()) = changed.recv() => {
                    become_quiet(&mut changed).await;
                    // Most notices are about other files beside it.
                    if self.is_new().await {
                        self.told_to("the file changed").await;
                    } else {
                        debug!("something changed beside the file, and the file is what it was");
                    }
                }
                Some(request) = requests.recv() => match request {
                    // Whoever asked and went away is not missed.
                    Request::Reload(reply) => drop(reply.send(self.reload().await)),
                    Request::Plan { name, text, reply } => drop(reply.send(self.plan(&name, &text).await)),
                    Request::Config(reply) => drop(reply.send(Ok(self.view()))),
                },
            }
        }
    }

    /// A reload whose outcome nobody waits for: the log says how it went.
    async fn told_to(&mut self, why: &str) {
        match self.reload().await {
            Ok(done) if done.applied => {
                info!(name: "config_taken", config = %done.config_hash, "{why}: configuration taken over");
            }
            Ok(_) => info!("{why}: the configuration is the same; tokens and certificates were read again"),
            Err(refusal) => {
                error!(name: "config_refused", "{why}: the configuration stays as it was: {}", refusal.message);
            }
        }
    }

    /// Whether the file is another one than was last looked at.
    async fn is_new(&mut self) -> bool {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || config::hash_of(&path));
        let found = read.await.ok().flatten();
        found != std::mem::replace(&mut self.looked_at, found.clone())
    }

    async fn reload(&mut self) -> Result<ReloadView, Refusal> {
        // systemd wants both in one datagram, or it can't tell this reload's READY from an earlier one.
        if let Ok(since) = NotifyState::monotonic_usec_now() {
            systemd::tell(&[NotifyState::Reloading, since]);
        }
        let result = self.take_over().await;
        let (now, good) = (clock::wall(), result.is_ok());
        self.told.send_modify(|told| {
            (told.successful, told.good_at) = (good, if good { Some(now) } else { told.good_at });
            *(if good { &mut told.good } else { &mut told.failed }) += 1;
        });
        self.last = Some(LastReloadView {
            at: now,
            successful: good,
            failures: self.told.borrow().failed,
            message: result.as_ref().err().map(|refusal| refusal.message.clone()),
        });
        systemd::tell(&[NotifyState::Ready]);
        result
    }

    async fn take_over(&mut self) -> Result<ReloadView, Refusal> {
        let path = self.path.clone();
        let read = move || {
            let new = config::load(&path, &Env::of_process(), clock::wall()).map_err(|report| unusable(&report))?;
            let setup = pushes::setup(&new.config.webhook).map_err(|error| Refusal::invalid("webhook", error))?;
            let set = hooks::set_up(new.config.fallbacks()).map_err(|error| Refusal::invalid("use_cases", error))?;
            Ok::<_, Refusal>((new, Arc::new(setup), Arc::new(set)))
        };
        let read = tokio::task::spawn_blocking(read).await;
        let (new, setup, hook_set) = read.map_err(|error| Refusal::unavailable(error.to_string()))??;
        self.looked_at = Some(new.hash.clone());
        if new.hash == self.current.hash {
            // What it names may be something new all the same: a token is rotated, a certificate renewed, a user joined a group.
            self.pushes.send_replace(setup);
            self.hooks.send_replace(hook_set);
            self.let_in(&new.config);
            self.current.config.access = new.config.access.clone();
            return Ok(view(&new, false, &[], Plan::default()));
        }
        let diff = self.diff(&new.config)?;
        // Before the engine knows of a hook that is new, so that its first call finds it.
        let old_set = self.hooks.send_replace(hook_set);
        let plan = match self.engine.retune(tuning(&new.config, &new.hash)).await {
            Ok(plan) => plan,
            Err(refusal) => {
                self.hooks.send_replace(old_set);
                return Err(refusal);
            }
        };
        self.pushes.send_replace(setup);
        self.let_in(&new.config);
        if let Err(error) = self.logs.change(&new.config.log) {
            warn!(%error, "the log level stays as it was");
        }
        let view = view(&new, true, &diff.live, plan);
        (self.current, self.since) = (new, clock::wall());
        Ok(view)
    }

    /// Puts other rules in force; the same ones end no stream.
    fn let_in(&self, new: &Config) {
        if self.current.config.access != new.access {
            self.rules.send_replace(Arc::new(Rules::from(new.access.clone())));
        }
    }

    async fn plan(&self, name: &str, text: &str) -> Result<ReloadView, Refusal> {
        let (name, text) = (name.to_owned(), text.to_owned());
        // It looks at files and asks for users, which may take a while.
        let read =
            move || config::parse(&name, &text, &Env::of_process(), clock::wall()).map_err(|report| unusable(&report));
        let read = tokio::task::spawn_blocking(read).await;
        let new = read.map_err(|error| Refusal::unavailable(error.to_string()))??;
        let diff = self.diff(&new.config)?;
        let plan = self.engine.plan(tuning(&new.config, &new.hash)).await?;
        Ok(view(&new, false, &diff.live, plan))
    }

    /// What differs, if a running daemon can take it over.
    fn diff(&self, new: &Config) -> Result<Diff, Refusal> {
        let diff = Config::diff(&self.current.config, new);
        if diff.restart.is_empty() {
            return Ok(diff);
        }
        let keys: Vec<_> = diff.restart.iter().map(|change| change.key.as_str()).collect();
        let message = format!(
            "these keys are read at the start only, so nothing of the new file was taken over: {}; \
             restart the daemon, or put them back",
            keys.join(", ")
        );
        Err(Refusal { kind: RefusalKind::Conflict, message, field: keys.first().map(|key| (*key).to_owned().into()) })
    }

    fn view(&self) -> ConfigView {
        let setting = |setting: &config::Setting| SettingView {
            key: setting.key.clone(),
            value: setting.value.to_string(),
            origin: setting.origin.to_string(),
        };
        ConfigView {
            file: self.path.display().to_string(),
            config_hash: self.current.hash.clone(),
            loaded_at: self.since,
            last_reload: self.last.clone(),
            settings: self.current.config.effective().iter().map(setting).collect(),
        }
    }
}

/// Waits until no change came for a moment.
async fn become_quiet(changed: &mut mpsc::Receiver<()>) {
    let quiet = async { while let Ok(Some(())) = tokio::time::timeout(QUIET, changed.recv()).await {} };
    // Either way what is there now is read; a later change is a notice of its own.
    let _ = tokio::time::timeout(QUIET_BY, quiet).await;
}

fn unusable(report: &config::Report) -> Refusal {
    Refusal { kind: RefusalKind::Invalid, message: report.to_string(), field: None }
}

fn view(loaded: &Loaded, applied: bool, changes: &[Change], plan: Plan) -> ReloadView {
    let change = |change: &Change| ChangeView {
        key: change.key.clone(),
        before: change.before.as_ref().map(ToString::to_string),
        after: change.after.as_ref().map(ToString::to_string),
    };
    ReloadView {
        config_hash: loaded.hash.clone(),
        applied,
        changes: changes.iter().map(change).collect(),
        use_cases: plan.use_cases.into_iter().map(PlannedView::from).collect(),
        warnings: (!loaded.warnings.is_empty()).then(|| loaded.warnings.to_string()),
        counting: plan.counting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_directory_that_is_never_quiet_holds_up_no_reload() {
        let (notices, mut changed) = mpsc::channel(1);
        tokio::spawn(async move {
            while notices.send(()).await.is_ok() {
                tokio::time::sleep(QUIET / 2).await;
            }
        });
        let read = tokio::time::timeout(Duration::from_secs(60), become_quiet(&mut changed)).await;
        assert!(read.is_ok(), "SIGHUP, plans and reloads wait behind this");
    }
}
