//! The forms in which a message may be named.

use chrono::TimeDelta;
use serde_json::json;

use crate::rig::{Rig, now, time};

#[tokio::test]
async fn a_message_may_be_named_as_the_platform_names_it_or_by_its_msisdn() {
    let rig = Rig::start().await;
    let forms = [
        json!({"agentId": "shop", "phone": "+15550100"}),
        json!({"agentId": "shop@rbm.goog", "msisdn": "15550100"}),
        json!({"agentId": "shop", "msisdn": "+15550100"}),
        json!({"agentId": "shop", "name": "phones/+15550100/agentMessages/m1"}),
    ];
    for (n, mut form) in forms.into_iter().enumerate() {
        if form["name"].is_null() {
            form["messageId"] = "m1".into();
        }
        form["useCase"] = "promo".into();
        let (code, message) = rig.register(&form).await;
        assert_eq!(code, if n == 0 { 201 } else { 200 }, "{form} is the same message: {message}");
        assert_eq!((&message["agentId"], &message["phone"]), (&json!("shop"), &json!("+15550100")));
    }
}

#[tokio::test]
async fn the_platforms_answer_to_a_create_can_be_passed_on_as_it_is() {
    let rig = Rig::start().await;
    let sent = now() - TimeDelta::seconds(90);
    let (code, message) = rig
        .register(&json!({
            "agentId": "shop",
            "useCase": "promo",
            "name": "phones/+15550100/agentMessages/m1",
            "sendTime": sent.to_rfc3339(),
            "contentMessage": {"text": "Hello"},
            "messageTrafficType": "TRANSACTION",
        }))
        .await;
    assert_eq!((code, &message["messageId"]), (201, &json!("m1")), "{message}");
    assert_eq!(message["messageTrafficType"], "TRANSACTION");
    assert_eq!(time(&message["sendTime"]).timestamp_millis(), sent.timestamp_millis());
    assert_eq!(time(&message["deadline"]) - time(&message["sendTime"]), TimeDelta::minutes(10));
}
