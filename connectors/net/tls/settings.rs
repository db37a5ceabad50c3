//! The certificates of a connection, as a rule file has them.

use std::sync::Arc;

use pointsman_schemas::{Problem, Text};
use rustls::ClientConfig;
use schemars::JsonSchema;
use serde::Deserialize;

use super::ClientTls;
use crate::OpenError;

/// Certificates of a connection by TLS.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// Certificates to trust in place of the system's, in PEM.
    ca: Option<Text>,
    /// The certificate chain to show to the server, in PEM, one's own first.
    certificate: Option<Text>,
    /// Its key, in PEM.
    #[schemars(extend("writeOnly" = true))]
    key: Option<Text>,
}

impl TlsSettings {
    fn certificates(&self) -> ClientTls<'_> {
        ClientTls {
            ca: self.ca.as_ref(),
            certificate: self.certificate.as_ref(),
            key: self.key.as_ref(),
            insecure: false,
            any_name: false,
        }
    }

    /// What is wrong with them, which may stand nowhere.
    pub(crate) fn check(settings: Option<&Self>) -> Option<Problem> {
        let problem = settings?.certificates().check()?;
        Some(problem.at("tls"))
    }

    /// The texts that they are made of.
    pub(crate) fn texts(settings: Option<&Self>) -> impl Iterator<Item = &Text> {
        settings
            .into_iter()
            .flat_map(|tls| [&tls.ca, &tls.certificate, &tls.key])
            .flatten()
    }

    /// Whether a certificate is shown to the server.
    pub(crate) fn shows_certificate(settings: Option<&Self>) -> bool {
        settings.is_some_and(|tls| tls.certificate.is_some())
    }

    /// Whether it is said whom to trust.
    #[cfg(feature = "postgres")]
    pub(crate) fn has_ca(settings: Option<&Self>) -> bool {
        settings.is_some_and(|tls| tls.ca.is_some())
    }

    /// As [`TlsSettings::config`], for a server whose certificate may be any, or that of any host
    /// that `ca` vouches for.
    ///
    /// # Errors
    /// As [`TlsSettings::config`].
    #[cfg(feature = "postgres")]
    pub(crate) fn lax_config(settings: Option<&Self>) -> Result<Arc<ClientConfig>, OpenError> {
        let mut files = settings.map(Self::certificates).unwrap_or_default();
        files.any_name = files.ca.is_some();
        files.insecure = files.ca.is_none();
        read(files)
    }

    /// What TLS is made of; without settings it trusts what the system trusts.
    ///
    /// # Errors
    /// A file cannot be read or used, by its setting.
    pub(crate) fn config(settings: Option<&Self>) -> Result<Arc<ClientConfig>, OpenError> {
        read(settings.map(Self::certificates).unwrap_or_default())
    }
}

fn read(files: ClientTls<'_>) -> Result<Arc<ClientConfig>, OpenError> {
    match files.config() {
        Ok(config) => Ok(Arc::new(config)),
        Err(OpenError(problem)) => Err(OpenError(problem.at("tls"))),
    }
}
