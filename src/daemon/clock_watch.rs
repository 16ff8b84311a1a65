//! Notices when the wall clock steps: set by hand, by NTP, or after a suspend.
//!
//! Waits are monotonic, deadlines are wall time, so a step makes every armed wait wrong. The kernel tells: a timer on
//! `CLOCK_REALTIME` with `TFD_TIMER_CANCEL_ON_SET` is cancelled by each discontinuous change (timerfd_create(2)).

use std::io;
use std::thread;

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use tracing::warn;

/// Calls `stepped` after each step, from a thread of its own that lives as long as the process.
///
/// # Errors
/// If the kernel gives no timer or no thread.
pub(super) fn watch(stepped: impl Fn() + Send + 'static) -> io::Result<()> {
    let timer = rustix::time::timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::CLOEXEC)?;
    arm(&timer)?;
    let watching = move || {
        loop {
            // Blocks until the timer fires, which is at the end of time, or is cancelled.
            match rustix::io::read(&timer, &mut [0_u8; 8]) {
                Err(Errno::CANCELED) => stepped(),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    warn!(%error, "steps of the clock are not noticed any more; deadlines are checked hourly at least");
                    return;
                }
            }
            if let Err(error) = arm(&timer) {
                warn!(%error, "steps of the clock are not noticed any more; deadlines are checked hourly at least");
                return;
            }
        }
    };
    thread::Builder::new().name("clock-watch".to_owned()).spawn(watching).map(drop)
}

fn arm(timer: &OwnedFd) -> io::Result<()> {
    let never = Timespec { tv_sec: i64::MAX, tv_nsec: 0 };
    let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: never };
    rustix::time::timerfd_settime(timer, TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET, &once)?;
    Ok(())
}
