//! The store on disk does what the store in memory does, whatever happens in between.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod store_world;

use proptest::prelude::*;
use revoked::store::memory::MemoryStore;
use revoked::store::{Change, Durability, SledStore, Snapshot, Store, StoreOptions as Options, Ticket};
use store_world::{World, all_records, open, queues, wait_for};

/// So small that generations turn, age and merge all the time.
fn options(young_bytes: usize) -> Options {
    Options { durability: Durability::Process, young_bytes, cache_bytes: 8 << 20, ..Options::default() }
}

/// Sorted, and without what the two are free to differ in.
fn comparable(mut snapshot: Snapshot) -> Snapshot {
    snapshot.lanes.sort();
    snapshot.fences.sort();
    snapshot.acked.sort();
    snapshot.early.sort_by(|a, b| a.identity.cmp(&b.identity));
    snapshot.subscriptions.sort_by(|a, b| (&a.agent, a.phone).cmp(&(&b.agent, b.phone)));
    snapshot.counts.sort();
    snapshot.holds.sort();
    snapshot.recalls.sort_by_key(|recall| recall.id);
    Snapshot { store_id: 0, next_seq: 0, ..snapshot }
}

fn compare(disk: &SledStore, memory: &MemoryStore, world: &mut World) {
    assert_eq!(all_records(disk), world.live);
    assert_eq!(all_records(memory), world.live);
    for identity in &world.identities {
        assert_eq!(disk.find(identity).unwrap(), memory.find(identity).unwrap());
    }
    for (lane, queue) in queues() {
        let all = memory.places(lane, queue, None, usize::MAX).unwrap();
        if !all.is_empty() {
            let (after, limit) = (all[world.number(all.len())], world.number(5));
            let of = |store: &dyn Store| store.places(lane, queue, Some(after), limit).unwrap();
            assert_eq!(of(disk), of(memory));
        }
    }
    let after = world.number(20) as u64;
    assert_eq!(disk.outcomes(after, 7).unwrap(), memory.outcomes(after, 7).unwrap());
    assert_eq!(disk.outcomes(0, usize::MAX).unwrap(), memory.outcomes(0, usize::MAX).unwrap());
}

/// Waits while memory is full, as the engine would.
fn append(disk: &mut SledStore, batch: &[Change]) -> Ticket {
    while disk.writable().is_err() {
        std::thread::yield_now();
    }
    disk.append(batch.to_vec())
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Append(usize),
    Compare,
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![12 => (1..60usize).prop_map(Op::Append), 3 => Just(Op::Compare), 1 => Just(Op::Reopen)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_disk_does_what_memory_does(seed: u64, young_bytes in 20_000..200_000usize, ops in prop::collection::vec(op(), 1..150)) {
        let dir = tempfile::tempdir().unwrap();
        let (mut disk, first, mut durable) = open(dir.path(), options(young_bytes));
        let (mut memory, mut world) = (MemoryStore::default(), World::new(seed));
        for store in [&mut disk as &mut dyn Store, &mut memory] {
            store.append(World::lanes());
        }
        for op in ops.into_iter().chain([Op::Compare, Op::Reopen, Op::Compare]) {
            match op {
                Op::Append(changes) => {
                    let batch = world.batch(changes);
                    memory.append(batch.clone());
                    let ticket = append(&mut disk, &batch);
                    if world.number(4) == 0 {
                        wait_for(&durable, ticket);
                    }
                }
                Op::Compare => compare(&disk, &memory, &mut world),
                Op::Reopen => {
                    disk.close();
                    let snapshot;
                    (disk, snapshot, durable) = open(dir.path(), options(young_bytes));
                    prop_assert_eq!(snapshot.store_id, first.store_id);
                    prop_assert!(snapshot.next_seq >= world.next_seq, "a seq would be given twice");
                    prop_assert_eq!(comparable(snapshot), comparable(memory.snapshot()));
                }
            }
        }
    }
}
