//! The types that a value of the file can have: each read from TOML in one way, and written back so that it reads the
//! same.
//!
//! What is always wrong for a type is refused here (a count of nothing, a path that depends on where the daemon was
//! started). What depends on other keys is judged where the section is read. Times are in `civil.rs`.

use std::net::SocketAddr;
use std::path::PathBuf;

use bytesize::ByteSize;
use toml::de::DeValue;
use tracing_subscriber::EnvFilter;
use url::{Host, Url};

use super::near;
use crate::model::{AgentId, AppliesTo, Missed, OnUnknown, Region, TrafficType};

/// Something that can stand behind a `=`.
pub(super) trait Value: Sized {
    /// From what stands there.
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong>;
    /// As it would be written; reading that gives the same again.
    fn show(&self) -> toml::Value;
}

/// Why something can't stand there.
#[derive(Debug)]
pub(super) struct Wrong {
    /// Stands under the value, so it had better be short.
    pub(super) label: String,
    /// The remedy, or what was expected instead, where the label doesn't say it all.
    pub(super) help: Option<String>,
    /// What stands there is not to be shown.
    pub(super) secret: bool,
}

impl Wrong {
    pub(super) fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), help: None, secret: false }
    }

    /// Another type was expected.
    pub(super) fn found(value: &DeValue<'_>, expected: &str) -> Self {
        let article = if value.is_integer() || value.is_array() { "an" } else { "a" };
        Self::new(format!("found {article} {}", value.type_str())).expected(expected)
    }

    /// The type is right, but something else was expected.
    pub(super) fn expected(self, expected: &str) -> Self {
        self.help(format!("expected {expected}"))
    }

    /// What stands there is a secret: its line is told, and not shown.
    pub(super) fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

/// The text of a string; any other type is told what was expected.
pub(super) fn text<'a>(value: &'a DeValue<'_>, expected: &str) -> Result<&'a str, Wrong> {
    value.as_str().ok_or_else(|| Wrong::found(value, expected))
}

impl Value for bool {
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        value.as_bool().ok_or_else(|| Wrong::found(value, "true or false"))
    }

    fn show(&self) -> toml::Value {
        (*self).into()
    }
}

/// How many of something, at least one: each of these is a limit, and nothing works with a limit of none.
#[derive(Clone, Copy)]
pub(super) struct Count(pub(super) u32);

impl Value for Count {
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let expected = format!("a whole number from 1 to {}", u32::MAX);
        let Some(number) = value.as_integer() else { return Err(Wrong::found(value, &expected)) };
        match u32::from_str_radix(number.as_str(), number.radix()) {
            Ok(count) if count > 0 => Ok(Self(count)),
            _ => Err(Wrong::new("out of range").expected(&expected)),
        }
    }

    fn show(&self) -> toml::Value {
        i64::from(self.0).into()
    }
}

/// A number of bytes, written with its unit, at least one.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Bytes(pub(super) usize);

impl Value for Bytes {
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let expected = "a size such as \"64MiB\"";
        let text = text(value, expected)?;
        let size = text.parse::<ByteSize>().map_err(|_| Wrong::new("not a size").expected(expected))?;
        match usize::try_from(size.as_u64()) {
            Ok(bytes) if bytes > 0 => Ok(Self(bytes)),
            _ => Err(Wrong::new("out of range").expected("at least one byte")),
        }
    }

    fn show(&self) -> toml::Value {
        let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match units.into_iter().find(|(_, size)| self.0.is_multiple_of(*size)) {
            Some((unit, size)) => format!("{}{unit}", self.0 / size).into(),
            None => format!("{}B", self.0).into(),
        }
    }
}

/// Absolute: a relative one would mean something else wherever the daemon is started.
impl Value for PathBuf {
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let text = text(value, "a path")?;
        if !text.starts_with('/') || text.contains('\0') {
            return Err(Wrong::new("not absolute").expected("a path that begins with '/'"));
        }
        Ok(text.into())
    }

    fn show(&self) -> toml::Value {
        // Lossless for what was read from the file; a path from the environment that isn't UTF-8 can only be shown.
        self.to_string_lossy().into_owned().into()
    }
}

/// A file with something secret in it: a path, or the name it has in systemd's `$CREDENTIALS_DIRECTORY`.
#[derive(Clone)]
pub(super) struct SecretFile(pub(super) PathBuf);

impl Value for SecretFile {
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let expected = "a path that begins with '/', or the name of a credential of systemd (LoadCredential=)";
        let text = text(value, expected)?;
        // systemd.exec(5): the name of a credential is the name of a file.
        let is_name = !text.is_empty() && !text.contains('/') && text != "." && text != "..";
        if text.contains('\0') || !(text.starts_with('/') || is_name) {
            return Err(Wrong::new("neither absolute nor a plain name").expected(expected));
        }
        Ok(Self(text.into()))
    }

    fn show(&self) -> toml::Value {
        self.0.show()
    }
}

impl Value for Vec<SecretFile> {
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let expected = "an array of paths, or of names of credentials of systemd";
        let all = value.as_array().ok_or_else(|| Wrong::found(value, expected))?;
        all.iter().map(|one| SecretFile::read(one.get_ref())).collect()
    }

    fn show(&self) -> toml::Value {
        self.iter().map(Value::show).collect::<Vec<_>>().into()
    }
}

/// Agents by their ids, each once.
impl Value for Vec<AgentId> {
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let expected = "an array of agent ids such as [\"welcome-bot\"]";
        let all = value.as_array().ok_or_else(|| Wrong::found(value, expected))?;
        let mut agents = Vec::new();
        for one in all {
            let agent =
                AgentId::new(text(one.get_ref(), expected)?).map_err(|why| Wrong::new("not agent ids").help(why))?;
            if agents.contains(&agent) {
                return Err(Wrong::new(format!("\"{agent}\" is named twice")));
            }
            agents.push(agent);
        }
        if agents.is_empty() { Err(Wrong::new("nobody is named").expected(expected)) } else { Ok(agents) }
    }

    fn show(&self) -> toml::Value {
        self.iter().map(|agent| toml::Value::from(agent.as_str())).collect::<Vec<_>>().into()
    }
}

/// The permission bits of a file, in octal as for chmod.
#[derive(Clone, Copy)]
pub(super) struct Mode(pub(super) u32);

impl Value for Mode {
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let expected = "octal permissions in quotes, such as \"0660\"";
        let text = text(value, expected)?;
        let octal = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
        match u32::from_str_radix(text, 8) {
            Ok(mode) if octal && mode <= 0o777 => Ok(Self(mode)),
            _ => Err(Wrong::new("not permissions").expected(expected)),
        }
    }

    fn show(&self) -> toml::Value {
        format!("{:04o}", self.0).into()
    }
}

/// The base of all requests to the platform. They carry a bearer token, so plain http only where nobody can listen.
impl Value for Url {
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let text = text(value, "a URL")?;
        let url = Self::parse(text).map_err(|error| Wrong::new(format!("not a URL: {error}")))?;
        match url.scheme() {
            "https" => {}
            "http" if !in_the_clear(&url) => {}
            "http" => {
                return Err(Wrong::new("plain http to another machine")
                    .help("the access token would go over the wire in the clear: use https, or a loopback address"));
            }
            _ => {
                return Err(
                    Wrong::new("neither http nor https").expected("https://…, or http://… to a loopback address")
                );
            }
        }
        let user = !url.username().is_empty() || url.password().is_some();
        if user || url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(Wrong::new("more than a host and a port")
                .help(format!("write \"{}\"", url.origin().ascii_serialization())));
        }
        Ok(url)
    }

    fn show(&self) -> toml::Value {
        self.as_str().trim_end_matches('/').into()
    }
}

/// Whether what is sent there can be read on the way.
pub(super) fn in_the_clear(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "http" && !loopback
}

/// Somebody else's address for requests of ours: with a path, and with nothing secret in it.
pub(super) struct Target(pub(super) Url);

impl Value for Target {
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let expected = "a URL such as \"http://127.0.0.1:3000/rbm\"";
        let url = Url::parse(text(value, expected)?).map_err(|error| Wrong::new(format!("not a URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(Wrong::new("neither http nor https").expected(expected));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Wrong::new("it holds a password").help("nothing secret belongs into this file").secret());
        }
        Ok(Self(url))
    }

    fn show(&self) -> toml::Value {
        self.0.as_str().into()
    }
}

/// An address and a port to listen on.
pub(super) struct Listen(pub(super) SocketAddr);

impl Value for Listen {
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let expected = "an address and a port such as \"127.0.0.1:8480\"";
        text(value, expected)?.parse().map(Self).map_err(|_| Wrong::new("not an address").expected(expected))
    }

    fn show(&self) -> toml::Value {
        self.0.to_string().into()
    }
}

/// What goes to the log: a level, or levels by module.
pub(super) struct Directives(pub(super) String);

impl Value for Directives {
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
        let expected = "a level such as \"info\" or \"info,revoked::platform=debug\"";
        let text = text(value, expected)?;
        // The filter takes any lone word for the name of a module, so that "inof" would silence all the others.
        for word in text.split(',').map(str::trim).filter(|word| !word.contains(['=', '['])) {
            if !LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word)) {
                let wrong = Wrong::new("not a level");
                return Err(match near::nearest(word, LEVELS) {
                    Some(level) => wrong.help(format!("did you mean \"{level}\"?")),
                    None => wrong.expected(expected),
                });
            }
        }
        EnvFilter::try_new(text).map_err(|error| Wrong::new(error.to_string()))?;
        Ok(Self(text.to_owned()))
    }

    fn show(&self) -> toml::Value {
        self.0.as_str().into()
    }
}

/// One of a few words.
pub(super) trait Choice: Copy + PartialEq + 'static {
    /// Each with its word.
    const WORDS: &'static [(&'static str, Self)];
}

impl<T: Choice> Value for T {
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let words: Vec<_> = T::WORDS.iter().map(|(word, _)| *word).collect();
        let expected = near::list(&words, '"');
        let text = text(value, &expected)?;
        if let Some((_, choice)) = T::WORDS.iter().find(|(word, _)| *word == text) {
            return Ok(*choice);
        }
        let wrong = Wrong::new("not one of the choices");
        Err(match near::nearest(text, words) {
            Some(word) => wrong.help(format!("did you mean \"{word}\"?")),
            None => wrong.expected(&expected),
        })
    }

    fn show(&self) -> toml::Value {
        let named = T::WORDS.iter().find(|(_, choice)| choice == self);
        named.map_or("", |(word, _)| *word).into()
    }
}

impl Choice for Region {
    const WORDS: &'static [(&'static str, Self)] =
        &[("global", Self::Global), ("us", Self::Us), ("europe", Self::Europe), ("asia", Self::Asia)];
}

impl Choice for TrafficType {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("authentication", Self::Authentication),
        ("transaction", Self::Transaction),
        ("servicerequest", Self::ServiceRequest),
        ("acknowledgement", Self::Acknowledgement),
        ("promotion", Self::Promotion),
    ];
}

impl Choice for OnUnknown {
    const WORDS: &'static [(&'static str, Self)] = &[("send", Self::Send), ("hold", Self::Hold), ("drop", Self::Drop)];
}

impl Choice for Missed {
    const WORDS: &'static [(&'static str, Self)] = &[("revoke", Self::Revoke), ("moot", Self::Moot)];
}

impl Choice for AppliesTo {
    const WORDS: &'static [(&'static str, Self)] = &[("pending", Self::Pending), ("new", Self::New)];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Value>(text: &str) -> Result<T, Wrong> {
        T::read(DeValue::parse(text).unwrap().get_ref())
    }

    #[test]
    fn sizes_survive_being_written_and_read() {
        for (text, bytes, shown) in [
            ("1MiB", 1 << 20, "1MiB"),
            ("1.5 MiB", 3 << 19, "1536KiB"),
            ("1MB", 1_000_000, "1000000B"),
            ("4096", 4096, "4KiB"),
        ] {
            let size: Bytes = read(&format!("{text:?}")).unwrap();
            assert_eq!(size, Bytes(bytes));
            assert_eq!(size.show().as_str(), Some(shown));
            assert_eq!(read::<Bytes>(&size.show().to_string()).unwrap(), size);
        }
        for wrong in ["0", "-1MiB", "MiB", "1 elephant", ""] {
            assert!(read::<Bytes>(&format!("{wrong:?}")).is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn plain_http_reaches_no_other_machine() {
        for right in ["https://rbm.example", "http://127.0.0.1:8470", "http://[::1]:1/", "http://localhost"] {
            assert!(read::<Url>(&format!("{right:?}")).is_ok(), "{right} was refused");
        }
        for wrong in [
            "http://rbm.example",
            "http://localhost.example",
            "http://0.0.0.0",
            "ftp://127.0.0.1",
            "https://rbm.example/v1",
            "https://me@rbm.example",
            "https://rbm.example/?a",
            "rbm.example",
            "",
        ] {
            assert!(read::<Url>(&format!("{wrong:?}")).is_err(), "{wrong} was accepted");
        }
    }

    #[test]
    fn a_log_level_with_a_slip_is_not_the_name_of_a_module() {
        for right in ["info", "WARN", "info,revoked::platform=debug", "off,revoked[span]=trace"] {
            assert!(read::<Directives>(&format!("{right:?}")).is_ok(), "{right} was refused");
        }
        for wrong in ["inof", "info,platform", "", "info,,warn", "revoked=loud"] {
            assert!(read::<Directives>(&format!("{wrong:?}")).is_err(), "{wrong} was accepted");
        }
    }
}
