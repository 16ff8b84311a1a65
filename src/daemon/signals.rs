//! Signals, turned into what they mean, at the edge: nobody else knows of them.

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How the process is asked to stop.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop {
    /// Take on nothing new, end what is begun.
    pub drain: CancellationToken,
    /// Leave now.
    pub leave: CancellationToken,
}

/// Listens for SIGTERM and SIGINT: the first drains, the second leaves. Returns when the second came; meant to be spawned.
///
/// # Errors
/// If the handlers can't be installed.
pub(super) fn listen(stop: Stop) -> std::io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // Caught, a limit on the size of files is an error of the write that meets it, like a full disk, and not the end.
    let too_large = signal(SignalKind::from_raw(Signal::XFSZ.as_raw()))?;
    Ok(async move {
        let _caught = too_large;
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        info!(name: "stopping", "{name}: stopping; what is on its way is waited for (once more to leave at once)");
        stop.drain.cancel();
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        warn!("{name} again: leaving now");
        stop.leave.cancel();
    })
}
