//! What the world around the daemon contributes to its configuration, as a value, so that tests can make up their own.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, User};
use rustix::fs::OFlags;

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
    /// The number of a user, by name or number.
    pub user: fn(&str) -> Result<u32, String>,
    /// A group, by name or number.
    pub group: fn(&str) -> Result<Members, String>,
}

/// A group, and the users that the system's list of groups names as its members. Those who have it as their own group, or got
/// it otherwise (`SupplementaryGroups=` of systemd), are not among them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Members {
    /// Its number.
    pub gid: u32,
    /// Who is in it.
    pub uids: Vec<u32>,
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
            user,
            group,
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

/// A user by its name, else by its number.
fn user(name: &str) -> Result<u32, String> {
    let found = User::from_name(name).map_err(|error| format!("can't look for it: {error}"))?;
    let uid = found.map(|user| user.uid.as_raw()).or_else(|| number(name)).ok_or("no such user on this machine")?;
    if sees_all_users() { Ok(uid) } else { Err(HIDDEN.to_owned()) }
}

/// A group by its name, else by its number.
fn group(name: &str) -> Result<Members, String> {
    let unknown = |error| format!("can't look for it: {error}");
    let found = match (Group::from_name(name).map_err(unknown)?, number(name)) {
        (None, Some(gid)) => Group::from_gid(Gid::from_raw(gid)).map_err(unknown)?,
        (found, _) => found,
    };
    let group = match found {
        Some(group) => {
            let mut uids = Vec::with_capacity(group.mem.len());
            for member in &group.mem {
                let found = User::from_name(member).map_err(|error| format!("can't look for {member}: {error}"))?;
                // A member that is no user (any more) connects to nothing.
                uids.extend(found.map(|user| user.uid.as_raw()));
            }
            Members { gid: group.gid.as_raw(), uids }
        }
        // One that is not in the list.
        None => Members { gid: number(name).ok_or("no such group on this machine")?, uids: Vec::new() },
    };
    if sees_all_users() { Ok(group) } else { Err(HIDDEN.to_owned()) }
}

/// The last one means nobody to the kernel.
fn number(name: &str) -> Option<u32> {
    name.parse().ok().filter(|number| *number != u32::MAX)
}

const HIDDEN: &str = "this process is in a user namespace, where everybody else looks like nobody: PrivateUsers=no";

/// In a user namespace that knows few users, the kernel calls all others by one number, and nobody can be told apart.
fn sees_all_users() -> bool {
    let known = |line: &str| line.split_ascii_whitespace().nth(2).and_then(|count| count.parse::<u64>().ok());
    // Without /proc there is nothing to go by; it is there wherever systemd is.
    fs::read_to_string("/proc/self/uid_map").map_or(true, |map| map.lines().filter_map(known).sum::<u64>() > 60_000)
}

/// Opens the file, and closes it again.
///
/// # Errors
/// Those of the operating system; what is no file is one.
pub fn can_be_read(path: &Path) -> io::Result<()> {
    // Whoever asks for a plan names the files: to open a pipe would wait for somebody to write into it.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let found = File::options().read(true).custom_flags(flags).open(path)?.metadata()?;
    match (found.is_dir(), found.is_file()) {
        (true, _) => Err(io::ErrorKind::IsADirectory.into()),
        (false, true) => Ok(()),
        (false, false) => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file")),
    }
}
