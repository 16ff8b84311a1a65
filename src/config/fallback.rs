//! `[use_cases.NAME.fallback]`: what is called with each grant of a use case, tried on a sample before any message is.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::de::DeValue;

use super::civil::Positive;
use super::env::Env;
use super::report::Problem;
use super::section::Section;
use super::sections::{clear, secret, size};
use super::value::{Choice, Count, SecretFile, Target, Value, Wrong, text};
use crate::fallback::{Method, Request, Spec, Template, Way, check_header};

/// The keys that only a request has.
const OF_REQUESTS: [&str; 4] = ["method", "headers", "header_files", "body"];
/// What says that a header's value is a secret.
const SECRET: [&str; 8] = ["authorization", "cookie", "token", "secret", "password", "api-key", "apikey", "auth"];

/// The hook, if the section makes one.
pub(super) fn read(section: &mut Section<'_>, env: &Env) -> Option<Spec> {
    let command = section.find::<Command>("command").map(|Command(argv)| argv);
    let url = section.find("url").map(|Target(url)| url);
    // A command has no use for these, not even for their defaults.
    let has_url = section.span("url").is_some();
    let method = of_request(section, has_url, "method", Method::Post);
    let headers = of_request(section, has_url, "headers", Headers(BTreeMap::new())).0;
    let header_files = of_request(section, has_url, "header_files", HeaderFiles(BTreeMap::new())).0;
    let header_files = header_files
        .into_iter()
        .filter_map(|(name, file)| Some((name, secret(section, env, "header_files", file)?)))
        .collect();
    let body = section.find::<Body>("body").map(|Body(template)| template);
    let timeout = section.get("timeout", Positive(Duration::from_secs(10))).0;
    let calls_max = size(section.get("calls_max", Count(8)));
    clear(section, "url", url.as_ref());
    match (section.span("url"), section.span("command")) {
        (None, None) => {
            let problem = Problem::error(format!("nothing to call in [{}]", section.name()))
                .help("give it url = \"https://…\", or command = [\"/usr/local/bin/send-sms\"]");
            section.problem_at("timeout", problem, "neither `url` nor `command`");
        }
        (Some(_), Some(_)) => {
            let problem = Problem::error(format!("two things to call in [{}]", section.name()));
            section.problem_at("command", problem.help("keep the one that is meant"), "besides `url`");
        }
        (None, Some(_)) => {
            for key in OF_REQUESTS.into_iter().filter(|key| section.span(key).is_some()).collect::<Vec<_>>() {
                let problem = Problem::error(format!("`{key}` without `url`"));
                section.problem_at(key, problem, "a command gets the grant on its standard input");
            }
        }
        (Some(_), None) => {}
    }
    let way = match (url, command) {
        (Some(url), _) => Way::Http(Request { method, url, headers, header_files, body }),
        (None, Some(argv)) => Way::Command(argv),
        (None, None) => return None,
    };
    Some(Spec { way, timeout, calls_max })
}

fn of_request<T: Value>(section: &mut Section<'_>, has_url: bool, key: &'static str, default: T) -> T {
    if has_url { section.get(key, default) } else { section.find(key).unwrap_or(default) }
}

impl Choice for Method {
    const WORDS: &'static [(&'static str, Self)] = &[("POST", Self::Post), ("PUT", Self::Put), ("PATCH", Self::Patch)];
}

/// A program by its full path, and its arguments.
struct Command(Vec<String>);

impl Value for Command {
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let expected = "a program and its arguments, such as [\"/usr/local/bin/send-sms\", \"--once\"]";
        let all = value.as_array().ok_or_else(|| Wrong::found(value, expected))?;
        let argv =
            all.iter().map(|one| text(one.get_ref(), expected).map(str::to_owned)).collect::<Result<Vec<_>, _>>()?;
        match argv.first() {
            Some(program) if program.starts_with('/') && !argv.iter().any(|one| one.contains('\0')) => Ok(Self(argv)),
            Some(_) => Err(Wrong::new("not absolute").help("no shell looks for it: write the program's full path")),
            None => Err(Wrong::new("empty").expected(expected)),
        }
    }

    fn show(&self) -> toml::Value {
        self.0.clone().into()
    }
}

/// Headers that anybody may read.
struct Headers(BTreeMap<String, String>);

impl Value for Headers {
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let expected = "a table of strings, such as { Accept = \"application/json\" }";
        pairs(value, expected, |name, value| {
            let value = text(value, expected)?;
            if SECRET.iter().any(|word| name.to_ascii_lowercase().contains(word)) {
                let help = format!("put its value into a file: header_files = {{ {name} = \"/etc/revoked/…\" }}");
                return Err(Wrong::new(format!("{name} looks like a secret")).help(help).secret());
            }
            check_header(name, value).map_err(Wrong::new)?;
            Ok(value.to_owned())
        })
        .map(Self)
    }

    fn show(&self) -> toml::Value {
        let shown = self.0.iter().map(|(name, value)| (name.clone(), value.as_str().into()));
        toml::Value::Table(shown.collect())
    }
}

/// Headers whose values are in files.
struct HeaderFiles(BTreeMap<String, SecretFile>);

impl Value for HeaderFiles {
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let expected = "a table of paths, such as { Authorization = \"/etc/revoked/sms-authorization\" }";
        pairs(value, expected, |name, value| {
            check_header(name, "").map_err(Wrong::new)?;
            SecretFile::read(value)
        })
        .map(Self)
    }

    fn show(&self) -> toml::Value {
        toml::Value::Table(self.0.iter().map(|(name, path)| (name.clone(), path.show())).collect())
    }
}

fn pairs<T>(
    value: &DeValue<'_>,
    expected: &str,
    read: impl Fn(&str, &DeValue<'_>) -> Result<T, Wrong>,
) -> Result<BTreeMap<String, T>, Wrong> {
    let table = value.as_table().ok_or_else(|| Wrong::found(value, expected))?;
    table.iter().map(|(name, value)| Ok((name.get_ref().to_string(), read(name.get_ref(), value.get_ref())?))).collect()
}

/// A template that was tried.
struct Body(Template);

impl Value for Body {
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let template = text(value, "a template of the body")?;
        let names =
            "grantId, phone, fallback, messageId, agentId, useCase, outcome, tags, sendTime, deadline, validUntil";
        Template::new(template).map(Self).map_err(|why| Wrong::new(why).help(format!("a template knows {names}")))
    }

    fn show(&self) -> toml::Value {
        self.0.text().into()
    }
}
