//! A disk that is full, or fails: what is new is refused, what is known goes on, and nothing has to be restarted.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use reqwest::Method;
use rustix::process::{Resource, Rlimit, prlimit};
use serde_json::{Value, json};

use crate::{
    caller::left_out,
    daemon::{run_to_end_in, soon},
    faults::Faults,
    rig::{AGENT, PHONE, Rig, deletes, draft, message_path, parts},
};

const FAILS: &str = "the store can't write: ";
/// The exit code for it.
const IO: i32 = 74;
const WELL: &str = "the store can be written again";

/// A way to break a disk, and to mend it.
trait Fault {
    /// What the system says.
    const WORDS: &str;
    fn begin(&mut self, rig: &Rig);
    fn end(&mut self, rig: &Rig);
}

/// A small file system of its own, filled up.
struct Tmpfs(PathBuf);

impl Tmpfs {
    /// `None` where nobody but root may mount one.
    fn mount(at: PathBuf) -> Option<Self> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=12m", "none"]).arg(&at).output();
        mounted.is_ok_and(|mounted| mounted.status.success()).then_some(Self(at))
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Fault for Tmpfs {
    const WORDS: &str = "No space left on device";

    fn begin(&mut self, _: &Rig) {
        let mut ballast = File::create(self.ballast()).unwrap();
        let full = loop {
            if let Err(error) = ballast.write_all(&[7; 4096]) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::StorageFull);
    }

    fn end(&mut self, _: &Rig) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: whatever still has a file open there.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// No file may grow: needs no rights.
struct Limit;

impl Limit {
    fn set(rig: &Rig, bytes: Option<u64>) {
        prlimit(Some(rig.daemon().pid()), Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
    }
}

impl Fault for Limit {
    const WORDS: &str = "File too large";

    fn begin(&mut self, rig: &Rig) {
        Self::set(rig, Some(0));
    }

    fn end(&mut self, rig: &Rig) {
        Self::set(rig, None);
    }
}

/// A fault that is not the disk's size.
struct Fails {
    faults: Faults,
    how: &'static str,
}

impl Fails {
    async fn under(rig: &mut Rig, how: &'static str) -> Self {
        Self { faults: Faults::under(rig).await, how }
    }
}

impl Fault for Fails {
    const WORDS: &str = "Input/output error";

    fn begin(&mut self, _: &Rig) {
        self.faults.begin(self.how, "");
    }

    fn end(&mut self, _: &Rig) {
        self.faults.end(self.how);
    }
}

/// Registers until the disk has no more; tells what was acknowledged, and how the next one was refused.
async fn register_until_refused(rig: &Rig) -> (Vec<String>, Value) {
    let mut acknowledged = Vec::new();
    for n in 0..1000 {
        let id = format!("last-{n}");
        let request = rig.request(Method::POST, "/v1/messages").body(draft(&id, "promo").to_string());
        let answer = soon("an answer", request.send()).await.unwrap();
        let retry_after = answer.headers().get("retry-after").cloned();
        match parts(answer).await {
            (201, _) => acknowledged.push(id),
            (503, refusal) => {
                assert_eq!(retry_after.unwrap(), "1");
                return (acknowledged, refusal);
            }
            other => panic!("{other:?}"),
        }
    }
    panic!("a thousand messages found room on a disk that has none");
}

fn delivered(id: &str) -> String {
    json!({"senderPhoneNumber": PHONE, "eventType": "DELIVERED", "eventId": "e", "messageId": id, "agentId": AGENT})
        .to_string()
}

/// What lies in the store's directory under another name than its own.
fn drafts(store: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(store).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("new-")).collect()
}

async fn goes_on<F: Fault>(mut rig: Rig, mut fault: F) {
    for id in ["m1", "m2", "m3"] {
        rig.send(id, "promo").await;
    }
    fault.begin(&rig);
    let (mut acknowledged, refusal) = register_until_refused(&rig).await;
    let words = refusal["error"]["message"].as_str().unwrap();
    assert!(words.starts_with(FAILS) && words.contains(F::WORDS), "{words}");
    let (_, status) = rig.get("/v1/status").await;
    assert!(status["storeError"].as_str().unwrap().contains(F::WORDS), "{status}");
    rig.daemon().says(FAILS).await;

    // Known before: revoked all the same, although nobody is told yet how that went.
    let (code, _) = rig.post(&format!("{}:revoke", message_path("m1")), "").await;
    assert_eq!(code, 503);
    rig.sandbox.until(|stats| stats.deletes == 1).await;
    // Learnt meanwhile: not forgotten, although whoever tells it is to tell it again.
    assert_eq!(rig.post("/v1/events", delivered("m2")).await.0, 503);
    assert_eq!(rig.outcomes().await, [Value::Null; 0], "nothing is told that a crash would take back");
    let half = drafts(&rig.path("store"));
    assert!(half.len() <= 1, "each try leaves something: {half:?}");

    fault.end(&rig);
    rig.daemon().says(WELL).await;
    assert_eq!(rig.register(&draft("m4", "promo")).await.0, 201);
    acknowledged.extend(["m3", "m4"].map(str::to_owned));
    for _ in ["m1", "m2"] {
        let outcome = rig.outcome().await;
        let expected = if outcome["messageId"] == "m1" { "REVOKED" } else { "DELIVERED" };
        assert_eq!(outcome["outcome"], expected, "{outcome}");
    }
    assert_eq!((deletes(&rig.book("m1")), deletes(&rig.book("m2"))), (vec![200], vec![]));
    let log = rig.daemon().log();
    assert_eq!((log.matches(FAILS).count(), log.matches(WELL).count()), (1, 1), "once each:\n{log}");

    rig.kill9().await;
    rig.restart().await;
    for id in &acknowledged {
        assert_eq!(rig.message(id).await["state"], "PENDING", "{id}");
    }
    assert_eq!(rig.message("m2").await["outcome"], "DELIVERED");
}

#[tokio::test]
async fn a_full_disk_is_survived_and_left_tidy() {
    let mut rig = Rig::start().await;
    rig.stop().await;
    let Some(tmpfs) = Tmpfs::mount(rig.path("store")) else {
        return left_out("a disk that is full: a limit on the size of files has to do for it");
    };
    rig.restart().await;
    goes_on(rig, tmpfs).await;
}

#[tokio::test]
async fn files_that_may_not_grow_are_survived() {
    goes_on(Rig::start().await, Limit).await;
}

#[tokio::test]
async fn an_fsync_that_fails_is_survived() {
    let mut rig = Rig::start().await;
    let disk = Fails::under(&mut rig, "sync").await;
    goes_on(rig, disk).await;
}

#[tokio::test]
async fn a_write_that_fails_after_those_behind_it_holds_nobody_up() {
    let mut rig = Rig::start().await;
    let disk = Fails::under(&mut rig, "batch").await;
    goes_on(rig, disk).await;
}

/// What a start says that fails for the disk's sake.
fn ends_for_the_disk(rig: &Rig, ended: &Output, words: &str) {
    let (log, store) = (String::from_utf8_lossy(&ended.stderr), rig.path("store"));
    assert_eq!(ended.status.code(), Some(IO), "{log}");
    assert!(log.contains(FAILS) && log.contains(words) && log.contains(store.to_str().unwrap()), "{log}");
}

#[tokio::test]
async fn a_start_on_a_full_disk_says_so_and_the_first_one_with_room_has_everything() {
    let mut rig = Rig::start().await;
    rig.stop().await;
    let Some(mut disk) = Tmpfs::mount(rig.path("store")) else {
        println!("not root: nothing can be mounted");
        return;
    };
    // A store that was never there, and then one that a crash left.
    for ids in [&[][..], &["m1", "m2", "m3"]] {
        disk.begin(&rig);
        for _ in 0..3 {
            ends_for_the_disk(&rig, &run_to_end_in(&rig.path("config.toml"), &[]).await, Tmpfs::WORDS);
        }
        disk.end(&rig);
        rig.restart().await;
        for id in ids {
            assert_eq!(rig.message(id).await["state"], "PENDING", "{id}");
        }
        if ids.is_empty() {
            for id in ["m1", "m2", "m3"] {
                rig.send(id, "promo").await;
            }
            rig.kill9().await;
        }
    }
}

#[tokio::test]
async fn a_start_where_no_fsync_succeeds_says_so_and_the_first_one_that_can_has_everything() {
    let mut rig = Rig::start().await;
    let mut disk = Fails::under(&mut rig, "sync").await;
    rig.send("m1", "promo").await;
    rig.kill9().await;
    disk.begin(&rig);
    for _ in 0..3 {
        let ended = run_to_end_in(&rig.path("config.toml"), &disk.faults.environment()).await;
        ends_for_the_disk(&rig, &ended, Fails::WORDS);
    }
    disk.end(&rig);
    disk.faults.restart(&mut rig).await;
    assert_eq!(rig.message("m1").await["state"], "PENDING");
}

/// Each database that could not be synced stays open, since sled can't close it; and no probe tells that it would come to that.
#[tokio::test]
async fn a_disk_that_fails_only_when_it_counts_ends_the_daemon_before_its_memory_is_full_of_it() {
    let mut rig = Rig::start().await;
    let mut disk = Fails::under(&mut rig, "log").await;
    rig.send("m1", "promo").await;
    disk.begin(&rig);
    assert_eq!(rig.register(&draft("m2", "promo")).await.0, 503);
    let mut daemon = rig.daemon.take().unwrap();
    assert_eq!(daemon.ended().await.code(), Some(IO));
    daemon.says("only a restart clears").await;
    disk.end(&rig);
    disk.faults.restart(&mut rig).await;
    assert_eq!(rig.message("m1").await["state"], "PENDING");
}
