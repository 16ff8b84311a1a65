//! What an answer is worth: from a status, a header and a body to an [`Answer`].
//!
//! The rule behind the table: *only the platform may speak about a message*. A 200 or a 404 decides whether an SMS is sent,
//! and other 4xx end a message for good; but proxies, load balancers and captive portals answer with the same numbers. So
//! such a status counts only with a body of the platform's shape, or none; otherwise nothing is known
//! ([`Answer::Lost`]), which costs another attempt and never a wrong outcome. Statuses that only make us wait (401, 403,
//! 429) are believed whoever sends them.
//!
//! Pure: no network, no clock.

use std::time::Duration;

use chrono::NaiveDateTime;
use reqwest::StatusCode;
use serde_json::Value;

use super::Order;
use super::http::{self, Body};
use crate::model::{Answer, Timestamp};

/// The longest wait that a `Retry-After` can impose: who asks for more is mistaken, and messages have deadlines.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// The three forms of a date that RFC 9110 (section 5.6.7) obliges recipients to read.
const HTTP_DATES: [&str; 3] = ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];

/// What a body says, in the platform's terms.
enum Said {
    /// It is empty.
    Nothing,
    /// A JSON object, and not an error.
    Object,
    /// `{"error":{…}}`, in words.
    Error(String),
    /// Anything else: cut off, HTML, a page of some proxy.
    Noise,
}

/// The one table of what the platform can answer.
pub(super) fn classify(
    status: StatusCode,
    retry_after: Option<&str>,
    body: &Body,
    order: &Order,
    now: Timestamp,
) -> Answer {
    let said = Said::read(body, order);
    let words = |about: &str| -> Box<str> {
        let code = status.as_u16();
        match &said {
            Said::Error(text) => format!("HTTP {code} {text}"),
            _ if about.is_empty() => format!("HTTP {code}"),
            _ => format!("HTTP {code}: {about}"),
        }
        .into()
    };
    match (status.as_u16(), &said) {
        (200, Said::Nothing | Said::Object) => Answer::Revoked,
        (200, _) => Answer::Lost(words("garbage answer")),
        (300..=399, _) => {
            Answer::NotSent(words("redirect not followed: check the endpoint, and what stands before it"))
        }
        (401, _) => Answer::Unauthorized(words("")),
        (403, _) => Answer::Forbidden(words("")),
        (404, Said::Nothing | Said::Error(_)) => Answer::NotFound,
        (429, _) => Answer::TooManyRequests(retry_after.and_then(|value| wait(value, now))),
        (408, _) => Answer::Lost(words("")),
        (400..=499, Said::Nothing | Said::Error(_)) => Answer::Rejected(words("")),
        (400..=499, _) => Answer::Lost(words("not an answer of the platform")),
        _ => Answer::Lost(words("")),
    }
}

/// What it means that no answer came.
pub(super) fn broken(error: &reqwest::Error) -> Answer {
    let why = http::reason(error);
    if error.is_connect() {
        Answer::NotSent(format!("no connection to {why}").into())
    } else if error.is_builder() {
        Answer::NotSent(format!("no request for {why}").into())
    } else if error.is_timeout() {
        Answer::Lost(format!("no answer in time from {why}").into())
    } else {
        Answer::Lost(format!("no answer from {why}").into())
    }
}

impl Said {
    fn read(body: &Body, order: &Order) -> Self {
        if body.is_empty() {
            return Self::Nothing;
        }
        let Some(Value::Object(object)) = body.json() else { return Self::Noise };
        match object.get("error") {
            None => Self::Object,
            Some(Value::Object(error)) => {
                let text = |key| error.get(key).and_then(Value::as_str).unwrap_or_default();
                Self::Error(scrub(&format!("{}: {}", text("status"), text("message")), order))
            }
            Some(_) => Self::Noise,
        }
    }
}

/// The platform's words without the handset's number, wherever it stands, and without the path that leads to the message.
fn scrub(text: &str, order: &Order) -> String {
    let text = text.replace(&order.phone.digits().to_string(), "…");
    let pathless = |word: &str| match word.find("phones/") {
        Some(at) => format!("{}phones/…", &word[..at]),
        None => word.to_owned(),
    };
    // Scrubbed before it is cut: half a number is a number too.
    http::clean(&text.split_whitespace().map(pathless).collect::<Vec<_>>().join(" "))
}

/// Reads a `Retry-After`: seconds, or a date. A date in the past is no wait at all; what can't be read is no wish.
fn wait(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let asked = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit is a very long time.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let date = HTTP_DATES.iter().find_map(|form| NaiveDateTime::parse_from_str(value, form).ok())?;
        Timestamp::from(date.and_utc()).since(now)
    };
    Some(asked.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::platform::tests::order;

    const ERROR: &str = r#"{"error":{"code":1,"message":"words","status":"STATUS"}}"#;
    const HTML: &str = "<html>proxy</html>";

    fn answer(status: u16, body: &str) -> Answer {
        let body = Body { bytes: body.into(), whole: true };
        classify(StatusCode::from_u16(status).unwrap(), None, &body, &order(), Timestamp::EPOCH)
    }

    #[rstest]
    #[case(200, "{}", Answer::Revoked)]
    #[case(200, "", Answer::Revoked)]
    #[case(200, " \r\n", Answer::Revoked)]
    #[case(200, r#"{"new":"field"}"#, Answer::Revoked)]
    #[case(200, HTML, Answer::Lost("HTTP 200: garbage answer".into()))]
    #[case(200, "[]", Answer::Lost("HTTP 200: garbage answer".into()))]
    #[case(200, ERROR, Answer::Lost("HTTP 200 STATUS: words".into()))]
    #[case(202, "{}", Answer::Lost("HTTP 202".into()))]
    #[case(404, ERROR, Answer::NotFound)]
    #[case(404, "", Answer::NotFound)]
    #[case(404, HTML, Answer::Lost("HTTP 404: not an answer of the platform".into()))]
    #[case(404, "{}", Answer::Lost("HTTP 404: not an answer of the platform".into()))]
    #[case(404, r#"{"error":"text"}"#, Answer::Lost("HTTP 404: not an answer of the platform".into()))]
    #[case(429, HTML, Answer::TooManyRequests(None))]
    #[case(401, ERROR, Answer::Unauthorized("HTTP 401 STATUS: words".into()))]
    #[case(403, HTML, Answer::Forbidden("HTTP 403".into()))]
    #[case(400, ERROR, Answer::Rejected("HTTP 400 STATUS: words".into()))]
    #[case(409, ERROR, Answer::Rejected("HTTP 409 STATUS: words".into()))]
    #[case(418, "", Answer::Rejected("HTTP 418".into()))]
    #[case(400, HTML, Answer::Lost("HTTP 400: not an answer of the platform".into()))]
    #[case(408, ERROR, Answer::Lost("HTTP 408 STATUS: words".into()))]
    #[case(500, HTML, Answer::Lost("HTTP 500".into()))]
    #[case(503, ERROR, Answer::Lost("HTTP 503 STATUS: words".into()))]
    fn each_answer_has_one_meaning(#[case] status: u16, #[case] body: &str, #[case] expected: Answer) {
        assert_eq!(answer(status, body), expected);
    }

    #[test]
    fn a_redirect_was_not_sent_on() {
        assert!(matches!(answer(307, ""), Answer::NotSent(words) if words.starts_with("HTTP 307: redirect")));
    }

    #[test]
    fn a_body_that_was_cut_off_proves_nothing() {
        for status in [StatusCode::OK, StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST] {
            let answer = classify(status, None, &Body::default(), &order(), Timestamp::EPOCH);
            assert!(matches!(answer, Answer::Lost(_)), "{status}: {answer:?}");
        }
    }

    #[rstest]
    #[case("30", Some(30))]
    #[case(" 30 ", Some(30))]
    #[case("0", Some(0))]
    #[case("7200", Some(3600))]
    #[case("99999999999999999999999", Some(3600))]
    #[case("Sun, 06 Nov 1994 08:49:37 GMT", Some(37))]
    #[case("Sunday, 06-Nov-94 08:49:37 GMT", Some(37))]
    #[case("Sun Nov  6 08:49:37 1994", Some(37))]
    #[case("Sun, 06 Nov 1994 08:00:00 GMT", Some(0))]
    #[case("Mon, 06 Nov 2094 08:00:00 GMT", None)] // it is a Saturday
    #[case("Sat, 06 Nov 2094 08:00:00 GMT", Some(3600))]
    #[case("-5", None)]
    #[case("1.5", None)]
    #[case("soon", None)]
    #[case("", None)]
    fn retry_after_is_seconds_or_a_date_within_an_hour(#[case] value: &str, #[case] seconds: Option<u64>) {
        let now = Timestamp::parse("1994-11-06T08:49:00Z").unwrap();
        assert_eq!(wait(value, now), seconds.map(Duration::from_secs));
    }

    #[test]
    fn the_platforms_words_are_scrubbed_of_number_and_path_and_cut() {
        let words =
            r#"no \u001b[1m+12223334444 (%2B12223334444) at v1/phones/+12223334444/agentMessages/msg-1?x \n here"#;
        let body = format!(r#"{{"error":{{"status":"S","message":"{words}{}"}}}}"#, "x".repeat(1000));
        let Answer::Rejected(told) = answer(400, &body) else { panic!("not rejected") };
        assert!(told.starts_with("HTTP 400 S: no [1m+… (%2B…) at v1/phones/… here"), "{told}");
        assert!(
            !told.contains("2223334444") && !told.contains("agentMessages") && told.chars().count() < 220,
            "{told}"
        );
    }
}
