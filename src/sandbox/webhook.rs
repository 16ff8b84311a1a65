//! Pushes to the agent's webhook: at least once, begun in order, tried again with growing pauses.
//!
//! As on the platform there is one queue for all agents: a webhook that answers badly holds up everything behind it.
//! The pauses are shorter than the platform's, and after the last try an event is given up rather than kept for a week.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use reqwest::header::CONTENT_TYPE;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Shared,
    feed::{self, Published},
};

/// Where events are pushed, and the key they are signed with.
#[derive(Clone)]
pub(super) struct Webhook {
    pub(super) url: Option<reqwest::Url>,
    pub(super) client_token: String,
}

/// How many pushes are under way at once.
const IN_FLIGHT: usize = 16;
/// How often an event is pushed before it is given up: with the pauses below, for about two minutes.
const TRIES: u32 = 16;
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LONGEST: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(10);

/// The only kind of URL a webhook on loopback can have.
pub(super) fn parse_url(url: &str) -> Result<reqwest::Url, String> {
    match reqwest::Url::parse(url) {
        Ok(url) if url.scheme() == "http" && url.has_host() => Ok(url),
        _ => Err(format!("{url:?} is not an http URL")),
    }
}

pub(super) fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        // There is no TLS on loopback, and a container that runs tests may have no certificates to load.
        .tls_certs_only([])
        .build()
}

/// The handshake of the set-up: the webhook proves that it knows the token by giving back the secret.
pub(super) async fn handshake(client: &reqwest::Client, webhook: &Webhook) -> anyhow::Result<()> {
    let url = webhook.url.clone().context("no webhook")?;
    let secret = uuid::Uuid::from_u128(fastrand::u128(..)).simple().to_string();
    let body = json!({"clientToken": webhook.client_token, "secret": secret}).to_string();
    let request = client.post(url).header(CONTENT_TYPE, "application/json").body(body);
    let response = request.send().await.map_err(reqwest::Error::without_url).context("it can't be reached")?;
    let status = response.status().as_u16();
    if status != 200 {
        bail!("it answered {status}");
    }
    let text = response.text().await.map_err(reqwest::Error::without_url).context("its answer broke off")?;
    if text.trim() != secret {
        bail!("it answered 200, but not with the secret as plain text");
    }
    Ok(())
}

/// Pushes events as they are published, until the sandbox stops.
pub(super) async fn push_all(shared: Arc<Shared>, client: reqwest::Client, shutdown: CancellationToken) {
    let tasks = TaskTracker::new();
    let permits = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut published = shared.with(|world, _| world.feed.watch());
    let mut pushed = 0;
    while !shutdown.is_cancelled() {
        let next = if shared.webhook().url.is_some() {
            shared.with(|world, _| world.feed.after(pushed, IN_FLIGHT))
        } else {
            Vec::new()
        };
        if next.is_empty() {
            tokio::select! {
                () = shutdown.cancelled() => break,
                changed = published.changed() => if changed.is_err() { break },
            }
        }
        for event in next {
            pushed = event.number;
            let permit = tokio::select! {
                () = shutdown.cancelled() => return,
                permit = Arc::clone(&permits).acquire_owned() => permit,
            };
            let (shared, client, shutdown) = (Arc::clone(&shared), client.clone(), shutdown.clone());
            tasks.spawn(async move {
                let _permit = permit;
                shutdown.run_until_cancelled(push(&shared, &client, &event)).await;
            });
        }
    }
}

/// Pushes one event until the webhook takes it.
async fn push(shared: &Shared, client: &reqwest::Client, event: &Published) {
    let body = event.envelope().to_string();
    let mut pause = PAUSE_FIRST;
    for _ in 0..TRIES {
        // Asked again each time: the webhook may have been moved in the meantime.
        let Webhook { url: Some(url), client_token } = shared.webhook() else { return };
        let request = client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("X-Goog-Signature", feed::sign(&client_token, &event.data))
            .body(body.clone());
        let taken = request.send().await.is_ok_and(|response| response.status().as_u16() == 200);
        shared.with(|world, _| match taken {
            true => world.stats.pushes += 1,
            false => world.stats.pushes_failed += 1,
        });
        if taken {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_LONGEST);
    }
    shared.with(|world, _| world.stats.pushes_given_up += 1);
}
