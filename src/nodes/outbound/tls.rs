//! TLS towards servers: their certificates are always verified, by rustls with the system's roots and those of
//! `outbound.ca_file`. There is no way to switch that off.

use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls_platform_verifier::Verifier;

use super::SetupError;

/// The configuration that all clients share.
pub(super) fn config(ca_file: Option<&Path>) -> Result<ClientConfig, SetupError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let more = ca_file.map(authorities).transpose()?.unwrap_or_default();
    let verifier = Verifier::new_with_extra_roots(more, provider.clone())?;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let verified = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)); // the system's own rules
    let mut config = verified.with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn authorities(file: &Path) -> Result<Vec<CertificateDer<'static>>, SetupError> {
    let failed = |why: String| SetupError::Authorities { file: file.to_owned(), why };
    let found = CertificateDer::pem_file_iter(file).map_err(|error| failed(error.to_string()))?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|error| failed(error.to_string()))?;
    if found.is_empty() { Err(failed("it has no certificates in PEM form".into())) } else { Ok(found) }
}
