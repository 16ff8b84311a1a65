//! The daemon as a child process: started until it is ready, ended in one of two ways, its log kept.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    os::fd::OwnedFd,
    path::Path,
    process::{ExitStatus, Output, Stdio},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    sync::watch,
};

use crate::planted;

/// Longer than anything here takes on a busy machine: a test that hangs should say where.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for what must come.
pub(crate) async fn soon<T>(what: &str, coming: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, coming).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// The binary under test, with nothing of this process' environment that it would listen to.
fn command(subcommand: &str, config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_revoked"));
    command.arg(subcommand).arg("--config").arg(config).stdin(Stdio::null()).kill_on_drop(true);
    for name in [
        "REVOKED_CONFIG",
        "JOURNAL_STREAM",
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "LISTEN_FDS",
        "LISTEN_PID",
        "STATE_DIRECTORY",
    ] {
        command.env_remove(name);
    }
    command
}

/// One that gets two sockets from its parent. systemd numbers them from 3 on; here they are standard input and output.
fn passing(config: &Path, names: &str, [one, other]: [OwnedFd; 2]) -> Command {
    let mut command = command("run", config);
    command.stdin(one).stdout(other);
    command.envs([("LISTEN_FDS_FIRST_FD", "0"), ("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", names)]);
    command
}

/// Runs one that gets two sockets to its end.
pub(crate) async fn run_to_end_with(config: &Path, names: &str, sockets: [OwnedFd; 2]) -> Output {
    // Not `output`, which would make standard output a pipe.
    let child = passing(config, names, sockets).stderr(Stdio::piped()).spawn().unwrap();
    soon("the end of a process", child.wait_with_output()).await.unwrap()
}

/// Runs it to its end, which it is to reach by itself.
pub(crate) async fn run_to_end(subcommand: &str, config: &Path) -> Output {
    soon("the end of a process", command(subcommand, config).output()).await.unwrap()
}

/// The same for the daemon, with more in its environment.
pub(crate) async fn run_to_end_in(config: &Path, environment: &[(&str, &str)]) -> Output {
    soon("the end of a process", command("run", config).envs(environment.iter().copied()).output()).await.unwrap()
}

/// A running daemon. Killed when dropped, and its log shown if that is because of a panic.
pub(crate) struct Daemon {
    child: Child,
    log: Arc<watch::Sender<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Starts it and returns when it is ready.
    pub(crate) async fn start(config: &Path) -> Daemon {
        Daemon::start_in(config, &[]).await
    }

    /// The same with more in its environment.
    pub(crate) async fn start_in(config: &Path, environment: &[(&str, &str)]) -> Daemon {
        let mut command = command("run", config);
        command.envs(environment.iter().copied()).stdout(Stdio::null());
        Daemon::of(command).await
    }

    /// The same with two sockets that it gets as systemd passes them, under these names.
    pub(crate) async fn start_with(config: &Path, names: &str, sockets: [OwnedFd; 2]) -> Daemon {
        Daemon::of(passing(config, names, sockets)).await
    }

    async fn of(mut command: Command) -> Daemon {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = File::from(child.stderr.take().unwrap().into_owned_fd().unwrap());
        let log = Arc::new(watch::Sender::new(String::new()));
        // A thread rather than a task: in a panic no task runs any more, and the last lines are the ones that matter.
        let lines = Arc::clone(&log);
        let reader = thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.send_modify(|log| *log += &(line + "\n"));
            }
        });
        let daemon = Daemon { child, log, reader: Some(reader) };
        daemon.says(": ready ").await;
        daemon
    }

    /// Waits until its log has these words.
    pub(crate) async fn says(&self, words: &str) {
        let mut log = self.log.subscribe();
        let said = log.wait_for(|log| log.contains(words));
        soon(&format!("the log's {words:?}"), said).await.unwrap();
    }

    /// Its log up to now.
    pub(crate) fn log(&self) -> String {
        self.log.borrow().clone()
    }

    /// Ends it as a crash would.
    pub(crate) async fn kill9(mut self) {
        soon("its end by SIGKILL", self.child.kill()).await.unwrap();
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().unwrap().cast_signed()).unwrap()
    }

    /// Asks it to stop.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Asks it to read its configuration again.
    pub(crate) fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        soon("the daemon's end", self.child.wait()).await.unwrap()
    }
}

impl Drop for Daemon {
    #[expect(clippy::print_stderr, reason = "the daemon's log belongs to the report of a failed test")]
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.start_kill();
        let _ = self.reader.take().map(JoinHandle::join);
        if thread::panicking() {
            eprintln!("the daemon's log:\n{}", *self.log.borrow());
        } else {
            planted::is_nowhere_in("the daemon's log", &self.log.borrow());
        }
    }
}
