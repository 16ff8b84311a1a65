//! Who asks, and what they may: the kernel vouches for who it is, and `[access]` says what they may.
//!
//! Who a connection belongs to is taken down once, when it is accepted; the rules are those in force when a request comes, so that a
//! reload counts for connections that are open. Which request takes which right stands in the table of the routes.
//! Without any rule, whoever can open the socket may do everything. Root may always.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::MethodRouter;
use tracing::warn;

use super::api::{Failure, Shared};
use super::body::discard;
use crate::config::{Access, Right, Rule};
use crate::engine::{Refusal, RefusalKind};
use crate::model::{AgentId, Agents};

/// Users whose refusals are said; a host has few that run agents.
const SAID_MAX: usize = 100;

/// Whose a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Peer {
    /// Their user.
    pub uid: u32,
    /// Their own group.
    pub gid: u32,
}

/// The rules in force.
#[derive(Debug, Default)]
pub struct Rules {
    access: Access,
    /// Who was refused something: said once, and not for each request.
    said: Mutex<BTreeSet<u32>>,
}

impl From<Access> for Rules {
    fn from(access: Access) -> Self {
        Self { access, said: Mutex::default() }
    }
}

/// What somebody may ask about, by one right.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    agents: Option<Agents>,
    /// The keys that say so.
    keys: Arc<str>,
}

impl Rules {
    /// What a peer may ask about by this right.
    ///
    /// # Errors
    /// 403 with the key that would allow it.
    fn scope(&self, peer: Option<Peer>, right: Right) -> Result<Scope, Refusal> {
        let all = Scope { agents: None, keys: "".into() };
        let rules = &self.access.0;
        let Some(Peer { uid, gid }) = peer.filter(|peer| !rules.is_empty() && peer.uid != 0) else {
            return if rules.is_empty() || peer.is_some() {
                Ok(all)
            } else {
                Err(forbidden("the kernel does not say who asks, and [access] has rules".to_owned()))
            };
        };
        let about: Vec<&Rule> =
            rules.iter().filter(|rule| rule.users.contains(&uid) || rule.groups.contains(&gid)).collect();
        if about.is_empty() {
            let words = format!("user {uid} may do nothing here: name them in `users` of a table of [access]");
            return Err(forbidden(words));
        }
        let keys = |rules: &[&Rule], key: &str| {
            rules.iter().map(|rule| format!("access.{}.{key}", rule.name)).collect::<Vec<_>>().join(" or ")
        };
        let may: Vec<&Rule> = about.iter().copied().filter(|rule| rule.may.contains(&right)).collect();
        if may.is_empty() {
            let (word, keys) = (right.word(), keys(&about, "may"));
            return Err(forbidden(format!("user {uid} lacks the right {word:?}: it would stand in {keys}")));
        }
        let agents: Option<Vec<&Agents>> = may.iter().map(|rule| rule.agents.as_ref()).collect();
        Ok(match agents.as_deref() {
            None => all,
            Some([one]) => Scope { agents: Some(Agents::clone(one)), keys: keys(&may, "agents").into() },
            Some(several) => Scope {
                agents: Some(several.iter().flat_map(|agents| agents.iter()).cloned().collect()),
                keys: keys(&may, "agents").into(),
            },
        })
    }

    fn say(&self, peer: Option<Peer>, refusal: &Refusal) {
        let uid = peer.map_or(u32::MAX, |peer| peer.uid);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() < SAID_MAX && said.insert(uid) {
            warn!("refused: {}; more of this user is not said until [access] changes", refusal.message);
        }
    }
}

impl Scope {
    /// Only these; `None` for all.
    pub(super) fn agents(&self) -> Option<Agents> {
        self.agents.clone()
    }

    /// Whether this agent is one of them.
    ///
    /// # Errors
    /// 403.
    pub(super) fn admit(&self, agent: &AgentId) -> Result<(), Refusal> {
        if self.has(agent) {
            return Ok(());
        }
        let message = format!("agent \"{agent}\" is not yours to ask about: it would stand in {}", self.keys);
        Err(Refusal { field: Some("agentId".into()), ..forbidden(message) })
    }

    pub(super) fn has(&self, agent: &AgentId) -> bool {
        self.agents.as_ref().is_none_or(|agents| agents.has(agent))
    }

    /// The agents that a question is about: the one it names, else all that may be asked about.
    ///
    /// # Errors
    /// 403.
    pub(super) fn of(&self, asked: Option<AgentId>) -> Result<Option<Agents>, Refusal> {
        let Some(agent) = asked else { return Ok(self.agents()) };
        self.admit(&agent)?;
        Ok(Some(Agents::from_iter([agent])))
    }

    /// Whether an order is about these agents only.
    ///
    /// # Errors
    /// 403.
    pub(super) fn admit_order(&self, agent: Option<&AgentId>) -> Result<(), Refusal> {
        match agent {
            Some(agent) => self.admit(agent),
            None => self.admit_all().map_err(|refusal| {
                let message = format!("{}; or name one of yours as agentId", refusal.message);
                Refusal { message, field: Some("agentId".into()), ..refusal }
            }),
        }
    }

    /// Whether what concerns all agents may be asked.
    ///
    /// # Errors
    /// 403.
    pub(super) fn admit_all(&self) -> Result<(), Refusal> {
        match self.agents {
            None => Ok(()),
            Some(_) => Err(forbidden(format!("this is about all agents, and {} names some", self.keys))),
        }
    }
}

fn forbidden(message: String) -> Refusal {
    Refusal { kind: RefusalKind::Forbidden, message, field: None }
}

/// Whoever sends a request of which only its handler can tell the right it takes.
pub(super) struct Asker(Option<Peer>);

impl FromRequestParts<Shared> for Asker {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get().copied()))
    }
}

impl Asker {
    /// What they may ask about by this right.
    ///
    /// # Errors
    /// 403.
    pub(super) fn scope(&self, gate: &Shared, right: Right) -> Result<Scope, Refusal> {
        let rules = Arc::clone(&gate.access.borrow());
        rules.scope(self.0, right).inspect_err(|refusal| rules.say(self.0, refusal))
    }
}

impl FromRequestParts<Shared> for Scope {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Failure> {
        // A route without a right in the table is closed rather than open.
        parts.extensions.get().cloned().ok_or_else(|| forbidden("nobody may ask this".to_owned()).into())
    }
}

/// These routes take this right. Their handlers find its [`Scope`].
pub(super) fn takes(right: Right, gate: &Shared, routes: MethodRouter<Shared>) -> MethodRouter<Shared> {
    let check = move |State(gate): State<Shared>, asker: Asker, request: Request, next: Next| async move {
        checked(asker.scope(&gate, right), request, next).await
    };
    routes.route_layer(from_fn_with_state(gate.clone(), check))
}

async fn checked(scope: Result<Scope, Refusal>, mut request: Request, next: Next) -> Response {
    match scope {
        Ok(scope) => {
            request.extensions_mut().insert(scope);
            next.run(request).await
        }
        Err(refusal) => {
            discard(request.into_body()).await;
            Failure::from(refusal).into_response()
        }
    }
}
