//! Secrets and phone numbers where nobody asked for them. Each daemon of these tests has its output searched when it ends
//! (see `planted`); here is what it tells when it is asked, and what it leaves behind.

use std::os::unix::process::ExitStatusExt as _;

use revoked::sandbox::Options;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use serde_json::json;

use crate::{
    planted,
    rig::{PHONE, Rig, draft, with},
    webhook::TOKEN,
};

#[tokio::test]
async fn what_shows_the_daemon_shows_no_secret_and_no_recipient() {
    let files = tempfile::tempdir().unwrap();
    let (token, header) = (files.path().join("token"), files.path().join("header"));
    std::fs::write(&token, TOKEN).unwrap();
    std::fs::write(&header, "Basic c2lkOnRva2Vu").unwrap();
    let more = format!(
        "[use_cases.otp.fallback]\nurl = \"http://127.0.0.1:9/sms\"\nheader_files = {{ Authorization = {header:?} }}\n\
         [webhook]\nlisten = \"127.0.0.1:0\"\nclient_token_files = [{token:?}]\n"
    );
    let mut rig = Rig::with(Options::default(), &more).await;
    let fallback = json!({"fallback": {"text": "planted text"}, "tags": ["t"]});
    for (id, use_case) in [("m1", "otp"), ("m2", "promo")] {
        assert_eq!(rig.register(&with(draft(id, use_case), fallback.clone())).await.0, 201);
    }
    assert_eq!(rig.outcome().await["messageId"], "m1");
    rig.daemon().says("its fallback hook fails").await;
    for (method, path, body) in [
        ("GET", "/v1/config", String::new()),
        ("GET", "/v1/status", String::new()),
        ("GET", "/metrics", String::new()),
        ("GET", "/v1/report", String::new()),
        ("GET", "/v1/forecast", String::new()),
        ("GET", "/v1/holds", String::new()),
        ("POST", "/v1/reload", String::new()),
        ("POST", "/v1/holds", json!({"tag": "t"}).to_string()),
        ("POST", "/v1/recalls?dryRun=true", json!({"tag": "t"}).to_string()),
        // A secret in the wrong place is not repeated, and neither is a phone number of the wrong type.
        ("POST", "/v1/plan", "[use_cases.a.fallback]\nheaders = { Authorization = \"c2lkOnRva2Vu\" }\n".to_owned()),
        ("POST", "/v1/messages", "\"+15550100\"".to_owned()),
        ("POST", "/v1/messages", json!({"agentId": "shop", "phone": 15_550_100}).to_string()),
        ("POST", "/v1/messages", with(draft("m3", "promo"), json!({"phone": "15550100"})).to_string()),
        ("POST", "/v1/events", json!({"eventType": "READ", "phoneNumber": 15_550_100}).to_string()),
        ("POST", "/v1/events", json!({"message": {"data": format!("%{PHONE}")}}).to_string()),
        ("PATCH", "/v1/messages/shop/m2", json!({"expireTime": 15_550_100}).to_string()),
    ] {
        let answer = rig.request(method.parse().unwrap(), path).body(body).send().await.unwrap();
        let text = answer.text().await.unwrap();
        planted::is_nowhere_in(&format!("{method} {path}"), &text);
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_crash_leaves_no_core() {
    let mut rig = Rig::start().await;
    let pid = Pid::from_raw(rig.daemon().id().cast_signed()).unwrap();
    // As much as may be where this runs.
    let hard = getrlimit(Resource::Core).maximum;
    prlimit(Some(pid), Resource::Core, Rlimit { current: hard, maximum: hard }).unwrap();
    kill_process(pid, Signal::ABORT).unwrap();
    let status = rig.daemon.take().unwrap().ended().await;
    assert_eq!((status.signal(), status.core_dumped()), (Some(Signal::ABORT.as_raw()), false));
}
