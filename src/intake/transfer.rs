//! The routes of export and import: lines out, lines in.

use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use futures_util::stream;

use super::access::Scope;
use super::api::{Answer, Gate, Shared};
use super::batch::room_for;
use super::body::{Posted, read_body};
use super::export::{HeaderView, Line, TrailerView};
use super::parse::words;
use super::wire::{BatchLine, ErrorBody};
use crate::engine::{ExportItem, ExportLease, ExportSlice, Imported, LogSpan, Refusal};

/// Lines of an import that are handed to the engine together.
const IMPORT_CHUNK: usize = 1000;

/// Writes the lines of an export as its slices come.
#[derive(Debug)]
pub struct Lines {
    counts: TrailerView,
}

impl Lines {
    /// Begins with the header.
    pub fn begin(header: HeaderView) -> (Self, Vec<u8>) {
        let mut bytes = Vec::new();
        write(&mut bytes, &Line::RevokedExport(header));
        (Self { counts: TrailerView { lines: 1, ..TrailerView::default() } }, bytes)
    }

    /// The lines of a slice; of the last one with the trailer.
    pub fn of(&mut self, slice: ExportSlice) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(slice.items.len() * 512);
        for item in slice.items {
            write(&mut bytes, &self.counts.line(item));
        }
        if slice.done {
            write(&mut bytes, &Line::End(self.counts.clone()));
        }
        bytes
    }
}

fn write(bytes: &mut Vec<u8>, line: &impl serde::Serialize) {
    // Writing plain data to memory does not fail.
    let _ = serde_json::to_writer(&mut *bytes, line);
    bytes.push(b'\n');
}

/// What an export's stream goes on with.
struct Reading {
    gate: Arc<Gate>,
    scope: Scope,
    lease: ExportLease,
    lines: Lines,
    first: Option<Vec<u8>>,
    done: bool,
}

/// Everything that may be read, as of now. A stream that can't be gone on with breaks off, and so has no trailer.
pub(super) async fn export(State(gate): State<Shared>, scope: Scope) -> Answer {
    let (lease, head) = gate.engine.export().await?;
    let (lines, first) = Lines::begin(HeaderView::from(&head));
    let reading = Reading { gate, scope, lease, lines, first: Some(first), done: false };
    let chunks = stream::try_unfold(reading, |mut reading| async move {
        if let Some(first) = reading.first.take() {
            return Ok(Some((first, reading)));
        }
        if reading.done {
            return Ok(None);
        }
        let slice = tokio::select! {
            slice = reading.gate.engine.export_slice(&reading.lease) => slice,
            () = reading.gate.stopping.cancelled() => Err(Refusal::unavailable("the daemon is stopping")),
        };
        let mut slice = slice.map_err(|refusal| io::Error::other(refusal.message))?;
        slice.items.retain(|item| reading.scope.has(item.agent()));
        reading.done = slice.done;
        let bytes = reading.lines.of(slice);
        Ok::<_, io::Error>(Some((bytes, reading)))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(chunks)).into_response())
}

/// The header and some lines of an export in; one line of answer for each, the header's among them.
pub(super) async fn import(State(gate): State<Shared>, scope: Scope, body: Posted) -> Answer {
    let (_room, body) = room_for(body).await?;
    let body = read_body(body, gate.limits.batch_bytes).await?;
    // A log is taken over as a whole, whoever's outcomes are in it.
    scope.admit_all()?;
    let mut lines = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let log = lines.next().ok_or_else(not_an_export).and_then(|line| match read(line) {
        Ok(Line::RevokedExport(header)) => header.log(),
        _ => Err(not_an_export()),
    })?;
    let mut answer = Vec::new();
    write(&mut answer, &BatchLine { code: 200, message: None, error: None });
    let lines: Vec<Bytes> = lines.map(|line| body.slice_ref(line)).collect();
    let mut refused = None;
    for chunk in lines.chunks(IMPORT_CHUNK) {
        import_chunk(&gate, log, chunk, &mut refused, &mut answer).await;
    }
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], answer).into_response())
}

fn not_an_export() -> Refusal {
    Refusal::invalid("revokedExport", "this is not an export: its first line is the header that `export` writes")
}

fn read(line: &[u8]) -> Result<Line, Refusal> {
    serde_json::from_slice(line).map_err(|error| Refusal {
        kind: crate::engine::RefusalKind::Invalid,
        message: format!("not a line of an export: {}", words(&error)),
        field: None,
    })
}

/// Once the engine takes nothing, nothing more is handed in: what follows may rest on it.
async fn import_chunk(gate: &Gate, log: LogSpan, lines: &[Bytes], refused: &mut Option<Refusal>, answer: &mut Vec<u8>) {
    let parsed: Vec<Result<Option<ExportItem>, Refusal>> =
        lines.iter().map(|line| read(line).and_then(Line::item)).collect();
    let items: Vec<ExportItem> = parsed.iter().filter_map(|item| item.as_ref().ok().cloned().flatten()).collect();
    let asked = items.len();
    let results = match refused.clone() {
        Some(refusal) => Err(refusal),
        None => gate.engine.import(log, items).await,
    };
    let mut results = match results {
        Ok(results) => results.into_iter(),
        Err(refusal) => vec![Err(refused.insert(refusal).clone()); asked].into_iter(),
    };
    for item in parsed {
        let result = match item {
            Ok(None) => Ok(Imported::Known),
            Ok(Some(_)) => results.next().unwrap_or_else(|| Err(Refusal::unavailable("the engine gave no answer"))),
            Err(refusal) => Err(refusal),
        };
        let line = match result {
            Ok(Imported::New) => BatchLine { code: 201, message: None, error: None },
            Ok(Imported::Known) => BatchLine { code: 200, message: None, error: None },
            Err(refusal) => {
                let error = ErrorBody::from(refusal);
                BatchLine { code: error.code, message: None, error: Some(error) }
            }
        };
        write(answer, &line);
    }
}
