//! The way to a bucket and to a queue: settings that source and target share, and the SDK's clients
//! made of them.

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    IdentityCache, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedCredentialsProvider,
};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use pointsman_schemas::{Problem, Text};
use url::Url;

use super::bucket_name::why_misspelt;
use super::keys::{KeyPair, Renewed};
use crate::OpenError;
use crate::parameter::resolve;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one request may take: longer than a long poll of a queue, which is the longest.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(40);

/// The region where none is told: what stores outside AWS take for any.
const REGION: &str = "us-east-1";

/// Which bucket, and how it is reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection<'s> {
    pub(super) endpoint: Option<&'s Text>,
    pub(super) bucket: &'s Text,
    pub(super) region: Option<&'s Text>,
    pub(super) credentials: Option<&'s KeyPair>,
    pub(super) path_style: Option<bool>,
}

/// A bucket that can be asked.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    pub(super) client: aws_sdk_s3::Client,
    pub(super) name: String,
    pub(super) region: String,
    /// The store's address; empty for AWS.
    pub(super) endpoint: String,
    shared: SdkConfig,
}

impl Connection<'_> {
    /// Every mistake in what is written out.
    pub(super) fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Some(Err(problem)) = self.endpoint.and_then(Text::literal).map(check_url) {
            problems.push(problem.at("endpoint"));
        }
        match self.bucket.literal() {
            Some("") => {
                problems.push(Problem::new("a bucket's name must not be empty").at("bucket"))
            }
            Some(name) if name.starts_with("s3://") || name.contains('/') => {
                problems.push(
                    Problem::new("is not the bare name of a bucket")
                        .at("bucket")
                        .help("write its name alone, and `prefix` for a part of it"),
                );
            }
            // Other stores have rules of their own.
            Some(name) if self.endpoint.is_none() => {
                let problem = |why| {
                    Problem::new(format!("{name:?} cannot be the name of a bucket: {why}"))
                        .at("bucket")
                };
                problems.extend(why_misspelt(name).map(problem));
            }
            _ => {}
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

    /// Makes the bucket's client; each request is tried by the SDK so many times.
    ///
    /// # Errors
    /// A text cannot be resolved, or an address is none.
    pub(super) async fn open(&self, attempts: u32) -> Result<Bucket, OpenError> {
        let endpoint = self
            .endpoint
            .map(|endpoint| resolve(endpoint, &["endpoint".into()]))
            .transpose()?;
        if let Some(endpoint) = &endpoint {
            check_url(endpoint).map_err(|problem| OpenError(problem.at("endpoint")))?;
        }
        let name = resolve(self.bucket, &["bucket".into()])?;
        let region = self
            .region
            .map(|region| resolve(region, &["region".into()]))
            .transpose()?;
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
                let loader = if let Some(region) = region {
                    loader.region(Region::new(region))
                } else {
                    loader
                };
                loader.load().await
            }
        };
        let mut config = aws_sdk_s3::config::Builder::from(&shared)
            .force_path_style(self.path_style.unwrap_or(endpoint.is_some()))
            // Elsewhere a name that ends in --x-s3 is a name as any other.
            .disable_s3_express_session_auth(endpoint.is_some())
            // Many stores know none of the newer checksums.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        if let Some(endpoint) = &endpoint {
            config = config.endpoint_url(endpoint);
        }
        Ok(Bucket {
            client: aws_sdk_s3::Client::from_conf(config.build()),
            name,
            region: shared.region().map_or(REGION, Region::as_ref).to_owned(),
            endpoint: endpoint.unwrap_or_default(),
            shared,
        })
    }
}

impl Bucket {
    /// The client of the queue at this address, with the bucket's credentials.
    ///
    /// # Errors
    /// The address is none.
    pub(super) fn queues(&self, queue: &str) -> Result<aws_sdk_sqs::Client, Problem> {
        let url = check_url(queue)?;
        // `https://sqs.eu-west-1.amazonaws.com/123456789012/uploads` tells its region, which need
        // not be the bucket's.
        let of_aws = url
            .host_str()
            .and_then(|host| host.strip_prefix("sqs.")?.split_once(".amazonaws.com"));
        let region = of_aws
            .map_or(self.region.as_str(), |(region, _)| region)
            .to_owned();
        let config = aws_sdk_sqs::config::Builder::from(&self.shared)
            .region(Region::new(region))
            .endpoint_url(url.origin().ascii_serialization());
        Ok(aws_sdk_sqs::Client::from_conf(config.build()))
    }
}

/// Reads the address of a store or a queue.
pub(super) fn check_url(text: &str) -> Result<Url, Problem> {
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
