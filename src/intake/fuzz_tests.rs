//! What clients and strangers send, damaged: no panic, no hang, a refusal that does not repeat what it refuses, and what is
//! read, written and read again is the same.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::events::{self, Unacceptable};
use super::export::Line;
use super::holds::OrderView;
use super::signature::ClientTokens;
use super::{parse, webhook};
use crate::engine::Refusal;
use crate::fuzz_tests::{fuzz, gist, lines};

const WIRE: &str = include_str!("../../tests/fixtures/corpus/wire.jsonl");
const EXPORT: &str = include_str!("../../tests/fixtures/corpus/export.jsonl");
const ENVELOPE: &str = include_str!("../../tests/fixtures/corpus/envelope.jsonl");

/// In every input of the corpora; a refusal has no business with either.
const PHONE: &str = "12223334444";
const TEXT: &str = "Your code is 77";

const WORDS: [&str; 24] = [
    "\"agentId\":\"bot\",",
    "\"phone\":\"+12223334444\",",
    "\"msisdn\":\"12223334444\",",
    "\"messageId\":\"m\",",
    "\"useCase\":\"otp\",",
    "\"sendTime\":\"2026-11-22T17:00:00Z\",",
    "\"expireTime\":\"9999-12-31T23:59:59Z\",",
    "\"ttl\":\"600s\",",
    "\"region\":\"us\",",
    "\"tags\":[\"a\"],",
    "\"fallback\":{\"text\":\"Your code is 77\"},",
    "\"timeZone\":\"Europe/Berlin\",",
    "\"onConflict\":\"keep\",",
    "\"name\":\"phones/+12223334444/agentMessages/m\",",
    "null",
    "true",
    "[]",
    "{}",
    "\"\"",
    ",",
    ":",
    "@rbm.goog",
    "-000001-01-01T00:00:00Z",
    "0.000000001s",
];

fn quiet(refusal: &Refusal) -> String {
    let Refusal { kind, message, field } = refusal;
    // Ids and keys are named where they are wrong; what they stand for is up to whoever made them.
    let may_hold_secrets =
        matches!(field.as_deref(), None | Some("phone" | "msisdn" | "name" | "fallback" | "message"));
    if may_hold_secrets && !message.contains("unknown ") {
        assert!(!message.contains(PHONE) && !message.contains(TEXT), "{message}");
    }
    format!("{kind:?} {} {}", field.as_deref().map(gist).unwrap_or_default(), gist(message))
}

#[test]
fn registrations_and_orders() {
    fuzz("wire: registrations", &lines(WIRE), &WORDS, |input| match parse::registration(input) {
        Ok(draft) => format!("{:?} {:?} {:?}", draft.region, draft.own.is_some(), draft.on_conflict),
        Err(refusal) => quiet(&refusal),
    });
    fuzz("wire: orders", &lines(WIRE), &WORDS, |input| match OrderView::read(input) {
        Ok((of, reason)) => format!("{} {}", of.tag.is_some(), reason.is_some()),
        Err(refusal) => quiet(&refusal),
    });
}

#[test]
fn lines_of_an_export() {
    fuzz("wire: exports", &lines(EXPORT), &WORDS, |input| {
        let line: Line = match serde_json::from_slice(input) {
            Ok(line) => line,
            Err(error) => return gist(&parse::words(&error)),
        };
        let written = serde_json::to_string(&line).unwrap();
        let again: Line = serde_json::from_str(&written).unwrap_or_else(|error| panic!("{error}: {written}"));
        assert_eq!(serde_json::to_string(&again).unwrap(), written);
        line.item().map_or_else(
            |refusal| quiet(&refusal),
            |item| format!("{:?}", item.map(|item| std::mem::discriminant(&item))),
        )
    });
}

#[test]
fn pushes() {
    let tokens: ClientTokens = [secrecy::SecretString::from("token")].into_iter().collect();
    fuzz("envelope", &lines(ENVELOPE), &WORDS, |input| {
        let pushed = match webhook::read(input) {
            Ok(webhook::Push::Handshake { .. }) => "a handshake".to_owned(),
            Ok(webhook::Push::Event(event)) => {
                event.decode().map_or_else(|refusal| quiet(&refusal), |_| "an event".to_owned())
            }
            Err(refusal) => quiet(&refusal),
        };
        assert!(events::read(input, Some("AAAA"), &tokens).is_err(), "nobody signed it");
        let event = match events::read(input, None, &tokens) {
            Ok(None) => "nothing to us".to_owned(),
            Ok(Some(events::Heard::Evidence(evidence))) => format!("{:?}", evidence.kind),
            Ok(Some(events::Heard::Said(_))) => "of promotions".to_owned(),
            Err(Unacceptable::Malformed(refusal)) => quiet(&refusal),
            Err(Unacceptable::WrongSignature) => unreachable!("no signature was given"),
        };
        // The same as data: what is signed may be anything, too.
        let data = serde_json::json!({"message": {"data": BASE64_STANDARD.encode(input)}}).to_string();
        assert!(
            matches!(webhook::read(data.as_bytes()), Ok(webhook::Push::Event(event)) if event.decode().unwrap() == input)
        );
        assert_eq!(
            events::of_data(input).is_some(),
            matches!(events::read(data.as_bytes(), None, &tokens), Ok(Some(_)))
        );
        format!("{pushed} {event}")
    });
}
