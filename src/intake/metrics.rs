//! `GET /metrics`: how it goes, for Prometheus.
//!
//! Rendered from the engine's status when it is scraped: plain counters and what is known at that moment, nothing is read
//! for it. The number of series is bounded: use cases are those of the configuration, and of agents only the first
//! [`ROUTES_MAX`] have series of their own. No name here may change its meaning: the rules and the dashboard in `docs/`
//! use them, and so do those of others.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde::Serialize;

use super::access::Scope;
use super::api::{Answer, Shared};
use super::desk::Reloads;
use super::exposition::{Exposition, Family, Kind, seconds, unix};
use super::refused::Refused;
use super::wire::WebhookView;
use crate::config::Mode;
use crate::engine::{Counters, EvidenceEffect, EvidenceKind, RestReason, RouteStatus, StateKind, Status};
use crate::model::ledger::{Cell, Counts};
use crate::model::{self, Outcome, Timestamp, UseCase};
use crate::usage;

/// Agents and regions with series of their own, in the order of their first message; those beyond are told together.
const ROUTES_MAX: usize = 100;
/// What those beyond are told as.
const OTHER: &str = "(other)";

const STATES: [StateKind; 4] = [StateKind::Pending, StateKind::Revoking, StateKind::Settling, StateKind::Settled];
const EFFECTS: [EvidenceEffect; 4] =
    [EvidenceEffect::Applied, EvidenceEffect::Duplicate, EvidenceEffect::Early, EvidenceEffect::Ignored];
const GRANTS: [(Cell, &str); 5] = [
    (Cell::GRANT_OFFERED, "offered"),
    (Cell::GRANT_HELD, "held"),
    (Cell::GRANT_TAKEN, "taken"),
    (Cell::GRANT_WITHDRAWN, "withdrawn"),
    (Cell::GRANT_VOID, "void"),
];

/// Where rights count: they are about all agents.
pub(super) async fn on_the_socket(gate: State<Shared>, scope: Scope) -> Answer {
    scope.admit_all()?;
    metrics(gate).await
}

/// On a listener of its own, which is for nothing else.
pub(super) async fn metrics(State(gate): State<Shared>) -> Answer {
    let status = gate.engine.status(None).await?;
    let reloads = gate.reloads.borrow().clone();
    let webhook = gate.webhook.as_ref().map(|webhook| (webhook.view(), webhook.answers()));
    let mut all = Exposition::default();
    daemon(&mut all, &status, gate.mode, gate.started_at, &reloads);
    messages(&mut all, &status, &gate.refused);
    attempts(&mut all, &status);
    routes(&mut all, &status.routes);
    fallback(&mut all, &status);
    store(&mut all, &status);
    pushes(&mut all, webhook);
    process(&mut all, gate.started_at);
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], all.text()).into_response())
}

fn daemon(all: &mut Exposition, status: &Status, mode: Mode, started_at: Timestamp, reloads: &Reloads) {
    let version = env!("CARGO_PKG_VERSION");
    all.family("revoked_build_info", Kind::Gauge, "The version that runs.").sample(&[("version", &version)], 1);
    let shadow = u8::from(mode == Mode::Shadow);
    all.one("revoked_shadow_mode", Kind::Gauge, "Whether nothing is revoked: mode = \"shadow\".", shadow);
    let help = "Whether the last reload of the configuration was taken over; else the one before is in force.";
    all.one("revoked_config_last_reload_successful", Kind::Gauge, help, u8::from(reloads.successful));
    let help = "When the configuration was last read and found good.";
    let at = unix(reloads.good_at.unwrap_or(started_at));
    all.one("revoked_config_last_reload_success_timestamp_seconds", Kind::Gauge, help, at);
    // Twelve hex digits are 48 bits, which a double holds exactly.
    let hash = u64::from_str_radix(&status.config_hash, 16).unwrap_or(0);
    all.one("revoked_config_hash", Kind::Gauge, "The hash of the configuration in force, as a number.", hash);
    let mut family = all.family("revoked_config_reloads_total", Kind::Counter, "Reloads that were asked for.");
    family.sample(&[("result", &"good")], reloads.good);
    family.sample(&[("result", &"failed")], reloads.failed);
}

fn messages(all: &mut Exposition, status: &Status, refused: &Refused) {
    let Counters { booked, repeated, evidence, .. } = &status.counters;
    // Also those of which nothing was heard yet: a rate begins at nought.
    let use_cases: BTreeSet<&UseCase> = status.counts.keys().map(|(name, _)| name).chain(&status.use_cases).collect();
    let none = Counts::default();
    let books: BTreeMap<&UseCase, &Counts> =
        use_cases.iter().map(|name| (*name, booked.get(*name).unwrap_or(&none))).collect();

    let mut family = all.family("revoked_messages", Kind::Gauge, "Messages that are kept, by their state.");
    for use_case in &use_cases {
        for state in STATES {
            let count = status.counts.get(&((*use_case).clone(), state)).copied().unwrap_or(0);
            family.sample(&[("use_case", use_case), ("state", &word(&state))], count);
        }
    }
    let help = "Messages registered for the first time.";
    by_use_case(all.family("revoked_registrations_total", Kind::Counter, help), &books, &[Cell::REGISTERED]);
    let help = "Registrations of messages that were known already.";
    all.one("revoked_registrations_repeated_total", Kind::Counter, help, repeated);
    let help = "Registrations that were refused, and why.";
    let mut family = all.family("revoked_registrations_refused_total", Kind::Counter, help);
    for (reason, count) in refused.counts() {
        family.sample(&[("reason", &reason)], count);
    }
    let help = "Messages that settled, by their outcome; one that is amended later stays counted here.";
    let mut family = all.family("revoked_outcomes_total", Kind::Counter, help);
    for (use_case, counts) in &books {
        for outcome in Outcome::ALL {
            let labels: [(&str, &dyn std::fmt::Display); 2] = [("use_case", use_case), ("outcome", &word(&outcome))];
            family.sample(&labels, counts.get(Cell::settled(outcome)));
        }
    }
    let help = "Messages that had settled otherwise, and were found delivered.";
    let amended = Outcome::ALL.map(Cell::amended);
    by_use_case(all.family("revoked_outcomes_amended_total", Kind::Counter, help), &books, &amended);
    let help = "Messages that were delivered after their deadline.";
    by_use_case(all.family("revoked_deliveries_late_total", Kind::Counter, help), &books, &[Cell::DELIVERED_LATE]);
    let help = "Messages that an event settled before their DELETE was due.";
    by_use_case(all.family("revoked_deletes_avoided_total", Kind::Counter, help), &books, &[Cell::AVOIDED]);
    let help = "Fallback grants by the states they came to.";
    let mut family = all.family("revoked_grants_total", Kind::Counter, help);
    for (use_case, counts) in &books {
        for (cell, state) in GRANTS {
            family.sample(&[("use_case", use_case), ("state", &state)], counts.get(cell));
        }
    }
    let help = "Messages that arrived after their SMS was granted for good: the user may have got both.";
    by_use_case(all.family("revoked_duplicates_total", Kind::Counter, help), &books, &[Cell::DUPLICATE]);
    let help = "Evidence that came in, by its kind and what it did.";
    let mut family = all.family("revoked_evidence_total", Kind::Counter, help);
    for kind in EvidenceKind::NAMES {
        for effect in EFFECTS {
            let count = evidence.get(&(kind, effect)).copied().unwrap_or(0);
            family.sample(&[("kind", &kind), ("effect", &word(&effect))], count);
        }
    }
    let help = "Events that wait for the registration of their message.";
    all.one("revoked_early_events", Kind::Gauge, help, status.early_events);
    let help = "Phones that have unsubscribed from an agent, for whose promotions no SMS is granted.";
    all.one("revoked_unsubscribed", Kind::Gauge, help, status.unsubscribed);
    all.one("revoked_holds", Kind::Gauge, "Holds in force.", status.holds.len());
    let help = "The number of the last entry in the outcome log.";
    all.one("revoked_outcomes_cursor", Kind::Gauge, help, status.last_cursor);
    let help = "Outcomes that were removed although nobody had acknowledged them.";
    all.one("revoked_outcomes_lost_total", Kind::Counter, help, status.lost_outcomes);
}

fn by_use_case(mut family: Family<'_>, books: &BTreeMap<&UseCase, &Counts>, cells: &[Cell]) {
    for (use_case, counts) in books {
        let sum: u64 = cells.iter().map(|cell| counts.get(*cell)).sum();
        family.sample(&[("use_case", use_case)], sum);
    }
}

fn attempts(all: &mut Exposition, status: &Status) {
    let Counters { answers, rests, .. } = &status.counters;
    let help = "DELETEs that came back, by what came back.";
    let mut family = all.family("revoked_attempts_total", Kind::Counter, help);
    for kind in model::Answer::KINDS {
        family.sample(&[("answer", &kind.replace(' ', "_"))], answers.get(kind).copied().unwrap_or(0));
    }
    all.one("revoked_attempts_in_flight", Kind::Gauge, "DELETEs that are out.", status.in_flight);
    let help = "From when a DELETE left until it was back.";
    all.histogram("revoked_attempt_duration_seconds", help, &status.answer_times);
    let help = "From when a message was due until its first DELETE left.";
    all.histogram("revoked_lateness_seconds", help, &status.lateness);
    let help = "How long the longest overdue message has been waiting for its first DELETE.";
    all.one("revoked_due_lag_seconds", Kind::Gauge, help, seconds(status.backlog_age));
    let help = "When something is due next. No sample where nothing is.";
    let mut family = all.family("revoked_next_due_timestamp_seconds", Kind::Gauge, help);
    if let Some(next) = status.next_due {
        family.sample(&[], unix(next));
    }
    let help = "Rests of an agent and region that began, by their reason.";
    let mut family = all.family("revoked_rests_total", Kind::Counter, help);
    for reason in RestReason::ALL {
        family.sample(&[("reason", &word(&reason))], rests.get(&reason).copied().unwrap_or(0));
    }
    let help = "Places of queues that are kept in memory.";
    all.one("revoked_window_entries", Kind::Gauge, help, status.window);
}

/// One series, or several that are told together.
#[derive(Default)]
struct Row {
    in_flight: usize,
    pace: f64,
    resting: BTreeMap<RestReason, u64>,
    backlog: u64,
    done_by: Option<Timestamp>,
    late: u64,
}

fn routes(all: &mut Exposition, routes: &[RouteStatus]) {
    let mut rows: BTreeMap<(&str, String), Row> = BTreeMap::new();
    for (place, route) in routes.iter().enumerate() {
        let own = place < ROUTES_MAX;
        let name = if own { (route.agent.as_str(), word(&route.region)) } else { (OTHER, OTHER.to_owned()) };
        let row = rows.entry(name).or_default();
        row.in_flight += route.in_flight;
        row.pace += route.per_second;
        if let Some((reason, _)) = route.resting {
            *row.resting.entry(reason).or_default() += 1;
        }
        if let Some(load) = route.load {
            row.backlog += load.backlog;
            row.done_by = row.done_by.max(Some(load.done_by));
            row.late += u64::from(load.late);
        }
    }
    all.one("revoked_routes", Kind::Gauge, "Agents and regions that DELETEs go to.", routes.len());
    let mut each = |name, help, of: &dyn Fn(&Row) -> Option<f64>| {
        let mut family = all.family(name, Kind::Gauge, help);
        for ((agent, region), row) in &rows {
            if let Some(value) = of(row) {
                family.sample(&[("agent", agent), ("region", region)], value);
            }
        }
    };
    each("revoked_route_in_flight", "DELETEs that are out.", &|row| Some(row.in_flight as f64));
    each("revoked_route_pace", "DELETEs per second that may leave now.", &|row| Some(row.pace));
    let help = "Messages that are due, or may leave early because they are spread.";
    each("revoked_route_backlog_messages", help, &|row| Some(row.backlog as f64));
    let help = "When the backlog will be done at the present pace. No sample where there is none.";
    each("revoked_route_backlog_finish_timestamp_seconds", help, &|row| row.done_by.map(unix));
    let help = "Whether some of the backlog will leave more than a minute late.";
    each("revoked_route_late", help, &|row| Some(row.late as f64));
    let help = "Whether nothing leaves for now, and why.";
    let mut family = all.family("revoked_route_resting", Kind::Gauge, help);
    for ((agent, region), row) in &rows {
        for reason in RestReason::ALL {
            let count = row.resting.get(&reason).copied().unwrap_or(0);
            family.sample(&[("agent", agent), ("region", region), ("reason", &word(&reason))], count);
        }
    }
}

fn fallback(all: &mut Exposition, status: &Status) {
    let help = "Calls of fallback hooks that came back.";
    let mut family = all.family("revoked_fallback_calls_total", Kind::Counter, help);
    for (use_case, calls) in &status.calls {
        family.sample(&[("use_case", use_case), ("result", &"taken")], calls.taken);
        family.sample(&[("use_case", use_case), ("result", &"failed")], calls.failed);
    }
    let help = "Calls of fallback hooks that are out.";
    let mut family = all.family("revoked_fallback_calls_in_flight", Kind::Gauge, help);
    for (use_case, calls) in &status.calls {
        family.sample(&[("use_case", use_case)], calls.in_flight);
    }
    let help = "Grants that wait for their hook to take them.";
    let mut family = all.family("revoked_fallback_waiting_grants", Kind::Gauge, help);
    for (use_case, calls) in &status.calls {
        family.sample(&[("use_case", use_case)], calls.waiting);
    }
}

fn store(all: &mut Exposition, status: &Status) {
    let ahead = status.clock.map_or(0.0, |clock| clock.ahead.as_secs_f64());
    let help =
        "How far the clock is ahead of the time that deadlines are kept by: not 0 after a step that is not believed.";
    all.one("revoked_clock_disbelieved_seconds", Kind::Gauge, help, ahead);
    let figures = &status.store;
    let writable = u8::from(status.store_error.is_none());
    all.one("revoked_store_writable", Kind::Gauge, "Whether registrations are taken.", writable);
    all.one("revoked_store_size_bytes", Kind::Gauge, "What the store takes on disk.", figures.disk_bytes);
    let help = "Memory for what was written lately.";
    all.one("revoked_store_young_bytes", Kind::Gauge, help, figures.young_bytes);
    let help = "Memory for what of that is on its way to where it stays.";
    all.one("revoked_store_frozen_bytes", Kind::Gauge, help, figures.frozen_bytes);
    let help = "Batches of changes that are not durable yet.";
    all.one("revoked_store_backlog_batches", Kind::Gauge, help, figures.backlog);
    let help = "How long it took to make batches durable, as many as go at once.";
    all.histogram("revoked_store_flush_duration_seconds", help, &figures.flushes);
}

fn pushes(all: &mut Exposition, webhook: Option<(WebhookView, BTreeMap<u16, u64>)>) {
    let (view, answers) = webhook.unzip();
    let help = "Pushes to the webhook, by the code of our own answer.";
    let mut family = all.family("revoked_webhook_pushes_total", Kind::Counter, help);
    for (code, count) in answers.iter().flatten() {
        family.sample(&[("code", code)], count);
    }
    let help = "Pushes that were to be passed on, and whether the webhook behind took them.";
    let mut family = all.family("revoked_webhook_forwarded_total", Kind::Counter, help);
    if let Some(WebhookView { forwarded, forward_failures, forward_dropped, .. }) = view {
        family.sample(&[("result", &"taken")], forwarded);
        family.sample(&[("result", &"failed")], forward_failures);
        family.sample(&[("result", &"dropped")], forward_dropped);
    }
}

/// Under the names that all clients use.
fn process(all: &mut Exposition, started_at: Timestamp) {
    all.one("process_start_time_seconds", Kind::Gauge, "When the process started.", unix(started_at));
    let help = "Time that the process has spent on processors.";
    all.one("process_cpu_seconds_total", Kind::Counter, help, seconds(usage::cpu()));
    let mut known = |name, help, value: Option<u64>| {
        let mut family = all.family(name, Kind::Gauge, help);
        value.into_iter().for_each(|value| family.sample(&[], value));
    };
    known("process_resident_memory_bytes", "Memory that the process occupies.", usage::resident_bytes("self"));
    known("process_open_fds", "Files and sockets that are open.", usage::open_files());
}

/// As it is on the wire, in lower case.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word.to_lowercase(),
        other => unreachable!("a word on the wire: {other:?}"),
    }
}
