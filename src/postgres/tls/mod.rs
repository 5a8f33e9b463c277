//! TLS by rustls with the ring provider, with libpq's levels of use and verification.
//!
//! Files are read when they have changed and a connection is made: certificates are renewed while a worker runs.

mod identity;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::ClientConfig;
use tokio_postgres_rustls::MakeRustlsConnect;

pub(super) use identity::Identity;
pub(super) use verify::Verify;

/// The protocol inside, for servers that take TLS without being asked for it first (`sslnegotiation=direct`).
const ALPN: &[u8] = b"postgresql";

/// Whether TLS is used; what is verified is another matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Never.
    Never,
    /// Where the server doesn't take a connection without.
    Allow,
    /// Where the server has it; without, if that fails.
    Prefer,
    /// Always, or no connection.
    Always,
}

/// What a connection string says about TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tls {
    /// Whether it is used.
    pub wanted: Use,
    /// What is asked of the server's certificate.
    pub verify: Verify,
    /// Who we say that we are.
    pub identity: Option<Identity>,
}

impl Tls {
    /// None at all.
    pub const NONE: Tls = Tls { wanted: Use::Never, verify: Verify::Nothing, identity: None };

    fn files(&self) -> impl Iterator<Item = &Path> {
        let identity = self.identity.iter().flat_map(|identity| [&identity.certificate, &identity.key]);
        self.verify.file().into_iter().chain(identity.map(PathBuf::as_path))
    }
}

/// The TLS settings can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file that the connection string names.
    #[error("can't use {option} {}: {why}", file.display())]
    File {
        /// The parameter.
        option: &'static str,
        /// The file.
        file: PathBuf,
        /// Why.
        why: String,
    },
    /// Something in the TLS library.
    #[error("can't set up TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

/// Makes what encrypts connections, anew when a file has changed.
pub(super) struct Connector {
    tls: Tls,
    made: Mutex<(Vec<Stamp>, MakeRustlsConnect)>,
}

/// By what a change of a file is noticed; none for one that can't be looked at.
type Stamp = Option<(SystemTime, u64)>;

impl Connector {
    /// For these settings.
    ///
    /// # Errors
    /// A file can't be used.
    pub fn new(tls: &Tls) -> Result<Connector, TlsError> {
        let stamps = stamps(tls);
        Ok(Connector { tls: tls.clone(), made: Mutex::new((stamps, make(tls)?)) })
    }

    /// Whether TLS is used.
    pub fn wanted(&self) -> Use {
        self.tls.wanted
    }

    /// For the next connection. Looks at the files.
    ///
    /// # Errors
    /// A file has changed, and can't be used.
    pub fn current(&self) -> Result<MakeRustlsConnect, TlsError> {
        let now = stamps(&self.tls);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.0 != now {
            // Before the files are read: what changes meanwhile is noticed the next time.
            *made = (now, make(&self.tls)?);
        }
        Ok(made.1.clone())
    }
}

fn stamps(tls: &Tls) -> Vec<Stamp> {
    let stamp = |file: &Path| file.metadata().and_then(|found| Ok((found.modified()?, found.len()))).ok();
    tls.files().map(stamp).collect()
}

fn make(tls: &Tls) -> Result<MakeRustlsConnect, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = tls.verify.verifier(&provider)?;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match &tls.identity {
        Some(identity) => {
            let (chain, key) = identity.read()?;
            builder.with_client_auth_cert(chain, key).map_err(|error| identity.unusable(&error))?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(MakeRustlsConnect::new(config))
}
