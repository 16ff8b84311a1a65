//! SIGTERM: what is begun is ended, and nothing else.

use revoked::sandbox::FaultKind;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use crate::{
    daemon::soon,
    rig::{Rig, deletes, draft},
};

/// Reads until what was read ends as wanted.
async fn read_until(stream: &mut UnixStream, wanted: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    while !wanted(&text) {
        let mut bytes = [0; 4096];
        let read = soon("an answer", stream.read(&mut bytes)).await.unwrap();
        assert_ne!(read, 0, "the connection was closed after {text:?}");
        text += str::from_utf8(&bytes[..read]).unwrap();
    }
    text
}

#[tokio::test]
async fn sigterm_lets_a_request_and_an_attempt_that_are_begun_end_well() {
    let mut rig = Rig::start().await;
    rig.order("faults", json!({"kind": "slow", "delay": "1s"})).await;
    rig.send("m1", "otp").await;
    rig.sandbox.until(|stats| stats.faults.contains_key(&FaultKind::Slow)).await;
    let body = draft("m2", "promo").to_string();
    let mut client = UnixStream::connect(rig.path("sock")).await.unwrap();
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: revoked\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes()).await.unwrap();
    // Said when the daemon begins to read the body.
    let go_on = read_until(&mut client, |text| text.ends_with("\r\n\r\n")).await;
    assert!(go_on.starts_with("HTTP/1.1 100"), "{go_on}");

    let mut daemon = rig.daemon.take().unwrap();
    daemon.terminate();
    daemon.says("SIGTERM: stopping").await;
    client.write_all(body.as_bytes()).await.unwrap();
    let answer = read_until(&mut client, |text| text.ends_with('}')).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert_eq!(daemon.ended().await.code(), Some(0));
    drop(daemon);
    rig.restart().await;
    assert_eq!(rig.message("m2").await["state"], "PENDING");
    assert_eq!(rig.outcome().await["outcome"], "REVOKED", "the answer that came while it stopped was taken note of");
    assert_eq!(deletes(&rig.book("m1")), [200]);
}

#[tokio::test]
async fn who_was_let_in_before_the_stop_is_answered_though_it_had_said_nothing_yet() {
    let mut rig = Rig::start().await;
    let mut client = UnixStream::connect(rig.path("sock")).await.unwrap();
    // They are let in in their order: when the second one is answered, the first one is in.
    let mut second = UnixStream::connect(rig.path("sock")).await.unwrap();
    let ask = "GET /v1/config HTTP/1.1\r\nhost: revoked\r\nconnection: close\r\n\r\n";
    second.write_all(ask.as_bytes()).await.unwrap();
    read_until(&mut second, |text| text.starts_with("HTTP/1.1 200")).await;

    let mut daemon = rig.daemon.take().unwrap();
    daemon.terminate();
    daemon.says("SIGTERM: stopping").await;
    let body = draft("m1", "promo").to_string();
    let head = format!("POST /v1/messages HTTP/1.1\r\nhost: revoked\r\ncontent-length: {}\r\n\r\n", body.len());
    client.write_all((head + &body).as_bytes()).await.unwrap();
    let answer = read_until(&mut client, |text| text.ends_with('}')).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert_eq!(daemon.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_sigterm_does_not_wait() {
    let mut rig = Rig::start().await;
    rig.order("faults", json!({"kind": "blackHole"})).await;
    rig.send("m1", "otp").await;
    rig.sandbox.until(|stats| stats.faults.contains_key(&FaultKind::BlackHole)).await;
    let mut daemon = rig.daemon.take().unwrap();
    daemon.terminate();
    daemon.says("SIGTERM: stopping").await;
    daemon.terminate();
    daemon.says("leaving now").await;
    assert_eq!(daemon.ended().await.code(), Some(0));
    drop(daemon);
    // What it didn't wait for is treated as after a crash: it may have arrived.
    rig.restart().await;
    assert_eq!(rig.outcome().await["outcome"], "REVOKED");
    let trail = rig.message("m1").await["trail"].to_string();
    assert!(trail.contains("MAYBE_ATTEMPTED"), "{trail}");
}

#[tokio::test]
async fn an_orderly_stop_casts_no_doubt_on_what_is_next() {
    let mut rig = Rig::start().await;
    rig.send("m1", "held").await;
    rig.stop().await;
    rig.restart().await;
    rig.outcome().await;
    let trail = rig.message("m1").await["trail"].to_string();
    assert!(!trail.contains("MAYBE_ATTEMPTED"), "{trail}");
}
