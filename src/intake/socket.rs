//! The unix socket: found as systemd passed it, or bound with care.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::UnixListener;

/// Why there is no socket to listen on.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody answers there.
    #[error("another daemon listens on {0}: stop it first, or give this one a socket of its own ([server] socket)")]
    InUse(PathBuf),
    /// Something else is there.
    #[error("{0} exists and is not a socket: nothing was touched; move it away, or choose another [server] socket")]
    NotASocket(PathBuf),
    /// Anything else.
    #[error("can't listen on {path}: {error}{hint}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
        /// What can be done.
        hint: &'static str,
    },
}

/// Connections that may wait to be accepted; as in revoked.socket.
const BACKLOG: i32 = 4096;

/// Listens on `path` with these permissions, as the socket of this user and group where they are given. Nobody gets in before
/// it has them.
///
/// A socket that is already there is dialled first: if somebody answers it is theirs, if nobody does it was left behind by a
/// crash. Unlinking blindly would let a second daemon take the first one's clients.
///
/// # Errors
/// [`SocketError`], naming the way out.
pub fn bind(path: &Path, mode: u32, (user, group): (Option<u32>, Option<u32>)) -> Result<UnixListener, SocketError> {
    let io = |error: io::Error| {
        let hint = match error.kind() {
            ErrorKind::NotFound => ": its directory does not exist (systemd makes it with revoked.socket)",
            ErrorKind::PermissionDenied => ": choose a directory that this user may write to ([server] socket)",
            _ => "",
        };
        SocketError::Io { path: path.to_owned(), error, hint }
    };
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NotASocket(path.to_owned())),
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => return Err(SocketError::InUse(path.to_owned())),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(io)?,
            // It may live, and we may not dial it.
            Err(error) => return Err(io(error)),
        },
        Err(_) => {
            if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
                // Only its own directory, not a whole path: a misspelt one should be noticed.
                fs::DirBuilder::new().mode(0o755).create(directory).map_err(io)?;
            }
        }
    }
    let bound = || {
        let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(socket)
    };
    let socket: OwnedFd = bound().map_err(|error: Errno| io(error.into()))?;
    if (user, group) != (None, None) {
        chown(path, user, group).map_err(|error| SocketError::Io {
            path: path.to_owned(),
            error,
            hint: ": only root gives a socket to another user, and others to a group of their own only (socket_user, socket_group)",
        })?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(io)?;
    net::listen(&socket, BACKLOG).map_err(|error| io(error.into()))?;
    let listener = std::os::unix::net::UnixListener::from(socket);
    listener.set_nonblocking(true).map_err(io)?;
    UnixListener::from_std(listener).map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_living_daemons_socket_is_left_alone_and_a_dead_ones_is_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/revoked.sock");
        let first = bind(&path, 0o660, (None, None)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(matches!(bind(&path, 0o660, (None, None)), Err(SocketError::InUse(_))));
        drop(first);
        bind(&path, 0o600, (None, None)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_socket_that_can_not_be_dialled_is_not_taken_for_a_dead_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("other.sock");
        let _other = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        assert!(matches!(bind(&path, 0o660, (None, None)), Err(SocketError::Io { .. })));
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_file_in_its_place_is_not_touched() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("precious");
        fs::write(&path, "data").unwrap();
        assert!(matches!(bind(&path, 0o660, (None, None)), Err(SocketError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "data");
    }
}
