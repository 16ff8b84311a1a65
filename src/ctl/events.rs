//! Handing in delivery events: one over as many lines as it likes, or one per line for as long as lines come.

use std::io::{BufRead, Read};
use std::path::Path;

use serde::de::IgnoredAny;

use super::batch::{open, unreadable};
use super::client::{Client, Method};
use super::exit::Failure;
use super::output::Output;
use super::show;
use crate::engine::EvidenceEffect;
use crate::intake::wire::{ErrorView, EventView};

pub(super) async fn hand_in(client: &Client, out: &mut Output, path: &Path) -> Result<(), Failure> {
    let mut events = Events { input: open(path)?, number: 0 };
    let mut refused = false;
    while let Some((number, event)) = events.next().map_err(|error| unreadable(path, error))? {
        let answer: Result<EventView, Failure> = client.call(Method::POST, Client::url(&["events"]), Some(event)).await;
        match answer {
            Ok(view) => out.value(&view, |view, _| format!("line {number}: {}", sentence(view.effect)))?,
            // One that is wrong harms no other.
            Err(Failure::Refused(error)) => {
                refused = true;
                let view = ErrorView { error };
                out.value(&view, |view, _| format!("line {number}: error: {}", show::refusal(&view.error)))?;
            }
            Err(failure) => return Err(failure),
        }
        out.flush()?;
    }
    if refused { Err(Failure::Told) } else { Ok(()) }
}

fn sentence(effect: EvidenceEffect) -> &'static str {
    match effect {
        EvidenceEffect::Applied => "applied",
        EvidenceEffect::Duplicate => "known already",
        EvidenceEffect::Early => "kept until its message is registered",
        EvidenceEffect::Ignored => "ignored: not about the delivery of a message",
    }
}

struct Events {
    input: Box<dyn BufRead>,
    number: u64,
}

impl Events {
    /// The next event and the line it starts on; whether it is a good one is for the daemon to say.
    fn next(&mut self) -> std::io::Result<Option<(u64, Vec<u8>)>> {
        let mut event = Vec::new();
        loop {
            event.clear();
            if self.input.read_until(b'\n', &mut event)? == 0 {
                return Ok(None);
            }
            self.number += 1;
            if !event.trim_ascii().is_empty() {
                break;
            }
        }
        let line = self.number;
        // The first line tells which of the two it is: if it is only the beginning of a value, all is one event.
        let begun = |event: &[u8]| serde_json::from_slice::<IgnoredAny>(event).is_err_and(|error| error.is_eof());
        if line == 1 && begun(&event) {
            self.input.read_to_end(&mut event)?;
        }
        Ok(Some((line, event)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &'static str) -> Vec<(u64, String)> {
        let mut events = Events { input: Box::new(std::io::Cursor::new(text)), number: 0 };
        std::iter::from_fn(|| events.next().unwrap())
            .map(|(line, event)| (line, String::from_utf8(event).unwrap()))
            .collect()
    }

    #[test]
    fn an_event_may_spread_over_lines_and_events_may_stand_on_lines() {
        let pretty = "{\n  \"eventType\": \"READ\"\n}\n";
        assert_eq!(lines(pretty), [(1, pretty.to_owned())]);
        assert_eq!(lines("{}\n\nnoise\n{}"), [(1, "{}\n".into()), (3, "noise\n".into()), (4, "{}".into())]);
        assert_eq!(lines(""), []);
    }
}
