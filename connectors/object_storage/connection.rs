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
use crate::net::client::causes;
use crate::net::fault::{self, Advice};
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
        let (message, key, help) = match (response.map(|told| told.status().as_u16()), region) {
            (Some(301 | 307 | 400 | 403), Some(region)) if region != self.region => (
                format!(
                    "the bucket {name} is in the region {region}, not in {}",
                    self.region
                ),
                "region",
                "set this region",
            ),
            (Some(301 | 307), _) => (
                format!(
                    "the bucket {name} is in another region than {}",
                    self.region
                ),
                "region",
                "set region to the bucket's own",
            ),
            (Some(404), _) => match why_invalid(name) {
                Some(why) => misnamed(name, why),
                None => (
                    format!("there is no bucket {name}"),
                    "bucket",
                    "make it, or correct its name",
                ),
            },
            (Some(status @ (400 | 401 | 403)), _) => self.refusal(status).await,
            (Some(status), _) => (
                format!("the store answers {status} when asked for the bucket {name}"),
                "endpoint",
                "look at its log",
            ),
            (None, _) => unreachable_store(&explain(&error)),
        };
        Err(OpenError(Problem::new(message).at(key).help(help)))
    }

    /// What it means that the store refuses to show the bucket. An answer to HEAD has no body to
    /// say it in, one to a listing has.
    async fn refusal(&self, status: u16) -> (String, &'static str, &'static str) {
        let name = &self.name;
        let listed = self
            .client
            .list_objects_v2()
            .bucket(name)
            .max_keys(1)
            .send()
            .await;
        let body = listed
            .as_ref()
            .err()
            .and_then(|error| error.raw_response()?.body().bytes())
            .map(String::from_utf8_lossy)
            .unwrap_or_default();
        let why = listed
            .as_ref()
            .err()
            .map(|error| format!(": {}", explain(error)))
            .unwrap_or_default();
        if TLS_WANTED.iter().any(|words| body.contains(words)) {
            return (
                "the store speaks TLS there".to_owned(),
                "endpoint",
                "write https:// in the place of http://",
            );
        }
        if why.contains("AuthorizationHeaderMalformed") {
            return (
                format!("the bucket {name} is in another region{why}"),
                "region",
                "set region to the bucket's own",
            );
        }
        if status != 400 {
            return (
                format!("the store does not let us see the bucket {name}{why}"),
                "bucket",
                "check the credentials, and that they may list it",
            );
        }
        match why_invalid(name) {
            Some(why) => misnamed(name, why),
            None => (
                format!("the store does not understand the request for the bucket {name}{why}"),
                "bucket",
                "check its name, region and the credentials",
            ),
        }
    }
}

/// What servers answer that are spoken to without TLS and expect it: those written in Go, nginx,
/// Apache.
const TLS_WANTED: [&str; 3] = [
    "HTTP request to an HTTPS server",
    "plain HTTP request was sent to HTTPS port",
    "plain HTTP to an SSL-enabled server port",
];

/// What is said and done about each fault on the way to a store.
const SETTINGS: fault::Settings = fault::Settings {
    url: "endpoint",
    tls: "endpoint",
    trust: "add that authority to those that the system trusts, or name its file in SSL_CERT_FILE",
    no_tls: "write http:// in the place of https://, or name the port that speaks TLS",
    closed: "check that it is the store that listens there, and whether it speaks TLS (https://)",
};

fn misnamed(name: &str, why: &str) -> (String, &'static str, &'static str) {
    (
        format!("there is no bucket {name:?}, and none can have that name: {why}"),
        "bucket",
        "correct its name",
    )
}

/// What it means that no answer came.
fn unreachable_store(cause: &str) -> (String, &'static str, &'static str) {
    if is_about_credentials(cause) {
        return (
            format!("there are no credentials for the store: {cause}"),
            "credentials",
            "write credentials, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        );
    }
    if cause.contains("region must be set") {
        return (
            "no region is known".to_owned(),
            "region",
            "write region, or set AWS_REGION",
        );
    }
    let (what, at, help) = match fault::advice(cause, &SETTINGS, false) {
        Some(Advice { at, what, help }) => (what, at, help),
        // An alert of TLS is no answer of HTTP.
        None if cause.contains("invalid HTTP version") => (
            "what answers there does not speak HTTP".to_owned(),
            "endpoint",
            "where the store speaks TLS there, write https:// in the place of http://",
        ),
        None => (
            cause.to_owned(),
            "endpoint",
            "check the address and that it runs",
        ),
    };
    (format!("cannot reach the store: {what}"), at, help)
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
    } else if ["xn--", "sthree-", "amzn-s3-demo-"]
        .iter()
        .any(|start| name.starts_with(start))
    {
        Some("xn--, sthree- and amzn-s3-demo- do not begin one")
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
    // The SDK wraps what has happened into the names of its own layers, and asks its chain for
    // credentials on the way to the store.
    match causes(error).find(|cause| is_about_credentials(&cause.to_string())) {
        Some(cause) => crate::net::client::explain(cause),
        None => causes(error)
            .last()
            .map_or_else(|| error.to_string(), ToString::to_string),
    }
}

fn is_about_credentials(words: &str) -> bool {
    words.contains("loading credentials") || words.contains("credential provider")
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn names_of_buckets_follow_the_rules_of_s3() {
        for name in [
            "abc",
            "my-bucket",
            "my.bucket.1",
            "0-0",
            "192.168.5",
            // What such names stand for is read as a bucket is: access points, directory buckets.
            "photos-s3alias",
            "photos--ol-s3",
            "photos--euw1-az1--x-s3",
            "photos.mrap",
            "photos-xn--0",
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
            ("xn--photos", "begin one"),
            ("sthree-photos", "begin one"),
            ("amzn-s3-demo-bucket", "begin one"),
        ] {
            assert!(
                why_invalid(name).is_some_and(|found| found.contains(why)),
                "{name}: {:?}",
                why_invalid(name)
            );
        }
    }

    /// A store that answers each request with a status, headers and a body of its own.
    async fn answering(status: u16, headers: &'static str, body: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 16 * 1024];
                let length = stream.read(&mut request).await.unwrap_or_default();
                let body = if request[..length].starts_with(b"HEAD") {
                    ""
                } else {
                    body
                };
                let answer = format!(
                    "HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        format!("http://{address}")
    }

    async fn found(endpoint: &str, bucket: &str) -> String {
        let (endpoint, bucket) = (Text::from(endpoint), Text::from(bucket));
        let keys = KeyPair {
            access_key: Text::from("key"),
            secret_key: Text::from("secret"),
            session_token: None,
        };
        let connection = Connection {
            endpoint: Some(&endpoint),
            bucket: &bucket,
            region: None,
            credentials: Some(&keys),
            path_style: None,
        };
        let opened = connection.open(1).await.unwrap();
        opened.find().await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn what_a_store_answers_is_said_in_the_words_of_the_settings() {
        const IRELAND: &str = "x-amz-bucket-region: eu-west-1\r\n";
        const MALFORMED: &str = "<Error><Code>AuthorizationHeaderMalformed</Code><Message>the region 'us-east-1' is wrong; expecting 'eu-west-1'</Message></Error>";
        const DENIED: &str =
            "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
        const HTTPS: &str = "Client sent an HTTP request to an HTTPS server.\n";
        let elsewhere = "region: the bucket photos is in the region eu-west-1, not in us-east-1 (set this region)";
        for (status, headers, body, bucket, expect) in [
            (301, IRELAND, "", "photos", elsewhere),
            (400, IRELAND, "", "photos", elsewhere),
            (403, IRELAND, DENIED, "photos", elsewhere),
            (
                301,
                "",
                "",
                "photos",
                "region: the bucket photos is in another region than us-east-1",
            ),
            (
                400,
                "",
                MALFORMED,
                "photos",
                "region: the bucket photos is in another region: 400 AuthorizationHeaderMalformed",
            ),
            (
                403,
                "",
                DENIED,
                "photos",
                "bucket: the store does not let us see the bucket photos: 403 AccessDenied",
            ),
            (404, "", "", "photos", "bucket: there is no bucket photos ("),
            (
                404,
                "",
                "",
                "Photos",
                "bucket: there is no bucket \"Photos\", and none can have that name: it has no capital",
            ),
            (
                400,
                "",
                "",
                "ab",
                "bucket: there is no bucket \"ab\", and none can have that name: it has 3 to 63",
            ),
            (
                404,
                "",
                "",
                "photos--x-s3",
                "bucket: there is no bucket photos--x-s3 (",
            ),
            (
                400,
                "",
                HTTPS,
                "photos",
                "endpoint: the store speaks TLS there (write https://",
            ),
            (503, "", "", "photos", "endpoint: the store answers 503"),
        ] {
            let told = found(&answering(status, headers, body).await, bucket).await;
            assert!(told.starts_with(expect), "{status} {bucket}: {told}");
        }
    }

    #[tokio::test]
    async fn a_store_that_cannot_be_reached_is_said_in_the_words_of_the_settings() {
        let store = answering(200, "", "").await;
        let tls = store.replace("http://", "https://");
        for (endpoint, expect) in [
            (
                &*tls,
                "endpoint: cannot reach the store: the server does not speak TLS there (write http://",
            ),
            (
                "http://127.0.0.1:1",
                "endpoint: cannot reach the store: Connection refused",
            ),
            (
                "http://no-such-host.invalid",
                "endpoint: cannot reach the store: its host name has no address (check the spelling",
            ),
        ] {
            let told = found(endpoint, "photos").await;
            assert!(told.starts_with(expect), "{endpoint}: {told}");
        }
    }
}
