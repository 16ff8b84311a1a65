//! The throw-away service account: a key file in the real shape, for which this process is the only authority.
//!
//! A client that is pointed at the file needs no special case for the sandbox: it signs with the private key and asks
//! at the `token_uri`, as it does in production.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use aws_lc_rs::{
    digest,
    encoding::AsDer as _,
    rsa::{KeyPair, KeySize},
    signature::KeyPair as _,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use tempfile::TempDir;

/// The account the key belongs to.
pub(super) const CLIENT_EMAIL: &str = "revoked-sandbox@revoked-sandbox.iam.gserviceaccount.com";
const FILE_NAME: &str = "service-account.json";
const BEGIN: &str = "-----BEGIN PRIVATE KEY-----\n";
const END: &str = "-----END PRIVATE KEY-----\n";

/// The account's key as the platform knows it: the file's path and the public half.
pub(super) struct AccountKey {
    pub(super) path: PathBuf,
    /// The `kid` of assertions signed with it.
    pub(super) id: String,
    /// The public key, as PKCS#1.
    pub(super) public: Vec<u8>,
    /// Removes the directory with the sandbox, if it was made for it.
    _directory: Option<TempDir>,
}

impl AccountKey {
    /// Writes the key file into `dir`, with the private key that lies there already if it is a good one, so that a
    /// daemon survives a restart of its sandbox.
    pub(super) fn provide(dir: Option<&Path>, base_url: &str) -> anyhow::Result<Self> {
        let temporary = match dir {
            Some(_) => None,
            None => {
                Some(tempfile::Builder::new().prefix("revoked-sandbox-").tempdir().context("no temporary directory")?)
            }
        };
        let dir = dir.or(temporary.as_ref().map(TempDir::path)).expect("one of the two was given or made");
        let path = dir.join(FILE_NAME);
        fs::create_dir_all(dir).with_context(|| format!("can't create {}", dir.display()))?;
        let pair = match kept(&path) {
            Some(pair) => pair,
            None => KeyPair::generate(KeySize::Rsa2048).context("can't generate an RSA key")?,
        };
        let public = pair.public_key().as_ref().to_vec();
        let id = hex(&digest::digest(&digest::SHA256, &public).as_ref()[..20]);
        let private = pair.as_der().context("can't encode the RSA key")?;
        let file = json!({
            "type": "service_account",
            "project_id": "revoked-sandbox",
            "private_key_id": id,
            "private_key": pem(private.as_ref()),
            "client_email": CLIENT_EMAIL,
            "client_id": "100000000000000000001",
            "auth_uri": format!("{base_url}/auth"),
            "token_uri": format!("{base_url}/token"),
            "auth_provider_x509_cert_url": format!("{base_url}/certs"),
            "client_x509_cert_url": format!("{base_url}/certs"),
            "universe_domain": "googleapis.com",
        });
        write(&path, &format!("{file:#}\n")).with_context(|| format!("can't write {}", path.display()))?;
        Ok(AccountKey { path, id, public, _directory: temporary })
    }
}

/// The private key of an earlier run.
fn kept(path: &Path) -> Option<KeyPair> {
    let file: serde_json::Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let body = file["private_key"].as_str()?.strip_prefix(BEGIN)?.strip_suffix(END)?;
    KeyPair::from_pkcs8(&STANDARD.decode(body.replace('\n', "")).ok()?).ok()
}

/// Replaces the file in one step; a temporary file is readable to its owner only (0600) from the start.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}

fn pem(der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut pem = String::from(BEGIN);
    for line in body.as_bytes().chunks(64) {
        pem.extend(line.iter().copied().map(char::from));
        pem.push('\n');
    }
    pem.push_str(END);
    pem
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn field(path: &Path, name: &str) -> String {
        let file: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        file[name].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_restart_keeps_the_key_and_rewrites_where_to_ask() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("made/on/the/way");
        let first = AccountKey::provide(Some(&inner), "http://127.0.0.1:1").unwrap();
        let private = field(&first.path, "private_key");
        let second = AccountKey::provide(Some(&inner), "http://127.0.0.1:2").unwrap();
        assert_eq!(second.public, first.public);
        assert_eq!(field(&second.path, "private_key"), private);
        assert_eq!(field(&second.path, "token_uri"), "http://127.0.0.1:2/token");
        assert_eq!(fs::metadata(&second.path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_broken_key_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE_NAME), "{\"private_key\": \"-----BEGIN\"}").unwrap();
        let key = AccountKey::provide(Some(dir.path()), "http://127.0.0.1:1").unwrap();
        assert_eq!(field(&key.path, "private_key_id"), key.id);
    }
}
