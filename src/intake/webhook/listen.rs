//! The webhook's door: TCP, and TLS where there is no proxy to do it.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::Setup;
use crate::intake::server::Listener;

/// A certificate and its key, ready for use.
#[derive(Clone, Debug)]
pub struct Tls(Arc<ServerConfig>);

/// Reads a certificate chain and its key, both PEM.
///
/// # Errors
/// In words that name the file.
pub fn tls(certificate: &Path, key: &Path) -> Result<Tls, String> {
    let unusable = |path: &Path, why: String| format!("can't use {} for TLS: {why}", path.display());
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(certificate, error.to_string()))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, error.to_string()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private));
    let mut config = config.map_err(|error: rustls::Error| unusable(certificate, error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Tls(Arc::new(config)))
}

pub(super) struct Door {
    pub(super) listener: TcpListener,
    pub(super) setup: watch::Receiver<Arc<Setup>>,
}

impl Listener for Door {
    type Stream = Either<TcpStream, TlsStream<TcpStream>>;
    type Peer = IpAddr;
    type Opening = BoxFuture<'static, io::Result<Self::Stream>>;

    async fn accept(&self) -> io::Result<(Self::Opening, IpAddr)> {
        let (stream, from) = self.listener.accept().await?;
        // Each connection with the certificate of now: a renewed one takes a reload and no restart.
        let tls = self.setup.borrow().tls.clone();
        let opening = async move {
            stream.set_nodelay(true)?;
            match tls {
                Some(Tls(config)) => TlsAcceptor::from(config).accept(stream).await.map(Either::Right),
                None => Ok(Either::Left(stream)),
            }
        };
        Ok((Box::pin(opening), from.ip()))
    }

    /// Whoever is meant to push comes again.
    fn turn_away(_: Self::Opening) {}
}
