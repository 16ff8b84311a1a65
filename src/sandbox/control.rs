//! The control API under `/sandbox/`: orders to the sandbox, the event feed and the books.
//!
//! It needs no token: who reaches a loopback port may also stop the process behind it.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State, rejection::QueryRejection},
    routing::{get, post},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::{
    Shared,
    answer::Answer,
    duration::Written,
    fault::Order,
    feed::{self, AGENT_DOMAIN, Published},
    platform::Outage,
    scenario::{HandsetChange, Happening, checked_phone},
    webhook::{self, Webhook},
};

/// How many events one answer holds at most.
const EVENTS_MOST: usize = 1000;
/// How long a request for events may wait for one.
const WAIT_LONGEST: Duration = Duration::from_secs(60);

type Outcome = Result<Answer, Answer>;

impl From<QueryRejection> for Answer {
    fn from(rejection: QueryRejection) -> Self {
        Answer::invalid(&rejection.body_text())
    }
}

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/sandbox/handsets", post(change_handset))
        .route("/sandbox/handsets:connect", post(connect_handset))
        .route("/sandbox/faults", post(order_fault))
        .route("/sandbox/answers:release", post(release_answers))
        .route("/sandbox/outage", post(set_outage))
        .route("/sandbox/tokens:expire", post(expire_tokens))
        .route("/sandbox/webhook", post(set_webhook))
        .route("/sandbox/events", get(read_events).post(push_event))
        .route("/sandbox/messages", get(read_books).post(send_message))
        .route("/sandbox/messages/{agent}/{id}", get(read_book))
        .route("/sandbox/stats", get(read_stats))
        .route("/sandbox/reset", post(reset))
        .fallback(|| async { Answer::error(404, "There is nothing here.") })
        .method_not_allowed_fallback(|| async { Answer::error(405, "Not with this method.") })
        .with_state(shared)
}

/// Reads a body whatever its content type says, as `curl -d` sends the wrong one; an error names the field.
fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Answer> {
    Json::from_bytes(bytes).map(|Json(value)| value).map_err(|rejection| Answer::invalid(&rejection.body_text()))
}

fn json(value: &impl Serialize) -> Outcome {
    serde_json::to_string(value).map(Answer::ok).map_err(|_| Answer::server_error(500, None))
}

fn done() -> Outcome {
    Ok(Answer::ok("{}"))
}

async fn change_handset(State(shared): State<Arc<Shared>>, bytes: Bytes) -> Outcome {
    let change: HandsetChange = body(&bytes)?;
    shared.with(|world, now| {
        let happening = change.happening(&world.options).map_err(|why| Answer::invalid(&why))?;
        world.happen(happening, now);
        done()
    })
}

async fn connect_handset(State(shared): State<Arc<Shared>>, bytes: Bytes) -> Outcome {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Connect {
        phone: String,
    }
    let Connect { phone } = body(&bytes)?;
    let phone = checked_phone(phone).map_err(|why| Answer::invalid(&why))?;
    shared.with(|world, now| world.happen(Happening::Connect { phone }, now));
    done()
}

async fn order_fault(State(shared): State<Arc<Shared>>, bytes: Bytes) -> Outcome {
    let order: Order = body(&bytes)?;
    shared.with(|world, _| world.orders.place(order)).map_err(|why| Answer::invalid(&why))?;
    done()
}

async fn release_answers(State(shared): State<Arc<Shared>>) -> Outcome {
    shared.with(|world, _| world.release_answers());
    done()
}

async fn set_outage(State(shared): State<Arc<Shared>>, bytes: Bytes) -> Outcome {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Change {
        kind: Outage,
    }
    let Change { kind } = body(&bytes)?;
    shared.with(|world, now| world.happen(Happening::Outage(kind), now));
    done()
}

async fn expire_tokens(State(shared): State<Arc<Shared>>) -> Outcome {
    shared.with(|world, now| world.happen(Happening::ExpireTokens, now));
    done()
}

/// Sets where events are pushed, if the webhook passes the platform's handshake.
async fn set_webhook(State(shared): State<Arc<Shared>>, bytes: Bytes) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Change {
        url: String,
        client_token: Option<String>,
    }
    let change: Change = body(&bytes)?;
    let url = webhook::parse_url(&change.url).map_err(|why| Answer::invalid(&format!("url: {why}")))?;
    let client_token = change.client_token.unwrap_or_else(|| shared.webhook().client_token);
    if client_token.is_empty() {
        return Err(Answer::invalid("clientToken: must not be empty"));
    }
    let webhook = Webhook { url: Some(url), client_token };
    let handshake = webhook::handshake(&shared.client, &webhook).await;
    handshake.map_err(|error| Answer::invalid(&format!("url: the webhook failed the handshake: {error:#}")))?;
    shared.set_webhook(webhook);
    done()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventsWanted {
    #[serde(default)]
    after: u64,
    wait: Option<Written>,
}

/// The events after a number; waits for one if there is none yet.
async fn read_events(
    State(shared): State<Arc<Shared>>,
    wanted: Result<Query<EventsWanted>, QueryRejection>,
) -> Outcome {
    let Query(EventsWanted { after, wait }) = wanted?;
    let wait = wait.map_or(Duration::ZERO, |Written(wait)| wait.min(WAIT_LONGEST));
    let mut published = shared.with(|world, _| world.feed.watch());
    let read = || shared.with(|world, _| world.feed.after(after, EVENTS_MOST));
    let first_event = async {
        loop {
            let events = read();
            // The sender lives as long as the world, so an error only ends the wait early.
            if !events.is_empty() || published.changed().await.is_err() {
                return events;
            }
        }
    };
    let events = match tokio::time::timeout(wait, first_event).await {
        Ok(events) => events,
        Err(_) => read(),
    };
    let client_token = shared.webhook().client_token;
    let next = events.last().map_or(after, |event| event.number);
    let events: Vec<Value> = events.iter().map(|event| pulled(event, &client_token)).collect();
    json(&json!({"events": events, "next": next}))
}

/// An event with all that is needed to forward it to a webhook: the body and the signature.
fn pulled(event: &Published, client_token: &str) -> Value {
    json!({
        "number": event.number,
        "envelope": event.envelope(),
        "signature": feed::sign(client_token, &event.data),
        "event": serde_json::from_slice::<Value>(&event.data).unwrap_or_default(),
    })
}

/// Publishes any payload as an event: a user's message, an `UNSUBSCRIBE`, a type that doesn't exist yet.
async fn push_event(State(shared): State<Arc<Shared>>, bytes: Bytes) -> Outcome {
    let _: Map<String, Value> = body(&bytes)?;
    shared.with(|world, now| world.publish(uuid::Uuid::from_u128(fastrand::u128(..)).to_string(), bytes.into(), now));
    done()
}

/// Puts a message into the queue of its handset, as a create does, and outside of any pace.
async fn send_message(State(shared): State<Arc<Shared>>, bytes: Bytes) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Sent {
        agent_id: String,
        phone: String,
        message_id: String,
        ttl: Option<Written>,
    }
    let Sent { agent_id, phone, message_id, ttl } = body(&bytes)?;
    let phone = checked_phone(phone).map_err(|why| Answer::invalid(&why))?;
    let ttl = ttl.map(|Written(ttl)| ttl);
    shared.send(agent_id.strip_suffix(AGENT_DOMAIN).unwrap_or(&agent_id), &phone, &message_id, ttl);
    done()
}

async fn read_books(State(shared): State<Arc<Shared>>) -> Outcome {
    let messages = shared.with(|world, _| world.books());
    json(&json!({"messages": messages}))
}

async fn read_book(State(shared): State<Arc<Shared>>, Path((agent, id)): Path<(String, String)>) -> Outcome {
    let agent = agent.strip_suffix(AGENT_DOMAIN).unwrap_or(&agent);
    let book = shared.with(|world, _| world.book(agent, &id));
    json(&book.ok_or_else(Answer::not_found)?)
}

async fn read_stats(State(shared): State<Arc<Shared>>) -> Outcome {
    json(&shared.with(|world, _| world.stats.clone()))
}

async fn reset(State(shared): State<Arc<Shared>>) -> Outcome {
    shared.with(|world, _| world.reset());
    done()
}
