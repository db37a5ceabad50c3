//! Whether a bucket is there and may be seen, and what keeps it from that.

use pointsman_schemas::Problem;

use super::bucket_name::why_invalid;
use super::connection::Bucket;
use crate::OpenError;
use crate::aws::{explain, unreachable};

impl Bucket {
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
            (None, _) => unreachable("the store", &explain(&error)),
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

fn misnamed(name: &str, why: &str) -> (String, &'static str, &'static str) {
    (
        format!("there is no bucket {name:?}, and none can have that name: {why}"),
        "bucket",
        "correct its name",
    )
}

#[cfg(test)]
mod tests;
