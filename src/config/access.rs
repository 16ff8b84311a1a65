//! `[access.NAME]`: who may do what on the socket, and for which agents.
//!
//! Users and groups are looked up here, so that one that does not exist is found by `check`; what a peer may do is decided in
//! the gate.

use std::collections::BTreeSet;

use toml::de::DeValue;

use super::env::Env;
use super::near;
use super::report::Problem;
use super::section::Section;
use super::value::{Choice, Value, Wrong, text};
use crate::model::{AgentId, Agents};

/// All rules. None at all: whoever can open the socket may do everything.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Access(pub Vec<Rule>);

/// `[access.NAME]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Its name, for telling where something is allowed.
    pub name: String,
    /// Whom it is about: these users, and the members of its groups …
    pub users: BTreeSet<u32>,
    /// … and whoever has one of these as their own group.
    pub groups: BTreeSet<u32>,
    /// What they may do.
    pub may: BTreeSet<Right>,
    /// For whom; `None` for all.
    pub agents: Option<Agents>,
}

/// What somebody may do. Which request takes which is in the table of the gate's routes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Right {
    /// Hand in messages and events, and act on one's messages.
    Register,
    /// Look at messages, outcomes, counts.
    Read,
    /// Hold and recall many at once; move and reload.
    Control,
}

impl Choice for Right {
    const WORDS: &'static [(&'static str, Self)] =
        &[("register", Self::Register), ("read", Self::Read), ("control", Self::Control)];
}

impl Right {
    /// As it is written in the file.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, right)| *right == self).map_or("", |(word, _)| *word)
    }
}

/// The rule, if it is one; its name is the table's.
pub(super) fn read(section: &mut Section<'_>, env: &Env) -> Option<Rule> {
    let users = all(section, "users", env.user);
    let groups = all(section, "groups", env.group);
    let may: Option<Rights> = section.find("may");
    let agents: Option<Vec<AgentId>> = section.find("agents");
    if section.span("users").is_none() && section.span("groups").is_none() {
        let problem = Problem::error(format!("nobody is named in [{}]", section.name()))
            .help("say whom it is about: users = [\"shop\"], or groups = [\"agents\"]");
        section.problem_at("users", problem, "neither `users` nor `groups`");
    }
    if section.span("may").is_none() {
        let problem = Problem::error(format!("no `may` in [{}]", section.name()))
            .help("say what they may do: may = [\"register\", \"read\"], and \"control\" for operators");
        section.problem_at("may", problem, "`may` is missing");
    }
    let (gids, members): (BTreeSet<u32>, Vec<Vec<u32>>) =
        groups.into_iter().map(|group| (group.gid, group.uids)).unzip();
    Some(Rule {
        name: String::new(),
        users: users.into_iter().chain(members.into_iter().flatten()).collect(),
        groups: gids,
        may: may?.0.into_iter().collect(),
        agents: agents.map(Agents::from_iter),
    })
}

/// The one user or group that a key names, if it does and there is one.
pub(super) fn resolve<T>(section: &mut Section<'_>, key: &'static str, look_up: Lookup<T>) -> Option<T> {
    let Name(name) = section.find(key)?;
    found(section, key, &name, look_up)
}

type Lookup<T> = fn(&str) -> Result<T, String>;

fn all<T>(section: &mut Section<'_>, key: &'static str, look_up: Lookup<T>) -> Vec<T> {
    let Names(names) = section.find(key).unwrap_or(Names(Vec::new()));
    names.iter().filter_map(|name| found(section, key, name, look_up)).collect()
}

fn found<T>(section: &mut Section<'_>, key: &str, name: &str, look_up: Lookup<T>) -> Option<T> {
    look_up(name)
        .map_err(|why| {
            let problem = Problem::error(format!("`{}.{key}` names {name:?}, which can't be used", section.name()))
                .help("names are those of `getent passwd` and `getent group`; a number will do as well");
            section.problem_at(key, problem, why);
        })
        .ok()
}

/// The name of a user or of a group, or its number, in quotes.
struct Name(String);

impl Value for Name {
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let expected = "a name or a number in quotes, such as \"agents\"";
        match text(value, expected)? {
            "" => Err(Wrong::new("nobody is named").expected(expected)),
            name if name.contains('\0') => Err(Wrong::new("not a name").expected(expected)),
            name => Ok(Self(name.to_owned())),
        }
    }

    fn show(&self) -> toml::Value {
        self.0.as_str().into()
    }
}

/// Some of them.
struct Names(Vec<String>);

impl Value for Names {
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let all = value.as_array().ok_or_else(|| Wrong::found(value, "an array of names such as [\"shop\"]"))?;
        all.iter().map(|one| Name::read(one.get_ref()).map(|Name(name)| name)).collect::<Result<_, _>>().map(Self)
    }

    fn show(&self) -> toml::Value {
        self.0.clone().into()
    }
}

/// What somebody may do: at least something.
struct Rights(Vec<Right>);

impl Value for Rights {
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let words: Vec<_> = Right::WORDS.iter().map(|(word, _)| *word).collect();
        let expected = format!("an array of {}", near::list(&words, '"'));
        let all = value.as_array().ok_or_else(|| Wrong::found(value, &expected))?;
        if all.is_empty() {
            return Err(Wrong::new("nothing is allowed").expected(&expected));
        }
        all.iter().map(|one| Right::read(one.get_ref())).collect::<Result<_, _>>().map(Self)
    }

    fn show(&self) -> toml::Value {
        self.0.iter().map(Value::show).collect::<Vec<_>>().into()
    }
}
