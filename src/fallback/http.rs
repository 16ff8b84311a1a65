//! A grant as an HTTP request.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use secrecy::ExposeSecret as _;
use url::Url;

use super::{Granted, Method, Request, Template, words};
use crate::model::Called;
use crate::secret;

/// As much of an answer as is read: its first line goes to the log.
const ANSWER_BYTES_MAX: usize = 4096;

const KEY: HeaderName = HeaderName::from_static("idempotency-key");

pub(super) struct Ready {
    client: Client,
    method: reqwest::Method,
    url: Url,
    headers: HeaderMap,
    body: Option<Template>,
}

/// Whether a header can be sent so. The key of a grant is ours to set.
///
/// # Errors
/// Why not, in words.
pub fn check_header(name: &str, value: &str) -> Result<(), String> {
    header(name, value).map(drop)
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let name = HeaderName::try_from(name).map_err(|_| format!("{name:?} is not the name of a header"))?;
    if name == KEY {
        return Err(format!("{name} is set to the grant's id"));
    }
    let value = HeaderValue::try_from(value).map_err(|_| format!("the value of {name} can't be sent in a header"))?;
    Ok((name, value))
}

impl Ready {
    pub(super) fn new(from: &Request, timeout: Duration) -> Result<Self, String> {
        let mut headers = HeaderMap::new();
        if from.body.is_none() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (name, value) in &from.headers {
            let (name, value) = header(name, value)?;
            headers.insert(name, value);
        }
        for (name, path) in &from.header_files {
            let (name, mut value) = header(name, secret::read("value of a header", path)?.expose_secret())?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let builder = Client::builder()
            .user_agent(concat!("revoked/", env!("CARGO_PKG_VERSION")))
            .timeout(timeout)
            // Whoever is named here gets the phone number, and nobody else.
            .redirect(Policy::none());
        let clear = from.url.scheme() == "http";
        let builder = if clear { builder.no_proxy().tls_certs_only([]) } else { builder.https_only(true) };
        let client = builder.build().map_err(|error| format!("can't set up TLS for a fallback: {error}"))?;
        let method = match from.method {
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            Method::Patch => reqwest::Method::PATCH,
        };
        Ok(Self { client, method, url: from.url.clone(), headers, body: from.body.clone() })
    }

    pub(super) async fn call(&self, granted: &Granted) -> Called {
        let body = match &self.body {
            Some(template) => template.render(granted),
            None => serde_json::to_string(granted).map_err(|error| error.to_string()),
        };
        let body = match body {
            Ok(body) => body,
            Err(why) => return Called::Refused(format!("no body can be made for it: {why}").into()),
        };
        let request = self.client.request(self.method.clone(), self.url.clone()).headers(self.headers.clone());
        match request.header(KEY, granted.grant_id.as_str()).body(body).send().await {
            Ok(answer) => judge(answer, granted).await,
            Err(error) if error.is_timeout() => Called::Failed("no answer in time".into()),
            Err(error) if error.is_connect() => Called::Failed("it can't be reached".into()),
            Err(error) => Called::Failed(words::fit(&error.without_url().to_string(), granted).into()),
        }
    }
}

/// What an answer means. 409 is what some say of a key that is being worked on.
async fn judge(answer: Response, granted: &Granted) -> Called {
    let status = answer.status();
    if status.is_success() {
        return Called::Taken;
    }
    let wait = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    if let (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, Some(wait)) = (status, wait) {
        return Called::Later(Duration::from_secs(wait));
    }
    let said = format!("it answered {status}: {}", first_line(answer).await);
    let said = words::fit(said.trim_end_matches(": "), granted).into();
    match status.as_u16() {
        408 | 409 | 425 | 429 | 500.. => Called::Failed(said),
        _ => Called::Refused(said),
    }
}

async fn first_line(mut answer: Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < ANSWER_BYTES_MAX
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        bytes.extend_from_slice(&chunk[..chunk.len().min(ANSWER_BYTES_MAX - bytes.len())]);
    }
    String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().to_owned()
}
