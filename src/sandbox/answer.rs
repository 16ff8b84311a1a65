//! Answers in the platform's words: its error shape, its status names, its headers.

use std::borrow::Cow;

use axum::{body::Body, response::IntoResponse};
use hyper::{Response, StatusCode, body::Bytes, header};
use serde_json::json;

/// How large the answer of a `hugeBody` fault is.
const HUGE_CHUNKS: usize = 64;
const HUGE_CHUNK: usize = 1 << 20;

/// One answer, not yet on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Content,
    pub(super) retry_after: Option<String>,
    location: Option<&'static str>,
    challenge: Option<&'static str>,
}

/// What an answer's body holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Json(Cow<'static, str>),
    Html(&'static str),
    /// More JSON than anybody should read.
    Huge,
}

impl Answer {
    fn new(status: u16, body: Content) -> Self {
        Answer { status, body, retry_after: None, location: None, challenge: None }
    }

    /// 200 with this JSON.
    pub(super) fn ok(json: impl Into<Cow<'static, str>>) -> Self {
        Answer::new(200, Content::Json(json.into()))
    }

    /// An error of the API.
    pub(super) fn error(code: u16, message: &str) -> Self {
        let error = json!({"error": {"code": code, "message": message, "status": status_name(code)}});
        Answer::new(code, Content::Json(error.to_string().into()))
    }

    /// An error of the token endpoint, which has a shape of its own.
    pub(super) fn oauth_error(code: u16, error: &str, description: &str) -> Self {
        let error = json!({"error": error, "error_description": description});
        Answer::new(code, Content::Json(error.to_string().into()))
    }

    pub(super) fn invalid(message: &str) -> Self {
        Answer::error(400, message)
    }

    pub(super) fn not_found() -> Self {
        Answer::error(404, "Requested entity was not found.")
    }

    pub(super) fn unauthorized() -> Self {
        let mut answer = Answer::error(
            401,
            "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other \
             valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.",
        );
        answer.challenge = Some("Bearer realm=\"https://accounts.google.com/\", error=\"invalid_token\"");
        answer
    }

    pub(super) fn too_many_requests(retry_after: Option<String>) -> Self {
        let answer = Answer::error(429, "Resource has been exhausted (e.g. check quota).");
        Answer { retry_after, ..answer }
    }

    pub(super) fn server_error(code: u16, retry_after: Option<String>) -> Self {
        let message = match code {
            503 => "The service is currently unavailable.",
            504 => "The request timed out.",
            _ => "Internal error encountered.",
        };
        Answer { retry_after, ..Answer::error(code, message) }
    }

    pub(super) fn redirect() -> Self {
        let moved = Content::Html("<html><title>302 Found</title><p>The document has moved.</html>\n");
        Answer { location: Some("http://127.0.0.1:9/elsewhere"), ..Answer::new(302, moved) }
    }

    /// What a captive portal says to everything.
    pub(super) fn garbage() -> Self {
        Answer::new(200, Content::Html("<html><title>Welcome</title><p>Please accept our terms.</html>\n"))
    }

    pub(super) fn huge() -> Self {
        Answer::new(200, Content::Huge)
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response<Body> {
        let (kind, body) = match self.body {
            Content::Json(Cow::Borrowed(text)) => (JSON, Body::from(text)),
            Content::Json(Cow::Owned(text)) => (JSON, Body::from(text)),
            Content::Html(text) => ("text/html; charset=UTF-8", Body::from(text)),
            Content::Huge => (JSON, huge()),
        };
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        if let Some(retry_after) = self.retry_after.and_then(|text| header::HeaderValue::try_from(text).ok()) {
            headers.insert(header::RETRY_AFTER, retry_after);
        }
        if let Some(location) = self.location {
            headers.insert(header::LOCATION, header::HeaderValue::from_static(location));
        }
        if let Some(challenge) = self.challenge {
            headers.insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static(challenge));
        }
        response
    }
}

const JSON: &str = "application/json; charset=UTF-8";

/// Sent chunk by chunk from one piece of memory: the client should be the one that suffers.
fn huge() -> Body {
    let spaces = Bytes::from(vec![b' '; HUGE_CHUNK]);
    let chunks = std::iter::once(Bytes::from_static(b"{"))
        .chain(std::iter::repeat_n(spaces, HUGE_CHUNKS))
        .chain(std::iter::once(Bytes::from_static(b"}")));
    Body::from_stream(futures_util::stream::iter(chunks.map(Ok::<_, std::convert::Infallible>)))
}

fn status_name(code: u16) -> &'static str {
    match code {
        400 | 413 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        405 | 501 => "UNIMPLEMENTED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        500.. => "INTERNAL",
        _ => "UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_platforms_shape() {
        let Content::Json(body) = Answer::too_many_requests(None).body else { panic!("no JSON") };
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["error"]["code"], 429);
        assert_eq!(body["error"]["status"], "RESOURCE_EXHAUSTED");
    }

    #[test]
    fn the_headers_follow_the_answer() {
        let limited = Answer::too_many_requests(Some("7".into())).into_response();
        assert_eq!(limited.headers()[header::RETRY_AFTER], "7");
        assert!(Answer::unauthorized().into_response().headers().contains_key(header::WWW_AUTHENTICATE));
        assert!(Answer::redirect().into_response().headers().contains_key(header::LOCATION));
        assert!(!Answer::ok("{}").into_response().headers().contains_key(header::RETRY_AFTER));
    }
}
