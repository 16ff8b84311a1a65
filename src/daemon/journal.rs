//! The log as journald keeps it: each field by itself, so that `journalctl USE_CASE=otp OUTCOME=FAILED` finds what it is about.
//!
//! Our own rather than tracing-journald: that one has no `MESSAGE_ID=` per kind of event, one prefix for all fields, and shows
//! people the sentence without what it is about. The protocol is systemd's native one (systemd.io/JOURNAL_NATIVE_PROTOCOL).
//!
//! An event is of a kind if it has a name (`info!(name: "rests", …)`); a kind keeps its id for ever.

use std::fmt::{Debug, Write as _};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Where journald listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// As much of one value as is kept: a datagram has its bounds.
const VALUE_BYTES_MAX: usize = 16 * 1024;

/// The kinds of events, and the `MESSAGE_ID=` of each. New ones by `systemd-id128 new`.
const KINDS: [(&str, &str); 32] = [
    ("ready", "79107fe96cf4405c8e8d856eeda33d43"),
    ("stopping", "97cb855967df4dd6a518a4c7178a45ca"),
    ("stopped", "4c0f387c029045b3accaafda50b8e816"),
    ("store_open", "a149ec48ed4c42b7946eb7ef82a0f6cf"),
    ("shadow_mode", "79e06fcf9a1346359fc10dcccf2ef280"),
    ("config_taken", "2c0ea58beabb45f7839b8fea4a4aa663"),
    ("config_refused", "51a9bfd6b0434db385533d5ea0db65db"),
    ("rests", "0db451b60d9f4b35aa073acbd7768991"),
    ("goes_on", "85f3c13acfad418fac10812308a5cce7"),
    ("falls_behind", "cdcd562bb4fe414da6b9e69d9d770ff8"),
    ("catches_up", "58bece562cc34793af5b750dd60b7da7"),
    ("disk_fails", "98036afe53d646d1ac2b012ee9a62c35"),
    ("disk_well", "7654d32ec1bd44758f3eaf4b69e5e21e"),
    ("store_unreadable", "7dbea18250164726b46bfc0369fc521f"),
    ("store_readable", "a5038e10a7fa441680ff7f6048c62eb4"),
    ("store_spent", "eff1649b4b654498a91c72be876c2123"),
    ("store_panics", "dad45f2a4a1346ca8d76a781f0376228"),
    ("hook_fails", "fb99adf6bbda461c88c5a069d6ab95ba"),
    ("hook_takes", "405cb1db09f84a09847dc35b684a5845"),
    ("grants_void", "4d1a33aa85624a4e974cd70148609fdd"),
    ("outcomes_lost", "d3d00bfc510e4a5ca9bf8eda1cd77361"),
    ("held", "3c175d0c2f3e45ba9b4850417784be0f"),
    ("released", "c93df0a3eeba45ba9afa8f5477489916"),
    ("recalled", "36c898e9bd1b4c5e9b12b8c816a3b115"),
    ("recall_ended", "2ff164dc0c0f4bbcb0172e78cc71eeb2"),
    ("forged_pushes", "1722c7312b5648a8a29d0e54e0f6babc"),
    ("answered", "853d451026a84307860fdad3ec342e5a"),
    ("told", "cdfd0418153346518c598e3b074244e0"),
    ("stands_still", "adbf41b8d6f844ac9908389e2afa8951"),
    ("moves_again", "7e605eba632e407eab3847f21eef9ae1"),
    ("forward_fails", "b069e31162a847c881b83c01f8103e71"),
    ("forward_takes", "16a6c97123a548d1a943dd8b3cc2b472"),
];

/// Fields that have this name in the journal. All others get `REVOKED_` before theirs, so that they are not taken for others'.
const NAMES: [(&str, &str); 3] = [("use_case", "USE_CASE"), ("outcome", "OUTCOME"), ("message_hash", "MESSAGE_HASH")];

/// Sends events to journald.
pub(super) struct Journal {
    socket: UnixDatagram,
    /// Sent to anew each time, and not connected: journald may be restarted.
    path: PathBuf,
}

impl Journal {
    /// One whose journald listens there.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // Whoever logs does not wait for a journal that is stuck.
        socket.set_nonblocking(true)?;
        // Whether anybody is there: an entry without fields is none.
        socket.send_to(b"", path)?;
        Ok(Self { socket, path: path.to_owned() })
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let entry = Entry::of(event);
        if self.socket.send_to(&entry.bytes, &self.path).is_err() {
            // Standard error is the journal's as well, and takes what is a line.
            anstream::eprintln!("{}", entry.line);
        }
    }
}

/// An entry of the journal.
struct Entry {
    bytes: Vec<u8>,
    /// What people read of it: the sentence, and what it is about.
    line: String,
}

impl Entry {
    fn of(event: &Event<'_>) -> Self {
        let found = event.metadata();
        let mut fields = Fields {
            target: found.target().to_owned(),
            file: found.file().map(str::to_owned),
            line: found.line().map(|line| line.to_string()),
            ..Fields::default()
        };
        event.record(&mut fields);
        let Fields { mut bytes, sentence, about, target, file, line: code_line } = fields;
        let line = sentence + &about;
        put(&mut bytes, "MESSAGE", &line);
        put(&mut bytes, "PRIORITY", priority(*found.level()));
        put(&mut bytes, "SYSLOG_IDENTIFIER", "revoked");
        put(&mut bytes, "REVOKED_TARGET", &target);
        if let Some((_, id)) = KINDS.iter().find(|(name, _)| *name == found.name()) {
            put(&mut bytes, "MESSAGE_ID", id);
        }
        if let (Some(file), Some(line)) = (file, code_line) {
            put(&mut bytes, "CODE_FILE", &file);
            put(&mut bytes, "CODE_LINE", &line);
        }
        Self { bytes, line }
    }
}

#[derive(Default)]
struct Fields {
    bytes: Vec<u8>,
    sentence: String,
    about: String,
    target: String,
    file: Option<String>,
    line: Option<String>,
}

impl Fields {
    fn take(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.sentence),
            // What libraries say by way of the crate `log` has where it comes from in fields; the event's own is that of the bridge.
            "log.target" => value.clone_into(&mut self.target),
            "log.file" => self.file = Some(value.to_owned()),
            "log.line" => self.line = Some(value.to_owned()),
            "log.module_path" => {}
            name => {
                // Writing to a string does not fail.
                let _ = write!(self.about, " {name}={value}");
                match NAMES.iter().find(|(ours, _)| *ours == name) {
                    Some((_, name)) => put(&mut self.bytes, name, value),
                    // journald drops a name with anything else in it.
                    None => {
                        let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "_").to_ascii_uppercase();
                        put(&mut self.bytes, &format!("REVOKED_{name}"), value);
                    }
                }
            }
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.take(field, &format!("{value:?}"));
    }
}

/// One field; a value of several lines goes by its length.
fn put(bytes: &mut Vec<u8>, name: &str, value: &str) {
    let value = &value[..value.floor_char_boundary(VALUE_BYTES_MAX)];
    bytes.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        bytes.push(b'\n');
        bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        bytes.push(b'=');
    }
    bytes.extend_from_slice(value.as_bytes());
    bytes.push(b'\n');
}

/// As syslog counts them.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    fn read(mut bytes: &[u8]) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        while let Some(end) = bytes.iter().position(|byte| matches!(byte, b'=' | b'\n')) {
            let (name, rest) = (text(&bytes[..end]), &bytes[end + 1..]);
            let (value, next) = if bytes[end] == b'=' {
                let end = rest.iter().position(|byte| *byte == b'\n').unwrap();
                (&rest[..end], &rest[end + 1..])
            } else {
                let (length, rest) = rest.split_at(8);
                let length = usize::try_from(u64::from_le_bytes(length.try_into().unwrap())).unwrap();
                (&rest[..length], &rest[length + 1..])
            };
            assert!(fields.insert(name, text(value)).is_none(), "one value each");
            bytes = next;
        }
        fields
    }

    #[test]
    fn an_event_arrives_field_by_field_and_reads_as_a_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let journald = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::open(&path).unwrap();
        let mut bytes = vec![0; 64 * 1024];
        assert_eq!(journald.recv(&mut bytes).unwrap(), 0, "whether it is there");
        let subscriber = tracing_subscriber::registry().with(journal);
        tracing::subscriber::with_default(subscriber, || {
            let (agent, use_case) = ("shop", "otp");
            tracing::warn!(name: "rests", %agent, %use_case, outcome = "REVOKED", message_hash = "00ff", "no requests");
            tracing::error!(error = "line 1\nline 2", "of several lines");
            tracing::info!(words = "é".repeat(VALUE_BYTES_MAX), "much");
            let (target, file) = ("rustls::hs", "hs.rs");
            tracing::info!(
                log.target = target,
                log.module_path = target,
                log.file = file,
                log.line = 7,
                a.b = 1,
                "said"
            );
        });
        let mut next = || {
            let read_bytes = journald.recv(&mut bytes).unwrap();
            read(&bytes[..read_bytes])
        };
        let entry = next();
        let wanted = [
            ("MESSAGE", "no requests agent=shop use_case=otp outcome=REVOKED message_hash=00ff"),
            ("PRIORITY", "4"),
            ("REVOKED_AGENT", "shop"),
            ("USE_CASE", "otp"),
            ("OUTCOME", "REVOKED"),
            ("MESSAGE_HASH", "00ff"),
            ("SYSLOG_IDENTIFIER", "revoked"),
            ("MESSAGE_ID", KINDS[7].1),
            ("CODE_FILE", file!()),
        ];
        for (name, value) in wanted {
            assert_eq!(entry.get(name).map(String::as_str), Some(value), "{name} in {entry:?}");
        }
        let entry = next();
        assert_eq!(entry["REVOKED_ERROR"], "line 1\nline 2");
        assert_eq!((entry["PRIORITY"].as_str(), entry.get("MESSAGE_ID")), ("3", None), "{entry:?}");
        assert_eq!(next()["REVOKED_WORDS"].len(), VALUE_BYTES_MAX);
        let entry = next();
        let found =
            ["MESSAGE", "REVOKED_TARGET", "CODE_FILE", "CODE_LINE", "REVOKED_A_B"].map(|name| entry[name].as_str());
        assert_eq!(found, ["said a.b=1", "rustls::hs", "hs.rs", "7", "1"], "as the crate `log` has it");
        assert!(!entry.keys().any(|name| name.starts_with("REVOKED_LOG")), "{entry:?}");
    }

    #[test]
    fn without_a_journald_there_is_no_journal() {
        assert!(Journal::open(Path::new("/nowhere/socket")).is_err());
    }

    /// The names that events have in the source, and no others, are kinds with an id of their own.
    #[test]
    fn every_named_event_is_a_kind_and_every_kind_an_event() {
        fn names(directory: &Path, found: &mut BTreeSet<String>) {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    names(&path, found);
                } else if path.file_name() != Path::new(file!()).file_name() {
                    let text = std::fs::read_to_string(&path).unwrap();
                    let named = text.match_indices("name: \"").map(|(at, begin)| &text[at + begin.len()..]);
                    found.extend(named.filter_map(|rest| rest.split('"').next()).map(str::to_owned));
                }
            }
        }
        let mut found = BTreeSet::new();
        for room in ["engine", "daemon", "store", "intake"] {
            names(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(room), &mut found);
        }
        let kinds: BTreeSet<_> = KINDS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(found, kinds);
        let ids: BTreeSet<_> = KINDS.iter().map(|(_, id)| id).collect();
        assert_eq!(ids.len(), KINDS.len());
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())));
    }
}
