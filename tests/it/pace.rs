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
async fn an_account_whose_key_is_refused_rests_its_own_agents_until_its_file_is_replaced() {
    let mut rig = Rig::start().await;
    rig.stop().await;
    let good = std::fs::read_to_string(rig.sandbox.key_path()).unwrap();
    let key: serde_json::Value = serde_json::from_str(&good).unwrap();
    let wrong = good.replace(key["client_email"].as_str().unwrap(), "nobody@nowhere.iam.gserviceaccount.com");
    let file = rig.path("bank.json");
    std::fs::write(&file, wrong).unwrap();
    let account = format!("[platform.accounts.bank]\ncredentials = {file:?}\nagents = [\"bank\"]\n");
    rig.configure("config.toml", "sock", "store", &account);
    rig.restart().await;

    rig.sandbox.send("bank", crate::rig::PHONE, "m1");
    let draft = json!({"agentId": "bank", "phone": crate::rig::PHONE, "messageId": "m1", "useCase": "patient"});
    assert_eq!(rig.register(&draft).await.0, 201);
    rig.daemon().says("account not found").await;
    rig.send("m2", "otp").await;
    let outcome = rig.outcome().await;
    assert_eq!((&outcome["messageId"], &outcome["outcome"]), (&json!("m2"), &json!("REVOKED")), "{outcome}");
    let (_, status) = rig.get("/v1/status").await;
    let resting = |agent: &str| {
        let routes = status["routes"].as_array().unwrap();
        routes.iter().find(|route| route["agentId"] == agent).unwrap()["resting"].clone()
    };
    assert_eq!((resting("bank"), resting("shop")), (json!("UNAUTHORIZED"), json!(null)), "{status}");

    std::fs::write(&file, good).unwrap();
    rig.daemon().says("requests go out again").await;
    assert_eq!(rig.sandbox.book("bank", "m1").unwrap().delete_requests.len(), 1);
}

#[tokio::test]
async fn a_401_for_good_rests_the_lane_and_its_messages_stay() {
    let mut rig = Rig::start().await;
    rig.order("faults", json!({"kind": "unauthorized", "count": 2})).await;
    rig.send("m1", "otp").await;
    rig.daemon().says("no requests for now").await;
    assert_eq!(rig.get("/v1/status").await.1["routes"][0]["resting"], "UNAUTHORIZED");
    assert_eq!(rig.outcome().await["outcome"], "REVOKED");
    assert_eq!(deletes(&rig.book("m1")), [401, 401, 200], "once with the old token, once with a new one");
    assert_eq!(rig.message("m1").await["attempts"], 1);
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
