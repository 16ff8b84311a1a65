//! The webhook's setup from a configuration: what its files say is read here, at the start and at each reload.

use crate::config::{ForwardMode, Webhook};
use crate::intake::webhook::{self, Forward, Setup, Target};
use crate::secret;

/// Reads files, so not to be called where that may not block.
///
/// # Errors
/// In words that name the file.
pub(super) fn setup(from: &Webhook) -> Result<Setup, String> {
    let tokens =
        from.client_token_files.iter().map(|path| secret::read("client token", path)).collect::<Result<_, _>>()?;
    let tls = from.tls.as_ref().map(|(certificate, key)| webhook::tls(certificate, key)).transpose()?;
    let answers = from.forward == ForwardMode::Answer;
    let forward = from.forward_to.clone().map(|url| Forward::to(Target { url, answers })).transpose()?;
    Ok(Setup { tokens, tls, forward })
}
