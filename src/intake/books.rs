//! `GET /v1/report` and `GET /v1/advice`: what became of messages, and what that says of ttls.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::access::Scope;
use super::api::{Answer, Params, Shared, json};
use crate::engine::{Books, UseCaseBooks};
use crate::model::curve::Curve;
use crate::model::ledger::{Bucket, Cell, Counts};
use crate::model::time::wire_duration;
use crate::model::{Outcome, Timestamp, UseCase};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The ttls that advice is given on, in seconds.
const CANDIDATES: [u64; 9] = [30, 60, 120, 300, 600, 1800, 3600, 6 * 3600, 24 * 3600];

/// Points of the curve as it is told.
const CURVE_POINTS: u32 = 64;

/// `GET /v1/report`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportView {
    /// The start of the first hour that counts.
    pub from: Timestamp,
    /// By use case.
    pub use_cases: BTreeMap<UseCase, UseCaseReport>,
}

/// What became of the messages of one use case. Each counts when it happened: those that were registered before and settled
/// within the time are among the outcomes only.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UseCaseReport {
    /// Registered for the first time.
    pub registered: u64,
    /// Delivered before the deadline …
    pub delivered_in_time: u64,
    /// … or after it.
    pub delivered_late: u64,
    /// Of both: delivered although a DELETE had left.
    pub raced: u64,
    /// Taken off the platform's queue.
    pub revoked: u64,
    /// Revoked or delivered; nobody can say which.
    pub unknown: u64,
    /// Refused by the platform, or out of time.
    pub failed: u64,
    /// Taken back by their agent.
    pub withdrawn: u64,
    /// Overdue when the daemon started, and of no consequence any more.
    pub moot: u64,
    /// In shadow mode: it would have been revoked.
    pub shadow: u64,
    /// What became of the fallback grants.
    pub grants: GrantsReport,
    /// DELETEs that left.
    pub deletes: u64,
    /// Messages that an event settled before their DELETE was due.
    pub deletes_avoided: u64,
    /// How long after it was due the first DELETE left, to 6 %.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lateness: Option<LatenessReport>,
}

/// Fallback grants, each counted in every state it came to.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrantsReport {
    /// Handed out.
    pub offered: u64,
    /// Taken by a hook.
    pub taken: u64,
    /// Held back for somebody to decide.
    pub held: u64,
    /// Taken back.
    pub withdrawn: u64,
    /// Too late to be of use.
    pub void: u64,
    /// Their message arrived after they were taken note of: the user may have got it twice.
    pub duplicates: u64,
}

/// How late first DELETEs left.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LatenessReport {
    /// How many there were.
    pub count: u64,
    /// Half of them left within this.
    #[serde(with = "wire_duration")]
    pub p50: Duration,
    /// 99 of 100 left within this.
    #[serde(with = "wire_duration")]
    pub p99: Duration,
}

impl From<&Counts> for UseCaseReport {
    fn from(counts: &Counts) -> Self {
        let amended = |outcome| counts.get(Cell::amended(outcome));
        // What was found delivered later is no longer what it had settled as.
        let ended = |outcome| counts.get(Cell::settled(outcome)).saturating_sub(amended(outcome));
        let found: u64 = Outcome::ALL.into_iter().map(amended).sum();
        let delivered = counts.get(Cell::settled(Outcome::Delivered)) + found;
        let late = counts.get(Cell::DELIVERED_LATE);
        Self {
            registered: counts.get(Cell::REGISTERED),
            delivered_in_time: delivered.saturating_sub(late),
            delivered_late: late,
            raced: counts.get(Cell::RACED),
            revoked: ended(Outcome::Revoked),
            unknown: ended(Outcome::Unknown),
            failed: ended(Outcome::Failed),
            withdrawn: ended(Outcome::Withdrawn),
            moot: ended(Outcome::Moot),
            shadow: ended(Outcome::Shadow),
            grants: GrantsReport {
                offered: counts.get(Cell::GRANT_OFFERED),
                taken: counts.get(Cell::GRANT_TAKEN),
                held: counts.get(Cell::GRANT_HELD),
                withdrawn: counts.get(Cell::GRANT_WITHDRAWN),
                void: counts.get(Cell::GRANT_VOID),
                duplicates: counts.get(Cell::DUPLICATE),
            },
            deletes: counts.get(Cell::ATTEMPTS),
            deletes_avoided: counts.get(Cell::AVOIDED),
            lateness: lateness(&counts.lateness()),
        }
    }
}

fn lateness(histogram: &[(Bucket, u64)]) -> Option<LatenessReport> {
    let count: u64 = histogram.iter().map(|(_, n)| n).sum();
    let quantile = |percent: u64| {
        let mut left = (count * percent).div_ceil(100).max(1);
        let reached = histogram.iter().find(|(_, n)| {
            left = left.saturating_sub(*n);
            left == 0
        });
        reached.map(|(bucket, _)| bucket.start())
    };
    Some(LatenessReport { count, p50: quantile(50)?, p99: quantile(99)? })
}

/// `GET /v1/advice`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdviceView {
    /// The start of the first hour that counts.
    pub from: Timestamp,
    /// By use case; those of which nothing was observed are left out.
    pub use_cases: BTreeMap<UseCase, UseCaseAdvice>,
    /// After a start, what is pending is still being counted.
    pub counting: bool,
}

/// How long the deliveries of one use case take.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UseCaseAdvice {
    /// Its policy in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Messages of which it is known how long they took.
    pub delivered: u64,
    /// Messages that were revoked, withdrawn or given up before they arrived: known not to have arrived until then.
    pub censored: u64,
    /// Messages that are still on their way.
    pub pending: u64,
    /// Longer than this nobody waited, and nothing is known.
    #[serde(with = "wire_duration")]
    pub horizon: Duration,
    /// What each ttl would mean.
    pub ttls: Vec<TtlAdvice>,
    /// The share that is undelivered, over time.
    pub curve: Vec<CurvePoint>,
}

/// What a ttl would mean.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TtlAdvice {
    /// That ttl.
    #[serde(with = "wire_duration")]
    pub ttl: Duration,
    /// The share that it would have revoked: what is undelivered by then.
    pub revoked: f64,
    /// How far that may be off to either side, with 95 % confidence.
    pub margin: f64,
    /// The share that it would have cost: what arrives later, as far as was watched.
    pub arrives_later: f64,
    /// Messages that were still watched then: what the figures rest on.
    pub at_risk: u64,
}

/// A point of the curve.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CurvePoint {
    /// So long after the send …
    #[serde(with = "wire_duration")]
    pub after: Duration,
    /// … this share has not arrived.
    pub undelivered: f64,
}

impl UseCaseAdvice {
    fn new(books: &UseCaseBooks) -> Option<Self> {
        let (delivered, censored) = (books.counts.delivered_after(), books.counts.censored_after());
        let pending = books.ages.iter().map(|(bucket, n)| (*bucket, *n));
        let curve = Curve::new(delivered.iter().copied(), censored.iter().copied().chain(pending));
        if curve.observed() == 0 {
            return None;
        }
        let sum = |histogram: &[(Bucket, u64)]| histogram.iter().map(|(_, n)| n).sum();
        let ttls = CANDIDATES.into_iter().filter_map(|seconds| {
            let ttl = Duration::from_secs(seconds);
            let here = curve.after(ttl)?;
            let arrives_later = curve.arrives_after(ttl)?;
            Some(TtlAdvice { ttl, revoked: here.share, margin: here.margin, arrives_later, at_risk: here.at_risk })
        });
        Some(Self {
            policy: books.policy.clone(),
            delivered: sum(&delivered),
            censored: sum(&censored),
            pending: books.ages.values().sum(),
            horizon: curve.horizon(),
            ttls: ttls.collect(),
            curve: points(&curve),
        })
    }
}

/// The curve at equal ratios of time, from a hundredth of a second on: deliveries take seconds or days.
fn points(curve: &Curve) -> Vec<CurvePoint> {
    let (first, last) = (0.01_f64, curve.horizon().as_secs_f64().max(0.02));
    let at = |step: u32| first * (last / first).powf(f64::from(step) / f64::from(CURVE_POINTS));
    let point = |step| {
        let after = Duration::from_millis((at(step) * 1000.0) as u64);
        curve.after(after).map(|here| CurvePoint { after, undelivered: here.share })
    };
    (0..CURVE_POINTS).filter_map(point).collect()
}

/// `since=86400s`: how far back.
fn since(mut params: Params, default: Duration) -> Result<Duration, super::api::Failure> {
    let since = params.with("since", wire_duration::parse)?;
    params.end()?;
    Ok(since.unwrap_or(default))
}

/// The books know use cases and no agents.
pub(super) async fn report(State(gate): State<Shared>, scope: Scope, params: Params) -> Answer {
    scope.admit_all()?;
    let Books { from, use_cases, .. } = gate.engine.books(since(params, DAY)?).await?;
    let use_cases = use_cases.into_iter().map(|(name, books)| (name, UseCaseReport::from(&books.counts)));
    Ok(json(StatusCode::OK, &ReportView { from, use_cases: use_cases.collect() }))
}

pub(super) async fn advice(State(gate): State<Shared>, scope: Scope, params: Params) -> Answer {
    scope.admit_all()?;
    let Books { from, use_cases, counting } = gate.engine.books(since(params, DAY * 7)?).await?;
    let use_cases = use_cases.into_iter().filter_map(|(name, books)| Some((name, UseCaseAdvice::new(&books)?)));
    Ok(json(StatusCode::OK, &AdviceView { from, use_cases: use_cases.collect(), counting }))
}
