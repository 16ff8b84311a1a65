//! Taking everything out of a daemon, and handing it in again.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::batch::{Batch, Lines, Tally, unreadable};
use super::client::{Client, Method};
use super::exit::Failure;
use super::output::Output;
use super::show;
use crate::intake::export::{Line, TrailerView};
use crate::intake::wire::BatchLine;

/// Batches after which a word is said on how far it is.
const SAY_EVERY: u64 = 100;

const SERVICE_UNAVAILABLE: u16 = 503;

/// Writes an export to standard output, or to a file that is there when it is whole, and only its owner's: phone numbers are
/// in it.
pub(super) async fn export(client: &Client, out: &mut Output, file: Option<PathBuf>) -> Result<(), Failure> {
    let mut stream = client.stream(Client::url(&["export"])).await?;
    let Some(path) = file else {
        let mut ending = Ending::default();
        while let Some(chunk) = client.next_chunk(&mut stream).await? {
            ending.follow(&chunk);
            out.bytes(&chunk)?;
        }
        return ending.trailer().map(drop);
    };
    let place = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut draft = NamedTempFile::new_in(place)?;
    let mut ending = Ending::default();
    while let Some(chunk) = client.next_chunk(&mut stream).await? {
        ending.follow(&chunk);
        draft.write_all(&chunk)?;
    }
    let trailer = ending.trailer()?;
    draft.as_file().sync_all()?;
    draft.persist(&path).map_err(|error| error.error)?;
    File::open(place)?.sync_all()?;
    out.value(&trailer, |trailer, _| {
        let TrailerView { messages, outcomes, early, .. } = trailer;
        let [messages, outcomes, early] = [messages, outcomes, early].map(|n| show::count(*n));
        format!("{}: {messages} messages, {outcomes} outcomes, {early} early events", path.display())
    })
}

/// The last whole line of what went by.
#[derive(Default)]
struct Ending {
    last: Vec<u8>,
    open: Vec<u8>,
}

impl Ending {
    fn follow(&mut self, chunk: &[u8]) {
        self.open.extend_from_slice(chunk);
        if let Some(end) = self.open.iter().rposition(|byte| *byte == b'\n') {
            let rest = self.open.split_off(end + 1);
            let start = self.open[..end].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            self.last = self.open[start..end].to_vec();
            self.open = rest;
        }
    }

    fn trailer(&self) -> Result<TrailerView, Failure> {
        match serde_json::from_slice(&self.last) {
            Ok(Line::End(trailer)) => Ok(trailer),
            _ => Err(Failure::CutOff("the daemon left before it was through".to_owned())),
        }
    }
}

/// Hands an export in. What is there already is passed over; a line that is refused is named and harms no other.
pub(super) async fn import(client: &Client, out: &mut Output, path: &Path) -> Result<(), Failure> {
    let mut lines = Lines::open(path)?;
    let mut tally = Tally::default();
    let result = hand_in(client, out, path, &mut lines, &mut tally).await;
    if !out.is_json() {
        out.line(&tally.summary("imported", result.is_ok()))?;
    }
    result?;
    if tally.refused > 0 { Err(Failure::Told) } else { Ok(()) }
}

async fn hand_in(
    client: &Client,
    out: &mut Output,
    path: &Path,
    lines: &mut Lines,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let (mut header, mut trailer) = (Vec::new(), None);
    for round in 1.. {
        let mut batch = lines.batch().map_err(|error| unreadable(path, error))?;
        if batch.numbers.is_empty() {
            break;
        }
        if header.is_empty() {
            // It goes along with every batch: the daemon keeps nothing of an import but what it imports.
            header = batch.take_first();
        }
        trailer = batch.take_trailer();
        hand_in_batch(client, out, &header, batch, tally).await?;
        if round % SAY_EVERY == 0 && !out.is_json() {
            anstream::eprintln!("{} …", tally.summary("imported", true));
        }
    }
    let found = tally.lines() + 1;
    match trailer {
        Some(TrailerView { lines, .. }) if lines == found => Ok(()),
        Some(TrailerView { lines, .. }) => {
            let [lines, found] = [lines, found].map(show::count);
            Err(Failure::CutOff(format!("its trailer speaks of {lines} lines before it, and there are {found}")))
        }
        None => Err(Failure::CutOff("it has no trailer".to_owned())),
    }
}

async fn hand_in_batch(
    client: &Client,
    out: &mut Output,
    header: &[u8],
    batch: Batch,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let body = [header, &batch.bytes].concat();
    let answer = client.call_for_text(Method::POST, Client::url(&["import"]), body).await?;
    // The header's own comes first.
    let mut answers = answer.lines().skip(1);
    for number in batch.numbers {
        let answer = answers.next().ok_or_else(|| Failure::Protocol(format!("none for line {number}")))?;
        let answer: BatchLine = serde_json::from_str(answer).map_err(|error| Failure::Protocol(error.to_string()))?;
        if let Some(error) = &answer.error {
            if error.code == SERVICE_UNAVAILABLE {
                return Err(Failure::Refused(error.clone()));
            }
            if !out.is_json() {
                out.line(&format!("line {number}: {}", show::refusal(error)))?;
            }
        }
        if out.is_json() {
            out.json(&answer)?;
        }
        tally.count(&answer);
    }
    out.flush()
}

impl Batch {
    /// Takes out the trailer, if that is its last line.
    fn take_trailer(&mut self) -> Option<TrailerView> {
        let end = self.bytes.trim_ascii_end().len();
        let start = self.bytes[..end].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let Ok(Line::End(trailer)) = serde_json::from_slice(&self.bytes[start..end]) else { return None };
        self.bytes.truncate(start);
        self.numbers.pop();
        Some(trailer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trailer_is_found_however_the_lines_come_over() {
        let text =
            b"{\"revokedExport\":1}\n{\"end\":{\"lines\":1,\"outcomes\":0,\"acked\":0,\"early\":0,\"messages\":0}}\n";
        for size in [1, 7, text.len()] {
            let mut ending = Ending::default();
            text.chunks(size).for_each(|chunk| ending.follow(chunk));
            assert_eq!(ending.trailer().unwrap().lines, 1);
        }
        let mut cut = Ending::default();
        cut.follow(&text[..text.len() - 1]);
        assert!(cut.trailer().is_err(), "a line without its end is none");
    }
}
