//! What a running daemon does about its configuration file: the real binary, a real directory, and `revokectl` to ask.
//!
//! The platform's address is a closed port, so nothing is ever revoked, and what is due shows as `REVOKING`. Nothing here
//! waits for time to pass: the daemon is asked until it says what it must say, or its log is read until it does.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use revoked::sandbox::{Options, Sandbox};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes on a busy machine, in questions of some milliseconds each.
const QUESTIONS_MAX: usize = 2000;
/// The same for a line of the log.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(10);

const OTP: &str = "[use_cases.otp]\nttl = \"10m\"\n";
const NOTICE: &str = "[use_cases.notice]\nttl = \"1h\"\n";

/// A daemon over a directory of its own. Killed when dropped.
struct Daemon {
    directory: TempDir,
    child: Child,
    /// The lines of its log that were not looked at yet.
    said: mpsc::Receiver<String>,
    /// What every configuration begins with.
    head: String,
}

impl Daemon {
    /// Started with these use cases, and ready.
    fn start(use_cases: &str) -> Daemon {
        Daemon::start_at("config.toml", "", |daemon| daemon.write(use_cases))
    }

    /// The same, and it watches its file.
    fn watching(use_cases: &str) -> Daemon {
        Daemon::start_at("config.toml", "watch_config = true\n", |daemon| daemon.write(use_cases))
    }

    /// Started on that file, once it has been `prepared`.
    fn start_at(config: &str, server: &str, prepare: impl FnOnce(&Daemon)) -> Daemon {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let key = key(path);
        let head = format!(
            "[server]\nsocket = {:?}\n{server}[store]\npath = {:?}\n\
             [platform]\nendpoint = \"http://127.0.0.1:{}\"\ncredentials = {key:?}\n\
             [log]\nlevel = \"debug\"\nformat = \"text\"\n",
            path.join("sock"),
            path.join("store"),
            closed_port(),
        );
        // A child that has nothing to do with it stands in until there is a file to start with.
        let (says, said) = mpsc::channel();
        let mut daemon = Daemon { child: Command::new("true").spawn().unwrap(), said, head, directory };
        prepare(&daemon);
        daemon.child.wait().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_revoked"))
            .arg("run")
            .arg("--config")
            .arg(daemon.path(config))
            .env_remove("NOTIFY_SOCKET")
            .env_remove("STATE_DIRECTORY")
            .env_remove("JOURNAL_STREAM")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        daemon.child = child;
        // Reads to the end: a log that nobody reads would hold the daemon up.
        thread::spawn(move || log.lines().map_while(Result::ok).for_each(|line| drop(says.send(line))));
        daemon.says(": ready ");
        daemon
    }

    /// Waits until its log says so.
    fn says(&self, words: &str) {
        loop {
            let line = self.said.recv_timeout(PATIENCE);
            if line.unwrap_or_else(|error| panic!("the log's {words:?}: {error}")).contains(words) {
                return;
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A whole configuration with these use cases.
    fn text(&self, use_cases: &str) -> String {
        format!("{}{use_cases}", self.head)
    }

    /// Writes the file in one go.
    fn write(&self, use_cases: &str) {
        fs::write(self.path("config.toml"), self.text(use_cases)).unwrap();
    }

    /// Replaces the file as most editors do.
    fn rename_over(&self, text: &str) {
        fs::write(self.path("config.toml~"), text).unwrap();
        fs::rename(self.path("config.toml~"), self.path("config.toml")).unwrap();
    }

    fn ctl(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_revokectl"))
            .arg("--socket")
            .arg(self.path("sock"))
            .args(arguments)
            .env("COLUMNS", "80")
            .output()
            .unwrap()
    }

    /// What people see, after success.
    fn screen(&self, arguments: &[&str]) -> String {
        let output = self.ctl(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        let screen = String::from_utf8(output.stdout).unwrap();
        assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
        screen
    }

    /// What programs see, after success.
    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.ctl(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The exit code and what was said on stderr.
    fn refused(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.ctl(arguments);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    fn register(&self, message: &str, use_case: &str) {
        self.json(&["register", "bot", message, "--phone", "+15550100", "--use-case", use_case]);
    }

    /// The hash in force.
    fn hash(&self) -> String {
        self.json(&["config"])["configHash"].as_str().unwrap().to_owned()
    }

    /// The ttl of otp in force.
    fn ttl(&self) -> String {
        let config = self.json(&["config"]);
        let settings = config["settings"].as_array().unwrap();
        let ttl = settings.iter().find(|setting| setting["key"] == "use_cases.otp.ttl");
        ttl.unwrap()["value"].as_str().unwrap().trim_matches('"').to_owned()
    }

    fn comes_to(&self, ttl: &str) {
        until(&format!("a ttl of {ttl}"), || self.ttl() == ttl);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until(what: &str, mut there: impl FnMut() -> bool) {
    for _ in 0..QUESTIONS_MAX {
        if there() {
            return;
        }
        thread::sleep(PAUSE);
    }
    panic!("never came: {what}");
}

fn otp(ttl: &str) -> String {
    format!("[use_cases.otp]\nttl = {ttl:?}\n")
}

/// A key the daemon believes in: only a sandbox makes one.
fn key(directory: &Path) -> PathBuf {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = Options { dir: Some(directory.to_owned()), ..Options::default() };
        let stop = CancellationToken::new();
        let sandbox = Sandbox::start(listener, options, stop.clone()).unwrap();
        let key = sandbox.key_path().to_owned();
        stop.cancel();
        sandbox.stopped().await;
        key
    })
}

/// Nobody listens there.
fn closed_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_file_that_is_renamed_over_is_taken_over() {
    let daemon = Daemon::watching(OTP);
    for ttl in ["9m", "8m"] {
        daemon.rename_over(&daemon.text(&otp(ttl)));
        daemon.comes_to(ttl);
    }
}

#[test]
fn a_file_that_is_truncated_and_then_written_in_pieces_is_taken_over() {
    let daemon = Daemon::watching(OTP);
    let text = daemon.text(&otp("9m"));
    let mut file = File::create(daemon.path("config.toml")).unwrap();
    for piece in text.as_bytes().chunks(64) {
        file.write_all(piece).unwrap();
        file.flush().unwrap();
    }
    drop(file);
    daemon.comes_to("9m");
}

/// As a ConfigMap is mounted: `config.toml -> ..data/config.toml`, `..data -> ..1`, and the old directory is deleted.
#[test]
fn a_swapped_link_is_followed_again_and_again() {
    let version = |daemon: &Daemon, number: &str, ttl: &str| {
        let directory = daemon.path(&format!("etc/..{number}"));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("config.toml"), daemon.text(&otp(ttl))).unwrap();
        symlink(format!("..{number}"), daemon.path("etc/..data_tmp")).unwrap();
        fs::rename(daemon.path("etc/..data_tmp"), daemon.path("etc/..data")).unwrap();
    };
    let daemon = Daemon::start_at("etc/config.toml", "watch_config = true\n", |daemon| {
        version(daemon, "0", "10m");
        symlink("..data/config.toml", daemon.path("etc/config.toml")).unwrap();
    });
    for (number, ttl) in [("1", "9m"), ("2", "8m"), ("3", "7m")] {
        version(&daemon, number, ttl);
        let before: u32 = number.parse().unwrap();
        fs::remove_dir_all(daemon.path(&format!("etc/..{}", before - 1))).unwrap();
        daemon.comes_to(ttl);
    }
    // And an edit in place, behind the links.
    fs::write(daemon.path("etc/..3/config.toml"), daemon.text(&otp("6m"))).unwrap();
    daemon.comes_to("6m");
}

#[test]
fn whatever_happens_to_the_file_the_last_good_content_is_in_force() {
    let daemon = Daemon::watching(OTP);
    let garbage = "[use_cases.otp\nttl = ";
    for edit in 0..100 {
        let text = if edit % 3 == 1 { garbage.to_owned() } else { daemon.text(&otp(&format!("{}m", edit % 50 + 1))) };
        match edit % 2 {
            0 => daemon.rename_over(&text),
            _ => fs::write(daemon.path("config.toml"), text).unwrap(),
        }
        // A hundred in a second.
        thread::sleep(Duration::from_millis(10));
    }
    daemon.comes_to("50m");
    // Garbage at the end changes nothing; that it was read is seen by what it does to a reload.
    daemon.rename_over(garbage);
    let (code, said) = daemon.refused(&["reload"]);
    assert_eq!(code, Some(78), "{said}");
    assert_eq!(daemon.ttl(), "50m");
    let last = &daemon.json(&["config"])["lastReload"];
    assert_eq!(last["successful"], false, "{last}");
    assert!(last["failures"].as_u64() >= Some(1) && last["message"].is_string(), "{last}");
    daemon.rename_over(&daemon.text(&otp("5m")));
    daemon.comes_to("5m");
    until("a reload that went well", || daemon.json(&["config"])["lastReload"]["successful"] == true);
}

#[test]
fn other_files_beside_it_do_not_hold_a_change_up() {
    let daemon = Daemon::watching(OTP);
    let noise = daemon.path("noise");
    let (stop, stopped) = mpsc::channel::<()>();
    let noisy = thread::spawn(move || {
        while stopped.recv_timeout(Duration::from_millis(5)) == Err(mpsc::RecvTimeoutError::Timeout) {
            fs::write(&noise, "x").unwrap();
        }
    });
    daemon.write(&otp("9m"));
    daemon.comes_to("9m");
    drop(stop);
    noisy.join().unwrap();
}

#[test]
fn a_notice_about_a_file_that_did_not_change_is_no_reload() {
    let daemon = Daemon::watching(OTP);
    let last = || daemon.json(&["config"])["lastReload"].clone();
    // The same bytes again; then a change, which is read after them.
    daemon.write(OTP);
    daemon.says("the file is what it was");
    assert_eq!(last(), Value::Null, "nothing was reloaded");
    daemon.write(&otp("9m"));
    daemon.comes_to("9m");
    assert_eq!(last()["successful"], true);
}

#[test]
fn a_sighup_takes_the_file_over_and_an_unwatched_file_waits_for_it() {
    let daemon = Daemon::start(OTP);
    let before = daemon.hash();
    daemon.write(&otp("9m"));
    assert_eq!(daemon.hash(), before);
    kill_process(Pid::from_child(&daemon.child), Signal::HUP).unwrap();
    daemon.comes_to("9m");
}

#[test]
fn a_reload_says_what_it_did() {
    let daemon = Daemon::start(&format!("{OTP}{NOTICE}"));
    daemon.register("m1", "otp");
    assert!(daemon.screen(&["reload"]).starts_with("Nothing to do: the file is the same"));
    daemon.write(&format!("{}{NOTICE}", otp("5m")));
    let screen = daemon.screen(&["reload"]);
    for part in
        ["- ttl 10m\n+ ttl 5m\n  1 pending, all their deadlines moved: 5m earlier", "The same as before: notice."]
    {
        assert!(screen.contains(part), "{part} is missing:\n{screen}");
    }
    daemon.write(&format!("# for a while\n{}{NOTICE}", otp("5m")));
    assert!(daemon.screen(&["reload"]).contains("no key differs"));
}

#[test]
fn a_file_with_errors_is_shown_with_them_and_changes_nothing() {
    let daemon = Daemon::start(OTP);
    let before = daemon.hash();
    daemon.write("[use_cases.otp]\nttl = \"10 parsecs\"\n");
    for arguments in [&["reload"][..], &["plan", "--config", daemon.path("config.toml").to_str().unwrap()]] {
        let (code, said) = daemon.refused(arguments);
        assert_eq!(code, Some(78), "{said}");
        for part in ["error: ", "config.toml:", "10 parsecs", "^^^", "Nothing was changed"] {
            assert!(said.contains(part), "{part} is missing:\n{said}");
        }
        assert!(!said.contains("error: error"), "{said}");
    }
    fs::remove_file(daemon.path("config.toml")).unwrap();
    assert_eq!(daemon.refused(&["reload"]).0, Some(78));
    assert_eq!(daemon.refused(&["plan", "--config", "/nowhere/new.toml"]).0, Some(66));
    assert_eq!(daemon.hash(), before);
}

#[test]
fn a_key_that_needs_a_restart_is_named_and_refuses_all_of_it() {
    let daemon = Daemon::start(OTP);
    let before = daemon.hash();
    let text = daemon.text(&otp("5m")).replace("[store]", "clients_max = 7\n[store]");
    fs::write(daemon.path("config.toml"), text).unwrap();
    for arguments in [&["reload"][..], &["plan", "--config", daemon.path("config.toml").to_str().unwrap()]] {
        let (code, said) = daemon.refused(arguments);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("server.clients_max") && said.contains("restart"), "{said}");
    }
    assert_eq!((daemon.hash(), daemon.ttl()), (before, "10m".to_owned()));
}

#[test]
fn a_use_case_does_not_vanish_under_its_messages() {
    let daemon = Daemon::start(&format!("{OTP}{NOTICE}"));
    daemon.register("m1", "notice");
    daemon.register("m2", "notice");
    daemon.write(OTP);
    let (code, said) = daemon.refused(&["reload"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("2 messages") && said.contains("retired = true"), "{said}");
    daemon.write(&format!("{OTP}{NOTICE}retired = true\n"));
    let screen = daemon.screen(&["reload"]);
    assert!(screen.contains("+ ttl 1h, retired\n  2 pending, none of their deadlines moved"), "{screen}");
    let (code, said) = daemon.refused(&["register", "bot", "m3", "--phone", "+15550100", "--use-case", "notice"]);
    assert_eq!(code, Some(1), "{said}");
    // Once they are through, it may go.
    for message in ["m1", "m2"] {
        daemon.json(&["withdraw", "bot", message]);
    }
    daemon.write(OTP);
    assert!(daemon.screen(&["reload"]).contains("notice (gone)\n- ttl 1h, retired"));
}

#[test]
fn a_plan_tells_and_changes_nothing() {
    let daemon = Daemon::start(OTP);
    daemon.register("m1", "otp");
    let (before, deadline) = (daemon.hash(), daemon.json(&["get", "bot", "m1"])["deadline"].clone());
    let new = daemon.path("new.toml");
    fs::write(&new, daemon.text(&format!("{}{NOTICE}", otp("1s")))).unwrap();
    let arguments = ["plan", "--config", new.to_str().unwrap()];
    let plan = daemon.json(&arguments);
    let otp = &plan["useCases"][1];
    assert_eq!((&plan["applied"], &otp["moved"], &otp["shiftMsMax"]), (&false.into(), &1.into(), &(-599_000).into()));
    let screen = daemon.screen(&arguments);
    for part in ["notice (new)\n+ ttl 1h", "would move: 9m 59s earlier", "Nothing was changed"] {
        assert!(screen.contains(part), "{part} is missing:\n{screen}");
    }
    assert_eq!((daemon.hash(), &daemon.json(&["get", "bot", "m1"])["deadline"]), (before, &deadline));
}

#[test]
fn a_shorter_ttl_makes_what_is_pending_due_at_once_and_explains_itself() {
    let daemon = Daemon::start(&format!("{OTP}{NOTICE}"));
    daemon.register("m1", "otp");
    daemon.register("m2", "notice");
    let (start, since) = (daemon.hash(), daemon.json(&["explain", "bot", "m2"])["policySince"].clone());
    daemon.write(&format!("{}{NOTICE}", otp("1s")));
    let done = daemon.json(&["reload"]);
    assert_eq!(done["applied"], true);
    until("a DELETE", || daemon.json(&["get", "bot", "m1"])["state"] == "REVOKING");
    let told = daemon.json(&["explain", "bot", "m1"]);
    assert_eq!((&told["configHash"], &told["policy"]), (&done["configHash"], &"ttl 1s".into()));
    assert!(told["policySince"].as_str() > since.as_str(), "{told}");
    // What the reload did not touch is still put down to the configuration that brought it.
    let other = daemon.json(&["explain", "bot", "m2"]);
    assert_eq!((&other["configHash"], &other["policySince"]), (&start.into(), &since));
    let screen = daemon.screen(&["explain", "bot", "m1"]);
    assert!(screen.contains(done["configHash"].as_str().unwrap()), "{screen}");
}
