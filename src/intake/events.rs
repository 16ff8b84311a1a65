//! Events of the platform: out of their envelope, checked, and into evidence.
//!
//! Everything authentic is accepted, also what we can make nothing of: the platform repeats what is not answered with 200, and
//! one event it can't get rid of slows down every other one of that partner.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::parse::words;
use super::signature::ClientTokens;
use crate::engine::{Evidence, EvidenceEffect, EvidenceKind, Handle, Refusal, Said};
use crate::model::{AgentId, Identity, MessageId, Phone, Timestamp};

/// A push as the platform sends it. Only `message.data` is signed; everything around it may say anything.
#[derive(Deserialize)]
struct Envelope {
    message: Pushed,
}

#[derive(Deserialize)]
pub(super) struct Pushed {
    data: String,
}

impl Pushed {
    /// What is signed.
    ///
    /// # Errors
    /// 400: not base64.
    pub(super) fn decode(&self) -> Result<Vec<u8>, Refusal> {
        let not = |error| Refusal::invalid("message.data", format!("not base64: {error}"));
        BASE64_STANDARD.decode(&self.data).map_err(not)
    }
}

/// The union of user and server events. User messages (text, files, suggestions) have no `eventType`, and a `messageId`
/// that is the user's, not ours.
#[derive(Deserialize, Debug)]
#[serde(rename_all = "camelCase")]
struct PlatformEvent {
    event_type: Option<String>,
    message_id: Option<String>,
    agent_id: Option<String>,
    sender_phone_number: Option<String>,
    phone_number: Option<String>,
    send_time: Option<String>,
}

/// What an event says to us.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Heard {
    /// Something of a message.
    Evidence(Evidence),
    /// Something of a phone.
    Said(Said),
}

impl Heard {
    /// Whose message it is about, or whose promotions.
    pub(super) fn agent(&self) -> &AgentId {
        match self {
            Self::Evidence(evidence) => &evidence.identity.agent,
            Self::Said(said) => &said.agent,
        }
    }

    /// Tells the engine; answered when it is on disk.
    pub(super) async fn tell(self, engine: &Handle) -> Result<EvidenceEffect, Refusal> {
        match self {
            Self::Evidence(evidence) => {
                Ok(engine.evidence(vec![evidence]).await?.pop().unwrap_or(EvidenceEffect::Ignored))
            }
            Self::Said(said) => engine.subscription(said).await,
        }
    }
}

/// Why an event is not accepted.
#[derive(Debug)]
pub(super) enum Unacceptable {
    /// 400
    Malformed(Refusal),
    /// 401
    WrongSignature,
}

/// Reads an event, alone or in its envelope. `None` for one that says nothing to us.
///
/// # Errors
/// [`Unacceptable`]: the body is no event, or its signature is not one of its data.
pub(super) fn read(body: &[u8], signature: Option<&str>, tokens: &ClientTokens) -> Result<Option<Heard>, Unacceptable> {
    let malformed = |message: String| Unacceptable::Malformed(Refusal::invalid("message", message));
    let data = match serde_json::from_slice::<Envelope>(body) {
        Ok(envelope) => envelope.message.decode().map_err(Unacceptable::Malformed)?,
        Err(_) => body.to_vec(),
    };
    // Whoever may use the socket may also say what was delivered. But a signature that is passed on has to be right.
    if let Some(signature) = signature
        && !tokens.is_empty()
        && !tokens.verify(&data, signature)
    {
        return Err(Unacceptable::WrongSignature);
    }
    let event: PlatformEvent = serde_json::from_slice(&data).map_err(|error| {
        malformed(format!("neither an event nor the platform's envelope of one: {}", words(&error)))
    })?;
    let empty = event.event_type.is_none() && event.message_id.is_none() && event.agent_id.is_none();
    if empty && event.sender_phone_number.is_none() && event.phone_number.is_none() {
        return Err(malformed("neither an event nor the platform's envelope of one".to_owned()));
    }
    Ok(heard(event))
}

/// What authentic data says to us, if it says anything.
pub(super) fn of_data(data: &[u8]) -> Option<Heard> {
    serde_json::from_slice(data).ok().and_then(heard)
}

fn heard(event: PlatformEvent) -> Option<Heard> {
    let name = event.event_type?;
    // A server event names the handset as phoneNumber, a user event as senderPhoneNumber.
    let (phone, from_server) = match (event.phone_number, event.sender_phone_number) {
        (Some(phone), _) => (phone, true),
        (None, Some(phone)) => (phone, false),
        (None, None) => return None,
    };
    let (agent, phone) = (AgentId::new(&event.agent_id?).ok()?, Phone::new(&phone).ok()?);
    let kind = match name.as_str() {
        "SUBSCRIBE" | "UNSUBSCRIBE" => {
            let at = event.send_time.and_then(|time| Timestamp::parse(&time).ok());
            return Some(Heard::Said(Said { agent, phone, ended: name == "UNSUBSCRIBE", at }));
        }
        "DELIVERED" => EvidenceKind::Delivered,
        "READ" => EvidenceKind::Read,
        "TTL_EXPIRATION_REVOKED" => EvidenceKind::TtlRevoked,
        // A new word about a ttl may well mean that the message stays; anything else is no reason to revoke it early.
        other if from_server && other.starts_with("TTL_") => {
            EvidenceKind::TtlFailed(other.chars().take(64).collect::<String>().into())
        }
        _ => return None,
    };
    let identity = Identity { agent, message_id: MessageId::new(&event.message_id?).ok()? };
    Some(Heard::Evidence(Evidence { identity, phone, kind }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(event: &str) -> Option<Heard> {
        read(event.as_bytes(), None, &ClientTokens::default()).unwrap()
    }

    fn of(event: &str) -> Option<Evidence> {
        match heard(event)? {
            Heard::Evidence(evidence) => Some(evidence),
            Heard::Said(said) => panic!("{said:?}"),
        }
    }

    #[test]
    fn an_event_means_the_same_alone_and_in_its_envelope() {
        let event = r#"{"senderPhoneNumber":"+12223334444","eventType":"DELIVERED","eventId":"e","messageId":"m","agentId":"bot@rbm.goog"}"#;
        let envelope = format!(
            r#"{{"message":{{"data":"{}","attributes":{{}},"messageId":"9","publishTime":"x"}},"subscription":"s"}}"#,
            BASE64_STANDARD.encode(event)
        );
        let alone = of(event).unwrap();
        assert_eq!(alone.kind, EvidenceKind::Delivered);
        assert_eq!(alone.identity.agent, AgentId::new("bot").unwrap());
        assert_eq!(of(&envelope), Some(alone));
    }

    #[test]
    fn a_server_event_of_an_unknown_kind_is_a_failed_expiry_and_a_users_event_is_not() {
        let server =
            r#"{"phoneNumber":"+12223334444","eventType":"TTL_SOMETHING_NEW","messageId":"m","agentId":"bot"}"#;
        assert_eq!(of(server).unwrap().kind, EvidenceKind::TtlFailed("TTL_SOMETHING_NEW".into()));
        let user = r#"{"senderPhoneNumber":"+12223334444","eventType":"IS_TYPING","agentId":"bot"}"#;
        assert_eq!(of(user), None);
        let text = r#"{"senderPhoneNumber":"+12223334444","text":"hi","messageId":"theirs","agentId":"bot"}"#;
        assert_eq!(of(text), None);
    }

    #[test]
    fn what_a_user_says_of_promotions_names_an_agent_and_a_phone_and_no_message() {
        let of = |kind: &str, more: &str| {
            heard(&format!(
                r#"{{"senderPhoneNumber":"+12223334444","eventType":"{kind}","agentId":"bot@rbm.goog"{more}}}"#
            ))
        };
        let said = Said {
            agent: AgentId::new("bot").unwrap(),
            phone: Phone::new("+12223334444").unwrap(),
            ended: true,
            at: Some(Timestamp::parse("2026-11-22T17:00:00Z").unwrap()),
        };
        assert_eq!(of("UNSUBSCRIBE", r#","sendTime":"2026-11-22T17:00:00Z""#), Some(Heard::Said(said.clone())));
        let again = Heard::Said(Said { ended: false, at: None, ..said });
        assert_eq!(of("SUBSCRIBE", r#","sendTime":"yesterday""#), Some(again));
    }

    #[test]
    fn a_server_event_that_is_not_about_a_ttl_is_no_reason_to_revoke() {
        let sent = r#"{"phoneNumber":"+12223334444","eventType":"MESSAGE_QUEUED","messageId":"m","agentId":"bot"}"#;
        assert_eq!(of(sent), None);
    }

    #[test]
    fn noise_is_refused_and_a_wrong_signature_too() {
        for noise in ["", "{}", "[]", "7", r#"{"message":{"data":"%%%"}}"#, r#"{"message":{}}"#] {
            assert!(read(noise.as_bytes(), None, &ClientTokens::default()).is_err(), "{noise:?}");
        }
        let tokens: ClientTokens = [secrecy::SecretString::from("t")].into_iter().collect();
        let event = br#"{"senderPhoneNumber":"+12223334444","eventType":"READ","messageId":"m","agentId":"bot"}"#;
        assert!(matches!(read(event, Some("AAAA"), &tokens), Err(Unacceptable::WrongSignature)));
        assert!(read(event, None, &tokens).unwrap().is_some());
    }
}
