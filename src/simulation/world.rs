//! Lets it happen: one event after the other, in virtual time, with the oracle looking on.
//!
//! The world does for the engine what the daemon's own loop does: hands in what comes, runs the errands, rings the timers,
//! tells of the disk. It decides nothing about messages.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::asked::Request;
use super::daemon::Daemon;
use super::disk::Disk;
use super::network::{Coming, Network};
use super::oracle::{Clock, Counted, Moment, Oracle};
use super::plan::{Act, Plan, Point, Trouble};
use super::{Broken, Plant, Tally, broken};
use crate::clock::Now;
use crate::dice::Dice;
use crate::engine::{Evidence, Said as Subscribed};
use crate::model::{AgentId, Answer, Called, Identity, Timestamp, deadline::human};
use crate::platform::Order;
use crate::store::{Cursor, Ticket};

/// Timers that ring within an hour without anything coming of it: more is a daemon that runs in circles. What rests or can't be
/// read is looked at every second, on each route.
const CIRCLES_MAX: u32 = 30_000;
/// Timers that ring at one instant: it has a few strides to take, and then comes to rest.
const AT_ONCE_MAX: u32 = 10_000;
const HOUR: Duration = Duration::from_secs(3600);
/// How long after the faults have stopped everything has to have its outcome: the longest rest, and the longest that a clock
/// step goes unnoticed where nobody was told.
const BOUND: Duration = Duration::from_secs(9_000);
/// The same where an SMS may have to wait for the end of a night.
const BOUND_WITH_NIGHTS: Duration = Duration::from_secs(27 * 3600);

/// What is going to happen at some instant.
pub(super) enum Happening {
    Act(usize),
    Coming(Coming),
    /// A request is made (once more).
    Ask(Request, u32),
    Delete(u64, u64, Order),
    Answer(u64, u64, Order, Answer),
    HookCalled(u64, u64, String),
    Called(u64, u64, String, Called),
    Flushed(u64, Ticket),
    DiskHeals(Trouble),
    /// A reader goes on reading.
    Reads(usize),
    ClockNotice,
    Dies(u64),
    Starts(Option<usize>),
    /// Nothing but the end of a wait.
    Nudge,
}

/// See the module's documentation.
pub(super) struct World<'a> {
    pub(super) plan: &'a Plan,
    pub(super) plant: Option<Plant>,
    pub(super) dice: Dice,
    pub(super) now: Now,
    /// What the wall clock would have shown when the other one began.
    pub(super) epoch: Timestamp,
    /// What the daemon has to go by.
    pub(super) clock: Clock,
    pub(super) agenda: BTreeMap<(Duration, u64), Happening>,
    pub(super) numbers: u64,
    pub(super) run: u64,
    pub(super) disk: Rc<RefCell<Disk>>,
    pub(super) daemon: Option<Daemon>,
    /// The configuration in the file.
    pub(super) tuning: usize,
    pub(super) network: Network,
    pub(super) oracle: Oracle,
    /// Where each reader of outcomes is: all agents', then one for each of them.
    pub(super) readers: Vec<(Option<AgentId>, Cursor)>,
    pub(super) flushing: bool,
    pub(super) slow_disk: bool,
    /// Where it is to die, for how long, and whether with its host.
    pub(super) doomed: Option<(Point, Duration, bool)>,
    /// Which start of the host this is, and when it was.
    pub(super) boot: (u64, Duration),
    pub(super) nudged: bool,
    /// How long it is to be down after the stop under way, and with which configuration it comes back.
    pub(super) stop: (Duration, Option<usize>),
    pub(super) circles: (Duration, u32),
    /// When a timer last rang, and how often just then.
    at_once: (Duration, u32),
    pub(super) healed: bool,
    /// What is to be said when the status is asked for.
    pub(super) counted: Option<Counted>,
    pub(super) tally: Tally,
    pub(super) traced: bool,
    /// What happened, for people.
    pub trace: Vec<String>,
}

impl<'a> World<'a> {
    pub(super) fn new(plan: &'a Plan, plant: Option<Plant>, traced: bool) -> Self {
        let dice = Dice::new(plan.seed);
        let now = Now { wall: plan.start, mono: Duration::from_secs(100) };
        let mut agents: Vec<AgentId> = Vec::new();
        for (_, act) in &plan.acts {
            if let Act::Send(drafts) = act {
                agents.extend(drafts.iter().map(|draft| draft.agent.clone()));
            }
        }
        agents.sort_unstable();
        agents.dedup();
        Self {
            plan,
            plant,
            dice,
            now,
            epoch: plan.start.minus(now.mono),
            clock: Clock::default(),
            agenda: BTreeMap::new(),
            numbers: 0,
            run: 0,
            disk: Rc::new(RefCell::new(Disk::new(plant))),
            daemon: None,
            tuning: 0,
            network: Network::new(dice, plan.odds, plan.shadow),
            oracle: Oracle::new(plan),
            readers: std::iter::once(None).chain(agents.into_iter().map(Some)).map(|who| (who, 0)).collect(),
            flushing: false,
            slow_disk: false,
            doomed: None,
            boot: (1, Duration::ZERO),
            nudged: false,
            stop: (Duration::ZERO, None),
            circles: (Duration::ZERO, 0),
            at_once: (Duration::ZERO, 0),
            healed: false,
            counted: None,
            tally: Tally::default(),
            traced,
            trace: Vec::new(),
        }
    }

    /// From the first act until long after the last.
    pub(super) fn live(&mut self) -> Result<Tally, Broken> {
        let start = self.now.mono;
        for (n, (at, _)) in self.plan.acts.iter().enumerate() {
            self.at(start + *at, Happening::Act(n));
        }
        self.starts(None)?;
        let last = self.plan.acts.last().map_or(Duration::ZERO, |(at, _)| *at);
        self.until(start + last + Duration::from_secs(60))?;
        self.heal()?;
        let latest = self.oracle.latest_deadline(self.now.wall);
        let bound = self.now.mono + latest.since(self.now.wall) + BOUND;
        self.until(bound)?;
        if !self.oracle.has_nights() {
            self.oracle.all_settled(self.moment())?;
        }
        self.until(bound + BOUND_WITH_NIGHTS)?;
        self.oracle.all_settled(self.moment())?;
        self.examine()?;
        self.ask(Request::Recalls, u32::MAX);
        self.ask(Request::Books, u32::MAX);
        self.round()?;
        if self.plan.calm {
            self.oracle.on_time()?;
        }
        let readers: Vec<Cursor> = self.readers.iter().map(|(_, at)| *at).collect();
        self.oracle.end(&readers, &self.disk.borrow().live)?;
        self.tally.messages = self.oracle.messages();
        self.tally.outcomes = self.oracle.outcomes();
        self.tally.seconds = (self.now.mono - start).as_secs();
        self.tally.digest = self.tally.digest.rotate_left(7) ^ self.tally.events ^ (self.tally.outcomes << 32);
        Ok(self.tally)
    }

    /// The faults stop: what is down comes up, what is held is released.
    fn heal(&mut self) -> Result<(), Broken> {
        self.healed = true;
        self.doomed = None;
        self.network.heal();
        for trouble in [Trouble::Full, Trouble::Slow, Trouble::Unreadable] {
            self.happens(Happening::DiskHeals(trouble))?;
        }
        self.say(|| "the faults stop".to_owned());
        // Whatever could not be read while the disk failed is found again by the next start.
        self.until(self.now.mono + Duration::from_secs(1_000))?;
        self.stops(false, Duration::from_secs(1), None);
        self.round()?;
        self.until(self.now.mono + Duration::from_secs(60))?;
        self.ask(Request::AcceptClock, u32::MAX);
        for of in self.oracle.holds() {
            self.soon(Happening::Ask(Request::Release(of), 0));
        }
        Ok(())
    }

    fn until(&mut self, end: Duration) -> Result<(), Broken> {
        loop {
            let timer = self.daemon.as_ref().and_then(Daemon::next_timer);
            let happening = self.agenda.keys().next().map(|(at, _)| *at);
            let Some(next) = [timer, happening].into_iter().flatten().min().filter(|at| *at <= end) else { break };
            self.move_to(next.max(self.now.mono));
            self.tally.events += 1;
            let rings = timer == Some(next) && (happening != Some(next) || self.draw("tie").bool());
            if rings {
                self.rings()?;
            } else if let Some((_, happening)) = self.agenda.pop_first() {
                self.happens(happening)?;
            }
            if self.draw("examine").u8(0..16) == 0 {
                self.examine()?;
            }
        }
        self.move_to(end.max(self.now.mono));
        Ok(())
    }

    fn move_to(&mut self, mono: Duration) {
        self.now = Now { wall: self.epoch.plus(mono), mono };
    }

    /// The daemon looks at the clock.
    pub(super) fn looks_at_clock(&mut self) {
        if self.clock.see(self.epoch) {
            self.oracle.clock_stepped(self.now.mono);
        }
    }

    pub(super) fn moment(&self) -> Moment {
        let now = Now { wall: self.clock.time(self.now), ..self.now };
        Moment { now, run: self.run, round: self.tally.rounds }
    }

    pub(super) fn at(&mut self, at: Duration, happening: Happening) {
        self.numbers += 1;
        self.agenda.insert((at.max(self.now.mono), self.numbers), happening);
    }

    pub(super) fn soon(&mut self, happening: Happening) {
        self.at(self.now.mono, happening);
    }

    pub(super) fn come(&mut self, coming: Vec<(Duration, Coming)>) {
        for (delay, coming) in coming {
            self.at(self.now.mono + delay, Happening::Coming(coming));
        }
    }

    pub(super) fn say(&mut self, words: impl FnOnce() -> String) {
        if self.traced {
            let since = human(self.now.mono.saturating_sub(Duration::from_secs(100)));
            self.trace.push(format!("{since:>16}  {}  {}", self.now.wall, words()));
        }
    }

    /// What chance does now, for one purpose. Drawn from the time, so that it stays the same where other acts are left out.
    pub(super) fn draw(&self, purpose: &str) -> fastrand::Rng {
        self.dice.rng(purpose, "", u64::try_from(self.now.mono.as_nanos()).unwrap_or(u64::MAX))
    }

    fn rings(&mut self) -> Result<(), Broken> {
        let (now, lost) = (self.daemon_now(), self.draw("lost").u8(0..5) == 0);
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        let Some(route) = daemon.rings(self.now.mono) else { return Ok(()) };
        let (since, circles) = self.circles;
        self.circles = if self.now.mono < since + HOUR { (since, circles + 1) } else { (self.now.mono, 0) };
        broken!(circles < CIRCLES_MAX, "no running in circles", "route {route} rings again and again");
        let (last, times) = self.at_once;
        self.at_once = (self.now.mono, if self.now.mono == last { times + 1 } else { 0 });
        broken!(
            self.at_once.1 < AT_ONCE_MAX,
            "work comes to an end",
            "route {route} is never done with what there is to do"
        );
        if self.plant == Some(Plant::LostTimer) && !self.healed && lost {
            return Ok(());
        }
        daemon.drive.wake(route, now);
        self.looks_at_clock();
        self.round()
    }

    pub(super) fn daemon_now(&self) -> Now {
        let ahead = if self.plant == Some(Plant::FastClock) { 120 } else { 0 };
        Now { wall: self.now.wall.plus(Duration::from_secs(ahead)), mono: self.now.mono - self.boot.1 }
    }

    fn happens(&mut self, happening: Happening) -> Result<(), Broken> {
        match happening {
            Happening::Act(n) => {
                let plan = self.plan;
                self.say(|| format!("* {}", plan.acts[n].1));
                self.act(&plan.acts[n].1)?;
            }
            Happening::Coming(Coming::Reaches { identity, crossing }) => {
                let coming = self.network.reaches(&identity, crossing);
                self.come(coming);
                return Ok(());
            }
            Happening::Coming(Coming::Ttl(identity)) => {
                let coming = self.network.ttl(&identity);
                self.come(coming);
                return Ok(());
            }
            Happening::Coming(Coming::Event(evidence, webhook)) => {
                self.ask(Request::Tell(evidence), if webhook { 0 } else { u32::MAX });
            }
            Happening::Ask(request, tries) => self.ask(request, tries),
            Happening::Delete(run, seq, order) => {
                let (answer, after, coming) = self.network.delete(&order, self.now.mono);
                self.come(coming);
                self.at(self.now.mono + after, Happening::Answer(run, seq, order, answer));
                return Ok(());
            }
            Happening::Answer(run, seq, order, answer) => {
                let moment = self.moment();
                let Some(daemon) = self.daemon.as_mut().filter(|_| run == self.run) else { return Ok(()) };
                let told = match answer {
                    Answer::NotFound if self.plant == Some(Plant::WrongAnswer) => Answer::Revoked,
                    ref answer => answer.clone(),
                };
                daemon.teller.answered(seq, told);
                daemon.out -= 1;
                self.oracle.answer(&order, &answer, moment);
                self.say(|| format!("{} is answered {}", order.message_id, answer.words()));
            }
            Happening::HookCalled(run, seq, grant_id) => {
                let (taken, called, after) = self.network.call(&grant_id, self.now.mono);
                if taken {
                    self.oracle.sms(&grant_id);
                }
                self.at(self.now.mono + after, Happening::Called(run, seq, grant_id, called));
                return Ok(());
            }
            Happening::Called(run, seq, grant_id, called) => {
                let Some(daemon) = self.daemon.as_mut().filter(|_| run == self.run) else { return Ok(()) };
                daemon.teller.called(seq, called.clone());
                daemon.out -= 1;
                self.oracle.called(&grant_id);
                self.say(|| format!("the hook says {called:?} to {grant_id}"));
            }
            Happening::Flushed(run, through) => {
                if run != self.run {
                    return Ok(());
                }
                self.flushed(through);
            }
            Happening::DiskHeals(Trouble::Full) => {
                let failed = std::mem::take(&mut self.disk.borrow_mut().fails);
                if failed && !self.flushing {
                    self.flush_soon();
                }
            }
            Happening::DiskHeals(Trouble::Slow) => self.slow_disk = false,
            Happening::DiskHeals(Trouble::Unreadable) => self.disk.borrow_mut().unreadable = false,
            Happening::Reads(reader) => {
                let (agent, after) = self.readers[reader].clone();
                let limit = self.draw("page").usize(1..40);
                self.ask(Request::Read { reader, agent, after, limit }, 0);
            }
            Happening::ClockNotice => {
                if let Some(daemon) = &self.daemon {
                    daemon.teller.clock_stepped();
                }
            }
            Happening::Dies(run) => {
                if let Some((_, down, host)) = self.doomed.take_if(|_| run == self.run) {
                    self.crash(down, host)?;
                }
            }
            Happening::Starts(tuning) => return self.starts(tuning),
            Happening::Nudge => self.nudged = false,
        }
        let together = self.plan.odds.together;
        if !self.nudged && !self.healed && self.draw("together").f64() * 100.0 < together {
            self.nudged = true;
            let after = Duration::from_millis(self.draw("nudge").u64(1..20));
            self.at(self.now.mono + after, Happening::Nudge);
        }
        if self.nudged { Ok(()) } else { self.round() }
    }

    fn act(&mut self, act: &Act) -> Result<(), Broken> {
        match act {
            Act::Send(drafts) => {
                for draft in drafts {
                    let identity = Identity { agent: draft.agent.clone(), message_id: draft.message_id.clone() };
                    let coming = self.network.send(&identity, draft.phone);
                    self.come(coming);
                }
                let delay = Duration::from_millis([0, 100, 3_000][self.draw("registers").usize(0..3)]);
                self.at(self.now.mono + delay, Happening::Ask(Request::Register(drafts.clone()), 0));
            }
            Act::Again(drafts) => self.ask(Request::Register(drafts.clone()), 0),
            Act::Tell(identity, phone, kind) => {
                let evidence = Evidence { identity: identity.clone(), phone: *phone, kind: kind.clone() };
                self.ask(Request::Tell(evidence), 0);
            }
            Act::Do(identity, verb) => self.ask(Request::Do(identity.clone(), *verb), 0),
            Act::Subscription(agent, phone, ended) => {
                let said = Subscribed { agent: agent.clone(), phone: *phone, ended: *ended, at: Some(self.now.wall) };
                self.ask(Request::Subscribe(said), 0);
            }
            Act::Hold(of) => self.ask(Request::Hold(of.clone()), 0),
            Act::Release(of) => self.ask(Request::Release(of.clone()), 0),
            Act::Recall(of) => self.ask(Request::Recall(of.clone()), 0),
            Act::Reload(n) => {
                self.round()?;
                self.ask(Request::Reload(*n), u32::MAX);
                self.round()?;
            }
            Act::Acknowledge(agent) => {
                let reader = self.readers.iter().find(|(who, _)| who == agent);
                if let Some((agent, cursor)) = reader.cloned() {
                    self.ask(Request::Acknowledge(agent, cursor), 0);
                }
            }
            Act::Crash { at, down, host } => {
                self.doomed = Some((*at, *down, *host));
                self.at(self.now.mono + Duration::from_secs(5), Happening::Dies(self.run));
            }
            Act::Restart { hasty, down, tuning } => {
                self.round()?;
                self.stops(*hasty, *down, *tuning);
            }
            Act::Disk(trouble, span) => {
                match trouble {
                    Trouble::Full => self.disk.borrow_mut().fails = true,
                    Trouble::Slow => self.slow_disk = true,
                    Trouble::Unreadable => self.disk.borrow_mut().unreadable = true,
                }
                self.at(self.now.mono + *span, Happening::DiskHeals(*trouble));
            }
            Act::Weather(weather, agent, span) => {
                self.network.set_weather(*weather, agent.clone(), self.now.mono + *span);
            }
            Act::HooksFail(span) => self.network.hooks_fail(self.now.mono + *span),
            Act::Clock { by, told } => {
                self.round()?;
                let span = Duration::from_millis(by.unsigned_abs());
                self.epoch = if *by < 0 { self.epoch.minus(span) } else { self.epoch.plus(span) };
                self.move_to(self.now.mono);
                if *told {
                    self.soon(Happening::ClockNotice);
                }
            }
            Act::Suspend(span) => {
                self.round()?;
                self.move_to(self.now.mono + *span);
                if let Some(daemon) = &mut self.daemon {
                    daemon.slept(*span);
                }
                self.soon(Happening::ClockNotice);
            }
            Act::AcceptClock => {
                self.round()?;
                self.ask(Request::AcceptClock, u32::MAX);
                self.round()?;
            }
            Act::Look => self.ask(Request::Look, u32::MAX),
        }
        Ok(())
    }
}
