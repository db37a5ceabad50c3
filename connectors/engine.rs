//! How to reach the engine that keeps the log of many machines, as the rule file says it under
//! `store.log`.
//!
//! What the log is made of there is not known here: this is where its servers are, as whom to
//! connect, and how that is encrypted.

use pointsman_schemas::{Problem, Secret, Text};
use rustls::ClientConfig;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::OpenError;
use crate::net::tls::ClientTls;
use crate::parameter::resolve;

/// PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresEngine {
    /// As postgres://user:password@host,host/database?sslmode=require.
    #[schemars(extend("writeOnly" = true))]
    url: Text,
    /// What TLS is made of; without it the system's authorities are trusted where the URL has
    /// `sslmode=require`.
    tls: Option<PostgresTls>,
}

/// How the connection to PostgreSQL is encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresTls {
    /// Certificates to trust in place of the system's, in PEM.
    ca: Option<Text>,
    /// The certificate chain to show to the server, in PEM, one's own first.
    certificate: Option<Text>,
    /// Its key, in PEM.
    #[schemars(extend("writeOnly" = true))]
    key: Option<Text>,
}

impl PostgresTls {
    fn files(&self) -> ClientTls<'_> {
        ClientTls {
            ca: self.ca.as_ref(),
            certificate: self.certificate.as_ref(),
            key: self.key.as_ref(),
            insecure: false,
            any_name: false,
        }
    }
}

impl PostgresEngine {
    /// What is wrong with the settings as they are written.
    #[must_use]
    pub fn check(&self) -> Vec<Problem> {
        let is_url = |url: &str| {
            let url = url.trim_start();
            url.starts_with("postgres://") || url.starts_with("postgresql://") || url.contains('=')
        };
        let url = self.url.literal().filter(|url| !is_url(url)).map(|_| {
            Problem::new("this is no URL of PostgreSQL")
                .help("write postgres://user:password@host:port/database")
                .at("url")
        });
        let tls = self.tls.as_ref().and_then(|tls| tls.files().check());
        let tls = tls.map(|problem| problem.at("tls"));
        url.into_iter().chain(tls).collect()
    }

    /// The URL, and what TLS is made of where there is to be some.
    ///
    /// # Errors
    /// A text has no value, or a certificate cannot be used.
    pub fn resolve(&self) -> Result<(Secret, Option<ClientConfig>), OpenError> {
        let url = Secret::new(resolve(&self.url, &["url".into()])?);
        let is_required = url.expose().contains("sslmode=require");
        if self.tls.is_none() && !is_required {
            return Ok((url, None));
        }
        let files = self.tls.as_ref().map(PostgresTls::files);
        let config = files.unwrap_or_default().config();
        let config = config.map_err(|OpenError(problem)| OpenError(problem.at("tls")))?;
        Ok((url, Some(config)))
    }
}
