//! Clients that mean harm, or are broken: others are served meanwhile, memory stays bounded, and each is told what is wrong.
//!
//! `REVOKED_HOSTILE=10000` makes the crowd as large as the issue of it; what each input leads to is printed (`--nocapture`).

use std::io::ErrorKind;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};

use crate::{
    daemon::soon,
    rig::{Rig, draft},
    webhook::{Door, TOKEN, delivered},
};

/// More than the daemon has places for, and few enough for every run.
const CROWD: usize = 1500;
/// What a crowd may cost at most: every place with a full buffer, and the larger bodies that are taken in at once.
const MEMORY_MAX: u64 = 400 << 20;

#[expect(clippy::print_stderr, reason = "what was measured is a result")]
fn told(line: &str) {
    eprintln!("{line}");
}

/// As many files as this process may have open, for it and for its children.
fn many_files() -> u64 {
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }).unwrap();
    hard.unwrap_or(u64::MAX)
}

/// A line of the daemon's `/proc/…/status`, in bytes.
fn memory(rig: &Rig, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", rig.daemon().id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

async fn connect(rig: &Rig) -> UnixStream {
    let path = rig.path("sock");
    // Where the queue is full, waits for it; one that does not block would be refused.
    let connecting = tokio::task::spawn_blocking(|| std::os::unix::net::UnixStream::connect(path));
    let stream = connecting.await.unwrap().unwrap();
    stream.set_nonblocking(true).unwrap();
    UnixStream::from_std(stream).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_says_nothing_or_half_of_it_shuts_out_nobody_and_costs_little() {
    let wanted = std::env::var("REVOKED_HOSTILE").map_or(CROWD, |crowd| crowd.parse().unwrap());
    let crowd = wanted.min(usize::try_from(many_files() / 2).unwrap());
    let rig = Rig::start().await;
    assert_eq!(rig.register(&draft("before", "promo")).await.0, 201);
    let before = memory(&rig, "VmRSS");
    let says: [Vec<u8>; 5] = [
        Vec::new(),
        b"GET /v1/status HTTP/1.1\r\nhost: x\r\nx-slow: ".to_vec(),
        format!("POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n{}", "[".repeat(100_000))
            .into(),
        format!("GET / HTTP/1.1\r\nhost: x\r\nx-flood: {}", "y".repeat(60_000)).into(),
        b"POST /v1/messages:batch HTTP/1.1\r\nhost: x\r\ncontent-length: 16000000\r\n\r\n{}\n".to_vec(),
    ];
    let mut all = Vec::new();
    for n in 0..crowd {
        let stream = connect(&rig).await;
        let _ = stream.try_write(&says[n % says.len()]);
        all.push(stream);
        if n % 100 == 99 {
            let (code, answer) = soon("an answer in the crowd", rig.register(&draft(&format!("m{n}"), "promo"))).await;
            assert_eq!(code, 201, "{answer}");
        }
    }
    let (now, peak) = (memory(&rig, "VmRSS"), memory(&rig, "VmHWM"));
    told(&format!(
        "{crowd} hostile connections: {} KiB before, {} KiB then, peak {} KiB",
        before >> 10,
        now >> 10,
        peak >> 10
    ));
    assert!(peak < before + MEMORY_MAX, "{peak} bytes at the peak, {before} before");
    rig.daemon().says("those that keep us waiting make room").await;
    // The first made room long ago, and is told by the end of its connection.
    let mut rest = Vec::new();
    let _ = soon("the end of the first", all[0].read_to_end(&mut rest)).await;
    assert_eq!(rest, b"", "it never asked anything");
    drop(all);
    assert_eq!(rig.get("/v1/status").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_strangers_do_not_keep_the_platforms_pushes_out() {
    let door = Door::open(&[TOKEN], "").await;
    let address = door.url.strip_prefix("http://").unwrap().split_once('/').unwrap().0.to_owned();
    door.rig.send("m1", "promo").await;
    let mut strangers = Vec::new();
    for n in 0..300 {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        if n % 2 == 0 {
            stream.write_all(b"POST /rbm HTTP/1.1\r\nhost: x\r\ncontent-length: 200000\r\n\r\n{").await.unwrap();
        }
        strangers.push(stream);
    }
    assert_eq!(soon("an answer", door.push(TOKEN, &delivered("m1"))).await.0, 200);
    let mut rest = Vec::new();
    let _ = soon("the end of the first", strangers[0].read_to_end(&mut rest)).await;
    let last = strangers.last().unwrap();
    assert_eq!(
        last.try_read(&mut [0; 1]).unwrap_err().kind(),
        ErrorKind::WouldBlock,
        "the last one still has its place"
    );
}

/// Says something, and tells the answer's status and all of it, up to the end of the connection.
async fn say(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> (u16, String) {
    // Who is refused early may not get rid of all of it.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = soon("an answer or the end", stream.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status =
        answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).map_or(0, |code| code.parse().unwrap());
    (status, answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_on_each_listener_gets_an_answer_or_the_end_and_leaves_no_trace() {
    let door = Door::open(&[TOKEN], "").await;
    let address = door.url.strip_prefix("http://").unwrap().split_once('/').unwrap().0.to_owned();
    let noise: Vec<u8> = (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let headers = "x: y\r\n".repeat(500);
    let long = "y".repeat(200_000);
    // The status on the API's socket, and on the webhook; 0 is the end without a word.
    let inputs: [(&str, Vec<u8>, u16, u16); 12] = [
        ("binary noise", noise, 400, 400),
        ("a TLS greeting", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), 400, 400),
        ("HTTP/2 at once", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), 0, 0),
        ("500 headers", format!("GET /v1/status HTTP/1.1\r\n{headers}\r\n").into(), 431, 431),
        ("a header of 200 kB", format!("GET /v1/status HTTP/1.1\r\nx: {long}\r\n\r\n").into(), 431, 431),
        ("a path of 200 kB", format!("GET /{long} HTTP/1.1\r\nhost: x\r\n\r\n").into(), 431, 431),
        ("no end of a length", b"POST /v1/messages HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n".to_vec(), 400, 400),
        ("two lengths", b"POST /v1/messages HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{".to_vec(), 400, 400),
        ("a broken chunk", b"POST /v1/messages HTTP/1.1\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_vec(), 400, 400),
        ("length and chunks", b"POST /v1/messages HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\nconnection: close\r\n\r\n0\r\n\r\n".to_vec(), 400, 400),
        ("NUL in the path", b"GET /v1/\0 HTTP/1.1\r\n\r\n".to_vec(), 400, 400),
        ("a path out of place", b"GET ../../etc/passwd HTTP/1.1\r\nconnection: close\r\n\r\n".to_vec(), 400, 400),
    ];
    let mut wrong = Vec::new();
    for (name, bytes, of_api, of_webhook) in inputs {
        let (code, answer) = say(connect(&door.rig).await, &bytes).await;
        told(&format!("{name}: API {code} {}", answer.lines().last().unwrap_or_default()));
        if code != of_api {
            wrong.push(format!("{name} on the API: {code}, expected {of_api}: {answer}"));
        }
        let (code, answer) = say(TcpStream::connect(&address).await.unwrap(), &bytes).await;
        told(&format!("{name}: webhook {code} {}", answer.lines().last().unwrap_or_default()));
        // TCP takes back an answer when what it answers was not read to its end.
        if code != of_webhook && !(code == 0 && bytes.len() > 60_000) {
            wrong.push(format!("{name} on the webhook: {code}, expected {of_webhook}: {answer}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // A body that never ends is cut short at the limit, with an answer.
    let head = "POST /v1/messages HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 3000000\r\n\r\n";
    let (code, answer) = say(connect(&door.rig).await, format!("{head}{}", "x".repeat(3_000_000)).as_bytes()).await;
    assert!(code == 400 && answer.contains("1048576 bytes"), "{answer}");
    let (code, answer) =
        say(TcpStream::connect(&address).await.unwrap(), format!("{head}{}", "x".repeat(3_000_000)).as_bytes()).await;
    assert!(code == 413 || code == 0, "{answer}");
    assert_eq!(door.rig.get("/v1/messages").await, (200, json!({"messages": []})));
}

#[tokio::test(flavor = "multi_thread")]
async fn json_at_its_limits_is_refused_by_the_name_of_its_field_or_comes_back_as_it_was() {
    let rig = Rig::start().await;
    let plain = draft("m1", "promo").to_string();
    let with = |more: &str| format!("{},{more}}}", &plain[..plain.len() - 1]).into_bytes();
    let deep = |depth: usize| format!("\"fallback\":{}1{}", "[".repeat(depth), "]".repeat(depth));
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("64 levels", with(&deep(64)), 201),
        ("65 levels", with(&deep(65)), 400),
        ("100000 levels where nobody looks", with(&deep(100_000).replace("fallback", "contentMessage")), 200),
        ("100000 levels from the start", "[".repeat(100_000).into(), 400),
        ("1e999", with("\"fallback\":1e999"), 200),
        ("an integer of 1000 digits", with(&format!("\"fallback\":{}", "9".repeat(1000))), 200),
        ("1e999 for a text", with("\"region\":1e999"), 400),
        ("a ttl of 1e999", with("\"ttl\":\"1e999s\""), 400),
        ("a ttl of 20 digits", with("\"ttl\":\"99999999999999999999s\""), 400),
        ("a ttl below zero", with("\"ttl\":\"-1s\""), 400),
        ("the year 99999", with("\"expireTime\":\"99999-01-01T00:00:00Z\""), 400),
        ("the year -1", with("\"sendTime\":\"-0001-01-01T00:00:00Z\""), 400),
        ("a key twice", with("\"messageId\":\"m2\""), 400),
        ("invalid UTF-8", [&with("\"tags\":[\"")[..plain.len() + 9], b"\xff\"]}"].concat(), 400),
        ("an overlong zero", [&with("\"tags\":[\"")[..plain.len() + 9], b"\xc0\x80\"]}"].concat(), 400),
        ("NUL in a tag", with("\"tags\":[\"\\u0000\"]"), 400),
        ("a raw NUL", with("\"tags\":[\"\0\"]"), 400),
        ("half a surrogate in a tag", with("\"tags\":[\"\\ud800\"]"), 400),
        ("half a surrogate in the fallback", with("\"fallback\":\"\\ud800\""), 400),
        ("a byte order mark", [b"\xef\xbb\xbf", plain.as_bytes()].concat(), 400),
        ("two objects", format!("{plain}{plain}").into(), 400),
        ("a thousand tags", with(&format!("\"tags\":{:?}", vec!["t"; 1000])), 400),
        ("a tag of 100 kB", with(&format!("\"tags\":[{:?}]", "t".repeat(100_000))), 400),
    ];
    for (name, body, expected) in cases {
        let (code, answer) = rig.post("/v1/messages", body).await;
        told(&format!("{name}: {code} {}", answer["error"]["message"].as_str().unwrap_or("taken")));
        assert_eq!(code, expected, "{name}: {answer}");
        assert!(code < 300 || !answer["error"]["message"].as_str().unwrap().is_empty(), "{name}: {answer}");
    }
    let text = rig.request("GET".parse().unwrap(), "/v1/messages/shop/m1").send().await.unwrap().text().await.unwrap();
    assert!(!text.contains("ud800"), "{text}");
}
