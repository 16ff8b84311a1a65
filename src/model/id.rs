//! Who and what: agents, phones, messages, regions, traffic types.
//!
//! Each is a type that can only exist valid, so no other room checks it again. Strings are shared (`Arc<str>`): a lane of
//! a million messages names its agent once.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Longest accepted `agentId`, `messageId`, use case or tag, in bytes. The platform publishes no bound; this one is ours.
pub const NAME_BYTES_MAX: usize = 256;

/// The domain that events carry behind an agent's id and requests do not.
const AGENT_DOMAIN: &str = "@rbm.goog";

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text, as it goes over the wire.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
                Self::new(&text).map_err(de::Error::custom)
            }
        }
    };
}

name_type! {
    /// An agent, normalised to the part before `@rbm.goog`: requests carry the short form, events may carry the full one.
    AgentId
}
name_type! {
    /// The sender's own id of a message. The platform's page says UUID, its samples send `msg-1`: any printable id without `/`.
    MessageId
}
name_type! {
    /// The name of a `[use_cases.NAME]` table: what kind of message this is, and so which policy it follows.
    UseCase
}

fn printable(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.chars().any(|c| c.is_control() || c.is_whitespace())
}

impl AgentId {
    /// # Errors
    /// A sentence for the person who wrote the value.
    pub fn new(text: &str) -> Result<Self, String> {
        let short = text.strip_suffix(AGENT_DOMAIN).unwrap_or(text);
        if !printable(short) || short.contains(['/', '@', '?', '#', '&']) {
            return Err(format!(
                "{text:?} is not an agent id: expected the part before {AGENT_DOMAIN}, 1 to {NAME_BYTES_MAX} bytes"
            ));
        }
        Ok(Self(short.into()))
    }
}

impl MessageId {
    /// # Errors
    /// A sentence for the person who wrote the value.
    pub fn new(text: &str) -> Result<Self, String> {
        // "." and ".." would be resolved away by every URL library, and the request would reach another resource.
        if !printable(text) || text.contains('/') || text == "." || text == ".." {
            return Err(format!(
                "{text:?} is not a message id: 1 to {NAME_BYTES_MAX} bytes without blanks or '/', not \".\" or \"..\""
            ));
        }
        Ok(Self(text.into()))
    }
}

impl UseCase {
    /// # Errors
    /// A sentence for the person who wrote the value.
    pub fn new(text: &str) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if text.is_empty() || text.len() > 64 || !text.bytes().all(plain) {
            return Err(format!("{text:?} is not a use case: 1 to 64 letters, digits, '-' or '_'"));
        }
        Ok(Self(text.into()))
    }
}

/// A phone number in E.164 form (ITU-T E.164: at most 15 digits).
///
/// Kept as a number, shown only where it is asked for by name: the type has no `Display`, and its `Debug` hides the digits,
/// so that a number can't reach a log by accident.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Phone(u64);

impl Phone {
    /// # Errors
    /// A sentence that does not repeat the digits.
    pub fn new(text: &str) -> Result<Self, String> {
        let wrong = || "not an E.164 number: expected '+', then 7 to 15 digits, the first not 0".to_owned();
        let digits = text.strip_prefix('+').ok_or_else(wrong)?;
        let shaped = (7..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        if !shaped || digits.starts_with('0') {
            return Err(wrong());
        }
        digits.parse().map(Self).map_err(|_| wrong())
    }

    /// The number as digits without the `+`: what the store keeps.
    pub const fn digits(self) -> u64 {
        self.0
    }

    /// From what [`Phone::digits`] gave.
    pub const fn from_digits(digits: u64) -> Self {
        Self(digits)
    }

    /// `+12223334444`. Only for the platform, and for a client that asked for this very message.
    pub fn reveal(self) -> String {
        format!("+{}", self.0)
    }
}

impl fmt::Debug for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Phone(…)")
    }
}

/// What identifies a message here: its agent and the id the agent gave it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Identity {
    /// Who sent it.
    pub agent: AgentId,
    /// The sender's id for it.
    pub message_id: MessageId,
}

/// The platform's region that took the message; it must be revoked through the same one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Region {
    /// `rcsbusinessmessaging.googleapis.com`, no prefix.
    #[default]
    Global,
    /// `us-…`
    Us,
    /// `europe-…`
    Europe,
    /// `asia-…`
    Asia,
}

impl Region {
    /// All of them, in the order of their stored codes.
    pub const ALL: [Self; 4] = [Self::Global, Self::Us, Self::Europe, Self::Asia];

    /// The name on the wire and in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Us => "us",
            Self::Europe => "europe",
            Self::Asia => "asia",
        }
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The platform's `messageTrafficType`, in order of urgency: the order in which due revocations leave.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TrafficType {
    /// One-time passwords and the like.
    Authentication,
    /// About something the user did or has.
    #[default]
    Transaction,
    /// Asked for by the user.
    ServiceRequest,
    /// A confirmation.
    Acknowledgement,
    /// Marketing.
    Promotion,
}

impl TrafficType {
    /// All of them, most urgent first, in the order of their stored codes.
    pub const ALL: [Self; 5] =
        [Self::Authentication, Self::Transaction, Self::ServiceRequest, Self::Acknowledgement, Self::Promotion];

    /// The platform's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authentication => "AUTHENTICATION",
            Self::Transaction => "TRANSACTION",
            Self::ServiceRequest => "SERVICEREQUEST",
            Self::Acknowledgement => "ACKNOWLEDGEMENT",
            Self::Promotion => "PROMOTION",
        }
    }
}

impl fmt::Display for TrafficType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_the_same_with_and_without_its_domain() {
        assert_eq!(AgentId::new("welcome-bot@rbm.goog"), AgentId::new("welcome-bot"));
        for wrong in ["", "@rbm.goog", "a/b", "a b", "a@b", "a\u{7}", "a?b"] {
            assert!(AgentId::new(wrong).is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn a_phone_never_shows_its_digits_in_debug_or_errors() {
        let phone = Phone::new("+12223334444").unwrap();
        assert_eq!(phone.reveal(), "+12223334444");
        assert!(!format!("{phone:?}").contains("222"));
        for wrong in ["12223334444", "+0123456789", "+123456", "+1234567890123456", "+1222333444x", "", "+"] {
            let told = Phone::new(wrong).unwrap_err();
            assert!(wrong.len() < 3 || !told.contains(wrong), "{told}");
        }
    }

    #[test]
    fn a_message_id_can_stand_in_a_path() {
        assert!(MessageId::new("12345xyz").is_ok());
        for wrong in ["", "a/b", ".", "..", "a\nb", &"x".repeat(257)] {
            assert!(MessageId::new(wrong).is_err(), "{wrong:?} was accepted");
        }
    }
}
