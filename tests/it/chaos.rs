//! Many messages, and everything going wrong at random that the sandbox can make go wrong: afterwards its books, the hook's
//! and the daemon's have to agree.
//!
//! In the suite a few seeds with some messages. Asked for as much as you like:
//!
//! ```text
//! REVOKED_CHAOS_SEEDS=20 REVOKED_CHAOS_MESSAGES=1000 cargo test --test it chaos
//! ```
//!
//! Every other seed kills the daemon on the way.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse as _, Response},
};
use chrono::{DateTime, TimeDelta, Utc};
use clap::ValueEnum as _;
use fastrand::Rng;
use futures_util::{StreamExt as _, stream};
use revoked::sandbox::{Answered, Chance, FaultKind, MessageBook, Options};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    rig::{Rig, time},
    webhook::TOKEN,
};

const TTL: &str = "700ms";
const SETTLE: TimeDelta = TimeDelta::milliseconds(400);
/// The daemon cuts its instants off to these; the sandbox does not.
const MILLISECOND: TimeDelta = TimeDelta::milliseconds(1);
/// So many that the rest of one holds up few: a 403 costs its agent five seconds.
const AGENTS: usize = 24;
/// How the truth is handled where it can't be known.
const USE_CASES: [&str; 3] = ["send", "hold", "drop"];

/// What a gateway for SMS saw: which keys for which message.
type Sms = Arc<Mutex<BTreeMap<String, Vec<(String, DateTime<Utc>)>>>>;

/// A gateway that often fails, also after it has sent the SMS.
async fn gateway(seed: u64) -> (String, Sms) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/sms", listener.local_addr().unwrap());
    let sms = Sms::default();
    let rng = Arc::new(Mutex::new(Rng::with_seed(seed)));
    let routes = axum::Router::new().fallback(send_sms).with_state((sms.clone(), rng));
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    (url, sms)
}

async fn send_sms(State((sms, rng)): State<(Sms, Arc<Mutex<Rng>>)>, headers: HeaderMap, body: Bytes) -> Response {
    let luck = rng.lock().unwrap().u8(..100);
    if luck < 5 {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if luck < 10 {
        return (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "1")]).into_response();
    }
    let granted: Value = serde_json::from_slice(&body).unwrap();
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    assert_eq!(granted["grantId"], key.as_str());
    let id = granted["messageId"].as_str().unwrap().to_owned();
    sms.lock().unwrap().entry(id).or_default().push((key, crate::rig::now()));
    match luck {
        10..18 => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        // Not within the hook's time.
        18..20 => std::future::pending().await,
        _ => StatusCode::OK.into_response(),
    }
}

/// All of it at chances that are drawn.
fn weather(rng: &mut Rng) -> Options {
    let mut percent = |most: f64| rng.f64() * most;
    let chance = |kind: FaultKind| {
        let most = match kind {
            // These cost everybody seconds.
            FaultKind::Forbidden | FaultKind::Unauthorized | FaultKind::HugeBody => 1.0,
            FaultKind::TtlRevokeFailed => 60.0,
            FaultKind::DeliveredAfterRevoke => 40.0,
            FaultKind::LoseAnswer => 15.0,
            _ => 3.0,
        };
        Chance { fault: kind.into(), percent: percent(most) }
    };
    let faults = FaultKind::value_variants().iter().copied().map(chance).collect();
    Options {
        handsets: "online=25,slow=25,offline=30,returns=20".parse().unwrap(),
        slow_delay: Duration::from_millis(700),
        returns_after: Duration::from_millis(1100),
        read: percent(50.0),
        read_only: percent(20.0),
        early_events: percent(50.0),
        events_lost: percent(15.0),
        events_duplicated: percent(30.0),
        events_delayed: percent(80.0),
        events_delay: Duration::from_millis(800),
        rate: Some(30),
        faults,
        client_token: Some(TOKEN.into()),
        ..Options::default()
    }
}

fn configuration(token: &std::path::Path, sms: &str) -> String {
    let use_case = |name: &str| {
        format!(
            "[use_cases.{name}]\nttl = {TTL:?}\nsettle = \"{}ms\"\non_unknown = {name:?}\ngive_up_after = \"1m\"\n\
             [use_cases.{name}.fallback]\nurl = {sms:?}\ntimeout = \"1s\"\n",
            SETTLE.num_milliseconds()
        )
    };
    let all = USE_CASES.map(use_case).concat();
    format!("[webhook]\nlisten = \"127.0.0.1:0\"\nclient_token_files = [{token:?}]\n{all}")
}

/// One message as an agent sends it.
struct Sent {
    id: String,
    agent: String,
    phone: String,
    use_case: &'static str,
    ttl: Option<&'static str>,
}

impl Sent {
    fn new(number: usize, rng: &mut Rng) -> Sent {
        let use_case = USE_CASES[rng.usize(..USE_CASES.len())];
        // Sooner than ours, and later.
        let ttl = [None, None, Some("0.4s"), Some("1.5s")][rng.usize(..4)];
        let agent = format!("agent-{}", rng.usize(..AGENTS));
        Sent { id: format!("m{number}"), agent, phone: format!("+1555{number:07}"), use_case, ttl }
    }

    /// Sends it, and registers it.
    async fn leaves(&self, rig: &Rig) {
        let mut order = json!({"agentId": self.agent, "phone": self.phone, "messageId": self.id});
        let draft = crate::rig::with(order.clone(), json!({"useCase": self.use_case}));
        if let Some(ttl) = self.ttl {
            order["ttl"] = ttl.into();
        }
        rig.order("messages", order).await;
        let answer = rig.request(reqwest::Method::POST, "/v1/messages").body(draft.to_string()).send().await.unwrap();
        // 200: the platform's event about it came first.
        assert!(matches!(answer.status().as_u16(), 200 | 201), "{answer:?}");
    }
}

/// Tells the sandbox where the webhook is now.
async fn connect(rig: &Rig) {
    let status = rig.get("/v1/status").await.1;
    let url = format!("http://{}/", status["webhook"]["address"].as_str().unwrap());
    rig.order("webhook", json!({"url": url, "clientToken": TOKEN})).await;
}

/// Waits until nothing is open any more, and nothing will happen: no message, no grant, no event.
async fn calm(rig: &Rig) {
    let open = async || {
        rig.sandbox.at_rest().await;
        let status = rig.get("/v1/status").await.1;
        let states = status["useCases"].as_object().unwrap().values();
        let open = states.flat_map(|states| states.as_object().unwrap()).filter(|(state, _)| *state != "SETTLED");
        let waiting = status["fallback"].as_object().unwrap().values().map(|hook| hook["waiting"].as_u64().unwrap());
        open.map(|(_, count)| count.as_u64().unwrap()).sum::<u64>() + waiting.sum::<u64>()
    };
    let calming = async {
        // Twice: what an event began while the first look was taken is open in the second one.
        while open().await > 0 || open().await > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let over = tokio::time::timeout(Duration::from_secs(120), calming).await;
    assert!(over.is_ok(), "still open: {}", rig.get("/v1/status").await.1);
}

/// Everything that was told of each message, in order.
async fn told(rig: &Rig) -> BTreeMap<String, Vec<Value>> {
    let (mut told, mut after): (BTreeMap<String, Vec<Value>>, _) = (BTreeMap::new(), "0".to_owned());
    loop {
        let page = rig.get(&format!("/v1/outcomes?after={after}&pageSize=1000")).await.1;
        let outcomes = page["outcomes"].as_array().unwrap();
        if outcomes.is_empty() {
            return told;
        }
        for outcome in outcomes {
            told.entry(outcome["messageId"].as_str().unwrap().into()).or_default().push(outcome.clone());
        }
        after = page["nextCursor"].as_str().unwrap().to_owned();
    }
}

/// Each message as the daemon has it.
async fn all_messages(rig: &Rig) -> BTreeMap<String, Value> {
    let (mut messages, mut page) = (BTreeMap::new(), String::new());
    loop {
        let listed = rig.get(&format!("/v1/messages?pageSize=1000{page}")).await.1;
        for message in listed["messages"].as_array().unwrap() {
            messages.insert(message["messageId"].as_str().unwrap().to_owned(), message.clone());
        }
        match listed["nextPageToken"].as_str() {
            Some(token) => page = format!("&pageToken={token}"),
            None => return messages,
        }
    }
}

/// The messages of which the platform told that they arrived.
async fn known_to_have_arrived(rig: &Rig) -> BTreeSet<String> {
    let (mut arrived, mut after) = (BTreeSet::new(), 0);
    loop {
        let url = format!("{}/sandbox/events?after={after}", rig.sandbox.base_url());
        let page = crate::rig::parts(rig.plain.get(url).send().await.unwrap()).await.1;
        let events = page["events"].as_array().unwrap();
        if events.is_empty() {
            return arrived;
        }
        let shown =
            events.iter().filter(|event| matches!(event["event"]["eventType"].as_str(), Some("DELIVERED" | "READ")));
        arrived.extend(shown.map(|event| event["event"]["messageId"].as_str().unwrap().to_owned()));
        after = page["next"].as_u64().unwrap();
    }
}

/// One message in all books.
struct Story<'a> {
    sent: &'a Sent,
    book: &'a MessageBook,
    /// As the daemon has it in the end.
    message: &'a Value,
    told: &'a [Value],
    sms: &'a [(String, DateTime<Utc>)],
    known_to_have_arrived: bool,
}

impl Story<'_> {
    fn last(&self) -> &str {
        self.told.last().unwrap()["outcome"].as_str().unwrap()
    }

    fn has(&self, kind: &str) -> bool {
        self.told.iter().any(|one| one["kind"] == kind)
    }

    /// Its grant was in that state at some time.
    fn was(&self, state: &str) -> bool {
        self.told.iter().any(|one| one["grant"]["state"] == state)
    }

    /// What it settled as, and its grant at that time.
    fn settled(&self) -> (&str, Option<&str>, DateTime<Utc>) {
        let first = &self.told[0];
        (first["outcome"].as_str().unwrap(), first["grant"]["state"].as_str(), time(&first["at"]))
    }

    /// Since when it is surely off the queue.
    fn gone_at(&self) -> Option<DateTime<Utc>> {
        let expired = self.book.expires_at.filter(|_| self.book.state == revoked::sandbox::State::Expired);
        self.book.revoked_at.or(expired)
    }

    /// DELETEs that count: not those that were to come again later, or go elsewhere.
    fn deletes(&self) -> u64 {
        let counts = |answered| !matches!(answered, Answered::Status(302 | 401 | 403 | 429));
        self.book.delete_requests.iter().filter(|request| counts(request.answered)).count() as u64
    }

    /// DELETEs that the daemon counts.
    fn attempts(&self) -> u64 {
        self.message["attempts"].as_u64().unwrap()
    }

    /// DELETEs of which it never had an answer. On a busy machine one may be given up before the sandbox has read it.
    fn unanswered(&self) -> u64 {
        let notes = self.message["trail"].as_array().unwrap().iter();
        notes.filter(|note| note["detail"].as_str().is_some_and(|detail| detail.starts_with("lost: no answer"))).count()
            as u64
    }

    /// What has to be true of it, whatever happened.
    fn check(&self, killed: bool) {
        let context = || format!("{:?}\n{:#}\n{:#?}\n{:?}", self.book, self.message, self.told, self.sms);
        let (attempts, deletes) = (self.attempts(), self.deletes());
        // What is out at a kill is not counted, but for one about which something was learnt meanwhile: that it is sent again later,
        // as a 429 says, nobody knows then.
        let out = u64::from(killed);
        assert!(attempts <= deletes + self.unanswered() + out, "{attempts} of {deletes} DELETEs: {}", context());
        assert!(attempts >= deletes || killed, "{attempts} of {deletes} DELETEs: {}", context());
        let count = |kind: &str| self.told.iter().filter(|one| one["kind"] == kind).count();
        assert_eq!(self.told[0]["kind"], "SETTLED", "{}", context());
        assert!(count("SETTLED") == 1 && count("AMENDED") <= 1 && count("TAKEN") <= 1, "{}", context());
        let keys: BTreeSet<_> = self.sms.iter().map(|(key, _)| key).collect();
        let ids: BTreeSet<_> = self.told.iter().filter_map(|one| one["grant"]["grantId"].as_str()).collect();
        assert!(keys.len() <= 1 && ids.len() <= 1, "more than one grant: {}", context());
        assert!(keys.is_empty() || keys.first().map(|key| key.as_str()) == ids.first().copied(), "{}", context());
        assert!(!self.has("TAKEN") || !keys.is_empty(), "taken by nobody: {}", context());
        // An SMS that no hook said it took: it was not asked again, since the message had arrived by then.
        let taken_back = self.message["grant"]["state"] == "WITHDRAWN" && self.known_to_have_arrived;
        assert!(keys.is_empty() || self.has("TAKEN") || taken_back, "sent and given up: {}", context());

        assert_eq!(self.last() == "DELIVERED", self.known_to_have_arrived, "{}", context());
        assert!(self.last() != "DELIVERED" || self.book.shown_at.is_some(), "{}", context());
        let (outcome, grant, at) = self.settled();
        assert!(outcome != "REVOKED" || self.gone_at().is_some(), "{}", context());
        let wanted = match (outcome, self.sent.use_case) {
            ("REVOKED", _) | ("UNKNOWN" | "FAILED", "send") => Some("OFFERED"),
            ("UNKNOWN" | "FAILED", "hold") => Some("HELD"),
            _ => None,
        };
        assert_eq!(grant, wanted, "{}", context());
        // Nothing is granted for what was on the handset then, unless the settle window was over, or nobody could know.
        if grant == Some("OFFERED") && self.book.shown_at.is_some_and(|shown| shown < at) && outcome == "REVOKED" {
            assert!(self.gone_at().is_some_and(|gone| gone + SETTLE <= at + MILLISECOND), "{}", context());
        }
        assert!(self.sms.iter().all(|(_, sent)| *sent + MILLISECOND >= at), "{}", context());
    }
}

async fn run(seed: u64, messages: usize) {
    let start = crate::rig::now();
    let mut rng = Rng::with_seed(seed);
    let (sms_url, sms) = gateway(rng.u64(..)).await;
    let files = tempfile::tempdir().unwrap();
    let token = files.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    let options = Options { seed, ..weather(&mut rng) };
    let mut rig = Rig::waiting("1s", options, &configuration(&token, &sms_url)).await;
    connect(&rig).await;
    let sent: Vec<Sent> = (0..messages).map(|number| Sent::new(number, &mut rng)).collect();
    let kills = seed.is_multiple_of(2);
    let (before, after) = sent.split_at(rng.usize(messages / 4..messages));
    stream::iter(before).for_each_concurrent(32, |one| one.leaves(&rig)).await;
    let outage = ["503", "429", "blackHole"][rng.usize(..3)];
    rig.order("outage", json!({"kind": outage})).await;
    tokio::time::sleep(Duration::from_millis(rng.u64(..300))).await;
    rig.order("outage", json!({"kind": "none"})).await;
    rig.order("tokens:expire", json!({})).await;
    rig.order("faults", json!({"kind": "serverError", "on": "token", "count": 2})).await;
    if kills {
        rig.kill9().await;
        rig.restart().await;
        connect(&rig).await;
    }
    stream::iter(after).for_each_concurrent(32, |one| one.leaves(&rig)).await;
    calm(&rig).await;

    let listed = all_messages(&rig).await;
    let (told, arrived, books) = (told(&rig).await, known_to_have_arrived(&rig).await, rig.sandbox.books());
    let sms = sms.lock().unwrap().clone();
    let books: BTreeMap<&str, &MessageBook> = books.iter().map(|book| (book.message_id.as_str(), book)).collect();
    let story = |sent| {
        let Sent { id, .. }: &Sent = sent;
        let message = listed.get(id).unwrap_or_else(|| panic!("{id} is gone"));
        let told = told.get(id).unwrap_or_else(|| panic!("nothing was told of {id}"));
        let sms = sms.get(id).map_or(&[][..], Vec::as_slice);
        Story { sent, book: books[id.as_str()], message, told, sms, known_to_have_arrived: arrived.contains(id) }
    };
    let stories: Vec<Story<'_>> = sent.iter().map(story).collect();
    stories.iter().for_each(|story| story.check(kills));

    let report = rig.get("/v1/report?since=86400s").await.1;
    for use_case in USE_CASES {
        let said = &report["useCases"][use_case];
        let mine: Vec<_> = stories.iter().filter(|story| story.sent.use_case == use_case).collect();
        let count = |is: &dyn Fn(&Story<'_>) -> bool| mine.iter().filter(|story| is(story)).count() as u64;
        let ends = |outcome: &'static str| count(&|story| story.last() == outcome);
        let grants = |state: &'static str| count(&|story| story.settled().1 == Some(state));
        let number = |key: &str| said.pointer(key).and_then(Value::as_u64).unwrap();
        let pairs = [
            ("/registered", mine.len() as u64),
            ("/revoked", ends("REVOKED")),
            ("/unknown", ends("UNKNOWN")),
            ("/failed", ends("FAILED")),
            ("/grants/offered", grants("OFFERED")),
            ("/grants/held", grants("HELD")),
            ("/grants/taken", count(&|story| story.has("TAKEN"))),
            ("/grants/withdrawn", count(&|story| story.was("WITHDRAWN"))),
            ("/grants/void", 0),
            ("/grants/duplicates", count(&|story| story.has("TAKEN") && story.known_to_have_arrived)),
        ];
        for (key, wanted) in pairs {
            assert_eq!(number(key), wanted, "{key} of {use_case}, seed {seed}: {said}");
        }
        let delivered = number("/deliveredInTime") + number("/deliveredLate");
        assert_eq!(
            delivered,
            count(&|story| story.known_to_have_arrived),
            "delivered of {use_case}, seed {seed}: {said}"
        );
        let attempts: u64 = mine.iter().map(|story| story.attempts()).sum();
        assert_eq!(number("/deletes"), attempts, "deletes of {use_case}, seed {seed}: {said}");
        if !kills {
            let raced = count(&|story| story.known_to_have_arrived && story.attempts() > 0);
            assert_eq!(number("/raced"), raced, "raced of {use_case}, seed {seed}: {said}");
            let avoided = count(&|story| story.attempts() == 0 && matches!(story.settled().0, "DELIVERED" | "REVOKED"));
            assert_eq!(number("/deletesAvoided"), avoided, "avoided of {use_case}, seed {seed}: {said}");
        }
    }
    let stats = rig.sandbox.stats();
    println!(
        "seed {seed}: {messages} messages in {} s, {} DELETEs, {} events ({} lost), {} faults, {} SMS for {} messages, {} duplicates",
        (crate::rig::now() - start).num_seconds(),
        stats.deletes,
        stats.events,
        stats.events_lost,
        stats.faults.values().sum::<u64>(),
        sms.values().map(Vec::len).sum::<usize>(),
        sms.len(),
        stories.iter().filter(|story| story.has("TAKEN") && story.known_to_have_arrived).count(),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_goes_wrong_there_is_one_sms_at_most_and_all_books_agree() {
    let number = |name, usual| std::env::var(name).map_or(usual, |value| value.parse().unwrap());
    let messages = usize::try_from(number("REVOKED_CHAOS_MESSAGES", 120)).unwrap();
    let first = number("REVOKED_CHAOS_SEED", 1);
    for seed in first..first + number("REVOKED_CHAOS_SEEDS", 2) {
        println!("seed {seed}");
        run(seed, messages).await;
    }
}
