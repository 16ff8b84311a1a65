//! Routes about policies: what is ahead, why a message has its deadline, what another configuration would do, doing it.

use axum::extract::State;
use axum::http::StatusCode;

use super::access::Scope;
use super::api::{Answer, Params, Shared, json};
use super::body::{Posted, read_body};
use super::desk::Request;
use super::wire::{ExplainView, ForecastView};
use crate::engine::Refusal;
use crate::model::{Identity, time::wire_duration};

/// Spans of a forecast.
const STEPS_MAX: usize = 1000;

pub(super) async fn forecast(State(gate): State<Shared>, scope: Scope, mut params: Params) -> Answer {
    let step = params.with("step", |text| match wire_duration::parse(text) {
        Ok(step) if step.as_secs() >= 10 => Ok(step),
        Ok(_) => Err("at least \"10s\": nothing finer is counted".to_owned()),
        Err(words) => Err(words),
    })?;
    let steps = params.with("steps", |text| match text.parse() {
        Ok(steps) if (1..=STEPS_MAX).contains(&steps) => Ok(steps),
        _ => Err(format!("a number from 1 to {STEPS_MAX}")),
    })?;
    params.end()?;
    let step = step.unwrap_or(std::time::Duration::from_secs(60));
    let forecast = gate.engine.forecast(step, steps.unwrap_or(60), scope.agents()).await?;
    Ok(json(StatusCode::OK, &ForecastView::from(forecast)))
}

pub(super) async fn explain(gate: &Shared, identity: Identity) -> Answer {
    let explained = gate.engine.explain(identity).await?;
    Ok(json(StatusCode::OK, &ExplainView::from(explained)))
}

/// The body is the text of a configuration file; `name` is what a report on it calls it.
pub(super) async fn plan(State(gate): State<Shared>, scope: Scope, mut params: Params, body: Posted) -> Answer {
    let name = params.with("name", |name| Ok(name.to_owned()))?.unwrap_or_else(|| "the plan".to_owned());
    params.end()?;
    let body = read_body(body, gate.limits.request_bytes).await?;
    scope.admit_all()?;
    let text = String::from_utf8(body.into())
        .map_err(|_| Refusal::invalid("body", "the body must be the text of a configuration file, in UTF-8"))?;
    let plan = gate.desk.ask(|reply| Request::Plan { name, text, reply }).await?;
    Ok(json(StatusCode::OK, &plan))
}

pub(super) async fn reload(State(gate): State<Shared>, scope: Scope) -> Answer {
    scope.admit_all()?;
    let done = gate.desk.ask(Request::Reload).await?;
    Ok(json(StatusCode::OK, &done))
}

pub(super) async fn config(State(gate): State<Shared>, scope: Scope) -> Answer {
    scope.admit_all()?;
    let config = gate.desk.ask(Request::Config).await?;
    Ok(json(StatusCode::OK, &config))
}
