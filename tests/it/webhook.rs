//! The webhook: the platform's pushes taken in over TCP, and everything else turned away without a trace.

use std::{path::PathBuf, time::Duration};

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::{Certificate, Client, Method, RequestBuilder};
use revoked::sandbox::{Behaviour, Options};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    daemon::soon,
    rig::{AGENT, PHONE, Rig},
};

pub(crate) const TOKEN: &str = "SJENCPGJESMGUFPY";

/// A daemon with a webhook, and one who pushes to it.
pub(crate) struct Door {
    pub(crate) rig: Rig,
    pub(crate) url: String,
    files: TempDir,
    http: Client,
}

impl Door {
    /// With these client tokens, and more in `[webhook]`.
    pub(crate) async fn open(tokens: &[&str], more: &str) -> Door {
        let files = tempfile::tempdir().unwrap();
        let name = |number: usize| files.path().join(number.to_string());
        let paths: Vec<PathBuf> = (0..tokens.len()).map(name).collect();
        for (path, token) in paths.iter().zip(tokens) {
            std::fs::write(path, format!("{token}\n")).unwrap();
        }
        let more = format!("[webhook]\nlisten = \"127.0.0.1:0\"\nclient_token_files = {paths:?}\n{more}");
        let rig = Rig::with(Options::default(), &more).await;
        let http = Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let mut door = Door { rig, url: String::new(), files, http };
        door.find().await;
        door
    }

    /// Where it is now: the port is another one after each start.
    pub(crate) async fn find(&mut self) {
        let status = self.rig.get("/v1/status").await.1;
        self.url = format!("http://{}/rbm", status["webhook"]["address"].as_str().unwrap());
    }

    pub(crate) async fn counts(&self) -> Value {
        self.rig.get("/v1/status").await.1["webhook"].clone()
    }

    /// Posts anything, and tells the answer.
    pub(crate) async fn post(&self, body: impl Into<reqwest::Body>, signature: Option<&str>) -> (u16, String) {
        let request = self.http.post(&self.url).header("content-type", "application/json").body(body);
        let request = signature.into_iter().fold(request, |request, one| request.header("X-Goog-Signature", one));
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Pushes data as the platform does.
    pub(crate) async fn push(&self, token: &str, data: &str) -> (u16, String) {
        let answer = signed(self.http.post(&self.url), token, data).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn state(&self, id: &str) -> String {
        self.rig.message(id).await["state"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn sign(token: &str, data: &[u8]) -> String {
    BASE64_STANDARD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, token.as_bytes()), data))
}

pub(crate) fn envelope(data: &[u8]) -> String {
    json!({"message": {"data": BASE64_STANDARD.encode(data), "attributes": {}, "messageId": "9"}}).to_string()
}

/// A push of this data, as the platform makes it.
pub(crate) fn signed(to: RequestBuilder, token: &str, data: &str) -> RequestBuilder {
    let push = to.header("content-type", "application/json").header("x-goog-signature", sign(token, data.as_bytes()));
    push.body(envelope(data.as_bytes()))
}

pub(crate) fn delivered(id: &str) -> String {
    json!({"senderPhoneNumber": PHONE, "eventType": "DELIVERED", "eventId": "e", "messageId": id,
        "agentId": format!("{AGENT}@rbm.goog")})
    .to_string()
}

#[tokio::test]
async fn the_platform_sets_it_up_and_what_it_pushes_settles_messages() {
    let mut door = Door::open(&["another", TOKEN], "").await;
    let url = door.url.clone();
    // The sandbox keeps an address only if it passes the handshake.
    door.rig.order("webhook", json!({"url": url, "clientToken": TOKEN})).await;
    door.rig.send("m1", "promo").await;
    door.rig.handset(Behaviour::Online);
    let outcome = door.rig.outcome().await;
    assert_eq!((&outcome["messageId"], &outcome["outcome"]), (&json!("m1"), &json!("DELIVERED")), "{outcome}");
    door.rig.sandbox.until(|stats| stats.pushes == 1).await;
    assert_eq!(door.rig.sandbox.stats().pushes_failed, 0);
    let hello = json!({"clientToken": "stranger", "secret": "s"}).to_string();
    let (code, answer) = door.post(hello, None).await;
    assert!(code == 401 && !answer.contains("stranger"), "{code} {answer}");
    assert_eq!(door.post(json!({"clientToken": TOKEN, "secret": "s3"}).to_string(), None).await, (200, "s3".into()));
}

#[tokio::test]
async fn everything_authentic_is_answered_200_also_what_says_nothing_to_us() {
    let door = Door::open(&[TOKEN], "").await;
    let text = json!({"senderPhoneNumber": PHONE, "text": "hi", "messageId": "theirs", "agentId": AGENT}).to_string();
    let new =
        json!({"phoneNumber": PHONE, "eventType": "SOMETHING_NEW", "messageId": "m", "agentId": AGENT}).to_string();
    for data in [text.as_str(), &new, "not json", "", "[]", "\u{0}", &delivered("unknown")] {
        assert_eq!(door.push(TOKEN, data).await, (200, String::new()), "{data}");
    }
    assert_eq!((&door.counts().await["accepted"], &door.counts().await["refused"]), (&json!(7), &json!(0)));
}

#[tokio::test]
async fn what_is_not_authentic_or_no_push_gets_the_right_answer_and_leaves_no_trace() {
    let door = Door::open(&[TOKEN], "").await;
    door.rig.send("m1", "promo").await;
    let data = delivered("m1");
    let (body, good) = (envelope(data.as_bytes()), sign(TOKEN, data.as_bytes()));
    let other = sign(TOKEN, delivered("m2").as_bytes());
    let cases: [(String, Option<&str>, u16); 12] = [
        (body.clone(), None, 401),
        (body.clone(), Some(""), 401),
        (body.clone(), Some("not base64!"), 401),
        (body.clone(), Some(&other), 401),
        (body.clone(), Some(&good[4..]), 401),
        (body.replace("m1", "m2"), Some(&sign("stranger", data.as_bytes())), 401),
        // Of the socket's forms, the bare event is none of the platform's.
        (data.clone(), Some(&good), 400),
        (body.replace(&BASE64_STANDARD.encode(&data), "%%%"), Some(&good), 400),
        (body[..body.len() - 1].to_owned(), Some(&good), 400),
        ("{}".to_owned(), Some(&good), 400),
        (String::new(), None, 400),
        (format!("{}{body}", " ".repeat(300 * 1024)), Some(&good), 413),
    ];
    for (number, (body, signature, code)) in cases.into_iter().enumerate() {
        let (got, answer) = door.post(body, signature).await;
        assert_eq!(got, code, "case {number}: {answer}");
        assert!(!answer.contains(PHONE), "{answer}");
    }
    assert_eq!(door.http.get(&door.url).send().await.unwrap().status(), 405);
    assert_eq!(door.state("m1").await, "PENDING");
    let status = door.rig.get("/v1/status").await.1;
    assert_eq!((&status["earlyEvents"], &status["webhook"]["refused"]), (&json!(0), &json!(12)), "{status}");
    assert_eq!(door.push(TOKEN, &data).await.0, 200, "and the right one is taken all the same");
    assert_eq!(door.state("m1").await, "SETTLED");
}

#[tokio::test]
async fn a_push_that_never_ends_is_answered_408_and_let_go() {
    let door = Door::open(&[TOKEN], "").await;
    let address = door.url.strip_prefix("http://").unwrap().strip_suffix("/rbm").unwrap();
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{").await.unwrap();
    let mut answer = String::new();
    soon("the end of a slow push", slow.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn tokens_are_rotated_by_a_reload_of_the_same_configuration() {
    let door = Door::open(&["old", "new"], "").await;
    for (id, token) in [("m1", "old"), ("m2", "new")] {
        door.rig.send(id, "promo").await;
        assert_eq!(door.push(token, &delivered(id)).await.0, 200, "{token}");
        assert_eq!(door.state(id).await, "SETTLED");
    }
    std::fs::write(door.files.path().join("0"), "newest\n").unwrap();
    assert_eq!(door.push("newest", &delivered("m3")).await.0, 401);
    assert_eq!(door.rig.post("/v1/reload", "").await.0, 200);
    assert_eq!(door.push("old", &delivered("m3")).await.0, 401);
    assert_eq!(door.push("newest", &delivered("m3")).await.0, 200);
    // A token that anybody could guess is none, and changes nothing.
    std::fs::write(door.files.path().join("0"), "\n").unwrap();
    let (code, answer) = door.rig.post("/v1/reload", "").await;
    assert!(code == 400 && answer["error"]["message"].as_str().unwrap().contains("empty"), "{code} {answer}");
    assert_eq!(door.push("newest", &delivered("m3")).await.0, 200);
    assert_eq!(door.push("", &delivered("m3")).await.0, 401);
}

#[tokio::test]
async fn what_was_answered_200_survives_a_kill_right_after() {
    let mut door = Door::open(&[TOKEN], "").await;
    for round in 0..3 {
        let id = format!("m{round}");
        door.rig.send(&id, "promo").await;
        assert_eq!(door.push(TOKEN, &delivered(&id)).await.0, 200);
        door.rig.kill9().await;
        door.rig.restart().await;
        door.find().await;
        assert_eq!(door.rig.message(&id).await["outcome"], "DELIVERED");
    }
}

#[tokio::test]
async fn it_speaks_tls_and_takes_a_renewed_certificate_without_a_restart() {
    let files = tempfile::tempdir().unwrap();
    let (chain, key) = (files.path().join("chain.pem"), files.path().join("key.pem"));
    let renew = || {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(&chain, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let trusted = Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
        Client::builder().no_proxy().tls_certs_only([trusted]).timeout(Duration::from_secs(10)).build().unwrap()
    };
    let first = renew();
    let door = Door::open(&[TOKEN], &format!("tls_certificate = {chain:?}\ntls_key = {key:?}\n")).await;
    door.rig.send("m1", "promo").await;
    let url = door.url.replace("http://127.0.0.1", "https://localhost");
    let data = delivered("m1");
    let push = async |client: &Client| {
        let push = client.request(Method::POST, &url).header("x-goog-signature", sign(TOKEN, data.as_bytes()));
        push.body(envelope(data.as_bytes())).send().await.map(|answer| answer.status().as_u16())
    };
    assert_eq!(push(&first).await.unwrap(), 200);
    assert_eq!(door.state("m1").await, "SETTLED");
    let second = renew();
    assert!(push(&second).await.is_err(), "the old certificate is still in force");
    assert_eq!(door.rig.post("/v1/reload", "").await.0, 200);
    assert_eq!(push(&second).await.unwrap(), 200);
    let plain = door.http.post(door.url.as_str()).body("{}").send().await;
    assert!(plain.is_err(), "not without TLS");
}
