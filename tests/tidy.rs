//! What the house's plan says about who may know whom, read off the source. Each ban says what to write instead.
//!
//! A scan for words, not a parser: it sees code without comments, up to a file's own tests at its end.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// Words that have their place.
struct Ban {
    words: &'static [&'static str],
    /// Where the ban holds.
    within: &'static str,
    /// Where, in there, the words belong. One that no longer needs them is struck off this list.
    but: &'static [&'static str],
    instead: &'static str,
}

const BANS: [Ban; 11] = [
    Ban {
        words: &["sled"],
        within: "src/",
        but: &["src/store/"],
        instead: "go through the contract, `crate::store::Store`: a second store is to come",
    },
    Ban {
        words: &["SledStore"],
        within: "src/",
        but: &["src/store/", "src/daemon/"],
        instead: "take any `S: Store`; only the daemon chooses which",
    },
    Ban {
        words: &["reqwest"],
        within: "src/",
        but: &[
            "src/platform/",
            "src/ctl/",
            "src/demo/",
            "src/fallback/http.rs",
            "src/intake/webhook/forward.rs",
            "src/bench/",
            "src/child.rs",
            "src/sandbox/webhook.rs",
            "src/sandbox/mod.rs",
        ],
        instead: "go through the contract, `crate::platform::Platform`: one order in, one typed answer out",
    },
    Ban {
        words: &["DelayQueue"],
        within: "src/",
        but: &["src/engine/wheel.rs"],
        instead: "push an `Effect::Arm`: the wheel is armed per route, and what is due is asked of the store",
    },
    Ban {
        words: &["tokio", "sled", "reqwest", "tracing", "hyper", "axum", "fastrand"],
        within: "src/model/",
        but: &[],
        instead: "take time and chance as arguments and return what is to be done: the model is pure",
    },
    Ban {
        words: &["clock::now", "clock::wall"],
        within: "src/",
        but: &[
            "src/daemon/",
            "src/engine/mod.rs",
            "src/progress.rs",
            "src/platform/",
            "src/sandbox/",
            "src/ctl/",
            "src/demo/",
            "src/bench/",
            "src/child.rs",
        ],
        instead: "take `now` as an argument: who decides is told what time it is",
    },
    Ban {
        words: &["SystemTime", "Instant::now", "Utc::now", "Local::now", "Zoned::now", "Timestamp::now"],
        within: "src/",
        but: &["src/clock.rs", "src/sandbox/clock.rs"],
        instead: "take `now` as an argument; `crate::clock` reads the clocks",
    },
    Ban {
        words: &["crate::platform", "store::SledStore", "store::Store"],
        within: "src/intake/",
        but: &[],
        instead: "ask the engine's `Handle`: the gate checks what comes in and decides nothing",
    },
    Ban {
        words: &["axum", "hyper", "hyper_util"],
        within: "src/engine/",
        but: &[],
        instead: "leave HTTP to `intake` and `platform`, and take a command or an answer",
    },
    Ban {
        words: &["crate::daemon", "crate::ctl", "crate::engine", "crate::store", "crate::intake", "crate::platform"],
        within: "src/sandbox/",
        but: &[],
        instead: "let the sandbox stand alone: it is the other side, and must not share the daemon's mistakes",
    },
    Ban {
        words: &["Drive", "Handle", "model::step", "next_cutoff"],
        within: "src/simulation/oracle/",
        but: &[],
        instead: "keep books of your own, and do your own sums: the oracle may not ask who is to be examined",
    },
];

/// Nothing longer than this is read in one sitting.
const LINES_MAX: usize = 520;
/// Files that are longer all the same, for now. One that has become shorter is struck off.
const LONGER: [&str; 2] = ["src/engine/tests.rs", "src/model/step_tests.rs"];

struct Source {
    /// From the root of the package.
    path: String,
    text: String,
}

/// All Rust files below a directory.
fn sources(directory: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut sources, mut open) = (Vec::new(), vec![root.join(directory)]);
    while let Some(directory) = open.pop() {
        let paths: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        for path in paths {
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                sources.push(Source { text: fs::read_to_string(&path).unwrap(), path: name });
            }
        }
    }
    assert!(!sources.is_empty(), "no source in {directory}");
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

impl Source {
    /// A file of tests and nothing else.
    fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.contains("/tests/") || self.path.ends_with("tests.rs")
    }

    /// The numbered lines of code: no comments, and not the tests at the end.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let ends =
            ["mod tests {", "pub(super) mod tests {"].map(|head| self.text.find(&format!("#[cfg(test)]\n{head}")));
        let end = ends.into_iter().flatten().min().unwrap_or(self.text.len());
        (1..).zip(self.text[..end].lines()).map(|(number, line)| (number, without_comment(line)))
    }

    fn names(&self, word: &str) -> impl Iterator<Item = usize> {
        self.code().filter(move |(_, line)| has_word(line, word)).map(|(number, _)| number)
    }
}

fn without_comment(line: &str) -> &str {
    // The two slashes of a URL have a colon before them.
    let is_comment = |at: &usize| !line[..*at].ends_with(':');
    line.match_indices("//").map(|(at, _)| at).find(is_comment).map_or(line, |at| &line[..at])
}

/// Whether the word stands there by itself, not as a part of another.
fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(is_part) && !line[at + word.len()..].starts_with(is_part))
}

/// Fails with all that was found.
fn report(found: &str) {
    assert!(found.is_empty(), "\n{found}");
}

#[test]
fn everybody_knows_only_whom_they_may_know() {
    let sources = sources("src");
    let mut found = String::new();
    for Ban { words, within, but, instead } in BANS {
        let outside = |path: &str| path.starts_with(within) && !but.iter().any(|room| path.starts_with(room));
        for source in sources.iter().filter(|source| outside(&source.path) && !source.is_test()) {
            for word in words {
                for line in source.names(word) {
                    writeln!(found, "{}:{line}: `{word}` has no place here: {instead}", source.path).unwrap();
                }
            }
        }
        for room in but {
            let uses = |source: &Source| words.iter().any(|word| source.names(word).next().is_some());
            if !sources.iter().any(|source| source.path.starts_with(room) && uses(source)) {
                writeln!(found, "{room} has no more use for {words:?}: strike it off the ban's exceptions").unwrap();
            }
        }
    }
    report(&found);
}

#[test]
fn a_panic_says_why() {
    let mut found = String::new();
    for source in sources("src").iter().filter(|source| !source.is_test()) {
        for (number, line) in source.code() {
            let mute = line.contains(".expect(\"\")") || line.contains(".unwrap_err()");
            if line.contains(".unwrap()") || mute {
                let instead = "return the error with `?`, or say with `.expect(\"why it can't be\")` what holds here";
                writeln!(found, "{}:{number}: {instead}", source.path).unwrap();
            }
        }
    }
    report(&found);
}

#[test]
fn nothing_is_left_for_later() {
    // In two parts, so that this file is not found guilty itself.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("dbg", "!")];
    let mut found = String::new();
    for source in sources("src").iter().chain(&sources("tests")) {
        for (number, line) in (1..).zip(source.text.lines()) {
            for word in words.into_iter().filter(|word| has_word(line, word)) {
                writeln!(found, "{}:{number}: `{word}`: do it now, or write it down as an issue", source.path).unwrap();
            }
        }
    }
    report(&found);
}

#[test]
fn no_file_is_too_long_to_be_read_in_one_sitting() {
    let mut found = String::new();
    for source in sources("src").iter().chain(&sources("tests")) {
        let lines = source.text.lines().count();
        let excepted = LONGER.contains(&source.path.as_str());
        if lines > LINES_MAX && !excepted {
            writeln!(found, "{}: {lines} lines: split it where one idea ends and the next begins", source.path)
                .unwrap();
        } else if lines <= LINES_MAX && excepted {
            writeln!(found, "{}: {lines} lines only: strike it off `LONGER`", source.path).unwrap();
        }
    }
    report(&found);
}

#[test]
fn the_scan_sees_words_in_code_and_not_in_comments_strings_of_urls_or_tests() {
    let source = |text: &str| Source { path: "src/x.rs".into(), text: text.into() };
    let lines = |text: &str| source(text).names("sled").collect::<Vec<_>>();
    assert_eq!(lines("use sled::Db;\n\nlet db = sled::open();"), [1, 3]);
    assert_eq!(lines("// sled\n//! sled\nx(); // sled\n"), [0_usize; 0]);
    assert_eq!(lines("bobsled(); sledge(); the_sled();"), [0_usize; 0]);
    assert_eq!(lines("get(\"http://a/b\", sled)"), [1]);
    assert_eq!(lines("fn a() {}\n#[cfg(test)]\nmod tests {\n    use sled::Db;\n}"), [0_usize; 0]);
    assert_eq!(lines("#[cfg(test)]\nmod tests;\nuse sled::Db;"), [3]);
    assert!(source("").names("sled").next().is_none());
}
