//! The other side: the platform, its handsets, its webhook, and the weather between it and the daemon.
//!
//! What becomes of a message is drawn from its name, and what becomes of a DELETE from the message's name and which of its
//! DELETEs it is. The truth is kept here: what the daemon is told of it may be lost, late, twice and out of order.

use std::collections::BTreeMap;
use std::time::Duration;

use super::plan::{Odds, Weather};
use crate::dice::Dice;
use crate::engine::{Evidence, EvidenceKind};
use crate::model::{AgentId, Answer, Called, Identity, Phone};
use crate::platform::Order;

/// How long a request is waited for.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A message as the platform has it.
struct Sent {
    phone: Phone,
    state: Truth,
    deletes: u64,
}

/// What is so.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Truth {
    Queued,
    Delivered,
    Gone,
}

/// What is on its way to the daemon, and how long it takes.
pub(super) enum Coming {
    /// The handset takes the message, if it is still there; `crossing` takes it even so.
    Reaches { identity: Identity, crossing: bool },
    /// The platform's own ttl of a message.
    Ttl(Identity),
    /// An event. The webhook repeats it until it is taken; who forwards it to the socket may not.
    Event(Evidence, bool),
}

/// See the module's documentation.
pub(super) struct Network {
    dice: Dice,
    odds: Odds,
    shadow: bool,
    sent: BTreeMap<Identity, Sent>,
    weather: Vec<(Weather, Option<AgentId>, Duration)>,
    hooks_fail_until: Duration,
    calls: BTreeMap<String, u64>,
}

impl Network {
    pub(super) fn new(dice: Dice, odds: Odds, shadow: bool) -> Self {
        let (sent, weather, calls) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        Self { dice, odds, shadow, sent, weather, hooks_fail_until: Duration::ZERO, calls }
    }

    /// From now on nothing goes wrong any more.
    pub(super) fn heal(&mut self) {
        (self.odds, self.hooks_fail_until) = (Odds::default(), Duration::ZERO);
        self.weather.clear();
    }

    pub(super) fn set_weather(&mut self, weather: Weather, agent: Option<AgentId>, until: Duration) {
        self.weather.push((weather, agent, until));
    }

    pub(super) fn hooks_fail(&mut self, until: Duration) {
        self.hooks_fail_until = self.hooks_fail_until.max(until);
    }

    /// A message is sent. One that was sent before is not sent again.
    pub(super) fn send(&mut self, identity: &Identity, phone: Phone) -> Vec<(Duration, Coming)> {
        if self.sent.contains_key(identity) {
            return Vec::new();
        }
        self.sent.insert(identity.clone(), Sent { phone, state: Truth::Queued, deletes: 0 });
        let mut rng = self.dice.rng("handset", &name(identity), 0);
        let reaches = Coming::Reaches { identity: identity.clone(), crossing: false };
        match rng.u8(0..20) {
            0..5 => vec![(Duration::from_millis(rng.u64(50..3_000)), reaches)],
            5..10 => vec![(Duration::from_secs(rng.u64(3..2_000)), reaches)],
            10 => vec![(Duration::from_secs(rng.u64(3..4_000)), Coming::Ttl(identity.clone()))],
            _ => Vec::new(),
        }
    }

    /// A handset takes a message. What events come of it.
    pub(super) fn reaches(&mut self, identity: &Identity, crossing: bool) -> Vec<(Duration, Coming)> {
        let Some(sent) = self.sent.get_mut(identity) else { return Vec::new() };
        if sent.state != Truth::Queued && !(crossing && sent.state == Truth::Gone) {
            return Vec::new();
        }
        sent.state = Truth::Delivered;
        let mut coming = self.event(identity, EvidenceKind::Delivered);
        if self.dice.rng("read", &name(identity), 0).bool() {
            coming.extend(self.event(identity, EvidenceKind::Read));
        }
        coming
    }

    /// The platform's own ttl is over.
    pub(super) fn ttl(&mut self, identity: &Identity) -> Vec<(Duration, Coming)> {
        let Some(sent) = self.sent.get_mut(identity).filter(|sent| sent.state == Truth::Queued) else {
            return Vec::new();
        };
        if self.dice.rng("ttl", &name(identity), 0).u8(0..3) == 0 {
            return self.event(identity, EvidenceKind::TtlFailed("TTL_EXPIRATION_REVOKE_FAILED".into()));
        }
        sent.state = Truth::Gone;
        self.event(identity, EvidenceKind::TtlRevoked)
    }

    /// The ways of one event to the daemon: none, one or two, each with its delay.
    fn event(&self, identity: &Identity, kind: EvidenceKind) -> Vec<(Duration, Coming)> {
        let Some(sent) = self.sent.get(identity) else { return Vec::new() };
        let mut rng = self.dice.rng("event", &name(identity), u64::from(kind == EvidenceKind::Delivered));
        let evidence = Evidence { identity: identity.clone(), phone: sent.phone, kind };
        let mut likely = |percent: f64| rng.f64() * 100.0 < percent;
        let (lost, late, twice) = (likely(self.odds.lost), likely(self.odds.late), likely(self.odds.twice));
        if lost {
            return Vec::new();
        }
        let mut delay = || Duration::from_millis(if late { rng.u64(1_000..4_000_000) } else { rng.u64(5..1_000) });
        let mut ways = vec![(delay(), true)];
        if twice {
            ways.push((delay(), false));
        }
        ways.into_iter().map(|(delay, webhook)| (delay, Coming::Event(evidence.clone(), webhook))).collect()
    }

    /// A DELETE arrives, or does not. The answer, how long after, and what else comes of it.
    pub(super) fn delete(&mut self, order: &Order, now: Duration) -> (Answer, Duration, Vec<(Duration, Coming)>) {
        if self.shadow {
            return (Answer::Shadow, Duration::ZERO, Vec::new());
        }
        let identity = Identity { agent: order.agent.clone(), message_id: order.message_id.clone() };
        self.weather.retain(|(.., until)| *until > now);
        let whose = |(_, agent, _): &&(Weather, Option<AgentId>, Duration)| {
            agent.as_ref().is_none_or(|agent| *agent == order.agent)
        };
        let weather = self.weather.iter().rev().find(whose).map(|(weather, ..)| *weather);
        let Some(sent) = self.sent.get_mut(&identity) else { return (Answer::NotFound, TIMEOUT / 300, Vec::new()) };
        sent.deletes += 1;
        let mut rng = self.dice.rng("delete", &name(&identity), sent.deletes);
        let soon = Duration::from_millis(if rng.u8(0..8) == 0 { 0 } else { rng.u64(1..300) });
        let mut likely = |percent: f64| rng.f64() * 100.0 < percent;
        let (answer_lost, request_lost) = (likely(self.odds.answer_lost), likely(self.odds.request_lost));
        let crosses = likely(self.odds.crossed);
        let lost = || Answer::Lost("no answer in time".into());
        match weather {
            Some(Weather::TooMany(wait)) => return (Answer::TooManyRequests(wait), soon, Vec::new()),
            Some(Weather::Unauthorized) => return (Answer::Unauthorized("who are you?".into()), soon, Vec::new()),
            Some(Weather::Forbidden) => return (Answer::Forbidden("not yours".into()), soon, Vec::new()),
            Some(Weather::ServerError) => return (Answer::Lost("500".into()), soon, Vec::new()),
            Some(Weather::NoConnection) => return (Answer::NotSent("connection refused".into()), soon, Vec::new()),
            Some(Weather::Rejected) => return (Answer::Rejected("400: what is this?".into()), soon, Vec::new()),
            Some(Weather::Timeout { done: false }) => return (lost(), TIMEOUT, Vec::new()),
            Some(Weather::Timeout { done: true }) | None => {}
        }
        if request_lost {
            return (lost(), TIMEOUT, Vec::new());
        }
        let taken = sent.state == Truth::Queued;
        let mut coming = Vec::new();
        if taken {
            sent.state = Truth::Gone;
            if crosses {
                let delay = Duration::from_millis(rng.u64(10..60_000));
                coming.push((delay, Coming::Reaches { identity, crossing: true }));
            }
        }
        if answer_lost || weather.is_some() {
            return (lost(), TIMEOUT, coming);
        }
        (if taken { Answer::Revoked } else { Answer::NotFound }, soon, coming)
    }

    /// A hook is called for a grant: whether it takes it, and what the daemon hears, how long after.
    pub(super) fn call(&mut self, grant_id: &str, now: Duration) -> (bool, Called, Duration) {
        let nth = self.calls.entry(grant_id.to_owned()).or_default();
        *nth += 1;
        let mut rng = self.dice.rng("hook", grant_id, *nth);
        let soon = Duration::from_millis(rng.u64(1..800));
        let fails = now < self.hooks_fail_until || rng.f64() * 100.0 < self.odds.hook_fails;
        if !fails {
            return (true, Called::Taken, soon);
        }
        match rng.u8(0..5) {
            0 => (false, Called::Later(Duration::from_secs(rng.u64(0..900))), soon),
            1 => (false, Called::Refused("404".into()), soon),
            2 => (false, Called::Failed("503".into()), soon),
            _ => (true, Called::Failed("no answer in time".into()), TIMEOUT),
        }
    }
}

/// What chance is drawn for.
pub(super) fn name(identity: &Identity) -> String {
    format!("{}/{}", identity.agent, identity.message_id)
}
