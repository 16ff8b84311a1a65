//! Grants on their way to an SMS without an agent that asks for them: an HTTP request or a command, for each use case that
//! has one.
//!
//! This room makes one call and says in one word what came of it. When it is made, how often, and when it is given up is the
//! engine's business. Every call for a grant carries the same key, since it may be made more than once: when its answer is
//! lost, or the daemon dies before it is noted.

mod command;
mod http;
mod template;
mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use tokio::sync::watch;
use url::Url;

use crate::model::{AgentId, Called, MessageId, Outcome, Phone, Timestamp, UseCase};

pub use http::check_header;
pub use template::Template;

/// How the grants of one use case are handed on, as the configuration has it.
#[derive(Clone, PartialEq, Debug)]
pub struct Spec {
    /// What is called.
    pub way: Way,
    /// How long it may take.
    pub timeout: Duration,
    /// Calls at a time.
    pub calls_max: usize,
}

/// What is called.
#[derive(Clone, PartialEq, Debug)]
pub enum Way {
    /// An HTTP request.
    Http(Request),
    /// A command and its arguments, without a shell.
    Command(Vec<String>),
}

/// An HTTP request. What is secret about it is in files.
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    /// `POST`, `PUT` or `PATCH`.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// Headers and their values.
    pub headers: BTreeMap<String, String>,
    /// Headers and the files that hold their values.
    pub header_files: BTreeMap<String, PathBuf>,
    /// Makes the body. `None`: the grant as JSON.
    pub body: Option<Template>,
}

/// How a grant can be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "they are what they are called")]
pub enum Method {
    Post,
    Put,
    Patch,
}

/// What a hook is told: on its standard input, as its body, or as the names of its template.
#[derive(Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Granted {
    /// The key under which the SMS is sent once, however often this comes.
    pub grant_id: String,
    /// Whose message it stands in for.
    pub agent_id: AgentId,
    /// The agent's id for that.
    pub message_id: MessageId,
    /// To whom.
    #[serde(serialize_with = "revealed")]
    pub phone: Phone,
    /// Under which policy.
    pub use_case: UseCase,
    /// How the message ended.
    pub outcome: Outcome,
    /// What the agent wanted to have back.
    #[serde(serialize_with = "as_it_came")]
    pub fallback: Option<Box<str>>,
    /// The agent's words for it.
    pub tags: Vec<Box<str>>,
    /// When the message was sent.
    pub send_time: Timestamp,
    /// When it was to be gone.
    pub deadline: Timestamp,
    /// After this the SMS is of no use any more.
    pub valid_until: Timestamp,
}

fn revealed<S: Serializer>(phone: &Phone, to: S) -> Result<S::Ok, S::Error> {
    phone.reveal().serialize(to)
}

fn as_it_came<S: Serializer>(fallback: &Option<Box<str>>, to: S) -> Result<S::Ok, S::Error> {
    let raw = fallback.as_deref().map(serde_json::from_str::<&RawValue>).transpose();
    raw.map_err(serde::ser::Error::custom)?.serialize(to)
}

/// Of a grant only its key is for logs.
impl fmt::Debug for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Granted").field("grant_id", &self.grant_id).finish_non_exhaustive()
    }
}

/// One hook, ready to be called.
pub struct Hook {
    way: Ready,
    timeout: Duration,
}

enum Ready {
    Http(Box<http::Ready>),
    Command(Vec<String>),
}

impl Hook {
    /// Reads the files that hold its secrets; connects to nothing.
    ///
    /// # Errors
    /// In words that name the file.
    pub fn new(spec: &Spec) -> Result<Self, String> {
        let way = match &spec.way {
            Way::Http(request) => Ready::Http(Box::new(http::Ready::new(request, spec.timeout)?)),
            Way::Command(argv) => Ready::Command(argv.clone()),
        };
        Ok(Self { way, timeout: spec.timeout })
    }

    async fn call(&self, granted: &Granted) -> Called {
        match &self.way {
            Ready::Http(request) => request.call(granted).await,
            Ready::Command(argv) => command::call(argv, granted, self.timeout).await,
        }
    }
}

/// The hooks in force, by use case.
pub type HookSet = BTreeMap<UseCase, Hook>;

/// Calls the hooks of now. Cheap to clone.
#[derive(Clone)]
pub struct Hooks(watch::Receiver<Arc<HookSet>>);

impl Hooks {
    /// These hooks, and how others take their place.
    pub fn open(hooks: HookSet) -> (watch::Sender<Arc<HookSet>>, Self) {
        let (sender, hooks) = watch::channel(Arc::new(hooks));
        (sender, Self(hooks))
    }

    /// Calls the hook of the grant's use case.
    pub async fn call(&self, granted: Granted) -> Called {
        let hooks = Arc::clone(&self.0.borrow());
        match hooks.get(&granted.use_case) {
            Some(hook) => hook.call(&granted).await,
            None => Called::Failed("its use case has no hook any more".into()),
        }
    }
}

impl Default for Hooks {
    fn default() -> Self {
        Self::open(HookSet::new()).1
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn granted() -> Granted {
        Granted {
            grant_id: "00ff-1".into(),
            agent_id: AgentId::new("shop").unwrap(),
            message_id: MessageId::new("m1").unwrap(),
            phone: Phone::new("+12223334444").unwrap(),
            use_case: UseCase::new("otp").unwrap(),
            outcome: Outcome::Revoked,
            fallback: Some(r#"{"text":"Your code is 1234 & more","n":1.0e400}"#.into()),
            tags: vec!["blue".into()],
            send_time: Timestamp::parse("2026-11-22T17:00:00Z").unwrap(),
            deadline: Timestamp::parse("2026-11-22T17:10:00Z").unwrap(),
            valid_until: Timestamp::parse("2026-11-23T17:10:00Z").unwrap(),
        }
    }

    #[test]
    fn a_hook_is_told_everything_and_the_agents_json_byte_for_byte() {
        let told = serde_json::to_string(&granted()).unwrap();
        assert!(told.contains(r#""fallback":{"text":"Your code is 1234 & more","n":1.0e400}"#), "{told}");
        assert!(told.contains(r#""grantId":"00ff-1""#) && told.contains(r#""phone":"+12223334444""#), "{told}");
        assert!(told.contains(r#""deadline":"2026-11-22T17:10:00.000Z""#), "{told}");
        assert!(
            serde_json::to_string(&Granted { fallback: None, ..granted() }).unwrap().contains(r#""fallback":null"#)
        );
    }

    #[test]
    fn nothing_of_a_person_is_in_the_debug_form() {
        let shown = format!("{:?}", granted());
        assert!(!shown.contains("3334444") && !shown.contains("1234"), "{shown}");
    }
}
