//! TLS: of clients, whom to trust and what to show to the server; and of servers.

#[cfg(test)]
pub(crate) mod fixtures;
mod server;
#[cfg(any(
    feature = "amqp",
    feature = "mqtt",
    feature = "mysql-cdc",
    feature = "postgres",
    feature = "postgres-cdc",
    feature = "redis",
    feature = "rocketmq",
    feature = "smtp"
))]
mod settings;

use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt;
use pointsman_schemas::{Problem, Text};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WantsClientCert, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::OpenError;
use crate::parameter::resolve;

pub(crate) use server::server_config;

#[cfg(any(
    feature = "amqp",
    feature = "mqtt",
    feature = "mysql-cdc",
    feature = "postgres",
    feature = "postgres-cdc",
    feature = "redis",
    feature = "rocketmq",
    feature = "smtp"
))]
pub use settings::TlsSettings;

/// Where the certificates of a client are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ClientTls<'s> {
    /// Certificates to trust in place of the system's, in PEM.
    pub(crate) ca: Option<&'s Text>,
    /// The chain to show to the server, in PEM, one's own certificate first.
    pub(crate) certificate: Option<&'s Text>,
    /// Its key, in PEM.
    pub(crate) key: Option<&'s Text>,
    /// Whether to take any certificate of the server.
    pub(crate) insecure: bool,
    /// Whether a certificate that `ca` vouches for may be another host's.
    pub(crate) any_name: bool,
}

impl ClientTls<'_> {
    /// A certificate without its key, or the reverse; and what trusts nobody in particular and
    /// anybody.
    pub(crate) fn check(self) -> Option<Problem> {
        match (self.certificate, self.key) {
            (Some(_), None) => {
                return Some(Problem::new("a certificate needs its key").at("certificate"));
            }
            (None, Some(_)) => return Some(Problem::new("a key needs its certificate").at("key")),
            _ => {}
        }
        let is_both = self.insecure && self.ca.is_some();
        is_both.then(|| Problem::new("with insecure any certificate is taken, and ca says nothing; leave one of them out").at("insecure"))
    }

    /// As [`ClientTls::config`]. For a URL that asks for no TLS the files are not read, least of
    /// all the system's many certificates.
    pub(crate) fn config_for(self, is_https: bool) -> Result<ClientConfig, OpenError> {
        if is_https {
            return self.config();
        }
        let anybody = ClientTls {
            insecure: true,
            ..ClientTls::default()
        };
        anybody.config()
    }

    /// What TLS is made of; without settings it trusts what the system trusts.
    ///
    /// # Errors
    /// A file cannot be read or used, by its setting.
    pub(crate) fn config(self) -> Result<ClientConfig, OpenError> {
        let ca = self.ca.map(|ca| text(ca, "ca")).transpose()?;
        let trust = match &ca {
            _ if self.insecure => Trust::Anybody,
            Some(ca) if self.any_name => Trust::CertificatesOfAnyName(ca),
            Some(ca) => Trust::Certificates(ca),
            None => Trust::System,
        };
        let builder = trust.builder().map_err(|error| problem("ca", error))?;
        let Some((certificate, key)) = self.certificate.zip(self.key) else {
            return Ok(builder.with_no_client_auth());
        };
        let chain = certificates(&text(certificate, "certificate")?)
            .map_err(|mistake| problem("certificate", mistake))?;
        let key = PrivateKeyDer::from_pem_slice(text(key, "key")?.as_bytes())
            .map_err(|error| problem("key", format!("cannot read the key: {error}")))?;
        builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => OpenError(
                    Problem::new("the key does not belong to the certificate")
                        .help("name the key that the certificate was made for")
                        .at("key"),
                ),
                error => problem("key", format!("cannot use the certificate: {error}")),
            })
    }
}

fn problem(at: &str, mistake: String) -> OpenError {
    OpenError(Problem::new(mistake).at(at))
}

fn text(text: &Text, at: &str) -> Result<String, OpenError> {
    resolve(text, &[at.into()])
}

/// Whose certificates a client takes.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'p> {
    /// Those of whom the system trusts: a few hundred files are read.
    System,
    /// Those that the certificates of this text in PEM vouch for.
    Certificates(&'p str),
    /// The same, whatever host they are for.
    CertificatesOfAnyName(&'p str),
    /// None: TLS is not spoken.
    Nobody,
    /// Any whose key the server has.
    Anybody,
}

impl Trust<'_> {
    /// What TLS is made of, for a client that shows no certificate of its own.
    ///
    /// # Errors
    /// There is no certificate in the text, or one that cannot be read or trusted; those of the
    /// system cannot be read.
    pub(crate) fn config(self) -> Result<ClientConfig, String> {
        Ok(self.builder()?.with_no_client_auth())
    }

    fn builder(self) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        Ok(match self {
            Self::System => builder.with_native_roots().map_err(|error| {
                format!("cannot read the certificates that the system trusts: {error}")
            })?,
            Self::Certificates(pem) => builder.with_root_certificates(roots(pem)?),
            Self::CertificatesOfAnyName(pem) => {
                let roots = Arc::new(roots(pem)?);
                let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider);
                let verifier = verifier.build().map_err(|error| error.to_string())?;
                let verifier = Arc::new(AnyName(verifier));
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(verifier)
            }
            Self::Nobody => builder.with_root_certificates(RootCertStore::empty()),
            Self::Anybody => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anybody(provider))),
        })
    }
}

fn roots(pem: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots
            .add(certificate)
            .map_err(|error| format!("cannot trust a certificate: {error}"))?;
    }
    Ok(roots)
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err("there is no certificate in it".to_owned()),
        Err(error) => Err(format!("cannot read the certificates: {error}")),
    }
}

/// Takes any certificate whose key the server has: for servers whose operator has asked for that.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Takes a certificate that an authority vouches for, whatever host it is for.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self
            .0
            .verify_server_cert(certificate, chain, name, ocsp, now);
        match verified {
            // The name is looked at last, once all else is right.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
