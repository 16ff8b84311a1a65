//! Holds over the socket: `/v1/holds`.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::access::Scope;
use super::api::{Answer, Named, Params, Shared, json};
use super::body::{Posted, read_body};
use super::parse::words;
use crate::engine::{HoldStatus, Refusal, RefusalKind, Which};
use crate::model::{AgentId, Hold, Selector, Timestamp, UseCase, id::NAME_BYTES_MAX};

/// Which messages: all that is given must match, and something must be.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SelectorView {
    /// Of this use case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_case: Option<UseCase>,
    /// Of this agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// With this tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Box<str>>,
}

impl From<Selector> for SelectorView {
    fn from(Selector { use_case, agent, tag }: Selector) -> Self {
        Self { use_case, agent_id: agent, tag }
    }
}

/// `POST /v1/holds`, `/v1/holds:release` (which has no use for a reason) and `/v1/recalls`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OrderView {
    /// Of this use case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_case: Option<Box<str>>,
    /// Of this agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<Box<str>>,
    /// With this tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Box<str>>,
    /// Why, for whoever wonders later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Box<str>>,
}

impl OrderView {
    /// What it is about, found well formed; and why.
    pub(super) fn read(body: &[u8]) -> Result<(Selector, Option<Box<str>>), Refusal> {
        let Self { use_case, agent_id, tag, reason } = serde_json::from_slice(body).map_err(|error| Refusal {
            kind: RefusalKind::Invalid,
            message: format!(
                "the body must be {{\"useCase\", \"agentId\", \"tag\", \"reason\"}}, some of it: {}",
                words(&error)
            ),
            field: None,
        })?;
        let of = Selector {
            use_case: use_case
                .map(|name| UseCase::new(&name))
                .transpose()
                .map_err(|e| Refusal::invalid("useCase", e))?,
            agent: agent_id.map(|id| AgentId::new(&id)).transpose().map_err(|e| Refusal::invalid("agentId", e))?,
            tag,
        };
        if of == Selector::default() {
            return Err(Refusal::invalid("tag", "say which messages: give a useCase, an agentId or a tag"));
        }
        for (name, text) in [("tag", &of.tag), ("reason", &reason)] {
            let fits =
                |text: &str| !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.contains(char::is_control);
            if text.as_ref().is_some_and(|text| !fits(text)) {
                return Err(Refusal::invalid(name, format!("1 to {NAME_BYTES_MAX} bytes on one line")));
            }
        }
        Ok((of, reason))
    }
}

/// A hold.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HoldView {
    /// Its number: for releasing it, and never given again.
    pub id: String,
    /// What it keeps back.
    #[serde(flatten)]
    pub of: SelectorView,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Box<str>>,
    /// Since when.
    pub hold_time: Timestamp,
    /// Until when, once it is released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_time: Option<Timestamp>,
    /// Messages that wait in what it keeps back. With a tag: those whose turn had come, together with those of other
    /// holds with a tag in the same place. Not told with a message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u64>,
}

impl From<Hold> for HoldView {
    fn from(Hold { id, of, reason, since, released }: Hold) -> Self {
        Self { id: id.to_string(), of: of.into(), reason, hold_time: since, release_time: released, waiting: None }
    }
}

impl From<HoldStatus> for HoldView {
    fn from(HoldStatus { hold, waiting }: HoldStatus) -> Self {
        Self { waiting: Some(waiting), ..hold.into() }
    }
}

/// `GET /v1/holds`: those in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HoldsView {
    /// In the order in which they were made.
    pub holds: Vec<HoldView>,
}

pub(super) async fn hold(State(gate): State<Shared>, scope: Scope, body: Posted) -> Answer {
    let (of, reason) = OrderView::read(&read_body(body, gate.limits.request_bytes).await?)?;
    scope.admit_order(of.agent.as_ref())?;
    let hold = gate.engine.hold(of, reason).await?;
    Ok(json(StatusCode::OK, &HoldView::from(hold)))
}

pub(super) async fn list(State(gate): State<Shared>, scope: Scope, params: Params) -> Answer {
    params.end()?;
    let holds = shown(&scope, gate.engine.holds().await?);
    Ok(json(StatusCode::OK, &HoldsView { holds }))
}

/// Those that may concern messages that may be asked about. How many wait is not told where others' wait among them.
pub(super) fn shown(scope: &Scope, holds: Vec<HoldStatus>) -> Vec<HoldView> {
    let view = |status: HoldStatus| match &status.hold.of.agent {
        Some(agent) if !scope.has(agent) => None,
        None if scope.admit_all().is_err() => Some(status.hold.into()),
        _ => Some(status.into()),
    };
    holds.into_iter().filter_map(view).collect()
}

/// `POST /v1/holds/{id}:release`
pub(super) async fn act(State(gate): State<Shared>, scope: Scope, Named(hold): Named<String>) -> Answer {
    let id = hold.strip_suffix(":release").and_then(|id| id.parse().ok());
    let id = id.ok_or_else(|| Refusal::invalid("id", "of a hold one can ask POST /v1/holds/{id}:release"))?;
    if scope.admit_all().is_err() {
        // A number is given to one hold only, so it is still this one that is released.
        let known = gate.engine.holds().await?.into_iter().find(|status| status.hold.id == id);
        scope.admit_order(known.and_then(|status| status.hold.of.agent).as_ref())?;
    }
    let hold = gate.engine.release(Which::Id(id)).await?;
    Ok(json(StatusCode::OK, &HoldView::from(hold)))
}

/// `POST /v1/holds:release`, by what it is about.
pub(super) async fn release(State(gate): State<Shared>, scope: Scope, body: Posted) -> Answer {
    let (of, _) = OrderView::read(&read_body(body, gate.limits.request_bytes).await?)?;
    scope.admit_order(of.agent.as_ref())?;
    let hold = gate.engine.release(Which::Of(of)).await?;
    Ok(json(StatusCode::OK, &HoldView::from(hold)))
}
