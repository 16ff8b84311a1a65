//! Holds: what is held passes its deadline without a DELETE, whatever happens, until it is released.

use serde_json::json;

use crate::rig::{AGENT, NONE, Rig, deletes, draft, message_path, past, time, with};

#[tokio::test]
async fn what_is_held_outlives_kill_9_and_leaves_when_it_is_released() {
    for order in [json!({"useCase": "otp"}), json!({"tag": "spring"}), json!({"agentId": AGENT, "tag": "spring"})] {
        let mut rig = Rig::start().await;
        let (code, hold) = rig.post("/v1/holds", with(order.clone(), json!({"reason": "wait"})).to_string()).await;
        assert_eq!((code, &hold["waiting"]), (200, &json!(0)), "{hold}");
        rig.sandbox.send(AGENT, crate::rig::PHONE, "m1");
        let (code, message) = rig.register(&with(draft("m1", "otp"), json!({"tags": ["spring"]}))).await;
        assert_eq!((code, &message["hold"]["id"]), (201, &hold["id"]), "{message}");
        // Another one falls due behind it, and leaves.
        rig.send("free", "dropped").await;
        assert_eq!(rig.outcome().await["messageId"], "free");
        rig.kill9().await;
        past(time(&message["deadline"])).await;
        rig.restart().await;
        rig.marker().await;
        let held = rig.message("m1").await;
        assert_eq!((&held["state"], &held["hold"]["reason"]), (&json!("PENDING"), &json!("wait")), "{held}");
        let (code, refused) = rig.post(&format!("{}:revoke", message_path("m1")), "").await;
        assert_eq!((code, &refused["error"]["status"]), (409, &json!("FAILED_PRECONDITION")));
        assert_eq!(deletes(&rig.book("m1")), NONE);
        let (_, holds) = rig.get("/v1/holds").await;
        assert_eq!((&holds["holds"][0]["id"], &holds["holds"][0]["waiting"]), (&hold["id"], &json!(1)), "{holds}");

        let (code, released) = rig.post("/v1/holds:release", order.to_string()).await;
        assert_eq!((code, &released["id"]), (200, &hold["id"]), "{released}");
        let outcome = rig.outcome().await;
        assert_eq!((&outcome["messageId"], &outcome["outcome"]), (&json!("m1"), &json!("REVOKED")), "{outcome}");
        assert_eq!(deletes(&rig.book("m1")), [200]);
        let again = rig.post(&format!("/v1/holds/{}:release", hold["id"].as_str().unwrap()), "").await;
        assert_eq!(again.0, 404, "{again:?}");
    }
}

#[tokio::test]
async fn what_is_held_may_arrive_and_settles_so() {
    let mut rig = Rig::start().await;
    assert_eq!(rig.post("/v1/holds", json!({"useCase": "otp"}).to_string()).await.0, 200);
    let message = rig.send("m1", "otp").await;
    past(time(&message["deadline"])).await;
    assert_eq!(rig.delivered("m1").await, "APPLIED");
    assert_eq!(rig.outcome().await["outcome"], "DELIVERED");
    assert_eq!(deletes(&rig.book("m1")), NONE);
}

#[tokio::test]
async fn a_hold_that_names_nothing_or_nonsense_is_refused() {
    let rig = Rig::start().await;
    for (wrong, field) in [
        (json!({}), "tag"),
        (json!({"reason": "because"}), "tag"),
        (json!({"useCase": "o t p"}), "useCase"),
        (json!({"agentId": "a/b"}), "agentId"),
        (json!({"tag": ""}), "tag"),
        (json!({"tag": "x", "reason": "two\nlines"}), "reason"),
    ] {
        let (code, answer) = rig.post("/v1/holds", wrong.to_string()).await;
        assert_eq!((code, &answer["error"]["field"]), (400, &json!(field)), "{wrong}: {answer}");
    }
    assert_eq!(rig.post("/v1/holds", json!({"tags": "x"}).to_string()).await.0, 400);
    assert_eq!(rig.get("/v1/holds").await.1, json!({"holds": []}));
}
