//! Grants handed to a hook: one SMS per message, whatever is lost, repeated, killed or down on the way.

use std::collections::BTreeMap;

use revoked::sandbox::{Behaviour, Options};
use serde_json::{Value, json};

use crate::{
    peer::{Peer, Seen},
    rig::{AGENT, PHONE, Rig, deletes, draft, message_path, past, time, with},
};

fn hook(peer: &Peer, more: &str) -> String {
    format!("[use_cases.otp.fallback]\nurl = {:?}\ntimeout = \"5s\"\n{more}", peer.url("/sms"))
}

async fn start(peer: &Peer, more: &str) -> Rig {
    Rig::with(Options::default(), &hook(peer, more)).await
}

/// Registered with something for the SMS.
async fn send(rig: &Rig, id: &str) -> Value {
    rig.sandbox.send(AGENT, PHONE, id);
    let draft = with(draft(id, "otp"), json!({"fallback": {"text": format!("code for {id} & you")}}));
    let (code, message) = rig.register(&draft).await;
    assert_eq!(code, 201, "{message}");
    message
}

/// How often each key came.
fn keys(seen: &[Seen]) -> BTreeMap<String, usize> {
    let mut keys = BTreeMap::new();
    for one in seen {
        *keys.entry(one.header("idempotency-key").to_owned()).or_default() += 1;
    }
    keys
}

/// Waits for an outcome of this kind about a message; others are passed over.
async fn told(rig: &mut Rig, id: &str, kind: &str) -> Value {
    loop {
        let outcome = rig.outcome().await;
        if outcome["messageId"] == id && outcome["kind"] == kind {
            return outcome;
        }
    }
}

#[tokio::test]
async fn a_hook_gets_each_grant_once_and_the_stream_tells_of_it() {
    let peer = Peer::start().await;
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "Basic c2lkOnRva2Vu\n").unwrap();
    let more = format!(
        "headers = {{ Content-Type = \"application/x-www-form-urlencoded\" }}\n\
         header_files = {{ Authorization = {:?} }}\n\
         body = \"To={{{{ phone | urlencode }}}}&Body={{{{ fallback.text | urlencode }}}}\"\n",
        secret.path()
    );
    let mut rig = start(&peer, &more).await;
    for id in ["m1", "m2"] {
        send(&rig, id).await;
        let settled = told(&mut rig, id, "SETTLED").await;
        assert_eq!((&settled["grant"]["state"], &settled["grant"]["call"]["tries"]), (&json!("OFFERED"), &json!(0)));
        let taken = told(&mut rig, id, "TAKEN").await;
        assert_eq!((&taken["grant"]["state"], &taken["grant"]["acked"]), (&json!("TAKEN"), &json!(true)), "{taken}");
        assert_eq!(taken["grant"]["grantId"], settled["grant"]["grantId"]);
        let seen = peer.so_far().pop().unwrap();
        assert_eq!(seen.header("idempotency-key"), taken["grant"]["grantId"]);
        assert_eq!(seen.text(), format!("To=%2B15550100&Body=code%20for%20{id}%20%26%20you"));
        assert_eq!((seen.path.as_str(), seen.header("authorization")), ("/sms", "Basic c2lkOnRva2Vu"));
    }
    // It is out: a delivery that comes now is a second copy, and nothing can be taken back.
    assert_eq!(rig.delivered("m1").await, "APPLIED");
    assert_eq!(told(&mut rig, "m1", "AMENDED").await["grant"]["state"], "TAKEN");
    rig.marker().await;
    assert_eq!(keys(&peer.so_far()).into_values().collect::<Vec<_>>(), [1, 1]);
    let config = rig.get("/v1/config").await.1.to_string();
    assert!(config.contains("header_files") && !config.contains("c2lkOnRva2Vu"), "{config}");
    let log = rig.daemon().log();
    assert!(!log.contains("5550100") && !log.contains("c2lkOnRva2Vu") && !log.contains("code for"), "{log}");
}

#[tokio::test]
async fn a_hook_that_fails_is_tried_again_with_the_same_key_and_holds_up_no_other() {
    let peer = Peer::start().await;
    let mut rig = start(&peer, "").await;
    peer.answers(500, "no route to +15550100\nsecond line");
    send(&rig, "m1").await;
    peer.seen(3).await;
    let waiting = rig.get("/v1/messages?grant=waiting").await.1["messages"].clone();
    assert_eq!(waiting.as_array().unwrap().len(), 1);
    let grant = &waiting[0]["grant"];
    assert!(grant["call"]["tries"].as_u64().unwrap() >= 2, "{grant}");
    assert_eq!(grant["call"]["lastError"], "it answered 500 Internal Server Error: no route to +…");
    let status = rig.get("/v1/status").await.1["fallback"]["otp"].clone();
    assert_eq!((&status["waiting"], &status["taken"]), (&json!(1), &json!(0)), "{status}");
    assert!(status["failedCalls"].as_u64().unwrap() >= 2 && status["lastError"].is_string(), "{status}");
    peer.answers(202, "");
    told(&mut rig, "m1", "TAKEN").await;
    let keys = keys(&peer.so_far());
    assert_eq!(keys.len(), 1, "{keys:?}");
    rig.daemon().says("takes grants again").await;
    assert_eq!(rig.get("/v1/status").await.1["fallback"]["otp"]["waiting"], 0);
}

#[tokio::test]
async fn what_a_hook_refuses_is_left_for_later_and_shown() {
    let peer = Peer::start().await;
    let mut rig = start(&peer, "").await;
    peer.answers(400, "no such sender");
    send(&rig, "m1").await;
    peer.seen(1).await;
    rig.daemon().says("fallback hook fails").await;
    peer.answers(200, "");
    send(&rig, "m2").await;
    told(&mut rig, "m2", "TAKEN").await;
    let call = rig.message("m1").await["grant"]["call"].clone();
    assert_eq!(
        (&call["tries"], &call["lastError"]),
        (&json!(1), &json!("it answered 400 Bad Request: no such sender"))
    );
    assert!(time(&call["nextTime"]) > crate::rig::now() + chrono::Duration::seconds(500), "{call}");
    assert_eq!(peer.so_far().len(), 2, "not at once, and not for ever");
}

#[tokio::test]
async fn delivered_before_the_call_means_no_call() {
    let peer = Peer::start().await;
    let address = peer.address;
    let mut rig = start(&peer, "").await;
    drop(peer);
    send(&rig, "m1").await;
    told(&mut rig, "m1", "SETTLED").await;
    rig.daemon().says("fallback hook fails").await;
    assert_eq!(rig.delivered("m1").await, "APPLIED");
    let peer = Peer::start_at(address).await;
    send(&rig, "m2").await;
    told(&mut rig, "m2", "TAKEN").await;
    rig.stop().await;
    assert_eq!(keys(&peer.so_far()).len(), 1, "m2 only");
}

#[tokio::test]
async fn killed_between_answer_and_settlement_the_grant_still_goes_out_once() {
    let peer = Peer::start().await;
    let mut rig = start(&peer, "").await;
    send(&rig, "m1").await;
    rig.daemon().says("an attempt is back").await;
    rig.kill9().await;
    rig.restart().await;
    told(&mut rig, "m1", "TAKEN").await;
    rig.marker().await;
    assert_eq!(keys(&peer.so_far()).into_values().collect::<Vec<_>>(), [1]);
}

#[tokio::test]
async fn killed_between_call_and_answer_it_is_called_again_with_the_same_key() {
    let peer = Peer::start().await;
    peer.holds();
    let mut rig = start(&peer, "").await;
    send(&rig, "m1").await;
    peer.seen(1).await;
    rig.kill9().await;
    rig.restart().await;
    peer.seen(2).await;
    peer.answers(200, "");
    told(&mut rig, "m1", "TAKEN").await;
    rig.kill9().await;
    rig.restart().await;
    rig.marker().await;
    assert_eq!(keys(&peer.so_far()).into_values().collect::<Vec<_>>(), [2], "and not a third time");
    assert_eq!(deletes(&rig.book("m1")), [200]);
}

#[tokio::test]
async fn a_stop_waits_for_the_call_that_is_out() {
    let peer = Peer::start().await;
    peer.holds();
    let mut rig = start(&peer, "").await;
    send(&rig, "m1").await;
    peer.seen(1).await;
    rig.daemon().terminate();
    rig.daemon().says("stopping").await;
    peer.answers(200, "");
    let mut daemon = rig.daemon.take().unwrap();
    assert_eq!(daemon.ended().await.code(), Some(0));
    rig.restart().await;
    assert_eq!(rig.message("m1").await["grant"]["state"], "TAKEN");
    assert_eq!(peer.so_far().len(), 1);
}

#[tokio::test]
async fn what_no_hook_takes_in_time_is_void_and_told() {
    let peer = Peer::start().await;
    peer.answers(503, "");
    let more = format!(
        "[use_cases.brief]\nttl = \"600ms\"\nsettle = \"0s\"\nfallback_until = \"1500ms\"\n\
         [use_cases.brief.fallback]\nurl = {:?}\n",
        peer.url("/")
    );
    let mut rig = Rig::with(Options::default(), &more).await;
    rig.send("m1", "brief").await;
    let voided = told(&mut rig, "m1", "VOIDED").await;
    assert_eq!(voided["grant"]["state"], "VOID");
    assert_eq!(rig.get("/v1/status").await.1["fallback"]["brief"]["voided"], 1);
    rig.daemon().says("they are void").await;
    let count = peer.so_far().len();
    assert!(count > 0);
    rig.marker().await;
    assert_eq!(peer.so_far().len(), count);
}

#[tokio::test]
async fn a_reload_changes_the_hook_and_reads_its_secrets_again() {
    let (first, second) = (Peer::start().await, Peer::start().await);
    let secret = tempfile::NamedTempFile::new().unwrap();
    let header = format!("header_files = {{ X-Key = {:?} }}\n", secret.path());
    std::fs::write(secret.path(), "one").unwrap();
    let mut rig = start(&first, &header).await;
    send(&rig, "m1").await;
    told(&mut rig, "m1", "TAKEN").await;
    std::fs::write(secret.path(), "two").unwrap();
    rig.configure("config.toml", "sock", "store", &hook(&second, &header));
    let (code, answer) = rig.post("/v1/reload", "").await;
    assert_eq!((code, &answer["applied"]), (200, &json!(true)), "{answer}");
    send(&rig, "m2").await;
    told(&mut rig, "m2", "TAKEN").await;
    let keys = |peer: &Peer| peer.so_far().iter().map(|one| one.header("x-key").to_owned()).collect::<Vec<_>>();
    assert_eq!((keys(&first), keys(&second)), (vec!["one".to_owned()], vec!["two".to_owned()]));
    // A template that can't be is refused before any message depends on it.
    rig.configure("config.toml", "sock", "store", &hook(&second, "body = \"{{ phon }}\"\n"));
    let (code, answer) = rig.post("/v1/reload", "").await;
    assert!(code == 400 && answer.to_string().contains("undefined"), "{answer}");
}

#[tokio::test]
async fn a_command_gets_the_grant_on_its_standard_input_and_nothing_else() {
    let files = tempfile::tempdir().unwrap();
    let (got, environment, count) = (files.path().join("got"), files.path().join("env"), files.path().join("count"));
    let script = files.path().join("send-sms");
    let text = format!(
        "#!/bin/sh\ncat > {got:?}\ntr '\\0' '\\n' < /proc/self/environ > {environment:?}\necho x >> {count:?}\n\
         [ $(wc -l < {count:?}) -ge 2 ] || {{ echo 'no modem for +15550100' >&2; exit 75; }}\n"
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let more = format!("[use_cases.otp.fallback]\ncommand = [{script:?}]\n");
    let mut rig = Rig::with(Options::default(), &more).await;
    send(&rig, "m1").await;
    let taken = told(&mut rig, "m1", "TAKEN").await;
    let told: Value = serde_json::from_slice(&std::fs::read(&got).unwrap()).unwrap();
    assert_eq!(told["grantId"], taken["grant"]["grantId"]);
    assert_eq!((&told["phone"], &told["fallback"]["text"]), (&json!(PHONE), &json!("code for m1 & you")));
    assert_eq!((&told["useCase"], &told["outcome"]), (&json!("otp"), &json!("REVOKED")));
    let environment = std::fs::read_to_string(&environment).unwrap();
    let ours: Vec<_> =
        environment.lines().filter(|line| !line.starts_with("PATH=") && !line.starts_with("PWD=")).collect();
    assert!(
        ours.iter().all(|line| line.starts_with("_=") || line.starts_with("SHLVL=") || line.starts_with("OLDPWD")),
        "{ours:?}"
    );
    assert_eq!(std::fs::read_to_string(&count).unwrap().lines().count(), 2, "it failed once");
    let log = rig.daemon().log();
    assert!(log.contains("no modem for +…") && !log.contains("5550100"), "{log}");
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_ended_and_tried_again() {
    let files = tempfile::tempdir().unwrap();
    let count = files.path().join("count");
    let script = format!("echo x >> {count:?}; [ $(wc -l < {count:?}) -ge 2 ] || exec sleep 1000");
    let more = format!("[use_cases.otp.fallback]\ncommand = [\"/bin/sh\", \"-c\", {script:?}]\ntimeout = \"300ms\"\n");
    let mut rig = Rig::with(Options::default(), &more).await;
    let message = send(&rig, "m1").await;
    told(&mut rig, "m1", "TAKEN").await;
    past(time(&message["deadline"])).await;
    assert!(rig.daemon().log().contains("was ended"), "{}", rig.daemon().log());
    let trail = rig.message("m1").await["trail"].to_string();
    assert!(trail.contains("TAKEN"), "{trail}");
    let explained = rig.post(&format!("{}:explain", message_path("m1")), "").await;
    assert_eq!(explained.0, 200);
}

#[tokio::test]
async fn a_message_that_arrives_needs_no_hook() {
    let peer = Peer::start().await;
    let mut rig = start(&peer, "").await;
    rig.handset(Behaviour::Online);
    send(&rig, "m1").await;
    assert_eq!(rig.forward().await, "APPLIED");
    assert_eq!(told(&mut rig, "m1", "SETTLED").await["outcome"], "DELIVERED");
    rig.marker().await;
    assert!(peer.so_far().is_empty());
}
