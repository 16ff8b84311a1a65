//! What the platform says to all of an agent's requests: slower, not you, not with this token.

use chrono::TimeDelta;
use serde_json::json;

use crate::rig::{Rig, deletes, past, time};

#[tokio::test]
async fn retry_after_is_honoured_and_a_429_is_no_attempt() {
    let mut rig = Rig::start().await;
    rig.order("faults", json!({"kind": "tooManyRequests", "retryAfter": 1})).await;
    rig.send("m1", "otp").await;
    assert_eq!(rig.outcome().await["outcome"], "REVOKED");
    let book = rig.book("m1");
    assert_eq!(deletes(&book), [429, 200]);
    let waited = book.delete_requests[1].at - book.delete_requests[0].at;
    assert!(waited >= TimeDelta::seconds(1), "{waited}");
    assert_eq!(rig.message("m1").await["attempts"], 1);
}

#[tokio::test]
async fn a_403_rests_the_lane_and_its_messages_stay() {
    let mut rig = Rig::start().await;
    rig.order("faults", json!({"kind": "forbidden"})).await;
    rig.send("m1", "otp").await;
    rig.daemon().says("no requests for now").await;
    let later = rig.send("m2", "otp").await;
    past(time(&later["deadline"])).await;
    let (_, status) = rig.get("/v1/status").await;
    let route = &status["routes"][0];
    assert_eq!((&route["agentId"], &route["resting"]), (&json!("shop"), &json!("FORBIDDEN")), "{status}");
    assert_eq!((&status["inFlight"], &rig.message("m1").await["state"]), (&json!(0), &json!("REVOKING")));
    assert_eq!((deletes(&rig.book("m1")), deletes(&rig.book("m2"))), (vec![403], vec![]), "it rests");

    for _ in 0..2 {
        assert_eq!(rig.outcome().await["outcome"], "REVOKED");
    }
    assert_eq!((deletes(&rig.book("m1")), deletes(&rig.book("m2"))), (vec![403, 200], vec![200]));
    let log = rig.daemon().log();
    let said = |words| log.matches(words).count();
    assert_eq!((said("no requests for now"), said("requests go out again")), (1, 1), "one line for each change");
}

#[tokio::test]
async fn an_expired_token_is_renewed_and_no_message_pays_for_it() {
    let mut rig = Rig::start().await;
    rig.send("m1", "otp").await;
    rig.outcome().await;
    rig.order("tokens:expire", json!({})).await;
    rig.send("m2", "otp").await;
    assert_eq!(rig.outcome().await["outcome"], "REVOKED");
    assert_eq!(rig.message("m2").await["attempts"], 1);
    assert_eq!(rig.sandbox.stats().tokens_issued, 2);
}

#[tokio::test]
async fn a_lane_that_rests_holds_up_no_other_agent() {
    let mut rig = Rig::start().await;
    rig.order("faults", json!({"kind": "tooManyRequests", "retryAfter": 3600, "agentId": "shop"})).await;
    rig.send("m1", "otp").await;
    rig.daemon().says("no requests for now").await;
    rig.sandbox.send("bank", crate::rig::PHONE, "m2");
    let draft = json!({"agentId": "bank", "phone": crate::rig::PHONE, "messageId": "m2", "useCase": "otp"});
    assert_eq!(rig.register(&draft).await.0, 201);
    let outcome = rig.outcome().await;
    assert_eq!((&outcome["agentId"], &outcome["outcome"]), (&json!("bank"), &json!("REVOKED")));
}
