//! From bytes to a call: what the API's URLs, parameters and bodies look like.
//!
//! Lenient where the published client libraries differ from each other (a raw `+` or `%2B` in the path, gzipped bodies,
//! `alt=json` and its like in the query), and strict where the platform is.

use std::io::Read as _;

use axum::extract::Query;
use http_body_util::{BodyExt as _, Limited};
use hyper::{Method, Uri, body::Incoming, header, http::request::Parts};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{answer::Answer, feed::AGENT_DOMAIN};

/// No body of a client is larger than this, before or after decompression.
const BODY_MOST: usize = 1 << 20;
/// No message's id is longer than this, in bytes.
const ID_MOST: usize = 256;

/// The methods of the API, and the token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Operation {
    /// `phones.agentMessages.create`
    Create,
    /// `phones.agentMessages.delete`
    Delete,
    /// `phones.agentEvents.create`
    Event,
    /// `phones.getCapabilities`
    Capabilities,
    /// The token endpoint.
    Token,
}

/// A well-formed request to the API.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) operation: Operation,
    /// Without `@rbm.goog`.
    pub(super) agent: String,
    /// In E.164 form.
    pub(super) phone: String,
    /// The message's id, the event's or the request's.
    pub(super) id: String,
    pub(super) body: Map<String, Value>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    agent_id: Option<String>,
    message_id: Option<String>,
    event_id: Option<String>,
    request_id: Option<String>,
}

/// The bearer token of a request.
pub(super) fn bearer(head: &Parts) -> Option<&str> {
    let (scheme, token) = head.headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Reads a call; `Err` is the platform's answer to one that isn't well-formed.
pub(super) async fn read_call(head: &Parts, body: Incoming) -> Result<Call, Answer> {
    let (operation, phone, id) = route(&head.method, head.uri.path())?;
    let Query(parameters): Query<Parameters> =
        Query::try_from_uri(&head.uri).map_err(|error| Answer::invalid(&format!("Invalid query: {error}")))?;
    if !is_e164(&phone) {
        return Err(Answer::invalid("Invalid phone number: it must be in E.164 format."));
    }
    let agent = required("agentId", parameters.agent_id)?;
    let agent = agent.strip_suffix(AGENT_DOMAIN).unwrap_or(&agent).to_owned();
    if agent.is_empty() || agent.contains('/') {
        return Err(Answer::invalid("Invalid agentId."));
    }
    let id = match operation {
        Operation::Create => required("messageId", parameters.message_id)?,
        Operation::Event => required("eventId", parameters.event_id)?,
        Operation::Capabilities => parameters.request_id.unwrap_or_default(),
        Operation::Delete | Operation::Token => id,
    };
    if id.len() > ID_MOST || id.contains('/') {
        return Err(Answer::invalid("Invalid id: it must have at most 256 bytes and no slash."));
    }
    let body = match operation {
        Operation::Create | Operation::Event => json_object(&read_body(head, body).await?)?,
        _ => Map::new(),
    };
    Ok(Call { operation, agent, phone, id, body })
}

/// Reads a form that was posted: it is encoded as a query is.
pub(super) async fn read_form<T: serde::de::DeserializeOwned>(head: &Parts, body: Incoming) -> Option<T> {
    let form = read_body(head, body).await.ok()?;
    let uri: Uri = format!("/?{}", str::from_utf8(&form).ok()?).parse().ok()?;
    Query::try_from_uri(&uri).ok().map(|Query(form)| form)
}

fn required(name: &str, value: Option<String>) -> Result<String, Answer> {
    value.filter(|value| !value.is_empty()).ok_or_else(|| Answer::invalid(&format!("Missing parameter: {name}.")))
}

fn route(method: &Method, path: &str) -> Result<(Operation, String, String), Answer> {
    let segments: Vec<&str> = path.strip_prefix("/v1/phones/").unwrap_or_default().split('/').collect();
    let (operation, phone, id) = match (method.as_str(), &*segments) {
        ("POST", [phone, "agentMessages"]) => (Operation::Create, phone, ""),
        ("DELETE", [phone, "agentMessages", id]) if !id.is_empty() => (Operation::Delete, phone, *id),
        ("POST", [phone, "agentEvents"]) => (Operation::Event, phone, ""),
        ("GET", [phone, "capabilities"]) => (Operation::Capabilities, phone, ""),
        _ => return Err(Answer::error(404, "Method not found.")),
    };
    let decoded = percent_decoded(phone).zip(percent_decoded(id));
    let (phone, id) = decoded.ok_or_else(|| Answer::invalid("Invalid percent-encoding in the path."))?;
    Ok((operation, phone, id))
}

/// In a path `%2B` stands for `+`, and `+` for itself.
fn percent_decoded(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        bytes.push(match byte {
            b'%' => u8::try_from(digit(rest.next())? * 16 + digit(rest.next())?).ok()?,
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Whether a phone number is written `+` and two to fifteen digits, the first of them not 0.
pub(super) fn is_e164(phone: &str) -> bool {
    let digits = phone.strip_prefix('+').unwrap_or_default().as_bytes();
    (2..=15).contains(&digits.len()) && digits[0] != b'0' && digits.iter().all(u8::is_ascii_digit)
}

async fn read_body(head: &Parts, body: Incoming) -> Result<Vec<u8>, Answer> {
    let too_large = || Answer::error(413, "Request payload size exceeds the limit.");
    let read = Limited::new(body, BODY_MOST).collect().await.map_err(|_| too_large())?;
    let bytes = read.to_bytes();
    match head.headers.get(header::CONTENT_ENCODING).map(|encoding| encoding.as_bytes()) {
        None | Some(b"identity") => Ok(bytes.into()),
        // The published Java and .NET clients compress what they post.
        Some(b"gzip") => {
            let mut plain = Vec::new();
            let mut unpacked = flate2::read::MultiGzDecoder::new(&*bytes).take(BODY_MOST as u64 + 1);
            unpacked.read_to_end(&mut plain).map_err(|_| Answer::invalid("Invalid gzip payload received."))?;
            if plain.len() > BODY_MOST { Err(too_large()) } else { Ok(plain) }
        }
        Some(_) => Err(Answer::invalid("Unsupported Content-Encoding.")),
    }
}

fn json_object(bytes: &[u8]) -> Result<Map<String, Value>, Answer> {
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(bytes).map_err(|error| Answer::invalid(&format!("Invalid JSON payload received. {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plus_is_a_plus_raw_and_encoded() {
        for path in ["/v1/phones/+15550001/agentMessages/m-1", "/v1/phones/%2B15550001/agentMessages/m%2D1"] {
            let (operation, phone, id) = route(&Method::DELETE, path).unwrap();
            assert_eq!((operation, &*phone, &*id), (Operation::Delete, "+15550001", "m-1"));
        }
    }

    #[test]
    fn what_is_no_method_of_the_api_is_not_found_and_what_is_misspelt_is_invalid() {
        let status = |method, path| route(&method, path).unwrap_err().status;
        assert_eq!(status(Method::GET, "/v1/phones/+15550001/agentMessages/m"), 404);
        assert_eq!(status(Method::DELETE, "/v1/phones/+15550001/agentMessages/"), 404);
        assert_eq!(status(Method::DELETE, "/v1/phones/+15550001/agentMessages/a/b"), 404);
        assert_eq!(status(Method::POST, "/"), 404);
        for path in ["/v1/phones/%2/agentMessages", "/v1/phones/%zz/agentMessages", "/v1/phones/%ff/agentMessages"] {
            assert_eq!(status(Method::POST, path), 400, "{path}");
        }
    }

    #[test]
    fn phones_are_in_e164_form() {
        for good in ["+12223334444", "+4915112345678", "+15550001"] {
            assert!(is_e164(good), "{good}");
        }
        for bad in ["", "+", "12223334444", "+0123456", "+1222333444455556", "+1 222", "+1222x"] {
            assert!(!is_e164(bad), "{bad}");
        }
    }
}
