//! What is asked of the server's certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::Verifier;
use x509_cert::der::Decode as _;

use super::TlsError;
use crate::config::secret_file;

/// Longest file of root certificates, in bytes: many times what a system has.
const LONGEST: u64 = 16 * 1024 * 1024;

/// What is asked of the server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::postgres) enum Verify {
    /// Nothing: guards against listeners, not against impostors.
    Nothing,
    /// Signed by an authority in this file, for whatever host.
    Authority(PathBuf),
    /// Signed by an authority in this file, for this host.
    Full(PathBuf),
    /// Signed by an authority that the system trusts, for this host.
    FullSystem,
}

impl Verify {
    /// The file of root certificates.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Verify::Authority(file) | Verify::Full(file) => Some(file),
            Verify::Nothing | Verify::FullSystem => None,
        }
    }

    /// What does it.
    ///
    /// # Errors
    /// The file can't be used, or the system's certificates can't.
    pub fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
        Ok(match self {
            Verify::Nothing => Arc::new(AnyCertificate { provider: provider.clone() }),
            Verify::Authority(file) => Arc::new(Known::read(file, false, provider)?),
            Verify::Full(file) => Arc::new(Known::read(file, true, provider)?),
            Verify::FullSystem => Arc::new(Verifier::new(provider.clone())?),
        })
    }
}

/// `require`: the handshake must be sound, the certificate may be anybody's.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// `verify-ca` and `verify-full` with a file: the chain must lead to one of its certificates.
#[derive(Debug)]
struct Known {
    inner: Arc<WebPkiServerVerifier>,
    certificates: Vec<CertificateDer<'static>>,
    /// Whether the name must be right as well.
    by_name: bool,
}

impl Known {
    fn read(file: &Path, by_name: bool, provider: &Arc<CryptoProvider>) -> Result<Known, TlsError> {
        let failed = |why: String| TlsError::File { option: "sslrootcert", file: file.to_owned(), why };
        let text = secret_file::read_up_to(file, LONGEST).map_err(|error| failed(error.to_string()))?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let certificates = certificates.map_err(|error| failed(error.to_string()))?;
        if certificates.is_empty() {
            return Err(failed("it has no certificate in PEM (BEGIN CERTIFICATE)".into()));
        }
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots.add(certificate.clone()).map_err(|error| failed(error.to_string()))?;
        }
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let inner = builder.build().map_err(|error| failed(error.to_string()))?;
        Ok(Known { inner, certificates, by_name })
    }

    /// The server's certificate is in the file itself, as where it signed itself. OpenSSL makes such ones as authorities, which
    /// the library doesn't take for a server's. Here nothing is left to ask but time and name.
    fn pinned(
        &self,
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let bad = || rustls::Error::from(CertificateError::BadEncoding);
        let parsed = x509_cert::Certificate::from_der(certificate).map_err(|_| bad())?;
        let validity = &parsed.tbs_certificate.validity;
        let now = Duration::from_secs(now.as_secs());
        if now < validity.not_before.to_unix_duration() {
            return Err(CertificateError::NotValidYet.into());
        }
        if now > validity.not_after.to_unix_duration() {
            return Err(CertificateError::Expired.into());
        }
        if self.by_name {
            verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        }
        Ok(ServerCertVerified::assertion())
    }
}

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext};
        match self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The inner verifier looks at the name last, when the chain has been found good.
            Err(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }))
                if !self.by_name =>
            {
                Ok(ServerCertVerified::assertion())
            }
            Err(_) if self.certificates.iter().any(|known| known == end_entity) => {
                self.pinned(end_entity, server_name, now)
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
