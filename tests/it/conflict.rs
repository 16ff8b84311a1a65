//! `onConflict`: registering a message again.

use serde_json::{Value, json};

use crate::rig::{Rig, draft, time, with};

/// Registers `m1` again with a ttl, and tells the code and the ttl that counts afterwards.
async fn again(rig: &Rig, on_conflict: Value, ttl: &str) -> (u16, i64) {
    let more = with(json!({"ttl": ttl, "tags": [ttl]}), on_conflict);
    let (code, _) = rig.register(&with(draft("m1", "promo"), more)).await;
    let message = rig.message("m1").await;
    let ttl = (time(&message["deadline"]) - time(&message["sendTime"])).num_seconds();
    assert_eq!(message["tags"], json!([format!("{ttl}s")]), "the whole registration stands, or none of it");
    (code, ttl)
}

#[tokio::test]
async fn a_second_registration_replaces_keeps_takes_the_earlier_or_is_refused() {
    let mut rig = Rig::start().await;
    assert_eq!(again(&rig, json!({}), "600s").await, (201, 600));
    assert_eq!(again(&rig, json!({}), "500s").await, (200, 500));
    assert_eq!(again(&rig, json!({"onConflict": "replace"}), "700s").await, (200, 700));
    assert_eq!(again(&rig, json!({"onConflict": "keep"}), "400s").await, (200, 700));
    assert_eq!(again(&rig, json!({"onConflict": "earliest"}), "800s").await, (200, 700));
    assert_eq!(again(&rig, json!({"onConflict": "earliest"}), "300s").await, (200, 300));
    assert_eq!(again(&rig, json!({"onConflict": "reject"}), "200s").await, (409, 300));
    // What stands is what is kept.
    rig.kill9().await;
    rig.restart().await;
    assert_eq!(again(&rig, json!({"onConflict": "keep"}), "100s").await, (200, 300));
    assert_eq!(rig.get("/v1/messages").await.1["messages"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_message_id_belongs_to_one_handset() {
    let rig = Rig::start().await;
    rig.send("m1", "promo").await;
    let (code, answer) = rig.register(&with(draft("m1", "promo"), json!({"phone": "+15550199"}))).await;
    assert_eq!((code, &answer["error"]["field"]), (409, &json!("phone")), "{answer}");
}

#[tokio::test]
async fn a_late_registration_brings_nothing_back() {
    let mut rig = Rig::start().await;
    rig.send("m1", "otp").await;
    assert_eq!(rig.outcome().await["outcome"], "REVOKED");
    let (code, message) = rig.register(&draft("m1", "otp")).await;
    assert_eq!((code, &message["outcome"]), (200, &json!("REVOKED")), "{message}");
    rig.marker().await;
    assert_eq!(rig.outcomes().await.len(), 2, "no second life, no second grant");
}
