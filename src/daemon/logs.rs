//! Logs: to standard error, where journald picks them up.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config::{Log, LogFormat};

/// Starts logging as configured.
///
/// # Errors
/// If the filter directives make no sense.
pub(super) fn start(log: &Log) -> Result<(), ParseError> {
    let filter = EnvFilter::try_new(&log.level)?;
    let terminal = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log.format {
        LogFormat::Json => lines.json().init(),
        // journald adds the time itself, and colours are for terminals.
        LogFormat::Auto if !terminal && under_journald() => lines.with_ansi(false).without_time().init(),
        LogFormat::Auto | LogFormat::Text => lines.with_ansi(terminal).init(),
    }
    Ok(())
}

/// systemd.exec(5): set where standard output or error is connected to the journal.
fn under_journald() -> bool {
    std::env::var_os("JOURNAL_STREAM").is_some()
}
