//! The API's socket: as systemd passed it, or bound by ourselves.

use std::path::Path;

use listenfd::ListenFd;
use tokio::net::UnixListener;

use crate::intake::socket::{self, SocketError};

/// The listener.
///
/// # Errors
/// [`SocketError`].
pub(super) fn api(path: &Path, mode: u32) -> Result<UnixListener, SocketError> {
    let passed = ListenFd::from_env().take_unix_listener(0).and_then(|passed| match passed {
        Some(listener) => {
            listener.set_nonblocking(true)?;
            UnixListener::from_std(listener).map(Some)
        }
        None => Ok(None),
    });
    match passed {
        Ok(Some(listener)) => Ok(listener),
        Ok(None) => socket::bind(path, mode),
        Err(error) => Err(SocketError::Io {
            path: path.to_owned(),
            error,
            hint: ": systemd passed something that is not a listening unix socket; see revoked.socket",
        }),
    }
}
