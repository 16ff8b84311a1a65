//! `kill -9` at random moments: what was acknowledged is there, and nothing is there by half.
//!
//! The test starts itself as a child that appends without end and tells on its standard output what became durable. As
//! everything the child does follows from its seed, the parent can do the same in memory and compare: the store must hold
//! exactly the state after some batch, and that batch must not lie before the last one acknowledged. The child's second
//! life goes on where the first one ended. Every other life is so short that it may end while the store opens: what a first
//! opening leaves half done the second one finds. `REVOKED_STORE_KILLS` sets how often it is killed.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod store_world;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use revoked::store::{SledStore, Store, StoreOptions as Options};
use store_world::{World, all_records, batches, counter, next, open, world_after};

const CHILD: &str = "REVOKED_STORE_CRASH_DIR";
const KILLS: &str = "REVOKED_STORE_KILLS";

fn options() -> Options {
    // Small, so that a kill finds it turning, ageing and merging.
    let small = Options { young_bytes: 300_000, cache_bytes: 8 << 20, ..Options::default() };
    Options { durability: revoked::store::Durability::Process, ..small }
}

#[test]
fn child() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let base = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let known = base.clone();
    let told = move |ticket: Result<u64, _>| {
        let batches = known.load(std::sync::atomic::Ordering::Acquire) + ticket.unwrap();
        let mut out = std::io::stdout();
        out.write_all(format!("durable {batches}\n").as_bytes()).and_then(|()| out.flush()).unwrap();
    };
    let (mut store, snapshot) = SledStore::open(Path::new(&dir), options(), told).unwrap();
    let mut done = batches(&snapshot);
    base.store(done, std::sync::atomic::Ordering::Release);
    let mut world = world_after(done);
    loop {
        let mut batch = if done == 0 { World::lanes() } else { next(&mut world) };
        done += 1;
        batch.push(revoked::store::Change::Acked(counter(), done));
        // Refused while memory is full, as the engine would be.
        while store.backlog() > 8 || store.writable().is_err() {
            std::thread::yield_now();
        }
        store.append(batch);
    }
}

/// Lets a child live for a while, and gives what it acknowledged.
fn live_and_die(dir: &Path, life: Duration) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reader = std::thread::spawn(move || {
        lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("durable ")?.parse::<u64>().ok()).last()
    });
    std::thread::sleep(life);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap().unwrap_or(0)
}

#[test]
fn what_was_acknowledged_survives_kill_9_whole() {
    if std::env::var(CHILD).is_ok() {
        return;
    }
    let kills: u32 = std::env::var(KILLS).map_or(20, |kills| kills.parse().unwrap());
    let mut dir = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::new();
    let (mut acknowledged, mut lived) = (0, 0);
    for kill in 1..=kills {
        if kill % 50 == 0 {
            // What it is compared with is made anew each time, from the first batch on.
            (dir, acknowledged) = (tempfile::tempdir().unwrap(), 0);
        }
        let short = random.bool();
        let life = Duration::from_micros(if short { random.u64(0..40_000) } else { random.u64(20_000..400_000) });
        let told = live_and_die(dir.path(), life);
        (acknowledged, lived) = (told.max(acknowledged), lived + u32::from(told > 0));
        if short && random.bool() {
            continue; // the next child finds what this one left, and no orderly opening in between
        }
        let (store, snapshot, _) = open(dir.path(), options());
        let found = batches(&snapshot);
        assert!(found >= acknowledged, "kill {kill}: {acknowledged} batches acknowledged, {found} found");
        if found > 0 {
            let world = world_after(found);
            assert_eq!(all_records(&store), world.live, "kill {kill}: torn");
            assert!(snapshot.next_seq >= world.next_seq);
        }
        acknowledged = found;
    }
    assert!(lived > 0, "the child never got anywhere");
}
