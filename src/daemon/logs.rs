//! Logs: under systemd to the journal, field by field; else to standard error. The level can be changed while the daemon runs.

use std::io::{self, IsTerminal as _};
use std::path::Path;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

use super::journal::{self, Journal};
use crate::config::{Log, LogFormat};
use crate::store::QUIET;

/// Changes what is logged.
pub(super) struct Logs(reload::Handle<EnvFilter, Registry>);

/// Starts logging as configured.
///
/// # Errors
/// If the filter directives make no sense.
pub(super) fn start(log: &Log) -> Result<Logs, String> {
    let (filter, handle) = reload::Layer::new(filter(log)?);
    let terminal = io::stderr().is_terminal();
    let lines = fmt::layer().with_writer(io::stderr);
    let logs = tracing_subscriber::registry().with(filter);
    match log.format {
        LogFormat::Json => logs.with(lines.json()).init(),
        LogFormat::Auto if under_journald() => match Journal::open(Path::new(journal::SOCKET)) {
            Ok(journal) => logs.with(journal).init(),
            // Then as lines; journald adds the time itself.
            Err(_) => logs.with(lines.with_ansi(false).without_time()).init(),
        },
        LogFormat::Auto | LogFormat::Text => logs.with(lines.with_ansi(terminal)).init(),
    }
    Ok(Logs(handle))
}

impl Logs {
    /// Another level, from a reload.
    ///
    /// # Errors
    /// If the filter directives make no sense.
    pub(super) fn change(&self, log: &Log) -> Result<(), String> {
        self.0.reload(filter(log)?).map_err(|error| error.to_string())
    }
}

fn filter(log: &Log) -> Result<EnvFilter, String> {
    // First, so that a level that names it says otherwise.
    EnvFilter::try_new(format!("{QUIET},{}", log.level)).map_err(|error| error.to_string())
}

/// Whether standard error is the journal's: systemd.exec(5) names it by device and inode. The name alone may be inherited.
fn under_journald() -> bool {
    let named = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    rustix::fs::fstat(io::stderr()).is_ok_and(|stderr| named == format!("{}:{}", stderr.st_dev, stderr.st_ino))
}
