//! `GET /v1/messages`: filters, and pages that show everything once.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::rig::{Rig, draft, message_path, with};

async fn ids(rig: &Rig, query: &str) -> Vec<String> {
    let (mut ids, mut token) = (Vec::new(), String::new());
    loop {
        let (code, page) = rig.get(&format!("/v1/messages?{query}&pageToken={token}")).await;
        assert_eq!(code, 200, "{page}");
        let messages = page["messages"].as_array().unwrap();
        ids.extend(messages.iter().map(|message| message["messageId"].as_str().unwrap().to_owned()));
        match &page["nextPageToken"] {
            Value::Null => return ids,
            next => token = next.as_str().unwrap().into(),
        }
    }
}

#[tokio::test]
async fn pages_show_every_message_once_and_filters_only_those_that_fit() {
    let rig = Rig::start().await;
    let mut all = BTreeSet::new();
    for n in 0..9 {
        let (id, agent) = (format!("m{n}"), ["shop", "bank", "shop@rbm.goog"][n % 3]);
        let more = json!({"agentId": agent, "tags": [if n < 4 { "low" } else { "high" }]});
        let more = if n % 2 == 0 { with(more, json!({"ttl": "1800s"})) } else { more };
        assert_eq!(rig.register(&with(draft(&id, "promo"), more)).await.0, 201);
        all.insert(id);
    }
    assert_eq!(rig.post(&format!("{}:withdraw", message_path("m0")), "").await.0, 200);
    for page_size in [1, 2, 4, 9, 1000] {
        let listed = ids(&rig, &format!("pageSize={page_size}")).await;
        assert_eq!((listed.len(), listed.into_iter().collect()), (9, all.clone()), "pages of {page_size}");
    }
    for (query, expected) in [
        ("agentId=bank", vec!["m1", "m4", "m7"]),
        ("agentId=bank@rbm.goog&tag=high", vec!["m4", "m7"]),
        ("tag=low&state=pending", vec!["m1", "m2", "m3"]),
        ("state=SETTLED", vec!["m0"]),
        ("useCase=promo&tag=low", vec!["m0", "m1", "m2", "m3"]),
        ("useCase=otp", vec![]),
        ("tag=medium", vec![]),
        ("state=REVOKING", vec![]),
    ] {
        let mut listed = ids(&rig, &format!("pageSize=2&{query}")).await;
        listed.sort();
        assert_eq!(listed, expected, "{query}");
    }
    let (_, status) = rig.get("/v1/status").await;
    assert_eq!(
        (&status["useCases"]["promo"]["PENDING"], &status["useCases"]["promo"]["SETTLED"]),
        (&json!(8), &json!(1))
    );
}
