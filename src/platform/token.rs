//! The access token of an account: one for all its agents, fetched by one.
//!
//! Thousands of DELETEs a second share a token that lives an hour. It is renewed some minutes early, behind the backs of
//! those who use it; only when there is none do callers wait, all of them for the same request (its *flight*). A failure is
//! remembered for a while, so that a dead token endpoint is asked once and not by every message. The key file is read
//! anew for each flight, since keys are rotated by replacing it.
//!
//! Time is an argument here. It is the wall clock's, and that may step: a token that we take for good and the platform
//! doesn't is met by [`Credentials::invalidate`].

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::Mutex as Flight;

use super::http::{self, Body, Http};
use super::{KeyError, ServiceKey};
use crate::clock;
use crate::model::{Answer, Timestamp};

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// How long before its end a token is renewed, if that isn't more than a tenth of its life.
const EARLY: Duration = Duration::from_secs(300);

/// What is assumed of a token that comes without `expires_in` (RFC 6749 only recommends to send it).
const LIFE_DEFAULT: u64 = 3600;

/// Even a token said to be dead on arrival is used that long, or each DELETE would fetch its own.
const LIFE_MIN: u64 = 10;

/// A failure is believed for this long, and twice as long each time it repeats,
const HOLD_MIN: Duration = Duration::from_secs(1);
/// up to this.
const HOLD_MAX: Duration = Duration::from_secs(30);

/// An access token; `Debug` does not show it. Equal only to its own clones.
#[derive(Clone)]
pub(super) struct Token(Arc<SecretString>);

/// Why there is no token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum TokenError {
    /// The key is of no use: no message gets through until somebody acts.
    Refused(Arc<str>),
    /// The token endpoint could not be asked, or had no answer. It may have one later.
    Unavailable(Arc<str>),
}

/// Where tokens come from. Clones share one token.
#[derive(Clone)]
pub(super) struct Credentials(Arc<Inner>);

struct Inner {
    key_file: PathBuf,
    http: Http,
    cache: Mutex<Cache>,
    /// Held by the one that asks for a token.
    flight: Arc<Flight<()>>,
}

#[derive(Default)]
struct Cache {
    token: Option<Held>,
    failure: Option<Failure>,
    /// How many flights have landed.
    flights: u64,
}

struct Held {
    token: Token,
    renew: Timestamp,
    expires: Timestamp,
}

struct Failure {
    error: TokenError,
    at: Timestamp,
    in_row: u32,
}

/// What the cache has to offer.
enum Offer {
    Good(Token),
    /// Good, but about to end.
    Aging(Token),
    Failed(TokenError),
    /// Nothing; so many flights had landed by then.
    Nothing(u64),
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: Option<u64>,
}

/// The OAuth error shape (RFC 6749, section 5.2).
#[derive(Deserialize)]
struct Refusal {
    error: String,
    #[serde(default)]
    error_description: String,
}

impl Credentials {
    pub(super) fn new(key_file: PathBuf, http: Http) -> Self {
        let (cache, flight) = (Mutex::default(), Arc::default());
        Self(Arc::new(Inner { key_file, http, cache, flight }))
    }

    /// A token that is good at `now`.
    pub(super) async fn token(&self, now: Timestamp) -> Result<Token, TokenError> {
        let landed = match self.cache().offer(now) {
            Offer::Good(token) => return Ok(token),
            Offer::Aging(token) => {
                self.renew_behind(now);
                return Ok(token);
            }
            Offer::Failed(error) => return Err(error),
            Offer::Nothing(landed) => landed,
        };
        let _flight = self.0.flight.lock().await;
        // Whoever waited for a flight shares what it brought, good or bad.
        if let Some(result) = self.cache().landed_since(landed, now) {
            return result;
        }
        self.fly(now).await
    }

    /// Drops a token that the platform doesn't take, if it is still the one in use: of fifty callers that were refused
    /// together one causes a new one, and none drops that.
    pub(super) fn invalidate(&self, token: &Token) {
        self.cache().token.take_if(|held| Arc::ptr_eq(&held.token.0, &token.0));
    }

    fn renew_behind(&self, now: Timestamp) {
        if let Ok(flight) = Arc::clone(&self.0.flight).try_lock_owned() {
            let me = self.clone();
            tokio::spawn(async move {
                let _flight = flight;
                // Another flight may have landed between the look at the cache and the lock.
                let aging = matches!(me.cache().offer(now), Offer::Aging(_));
                if aging && let Err(error) = me.fly(now).await {
                    tracing::warn!("the access token could not be renewed and will soon end: {error}");
                }
            });
        }
    }

    /// One request for a token. Only the holder of the flight gets here; if it is dropped on the way, nothing is noted
    /// and the next one starts afresh.
    async fn fly(&self, now: Timestamp) -> Result<Token, TokenError> {
        let result = self.request(now).await;
        self.cache().land(result, now)
    }

    async fn request(&self, now: Timestamp) -> Result<Held, TokenError> {
        let path = self.0.key_file.clone();
        // Reads a file and signs with RSA, twice: too long for the thread that drives everybody's sockets.
        let signed = tokio::task::spawn_blocking(move || {
            let key = ServiceKey::read(&path)?;
            let assertion = key.assertion(now).map_err(|_| KeyError::BadPem(path))?;
            Ok::<_, KeyError>((key.token_uri, assertion))
        });
        let (token_uri, assertion) =
            signed.await.map_err(|_| TokenError::unavailable("shutting down"))?.map_err(TokenError::refused)?;

        let form = [("grant_type", GRANT_TYPE), ("assertion", assertion.expose_secret())];
        let response = match self.0.http.client(clock::now().mono).post(&token_uri).form(&form).send().await {
            Ok(response) => response,
            Err(error) => return Err(TokenError::unavailable(format!("no answer from {}", http::reason(&error)))),
        };
        let status = response.status();
        let body = Body::read(response).await;
        if status != reqwest::StatusCode::OK {
            return Err(TokenError::of_refusal(status, body.json()));
        }
        match body.json::<Granted>() {
            Some(granted) if is_token(&granted.access_token) => Ok(Held::new(granted, now)),
            _ => Err(TokenError::unavailable("the answer is not a token")),
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        // Nothing panics while it holds the lock, and each change of the cache is whole.
        self.0.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    fn offer(&self, now: Timestamp) -> Offer {
        let failed = self.failure.as_ref().filter(|failure| failure.holds(now));
        match (&self.token, failed) {
            (Some(held), _) if now < held.renew => Offer::Good(held.token.clone()),
            (Some(held), Some(_)) if now < held.expires => Offer::Good(held.token.clone()),
            (Some(held), None) if now < held.expires => Offer::Aging(held.token.clone()),
            (_, Some(failure)) => Offer::Failed(failure.error.clone()),
            (_, None) => Offer::Nothing(self.flights),
        }
    }

    /// What the flights since then brought; nothing if there were none, or if what they brought is refused already.
    fn landed_since(&self, flights: u64, now: Timestamp) -> Option<Result<Token, TokenError>> {
        if self.flights == flights {
            return None;
        }
        let good = self.token.as_ref().filter(|held| now < held.expires);
        let token = good.map(|held| Ok(held.token.clone()));
        token.or_else(|| self.failure.as_ref().map(|failure| Err(failure.error.clone())))
    }

    fn land(&mut self, result: Result<Held, TokenError>, now: Timestamp) -> Result<Token, TokenError> {
        self.flights += 1;
        match result {
            Ok(held) => {
                self.failure = None;
                Ok(self.token.insert(held).token.clone())
            }
            Err(error) => {
                self.token.take_if(|held| held.expires <= now);
                let in_row = self.failure.as_ref().map_or(0, |failure| failure.in_row).saturating_add(1);
                self.failure = Some(Failure { error: error.clone(), at: now, in_row });
                Err(error)
            }
        }
    }
}

impl Held {
    fn new(granted: Granted, now: Timestamp) -> Self {
        // `now` is from before the request, so what we take for the token's life is never too long.
        let life = Duration::from_secs(granted.expires_in.unwrap_or(LIFE_DEFAULT).max(LIFE_MIN));
        let expires = now.plus(life);
        Self { token: Token::new(granted.access_token), renew: expires.minus(EARLY.min(life / 10)), expires }
    }
}

impl Failure {
    /// Whether it is still believed. The distance counts in both directions: callers' clocks are a little apart, and if
    /// the wall clock was set back an hour, nobody waits for that hour.
    fn holds(&self, now: Timestamp) -> bool {
        let hold = HOLD_MIN.saturating_mul(1 << (self.in_row - 1).min(16)).min(HOLD_MAX);
        now.since(self.at).max(self.at.since(now)) < hold
    }
}

/// Whether it can stand in an `Authorization` header.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}

impl Token {
    fn new(text: String) -> Self {
        Self(Arc::new(SecretString::from(text)))
    }

    pub(super) fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl TokenError {
    fn unavailable(why: impl fmt::Display) -> Self {
        Self::Unavailable(format!("no access token: token endpoint: {why}").into())
    }

    #[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` hands over")]
    fn refused(error: KeyError) -> Self {
        Self::Refused(format!("no access token: {error}").into())
    }

    /// What a status other than 200 means. The endpoint refuses in OAuth's own shape; anything else is a matter of the
    /// network between us, or of its having a bad day.
    fn of_refusal(status: reqwest::StatusCode, refusal: Option<Refusal>) -> Self {
        let code = status.as_u16();
        let passing = |error: &str| matches!(error, "temporarily_unavailable" | "server_error" | "slow_down");
        match refusal {
            Some(refusal) if matches!(code, 400 | 401 | 403) && !passing(&refusal.error) => {
                let (words, hint) =
                    (http::clean(&format!("{}: {}", refusal.error, refusal.error_description)), refusal.hint());
                Self::Refused(format!("no access token: the token endpoint refused the key: {words} ({hint})").into())
            }
            _ => Self::unavailable(format!("HTTP {code}")),
        }
    }
}

impl Refusal {
    /// What most likely helps. Google tells three troubles apart only in prose.
    fn hint(&self) -> &'static str {
        let words = self.error_description.to_ascii_lowercase();
        let says = |word: &str| words.contains(word);
        if says("iat") || says("exp ") || says("timeframe") || says("expired") {
            "is the clock of this host right?"
        } else if says("signature") {
            "was the key deleted or replaced? create a new one and put it in the key file's place"
        } else if says("account") {
            "was the service account deleted or disabled?"
        } else {
            "check the service account and its key in the Google Cloud console"
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Refused(words) | Self::Unavailable(words)) = self;
        f.write_str(words)
    }
}

/// A message that found no token never left. A key that is of no use is the lane's trouble, as a 401 is, not the message's.
impl From<TokenError> for Answer {
    fn from(error: TokenError) -> Self {
        let words = error.to_string().into();
        match error {
            TokenError::Refused(_) => Self::Unauthorized(words),
            TokenError::Unavailable(_) => Self::NotSent(words),
        }
    }
}
