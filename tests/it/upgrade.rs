//! Stores of other versions: an older one is opened as it is, a newer one is left alone.
//!
//! The fixture is a whole state directory, as version 1 left it on 2026-11-25 when it was killed: a run, a journal that was
//! closed and one that was not. Never regenerate it: add another beside it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::{
    daemon::run_to_end,
    rig::{Rig, draft},
};

/// A rig without a daemon, whose store is the fixture.
async fn rig() -> Rig {
    let mut rig = Rig::start().await;
    rig.stop().await;
    let store = rig.path("store");
    fs::remove_dir_all(&store).unwrap();
    fs::create_dir(&store).unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/store-v1.tar.gz");
    let unpacked = Command::new("tar").arg("-xzf").arg(fixture).arg("-C").arg(&store).status().unwrap();
    assert!(unpacked.success());
    rig
}

fn contents(dir: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            contents(&path, into);
        } else {
            into.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
}

#[tokio::test]
async fn a_store_of_version_1_is_opened_and_is_of_this_version_from_then_on() {
    let mut rig = rig().await;
    rig.restart().await;
    for (id, sent, tags) in
        [("pending", "2026-11-25T11:12:32.708Z", json!(["spring"])), ("late", "2026-11-25T11:12:35.375Z", Value::Null)]
    {
        let message = rig.message(id).await;
        // Held, or it would have been due long ago.
        assert_eq!(
            (&message["state"], &message["hold"]["reason"]),
            (&json!("PENDING"), &json!("a fixture")),
            "{message}"
        );
        assert_eq!((&message["sendTime"], &message["tags"]), (&json!(sent), &tags), "{message}");
    }
    let told: Vec<_> =
        rig.outcomes().await.iter().map(|told| (told["messageId"].clone(), told["outcome"].clone())).collect();
    assert_eq!(told, [(json!("revoked"), json!("UNKNOWN")), (json!("delivered"), json!("DELIVERED"))]);
    let granted = &rig.outcomes().await[0]["grant"];
    assert_eq!(granted["grantId"], "3f6a765ff173cd841300ca16fdf100a2", "{granted}");
    assert_eq!(granted["fallback"]["text"], "your code", "{granted}");
    let (_, unread) = rig.get("/v1/outcomes").await;
    assert_eq!(unread["outcomes"][0]["cursor"], "2", "the first was acknowledged");

    assert_eq!(rig.register(&draft("new", "promo")).await.0, 201);
    rig.kill9().await;
    rig.restart().await;
    for id in ["pending", "late", "new"] {
        assert_eq!(rig.message(id).await["state"], "PENDING", "{id}");
    }
    assert_eq!(fs::read_to_string(rig.path("store/format")).unwrap(), "revoked store 2\n");
}

#[tokio::test]
async fn a_store_of_a_newer_version_is_refused_and_left_as_it_is() {
    let rig = rig().await;
    fs::write(rig.path("store/format"), "revoked store 9\n").unwrap();
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    contents(&rig.path("store"), &mut before);
    let ended = run_to_end("run", &rig.path("config.toml")).await;
    contents(&rig.path("store"), &mut after);
    assert_eq!(ended.status.code(), Some(78));
    let said = String::from_utf8(ended.stderr).unwrap();
    let words =
        "the store was written by a newer version of revoked (format 9, this one reads up to 2): nothing was touched";
    assert!(said.contains(words), "{said}");
    assert!(before == after, "something was touched");
}
