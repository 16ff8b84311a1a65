//! What the store does on this machine: `cargo bench --bench store -- [--json] [--pending N] [--passed N] [--dir DIR]`.
//!
//! Every figure comes with its conditions, and the disk's own `fdatasync` rate stands beside them. Whoever registers looks
//! the message up first, as the engine does. Times after a kill come from a child that loads a store and is killed.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a benchmark reads clocks, and ends where it fails"
)]

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use revoked::model::*;
use revoked::store::{Change, SledStore, Store, StoreError, StoreOptions as Options, Ticket};

/// The daemon's own: memory is one of the figures.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LANE: LaneId = LaneId(1);

struct Args {
    json: bool,
    pending: u64,
    passed: u64,
    dir: PathBuf,
}

fn args() -> Args {
    let mut args = Args { json: false, pending: 1_000_000, passed: 4_000_000, dir: std::env::temp_dir() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--json" => args.json = true,
            "--pending" => args.pending = words.next().unwrap().parse().unwrap(),
            "--passed" => args.passed = words.next().unwrap().parse().unwrap(),
            "--dir" => args.dir = words.next().unwrap().into(),
            _ => {}
        }
    }
    args
}

/// Prints figures as they come.
struct Report {
    json: bool,
}

impl Report {
    fn say(&self, what: &str, value: f64, unit: &str, conditions: &str) {
        if self.json {
            let line = serde_json::json!({"what": what, "value": value, "unit": unit, "conditions": conditions});
            println!("{line}");
        } else {
            println!("{what:<34} {value:>12.1} {unit:<10} {conditions}");
        }
    }
}

/// The store's own, but for the megabytes in `REVOKED_BENCH_CACHE` and `REVOKED_BENCH_YOUNG`.
fn options() -> Options {
    let megabytes = |name| std::env::var(name).ok().map(|number: String| number.parse::<usize>().unwrap() << 20);
    let own = Options::default();
    Options {
        cache_bytes: megabytes("REVOKED_BENCH_CACHE").map_or(own.cache_bytes, |bytes| bytes as u64),
        young_bytes: megabytes("REVOKED_BENCH_YOUNG").unwrap_or(own.young_bytes),
        ..own
    }
}

/// A store with what it tells.
struct Bench {
    store: SledStore,
    durable: Receiver<Result<Ticket, StoreError>>,
    done: Ticket,
    seq: u64,
}

impl Bench {
    fn open(dir: &Path) -> Self {
        let (sender, durable) = channel();
        let (store, snapshot) = SledStore::open(dir, options(), move |t| drop(sender.send(t))).unwrap();
        let mut bench = Self { store, durable, done: 0, seq: snapshot.next_seq };
        if snapshot.lanes.is_empty() {
            let spec = LaneSpec {
                use_case: UseCase::new("otp").unwrap(),
                agent: agent(),
                region: Region::Europe,
                traffic_type: TrafficType::Authentication,
                pinned: None,
            };
            bench.append(&[Change::Lane(LANE, spec)]);
        }
        bench
    }

    /// Waits out a refusal, as the engine's clients would.
    fn append(&mut self, batch: &[Change]) -> Ticket {
        while self.store.writable().is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.store.append(batch.to_vec())
    }

    fn wait_for(&mut self, ticket: Ticket) {
        while self.done < ticket {
            self.done = self.durable.recv().unwrap().unwrap();
        }
    }

    fn register(&mut self) -> Record {
        let record = record(self.seq);
        self.seq += 1;
        assert!(self.store.find(&record.identity).unwrap().is_none());
        record
    }
}

fn agent() -> AgentId {
    AgentId::new("acme-alerts").unwrap()
}

fn put(record: Record) -> Change {
    Change::Put { from: None, record: Box::new(record) }
}

/// Spreads numbers so that ids look random and can be made again.
fn identity(seq: u64) -> Identity {
    let (a, b) = (seq.wrapping_mul(0x9e37_79b9_7f4a_7c15), seq.wrapping_mul(0xd6e8_feb8_6659_fd93));
    let id = format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        a >> 32,
        a >> 16 & 0xffff,
        a & 0xfff,
        b >> 52,
        b & 0xffff_ffff_ffff
    );
    Identity { agent: agent(), message_id: MessageId::new(&id).unwrap() }
}

fn record(seq: u64) -> Record {
    let now = Timestamp::from_millis(1_790_000_000_000 + seq.cast_signed() / 20);
    Record {
        identity: identity(seq),
        lane: LANE,
        seq,
        phone: Phone::from_digits(4_915_100_000_000 + seq),
        tags: Vec::new(),
        fallback: None,
        time_zone: None,
        registered_at: now,
        send_time: now,
        deadline: None,
        state: State::Pending,
        attempts: Attempts::default(),
        held: false,
        recall: None,
        seen: Seen::default(),
        grant: None,
        trail: vec![Note { at: now, what: What::Registered, detail: None }],
    }
}

fn percentile(times: &mut [Duration], share: f64) -> f64 {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6
}

fn disk_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir(dir).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
    let of =
        |path: PathBuf| if path.is_dir() { disk_bytes(&path) } else { path.metadata().map_or(0, |m| m.blocks() * 512) };
    entries.into_iter().map(|entry| of(entry.path())).sum()
}

fn rss_bytes() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
}

fn fdatasync(report: &Report, dir: &Path) {
    let path = dir.join("fdatasync");
    let mut file = File::create(&path).unwrap();
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(2) {
        file.write_all(&[7; 4096]).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    report.say("fdatasync", f64::from(count) / start.elapsed().as_secs_f64(), "/s", "4 KiB appended each");
    fs::remove_file(path).unwrap();
}

/// Registers in batches, with some of them on their way at a time.
fn register(report: &Report, dir: &Path, size: usize, outstanding: u64) {
    let mut bench = Bench::open(dir);
    let (start, mut count, mut sent, mut times) = (Instant::now(), 0, VecDeque::new(), Vec::new());
    while start.elapsed() < Duration::from_secs(5) {
        let batch: Vec<_> = (0..size).map(|_| put(bench.register())).collect();
        sent.push_back((bench.append(&batch), Instant::now()));
        count += size;
        while sent.len() as u64 >= outstanding {
            let (ticket, at) = sent.pop_front().unwrap();
            bench.wait_for(ticket);
            times.push(at.elapsed());
        }
    }
    bench.wait_for(bench.store.backlog().min(1) * sent.back().map_or(0, |(ticket, _)| *ticket));
    let rate = count as f64 / start.elapsed().as_secs_f64();
    let conditions = format!(
        "batches of {size}, {outstanding} on their way; durable after p50 {:.0} µs, p99 {:.0} µs",
        percentile(&mut times, 0.5),
        percentile(&mut times, 0.99)
    );
    report.say("register", rate, "records/s", &conditions);
}

fn load(bench: &mut Bench, records: u64) {
    let mut left = records;
    while left > 0 {
        let size = left.min(1000);
        let batch: Vec<_> = (0..size).map(|_| put(bench.register())).collect();
        let ticket = bench.append(&batch);
        bench.wait_for(ticket.saturating_sub(4));
        left -= size;
    }
    bench.wait_for(1);
}

/// Registers and settles, the settled being `lag` registrations old, while the pending stay.
fn churn(report: &Report, bench: &mut Bench, dir: &Path, passed: u64, lag: u64) {
    let (start, mut young, mut most) = (Instant::now(), VecDeque::new(), 0);
    let mut count = 0;
    while count < passed {
        let mut batch = Vec::with_capacity(128);
        for _ in 0..64 {
            let record = bench.register();
            young.push_back((record.identity.clone(), record.position()));
            batch.push(put(record));
            if young.len() as u64 > lag {
                let (identity, at) = young.pop_front().unwrap();
                assert!(bench.store.find(&identity).unwrap().is_some());
                batch.push(Change::Remove { identity, at });
            }
        }
        count += 64;
        let ticket = bench.append(&batch);
        bench.wait_for(ticket.saturating_sub(16));
        if count % 64_000 == 0 {
            most = most.max(disk_bytes(dir));
        }
    }
    let rate = count as f64 / start.elapsed().as_secs_f64();
    let conditions = format!("batches of 64 pairs, each settled {lag} registrations later, {passed} passed");
    report.say("register + settle", rate, "pairs/s", &conditions);
    report.say("disk at most", most as f64 / 1e6, "MB", "while that went on");
    let batch: Vec<_> = young.drain(..).map(|(identity, at)| Change::Remove { identity, at }).collect();
    let ticket = bench.append(&batch);
    bench.wait_for(ticket);
    report.say("disk afterwards", disk_bytes(dir) as f64 / 1e6, "MB", "");
    report.say("RSS", rss_bytes() / 1e6, "MB", "");
}

fn read(report: &Report, bench: &Bench, pending: u64) {
    for (what, base) in [("lookup, known", 1), ("lookup, unknown", 1 << 40)] {
        let mut times: Vec<Duration> = (0..20_000)
            .map(|n| {
                let identity = identity(base + n * 7_919 % pending);
                let start = Instant::now();
                bench.store.find(&identity).unwrap();
                start.elapsed()
            })
            .collect();
        let p99 = percentile(&mut times, 0.99);
        report.say(what, percentile(&mut times, 0.5), "µs (p50)", &format!("p99 {p99:.1} µs, {pending} pending"));
    }
    report.say("RSS after looking up", rss_bytes() / 1e6, "MB", "");
    for round in ["first", "second"] {
        let (start, mut after, mut count) = (Instant::now(), None, 0);
        while count < 100_000.min(pending) {
            let places = bench.store.places(LANE, Queue::Anchor, after, 1000).unwrap();
            after = places.last().copied();
            for place in &places {
                bench.store.at(&Position { lane: LANE, queue: Queue::Anchor, place: *place }).unwrap().unwrap();
            }
            count += places.len() as u64;
        }
        let rate = count as f64 / start.elapsed().as_secs_f64();
        report.say("due scan", rate, "records/s", &format!("the first {count} places and their records, {round} time"));
    }
}

/// A child that loads a store, says so, and waits to be killed.
fn child(dir: &Path, records: u64) {
    let mut bench = Bench::open(dir);
    load(&mut bench, records);
    println!("loaded {}", rss_bytes());
    std::thread::sleep(Duration::from_secs(3600));
}

fn load_and_kill(report: &Report, dir: &Path, records: u64) {
    let start = Instant::now();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("--child")
        .arg(dir)
        .arg(records.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let line = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    let rss: f64 = line.strip_prefix("loaded ").unwrap().parse().unwrap();
    let rate = records as f64 / start.elapsed().as_secs_f64();
    report.say("load", rate, "records/s", &format!("batches of 1000, 4 on their way, {records} in all"));
    report.say("RSS after loading", rss / 1e6, "MB", "");
    child.kill().unwrap();
    child.wait().unwrap();
    report.say("disk", disk_bytes(dir) as f64 / records as f64, "B/record", &format!("{records} pending"));
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    if let [_, flag, dir, records] = &words[..]
        && flag == "--child"
    {
        return child(Path::new(dir), records.parse().unwrap());
    }
    let args = args();
    let report = Report { json: args.json };
    let cores = std::thread::available_parallelism().unwrap().get();
    report.say("cores", cores as f64, "", "durable on disk, default options, plain pending records");
    fdatasync(&report, &args.dir);
    for (size, outstanding) in [(1, 1), (1, 64), (64, 1), (64, 8), (1000, 4)] {
        let dir = tempfile::tempdir_in(&args.dir).unwrap();
        register(&report, dir.path(), size, outstanding);
    }
    let dir = tempfile::tempdir_in(&args.dir).unwrap();
    load_and_kill(&report, dir.path(), args.pending);
    let start = Instant::now();
    let mut bench = Bench::open(dir.path());
    let opened = start.elapsed();
    let first = record(bench.seq);
    bench.seq += 1;
    let ticket = bench.append(&[put(first)]);
    bench.wait_for(ticket);
    let conditions =
        format!("{} pending, after kill -9; first record durable after {:?}", args.pending, start.elapsed());
    report.say("open", opened.as_secs_f64() * 1e3, "ms", &conditions);
    report.say("RSS after opening", rss_bytes() / 1e6, "MB", "");
    read(&report, &bench, args.pending);
    churn(&report, &mut bench, dir.path(), args.passed, 20_000);
}
