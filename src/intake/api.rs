//! The routes: one visible table of what can be asked, and for each a few lines that parse, ask and show.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use futures_util::stream;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::access::{Asker, Rules, Scope, takes};
use super::batch;
use super::body::{Posted, read_body};
use super::books;
use super::desk::{Desk, Reloads};
use super::events::{self, Unacceptable};
use super::holds;
use super::metrics;
use super::parse;
use super::recalls;
use super::refused::{Refused, counted};
use super::webhook::{Setup, Webhook};
use super::wire::{
    AckView, ClockView, ErrorBody, ErrorView, EventView, ListView, MessageView, OutcomeView, OutcomesView, RouteView,
    StatusView, TimesView,
};
use super::{transfer, tune};
use crate::config::{Mode, Right};
use crate::engine::{EvidenceEffect, Filter, Handle, Refusal, RefusalKind, StateKind, Verb};
use crate::model::ledger::Cell;
use crate::model::{AgentId, Agents, Identity, MessageId, Timestamp, UseCase, time::wire_duration};

/// Longest wait of a long poll.
const WAIT_MAX: Duration = Duration::from_secs(60);
const MESSAGE: &str = "/v1/messages/{agent}/{message}";
const PAGE_SIZE: usize = 100;
const PAGE_SIZE_MAX: usize = 1000;

/// Bounds on what a client may send.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one request.
    pub request_bytes: usize,
    /// Bytes of one batch.
    pub batch_bytes: usize,
}

/// What the routes work with.
#[derive(Debug)]
pub struct Gate {
    /// Whom to ask.
    pub engine: Handle,
    /// Who may do what.
    pub access: watch::Receiver<Arc<Rules>>,
    /// How much may come in.
    pub limits: Limits,
    /// What forwarded pushes may be signed with.
    pub pushes: watch::Receiver<Arc<Setup>>,
    /// For the status, if there is one.
    pub webhook: Option<Arc<Webhook>>,
    /// For the status.
    pub mode: Mode,
    /// For the status.
    pub started_at: Timestamp,
    /// For what concerns the daemon itself.
    pub desk: Desk,
    /// For the metrics.
    pub reloads: watch::Receiver<Reloads>,
    /// For the metrics.
    pub refused: Refused,
    /// Ends streams and long polls when the daemon stops.
    pub stopping: CancellationToken,
}

/// As the routes have it.
pub(super) type Shared = Arc<Gate>;

/// Everything that can be asked.
pub fn router(gate: Arc<Gate>) -> Router {
    let sends = |routes| takes(Right::Register, &gate, routes);
    let registers = |routes| counted(&gate, sends(routes));
    let reads = |routes| takes(Right::Read, &gate, routes);
    let controls = |routes| takes(Right::Control, &gate, routes);
    Router::new()
        .route("/v1/messages", registers(post(register)).merge(reads(get(list))))
        .route("/v1/messages:batch", registers(post(batch::register)))
        // What a `:verb` takes is told by `act`.
        .route(MESSAGE, sends(patch(reschedule)).merge(reads(get(get_message))).post(act))
        .route("/v1/events", sends(post(event)))
        .route("/v1/outcomes", reads(get(outcomes)))
        .route("/v1/outcomes:ack", sends(post(ack)))
        .route("/v1/holds", controls(post(holds::hold)).merge(reads(get(holds::list))))
        .route("/v1/holds:release", controls(post(holds::release)))
        .route("/v1/holds/{hold}", controls(post(holds::act)))
        .route("/v1/clock:accept", controls(post(accept_clock)))
        .route("/v1/export", reads(get(transfer::export)))
        .route("/v1/import", controls(post(transfer::import)))
        // A dry run, too: it is how one begins.
        .route("/v1/recalls", controls(post(recalls::recall)).merge(reads(get(recalls::list))))
        .route("/v1/recalls/{recall}", reads(get(recalls::get)))
        .route("/v1/recalls/{recall}/received", reads(get(recalls::received)))
        .route("/v1/status", reads(get(status)))
        .route("/v1/forecast", reads(get(tune::forecast)))
        .route("/v1/report", reads(get(books::report)))
        .route("/v1/advice", reads(get(books::advice)))
        .route("/v1/plan", reads(post(tune::plan)))
        .route("/v1/reload", controls(post(tune::reload)))
        .route("/v1/config", reads(get(tune::config)))
        .route("/metrics", reads(get(metrics::on_the_socket)))
        .fallback(async || error(404, "NOT_FOUND", "no such path; the README lists what can be asked"))
        .method_not_allowed_fallback(async || error(405, "INVALID_ARGUMENT", "this path knows no such method"))
        .with_state(gate)
}

/// What those may ask who may only look on.
pub fn metrics_router(gate: Arc<Gate>) -> Router {
    Router::new().route("/metrics", get(metrics::metrics)).with_state(gate)
}

/// An answer, or why there is none.
pub(super) type Answer = Result<Response, Failure>;

/// Everything that is answered in the error's shape.
pub(super) struct Failure(ErrorBody);

impl Failure {
    /// As HTTP has it.
    pub(super) fn code(&self) -> u16 {
        self.0.code
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self(refusal.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(self.0.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = json(code, &ErrorView { error: self.0 });
        if code == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        response
    }
}

pub(super) fn error(code: u16, status: &'static str, message: &str) -> Failure {
    Failure(ErrorBody { code, status: Cow::Borrowed(status), message: message.to_owned(), field: None })
}

pub(super) fn json<T: serde::Serialize>(code: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (code, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn register(State(gate): State<Shared>, scope: Scope, body: Posted) -> Answer {
    let body = read_body(body, gate.limits.request_bytes).await?;
    let draft = parse::registration(&body)?;
    scope.admit(&draft.agent)?;
    let mut results = gate.engine.register(vec![draft]).await?;
    let registered = results.pop().ok_or_else(|| Refusal::unavailable("the engine gave no answer"))??;
    let code = if registered.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok(json(code, &MessageView::from(registered.message)))
}

/// Whose message and which, if they may be asked about.
pub(super) fn identity(scope: &Scope, agent: &str, message: &str) -> Result<Identity, Refusal> {
    let agent = AgentId::new(agent).map_err(|message| Refusal::invalid("agentId", message))?;
    let message_id = MessageId::new(message).map_err(|message| Refusal::invalid("messageId", message))?;
    scope.admit(&agent)?;
    Ok(Identity { agent, message_id })
}

/// `{agentId}/{messageId}`
type Pair = Named<(String, String)>;

async fn get_message(State(gate): State<Shared>, scope: Scope, Named((agent, message)): Pair) -> Answer {
    let described = gate.engine.get(identity(&scope, &agent, &message)?).await?;
    Ok(json(StatusCode::OK, &MessageView::from(described)))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Patch {
    expire_time: String,
}

async fn reschedule(State(gate): State<Shared>, scope: Scope, Named((agent, message)): Pair, body: Posted) -> Answer {
    let identity = identity(&scope, &agent, &message)?;
    let body = read_body(body, gate.limits.request_bytes).await?;
    let patch: Patch = serde_json::from_slice(&body).map_err(|error| {
        Refusal::invalid("expireTime", format!("the body must be {{\"expireTime\": \"…\"}}: {}", parse::words(&error)))
    })?;
    let deadline = Timestamp::parse(&patch.expire_time).map_err(|message| Refusal::invalid("expireTime", message))?;
    let described = gate.engine.act(identity, Verb::Reschedule(deadline)).await?;
    Ok(json(StatusCode::OK, &MessageView::from(described)))
}

/// `POST /v1/messages/{agentId}/{messageId}:withdraw`, `:revoke`, `:grant`, `:drop` and `:explain`. An id may hold colons itself: the last one counts.
async fn act(State(gate): State<Shared>, asker: Asker, Named((agent, message)): Pair) -> Answer {
    let (message, verb) = match message.rsplit_once(':') {
        Some((message, "withdraw")) => (message, Verb::Withdraw),
        Some((message, "revoke")) => (message, Verb::Revoke),
        Some((message, "grant")) => (message, Verb::Decide(true)),
        Some((message, "drop")) => (message, Verb::Decide(false)),
        Some((message, "explain")) => {
            let scope = asker.scope(&gate, Right::Read)?;
            return tune::explain(&gate, identity(&scope, &agent, message)?).await;
        }
        _ => {
            return Err(error(
                404,
                "NOT_FOUND",
                "of a message one can ask :withdraw, :revoke, :grant, :drop and :explain",
            ));
        }
    };
    let scope = asker.scope(&gate, Right::Register)?;
    let described = gate.engine.act(identity(&scope, &agent, message)?, verb).await?;
    Ok(json(StatusCode::OK, &MessageView::from(described)))
}

/// The names in a path. What can't be read is refused in the error's shape, and not in axum's words.
pub(super) struct Named<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Named<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path = Path::from_request_parts(parts, state).await;
        let Path(names) = path.map_err(|wrong| unreadable("path", &wrong.body_text()))?;
        Ok(Self(names))
    }
}

/// Query parameters, each named where it is wrong, and none unknown.
pub(super) struct Params(BTreeMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let query = Query::from_request_parts(parts, state).await;
        query.map(|Query(params)| Self(params)).map_err(|wrong| unreadable("query", &wrong.body_text()))
    }
}

fn unreadable(what: &str, why: &str) -> Failure {
    let message = format!("the {what} of the URL can't be read: {why}");
    Refusal { kind: RefusalKind::Invalid, message, field: None }.into()
}

impl Params {
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        self.0.remove(name).filter(|value| !value.is_empty())
    }

    pub(super) fn with<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Refusal> {
        self.text(name).map(|value| parse(&value).map_err(|message| Refusal::invalid(name, message))).transpose()
    }

    pub(super) fn page_size(&mut self) -> Result<usize, Refusal> {
        let size = self.with("pageSize", |value| match value.parse() {
            Ok(size) if (1..=PAGE_SIZE_MAX).contains(&size) => Ok(size),
            _ => Err(format!("a number from 1 to {PAGE_SIZE_MAX}")),
        })?;
        Ok(size.unwrap_or(PAGE_SIZE))
    }

    pub(super) fn end(self) -> Result<(), Refusal> {
        match self.0.into_keys().next() {
            Some(name) => Err(Refusal::invalid(name, "no such parameter here")),
            None => Ok(()),
        }
    }
}

fn word<T: DeserializeOwned>(value: &str, expected: &str) -> Result<T, String> {
    let value = serde_json::Value::String(value.to_ascii_uppercase());
    serde_json::from_value(value).map_err(|_| format!("one of {expected}"))
}

/// `grant=waiting`: with a grant that waits for its hook.
fn waiting(value: &str) -> Result<(), String> {
    if value == "waiting" { Ok(()) } else { Err("waiting".to_owned()) }
}

async fn list(State(gate): State<Shared>, scope: Scope, mut params: Params) -> Answer {
    let filter = Filter {
        state: params.with("state", |value| word::<StateKind>(value, "PENDING, REVOKING, SETTLING, SETTLED"))?,
        use_case: params.with("useCase", UseCase::new)?,
        agents: scope.of(params.with("agentId", AgentId::new)?)?,
        tag: params.text("tag").map(Into::into),
        calling: params.with("grant", waiting)?.is_some(),
    };
    let limit = params.page_size()?;
    let after = params.text("pageToken");
    params.end()?;
    let page = gate.engine.list(filter, limit, after).await?;
    let messages = page.messages.into_iter().map(MessageView::from).collect();
    Ok(json(StatusCode::OK, &ListView { messages, next_page_token: page.next }))
}

async fn event(State(gate): State<Shared>, scope: Scope, headers: HeaderMap, body: Posted) -> Answer {
    let body = read_body(body, gate.limits.request_bytes).await?;
    let signature = headers.get("x-goog-signature").map(|value| value.to_str().unwrap_or_default());
    let setup = Arc::clone(&gate.pushes.borrow());
    let heard = match events::read(&body, signature, &setup.tokens) {
        Ok(heard) => heard,
        Err(Unacceptable::Malformed(refusal)) => return Err(refusal.into()),
        Err(Unacceptable::WrongSignature) => {
            let words = "the signature is not one of this data under any of the client tokens in [webhook]";
            return Err(error(401, "UNAUTHENTICATED", words));
        }
    };
    let effect = match heard {
        Some(heard) => {
            scope.admit(heard.agent())?;
            heard.tell(&gate.engine).await?
        }
        None => EvidenceEffect::Ignored,
    };
    Ok(json(StatusCode::OK, &EventView { effect }))
}

fn cursor(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "a cursor that was given out here, or 0 for the beginning".to_owned())
}

async fn outcomes(State(gate): State<Shared>, scope: Scope, mut params: Params) -> Answer {
    let after = params.with("after", cursor)?;
    let wait = params.with("wait", wire_duration::parse)?.unwrap_or(Duration::ZERO).min(WAIT_MAX);
    let agents = scope.of(params.with("agentId", AgentId::new)?)?;
    let follow = params.with("follow", |value| value.parse().map_err(|_| "true or false".to_owned()))?;
    let limit = params.page_size()?;
    params.end()?;
    if follow == Some(true) {
        // Where it starts is settled once: what is acknowledged meanwhile must not make it jump.
        let start = gate.engine.outcomes(after, 0, agents.clone()).await?.next;
        return Ok(follow_outcomes(gate, start, agents));
    }
    let mut page = gate.engine.outcomes(after, limit, agents.clone()).await?;
    if page.entries.is_empty() && !wait.is_zero() {
        let until = tokio::time::sleep(wait);
        tokio::pin!(until);
        while page.entries.is_empty() {
            tokio::select! {
                () = gate.engine.outcome_after(page.next) => {}
                () = &mut until => break,
                () = gate.stopping.cancelled() => break,
            }
            page = gate.engine.outcomes(Some(page.next), limit, agents.clone()).await?;
        }
    }
    let outcomes = page.entries.into_iter().map(OutcomeView::from).collect();
    Ok(json(StatusCode::OK, &OutcomesView { outcomes, next_cursor: page.next.to_string() }))
}

/// Outcomes as lines, for as long as somebody reads. Ends when the daemon stops, or others may read from now on; the reader
/// comes back with its cursor.
fn follow_outcomes(gate: Arc<Gate>, after: u64, agents: Option<Agents>) -> Response {
    let mut access = gate.access.clone();
    // A clone has seen what its original has, which is the rules of the start: it would end at once after any reload of them.
    access.mark_unchanged();
    let lines = stream::unfold((after, access), move |(after, mut access)| {
        let (gate, agents) = (Arc::clone(&gate), agents.clone());
        async move {
            tokio::select! {
                () = gate.engine.outcome_after(after) => {}
                _ = access.changed() => return None,
                () = gate.stopping.cancelled() => return None,
            }
            let page = gate.engine.outcomes(Some(after), PAGE_SIZE_MAX, agents).await.ok()?;
            let mut lines = Vec::new();
            for entry in page.entries {
                serde_json::to_writer(&mut lines, &OutcomeView::from(entry)).ok()?;
                lines.push(b'\n');
            }
            Some((Ok::<_, Infallible>(lines), (page.next, access)))
        }
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

/// Of one agent, or of all that may be asked about.
async fn ack(State(gate): State<Shared>, scope: Scope, body: Posted) -> Answer {
    let body = read_body(body, gate.limits.request_bytes).await?;
    let ack: AckView = serde_json::from_slice(&body).map_err(|error| {
        Refusal::invalid("cursor", format!("the body must be {{\"cursor\": \"…\"}}: {}", parse::words(&error)))
    })?;
    let cursor = cursor(&ack.cursor).map_err(|message| Refusal::invalid("cursor", message))?;
    let cursor = gate.engine.ack(scope.of(ack.agent_id.clone())?, cursor).await?;
    Ok(json(StatusCode::OK, &AckView { cursor: cursor.to_string(), ..ack }))
}

async fn accept_clock(State(gate): State<Shared>, scope: Scope) -> Answer {
    scope.admit_all()?;
    Ok(json(StatusCode::OK, &ClockView::from(gate.engine.accept_clock().await?)))
}

async fn status(State(gate): State<Shared>, scope: Scope) -> Answer {
    let status = gate.engine.status(scope.agents()).await?;
    let whole = scope.admit_all().is_ok();
    let mut use_cases: BTreeMap<UseCase, BTreeMap<StateKind, u64>> = BTreeMap::new();
    for ((use_case, state), count) in status.counts {
        use_cases.entry(use_case).or_default().insert(state, count);
    }
    let route = |route: crate::engine::RouteStatus| RouteView {
        agent_id: route.agent,
        region: route.region,
        in_flight: route.in_flight,
        per_second: route.per_second,
        resting: route.resting.map(|(reason, _)| reason),
        resumes_in: route.resting.map(|(_, wait)| wait),
        backlog: route.load.map_or(0, |load| load.backlog),
        done_by: route.load.map(|load| load.done_by),
        late: route.load.is_some_and(|load| load.late),
    };
    let view = StatusView {
        version: Cow::Borrowed(env!("CARGO_PKG_VERSION")),
        mode: gate.mode,
        started_at: gate.started_at,
        config_hash: status.config_hash.into(),
        use_cases,
        in_flight: status.in_flight,
        next_due: status.next_due,
        backlog_age: status.backlog_age,
        settled: whole.then_some(status.settled),
        lateness: TimesView::of(&status.lateness),
        answer_times: TimesView::of(&status.answer_times),
        registered: whole.then(|| status.counters.booked.values().map(|counts| counts.get(Cell::REGISTERED)).sum()),
        deletes: whole.then(|| status.counters.answers.values().sum()),
        routes: status.routes.into_iter().map(route).collect(),
        last_cursor: status.last_cursor.to_string(),
        lost_outcomes: status.lost_outcomes,
        early_events: status.early_events,
        unsubscribed: status.unsubscribed,
        holds: holds::shown(&scope, status.holds),
        clock: status.clock.map(ClockView::from),
        store_error: status.store_error,
        store: Some(status.store.into()).filter(|_| whole),
        fallback: status.calls.into_iter().map(|(use_case, status)| (use_case, status.into())).collect(),
        webhook: gate.webhook.as_ref().filter(|_| whole).map(|webhook| webhook.view()),
    };
    Ok(json(StatusCode::OK, &view))
}
