//! What `report` and `advice` say is what happened.

use std::{collections::BTreeSet, time::Duration};

use revoked::sandbox::{Behaviour, FaultKind};
use serde_json::{Value, json};

use crate::{
    rig::{AGENT, PHONE, Rig, draft, with},
    webhook::{Door, TOKEN},
};

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

/// Half of the messages may wait eight seconds, half only one. What is revoked after one second says nothing of the time
/// after it: it counts neither as undelivered there, nor as if it had never been.
#[tokio::test]
async fn advice_finds_the_delivery_times_again_that_the_sandbox_was_told() {
    const EACH: u32 = 100;
    const MEAN: f64 = 1.2;
    const SHORT: f64 = 1.0;
    let mut door = Door::open(&[TOKEN], "").await;
    door.rig.order("webhook", json!({"url": door.url, "clientToken": TOKEN})).await;
    // Exponential, by its own quantiles: chance is of no use here.
    let delays: Vec<f64> = (0..EACH).map(|n| -MEAN * ((f64::from(n) + 0.5) / f64::from(EACH)).ln()).collect();
    let mut lines = Vec::new();
    for (group, ttl) in [(0, 8.0), (1, SHORT)] {
        for (n, delay) in delays.iter().enumerate() {
            let (phone, id) = (format!("{PHONE}{group}{n:03}"), format!("{group}-{n}"));
            door.rig.sandbox.set_handset(&phone, Behaviour::Slow(Duration::from_secs_f64(*delay)));
            door.rig.sandbox.send(AGENT, &phone, &id);
            let more = json!({"phone": phone, "ttl": format!("{ttl}s"), "sendTime": crate::rig::now().to_rfc3339()});
            lines.push(with(draft(&id, "promo"), more).to_string());
        }
    }
    let batch = door.rig.request(reqwest::Method::POST, "/v1/messages:batch").body(lines.join("\n"));
    let answers = batch.send().await.unwrap().text().await.unwrap();
    // 200: the platform's event about it came first.
    let registered = answers.matches(r#"{"code":201"#).count() + answers.matches(r#"{"code":200"#).count();
    assert_eq!(registered, lines.len(), "{answers}");
    let mut settled = BTreeSet::new();
    while settled.len() < lines.len() {
        settled.insert(door.rig.outcome().await["messageId"].to_string());
    }

    let advice = door.rig.ctl("advise --json").await;
    let promo = &serde_json::from_str::<Value>(&advice).unwrap()["useCases"]["promo"];
    let [delivered, censored] = ["delivered", "censored"].map(|key| promo[key].as_u64().unwrap());
    assert_eq!(delivered + censored, lines.len() as u64, "{promo}");
    assert!(censored > u64::from(EACH / 4), "a good part of them has to be censored: {promo}");
    let curve: Vec<(f64, f64)> = promo["curve"].as_array().unwrap().iter().map(point).collect();
    let told = |at: f64| curve.iter().rfind(|(after, _)| *after <= at).unwrap().1;
    let when = |share: f64| curve.iter().find(|(_, undelivered)| *undelivered <= share).map_or(f64::NAN, |(at, _)| *at);
    for share in [0.75_f64, 0.5, 0.25, 0.1] {
        println!(
            "{:3.0} % undelivered: after {:.2} s in truth, {:.2} s as advised",
            share * 100.0,
            -MEAN * share.ln(),
            when(share)
        );
    }
    for at in [0.3_f64, 0.8, 1.5, 3.0, 4.5] {
        let (said, truth) = (told(at), (-at / MEAN).exp());
        println!("after {at} s: {:.1} % undelivered in truth, {:.1} % as advised", truth * 100.0, said * 100.0);
        assert!((said - truth).abs() < TOLERANCE, "after {at} s: {said}, in truth {truth}: {promo}");
    }

    // That is no easy thing to say: whoever forgets the revoked ones, or takes them for never delivered, is told from the truth.
    let gone = (-SHORT / MEAN).exp();
    let forgotten = ((-0.8 / MEAN).exp() * 2.0 - gone) / (2.0 - gone);
    let never = f64::midpoint((-3.0 / MEAN).exp(), gone);
    assert!((told(0.8) - forgotten).abs() > TOLERANCE && (told(3.0) - never).abs() > TOLERANCE, "{promo}");
}

/// A busy machine takes its time with events.
const TOLERANCE: f64 = 0.08;

fn point(point: &Value) -> (f64, f64) {
    let after = point["after"].as_str().unwrap().strip_suffix('s').unwrap();
    (after.parse().unwrap(), point["undelivered"].as_f64().unwrap())
}
