//! Notices when the configuration file may have changed.
//!
//! It is *names in directories* that are watched, each on the way from the root to the file and through every link: editors
//! write a new file and rename it over the old one, and configuration management swaps a link somewhere further up; a watch
//! on the file itself would go on watching the one that is gone. After each notice the way is walked again, since it may
//! lead elsewhere now. Too many notices do no harm, since the reader compares what it finds.

use std::ffi::{CStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::thread;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use tokio::sync::mpsc;
use tracing::warn;

/// Links on the way at most, as for the kernel.
const LINKS_MAX: usize = 40;

/// Sends for each change, from a thread of its own that lives as long as the process.
///
/// # Errors
/// If the kernel gives no watch or no thread.
pub(super) fn watch(path: &Path) -> io::Result<mpsc::Receiver<()>> {
    let path = std::path::absolute(path)?;
    let inotify = inotify::init(CreateFlags::CLOEXEC)?;
    let mut watched = watch_way(inotify.as_fd(), &path)?;
    // One notice that waits is as good as many.
    let (notices, changed) = mpsc::channel(1);
    let watching = move || {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&inotify, &mut buffer);
        loop {
            match events.next() {
                // The directories hold other files too. An event without a name is about a directory that is gone, or
                // says that some were lost.
                Ok(event) if event.file_name().is_some_and(|name| !watched.counts(name)) => {}
                Ok(_) | Err(Errno::INTR) => {
                    // While it is being swapped the way may lead nowhere; there is another event when it does again.
                    if let Ok(new) = watch_way(inotify.as_fd(), &path) {
                        for left in watched.watches.iter().filter(|watch| !new.watches.contains(watch)) {
                            // One whose directory is gone is gone itself.
                            let _ = inotify::remove_watch(&inotify, *left);
                        }
                        watched = new;
                    }
                    // Only now: what changed before the new watch was there is seen by the reader.
                    let _ = notices.try_send(());
                }
                Err(error) => {
                    warn!(%error, "changes of the configuration are not noticed any more");
                    return;
                }
            }
        }
    };
    thread::Builder::new().name("file-watch".to_owned()).spawn(watching)?;
    Ok(changed)
}

/// What is being watched.
struct Watched {
    names: Vec<OsString>,
    watches: Vec<i32>,
}

impl Watched {
    /// Whether what has this name may lead to the file.
    fn counts(&self, name: &CStr) -> bool {
        self.names.iter().any(|counts| counts.as_bytes() == name.to_bytes())
    }
}

/// Watches every directory on the way to the file. For one that is watched already the kernel gives the same watch again.
///
/// # Errors
/// If the last directory can't be watched; one further up may be closed to us.
fn watch_way(inotify: BorrowedFd<'_>, path: &Path) -> io::Result<Watched> {
    let changes = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::CREATE;
    let mut watched = Watched { names: Vec::new(), watches: Vec::new() };
    let mut last = Ok(());
    for (directory, name) in way(path) {
        last = inotify::add_watch(inotify, directory, changes).map(|watch| watched.watches.push(watch));
        watched.names.push(name);
    }
    last?;
    Ok(watched)
}

/// Each step from the root to the file: a directory, and the name in it that leads on. Links are steps, too.
fn way(path: &Path) -> Vec<(PathBuf, OsString)> {
    let mut steps = Vec::new();
    let mut at = PathBuf::from("/");
    let mut ahead: Vec<OsString> = names(path);
    let mut links = 0;
    while let Some(name) = ahead.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        steps.push((at.clone(), name));
        match std::fs::read_link(&next) {
            Ok(target) if links < LINKS_MAX => {
                links += 1;
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                ahead.extend(names(&target));
            }
            _ => at = next,
        }
    }
    steps
}

/// The names in a path, the last one first.
fn names(path: &Path) -> Vec<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(_) | Component::ParentDir => Some(component.as_os_str().to_owned()),
        _ => None,
    };
    path.components().rev().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_way_goes_through_every_link() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::create_dir_all(root.join("v1")).unwrap();
        std::fs::write(root.join("v1/config.toml"), "").unwrap();
        symlink("../v1", root.join("etc/..data")).unwrap();
        symlink("..data/config.toml", root.join("etc/config.toml")).unwrap();
        let steps = way(&root.join("etc/config.toml"));
        let steps: Vec<String> = steps
            .iter()
            .filter_map(|(at, name)| Some(at.strip_prefix(&root).ok()?.join(name).display().to_string()))
            .collect();
        assert_eq!(steps, ["etc", "etc/config.toml", "etc/..data", "v1", "v1/config.toml"]);
    }

    #[test]
    fn links_in_a_circle_end() {
        let directory = tempfile::tempdir().unwrap();
        symlink("b", directory.path().join("a")).unwrap();
        symlink("a", directory.path().join("b")).unwrap();
        assert!(way(&directory.path().join("a")).len() < 100);
    }
}
