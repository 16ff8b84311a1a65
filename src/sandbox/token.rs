//! The token endpoint: a signed assertion in, an access token out, and whether a token is still good.
//!
//! Besides issued tokens, an API request may carry an assertion signed for the API itself (a *self-signed JWT*), since
//! some of the published client libraries skip the token endpoint that way.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::json;

use super::{
    answer::Answer,
    key::{AccountKey, CLIENT_EMAIL},
};
use crate::dice::Dice;

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const SCOPE: &str = "https://www.googleapis.com/auth/rcsbusinessmessaging";
/// Some published libraries sign for this address whatever the key's `token_uri` says, and the platform lets them.
const WELL_KNOWN_AUDIENCE: &str = "https://oauth2.googleapis.com/token";
const API_AUDIENCE: &str = "https://rcsbusinessmessaging.googleapis.com/";
/// No assertion is good for longer than this.
const LONGEST: TimeDelta = TimeDelta::hours(1);
/// How far ahead of ours a client's clock may run.
const SKEW: TimeDelta = TimeDelta::minutes(5);
const TIMEFRAME: &str = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. \
                         Check your iat and exp values in the JWT claim.";

/// The form that asks for a token.
#[derive(Deserialize)]
pub(super) struct Grant {
    #[serde(default)]
    grant_type: String,
    #[serde(default)]
    assertion: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: Option<String>,
    sub: Option<String>,
    aud: Option<String>,
    scope: Option<String>,
    iat: Option<f64>,
    exp: Option<f64>,
}

/// Who may call the API.
pub(super) struct Tokens {
    key_id: String,
    public: DecodingKey,
    token_uri: String,
    lifetime: TimeDelta,
    dice: Dice,
    issued: u64,
    /// The tokens that were let in, and until when each is good.
    live: HashMap<String, DateTime<Utc>>,
    /// Assertions from before this instant went with the last [`Tokens::expire_all`].
    not_before: DateTime<Utc>,
}

impl Tokens {
    pub(super) fn new(key: &AccountKey, base_url: &str, lifetime: std::time::Duration, dice: Dice) -> Self {
        Tokens {
            key_id: key.id.clone(),
            public: DecodingKey::from_rsa_der(&key.public),
            token_uri: format!("{base_url}/token"),
            lifetime: TimeDelta::from_std(lifetime).unwrap_or(LONGEST),
            dice,
            issued: 0,
            live: HashMap::new(),
            not_before: DateTime::UNIX_EPOCH,
        }
    }

    /// Answers a request for a token; `Err` is the refusal.
    pub(super) fn exchange(&mut self, grant: &Grant, now: DateTime<Utc>) -> Result<Answer, Answer> {
        if grant.grant_type != GRANT_TYPE {
            let description = format!("Invalid grant_type: {}", grant.grant_type);
            return Err(Answer::oauth_error(400, "unsupported_grant_type", &description));
        }
        let claims = self.verify(&grant.assertion).map_err(invalid_grant)?;
        if claims.aud.as_deref().is_none_or(|aud| aud != self.token_uri && aud != WELL_KNOWN_AUDIENCE) {
            return Err(invalid_grant("Invalid JWT: Failed audience check."));
        }
        timeframe(&claims, now).map_err(invalid_grant)?;
        if !has_scope(&claims) {
            let description = "Invalid OAuth scope or ID token audience provided.";
            return Err(Answer::oauth_error(400, "invalid_scope", description));
        }
        self.issued += 1;
        let mut rng = self.dice.rng("token", CLIENT_EMAIL, self.issued);
        let token = format!("ya29.sandbox-{:032x}{:032x}", rng.u128(..), rng.u128(..));
        self.live.retain(|_, until| *until > now);
        self.live.insert(token.clone(), now + self.lifetime);
        let expires_in = self.lifetime.num_seconds();
        let answer = json!({"access_token": token, "expires_in": expires_in, "token_type": "Bearer"});
        Ok(Answer::ok(answer.to_string()))
    }

    /// Whether a bearer token opens the API.
    pub(super) fn admits(&mut self, bearer: &str, now: DateTime<Utc>) -> bool {
        match self.live.get(bearer) {
            Some(until) => *until > now,
            None => self.admits_self_signed(bearer, now),
        }
    }

    fn admits_self_signed(&mut self, bearer: &str, now: DateTime<Utc>) -> bool {
        let Ok(claims) = self.verify(bearer) else { return false };
        let for_the_api = claims.aud.as_deref().is_some_and(|aud| aud.starts_with(API_AUDIENCE)) || has_scope(&claims);
        let Ok((from, until)) = timeframe(&claims, now) else { return false };
        if !for_the_api || claims.sub != claims.iss || from < self.not_before {
            return false;
        }
        self.live.retain(|_, until| *until > now);
        self.live.insert(bearer.to_owned(), until);
        true
    }

    /// Makes every token bad that was good until now.
    pub(super) fn expire_all(&mut self, now: DateTime<Utc>) {
        self.live.clear();
        self.not_before = now;
    }

    /// Checks what both kinds of assertion share: the signature, the key's name and the account.
    fn verify(&self, assertion: &str) -> Result<Claims, &'static str> {
        let mut signature_only = Validation::new(Algorithm::RS256);
        signature_only.required_spec_claims.clear();
        // Times are compared with the sandbox's own clock, audiences differ by use: both are checked by the callers.
        signature_only.validate_exp = false;
        signature_only.validate_aud = false;
        let token = jsonwebtoken::decode::<Claims>(assertion, &self.public, &signature_only)
            .map_err(|_| "Invalid JWT Signature.")?;
        if token.header.kid.is_some_and(|kid| kid != self.key_id) {
            return Err("Invalid JWT Signature.");
        }
        if token.claims.iss.as_deref() != Some(CLIENT_EMAIL) {
            return Err("Invalid grant: account not found");
        }
        Ok(token.claims)
    }
}

fn invalid_grant(description: &str) -> Answer {
    Answer::oauth_error(400, "invalid_grant", description)
}

fn has_scope(claims: &Claims) -> bool {
    claims.scope.as_deref().is_some_and(|scopes| scopes.split(' ').any(|scope| scope == SCOPE))
}

/// From when until when an assertion is good, if that is now and not for too long.
fn timeframe(claims: &Claims, now: DateTime<Utc>) -> Result<(DateTime<Utc>, DateTime<Utc>), &'static str> {
    // Some libraries write fractions of seconds; the cast saturates for what no clock shows, and fails below.
    let instant = |seconds: Option<f64>| seconds.and_then(|s| DateTime::from_timestamp_millis((s * 1000.0) as i64));
    let (Some(iat), Some(exp)) = (instant(claims.iat), instant(claims.exp)) else { return Err(TIMEFRAME) };
    let reasonable = iat <= now + SKEW && exp > now && exp <= iat + LONGEST;
    if reasonable { Ok((iat, exp)) } else { Err(TIMEFRAME) }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, sync::LazyLock, time::Duration};

    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::Value;

    use super::{super::answer::Content, *};

    const BASE: &str = "http://127.0.0.1:8008";

    static KEY: LazyLock<(AccountKey, EncodingKey)> = LazyLock::new(|| {
        let key = AccountKey::provide(None, BASE).unwrap();
        let pem = read(&key.path)["private_key"].as_str().unwrap().to_owned();
        (key, EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap())
    });

    fn read(path: &Path) -> Value {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn tokens() -> Tokens {
        Tokens::new(&KEY.0, BASE, Duration::from_secs(3600), Dice::new(1))
    }

    fn claims() -> Value {
        let iat = now().timestamp();
        json!({"iss": CLIENT_EMAIL, "scope": SCOPE, "aud": format!("{BASE}/token"), "iat": iat, "exp": iat + 3600})
    }

    fn signed(claims: &Value) -> String {
        let header = Header { kid: Some(KEY.0.id.clone()), ..Header::new(Algorithm::RS256) };
        jsonwebtoken::encode(&header, claims, &KEY.1).unwrap()
    }

    fn ask(tokens: &mut Tokens, claims: &Value) -> (u16, Value) {
        let grant = Grant { grant_type: GRANT_TYPE.into(), assertion: signed(claims) };
        let answer = tokens.exchange(&grant, now()).unwrap_or_else(|refusal| refusal);
        let Content::Json(body) = answer.body else { panic!("no JSON") };
        (answer.status, serde_json::from_str(&body).unwrap())
    }

    #[test]
    fn a_good_assertion_buys_a_token_that_lives_as_long_as_it_says() {
        let mut tokens = tokens();
        let (status, answer) = ask(&mut tokens, &claims());
        assert_eq!((status, &answer["expires_in"], &answer["token_type"]), (200, &json!(3600), &json!("Bearer")));
        let token = answer["access_token"].as_str().unwrap();
        assert!(tokens.admits(token, now() + TimeDelta::seconds(3599)));
        assert!(!tokens.admits(token, now() + TimeDelta::seconds(3600)));
        tokens.expire_all(now());
        assert!(!tokens.admits(token, now()));
    }

    #[test]
    fn every_wrong_claim_is_refused_in_the_platforms_words() {
        let iat = now().timestamp();
        for (change, error, words) in [
            (json!({"iss": "someone@else"}), "invalid_grant", "account not found"),
            (json!({"aud": "https://example.org/token"}), "invalid_grant", "audience"),
            (json!({"scope": "https://www.googleapis.com/auth/drive"}), "invalid_scope", "scope"),
            (json!({"iat": iat + 600}), "invalid_grant", "reasonable timeframe"),
            (json!({"exp": iat + 3601}), "invalid_grant", "reasonable timeframe"),
            (json!({"iat": iat - 7200, "exp": iat - 3600}), "invalid_grant", "reasonable timeframe"),
            (json!({"exp": null}), "invalid_grant", "reasonable timeframe"),
        ] {
            let mut claims = claims();
            claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let (status, answer) = ask(&mut tokens(), &claims);
            assert_eq!((status, answer["error"].as_str().unwrap()), (400, error), "{change}");
            assert!(answer["error_description"].as_str().unwrap().contains(words), "{answer}");
        }
    }

    #[test]
    fn another_signature_another_key_id_and_another_grant_are_refused() {
        let refused = |grant_type: &str, assertion: String| {
            tokens().exchange(&Grant { grant_type: grant_type.into(), assertion }, now()).unwrap_err().status
        };
        let good = signed(&claims());
        let (rest, _) = good.rsplit_once('.').unwrap();
        assert_eq!(refused(GRANT_TYPE, format!("{rest}.AAAA")), 400);
        assert_eq!(refused("password", good), 400);
        let header = Header { kid: Some("another".into()), ..Header::new(Algorithm::RS256) };
        assert_eq!(refused(GRANT_TYPE, jsonwebtoken::encode(&header, &claims(), &KEY.1).unwrap()), 400);
    }

    #[test]
    fn a_self_signed_assertion_for_the_api_opens_it_without_a_token() {
        let mut tokens = tokens();
        let mut claims = claims();
        claims["aud"] = API_AUDIENCE.into();
        claims["sub"] = CLIENT_EMAIL.into();
        claims["scope"] = Value::Null;
        let bearer = signed(&claims);
        assert!(tokens.admits(&bearer, now()));
        assert!(!tokens.admits(&bearer, now() + LONGEST));
        tokens.expire_all(now() + TimeDelta::seconds(1));
        assert!(!tokens.admits(&bearer, now() + TimeDelta::seconds(1)));
        claims["aud"] = "https://example.org/".into();
        assert!(!tokens.admits(&signed(&claims), now()));
    }
}
