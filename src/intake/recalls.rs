//! Recalls over the socket: `/v1/recalls`.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::access::Scope;
use super::api::{Answer, Gate, Named, Params, Shared, json};
use super::body::{Posted, read_body};
use super::holds::{OrderView, SelectorView};
use super::wire::{ListView, MessageView};
use crate::engine::{Refusal, Survey};
use crate::model::{Outcome, Recall, Timestamp, time::wire_duration};

/// A recall: what it is about, and what became of it so far.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecallView {
    /// Its number, never given again.
    pub id: String,
    /// What is recalled.
    #[serde(flatten)]
    pub of: SelectorView,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Box<str>>,
    /// When it began. What was registered later is not touched.
    pub begin_time: Timestamp,
    /// When the last message had its outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Timestamp>,
    /// How far it is.
    pub state: RecallState,
    /// Messages found so far that have no outcome yet.
    pub open: u64,
    /// Messages that had an outcome when it began, of those retained: the ones called `DELIVERED` had been received.
    pub before: BTreeMap<Outcome, u64>,
    /// How the others ended.
    pub since: BTreeMap<Outcome, u64>,
}

/// How far a recall is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RecallState {
    /// Its messages are being found; those found are revoked meanwhile.
    Finding,
    /// All are found, and some have no outcome yet.
    Revoking,
    /// All have their outcome. A late event may still correct one.
    Done,
}

impl From<Recall> for RecallView {
    fn from(recall: Recall) -> Self {
        let counts = |counts: [u64; Outcome::ALL.len()]| {
            Outcome::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect()
        };
        Self {
            id: recall.id.to_string(),
            state: match (recall.looked_through, recall.ended) {
                (_, Some(_)) => RecallState::Done,
                (true, None) => RecallState::Revoking,
                (false, None) => RecallState::Finding,
            },
            of: recall.of.into(),
            reason: recall.reason,
            begin_time: recall.began,
            end_time: recall.ended,
            open: recall.open,
            before: counts(recall.before),
            since: counts(recall.since),
        }
    }
}

/// `POST /v1/recalls?dryRun=true`: what a recall would do.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SurveyView {
    /// What would be recalled.
    #[serde(flatten)]
    pub of: SelectorView,
    /// Messages that would be revoked.
    pub open: u64,
    /// Messages that have their outcome already, of those retained.
    pub before: BTreeMap<Outcome, u64>,
    /// How long the DELETEs would take at the present pace.
    #[serde(with = "wire_duration")]
    pub takes: Duration,
}

impl From<Survey> for SurveyView {
    fn from(Survey { of, open, settled, takes, .. }: Survey) -> Self {
        // Whole seconds: it is an estimate.
        Self { of: of.into(), open, before: settled, takes: Duration::from_secs(takes.as_secs_f64().ceil() as u64) }
    }
}

/// `GET /v1/recalls`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RecallsView {
    /// In the order in which they began.
    pub recalls: Vec<RecallView>,
}

pub(super) async fn recall(State(gate): State<Shared>, scope: Scope, mut params: Params, body: Posted) -> Answer {
    let dry = params.with("dryRun", |value| value.parse().map_err(|_| "true or false".to_owned()))?;
    params.end()?;
    let (of, reason) = OrderView::read(&read_body(body, gate.limits.request_bytes).await?)?;
    scope.admit_order(of.agent.as_ref())?;
    if dry == Some(true) {
        let survey = gate.engine.survey(of).await?;
        return Ok(json(StatusCode::OK, &SurveyView::from(survey)));
    }
    let recall = gate.engine.recall(of, reason).await?;
    Ok(json(StatusCode::OK, &RecallView::from(recall)))
}

pub(super) async fn list(State(gate): State<Shared>, scope: Scope, params: Params) -> Answer {
    params.end()?;
    let recalls = gate.engine.recalls(None).await?.into_iter();
    let recalls =
        recalls.filter(|recall| scope.admit_order(recall.of.agent.as_ref()).is_ok()).map(RecallView::from).collect();
    Ok(json(StatusCode::OK, &RecallsView { recalls }))
}

fn number(recall: &str) -> Result<u64, Refusal> {
    recall.parse().map_err(|_| Refusal::invalid("id", "the number of a recall, as GET /v1/recalls shows it"))
}

pub(super) async fn get(State(gate): State<Shared>, scope: Scope, Named(recall): Named<String>) -> Answer {
    let recall = find(&gate, &scope, number(&recall)?).await?;
    Ok(json(StatusCode::OK, &RecallView::from(recall)))
}

/// A recall, if it is about agents that may be asked about.
async fn find(gate: &Gate, scope: &Scope, id: u64) -> Result<Recall, Refusal> {
    let mut found = gate.engine.recalls(Some(id)).await?;
    let recall = found.pop().ok_or_else(|| Refusal::unavailable("the engine gave no answer"))?;
    scope.admit_order(recall.of.agent.as_ref())?;
    Ok(recall)
}

pub(super) async fn received(
    State(gate): State<Shared>,
    scope: Scope,
    Named(recall): Named<String>,
    mut params: Params,
) -> Answer {
    let limit = params.page_size()?;
    let after = params.text("pageToken");
    params.end()?;
    let recall = find(&gate, &scope, number(&recall)?).await?;
    let page = gate.engine.received(recall.id, limit, after).await?;
    let messages = page.messages.into_iter().map(MessageView::from).collect();
    Ok(json(StatusCode::OK, &ListView { messages, next_page_token: page.next }))
}
