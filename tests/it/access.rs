//! `[access]`: who may do what, and for which agents. Who it is, the kernel says, and no client.

use std::{fs, os::unix::fs::PermissionsExt as _};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    caller::{Caller, Who, is_root, left_out, me},
    daemon::{run_to_end, soon},
    rig::{Rig, draft, message_path, with},
};

/// Everything that can be asked, as the table of the routes has it.
const REQUESTS: [(&str, &str); 33] = [
    ("POST", "/v1/messages"),
    ("GET", "/v1/messages"),
    ("POST", "/v1/messages:batch"),
    ("GET", "/v1/messages/shop/m1"),
    ("PATCH", "/v1/messages/shop/m1"),
    ("POST", "/v1/messages/shop/m1:withdraw"),
    ("POST", "/v1/messages/shop/m1:explain"),
    ("POST", "/v1/messages/shop/m1:revoke"),
    ("POST", "/v1/messages/shop/m1:grant"),
    ("POST", "/v1/messages/shop/m1:drop"),
    ("POST", "/v1/events"),
    ("GET", "/v1/outcomes"),
    ("GET", "/v1/outcomes?follow=true"),
    ("POST", "/v1/outcomes:ack"),
    ("POST", "/v1/holds"),
    ("GET", "/v1/holds"),
    ("POST", "/v1/holds:release"),
    ("POST", "/v1/holds/1:release"),
    ("GET", "/v1/export"),
    ("POST", "/v1/import"),
    ("POST", "/v1/recalls"),
    ("GET", "/v1/recalls"),
    ("GET", "/v1/recalls/1"),
    ("GET", "/v1/recalls/1/received"),
    ("POST", "/v1/clock:accept"),
    ("GET", "/v1/status"),
    ("GET", "/v1/forecast"),
    ("GET", "/v1/report"),
    ("GET", "/v1/advice"),
    ("POST", "/v1/plan"),
    ("POST", "/v1/reload"),
    ("GET", "/v1/config"),
    ("GET", "/metrics"),
];

/// A daemon that every user can reach, with one message of each of two agents pending and one settled.
async fn rig() -> Rig {
    let rig = Rig::start().await;
    let socket = rig.path("sock");
    fs::set_permissions(socket.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    for agent in ["shop", "bank"] {
        for id in ["m1", "done"] {
            let draft = with(draft(id, "promo"), json!({"agentId": agent, "tags": ["spring"]}));
            assert_eq!(rig.register(&draft).await.0, 201);
        }
        assert_eq!(rig.post(&format!("/v1/messages/{agent}/done:withdraw"), "").await.0, 200);
    }
    rig
}

/// Puts rules in force without a restart.
async fn rule(rig: &Rig, rules: &str) {
    rig.configure("config.toml", "sock", "store", rules);
    let (code, answer) = rig.post("/v1/reload", "").await;
    assert_eq!(code, 200, "{answer}");
}

async fn caller(rig: &Rig, who: Who) -> Caller {
    Caller::connect(&rig.path("sock"), who).await
}

fn agents(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|one| one["agentId"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn an_agent_sees_and_touches_its_own_messages_only_from_the_reload_on() {
    let rig = rig().await;
    // Root may do everything, and so is somebody else here.
    let who = if is_root() { (60_001, 60_001) } else { me() };
    let mut shop = caller(&rig, who).await;
    assert_eq!(agents(&shop.get("/v1/messages").await.1["messages"]).len(), 4, "without rules");
    rule(
        &rig,
        &format!("[access.shop]\nusers = [\"{}\"]\nmay = [\"register\", \"read\"]\nagents = [\"shop\"]\n", who.0),
    )
    .await;

    // What it may read.
    assert_eq!(agents(&shop.get("/v1/messages").await.1["messages"]), ["shop", "shop"]);
    assert_eq!(agents(&shop.get("/v1/messages?tag=spring&pageSize=1").await.1["messages"]).len(), 1);
    assert_eq!(agents(&shop.get("/v1/outcomes?after=0").await.1["outcomes"]), ["shop"]);
    let (_, status) = shop.get("/v1/status").await;
    assert_eq!(status["useCases"]["promo"]["PENDING"], 1, "{status}");
    assert_eq!(agents(&status["routes"]), ["shop"]);
    for key in ["settled", "registered", "deletes"] {
        assert_eq!(status.get(key), None, "counted for all together: {status}");
    }
    let (_, forecast) = shop.get("/v1/forecast?step=3600s&steps=1").await;
    assert_eq!(forecast["useCases"]["promo"], json!([1]), "{forecast}");
    let (_, export) = shop.text("GET", "/v1/export", "").await;
    assert!(export.contains("\"shop\"") && !export.contains("\"bank\""), "{export}");
    let trailer: Value = serde_json::from_str(export.lines().last().unwrap()).unwrap();
    assert_eq!((&trailer["end"]["messages"], &trailer["end"]["outcomes"]), (&json!(2), &json!(1)), "{trailer}");
    assert_eq!(shop.ask("POST", "/v1/messages/shop/m1:explain", "").await.0, 200);

    // What it may do.
    let mine = draft("m2", "promo").to_string();
    let theirs = with(draft("m2", "promo"), json!({"agentId": "bank@rbm.goog"})).to_string();
    assert_eq!(shop.ask("POST", "/v1/messages", &mine).await.0, 201);
    let (_, batch) = shop.text("POST", "/v1/messages:batch", &format!("{mine}\n{theirs}\n")).await;
    let lines: Vec<Value> = batch.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["code"], &lines[1]["code"]), (&json!(200), &json!(403)), "{batch}");
    assert_eq!(shop.ask("POST", "/v1/messages/shop/m2:withdraw", "").await.0, 200);
    let (_, page) = shop.get("/v1/outcomes?after=0").await;
    let ack = json!({"cursor": page["nextCursor"]}).to_string();
    assert_eq!(shop.ask("POST", "/v1/outcomes:ack", &ack).await.0, 200);
    assert_eq!(shop.get("/v1/outcomes").await.1["outcomes"], json!([]), "it has taken note of its own");

    // What is not its own, by what would allow it.
    let event = json!({"senderPhoneNumber": "+15550100", "eventType": "DELIVERED", "eventId": "e", "messageId": "m1",
        "agentId": "bank"})
    .to_string();
    for (method, path, body) in [
        ("POST", "/v1/messages", theirs.as_str()),
        ("GET", "/v1/messages?agentId=bank", ""),
        ("GET", "/v1/messages/bank/m1", ""),
        ("GET", "/v1/messages/bank/no-such", ""),
        ("PATCH", "/v1/messages/bank/m1", r#"{"expireTime":"2030-01-01T00:00:00Z"}"#),
        ("POST", "/v1/messages/bank/m1:revoke", ""),
        ("POST", "/v1/messages/bank/m1:explain", ""),
        ("POST", "/v1/events", &event),
        ("GET", "/v1/outcomes?agentId=bank", ""),
        ("GET", "/v1/outcomes?agentId=bank&follow=true", ""),
        ("POST", "/v1/outcomes:ack", r#"{"cursor":"1","agentId":"bank"}"#),
        ("GET", "/v1/report", ""),
        ("GET", "/v1/advice", ""),
        ("GET", "/v1/config", ""),
        ("GET", "/metrics", ""),
        ("POST", "/v1/plan", "[use_cases.otp]\nttl = \"1m\"\n"),
    ] {
        let words = shop.refused(method, path, body).await;
        assert!(words.contains("access.shop.agents"), "{method} {path}: {words}");
    }
    for (path, body) in [
        ("/v1/holds", r#"{"agentId":"shop"}"#),
        ("/v1/recalls?dryRun=true", r#"{"agentId":"shop"}"#),
        ("/v1/reload", ""),
    ] {
        let words = shop.refused("POST", path, body).await;
        assert!(words.contains("\"control\"") && words.contains("access.shop.may"), "{path}: {words}");
    }
    // Others are as they were.
    assert_eq!(rig.sandbox.stats().deletes, 0);
    if is_root() {
        assert_eq!(rig.get("/v1/messages/bank/m1").await.1["state"], "PENDING");
        assert_eq!(agents(&rig.get("/v1/outcomes?agentId=bank").await.1["outcomes"]), ["bank"], "not acknowledged");
        let metrics = rig.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
        let refused = "revoked_registrations_refused_total{reason=\"forbidden\"} 2\n";
        assert!(metrics.contains(refused), "one by itself and one in a batch: {metrics}");
    } else {
        left_out("that the messages of another agent are as they were");
    }
}

#[tokio::test]
async fn each_right_is_given_by_itself_and_a_stranger_has_none() {
    if !is_root() {
        return left_out("what users that are not oneself may do");
    }
    let rig = rig().await;
    rule(
        &rig,
        "[access.desk]\nusers = [\"60002\"]\nmay = [\"read\"]\n\
         [access.ops]\ngroups = [\"60010\"]\nmay = [\"read\", \"control\"]\n\
         [access.brand]\nusers = [\"60003\"]\nmay = [\"register\", \"read\", \"control\"]\nagents = [\"bank\", \"brand\"]\n",
    )
    .await;
    let mut stranger = caller(&rig, (60_009, 60_009)).await;
    for (method, path) in REQUESTS {
        let words = stranger.refused(method, path, "").await;
        assert!(words.contains("user 60009") && words.contains("[access]"), "{method} {path}: {words}");
    }
    assert_eq!(stranger.get("/v1/lunch").await.0, 404);
    rig.daemon().says("refused: user 60009").await;
    assert_eq!(rig.daemon().log().matches("refused: user 60009").count(), 1, "said once");

    let mut desk = caller(&rig, (60_002, 60_002)).await;
    for (method, path) in REQUESTS {
        if method == "GET" && !path.contains("follow") && !path.contains("recalls/1") {
            assert_eq!(desk.text(method, path, "").await.0, 200, "{path}");
        } else if method == "POST" && !path.contains("explain") && !path.contains("plan") {
            assert!(desk.refused(method, path, "").await.contains("access.desk.may"), "{path}");
        }
    }

    // By its group; and what concerns everybody.
    let mut operator = caller(&rig, (60_004, 60_010)).await;
    let (code, hold) = operator.ask("POST", "/v1/holds", r#"{"tag":"spring"}"#).await;
    assert_eq!(code, 200, "{hold}");
    assert_eq!(operator.ask("POST", "/v1/reload", "").await.0, 200);
    assert!(operator.refused("POST", "/v1/messages", "{}").await.contains("access.ops.may"));

    // Control of two agents, and of no other.
    let mut brand = caller(&rig, (60_003, 60_003)).await;
    let id = hold["id"].as_str().unwrap();
    for (path, body) in [
        ("/v1/holds".to_owned(), r#"{"tag":"spring"}"#),
        ("/v1/holds".to_owned(), r#"{"agentId":"shop"}"#),
        (format!("/v1/holds/{id}:release"), ""),
        ("/v1/holds:release".to_owned(), r#"{"tag":"spring"}"#),
        ("/v1/recalls".to_owned(), r#"{"tag":"spring"}"#),
        ("/v1/recalls?dryRun=true".to_owned(), r#"{"useCase":"promo"}"#),
        ("/v1/import".to_owned(), ""),
        ("/v1/reload".to_owned(), ""),
    ] {
        let words = brand.refused("POST", &path, body).await;
        assert!(words.contains("access.brand.agents"), "{path} {body}: {words}");
    }
    let (_, holds) = brand.get("/v1/holds").await;
    let shown = &holds["holds"][0];
    assert_eq!((&shown["id"], &shown["waiting"]), (&json!(id), &Value::Null), "it concerns them as well: {holds}");
    let (code, own) = brand.ask("POST", "/v1/holds", r#"{"agentId":"bank"}"#).await;
    assert_eq!((code, &own["waiting"]), (200, &json!(1)), "{own}");
    assert_eq!(brand.ask("POST", &format!("/v1/holds/{}:release", own["id"].as_str().unwrap()), "").await.0, 200);
    let (code, recall) = brand.ask("POST", "/v1/recalls", r#"{"agentId":"bank","tag":"spring"}"#).await;
    assert_eq!(code, 200, "{recall}");
    let path = format!("/v1/recalls/{}", recall["id"].as_str().unwrap());
    assert_eq!(brand.get(&path).await.0, 200);
    assert_eq!(brand.get(&format!("{path}/received")).await.0, 200);
    let (_, wide) = rig.post("/v1/recalls", r#"{"tag":"summer"}"#).await;
    let wide = format!("/v1/recalls/{}/received", wide["id"].as_str().unwrap());
    assert!(brand.refused("GET", &wide, "").await.contains("access.brand.agents"));
    assert_eq!(brand.get("/v1/recalls").await.1["recalls"].as_array().unwrap().len(), 1);
    assert_eq!(rig.get("/v1/recalls").await.1["recalls"].as_array().unwrap().len(), 2);
    assert_eq!(rig.message("m1").await["state"], "PENDING", "of an agent that was not meant");
}

#[tokio::test]
async fn a_stream_of_outcomes_lasts_although_rules_were_changed_before_it() {
    let rig = rig().await;
    let everybody = |name: &str| {
        format!("[access.{name}]\nusers = [\"{}\"]\nmay = [\"register\", \"read\", \"control\"]\n", me().0)
    };
    rule(&rig, &everybody("first")).await;
    rule(&rig, &everybody("second")).await;
    let mut stream = rig.request(Method::GET, "/v1/outcomes?after=0&follow=true").send().await.unwrap();
    for agent in ["shop", "bank"] {
        // One after the other, so that the stream has to go round for each.
        assert_eq!(rig.post(&format!("/v1/messages/{agent}/m1:withdraw"), "").await.0, 200);
        let mut lines = String::new();
        while !lines.contains(&format!("{agent:?}")) || !lines.contains("m1") {
            let chunk = soon("an outcome", stream.chunk()).await.unwrap().expect("the stream ended");
            lines += str::from_utf8(&chunk).unwrap();
        }
    }
}

#[tokio::test]
async fn a_user_or_group_that_does_not_exist_is_found_by_check_and_the_socket_is_whose_it_is_said_to_be() {
    let mut rig = Rig::start().await;
    for (rule, name) in [
        ("[access.shop]\nusers = [\"no-such-user\"]\nmay = [\"read\"]\n", "no-such-user"),
        ("[access.shop]\ngroups = [\"no-such-group\"]\nmay = [\"read\"]\n", "no-such-group"),
    ] {
        let path = rig.configure("wrong.toml", "sock", "store", rule);
        let done = run_to_end("check", &path).await;
        let said = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(78), "{said}");
        assert!(said.contains(name) && said.contains("on this machine"), "{said}");
    }
    rig.stop().await;
    let group = if is_root() { 60_010 } else { me().1 };
    let path = rig.configure("config.toml", "sock", "store", "");
    let text = fs::read_to_string(&path).unwrap();
    let keys = format!("[server]\nsocket_group = \"{group}\"\nsocket_mode = \"0620\"\n");
    fs::write(&path, text.replace("[server]\n", &keys)).unwrap();
    rig.restart().await;
    let found = fs::metadata(rig.path("sock")).unwrap();
    assert_eq!((std::os::unix::fs::MetadataExt::gid(&found), found.permissions().mode() & 0o777), (group, 0o620));
    if is_root() {
        let socket = rig.path("sock");
        fs::set_permissions(socket.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(caller(&rig, (60_004, 60_010)).await.get(&message_path("m1")).await.0, 404, "by its group");
    } else {
        left_out("that the socket's group may use it");
    }
}
