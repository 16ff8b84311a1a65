//! The service-account key: a JSON file from Google, and the assertions that are signed with it.
//!
//! An assertion is a JWT that says "I am this account, let me speak to RBM for an hour" (RFC 7523). The token endpoint takes
//! it in exchange for an access token; that is [`super::token`]'s part.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use serde::{Deserialize, Deserializer, Serialize};

use super::http;
use crate::model::Timestamp;

/// What the token is to be good for.
const SCOPE: &str = "https://www.googleapis.com/auth/rcsbusinessmessaging";

/// The longest life that Google allows an assertion.
const ASSERTION_LIFE: Duration = Duration::from_secs(3600);

/// A key file is some 2.4 kB; what is much longer was named by mistake.
const FILE_BYTES_MAX: usize = 64 * 1024;

/// Why a key file is of no use, and what helps.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// Nothing is there.
    #[error(
        "there is no key file {0}: create a JSON key for the service account (Google Cloud console, IAM & Admin, Service \
         Accounts, Keys) and put it there"
    )]
    Missing(PathBuf),
    /// It can't be read.
    #[error("can't read the key file {0}: {1}")]
    Unreadable(PathBuf, String),
    /// It is something else.
    #[error(
        "{0} is not a service-account key: {1}; it has to be the JSON file from the account's Keys page, unchanged"
    )]
    Foreign(PathBuf, String),
    /// Its private key is damaged.
    #[error(
        "the private_key in {0} is not a readable RSA key in PEM form: put the file there again as it was downloaded"
    )]
    BadPem(PathBuf),
}

/// A service-account key as read from its file. `Debug` does not show the private part.
pub struct ServiceKey {
    /// Whose key it is.
    pub client_email: String,
    /// Where its assertions are exchanged for tokens.
    pub token_uri: String,
    id: String,
    signer: EncodingKey,
}

/// The file's members that matter. All of them optional, so that we say what is missing in our own words: serde's quote
/// the file.
#[derive(Deserialize)]
struct File {
    r#type: Option<String>,
    client_email: Option<String>,
    token_uri: Option<String>,
    private_key_id: Option<String>,
    #[serde(default, deserialize_with = "secret")]
    private_key: Option<SecretString>,
}

fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.map(SecretString::from))
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    scope: &'a str,
    aud: &'a str,
    iat: i64,
    exp: i64,
}

impl ServiceKey {
    /// Reads a key file. For start-up and for checks; blocks for as long as a small file takes.
    ///
    /// # Errors
    /// If it isn't one, in a sentence that names the fix.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let bytes = std::fs::read(path).map_err(|e| match e.kind() {
            ErrorKind::NotFound => KeyError::Missing(path.to_owned()),
            _ => KeyError::Unreadable(path.to_owned(), e.to_string()),
        })?;
        Self::parse(path, &SecretSlice::from(bytes))
    }

    fn parse(path: &Path, bytes: &SecretSlice<u8>) -> Result<Self, KeyError> {
        let bytes = bytes.expose_secret();
        let foreign = |why: &str| KeyError::Foreign(path.to_owned(), why.to_owned());
        if bytes.len() > FILE_BYTES_MAX {
            return Err(foreign("it is too long"));
        }
        let file: File = serde_json::from_slice(bytes).map_err(|e| match e.is_data() {
            true => foreign("its members are not what they should be"),
            false => foreign(&format!("line {}, column {} is not JSON", e.line(), e.column())),
        })?;
        if let Some(other) = file.r#type.filter(|kind| kind != "service_account") {
            return Err(foreign(&format!("its type is {}", http::clean(&other))));
        }
        let lacks = |name: &str| foreign(&format!("it lacks `{name}`"));
        let client_email = file.client_email.ok_or_else(|| lacks("client_email"))?;
        let token_uri = file.token_uri.ok_or_else(|| lacks("token_uri"))?;
        let id = file.private_key_id.ok_or_else(|| lacks("private_key_id"))?;
        let pem = file.private_key.ok_or_else(|| lacks("private_key"))?;
        let bad_pem = || KeyError::BadPem(path.to_owned());
        let signer = EncodingKey::from_rsa_pem(pem.expose_secret().as_bytes()).map_err(|_| bad_pem())?;
        let key = Self { client_email, token_uri, id, signer };
        // That the PEM holds a key, and not just base64, only signing tells.
        key.assertion(Timestamp::EPOCH).map_err(|_| bad_pem())?;
        Ok(key)
    }

    /// A signed assertion, good for an hour from `now`.
    pub(crate) fn assertion(&self, now: Timestamp) -> Result<SecretString, jsonwebtoken::errors::Error> {
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(self.id.clone());
        let claims = Claims {
            iss: &self.client_email,
            scope: SCOPE,
            aud: &self.token_uri,
            iat: now.millis() / 1000,
            exp: now.plus(ASSERTION_LIFE).millis() / 1000,
        };
        jsonwebtoken::encode(&header, &claims, &self.signer).map(SecretString::from)
    }
}

impl fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceKey({}, …)", self.client_email)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::tests::key_json;

    fn parse(text: &str) -> Result<ServiceKey, String> {
        let bytes = SecretSlice::from(text.as_bytes().to_vec());
        ServiceKey::parse(Path::new("/etc/revoked/key.json"), &bytes).map_err(|e| e.to_string())
    }

    #[test]
    fn a_key_as_google_writes_it_is_read_and_never_shown() {
        let json = key_json("https://oauth2.googleapis.com/token");
        let key = parse(&json.to_string()).unwrap();
        assert_eq!(key.client_email, "revoker@example.iam.gserviceaccount.com");
        assert_eq!(format!("{key:?}"), "ServiceKey(revoker@example.iam.gserviceaccount.com, …)");
        assert_eq!(key.assertion(Timestamp::EPOCH).unwrap().expose_secret().split('.').count(), 3);
    }

    #[test]
    fn what_is_no_key_is_refused_in_words_that_name_the_fix() {
        let missing = ServiceKey::read(Path::new("/nowhere/key.json")).unwrap_err().to_string();
        assert!(missing.starts_with("there is no key file /nowhere/key.json: create"), "{missing}");
        let directory = ServiceKey::read(Path::new("/")).unwrap_err().to_string();
        assert!(directory.starts_with("can't read the key file /:"), "{directory}");

        let without = |name: &str| {
            let mut json = key_json("https://localhost/token");
            json.as_object_mut().unwrap().remove(name);
            json.to_string()
        };
        let with = |name: &str, value: &str| {
            let mut json = key_json("https://localhost/token");
            json[name] = value.into();
            json.to_string()
        };
        for (text, told) in [
            ("\"a secret\"".to_owned(), "its members are not"),
            ("{\"private_key\": 5}".to_owned(), "its members are not"),
            ("{\"private_key\": \"x".to_owned(), "line 1, column 18 is not JSON"),
            ("-----BEGIN PRIVATE KEY-----".to_owned(), "is not JSON"),
            ("{\"installed\":{}}".to_owned(), "it lacks `client_email`"),
            (without("private_key"), "it lacks `private_key`"),
            (without("private_key_id"), "it lacks `private_key_id`"),
            (with("type", "authorized_user"), "its type is authorized_user"),
            (with("private_key", "-----BEGIN"), "not a readable RSA key"),
            (
                with("private_key", "-----BEGIN RSA PRIVATE KEY-----\nYWJj\n-----END RSA PRIVATE KEY-----\n"),
                "not a readable RSA key",
            ),
            (" ".repeat(FILE_BYTES_MAX + 1), "it is too long"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(told) && error.contains("/etc/revoked/key.json"), "{error}");
            assert!(!error.contains("a secret"), "{error}");
        }
    }
}
