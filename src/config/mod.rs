//! From the bytes of a TOML file to a [`Config`], or to a report that helps.
//!
//! Reading is one pure function of the text, the environment ([`Env`]) and the time: `revoked check`, the start and a
//! reload all take this path, and nothing is bound, made or kept on it. The text becomes a tree that knows where each
//! value stands (`section`); each section takes its keys out of it (`sections`, `use_cases`) with types that refuse
//! what is always wrong (`value`, `civil`); and everything wrong is told at once (`report`). What the reading leaves
//! behind is kept as a list of [`Setting`]s, from which come the effective configuration, its printout and the [`Diff`]
//! of a reload.
//!
//! This room knows what a file may say. What is then done about it is the business of the rooms that get the values.

mod access;
mod civil;
mod env;
mod fallback;
#[cfg(test)]
mod fuzz_tests;
mod near;
mod report;
mod section;
mod sections;
mod settings;
mod use_cases;
mod value;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use aws_lc_rs::digest;
use toml::de::DeTable;

pub use access::{Access, Right, Rule};
pub use env::{Env, Members, can_be_read};
pub use report::{Level, Mark, Problem, Report, Span};
pub use sections::{
    Account, Durability, ForwardMode, Log, LogFormat, Metrics, Mode, Pace, Platform, Retention, Server, Store, Webhook,
};
pub use settings::{Change, Diff, Origin, Setting};

use crate::fallback::Spec;
use crate::model::{Policies, Policy, Timestamp, UseCase};
use section::{Document, plain_name};

/// Everything the daemon is told, complete: what the file doesn't say is at its default.
///
/// For reading only. It is made by [`load`] and [`parse`], so that the values and the list of settings agree.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// The socket.
    pub server: Server,
    /// Who may do what on it.
    pub access: Access,
    /// The store.
    pub store: Store,
    /// The platform.
    pub platform: Platform,
    /// The pace.
    pub pace: Pace,
    /// The webhook.
    pub webhook: Webhook,
    /// The metrics.
    pub metrics: Metrics,
    /// How long what is over is kept.
    pub retention: Retention,
    /// The log.
    pub log: Log,
    policies: Policies,
    fallbacks: BTreeMap<UseCase, Spec>,
    settings: Vec<Setting>,
}

/// The keys that a running daemon can take over, by how they begin. All others are what it was built from.
const LIVE: [&str; 8] = [
    "access.",
    "use_cases.",
    "pace.",
    "retention.",
    "log.level",
    "webhook.client_token_files",
    "webhook.forward",
    "webhook.tls_",
];

impl Config {
    /// The policies of all use cases.
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// The hooks that grants are handed to, by use case.
    pub fn fallbacks(&self) -> &BTreeMap<UseCase, Spec> {
        &self.fallbacks
    }

    /// Every value in force, with where it comes from, in the order of the sections.
    pub fn effective(&self) -> &[Setting] {
        &self.settings
    }

    /// A file that says all of it. Read back, it is equal.
    pub fn to_toml(&self) -> String {
        settings::to_toml(&self.settings)
    }

    /// What differs, sorted by what it takes to come into effect.
    pub fn diff(old: &Self, new: &Self) -> Diff {
        let is_live = |key: &str| LIVE.iter().any(|live| key.starts_with(live));
        Diff::new(&old.settings, &new.settings, is_live)
    }
}

/// A file that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// Of its bytes: two files with the same hash say the same. The first twelve hex digits of the SHA-256.
    pub hash: String,
    /// What somebody should look at; often empty.
    pub warnings: Report,
}

/// Reads a file.
///
/// # Errors
/// With all that is wrong with it, warnings included; so is a file that can't be read.
pub fn load(path: &Path, env: &Env, now: Timestamp) -> Result<Loaded, Report> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| Report::new(&name, "", &[], vec![unreadable(&name, &error)]))?;
    match str::from_utf8(&bytes) {
        Ok(text) => parse(&name, text, env, now),
        Err(error) => {
            // Up to the first wrong byte the text below is the same as the file, so the place is right.
            let text = String::from_utf8_lossy(&bytes);
            let start = error.valid_up_to();
            let wrong = start..start + char::REPLACEMENT_CHARACTER.len_utf8();
            let problem = Problem::error("the file is not UTF-8").at(wrong, "not a character");
            Err(Report::new(&name, &text, &[], vec![problem.help("save it as UTF-8")]))
        }
    }
}

/// Reads a text; `name` is what the report calls it.
///
/// # Errors
/// With all that is wrong with it, warnings included.
pub fn parse(name: &str, text: &str, env: &Env, now: Timestamp) -> Result<Loaded, Report> {
    let (root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // What could be recovered is not looked at: most of what is missing there is missing because of these.
        return Err(Report::new(name, text, &[], syntax(text, &errors)));
    }
    let mut document = Document::new(text, root.get_ref());
    let server = document.section("server", |section| Server::read(section, env));
    let rules = document.tables("access", ("a rule", plain_name), |section| access::read(section, env));
    let store = document.section("store", |section| Store::read(section, env));
    let platform = document.section("platform", |section| Platform::read(section, env));
    let pace = document.section("pace", Pace::read);
    let webhook = document.section("webhook", |section| Webhook::read(section, env));
    let metrics = document.section("metrics", Metrics::read);
    let retention = document.section("retention", Retention::read);
    let log = document.section("log", Log::read);
    let use_cases =
        document.tables("use_cases", ("a use case", UseCase::new), |section| use_cases::read(section, env, now));
    let table = root.get_ref().get("use_cases").map(|table| table.get_ref());
    if table.is_none_or(|table| table.as_table().is_some_and(|all| all.is_empty())) {
        document.problem(Problem::error("no use cases").help(
            "without one nothing can be registered; a first one would be\n\
             [use_cases.otp]\n\
             ttl = \"10m\"",
        ));
    }
    if root.get_ref().get("access").is_some_and(|access| access.get_ref().as_table().is_some_and(|all| all.is_empty()))
    {
        document.problem(Problem::error("no rule in [access]").help(
            "it would let in everybody, or nobody: leave it out, or say who may do what:\n\
             [access.shop]\n\
             users = [\"shop\"]\n\
             may = [\"register\", \"read\"]",
        ));
    }
    let found = document.finish();
    let report = Report::new(name, text, &found.secrets, found.problems);
    if report.has_errors() {
        return Err(report);
    }
    let hook = |(name, (_, hook)): &(UseCase, (_, Option<Spec>))| Some((name.clone(), hook.clone()?));
    let fallbacks = use_cases.iter().filter_map(hook).collect();
    let shadow = platform.mode == Mode::Shadow;
    let policy = |(name, (policy, _))| Some((name, Policy { shadow, ..policy? }));
    let policies = use_cases.into_iter().filter_map(policy).collect();
    let access = Access(rules.into_iter().filter_map(|(name, rule)| Some(Rule { name, ..rule? })).collect());
    let settings = found.settings;
    let config = Config {
        server,
        access,
        store,
        platform,
        pace,
        webhook,
        metrics,
        retention,
        log,
        policies,
        fallbacks,
        settings,
    };
    Ok(Loaded { config, hash: hash(text.as_bytes()), warnings: report })
}

/// The hash of a file as it is, good or bad; `None` if it can't be read.
pub fn hash_of(path: &Path) -> Option<String> {
    std::fs::read(path).ok().map(|bytes| hash(&bytes))
}

fn hash(bytes: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, bytes);
    digest.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

fn unreadable(name: &str, error: &io::Error) -> Problem {
    let problem = Problem::error(format!("can't read the configuration: {error}"));
    match error.kind() {
        io::ErrorKind::NotFound => {
            problem.help(format!("copy config.toml.example to {name}, or name another file with --config"))
        }
        io::ErrorKind::PermissionDenied => problem.help("let the daemon's user read it; there is nothing secret in it"),
        io::ErrorKind::IsADirectory => problem.help(format!("name the file: {name}/config.toml")),
        _ => problem,
    }
}

/// The parser's own words, one problem a line: what follows on the same line is mostly a consequence.
fn syntax(text: &str, errors: &[toml::de::Error]) -> Vec<Problem> {
    let mut last_line = None;
    let mut problems = Vec::new();
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let line = text.get(..span.start).map(|before| before.matches('\n').count());
        if line != last_line || line.is_none() {
            let bare = error.message().starts_with("string values must be quoted");
            // A line with a secret is not shown, and so none of it is repeated.
            let quoted = text
                .get(span.clone())
                .filter(|word| bare && !word.contains('@'))
                .map(|word| format!("did you mean \"{word}\"?"));
            let problem = Problem::error("not TOML").at(span, error.message());
            problems.push(Problem { help: quoted, ..problem });
        }
        last_line = line;
    }
    problems
}
