//! Notices when the configuration file may have changed.
//!
//! It is the *directories* that are watched, that of the file and that of what it links to: editors write a new file and rename
//! it over the old one, and configuration management swaps a link further up; a watch on the file itself would go on
//! watching the one that is gone. Too many notices do no harm, since the reader compares what it finds.

use std::io;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::sync::mpsc;
use tracing::warn;

/// Sends for each change, from a thread of its own that lives as long as the process.
///
/// # Errors
/// If the kernel gives no watch or no thread.
pub(super) fn watch(path: &Path) -> io::Result<mpsc::Receiver<()>> {
    let inotify = inotify::init(CreateFlags::CLOEXEC)?;
    let changes = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::CREATE;
    for directory in directories(path) {
        inotify::add_watch(&inotify, directory, changes)?;
    }
    // One notice that waits is as good as many.
    let (notices, changed) = mpsc::channel(1);
    let watching = move || {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&inotify, &mut buffer);
        loop {
            match events.next() {
                Ok(event) if event.events().contains(ReadFlags::IGNORED) => {
                    warn!("the configuration's directory is gone; changes are not noticed any more");
                    return;
                }
                Ok(_) | Err(Errno::INTR) => drop(notices.try_send(())),
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

/// The directory of the path as it is written, and of each link on the way to the file.
fn directories(path: &Path) -> Vec<PathBuf> {
    let mut path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut directories = Vec::new();
    // A link may stand anywhere in the path: `..data/config.toml` is swapped one level up.
    for _ in 0..8 {
        let parents = path.ancestors().skip(1).take(2);
        directories.extend(parents.filter(|parent| parent.is_dir()).map(Path::to_owned));
        match std::fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("/")).join(target),
            Err(_) => break,
        }
    }
    directories.dedup();
    directories
}
