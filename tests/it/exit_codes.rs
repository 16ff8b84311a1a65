//! How the daemon ends when it can't run: scripts and units go by the number. 0 is in `stop`, 69 in `two_daemons`, 78 in `check`.

use std::{
    fs::{self, Permissions},
    net::TcpListener,
    os::unix::fs::{PermissionsExt as _, chown},
    process::{Command, Output},
};

use rustix::process::geteuid;
use tempfile::TempDir;

const USAGE: i32 = 64;
const SOFTWARE: i32 = 70;
const IO: i32 = 74;
const NO_PERMISSION: i32 = 77;
/// Nobody's number on most systems; all that counts is that it is not root's.
const NOBODY: u32 = 65534;

/// Where a daemon would run in shadow mode, with more in its configuration.
fn place(more: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    let text = format!(
        "[server]\nsocket = \"{0}/sock\"\n[store]\npath = \"{0}/store\"\n[platform]\nmode = \"shadow\"\n\
         [use_cases.otp]\nttl = \"10m\"\n{more}",
        at.display()
    );
    fs::write(at.join("config.toml"), text).unwrap();
    directory
}

fn ended(command: &mut Command, expected: i32, word: &str) {
    let Output { status, stderr, .. } = command.env_remove("LISTEN_FDS").output().unwrap();
    let words = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(expected), "{words}");
    assert!(words.contains(word), "{words}");
}

fn daemon(place: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_revoked"));
    command.arg("run").arg("--config").arg(place.path().join("config.toml"));
    command
}

#[test]
fn a_slip_in_the_command_line_is_64() {
    ended(Command::new(env!("CARGO_BIN_EXE_revoked")).arg("rnu"), USAGE, "rnu");
}

#[test]
fn what_can_not_go_on_by_itself_is_70() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_revoked"));
    ended(command.args(["sandbox", "--listen", &address]), SOFTWARE, &address);
}

#[test]
fn a_store_that_can_not_be_used_is_74() {
    let place = place("");
    fs::write(place.path().join("store"), "no directory").unwrap();
    ended(&mut daemon(&place), IO, "store");
}

#[test]
fn a_socket_that_may_not_be_made_is_77() {
    let place = place("");
    let (at, store) = (place.path(), place.path().join("store"));
    fs::create_dir(&store).unwrap();
    let mut command = daemon(&place);
    if geteuid().is_root() {
        use std::os::unix::process::CommandExt as _;
        // Nobody can read the tests' own directory, most likely.
        let program = at.join("revoked");
        fs::copy(env!("CARGO_BIN_EXE_revoked"), &program).unwrap();
        chown(&store, Some(NOBODY), Some(NOBODY)).unwrap();
        fs::set_permissions(at, Permissions::from_mode(0o755)).unwrap();
        command = Command::new(program);
        command.arg("run").arg("--config").arg(at.join("config.toml")).uid(NOBODY).gid(NOBODY);
    } else {
        fs::set_permissions(at, Permissions::from_mode(0o555)).unwrap();
    }
    ended(&mut command, NO_PERMISSION, "can't listen on");
    // Or it could not be removed.
    fs::set_permissions(at, Permissions::from_mode(0o755)).unwrap();
}
