//! `revoked export`: what a store holds, while no daemon runs on it.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use super::exit;
use super::run::{Failure, store_options, tuning};
use crate::clock;
use crate::config;
use crate::engine::export_store;
use crate::intake::ExportLines;
use crate::store::{SledStore, StoreError};

/// Writes it to standard output.
pub(super) fn export(config: &Path) -> ExitCode {
    let loaded = match config::load(config, &config::Env::of_process(), clock::wall()) {
        Ok(loaded) => loaded,
        Err(report) => {
            anstream::eprintln!("{}", report.styled());
            return exit::CONFIG.into();
        }
    };
    match write(&loaded) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(code, words)) => {
            anstream::eprintln!("error: {words}");
            code.into()
        }
    }
}

fn write(loaded: &config::Loaded) -> Result<(), Failure> {
    let (config, hash) = (&loaded.config, &loaded.hash);
    let dir = &config.store.path;
    if !dir.join("format").exists() {
        // Opening would make one.
        return Err(Failure(exit::IO, format!("there is no store in {}", dir.display())));
    }
    let (store, snapshot) = SledStore::open(dir, store_options(config), drop).map_err(|error| match error {
        StoreError::Locked(_) => {
            let words = format!("{error}: stop it first; of a daemon that runs, take `revokectl export`");
            Failure(exit::UNAVAILABLE, words)
        }
        other => other.into(),
    })?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut lines = None;
    export_store(store, &snapshot, tuning(config, hash), clock::wall(), |head, slice| {
        let lines = match &mut lines {
            Some(lines) => lines,
            none => {
                let (begun, header) = ExportLines::begin(head.into());
                out.write_all(&header).map_err(|error| error.to_string())?;
                none.insert(begun)
            }
        };
        out.write_all(&lines.of(slice)).map_err(|error| error.to_string())
    })
    .map_err(|words| Failure(exit::IO, words))?;
    out.flush().map_err(|error| Failure::new(exit::IO, error))
}
