//! An agent as anybody might write one: it sends, registers until it is acknowledged, forwards events until they are taken, and
//! reads outcomes with its cursor. That is all it takes to survive a daemon that dies in the middle.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::screen::Screen;
use crate::clock;
use crate::intake::wire::{MessageView, OutcomeView, OutcomesView, StatusView};
use crate::sandbox::Sandbox;

/// Before something that failed is tried again.
const AGAIN: Duration = Duration::from_millis(50);

/// What the agent knows of each message it had acknowledged.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    pub use_case: String,
    pub deadline: Option<crate::model::Timestamp>,
    /// Every outcome that was told, in order.
    pub told: Vec<OutcomeView>,
}

pub(super) type Ledger = BTreeMap<String, Entry>;

pub(super) struct Agent {
    daemon: reqwest::Client,
    platform: reqwest::Client,
    sandbox: Arc<Sandbox>,
    screen: Arc<Screen>,
    ledger: Mutex<Ledger>,
    told: Notify,
}

const NAME: &str = "demo-bot";

impl Agent {
    pub(super) fn new(daemon: reqwest::Client, sandbox: Arc<Sandbox>, screen: Arc<Screen>) -> anyhow::Result<Self> {
        let platform = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { daemon, platform, sandbox, screen, ledger: Mutex::default(), told: Notify::new() })
    }

    /// Sends and registers, one message after the other, for `span`.
    pub(super) async fn send(self: Arc<Self>, seed: u64, span: Duration, every: Duration) -> anyhow::Result<()> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut beat = tokio::time::interval(every);
        let start = clock::now().mono;
        let mut registering = tokio::task::JoinSet::new();
        for number in 0_u32.. {
            beat.tick().await;
            if clock::now().mono - start >= span {
                break;
            }
            let use_case = match random.u8(..10) {
                0..5 => "otp",
                5..7 => "notice",
                _ => "promotion",
            };
            let message = (format!("{use_case}-{number:03}"), format!("+1555{:07}", random.u32(..10_000_000)));
            self.sandbox.send(NAME, &message.1, &message.0);
            registering.spawn(Arc::clone(&self).register(use_case, message));
        }
        while let Some(registered) = registering.join_next().await {
            registered.context("a registration broke down")??;
        }
        Ok(())
    }

    /// Registers until it is acknowledged. Registering is an upsert, so asking twice does no harm.
    async fn register(self: Arc<Self>, use_case: &'static str, (id, phone): (String, String)) -> anyhow::Result<()> {
        let body = serde_json::json!({
            "agentId": NAME, "phone": phone, "messageId": id, "useCase": use_case,
            "sendTime": clock::wall(), "fallback": { "template": format!("{use_case}-sms") },
        });
        loop {
            let sent = self.daemon.post("http://localhost/v1/messages").body(body.to_string()).send().await;
            match sent {
                Ok(answer) if answer.status().is_success() => {
                    if let Ok(view) = json::<MessageView>(answer).await {
                        let mut ledger = self.lock();
                        let entry = ledger.entry(id).or_default();
                        entry.use_case = use_case.to_owned();
                        entry.deadline = Some(view.deadline);
                        return Ok(());
                    }
                }
                Ok(answer) if answer.status().is_client_error() => bail!("refused: {}", answer.text().await?),
                Ok(_) | Err(_) => {}
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Hands on what the platform tells, in order, each until it is taken.
    pub(super) async fn forward_events(self: Arc<Self>, done: CancellationToken) {
        let mut after = 0;
        while !done.is_cancelled() {
            let url = format!("{}/sandbox/events?after={after}&wait=1s", self.sandbox.base_url());
            let Ok(answer) = self.platform.get(url).send().await else { continue };
            let Ok(page) = json::<Value>(answer).await else { continue };
            for event in page["events"].as_array().into_iter().flatten() {
                let body = event["envelope"].to_string();
                loop {
                    let sent = self.daemon.post("http://localhost/v1/events").body(body.clone()).send().await;
                    if done.is_cancelled() || sent.is_ok_and(|answer| answer.status().is_success()) {
                        break;
                    }
                    tokio::time::sleep(AGAIN).await;
                }
                after = event["number"].as_u64().unwrap_or(after);
            }
        }
    }

    /// Reads outcomes for as long as there may be any.
    pub(super) async fn read_outcomes(self: Arc<Self>, done: CancellationToken) {
        let mut cursor = "0".to_owned();
        while !done.is_cancelled() {
            let url = format!("http://localhost/v1/outcomes?after={cursor}&wait=1s");
            let page = match self.daemon.get(url).send().await {
                Ok(answer) => json::<OutcomesView>(answer).await,
                Err(error) => Err(error.into()),
            };
            let Ok(page) = page else {
                tokio::time::sleep(AGAIN).await;
                continue;
            };
            cursor = page.next_cursor;
            for outcome in page.outcomes {
                self.screen.outcome(&outcome);
                self.lock().entry(outcome.message_id.to_string()).or_default().told.push(outcome);
            }
            self.told.notify_waiters();
        }
    }

    /// Waits until everything that was acknowledged has an outcome.
    pub(super) async fn all_settled(&self) {
        loop {
            let told = self.told.notified();
            tokio::pin!(told);
            // From here on nothing that is told is missed.
            told.as_mut().enable();
            if self.lock().values().all(|entry| !entry.told.is_empty()) {
                return;
            }
            told.await;
        }
    }

    pub(super) async fn status(&self) -> anyhow::Result<StatusView> {
        json(self.daemon.get("http://localhost/v1/status").send().await?).await
    }

    pub(super) fn ledger(&self) -> Ledger {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn json<T: DeserializeOwned>(answer: reqwest::Response) -> anyhow::Result<T> {
    Ok(serde_json::from_slice(&answer.bytes().await?)?)
}
