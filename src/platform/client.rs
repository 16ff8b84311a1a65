//! The real platform: RCS for Business Messaging over HTTPS.
//!
//! Builds the request, sends it with a token, and has the answer read. The only thing done twice here is a request that
//! was refused for its token (401): it never reached a message, so a second one can't be told apart from a first.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use reqwest::header::RETRY_AFTER;
use reqwest::{Certificate, Url};

use super::http::{self, Body, Http, Timeouts};
use super::token::{Credentials, Token};
use super::{KeyError, Order, Platform, ServiceKey, answer};
use crate::clock;
use crate::model::{AgentId, Answer, Region};

/// What the operator decides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The service-account key for all agents that no account names.
    pub key_file: Option<PathBuf>,
    /// Keys that are for some agents only.
    pub accounts: Vec<Account>,
    /// Where to send requests instead of the region's own host: a sandbox, `http://127.0.0.1:8008`.
    pub endpoint: Option<String>,
    /// Certificates (PEM) to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// How long to wait for the network.
    pub timeouts: Timeouts,
}

/// A service account that speaks for some agents only: a host may serve several partners.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    /// Its key.
    pub key_file: PathBuf,
    /// For whom it speaks.
    pub agents: Vec<AgentId>,
}

/// Why the client can't be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The key is of no use.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The endpoint is no place to send requests to.
    #[error("{0:?} is not an endpoint: expected a URL such as http://127.0.0.1:8008, without query or fragment")]
    Endpoint(String),
    /// The extra certificates are of no use.
    #[error("can't use the certificates in {0}: {1}")]
    Certificates(PathBuf, String),
    /// The TLS library found nothing to work with.
    #[error("can't set up TLS: {0} (are the system's CA certificates installed?)")]
    Tls(String),
}

/// The client for the real platform, or a sandbox that speaks like it. Clones share connections and tokens.
#[derive(Clone)]
pub struct RbmClient {
    http: Http,
    credentials: Option<Credentials>,
    /// Each account has its own token, and its own trouble with it: a key that is refused stops its agents and no others.
    accounts: Arc<HashMap<AgentId, Credentials>>,
    endpoint: Option<String>,
}

impl RbmClient {
    /// Checks the settings and the key; connects to nothing. Reads files, so not to be called where that may not block.
    ///
    /// # Errors
    /// If one of them is of no use, in a sentence that names the fix.
    pub fn new(settings: Settings) -> Result<Self, SetupError> {
        let endpoint = settings.endpoint.as_deref().map(base).transpose()?;
        let roots = settings.ca_file.as_ref().map(certificates).transpose()?.unwrap_or_default();
        let sandbox = endpoint.as_ref().is_some_and(|base| base.starts_with("http:"));
        let http = Http::new(settings.timeouts, roots, sandbox, clock::now().mono)
            .map_err(|e| SetupError::Tls(http::reason(&e)))?;
        let credentials = |key_file: PathBuf| -> Result<Credentials, SetupError> {
            ServiceKey::read(&key_file)?;
            Ok(Credentials::new(key_file, http.clone()))
        };
        let mut accounts = HashMap::new();
        for Account { key_file, agents } in settings.accounts {
            let account = credentials(key_file)?;
            accounts.extend(agents.into_iter().map(|agent| (agent, account.clone())));
        }
        let credentials = settings.key_file.map(credentials).transpose()?;
        Ok(Self { http, credentials, accounts: accounts.into(), endpoint })
    }

    async fn attempt(self, order: Order) -> Answer {
        let Some(credentials) = self.accounts.get(&order.agent).or(self.credentials.as_ref()) else {
            return Answer::Unauthorized(
                "no access token: this agent has no account; name it in the `agents` of a [platform.accounts.NAME], or set \
                 `credentials` in [platform] for all that are not named"
                    .into(),
            );
        };
        let token = match credentials.token(clock::wall()).await {
            Ok(token) => token,
            Err(error) => return error.into(),
        };
        let answer = self.send(&order, &token).await;
        if !matches!(answer, Answer::Unauthorized(_)) {
            return answer;
        }
        credentials.invalidate(&token);
        match credentials.token(clock::wall()).await {
            Ok(renewed) => self.send(&order, &renewed).await,
            Err(error) => error.into(),
        }
    }

    async fn send(&self, order: &Order, token: &Token) -> Answer {
        let request = self
            .http
            .client(clock::now().mono)
            .delete(url(self.endpoint.as_deref(), order))
            .bearer_auth(token.expose());
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return answer::broken(&error),
        };
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = Body::read(response).await;
        answer::classify(status, retry_after.as_deref(), &body, order, clock::wall())
    }
}

impl Platform for RbmClient {
    fn revoke(&self, order: Order) -> BoxFuture<'static, Answer> {
        Box::pin(self.clone().attempt(order))
    }
}

impl fmt::Debug for RbmClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RbmClient").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// An endpoint as a prefix of URLs.
fn base(text: &str) -> Result<String, SetupError> {
    let plain = |url: &Url| {
        matches!(url.scheme(), "http" | "https")
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    };
    let url = Url::parse(text).ok().filter(plain).ok_or_else(|| SetupError::Endpoint(text.to_owned()))?;
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn certificates(path: &PathBuf) -> Result<Vec<Certificate>, SetupError> {
    let wrong = |why: String| SetupError::Certificates(path.clone(), why);
    let pem = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
    let roots = Certificate::from_pem_bundle(&pem).map_err(|_| wrong("not in PEM form".to_owned()))?;
    if roots.is_empty() { Err(wrong("there are none".to_owned())) } else { Ok(roots) }
}

/// `phones.agentMessages.delete`.
fn url(endpoint: Option<&str>, order: &Order) -> String {
    let base = endpoint.unwrap_or(match order.region {
        Region::Global => "https://rcsbusinessmessaging.googleapis.com",
        Region::Us => "https://us-rcsbusinessmessaging.googleapis.com",
        Region::Europe => "https://europe-rcsbusinessmessaging.googleapis.com",
        Region::Asia => "https://asia-rcsbusinessmessaging.googleapis.com",
    });
    let (phone, id) = (escape(&order.phone.reveal()), escape(order.message_id.as_str()));
    format!("{base}/v1/phones/{phone}/agentMessages/{id}?agentId={}", escape(order.agent.as_str()))
}

/// Percent-encodes all but RFC 3986's unreserved characters: right in a path segment and in a query, and `+` stays itself
/// for readers that would take it for a blank.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}"); // writing to a String can't fail
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MessageId;
    use crate::platform::tests::order;

    #[test]
    fn each_region_has_its_host_and_an_endpoint_replaces_them_all() {
        let path = "/v1/phones/%2B12223334444/agentMessages/msg-1?agentId=welcome-bot";
        for (region, host) in [
            (Region::Global, "https://rcsbusinessmessaging.googleapis.com"),
            (Region::Us, "https://us-rcsbusinessmessaging.googleapis.com"),
            (Region::Europe, "https://europe-rcsbusinessmessaging.googleapis.com"),
            (Region::Asia, "https://asia-rcsbusinessmessaging.googleapis.com"),
        ] {
            let order = Order { region, ..order() };
            assert_eq!(url(None, &order), format!("{host}{path}"));
            let endpoint = base("http://127.0.0.1:8008/").unwrap();
            assert_eq!(url(Some(&endpoint), &order), format!("http://127.0.0.1:8008{path}"));
        }
    }

    #[test]
    fn no_id_can_leave_its_place_in_the_url() {
        let odd = "%2e%2e?a=b#c&d+e;ü\\x:@";
        let order =
            Order { message_id: MessageId::new(odd).unwrap(), agent: AgentId::new("a=b+ü%").unwrap(), ..order() };
        let url = Url::parse(&url(None, &order)).unwrap();
        let segments: Vec<_> = url.path_segments().unwrap().collect();
        assert_eq!(segments.len(), 5, "{url}");
        assert_eq!(segments[4], "%252e%252e%3Fa%3Db%23c%26d%2Be%3B%C3%BC%5Cx%3A%40");
        assert_eq!(url.query_pairs().collect::<Vec<_>>(), [("agentId".into(), "a=b+ü%".into())]);
    }

    #[test]
    fn an_endpoint_is_a_plain_url() {
        assert_eq!(base("https://gateway.example/rbm/").unwrap(), "https://gateway.example/rbm");
        for wrong in ["", "localhost:8008", "ftp://x", "http://", "http://x/?a=b", "http://x/#a", "http://u:p@x/"] {
            assert!(base(wrong).is_err(), "{wrong:?} was accepted");
        }
    }
}
