//! The sandbox's promises, tried over real HTTP as an agent and a daemon would.
//!
//! Nothing here waits for time to pass: what is to come is waited for at the sandbox's own event feed.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::{Method, Response};
use revoked::sandbox::{Behaviour, Chance, Fault, FaultKind, MessageBook, Options, Sandbox, State};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
};
use tokio_util::sync::{CancellationToken, DropGuard};

const PHONE: &str = "+15550100";
const SCOPE: &str = "https://www.googleapis.com/auth/rcsbusinessmessaging";

/// A sandbox, and a client that has bought a token from it.
struct Client {
    sandbox: Sandbox,
    http: reqwest::Client,
    bearer: String,
    _stop: DropGuard,
}

impl Client {
    async fn new(options: Options) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stop = CancellationToken::new();
        let sandbox = Sandbox::start(listener, options, stop.clone()).unwrap();
        let http = http().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let mut client = Client { sandbox, http, bearer: String::new(), _stop: stop.drop_guard() };
        client.renew().await;
        client
    }

    /// Buys a token as PLATFORM.md says: with the key file and nothing else.
    async fn renew(&mut self) {
        let key: Value = serde_json::from_slice(&std::fs::read(self.sandbox.key_path()).unwrap()).unwrap();
        let text = |name: &str| key[name].as_str().unwrap().to_owned();
        let iat = now().timestamp();
        let claims = json!({"iss": text("client_email"), "scope": SCOPE, "aud": text("token_uri"), "iat": iat,
            "exp": iat + 3600});
        let header = Header { kid: Some(text("private_key_id")), ..Header::new(Algorithm::RS256) };
        let signing = EncodingKey::from_rsa_pem(text("private_key").as_bytes()).unwrap();
        let assertion = jsonwebtoken::encode(&header, &claims, &signing).unwrap();
        let form = [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", &assertion)];
        let answer = self.http.post(text("token_uri")).form(&form).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let answer: Value = answer.json().await.unwrap();
        self.bearer = answer["access_token"].as_str().unwrap().to_owned();
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> reqwest::Result<Response> {
        let mut request = self.http.request(method, format!("{}{path}", self.sandbox.base_url()));
        if path.starts_with("/v1/") {
            request = request.bearer_auth(&self.bearer);
        }
        match body {
            Some(body) => request.json(&body).send().await,
            None => request.send().await,
        }
    }

    async fn create(&self, phone: &str, id: &str, body: Value) -> (u16, Value) {
        let path = format!("/v1/phones/{phone}/agentMessages?messageId={id}&agentId=shop");
        let answer = self.send(Method::POST, &path, Some(body)).await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn try_delete(&self, phone: &str, id: &str) -> reqwest::Result<Response> {
        let path = format!("/v1/phones/{phone}/agentMessages/{id}?agentId=shop&alt=json&prettyPrint=false");
        self.send(Method::DELETE, &path, None).await
    }

    async fn delete(&self, phone: &str, id: &str) -> (u16, Value) {
        let answer = self.try_delete(phone, id).await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// Gives an order to the sandbox.
    async fn order(&self, path: &str, body: Value) {
        let answer = self.send(Method::POST, path, Some(body)).await.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    }

    /// The events after a number, at least one.
    async fn events(&self, after: u64) -> Vec<Value> {
        let path = format!("/sandbox/events?after={after}&wait=8s");
        let answer: Value = self.send(Method::GET, &path, None).await.unwrap().json().await.unwrap();
        let events = answer["events"].as_array().unwrap().clone();
        assert!(!events.is_empty(), "no event came");
        events
    }

    fn book(&self, id: &str) -> MessageBook {
        self.sandbox.book("shop", id).unwrap()
    }
}

fn http() -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(Duration::from_secs(9))
}

#[expect(clippy::disallowed_methods, reason = "a client signs with the time of day")]
fn now() -> DateTime<Utc> {
    Utc::now()
}

fn offline() -> Options {
    Options { handsets: "offline=100".parse().unwrap(), ..Options::default() }
}

fn text() -> Value {
    json!({"contentMessage": {"text": "Your code is 1234"}, "messageTrafficType": "AUTHENTICATION"})
}

#[tokio::test]
async fn a_message_to_an_online_handset_is_delivered_with_a_signed_event() {
    let client = Client::new(Options { client_token: Some("SJENCPGJESMGUFPY".into()), ..Options::default() }).await;
    let (status, message) = client.create(PHONE, "m1", text()).await;
    assert_eq!((status, &message["name"]), (200, &json!(format!("phones/{PHONE}/agentMessages/m1"))));
    assert!(message["sendTime"].as_str().unwrap().parse::<DateTime<Utc>>().is_ok());
    assert_eq!(message["contentMessage"], text()["contentMessage"]);

    let event = client.events(0).await.remove(0);
    let data = STANDARD.decode(event["envelope"]["message"]["data"].as_str().unwrap()).unwrap();
    let signature = STANDARD.decode(event["signature"].as_str().unwrap()).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA512, b"SJENCPGJESMGUFPY");
    hmac::verify(&key, &data, &signature).expect("the signature is over the decoded data");
    let delivered: Value = serde_json::from_slice(&data).unwrap();
    assert_eq!(delivered["eventType"], "DELIVERED");
    assert_eq!(delivered["agentId"], "shop@rbm.goog");
    assert_eq!(delivered["senderPhoneNumber"], PHONE);
    assert_eq!(delivered["messageId"], "m1");

    assert_eq!(client.delete(PHONE, "m1").await.0, 404);
    assert_eq!(client.book("m1").state, State::Delivered);
}

#[tokio::test]
async fn a_queued_message_is_revoked_once_and_never_shown() {
    let client = Client::new(offline()).await;
    client.create(PHONE, "m1", text()).await;
    assert_eq!(client.delete("%2B15550100", "m1").await, (200, json!({})));
    let (status, again) = client.delete(PHONE, "m1").await;
    assert_eq!((status, &again["error"]["status"]), (404, &json!("NOT_FOUND")));
    assert_eq!(client.delete(PHONE, "never-sent").await.0, 404);
    client.order("/sandbox/handsets:connect", json!({"phone": PHONE})).await;
    let book = client.book("m1");
    assert_eq!((book.state, book.shown_at), (State::Revoked, None));
    assert_eq!(serde_json::to_value(&book).unwrap()["deleteRequests"][1]["answered"], 404);
}

#[tokio::test]
async fn a_message_can_be_put_into_the_queue_without_a_token_and_outside_of_any_pace() {
    let client = Client::new(Options { rate: Some(1), ..offline() }).await;
    for id in ["m1", "m2", "m3", "m3"] {
        let message = json!({"agentId": "shop@rbm.goog", "phone": PHONE, "messageId": id});
        client.order("/sandbox/messages", message).await;
    }
    assert_eq!(client.sandbox.stats().creates, 3, "an id that is used again creates nothing");
    assert_eq!(client.book("m3").state, State::Queued);
    assert_eq!(client.delete(PHONE, "m2").await, (200, json!({})));
}

#[tokio::test]
async fn an_id_that_is_used_again_is_answered_as_before_and_creates_nothing() {
    let client = Client::new(offline()).await;
    let (_, first) = client.create(PHONE, "m1", text()).await;
    assert_eq!(client.create(PHONE, "m1", json!({"contentMessage": {"text": "other"}})).await, (200, first));
    assert_eq!(client.sandbox.books().len(), 1);
}

#[tokio::test]
async fn a_compressed_body_is_read_as_some_client_libraries_send_it() {
    use std::io::Write as _;
    let client = Client::new(offline()).await;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text().to_string().as_bytes()).unwrap();
    let url = format!("{}/v1/phones/{PHONE}/agentMessages?messageId=m1&agentId=shop", client.sandbox.base_url());
    let request = client.http.post(url).bearer_auth(&client.bearer).header("content-encoding", "gzip");
    let answer: Value = request.body(gzip.finish().unwrap()).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["contentMessage"], text()["contentMessage"]);
}

#[tokio::test]
async fn a_lost_answer_means_done_and_the_next_one_is_404() {
    let client = Client::new(offline()).await;
    client.create(PHONE, "m1", text()).await;
    client.order("/sandbox/faults", json!({"kind": "loseAnswer", "messageId": "m1"})).await;
    assert!(client.try_delete(PHONE, "m1").await.is_err());
    assert_eq!(client.delete(PHONE, "m1").await.0, 404);
    let book = serde_json::to_value(client.book("m1")).unwrap();
    assert_eq!(book["state"], "revoked");
    assert_eq!(book["deleteRequests"][0]["answered"], "lost");
}

#[tokio::test]
async fn a_reset_means_nothing_was_done() {
    let client = Client::new(offline()).await;
    client.create(PHONE, "m1", text()).await;
    client.order("/sandbox/faults", json!({"kind": "reset"})).await;
    assert!(client.try_delete(PHONE, "m1").await.is_err());
    assert_eq!(client.book("m1").state, State::Queued);
    assert_eq!(client.delete(PHONE, "m1").await.0, 200);
}

#[tokio::test]
async fn ordered_answers_come_in_order_and_then_the_truth_again() {
    let client = Client::new(offline()).await;
    client.create(PHONE, "m1", text()).await;
    let orders = [
        (json!({"kind": "tooManyRequests", "retryAfter": 7}), 429, "RESOURCE_EXHAUSTED"),
        (json!({"kind": "serverError", "status": 500}), 500, "INTERNAL"),
        (json!({"kind": "serverError"}), 503, "UNAVAILABLE"),
        (json!({"kind": "unauthorized"}), 401, "UNAUTHENTICATED"),
        (json!({"kind": "forbidden"}), 403, "PERMISSION_DENIED"),
        (json!({"kind": "badRequest"}), 400, "INVALID_ARGUMENT"),
        (json!({"kind": "notFound"}), 404, "NOT_FOUND"),
    ];
    for (order, _, _) in &orders {
        client.order("/sandbox/faults", order.clone()).await;
    }
    for (order, status, name) in &orders {
        let answer = client.try_delete(PHONE, "m1").await.unwrap();
        assert_eq!(answer.status().as_u16(), *status, "{order}");
        let retry_after = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(retry_after.as_deref(), (*status == 429).then_some("7"));
        assert_eq!(answer.headers().contains_key("www-authenticate"), *status == 401);
        assert_eq!(answer.json::<Value>().await.unwrap()["error"]["status"], *name);
    }
    client.order("/sandbox/faults", json!({"kind": "redirect"})).await;
    assert_eq!(client.try_delete(PHONE, "m1").await.unwrap().status(), 302);
    client.order("/sandbox/faults", json!({"kind": "garbage"})).await;
    assert!(client.try_delete(PHONE, "m1").await.unwrap().json::<Value>().await.is_err());
    client.order("/sandbox/faults", json!({"kind": "hugeBody"})).await;
    let mut huge = client.try_delete(PHONE, "m1").await.unwrap();
    assert_eq!(huge.chunk().await.unwrap().unwrap()[0], b'{');
    drop(huge);
    assert_eq!(client.delete(PHONE, "m1").await.0, 200);
}

#[tokio::test]
async fn a_black_hole_never_answers_and_a_slow_answer_is_to_what_was_done_at_once() {
    let client = Client::new(offline()).await;
    client.create(PHONE, "m1", text()).await;
    for (order, kind, state) in [
        (json!({"kind": "blackHole"}), FaultKind::BlackHole, State::Queued),
        (json!({"kind": "slow", "delay": "1h"}), FaultKind::Slow, State::Revoked),
    ] {
        client.order("/sandbox/faults", order).await;
        // The fault has struck when it is counted; from then on the request only hangs.
        tokio::select! {
            answer = client.try_delete(PHONE, "m1") => panic!("{answer:?}"),
            () = client.sandbox.until(|stats| stats.faults.contains_key(&kind)) => {}
        }
        assert_eq!(client.book("m1").state, state);
    }
}

#[tokio::test]
async fn an_answer_that_is_held_is_to_what_was_done_at_once_and_leaves_when_it_is_let_go() {
    let client = Client::new(offline()).await;
    client.create(PHONE, "m1", text()).await;
    client.order("/sandbox/faults", json!({"kind": "hold"})).await;
    let held = client.try_delete(PHONE, "m1");
    let release = async {
        client.sandbox.until(|stats| stats.faults.contains_key(&FaultKind::Hold)).await;
        assert_eq!(client.book("m1").state, State::Revoked);
        client.order("/sandbox/answers:release", json!({})).await;
    };
    let (answer, ()) = tokio::join!(held, release);
    assert_eq!(answer.unwrap().status(), 200);
}

#[tokio::test]
async fn a_message_can_be_delivered_after_its_delete_was_answered_200() {
    let client = Client::new(offline()).await;
    client.create(PHONE, "m1", text()).await;
    client.order("/sandbox/faults", json!({"kind": "deliveredAfterRevoke", "delay": "1ms"})).await;
    assert_eq!(client.delete(PHONE, "m1").await.0, 200);
    assert_eq!(client.events(0).await[0]["event"]["eventType"], "DELIVERED");
    let book = client.book("m1");
    assert!(book.state == State::Delivered && book.shown_at > book.revoked_at, "{book:?}");
}

#[tokio::test]
async fn a_ttl_takes_the_message_back_and_says_so() {
    let client = Client::new(offline()).await;
    let (_, message) = client.create(PHONE, "m1", json!({"contentMessage": {"text": "x"}, "ttl": "0.05s"})).await;
    assert!(message["ttl"].is_null() && message["expireTime"].is_string(), "{message}");
    let event = client.events(0).await.remove(0);
    assert_eq!(event["event"]["eventType"], "TTL_EXPIRATION_REVOKED");
    assert_eq!(event["event"]["phoneNumber"], PHONE);
    assert_eq!(client.delete(PHONE, "m1").await.0, 404);
    assert_eq!(client.book("m1").state, State::Expired);
}

#[tokio::test]
async fn a_ttl_that_fails_leaves_the_message_to_be_revoked() {
    let client = Client::new(offline()).await;
    client.order("/sandbox/faults", json!({"kind": "ttlRevokeFailed"})).await;
    client.create(PHONE, "m1", json!({"ttl": "0.05s"})).await;
    assert_eq!(client.events(0).await[0]["event"]["eventType"], "TTL_EXPIRATION_REVOKE_FAILED");
    assert_eq!(client.delete(PHONE, "m1").await.0, 200);
}

#[tokio::test]
async fn what_create_cannot_take_is_refused() {
    let client = Client::new(offline()).await;
    let both = json!({"ttl": "10s", "expireTime": "2030-01-01T00:00:00Z"});
    for (phone, body) in [(PHONE, both), (PHONE, json!({"ttl": "1296001s"})), ("15550100", text()), ("+0", text())] {
        let (status, answer) = client.create(phone, "m1", body.clone()).await;
        assert_eq!((status, &answer["error"]["status"]), (400, &json!("INVALID_ARGUMENT")), "{phone} {body}");
    }
    for query in ["messageId=m1", "agentId=shop", "agentId=&messageId=m1"] {
        let path = format!("/v1/phones/{PHONE}/agentMessages?{query}");
        assert_eq!(client.send(Method::POST, &path, Some(text())).await.unwrap().status(), 400, "{query}");
    }
    assert!(client.sandbox.books().is_empty());
}

#[tokio::test]
async fn a_clients_other_basic_calls_work() {
    let client = Client::new(offline()).await;
    let path = format!("/v1/phones/{PHONE}/capabilities?requestId=r1&agentId=shop");
    let answer: Value = client.send(Method::GET, &path, None).await.unwrap().json().await.unwrap();
    assert!(answer["features"].as_array().unwrap().contains(&json!("REVOCATION")));
    let path = format!("/v1/phones/{PHONE}/agentEvents?eventId=e1&agentId=shop%40rbm.goog&%24alt=json");
    let typing = json!({"eventType": "IS_TYPING"});
    let answer: Value = client.send(Method::POST, &path, Some(typing)).await.unwrap().json().await.unwrap();
    assert_eq!(answer["eventType"], "IS_TYPING");
    assert_eq!(answer["name"], format!("phones/{PHONE}/agentEvents/e1"));
}

#[tokio::test]
async fn without_a_live_token_nothing_is_open() {
    let mut client = Client::new(offline()).await;
    client.create(PHONE, "m1", text()).await;
    client.order("/sandbox/tokens:expire", json!({})).await;
    let (status, answer) = client.delete(PHONE, "m1").await;
    assert_eq!((status, &answer["error"]["status"]), (401, &json!("UNAUTHENTICATED")));
    client.renew().await;
    assert_eq!(client.delete(PHONE, "m1").await.0, 200);
    assert_eq!(client.sandbox.stats().tokens_issued, 2);
}

#[tokio::test]
async fn handsets_come_back_on_their_own_and_when_they_are_told() {
    let client = Client::new(offline()).await;
    for (phone, id) in [("+15550101", "m1"), ("+15550102", "m2")] {
        client.create(phone, id, text()).await;
    }
    client.order("/sandbox/handsets", json!({"phone": "+15550101", "behaviour": "returns", "delay": "1ms"})).await;
    assert_eq!(client.events(0).await[0]["event"]["messageId"], "m1");
    client.order("/sandbox/handsets:connect", json!({"phone": "+15550102"})).await;
    assert_eq!(client.events(1).await[0]["event"]["messageId"], "m2");
    client.sandbox.set_handset("+15550103", Behaviour::Slow(Duration::from_millis(1)));
    client.create("+15550103", "m3", text()).await;
    assert_eq!(client.events(2).await[0]["event"]["messageId"], "m3");
}

#[tokio::test]
async fn an_early_event_is_out_when_create_answers_and_a_read_can_come_alone() {
    let slow = "slow=100".parse().unwrap();
    let options = Options { handsets: slow, early_events: 100.0, read_only: 100.0, ..Options::default() };
    let client = Client::new(options).await;
    client.create(PHONE, "m1", text()).await;
    let events = client.send(Method::GET, "/sandbox/events", None).await.unwrap().json::<Value>().await.unwrap();
    assert_eq!(events["events"][0]["event"]["eventType"], "READ");
}

#[tokio::test]
async fn a_rate_and_an_outage_hold_up_every_request() {
    let client = Client::new(Options { rate: Some(1), retry_after: Some("1".into()), ..offline() }).await;
    assert_eq!(client.create(PHONE, "m1", text()).await.0, 200);
    let limited = client.try_delete(PHONE, "m1").await.unwrap();
    assert_eq!((limited.status().as_u16(), limited.headers()["retry-after"].as_bytes()), (429, &b"1"[..]));
    client.order("/sandbox/outage", json!({"kind": "503"})).await;
    assert_eq!(client.delete(PHONE, "m1").await.0, 503);
    client.order("/sandbox/outage", json!({"kind": "none"})).await;
    assert_ne!(client.delete(PHONE, "m1").await.0, 503);
}

#[tokio::test]
async fn chance_strikes_deletes_by_the_seed() {
    let fault = Fault { status: Some(500), ..FaultKind::ServerError.into() };
    let options = Options { faults: vec![Chance { fault, percent: 50.0 }], unknown_delete_ok: true, ..offline() };
    let mut runs = Vec::new();
    for _ in 0..2 {
        let client = Client::new(options.clone()).await;
        let mut run = Vec::new();
        for n in 0..20 {
            run.push(client.delete(PHONE, &format!("m{n}")).await.0);
        }
        runs.push(run);
    }
    assert_eq!(runs[0], runs[1]);
    assert!(runs[0].contains(&500) && runs[0].contains(&200), "{:?}", runs[0]);
}

#[tokio::test]
async fn a_wrong_order_is_refused_by_the_name_of_its_field() {
    let client = Client::new(offline()).await;
    for (path, body, field) in [
        ("/sandbox/faults", json!({"kind": "sneeze"}), "kind"),
        ("/sandbox/faults", json!({"kind": "reset", "count": "two"}), "count"),
        ("/sandbox/faults", json!({"kind": "reset", "status": 500}), "status"),
        ("/sandbox/faults", json!({"kind": "reset", "colour": "red"}), "colour"),
        ("/sandbox/handsets", json!({"behaviour": "online"}), "phone"),
        ("/sandbox/handsets", json!({"phone": "555", "behaviour": "online"}), "phone"),
        ("/sandbox/handsets", json!({"phone": PHONE, "behaviour": "slow", "delay": "soon"}), "delay"),
        ("/sandbox/handsets:connect", json!({"phone": 5}), "phone"),
        ("/sandbox/outage", json!({"kind": "total"}), "kind"),
        ("/sandbox/webhook", json!({"url": "ftp://x"}), "url"),
        ("/sandbox/webhook", json!({"url": "http://127.0.0.1:1/"}), "url"),
    ] {
        let answer = client.send(Method::POST, path, Some(body.clone())).await.unwrap();
        assert_eq!(answer.status(), 400, "{path} {body}");
        let answer: Value = answer.json().await.unwrap();
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(field), "{path} {body}: {message}");
    }
    let answer = client.send(Method::GET, "/sandbox/events?after=x", None).await.unwrap();
    assert_eq!(answer.status(), 400);
}

#[tokio::test]
async fn a_reset_of_the_books_keeps_the_readers_place() {
    let client = Client::new(Options::default()).await;
    client.create(PHONE, "m1", text()).await;
    client.events(0).await;
    client.order("/sandbox/reset", json!({})).await;
    assert!(client.sandbox.books().is_empty());
    client.create(PHONE, "m1", text()).await;
    assert_eq!(client.events(1).await[0]["number"], 2);
    client.order("/sandbox/events", json!({"senderPhoneNumber": PHONE, "eventType": "UNSUBSCRIBE"})).await;
    assert_eq!(client.events(2).await[0]["event"]["eventType"], "UNSUBSCRIBE");
}

/// A webhook of few words: answers the handshake, then each push with the next of the statuses (200 after the last),
/// and hands the pushes on.
async fn webhook(statuses: Vec<u16>) -> (String, UnboundedReceiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/rbm", listener.local_addr().unwrap());
    let (pushes, pushed) = unbounded_channel();
    let mut statuses = statuses.into_iter();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            let (head, body) = loop {
                stream.read_buf(&mut request).await.unwrap();
                let text = String::from_utf8(request.clone()).unwrap();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                if let Ok(body) = serde_json::from_str::<Value>(body) {
                    break (head.to_lowercase(), body);
                }
            };
            let (status, answer) = match body["secret"].as_str() {
                Some(secret) => (200, secret.to_owned()),
                None => (statuses.next().unwrap_or(200), String::new()),
            };
            let length = answer.len();
            let answer =
                format!("HTTP/1.1 {status} So\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{answer}");
            stream.write_all(answer.as_bytes()).await.unwrap();
            if body["secret"].is_null() {
                pushes.send((head, body)).unwrap();
            }
        }
    });
    (url, pushed)
}

#[tokio::test]
async fn a_webhook_gets_what_happened_before_and_again_what_it_refused() {
    let client = Client::new(Options::default()).await;
    client.create(PHONE, "m1", text()).await;
    let event = client.events(0).await.remove(0);
    let (url, mut pushed) = webhook(vec![500]).await;
    client.order("/sandbox/webhook", json!({"url": url, "clientToken": "SJENCPGJESMGUFPY"})).await;
    let (_, refused) = pushed.recv().await.unwrap();
    let (head, taken) = pushed.recv().await.unwrap();
    assert_eq!(refused, taken);
    assert_eq!(taken, event["envelope"]);
    let key = hmac::Key::new(hmac::HMAC_SHA512, b"SJENCPGJESMGUFPY");
    let data = STANDARD.decode(taken["message"]["data"].as_str().unwrap()).unwrap();
    let signature = STANDARD.encode(hmac::sign(&key, &data)).to_lowercase();
    assert!(head.contains(&format!("x-goog-signature: {signature}")), "{head}");
}

#[tokio::test]
async fn http2_without_tls_is_spoken_too() {
    let client = Client::new(offline()).await;
    let http2 = http().http2_prior_knowledge().build().unwrap();
    let url = format!("{}/v1/phones/{PHONE}/agentMessages/m1?agentId=shop", client.sandbox.base_url());
    let answer = http2.delete(&url).bearer_auth(&client.bearer).send().await.unwrap();
    assert_eq!((answer.version(), answer.status().as_u16()), (reqwest::Version::HTTP_2, 404));
    client.order("/sandbox/faults", json!({"kind": "loseAnswer"})).await;
    assert!(http2.delete(&url).bearer_auth(&client.bearer).send().await.is_err());
}
