//! How the daemon ends when it can't run: scripts and units go by the number. 0 is in `stop`, 69 in `two_daemons`, 78 in `check`.

use std::{
    fs::{self, Permissions},
    net::TcpListener,
    os::unix::fs::{PermissionsExt as _, chown},
    process::Output,
};

use tempfile::TempDir;
use tokio::process::Command;

use crate::{caller::is_root, daemon::soon};

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

async fn ended(command: &mut Command, expected: i32, word: &str) {
    let ending = command.env_remove("LISTEN_FDS").kill_on_drop(true).output();
    let Output { status, stderr, .. } = soon("the end of a process", ending).await.unwrap();
    let words = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(expected), "{words}");
    assert!(words.contains(word), "{words}");
}

fn daemon(place: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_revoked"));
    command.arg("run").arg("--config").arg(place.path().join("config.toml"));
    command
}

#[tokio::test]
async fn a_slip_in_the_command_line_is_64() {
    ended(Command::new(env!("CARGO_BIN_EXE_revoked")).arg("rnu"), USAGE, "rnu").await;
}

#[tokio::test]
async fn what_can_not_go_on_by_itself_is_70() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_revoked"));
    ended(command.args(["sandbox", "--listen", &address]), SOFTWARE, &address).await;
}

#[tokio::test]
async fn a_store_that_can_not_be_used_is_74() {
    let place = place("");
    fs::write(place.path().join("store"), "no directory").unwrap();
    ended(&mut daemon(&place), IO, "store").await;
}

#[tokio::test]
async fn a_socket_that_may_not_be_made_is_77() {
    let place = place("");
    let (at, store) = (place.path(), place.path().join("store"));
    fs::create_dir(&store).unwrap();
    let mut command = daemon(&place);
    if is_root() {
        // Nobody can read the tests' own directory, most likely. Not copied by ourselves: what is still open for writing in a
        // child that another test begins just then can't be run.
        let program = at.join("revoked");
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_revoked")).arg(&program).status().await;
        assert!(copied.unwrap().success());
        chown(&store, Some(NOBODY), Some(NOBODY)).unwrap();
        fs::set_permissions(at, Permissions::from_mode(0o755)).unwrap();
        command = Command::new(program);
        command.arg("run").arg("--config").arg(at.join("config.toml")).uid(NOBODY).gid(NOBODY);
    } else {
        fs::set_permissions(at, Permissions::from_mode(0o555)).unwrap();
    }
    ended(&mut command, NO_PERMISSION, "can't listen on").await;
    // Or it could not be removed.
    fs::set_permissions(at, Permissions::from_mode(0o755)).unwrap();
}
