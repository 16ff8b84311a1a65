//! What a sandbox can be told before it starts.
//!
//! One plain struct, filled by the command line, by a scenario file or by a test; each field is one behaviour of the
//! platform, the handsets or the webhook.

use std::{path::PathBuf, time::Duration};

use super::{fault::Chance, handset::Mix, scenario::Action};

/// How the sandbox behaves. The default is a platform without faults whose handsets are all online.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the service-account key is written; `None` for a directory of its own below the system's temporary one.
    pub dir: Option<PathBuf>,
    /// What all chance is drawn from.
    pub seed: u64,
    /// How the handsets behave.
    pub handsets: Mix,
    /// How long a slow handset takes, about.
    pub slow_delay: Duration,
    /// How long a handset that returns stays away.
    pub returns_after: Duration,
    /// Percent of delivered messages that are read as well.
    pub read: f64,
    /// Percent of delivered messages whose `READ` comes without a `DELIVERED`.
    pub read_only: f64,
    /// Percent of messages to reachable handsets whose event is pushed before create has answered.
    pub early_events: f64,
    /// Percent of events that are never pushed.
    pub events_lost: f64,
    /// Percent of events that are pushed twice.
    pub events_duplicated: f64,
    /// Percent of events that are held back, so that later ones overtake them.
    pub events_delayed: f64,
    /// How long they are held back.
    pub events_delay: Duration,
    /// How long an access token lives.
    pub token_lifetime: Duration,
    /// Requests per second an agent may send; `None` for any number.
    pub rate: Option<u32>,
    /// The `Retry-After` of an answer 429 that has no other; `None` for no header.
    pub retry_after: Option<String>,
    /// Whether deleting a message that was never created answers 200, for load tests that create none.
    pub unknown_delete_ok: bool,
    /// Faults that strike by chance.
    pub faults: Vec<Chance>,
    /// Where events are pushed; `None` to leave them to be fetched from `/sandbox/events`.
    pub webhook: Option<String>,
    /// The key of the events' signatures; `None` to draw one.
    pub client_token: Option<String>,
    /// What happens later by itself.
    pub actions: Vec<Action>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            dir: None,
            seed: 1,
            handsets: Mix::default(),
            slow_delay: Duration::from_secs(4),
            returns_after: Duration::from_secs(10),
            read: 0.0,
            read_only: 0.0,
            early_events: 0.0,
            events_lost: 0.0,
            events_duplicated: 0.0,
            events_delayed: 0.0,
            events_delay: Duration::from_secs(2),
            token_lifetime: Duration::from_secs(3600),
            rate: None,
            retry_after: None,
            unknown_delete_ok: false,
            faults: Vec::new(),
            webhook: None,
            client_token: None,
            actions: Vec::new(),
        }
    }
}
