//! `revoked sandbox`: an RBM platform on loopback.
//!
//! It speaks the platform's wire protocol (token endpoint, create, delete, signed events) to any client that is pointed
//! at it: our own tests, `revoked demo`, and the continuous integration of an agent's developers. Behind the API live
//! handsets that are online, slow, offline or come back later, and faults that strike by order or by chance; all chance
//! comes from one seed. What it must not know is anything about the daemon: it is the other side.
//!
//! The way of a request: `server` takes it from the wire, `wire` makes a call of it, `platform` decides on it
//! within one hold of the `world`'s lock, and the server carries the decision out. What happens by itself stands on the
//! world's agenda; a task here wakes when the next entry is due. Events go through `feed` to `webhook`, or to whoever
//! asks for them; `control` gives orders and shows the books.
//!
//! ```no_run
//! # async fn doc() -> anyhow::Result<()> {
//! use revoked::sandbox::{Options, Sandbox};
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let stop = tokio_util::sync::CancellationToken::new();
//! let sandbox = Sandbox::start(listener, Options::default(), stop.clone())?;
//! println!("point the client at {} with {}", sandbox.base_url(), sandbox.key_path().display());
//! stop.cancel();
//! sandbox.stopped().await;
//! # Ok(()) }
//! ```

mod answer;
mod args;
mod books;
mod clock;
mod control;
mod duration;
mod fault;
mod feed;
mod handset;
mod key;
mod news;
mod options;
mod pace;
mod platform;
mod scenario;
mod server;
mod token;
mod webhook;
mod wire;
mod world;

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use tokio::{net::TcpListener, sync::Notify};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    args::{Args, main},
    books::{Answered, DeleteRequest, MessageBook, State, Stats, Unanswered},
    fault::{Chance, Fault, FaultKind},
    handset::{Behaviour, Mix},
    options::Options,
    scenario::Action,
};
use self::{key::AccountKey, scenario::Happening, token::Tokens, webhook::Webhook, world::World};
use crate::dice::Dice;

/// A running sandbox.
pub struct Sandbox {
    shared: Arc<Shared>,
    key: AccountKey,
    base_url: String,
    tasks: TaskTracker,
}

impl Sandbox {
    /// Starts a sandbox on a bound socket, within the running tokio runtime; it stops when `shutdown` is cancelled.
    ///
    /// # Errors
    ///
    /// When the key file can't be written, or the options hold a webhook or a `Retry-After` that can't be.
    pub fn start(listener: TcpListener, options: Options, shutdown: CancellationToken) -> anyhow::Result<Self> {
        let base_url = format!("http://{}", listener.local_addr().context("the socket isn't bound")?);
        let key = AccountKey::provide(options.dir.as_deref(), &base_url)?;
        let url = options.webhook.as_deref().map(webhook::parse_url).transpose();
        let url = url.map_err(|why| anyhow::anyhow!("webhook: {why}"))?;
        let dice = Dice::new(options.seed);
        let client_token = options.client_token.clone().unwrap_or_else(|| drawn_client_token(dice));
        let tokens = Tokens::new(&key, &base_url, options.token_lifetime, dice);
        let shared = Arc::new(Shared {
            world: Mutex::new(World::new(options, tokens, clock::now())),
            agenda_changed: Notify::new(),
            happened: Notify::new(),
            webhook: Mutex::new(Webhook { url, client_token }),
            client: webhook::client().context("can't make an HTTP client")?,
        });
        let tasks = TaskTracker::new();
        let control = control::router(Arc::clone(&shared));
        tasks.spawn(server::serve(listener, Arc::clone(&shared), control, shutdown.clone()));
        tasks.spawn(webhook::push_all(Arc::clone(&shared), shared.client.clone(), shutdown.clone()));
        let (pulse, until) = (Arc::clone(&shared), shutdown);
        tasks.spawn(async move {
            until.run_until_cancelled(pulse.keep_time()).await;
        });
        tasks.close();
        Ok(Sandbox { shared, key, base_url, tasks })
    }

    /// Where it listens: `http://127.0.0.1:8008`.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// The service-account key's file.
    pub fn key_path(&self) -> &Path {
        &self.key.path
    }

    /// The key of the events' signatures.
    pub fn client_token(&self) -> String {
        self.shared.webhook().client_token
    }

    /// The truth about all messages, in the order they were created.
    pub fn books(&self) -> Vec<MessageBook> {
        self.shared.with(|world, _| world.books())
    }

    /// The truth about one message.
    pub fn book(&self, agent_id: &str, message_id: &str) -> Option<MessageBook> {
        self.shared.with(|world, _| world.book(agent_id, message_id))
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        self.shared.with(|world, _| world.stats.clone())
    }

    /// Puts a message into the queue of its handset, as a create without a ttl does.
    pub fn send(&self, agent: &str, phone: &str, message_id: &str) {
        self.shared.send(agent, phone, message_id, None);
    }

    /// Changes how a handset behaves, from now on and for what waits for it.
    pub fn set_handset(&self, phone: &str, behaviour: Behaviour) {
        let happening = Happening::Handset { phone: phone.into(), behaviour };
        self.shared.with(|world, now| world.happen(happening, now));
    }

    /// Waits until the counters are as wanted. They are looked at whenever something has happened.
    pub async fn until(&self, wanted: impl Fn(&Stats) -> bool) {
        self.until_world(|world| wanted(&world.stats)).await;
    }

    /// Waits until nothing is planned any more and all events are with the webhook, or given up.
    pub async fn at_rest(&self) {
        self.until_world(World::is_at_rest).await;
    }

    async fn until_world(&self, wanted: impl Fn(&World) -> bool) {
        loop {
            // Before the look: what happens between the two must not be missed.
            let happened = self.shared.happened.notified();
            tokio::pin!(happened);
            happened.as_mut().enable();
            if wanted(&lock(&self.shared.world)) {
                return;
            }
            happened.await;
        }
    }

    /// Waits until it has stopped and all its connections are closed.
    pub async fn stopped(self) {
        self.tasks.wait().await;
    }
}

/// Runs a sandbox on a bound socket until `shutdown` is cancelled.
///
/// # Errors
///
/// As [`Sandbox::start`].
pub async fn run(listener: TcpListener, options: Options, shutdown: CancellationToken) -> anyhow::Result<()> {
    Sandbox::start(listener, options, shutdown)?.stopped().await;
    Ok(())
}

/// Drawn from the seed, so that a daemon's configuration survives a restart of its sandbox.
fn drawn_client_token(dice: Dice) -> String {
    let mut rng = dice.rng("client token", "", 0);
    std::iter::repeat_with(|| rng.uppercase()).take(16).collect()
}

/// What the sandbox's tasks share.
struct Shared {
    world: Mutex<World>,
    /// Told when something was planned that is due before all else.
    agenda_changed: Notify,
    /// Tells those who wait for the world to be as they want it.
    happened: Notify,
    webhook: Mutex<Webhook>,
    client: reqwest::Client,
}

impl Shared {
    /// Acts on the world, settled up to now. Short and without waiting: everybody else waits meanwhile.
    fn with<R>(&self, act: impl FnOnce(&mut World, DateTime<Utc>) -> R) -> R {
        let mut world = lock(&self.world);
        let now = clock::now();
        let due_before = world.next_due();
        world.settle(now);
        let result = act(&mut world, now);
        let due_after = world.next_due();
        drop(world);
        self.happened.notify_waiters();
        if due_after.is_some_and(|after| due_before.is_none_or(|before| after < before)) {
            self.agenda_changed.notify_one();
        }
        result
    }

    fn send(&self, agent: &str, phone: &str, message_id: &str, ttl: Option<Duration>) {
        self.with(|world, now| {
            if world.message(agent, message_id).is_none() {
                let expires_at = ttl.map(|ttl| now + ttl);
                let new = world::NewMessage { agent, phone, message_id, expires_at, answer: String::new() };
                world.create(new, world.is_early(agent, message_id), now);
            }
        });
    }

    /// Settles the world whenever something is due.
    async fn keep_time(&self) {
        /// A step of the wall clock is noticed this late at most.
        const GLANCE: Duration = Duration::from_secs(1);
        loop {
            let wait = self.with(|world, now| world.next_due().map_or(GLANCE, |due| clock::until(due, now)));
            let _ = tokio::time::timeout(wait.min(GLANCE), self.agenda_changed.notified()).await;
        }
    }

    fn webhook(&self) -> Webhook {
        lock(&self.webhook).clone()
    }

    fn set_webhook(&self, webhook: Webhook) {
        *lock(&self.webhook) = webhook;
        // What was published before waits for the webhook, too.
        self.with(|world, _| world.feed.nudge());
    }
}

/// A panic elsewhere is no reason for another one here: what the locks guard is never left half-changed by one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
