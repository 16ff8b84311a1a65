//! The time that the engine goes by: the wall clock's, unless that stepped ahead further than is believed.
//!
//! A step ahead makes everything due at once that lies in between, and what was revoked stays revoked when the step is taken
//! back. So a wall clock that steps ahead by more than [`STEP_MAX`] is not followed: the time before the step goes on, measured by
//! a clock that never steps and does not stop while the host sleeps. Deadlines are kept by it, until the step is taken back or
//! somebody says that the new time is right. At worst they are kept late. A step back is followed at once: what waits then waits
//! longer, which can be made up for, and what is due comes due all the same.
//!
//! Which time that is outlives the process, or a restart would do what the step may not. As long as the host was not started
//! anew, a clock that is further ahead than it was has stepped. After a start of the host nobody can tell a wrong clock that is
//! ahead from a host that was off, and it is believed (the unit waits for time-sync.target); one behind the newest that the store
//! knows of is wrong for certain, and when it is put right, by whatever step, that is believed as well.
//!
//! A wait that lasts for so long, and not until some time of day, is kept as a time of the wall clock all the same: where it
//! began or ends. A step back may make it longer, within bounds. A step ahead that is followed makes none shorter: see
//! [`Time::over`].

use std::collections::VecDeque;
use std::time::Duration;

use tracing::{error, info, warn};

use super::core::{Batch, Core};
use super::handle::{Command, Handle};
use super::replies::Refusal;
use crate::clock::Now;
use crate::model::Timestamp;
use crate::model::ledger::Hour;
use crate::store::{Change, Reckoning, Store};

/// How far the clock may step ahead and be believed: less than any ttl of note, more than clocks are put right by in peace.
pub(super) const STEP_MAX: Duration = Duration::from_secs(300);
const STEP_MAX_MS: i64 = STEP_MAX.as_millis() as i64;
/// By how much what is on disk may differ from what is so.
const KEPT_WITHIN_MS: i64 = 1000;
/// What is less than this is no step: the two clocks are not read in quite the same breath, and one of them is slewed.
const STEP_MIN_MS: i64 = 100;
/// Steps ahead that are remembered. Nobody waits for more of them.
const STEPS_KEPT: usize = 16;

/// A wall clock that is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Disbelief {
    /// Since when.
    pub since: Timestamp,
    /// By how much it is ahead of the time that deadlines are kept by.
    pub ahead: Duration,
}

/// See the module's documentation. All instants in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Time {
    /// Which start of the host the monotonic clock counts from; 0 if nobody knows, and then nothing is kept of this.
    boot: u64,
    /// The time at the zero of the monotonic clock. `None` before the first look.
    zero: Option<i64>,
    /// The furthest ahead that it was believed to be.
    furthest: i64,
    held: Option<Disbelief>,
    /// Steps ahead that were followed and not taken back: the time right after each, and by how much it was ahead.
    steps: VecDeque<(Timestamp, Duration)>,
    /// The clock was behind what the store knows when the daemon started, until the zero is this.
    behind: Option<i64>,
    /// What is on disk.
    kept: Option<Reckoning>,
}

/// What the wall clock did.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Stepped {
    /// It was not ours to see, or it was not far.
    Perhaps,
    /// It went back, far.
    Back,
}

/// What a look at the clock found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Found {
    Nothing,
    Ahead(Duration),
    TakenBack,
    Back(Duration),
    PutRight(Duration),
}

impl Time {
    fn look(&mut self, now: Now) -> Found {
        let actual = zero_of(now);
        let Some(zero) = self.zero else {
            (self.zero, self.furthest) = (Some(actual), actual);
            return Found::Nothing;
        };
        let step = actual.saturating_sub(zero);
        let span = Duration::from_millis(step.unsigned_abs());
        if let Some(held) = &mut self.held {
            if step > STEP_MAX_MS {
                held.ahead = span;
                return Found::Nothing;
            }
            self.believe(actual, now.mono);
            return Found::TakenBack;
        }
        let limit = self.furthest.max(zero).saturating_add(STEP_MAX_MS);
        if actual > limit && self.behind.is_none() {
            self.held = Some(Disbelief { since: self.at(now.mono), ahead: span });
            return Found::Ahead(span);
        }
        self.believe(actual, now.mono);
        if step < -STEP_MAX_MS {
            Found::Back(span)
        } else if step > STEP_MAX_MS {
            Found::PutRight(span)
        } else {
            Found::Nothing
        }
    }

    fn believe(&mut self, zero: i64, mono: Duration) {
        let step = zero.saturating_sub(self.zero.unwrap_or(zero));
        (self.zero, self.held) = (Some(zero), None);
        self.furthest = self.furthest.max(zero);
        self.behind = self.behind.filter(|right| zero < *right);
        let span = Duration::from_millis(step.unsigned_abs());
        if step >= STEP_MIN_MS {
            self.steps.push_back((self.at(mono), span));
            if self.steps.len() > STEPS_KEPT {
                self.steps.pop_front();
            }
        } else if step <= -STEP_MIN_MS {
            self.take_back(span);
        }
    }

    /// A step back undoes what was ahead, as far as it goes.
    fn take_back(&mut self, mut span: Duration) {
        while let Some((to, by)) = self.steps.back_mut() {
            if *by > span {
                (*to, *by) = (to.minus(span), *by - span);
                return;
            }
            span -= *by;
            self.steps.pop_back();
        }
    }

    /// When a wait of this length is over whose end is kept as a time of the wall clock. One that began before a step ahead
    /// goes on for as long as if there had been none; one that began after it, and so ends later, is not concerned.
    pub(super) fn over(&self, end: Timestamp, length: Duration) -> Timestamp {
        self.steps.iter().fold(end, |end, (to, by)| end.plus(*by).min(end.max(to.plus(length))))
    }

    fn at(&self, mono: Duration) -> Timestamp {
        Timestamp::from_millis(self.zero.unwrap_or_default()).plus(mono)
    }

    /// What has to be written, if anything has.
    fn unkept(&mut self, mono: Duration) -> Option<Reckoning> {
        let zero = self.zero.filter(|_| self.boot != 0)?;
        let seen = Some(Hour::of(self.at(mono)));
        let (boot, held) = (self.boot, self.held.is_some());
        let holds = |kept: &Reckoning| {
            (kept.boot, kept.held, kept.seen) == (boot, held, seen)
                && (kept.zero.millis() - zero).abs() <= KEPT_WITHIN_MS
                && self.steps == kept.steps
        };
        if self.kept.as_ref().is_some_and(holds) {
            return None;
        }
        let (zero, steps) = (Timestamp::from_millis(zero), self.steps.iter().copied().collect());
        self.kept = Some(Reckoning { boot, zero, held, seen, steps });
        self.kept.clone()
    }
}

fn zero_of(now: Now) -> i64 {
    now.wall.millis().saturating_sub(i64::try_from(now.mono.as_millis()).unwrap_or(i64::MAX))
}

impl<S: Store> Core<S> {
    /// Takes up the time where the last life left it.
    pub(super) fn take_up_time(&mut self, boot: u64, kept: Option<Reckoning>, now: Now) {
        // What is booked may be booked to hours of a clock that was wrong; before it was written otherwise, nothing else is known.
        let seen = kept.as_ref().and_then(|kept| kept.seen).or_else(|| self.ledger.last());
        let newest = seen.map(|hour| hour.start());
        let zero = match &kept {
            Some(kept) if kept.boot == boot && boot != 0 => Some(kept.zero.millis()),
            // How long the host was off nobody knows: at worst, no time at all.
            Some(kept) if kept.held => newest.map(|newest| zero_of(Now { wall: newest, ..now })),
            _ => None,
        };
        let behind = newest.filter(|newest| *newest > now.wall.plus(STEP_MAX));
        // Until it is as far as if the host had not been off at all.
        let right = |newest: Timestamp| zero_of(Now { wall: newest.minus(STEP_MAX), ..now });
        let furthest = zero.unwrap_or(i64::MIN);
        let steps = kept.iter().flat_map(|kept| kept.steps.iter().copied());
        // The host came up with a clock that is not there yet: that step was taken back while nobody looked.
        let steps = steps.filter(|(to, _)| zero.is_some() || *to <= now.wall).collect();
        self.time = Time { boot, zero, furthest, steps, held: None, behind: behind.map(right), kept };
        if let Some(newest) = behind {
            warn!(clock = %now.wall, %newest, "the clock is behind what the store knows: deadlines wait until it is put right");
        }
        // What fell due before this start fell due by this time.
        self.boot.1 = self.heed(now).wall;
    }

    /// The time to go by, given what the clocks say.
    pub(super) fn heed(&mut self, now: Now) -> Now {
        let found = self.time.look(now);
        let clock = now.wall;
        match found {
            Found::Nothing => {}
            Found::Ahead(by) => {
                let way_out = "until that is taken back, or `revokectl clock accept` says that it is right";
                error!(%clock, "the clock stepped ahead by {by:?}: deadlines go by the time before, {way_out}");
            }
            Found::TakenBack => info!(%clock, "the clock's step ahead is taken back: deadlines go by it again"),
            Found::Back(by) => warn!(%clock, "the clock stepped back by {by:?}: deadlines wait for its time"),
            Found::PutRight(by) => info!(%clock, "the clock was behind, and is put right by {by:?}"),
        }
        match found {
            Found::Nothing => {}
            Found::Back(_) => self.clock_stepped(Stepped::Back),
            _ => self.clock_stepped(Stepped::Perhaps),
        }
        self.keep_time(now);
        Now { wall: self.time.at(now.mono), mono: now.mono }
    }

    fn keep_time(&mut self, now: Now) {
        if let Some(reckoning) = self.time.unkept(now.mono) {
            self.commit(Batch { changes: vec![Change::Reckoning(reckoning)], ..Batch::default() });
        }
    }

    /// Waits may be longer than they can be, and what is armed is armed for the wrong instant.
    pub(super) fn clock_stepped(&mut self, how: Stepped) {
        self.routes.iter_mut().for_each(|route| route.stepped = route.stepped.max(Some(how)));
        if how == Stepped::Back {
            self.lanes.iter_mut().for_each(|lane| lane.night_asked = None);
        }
        self.dirty.extend(0..self.routes.len());
    }

    /// Why deadlines are not kept by the wall clock, if they are not.
    pub(super) fn disbelief(&self) -> Option<Disbelief> {
        self.time.held
    }

    /// Somebody says that the clock is right.
    pub(super) fn accept_clock(&mut self, now: Now) -> Result<Disbelief, Refusal> {
        let Some(held) = self.time.held else {
            return Err(Refusal::conflict("deadlines go by the clock: there is nothing to accept"));
        };
        let ahead = i64::try_from(held.ahead.as_millis()).unwrap_or(i64::MAX);
        self.time.believe(zero_of(now).saturating_add(ahead), now.mono);
        self.clock_stepped(Stepped::Perhaps);
        self.keep_time(now);
        info!("the clock is accepted, {:?} ahead: deadlines go by it", held.ahead);
        Ok(held)
    }
}

impl Handle {
    /// Says that the wall clock is right, however far it stepped.
    ///
    /// # Errors
    /// 409 if nobody doubts it.
    pub async fn accept_clock(&self) -> Result<Disbelief, Refusal> {
        self.ask(Command::AcceptClock).await
    }
}
