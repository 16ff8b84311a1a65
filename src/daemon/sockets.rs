//! The sockets: as systemd passed them, each known by its name, or bound by ourselves.
//!
//! What systemd passes stays open while the daemon restarts: connections wait in it, and none is refused. The configuration
//! says what is served, and systemd only who holds the socket: one that nobody would accept from is an error, since clients would
//! hang there for ever.

use std::io::{self, ErrorKind};
use std::iter;
use std::net::SocketAddr;

use listenfd::ListenFd;
use tokio::net::{TcpListener, UnixListener};
use tracing::warn;

use super::exit;
use super::run::Failure;
use crate::config::Server;
use crate::intake::socket;

/// Sockets that systemd passed.
pub(super) struct Passed {
    sockets: ListenFd,
    /// `FileDescriptorName=` of each, in the same order.
    names: Vec<String>,
}

impl Passed {
    /// What systemd handed to this process, which can be asked once. Each has to be one of those that are `served`.
    pub(super) fn from_env(served: &[&str]) -> Result<Self, Failure> {
        let sockets = ListenFd::from_env();
        let given = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        // One without a name is "", and not served.
        let names: Vec<_> = given.split(':').chain(iter::repeat("")).take(sockets.len()).collect();
        for (index, name) in names.iter().enumerate() {
            if !served.contains(name) || names[..index].contains(name) {
                let words = format!(
                    "systemd passed a socket named {name:?} that nobody here would accept from: what is served is {}, each \
                     once; see FileDescriptorName= in its unit, and `listen` in the configuration",
                    served.join(", ")
                );
                return Err(Failure(exit::CONFIG, words));
            }
        }
        let names = names.into_iter().map(str::to_owned).collect();
        Ok(Self { sockets, names })
    }

    /// The API's socket.
    pub(super) fn api(&mut self, server: &Server) -> Result<UnixListener, Failure> {
        let path = &server.socket;
        let Some(index) = self.find("api") else {
            return Ok(socket::bind(path, server.socket_mode, server.socket_owner)?);
        };
        if server.socket_owner != (None, None) {
            warn!(
                "the socket is systemd's, and so are its owner and group: see SocketUser= and SocketGroup= of its unit"
            );
        }
        let listener = self.sockets.take_unix_listener(index).and_then(|listener| {
            let listener = listener.ok_or(ErrorKind::NotFound)?;
            listener.set_nonblocking(true)?;
            UnixListener::from_std(listener)
        });
        let listener = listener.map_err(|error| unusable("api", &error))?;
        if let Ok(address) = listener.local_addr()
            && address.as_pathname() != Some(path.as_path())
        {
            warn!(?address, configured = %path.display(), "systemd passed the API another socket than [server] socket");
        }
        Ok(listener)
    }

    /// The listener of this name, if the configuration has an address for it.
    pub(super) async fn tcp(
        &mut self,
        name: &str,
        address: Option<SocketAddr>,
    ) -> Result<Option<TcpListener>, Failure> {
        let Some(address) = address else { return Ok(None) };
        let Some(index) = self.find(name) else { return bind(name, address).await.map(Some) };
        let listener = self.sockets.take_tcp_listener(index).and_then(|listener| {
            let listener = listener.ok_or(ErrorKind::NotFound)?;
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        });
        let listener = listener.map_err(|error| unusable(name, &error))?;
        if let Ok(passed) = listener.local_addr()
            && passed != address
        {
            warn!(%passed, configured = %address, "systemd passed another address than [{name}] listen");
        }
        Ok(Some(listener))
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|passed| passed == name)
    }
}

fn unusable(name: &str, error: &io::Error) -> Failure {
    let words = format!("systemd passed a socket named {name:?} that can't be used: {error}; see its socket unit");
    Failure(exit::CONFIG, words)
}

async fn bind(name: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        let code = match error.kind() {
            ErrorKind::PermissionDenied => exit::NO_PERMISSION,
            ErrorKind::AddrNotAvailable => exit::CONFIG,
            _ => exit::UNAVAILABLE,
        };
        Failure(code, format!("can't listen on {address}: {error}: choose another [{name}] listen"))
    })
}
