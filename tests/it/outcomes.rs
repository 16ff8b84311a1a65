//! `GET /v1/outcomes`: streamed, by agent, and acknowledged.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    daemon::soon,
    rig::{Rig, draft, with},
};

#[tokio::test]
async fn follow_streams_outcomes_as_they_come_and_ends_with_the_daemon() {
    let mut rig = Rig::start().await;
    let mut stream = rig.request(Method::GET, "/v1/outcomes?follow=true").send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "application/x-ndjson");
    for id in ["m1", "m2"] {
        rig.send(id, "otp").await;
        let line = soon("a line", stream.chunk()).await.unwrap().unwrap();
        assert_eq!(line.last(), Some(&b'\n'));
        let outcome: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!((&outcome["messageId"], &outcome["outcome"]), (&json!(id), &json!("REVOKED")));
        assert_eq!(rig.outcome().await, outcome, "the same as when it is asked for");
    }
    rig.stop().await;
    assert_eq!(soon("the stream's end", stream.chunk()).await.unwrap(), None);
}

#[tokio::test]
async fn a_long_poll_without_news_ends_in_time_and_keeps_its_place() {
    let mut rig = Rig::start().await;
    rig.marker().await;
    let (_, page) = rig.get("/v1/outcomes").await;
    let cursor = page["nextCursor"].as_str().unwrap();
    let empty = rig.get(&format!("/v1/outcomes?after={cursor}&wait=0.05s")).await;
    assert_eq!(empty, (200, json!({"outcomes": [], "nextCursor": cursor})));
}

#[tokio::test]
async fn each_agent_reads_and_acknowledges_its_own() {
    let mut rig = Rig::start().await;
    for (agent, id) in [("shop", "m1"), ("bank", "m2"), ("shop", "m3")] {
        rig.sandbox.send(agent, crate::rig::PHONE, id);
        assert_eq!(rig.register(&with(draft(id, "otp"), json!({"agentId": agent}))).await.0, 201);
        assert_eq!(rig.outcome().await["messageId"], id);
    }
    let (_, page) = rig.get("/v1/outcomes?agentId=shop@rbm.goog").await;
    let ids: Vec<_> = page["outcomes"].as_array().unwrap().iter().map(|outcome| &outcome["messageId"]).collect();
    assert_eq!(ids, ["m1", "m3"]);
    let ack = json!({"cursor": page["nextCursor"], "agentId": "shop"});
    assert_eq!(rig.post("/v1/outcomes:ack", ack.to_string()).await, (200, ack));
    for (path, acked) in [("shop/m1", true), ("bank/m2", false), ("shop/m3", true)] {
        assert_eq!(rig.get(&format!("/v1/messages/{path}")).await.1["grant"]["acked"], acked, "{path}");
    }
}
