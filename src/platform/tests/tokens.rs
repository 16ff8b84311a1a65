//! One token for all, and what happens when there is none.

use aws_lc_rs::signature::KeyPair;
use axum::http::header::AUTHORIZATION;
use futures_util::future::join_all;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};

use super::token::{Credentials, TokenError};
use super::*;
use crate::model::Timestamp;

const MINUTE: Duration = Duration::from_secs(60);

fn now() -> Timestamp {
    Timestamp::parse("2026-11-22T17:00:00Z").unwrap()
}

impl Fake {
    fn credentials(&self) -> Credentials {
        Credentials::new(
            self.key_file.clone(),
            http::Http::new(Timeouts::default(), Vec::new(), true, Duration::ZERO).unwrap(),
        )
    }
}

/// The OAuth error shape.
fn refused(status: u16, error: &str, description: &str) -> Response {
    let body = json!({ "error": error, "error_description": description });
    (axum::http::StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response()
}

fn ok() -> Response {
    "{}".into_response()
}

#[tokio::test]
async fn the_assertion_is_signed_and_says_who_what_and_until_when() {
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let fake = Fake::with_tokens(
        |_, _| None,
        move |n, request| {
            told.send(request.into_body()).unwrap();
            Some(granted(n))
        },
    )
    .await;
    let credentials = fake.credentials();
    // The body can only be read once the request was answered, so the server does not wait for it.
    let token = credentials.token(now()).await.unwrap();
    assert_eq!(token.expose(), "token-1");
    assert_eq!(format!("{token:?}"), "Token(…)");

    let body = axum::body::to_bytes(heard.recv().await.unwrap(), 65536).await.unwrap();
    let form = reqwest::Url::parse(&format!("x:?{}", str::from_utf8(&body).unwrap())).unwrap();
    let form: std::collections::HashMap<_, _> = form.query_pairs().into_owned().collect();
    assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
    let mut validation = Validation::new(Algorithm::RS256);
    validation.validate_exp = false;
    validation.validate_aud = false;
    let public = DecodingKey::from_rsa_der(RSA.public_key().as_ref());
    let jwt = jsonwebtoken::decode::<Value>(&form["assertion"], &public, &validation).unwrap();
    assert_eq!((jwt.header.typ.as_deref(), jwt.header.kid.as_deref()), (Some("JWT"), Some("0123abcd")));
    let expected = json!({
        "iss": "revoker@example.iam.gserviceaccount.com",
        "scope": "https://www.googleapis.com/auth/rcsbusinessmessaging",
        "aud": format!("{}/token", fake.url),
        "iat": now().millis() / 1000,
        "exp": now().millis() / 1000 + 3600,
    });
    assert_eq!(jwt.claims, expected);
}

#[tokio::test]
async fn fifty_calls_at_once_ask_for_one_token() {
    let fake = Fake::new(|_, _| Some(ok())).await;
    let client = fake.client();
    let answers = join_all((0..50).map(|_| client.revoke(order()))).await;
    assert!(answers.iter().all(|answer| *answer == Answer::Revoked), "{answers:?}");
    assert_eq!((fake.deletes(), fake.tokens()), (50, 1));
}

#[tokio::test]
async fn fifty_401s_at_once_ask_for_one_new_token() {
    let fake = Fake::new(|n, request| match request.headers()[AUTHORIZATION].to_str() {
        // The first DELETE of all, alone, warms the cache; then the token goes stale for everybody.
        Ok("Bearer token-1") if n > 1 => Some(error(401, "expired")),
        _ => Some(ok()),
    })
    .await;
    let client = fake.client();
    assert_eq!(client.revoke(order()).await, Answer::Revoked);
    let answers = join_all((0..50).map(|_| client.revoke(order()))).await;
    assert!(answers.iter().all(|answer| *answer == Answer::Revoked), "{answers:?}");
    assert_eq!(fake.tokens(), 2);
}

#[tokio::test]
async fn a_token_is_renewed_early_behind_the_backs_of_those_who_use_it() {
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let fake = Fake::with_tokens(
        |_, _| None,
        move |n, _| {
            told.send(n).unwrap();
            Some(granted(n))
        },
    )
    .await;
    let credentials = fake.credentials();
    let at = |minutes| credentials.token(now().plus(MINUTE * minutes));
    assert_eq!(at(0).await.unwrap().expose(), "token-1");
    assert_eq!(at(54).await.unwrap().expose(), "token-1");
    assert_eq!(fake.tokens(), 1);
    // 56 minutes: the old one still serves, and a new one is on its way.
    assert_eq!(heard.recv().await, Some(1));
    assert_eq!(at(56).await.unwrap().expose(), "token-1");
    assert_eq!(heard.recv().await, Some(2));
    // At 61 minutes the old one is dead, so this waits for the flight, if it is still in the air, instead of starting one.
    assert_eq!(at(61).await.unwrap().expose(), "token-2");
    assert_eq!(fake.tokens(), 2);
}

#[tokio::test]
async fn a_token_that_can_not_be_renewed_serves_to_its_end() {
    let fake = Fake::with_tokens(
        |_, _| None,
        |n, _| Some(if n == 1 { granted(n) } else { refused(400, "invalid_grant", "Invalid JWT Signature.") }),
    )
    .await;
    let credentials = fake.credentials();
    let at = |minutes| credentials.token(now().plus(MINUTE * minutes));
    for minutes in [0, 56, 57, 59] {
        assert_eq!(at(minutes).await.unwrap().expose(), "token-1");
    }
    assert!(matches!(at(60).await, Err(TokenError::Refused(words)) if words.contains("was the key deleted")));
}

#[tokio::test]
async fn a_dead_token_endpoint_is_not_stormed() {
    let fake = Fake::with_tokens(|_, _| None, |_, _| Some("oops".into_response())).await;
    let credentials = fake.credentials();
    let failed = join_all((0..50).map(|_| credentials.token(now()))).await;
    assert!(failed.iter().all(|result| matches!(result, Err(TokenError::Unavailable(_)))), "{failed:?}");
    assert_eq!(fake.tokens(), 1);
    // 1 s, 2 s, 4 s, 8 s, 16 s, 30 s, 30 s: asked each second for two minutes, it is asked eight times in all.
    for second in 0..120 {
        assert!(credentials.token(now().plus(Duration::from_secs(second))).await.is_err());
    }
    assert_eq!(fake.tokens(), 8);
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_prolong_a_failure() {
    let fake =
        Fake::with_tokens(|_, _| None, |n, _| Some(if n == 1 { "oops".into_response() } else { granted(n) })).await;
    let credentials = fake.credentials();
    assert!(credentials.token(now()).await.is_err());
    assert!(credentials.token(now().minus(MINUTE * 60)).await.is_ok());
}

#[tokio::test]
async fn a_replaced_key_file_is_noticed() {
    let fake = Fake::new(|_, _| Some(ok())).await;
    let client = fake.client();
    let good = std::fs::read(&fake.key_file).unwrap();
    std::fs::write(&fake.key_file, "{}").unwrap();
    let answer = client.revoke(order()).await;
    assert!(matches!(&answer, Answer::Unauthorized(words) if words.contains("it lacks `client_email`")), "{answer:?}");
    std::fs::write(&fake.key_file, good).unwrap();
    let credentials = fake.credentials();
    assert!(credentials.token(now()).await.is_ok());
}

#[tokio::test]
async fn a_token_endpoint_that_is_down_leaves_messages_unsent_and_one_that_refuses_stops_the_lane() {
    let down = |status| Fake::with_tokens(|_, _| None, move |_, _| Some(refused(status, "internal_failure", "")));
    for status in [404, 429, 500, 503] {
        let fake = down(status).await;
        let answer = fake.client().revoke(order()).await;
        let told = format!("token endpoint: HTTP {status}");
        assert!(matches!(&answer, Answer::NotSent(words) if words.contains(&told)), "{answer:?}");
        assert_eq!(fake.deletes(), 0);
    }

    let fake = Fake::new(|_, _| None).await;
    std::fs::write(&fake.key_file, key_json("http://127.0.0.1:1/token").to_string()).unwrap();
    let answer = fake.client().revoke(order()).await;
    assert!(matches!(&answer, Answer::NotSent(words) if words.contains("no answer from 127.0.0.1")), "{answer:?}");

    for (error, description, hint) in [
        (
            "invalid_grant",
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. \
            Check your iat and exp values in the JWT claim.",
            "is the clock of this host right?",
        ),
        ("invalid_grant", "Invalid JWT Signature.", "was the key deleted or replaced?"),
        ("invalid_grant", "Invalid grant: account not found", "was the service account deleted"),
        ("unauthorized_client", "", "check the service account"),
    ] {
        let fake = Fake::with_tokens(|_, _| None, move |_, _| Some(refused(400, error, description))).await;
        let answer = fake.client().revoke(order()).await;
        assert!(
            matches!(&answer, Answer::Unauthorized(words) if words.contains(hint) && words.contains(error)),
            "{answer:?}"
        );
        assert_eq!(fake.deletes(), 0);
    }
}

/// Another partner's key, whose tokens come from another path.
fn account(fake: &Fake, agent: &str, path: &str) -> Account {
    let key_file = fake.key_file.with_file_name(agent);
    std::fs::write(&key_file, key_json(&format!("{}{path}", fake.url)).to_string()).unwrap();
    Account { key_file, agents: vec![AgentId::new(agent).unwrap()] }
}

fn order_of(agent: &str) -> Order {
    Order { agent: AgentId::new(agent).unwrap(), ..order() }
}

#[tokio::test]
async fn each_agent_speaks_with_the_token_of_its_account_and_the_others_with_the_default() {
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let fake = Fake::new(move |_, request| {
        told.send(request.headers()[AUTHORIZATION].to_str().unwrap().to_owned()).unwrap();
        Some(ok())
    })
    .await;
    let accounts = vec![account(&fake, "brand-a", "/token"), account(&fake, "brand-b", "/token")];
    let client = RbmClient::new(Settings { accounts, ..fake.settings() }).unwrap();
    let mut used = Vec::new();
    for agent in ["welcome-bot", "brand-a", "brand-b", "brand-a", "another", "brand-b"] {
        assert_eq!(client.revoke(order_of(agent)).await, Answer::Revoked);
        used.push(heard.recv().await.unwrap());
    }
    let tokens = [1, 2, 3, 2, 1, 3].map(|n| format!("Bearer token-{n}"));
    assert_eq!((used.as_slice(), fake.tokens()), (tokens.as_slice(), 3));
}

#[tokio::test]
async fn an_account_whose_key_is_refused_stops_its_own_agents_only() {
    let fake = Fake::new(|_, _| Some(ok())).await;
    let accounts = vec![account(&fake, "brand-a", "/refuse"), account(&fake, "brand-b", "/token")];
    let client = RbmClient::new(Settings { accounts, ..fake.settings() }).unwrap();
    // 405 and not a refusal in OAuth's words: the endpoint of this key is not one.
    assert!(matches!(client.revoke(order_of("brand-a")).await, Answer::NotSent(_)));
    assert_eq!(client.revoke(order_of("brand-b")).await, Answer::Revoked);
    assert_eq!(client.revoke(order()).await, Answer::Revoked);
}

#[tokio::test]
async fn an_agent_without_an_account_is_told_how_to_get_one() {
    let fake = Fake::new(|_, _| Some(ok())).await;
    let accounts = vec![account(&fake, "brand-a", "/token")];
    let client = RbmClient::new(Settings { key_file: None, accounts, ..fake.settings() }).unwrap();
    assert_eq!(client.revoke(order_of("brand-a")).await, Answer::Revoked);
    let answer = client.revoke(order()).await;
    assert!(matches!(&answer, Answer::Unauthorized(words) if words.contains("[platform.accounts.NAME]")), "{answer:?}");
    assert_eq!(fake.deletes(), 1);
}
