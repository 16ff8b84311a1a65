//! Opening: who may, what is refused, and what a broken disk leaves.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod store_world;

use std::fs;
use std::sync::atomic::Ordering;
use std::time::Duration;

use revoked::store::{Durability, SledStore, Store, StoreError, StoreOptions as Options};
use store_world::{World, all_records, open, wait_for};

fn options() -> Options {
    Options { durability: Durability::Process, ..Options::default() }
}

#[test]
fn a_second_opening_is_told_who_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let (_first, ..) = open(dir.path(), options());
    let second = SledStore::open(dir.path(), options(), drop);
    let Err(StoreError::Locked(named)) = second else { panic!("{second:?}") };
    assert_eq!(named, dir.path().display().to_string());
}

#[test]
fn a_store_of_a_newer_program_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("format"), "revoked store 9\n").unwrap();
    let opened = SledStore::open(dir.path(), options(), drop);
    assert!(matches!(opened, Err(StoreError::Newer { found: 9, known: 2 })), "{opened:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "something was written");
}

#[test]
fn a_kill_while_it_opens_leaves_nothing_that_stops_the_next_opening() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _, durable) = open(dir.path(), options());
    let mut world = World::new(5);
    store.append(World::lanes());
    let ticket = store.append(world.batch(200));
    wait_for(&durable, ticket);
    store.close();
    // What sled leaves when it dies while it notes where it stands.
    let mut databases = 0;
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.join("db").exists() {
            databases += 1;
            fs::write(path.join("snap.FFFFFFFFFFFFFFF0.generating"), b"half").unwrap();
        }
    }
    assert!(databases > 0);
    let (store, ..) = open(dir.path(), options());
    assert_eq!(all_records(&store), world.live);
}

#[test]
fn a_broken_disk_loses_nothing_that_was_acknowledged_and_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { durability: Durability::Disk, ..Options::default() };
    let (mut store, _, durable) = open(dir.path(), options.clone());
    let mut world = World::new(7);
    store.append(World::lanes());
    let ticket = store.append(world.batch(50));
    wait_for(&durable, ticket);

    options.broken.store(true, Ordering::Release);
    let pending = store.append(world.batch(50));
    let told = durable.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(matches!(told, Err(StoreError::Io(_))), "{told:?}");
    let refused = store.writable();
    assert!(matches!(refused, Err(StoreError::Io(_))), "{refused:?}");
    assert_eq!(store.backlog(), 1);

    options.broken.store(false, Ordering::Release);
    while durable.recv_timeout(Duration::from_secs(10)).unwrap().ok() != Some(pending) {}
    let ticket = store.append(world.batch(50));
    wait_for(&durable, ticket);
    store.close();

    let (store, ..) = open(dir.path(), options);
    assert_eq!(all_records(&store), world.live);
}

#[test]
fn what_waits_for_a_broken_disk_has_its_bounds_and_all_of_it_is_written_in_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { young_bytes: 100_000, ..options() };
    let (mut store, _, durable) = open(dir.path(), options.clone());
    let mut world = World::new(8);
    store.append(World::lanes());
    options.broken.store(true, Ordering::Release);
    let mut last = 0;
    while !store.is_overfull() {
        last = store.append(world.batch(50));
        assert!(last < 10_000, "memory has no end");
        // It fails once the writer has tried.
        while store.writable().is_ok() {
            std::thread::yield_now();
        }
    }
    options.broken.store(false, Ordering::Release);
    while durable.recv_timeout(Duration::from_secs(10)).unwrap().ok() != Some(last) {}
    assert!(!store.is_overfull());
    assert_eq!(all_records(&store), world.live);
    store.close();
    let (store, ..) = open(dir.path(), options);
    assert_eq!(all_records(&store), world.live);
}

#[test]
fn what_was_never_acknowledged_may_go_with_a_disk_that_stays_broken() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _, durable) = open(dir.path(), options());
    let mut world = World::new(9);
    store.append(World::lanes());
    let ticket = store.append(world.batch(50));
    wait_for(&durable, ticket);
    let acknowledged = world.live.clone();

    let broken = options();
    store.close();
    let (mut store, ..) = open(dir.path(), broken.clone());
    broken.broken.store(true, Ordering::Release);
    store.append(world.batch(50));
    store.close();
    let (store, ..) = open(dir.path(), options());
    assert_eq!(all_records(&store), acknowledged);
}
