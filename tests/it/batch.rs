//! `POST /v1/messages:batch`: each line on its own, in order.

use reqwest::Method;
use serde_json::{Value, json};

use crate::rig::{Rig, draft, message_path, with};

async fn batch(rig: &Rig, body: String) -> Vec<Value> {
    let answer = rig.request(Method::POST, "/v1/messages:batch").body(body).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["content-type"].as_bytes()),
        (200, &b"application/x-ndjson"[..])
    );
    answer.text().await.unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_bad_line_harms_no_other_and_answers_keep_the_order() {
    let rig = Rig::start().await;
    let line = |id: &str, more: Value| with(draft(id, "promo"), more).to_string();
    let lines = [
        (line("m1", json!({})), 201, Value::Null),
        ("{\"agentId\":".to_owned(), 400, Value::Null),
        (line("m2", json!({"phone": "12"})), 400, json!("phone")),
        (line("m3", json!({"usecase": "otp"})), 400, json!("usecase")),
        (line("m1", json!({"tags": ["again"]})), 200, Value::Null),
        (line("m4", json!({"useCase": "lunch"})), 400, json!("useCase")),
        (line("m5", json!({"onConflict": "reject"})), 201, Value::Null),
        (line("m5", json!({"onConflict": "reject"})), 409, Value::Null),
        (line("m6", json!({})), 201, Value::Null),
    ];
    // Blank lines, and a last one without an end, are nothing to speak of.
    let body = lines.iter().map(|(line, ..)| line.as_str()).collect::<Vec<_>>().join("\n\n");
    let answers = batch(&rig, body).await;
    assert_eq!(answers.len(), lines.len());
    for ((line, code, field), answer) in lines.iter().zip(&answers) {
        assert_eq!((&answer["code"], &answer["error"]["field"]), (&json!(code), field), "{line}: {answer}");
        let is_there = answer["message"]["messageId"].is_string();
        assert_eq!(is_there, *code < 300, "{answer}");
    }
    for (id, code) in [("m1", 200), ("m2", 404), ("m3", 404), ("m4", 404), ("m5", 200), ("m6", 200)] {
        assert_eq!(rig.get(&message_path(id)).await.0, code, "{id}");
    }
    assert_eq!(rig.message("m1").await["tags"], json!(["again"]));
}

#[tokio::test]
async fn a_batch_of_many_chunks_is_answered_in_order_and_is_there_after_a_crash() {
    const LINES: usize = 2500;
    let mut rig = Rig::start().await;
    let body: String = (0..LINES).map(|n| format!("{}\n", draft(&format!("m{n}"), "promo"))).collect();
    let answers = batch(&rig, body).await;
    let ids: Vec<_> = answers.iter().map(|answer| answer["message"]["messageId"].as_str().unwrap()).collect();
    assert_eq!(ids, (0..LINES).map(|n| format!("m{n}")).collect::<Vec<_>>());
    rig.kill9().await;
    rig.restart().await;
    assert_eq!(rig.get("/v1/status").await.1["useCases"]["promo"]["PENDING"], LINES);
}
