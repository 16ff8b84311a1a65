//! The trap that the daemon exists for: the first DELETE succeeds, its answer is lost, and the second one gets 404.

use revoked::sandbox::State;
use serde_json::{Value, json};

use crate::rig::{Rig, deletes};

#[tokio::test]
async fn a_lost_answer_then_404_is_not_delivered_and_follows_on_unknown() {
    let mut rig = Rig::start().await;
    let cases = [("otp", json!("OFFERED")), ("held", json!("HELD")), ("dropped", Value::Null)];
    for (use_case, grant) in cases {
        rig.order("faults", json!({"kind": "loseAnswer", "messageId": use_case})).await;
        rig.send(use_case, use_case).await;
        let outcome = rig.outcome().await;
        assert_eq!((&outcome["messageId"], &outcome["outcome"]), (&json!(use_case), &json!("UNKNOWN")), "{outcome}");
        assert_eq!(outcome["grant"]["state"], grant);
        let book = rig.book(use_case);
        assert_eq!((book.state, deletes(&book)), (State::Revoked, vec![0, 404]));
    }
}

#[tokio::test]
async fn a_request_that_is_never_answered_is_sent_again() {
    let mut rig = Rig::start().await;
    rig.order("faults", json!({"kind": "blackHole"})).await;
    rig.send("m1", "otp").await;
    let outcome = rig.outcome().await;
    assert_eq!((&outcome["outcome"], &outcome["grant"]["state"]), (&json!("REVOKED"), &json!("OFFERED")), "{outcome}");
    assert_eq!(deletes(&rig.book("m1")), [0, 200]);
}

#[tokio::test]
async fn an_answer_that_comes_too_late_leaves_a_doubt_that_a_crash_does_not_take_away() {
    let mut rig = Rig::start().await;
    rig.order("faults", json!({"kind": "hold"})).await;
    rig.order("faults", json!({"kind": "forbidden"})).await;
    rig.send("m1", "otp").await;
    // Its lane rests, so that the crash finds nothing in flight.
    rig.daemon().says("no requests for now").await;
    rig.kill9().await;
    rig.restart().await;
    let outcome = rig.outcome().await;
    assert_eq!((&outcome["outcome"], &outcome["grant"]["state"]), (&json!("UNKNOWN"), &json!("OFFERED")), "{outcome}");
    assert_eq!(deletes(&rig.book("m1")), [200, 403, 404]);
}

#[tokio::test]
async fn what_says_nothing_about_a_message_is_tried_again_until_something_does() {
    let mut rig = Rig::start().await;
    let faults = [
        (json!({"kind": "serverError", "status": 500}), 500),
        (json!({"kind": "reset"}), 0),
        (json!({"kind": "garbage"}), 200),
        (json!({"kind": "redirect"}), 302),
        (json!({"kind": "hugeBody"}), 200),
    ];
    for (fault, code) in faults {
        let kind = fault["kind"].as_str().unwrap().to_owned();
        rig.order("faults", crate::rig::with(fault, json!({"messageId": kind}))).await;
        rig.send(&kind, "otp").await;
        let outcome = rig.outcome().await;
        assert_eq!((&outcome["messageId"], &outcome["outcome"]), (&json!(kind), &json!("REVOKED")), "{outcome}");
        assert_eq!(deletes(&rig.book(&kind)), [code, 200], "{kind}");
    }
}

#[tokio::test]
async fn what_the_platform_will_never_accept_fails_with_its_words() {
    let mut rig = Rig::start().await;
    rig.order("faults", json!({"kind": "badRequest"})).await;
    rig.send("m1", "dropped").await;
    let outcome = rig.outcome().await;
    assert_eq!((&outcome["outcome"], &outcome["grant"]), (&json!("FAILED"), &Value::Null), "{outcome}");
    assert!(outcome["detail"].as_str().unwrap().contains("invalid argument"), "{outcome}");
    assert_eq!(deletes(&rig.book("m1")), [400]);
}
