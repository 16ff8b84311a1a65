//! How far a bench or a simulation is, on standard error: one line that is written over on a terminal, else a line every now
//! and then.

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock;

const ON_TERMINAL: Duration = Duration::from_millis(200);
const ELSEWHERE: Duration = Duration::from_secs(10);

/// Cheap to clone, and to call.
#[derive(Clone)]
pub(crate) struct Progress {
    terminal: bool,
    /// When the last line was written; a clock without a first line has just been started.
    last: Arc<Mutex<Duration>>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), last: Arc::new(Mutex::new(clock::now().mono)) }
    }

    /// Says it, if it is time to say something.
    pub(crate) fn say(&self, line: impl FnOnce() -> String) {
        let every = if self.terminal { ON_TERMINAL } else { ELSEWHERE };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::now().mono;
        if now - *last >= every {
            *last = now;
            self.write(&line());
        }
    }

    /// Leaves no half line behind.
    pub(crate) fn end(&self) {
        if self.terminal {
            self.write("");
        }
    }

    fn write(&self, line: &str) {
        // Nobody has to read it.
        let _ = if self.terminal {
            write!(std::io::stderr(), "\r{line}\x1b[K")
        } else {
            writeln!(std::io::stderr(), "{line}")
        };
    }
}
