//! Where answers go: stdout, through anstream (which takes the colours out where they don't belong).

use std::io::{self, BufWriter, Write};

use jiff::tz::TimeZone;
use serde::Serialize;

use super::exit::Failure;
use super::show::Here;
use crate::clock;

/// Stdout for people, or for programs.
pub(super) struct Output {
    sink: BufWriter<Box<dyn Write>>,
    json: bool,
    zone: TimeZone,
    width: Option<u16>,
}

impl Output {
    pub(super) fn stdout(json: bool) -> Self {
        let sink: Box<dyn Write> = Box::new(anstream::stdout());
        Self { sink: BufWriter::new(sink), json, zone: TimeZone::system(), width: width() }
    }

    /// Programs read it.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// Where and when the reader sits. Asked anew for each screen, since a stream of outcomes may go on for days.
    pub(super) fn here(&self) -> Here {
        Here { now: clock::wall(), zone: self.zone.clone(), width: self.width }
    }

    /// A value for programs, or what people are to see of it.
    pub(super) fn value<T: Serialize>(
        &mut self,
        value: &T,
        screen: impl FnOnce(&T, &Here) -> String,
    ) -> Result<(), Failure> {
        if self.json {
            return self.json(value);
        }
        let screen = screen(value, &self.here());
        self.line(&screen)
    }

    /// One line of JSON.
    pub(super) fn json<T: Serialize>(&mut self, value: &T) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.sink, value).map_err(io::Error::from)?;
        Ok(self.sink.write_all(b"\n")?)
    }

    /// Text that ends its line.
    pub(super) fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.sink.write_all(text.as_bytes())?;
        Ok(self.sink.write_all(b"\n")?)
    }

    /// What is lines already.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.sink.write_all(bytes)?)
    }

    /// Everything has left.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.sink.flush()?)
    }
}

/// Columns to fit into. Without a terminal: as many as it takes, so that grep sees whole lines.
fn width() -> Option<u16> {
    let asked = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let columns = asked.or_else(|| rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| size.ws_col));
    columns.filter(|columns| *columns > 0)
}
