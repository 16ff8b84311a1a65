//! What an operator reads when the configuration is wrong: every mistake is named, pointed at, and told all at once.

use std::io;
use std::path::Path;

use proptest::prelude::*;
use revoked::config::{self, Env, Level, Members, Report};
use revoked::model::Timestamp;

const EXAMPLE: &str = include_str!("../config.toml.example");
const SLIPS: &str = include_str!("fixtures/config/slips.toml");
/// A use case with nothing wrong, so that a test can be about something else.
const OTP: &str = "[use_cases.otp]\nttl = \"10m\"\n";

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

fn report(text: &str) -> Report {
    config::parse("config.toml", text, &env(), now()).map_or_else(|report| report, |loaded| loaded.warnings)
}

/// Level, title, and the text that the caret points at.
fn told(text: &str) -> Vec<(Level, String, String)> {
    let problems = report(text).problems().to_vec();
    let place = |span: Option<config::Span>| span.map_or(String::new(), |span| text[span].to_owned());
    problems.into_iter().map(|problem| (problem.level, problem.title.clone(), place(problem.span()))).collect()
}

#[test]
fn all_slips_of_a_file_are_told_at_once() {
    assert_eq!(report(SLIPS).to_string().trim(), include_str!("fixtures/config/slips.report").trim());
}

#[test]
fn a_report_fits_a_terminal_of_80_columns() {
    for line in report(SLIPS).to_string().lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn colours_are_for_terminals() {
    assert!(report(SLIPS).styled().contains("\u{1b}["));
    assert!(!report(SLIPS).to_string().contains('\u{1b}'));
}

#[test]
fn each_error_is_named_and_pointed_at() {
    let cases: [(&str, &str, &str); 55] = [
        // The file as a whole.
        ("", "no use cases", ""),
        ("[use_cases]", "no use cases", ""),
        ("use_cases = 1", "`use_cases` is not a table", "1"),
        ("[[server]]", "`server` is not a table", "[[server]]"),
        ("[servr]", "unknown table `servr` at the top of the file", "servr"),
        ("ttl = \"10m\"", "unknown table `ttl` at the top of the file", "ttl"),
        // Sections.
        ("[server]\nsocket = \"a\"", "invalid value for `server.socket`", "\"a\""),
        ("[server]\nsocket = 1", "invalid value for `server.socket`", "1"),
        ("[server]\nsocket_mode = \"1777\"", "invalid value for `server.socket_mode`", "\"1777\""),
        ("[server]\nsocket_mode = 0o660", "invalid value for `server.socket_mode`", "0o660"),
        ("[server]\nrequest_bytes_max = \"0\"", "invalid value for `server.request_bytes_max`", "\"0\""),
        ("[server]\nbatch_bytes_max = \"1B\"", "a batch may be no smaller than a single request", "\"1B\""),
        ("[server]\nclients_max = -1", "invalid value for `server.clients_max`", "-1"),
        ("[server]\nclient_max = 1", "unknown key `client_max` in [server]", "client_max"),
        ("[store]\ncache = 64", "invalid value for `store.cache`", "64"),
        ("[store]\ndurability = \"disc\"", "invalid value for `store.durability`", "\"disc\""),
        ("[platform]\nendpoint = \"http://a\"", "invalid value for `platform.endpoint`", "\"http://a\""),
        ("[platform]\nconnect_timeout = \"0s\"", "invalid value for `platform.connect_timeout`", "\"0s\""),
        ("[platform]\nconnect_timeout = \"1h\"", "a connection can't take longer than its request", "\"1h\""),
        ("[platform]\ndefault_region = \"EU\"", "invalid value for `platform.default_region`", "\"EU\""),
        ("[pace]\nper_second = 0.5", "invalid value for `pace.per_second`", "0.5"),
        ("[webhook]\nclient_token_files = \"/a\"", "invalid value for `webhook.client_token_files`", "\"/a\""),
        ("[webhook]\nclient_token_files = [1]", "invalid value for `webhook.client_token_files`", "[1]"),
        ("[webhook]\nlisten = \"localhost:1\"", "invalid value for `webhook.listen`", "\"localhost:1\""),
        ("[webhook]\nlisten = \"127.0.0.1:1\"", "a webhook without client tokens", "\"127.0.0.1:1\""),
        ("[webhook]\nforward_to = \"http://[::1]:1/a\"", "`forward_to` without `listen`", "\"http://[::1]:1/a\""),
        (
            "[webhook]\nlisten = \"[::1]:1\"\nclient_token_files = [\"/t\"]\nforward_to = \"http://a:b@c\"",
            "invalid value for `webhook.forward_to`",
            "",
        ),
        ("[retention]\nsettled = \"1 fortnight\"", "invalid value for `retention.settled`", "\"1 fortnight\""),
        ("[log]\nformat = \"xml\"", "invalid value for `log.format`", "\"xml\""),
        // Use cases.
        ("use_cases.\"a b\".ttl = \"1m\"", "invalid name of a use case in `use_cases.a b`", "\"a b\""),
        ("use_cases.a = 1", "`use_cases.a` is not a table", "1"),
        ("[use_cases.a]", "no deadline in [use_cases.a]", "[use_cases.a]"),
        (
            "use_cases.a = { ttl = \"1m\", expires_at = 2027-01-01T00:00:00Z }",
            "more than one deadline in [use_cases.a]",
            "2027-01-01T00:00:00Z",
        ),
        ("use_cases.a.ttl = \"10\"", "invalid value for `use_cases.a.ttl`", "\"10\""),
        ("use_cases.a.ttl = \"31d\"", "`ttl` is longer than the platform keeps a message", "\"31d\""),
        (
            "use_cases.a.expires_at = 2027-01-01T00:00:00",
            "invalid value for `use_cases.a.expires_at`",
            "2027-01-01T00:00:00",
        ),
        ("use_cases.a.daily_cutoff = \"21:00\"", "`daily_cutoff` without `time_zone`", "\"21:00\""),
        (
            "use_cases.a = { ttl = \"1m\", time_zone = \"UTC\" }",
            "`time_zone` without `daily_cutoff` or `not_between`",
            "\"UTC\"",
        ),
        (
            "use_cases.a = { ttl = \"1m\", not_between = \"22:00-08:00\" }",
            "`not_between` without `time_zone`",
            "\"22:00-08:00\"",
        ),
        (
            "use_cases.a = { ttl = \"1m\", not_between = \"22:00\", time_zone = \"UTC\" }",
            "invalid value for `use_cases.a.not_between`",
            "\"22:00\"",
        ),
        (
            "use_cases.a = { daily_cutoff = \"25:00\", time_zone = \"UTC\" }",
            "invalid value for `use_cases.a.daily_cutoff`",
            "\"25:00\"",
        ),
        (
            "use_cases.a = { daily_cutoff = \"21:00\", time_zone = \"Mars\" }",
            "invalid value for `use_cases.a.time_zone`",
            "\"Mars\"",
        ),
        ("use_cases.a = { ttl = \"1m\", lead = \"60s\" }", "`lead` leaves no time at all", "\"60s\""),
        (
            "use_cases.a = { ttl = \"1m\", max_ttl = \"31d\" }",
            "`max_ttl` is longer than the platform keeps a message",
            "\"31d\"",
        ),
        (
            "use_cases.a = { ttl = \"1m\", give_up_after = \"0s\" }",
            "invalid value for `use_cases.a.give_up_after`",
            "\"0s\"",
        ),
        ("use_cases.a = { ttl = \"1m\", fallback = 1 }", "`use_cases.a.fallback` is not a table", "1"),
        (
            "use_cases.a = { ttl = \"1m\", fallback = { timeout = \"1s\" } }",
            "nothing to call in [use_cases.a.fallback]",
            "\"1s\"",
        ),
        (
            "use_cases.a = { ttl = \"1m\", fallback = { url = \"https://a\", command = [\"/b\"] } }",
            "two things to call in [use_cases.a.fallback]",
            "[\"/b\"]",
        ),
        (
            "use_cases.a = { ttl = \"1m\", fallback = { command = [\"/b\"], body = \"c\" } }",
            "`body` without `url`",
            "\"c\"",
        ),
        (
            "use_cases.a = { ttl = \"1m\", fallback = { command = [\"b\"] } }",
            "invalid value for `use_cases.a.fallback.command`",
            "[\"b\"]",
        ),
        (
            "use_cases.a = { ttl = \"1m\", fallback = { url = \"https://a\", body = \"{{ phon }}\" } }",
            "invalid value for `use_cases.a.fallback.body`",
            "\"{{ phon }}\"",
        ),
        (
            "use_cases.a = { ttl = \"1m\", fallback = { url = \"https://a\", headers = { X-Api-Key = \"k\" } } }",
            "invalid value for `use_cases.a.fallback.headers`",
            "",
        ),
        (
            "use_cases.a = { ttl = \"1m\", fallback = { url = \"https://a\", headers = { Idempotency-Key = \"k\" } } }",
            "invalid value for `use_cases.a.fallback.headers`",
            "{ Idempotency-Key = \"k\" }",
        ),
        ("use_cases.a = { ttl = \"1m\", retired = 1 }", "invalid value for `use_cases.a.retired`", "1"),
        (
            "use_cases.a = { ttl = \"1m\", traffic_type = \"AUTHENTICATION\" }",
            "invalid value for `use_cases.a.traffic_type`",
            "\"AUTHENTICATION\"",
        ),
    ];
    for (text, title, place) in cases {
        let about_use_cases = text.contains("use_cases") || text.is_empty();
        let text = if about_use_cases { text.to_owned() } else { format!("{text}\n{OTP}") };
        assert_eq!(told(&text), [(Level::Error, title.to_owned(), place.to_owned())], "{text}");
    }
}

#[test]
fn a_secret_is_not_shown_whatever_else_is_wrong_beside_it() {
    let hook = |more: &str| format!("[use_cases.a]\nttl = \"1m\"\nfallback = {{ {more} }}\n");
    let url = "url = \"https://me:s3cret@sms.example\"";
    for text in [
        hook(url),
        hook(&format!("{url}, command = [\"/b\"]")),
        hook(&format!("{url}, comand = 1, timeout = \"never\"")),
        hook("url = \"https://me:s3cret@:x\""),
        hook("url = \"http://sms.example\", headers = { Authorization = \"s3cret\" }, body = \"{{ phon }}\""),
        // The line between two that are shown.
        format!("[use_cases.a]\nttl = \"1m\"\nfallback.{url}\nexpires_at = 2027-01-01T00:00:00Z\n"),
        "[platform]\nendpoint = \"https://me:s3cret@rbm.example\"\n".to_owned(),
        // Not even TOML.
        "[webhook]\nforward_to = https://me:s3cret@rbm.example\n".to_owned(),
        "[webhook]\nforward_to = \"https://me:s3cret@rbm.example\n".to_owned(),
    ] {
        let told = report(&format!("{text}{OTP}"));
        assert!(told.has_errors() && !told.to_string().contains("s3cret"), "{told}");
        assert!(told.to_string().contains("line "), "it is told where: {told}");
    }
}

#[test]
fn what_may_be_meant_is_a_warning() {
    for (text, title, place) in [
        ("[server]\nsocket_mode = \"0666\"", "everybody on this machine may use the socket", "\"0666\""),
        (
            "[use_cases.a]\nttl = \"1m\"\nfallback = { url = \"http://sms.example\" }",
            "plain http to another machine in `use_cases.a.fallback.url`",
            "\"http://sms.example\"",
        ),
        ("[pace]\nin_flight = 513", "`pace.in_flight` is never reached", "513"),
        ("[use_cases.a]\nttl = \"9s\"", "hardly a message is delivered that fast", "\"9s\""),
        (
            "[use_cases.a]\nexpires_at = 2026-11-22T17:00:00Z",
            "the deadline of [use_cases.a] has passed",
            "2026-11-22T17:00:00Z",
        ),
        (
            "[use_cases.a]\nttl = \"1m\"\nfallback_until = \"9s\"",
            "no fallback is ever granted in [use_cases.a]",
            "\"9s\"",
        ),
        ("[use_cases.a]\nttl = \"1m\"\nsettle = \"25h\"", "no fallback is ever granted in [use_cases.a]", "\"25h\""),
    ] {
        let text = format!("{text}\n{OTP}");
        assert_eq!(told(&text), [(Level::Warning, title.to_owned(), place.to_owned())], "{text}");
    }
    assert!(told("[use_cases.a]\nexpires_at = 2020-01-01T00:00:00Z\nretired = true").is_empty());
}

#[test]
fn broken_toml_is_told_line_by_line_and_nothing_is_made_up_besides() {
    let text = "[use_cases.otp]\nttl = 10m\nttl = \"5m\"\n[pace\n";
    let told: Vec<_> = told(text).into_iter().map(|(_, _, place)| place).collect();
    assert_eq!(told, ["10m", "ttl", ""]);
    assert_eq!(report(text).problems()[0].help.as_deref(), Some("did you mean \"10m\"?"));
}

#[test]
fn a_remedy_comes_with_it() {
    for (text, help) in [
        ("use_cases.a.tll = \"1m\"", "did you mean `ttl`?"),
        ("use_cases.a.ttl = 600", "in seconds: \"600s\""),
        ("use_cases.a = { ttl = \"1m\", traffic_type = \"PROMOTION\" }", "did you mean \"promotion\"?"),
        ("use_cases.a = { daily_cutoff = \"21:00\", time_zone = \"Berlin\" }", "did you mean \"Europe/Berlin\"?"),
        ("[platform]\nendpoint = \"https://rbm.example/v1\"", "write \"https://rbm.example\""),
        ("[store]\nsize = 1", "expected `path`, `cache` or `durability`"),
    ] {
        assert!(
            report(text).problems().iter().any(|problem| problem.help.as_deref() == Some(help)),
            "{}",
            report(text)
        );
    }
}

#[test]
fn credentials_are_missed_wherever_the_requests_go() {
    let nothing = Env { credentials_directory: None, ..env() };
    let text = format!("[platform]\nendpoint = \"http://127.0.0.1:8470\"\n{OTP}");
    let missing = config::parse("config.toml", &text, &nothing, now()).unwrap_err();
    assert_eq!(missing.problems()[0].title, "no credentials for the platform");

    // Nobody is asked anything in shadow mode.
    assert!(config::parse("config.toml", &format!("[platform]\nmode = \"shadow\"\n{OTP}"), &nothing, now()).is_ok());

    let gone = Env { readable: |_| Err(io::ErrorKind::NotFound.into()), ..env() };
    let unreadable = config::parse("config.toml", OTP, &gone, now()).unwrap_err();
    assert_eq!(unreadable.problems()[0].title, "can't read /run/credentials/revoked.service/service-account.json");
}

#[test]
fn a_mistake_in_a_rule_is_named_and_pointed_at() {
    for (rule, title, place) in [
        ("[access]", "no rule in [access]", ""),
        ("[access.a]\nusers = [\"shop\"]", "no `may` in [access.a]", "[access.a]"),
        ("[access.a]\nmay = [\"read\"]", "nobody is named in [access.a]", "[access.a]"),
        ("[access.a]\nusers = [\"shop\"]\nmay = []", "invalid value for `access.a.may`", "[]"),
        ("[access.a]\nusers = [\"shop\"]\nmay = [\"raed\"]", "invalid value for `access.a.may`", "[\"raed\"]"),
        ("[access.a]\nusers = [7]\nmay = [\"read\"]", "invalid value for `access.a.users`", "[7]"),
        (
            "[access.a]\nusers = [\"sohp\"]\nmay = [\"read\"]",
            "`access.a.users` names \"sohp\", which can't be used",
            "[\"sohp\"]",
        ),
        ("[access.'a b']\nusers = [\"shop\"]", "invalid name of a rule in `access.a b`", "'a b'"),
        (
            "[server]\nsocket_group = \"sohps\"",
            "`server.socket_group` names \"sohps\", which can't be used",
            "\"sohps\"",
        ),
    ] {
        let found = told(&format!("{rule}\n{OTP}"));
        assert_eq!(found, [(Level::Error, title.to_owned(), place.to_owned())], "{rule}");
    }
}

#[test]
fn a_mistake_in_an_account_is_named_and_pointed_at() {
    let account = |name: &str, agents: &str| {
        format!("[platform.accounts.{name}]\ncredentials = \"/{name}.json\"\nagents = {agents}\n")
    };
    for (text, title, place) in [
        (
            account("a", "[\"x\"]") + &account("b", "[\"x@rbm.goog\"]"),
            "two accounts for agent \"x\"",
            "[\"x@rbm.goog\"]",
        ),
        (account("a", "[\"x\", \"x\"]"), "invalid value for `platform.accounts.a.agents`", "[\"x\", \"x\"]"),
        (account("a", "[]"), "invalid value for `platform.accounts.a.agents`", "[]"),
        (account("a", "\"x\""), "invalid value for `platform.accounts.a.agents`", "\"x\""),
        (account("'a b'", "[\"x\"]"), "invalid name in `platform.accounts.a b`", "'a b'"),
        (
            "[platform.accounts.a]\nagents = [\"x\"]\n".to_owned(),
            "no `credentials` in [platform.accounts.a]",
            "[platform.accounts.a]",
        ),
        (
            "[platform.accounts.a]\ncredentials = \"/a\"\n".to_owned(),
            "no `agents` in [platform.accounts.a]",
            "[platform.accounts.a]",
        ),
        (
            "[platform.accounts.a]\ncredentials = \"x/y\"\nagents = [\"x\"]\n".to_owned(),
            "invalid value for `platform.accounts.a.credentials`",
            "\"x/y\"",
        ),
        ("[platform]\naccounts = 1\n".to_owned(), "`platform.accounts` is not a table", "1"),
    ] {
        let text = format!("{text}{OTP}");
        let told = told(&text);
        assert_eq!(told, [(Level::Error, title.to_owned(), place.to_owned())], "{text}");
    }
    let gone = Env {
        readable: |path| if path.starts_with("/run") { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) },
        ..env()
    };
    let text = format!("{}{OTP}", account("a", "[\"x\"]"));
    let unreadable = config::parse("config.toml", &text, &gone, now()).unwrap_err();
    assert_eq!(unreadable.problems()[0].title, "can't read /a.json");
}

#[test]
fn the_name_of_a_credential_needs_the_directory_that_systemd_makes() {
    let text = format!("[platform]\ncredentials = \"brand.json\"\n{OTP}");
    let nowhere = Env { credentials_directory: None, ..env() };
    let problem = config::parse("config.toml", &text, &nowhere, now()).unwrap_err().problems()[0].clone();
    assert_eq!(problem.title, "no credential \"brand.json\": $CREDENTIALS_DIRECTORY is not set");
    assert!(problem.help.unwrap().contains("LoadCredential=brand.json:"));
}

#[test]
fn a_socket_path_that_the_kernel_cannot_take_is_an_error() {
    let long = Env { system: false, xdg_runtime_dir: Some(format!("/{}", "x".repeat(100)).into()), ..env() };
    let refused = config::parse("config.toml", OTP, &long, now()).unwrap_err();
    assert_eq!(refused.problems()[0].title, "`server.socket` is too long for a unix socket");
}

#[test]
fn a_file_that_cannot_be_read_is_a_report_too() {
    let missing = config::load(Path::new("/nowhere/config.toml"), &env(), now()).unwrap_err();
    assert_eq!(
        missing.to_string(),
        "error: can't read the configuration: No such file or directory (os error 2)\n\
         --> /nowhere/config.toml\n \
         = help: copy config.toml.example to /nowhere/config.toml, or name another file\n         with --config"
    );

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"# caf\xe9\n").unwrap();
    let latin1 = config::load(file.path(), &env(), now()).unwrap_err();
    assert_eq!(
        (latin1.problems()[0].title.as_str(), latin1.problems()[0].span()),
        ("the file is not UTF-8", Some(5..8))
    );
    assert!(latin1.to_string().contains(":1:6"), "{latin1}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        let _ = report(&text).styled();
    }

    /// The example with a piece torn out and something else in its place gets further in than mere noise.
    #[test]
    fn no_damage_makes_it_panic(
        from in 0..EXAMPLE.len(),
        length in 0_usize..40,
        piece in "[a-z0-9 ='\"\\[\\].:#\n\r\té{}-]{0,12}",
    ) {
        // Without its prose, and with every key switched on, so that a cut hits something.
        let keys = EXAMPLE.lines().filter(|line| !line.starts_with("# "));
        let mut text: String = keys.flat_map(|line| [line.trim_start_matches('#'), "\n"]).collect();
        let from = from % text.len();
        text.replace_range(from..(from + length).min(text.len()), &piece);
        let _ = report(&text).to_string();
    }
}

#[test]
fn a_credential_is_found_by_its_name_alone_or_as_a_file_of_the_directory_that_the_unit_names() {
    let text = format!("[platform]\ncredentials = \"brand.json\"\n[webhook]\nclient_token_files = [\"token\"]\n{OTP}");
    let key = |readable| {
        let config = config::parse("config.toml", &text, &Env { readable, ..env() }, now()).unwrap().config;
        let path = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        (path(config.platform.credentials.as_deref().unwrap()), path(&config.webhook.client_token_files[0]))
    };
    let both: fn(&Path) -> io::Result<()> = |_| Ok(());
    assert_eq!(key(both), ("brand.json".to_owned(), "token".to_owned()));
    let from_directory: fn(&Path) -> io::Result<()> = |path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with("revoked_") { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    };
    assert_eq!(key(from_directory), ("revoked_brand.json".to_owned(), "revoked_token".to_owned()));
    let nothing = Env { readable: |_| Err(io::ErrorKind::NotFound.into()), ..env() };
    let problem = config::parse("config.toml", &text, &nothing, now()).unwrap_err().problems()[0].clone();
    assert!(problem.help.unwrap().contains("/etc/revoked/credentials"));
}
