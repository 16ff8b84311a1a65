//! kill -9, at the moments that hurt.

use std::sync::Arc;

use reqwest::Method;
use revoked::sandbox::{FaultKind, State};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::rig::{NONE, Rig, deletes, draft, message_path, past, time};

#[tokio::test]
async fn kill_9_loses_nothing_that_was_acknowledged() {
    const CLIENTS: usize = 8;
    const ENOUGH: usize = 200;
    let mut rig = Rig::start().await;
    let (acknowledged, mut acknowledgements) = mpsc::unbounded_channel();
    for client in 0..CLIENTS {
        let acknowledged = acknowledged.clone();
        let request = Arc::new(rig.request(Method::POST, "/v1/messages"));
        tokio::spawn(async move {
            for n in 0.. {
                let id = format!("c{client}-{n}");
                let request = request.try_clone().unwrap().body(draft(&id, "promo").to_string());
                // It ends when nobody is there any more.
                match request.send().await {
                    Ok(answer) if answer.status() == 201 => acknowledged.send(id).unwrap(),
                    Ok(answer) => panic!("{answer:?}"),
                    Err(_) => return,
                }
            }
        });
    }
    drop(acknowledged);
    let mut ids = Vec::new();
    while let Some(id) = acknowledgements.recv().await {
        ids.push(id);
        if ids.len() == ENOUGH {
            rig.kill9().await;
        }
    }
    assert!(ids.len() >= ENOUGH, "the clients ended early, after {}", ids.len());
    rig.restart().await;
    for id in &ids {
        assert_eq!(rig.message(id).await["state"], "PENDING", "{id} of {}", ids.len());
    }
}

#[tokio::test]
async fn a_deadline_after_a_crash_is_kept_as_if_there_had_been_none() {
    let mut rig = Rig::start().await;
    let message = rig.send("m1", "otp").await;
    rig.kill9().await;
    rig.restart().await;
    assert_eq!(rig.outcome().await["outcome"], "REVOKED");
    let book = rig.book("m1");
    assert_eq!(deletes(&book), [200]);
    assert!(book.delete_requests[0].at >= time(&message["deadline"]));
}

#[tokio::test]
async fn what_fell_due_while_nobody_watched_is_revoked_at_the_start() {
    let mut rig = Rig::start().await;
    let message = rig.send("m1", "otp").await;
    rig.kill9().await;
    past(time(&message["deadline"])).await;
    assert_eq!(rig.sandbox.stats().deletes, 0);
    rig.restart().await;
    let outcome = rig.outcome().await;
    assert_eq!((&outcome["outcome"], &outcome["grant"]["state"]), (&json!("REVOKED"), &json!("OFFERED")), "{outcome}");
    assert_eq!(deletes(&rig.book("m1")), [200]);
}

/// After an orderly stop, that is: a crash this close to the deadline would leave the doubt that a DELETE may have left.
#[tokio::test]
async fn what_fell_due_while_nobody_watched_is_moot_where_its_policy_says_so() {
    let mut rig = Rig::start().await;
    let message = rig.send("m1", "fleeting").await;
    rig.stop().await;
    past(time(&message["deadline"])).await;
    rig.restart().await;
    let outcome = rig.outcome().await;
    assert_eq!((&outcome["outcome"], &outcome["grant"]), (&json!("MOOT"), &Value::Null), "{outcome}");
    assert_eq!(deletes(&rig.book("m1")), NONE);
}

#[tokio::test]
async fn an_attempt_that_was_out_at_a_crash_makes_a_404_unknown() {
    let mut rig = Rig::start().await;
    // Done at once, and answered when nobody listens any more.
    rig.order("faults", json!({"kind": "slow", "delay": "1h"})).await;
    rig.send("m1", "otp").await;
    rig.sandbox.until(|stats| stats.faults.contains_key(&FaultKind::Slow)).await;
    rig.kill9().await;
    assert_eq!(rig.book("m1").state, State::Revoked);
    rig.restart().await;
    let outcome = rig.outcome().await;
    assert_eq!((&outcome["outcome"], &outcome["grant"]["state"]), (&json!("UNKNOWN"), &json!("OFFERED")), "{outcome}");
    assert_eq!(deletes(&rig.book("m1")), [200, 404], "one 404 says no more than that, and a second would say no more");
    let trail = rig.message("m1").await["trail"].to_string();
    assert!(trail.contains("MAYBE_ATTEMPTED"), "{trail}");
}

#[tokio::test]
async fn an_attempt_that_was_out_at_a_crash_and_did_nothing_is_made_up_for() {
    let mut rig = Rig::start().await;
    rig.order("faults", json!({"kind": "blackHole"})).await;
    rig.send("m1", "otp").await;
    rig.sandbox.until(|stats| stats.faults.contains_key(&FaultKind::BlackHole)).await;
    rig.kill9().await;
    rig.restart().await;
    assert_eq!(rig.outcome().await["outcome"], "REVOKED");
    assert_eq!(deletes(&rig.book("m1")), [0, 200]);
}

#[tokio::test]
async fn outcomes_grants_cursors_and_acknowledgements_survive_a_crash() {
    let mut rig = Rig::start().await;
    rig.send("m1", "otp").await;
    let first = rig.outcome().await;
    let ack = json!({"cursor": first["cursor"]}).to_string();
    assert_eq!(rig.post("/v1/outcomes:ack", ack).await.0, 200);
    rig.send("m2", "otp").await;
    let second = rig.outcome().await;
    let before = (rig.message("m1").await, rig.message("m2").await);
    assert_eq!((&before.0["grant"]["acked"], &before.1["grant"]["acked"]), (&json!(true), &json!(false)));
    assert_ne!(first["grant"]["grantId"], second["grant"]["grantId"]);

    rig.kill9().await;
    rig.restart().await;
    assert_eq!(rig.outcomes().await, [first.clone(), second.clone()]);
    let (_, unread) = rig.get("/v1/outcomes").await;
    assert_eq!(unread["outcomes"], json!([second]), "without a cursor: from what was acknowledged");
    assert_eq!((rig.message("m1").await, rig.message("m2").await), before);
    // The reader goes on from where it was, and nothing comes twice.
    rig.marker().await;
    assert_eq!(rig.outcomes().await.len(), 3);
    assert_eq!(rig.sandbox.stats().deletes, 3, "nothing that had settled was revoked again");
}

#[tokio::test]
async fn a_settle_window_goes_on_after_a_crash() {
    let mut rig = Rig::start().await;
    rig.order("faults", json!({"kind": "deliveredAfterRevoke", "delay": "1ms"})).await;
    rig.send("m1", "patient").await;
    rig.event().await;
    rig.daemon().says("an attempt is back").await;
    // Its answer is behind the daemon's own; a read is answered after what came before is on disk.
    assert_eq!(rig.get(&message_path("m1")).await.1["state"], "SETTLING");
    assert_eq!(rig.register(&draft("m2", "promo")).await.0, 201);
    rig.kill9().await;
    rig.restart().await;
    assert_eq!(rig.message("m1").await["belief"], "REVOKED");
    assert_eq!(rig.delivered("m1").await, "APPLIED");
    assert_eq!(rig.outcome().await["grant"], Value::Null);
    assert_eq!(deletes(&rig.book("m1")), [200]);
}
