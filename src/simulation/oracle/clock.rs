//! What time the daemon has to go by: the wall clock's, unless that stepped ahead by more than five minutes.
//!
//! Clocks are told by what the wall clock would have shown when the monotonic one began.

use std::time::Duration;

use crate::clock::Now;
use crate::model::Timestamp;
use crate::store::Reckoning;

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
    /// It was behind what is on disk at the start, until it shows this: any step ahead puts it right.
    behind: Option<i64>,
}

impl Clock {
    /// The daemon starts, over what was written down last; `boot` says which start of the host this is, and when that was.
    pub(in crate::simulation) fn start(kept: Option<&Reckoning>, boot: (u64, Duration), now: Now) -> Self {
        let newest = kept.and_then(|kept| kept.seen).map(|hour| hour.start());
        let epoch = |time: Timestamp, at: Duration| time.minus(at).millis();
        let believed = match kept {
            Some(kept) if kept.boot == boot.0 => Some(epoch(kept.zero, boot.1)),
            // As if the host had not been off at all, rather than by a clock that was not believed before.
            Some(kept) if kept.held => newest.map(|newest| epoch(newest, now.mono)),
            _ => None,
        };
        let least = newest.map(|newest| newest.millis() - STEP_MAX_MS).filter(|least| *least > now.wall.millis());
        let behind = least.map(|least| epoch(Timestamp::from_millis(least), now.mono));
        Self { believed, furthest: believed.unwrap_or(i64::MIN), held: false, behind }
    }

    /// The daemon looks at the wall clock. True if the time to go by is another one for that.
    pub(in crate::simulation) fn see(&mut self, epoch: Timestamp) -> bool {
        let before = self.believed;
        let actual = epoch.millis();
        let ahead = actual - self.believed.unwrap_or(actual);
        let far = match self.held {
            true => ahead > STEP_MAX_MS,
            false => self.behind.is_none() && self.believed.is_some() && actual > self.furthest + STEP_MAX_MS,
        };
        self.held = far;
        if !far {
            self.accept(epoch);
        }
        before.is_some() && before != self.believed
    }

    /// Somebody says that it is right, or nobody doubts it.
    pub(in crate::simulation) fn accept(&mut self, epoch: Timestamp) {
        self.held = false;
        self.believed = Some(epoch.millis());
        self.furthest = self.furthest.max(epoch.millis());
        self.behind = self.behind.filter(|least| epoch.millis() < *least);
    }

    /// The time to go by.
    pub(in crate::simulation) fn time(&self, now: Now) -> Timestamp {
        self.believed.map_or(now.wall, |believed| Timestamp::from_millis(believed).plus(now.mono))
    }
}
