//! A wall clock that steps ahead by a day: nothing is revoked for it until somebody says that it is right.

use serde_json::{Value, json};

use crate::{
    faults::Faults,
    rig::{NONE, Rig, deletes},
};

const DAY: &str = "86400";

async fn clock(rig: &Rig) -> Value {
    let (code, status) = rig.get("/v1/status").await;
    assert_eq!(code, 200);
    status["clock"].clone()
}

#[tokio::test]
async fn a_clock_that_steps_ahead_by_a_day_is_not_believed_until_it_is_accepted() {
    let mut rig = Rig::start().await;
    let faults = Faults::under(&mut rig).await;
    rig.send("m1", "promo").await;
    assert_eq!(clock(&rig).await, Value::Null);

    faults.begin("clock", DAY);
    let ahead = clock(&rig).await["ahead"].as_str().unwrap().trim_end_matches('s').parse::<f64>().unwrap();
    assert!((86_399.0..86_401.0).contains(&ahead), "{ahead}");
    rig.daemon().says("the clock stepped ahead by ").await;
    assert_eq!(rig.message("m1").await["state"], "PENDING");

    // A restart makes it no truer.
    rig.kill9().await;
    faults.restart(&mut rig).await;
    rig.daemon().says("the clock stepped ahead by ").await;
    assert_ne!(clock(&rig).await, Value::Null);
    assert_eq!((rig.message("m1").await["state"].clone(), deletes(&rig.book("m1"))), (json!("PENDING"), NONE.to_vec()));

    faults.end("clock");
    assert_eq!(clock(&rig).await, Value::Null);
    rig.daemon().says("the clock's step ahead is taken back").await;
    let (code, refused) = rig.post("/v1/clock:accept", "").await;
    assert_eq!((code, &refused["error"]["code"]), (409, &json!(409)), "{refused}");

    faults.begin("clock", DAY);
    let (code, accepted) = rig.post("/v1/clock:accept", "").await;
    assert_eq!(code, 200, "{accepted}");
    assert_eq!(clock(&rig).await, Value::Null);
    // Whether the platform likes a token of tomorrow is another matter.
    rig.daemon().says("an attempt is back").await;
}
