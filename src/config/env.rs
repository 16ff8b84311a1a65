//! What the world around the daemon contributes to its configuration, as a value, so that tests can make up their own.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::Origin;

const RUNTIME_DIRECTORY: &str = "/run/revoked";
const STATE_DIRECTORY: &str = "/var/lib/revoked";

/// The variables that defaults depend on, and a look at the file system. All paths are absolute.
#[derive(Clone, Debug)]
pub struct Env {
    /// `/run/revoked` is ours: it exists, or we are root and can make it.
    pub system: bool,
    /// `$XDG_RUNTIME_DIR`: where a user's own sockets belong.
    pub xdg_runtime_dir: Option<PathBuf>,
    /// `$STATE_DIRECTORY`, from systemd's `StateDirectory=`.
    pub state_directory: Option<PathBuf>,
    /// `$CREDENTIALS_DIRECTORY`, from systemd's `LoadCredential=`.
    pub credentials_directory: Option<PathBuf>,
    /// Whether a file can be read; [`can_be_read`] outside tests.
    pub readable: fn(&Path) -> io::Result<()>,
}

impl Env {
    /// As this process finds it.
    pub fn of_process() -> Self {
        // systemd joins several directories with ':'; the first is the one for the daemon itself. A relative path would
        // mean something else after a change of directory, and the XDG specification has it ignored as well.
        let directory = |name| {
            let value = std::env::var_os(name)?;
            std::env::split_paths(&value).next().filter(|path| path.is_absolute())
        };
        Self {
            system: rustix::process::geteuid().is_root() || Path::new(RUNTIME_DIRECTORY).is_dir(),
            xdg_runtime_dir: directory("XDG_RUNTIME_DIR"),
            state_directory: directory("STATE_DIRECTORY"),
            credentials_directory: directory("CREDENTIALS_DIRECTORY"),
            readable: can_be_read,
        }
    }

    /// Where the socket is unless somebody says otherwise: for the daemon and for `revokectl`.
    pub fn socket(&self) -> (PathBuf, Origin) {
        match &self.xdg_runtime_dir {
            Some(directory) if !self.system => {
                (directory.join("revoked/revoked.sock"), Origin::Environment("XDG_RUNTIME_DIR"))
            }
            _ => (Path::new(RUNTIME_DIRECTORY).join("revoked.sock"), Origin::Default),
        }
    }

    pub(super) fn store(&self) -> (PathBuf, Origin) {
        match &self.state_directory {
            Some(directory) => (directory.clone(), Origin::Environment("STATE_DIRECTORY")),
            None => (STATE_DIRECTORY.into(), Origin::Default),
        }
    }

    pub(super) fn credentials(&self) -> Option<(PathBuf, Origin)> {
        let path = self.credential(Path::new("service-account.json"))?;
        Some((path, Origin::Environment("CREDENTIALS_DIRECTORY")))
    }

    /// Where the credential of this name is, or should be.
    ///
    /// One that has a `LoadCredential=` of its own has just its name. Our unit hands over all files of one directory
    /// (`LoadCredential=revoked:/etc/revoked/credentials`), and systemd puts the first part and a "_" before the name of each.
    pub(super) fn credential(&self, name: &Path) -> Option<PathBuf> {
        let directory = self.credentials_directory.as_ref()?;
        let plain = directory.join(name);
        let of_unit = directory.join(format!("revoked_{}", name.display()));
        Some(if (self.readable)(&plain).is_err() && (self.readable)(&of_unit).is_ok() { of_unit } else { plain })
    }
}

/// Opens the file, and closes it again.
///
/// # Errors
/// Those of the operating system; a directory is one.
pub fn can_be_read(path: &Path) -> io::Result<()> {
    if File::open(path)?.metadata()?.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { Ok(()) }
}
