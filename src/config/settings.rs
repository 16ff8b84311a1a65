//! Every value in force, by its key, with where it comes from; and what differs between two configurations.
//!
//! Nothing here names a key: the list is a by-product of reading (see `section.rs`), so that it can't drift from what
//! the daemon really uses.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Where a value comes from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Origin {
    /// This line of the file, counted from 1.
    File {
        /// The line.
        line: usize,
    },
    /// Nobody said otherwise.
    Default,
    /// The default, as this environment variable makes it.
    Environment(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { line } => write!(f, "line {line}"),
            Self::Default => f.write_str("default"),
            Self::Environment(name) => write!(f, "${name}"),
        }
    }
}

/// One value in force.
///
/// There is nothing secret among them: secrets are in files of their own, and a value names the file.
#[derive(Clone, Debug)]
pub struct Setting {
    /// In full: `use_cases.otp.ttl`.
    pub key: String,
    /// As the file would have it.
    pub value: toml::Value,
    /// Where it comes from.
    pub origin: Origin,
}

/// The same setting, whoever made it: otherwise no configuration would equal its own printout.
impl PartialEq for Setting {
    fn eq(&self, other: &Self) -> bool {
        (&self.key, &self.value) == (&other.key, &other.value)
    }
}

impl Setting {
    /// The table it stands in, and its name there.
    fn split(&self) -> (&str, &str) {
        self.key.rsplit_once('.').unwrap_or(("", &self.key))
    }
}

/// The settings as a file that says all of it, defaults included.
pub(super) fn to_toml(settings: &[Setting]) -> String {
    let mut text = String::new();
    let mut table = "";
    for setting in settings {
        let (under, name) = setting.split();
        if under != table {
            let gap = if table.is_empty() { "" } else { "\n" };
            text += &format!("{gap}[{under}]\n");
            table = under;
        }
        text += &format!("{name} = {}\n", setting.value);
    }
    text
}

/// A value that is another one now. `None`: not there.
#[derive(Clone, PartialEq, Debug)]
pub struct Change {
    /// In full: `use_cases.otp.ttl`.
    pub key: String,
    /// What it was.
    pub before: Option<toml::Value>,
    /// What it is.
    pub after: Option<toml::Value>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => write!(f, "{}: {before} is now {after}", self.key),
            (None, Some(after)) => write!(f, "{}: now {after}", self.key),
            (Some(before), None) => write!(f, "{}: no longer {before}", self.key),
            (None, None) => f.write_str(&self.key),
        }
    }
}

/// What a reload would change, sorted by what it takes. Each part is in the order of its keys.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Diff {
    /// Takes effect at once: policies, pace, retention, log.
    pub live: Vec<Change>,
    /// Sockets, files and clients that are made once: takes a restart.
    pub restart: Vec<Change>,
}

impl Diff {
    pub(super) fn new(old: &[Setting], new: &[Setting], is_live: impl Fn(&str) -> bool) -> Self {
        let by_key = |settings: &[Setting]| -> BTreeMap<String, toml::Value> {
            settings.iter().map(|setting| (setting.key.clone(), setting.value.clone())).collect()
        };
        let (mut before, mut after) = (by_key(old), by_key(new));
        let keys: BTreeSet<_> = before.keys().chain(after.keys()).cloned().collect();
        let (live, restart) = keys
            .into_iter()
            .map(|key| Change { before: before.remove(&key), after: after.remove(&key), key })
            .filter(|change| change.before != change.after)
            .partition(|change| is_live(&change.key));
        Self { live, restart }
    }

    /// Nothing would.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && self.restart.is_empty()
    }
}
