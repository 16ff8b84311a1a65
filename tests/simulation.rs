//! The engine in a world where everything goes wrong: see `revoked::simulation`, and `revoked simulate` for more seeds.

use revoked::simulation::{Plant, run, run_with, sweep};

/// Seeds that are run each time.
const SEEDS: u64 = 300;

#[test]
fn no_promise_is_broken_whatever_goes_wrong() {
    let sweep = sweep(0, SEEDS, 3, |_, _| {});
    let failures: Vec<String> = sweep.failures.iter().map(ToString::to_string).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    println!("{} seeds: {:?}", sweep.seeds, sweep.tally);
}

/// After a step back of the clock by night the engine asked the same messages again and again which night they wait for.
#[test]
fn a_world_that_once_never_came_to_rest_does() {
    run(54_473).unwrap();
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 1000..1010 {
        assert_eq!(run(seed).unwrap(), run(seed).unwrap(), "seed {seed}");
    }
}

#[test]
fn faults_that_are_planted_are_found() {
    for plant in Plant::ALL {
        let found = (0..300).find_map(|seed| run_with(seed, Some(plant)).err());
        let failure = found.unwrap_or_else(|| panic!("{plant:?} was not found"));
        println!("{plant:?}: {failure}");
        assert!(failure.acts.1 <= failure.acts.0);
    }
}
