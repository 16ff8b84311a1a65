//! Every 400: the field named, the way out said, and nothing stored.

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::rig::{Rig, draft, now, with};

#[tokio::test]
async fn a_wrong_registration_is_refused_by_the_name_of_its_field_and_nothing_is_stored() {
    let rig = Rig::start().await;
    let ago = (now() - TimeDelta::minutes(1)).to_rfc3339();
    let in_two_hours = (now() + TimeDelta::hours(2)).to_rfc3339();
    let two_months_ago = (now() - TimeDelta::days(60)).to_rfc3339();
    let cases = [
        (json!({"uscase": "otp"}), "uscase", "misspelt"),
        (json!({"phone": "5550100"}), "phone", "+"),
        (json!({"phone": null}), "phone", "missing"),
        (json!({"phone": 15550100}), "phone", "string"),
        (json!({"msisdn": "15550100"}), "msisdn", "not both"),
        (json!({"messageId": ""}), "messageId", ""),
        (json!({"messageId": "a/b"}), "messageId", ""),
        (json!({"agentId": null}), "agentId", "missing"),
        (json!({"name": "phones/+15550100"}), "name", "agentMessages"),
        (json!({"name": "phones/+15550100/agentMessages/another"}), "name", "another"),
        (json!({"useCase": "lunch"}), "useCase", "dropped, fleeting, held, otp, patient, promo"),
        (json!({"useCase": null}), "useCase", "missing"),
        (json!({"expireTime": ago}), "expireTime", "in the past"),
        (json!({"expireTime": in_two_hours}), "expireTime", "max_ttl"),
        (json!({"ttl": "10m"}), "ttl", ""),
        (json!({"ttl": "0s"}), "ttl", ""),
        (json!({"ttl": "60s", "expireTime": in_two_hours}), "ttl", "not both"),
        (json!({"sendTime": "yesterday"}), "sendTime", ""),
        (json!({"sendTime": two_months_ago}), "sendTime", "30 days"),
        (json!({"sendTime": in_two_hours}), "sendTime", "clock"),
        (json!({"region": "mars"}), "region", "europe"),
        (json!({"messageTrafficType": "SPAM"}), "messageTrafficType", "AUTHENTICATION"),
        (json!({"tags": [""]}), "tags", ""),
        (json!({"fallback": "x".repeat(5000)}), "fallback", "reference"),
        (json!({"onConflict": "fight"}), "onConflict", "earliest"),
    ];
    for (wrong, field, words) in cases {
        let (code, answer) = rig.register(&with(draft("m1", "promo"), wrong.clone())).await;
        let error = &answer["error"];
        let expected = (400, &json!("INVALID_ARGUMENT"), &json!(field), &json!(400));
        assert_eq!((code, &error["status"], &error["field"], &error["code"]), expected, "{wrong}: {answer}");
        assert!(error["message"].as_str().unwrap().contains(words), "{wrong}: {answer}");
    }
    for noise in ["", "{", "[]", "null", "\"m1\"", "{} {}"] {
        let (code, answer) = rig.post("/v1/messages", noise).await;
        assert_eq!((code, &answer["error"]["field"]), (400, &Value::Null), "{noise}: {answer}");
    }
    for megabytes in [1, 8] {
        let huge = with(draft("m1", "promo"), json!({"fallback": "x".repeat(megabytes << 20)}));
        let (code, answer) = rig.register(&huge).await;
        assert_eq!(code, 400, "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains("1048576 bytes"), "{answer}");
    }
    assert_eq!(rig.get("/v1/messages").await, (200, json!({"messages": []})));
    assert!(!rig.daemon().log().contains("15550100"), "no phone number in the log");
}

#[tokio::test]
async fn a_wrong_question_is_refused_by_the_name_of_its_parameter() {
    let rig = Rig::start().await;
    for (path, field) in [
        ("/v1/messages?state=SLEEPING", "state"),
        ("/v1/messages?useCase=o%20t%20p", "useCase"),
        ("/v1/messages?agentId=a%2Fb", "agentId"),
        ("/v1/messages?pageSize=0", "pageSize"),
        ("/v1/messages?pageSize=1001", "pageSize"),
        ("/v1/messages?pageToken=here", "pageToken"),
        ("/v1/messages?colour=red", "colour"),
        ("/v1/outcomes?after=yesterday", "after"),
        ("/v1/outcomes?wait=forever", "wait"),
        ("/v1/outcomes?follow=perhaps", "follow"),
        ("/v1/outcomes?since=0", "since"),
    ] {
        let (code, answer) = rig.get(path).await;
        assert_eq!((code, &answer["error"]["field"]), (400, &json!(field)), "{path}: {answer}");
    }
    for (path, body) in [
        ("/v1/events", "{}"),
        ("/v1/events", "noise"),
        ("/v1/events", r#"{"message":{"data":"%%%"}}"#),
        ("/v1/outcomes:ack", "{}"),
        ("/v1/outcomes:ack", r#"{"cursor":"7"}"#),
        ("/v1/outcomes:ack", r#"{"cursor":"0","colour":"red"}"#),
    ] {
        assert_eq!(rig.post(path, body).await.0, 400, "{path} {body}");
    }
    for path in ["/v1/messages?state=%FF%FE", "/v1/messages/shop/%FF", "/v1/forecast?step=%FF", "/v1/recalls/%FF"] {
        let (code, answer) = rig.get(path).await;
        assert_eq!((code, &answer["error"]["status"]), (400, &json!("INVALID_ARGUMENT")), "{path}: {answer}");
    }
    assert_eq!(rig.get("/v1/lunch").await.1["error"]["status"], "NOT_FOUND");
    assert_eq!(rig.post("/v1/status", "").await.0, 405);
    assert_eq!(rig.get("/v1/messages/shop/m1").await.0, 404);
    assert_eq!(rig.post("/v1/messages/shop/m1:dance", "").await.0, 404);
}
