//! In front of the webhook that an agent has already: it gets every authentic push as it came, and can't lose us anything.

use serde_json::json;

use crate::{
    peer::Peer,
    rig::{AGENT, PHONE},
    webhook::{Door, TOKEN, delivered, envelope, sign},
};

#[tokio::test]
async fn the_agents_own_webhook_answers_the_platform_and_gets_the_push_as_it_came() {
    let agent = Peer::start().await;
    let door = Door::open(&[TOKEN], &format!("forward_to = {:?}\n", agent.url("/rbm?tenant=1"))).await;
    agent.answers(200, "thanks");
    let text = json!({"senderPhoneNumber": PHONE, "text": "hi", "messageId": "theirs", "agentId": AGENT}).to_string();
    assert_eq!(door.push(TOKEN, &text).await, (200, "thanks".into()), "a user's message is the agent's");
    let seen = agent.seen(1).await.remove(0);
    assert_eq!((seen.path.as_str(), seen.text()), ("/rbm", envelope(text.as_bytes()).as_str()));
    assert_eq!(seen.header("x-goog-signature"), sign(TOKEN, text.as_bytes()));
    assert_eq!(seen.header("content-type"), "application/json");

    // Its refusal goes back to the platform, which will repeat the push; what it says is known here all the same.
    door.rig.send("m1", "promo").await;
    agent.answers(500, "later");
    assert_eq!(door.push(TOKEN, &delivered("m1")).await, (500, "later".into()));
    assert_eq!(door.rig.message("m1").await["outcome"], "DELIVERED");
    agent.answers(200, "");
    assert_eq!(door.push(TOKEN, &delivered("m1")).await.0, 200);

    // What is forged is not passed on; a handshake that may be the agent's is.
    assert_eq!(door.push("stranger", &text).await.0, 401);
    assert_eq!(agent.so_far().len(), 3);
    let mine = json!({"clientToken": TOKEN, "secret": "s"}).to_string();
    assert_eq!(door.post(mine, None).await, (200, "s".into()));
    assert_eq!(agent.so_far().len(), 3);
    agent.answers(200, "its-secret");
    let its = json!({"clientToken": "its-token", "secret": "its-secret"}).to_string();
    assert_eq!(door.post(its, None).await, (200, "its-secret".into()));
    let counts = door.counts().await;
    assert_eq!((&counts["forwarded"], &counts["forwardFailures"]), (&json!(3), &json!(1)), "{counts}");
}

#[tokio::test]
async fn strangers_can_not_use_it_to_flood_the_agent() {
    let agent = Peer::start().await;
    let door = Door::open(&[TOKEN], &format!("forward_to = {:?}\n", agent.url("/"))).await;
    let hello = |secret: &str| json!({"clientToken": "stranger", "secret": secret}).to_string();
    assert_eq!(door.post(hello(&"s".repeat(5000)), None).await.0, 413);
    let mut codes = Vec::new();
    for _ in 0..30 {
        codes.push(door.post(hello("s"), None).await.0);
    }
    // Ten a minute, and the minute may have been over once on a busy machine.
    let passed = codes.iter().filter(|code| **code == 200).count();
    assert!((10..=20).contains(&passed) && codes.contains(&429), "{codes:?}");
    assert_eq!(agent.so_far().len(), passed);
    // What is authentic is as welcome as ever.
    door.rig.send("m1", "promo").await;
    assert_eq!(door.push(TOKEN, &delivered("m1")).await.0, 200);
}

#[tokio::test]
async fn an_agent_that_is_down_costs_no_evidence_and_has_the_push_repeated() {
    let agent = Peer::start().await;
    let door = Door::open(&[TOKEN], &format!("forward_to = {:?}\n", agent.url("/"))).await;
    let address = agent.address;
    drop(agent);
    door.rig.send("m1", "promo").await;
    assert_eq!(door.push(TOKEN, &delivered("m1")).await.0, 502);
    assert_eq!(door.rig.message("m1").await["outcome"], "DELIVERED");
    let agent = Peer::start_at(address).await;
    assert_eq!(door.push(TOKEN, &delivered("m1")).await.0, 200);
    assert_eq!(agent.seen(1).await[0].text(), envelope(delivered("m1").as_bytes()));
}

#[tokio::test]
async fn in_the_background_nobody_waits_for_the_agent_and_a_stop_lets_it_finish() {
    let agent = Peer::start().await;
    let more = format!("forward_to = {:?}\nforward = \"background\"\n", agent.url("/"));
    let mut door = Door::open(&[TOKEN], &more).await;
    agent.holds();
    for id in ["m1", "m2"] {
        door.rig.send(id, "promo").await;
        assert_eq!(door.push(TOKEN, &delivered(id)).await, (200, String::new()));
        assert_eq!(door.rig.message(id).await["outcome"], "DELIVERED");
    }
    agent.seen(2).await;
    assert_eq!(door.counts().await["forwarded"], 0);
    door.rig.daemon().terminate();
    agent.answers(200, "");
    let mut daemon = door.rig.daemon.take().unwrap();
    assert_eq!(daemon.ended().await.code(), Some(0));
    assert!(!daemon.log().contains("did not let go"), "{}", daemon.log());
    door.rig.restart().await;
    door.find().await;
    agent.answers(500, "");
    assert_eq!(door.push(TOKEN, &delivered("m1")).await.0, 200, "its answer is its own business");
    door.rig.daemon().says("forward_to fails").await;
    assert_eq!(door.counts().await["forwardFailures"], 1);
}
