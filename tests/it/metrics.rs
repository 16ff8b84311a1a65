//! `GET /metrics`: what it counts, where it is found, and that the rules and the dashboard name nothing else.

use std::collections::BTreeSet;

use revoked::sandbox::Options;
use serde_json::json;

use crate::{
    rig::{AGENT, Rig, draft, parts},
    webhook::{Door, TOKEN},
};

/// What Prometheus would read.
async fn scrape(rig: &Rig) -> String {
    let response = rig.request(reqwest::Method::GET, "/metrics").send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    response.text().await.unwrap()
}

/// The value of a series.
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
}

/// All names that samples may have, and those that are declared.
fn names(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        names.insert(name.to_owned());
        if kind == "histogram" {
            names.extend(["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}")));
        }
    }
    names
}

#[tokio::test]
async fn what_happens_to_a_message_is_counted() {
    let mut rig = Rig::with(Options::default(), "[metrics]\nlisten = \"127.0.0.1:0\"\n").await;
    let before = scrape(&rig).await;
    assert_eq!(value(&before, "revoked_registrations_total{use_case=\"otp\"}"), 0.0, "a rate begins at nought");

    rig.send("m1", "otp").await;
    assert_eq!(rig.outcome().await["outcome"], "REVOKED");
    assert_eq!(rig.register(&draft("m1", "otp")).await.0, 200);
    assert_eq!(rig.register(&draft("m2", "nowhere")).await.0, 400);
    assert_eq!(rig.post("/v1/messages", "{").await.0, 400, "never seen by the engine");
    assert_eq!(rig.post("/v1/messages:batch", "{\n").await.0, 200, "its line has the 400");
    assert_eq!(rig.delivered("nobody").await, "EARLY");
    rig.send("m3", "promo").await;
    let (code, answer) = rig.post("/v1/reload", "").await;
    assert_eq!(code, 200, "{answer}");

    let text = scrape(&rig).await;
    let route = format!("agent=\"{AGENT}\",region=\"global\"");
    for (series, wanted) in [
        ("revoked_registrations_total{use_case=\"otp\"}", 1.0),
        ("revoked_registrations_repeated_total", 1.0),
        ("revoked_registrations_refused_total{reason=\"invalid\"}", 3.0),
        ("revoked_registrations_refused_total{reason=\"forbidden\"}", 0.0),
        ("revoked_messages{use_case=\"promo\",state=\"pending\"}", 1.0),
        ("revoked_messages{use_case=\"otp\",state=\"settled\"}", 1.0),
        ("revoked_outcomes_total{use_case=\"otp\",outcome=\"revoked\"}", 1.0),
        ("revoked_grants_total{use_case=\"otp\",state=\"offered\"}", 1.0),
        ("revoked_attempts_total{answer=\"200\"}", 1.0),
        ("revoked_attempts_total{answer=\"not_sent\"}", 0.0),
        ("revoked_attempt_duration_seconds_count", 1.0),
        ("revoked_lateness_seconds_count", 1.0),
        ("revoked_lateness_seconds_bucket{le=\"+Inf\"}", 1.0),
        ("revoked_evidence_total{kind=\"delivered\",effect=\"early\"}", 1.0),
        ("revoked_early_events", 1.0),
        ("revoked_rests_total{reason=\"forbidden\"}", 0.0),
        (&format!("revoked_route_resting{{{route},reason=\"unreachable\"}}"), 0.0),
        (&format!("revoked_route_pace{{{route}}}"), 200.0),
        ("revoked_config_last_reload_successful", 1.0),
        ("revoked_config_reloads_total{result=\"good\"}", 1.0),
        ("revoked_store_writable", 1.0),
    ] {
        assert_eq!(value(&text, series), wanted, "{series}");
    }
    for series in [
        "revoked_store_size_bytes",
        "revoked_store_young_bytes",
        "revoked_store_flush_duration_seconds_sum",
        "revoked_window_entries",
        "revoked_config_hash",
        "revoked_next_due_timestamp_seconds",
        "process_resident_memory_bytes",
    ] {
        assert!(value(&text, series) > 0.0, "{series}");
    }
    assert!(!text.contains(crate::rig::PHONE.trim_start_matches('+')), "a phone number");

    let log = rig.daemon().log();
    let address = log.lines().find(|line| line.contains("metrics are served")).unwrap();
    let address = address.rsplit_once("address=").unwrap().1;
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let get = |path: &str| client.get(format!("http://{address}{path}")).send();
    let response = get("/metrics").await.unwrap();
    assert_eq!(names(&response.text().await.unwrap()), names(&text), "the same where Prometheus looks");
    assert_eq!(get("/v1/status").await.unwrap().status(), 404, "and nothing else");

    let (_, status) = parts(rig.request(reqwest::Method::GET, "/v1/status").send().await.unwrap()).await;
    assert_eq!((&status["registered"], &status["deletes"]), (&json!(2), &json!(1)), "{status}");
    assert!(status["store"]["diskBytes"].as_u64() > Some(0) && status["store"]["flushes"]["count"].as_u64() > Some(0));
}

#[tokio::test]
async fn a_reload_that_fails_is_seen() {
    let rig = Rig::start().await;
    rig.configure("config.toml", "sock", "store", "[use_cases.broken]\n");
    assert_eq!(rig.post("/v1/reload", "").await.0, 400);
    let text = scrape(&rig).await;
    assert_eq!(value(&text, "revoked_config_last_reload_successful"), 0.0);
    assert_eq!(value(&text, "revoked_config_reloads_total{result=\"failed\"}"), 1.0);
}

/// Words of ours in a PromQL expression.
fn named(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("revoked_") || word.starts_with("process_"))
}

/// What an expression wants of the labels: that one of these names has the label, with one of these values if it says so.
/// What Prometheus itself adds is nobody's.
fn wanted(expression: &str) -> Vec<(Vec<&str>, &str, Option<&str>)> {
    let mut wanted = Vec::new();
    let mut rest = expression;
    while let Some((before, selector)) = rest.split_once('{') {
        let name = named(before).last().filter(|name| before.ends_with(name));
        let (matchers, after) = selector.split_once('}').unwrap();
        for matcher in matchers.split(',') {
            let (label, value) = matcher.split_once(['=', '!']).unwrap();
            let values = value.trim_start_matches(['=', '~']).trim_matches('"');
            wanted.extend(values.split('|').map(|value| (Vec::from_iter(name), label, Some(value))));
        }
        rest = after;
    }
    for by in expression.split("by (").skip(1) {
        let labels = by.split_once(')').unwrap().0.split(", ");
        wanted.extend(labels.map(|label| (named(expression).collect(), label, None)));
    }
    wanted.retain(|(_, label, _)| !["instance", "job"].contains(label));
    wanted
}

#[tokio::test]
async fn the_rules_and_the_dashboard_name_only_what_there_is() {
    let rules = include_str!("../../docs/prometheus/alerts.yml");
    let dashboard: serde_json::Value = serde_json::from_str(include_str!("../../docs/grafana/revoked.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array());
    let panels: Vec<_> = panels.flatten().map(|target| target["expr"].as_str().unwrap()).collect();
    for expression in &panels {
        assert!(named(expression).next().is_some(), "{expression} shows nothing of ours");
    }
    assert!(panels.len() > 10);

    // With everything that has series of its own.
    let hook = "[use_cases.promo.fallback]\ncommand = [\"/bin/true\"]\n";
    let door = Door::open(&[TOKEN], hook).await;
    door.rig.send("m1", "promo").await;
    let text = scrape(&door.rig).await;
    let samples: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();

    let rules: Vec<_> = rules.lines().filter(|line| named(line).next().is_some()).collect();
    let (mut names_used, names) = (BTreeSet::new(), names(&text));
    let mut labels_used = 0;
    for expression in panels.into_iter().chain(rules) {
        names_used.extend(named(expression));
        for (names, label, value) in wanted(expression) {
            labels_used += 1;
            let has = match value {
                Some(value) => format!("{label}=\"{value}\""),
                None => format!("{label}=\""),
            };
            let is_meant = |sample: &&&str| names.iter().any(|name| sample.starts_with(&format!("{name}{{")));
            let found = samples.iter().filter(is_meant).any(|sample| sample.contains(&has));
            assert!(found, "{expression}: no sample of {names:?} has {has}");
        }
    }
    assert!(names_used.len() > 20 && labels_used > 40, "{names_used:?}, {labels_used}");
    let unknown: Vec<_> = names_used.iter().filter(|name| !names.contains(**name)).collect();
    assert!(unknown.is_empty(), "in docs/, but not in /metrics: {unknown:?}");
}
