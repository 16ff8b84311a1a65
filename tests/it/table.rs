//! The table of what each piece of evidence does, row by row and trap by trap, over real HTTP: events by the socket and by the
//! webhook, in peace and with a `kill -9` between the evidence and the settlement.
//!
//! All rows of a run share a daemon. Each has an agent of its own, so that one that rests holds up no other. Nothing here is
//! a matter of speed: an answer that is to be out is held by the sandbox, and a settle window that is to be open lasts an
//! hour, until a restart with shorter ones ends it.

use std::{collections::BTreeSet, path::Path, time::Duration};

use futures_util::future::join_all;
use reqwest::Method;
use revoked::sandbox::Options;
use rstest::rstest;
use serde_json::{Value, json};

use crate::{
    daemon::PATIENCE,
    rig::{PHONE, Rig, deletes},
    webhook::{TOKEN, signed},
};

/// By which way events come in.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Door {
    Socket,
    Webhook,
}

/// What happens between the evidence and the settlement.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Between {
    /// Nothing: answers that are held are let go.
    Peace,
    /// The daemon is killed, and started anew.
    Kill9,
}

/// How far a message is when the evidence comes.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Stage {
    /// Not registered; that follows.
    Unknown,
    Pending,
    /// Everything that was ordered for its DELETEs has struck.
    Revoking,
    Settling,
    Settled,
}

/// A cell of the table.
struct Row {
    name: &'static str,
    use_case: &'static str,
    /// What its DELETEs meet, one after the other; those that follow are answered by what is true.
    faults: &'static [&'static str],
    stage: Stage,
    /// What comes in, and what is said to it: the effect of an event, the code of a request.
    evidence: &'static [(&'static str, &'static str)],
    /// Its state between the evidence and the kill.
    then: &'static str,
    /// What its agent is told, in order: kind, outcome and grant.
    told: &'static [&'static str],
    /// How its DELETEs were answered; 0 for not at all.
    deletes: &'static [u16],
    /// The same two after a kill, where it makes a difference.
    killed: Option<(&'static [&'static str], &'static [u16])>,
}

const GRANTED: &[&str] = &["SETTLED REVOKED OFFERED"];
const ARRIVED: &[&str] = &["SETTLED DELIVERED"];
const DOUBTED: &[&str] = &["SETTLED UNKNOWN OFFERED"];
/// An attempt that was out did its work, and nobody will ever say so.
const IN_DOUBT: Option<(&[&str], &[u16])> = Some((DOUBTED, &[200, 404]));

const fn row(name: &'static str, use_case: &'static str, faults: &'static [&'static str], stage: Stage) -> Row {
    Row { name, use_case, faults, stage, evidence: &[], then: "SETTLED", told: GRANTED, deletes: &[200], killed: None }
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // DELIVERED and READ.
    Row { evidence: &[("DELIVERED", "APPLIED"), ("DELIVERED", "DUPLICATE"), ("READ", "DUPLICATE"),
          ("TTL_EXPIRATION_REVOKED", "DUPLICATE")], told: ARRIVED, deletes: &[], ..row("delivered-pending", "brief", &[], Stage::Pending) },
    Row { evidence: &[("READ", "APPLIED"), ("DELIVERED", "DUPLICATE")], told: ARRIVED, deletes: &[],
          ..row("read-pending", "brief", &[], Stage::Pending) },
    Row { evidence: &[("DELIVERED", "APPLIED"), ("READ", "DUPLICATE")], then: "REVOKING", told: ARRIVED,
          ..row("delivered-revoking", "brief", &["hold"], Stage::Revoking) },
    Row { evidence: &[("READ", "APPLIED")], then: "REVOKING", told: ARRIVED, deletes: &[0, 200],
          ..row("read-revoking-again", "brief", &["reset", "hold"], Stage::Revoking) },
    Row { evidence: &[("DELIVERED", "APPLIED")], told: ARRIVED, deletes: &[403],
          ..row("delivered-resting", "brief", &["forbidden"], Stage::Revoking) },
    Row { evidence: &[("DELIVERED", "APPLIED")], told: ARRIVED,
          ..row("delivered-settling-revoked", "open", &[], Stage::Settling) },
    Row { evidence: &[("READ", "APPLIED"), ("DELIVERED", "DUPLICATE")], told: ARRIVED, deletes: &[404],
          ..row("read-settling-404", "open", &["notFound"], Stage::Settling) },
    Row { evidence: &[("DELIVERED", "APPLIED")], told: ARRIVED, deletes: &[0, 404],
          ..row("delivered-settling-unknown", "open", &["loseAnswer"], Stage::Settling) },
    Row { evidence: &[("DELIVERED", "APPLIED"), ("DELIVERED", "DUPLICATE")],
          told: &["SETTLED REVOKED OFFERED", "AMENDED DELIVERED WITHDRAWN"],
          ..row("delivered-settled-revoked", "prompt", &[], Stage::Settled) },
    Row { evidence: &[("READ", "APPLIED"), ("DELIVERED", "DUPLICATE")],
          told: &["SETTLED REVOKED OFFERED", "AMENDED DELIVERED WITHDRAWN"],
          ..row("read-settled-revoked", "prompt", &[], Stage::Settled) },
    Row { evidence: &[("ack", "200"), ("DELIVERED", "APPLIED"), ("READ", "DUPLICATE")],
          told: &["SETTLED REVOKED OFFERED", "AMENDED DELIVERED OFFERED"],
          ..row("delivered-settled-acked", "acked", &[], Stage::Settled) },
    Row { evidence: &[("DELIVERED", "APPLIED")], told: &["SETTLED UNKNOWN HELD", "AMENDED DELIVERED WITHDRAWN"],
          deletes: &[404, 404], ..row("delivered-settled-unknown", "asking", &["notFound", "notFound"], Stage::Settled) },
    Row { evidence: &[("ack", "200"), ("DELIVERED", "APPLIED")],
          told: &["SETTLED UNKNOWN OFFERED", "AMENDED DELIVERED OFFERED"], deletes: &[404, 404],
          ..row("delivered-settled-unknown-acked", "acked", &["notFound", "notFound"], Stage::Settled) },
    Row { evidence: &[("DELIVERED", "APPLIED")], told: &["SETTLED FAILED OFFERED", "AMENDED DELIVERED WITHDRAWN"],
          deletes: &[400], ..row("delivered-settled-failed", "prompt", &["badRequest"], Stage::Settled) },
    // The platform's own ttl took it.
    Row { evidence: &[("TTL_EXPIRATION_REVOKED", "APPLIED"), ("TTL_EXPIRATION_REVOKED", "DUPLICATE")],
          then: "SETTLING REVOKED", deletes: &[], ..row("ttl-pending", "open", &[], Stage::Pending) },
    Row { evidence: &[("TTL_EXPIRATION_REVOKED", "APPLIED")], then: "REVOKING",
          ..row("ttl-revoking", "brief", &["hold"], Stage::Revoking) },
    Row { evidence: &[("TTL_EXPIRATION_REVOKED", "APPLIED")], then: "SETTLING REVOKED", deletes: &[403],
          ..row("ttl-resting", "brief", &["forbidden"], Stage::Revoking) },
    Row { evidence: &[("TTL_EXPIRATION_REVOKED", "APPLIED")], then: "SETTLING REVOKED", deletes: &[404],
          ..row("ttl-settling-404", "open", &["notFound"], Stage::Settling) },
    Row { evidence: &[("TTL_EXPIRATION_REVOKED", "APPLIED")], then: "SETTLING REVOKED", deletes: &[0, 404],
          ..row("ttl-settling-unknown", "open", &["loseAnswer"], Stage::Settling) },
    Row { evidence: &[("TTL_EXPIRATION_REVOKED", "DUPLICATE")], then: "SETTLING REVOKED",
          ..row("ttl-settling-revoked", "open", &[], Stage::Settling) },
    Row { evidence: &[("TTL_EXPIRATION_REVOKED", "DUPLICATE")], ..row("ttl-settled", "prompt", &[], Stage::Settled) },
    Row { evidence: &[("TTL_EXPIRATION_REVOKED", "DUPLICATE")], told: DOUBTED, deletes: &[404, 404],
          ..row("ttl-settled-unknown", "prompt", &["notFound", "notFound"], Stage::Settled) },
    // It could not, or said something new.
    Row { evidence: &[("TTL_EXPIRATION_REVOKE_FAILED", "APPLIED")], then: "SETTLING REVOKED",
          ..row("ttl-failed-pending", "brief", &[], Stage::Pending) },
    Row { evidence: &[("TTL_SOMETHING_NEW", "APPLIED")], then: "REVOKING", killed: IN_DOUBT,
          ..row("ttl-strange-pending", "brief", &["hold"], Stage::Pending) },
    Row { evidence: &[("TTL_EXPIRATION_REVOKE_FAILED", "APPLIED"), ("TTL_EXPIRATION_REVOKE_FAILED", "DUPLICATE")],
          then: "REVOKING", killed: IN_DOUBT, ..row("ttl-failed-revoking", "brief", &["hold"], Stage::Revoking) },
    Row { evidence: &[("TTL_SOMETHING_NEW", "APPLIED"), ("TTL_SOMETHING_NEW", "DUPLICATE")],
          then: "REVOKING", killed: IN_DOUBT, ..row("ttl-strange-revoking", "brief", &["hold"], Stage::Revoking) },
    Row { evidence: &[("TTL_EXPIRATION_REVOKE_FAILED", "APPLIED")], then: "SETTLING PROBABLY_DELIVERED",
          deletes: &[404, 200], ..row("ttl-failed-settling", "open", &["notFound"], Stage::Settling) },
    Row { evidence: &[("TTL_SOMETHING_NEW", "APPLIED")], then: "SETTLING REVOKED",
          ..row("ttl-strange-settling", "open", &[], Stage::Settling) },
    Row { evidence: &[("TTL_EXPIRATION_REVOKE_FAILED", "DUPLICATE")],
          ..row("ttl-failed-settled", "prompt", &[], Stage::Settled) },
    Row { evidence: &[("TTL_SOMETHING_NEW", "DUPLICATE")], ..row("ttl-strange-settled", "prompt", &[], Stage::Settled) },
    // Its agent takes it back.
    Row { evidence: &[("withdraw", "200"), ("DELIVERED", "DUPLICATE")], told: &["SETTLED WITHDRAWN"], deletes: &[],
          ..row("withdraw-pending", "brief", &[], Stage::Pending) },
    Row { evidence: &[("withdraw", "409")], then: "REVOKING", killed: IN_DOUBT,
          ..row("withdraw-revoking", "brief", &["hold"], Stage::Revoking) },
    Row { evidence: &[("withdraw", "409")], then: "SETTLING REVOKED",
          ..row("withdraw-settling", "open", &[], Stage::Settling) },
    Row { evidence: &[("withdraw", "409")], ..row("withdraw-settled", "prompt", &[], Stage::Settled) },
    // What the platform answers: 200 …
    Row { then: "SETTLING REVOKED", ..row("200", "brief", &[], Stage::Pending) },
    // … 404 without a doubt: nothing comes, and it is looked at once more …
    Row { then: "SETTLING PROBABLY_DELIVERED", told: DOUBTED, deletes: &[404, 404],
          ..row("404-twice", "brief", &["notFound", "notFound"], Stage::Pending) },
    Row { then: "SETTLING PROBABLY_DELIVERED", deletes: &[404, 200],
          ..row("404-once", "brief", &["notFound"], Stage::Pending) },
    // … 404 after an answer that was lost (trap 1), and what is granted then (trap 5) …
    Row { then: "SETTLING UNKNOWN", told: DOUBTED, deletes: &[0, 404],
          ..row("lost-404-send", "brief", &["loseAnswer"], Stage::Pending) },
    Row { then: "SETTLING UNKNOWN", told: &["SETTLED UNKNOWN HELD"], deletes: &[0, 404],
          ..row("lost-404-hold", "hold", &["loseAnswer"], Stage::Pending) },
    Row { then: "SETTLING UNKNOWN", told: &["SETTLED UNKNOWN"], deletes: &[0, 404],
          ..row("lost-404-drop", "drop", &["loseAnswer"], Stage::Pending) },
    Row { then: "REVOKING", killed: IN_DOUBT, ..row("200-never-read", "brief", &["hold"], Stage::Revoking) },
    // … or after one that says nothing of what was done …
    Row { then: "SETTLING UNKNOWN", told: DOUBTED, deletes: &[503, 404],
          ..row("5xx-404", "brief", &["serverError", "notFound"], Stage::Pending) },
    Row { then: "SETTLING UNKNOWN", told: DOUBTED, deletes: &[0, 404],
          ..row("reset-404", "brief", &["reset", "notFound"], Stage::Pending) },
    // … nothing that says anything about the message …
    Row { then: "REVOKING", deletes: &[503, 200], killed: Some((DOUBTED, &[503, 200, 404])),
          ..row("5xx", "brief", &["serverError", "hold"], Stage::Revoking) },
    Row { then: "REVOKING", deletes: &[0, 200], killed: Some((DOUBTED, &[0, 200, 404])),
          ..row("reset", "brief", &["reset", "hold"], Stage::Revoking) },
    Row { then: "REVOKING", deletes: &[429, 200], ..row("429", "brief", &["tooManyRequests"], Stage::Revoking) },
    Row { then: "SETTLING REVOKED", deletes: &[401, 200], ..row("401-once", "brief", &["unauthorized"], Stage::Pending) },
    Row { then: "REVOKING", deletes: &[401, 401, 200],
          ..row("401-again", "brief", &["unauthorized", "unauthorized"], Stage::Revoking) },
    Row { then: "REVOKING", deletes: &[403, 200], ..row("403", "brief", &["forbidden"], Stage::Revoking) },
    // … and what ends it.
    Row { told: &["SETTLED FAILED HELD"], deletes: &[400], ..row("400", "hold", &["badRequest"], Stage::Settled) },
    Row { told: &["SETTLED FAILED HELD"], deletes: &[409],
          ..row("another-4xx", "hold", &["badRequest=409"], Stage::Settled) },
    Row { told: &["SETTLED FAILED OFFERED"], deletes: &[503],
          ..row("given-up", "hasty", &["serverError"], Stage::Settled) },
    // Trap 2: what is known before the registration.
    Row { evidence: &[("DELIVERED", "EARLY"), ("DELIVERED", "DUPLICATE")], then: "", told: ARRIVED, deletes: &[],
          ..row("delivered-early", "brief", &[], Stage::Unknown) },
    Row { evidence: &[("TTL_EXPIRATION_REVOKED", "EARLY"), ("READ", "EARLY")], then: "", told: ARRIVED, deletes: &[],
          ..row("read-early", "brief", &[], Stage::Unknown) },
    Row { evidence: &[("TTL_EXPIRATION_REVOKED", "EARLY")], then: "", deletes: &[],
          ..row("ttl-early", "brief", &[], Stage::Unknown) },
    // Trap 6: a revocation that is late, and an SMS that would be too late.
    Row { told: &["SETTLED REVOKED VOID"], ..row("too-late", "late", &["slow"], Stage::Settled) },
];

/// `brief` is the settle window of those that need no evidence while it is open, `open` that of the others.
fn configuration(tokens: &Path, brief: &str, open: &str) -> String {
    let use_case = |name: &str, settle: &str, more: &str| {
        format!("[use_cases.{name}]\nttl = \"10m\"\nmax_ttl = \"1h\"\nsettle = {settle:?}\n{more}\n")
    };
    let send = "on_unknown = \"send\"";
    let all = [
        use_case("brief", brief, send),
        use_case("open", open, send),
        use_case("prompt", "0s", send),
        use_case("acked", "0s", send),
        use_case("asking", "0s", "on_unknown = \"hold\""),
        use_case("hold", brief, "on_unknown = \"hold\""),
        use_case("drop", brief, "on_unknown = \"drop\""),
        use_case("hasty", brief, "on_unknown = \"send\"\ngive_up_after = \"1ms\""),
        use_case("late", "0s", "fallback_until = \"0s\""),
    ];
    format!("[webhook]\nlisten = \"127.0.0.1:0\"\nclient_token_files = [{tokens:?}]\n{}", all.concat())
}

/// A run: a daemon, and by which way it hears of what.
struct Run {
    rig: Rig,
    door: Door,
    webhook: String,
}

impl Row {
    /// What it is about comes after its deadline.
    fn is_due_by_itself(&self) -> bool {
        matches!(self.use_case, "hasty" | "late")
    }

    fn path(&self) -> String {
        format!("/v1/messages/{}/{}", self.name, self.name)
    }

    /// What is to be told, and how its DELETEs are to be answered.
    fn wanted(&self, between: Between) -> (&'static [&'static str], &'static [u16]) {
        self.killed.filter(|_| between == Between::Kill9).unwrap_or((self.told, self.deletes))
    }
}

impl Run {
    async fn register(&self, row: &Row) {
        let mut draft = json!({"agentId": row.name, "phone": PHONE, "messageId": row.name, "useCase": row.use_case});
        if row.is_due_by_itself() {
            draft["ttl"] = "0.3s".into();
        }
        let (code, message) = self.rig.register(&draft).await;
        assert_eq!(code, 201, "{}: {message}", row.name);
    }

    /// Brings its message to the stage that the row is about, and lets the evidence come.
    async fn first_half(&self, row: &Row, between: Between) {
        self.rig.sandbox.send(row.name, PHONE, row.name);
        for kind in row.faults {
            let (kind, status) = kind.split_once('=').unwrap_or((kind, ""));
            let mut fault = json!({"kind": kind, "agentId": row.name});
            if let Ok(status) = status.parse::<u16>() {
                fault["status"] = status.into();
            }
            if kind == "tooManyRequests" {
                // The rest is over soon, or at a kill, whichever it is to be.
                fault["retryAfter"] = if between == Between::Kill9 { 3600 } else { 1 }.into();
            }
            self.rig.order("faults", fault).await;
        }
        if row.stage != Stage::Unknown {
            self.register(row).await;
            let waits = row.stage == Stage::Pending && !row.evidence.is_empty();
            if !waits && !row.is_due_by_itself() {
                assert_eq!(self.rig.post(&format!("{}:revoke", row.path()), "").await.0, 200, "{}", row.name);
            }
        }
        match row.stage {
            Stage::Unknown | Stage::Pending => {}
            Stage::Revoking => self.has_struck(row).await,
            Stage::Settling => self.becomes(row, "SETTLING").await,
            Stage::Settled => self.becomes(row, "SETTLED").await,
        }
        for (what, said) in row.evidence {
            self.hears(row, what, said).await;
        }
        if row.faults.contains(&"hold") {
            self.has_struck(row).await;
        }
        if between == Between::Kill9 && row.stage != Stage::Unknown {
            self.becomes(row, row.then).await;
        }
    }

    /// Waits until everything that was ordered for its DELETEs has struck.
    async fn has_struck(&self, row: &Row) {
        let struck = async || deletes(&self.rig.sandbox.book(row.name, row.name).unwrap()).len();
        until(row.name, "DELETEs", struck, |count| *count == row.faults.len()).await;
    }

    /// Waits until its state is the one that these words begin.
    async fn becomes(&self, row: &Row, words: &str) {
        let state = async || {
            let message = self.rig.get(&row.path()).await.1;
            let word = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
            format!("{} {}", word("state"), word("belief"))
        };
        until(row.name, words, state, |state| state.starts_with(words)).await;
    }

    /// Lets something come in. What an event did is told by the socket only; the webhook answers 200 to all that is authentic.
    async fn hears(&self, row: &Row, what: &str, said: &str) {
        let answer = match what {
            "withdraw" => self.rig.request(Method::POST, &format!("{}:withdraw", row.path())),
            "ack" => {
                let cursor = self.rig.get("/v1/outcomes?after=0&pageSize=1000").await.1["nextCursor"].clone();
                let ack = json!({"cursor": cursor, "agentId": row.name});
                self.rig.request(Method::POST, "/v1/outcomes:ack").body(ack.to_string())
            }
            event => {
                let handset = if event.starts_with("TTL") { "phoneNumber" } else { "senderPhoneNumber" };
                let event = json!({handset: PHONE, "eventType": event, "eventId": "e", "messageId": row.name,
                    "agentId": format!("{}@rbm.goog", row.name)});
                let door = match self.door {
                    Door::Socket => self.rig.request(Method::POST, "/v1/events"),
                    Door::Webhook => self.rig.plain.post(&self.webhook),
                };
                signed(door, TOKEN, &event.to_string())
            }
        };
        let answer = answer.send().await.unwrap();
        let code = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        match said.parse::<u16>() {
            Ok(wanted) => assert_eq!(code, wanted, "{}: {what}: {text}", row.name),
            Err(_) if self.door == Door::Webhook => {
                assert_eq!((code, text.as_str()), (200, ""), "{}: {what}", row.name);
            }
            Err(_) => {
                assert_eq!((code, text), (200, json!({"effect": said}).to_string()), "{}: {what}", row.name);
            }
        }
    }

    /// Everything that was told of a row's message.
    async fn told(&self, row: &Row) -> Vec<Value> {
        let path = format!("/v1/outcomes?after=0&pageSize=1000&agentId={}", row.name);
        self.rig.get(&path).await.1["outcomes"].as_array().unwrap().clone()
    }

    /// Waits until its message is through; one that comes only now is registered first.
    async fn second_half(&self, row: &Row, between: Between) {
        if row.stage == Stage::Unknown {
            self.register(row).await;
        }
        let wanted = row.wanted(between).0.len();
        until(row.name, "outcomes", async || self.told(row).await.len(), |count| *count >= wanted).await;
    }

    /// Ends all settle windows that are still open.
    async fn shorten(&mut self, tokens: &Path) {
        self.rig.configure("config.toml", "sock", "store", &configuration(tokens, "150ms", "150ms"));
        self.rig.restart().await;
    }
}

/// Asks again and again, for as long as there is patience, until the answer is as wanted.
async fn until<T: std::fmt::Debug>(name: &str, what: &str, ask: impl AsyncFn() -> T, wanted: impl Fn(&T) -> bool) {
    let mut last = None;
    let asking = async {
        while !wanted(last.insert(ask().await)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, asking).await.is_err() {
        panic!("{name}: waited for {what}, and have {last:?}");
    }
}

#[rstest]
#[tokio::test]
async fn every_row_and_every_trap_does_what_the_table_says(
    #[values(Door::Socket, Door::Webhook)] door: Door,
    #[values(Between::Peace, Between::Kill9)] between: Between,
) {
    let files = tempfile::tempdir().unwrap();
    let tokens = files.path().join("token");
    std::fs::write(&tokens, TOKEN).unwrap();
    let brief = if between == Between::Kill9 { "1h" } else { "150ms" };
    let rig = Rig::patient(Options::default(), &configuration(&tokens, brief, "1h")).await;
    let status = rig.get("/v1/status").await.1;
    let webhook = format!("http://{}/", status["webhook"]["address"].as_str().unwrap());
    let mut run = Run { rig, door, webhook };
    join_all(ROWS.iter().map(|row| run.first_half(row, between))).await;
    match between {
        Between::Peace => {
            run.rig.order("answers:release", Value::Null).await;
            let soon_through = ROWS.iter().filter(|row| row.use_case != "open");
            join_all(soon_through.map(|row| run.second_half(row, between))).await;
            run.rig.stop().await;
        }
        Between::Kill9 => run.rig.kill9().await,
    }
    run.shorten(&tokens).await;
    let late = ROWS.iter().filter(|row| between == Between::Kill9 || row.use_case == "open");
    join_all(late.map(|row| run.second_half(row, between))).await;
    for row in ROWS {
        let told = run.told(row).await;
        let (wanted, wanted_deletes) = row.wanted(between);
        assert_eq!(told.iter().map(words).collect::<Vec<_>>(), wanted, "{}: {told:?}", row.name);
        let book = run.rig.sandbox.book(row.name, row.name).unwrap();
        assert_eq!(deletes(&book), wanted_deletes, "{}", row.name);
        let grants: BTreeSet<_> = told.iter().filter_map(|one| one["grant"]["grantId"].as_str()).collect();
        assert!(grants.len() <= 1, "{}: {told:?}", row.name);
    }
    let report = run.rig.get("/v1/report?since=3600s").await.1["useCases"].clone();
    let duplicates = |use_case: &str| report[use_case]["grants"]["duplicates"].clone();
    assert_eq!((duplicates("acked"), duplicates("prompt")), (json!(2), json!(0)), "{report}");
}

/// An outcome as the rows write it.
fn words(outcome: &Value) -> String {
    let words = [&outcome["kind"], &outcome["outcome"], &outcome["grant"]["state"]];
    words.into_iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
}
