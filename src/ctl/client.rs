//! The way to the daemon: HTTP over its unix socket, and words that help when nobody is there.

use std::error::Error as StdError;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Response;
use serde::de::DeserializeOwned;

pub(super) use reqwest::{Method, Url};

use super::exit::Failure;
use crate::intake::wire::ErrorView;
use crate::model::{AgentId, MessageId};

/// An answer waits for the disk at most; whoever takes longer is stuck.
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// Asks the daemon.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    socket: PathBuf,
}

impl Client {
    pub(super) fn new(socket: PathBuf) -> Result<Self, Failure> {
        let http = reqwest::Client::builder()
            .unix_socket(socket.as_path())
            // $http_proxy is meant for the network.
            .no_proxy()
            // Nothing here is TLS: a host without CA certificates must still be able to ask its daemon.
            .tls_certs_only([])
            // A connection that was idle while we waited for input may be closed by the daemon just as we use it again;
            // opening another one costs nothing on a unix socket.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| Failure::Unavailable(format!("no HTTP client: {}", last_cause(&error))))?;
        Ok(Self { http, socket })
    }

    /// `/v1/…`, each segment escaped: an id may hold anything printable.
    pub(super) fn url(segments: &[&str]) -> Url {
        let mut url = Url::parse("http://revoked/v1").expect("a constant that parses");
        url.path_segments_mut().expect("http has a path").extend(segments);
        url
    }

    /// The resource of a message, or one of its verbs.
    pub(super) fn message_url(agent: &AgentId, message: &MessageId, verb: Option<&str>) -> Url {
        let message = message.as_str();
        let last = verb.map_or_else(|| message.to_owned(), |verb| format!("{message}:{verb}"));
        Self::url(&["messages", agent.as_str(), &last])
    }

    /// Asks, and reads the whole answer.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        url: Url,
        body: Option<Vec<u8>>,
    ) -> Result<T, Failure> {
        let response = self.send(method, url, body, Some(ANSWER_TIME)).await?;
        let answer = response.bytes().await.map_err(|error| self.lost(&error))?;
        serde_json::from_slice(&answer).map_err(|error| Failure::Protocol(error.to_string()))
    }

    /// The same where the answer takes as long as it takes: everything has to be counted for it.
    pub(super) async fn call_at_length<T: DeserializeOwned>(
        &self,
        method: Method,
        url: Url,
        body: Vec<u8>,
    ) -> Result<T, Failure> {
        let response = self.send(method, url, Some(body), None).await?;
        let answer = response.bytes().await.map_err(|error| self.lost(&error))?;
        serde_json::from_slice(&answer).map_err(|error| Failure::Protocol(error.to_string()))
    }

    /// The same with an answer that is text.
    pub(super) async fn call_for_text(&self, method: Method, url: Url, body: Vec<u8>) -> Result<String, Failure> {
        let response = self.send(method, url, Some(body), Some(ANSWER_TIME)).await?;
        response.text().await.map_err(|error| self.lost(&error))
    }

    /// Opens an answer that goes on for as long as both sides like.
    pub(super) async fn stream(&self, url: Url) -> Result<Response, Failure> {
        self.send(Method::GET, url, None, None).await
    }

    /// What comes next of a stream; `None` at its end.
    pub(super) async fn next_chunk(&self, response: &mut Response) -> Result<Option<Vec<u8>>, Failure> {
        let chunk = response.chunk().await.map_err(|error| self.lost(&error))?;
        Ok(chunk.map(|chunk| chunk.to_vec()))
    }

    async fn send(
        &self,
        method: Method,
        url: Url,
        body: Option<Vec<u8>>,
        within: Option<Duration>,
    ) -> Result<Response, Failure> {
        let mut request = self.http.request(method, url);
        if let Some(within) = within {
            request = request.timeout(within);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request.send().await.map_err(|error| self.lost(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let answer = response.bytes().await.map_err(|error| self.lost(&error))?;
        Err(match serde_json::from_slice::<ErrorView>(&answer) {
            Ok(refused) => Failure::Refused(refused.error),
            Err(_) => Failure::Protocol(status.to_string()),
        })
    }

    /// Why there is no answer, and what can be done about it.
    fn lost(&self, error: &reqwest::Error) -> Failure {
        let socket = self.socket.display();
        let kind = causes(error).find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
        Failure::Unavailable(match kind {
            Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) if error.is_connect() => format!(
                "no daemon answers on {socket}: is it running? `systemctl status revoked`; another socket: --socket"
            ),
            Some(io::ErrorKind::PermissionDenied) if error.is_connect() => forbidden(&self.socket),
            _ if error.is_connect() => format!("can't reach a daemon on {socket}: {}", last_cause(error)),
            _ if error.is_timeout() => {
                format!("the daemon on {socket} did not answer within {} s", ANSWER_TIME.as_secs())
            }
            _ => format!("the daemon on {socket} left before it had answered: {}", last_cause(error)),
        })
    }
}

/// Who may use the socket, as a sentence.
fn forbidden(socket: &Path) -> String {
    let shown = socket.display();
    let Ok(found) = fs::metadata(socket) else {
        return format!("not permitted to use {shown}: its directory is closed to this user");
    };
    // Nobody should be told to join root's group.
    if found.mode() & 0o020 == 0 || found.gid() == 0 {
        return format!("not permitted to use {shown}: only its owner is (user id {}); try sudo", found.uid());
    }
    match group_name(found.gid()) {
        Some(group) => format!(
            "not permitted to use {shown}: its group {group} is; `sudo usermod -aG {group} $USER`, then log in again"
        ),
        None => format!("not permitted to use {shown}: only the group with id {} is; try sudo", found.gid()),
    }
}

/// From /etc/group. A group that lives elsewhere (LDAP, DynamicUser=) is named by its number instead.
fn group_name(id: u32) -> Option<String> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    find_group(&groups, id).map(str::to_owned)
}

fn find_group(groups: &str, id: u32) -> Option<&str> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then_some(name)
    })
}

fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&cause| cause.source())
}

/// The bottom of it; what lies above only says "error sending request".
fn last_cause(error: &(dyn StdError + 'static)) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_escaped_in_paths_and_a_verb_is_not() {
        let agent = AgentId::new("bot").unwrap();
        let message = MessageId::new("a?b#50%é:x").unwrap();
        let url = Client::message_url(&agent, &message, Some("revoke"));
        assert_eq!(url.as_str(), "http://revoked/v1/messages/bot/a%3Fb%2350%25%C3%A9:x:revoke");
        assert_eq!(Client::url(&["messages:batch"]).path(), "/v1/messages:batch");
    }

    #[test]
    fn a_group_is_found_by_its_number() {
        let groups = "root:x:0:\nbroken\nrevoked:x:998:alice,bob\n";
        assert_eq!(find_group(groups, 998), Some("revoked"));
        assert_eq!(find_group(groups, 7), None);
    }
}
