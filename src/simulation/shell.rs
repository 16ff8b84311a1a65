//! Around the daemon: hands in what is asked, lets it take rounds, runs its errands, flushes its disk; and kills it.
//!
//! This is to [`Drive`] what the loop of [`Engine`](crate::engine::Engine) is, with an end to it at any point.

use std::rc::Rc;
use std::time::Duration;

use super::asked::{Asked, Request, Said};
use super::daemon::Daemon;
use super::disk::SimulatedStore;
use super::oracle::{Clock, Moment, Oracle};
use super::plan::Point;
use super::world::{Happening, World};
use super::{Broken, Plant};
use crate::clock::Now;
use crate::engine::{Doors, Draft, Drive, Effect, Refusal, RefusalKind, Verb};
use crate::store::{StoreError, Ticket};

impl World<'_> {
    /// Asks the daemon for something.
    pub(super) fn ask(&mut self, request: Request, tries: u32) {
        let lost = match &request {
            Request::Tell(_) => self.plant == Some(Plant::LostEvent) && self.draw("lost").u8(0..4) == 0,
            Request::Do(_, Verb::Withdraw) => self.plant == Some(Plant::LostWithdrawal),
            _ => false,
        };
        let moment = Moment { round: self.tally.rounds + 1, ..self.moment() };
        let Some(daemon) = self.daemon.as_mut().filter(|daemon| daemon.stopping.is_none()) else {
            self.not_heard(request, tries);
            return;
        };
        let word = self.oracle.asked(&request, moment);
        if lost {
            self.oracle.pretend(word);
            return;
        }
        let mut asked = Asked::new(request, word, tries, daemon.handle.clone(), self.plan);
        // The first look sends it; it can't be answered before the next round.
        let answered = asked.look();
        debug_assert!(!answered, "nobody has taken it in yet");
        daemon.asked.push(asked);
    }

    /// Nobody answered. Who has to know asks again.
    fn not_heard(&mut self, request: Request, tries: u32) {
        let mut rng = self.draw("again");
        let again = match &request {
            // The platform does not give up for a week.
            Request::Tell(_) | Request::Subscribe(_) => tries != u32::MAX,
            Request::Register(_) => tries < 8 && rng.u8(0..10) > 0,
            Request::Release(_) => self.healed,
            Request::Read { reader, .. } => {
                self.at(self.now.mono + Duration::from_secs(2), Happening::Reads(*reader));
                return;
            }
            Request::Reload(_) | Request::Look | Request::Status | Request::List => false,
            Request::Recalls | Request::Books | Request::AcceptClock => false,
            _ => tries < 2 && rng.bool(),
        };
        if again {
            let wait = Duration::from_millis(rng.u64(300..60_000));
            self.at(self.now.mono + wait, Happening::Ask(request, tries.saturating_add(1)));
        }
    }

    /// Lets the daemon take in what waits, and runs its errands.
    pub(super) fn round(&mut self) -> Result<(), Broken> {
        let now = self.daemon_now();
        if self.daemon.is_none() {
            return Ok(());
        }
        self.looks_at_clock();
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        if daemon.stopping.is_some() {
            daemon.drive.come_back(now);
            self.look_at_disk()?;
            self.look_at_answers()?;
            return self.close_if_all_is_back();
        }
        self.tally.rounds += 1;
        let errands = daemon.drive.round(|| now);
        // A reload that is not refused by now is in force.
        for asked in daemon.asked.iter_mut().filter(|asked| asked.is_new) {
            asked.is_new = false;
            if matches!(asked.request, Request::AcceptClock)
                && (!asked.look() || asked.answer.as_ref().is_some_and(Result::is_ok))
            {
                self.clock.accept(self.epoch);
                self.oracle.clock_stepped(self.now.mono);
            }
            if let Request::Reload(n) = asked.request
                && (!asked.look() || asked.answer.as_ref().is_some_and(Result::is_ok))
            {
                self.tuning = n;
                self.oracle.reloaded(n);
            }
        }
        self.look_at_disk()?;
        let outside = |effect: &Effect| matches!(effect, Effect::Launch(..) | Effect::Call(..) | Effect::Outcomes(_));
        if errands.iter().any(outside) {
            self.circles = (self.now.mono, 0);
        }
        let busy = errands.iter().any(outside);
        let doomed = self.doomed.take_if(|(at, ..)| busy && matches!(at, Point::Errand(_)));
        let allowed = if let Some((Point::Errand(errands), ..)) = doomed { errands } else { usize::MAX };
        for errand in errands.into_iter().take(allowed) {
            self.run_errand(errand)?;
        }
        if let Some((_, down, host)) = doomed {
            return self.crash(down, host);
        }
        self.flush_if_needed();
        self.look_at_answers()?;
        let writes = self.disk.borrow().waiting() > 0;
        match self.doomed.take_if(|(at, ..)| writes && *at == Point::Write) {
            Some((_, down, host)) => self.crash(down, host),
            None => Ok(()),
        }
    }

    fn run_errand(&mut self, errand: Effect) -> Result<(), Broken> {
        let (moment, mono) = (self.moment(), self.now.mono);
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        match errand {
            Effect::Arm(route, wait) => daemon.arm(route, wait, mono),
            Effect::Disarm(route) => daemon.disarm(route),
            Effect::Outcomes(cursor) => {
                self.oracle.readable(cursor)?;
                for reader in 0..self.readers.len() {
                    let delay = Duration::from_millis(self.draw("reads").u64(0..20_000));
                    self.at(mono + delay, Happening::Reads(reader));
                }
            }
            Effect::Launch(seq, order) => {
                daemon.out += 1;
                self.say(|| format!("DELETE {}", order.message_id));
                self.oracle.leaves(&order, moment)?;
                if self.plant == Some(Plant::SentTwice) && self.draw("twice").u8(0..8) == 0 {
                    self.oracle.leaves(&order, moment)?;
                }
                self.tally.deletes += 1;
                self.tally.digest = self.tally.digest.rotate_left(9) ^ seq ^ self.now.wall.millis().unsigned_abs();
                let mut rng = self.draw("goes");
                let delay = Duration::from_millis(if rng.u8(0..8) == 0 { 0 } else { rng.u64(1..100) });
                self.at(mono + delay, Happening::Delete(self.run, seq, order));
            }
            Effect::Call(seq, granted) => {
                daemon.out += 1;
                self.say(|| format!("the hook is called for {}", granted.message_id));
                self.oracle.calls(&granted, moment)?;
                let delay = Duration::from_millis(self.draw("calls").u64(1..100));
                self.at(mono + delay, Happening::HookCalled(self.run, seq, granted.grant_id));
            }
        }
        Ok(())
    }

    /// Tells the oracle what the daemon has just written.
    fn look_at_disk(&mut self) -> Result<(), Broken> {
        // What it writes is true by its own clock.
        let (moment, ahead) = (self.moment(), self.daemon_now().wall.since(self.now.wall));
        let moment = Moment { now: Now { wall: moment.now.wall.plus(ahead), ..moment.now }, ..moment };
        let seen = {
            let mut disk = self.disk.borrow_mut();
            if let Some(broken) = disk.wrong.take() {
                return Err(broken);
            }
            std::mem::take(&mut disk.seen)
        };
        if !seen.is_empty() {
            self.circles = (self.now.mono, 0);
        }
        for seen in seen {
            if self.traced
                && let Some(line) = Oracle::in_words(&seen)
            {
                self.say(|| line);
            }
            self.oracle.wrote(&seen, moment)?;
        }
        Ok(())
    }

    fn look_at_answers(&mut self) -> Result<(), Broken> {
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        let mut answered = Vec::new();
        daemon.asked.retain_mut(|asked| {
            let open = !asked.look();
            if let Some(answer) = asked.answer.take() {
                answered.push((asked.request.clone(), asked.word, asked.tries, answer));
            }
            open
        });
        for (request, word, tries, answer) in answered {
            self.heard(&request, word, tries, answer)?;
        }
        Ok(())
    }

    fn heard(
        &mut self,
        request: &Request,
        word: usize,
        tries: u32,
        answer: Result<Said, Refusal>,
    ) -> Result<(), Broken> {
        let moment = self.moment();
        self.oracle.said(word, &answer, moment)?;
        match (request, answer) {
            (_, Err(refusal)) => {
                self.say(|| format!("{request:?} is refused: {}", refusal.message));
                if refusal.kind == RefusalKind::Unavailable {
                    self.not_heard(request.clone(), tries);
                }
            }
            (Request::Read { reader, after, agent, .. }, Ok(Said::Read(mut outcomes))) => {
                if self.plant == Some(Plant::ChangedOutcome) && self.draw("changed").u8(0..6) == 0 {
                    outcomes.entries.iter_mut().for_each(|(_, entry)| entry.at = entry.at.plus(Duration::from_secs(1)));
                }
                self.oracle.read(agent.as_ref(), *after, &outcomes)?;
                // Now and then one begins again, and has to read the same.
                let again = self.draw("rereads").u8(0..12) == 0 && !self.healed;
                let at = &mut self.readers[*reader].1;
                let more = outcomes.next > *at;
                *at = if again { at.saturating_sub(7) } else { outcomes.next.max(*at) };
                if more || again {
                    self.at(self.now.mono + Duration::from_millis(500), Happening::Reads(*reader));
                }
            }
            (Request::Register(drafts), Ok(Said::Registered(results))) => {
                // What was refused for now is registered again.
                let refused = |result: &Result<_, Refusal>| {
                    result.as_ref().is_err_and(|refusal| refusal.kind == RefusalKind::Unavailable)
                };
                let again = drafts.iter().zip(&results).filter(|(_, result)| refused(result));
                let again: Vec<Draft> = again.map(|(draft, _)| draft.clone()).collect();
                if !again.is_empty() {
                    self.not_heard(Request::Register(again), tries);
                }
            }
            (Request::Recalls, Ok(Said::Recalls(recalls))) => {
                self.oracle.recalls(&recalls, &self.disk.borrow().live)?;
            }
            (Request::Books, Ok(Said::Books(books))) => self.oracle.books(&books, moment)?,
            (Request::List, Ok(Said::Listed(messages))) => self.oracle.shown(word, &messages, moment)?,
            (Request::Status, Ok(Said::Status(status))) => {
                self.oracle.status(&status, self.counted.as_ref())?;
            }
            _ => {}
        }
        Ok(())
    }

    fn flush_if_needed(&mut self) {
        if self.plant == Some(Plant::EarlyDurable)
            && let Some(daemon) = &self.daemon
        {
            daemon.teller.durable(Ok(self.disk.borrow().last()));
        }
        if !self.flushing && self.disk.borrow().waiting() > 0 {
            self.flush_soon();
        }
    }

    pub(super) fn flush_soon(&mut self) {
        self.flushing = true;
        let (mut rng, through) = (self.draw("flush"), self.disk.borrow().last());
        let slow = self.slow_disk || self.plant == Some(Plant::EarlyDurable);
        let delay = if slow { rng.u64(50..4_000) } else { rng.u64(0..15) };
        self.at(self.now.mono + Duration::from_millis(delay), Happening::Flushed(self.run, through));
    }

    /// A flush is through, or failed.
    pub(super) fn flushed(&mut self, through: Ticket) {
        self.flushing = false;
        let Some(daemon) = &self.daemon else { return };
        let fails = self.disk.borrow().fails;
        self.oracle.disk_fails(fails);
        if fails {
            daemon.teller.durable(Err(StoreError::Io("no space left on device".to_owned())));
            self.flushing = true;
            self.at(self.now.mono + Duration::from_secs(1), Happening::Flushed(self.run, through));
            return;
        }
        self.disk.borrow_mut().flush(through);
        daemon.teller.durable(Ok(through));
        self.flush_if_needed();
    }

    /// It dies, here and now; or its host does.
    pub(super) fn crash(&mut self, down: Duration, host: bool) -> Result<(), Broken> {
        let Some(daemon) = self.daemon.take() else { return Ok(()) };
        if host {
            // Both clocks are read in whole milliseconds.
            let whole = Duration::from_millis(u64::from(self.now.mono.subsec_millis()));
            self.boot = (self.boot.0 + 1, Duration::from_secs(self.now.mono.as_secs()) + whole);
        }
        let waiting = self.disk.borrow().waiting();
        let survive = self.draw("survive").usize(0..=waiting);
        self.say(|| format!("the daemon dies; of {waiting} batches {survive} reach the disk"));
        self.disk.borrow_mut().crash(survive);
        self.gone(daemon.asked, down, None)
    }

    fn gone(&mut self, asked: Vec<Asked>, down: Duration, tuning: Option<usize>) -> Result<(), Broken> {
        self.tally.crashes += 1;
        (self.flushing, self.doomed) = (false, None);
        self.oracle.died(&self.disk.borrow().live)?;
        for Asked { request, tries, .. } in asked {
            self.not_heard(request, tries);
        }
        self.at(self.now.mono + down, Happening::Starts(tuning));
        Ok(())
    }

    /// It is to stop: in order, or without waiting for what is out.
    pub(super) fn stops(&mut self, hasty: bool, down: Duration, tuning: Option<usize>) {
        let Some(daemon) = self.daemon.as_mut().filter(|daemon| daemon.stopping.is_none()) else { return };
        daemon.drive.stop();
        daemon.stopping = Some(hasty);
        self.stop = (down, tuning);
    }

    fn close_if_all_is_back(&mut self) -> Result<(), Broken> {
        let may_go = |daemon: &mut Daemon| {
            let all_back = daemon.out == 0 && !daemon.drive.has_waiting();
            daemon.stopping == Some(true) || all_back
        };
        let Some(daemon) = self.daemon.take_if(may_go) else { return Ok(()) };
        let Daemon { drive, asked, .. } = daemon;
        drop(drive.close());
        self.look_at_disk()?;
        let (last, fails) = (self.disk.borrow().last(), self.disk.borrow().fails);
        if !fails {
            self.disk.borrow_mut().flush(last);
        }
        self.disk.borrow_mut().crash(0);
        self.say(|| "the daemon has stopped".to_owned());
        let (down, tuning) = self.stop;
        self.gone(asked, down, tuning)
    }

    /// The daemon comes up over what is on disk.
    pub(super) fn starts(&mut self, tuning: Option<usize>) -> Result<(), Broken> {
        if self.daemon.is_some() {
            return Ok(());
        }
        self.run += 1;
        self.flushing = false;
        let snapshot = self.disk.borrow_mut().open();
        let now = self.daemon_now();
        // A configuration that leaves out what waits is refused, and whoever brought it puts the old one back.
        let all = 0..self.plan.tunings.len();
        for n in tuning.into_iter().chain([self.tuning]).chain(all) {
            let doors = Doors::default();
            let (handle, teller) = (doors.handle(), doors.teller());
            let (store, random) = (SimulatedStore(Rc::clone(&self.disk)), self.dice.rng("daemon", "", self.run));
            let (tuning, scale) = (self.plan.tunings[n].clone(), self.plan.scale);
            if snapshot.reckoning.as_ref().is_some_and(|kept| kept.boot != self.boot.0) {
                // How long it was off nobody knows.
                self.oracle.clock_stepped(self.now.mono);
            }
            let Ok(mut drive) = Drive::new(doors, store, &snapshot, tuning, scale, random, now.wall) else { continue };
            self.clock = Clock::start(snapshot.reckoning.as_ref(), self.boot, self.now);
            drive.take_up_time(self.boot.0, snapshot.reckoning, now);
            self.say(|| format!("the daemon starts with configuration {n}"));
            self.tuning = n;
            self.oracle.started(n);
            self.daemon = Some(Daemon::new(drive, handle, teller));
            for reader in 0..self.readers.len() {
                self.soon(Happening::Reads(reader));
            }
            return self.round();
        }
        let words = "no configuration is good enough for what is on disk".to_owned();
        Err(Broken { promise: "it comes back", words })
    }

    /// Compares what the daemon says of itself with what is there.
    pub(super) fn examine(&mut self) -> Result<(), Broken> {
        // What a round leaves to the next one is done by then.
        self.round()?;
        self.round()?;
        self.oracle.scan(&self.disk.borrow().live)?;
        let Some(daemon) = self.daemon.as_ref().filter(|daemon| daemon.stopping.is_none()) else { return Ok(()) };
        self.oracle.footprint(daemon.drive.footprint(), daemon.asked.len())?;
        self.counted = Some(self.oracle.count(&self.disk.borrow().live, self.moment())?);
        self.ask(Request::Status, u32::MAX);
        self.ask(Request::List, u32::MAX);
        self.round()
    }
}
