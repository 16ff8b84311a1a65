//! Reading a table key by key.
//!
//! A walk over the spanned tree rather than serde's `deny_unknown_fields`: serde stops at the first thing that is
//! wrong, and an operator wants to hear all of it at once. Each key is named in one place, where it is read, with its
//! type and default; that reading leaves behind what is known (so the rest is unknown), what is in force and where it
//! comes from.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::near;
use super::report::{Problem, Span};
use super::settings::{Origin, Setting};
use super::value::{Value, Wrong};

/// What a walk leaves behind.
pub(super) struct Findings {
    /// Every value in force, in the order of reading.
    pub(super) settings: Vec<Setting>,
    /// Everything wrong.
    pub(super) problems: Vec<Problem>,
    /// Where something stands that is not to be shown.
    pub(super) secrets: Vec<Span>,
}

/// The whole file.
pub(super) struct Document<'a> {
    text: &'a str,
    root: &'a DeTable<'a>,
    known: Vec<&'static str>,
    found: Findings,
}

impl<'a> Document<'a> {
    pub(super) fn new(text: &'a str, root: &'a DeTable<'a>) -> Self {
        let found = Findings { settings: Vec::new(), problems: Vec::new(), secrets: Vec::new() };
        Self { text, root, known: Vec::new(), found }
    }

    /// Reads the table of that name; where there is none, all of it is at its default.
    pub(super) fn section<T>(&mut self, name: &'static str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        self.known.push(name);
        let entry = self.root.get_key_value(name).and_then(|(_, value)| table(&mut self.found, name, value));
        walk(self.text, &mut self.found, name.to_owned(), entry, read)
    }

    /// Reads each of the tables `[parent.NAME]`, in the order of their names; `what` is what they are names of.
    pub(super) fn tables<N, T>(
        &mut self,
        parent: &'static str,
        (what, named): (&str, impl Fn(&str) -> Result<N, String>),
        mut read: impl FnMut(&mut Section<'_>) -> T,
    ) -> Vec<(N, T)> {
        self.known.push(parent);
        let entry = self.root.get_key_value(parent).and_then(|(_, value)| table(&mut self.found, parent, value));
        let mut all = Vec::new();
        for (key, value) in entry.iter().flat_map(|(table, _)| *table) {
            let full = format!("{parent}.{}", key.get_ref());
            match named(key.get_ref()) {
                Ok(name) => {
                    if let Some(entry) = table(&mut self.found, &full, value) {
                        all.push((name, walk(self.text, &mut self.found, full, Some(entry), &mut read)));
                    }
                }
                Err(why) => {
                    let problem = Problem::error(format!("invalid name of {what} in `{full}`"));
                    self.found.problems.push(problem.at(key.span(), why));
                }
            }
        }
        all
    }

    /// What is known of the file as a whole.
    pub(super) fn problem(&mut self, problem: Problem) {
        self.found.problems.push(problem);
    }

    /// The end of the walk: what nobody has asked for is unknown.
    pub(super) fn finish(mut self) -> Findings {
        let unknown = unknown(self.root, &self.known, "at the top of the file", "table");
        self.found.problems.extend(unknown);
        self.found
    }
}

/// One table, while it is being read.
pub(super) struct Section<'a> {
    text: &'a str,
    name: String,
    table: Option<&'a DeTable<'a>>,
    header: Option<Span>,
    known: Vec<&'static str>,
    found: &'a mut Findings,
}

impl<'a> Section<'a> {
    /// The value of `key`, else the default.
    pub(super) fn get<T: Value>(&mut self, key: &'static str, default: T) -> T {
        self.get_or(key, (default, Origin::Default))
    }

    /// The value of `key`, else the default, which comes from somewhere.
    pub(super) fn get_or<T: Value>(&mut self, key: &'static str, (default, origin): (T, Origin)) -> T {
        match self.find(key) {
            Some(value) => value,
            None => {
                self.record(key, &default, origin);
                default
            }
        }
    }

    /// The table of that name below this one, if there is one.
    pub(super) fn table<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'_>) -> T) -> Option<T> {
        self.known.push(key);
        let entry = self.entry(key)?;
        let name = format!("{}.{key}", self.name);
        let Some(table) = entry.get_ref().as_table() else {
            let problem = Problem::error(format!("`{name}` is not a table"))
                .at(entry.span(), Wrong::found(entry.get_ref(), "a table").label)
                .help(format!("write [{name}] on a line of its own and its keys below"));
            self.problem(problem);
            return None;
        };
        let header = Some(entry.span());
        let found = &mut *self.found;
        let mut section = Section { text: self.text, name, table: Some(table), header, known: Vec::new(), found };
        let value = read(&mut section);
        section.finish();
        Some(value)
    }

    /// The value of `key`, if it is there and right.
    pub(super) fn find<T: Value>(&mut self, key: &'static str) -> Option<T> {
        self.known.push(key);
        let entry = self.entry(key)?;
        match T::read(entry.get_ref()) {
            Ok(value) => {
                let line = 1 + self.text[..entry.span().start].matches('\n').count();
                self.record(key, &value, Origin::File { line });
                Some(value)
            }
            Err(wrong) => {
                let problem = Problem::error(format!("invalid value for `{}.{key}`", self.name));
                self.problem(Problem { help: wrong.help, ..problem.at(entry.span(), wrong.label) });
                self.found.secrets.extend(wrong.secret.then(|| entry.span()));
                None
            }
        }
    }

    /// Reads each of the tables `[this.key.NAME]`, in the order of their names.
    pub(super) fn tables<T>(&mut self, key: &'static str, mut read: impl FnMut(&mut Section<'_>) -> T) -> Vec<T> {
        self.known.push(key);
        let full = format!("{}.{key}", self.name);
        let Some((entries, _)) = self.entry(key).and_then(|value| table(self.found, &full, value)) else {
            return Vec::new();
        };
        let mut all = Vec::new();
        for (name, value) in entries {
            let full = format!("{full}.{}", name.get_ref());
            if let Err(why) = plain_name(name.get_ref()) {
                let problem = Problem::error(format!("invalid name in `{full}`"));
                self.problem(problem.at(name.span(), why));
            } else if let Some(entry) = table(self.found, &full, value) {
                all.push(walk(self.text, self.found, full, Some(entry), &mut read));
            }
        }
        all
    }

    /// Where the value of `key` stands, if it is there, right or wrong.
    pub(super) fn span(&self, key: &str) -> Option<Span> {
        self.entry(key).map(Spanned::span)
    }

    /// Where the section begins, if the file has it.
    pub(super) fn header(&self) -> Option<Span> {
        self.header.clone()
    }

    /// The name of the table: `use_cases.otp`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Something is wrong with the values as a whole.
    pub(super) fn problem(&mut self, problem: Problem) {
        self.found.problems.push(problem);
    }

    /// Something is wrong with the value of `key`; where that isn't in the file, with the section, else with the file.
    pub(super) fn problem_at(&mut self, key: &str, problem: Problem, label: impl Into<String>) {
        self.problem(match self.span(key).or_else(|| self.header()) {
            Some(span) => problem.at(span, label),
            None => problem,
        });
    }

    fn entry(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table?.get_key_value(key).map(|(_, value)| value)
    }

    fn record<T: Value>(&mut self, key: &str, value: &T, origin: Origin) {
        self.found.settings.push(Setting { key: format!("{}.{key}", self.name), value: value.show(), origin });
    }

    fn finish(self) {
        let Some(table) = self.table else { return };
        let unknown = unknown(table, &self.known, &format!("in [{}]", self.name), "key");
        self.found.problems.extend(unknown);
    }
}

/// The name of a table that anybody may choose.
pub(super) fn plain_name(name: &str) -> Result<String, String> {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if plain && !name.is_empty() { Ok(name.to_owned()) } else { Err("expected letters, digits, '-' or '_'".to_owned()) }
}

fn walk<'a, T>(
    text: &str,
    found: &mut Findings,
    name: String,
    entry: Option<(&'a DeTable<'a>, Span)>,
    read: impl FnOnce(&mut Section<'_>) -> T,
) -> T {
    let (table, header) = entry.unzip();
    let mut section = Section { text, name, table, header, known: Vec::new(), found };
    let value = read(&mut section);
    section.finish();
    value
}

fn table<'a>(found: &mut Findings, name: &str, value: &'a Spanned<DeValue<'a>>) -> Option<(&'a DeTable<'a>, Span)> {
    let table = value.get_ref().as_table();
    if table.is_none() {
        let problem = Problem::error(format!("`{name}` is not a table"))
            .at(value.span(), Wrong::found(value.get_ref(), "a table").label)
            .help(format!("write [{name}] on a line of its own and its keys below"));
        found.problems.push(problem);
    }
    Some((table?, value.span()))
}

fn unknown(table: &DeTable<'_>, known: &[&'static str], place: &str, what: &str) -> Vec<Problem> {
    let strange = table.keys().filter(|key| !known.contains(&key.get_ref().as_ref()));
    strange
        .map(|key| {
            let name = key.get_ref();
            let problem = Problem::error(format!("unknown {what} `{name}` {place}")).at(key.span(), "not known");
            problem.help(match near::nearest(name, known.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("expected {}", near::list(known, '`')),
            })
        })
        .collect()
}
