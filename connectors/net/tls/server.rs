//! TLS of servers: the certificate that they show, and whose they ask for.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::roots;

/// What TLS is made of, for a server that shows this chain. Where `clients` are given, whoever
/// connects has to show a certificate that they vouch for. All are in PEM.
///
/// # Errors
/// What is wrong with them, in words.
pub(crate) fn server_config(
    certificate: &str,
    key: &str,
    clients: Option<&str>,
) -> Result<ServerConfig, String> {
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("the certificate is not in PEM: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|error| format!("the key is not in PEM: {error}"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let roots = Arc::new(roots(clients)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| error.to_string())?)
        }
    };
    let config = builder.with_single_cert(chain, key);
    config.map_err(|error| format!("the certificate and the key are of no use: {error}"))
}
