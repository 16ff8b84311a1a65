//! Recalls: a campaign is taken back, also through kill -9, and who has it is known exactly.

use std::collections::BTreeSet;

use revoked::sandbox::Options;
use serde_json::{Value, json};

use crate::rig::{AGENT, PHONE, Rig, deletes, draft, with};

const DELIVERED: usize = 10;
const OPEN: usize = 50;

async fn send(rig: &Rig, id: &str) {
    rig.sandbox.send(AGENT, PHONE, id);
    let (code, message) = rig.register(&with(draft(id, "promo"), json!({"tags": ["spring"]}))).await;
    assert_eq!(code, 201, "{message}");
}

async fn received(rig: &Rig, id: &str) -> Vec<Value> {
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let (code, page) = rig.get(&format!("/v1/recalls/{id}/received?pageSize=7&pageToken={token}")).await;
        assert_eq!(code, 200, "{page}");
        all.extend(page["messages"].as_array().unwrap().clone());
        match &page["nextPageToken"] {
            Value::Null => return all,
            next => token = next.as_str().unwrap().into(),
        }
    }
}

#[tokio::test]
async fn a_recall_goes_on_after_kill_9_and_tells_exactly_who_has_it() {
    // So slow that it dies in the middle.
    let mut rig = Rig::with(Options::default(), "[pace]\nper_second = 20\nin_flight = 2\n").await;
    for n in 0..DELIVERED + OPEN {
        send(&rig, &format!("m{n}")).await;
    }
    for n in 0..DELIVERED {
        assert_eq!(rig.delivered(&format!("m{n}")).await, "APPLIED");
        assert_eq!(rig.outcome().await["outcome"], "DELIVERED");
    }
    // It beats a hold.
    assert_eq!(rig.post("/v1/holds", json!({"useCase": "promo"}).to_string()).await.0, 200);
    let order = json!({"tag": "spring", "reason": "wrong price"}).to_string();
    let (code, dry) = rig.post("/v1/recalls?dryRun=true", order.clone()).await;
    assert_eq!((code, &dry["open"], &dry["before"]["DELIVERED"]), (200, &json!(OPEN), &json!(DELIVERED)), "{dry}");
    assert_eq!(dry["takes"], "3s", "fifty at twenty per second");
    assert_eq!(rig.get("/v1/recalls").await.1, json!({"recalls": []}), "nothing was changed");

    let (code, recall) = rig.post("/v1/recalls", order.clone()).await;
    assert_eq!((code, &recall["reason"]), (200, &json!("wrong price")), "{recall}");
    let id = recall["id"].as_str().unwrap().to_owned();
    send(&rig, "later").await;
    let mut settled = BTreeSet::new();
    let mut unknown = 0;
    while settled.len() < OPEN {
        if settled.len() == 7 && rig.daemon.is_some() && unknown == 0 {
            let (_, recall) = rig.get(&format!("/v1/recalls/{id}")).await;
            assert_ne!(recall["state"], "DONE", "{recall}");
            rig.kill9().await;
            rig.restart().await;
        }
        let outcome = rig.outcome().await;
        assert_eq!(outcome["grant"], Value::Null, "no SMS in place of what is recalled: {outcome}");
        match outcome["outcome"].as_str().unwrap() {
            "REVOKED" => {}
            // Out at the crash: its first DELETE did it, and nobody saw the answer.
            "UNKNOWN" => unknown += 1,
            other => panic!("{other}: {outcome}"),
        }
        assert!(settled.insert(outcome["messageId"].as_str().unwrap().to_owned()), "twice: {outcome}");
    }
    let (_, done) = rig.get(&format!("/v1/recalls/{id}")).await;
    assert_eq!((&done["state"], &done["open"]), (&json!("DONE"), &json!(0)), "{done}");
    assert_eq!(done["before"], json!({"DELIVERED": DELIVERED}));
    assert_eq!(done["since"]["REVOKED"], json!(OPEN - unknown), "{done}");
    let received = received(&rig, &id).await;
    assert_eq!(received.len(), DELIVERED + unknown);
    assert!(received.iter().all(|message| message["recall"] == *id && message["outcome"] != "REVOKED"));
    let later = rig.message("later").await;
    assert_eq!((&later["state"], &later["recall"]), (&json!("PENDING"), &Value::Null), "{later}");
    assert!(settled.iter().all(|id| deletes(&rig.book(id)).contains(&200)));
    assert_eq!(rig.get("/v1/recalls/1x").await.0, 400);
    assert_eq!(rig.get("/v1/recalls/99999").await.0, 404);
}
