//! The webhook's setup from a configuration: what its files say is read here, at the start and at each reload.

use std::io;
use std::path::Path;

use secrecy::SecretString;
use tokio::net::TcpListener;

use crate::config::{ForwardMode, Webhook};
use crate::intake::webhook::{self, Forward, Setup, Target};

/// Reads files, so not to be called where that may not block.
///
/// # Errors
/// In words that name the file.
pub(super) fn setup(from: &Webhook) -> Result<Setup, String> {
    let tokens = from.client_token_files.iter().map(|path| client_token(path)).collect::<Result<_, _>>()?;
    let tls = from.tls.as_ref().map(|(certificate, key)| webhook::tls(certificate, key)).transpose()?;
    let answers = from.forward == ForwardMode::Answer;
    let forward = from.forward_to.clone().map(|url| Forward::to(Target { url, answers })).transpose()?;
    Ok(Setup { tokens, tls, forward })
}

fn client_token(path: &Path) -> Result<SecretString, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("can't read the client token in {}: {error}", path.display()))?;
    match text.trim() {
        // Anybody could sign with that.
        "" => Err(format!("there is no client token in {}: the file is empty", path.display())),
        token => Ok(token.to_owned().into()),
    }
}

/// Listens where the configuration says.
///
/// # Errors
/// In words that name the way out.
pub(super) async fn listen(from: &Webhook) -> io::Result<Option<TcpListener>> {
    let Some(address) = from.listen else { return Ok(None) };
    TcpListener::bind(address).await.map(Some).map_err(|error| {
        let words = format!("can't listen on {address} for the webhook: {error}: choose another [webhook] listen");
        io::Error::new(error.kind(), words)
    })
}
