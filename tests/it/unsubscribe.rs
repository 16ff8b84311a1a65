//! `UNSUBSCRIBE`, as the platform pushes it or an agent passes it on: no SMS in place of promotions any more.

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use crate::{
    rig::{AGENT, PHONE, draft, message_path, with},
    webhook::{Door, TOKEN, signed},
};

fn event(kind: &str) -> String {
    json!({"senderPhoneNumber": PHONE, "eventType": kind, "eventId": "e", "agentId": format!("{AGENT}@rbm.goog")})
        .to_string()
}

/// Has a message revoked, and tells its outcome.
async fn revoke(door: &mut Door, id: &str, kind: &str) -> Value {
    door.rig.sandbox.send(AGENT, PHONE, id);
    let draft = with(draft(id, "promo"), json!({"messageTrafficType": kind}));
    assert_eq!(door.rig.register(&draft).await.0, 201);
    assert_eq!(door.rig.post(&format!("{}:revoke", message_path(id)), "").await.0, 200);
    let outcome = door.rig.outcome().await;
    assert_eq!((&outcome["messageId"], &outcome["outcome"]), (&json!(id), &json!("REVOKED")), "{outcome}");
    outcome
}

#[rstest]
#[tokio::test]
async fn grants_of_promotions_are_withdrawn_and_none_is_given_until_they_subscribe_again(
    #[values(true, false)] by_webhook: bool,
) {
    let mut door = Door::open(&[TOKEN], "").await;
    let says = async |door: &Door, kind: &str| {
        let push = match by_webhook {
            true => door.rig.plain.post(&door.url),
            false => door.rig.request(Method::POST, "/v1/events"),
        };
        assert_eq!(signed(push, TOKEN, &event(kind)).send().await.unwrap().status(), 200);
    };
    for (id, kind) in [("offer", "PROMOTION"), ("receipt", "TRANSACTION")] {
        assert_eq!(revoke(&mut door, id, kind).await["grant"]["state"], "OFFERED");
    }
    says(&door, "UNSUBSCRIBE").await;
    // Answered 200, it survives anything; and what was granted before is found by the next daemon, if not by this one.
    door.rig.kill9().await;
    door.rig.restart().await;
    door.find().await;
    let outcome = door.rig.outcome().await;
    assert_eq!((&outcome["messageId"], &outcome["kind"]), (&json!("offer"), &json!("AMENDED")), "{outcome}");
    assert_eq!(
        (&outcome["outcome"], &outcome["grant"]["state"]),
        (&json!("REVOKED"), &json!("WITHDRAWN")),
        "{outcome}"
    );
    assert_eq!(door.rig.message("receipt").await["grant"]["state"], "OFFERED");
    assert_eq!(door.rig.get("/v1/status").await.1["unsubscribed"], 1);
    let outcome = revoke(&mut door, "later", "PROMOTION").await;
    assert_eq!(outcome["grant"], Value::Null, "{outcome}");
    assert!(outcome["detail"].as_str().unwrap().contains("UNSUBSCRIBE"), "{outcome}");
    assert_eq!(revoke(&mut door, "code", "AUTHENTICATION").await["grant"]["state"], "OFFERED");
    says(&door, "SUBSCRIBE").await;
    assert_eq!(revoke(&mut door, "again", "PROMOTION").await["grant"]["state"], "OFFERED");
    assert_eq!(door.rig.message("offer").await["grant"]["state"], "WITHDRAWN", "what was taken back stays so");
}
