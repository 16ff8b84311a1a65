//! Secrets in files of their own: one each, with nothing around it but blanks.

use std::path::Path;

use secrecy::SecretString;

/// Reads a secret, to be called this in words.
///
/// # Errors
/// In words that name the file, and nothing of what is in it.
pub(crate) fn read(what: &str, path: &Path) -> Result<SecretString, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("can't read the {what} in {}: {error}", path.display()))?;
    match text.trim() {
        // Anybody could know that one.
        "" => Err(format!("there is no {what} in {}: the file is empty", path.display())),
        secret => Ok(secret.into()),
    }
}
