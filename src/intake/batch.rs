//! Many registrations in one request: newline-delimited JSON in, one line of answer for each, in order.
//!
//! The whole body is taken in before the first line of answer leaves: a client that writes everything before it reads
//! anything must not wait for us while we wait for it. So batches cost memory, and only some are taken in at once; one whose
//! client does not read its answers gives up its place.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use futures_util::{Stream, stream};
use tokio::sync::mpsc;

use super::access::Scope;
use super::api::{Answer, Failure, Gate, Shared};
use super::body::{Posted, read_body};
use super::parse;
use super::room::{Room, Rooms};
use super::wire::{BatchLine, ErrorBody};
use crate::engine::Refusal;

/// Registrations of a batch that are handed to the engine together.
const CHUNK: usize = 1000;
/// Longest time a client may take to read the answers to one such chunk.
const CHUNK_TIME: Duration = Duration::from_secs(30);

/// Batches taken in at once: each may hold its whole body in memory, and that may come as slowly as its time allows.
static BATCHES: Rooms = Rooms::new(6);
/// Longest time that is waited for others to make room.
const ROOM_TIME: Duration = Duration::from_secs(20);

/// Room for a batch, or an import.
///
/// # Errors
/// 503 if others take too long with theirs.
pub(super) async fn room_for(body: Posted) -> Result<(Room<'static>, Posted), Failure> {
    match tokio::time::timeout(ROOM_TIME, BATCHES.enter(body.uid())).await {
        Ok(room) => Ok((room, body)),
        Err(_) => {
            body.discard().await;
            Err(Refusal::unavailable("too many batches are being taken in: try again").into())
        }
    }
}

pub(super) async fn register(State(gate): State<Shared>, scope: Scope, body: Posted) -> Answer {
    let (room, body) = room_for(body).await?;
    let body = read_body(body, gate.limits.batch_bytes).await?;
    let lines: Vec<Bytes> = body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty())
        .map(|line| body.slice_ref(line))
        .collect();
    let chunks: Vec<Vec<Bytes>> = lines.chunks(CHUNK).map(<[Bytes]>::to_vec).collect();
    let register = move |chunk: Vec<Bytes>| {
        let (gate, scope) = (Arc::clone(&gate), scope.clone());
        async move { register_chunk(&gate, &scope, &chunk).await }
    };
    let answers = Body::from_stream(answers(chunks, room, register));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], answers).into_response())
}

/// The answers, chunk by chunk as they are read. Who reads too slowly is cut off in the middle of the answer, and registers
/// the rest again; the room is free when the last chunk is done, or then.
fn answers<F: Future<Output = Vec<u8>> + Send>(
    chunks: Vec<Vec<Bytes>>,
    room: impl Send + 'static,
    register: impl Fn(Vec<Bytes>) -> F + Send + 'static,
) -> impl Stream<Item = io::Result<Vec<u8>>> {
    let missing = chunks.len();
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let _room = room;
        for chunk in chunks {
            let lines = register(chunk).await;
            if !matches!(tokio::time::timeout(CHUNK_TIME, sender.send(lines)).await, Ok(Ok(()))) {
                return;
            }
        }
    });
    stream::unfold((receiver, missing), |(mut receiver, missing)| async move {
        match receiver.recv().await {
            Some(lines) => Some((Ok(lines), (receiver, missing - 1))),
            None if missing == 0 => None,
            // An end without an error would look like the whole answer.
            None => Some((Err(io::ErrorKind::TimedOut.into()), (receiver, 0))),
        }
    })
}

async fn register_chunk(gate: &Gate, scope: &Scope, lines: &[Bytes]) -> Vec<u8> {
    let mut drafts = Vec::with_capacity(lines.len());
    let read = |line: &Bytes| {
        let draft = parse::registration(line)?;
        scope.admit(&draft.agent)?;
        drafts.push(draft);
        Ok(())
    };
    let parsed: Vec<Result<(), Refusal>> = lines.iter().map(read).collect();
    let asked = drafts.len();
    let mut results = match gate.engine.register(drafts).await {
        Ok(results) => results.into_iter(),
        Err(refusal) => vec![Err(refusal); asked].into_iter(),
    };
    let mut answer = Vec::with_capacity(lines.len() * 512);
    for draft in parsed {
        let result = match draft {
            Ok(()) => results.next().unwrap_or_else(|| Err(Refusal::unavailable("the engine gave no answer"))),
            Err(refusal) => Err(refusal),
        };
        let line = match result {
            Ok(done) => BatchLine {
                code: if done.created { 201 } else { 200 },
                message: Some(done.message.into()),
                error: None,
            },
            Err(refusal) => {
                gate.refused.count(refusal.kind);
                let error = ErrorBody::from(refusal);
                BatchLine { code: error.code, message: None, error: Some(error) }
            }
        };
        // Writing plain data to memory does not fail.
        let _ = serde_json::to_writer(&mut answer, &line);
        answer.push(b'\n');
    }
    answer
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_its_answers_gives_up_its_place_and_is_cut_off() {
        let places = Arc::new(Semaphore::new(1));
        let permit = Arc::clone(&places).try_acquire_owned().unwrap();
        let answers = answers(vec![vec![]; 5], permit, |_| async { b"{}\n".to_vec() });
        // Time passes by itself as long as nothing else can happen.
        let freed = tokio::time::timeout(CHUNK_TIME * 2, places.acquire()).await;
        assert!(freed.is_ok(), "the place of a batch that nobody reads is never free");
        let read: Vec<_> = answers.collect().await;
        assert!(read.len() < 5 && read.last().unwrap().is_err(), "{read:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_slowly_gets_all_of_it() {
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let answers = answers(vec![vec![]; 5], permit, |_| async { b"{}\n".to_vec() });
        let slowly = answers.then(|lines| async {
            tokio::time::sleep(CHUNK_TIME / 2).await;
            lines.unwrap()
        });
        assert_eq!(slowly.count().await, 5);
    }
}
