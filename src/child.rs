//! The daemon and the sandbox as processes of their own, over directories of their own: what the demo and the benches run.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::clock;

/// How long the daemon may take to answer.
const START_TIME: Duration = Duration::from_secs(60);
/// How often it is asked whether it answers.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// A daemon.
pub(crate) struct Daemon {
    program: PathBuf,
    directory: PathBuf,
    child: Child,
}

impl Daemon {
    /// Starts one that keeps everything in `directory` and revokes at `endpoint`; `more` is the rest of its configuration.
    pub(crate) async fn start(
        program: &Path,
        directory: &Path,
        (endpoint, key): (&str, &Path),
        more: &str,
    ) -> anyhow::Result<Self> {
        let (shown, key) = (directory.display(), key.display());
        let config = format!(
            "[server]\nsocket = \"{shown}/revoked.sock\"\n[store]\npath = \"{shown}/store\"\n\
             [platform]\nendpoint = \"{endpoint}\"\ncredentials = \"{key}\"\n{more}"
        );
        fs::write(directory.join("config.toml"), config)?;
        let child = spawn(program, directory)?;
        let mut daemon = Self { program: program.to_owned(), directory: directory.to_owned(), child };
        daemon.answers().await?;
        Ok(daemon)
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("revoked.sock")
    }

    /// A client of its socket.
    pub(crate) fn client(&self) -> anyhow::Result<reqwest::Client> {
        let builder = reqwest::Client::builder().unix_socket(self.socket()).tls_certs_only([]);
        Ok(builder.timeout(START_TIME).build()?)
    }

    /// Its process.
    pub(crate) fn id(&self) -> anyhow::Result<u32> {
        self.child.id().with_context(|| format!("the daemon has ended; its log:\n{}", self.log()))
    }

    /// SIGKILL, and certainly dead.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("can't kill the daemon")
    }

    /// SIGSTOP: nothing in it goes on …
    pub(crate) fn freeze(&self) -> anyhow::Result<()> {
        signal(&self.child, Signal::STOP).context("can't stop the daemon")
    }

    /// … until SIGCONT.
    pub(crate) fn thaw(&self) -> anyhow::Result<()> {
        signal(&self.child, Signal::CONT).context("can't let the daemon go on")
    }

    /// Starts it over the same store, and does not wait.
    pub(crate) fn spawn_again(&mut self) -> anyhow::Result<()> {
        self.child = spawn(&self.program, &self.directory)?;
        Ok(())
    }

    /// Starts it over the same store; returns how long it took to answer.
    pub(crate) async fn start_again(&mut self) -> anyhow::Result<Duration> {
        let before = clock::now().mono;
        self.spawn_again()?;
        self.answers().await?;
        Ok(clock::now().mono - before)
    }

    /// SIGTERM, and an orderly end.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        signal(&self.child, Signal::TERM)
            .with_context(|| format!("can't stop the daemon; its log:\n{}", self.log()))?;
        let status = self.child.wait().await?;
        if !status.success() {
            bail!("the daemon did not stop in order ({status}); its log:\n{}", self.log());
        }
        Ok(())
    }

    /// All that it has said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    async fn answers(&mut self) -> anyhow::Result<()> {
        let client = self.client()?;
        let asking = async {
            while client.get("http://localhost/v1/status").send().await.is_err() {
                tokio::time::sleep(ASK_EVERY).await;
            }
        };
        tokio::select! {
            answered = tokio::time::timeout(START_TIME, asking) => match answered {
                Ok(()) => Ok(()),
                Err(_) => bail!("the daemon does not answer; its log:\n{}", self.log()),
            },
            status = self.child.wait() => bail!("the daemon ended at once ({}); its log:\n{}", status?, self.log()),
        }
    }
}

fn spawn(program: &Path, directory: &Path) -> anyhow::Result<Child> {
    let log = File::options().create(true).append(true).open(directory.join("log"))?;
    Command::new(program)
        .arg("run")
        .arg("--config")
        .arg(directory.join("config.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .context("can't start the daemon")
}

fn signal(child: &Child, signal: Signal) -> anyhow::Result<()> {
    let id = child.id().context("it ended before it was told to")?;
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw).context("not a process id")?;
    Ok(kill_process(pid, signal)?)
}

/// A sandbox platform.
pub(crate) struct Platform {
    child: Child,
    /// Where it listens.
    pub(crate) url: String,
    /// Its service-account key.
    pub(crate) key: PathBuf,
}

impl Platform {
    /// Starts one on `address`, with its key in `directory`.
    pub(crate) async fn start(program: &Path, directory: &Path, address: &str, more: &[&str]) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Greeting {
            listening: String,
            key: PathBuf,
        }
        let mut child = Command::new(program)
            .args(["sandbox", "--json", "--listen", address, "--dir"])
            .arg(directory)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("can't start the sandbox")?;
        let mut line = String::new();
        let out = child.stdout.take().context("the sandbox has no output")?;
        BufReader::new(out).read_line(&mut line).await?;
        let Greeting { listening, key } = serde_json::from_str(&line).context("the sandbox did not start")?;
        Ok(Self { child, url: listening, key })
    }

    /// SIGTERM, and certainly gone.
    pub(crate) async fn halt(&mut self) -> anyhow::Result<()> {
        signal(&self.child, Signal::TERM).context("can't stop the sandbox")?;
        self.child.wait().await?;
        Ok(())
    }
}
