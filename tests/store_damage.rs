//! Bytes that are not what was written, anywhere in a store: it opens and all of it is there, or it says what is damaged.
//!
//! What was acknowledged and synced is never dropped without a word, nobody panics but the database (and where that does, the
//! daemon says so and ends with 74), and what one opening has found the next one finds as well: a restart mends nothing. Each
//! damage is to one file, as a dying disk does it: a bit turned over, a sector zeroed, the end cut off. In half of them the host
//! lost its power as well, so that whatever was not synced is what it was before; then the last batch of all may be what nobody
//! can miss (see `seal.rs`).
//!
//! `REVOKED_STORE_DAMAGES` sets how often, `REVOKED_STORE_SEED` where to begin.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod store_world;

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use revoked::model::{Position, Record};
use revoked::store::{Change, SledStore, Store, StoreOptions as Options, SyncWitness, is_of_database};
use store_world::{World, batches, counter, next, open, queues, wait_for, world_after};

const DAMAGES: &str = "REVOKED_STORE_DAMAGES";
const SEED: &str = "REVOKED_STORE_SEED";
/// Enough for runs that were merged, and two journals.
const BATCHES: u64 = 200;
const SECTOR: usize = 512;

fn options() -> Options {
    Options { young_bytes: 300_000, cache_bytes: 8 << 20, ..Options::default() }
}

/// A store as a crash leaves it, and its files as the disk is bound to keep them where those are others.
struct Left {
    dir: PathBuf,
    synced: HashMap<PathBuf, Vec<u8>>,
}

fn leave(root: &Path, orderly: bool) -> Left {
    let (lives, dir) = (root.join("lives"), root.join("left"));
    let seals: Arc<Mutex<HashMap<String, Vec<u8>>>> = Arc::default();
    let seen = seals.clone();
    let witness = SyncWitness::new(move |file: &File| {
        let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
        if path.ends_with("synced") {
            let journal = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
            let journal = journal.trim_start_matches("new-").to_owned();
            seen.lock().unwrap().insert(journal, fs::read(path).unwrap());
        }
    });
    let (mut store, _, durable) = open(&lives, Options { witness, ..options() });
    let mut world = World::new(42);
    for batch in 1..=BATCHES {
        let mut changes = if batch == 1 { World::lanes() } else { next(&mut world) };
        changes.push(Change::Acked(counter(), batch));
        let ticket = store.append(changes);
        if batch % 8 == 0 || batch + 1 >= BATCHES {
            wait_for(&durable, ticket);
        }
    }
    if orderly {
        store.close();
        copy(&lives, &dir).unwrap();
    } else {
        copy_living(&lives, &dir);
        store.close();
    }
    let seals = std::mem::take(&mut *seals.lock().unwrap());
    let synced = seals.into_iter().map(|(journal, bytes)| (Path::new(&journal).join("synced"), bytes));
    Left { synced: synced.filter(|(path, _)| dir.join(path).exists()).collect(), dir }
}

/// As it was at one instant: until nothing is made, renamed or removed meanwhile.
fn copy_living(from: &Path, to: &Path) {
    let listed = || {
        let mut found = Vec::new();
        files(from, &mut found).map(|()| found)
    };
    for _ in 0..1000 {
        let _ = fs::remove_dir_all(to);
        if let Ok(before) = listed()
            && copy(from, to).is_ok()
            && listed().is_ok_and(|after| after == before)
        {
            return;
        }
    }
    panic!("the store never rests");
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, found)?;
        } else if fs::metadata(&path)?.len() > 0 {
            found.push(path);
        }
    }
    found.sort();
    Ok(())
}

/// Does something to one of the files; tells what. `whole`: none is cut off, which no loss of power does to what was synced.
fn damage(store: &Path, whole: bool, random: &mut fastrand::Rng) -> String {
    let mut all = Vec::new();
    files(store, &mut all).unwrap();
    // Nearly all bytes are in the logs.
    let logs = random.u8(0..4) > 0;
    all.retain(|path| !logs || path.ends_with("db"));
    let path = random.choice(all).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
    let at = random.usize(0..end);
    let how = match random.u8(0..4) {
        0 => {
            bytes[at..(at + SECTOR).min(end)].fill(0);
            "zeros"
        }
        1 if !whole => {
            bytes.truncate(at);
            "cut"
        }
        _ => {
            bytes[at] ^= 1 << random.u8(0..8);
            "flip"
        }
    };
    fs::write(&path, bytes).unwrap();
    let mut what = format!("{how} at {at} of {end} of {}", path.strip_prefix(store).unwrap().display());
    if random.u8(0..8) == 0 {
        // The note of which pages count is gone as well.
        for snapshot in fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path()) {
            if snapshot.file_name().unwrap().to_str().unwrap().starts_with("snap.") {
                fs::remove_file(snapshot).unwrap();
                what += ", without its snapshot";
            }
        }
    }
    what
}

thread_local! {
    /// The database did, on this thread.
    static PANICKED: Cell<bool> = const { Cell::new(false) };
}

/// What there is, or why not.
fn found(dir: PathBuf) -> Result<(u64, BTreeMap<u64, Record>), String> {
    let (tell, told) = channel();
    let named = dir.clone();
    std::thread::spawn(move || {
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let (store, snapshot) = SledStore::open(&dir, options(), drop).map_err(|error| error.to_string())?;
            let records = records(&store);
            store.close();
            Ok((batches(&snapshot), records?))
        }));
        let gave_up = |_| match PANICKED.take() {
            true => Err(format!("{}: the database gives up", named.display())),
            false => panic!("not the database"),
        };
        drop(tell.send(opened.unwrap_or_else(gave_up)));
    });
    told.recv_timeout(Duration::from_secs(60)).expect("it panics, or hangs")
}

fn records(store: &SledStore) -> Result<BTreeMap<u64, Record>, String> {
    let mut records = BTreeMap::new();
    for (lane, queue) in queues() {
        for place in store.places(lane, queue, None, usize::MAX).map_err(|error| error.to_string())? {
            let at = store.at(&Position { lane, queue, place }).map_err(|error| error.to_string())?;
            records.insert(place.seq, at.expect("a place holds a record"));
        }
    }
    for record in records.values() {
        let known = store.find(&record.identity).map_err(|error| error.to_string())?;
        assert_eq!(known.as_ref(), Some(record), "index and record disagree");
    }
    store.outcomes(0, usize::MAX).map_err(|error| error.to_string())?;
    Ok(records)
}

#[test]
fn damage_is_said_or_does_no_harm() {
    let damages: u64 = std::env::var(DAMAGES).map_or(24, |damages| damages.parse().unwrap());
    let seed: u64 = std::env::var(SEED).map_or_else(|_| fastrand::u64(0..1 << 32), |seed| seed.parse().unwrap());
    println!("seed {seed}");
    let otherwise = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| match panic.location().is_some_and(|place| is_of_database(place)) {
        true => PANICKED.set(true),
        false => otherwise(panic),
    }));
    let root = tempfile::tempdir().unwrap();
    let left = [false, true].map(|orderly| leave(&root.path().join(orderly.to_string()), orderly));
    let mut became: BTreeMap<String, u64> = BTreeMap::new();
    for number in 0..damages {
        let mut random = fastrand::Rng::with_seed(seed + number);
        let left = &left[random.usize(0..2)];
        let store = root.path().join("damaged");
        copy(&left.dir, &store).unwrap();
        let cut = random.bool();
        if cut {
            left.synced.iter().for_each(|(path, bytes)| fs::write(store.join(path), bytes).unwrap());
        }
        let what = format!("seed {}, {}, power cut: {cut}", seed + number, damage(&store, cut, &mut random));
        println!("{what}");
        let end = match found(store.clone()) {
            Ok((batches, records)) => {
                assert!(batches >= BATCHES - u64::from(cut), "{what}: {batches} of {BATCHES} batches are left");
                assert_eq!(records, world_after(batches).live, "{what}");
                if batches == BATCHES { "no harm done".to_owned() } else { "the last batch is lost".to_owned() }
            }
            Err(words) => {
                assert!(words.contains(store.to_str().unwrap()), "{what}: nobody knows where to look: {words}");
                let again = found(store.clone());
                assert!(again.is_err(), "{what}: {words}, and at the next start nothing was wrong");
                words.replace(store.to_str().unwrap(), "").replace(|c: char| c.is_ascii_digit(), "")
            }
        };
        *became.entry(end).or_default() += 1;
        fs::remove_dir_all(store).unwrap();
    }
    println!("{damages} damages:");
    became.iter().for_each(|(end, times)| println!("{times:6} {end}"));
}
