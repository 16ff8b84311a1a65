//! The daemon as a child process, over a directory of its own.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::process::{Child, Command};

use crate::clock;
use crate::model::Timestamp;
use crate::sandbox::Sandbox;

/// How long the daemon may take to answer.
const START_TIME: Duration = Duration::from_secs(20);
/// How often it is asked whether it answers.
const ASK_EVERY: Duration = Duration::from_millis(10);

pub(super) struct Daemon {
    directory: PathBuf,
    child: Child,
}

impl Daemon {
    pub(super) async fn start(directory: &Path, sandbox: &Sandbox, promotion_ends: Timestamp) -> anyhow::Result<Self> {
        let mut config = String::new();
        let shown = directory.display();
        write!(
            config,
            "[server]\nsocket = \"{shown}/revoked.sock\"\n\
             [store]\npath = \"{shown}/store\"\n\
             [platform]\nendpoint = \"{}\"\ncredentials = \"{}\"\n\
             [use_cases.otp]\nttl = \"4s\"\ntraffic_type = \"authentication\"\nsettle = \"2s\"\n\
             [use_cases.notice]\nttl = \"8s\"\nsettle = \"2s\"\non_unknown = \"send\"\n\
             [use_cases.promotion]\nexpires_at = {promotion_ends}\ntraffic_type = \"promotion\"\nsettle = \"2s\"\non_unknown = \"drop\"\n",
            sandbox.base_url(),
            sandbox.key_path().display(),
        )?;
        fs::write(directory.join("config.toml"), config)?;
        let child = spawn(directory)?;
        let mut daemon = Self { directory: directory.to_owned(), child };
        daemon.answers().await?;
        Ok(daemon)
    }

    /// A client of its socket.
    pub(super) fn client(&self) -> anyhow::Result<reqwest::Client> {
        let socket = self.directory.join("revoked.sock");
        Ok(reqwest::Client::builder().unix_socket(socket).timeout(Duration::from_secs(20)).build()?)
    }

    /// SIGKILL, and certainly dead.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("can't kill the daemon")
    }

    /// Starts it again; returns how long it took to answer.
    pub(super) async fn start_again(&mut self) -> anyhow::Result<Duration> {
        let before = clock::now().mono;
        self.child = spawn(&self.directory)?;
        self.answers().await?;
        Ok(clock::now().mono - before)
    }

    /// SIGTERM, and an orderly end.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        let id = self.child.id().context("the daemon ended before it was told to")?;
        let pid = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw).context("not a process id")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = self.child.wait().await?;
        if !status.success() {
            bail!("the daemon did not stop in order ({status}); its log:\n{}", self.log());
        }
        Ok(())
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

    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

fn spawn(directory: &Path) -> anyhow::Result<Child> {
    let log = File::options().create(true).append(true).open(directory.join("log"))?;
    let program = std::env::current_exe().context("where is this program?")?;
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
