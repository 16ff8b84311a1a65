//! `revokectl bench` at its smallest, so that each bench can still be run when somebody wants to know.
//!
//! What the figures are is no matter here, with one exception: nothing is lost. `REVOKED_KILLS` sets how often the daemon is killed.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::process::Command;

use serde_json::Value;

/// Runs a bench and returns what it found.
fn bench(arguments: &str) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_revokectl"));
    let output = command.arg("bench").args(arguments.split(' ')).arg("--json").output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments}: {}\n{out}\n{err}", output.status);
    let sheet: Value = serde_json::from_str(&out).unwrap();
    assert!(sheet["cpus"].as_u64() > Some(0) && sheet["fdatasyncPerSecond"].as_f64() > Some(0.0), "{sheet}");
    sheet
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is not a number"))
}

#[test]
fn register_tells_the_rate_of_both_loads() {
    let sheet = bench("register --seconds 1 --clients 4 --batch-clients 1");
    for load in [0, 1] {
        assert!(number(&sheet["loads"][load]["perSecond"]) > 0.0, "{sheet}");
        assert!(number(&sheet["loads"][load]["p99Ms"]) > 0.0, "{sheet}");
    }
}

#[test]
fn pairs_tells_the_rate_the_disk_and_the_memory_over_time() {
    let sheet = bench("pairs --passed 300 --pending 1500 --clients 4");
    assert!(number(&sheet["pairs"]) >= 300.0, "{sheet}");
    let last = sheet["intervals"].as_array().unwrap().last().unwrap();
    assert!(number(&last["diskMib"]) > 0.0 && number(&last["residentMib"]) > 0.0, "{sheet}");
}

#[test]
fn recover_finds_everything_that_was_pending() {
    let sheet = bench("recover --pending 1500 --lookups 50");
    assert!(number(&sheet["pending"]) > 1500.0, "{sheet}");
    assert!(number(&sheet["firstRegistrationSeconds"]) <= number(&sheet["allRecoveredSeconds"]), "{sheet}");
}

#[test]
fn crash_loses_nothing_and_grants_nothing_twice() {
    let kills = std::env::var("REVOKED_KILLS").map_or(20, |kills| kills.parse::<u64>().unwrap());
    let sheet = bench(&format!("crash --kills {kills}"));
    println!("{sheet}");
    assert_eq!(sheet["kills"], kills, "{sheet}");
    assert!(number(&sheet["acknowledged"]) > 0.0 && number(&sheet["checked"]) > 0.0, "{sheet}");
    assert_eq!((&sheet["lost"], &sheet["torn"], &sheet["grantedTwice"]), (&0.into(), &0.into(), &0.into()), "{sheet}");
}

#[test]
fn herd_drains_beside_otps() {
    let sheet = bench("herd --promotions 600 --rate 300 --otps 10");
    assert!(number(&sheet["otpsBeside"]) > 0.0, "{sheet}");
    assert!(number(&sheet["percentOfAllowed"]) > 0.0 && number(&sheet["requests"]) >= 600.0, "{sheet}");
}

#[test]
fn on_time_is_told_by_the_daemon_and_by_the_platform() {
    let sheet = bench("on-time --rate 100 --seconds 1");
    assert_eq!((&sheet["lateness"][0]["messages"], &sheet["lateness"][1]["messages"]), (&100.into(), &10.into()));
}

#[test]
fn drain_is_measured_against_a_bare_client() {
    let sheet = bench("drain --messages 500");
    assert!(number(&sheet["percentOfBare"]) > 0.0 && number(&sheet["deletesPerCpuSecond"]) > 0.0, "{sheet}");
}

#[test]
fn outage_comes_back_from_each_kind_with_nothing_lost() {
    let sheet = bench("outage --seconds 1 --rate 20");
    assert_eq!(sheet["outages"].as_array().unwrap().len(), 4, "{sheet}");
    assert_eq!((&sheet["lost"], &sheet["toldTwice"]), (&0.into(), &0.into()), "{sheet}");
}
