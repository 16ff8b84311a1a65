//! A fuzzer for what comes from outside: seeded, so that each run is the same, and on stable Rust. What it feeds is in the
//! rooms (`fuzz_tests.rs` there); the corpora are in `tests/fixtures/corpus`.
//!
//! It damages what is known to be nearly right: bytes, stretches, numbers, and words of the format put in the wrong place.
//! Without instrumentation, what an input leads to (accepted, or which refusal) stands for the paths it takes: one that leads
//! to something new is kept and damaged further. `REVOKED_FUZZ_MIB` makes it longer, `REVOKED_FUZZ_SEED` different.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use fastrand::Rng;

use crate::clock;

/// As much as an input grows to.
const INPUT_BYTES_MAX: usize = 16 * 1024;
/// Kept inputs besides the corpus.
const KEPT_MAX: usize = 2048;
/// No input takes that long, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(20);
/// Fed to a target unless `REVOKED_FUZZ_MIB` says otherwise: together some seconds.
const BYTES: usize = 512 * 1024;

/// Where numbers go wrong.
const NUMBERS: [&str; 14] = [
    "0",
    "-1",
    "-0",
    "1e999",
    "-1e999",
    "1e-999",
    "0.1",
    "2147483648",
    "9007199254740993",
    "9223372036854775807",
    "18446744073709551616",
    "99999999999999999999999999999999",
    "1e",
    "0x7f",
];
/// Where text goes wrong.
const TEXT: [&[u8]; 16] = [
    b"\0",
    b"\\u0000",
    b"\\ud800",
    b"\\udc00\\ud800",
    b"\xff\xfe",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\"",
    b"\\",
    b"[[[[[[[[[[[[[[[[",
    b"{\"a\":{\"a\":{\"a\":",
    b"]]}}",
    b"\r\n",
    b"\xe2\x80\xae",
    b"\xef\xbb\xbf",
];

/// Feeds a target with damaged inputs. It answers what became of each, in few different words.
pub(crate) fn fuzz(name: &str, corpus: &[Vec<u8>], words: &[&str], target: impl Fn(&[u8]) -> String) {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<usize>().ok());
    let bytes_max = number("REVOKED_FUZZ_MIB").map_or(BYTES, |mib| mib << 20);
    let seed = number("REVOKED_FUZZ_SEED").unwrap_or(1) as u64;
    let mut rng = Rng::with_seed(seed);
    let mut kept = corpus.to_vec();
    let mut seen = HashSet::new();
    let (mut bytes, mut inputs) = (0, 0_u64);
    while bytes < bytes_max {
        let whole = usize::try_from(inputs).ok().and_then(|n| corpus.get(n)).cloned();
        let input = whole.unwrap_or_else(|| damaged(&kept, words, &mut rng));
        let begun = clock::now().mono;
        let Ok(became) = catch_unwind(AssertUnwindSafe(|| target(&input))) else {
            panic!("{name}, seed {seed}, input {inputs}: it panics at {:?}", String::from_utf8_lossy(&input));
        };
        let took = clock::now().mono.saturating_sub(begun);
        assert!(took < PATIENCE, "{name}, seed {seed}: {took:?} for {:?}", String::from_utf8_lossy(&input));
        (bytes, inputs) = (bytes + input.len().max(1), inputs + 1);
        if seen.insert(became) && kept.len() < corpus.len() + KEPT_MAX {
            kept.push(input);
        }
    }
    let kinds = seen.len();
    told(&format!("fuzz {name}: {bytes} bytes in {inputs} inputs, seed {seed}: {kinds} different ends, no panic"));
}

#[expect(clippy::print_stderr, reason = "how much was fuzzed is a result")]
fn told(line: &str) {
    eprintln!("{line}");
}

fn damaged(kept: &[Vec<u8>], words: &[&str], rng: &mut Rng) -> Vec<u8> {
    let mut input = kept[rng.usize(..kept.len())].clone();
    for _ in 0..=rng.usize(..4) {
        damage(&mut input, kept, words, rng);
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

fn damage(input: &mut Vec<u8>, kept: &[Vec<u8>], words: &[&str], rng: &mut Rng) {
    let at = rng.usize(..=input.len());
    let stretch = at..input.len().min(at + rng.usize(..32));
    match rng.u8(..12) {
        0 if at < input.len() => input[at] ^= 1 << rng.u8(..8),
        1 if at < input.len() => input[at] = rng.u8(..),
        2 => drop(input.drain(stretch)),
        3 => {
            let again = input[stretch].to_vec();
            drop(input.splice(at..at, again.repeat(1 + rng.usize(..8))));
        }
        4 | 5 => drop(input.splice(at..at, words[rng.usize(..words.len())].bytes())),
        6 => drop(input.splice(stretch, words[rng.usize(..words.len())].bytes())),
        7 => drop(input.splice(at..at, TEXT[rng.usize(..TEXT.len())].iter().copied())),
        8 | 9 => {
            // A number becomes another one.
            let Some(first) = input[at..].iter().position(u8::is_ascii_digit).map(|n| at + n) else { return };
            let end = input[first..].iter().position(|b| !b.is_ascii_digit()).map_or(input.len(), |n| first + n);
            drop(input.splice(first..end, NUMBERS[rng.usize(..NUMBERS.len())].bytes()));
        }
        10 => {
            let other = &kept[rng.usize(..kept.len())];
            let from = rng.usize(..=other.len());
            drop(input.splice(at.., other[from..].iter().copied()));
        }
        _ => input.truncate(at),
    }
}

/// What became of an input, without what differs from one to the next.
pub(crate) fn gist(words: &str) -> String {
    words.chars().filter(|c| !c.is_ascii_digit()).take(48).collect()
}

/// The lines of a corpus.
pub(crate) fn lines(text: &str) -> Vec<Vec<u8>> {
    text.lines().map(|line| line.as_bytes().to_vec()).collect()
}
