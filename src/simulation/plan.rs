//! What is going to happen, drawn from the seed beforehand: a list of acts, each at its time.
//!
//! No act depends on another, and what chance does to each message is drawn from the message's name (see
//! [`Dice`]). So any of them can be left out without changing what the others do, and a failure can be
//! shrunk to the few that it takes.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;

use super::tunings::{self, Scope, USE_CASES, use_case};
use crate::dice::Dice;
use crate::engine::{Draft, EvidenceKind, OnConflict, Own, Scale, Tuning, Verb};
use crate::model::{AgentId, Identity, MessageId, Phone, Region, Selector, Timestamp, deadline::human};

/// Everything about one run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub seed: u64,
    /// When it begins, on the wall clock.
    pub start: Timestamp,
    pub scale: Scale,
    pub shadow: bool,
    /// The first configuration, and those that reloads and restarts bring.
    pub tunings: Vec<Tuning>,
    /// Since the beginning, in order.
    pub acts: Vec<(Duration, Act)>,
    /// What chance does to events, in percent.
    pub odds: Odds,
    /// Nothing goes wrong, and so everything has to be on time.
    pub calm: bool,
}

/// How often chance does what, in percent.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Odds {
    /// An event is lost for good,
    pub lost: f64,
    /// comes minutes or hours late,
    pub late: f64,
    /// or comes twice.
    pub twice: f64,
    /// The answer to a DELETE that did its work does not come back.
    pub answer_lost: f64,
    /// A DELETE does not get there.
    pub request_lost: f64,
    /// A message that was revoked is delivered all the same.
    pub crossed: f64,
    /// A hook fails, or takes the grant and its answer is lost.
    pub hook_fails: f64,
    /// What is asked is taken in together with what comes next.
    pub together: f64,
}

/// One thing that happens.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Act {
    /// Messages go to the platform, and are registered.
    Send(Vec<Draft>),
    /// They are registered once more, as they are here.
    Again(Vec<Draft>),
    /// Somebody says something about a message, true or not.
    Tell(Identity, Phone, EvidenceKind),
    /// An agent wants something done.
    Do(Identity, Verb),
    Hold(Selector),
    Release(Selector),
    Recall(Selector),
    /// A user wants no promotions of an agent any more, or wants them again.
    Subscription(AgentId, Phone, bool),
    /// Another configuration, by a reload.
    Reload(usize),
    /// An agent, or somebody for all of them, takes note of what was read.
    Acknowledge(Option<AgentId>),
    /// The daemon dies and comes back; or its host does, which counts its time anew then.
    Crash {
        at: Point,
        down: Duration,
        host: bool,
    },
    /// It is stopped in order (or in a hurry: without waiting for what is out) and started, maybe with another configuration.
    Restart {
        hasty: bool,
        down: Duration,
        tuning: Option<usize>,
    },
    /// For so long the disk …
    Disk(Trouble, Duration),
    /// … and the platform, for one agent or all …
    Weather(Weather, Option<AgentId>, Duration),
    /// … and the hooks are not what they should be.
    HooksFail(Duration),
    /// The wall clock steps, in milliseconds; whether the daemon is told of it at once.
    Clock {
        by: i64,
        told: bool,
    },
    /// Somebody says that the clock is right.
    AcceptClock,
    /// The machine sleeps.
    Suspend(Duration),
    /// Somebody looks at everything there is to see.
    Look,
}

/// Where it hurts to die.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Point {
    /// In the next round that does something outside, after so many of those things; or some seconds later, if there is none.
    Errand(usize),
    /// Behind the next round that writes something: whoever is answered is, and the disk has nothing yet.
    Write,
}

/// What is wrong with a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    Full,
    Slow,
    Unreadable,
}

/// What a platform does to every request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Weather {
    /// 429, with the `Retry-After` it sends along.
    TooMany(Option<Duration>),
    Unauthorized,
    Forbidden,
    ServerError,
    /// Nothing comes back; whether it was done all the same.
    Timeout {
        done: bool,
    },
    NoConnection,
    Rejected,
}

const AGENTS: [&str; 3] = ["bot", "shop", "bank"];
const TAGS: [&str; 2] = ["spring", "blue"];

/// What goes wrong in one run: about half of all that could, so that one kind of trouble does not hide another.
struct Swarm {
    rng: Rng,
    start: Timestamp,
    span: Duration,
    agents: usize,
    messages: usize,
}

impl Plan {
    pub(super) fn draw(seed: u64) -> Self {
        let mut rng = Dice::new(seed).rng("plan", "", 0);
        let start = Timestamp::parse("2026-11-22T12:00:00Z").expect("a time as RFC 3339 has it");
        let start = start.plus(Duration::from_millis(rng.u64(0..24 * 3_600_000)));
        let calm = rng.u8(0..12) == 0;
        let scope = Scope { shadow: rng.u8(0..20) == 0, hooks: rng.bool(), quiet: !calm && rng.u8(0..3) == 0 };
        let mut tunings = vec![tunings::draw(&mut rng, start, scope, None)];
        for _ in 0..3 {
            let next = tunings::draw(&mut rng, start, scope, tunings.last());
            tunings.push(next);
        }
        let scale = Scale {
            window: rng.usize(1..24),
            stride: rng.usize(1..12),
            counted: rng.usize(1..12),
            trim_every: rng.u64(1..9),
        };
        let mut odds = |usual: f64| if rng.bool() && !calm { usual * rng.f64() * 2.0 } else { 0.0 };
        let odds = Odds {
            lost: odds(15.0),
            late: odds(20.0),
            twice: odds(30.0),
            answer_lost: odds(20.0),
            request_lost: odds(15.0),
            crossed: odds(10.0),
            hook_fails: odds(30.0),
            together: odds(30.0),
        };
        let span = Duration::from_secs(rng.u64(10..90) * 60);
        let (agents, messages) = (rng.usize(1..=AGENTS.len()), rng.usize(3..40));
        let mut swarm = Swarm { rng, start, span, agents, messages };
        let mut acts = swarm.acts(calm);
        acts.sort_by_key(|(at, _)| *at);
        Self { seed, start, scale, shadow: scope.shadow, tunings, acts, odds, calm }
    }
}

impl Swarm {
    fn acts(&mut self, calm: bool) -> Vec<(Duration, Act)> {
        let mut acts = Vec::new();
        let mut n = 0;
        while n < self.messages {
            let at = self.at();
            let most = if self.rng.bool() { 1 } else { 8 };
            let many = self.rng.usize(1..=most).min(self.messages - n);
            acts.push((at, Act::Send((n..n + many).map(|n| self.draft(n, at)).collect())));
            n += many;
        }
        for kind in 0..15_u8 {
            if calm && (4..13).contains(&kind) || self.rng.bool() {
                continue;
            }
            for _ in 0..self.rng.usize(1..6) {
                let at = self.at();
                acts.push((at, self.act(kind, at)));
            }
        }
        if !calm && self.rng.u8(0..5) == 0 {
            acts.extend(self.doubt());
        }
        acts
    }

    /// What seldom comes together by itself: a crash while DELETEs are out that do their work unheard, and then everything
    /// that moves their messages away from where it is written that they may have left.
    fn doubt(&mut self) -> Vec<(Duration, Act)> {
        let (begin, first, many) = (self.at(), self.messages, self.rng.usize(1..5));
        let tag: Box<str> = TAGS[0].into();
        let drafts: Vec<Draft> = (first..first + many)
            .map(|n| {
                let own = Some(Own::Ttl(Duration::from_millis(self.rng.u64(3_200..6_000))));
                Draft { own, send_time: None, tags: vec![tag.clone()], ..self.draft(n, begin) }
            })
            .collect();
        let later = |draft: &Draft| Draft { own: Some(Own::Ttl(Duration::from_secs(60))), ..draft.clone() };
        let again = drafts.iter().map(later).collect();
        let hold = match self.rng.bool() {
            true => Selector { tag: Some(tag), ..Selector::default() },
            false => Selector { use_case: Some(drafts[0].use_case.clone()), ..Selector::default() },
        };
        let timeout = Act::Weather(Weather::Timeout { done: true }, None, Duration::from_secs(40));
        let (crash, restart) = (Point::Errand(usize::MAX), Duration::from_millis(self.rng.u64(1..2_000)));
        let mut acts = vec![
            (0, timeout),
            (0, Act::Send(drafts)),
            (7_000, Act::Hold(hold.clone())),
            (8_000, Act::Crash { at: crash, down: restart, host: self.rng.u8(0..4) == 0 }),
            (self.rng.u64(41_000..80_000), Act::Release(hold)),
        ];
        let sometimes = [
            Act::Again(again),
            Act::Restart { hasty: false, down: restart, tuning: None },
            Act::Clock { by: -60_000, told: true },
        ];
        for act in sometimes {
            if self.rng.bool() {
                acts.push((self.rng.u64(16_000..40_000), act));
            }
        }
        acts.into_iter().map(|(after, act)| (begin + Duration::from_millis(after), act)).collect()
    }

    fn act(&mut self, kind: u8, at: Duration) -> Act {
        match kind {
            0 => {
                let many = self.rng.usize(1..4);
                Act::Again((0..many).map(|_| self.registration(at)).collect())
            }
            1 => Act::Do(self.message(), self.verb(at)),
            2 => Act::Acknowledge(self.rng.bool().then(|| self.agent())),
            3 => Act::Look,
            4 => Act::Reload(self.rng.usize(0..4)),
            5 => {
                let of = self.selector();
                if self.rng.bool() { Act::Hold(of) } else { Act::Release(of) }
            }
            6 => Act::Recall(self.selector()),
            7 => self.crash(),
            8 => Act::Disk(
                [Trouble::Full, Trouble::Slow, Trouble::Unreadable][self.rng.usize(0..3)],
                self.span_of(&[1, 5, 60, 600]),
            ),
            9 => Act::Weather(self.weather(), self.rng.bool().then(|| self.agent()), self.span_of(&[1, 10, 60, 1200])),
            10 => Act::HooksFail(self.span_of(&[10, 60, 1200])),
            11 if self.rng.u8(0..4) == 0 => Act::AcceptClock,
            11 => {
                let by = [1_000, 60_000, 3_600_000, 86_400_000][self.rng.usize(0..4)];
                let by = self.rng.i64(by / 2..=by);
                Act::Clock { by: if self.rng.bool() { by } else { -by }, told: self.rng.u8(0..8) > 0 }
            }
            12 => Act::Suspend(self.span_of(&[1, 60, 3600, 20_000])),
            13 => {
                let n = self.rng.usize(0..self.messages);
                Act::Subscription(agent(n % self.agents), phone(n), self.rng.u8(0..3) > 0)
            }
            _ => {
                let kind = match self.rng.u8(0..4) {
                    0 => EvidenceKind::Delivered,
                    1 => EvidenceKind::Read,
                    2 => EvidenceKind::TtlRevoked,
                    _ => EvidenceKind::TtlFailed("TTL_EXPIRATION_REVOKE_FAILED".into()),
                };
                let n = self.rng.usize(0..self.messages + 5);
                Act::Tell(self.identity(n), phone(if self.rng.u8(0..4) > 0 { n } else { 9_999 }), kind)
            }
        }
    }

    fn crash(&mut self) -> Act {
        let down = self.span_of(&[0, 1, 5, 60, 900]);
        if self.rng.u8(0..3) > 0 {
            let at = if self.rng.bool() { Point::Write } else { Point::Errand(self.rng.usize(0..5)) };
            return Act::Crash { at, down, host: self.rng.u8(0..4) == 0 };
        }
        let tuning = (self.rng.u8(0..3) > 0).then(|| self.rng.usize(0..4));
        Act::Restart { hasty: self.rng.u8(0..3) == 0, down, tuning }
    }

    fn weather(&mut self) -> Weather {
        match self.rng.u8(0..9) {
            0..2 => {
                let wait = [0, 1, 30, 600, 4000][self.rng.usize(0..5)];
                Weather::TooMany((self.rng.u8(0..3) > 0).then_some(Duration::from_secs(wait)))
            }
            2 => Weather::Unauthorized,
            3 => Weather::Forbidden,
            4 => Weather::ServerError,
            5..7 => Weather::Timeout { done: self.rng.bool() },
            7 => Weather::NoConnection,
            _ => Weather::Rejected,
        }
    }

    fn verb(&mut self, at: Duration) -> Verb {
        match self.rng.u8(0..8) {
            0..3 => Verb::Withdraw,
            3..5 => Verb::Revoke,
            5..7 => Verb::Reschedule(self.later(at)),
            _ => Verb::Decide(self.rng.bool()),
        }
    }

    fn selector(&mut self) -> Selector {
        // Few, so that what is held is also released.
        let which = self.rng.u8(0..6);
        let name = USE_CASES[self.rng.usize(0..2)];
        Selector {
            use_case: (which < 3).then(|| use_case(name)),
            agent: (which == 3).then(|| agent(0)),
            tag: (which > 3 || which == 0).then(|| TAGS[0].into()),
        }
    }

    fn registration(&mut self, at: Duration) -> Draft {
        let n = self.rng.usize(0..self.messages);
        let on_conflict = [OnConflict::Replace, OnConflict::Keep, OnConflict::Earliest, OnConflict::Reject];
        Draft { on_conflict: on_conflict[self.rng.usize(0..4)], ..self.draft(n, at) }
    }

    fn draft(&mut self, n: usize, at: Duration) -> Draft {
        let now = self.start.plus(at);
        let identity = self.identity(n);
        let own = match self.rng.u8(0..10) {
            0..6 => None,
            6..8 => Some(Own::Ttl(self.span_of(&[2, 60, 600, 3600]))),
            _ => Some(Own::At(self.later(at))),
        };
        let tags = TAGS.into_iter().filter(|_| self.rng.u8(0..3) == 0).map(Into::into).collect();
        let seldom = |rng: &mut Rng| rng.u8(0..6) == 0;
        Draft {
            agent: identity.agent,
            message_id: identity.message_id,
            phone: phone(if self.rng.u8(0..60) == 0 { 9_999 } else { n }),
            use_case: use_case(USE_CASES[self.rng.usize(0..USE_CASES.len())]),
            send_time: self.rng.bool().then(|| now.minus(Duration::from_millis(self.rng.u64(0..4000)))),
            own,
            region: seldom(&mut self.rng).then_some(Region::Us),
            traffic_type: None,
            tags,
            fallback: self.rng.bool().then(|| "{}".into()),
            time_zone: seldom(&mut self.rng).then(|| tunings::ZONES[self.rng.usize(0..3)].0.into()),
            on_conflict: OnConflict::Replace,
        }
    }

    fn later(&mut self, at: Duration) -> Timestamp {
        self.start.plus(at).plus(self.span_of(&[2, 60, 600, 3600]))
    }

    fn at(&mut self) -> Duration {
        // In heaps, so that things meet.
        let heaps = self.span.as_secs() / 120;
        let heap = Duration::from_secs(self.rng.u64(0..=heaps) * 120);
        heap + Duration::from_millis(if self.rng.bool() { self.rng.u64(0..3000) } else { self.rng.u64(0..120_000) })
    }

    fn span_of(&mut self, seconds: &[u64]) -> Duration {
        let about = seconds[self.rng.usize(0..seconds.len())] * 1000;
        Duration::from_millis(self.rng.u64(about / 2..=about))
    }

    fn message(&mut self) -> Identity {
        let n = self.rng.usize(0..self.messages);
        self.identity(n)
    }

    fn agent(&mut self) -> AgentId {
        agent(self.rng.usize(0..self.agents))
    }

    fn identity(&self, n: usize) -> Identity {
        let message_id = MessageId::new(&format!("m{n}")).expect("a letter and digits are an id");
        Identity { agent: agent(n % self.agents), message_id }
    }
}

fn agent(n: usize) -> AgentId {
    AgentId::new(AGENTS[n]).expect("letters are an agent's id")
}

fn phone(n: usize) -> Phone {
    Phone::from_digits(15_550_000_000 + n as u64)
}

/// For traces.
impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let drafts = |f: &mut fmt::Formatter<'_>, drafts: &[Draft]| {
            for draft in drafts {
                let Draft { agent, message_id, use_case, send_time, own, tags, on_conflict, .. } = draft;
                write!(f, " {agent}/{message_id} as {use_case}")?;
                send_time.iter().try_for_each(|at| write!(f, " sent {at}"))?;
                own.iter().try_for_each(|own| write!(f, " with {own:?}"))?;
                tags.iter().try_for_each(|tag| write!(f, " #{tag}"))?;
                if *on_conflict != OnConflict::Replace {
                    write!(f, " ({on_conflict:?})")?;
                }
            }
            Ok(())
        };
        match self {
            Self::Send(all) => f.write_str("send").and_then(|()| drafts(f, all)),
            Self::Again(all) => f.write_str("register again").and_then(|()| drafts(f, all)),
            Self::Tell(identity, _, kind) => write!(f, "tell {kind:?} of {}/{}", identity.agent, identity.message_id),
            Self::Do(identity, verb) => write!(f, "{verb:?} {}/{}", identity.agent, identity.message_id),
            Self::Hold(of) => write!(f, "hold {of}"),
            Self::Release(of) => write!(f, "release {of}"),
            Self::Recall(of) => write!(f, "recall {of}"),
            Self::Subscription(agent, _, ended) => {
                write!(f, "a user {} {agent}", if *ended { "unsubscribes from" } else { "subscribes to" })
            }
            Self::Reload(n) => write!(f, "reload configuration {n}"),
            Self::Acknowledge(Some(agent)) => write!(f, "{agent} acknowledges what it read"),
            Self::Acknowledge(None) => f.write_str("everything read is acknowledged"),
            Self::Crash { at, down, host } => {
                let who = if *host { "the host dies" } else { "crash" };
                write!(f, "{who} at {at:?}, down {}", human(*down))
            }
            Self::Restart { hasty, down, tuning } => {
                write!(f, "{} restart, down {}", if *hasty { "hasty" } else { "orderly" }, human(*down))?;
                tuning.iter().try_for_each(|n| write!(f, ", with configuration {n}"))
            }
            Self::Disk(trouble, span) => write!(f, "disk {trouble:?} for {}", human(*span)),
            Self::Weather(weather, agent, span) => {
                let whose = agent.as_ref().map_or("all", AgentId::as_str);
                write!(f, "platform {weather:?} to {whose} for {}", human(*span))
            }
            Self::HooksFail(span) => write!(f, "hooks fail for {}", human(*span)),
            Self::Clock { by, told } => {
                let (way, span) = (if *by < 0 { "back" } else { "forward" }, Duration::from_millis(by.unsigned_abs()));
                write!(f, "the clock steps {way} by {}{}", human(span), if *told { "" } else { ", and nobody is told" })
            }
            Self::AcceptClock => f.write_str("the clock is accepted"),
            Self::Suspend(span) => write!(f, "the machine sleeps for {}", human(*span)),
            Self::Look => f.write_str("look at everything"),
        }
    }
}
