//! Our certificate and its key, for servers that want to see one.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;
use crate::config::secret_file;

/// Longest file with a certificate and its chain, or with a key, in bytes.
const LONGEST: u64 = 1024 * 1024;

/// The files of a client certificate, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::postgres) struct Identity {
    /// The certificate, and those between it and the authority.
    pub certificate: PathBuf,
    /// Its key: PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key: PathBuf,
}

impl Identity {
    /// Read both.
    ///
    /// # Errors
    /// One can't be read or used, or others may read the key.
    pub fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let failed = |why: String| TlsError::File { option: "sslcert", file: self.certificate.clone(), why };
        let text = secret_file::read_up_to(&self.certificate, LONGEST).map_err(|error| failed(error.to_string()))?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let chain = chain.map_err(|error| failed(error.to_string()))?;
        if chain.is_empty() {
            return Err(failed("it has no certificate in PEM (BEGIN CERTIFICATE)".into()));
        }
        Ok((chain, self.read_key()?))
    }

    fn read_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let failed = |why: String| TlsError::File { option: "sslkey", file: self.key.clone(), why };
        private(&self.key).map_err(failed)?;
        let text = secret_file::read_up_to(&self.key, LONGEST).map_err(|error| failed(error.to_string()))?;
        PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
            let encrypted = [&b"BEGIN ENCRYPTED PRIVATE KEY"[..], b"Proc-Type: 4,ENCRYPTED"];
            let is_encrypted = encrypted.iter().any(|mark| text.windows(mark.len()).any(|part| part == *mark));
            failed(match error {
                _ if is_encrypted => {
                    "it is encrypted; decrypt it (openssl pkey -in KEY -out NEW) and guard it by its mode".into()
                }
                pem::Error::NoItemsFound => "it has no key in PEM (PKCS#8, PKCS#1 or SEC1)".into(),
                // Not the parser's own words, which may quote the file.
                _ => "it is no valid PEM".into(),
            })
        })
    }

    /// The two don't fit each other, or not the library.
    pub fn unusable(&self, error: &rustls::Error) -> TlsError {
        let why = match error {
            rustls::Error::InconsistentKeys(_) => {
                format!("it is not the key of the certificate in sslcert {}", self.certificate.display())
            }
            other => other.to_string(),
        };
        TlsError::File { option: "sslkey", file: self.key.clone(), why }
    }
}

/// Whether nobody else may read a key, by libpq's rule: for its owner alone, and also for the group where it is root's.
fn private(path: &Path) -> Result<(), String> {
    let found = path.metadata().map_err(|error: io::Error| error.to_string())?;
    if !found.is_file() {
        return Err("it is no regular file".into());
    }
    let forbidden = if found.uid() == 0 { 0o037 } else { 0o077 };
    if found.mode() & forbidden != 0 {
        return Err(format!(
            "others may use it (mode {:04o}); chmod 0600, or 0640 where root owns it",
            found.mode() & 0o7777
        ));
    }
    Ok(())
}
