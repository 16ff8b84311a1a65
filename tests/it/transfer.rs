//! Export and import: from one store into another, and what must not be lost or doubled on the way.

use std::{collections::BTreeMap, fs, path::Path, process::Stdio, sync::Arc};

use reqwest::Method;
use revoked::sandbox::FaultKind;
use serde_json::{Value, json};
use tokio::{process::Command, sync::mpsc};

use crate::{
    daemon::{run_to_end, soon},
    rig::{PHONE, Rig, deletes, draft, message_path, with},
};

/// What `revokectl` leaves with, and what it says.
async fn ctl(rig: &Rig, command: &str, file: &Path) -> (i32, String) {
    let mut ctl = Command::new(env!("CARGO_BIN_EXE_revokectl"));
    ctl.args(command.split(' ')).arg(file).env("REVOKED_SOCKET", rig.path("sock")).stdin(Stdio::null());
    let output = soon("revokectl", ctl.output()).await.unwrap();
    let words = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(words).unwrap())
}

async fn export(rig: &Rig, name: &str) -> Vec<Value> {
    let file = rig.path(name);
    let (code, words) = ctl(rig, "export --output", &file).await;
    assert_eq!(code, 0, "{words}");
    lines(&fs::read_to_string(file).unwrap())
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The daemon, from now on with another store.
async fn move_to(rig: &mut Rig, store: &str) {
    rig.configure("config.toml", "sock", store, "");
    rig.restart().await;
}

#[tokio::test]
async fn what_is_imported_is_what_was_exported_and_a_second_time_changes_nothing() {
    let mut rig = Rig::start().await;
    let more = json!({"tags": ["a"], "fallback": {"b": [1.50]}});
    assert_eq!(rig.register(&with(draft("policy", "promo"), more)).await.0, 201);
    assert_eq!(rig.register(&with(draft("own", "promo"), json!({"ttl": "1800s", "region": "us"}))).await.0, 201);
    rig.send("acked", "otp").await;
    let acked = rig.outcome().await;
    assert_eq!(rig.post("/v1/outcomes:ack", json!({"cursor": acked["cursor"]}).to_string()).await.0, 200);
    rig.send("open", "otp").await;
    let open = rig.outcome().await;
    // Nobody sent it: the platform does not know it, and nobody can say why.
    assert_eq!(rig.register(&draft("held", "held")).await.0, 201);
    assert_eq!(rig.outcome().await["grant"]["state"], "HELD");
    assert_eq!(rig.delivered("early").await, "EARLY");
    let ids = ["policy", "own", "acked", "open", "held"];
    let mut before = Vec::new();
    for id in ids {
        before.push(rig.message(id).await);
    }
    let outcomes = rig.outcomes().await;
    let online = export(&rig, "online").await;
    rig.stop().await;
    let offline = run_to_end("export", &rig.path("config.toml")).await;
    assert_eq!(offline.status.code(), Some(0), "{offline:?}");
    fs::write(rig.path("offline"), &offline.stdout).unwrap();
    let offline = lines(&String::from_utf8(offline.stdout).unwrap());
    assert_eq!(online[1..], offline[1..], "all but the instant it was of");

    move_to(&mut rig, "second").await;
    let (code, words) = ctl(&rig, "import", &rig.path("offline")).await;
    assert_eq!(code, 0, "{words}");
    assert!(words.contains("10 lines: 10 imported, 0 known before, 0 refused"), "{words}");
    // A crash takes nothing of it, and a second import adds nothing.
    rig.kill9().await;
    rig.restart().await;
    let (code, words) = ctl(&rig, "import", &rig.path("online")).await;
    assert_eq!((code, words.trim()), (0, "10 lines: 0 imported, 10 known before, 0 refused"));

    for (id, before) in ids.iter().zip(before) {
        assert_eq!(rig.message(id).await, before);
    }
    assert_eq!(rig.outcomes().await, outcomes);
    let (_, unread) = rig.get("/v1/outcomes").await;
    assert_eq!(unread["outcomes"][0], open, "without a cursor: from what was acknowledged");
    assert_eq!(rig.register(&draft("early", "promo")).await.1["outcome"], "DELIVERED");
    for (id, state) in [("acked", "OFFERED"), ("open", "WITHDRAWN")] {
        assert_eq!(rig.delivered(id).await, "APPLIED");
        assert_eq!(rig.message(id).await["grant"]["state"], state, "{id}");
    }
    let granted = rig.post(&format!("{}:grant", message_path("held")), "").await;
    assert_eq!(granted.1["grant"]["state"], "OFFERED", "{granted:?}");
    assert_eq!(rig.sandbox.stats().deletes, 4, "nothing that had settled was revoked again");
}

#[tokio::test]
async fn a_delete_that_was_out_at_the_export_makes_a_404_unknown_elsewhere() {
    let mut rig = Rig::start().await;
    rig.order("faults", json!({"kind": "slow", "delay": "1h"})).await;
    rig.send("m1", "otp").await;
    rig.sandbox.until(|stats| stats.faults.contains_key(&FaultKind::Slow)).await;
    let lines = export(&rig, "export").await;
    assert_eq!(lines[1]["message"]["attempts"]["unknown"], true, "{lines:?}");
    rig.kill9().await;
    move_to(&mut rig, "second").await;
    assert_eq!(ctl(&rig, "import", &rig.path("export")).await.0, 0);
    let outcome = rig.outcome().await;
    assert_eq!((&outcome["outcome"], &outcome["grant"]["state"]), (&json!("UNKNOWN"), &json!("OFFERED")), "{outcome}");
    assert_eq!(deletes(&rig.book("m1")), [200, 404]);
}

#[tokio::test]
async fn an_export_under_load_misses_nothing_that_was_acknowledged_before_it_began() {
    const CLIENTS: usize = 6;
    let rig = Rig::start().await;
    let (acknowledged, mut acknowledgements) = mpsc::unbounded_channel();
    for client in 0..CLIENTS {
        let acknowledged = acknowledged.clone();
        let post = |path: &str| Arc::new(rig.request(Method::POST, path));
        let (register, withdraw) = (post("/v1/messages"), post(&format!("/v1/messages/shop/c{client}-0:withdraw")));
        tokio::spawn(async move {
            for n in 0.. {
                let id = format!("c{client}-{n}");
                let body = draft(&id, "promo").to_string();
                let Ok(answer) = register.try_clone().unwrap().body(body.clone()).send().await else { return };
                assert_eq!(answer.status(), 201);
                if acknowledged.send(id).is_err() {
                    return;
                }
                // It moves: registered anew, then taken back.
                let _ = register.try_clone().unwrap().body(body).send().await;
                if n == 9 {
                    let _ = withdraw.try_clone().unwrap().send().await;
                }
            }
        });
    }
    let mut ids = Vec::new();
    for round in 1..=5 {
        while ids.len() < 150 * round {
            ids.push(soon("a registration", acknowledgements.recv()).await.unwrap());
        }
        while let Ok(id) = acknowledgements.try_recv() {
            ids.push(id);
        }
        let lines = export(&rig, "export").await;
        let mut told: BTreeMap<&str, u32> = BTreeMap::new();
        for message in lines.iter().filter_map(|line| line["message"]["messageId"].as_str()) {
            *told.entry(message).or_default() += 1;
        }
        assert!(told.values().all(|times| *times == 1), "told twice: {told:?}");
        let missing: Vec<_> = ids.iter().filter(|id| !told.contains_key(id.as_str())).collect();
        assert!(missing.is_empty(), "{missing:?} of {} are missing", ids.len());
    }
}

#[tokio::test]
async fn what_is_cut_off_bad_or_foreign_is_named_and_the_rest_is_taken() {
    let mut rig = Rig::start().await;
    for id in ["m1", "m2", "m3"] {
        rig.register(&draft(id, "promo")).await;
    }
    rig.marker().await;
    export(&rig, "export").await;
    let text = fs::read_to_string(rig.path("export")).unwrap();
    let mut edited: Vec<&str> = text.lines().collect();
    edited.pop();
    assert!(edited[3].contains("m2"), "{edited:?}");
    let broken = edited[3].replace(PHONE, "12");
    edited[3] = &broken;
    let strange = edited[4].replace("promo", "lunch");
    edited[4] = &strange;
    fs::write(rig.path("edited"), edited.join("\n")).unwrap();
    fs::write(rig.path("headless"), &edited[2..].join("\n")).unwrap();

    // The very store it came from.
    let (code, words) = ctl(&rig, "import", &rig.path("export")).await;
    assert_eq!((code, words.contains("0 imported")), (0, true), "{words}");
    rig.stop().await;
    move_to(&mut rig, "second").await;
    let (code, words) = ctl(&rig, "import", &rig.path("headless")).await;
    assert_eq!((code, words.contains("its first line is the header")), (1, true), "{words}");
    let (code, words) = ctl(&rig, "import", &rig.path("edited")).await;
    assert_eq!(code, 1);
    for part in ["line 4: ", "phone", "line 5: ", "[use_cases.lunch]", "3 imported", "no trailer"] {
        assert!(words.contains(part), "{part}: {words}");
    }
    assert!(!words.contains(PHONE), "{words}");
    let (code, words) = ctl(&rig, "import", &rig.path("export")).await;
    assert_eq!((code, words.contains("2 imported")), (0, true), "{words}");

    // A store with a log of its own takes what was not told yet.
    rig.stop().await;
    move_to(&mut rig, "third").await;
    rig.register(&draft("other", "promo")).await;
    assert_eq!(rig.delivered("other").await, "APPLIED");
    let (code, words) = ctl(&rig, "import", &rig.path("export")).await;
    assert_eq!((code, words.contains("import into a new store")), (1, true), "{words}");
    assert_eq!(rig.message("m3").await["state"], "PENDING");
    assert_eq!(rig.outcomes().await.len(), 1);
}
