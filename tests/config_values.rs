//! What a configuration says: defaults, the example, provenance, printing and comparing.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use revoked::config::{self, Config, Durability, Env, LogFormat, Members, Origin, Right};
use revoked::fallback::Way;
use revoked::model::{Missed, OnUnknown, Policy, Region, Rule, Timestamp, TrafficType, UseCase};

const EXAMPLE: &str = include_str!("../config.toml.example");
const FULL: &str = include_str!("fixtures/config/full.toml");
const OTP: &str = "[use_cases.otp]\nttl = \"10m\"\n";
/// Keys that are off unless they are set, and so have no default to show.
const NO_DEFAULT: [&str; 11] = [
    "socket_user",
    "socket_group",
    "endpoint",
    "ca_file",
    "client_token_files",
    "listen",
    "tls_certificate",
    "tls_key",
    "forward_to",
    "not_between",
    "time_zone",
];

/// A machine under systemd, all of whose files can be read.
fn env() -> Env {
    Env {
        system: true,
        xdg_runtime_dir: None,
        state_directory: None,
        credentials_directory: Some("/run/credentials/revoked.service".into()),
        readable: |_| Ok(()),
        user: |name| if name == "shop" { Ok(1000) } else { name.parse().map_err(|_| "no such user".to_owned()) },
        group: |name| match name {
            "agents" | "wheel" => Ok(Members { gid: 50, uids: vec![1002] }),
            _ => Ok(Members { gid: name.parse().map_err(|_| "no such group".to_owned())?, uids: Vec::new() }),
        },
    }
}

fn now() -> Timestamp {
    Timestamp::parse("2026-11-22T17:00:00Z").expect("RFC 3339")
}

fn read_in(text: &str, env: &Env) -> Config {
    let loaded = config::parse("config.toml", text, env, now()).unwrap_or_else(|report| panic!("{report}"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    loaded.config
}

fn read(text: &str) -> Config {
    read_in(text, &env())
}

fn policy<'a>(config: &'a Config, name: &str) -> &'a Policy {
    let name = UseCase::new(name).expect("a name");
    config.policies().get(&name).expect("a use case of that name")
}

fn origin(config: &Config, key: &str) -> Origin {
    config.effective().iter().find(|setting| setting.key == key).expect("a known key").origin
}

#[test]
fn a_rule_is_all_that_a_use_case_needs() {
    let config = read("[use_cases.notice]\nttl = \"10m\"\n");
    assert_eq!(*policy(&config, "notice"), Policy::new(Rule::Ttl(Duration::from_secs(600))));
    assert_eq!((config.server.socket_mode, config.server.clients_max), (0o660, 1024));
    assert_eq!((config.store.cache, config.store.durability), (256 << 20, Durability::Disk));
    assert_eq!((config.pace.in_flight, config.pace.per_second, config.pace.in_flight_total), (64, 200, 512));
    assert_eq!((config.platform.endpoint, config.platform.default_region), (None, Region::Global));
    assert_eq!((config.log.level.as_str(), config.log.format), ("info", LogFormat::Auto));
}

#[test]
fn whoever_waits_for_a_code_gets_it_twice_rather_than_never() {
    let on_unknown = |more: &str| policy(&read(&format!("{OTP}{more}")), "otp").on_unknown;
    assert_eq!(on_unknown(""), OnUnknown::Hold);
    assert_eq!(on_unknown("traffic_type = \"authentication\""), OnUnknown::Send);
    assert_eq!(on_unknown("traffic_type = \"authentication\"\non_unknown = \"drop\""), OnUnknown::Drop);
}

#[test]
fn paths_follow_the_environment_until_the_file_says_otherwise() {
    let user = Env {
        system: false,
        xdg_runtime_dir: Some("/run/user/1000".into()),
        state_directory: Some("/var/lib/private/revoked".into()),
        ..env()
    };
    let config = read_in(OTP, &user);
    assert_eq!(config.server.socket, Path::new("/run/user/1000/revoked/revoked.sock"));
    assert_eq!(origin(&config, "server.socket"), Origin::Environment("XDG_RUNTIME_DIR"));
    assert_eq!(config.store.path, Path::new("/var/lib/private/revoked"));
    assert_eq!(origin(&config, "store.path"), Origin::Environment("STATE_DIRECTORY"));
    assert_eq!(origin(&config, "platform.credentials"), Origin::Environment("CREDENTIALS_DIRECTORY"));

    let root = read_in(OTP, &Env { system: true, ..user.clone() });
    assert_eq!(root.server.socket, Path::new("/run/revoked/revoked.sock"));

    let told = read_in(&format!("[store]\npath = \"/data\"\n{OTP}"), &user);
    assert_eq!(
        (told.store.path.as_path(), origin(&told, "store.path")),
        (Path::new("/data"), Origin::File { line: 2 })
    );
    assert_eq!(origin(&told, "store.cache"), Origin::Default);
    assert_eq!(origin(&told, "use_cases.otp.ttl"), Origin::File { line: 4 });
}

#[test]
fn each_partner_may_have_an_account_and_a_credential_of_systemd_goes_by_its_name() {
    let text = "[platform.accounts.brand]\ncredentials = \"brand.json\"\nagents = [\"a\", \"b@rbm.goog\"]\n";
    let config = read(&format!("{text}{OTP}"));
    let account = &config.platform.accounts[0];
    assert_eq!(account.credentials, Path::new("/run/credentials/revoked.service/brand.json"));
    assert_eq!(account.agents.iter().map(|agent| agent.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let default = Path::new("/run/credentials/revoked.service/service-account.json");
    assert_eq!(config.platform.credentials.as_deref(), Some(default));

    // Where accounts speak for all agents, no other key need be there.
    let alone = Env {
        readable: |path| if path.ends_with("brand.json") { Ok(()) } else { Err(std::io::ErrorKind::NotFound.into()) },
        ..env()
    };
    assert_eq!(read_in(&format!("{text}{OTP}"), &alone).platform.credentials, None);
}

#[test]
fn every_value_of_a_full_file_arrives() {
    let config = read(FULL);
    assert!(
        config
            .effective()
            .iter()
            .all(|setting| !setting.key.starts_with("use_cases.ttl.") || matches!(setting.origin, Origin::File { .. }))
    );
    let full = policy(&config, "ttl");
    assert_eq!(full.rule, Rule::Ttl(Duration::from_millis(93_784_005)));
    assert_eq!((full.traffic_type, full.on_unknown), (TrafficType::ServiceRequest, OnUnknown::Drop));
    assert_eq!((full.missed, full.retired, full.settle), (Missed::Moot, true, Duration::ZERO));
    let end = Timestamp::parse("2026-12-31T14:59:59.5Z").unwrap();
    assert_eq!(policy(&config, "date").rule, Rule::ExpiresAt(end));
    assert!(matches!(&policy(&config, "cutoff").rule, Rule::DailyCutoff { zone, .. }
        if zone.iana_name() == Some("America/New_York")));
    assert_eq!(config.server.request_bytes_max, 3 << 19);
    assert_eq!(config.server.socket_owner, (Some(1000), Some(17)));
    let [agents, operators] = &config.access.0[..] else { panic!("{:?}", config.access) };
    assert_eq!(agents.users.iter().copied().collect::<Vec<_>>(), [1000, 1001, 1002], "and the group's members");
    assert_eq!(agents.groups.iter().copied().collect::<Vec<_>>(), [50]);
    assert_eq!(agents.may.iter().copied().collect::<Vec<_>>(), [Right::Register, Right::Read]);
    assert_eq!(
        agents.agents.iter().flat_map(|agents| agents.iter()).map(|one| one.as_str()).collect::<Vec<_>>(),
        ["shop-bot"]
    );
    assert_eq!((operators.name.as_str(), &operators.agents), ("operators", &None));
    assert_eq!(config.platform.endpoint.as_ref().map(|url| url.as_str()), Some("http://[::1]:8470/"));
    assert_eq!(config.pace.per_second, 16);
}

#[test]
fn read_your_own_config() {
    for text in [EXAMPLE, FULL, OTP] {
        let config = read(text);
        let again = read(&config.to_toml());
        assert_eq!(config, again);
        assert_eq!(config.to_toml(), again.to_toml());
        assert!(Config::diff(&config, &again).is_empty());
    }
}

#[test]
fn a_diff_says_what_is_taken_over_and_what_takes_a_restart() {
    let old = read(OTP);
    let new = read(
        "[pace]\nper_second = 50\n[log]\nlevel = \"warn\"\n[store]\ncache = \"1MiB\"\n[platform]\nca_file = \"/ca\"\n\
                    [use_cases.otp]\nttl = \"5m\"\n",
    );
    let diff = Config::diff(&old, &new);
    let shown = |changes: &[config::Change]| changes.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        shown(&diff.live),
        [
            "log.level: \"info\" is now \"warn\"",
            "pace.per_second: 200 is now 50",
            "use_cases.otp.ttl: \"10m\" is now \"5m\""
        ]
    );
    assert_eq!(shown(&diff.restart), ["platform.ca_file: now \"/ca\"", "store.cache: \"256MiB\" is now \"1MiB\""]);

    let gone = Config::diff(&new, &read("[use_cases.notice]\nttl = \"5m\"\n"));
    assert!(shown(&gone.live).contains(&"use_cases.otp.ttl: no longer \"5m\"".to_owned()));
    // The same said in other words is no change.
    assert!(Config::diff(&old, &read("[use_cases.otp]\nttl = \"600 seconds\"\nretired = false\n")).is_empty());
}

#[test]
fn the_hash_is_that_of_the_bytes() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), OTP).unwrap();
    let loaded = config::load(file.path(), &env(), now()).unwrap();
    // printf '[use_cases.otp]\nttl = "10m"\n' | sha256sum
    assert_eq!(loaded.hash, "d8ce5d34069f");
    assert_eq!(loaded.config, read(OTP));
}

/// The example with every commented key switched on, but for those without a default and whole tables that are off.
fn all_defaults_switched_on() -> String {
    let mut off = false;
    let on = |line: &str| match line.strip_prefix('#') {
        _ if line.trim_start_matches('#').starts_with('[') => {
            off = line.starts_with('#');
            line.to_owned()
        }
        Some(key) if !off && key.starts_with(|first: char| first.is_ascii_lowercase()) => {
            let name = key.split(' ').next().unwrap_or_default();
            if NO_DEFAULT.contains(&name) { line.to_owned() } else { key.to_owned() }
        }
        _ => line.to_owned(),
    };
    EXAMPLE.lines().map(on).collect::<Vec<_>>().join("\n")
}

#[test]
fn each_default_in_the_example_is_the_default() {
    let switched_on = all_defaults_switched_on();
    assert_ne!(switched_on, EXAMPLE.trim_end());
    assert_eq!(read(EXAMPLE), read(&switched_on));
}

#[test]
fn each_key_is_in_the_example() {
    let mut sections: Vec<_> =
        ["server", "store", "platform", "pace", "webhook", "retention", "log"].map(|name| (name, name)).into();
    sections.push(("access.x", "access."));
    sections.push(("platform.accounts.x", "platform.accounts."));
    sections.push(("use_cases.x", "use_cases."));
    for (section, place) in sections {
        // A key that can't be meant for another has the report list those there are.
        let text = format!("[{section}]\nqqqqqqqqqqqq = 1\n");
        let report = config::parse("config.toml", &text, &env(), now()).unwrap_err();
        let help = report.problems().iter().find_map(|p| p.help.as_ref()?.strip_prefix("expected ").map(str::to_owned));
        let known: BTreeSet<_> = help.unwrap().split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let mut shown = keys_in_example(place);
        // Shown in a comment of its own.
        shown.extend((place == "use_cases.").then(|| "fallback".to_owned()));
        assert_eq!(known, shown, "[{section}]");
    }
}

/// The worked example of a hook, which stands in a comment, in place of its use case.
fn hook_of_example() -> String {
    let lines = EXAMPLE.lines().skip_while(|line| *line != "#   [use_cases.otp.fallback]");
    let lines = lines.take_while(|line| line.starts_with("#   ")).map(|line| &line[4..]);
    format!("{OTP}{}", lines.collect::<Vec<_>>().join("\n"))
}

#[test]
fn the_worked_example_of_a_hook_is_good_and_shows_every_key() {
    let text = hook_of_example();
    let config = read(&text);
    assert_eq!(read(&config.to_toml()), config, "{}", config.to_toml());
    let Some(spec) = config.fallbacks().values().next() else { panic!("there is one") };
    assert!(matches!(&spec.way, Way::Http(request) if request.body.is_some() && request.header_files.len() == 1));
    assert_eq!((spec.timeout, spec.calls_max), (Duration::from_secs(10), 8));
    assert_eq!(policy(&config, "otp").calls_max, 8);
    let unknown = format!("{OTP}[use_cases.otp.fallback]\nqqqqqqqqqqqq = 1\n");
    let report = config::parse("config.toml", &unknown, &env(), now()).unwrap_err();
    let help = report.problems().iter().find_map(|p| p.help.as_ref()?.strip_prefix("expected ").map(str::to_owned));
    for key in help.unwrap().split('`').skip(1).step_by(2) {
        assert!(EXAMPLE.contains(&format!("\n#   {key} = ")), "{key} is not in the example");
    }
    let command = read(&format!("{OTP}[use_cases.otp.fallback]\ncommand = [\"/bin/a\", \"b c\"]\n"));
    assert_eq!(read(&command.to_toml()), command);
    assert_eq!(command.fallbacks().values().next().unwrap().way, Way::Command(vec!["/bin/a".into(), "b c".into()]));
}

/// The keys below the headers that begin so, commented out or not.
fn keys_in_example(section: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut inside = false;
    for line in EXAMPLE.lines() {
        if let Some(header) = line.trim_start_matches('#').strip_prefix('[') {
            // A table within is a key of the one around it.
            let within = header.strip_prefix(section).and_then(|name| name.strip_prefix('.'));
            keys.extend(within.and_then(|name| name.split('.').next()).map(str::to_owned));
            inside = header.trim_end_matches(']') == section || section.ends_with('.') && header.starts_with(section);
        } else if let Some((key, _)) = line.trim_start_matches('#').split_once(" = ")
            && inside
            && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        {
            keys.insert(key.to_owned());
        }
    }
    keys
}
