//! `revokectl` against the real daemon, as a person in front of a terminal and a program behind a pipe use it.
//!
//! Messages settle by events and by being withdrawn, so nothing waits for time to pass; the sandbox behind the daemon is there
//! for its key.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use revoked::model::Timestamp;
use revoked::sandbox::{Options, Sandbox};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::{self, Runtime};
use tokio_util::sync::{CancellationToken, DropGuard};

const DELIVERED: &str =
    r#"{"senderPhoneNumber":"+12223334444","eventType":"DELIVERED","eventId":"e1","messageId":"m1","agentId":"bot"}"#;

/// A daemon with a directory of its own.
struct House {
    _platform: (Runtime, Sandbox, DropGuard),
    home: TempDir,
    daemon: Child,
}

impl Drop for House {
    fn drop(&mut self) {
        self.kill();
    }
}

impl House {
    fn new() -> Self {
        let platform = platform();
        let (endpoint, key) = (platform.1.base_url(), platform.1.key_path());
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name).display().to_string();
        let config = format!(
            "server.socket = {:?}\nstore.path = {:?}\nplatform.endpoint = {endpoint:?}\n\
             platform.credentials = {key:?}\n[use_cases.otp]\nttl = \"10m\"\n[use_cases.promotion]\nttl = \"3d\"\n",
            path("s.sock"),
            path("store"),
        );
        fs::write(path("config.toml"), config).unwrap();
        let daemon = start(&home);
        Self { _platform: platform, home, daemon }
    }

    /// With one message, `m1` of `bot`.
    fn with_a_message() -> Self {
        let house = Self::new();
        house.good("register bot@rbm.goog m1 --phone +12223334444 --use-case otp --tag spring");
        house
    }

    fn kill(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
    }

    fn restart(&mut self) {
        self.daemon = start(&self.home);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_revokectl"));
        command.args(line.split_whitespace());
        command.env("REVOKED_SOCKET", self.path("s.sock")).env("COLUMNS", "80").env("TZ", "Asia/Tokyo");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// What it prints when all is well.
    fn good(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(output.status.success() && output.stderr.is_empty(), "{line}: {output:?}");
        text(&output.stdout)
    }

    /// The lines of JSON it prints when all is well.
    fn json(&self, line: &str) -> Vec<Value> {
        let output = self.good(&format!("{line} --json"));
        output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Its exit code and what it says, with something to read.
    fn fed(&self, line: &str, input: &str) -> (i32, String) {
        let mut child = self.command(line).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(text(&output.stderr), "");
        (output.status.code().unwrap(), text(&output.stdout))
    }
}

fn platform() -> (Runtime, Sandbox, DropGuard) {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let stop = CancellationToken::new();
    let sandbox = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Sandbox::start(listener, Options::default(), stop.clone()).unwrap()
    });
    (runtime, sandbox, stop.drop_guard())
}

/// A daemon that is ready.
fn start(home: &TempDir) -> Child {
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_revoked"));
    daemon.arg("run").arg("--config").arg(home.path().join("config.toml"));
    let mut daemon = daemon.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(daemon.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("ready") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "the daemon did not start");
    }
    // A full pipe would stop it.
    thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    daemon
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn refusal(output: &Output) -> (i32, String) {
    assert_eq!(text(&output.stdout), "");
    (output.status.code().unwrap(), text(&output.stderr))
}

#[test]
fn a_message_is_registered_looked_at_moved_and_withdrawn() {
    let house = House::new();
    let told = house.good("register bot@rbm.goog m1 --phone +12223334444 --use-case otp --ttl 1h30m --tag spring");
    assert!(told.starts_with("bot m1: pending, to be revoked at ") && told.ends_with("+09:00 (in 90 min)\n"), "{told}");

    let screen = house.good("get bot m1");
    for part in ["+12223334444", "spring", "registered", "otp, transaction, region global"] {
        assert!(screen.contains(part), "{part} is missing: {screen}");
    }
    let moved = house.good("reschedule bot m1 --in 20m");
    assert!(moved.contains("(in 20 min)"), "{moved}");
    let deadline = |line: &str| Timestamp::parse(house.json(line)[0]["deadline"].as_str().unwrap()).unwrap();
    let later = deadline("get bot m1").plus(Duration::from_secs(5));
    assert_eq!(deadline(&format!("reschedule bot m1 --at {later}")), later);

    assert_eq!(house.good("withdraw bot m1"), "bot m1: settled: withdrawn\n");
    let (code, words) = refusal(&house.run("withdraw bot m1"));
    assert!(code == 1 && words.starts_with("error: too late"), "{words}");
    house.good("register bot m2 --phone +12223334444 --use-case promotion");
    let [now] = house.json("revoke bot m2").try_into().unwrap();
    assert_eq!((&now["messageId"], &now["trail"][1]["what"]), (&"m2".into(), &"REVOKE_ASKED".into()));
}

#[test]
fn a_list_masks_phones_for_people_and_pages_for_programs() {
    let house = House::with_a_message();
    house.good("register bot m2 --phone +12223335555 --use-case promotion");
    let table = house.good("list");
    assert!(table.contains("+1•••••4444") && !table.contains("2223334444"), "{table}");
    assert!(!table.contains('\u{1b}') && table.lines().all(|line| line.chars().count() <= 80), "{table}");
    assert!(house.good("list --limit 1").contains("there may be more: --limit"));
    assert_eq!(house.good("list --state settled"), "No message matches.\n");

    let ids = |line: &str| -> Vec<String> {
        house.json(line).iter().map(|row| row["messageId"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids("list"), ["m1", "m2"]);
    assert_eq!(ids("list --limit 1").len(), 1);
    for filter in ["--tag spring", "--use-case otp", "--use-case otp --state pending --agent bot@rbm.goog"] {
        assert_eq!(ids(&format!("list {filter}")), ["m1"], "{filter}");
    }
    assert_eq!(house.json("list")[0]["phone"], "+12223334444");
}

#[test]
fn a_batch_names_the_lines_that_were_refused() {
    let house = House::new();
    let good = |id: &str| format!(r#"{{"agentId":"bot","messageId":"{id}","phone":"+12223334444","useCase":"otp"}}"#);
    let file = format!("{}\n\n{}\n{}\n{}\n", good("a"), good("b").replace("otp", "opt"), "{", good("c"));
    let (code, told) = house.fed("register --file -", &file);
    assert_eq!(code, 1);
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines[0].starts_with("line 3: ") && lines[0].ends_with("(useCase)"), "{told}");
    assert!(lines[1].starts_with("line 4: "), "{told}");
    assert_eq!(lines[2], "4 lines: 2 registered, 0 known before, 2 refused");

    fs::write(house.path("sent.ndjson"), format!("{}\n{}", good("a"), good("d"))).unwrap();
    let path = house.path("sent.ndjson");
    assert_eq!(
        house.good(&format!("register --file {}", path.display())),
        "2 lines: 1 registered, 1 known before, 0 refused\n"
    );
    let codes: Vec<Value> = house.json(&format!("register --file {}", path.display()));
    assert_eq!(codes.iter().map(|line| &line["code"]).collect::<Vec<_>>(), [200, 200]);
    assert_eq!(refusal(&house.run("register --file /nonexistent")).0, 66);
}

#[test]
fn events_are_handed_in_alone_or_by_the_line() {
    let house = House::with_a_message();
    let pretty = serde_json::to_string_pretty(&serde_json::from_str::<Value>(DELIVERED).unwrap()).unwrap();
    assert_eq!(house.fed("events", &pretty), (0, "line 1: applied\n".into()));
    let other = DELIVERED.replace("m1", "m9");
    let (code, told) = house.fed("events -", &format!("{DELIVERED}\nnoise\n{other}\n"));
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(
        (code, lines[0], lines[2]),
        (1, "line 1: known already", "line 3: kept until its message is registered")
    );
    assert!(lines[1].starts_with("line 2: error: "), "{told}");
    assert_eq!(house.fed("events --json", DELIVERED), (0, "{\"effect\":\"DUPLICATE\"}\n".into()));
    assert_eq!(house.json("get bot m1")[0]["outcome"], "DELIVERED");
}

#[test]
fn outcomes_are_shown_acknowledged_and_gone_on_from() {
    let house = House::with_a_message();
    assert_eq!(house.good("outcomes"), "No outcomes after 0.\n");
    house.fed("events", DELIVERED);
    let table = house.good("outcomes");
    assert!(table.contains("delivered") && table.ends_with("1 outcomes; those to come: --after 1\n"), "{table}");
    let [entry] = house.json("outcomes --agent bot").try_into().unwrap();
    assert_eq!(
        (&entry["cursor"], &entry["outcome"], &entry["kind"]),
        (&"1".into(), &"DELIVERED".into(), &"SETTLED".into())
    );
    assert!(house.json("outcomes --agent other").is_empty());
    assert!(house.json("outcomes --after 1").is_empty());

    house.good("outcomes --ack");
    assert_eq!(house.good("ack 1 --agent bot"), "bot: acknowledged up to 1\n");
    let (code, words) = refusal(&house.run("ack 99"));
    assert!(code == 1 && words.ends_with("(cursor)\n"), "{words}");
}

#[test]
fn a_follower_outlives_the_daemon_and_sees_each_outcome_once() {
    let mut house = House::with_a_message();
    let mut follower = house.command("outcomes --follow --json --ack").spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut words = BufReader::new(follower.stderr.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    house.fed("events", DELIVERED);
    assert_eq!(next()["messageId"], "m1");

    house.kill();
    assert!(words.next().unwrap().unwrap().starts_with("waiting for the daemon after outcome 1: "));
    house.restart();
    assert_eq!(words.next().unwrap().unwrap(), "the daemon is back");
    house.good("register bot m2 --phone +12223334444 --use-case otp");
    house.good("withdraw bot m2");
    let second = next();
    assert_eq!((&second["messageId"], &second["cursor"]), (&"m2".into(), &"2".into()));
    follower.kill().unwrap();
    follower.wait().unwrap();
}

#[test]
fn status_is_one_screen_or_one_line() {
    let house = House::with_a_message();
    let screen = house.good("status");
    for part in ["revoked 0.", "next due", "USE CASE", "otp"] {
        assert!(screen.contains(part), "{part} is missing: {screen}");
    }
    assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
    assert_eq!(house.json("status")[0]["useCases"]["otp"]["PENDING"], 1);
}

#[test]
fn a_hold_is_made_shown_and_released_by_its_number_or_by_what_it_names() {
    let house = House::with_a_message();
    assert_eq!(house.good("holds"), "Nothing is held.\n");
    let [hold] = house.json("hold --tag spring --reason wait").try_into().unwrap();
    let id = hold["id"].as_str().unwrap().to_owned();
    assert!(house.good("holds").contains("tag spring") && house.good("list").contains("held"));
    assert!(house.good("status").contains(&format!("{id} (tag spring)")));
    assert!(house.good("explain bot m1").contains("held since"));
    let (code, words) = refusal(&house.run("revoke bot m1"));
    assert!(code == 1 && words.contains("is held by hold"), "{words}");
    assert!(house.good(&format!("release {id}")).contains("is released"));
    house.good("hold --use-case otp --agent bot");
    let (code, words) = refusal(&house.run("release --use-case otp"));
    assert!(code == 1 && words.contains("use case otp, agent bot"), "names those there are: {words}");
    house.good("release --use-case otp --agent bot");
    assert_eq!(house.good("holds"), "Nothing is held.\n");
}

#[test]
fn a_recall_is_counted_made_watched_and_listed() {
    let house = House::with_a_message();
    house.good("withdraw bot m1");
    assert!(house.good("recall --tag spring --dry-run").contains("would revoke 0 messages"));
    assert!(house.good("recalls").starts_with("No recall is under way"));
    let told = house.run("recall --tag spring --json");
    let recall: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!((&recall["state"], &recall["before"]["WITHDRAWN"]), (&"DONE".into(), &1.into()), "{told:?}");
    let id = recall["id"].as_str().unwrap();
    assert!(text(&house.run(&format!("recall {id}")).stdout).contains("1 were not surely taken back"));
    assert_eq!(house.json(&format!("recall {id} --received"))[0]["messageId"], "m1");
    let table = house.good(&format!("recall {id} --received"));
    assert!(table.contains("+1•••••4444") && !table.contains("2223334444"), "{table}");
    assert!(house.good("recalls").contains("tag spring"));
    assert_eq!(refusal(&house.run("recall 99 --received")).0, 1);
}

#[test]
fn a_refused_field_is_named() {
    let house = House::new();
    let (code, words) = refusal(&house.run("register bot m1 --phone 123 --use-case otp"));
    assert!(code == 1 && words.starts_with("error: ") && words.ends_with("(phone)\n"), "{words}");
    let (code, words) = refusal(&house.run("register bot m1 --phone +12223334444 --use-case opt"));
    assert!(code == 1 && words.contains("otp, promotion") && words.ends_with("(useCase)\n"), "{words}");
    let (code, words) = refusal(&house.run("get bot m1"));
    assert!(code == 1 && words.contains("no message"), "{words}");
}

#[test]
fn a_missing_daemon_gets_a_sentence_that_helps() {
    let mut house = House::new();
    house.kill();
    for socket in [house.path("s.sock"), house.path("never.sock")] {
        let (code, words) = refusal(&house.run(&format!("status --socket {}", socket.display())));
        let expected = format!(
            "error: no daemon answers on {}: is it running? `systemctl status revoked`; another socket: --socket\n",
            socket.display()
        );
        assert_eq!((code, words), (69, expected));
    }
    let (code, words) = refusal(&house.run("outcomes --follow"));
    assert!(code == 69 && words.contains("no daemon answers"), "{words}");
}

#[test]
fn a_socket_that_may_not_be_used_names_who_may() {
    let house = House::new();
    fs::set_permissions(house.path("s.sock"), fs::Permissions::from_mode(0o060)).unwrap();
    let output = if rustix::process::geteuid().is_root() {
        // Root may do anything, and so is nobody here; who can read the tests' own directory only by luck. Not copied by
        // ourselves: what is still open for writing in a child that another test begins just then can't be run.
        let program = house.path("revokectl");
        assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_revokectl")).arg(&program).status().unwrap().success());
        fs::set_permissions(house.home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        // Nobody is told to join root's group.
        chown(house.path("s.sock"), None, Some(60_010)).unwrap();
        let mut command = Command::new(program);
        command.arg("status").env("REVOKED_SOCKET", house.path("s.sock")).uid(65534).gid(65534).output().unwrap()
    } else {
        house.run("status")
    };
    let (code, words) = refusal(&output);
    assert!(code == 69 && words.contains("group"), "{words}");
}

#[test]
fn the_wrong_command_line_is_64_and_help_is_0() {
    let house = House::new();
    for wrong in
        ["", "frobnicate", "get bot", "get bot a/b", "reschedule bot m1", "list --state odd", "register bot m1"]
    {
        assert_eq!(refusal(&house.run(wrong)).0, 64, "{wrong}");
    }
    assert!(house.good("--help").contains("Exit codes"));
    assert!(house.good("--version").starts_with("revokectl "));
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let house = House::new();
    let line = |n: u32| {
        format!("{{\"agentId\":\"bot\",\"messageId\":\"m{n}\",\"phone\":\"+12223334444\",\"useCase\":\"otp\"}}\n")
    };
    // More than a pipe holds, so that the writer is bound to notice.
    house.fed("register --file -", &(0..1000).map(line).collect::<String>());
    let mut child = house.command("list --json").spawn().unwrap();
    let mut first = [0; 1];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}
