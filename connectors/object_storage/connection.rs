//! The way to a bucket and to a queue: settings that source and target share, and the SDK's clients
//! made of them.

use aws_config::{Region, SdkConfig};
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use pointsman_schemas::{Problem, Text};

use super::bucket_name::why_misspelt;
use crate::OpenError;
use crate::aws::queue::region_of;
use crate::aws::{Access, KeyPair, check_url};
use crate::parameter::resolve;

/// The region where the SDK finds none.
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
    pub(super) fn access(&self) -> Access<'_> {
        Access {
            endpoint: self.endpoint,
            region: self.region,
            credentials: self.credentials,
        }
    }

    /// Every mistake in what is written out.
    pub(super) fn check(&self) -> Vec<Problem> {
        let mut problems = self.access().check();
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
        problems
    }

    /// Makes the bucket's client; each request is tried by the SDK so many times.
    ///
    /// # Errors
    /// A text cannot be resolved, or an address is none.
    pub(super) async fn open(&self, attempts: u32) -> Result<Bucket, OpenError> {
        let name = resolve(self.bucket, &["bucket".into()])?;
        let (shared, endpoint) = self.access().open(attempts, None).await?;
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
        // It need not be the bucket's.
        let region = region_of(&url).unwrap_or_else(|| self.region.clone());
        let config = aws_sdk_sqs::config::Builder::from(&self.shared)
            .region(Region::new(region))
            .endpoint_url(url.origin().ascii_serialization());
        Ok(aws_sdk_sqs::Client::from_conf(config.build()))
    }
}
