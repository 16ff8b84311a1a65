//! Each section of the file but the use cases: its values, their defaults, and what must hold between them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::access;
use super::civil::Positive;
use super::env::Env;
use super::report::Problem;
use super::section::Section;
use super::value::{Bytes, Choice, Count, Directives, Listen, Mode as Permissions, SecretFile, Target, in_the_clear};
use crate::model::{AgentId, Region};

/// What the kernel takes for the path of a unix socket: `sun_path` less its final zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;

const MIB: usize = 1 << 20;

/// `[server]`: the socket that agents and `revokectl` talk to.
#[derive(Clone, PartialEq, Debug)]
pub struct Server {
    /// Where it is.
    pub socket: PathBuf,
    /// Its permission bits: who may connect.
    pub socket_mode: u32,
    /// Whose it is, if not the daemon's own: user and group.
    pub socket_owner: (Option<u32>, Option<u32>),
    /// The longest body of a request about one message.
    pub request_bytes_max: usize,
    /// The longest body of a batch.
    pub batch_bytes_max: usize,
    /// How many connections are served at a time.
    pub clients_max: usize,
    /// Whether a changed file is taken over by itself.
    pub watch_config: bool,
}

impl Server {
    pub(super) fn read(section: &mut Section<'_>, env: &Env) -> Self {
        let server = Self {
            socket: section.get_or("socket", env.socket()),
            socket_mode: section.get("socket_mode", Permissions(0o660)).0,
            socket_owner: (
                access::resolve(section, "socket_user", env.user),
                access::resolve(section, "socket_group", env.group).map(|group| group.gid),
            ),
            request_bytes_max: section.get("request_bytes_max", Bytes(MIB)).0,
            batch_bytes_max: section.get("batch_bytes_max", Bytes(16 * MIB)).0,
            clients_max: size(section.get("clients_max", Count(1024))),
            watch_config: section.get("watch_config", false),
        };
        let length = server.socket.as_os_str().len();
        if length > SOCKET_PATH_BYTES_MAX {
            let problem = Problem::error("`server.socket` is too long for a unix socket");
            let help = format!("it has {length} bytes; the kernel takes {SOCKET_PATH_BYTES_MAX}");
            section.problem_at("socket", problem.help(help), "too long");
        }
        if server.socket_mode & 0o002 != 0 {
            let problem = Problem::warning("everybody on this machine may use the socket")
                .help("\"0660\" and the agents in `socket_group` let in only them; or say who may do what in [access]");
            section.problem_at("socket_mode", problem, "anybody can register and revoke");
        }
        if server.batch_bytes_max < server.request_bytes_max {
            let problem = Problem::error("a batch may be no smaller than a single request");
            section.problem_at("batch_bytes_max", problem, "less than `request_bytes_max`");
        }
        server
    }
}

/// `[store]`: where messages are kept.
#[derive(Clone, PartialEq, Debug)]
pub struct Store {
    /// Its directory.
    pub path: PathBuf,
    /// How much memory it may use for its pages, and half as much for what was written lately.
    pub cache: usize,
    /// What a registration waits for.
    pub durability: Durability,
}

impl Store {
    pub(super) fn read(section: &mut Section<'_>, env: &Env) -> Self {
        Self {
            path: section.get_or("path", env.store()),
            cache: section.get("cache", Bytes(256 * MIB)).0,
            durability: section.get("durability", Durability::Disk),
        }
    }
}

/// What an acknowledged registration survives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Loss of power: the answer waits for the disk.
    Disk,
    /// The end of the process, not of the machine: the answer waits for the kernel.
    Process,
}

impl Choice for Durability {
    const WORDS: &'static [(&'static str, Self)] = &[("disk", Self::Disk), ("process", Self::Process)];
}

/// `[platform]`: how the RBM platform is reached.
#[derive(Clone, PartialEq, Debug)]
pub struct Platform {
    /// Whether anything is revoked at all.
    pub mode: Mode,
    /// The key of the service account for all agents that no account names, a JSON file.
    pub credentials: Option<PathBuf>,
    /// Accounts of other partners.
    pub accounts: Vec<Account>,
    /// In place of Google's hosts: the sandbox, or a gateway. Scheme, host and port only.
    pub endpoint: Option<Url>,
    /// Certificates to trust besides those of the system, in PEM.
    pub ca_file: Option<PathBuf>,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long a request may take, its connection included.
    pub request_timeout: Duration,
    /// The region of messages that are registered without one.
    pub default_region: Region,
}

/// `[platform.accounts.NAME]`: a service account that speaks for some agents only.
#[derive(Clone, PartialEq, Debug)]
pub struct Account {
    /// Its key, a JSON file.
    pub credentials: PathBuf,
    /// For whom it speaks.
    pub agents: Vec<AgentId>,
}

impl Platform {
    pub(super) fn read(section: &mut Section<'_>, env: &Env) -> Self {
        let mode = section.get("mode", Mode::Live);
        let mut platform = Self {
            mode,
            credentials: credentials(section, env, mode),
            accounts: Vec::new(),
            endpoint: section.find("endpoint"),
            ca_file: section.find("ca_file"),
            connect_timeout: section.get("connect_timeout", Positive(Duration::from_secs(5))).0,
            request_timeout: section.get("request_timeout", Positive(Duration::from_secs(20))).0,
            default_region: section.get("default_region", Region::Global),
        };
        if let Some(path) = &platform.ca_file {
            readable(section, env, "ca_file", path);
        }
        if platform.connect_timeout > platform.request_timeout {
            let problem = Problem::error("a connection can't take longer than its request");
            section.problem_at("connect_timeout", problem, "more than `request_timeout`");
        }
        let mut named = BTreeMap::new();
        let accounts = section.tables("accounts", |account| Account::read(account, env, &mut named));
        platform.accounts = accounts.into_iter().flatten().collect();
        platform
    }
}

/// Whether the platform is asked to revoke.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Mode {
    /// It is.
    Live,
    /// Everything but that: what would have been revoked is recorded.
    Shadow,
}

impl Choice for Mode {
    const WORDS: &'static [(&'static str, Self)] = &[("live", Self::Live), ("shadow", Self::Shadow)];
}

impl Account {
    /// `None` if it is of no use, which has been reported then. `named` has the agents of the accounts before it.
    fn read(section: &mut Section<'_>, env: &Env, named: &mut BTreeMap<AgentId, String>) -> Option<Self> {
        let credentials = section.find("credentials").and_then(|file| secret(section, env, "credentials", file));
        let agents: Option<Vec<AgentId>> = section.find("agents");
        for key in ["credentials", "agents"] {
            if section.span(key).is_none() {
                let problem = Problem::error(format!("no `{key}` in [{}]", section.name())).help(
                    "an account is a key file and the agents it speaks for:\n\
                     credentials = \"/etc/revoked/brand.json\"\n\
                     agents = [\"brand-bot\"]",
                );
                section.problem_at(key, problem, format!("`{key}` is missing"));
            }
        }
        for agent in agents.iter().flatten() {
            if let Some(other) = named.insert(agent.clone(), section.name().to_owned()) {
                let problem = Problem::error(format!("two accounts for agent \"{agent}\""))
                    .help("strike it off one of them: each agent has one account");
                section.problem_at("agents", problem, format!("[{other}] names it as well"));
            }
        }
        Some(Self { credentials: credentials?, agents: agents? })
    }
}

/// The path of the key. There is always one in live mode, unless accounts speak for all agents: the sandbox checks its tokens as well.
fn credentials(section: &mut Section<'_>, env: &Env, mode: Mode) -> Option<PathBuf> {
    let accounts = section.span("accounts").is_some();
    // Beside accounts it need not be there.
    let default = env.credentials().filter(|(path, _)| !accounts || (env.readable)(path).is_ok());
    let file = match default {
        Some((path, origin)) => Some(section.get_or("credentials", (SecretFile(path), origin))),
        None => section.find("credentials"),
    };
    if mode == Mode::Shadow {
        // Nobody reads it.
        return None;
    }
    if let Some(file) = file {
        return secret(section, env, "credentials", file);
    }
    // A wrong one has been reported already.
    if !accounts && section.span("credentials").is_none() {
        let problem = Problem::error("no credentials for the platform").help(
            "set `credentials` in [platform] to the path of the service account's \
             key, or have systemd hand it over:\n\
             LoadCredential=service-account.json:/path/to/key.json",
        );
        section.problem_at("credentials", problem, "`credentials` is missing");
    }
    None
}

/// Where a secret file is, unless that can't be known; whether it can be read is checked.
pub(super) fn secret(section: &mut Section<'_>, env: &Env, key: &str, SecretFile(path): SecretFile) -> Option<PathBuf> {
    if path.is_absolute() {
        readable(section, env, key, &path);
        return Some(path);
    }
    let name = path.display();
    let Some(found) = env.credential(&path) else {
        let problem = Problem::error(format!("no credential \"{name}\": $CREDENTIALS_DIRECTORY is not set")).help(
            format!("write the whole path, or have systemd hand it over:\nLoadCredential={name}:/path/to/{name}"),
        );
        section.problem_at(key, problem, "only a name");
        return None;
    };
    readable(section, env, key, &found);
    Some(found)
}

/// `[pace]`: how hard the platform is pressed.
#[derive(Clone, PartialEq, Debug)]
pub struct Pace {
    /// Requests in flight, per agent and region.
    pub in_flight: usize,
    /// Requests per second, per agent and region: the most that the pace adapts itself up to.
    pub per_second: u32,
    /// Requests in flight, in all.
    pub in_flight_total: usize,
}

impl Pace {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let pace = Self {
            in_flight: size(section.get("in_flight", Count(64))),
            per_second: section.get("per_second", Count(200)).0,
            in_flight_total: size(section.get("in_flight_total", Count(512))),
        };
        if pace.in_flight > pace.in_flight_total {
            let problem = Problem::warning("`pace.in_flight` is never reached")
                .help(format!("`in_flight_total` is {}, for all agents and regions together", pace.in_flight_total));
            section.problem_at("in_flight", problem, "more than `in_flight_total`");
        }
        pace
    }
}

/// `[webhook]`: how events of the platform come in, and whether they are the platform's.
#[derive(Clone, PartialEq, Debug)]
pub struct Webhook {
    /// Where the platform's pushes are listened for.
    pub listen: Option<SocketAddr>,
    /// The certificate chain in PEM, where no proxy does TLS; and its key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Files with one client token each. Several: one per agent, or an old and a new one.
    pub client_token_files: Vec<PathBuf>,
    /// The agent's own webhook, which gets every push as well.
    pub forward_to: Option<Url>,
    /// Whether that one's answer is waited for.
    pub forward: ForwardMode,
}

/// How a push is passed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ForwardMode {
    /// The platform gets the answer of the agent's webhook.
    Answer,
    /// The platform gets ours; the agent's is not waited for.
    Background,
}

impl Choice for ForwardMode {
    const WORDS: &'static [(&'static str, Self)] = &[("answer", Self::Answer), ("background", Self::Background)];
}

impl Webhook {
    pub(super) fn read(section: &mut Section<'_>, env: &Env) -> Self {
        let listen = section.find("listen").map(|Listen(address)| address);
        let mut pem = |name| section.find(name).and_then(|file| secret(section, env, name, file));
        let (certificate, key) = (pem("tls_certificate"), pem("tls_key"));
        let tokens = section.get("client_token_files", Vec::new());
        let client_token_files: Vec<_> =
            tokens.into_iter().filter_map(|file| secret(section, env, "client_token_files", file)).collect();
        let forward_to = section.find("forward_to").map(|Target(url)| url);
        let forward = section.get("forward", ForwardMode::Answer);
        if listen.is_some() && client_token_files.is_empty() {
            let problem = Problem::error("a webhook without client tokens").help(
                "nothing that comes could be told from a forgery: put the clientToken of each agent \
                 into a file and name it in client_token_files",
            );
            section.problem_at("listen", problem, "`client_token_files` is missing");
        }
        for name in ["tls_certificate", "tls_key", "forward_to"] {
            if listen.is_none() && section.span("listen").is_none() && section.span(name).is_some() {
                let problem = Problem::error(format!("`{name}` without `listen`"));
                section.problem_at(name, problem, "there is no webhook it could be for");
            }
        }
        for (one, other) in [("tls_certificate", "tls_key"), ("tls_key", "tls_certificate")] {
            if section.span(one).is_some() && section.span(other).is_none() {
                section.problem_at(one, Problem::error(format!("`{one}` without `{other}`")), "one of two");
            }
        }
        if certificate.is_none() && listen.is_some_and(|address| !address.ip().is_loopback()) {
            let problem = Problem::warning("the webhook listens to other machines in the clear").help(
                "events hold phone numbers: set tls_certificate and tls_key, or listen on 127.0.0.1 behind a proxy",
            );
            section.problem_at("listen", problem, "plain http");
        }
        clear(section, "forward_to", forward_to.as_ref());
        Self { listen, tls: certificate.zip(key), client_token_files, forward_to, forward }
    }
}

/// `[metrics]`: where else Prometheus may look than on the socket.
#[derive(Clone, PartialEq, Debug)]
pub struct Metrics {
    /// Where it is listened for.
    pub listen: Option<SocketAddr>,
}

impl Metrics {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self { listen: section.find("listen").map(|Listen(address)| address) }
    }
}

/// Plain http to another machine is at times all there is, and had better be meant.
pub(super) fn clear(section: &mut Section<'_>, key: &str, url: Option<&Url>) {
    if url.is_some_and(in_the_clear) {
        let problem = Problem::warning(format!("plain http to another machine in `{}.{key}`", section.name()))
            .help("phone numbers, texts and keys would go over the wire in the clear");
        section.problem_at(key, problem, "not https");
    }
}

/// `[retention]`: how long what is over is kept.
#[derive(Clone, PartialEq, Debug)]
pub struct Retention {
    /// Settled messages, for events that come late.
    pub settled: Duration,
    /// Outcomes, at most; then the oldest go, fetched or not.
    pub outcomes: usize,
    /// Events for messages that nobody has registered yet.
    pub early_events: Duration,
    /// How many of those, at most.
    pub early_events_max: usize,
    /// Phones that have unsubscribed, at most; then those go that did so first.
    pub unsubscribed_max: usize,
}

impl Retention {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            settled: section.get("settled", Duration::from_secs(24 * 3600)),
            outcomes: size(section.get("outcomes", Count(1_000_000))),
            early_events: section.get("early_events", Duration::from_secs(3600)),
            early_events_max: size(section.get("early_events_max", Count(100_000))),
            unsubscribed_max: size(section.get("unsubscribed_max", Count(100_000))),
        }
    }
}

/// `[log]`: what is said, and how.
#[derive(Clone, PartialEq, Debug)]
pub struct Log {
    /// Directives for the filter of `tracing-subscriber`; known to be right.
    pub level: String,
    /// How a line looks.
    pub format: LogFormat,
}

impl Log {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            level: section.get("level", Directives("info".to_owned())).0,
            format: section.get("format", LogFormat::Auto),
        }
    }
}

/// How a line of the log looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// The journal's own fields under systemd, else text.
    Auto,
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Choice for LogFormat {
    const WORDS: &'static [(&'static str, Self)] = &[("auto", Self::Auto), ("text", Self::Text), ("json", Self::Json)];
}

pub(super) fn size(count: Count) -> usize {
    usize::try_from(count.0).unwrap_or(usize::MAX)
}

/// A file that is needed at the start had better be missed by `check`.
pub(super) fn readable(section: &mut Section<'_>, env: &Env, key: &str, path: &std::path::Path) {
    let Err(error) = (env.readable)(path) else { return };
    let problem = Problem::error(format!("can't read {}", path.display())).help(match error.kind() {
        std::io::ErrorKind::NotFound if env.credentials_directory.as_ref().is_some_and(|all| path.starts_with(all)) => {
            "systemd hands over what is in /etc/revoked/credentials when it starts the daemon: put it there, and restart"
        }
        std::io::ErrorKind::NotFound => "is the path right?",
        std::io::ErrorKind::PermissionDenied => "let the daemon's user read it, or use systemd's LoadCredential=",
        _ => "a plain file is expected here",
    });
    section.problem_at(key, problem, error.to_string());
}
