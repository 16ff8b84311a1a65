//! A grant as the standard input of a command.
//!
//! The command gets nothing else of ours: no shell, no environment that systemd or an operator gave to the daemon, and no
//! more time and room for its words than it was promised. What it leaves running in its process group ends with it.

use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStdin, Command};
use tracing::debug;

use super::{Granted, words};
use crate::model::Called;

/// As much of its output as is kept, from the end.
const TAIL_BYTES_MAX: usize = 4096;
/// How long its last words are waited for once it has ended.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Where programs are found; all of the environment that there is.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

pub(super) async fn call(argv: &[String], granted: &Granted, timeout: Duration) -> Called {
    let Some((program, arguments)) = argv.split_first() else { return Called::Refused("there is no command".into()) };
    let Ok(told) = serde_json::to_vec(granted) else { return Called::Refused("it can't be written as JSON".into()) };
    let spawned = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return Called::Failed(format!("it can't be started: {error}").into()),
    };
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let end_all = || {
        if let Some(group) = group {
            // None of them may be left, and then there is nobody to end.
            let _ = kill_process_group(group, Signal::KILL);
        }
    };
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let mut talk = pin!(async { tokio::join!(tell(stdin, told), tail(stdout), tail(stderr)) });
    let mut heard = None;
    let ended = async {
        loop {
            tokio::select! {
                status = child.wait() => return status,
                all = &mut talk, if heard.is_none() => heard = Some(all),
            }
        }
    };
    let status = tokio::time::timeout(timeout, ended).await;
    // None of what it started may stay.
    end_all();
    let Ok(status) = status else {
        // It is gone; this only takes note of it.
        let _ = child.wait().await;
        return Called::Failed(format!("it took longer than {timeout:?} and was ended").into());
    };
    if heard.is_none() {
        // Who left the group may hold its output for ever; how it ended is known already, and that is what counts.
        heard = tokio::time::timeout(LAST_WORDS, talk).await.ok();
    }
    match status {
        Ok(status) => {
            let said = heard.map_or_else(String::new, |((), out, err)| if err.is_empty() { out } else { err });
            let said = words::fit(&said, granted);
            debug!(grant = granted.grant_id, %status, %said, "a fallback command ended");
            let colon = if said.is_empty() { "" } else { ": " };
            if status.success() { Called::Taken } else { Called::Failed(format!("{status}{colon}{said}").into()) }
        }
        Err(error) => Called::Failed(error.to_string().into()),
    }
}

async fn tell(stdin: Option<ChildStdin>, told: Vec<u8>) {
    if let Some(mut stdin) = stdin {
        // One that does not want to know is free not to listen.
        let _ = stdin.write_all(&told).await;
    }
}

/// Reads to the end, and keeps the last line.
async fn tail(output: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut output) = output else { return String::new() };
    let (mut kept, mut buffer) = (Vec::new(), [0; TAIL_BYTES_MAX]);
    while let Ok(read @ 1..) = output.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..read]);
        kept.drain(..kept.len().saturating_sub(TAIL_BYTES_MAX));
    }
    let text = String::from_utf8_lossy(&kept);
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::process::{PidfdFlags, pidfd_open};
    use rustix::time::Timespec;

    use super::*;
    use crate::fallback::tests::granted;

    async fn sh(script: &str) -> Called {
        let argv = ["/bin/sh", "-c", script].map(str::to_owned);
        call(&argv, &granted(), Duration::from_secs(20)).await
    }

    #[tokio::test]
    async fn it_reads_the_grant_and_finds_an_environment_without_anything_of_ours() {
        // `PWD`, `_` and the like are the shell's own.
        let script = "grep -q '\"grantId\":\"00ff-1\"' && [ \"$(tr '\\0' '\\n' < /proc/self/environ | grep -c -v -E \
                      '^(PATH|PWD|OLDPWD|SHLVL|_)=')\" = 0 ] && [ \"$PWD\" = / ]";
        assert_eq!(sh(script).await, Called::Taken);
    }

    #[tokio::test]
    async fn its_last_words_say_why_it_failed_and_nothing_of_whom() {
        let Called::Failed(words) =
            sh("yes noise | head -c 1000000; echo; echo 'no route to +12223334444'; exit 3").await
        else {
            panic!("it failed")
        };
        assert_eq!(&*words, "exit status: 3: no route to +…");
    }

    #[tokio::test]
    async fn one_that_listens_to_nothing_and_one_that_is_not_there() {
        assert_eq!(sh("exec <&-; exit 0").await, Called::Taken);
        let argv = ["/nowhere/at/all".to_owned()];
        assert!(matches!(call(&argv, &granted(), Duration::from_secs(5)).await, Called::Failed(_)));
    }

    #[tokio::test]
    async fn what_it_leaves_running_is_not_waited_for() {
        assert_eq!(sh("sleep 1000 & exit 0").await, Called::Taken);
    }

    #[tokio::test]
    async fn the_time_limit_ends_it_and_its_children() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let script = format!("sleep 1000 & echo $! > {}; wait", file.path().display());
        let argv = ["/bin/sh", "-c", &script].map(str::to_owned);
        let called = call(&argv, &granted(), Duration::from_millis(500)).await;
        assert!(matches!(&called, Called::Failed(words) if words.contains("was ended")), "{called:?}");
        let pid: i32 = std::fs::read_to_string(file.path()).unwrap().trim().parse().unwrap();
        let Ok(child) = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()) else { return };
        // Readable when it has ended. Nobody else would end it for a quarter of an hour.
        let patience = Timespec { tv_sec: 20, tv_nsec: 0 };
        assert_eq!(poll(&mut [PollFd::new(&child, PollFlags::IN)], Some(&patience)), Ok(1), "it still runs");
    }
}
