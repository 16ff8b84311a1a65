//! A configuration file, damaged: no panic, a report that can be shown, and what is read, printed and read again is the same.

use super::{Config, Env, Members, parse};
use crate::fuzz_tests::{fuzz, gist};
use crate::model::Timestamp;

const FULL: &str = include_str!("../../tests/fixtures/config/full.toml");
const SLIPS: &str = include_str!("../../tests/fixtures/config/slips.toml");

const WORDS: [&str; 20] = [
    "[use_cases.a]\n",
    "ttl = \"10m\"\n",
    "[[use_cases.a]]\n",
    "expires_at = 2026-12-31T23:59:59Z\n",
    "[access]\n",
    "[access.a]\nmay = [\"read\"]\n",
    "\"\"\"",
    "'''",
    "= {",
    "}",
    "]",
    "\n",
    "\u{85}",
    "daily_cutoff = \"24:00\"\n",
    "\"30d\"",
    "time_zone = \"Asia/Tokyo\"\n",
    "nan",
    "-inf",
    "{{ phone",
    "1979-05-27T07:32:00-25:00",
];

fn env() -> Env {
    Env {
        system: true,
        xdg_runtime_dir: None,
        state_directory: None,
        credentials_directory: Some("/run/credentials/revoked.service".into()),
        readable: |_| Ok(()),
        user: |name| name.parse().map_err(|_| "no such user".to_owned()),
        group: |_| Ok(Members { gid: 1, uids: vec![2] }),
    }
}

/// The files whole, and each of their tables by itself: what is short is damaged more thoroughly.
fn corpus() -> Vec<Vec<u8>> {
    let tables = FULL.split("\n[").map(|table| format!("[{}", table.trim_start_matches('[')));
    let tables = tables.map(|table| format!("{table}\n[use_cases.z]\nttl = \"10m\"\n"));
    [FULL.to_owned(), SLIPS.to_owned()].into_iter().chain(tables).map(String::into_bytes).collect()
}

#[test]
fn files() {
    let (env, now) = (env(), Timestamp::parse("2026-11-22T17:00:00Z").unwrap());
    fuzz("config", &corpus(), &WORDS, |input| {
        let text = String::from_utf8_lossy(input);
        match parse("config.toml", &text, &env, now) {
            Ok(loaded) => {
                let printed = loaded.config.to_toml();
                let again = parse("config.toml", &printed, &env, now).unwrap_or_else(|report| panic!("{report}"));
                assert!(
                    again.config == loaded.config && Config::diff(&loaded.config, &again.config).is_empty(),
                    "{printed}"
                );
                loaded.warnings.problems().first().map(|problem| gist(&problem.title)).unwrap_or_default()
            }
            Err(report) => {
                assert!(!report.to_string().is_empty());
                report.problems().iter().map(|problem| gist(&problem.title)).next().unwrap_or_default()
            }
        }
    });
}
