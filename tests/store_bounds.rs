//! Bounded for ever: disk and memory follow what is pending and retained, not what passed.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod store_world;

use std::path::Path;

use revoked::store::{Change, Durability, SledStore, Store, StoreOptions as Options};
use store_world::{World, all_records, open};

fn options() -> Options {
    Options { durability: Durability::Process, young_bytes: 400_000, cache_bytes: 8 << 20, ..Options::default() }
}

fn append(store: &mut SledStore, batch: &[Change]) -> u64 {
    while store.writable().is_err() {
        std::thread::yield_now();
    }
    store.append(batch.to_vec())
}

fn databases(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains('-')).collect()
}

#[test]
fn what_passed_leaves_few_directories_and_what_stays_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _, durable) = open(dir.path(), options());
    let mut world = World::new(11);
    let mut last = append(&mut store, &World::lanes());
    let stay: Vec<Change> = (0..500).map(|_| world.register()).collect();
    append(&mut store, &stay);
    let kept = world.live.clone();
    for _ in 0..300 {
        let pass: Vec<Change> = (0..50).map(|_| world.register()).collect();
        append(&mut store, &pass);
        // Long enough after its registration that it reached a run.
        let gone: Vec<u64> = world.live.keys().filter(|seq| !kept.contains_key(seq)).copied().collect();
        let gone = gone.iter().take(gone.len().saturating_sub(3_000));
        let gone: Vec<Change> = gone
            .filter_map(|seq| world.live.remove(seq))
            .map(|record| Change::Remove { at: record.position(), identity: record.identity })
            .collect();
        last = append(&mut store, &gone);
    }
    store_world::wait_for(&durable, last);
    assert_eq!(all_records(&store), world.live);
    store.close();
    let left = databases(dir.path());
    assert!(left.len() <= 12, "15,000 messages passed through generations of some 400: {left:?}");

    let (store, snapshot, _) = open(dir.path(), options());
    assert_eq!(all_records(&store), world.live);
    assert_eq!(snapshot.counts.iter().map(|(_, _, count)| count).sum::<u64>(), world.live.len() as u64);
    assert!(snapshot.next_seq >= world.next_seq);
}

#[test]
fn a_seq_is_not_given_again_when_all_its_holders_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, ..) = open(dir.path(), options());
    let mut world = World::new(12);
    append(&mut store, &World::lanes());
    for _ in 0..40 {
        let pass: Vec<Change> = (0..50).map(|_| world.register()).collect();
        append(&mut store, &pass);
        let gone: Vec<Change> = std::iter::from_fn(|| world.remove()).collect();
        append(&mut store, &gone);
    }
    store.close();
    for _ in 0..3 {
        let (store, snapshot, _) = open(dir.path(), options());
        assert_eq!((snapshot.next_seq, snapshot.counts.len()), (world.next_seq, 0));
        store.close();
    }
}
