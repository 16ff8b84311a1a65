//! What every bench stands on: a directory on the disk to be measured, the real daemon and, in another process, a platform.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::host;
use super::load::Client;
use super::sheet::Sheet;
use crate::child::{Daemon, Platform};
use crate::clock;
use crate::engine::StateKind;
use crate::intake::wire::StatusView;
use crate::progress::Progress;

/// How often something that has no signal is looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A directory that is gone afterwards, and the program to run in it.
pub(super) struct Place {
    directory: TempDir,
    program: PathBuf,
    /// Where to say how far things are.
    pub progress: Progress,
}

impl Place {
    pub(super) fn new(directory: Option<&Path>) -> anyhow::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("revoked-bench-");
        let made = directory.map_or_else(|| builder.tempdir(), |directory| builder.tempdir_in(directory));
        let me = std::env::current_exe().context("where is this program?")?;
        let program = me.with_file_name("revoked");
        ensure!(
            program.is_file(),
            "there is no {} to measure: build or install it beside revokectl",
            program.display()
        );
        Ok(Self { directory: made.context("no temporary directory")?, program, progress: Progress::new() })
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A platform on a free port, or on that of `address`.
    pub(super) async fn platform(&self, address: Option<&str>, more: &[&str]) -> anyhow::Result<Platform> {
        // What is deleted was never created: a book on each would only fill the sandbox's memory.
        let more = [&["--unknown-delete", "ok", "--handsets", "offline=100"], more].concat();
        Platform::start(&self.program, &self.path().join("key"), address.unwrap_or("127.0.0.1:0"), &more).await
    }

    /// The daemon, and the platform it revokes at.
    pub(super) async fn start(self, sandbox: &[&str], config: &str) -> anyhow::Result<Rig> {
        let platform = self.platform(None, sandbox).await?;
        let daemon = Daemon::start(&self.program, self.path(), (&platform.url, &platform.key), config).await?;
        let plain = reqwest::Client::builder().no_proxy().tls_certs_only([]).build()?;
        Ok(Rig { daemon, platform, plain, place: self })
    }
}

/// Both of them, running.
pub(super) struct Rig {
    pub daemon: Daemon,
    pub platform: Platform,
    /// For the platform's control interface.
    plain: reqwest::Client,
    pub place: Place,
}

/// What the platform counted.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Stats {
    pub deletes: u64,
    pub answers: BTreeMap<u16, u64>,
}

impl Stats {
    /// What came after `earlier`.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let answers = self.answers.iter().map(|(code, count)| (*code, count - earlier.answered(*code))).collect();
        Self { deletes: self.deletes - earlier.deletes, answers }
    }

    pub(super) fn answered(&self, code: u16) -> u64 {
        self.answers.get(&code).copied().unwrap_or(0)
    }
}

impl Rig {
    pub(super) fn progress(&self) -> &Progress {
        &self.place.progress
    }

    pub(super) async fn client(&self) -> anyhow::Result<Client> {
        Client::connect(&self.daemon.socket()).await
    }

    pub(super) fn store(&self) -> PathBuf {
        self.place.path().join("store")
    }

    pub(super) fn resident_mib(&self) -> anyhow::Result<f64> {
        host::resident_mib(self.daemon.id()?)
    }

    /// What the platform counted so far.
    pub(super) async fn stats(&self) -> anyhow::Result<Stats> {
        self.ask_platform("stats").await
    }

    pub(super) async fn ask_platform<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let answer = self.plain.get(format!("{}/sandbox/{path}", self.platform.url)).send().await?;
        Ok(serde_json::from_slice(&answer.error_for_status()?.bytes().await?)?)
    }

    /// Gives the platform an order.
    pub(super) async fn order(&self, path: &str, order: &Value) -> anyhow::Result<()> {
        let url = format!("{}/sandbox/{path}", self.platform.url);
        self.plain.post(url).body(order.to_string()).send().await?.error_for_status()?;
        Ok(())
    }

    /// Sends a message, so that the platform keeps a book on it.
    pub(super) async fn send(&self, id: &str, phone: &str) -> anyhow::Result<()> {
        self.order("messages", &json!({"agentId": super::load::AGENT, "phone": phone, "messageId": id})).await
    }

    /// Changes the configuration as an operator does, without a restart: every `from` in it becomes `to`.
    pub(super) async fn reload(&self, from: &str, to: &str) -> anyhow::Result<()> {
        let path = self.place.path().join("config.toml");
        let config = std::fs::read_to_string(&path)?;
        ensure!(config.contains(from), "nothing to change");
        std::fs::write(path, config.replace(from, to))?;
        self.client().await?.post("/v1/reload", String::new()).await?;
        Ok(())
    }

    pub(super) async fn end(mut self, figures: Sheet) -> anyhow::Result<Sheet> {
        self.place.progress.end();
        self.daemon.stop().await?;
        self.platform.halt().await?;
        Ok(figures)
    }
}

pub(super) async fn status(client: &mut Client) -> anyhow::Result<StatusView> {
    Ok(serde_json::from_slice(&client.get("/v1/status").await?)?)
}

/// How many messages of a use case are in one of these states.
pub(super) fn count(status: &StatusView, use_case: &str, states: &[StateKind]) -> u64 {
    let found = status.use_cases.iter().find(|(name, _)| name.as_str() == use_case);
    found.map_or(0, |(_, counts)| states.iter().filter_map(|state| counts.get(state)).sum())
}

/// Seconds since an instant of the monotonic clock.
pub(super) fn seconds_since(start: Duration) -> f64 {
    (clock::now().mono - start).as_secs_f64()
}
