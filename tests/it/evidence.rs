//! Delivery events: early, in their envelope, forged, and just after the answer. What each does in each state: see `table`.

use reqwest::Method;
use revoked::sandbox::{Behaviour, Options};
use serde_json::{Value, json};

use crate::rig::{AGENT, NONE, Rig, deletes, draft, parts};

#[tokio::test]
async fn delivered_before_the_registration_settles_it_at_once() {
    let mut rig = Rig::start().await;
    rig.handset(Behaviour::Online);
    rig.sandbox.send(AGENT, crate::rig::PHONE, "m1");
    assert_eq!(rig.forward().await, "EARLY");
    let (code, message) = rig.register(&draft("m1", "otp")).await;
    assert_eq!((code, &message["state"], &message["outcome"]), (201, &json!("SETTLED"), &json!("DELIVERED")));
    let outcome = rig.outcome().await;
    assert_eq!((&outcome["outcome"], &outcome["grant"]), (&json!("DELIVERED"), &Value::Null));
    rig.marker().await;
    assert_eq!(deletes(&rig.book("m1")), NONE);
}

#[tokio::test]
async fn early_events_survive_a_crash_and_are_bounded() {
    let mut rig = Rig::with(Options::default(), "[retention]\nearly_events_max = 2\n").await;
    for id in ["m1", "m2", "m3"] {
        assert_eq!(rig.delivered(id).await, "EARLY");
    }
    rig.kill9().await;
    rig.restart().await;
    assert_eq!(rig.get("/v1/status").await.1["earlyEvents"], 2);
    for (id, state) in [("m1", "PENDING"), ("m2", "SETTLED"), ("m3", "SETTLED")] {
        assert_eq!(rig.register(&draft(id, "promo")).await.1["state"], state, "{id}: the oldest makes room");
    }
}

#[tokio::test]
async fn an_event_for_another_handset_is_not_about_this_message() {
    let rig = Rig::start().await;
    rig.send("m1", "promo").await;
    let event =
        json!({"senderPhoneNumber": "+15550199", "eventType": "DELIVERED", "messageId": "m1", "agentId": AGENT});
    assert_eq!(rig.post("/v1/events", event.to_string()).await.1["effect"], "IGNORED");
    assert_eq!(rig.message("m1").await["state"], "PENDING");
}

/// The vector of PLATFORM.md, whose signature was computed elsewhere.
#[tokio::test]
async fn a_whole_push_is_taken_as_it_came_and_a_forged_one_is_turned_away() {
    const TOKEN: &str = "SJENCPGJESMGUFPY";
    const ID: &str = "8f14e45f-ceea-467f-a0a6-1f0e6b0f3a11";
    const DATA: &str = "eyJzZW5kZXJQaG9uZU51bWJlciI6IisxMjIyMzMzNDQ0NCIsImV2ZW50VHlwZSI6IkRFTElWRVJFRCIsImV2ZW50SWQiOiJNeEV2dC0wMDAxIiwibWVzc2FnZUlkIjoiOGYxNGU0NWYtY2VlYS00NjdmLWEwYTYtMWYwZTZiMGYzYTExIiwiYWdlbnRJZCI6IndlbGNvbWUtYm90QHJibS5nb29nIiwic2VuZFRpbWUiOiIyMDI2LTExLTIyVDE3OjAwOjAwLjEyMzQ1NloifQ==";
    const SIGNATURE: &str = "Pg0iCrZ72t00N1Z7zYoRcDgdRqGXtzMRtFKbxrqmDw/eqOjzK6o0E9zV+1Dy7z8SVSGkrYoAc0eEPE1J3Zov8g==";

    let tokens = tempfile::tempdir().unwrap();
    let (old, new) = (tokens.path().join("old"), tokens.path().join("new"));
    std::fs::write(&old, "another-token\n").unwrap();
    std::fs::write(&new, format!("{TOKEN}\n")).unwrap();
    let more = format!("[webhook]\nclient_token_files = [{old:?}, {new:?}]\n");
    let rig = Rig::with(Options::default(), &more).await;
    let draft = json!({"agentId": "welcome-bot", "phone": "+12223334444", "messageId": ID, "useCase": "promo"});
    assert_eq!(rig.register(&draft).await.0, 201);

    let push = json!({"message": {"data": DATA, "attributes": {}, "messageId": "9", "publishTime": "x"}});
    let pushed = async |signature: &str| {
        let push = rig.request(Method::POST, "/v1/events").header("x-goog-signature", signature).body(push.to_string());
        parts(push.send().await.unwrap()).await
    };
    let path = format!("/v1/messages/welcome-bot/{ID}");
    let (code, answer) = pushed(&SIGNATURE.replace("Pg0i", "Pg0j")).await;
    assert_eq!((code, &answer["error"]["status"]), (401, &json!("UNAUTHENTICATED")), "{answer}");
    assert_eq!(rig.get(&path).await.1["state"], "PENDING");
    assert_eq!(pushed(SIGNATURE).await, (200, json!({"effect": "APPLIED"})));
    assert_eq!(rig.get(&path).await.1["outcome"], "DELIVERED");
    assert_eq!(pushed(SIGNATURE).await, (200, json!({"effect": "DUPLICATE"})), "pushes come more than once");
}

#[tokio::test]
async fn delivered_just_after_a_200_means_no_grant() {
    let mut rig = Rig::start().await;
    rig.order("faults", json!({"kind": "deliveredAfterRevoke", "delay": "1ms"})).await;
    rig.send("m1", "patient").await;
    assert_eq!(rig.forward().await, "APPLIED");
    let outcome = rig.outcome().await;
    assert_eq!((&outcome["kind"], &outcome["outcome"]), (&json!("SETTLED"), &json!("DELIVERED")), "{outcome}");
    assert_eq!(outcome["grant"], Value::Null);
    assert_eq!(deletes(&rig.book("m1")), [200]);
}
