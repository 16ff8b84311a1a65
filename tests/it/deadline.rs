//! The main job: at the deadline, what is undelivered is revoked, and what is delivered is left alone.

use chrono::TimeDelta;
use revoked::sandbox::{Behaviour, State};
use serde_json::json;

use crate::rig::{NONE, PHONE, Rig, deletes, draft, time};

#[tokio::test]
async fn an_undelivered_otp_is_revoked_at_its_deadline_and_its_fallback_comes_back_byte_for_byte() {
    /// Spaces, the order of keys and the digits of a number are the agent's business.
    const FALLBACK: &str = r#"{"to": "+1 555","b":1.50,  "a":"é\u00e9"}"#;
    let mut rig = Rig::start().await;
    rig.sandbox.send("shop", PHONE, "m1");
    let mut body = draft("m1", "otp").to_string();
    body.pop();
    let (code, message) = rig.post("/v1/messages", format!("{body},\"fallback\":{FALLBACK}}}")).await;
    assert_eq!(code, 201, "{message}");

    let outcome = rig.outcome().await;
    assert_eq!((&outcome["kind"], &outcome["outcome"]), (&json!("SETTLED"), &json!("REVOKED")), "{outcome}");
    assert_eq!(outcome["grant"]["state"], "OFFERED");
    let text = rig.request(reqwest::Method::GET, "/v1/outcomes").send().await.unwrap().text().await.unwrap();
    assert!(text.contains(&format!("\"fallback\":{FALLBACK}")), "{text}");

    rig.marker().await;
    let book = rig.book("m1");
    assert_eq!((book.state, deletes(&book)), (State::Revoked, vec![200]), "once");
    let late = book.delete_requests[0].at - time(&message["deadline"]);
    assert!((TimeDelta::zero()..TimeDelta::seconds(3)).contains(&late), "{late}");
    assert_eq!(rig.outcomes().await.len(), 2, "one for it and one for the marker");
}

#[tokio::test]
async fn a_delivered_message_gets_no_delete() {
    let mut rig = Rig::start().await;
    rig.handset(Behaviour::Online);
    rig.send("m1", "otp").await;
    assert_eq!(rig.forward().await, "APPLIED");
    let outcome = rig.outcome().await;
    assert_eq!((&outcome["messageId"], &outcome["outcome"]), (&json!("m1"), &json!("DELIVERED")), "{outcome}");
    assert_eq!(outcome["grant"], json!(null));

    // The deadline of this one lies behind the other's: when it has been revoked, that has passed as well.
    rig.handset(Behaviour::Offline);
    rig.send("m2", "otp").await;
    assert_eq!(rig.outcome().await["messageId"], "m2");
    assert_eq!(deletes(&rig.book("m1")), NONE);
}
