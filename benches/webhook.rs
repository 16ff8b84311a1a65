//! The webhook under load, and under attack: `cargo bench --bench webhook -- [--seconds N] [--bad N] [--json]`.
//!
//! The real daemon as a child, durability = disk, and 64 connections to its webhook: signed events, each about a message that
//! is registered, as fast as they are answered. Then N bad requests of five kinds, each of which has to get its own answer, and
//! after which the daemon must hold no more memory and know nothing that it did not know before.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hdrhistogram::Histogram;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use revoked::clock;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const CLIENTS: usize = 64;
/// Events of each client between two timings.
const ROUND: u64 = 500;
const TOKEN: &str = "SJENCPGJESMGUFPY";
const OVERSIZED: usize = 300 * 1024;

type Sender = SendRequest<Full<Bytes>>;

async fn connect(stream: impl hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static) -> anyhow::Result<Sender> {
    let (sender, connection) = handshake(stream).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn send(to: &mut Sender, path: &str, body: Bytes, signature: Option<&str>) -> anyhow::Result<(u16, Bytes)> {
    to.ready().await?;
    let request = hyper::Request::post(path).header("host", "localhost");
    let request = signature.into_iter().fold(request, |request, one| request.header("x-goog-signature", one));
    let answer = to.send_request(request.body(Full::from(body))?).await?;
    let status = answer.status().as_u16();
    Ok((status, answer.into_body().collect().await?.to_bytes()))
}

fn event(client: usize, number: u64) -> Vec<u8> {
    let phone = number % 10_000_000;
    format!(
        r#"{{"senderPhoneNumber":"+1222{phone:07}","eventType":"DELIVERED","eventId":"e-{client}-{number}","messageId":"b-{client}-{number}","agentId":"bench@rbm.goog"}}"#
    )
    .into_bytes()
}

fn envelope(data: &[u8]) -> Bytes {
    let data = BASE64_STANDARD.encode(data);
    format!(r#"{{"message":{{"data":"{data}","attributes":{{}},"messageId":"9"}},"subscription":"s"}}"#).into()
}

fn sign(data: &[u8]) -> String {
    BASE64_STANDARD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, TOKEN.as_bytes()), data))
}

/// An agent and the platform's pushes to it. Between rounds nobody waits for anybody.
struct Client {
    number: usize,
    agent: Sender,
    platform: Sender,
    signed: Vec<(Bytes, String)>,
    times: Histogram<u64>,
}

impl Client {
    async fn connect(socket: &Path, address: SocketAddr, number: usize) -> anyhow::Result<Self> {
        let agent = connect(TokioIo::new(UnixStream::connect(socket).await?)).await?;
        let platform = connect(TokioIo::new(TcpStream::connect(address).await?)).await?;
        Ok(Self { number, agent, platform, signed: Vec::new(), times: Histogram::new(3)? })
    }

    /// Registers what is pushed next.
    async fn register(mut self, round: u64) -> anyhow::Result<Self> {
        let (client, messages) = (self.number, round * ROUND..(round + 1) * ROUND);
        let line = |n: u64| {
            let phone = n % 10_000_000;
            format!(r#"{{"agentId":"bench","phone":"+1222{phone:07}","messageId":"b-{client}-{n}","useCase":"otp"}}"#)
        };
        let lines: Vec<_> = messages.clone().map(line).collect();
        let (code, answers) = send(&mut self.agent, "/v1/messages:batch", lines.join("\n").into(), None).await?;
        let taken = answers.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"{\"code\":201")).count();
        ensure!(code == 200 && taken == lines.len(), "{code}: {taken} of {ROUND} registered");
        let events = messages.map(|n| event(client, n));
        self.signed = events.map(|data| (envelope(&data), sign(&data))).collect();
        Ok(self)
    }

    async fn push(mut self, _: u64) -> anyhow::Result<Self> {
        for (body, signature) in std::mem::take(&mut self.signed) {
            let before = clock::now().mono;
            let (code, _) = send(&mut self.platform, "/rbm", body, Some(&signature)).await?;
            ensure!(code == 200, "answered {code}");
            self.times.record(u64::try_from((clock::now().mono - before).as_micros())?)?;
        }
        Ok(self)
    }
}

/// All of them at the same time; returns how long it took.
async fn all<F>(clients: &mut Vec<Client>, act: impl Fn(Client) -> F) -> anyhow::Result<Duration>
where
    F: Future<Output = anyhow::Result<Client>> + Send + 'static,
{
    let start = clock::now().mono;
    let mut working: JoinSet<_> = clients.drain(..).map(act).collect();
    while let Some(result) = working.join_next().await {
        clients.push(result??);
    }
    Ok(clock::now().mono - start)
}

#[derive(Clone, Copy, Debug)]
enum Bad {
    Malformed,
    Unsigned,
    WronglySigned,
    Oversized,
}

/// So many bad ones over one connection after the other; a server that turns down a body may close it.
async fn bother(address: SocketAddr, kind: Bad, count: u64) -> anyhow::Result<()> {
    let data = event(usize::MAX, 0);
    let (good, wrong) = (envelope(&data), sign(b"something else"));
    let (body, signature, wanted) = match kind {
        Bad::Malformed => (good.slice(..good.len() - 3), Some(sign(&data)), 400),
        Bad::Unsigned => (good, None, 401),
        Bad::WronglySigned => (good, Some(wrong), 401),
        Bad::Oversized => (Bytes::from(vec![b' '; OVERSIZED]), Some(sign(&data)), 413),
    };
    let mut sender = connect(TokioIo::new(TcpStream::connect(address).await?)).await?;
    for _ in 0..count {
        if sender.ready().await.is_err() {
            sender = connect(TokioIo::new(TcpStream::connect(address).await?)).await?;
        }
        let (code, _) = send(&mut sender, "/rbm", body.clone(), signature.as_deref()).await?;
        ensure!(code == wanted, "{kind:?} was answered {code}, not {wanted}");
    }
    Ok(())
}

/// A body that never ends: 408 once the time for it is over.
async fn dawdle(address: SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"POST /rbm HTTP/1.1\r\nhost: x\r\ncontent-length: 5000\r\n\r\n{\"message\":").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    ensure!(answer.starts_with("HTTP/1.1 408 "), "a slow one was answered {answer}");
    Ok(())
}

async fn status(socket: &Path) -> anyhow::Result<Value> {
    let mut sender = connect(TokioIo::new(UnixStream::connect(socket).await?)).await?;
    sender.ready().await?;
    let request = hyper::Request::get("/v1/status").header("host", "localhost").body(Full::default())?;
    let body = sender.send_request(request).await?.into_body().collect().await?.to_bytes();
    Ok(serde_json::from_slice(&body)?)
}

/// Resident memory of a process in KiB (proc(5)).
fn resident_kib(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

/// So many in all; one in twenty is slow. Returns how many there were.
async fn attack(address: SocketAddr, bad: u64) -> anyhow::Result<u64> {
    const EACH: u64 = 4;
    /// With the others fewer than one address may have connections, or the slowest would make room and hear nothing.
    const SLOW_AT_ONCE: usize = 200;
    let slow_ones = Arc::new(Semaphore::new(SLOW_AT_ONCE));
    let mut working = JoinSet::new();
    let (slow, kinds) = (bad / 20, [Bad::Malformed, Bad::Unsigned, Bad::WronglySigned, Bad::Oversized]);
    let one = (bad - slow) / (kinds.len() as u64 * EACH);
    for kind in kinds {
        for _ in 0..EACH {
            working.spawn(bother(address, kind, one));
        }
    }
    for _ in 0..slow {
        let slow_ones = Arc::clone(&slow_ones);
        working.spawn(async move {
            let _turn = slow_ones.acquire().await?;
            dawdle(address).await
        });
    }
    while let Some(result) = working.join_next().await {
        result??;
    }
    Ok(one * kinds.len() as u64 * EACH + slow)
}

async fn run(seconds: u64, bad: u64, json: bool) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("token"), TOKEN)?;
    let key = revoked::sandbox::Options { dir: Some(path("key")), ..Default::default() };
    let stop = tokio_util::sync::CancellationToken::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let sandbox = revoked::sandbox::Sandbox::start(listener, key, stop.clone())?;
    let shown = directory.path().display();
    let config = format!(
        "[server]\nsocket = \"{shown}/sock\"\n[store]\npath = \"{shown}/store\"\n\
         [platform]\nendpoint = \"{}\"\ncredentials = \"{}\"\n[log]\nlevel = \"error\"\n\
         [webhook]\nlisten = \"127.0.0.1:0\"\nclient_token_files = [\"{shown}/token\"]\n\
         [retention]\nsettled = \"10s\"\noutcomes = 100_000\n[use_cases.otp]\nttl = \"1h\"\n",
        sandbox.base_url(),
        sandbox.key_path().display()
    );
    std::fs::write(path("config.toml"), config)?;
    let mut daemon = tokio::process::Command::new(env!("CARGO_BIN_EXE_revoked"))
        .args(["run", "--config"])
        .arg(path("config.toml"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let socket = path("sock");
    while UnixStream::connect(&socket).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let address = status(&socket).await?["webhook"]["address"].as_str().context("no webhook")?.parse()?;

    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        clients.push(Client::connect(&socket, address, number).await?);
    }
    let mut busy = Duration::ZERO;
    for round in 0.. {
        all(&mut clients, |client| client.register(round)).await?;
        busy += all(&mut clients, |client| client.push(round)).await?;
        if busy.as_secs() >= seconds {
            break;
        }
    }
    let mut times = Histogram::<u64>::new(3)?;
    for client in clients.drain(..) {
        times.add(client.times)?;
    }
    let rate = times.len() as f64 / busy.as_secs_f64();
    let accepted = status(&socket).await?["webhook"]["accepted"].as_u64();
    ensure!(accepted == Some(times.len()), "{accepted:?} of {} were accepted", times.len());
    let ms = |quantile| times.value_at_quantile(quantile) as f64 / 1000.0;

    let id = daemon.id().context("the daemon ended")?;
    // What it takes to answer them at all is not what they leave behind.
    attack(address, bad / 4).await?;
    let (before, rss_before) = (status(&socket).await?, resident_kib(id));
    let start = clock::now().mono;
    let bad = attack(address, bad).await?;
    let took = (clock::now().mono - start).as_secs_f64();
    let (after, rss_after) = (status(&socket).await?, resident_kib(id));
    for field in ["/earlyEvents", "/useCases", "/lastCursor", "/webhook/accepted"] {
        // Settled messages are purged meanwhile; nothing else may move.
        let pick = |status: &Value| match field {
            "/useCases" => status.pointer("/useCases/otp/PENDING").cloned(),
            _ => status.pointer(field).cloned(),
        };
        ensure!(pick(&before) == pick(&after), "{field}: {:?} became {:?}", pick(&before), pick(&after));
    }
    let refused = |status: &Value| status.pointer("/webhook/refused").and_then(Value::as_u64).unwrap_or(0);
    ensure!(refused(&after) - refused(&before) == bad, "not all of them were refused");
    let grown = rss_after.cast_signed() - rss_before.cast_signed();
    if json {
        let line = json!({"eventsPerSecond": rate.round(), "p50Ms": ms(0.5), "p99Ms": ms(0.99), "events": times.len(),
            "bad": bad, "badSeconds": took, "rssKib": rss_after, "rssGrownKib": grown});
        println!("{line}");
    } else {
        println!(
            "{:>9.0} events/s durable, {} in all   p50 {:.2} ms   p99 {:.2} ms",
            rate,
            times.len(),
            ms(0.5),
            ms(0.99)
        );
        println!(
            "{:>9} bad requests in {took:.0} s, each with its own answer, nothing kept; daemon {} MiB, grown by {grown} KiB",
            bad,
            rss_after / 1024,
        );
    }
    daemon.kill().await?;
    stop.cancel();
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let json = arguments.iter().any(|argument| argument == "--json");
    let number = |name: &str, default: u64| {
        let given = arguments.iter().skip_while(|argument| *argument != name).nth(1);
        given.map_or(Ok(default), |given| given.parse())
    };
    let (seconds, bad) = (number("--seconds", 10)?, number("--bad", 10_000)?);
    tokio::runtime::Runtime::new()?.block_on(run(seconds, bad, json))
}
