//! A power cut at random moments: what was acknowledged is there, and nothing is there by half.
//!
//! The store tells a witness what it syncs, and the witness keeps that as a disk would: the contents of files as of their last
//! sync, the entries of directories as of theirs. At a cut the directory is made anew from it: of each file what was synced,
//! plus any of the sectors written since, some of them with bytes turned over; of each directory what was synced, or all that
//! was renamed, made and removed since. The store's next life goes on from there. `REVOKED_STORE_CUTS` sets how often.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod store_world;

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use revoked::store::{Change, Durability, SledStore, Store, StoreOptions as Options, SyncWitness};
use store_world::{World, all_records, batches, counter, next, world_after};

const CUTS: &str = "REVOKED_STORE_CUTS";
const SECTOR: usize = 512;

/// With the time of its making, since numbers are given again.
type Inode = (u64, SystemTime);
type Entries = BTreeMap<OsString, Inode>;

/// What a disk is bound to keep.
#[derive(Default)]
struct Disk {
    files: HashMap<Inode, Vec<u8>>,
    directories: HashMap<Inode, Entries>,
}

/// Through its descriptor: it may be renamed at any time.
fn path_of(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

fn entries(dir: &Path) -> Entries {
    let Ok(listed) = fs::read_dir(dir) else { return Entries::new() };
    let numbered = |entry: fs::DirEntry| Some((entry.file_name(), inode(&entry.metadata().ok()?)));
    listed.flatten().filter_map(numbered).collect()
}

fn inode(about: &Metadata) -> Inode {
    (about.ino(), about.created().unwrap())
}

impl Disk {
    /// Everything in a directory that was just made.
    fn of(dir: &Path) -> Self {
        let mut disk = Self::default();
        disk.add(dir);
        disk
    }

    fn add(&mut self, dir: &Path) {
        self.sync(&File::open(dir).unwrap());
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { self.add(&path) } else { self.sync(&File::open(path).unwrap()) }
        }
    }

    fn sync(&mut self, file: &File) {
        let (path, about) = (path_of(file), file.metadata().unwrap());
        if about.is_dir() {
            self.directories.insert(inode(&about), entries(&path));
        } else {
            self.files.insert(inode(&about), fs::read(path).unwrap());
        }
    }

    /// Makes of a directory what a cut would leave of it. `wild`: much of what was not synced came through.
    fn cut(&self, from: &Path, to: &Path, wild: bool, random: &mut fastrand::Rng) {
        let mut found = HashMap::new();
        find(from, &mut found);
        self.leave(inode(&fs::metadata(from).unwrap()), &found, to, wild, random);
    }

    fn leave(&self, inode: Inode, found: &HashMap<Inode, Found>, to: &Path, wild: bool, random: &mut fastrand::Rng) {
        fs::create_dir_all(to).unwrap();
        let kept = self.directories.get(&inode);
        let now = found.get(&inode).and_then(|found| if let Found::Directory(now) = found { Some(now) } else { None });
        let chosen = if wild && random.bool() { now.or(kept) } else { kept };
        for (name, inode) in chosen.into_iter().flatten() {
            let to = to.join(name);
            let is_directory =
                self.directories.contains_key(inode) || matches!(found.get(inode), Some(Found::Directory(_)));
            if is_directory {
                self.leave(*inode, found, &to, wild, random);
                continue;
            }
            let kept = self.files.get(inode).cloned().unwrap_or_default();
            let now = match found.get(inode) {
                Some(Found::File(now)) => now,
                _ => &kept.clone(),
            };
            // sled syncs its snapshots itself before it gives them this name, and the witness does not see that.
            let name = name.to_string_lossy();
            let is_synced = name.starts_with("snap.") && !name.ends_with(".generating");
            let left = match (is_synced, wild) {
                (true, _) => now.clone(),
                (false, true) => torn(kept, now, random),
                (false, false) => kept,
            };
            fs::write(to, left).unwrap();
        }
    }
}

/// What is there now, seen while it goes on changing.
enum Found {
    File(Vec<u8>),
    Directory(Entries),
}

fn find(dir: &Path, found: &mut HashMap<Inode, Found>) {
    let Ok(about) = fs::metadata(dir) else { return };
    if !about.is_dir() {
        found.insert(inode(&about), Found::File(fs::read(dir).unwrap_or_default()));
        return;
    }
    let entries = entries(dir);
    entries.keys().for_each(|name| find(&dir.join(name), found));
    found.insert(inode(&about), Found::Directory(entries));
}

/// Some of the sectors that were written since, and some bytes turned over in those.
fn torn(mut kept: Vec<u8>, now: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let synced = kept.len();
    kept.resize(if random.bool() { now.len() } else { random.usize(0..=now.len().max(synced)) }.max(synced), 0);
    let often = random.f64();
    for (number, sector) in kept.chunks_mut(SECTOR).enumerate() {
        let at = number * SECTOR;
        let new = now.get(at..(at + sector.len()).min(now.len())).unwrap_or_default();
        if new != &sector[..new.len()] && random.f64() < often {
            sector[..new.len()].copy_from_slice(new);
            if at >= synced && random.u8(0..8) == 0 {
                sector[random.usize(0..sector.len())] ^= 1 << random.u8(0..8);
            }
        }
    }
    kept
}

/// Lives in `dir` for a while, then is cut; the rest is in `to`. Gives the batches it knew to be durable.
fn live_and_be_cut(dir: &Path, to: &Path, life: Duration, random: &mut fastrand::Rng) -> u64 {
    let disk = Arc::new(Mutex::new(Disk::of(dir)));
    let witness = {
        let disk = disk.clone();
        SyncWitness::new(move |file| disk.lock().unwrap().sync(file))
    };
    // Small, so that a cut finds it turning, ageing and merging.
    let small = Options { young_bytes: 300_000, cache_bytes: 8 << 20, ..Options::default() };
    let options = Options { witness, durability: Durability::Disk, ..small };
    let acknowledged = Arc::new(AtomicU64::new(0));
    let known = acknowledged.clone();
    let (mut store, snapshot) =
        SledStore::open(dir, options, move |ticket| known.store(ticket.unwrap(), Ordering::Release)).unwrap();
    let base = batches(&snapshot);
    let (mut done, mut world) = (base, world_after(base));
    let end = now() + life;
    while now() < end {
        let mut batch = if done == 0 { World::lanes() } else { next(&mut world) };
        done += 1;
        batch.push(Change::Acked(counter(), done));
        while store.backlog() > 8 || store.writable().is_err() {
            std::thread::yield_now();
        }
        store.append(batch);
    }
    let acknowledged = base + acknowledged.load(Ordering::Acquire);
    // From here on nothing is synced, and what is written goes on.
    let disk = disk.lock().unwrap();
    disk.cut(dir, to, random.bool(), random);
    drop(disk);
    store.close();
    acknowledged
}

#[allow(clippy::disallowed_methods, reason = "a life lasts for a time")]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_whole() {
    let cuts: u32 = std::env::var(CUTS).map_or(6, |cuts| cuts.parse().unwrap());
    let mut random = fastrand::Rng::new();
    let (mut dir, mut total, mut lost_unacknowledged) = (tempfile::tempdir().unwrap(), 0, 0);
    for cut in 1..=cuts {
        if cut % 10 == 0 {
            // What it is compared with is made anew each time, from the first batch on.
            dir = tempfile::tempdir().unwrap();
        }
        let rest = tempfile::tempdir().unwrap();
        let life = Duration::from_millis(random.u64(5..300));
        let acknowledged = live_and_be_cut(dir.path(), rest.path(), life, &mut random);
        dir = rest;
        let (store, snapshot, _) = store_world::open(dir.path(), Options::default());
        let found = batches(&snapshot);
        assert!(found >= acknowledged, "cut {cut}: {acknowledged} batches acknowledged, {found} found");
        let world = world_after(found);
        if found > 0 {
            assert_eq!(all_records(&store), world.live, "cut {cut}: torn");
        }
        (total, lost_unacknowledged) = (total + acknowledged, lost_unacknowledged + u32::from(found > acknowledged));
    }
    assert!(total > 0, "nothing was ever acknowledged");
    println!("{cuts} cuts, {total} batches acknowledged; {lost_unacknowledged} cuts left more than that");
}
