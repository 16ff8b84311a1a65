//! Shadow mode: everything but the DELETE, without credentials, and what a DELETE would have spared is told.

use serde_json::{Value, json};

use crate::rig::{AGENT, NONE, PHONE, Rig, deletes, message_path, past, time};

#[tokio::test]
async fn in_shadow_mode_nothing_is_revoked_and_what_would_have_been_is_recorded() {
    let mut rig = Rig::start().await;
    rig.stop().await;
    let text = std::fs::read_to_string(rig.path("config.toml")).unwrap();
    let keyless = text.lines().filter(|line| !line.starts_with("credentials"));
    let keyless: String = keyless.map(|line| format!("{line}\n")).collect();
    std::fs::write(rig.path("config.toml"), keyless.replace("[platform]\n", "[platform]\nmode = \"shadow\"\n"))
        .unwrap();
    rig.restart().await;
    assert_eq!(rig.daemon().log().matches("SHADOW MODE: nothing will be revoked").count(), 1);
    assert_eq!(rig.get("/v1/status").await.1["mode"], "SHADOW");

    // Its deadline passes while nobody watches, and one by hand.
    let message = rig.send("m1", "otp").await;
    rig.kill9().await;
    past(time(&message["deadline"])).await;
    rig.restart().await;
    let outcome = rig.outcome().await;
    assert_eq!((&outcome["outcome"], &outcome["grant"]), (&json!("SHADOW"), &Value::Null), "{outcome}");
    rig.send("m2", "promo").await;
    assert_eq!(rig.post(&format!("{}:revoke", message_path("m2")), "").await.0, 200);
    assert_eq!(rig.outcome().await["outcome"], "SHADOW");
    assert_eq!(rig.delivered("m1").await, "APPLIED");
    let amended = rig.outcome().await;
    assert_eq!((&amended["kind"], &amended["outcome"]), (&json!("AMENDED"), &json!("DELIVERED")), "{amended}");
    let told = amended["detail"].as_str().unwrap();
    assert!(told.starts_with("arrived ") && told.ends_with(" after its DELETE would have left"), "{told}");
    let message = rig.message("m1").await;
    assert!(message["trail"].to_string().contains("the DELETE would have left now"), "{message}");
    assert_eq!((deletes(&rig.book("m1")), deletes(&rig.book("m2"))), (NONE.into(), NONE.into()));

    // What the platform's own ttl takes, whoever revokes in earnest replaces.
    rig.send("m3", "promo").await;
    let ttl = json!({"phoneNumber": PHONE, "eventType": "TTL_EXPIRATION_REVOKED", "eventId": "e", "messageId": "m3",
        "agentId": format!("{AGENT}@rbm.goog")});
    assert_eq!(rig.post("/v1/events", ttl.to_string()).await.0, 200);
    let outcome = rig.outcome().await;
    assert_eq!((&outcome["outcome"], &outcome["grant"]), (&json!("REVOKED"), &Value::Null), "{outcome}");

    // Another mode takes another client, and so a restart.
    std::fs::write(rig.path("config.toml"), &text).unwrap();
    let (code, answer) = rig.post("/v1/reload", "").await;
    assert_eq!(code, 409, "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains("platform.mode"), "{answer}");
    rig.stop().await;
    rig.restart().await;
    assert_eq!(rig.get("/v1/status").await.1["mode"], "LIVE");
    rig.marker().await;
}
