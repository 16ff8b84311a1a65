//! Writes what a package holds besides the programs: manual pages, completions and a first configuration.
//!
//!     cargo run --example package -- target/package
//!
//! All of it comes from the command lines and from `config.toml.example`, so that it can't drift from what the programs do. An
//! example, so that neither the programs nor their build carry what only a package needs.

#![expect(clippy::unwrap_used, reason = "whoever makes a package sees the panic")]

use std::fs;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;

const EXAMPLE: &str = include_str!("../config.toml.example");

fn main() {
    let directory = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| "target/package".into()));
    let inside = |name: &str| {
        let path = directory.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    let (man, completions) = (inside("man"), inside("completions"));
    let programs = [(revoked::daemon::command(), "8", DAEMON), (revoked::ctl::command(), "1", CONTROL)];
    for (command, section, more) in programs {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            generate_to(shell, &mut command.clone(), command.get_name().to_owned(), &completions).unwrap();
        }
        let mut command = command.disable_help_subcommand(true);
        command.build();
        pages(&command, section, more, &man);
    }
    fs::write(man.join("revoked.toml.5"), configuration(EXAMPLE)).unwrap();
    fs::write(directory.join("config.toml"), first_configuration(EXAMPLE)).unwrap();
}

/// One page for a command, and one for each of those below it.
fn pages(command: &Command, section: &str, more: &str, directory: &Path) {
    let mut page = Vec::new();
    let man = Man::new(command.clone()).section(section).manual("revoked");
    man.render(&mut page).unwrap();
    page.extend_from_slice(more.as_bytes());
    fs::write(directory.join(man.get_filename()), page).unwrap();
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        pages(below, section, "", directory);
    }
}

/// The configuration of a fresh installation: the example, which revokes nothing until somebody gives it a key and says so.
fn first_configuration(example: &str) -> String {
    let (live, shadow) = ("#mode = \"live\"\n", "mode = \"shadow\"\n");
    let (copy, here) = ("# Copy this file to /etc/revoked/config.toml and try", "# After a change, try");
    for expected in [live, copy] {
        assert_eq!(example.matches(expected).count(), 1, "the example has another wording than {expected:?}");
    }
    example.replace(live, shadow).replace(copy, here)
}

/// `revoked.toml(5)`: each key under its section, with the comment that stands above it in the example.
fn configuration(example: &str) -> String {
    let mut page = format!(
        ".TH revoked.toml 5 \"\" \"revoked {}\" revoked\n.SH NAME\nrevoked.toml \\- configuration of revoked(8)\n\
         .SH DESCRIPTION\nThe file is /etc/revoked/config.toml.\n",
        env!("CARGO_PKG_VERSION")
    );
    for block in example.split("\n\n").map(str::trim).filter(|block| !block.is_empty()) {
        let (comment, code): (Vec<_>, Vec<_>) = block.lines().partition(|line| *line == "#" || line.starts_with("# "));
        let (sections, keys): (Vec<_>, Vec<_>) =
            code.into_iter().map(|line| line.trim_start_matches('#')).partition(|line| line.starts_with('['));
        for section in sections {
            page += &format!(".SH \"{}\"\n", escape(section));
        }
        for (index, key) in keys.iter().enumerate() {
            page += &format!("{}\n.B {}\n", if index == 0 { ".TP" } else { ".TQ" }, escape(key));
        }
        if keys.is_empty() {
            page += ".PP\n";
        }
        page += &prose(&comment, if keys.is_empty() { ".PP\n" } else { ".IP\n" });
    }
    page + SEE_CONFIGURATION
}

/// Comments as text; what is indented stays as it is.
fn prose(comment: &[&str], paragraph: &str) -> String {
    let mut page = String::new();
    let mut is_code = false;
    for line in comment {
        let text = line[1..].strip_prefix(' ').unwrap_or_default();
        let code = text.strip_prefix("  ");
        match (is_code, code) {
            (false, Some(_)) => page += ".IP\n.nf\n",
            (true, None) => page += &format!(".fi\n{paragraph}"),
            _ => {}
        }
        is_code = code.is_some();
        page += &match code.unwrap_or(text) {
            "" => paragraph.to_owned(),
            text => format!("{}\n", escape(text)),
        };
    }
    if is_code { page + ".fi\n" } else { page }
}

/// A line that roff takes as it is.
fn escape(line: &str) -> String {
    let line = line.replace('\\', "\\e").replace('-', "\\-").replace('"', "\\(dq").replace('\'', "\\(aq");
    if line.starts_with('.') { format!("\\&{line}") } else { line }
}

const SEE_CONFIGURATION: &str = "\
.SH SEE ALSO
.BR revoked (8),
.BR revokectl (1)
";

const CONTROL: &str = "\
.SH SEE ALSO
.BR revoked (8),
.BR revoked.toml (5)
";

const DAEMON: &str = "\
.SH SIGNALS
.TP
.BR SIGTERM \", \" SIGINT
Take on nothing new, answer the requests that are begun, wait for the attempts that are out, write all of it to disk, and end with 0.
A second one leaves at once; nothing that was acknowledged is lost by that.
.TP
.B SIGHUP
Take over the configuration, as \\fBrevokectl reload\\fR does: all of it or nothing. How it went is in the log.
.SH EXIT STATUS
.TP
.B 0
It was stopped.
.TP
.B 64
The command line is wrong.
.TP
.B 69
Another daemon has the socket, the webhook\\(aqs address or the store.
.TP
.B 70
Something that should not happen did.
.TP
.B 74
The store can\\(aqt be read or written.
.TP
.B 77
It may not listen where the configuration says.
.TP
.B 78
The configuration is wrong.
.PP
systemd starts it again after all but 0, 64, 77 and 78.
.SH FILES
.TP
.I /etc/revoked/config.toml
The configuration, see
.BR revoked.toml (5).
.TP
.I /etc/revoked/credentials/
Secrets, one to a file; systemd hands them to the daemon when it starts.
.I service-account.json
is the key of the platform\\(aqs service account.
.TP
.I /run/revoked/revoked.sock
The socket on which agents register messages; for members of the group revoked-agents.
.TP
.I /var/lib/revoked/
What is pending, and what became of it.
.SH SEE ALSO
.BR revokectl (1),
.BR revoked.toml (5)
";
