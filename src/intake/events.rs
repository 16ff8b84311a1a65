//! Events of the platform: out of their envelope, checked, and into evidence.
//!
//! Everything authentic is accepted, also what we can make nothing of: the platform repeats what is not answered with 200, and
//! one event it can't get rid of slows down every other one of that partner.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::parse::words;
use super::signature::ClientTokens;
use crate::engine::{Evidence, EvidenceKind, Refusal};
use crate::model::{AgentId, Identity, MessageId, Phone};

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
}

/// Why an event is not accepted.
#[derive(Debug)]
pub(super) enum Unacceptable {
    /// 400
    Malformed(Refusal),
    /// 401
    WrongSignature,
}

/// Reads an event, alone or in its envelope. `None` for one that is not about a message of ours.
///
/// # Errors
/// [`Unacceptable`]: the body is no event, or its signature is not one of its data.
pub(super) fn read(
    body: &[u8],
    signature: Option<&str>,
    tokens: &ClientTokens,
) -> Result<Option<Evidence>, Unacceptable> {
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
    Ok(evidence(event))
}

/// What authentic data says about a message of ours, if it says anything.
pub(super) fn of_data(data: &[u8]) -> Option<Evidence> {
    serde_json::from_slice(data).ok().and_then(evidence)
}

fn evidence(event: PlatformEvent) -> Option<Evidence> {
    let name = event.event_type?;
    // A server event names the handset as phoneNumber, a user event as senderPhoneNumber.
    let (phone, from_server) = match (event.phone_number, event.sender_phone_number) {
        (Some(phone), _) => (phone, true),
        (None, Some(phone)) => (phone, false),
        (None, None) => return None,
    };
    let kind = match name.as_str() {
        "DELIVERED" => EvidenceKind::Delivered,
        "READ" => EvidenceKind::Read,
        "TTL_EXPIRATION_REVOKED" => EvidenceKind::TtlRevoked,
        // A new word about a ttl may well mean that the message stays; anything else is no reason to revoke it early.
        other if from_server && other.starts_with("TTL_") => {
            EvidenceKind::TtlFailed(other.chars().take(64).collect::<String>().into())
        }
        _ => return None,
    };
    let identity =
        Identity { agent: AgentId::new(&event.agent_id?).ok()?, message_id: MessageId::new(&event.message_id?).ok()? };
    Some(Evidence { identity, phone: Phone::new(&phone).ok()?, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(event: &str) -> Option<Evidence> {
        read(event.as_bytes(), None, &ClientTokens::default()).unwrap()
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
