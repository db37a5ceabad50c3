//! Where AWS is, or what speaks like it, and as whom it is asked: settings that connectors share,
//! and the SDK's configuration made of them.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_sqs::config::IdentityCache;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use pointsman_schemas::{Problem, Text};
use url::Url;

use super::keys::{KeyPair, Renewed};
use crate::OpenError;
use crate::files::Files;
use crate::parameter::resolve;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one request may take: longer than a long poll of a queue, which is the longest.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(40);

/// The region where none is told: what speaks like AWS takes it for any.
const REGION: &str = "us-east-1";

/// Where AWS is, or what speaks like it, and as whom it is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access<'s> {
    pub(crate) endpoint: Option<&'s Text>,
    pub(crate) region: Option<&'s Text>,
    pub(crate) credentials: Option<&'s KeyPair>,
}

impl Access<'_> {
    /// Every mistake in what is written out.
    pub(crate) fn check(self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Some(Err(problem)) = self.endpoint.and_then(Text::literal).map(check_url) {
            problems.push(problem.at("endpoint"));
        }
        if self.region.and_then(Text::literal) == Some("") {
            problems.push(
                Problem::new("a region's name must not be empty")
                    .at("region")
                    .help("leave it out"),
            );
        }
        for (key, text) in self.credentials.iter().flat_map(|own| {
            [
                ("access_key", &own.access_key),
                ("secret_key", &own.secret_key),
            ]
        }) {
            if text.literal() == Some("") {
                problems.push(Problem::new("must not be empty").at(key).at("credentials"));
            }
        }
        problems
    }

    /// The files that credentials are taken from.
    pub(crate) fn files(self) -> Files {
        self.credentials
            .map_or_else(|| Files::of([]), KeyPair::files)
    }

    /// What clients are made of, and the endpoint, where there is one. The SDK tries each request so
    /// many times. `region` counts where the settings name none.
    ///
    /// # Errors
    /// A text cannot be resolved, or an address is none.
    pub(crate) async fn open(
        self,
        attempts: u32,
        region: Option<String>,
    ) -> Result<(SdkConfig, Option<String>), OpenError> {
        let text = |text: Option<&Text>, key: &str| {
            text.map(|text| resolve(text, &[key.into()])).transpose()
        };
        let endpoint = text(self.endpoint, "endpoint")?;
        if let Some(endpoint) = &endpoint {
            check_url(endpoint).map_err(|problem| OpenError(problem.at("endpoint")))?;
        }
        let region = text(self.region, "region")?.or(region);
        let region = region.or_else(|| endpoint.as_ref().map(|_| REGION.to_owned()));
        let retry = RetryConfig::standard().with_max_attempts(attempts);
        let timeout = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .build();
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .build_https();
        let shared = match self.credentials {
            // Nothing of the machine's own configuration is looked at where everything is told.
            Some(keys) => SdkConfig::builder()
                .behavior_version(BehaviorVersion::latest())
                .http_client(http)
                .retry_config(retry)
                .timeout_config(timeout)
                .region(Region::new(region.unwrap_or_else(|| REGION.to_owned())))
                .credentials_provider(SharedCredentialsProvider::new(Renewed::open(keys)?))
                // The keys know by themselves when they have changed.
                .identity_cache(IdentityCache::no_cache())
                .build(),
            None => {
                let loader = aws_config::defaults(BehaviorVersion::latest())
                    .http_client(http)
                    .retry_config(retry)
                    .timeout_config(timeout);
                let loader = match region {
                    Some(region) => loader.region(Region::new(region)),
                    None => loader,
                };
                loader.load().await
            }
        };
        Ok((shared, endpoint))
    }
}

/// Reads the address of a store or a queue.
pub(crate) fn check_url(text: &str) -> Result<Url, Problem> {
    let problem =
        |message: &str| Problem::new(message).help("write one such as http://127.0.0.1:9000");
    let url = Url::parse(text).map_err(|_| problem("is not a URL"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(problem("is not an http:// or https:// URL"));
    }
    if url.password().is_some() || !url.username().is_empty() {
        return Err(Problem::new("a URL must not hold credentials")
            .help("write credentials: { access_key: …, secret_key: { env: NAME } }"));
    }
    Ok(url)
}
