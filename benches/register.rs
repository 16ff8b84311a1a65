//! Durable registrations over the socket: `cargo bench --bench register -- [--seconds N] [--json]`.
//!
//! The real daemon as a child on a temporary store, durability = disk, and 64 clients in this process, each with a connection of
//! its own: first one message per request, then register and delivered in pairs, then batches of 1,000 lines.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use revoked::clock;
use revoked::sandbox::{Options, Sandbox};
use tokio::net::{TcpListener, UnixStream};
use tokio_util::sync::CancellationToken;

const CLIENTS: usize = 64;
const BATCH: usize = 1000;

struct Client(SendRequest<Full<Bytes>>);

impl Client {
    async fn connect(socket: &Path) -> anyhow::Result<Self> {
        let (sender, connection) = handshake(TokioIo::new(UnixStream::connect(socket).await?)).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    async fn post(&mut self, path: &'static str, body: String) -> anyhow::Result<Bytes> {
        self.0.ready().await?;
        let request = hyper::Request::post(path).header("host", "localhost").body(Full::from(body))?;
        let answer = self.0.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        anyhow::ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
        Ok(body)
    }
}

fn registration(client: usize, number: u64) -> String {
    format!(
        r#"{{"agentId":"bench","phone":"+1222{:07}","messageId":"b-{client}-{number}","useCase":"otp"}}"#,
        number % 10_000_000
    )
}

fn delivered(client: usize, number: u64) -> String {
    format!(
        r#"{{"senderPhoneNumber":"+1222{:07}","eventType":"DELIVERED","eventId":"e","messageId":"b-{client}-{number}","agentId":"bench@rbm.goog"}}"#,
        number % 10_000_000
    )
}

#[derive(Clone, Copy)]
enum Load {
    Single,
    Pairs,
    Batches,
}

impl Load {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Single, "one by one"), (Self::Pairs, "register + delivered"), (Self::Batches, "batches of 1000")];
}

/// One client's work until `end`. Returns how many messages were registered, and the times of the answers in microseconds.
async fn work(socket: &Path, load: Load, client: usize, end: Duration) -> anyhow::Result<(u64, Histogram<u64>)> {
    let mut connection = Client::connect(socket).await?;
    let mut times = Histogram::new(3)?;
    let mut done = 0;
    let base = load as u64 * 1_000_000_000;
    while clock::now().mono < end {
        let before = clock::now().mono;
        let number = base + done;
        match load {
            Load::Single => drop(connection.post("/v1/messages", registration(client, number)).await?),
            Load::Pairs => {
                connection.post("/v1/messages", registration(client, number)).await?;
                connection.post("/v1/events", delivered(client, number)).await?;
            }
            Load::Batches => {
                let lines: Vec<_> = (0..BATCH as u64).map(|line| registration(client, number + line)).collect();
                // A store that is behind refuses with 503: that is its back-pressure, and the time it takes counts.
                loop {
                    let answers = connection.post("/v1/messages:batch", lines.join("\n")).await?;
                    let code = |code: &[u8]| {
                        answers.split(|byte| *byte == b'\n').filter(|line| line.starts_with(code)).count()
                    };
                    match (code(b"{\"code\":201"), code(b"{\"code\":503")) {
                        (BATCH, _) => break,
                        (0, BATCH) => tokio::time::sleep(Duration::from_millis(20)).await,
                        (good, _) => anyhow::bail!("{good} of {BATCH} registered"),
                    }
                }
                done += BATCH as u64 - 1;
            }
        }
        done += 1;
        times.record(u64::try_from((clock::now().mono - before).as_micros())?)?;
    }
    Ok((done, times))
}

async fn run(seconds: u64, json: bool) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let stop = CancellationToken::new();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let options = Options { dir: Some(directory.path().join("key")), ..Options::default() };
    let sandbox = Sandbox::start(listener, options, stop.clone())?;
    let shown = directory.path().display();
    let config = format!(
        "[server]\nsocket = \"{shown}/sock\"\n[store]\npath = \"{shown}/store\"\n\
         [platform]\nendpoint = \"{}\"\ncredentials = \"{}\"\n[log]\nlevel = \"warn\"\n\
         [retention]\nsettled = \"10s\"\noutcomes = 100_000\n[use_cases.otp]\nttl = \"1h\"\n",
        sandbox.base_url(),
        sandbox.key_path().display()
    );
    std::fs::write(directory.path().join("config.toml"), config)?;
    let mut daemon = tokio::process::Command::new(env!("CARGO_BIN_EXE_revoked"))
        .args(["run", "--config"])
        .arg(directory.path().join("config.toml"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let socket = directory.path().join("sock");
    while UnixStream::connect(&socket).await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for (load, name) in Load::ALL {
        let clients = if matches!(load, Load::Batches) { 4 } else { CLIENTS };
        let start = clock::now().mono;
        let end = start + Duration::from_secs(seconds);
        let mut working = tokio::task::JoinSet::new();
        for client in 0..clients {
            let socket = socket.clone();
            working.spawn(async move { work(&socket, load, client, end).await });
        }
        let (mut done, mut times) = (0, Histogram::<u64>::new(3)?);
        while let Some(result) = working.join_next().await {
            let (count, its) = result??;
            done += count;
            times.add(its)?;
        }
        let rate = done as f64 / (clock::now().mono - start).as_secs_f64();
        let ms = |quantile| times.value_at_quantile(quantile) as f64 / 1000.0;
        let id = daemon.id().context("the daemon ended")?;
        let resident = resident_mib(id);
        if json {
            println!(
                "{{\"load\":\"{name}\",\"clients\":{clients},\"perSecond\":{rate:.0},\"p50Ms\":{:.2},\"p99Ms\":{:.2},\"rssMib\":{resident}}}",
                ms(0.5),
                ms(0.99)
            );
        } else {
            println!(
                "{name:<22} {clients:>3} clients {rate:>9.0}/s   p50 {:>7.2} ms   p99 {:>7.2} ms   daemon {resident} MiB",
                ms(0.5),
                ms(0.99)
            );
        }
    }
    daemon.kill().await?;
    stop.cancel();
    Ok(())
}

/// Resident memory of a process in MiB (proc(5)).
fn resident_mib(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// How often a second a small write to this disk can be made durable: what bounds a store without group commit.
fn fdatasync_rate(directory: &Path) -> anyhow::Result<f64> {
    use std::io::Write as _;
    let mut file = std::fs::File::create(directory.join("fdatasync"))?;
    let start = clock::now().mono;
    let mut count = 0.0;
    while clock::now().mono - start < Duration::from_secs(1) {
        file.write_all(&[0; 512])?;
        file.sync_data()?;
        count += 1.0;
    }
    Ok(count / (clock::now().mono - start).as_secs_f64())
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let json = arguments.iter().any(|argument| argument == "--json");
    let seconds = arguments.iter().skip_while(|argument| *argument != "--seconds").nth(1);
    let seconds = seconds.map_or(Ok(10), |seconds| seconds.parse())?;
    let directory = tempfile::tempdir()?;
    let cpus = std::thread::available_parallelism()?;
    let rate = fdatasync_rate(directory.path())?;
    if !json {
        println!(
            "{cpus} CPUs for daemon and load, durability = disk; the disk makes {rate:.0} small writes durable per second"
        );
    }
    tokio::runtime::Runtime::new()?.block_on(run(seconds, json))
}
