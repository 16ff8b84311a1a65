//! Registering many messages: lines of JSON in, in batches to the daemon, a word on each that was refused.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use super::client::{Client, Method};
use super::exit::Failure;
use super::output::Output;
use super::show;
use crate::intake::wire::BatchLine;

/// Lines that go over together: as many as the daemon hands to its engine at once.
const BATCH_LINES: usize = 1000;
/// Bytes that go over together, so that long lines stay far below the daemon's limit.
const BATCH_BYTES: usize = 1024 * 1024;

/// A file, or standard input for `-`.
pub(super) fn open(path: &Path) -> Result<Box<dyn BufRead>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    let opened = File::open(path).and_then(|file| {
        // Opening a directory works; only reading it fails, and says less.
        if file.metadata()?.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { Ok(file) }
    });
    opened.map(|file| Box::new(BufReader::new(file)) as Box<dyn BufRead>).map_err(|error| unreadable(path, error))
}

pub(super) fn unreadable(path: &Path, error: io::Error) -> Failure {
    Failure::Input { path: path.to_owned(), error }
}

pub(super) async fn register(client: &Client, out: &mut Output, path: &Path) -> Result<(), Failure> {
    let mut lines = Lines::open(path)?;
    let mut tally = Tally::default();
    let result = hand_in(client, out, path, &mut lines, &mut tally).await;
    if !out.is_json() {
        out.line(&tally.summary("registered", result.is_ok()))?;
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
    loop {
        let batch = lines.batch().map_err(|error| unreadable(path, error))?;
        if batch.numbers.is_empty() {
            return Ok(());
        }
        let answer = client.call_for_text(Method::POST, Client::url(&["messages:batch"]), batch.bytes).await?;
        let mut answers = answer.lines();
        for number in batch.numbers {
            let answer = answers.next().ok_or_else(|| Failure::Protocol(format!("none for line {number}")))?;
            let answer: BatchLine =
                serde_json::from_str(answer).map_err(|error| Failure::Protocol(error.to_string()))?;
            tally.count(&answer);
            if out.is_json() {
                out.json(&answer)?;
            } else if let Some(error) = &answer.error {
                out.line(&format!("line {number}: {}", show::refusal(error)))?;
            }
        }
        // Whoever pipes a long file in wants to see what is wrong with it now.
        out.flush()?;
    }
}

/// Input by the line, counted as an editor does. Blank ones have no answer, so they are not sent.
pub(super) struct Lines {
    input: Box<dyn BufRead>,
    number: u64,
}

/// What goes over in one call.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) numbers: Vec<u64>,
}

impl Batch {
    /// Takes out the first line.
    pub(super) fn take_first(&mut self) -> Vec<u8> {
        let end = self.bytes.iter().position(|byte| *byte == b'\n').map_or(self.bytes.len(), |at| at + 1);
        let rest = self.bytes.split_off(end);
        self.numbers.remove(0);
        std::mem::replace(&mut self.bytes, rest)
    }
}

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        Ok(Self { input: open(path)?, number: 0 })
    }

    pub(super) fn batch(&mut self) -> io::Result<Batch> {
        let mut batch = Batch::default();
        while batch.numbers.len() < BATCH_LINES && batch.bytes.len() < BATCH_BYTES {
            let start = batch.bytes.len();
            if self.input.read_until(b'\n', &mut batch.bytes)? == 0 {
                break;
            }
            self.number += 1;
            if batch.bytes[start..].trim_ascii().is_empty() {
                batch.bytes.truncate(start);
            } else {
                batch.numbers.push(self.number);
            }
        }
        Ok(batch)
    }
}

/// What became of the lines.
#[derive(Default)]
pub(super) struct Tally {
    new: u64,
    known: u64,
    pub(super) refused: u64,
}

impl Tally {
    pub(super) fn count(&mut self, answer: &BatchLine) {
        match answer.code {
            201 => self.new += 1,
            200 => self.known += 1,
            _ => self.refused += 1,
        }
    }

    pub(super) fn lines(&self) -> u64 {
        self.new + self.known + self.refused
    }

    pub(super) fn summary(&self, done: &str, complete: bool) -> String {
        let Self { new, known, refused } = self;
        let lines = self.lines();
        let counts = format!(
            "{} {}: {} {done}, {} known before, {} refused",
            show::count(lines),
            if lines == 1 { "line" } else { "lines" },
            show::count(*new),
            show::count(*known),
            show::count(*refused)
        );
        // Handing a line in twice is safe, so there is a simple way out.
        if complete { counts } else { format!("{counts}; the rest has no answer: hand the file in again") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_are_counted_and_not_sent() {
        let mut lines = Lines { input: Box::new(io::Cursor::new("{}\n\n  \r\n{\"a\":1}")), number: 0 };
        let batch = lines.batch().unwrap();
        assert_eq!((batch.bytes.as_slice(), batch.numbers), (&b"{}\n{\"a\":1}"[..], vec![1, 4]));
        assert!(lines.batch().unwrap().numbers.is_empty());
    }

    #[test]
    fn a_long_file_goes_over_in_pieces_and_none_is_lost() {
        let text = "{\"x\":\"y\"}\n".repeat(2 * BATCH_LINES + 1);
        let mut lines = Lines { input: Box::new(io::Cursor::new(text)), number: 0 };
        let sizes = [(); 4].map(|()| lines.batch().unwrap().numbers.len());
        assert_eq!(sizes, [BATCH_LINES, BATCH_LINES, 1, 0]);
    }

    #[test]
    fn a_summary_says_if_it_is_not_complete() {
        let tally = Tally { new: 1200, known: 3, refused: 1 };
        assert_eq!(tally.summary("registered", true), "1,204 lines: 1,200 registered, 3 known before, 1 refused");
        assert!(tally.summary("registered", false).contains("hand the file in again"));
    }
}
