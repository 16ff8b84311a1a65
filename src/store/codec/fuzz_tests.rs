//! What a damaged disk gives back: no panic, and what is read, written and read again is the same.

use super::tests::{lanes, unhex};
use super::*;
use crate::fuzz_tests::{fuzz, gist};
use crate::model::{Place, Queue};

const FIXTURE: &str = include_str!("../../../tests/fixtures/store-v1.hex");
/// Heads of CBOR that are rarely where they belong.
const WORDS: [&str; 6] = ["\u{1b}", "\u{1}", "\u{0}", "\u{7f}", "x\u{1c}", "\u{18}\u{18}"];

fn corpus() -> Vec<Vec<u8>> {
    FIXTURE.lines().map(unhex).collect()
}

#[test]
fn records_and_entries() {
    let position = Position { lane: LaneId(7), queue: Queue::Anchor, place: Place { order: Timestamp::EPOCH, seq: 9 } };
    let lanes = lanes(&AgentId::new("bot").unwrap());
    fuzz("codec", &corpus(), &WORDS, |input| {
        let record = match decode_record(&position, &lanes, input) {
            Ok(record) => {
                let again = decode_record(&position, &lanes, &encode_record(&record));
                assert_eq!(again.unwrap(), record);
                format!("{:?} {:?}", std::mem::discriminant(&record.state), record.grant.is_some())
            }
            Err(error) => gist(&error.to_string()),
        };
        let entry = match decode_entry(input) {
            Ok(entry) => {
                assert_eq!(decode_entry(&encode_entry(&entry)).unwrap(), entry);
                format!("{:?} {:?}", entry.kind, entry.outcome)
            }
            Err(error) => gist(&error.to_string()),
        };
        format!("{record} {entry}")
    });
}
