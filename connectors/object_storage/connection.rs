//! The way to a bucket and to a queue: settings that source and target share, and the SDK's clients
//! made of them.

use std::error::Error;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::future;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Credentials, IdentityCache, ProvideCredentials, RequestChecksumCalculation,
    ResponseChecksumValidation, SharedCredentialsProvider,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use parking_lot::Mutex;
use pointsman_schemas::{Problem, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use crate::OpenError;
use crate::files::Files;
use crate::parameter::resolve;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one request may take: longer than a long poll of a queue, which is the longest.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(40);

/// The region where none is told: what stores outside AWS take for any.
const REGION: &str = "us-east-1";

/// Keys in place of what the SDK finds by itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyPair {
    /// The access key's id.
    pub access_key: Text,
    /// The secret access key.
    #[schemars(extend("writeOnly" = true))]
    pub secret_key: Text,
    /// The token of temporary keys.
    #[schemars(extend("writeOnly" = true))]
    pub session_token: Option<Text>,
}

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

impl KeyPair {
    /// The files that they are taken from.
    pub(super) fn files(&self) -> Files {
        Files::of(
            [&self.access_key, &self.secret_key]
                .into_iter()
                .chain(&self.session_token),
        )
    }

    fn open(&self) -> Result<Credentials, OpenError> {
        let text = |text: &Text, key: &str| resolve(text, &["credentials".into(), key.into()]);
        let token = self
            .session_token
            .as_ref()
            .map(|token| text(token, "session_token"))
            .transpose()?;
        Ok(Credentials::new(
            text(&self.access_key, "access_key")?,
            text(&self.secret_key, "secret_key")?,
            token,
            None,
            "rule file",
        ))
    }
}

/// Keys that are read again once their files have changed.
#[derive(Debug)]
struct Renewed {
    keys: KeyPair,
    current: Mutex<(Files, Credentials)>,
}

impl Renewed {
    fn open(keys: &KeyPair) -> Result<Self, OpenError> {
        let files = keys.files();
        Ok(Self {
            keys: keys.clone(),
            current: Mutex::new((files, keys.open()?)),
        })
    }

    fn credentials(&self) -> Credentials {
        let (files, credentials) = &mut *self.current.lock();
        if files.have_changed(false) {
            match self.keys.open() {
                Ok(renewed) => *credentials = renewed,
                Err(error) => {
                    tracing::warn!(%error, "the keys of a bucket have changed and cannot be read; the former go on")
                }
            }
        }
        credentials.clone()
    }
}

impl ProvideCredentials for Renewed {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Ok(self.credentials()))
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

    /// Looks whether the bucket is there and may be seen.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(super) async fn find(&self) -> Result<(), OpenError> {
        let Err(error) = self.client.head_bucket().bucket(&self.name).send().await else {
            return Ok(());
        };
        let name = &self.name;
        let response = error.raw_response();
        let region = response
            .and_then(|response| response.headers().get("x-amz-bucket-region"))
            .map(str::to_owned);
        let (message, key, help) =
            match (response.map(|response| response.status().as_u16()), region) {
                (Some(301 | 307 | 400 | 403), Some(region)) if region != self.region => (
                    format!(
                        "the bucket {name} is in the region {region}, not in {}",
                        self.region
                    ),
                    "region",
                    "set this region",
                ),
                (Some(404), _) => (
                    format!("there is no bucket {name}"),
                    "bucket",
                    "make it, or correct its name",
                ),
                (Some(401 | 403), _) => (
                    format!(
                        "the store does not let us see the bucket {name}{}",
                        self.why_refused().await
                    ),
                    "bucket",
                    "check the credentials, and that they may list it",
                ),
                (Some(301 | 307), _) => (
                    format!(
                        "the bucket {name} is in another region than {}",
                        self.region
                    ),
                    "region",
                    "set region",
                ),
                (Some(400), _) => match why_invalid(name) {
                    Some(why) => (
                        format!("{name:?} cannot be the name of a bucket: {why}"),
                        "bucket",
                        "correct its name",
                    ),
                    None => (
                        format!(
                            "the store does not understand the request for the bucket {name}{}",
                            self.why_refused().await
                        ),
                        "bucket",
                        "check its name, region and the credentials",
                    ),
                },
                (Some(status), _) => (
                    format!("the store answers {status} when asked for the bucket {name}"),
                    "endpoint",
                    "look at its log",
                ),
                (None, _) => match explain(&error) {
                    // The SDK asks its chain on the way to the store, and tells both by the same
                    // kind of error.
                    cause
                        if cause.contains("loading credentials")
                            || cause.contains("credential provider") =>
                    {
                        (
                            format!("there are no credentials for the store: {cause}"),
                            "credentials",
                            "write credentials, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
                        )
                    }
                    cause => (
                        format!("cannot reach the store: {cause}"),
                        "endpoint",
                        "check the address and that it runs",
                    ),
                },
            };
        Err(OpenError(Problem::new(message).at(key).help(help)))
    }

    /// What the store says of why it refuses, as the end of a sentence: an answer to HEAD has no
    /// body to say it in, one to a listing has.
    async fn why_refused(&self) -> String {
        let asked = self
            .client
            .list_objects_v2()
            .bucket(&self.name)
            .max_keys(1)
            .send()
            .await;
        asked
            .err()
            .map(|error| format!(": {}", explain(&error)))
            .unwrap_or_default()
    }
}

/// Why this cannot be the name of a bucket by the rules of S3 for general purpose buckets, which
/// other stores follow or widen.
fn why_invalid(name: &str) -> Option<&'static str> {
    (!(3..=63).contains(&name.len()))
        .then_some("it has 3 to 63 characters")
        .or_else(|| why_misspelt(name))
}

/// The same, whatever its length.
fn why_misspelt(name: &str) -> Option<&'static str> {
    let is_edge = |byte: Option<&u8>| {
        byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let bytes = name.as_bytes();
    if bytes.iter().any(u8::is_ascii_uppercase) {
        Some("it has no capital letters")
    } else if !bytes.iter().all(|byte| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.')
    }) {
        Some("it has lower case letters, digits, hyphens and dots alone")
    } else if !is_edge(bytes.first()) || !is_edge(bytes.last()) {
        Some("it begins and ends with a letter or a digit")
    } else if name.contains("..") {
        Some("no two dots stand side by side in it")
    } else if name.parse::<std::net::Ipv4Addr>().is_ok() {
        Some("it is not written as an IP address")
    } else {
        None
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

/// What went wrong with a request, in one line.
pub(super) fn explain<E: ProvideErrorMetadata + Error + 'static>(
    error: &SdkError<E, HttpResponse>,
) -> String {
    if let SdkError::ServiceError(told) = error {
        let status = told.raw().status().as_u16();
        let meta = told.err().meta();
        let parts = [meta.code(), meta.message()];
        return parts
            .into_iter()
            .flatten()
            .fold(status.to_string(), |line, part| format!("{line} {part}"));
    }
    crate::http::client::explain(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_buckets_follow_the_rules_of_s3() {
        for name in [
            "abc",
            "my-bucket",
            "my.bucket.1",
            "0-0",
            "192.168.5",
            &*"a".repeat(63),
        ] {
            assert_eq!(why_invalid(name), None, "{name}");
        }
        for (name, why) in [
            ("ab", "3 to 63"),
            (&*"a".repeat(64), "3 to 63"),
            ("Photos", "capital"),
            ("my_bucket", "hyphens"),
            ("fotos\u{fc}", "hyphens"),
            ("-photos", "begins"),
            ("photos.", "ends"),
            ("my..photos", "side by side"),
            ("192.168.5.4", "IP address"),
        ] {
            assert!(
                why_invalid(name).is_some_and(|found| found.contains(why)),
                "{name}: {:?}",
                why_invalid(name)
            );
        }
    }
}
