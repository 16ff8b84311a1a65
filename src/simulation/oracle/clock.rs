//! What time the daemon has to go by: the wall clock's, unless that stepped ahead by more than five minutes.
//!
//! Clocks are told by what the wall clock would have shown when the monotonic one began.

use crate::clock::Now;
use crate::model::Timestamp;

const STEP_MAX_MS: i64 = 300_000;

/// See the module's documentation. In milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::simulation) struct Clock {
    /// What deadlines go by.
    believed: Option<i64>,
    /// The furthest ahead it was believed to be, in this life of the daemon.
    furthest: i64,
    /// The wall clock is not gone by.
    pub held: bool,
    /// It was behind what is on disk at the start: any step ahead puts it right.
    behind: bool,
}

impl Clock {
    /// The daemon starts; `kept` is what was believed when it was last written down, `newest` an hour that was there.
    pub(in crate::simulation) fn start(kept: Option<Timestamp>, newest: Option<Timestamp>, wall: Timestamp) -> Self {
        let believed = kept.map(Timestamp::millis);
        let behind = newest.is_some_and(|newest| newest.millis() > wall.millis() + STEP_MAX_MS);
        Self { believed, furthest: believed.unwrap_or(i64::MIN), held: false, behind }
    }

    /// The daemon looks at the wall clock.
    pub(in crate::simulation) fn see(&mut self, epoch: Timestamp) {
        let actual = epoch.millis();
        let ahead = actual - self.believed.unwrap_or(actual);
        let far = match self.held {
            true => ahead > STEP_MAX_MS,
            false => !self.behind && self.believed.is_some() && actual > self.furthest + STEP_MAX_MS,
        };
        self.held = far;
        if !far {
            self.behind &= ahead <= STEP_MAX_MS;
            self.accept(epoch);
        }
    }

    /// Somebody says that it is right, or nobody doubts it.
    pub(in crate::simulation) fn accept(&mut self, epoch: Timestamp) {
        self.held = false;
        self.believed = Some(epoch.millis());
        self.furthest = self.furthest.max(epoch.millis());
    }

    /// The time to go by.
    pub(in crate::simulation) fn time(&self, now: Now) -> Timestamp {
        self.believed.map_or(now.wall, |believed| Timestamp::from_millis(believed).plus(now.mono))
    }
}
