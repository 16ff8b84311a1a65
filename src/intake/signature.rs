//! Whether a push really comes from the platform: HMAC-SHA512 over the decoded data, keyed with a client token.

use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use secrecy::{ExposeSecret, SecretString};

/// The client tokens that pushes may be signed with: several, for rotation and for several agents.
#[derive(Clone, Debug, Default)]
pub struct ClientTokens(Vec<(SecretString, hmac::Key)>);

impl FromIterator<SecretString> for ClientTokens {
    fn from_iter<I: IntoIterator<Item = SecretString>>(tokens: I) -> Self {
        let key = |token: &SecretString| hmac::Key::new(hmac::HMAC_SHA512, token.expose_secret().as_bytes());
        Self(tokens.into_iter().map(|token| (token.clone(), key(&token))).collect())
    }
}

impl ClientTokens {
    /// No token is configured: nothing can be checked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `signature` (standard base64, header `X-Goog-Signature`) is one of `data`, the decoded bytes of
    /// `message.data`. Takes the same time for every wrong signature.
    ///
    /// <https://developers.google.com/business-communications/rcs-business-messaging/guides/integrate/webhooks>
    pub fn verify(&self, data: &[u8], signature: &str) -> bool {
        let Ok(signature) = BASE64_STANDARD.decode(signature) else { return false };
        self.0.iter().any(|(_, key)| hmac::verify(key, data, &signature).is_ok())
    }

    /// Whether this is one of the tokens, as the handshake of a webhook asks. Tells nobody how much of it is right.
    pub fn knows(&self, token: &str) -> bool {
        let same = |known: &str| constant_time::verify_slices_are_equal(known.as_bytes(), token.as_bytes()).is_ok();
        self.0.iter().any(|(known, _)| same(known.expose_secret()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "SJENCPGJESMGUFPY";
    const DELIVERED: (&str, &str) = (
        "eyJzZW5kZXJQaG9uZU51bWJlciI6IisxMjIyMzMzNDQ0NCIsImV2ZW50VHlwZSI6IkRFTElWRVJFRCIsImV2ZW50SWQiOiJNeEV2dC0wMDAxIiwibWVzc2FnZUlkIjoiOGYxNGU0NWYtY2VlYS00NjdmLWEwYTYtMWYwZTZiMGYzYTExIiwiYWdlbnRJZCI6IndlbGNvbWUtYm90QHJibS5nb29nIiwic2VuZFRpbWUiOiIyMDI2LTExLTIyVDE3OjAwOjAwLjEyMzQ1NloifQ==",
        "Pg0iCrZ72t00N1Z7zYoRcDgdRqGXtzMRtFKbxrqmDw/eqOjzK6o0E9zV+1Dy7z8SVSGkrYoAc0eEPE1J3Zov8g==",
    );
    const TTL_REVOKED: (&str, &str) = (
        "eyJwaG9uZU51bWJlciI6IisxMjIyMzMzNDQ0NCIsIm1lc3NhZ2VJZCI6IjhmMTRlNDVmLWNlZWEtNDY3Zi1hMGE2LTFmMGU2YjBmM2ExMSIsImFnZW50SWQiOiJ3ZWxjb21lLWJvdEByYm0uZ29vZyIsImV2ZW50VHlwZSI6IlRUTF9FWFBJUkFUSU9OX1JFVk9LRUQiLCJldmVudElkIjoic3J2LTAwMDEiLCJzZW5kVGltZSI6IjIwMjYtMTEtMjJUMTc6MTA6MDAuNTAwWiJ9",
        "QvkeeUEUEddhBSStTDtol45eGrpP6lmKvJoO2Ce/RUZ7Wi0z33uxR0LeN666RqGlod1tv/Yt/M9Au2VrMV0y0w==",
    );

    fn tokens(all: &[&str]) -> ClientTokens {
        all.iter().map(|token| SecretString::from(*token)).collect()
    }

    #[test]
    fn the_platforms_vectors_verify_under_any_of_the_tokens() {
        for (data, signature) in [DELIVERED, TTL_REVOKED] {
            let data = BASE64_STANDARD.decode(data).unwrap();
            assert!(tokens(&["other", TOKEN]).verify(&data, signature));
        }
    }

    #[test]
    fn one_bit_is_enough_to_be_turned_away() {
        let mut data = BASE64_STANDARD.decode(DELIVERED.0).unwrap();
        assert!(!tokens(&[TOKEN]).verify(&data, TTL_REVOKED.1));
        assert!(!tokens(&["other"]).verify(&data, DELIVERED.1));
        assert!(!tokens(&[TOKEN]).verify(&data, "not base64!"));
        assert!(!tokens(&[TOKEN]).verify(&data, ""));
        assert!(tokens(&["other", TOKEN]).knows(TOKEN) && !tokens(&["other", TOKEN]).knows(""));
        assert!(!tokens(&[TOKEN]).knows(&TOKEN[1..]) && !tokens(&[]).knows(""));
        data[7] ^= 1;
        assert!(!tokens(&[TOKEN]).verify(&data, DELIVERED.1));
    }
}
