//! Logs: to standard error, where journald picks them up. The level can be changed while the daemon runs.

use std::io::IsTerminal;

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

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
    let terminal = std::io::stderr().is_terminal();
    let lines = fmt::layer().with_writer(std::io::stderr);
    let logs = tracing_subscriber::registry().with(filter).with(filter_fn(may_be_said));
    match log.format {
        LogFormat::Json => logs.with(lines.json()).init(),
        // journald adds the time itself, and colours are for terminals.
        LogFormat::Auto if !terminal && under_journald() => logs.with(lines.with_ansi(false).without_time()).init(),
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

/// Libraries that would say what goes over the wire, when asked for details: phone numbers, texts and keys are in it.
const ON_THE_WIRE: [&str; 5] = ["hyper", "h2", "reqwest", "rustls", "tower"];

fn may_be_said(said: &Metadata<'_>) -> bool {
    *said.level() <= Level::INFO || !ON_THE_WIRE.iter().any(|library| said.target().starts_with(library))
}

/// systemd.exec(5): set where standard output or error is connected to the journal.
fn under_journald() -> bool {
    std::env::var_os("JOURNAL_STREAM").is_some()
}
