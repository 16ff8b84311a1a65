//! A second daemon where one is already: a clear word, the right exit code, and the first one unharmed.

use crate::{
    daemon::run_to_end,
    rig::{Rig, draft},
};

/// EX_UNAVAILABLE of sysexits.h.
const UNAVAILABLE: i32 = 69;

#[tokio::test]
async fn a_second_daemon_on_the_same_store_is_told_so_and_leaves() {
    let rig = Rig::start().await;
    let config = rig.configure("second.toml", "second.sock", "store", "");
    let second = run_to_end("run", &config).await;
    let words = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(UNAVAILABLE), "{words}");
    assert!(words.contains(rig.path("store").to_str().unwrap()), "{words}");
    assert!(!rig.path("second.sock").exists(), "no client is let in to nothing");
    assert_eq!(rig.register(&draft("m1", "promo")).await.0, 201);
}

#[tokio::test]
async fn a_second_daemon_on_the_same_socket_is_told_so_and_leaves() {
    let rig = Rig::start().await;
    let config = rig.configure("second.toml", "sock", "second", "");
    let second = run_to_end("run", &config).await;
    let words = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(UNAVAILABLE), "{words}");
    assert!(words.contains("another daemon listens") && words.contains(rig.path("sock").to_str().unwrap()), "{words}");
    assert_eq!(rig.register(&draft("m1", "promo")).await.0, 201);
}
