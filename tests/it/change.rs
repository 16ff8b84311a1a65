//! What an agent may still do to a message: another deadline, taking it back, revoking it now.

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::rig::{AGENT, NONE, PHONE, Rig, deletes, draft, message_path, now, time, with};

/// Registers a message with a deadline that leaves time to change it, and yet comes within the test.
async fn register_briefly(rig: &Rig, id: &str) -> Value {
    rig.sandbox.send(AGENT, PHONE, id);
    let (code, message) = rig.register(&with(draft(id, "promo"), json!({"ttl": "1.5s"}))).await;
    assert_eq!(code, 201, "{message}");
    message
}

#[tokio::test]
async fn a_new_deadline_is_the_one_that_counts() {
    let mut rig = Rig::start().await;
    rig.send("m1", "promo").await;
    let former = time(&register_briefly(&rig, "m2").await["deadline"]);
    let later = now() + TimeDelta::minutes(5);
    assert_eq!(rig.patch("m2", &json!({"expireTime": later.to_rfc3339()})).await.0, 200);
    let sooner = former + TimeDelta::milliseconds(100);
    let (code, message) = rig.patch("m1", &json!({"expireTime": sooner.to_rfc3339()})).await;
    assert_eq!(code, 200, "{message}");
    assert_eq!(time(&message["deadline"]), sooner);

    assert_eq!(rig.outcome().await["messageId"], "m1");
    assert!(rig.book("m1").delete_requests[0].at >= sooner);
    assert_eq!(rig.message("m2").await["state"], "PENDING", "its former deadline has passed");
    assert_eq!(deletes(&rig.book("m2")), NONE);
}

#[tokio::test]
async fn a_deadline_that_makes_no_sense_is_refused_and_changes_nothing() {
    let rig = Rig::start().await;
    let before = rig.send("m1", "promo").await;
    let at = |delta: TimeDelta| json!({"expireTime": (now() + delta).to_rfc3339()});
    for wrong in
        [at(-TimeDelta::seconds(1)), at(TimeDelta::hours(2)), json!({}), json!({"ttl": "1s"}), json!({"expireTime": 7})]
    {
        let (code, answer) = rig.patch("m1", &wrong).await;
        assert_eq!((code, &answer["error"]["field"]), (400, &json!("expireTime")), "{wrong}: {answer}");
    }
    assert_eq!(rig.message("m1").await["deadline"], before["deadline"]);
    assert_eq!(rig.patch("m2", &at(TimeDelta::seconds(1))).await.0, 404);
}

#[tokio::test]
async fn what_is_withdrawn_gets_no_delete_and_no_grant_and_only_once() {
    let mut rig = Rig::start().await;
    register_briefly(&rig, "m1").await;
    let path = format!("{}:withdraw", message_path("m1"));
    let (code, message) = rig.post(&path, "").await;
    assert_eq!((code, &message["outcome"]), (200, &json!("WITHDRAWN")), "{message}");
    let outcome = rig.outcome().await;
    assert_eq!((&outcome["outcome"], &outcome["grant"]), (&json!("WITHDRAWN"), &Value::Null));
    let (code, answer) = rig.post(&path, "").await;
    assert_eq!((code, &answer["error"]["status"]), (409, &json!("FAILED_PRECONDITION")));
    assert!(answer["error"]["message"].as_str().unwrap().contains("WITHDRAWN"), "{answer}");
    let revoke = format!("{}:revoke", message_path("m1"));
    assert_eq!(rig.post(&revoke, "").await.0, 409);
    let later = json!({"expireTime": (now() + TimeDelta::minutes(1)).to_rfc3339()});
    assert_eq!(rig.patch("m1", &later).await.0, 409);
    // Registered later, due later.
    register_briefly(&rig, "m2").await;
    assert_eq!(rig.outcome().await["messageId"], "m2");
    assert_eq!(deletes(&rig.book("m1")), NONE);
}

#[tokio::test]
async fn revoke_now_does_not_wait_for_the_deadline() {
    let mut rig = Rig::start().await;
    // An id may hold colons, and so end in what looks like a verb.
    let id = "a:withdraw";
    rig.send(id, "promo").await;
    let (code, message) = rig.post(&format!("{}:revoke", message_path(id)), "").await;
    assert_eq!((code, &message["messageId"], &message["state"]), (200, &json!(id), &json!("REVOKING")));
    let outcome = rig.outcome().await;
    assert_eq!((&outcome["outcome"], &outcome["grant"]["state"]), (&json!("REVOKED"), &json!("OFFERED")), "{outcome}");
    let (code, _) = rig.post(&format!("{}:revoke", message_path(id)), "").await;
    assert_eq!(code, 409);
    assert_eq!(rig.post(&format!("{}:revoke", message_path("unknown")), "").await.0, 404);
    assert_eq!(rig.register(&draft(id, "promo")).await.1["outcome"], "REVOKED");
}
