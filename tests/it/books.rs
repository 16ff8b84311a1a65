//! What `report` and `advice` say is what happened.

use std::time::Duration;

use revoked::sandbox::{Behaviour, FaultKind, Options};
use serde_json::{Value, json};

use crate::rig::{AGENT, PHONE, Rig, draft, with};

#[tokio::test]
async fn a_report_tells_what_became_of_messages_also_across_a_crash() {
    let mut rig = Rig::start().await;
    rig.send("arrives", "promo").await;
    assert_eq!(rig.delivered("arrives").await, "APPLIED");
    rig.send("revoked", "otp").await;
    rig.send("held", "held").await;
    rig.kill9().await;
    rig.restart().await;
    // The crash leaves it open whether a DELETE had left; either way each ends once, and the two are told apart by its outcome.
    let mut ended = vec![rig.outcome().await, rig.outcome().await, rig.outcome().await];
    rig.order("faults", json!({"kind": FaultKind::DeliveredAfterRevoke})).await;
    rig.handset(Behaviour::Offline);
    rig.send("crossed", "promo").await;
    assert_eq!(rig.post(&format!("/v1/messages/{AGENT}/crossed:revoke"), "").await.0, 200);
    assert_eq!(rig.forward().await, "APPLIED");
    ended.push(rig.outcome().await);
    if ended[3]["outcome"] == "REVOKED" {
        ended.push(rig.outcome().await);
    }

    let (code, report) = rig.get("/v1/report?since=3600s").await;
    assert_eq!(code, 200, "{report}");
    let of = |name: &str| report["useCases"][name].clone();
    let promo = of("promo");
    for (key, wanted) in
        [("registered", 2), ("deliveredInTime", 2), ("raced", 1), ("deletes", 1), ("deletesAvoided", 1)]
    {
        assert_eq!(promo[key], json!(wanted), "{key} in {promo}");
    }
    let tells = |name: &str, outcome: &str| ended.iter().any(|it| it["messageId"] == name && it["outcome"] == outcome);
    for (use_case, id) in [("otp", "revoked"), ("held", "held")] {
        let book = of(use_case);
        assert_eq!(book["registered"], json!(1), "{book}");
        for (key, outcome) in [("revoked", "REVOKED"), ("unknown", "UNKNOWN")] {
            assert_eq!(
                book[key],
                json!(u64::from(tells(id, outcome))),
                "{key} of {use_case} in {book}, after {ended:?}"
            );
        }
    }
    assert_eq!(of("otp")["grants"]["offered"], json!(1), "{report}");
}

/// Half of the messages may wait four seconds, half only one. What is revoked after one second says nothing of the time
/// after it, and must not count as undelivered there.
#[tokio::test]
async fn advice_finds_the_delivery_times_again_that_the_sandbox_was_told() {
    const EACH: u64 = 80;
    let mut rig = Rig::with(Options::default(), "").await;
    // Evenly over two seconds, but for the time around the shorter ttl: there a busy machine would decide who is first.
    let delays: Vec<u64> = (1..=EACH).map(|n| n * 25).filter(|ms| !(750..1400).contains(ms)).collect();
    let mut lines = Vec::new();
    for (group, ttl) in [("a", "4s"), ("b", "1s")] {
        for ms in &delays {
            let phone = format!("{PHONE}{}{ms:04}", u8::from(group == "b"));
            rig.sandbox.set_handset(&phone, Behaviour::Slow(Duration::from_millis(*ms)));
            let message = with(draft(&format!("{group}-{ms}"), "promo"), json!({"phone": phone, "ttl": ttl}));
            lines.push(message.to_string());
        }
    }
    let batch = rig.request(reqwest::Method::POST, "/v1/messages:batch").body(lines.join("\n"));
    let answers = batch.send().await.unwrap().text().await.unwrap();
    assert_eq!(answers.matches(r#"{"code":201"#).count(), lines.len(), "{answers}");
    for line in &lines {
        let message: Value = serde_json::from_str(line).unwrap();
        let [phone, id] = ["phone", "messageId"].map(|key| message[key].as_str().unwrap());
        rig.sandbox.send(AGENT, phone, id);
    }
    let arrive = delays.len() + delays.iter().filter(|ms| **ms < 1000).count();
    for _ in 0..arrive {
        rig.forward().await;
    }
    for _ in 0..lines.len() {
        rig.outcome().await;
    }

    let (code, advice) = rig.get("/v1/advice").await;
    assert_eq!(code, 200, "{advice}");
    let promo = &advice["useCases"]["promo"];
    assert_eq!((&promo["delivered"], &promo["censored"]), (&json!(arrive), &json!(lines.len() - arrive)), "{promo}");
    let curve: Vec<(f64, f64)> = promo["curve"].as_array().unwrap().iter().map(point).collect();
    for (at, wanted) in [0.4, 0.7, 1.7].map(|at| (at, undelivered(&delays, at))) {
        let (_, share) = curve.iter().rfind(|(after, _)| *after <= at).unwrap();
        assert!((share - wanted).abs() < 0.12, "after {at} s: {share}, in truth {wanted}: {promo}");
    }
    // Left out of account, what was revoked after one second would make this a half and more.
    assert!(curve.last().unwrap().1 < 0.3, "{promo}");
}

fn point(point: &Value) -> (f64, f64) {
    let after = point["after"].as_str().unwrap().strip_suffix('s').unwrap();
    (after.parse().unwrap(), point["undelivered"].as_f64().unwrap())
}

/// The truth: the share of the handsets that take longer.
fn undelivered(delays: &[u64], at: f64) -> f64 {
    delays.iter().filter(|ms| **ms as f64 > at * 1000.0).count() as f64 / delays.len() as f64
}
