//! A client of an S3-compatible store that takes any signature, apart from the connector that the
//! tests are about.

use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::Caller;

/// What stands as it is in a path (RFC 3986, section 2.3), and the slash.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

/// A store with one bucket, and one queue for what happens in it.
#[derive(Clone, Debug)]
pub struct Store {
    address: String,
    caller: Caller,
}

/// The bucket.
pub const BUCKET: &str = "uploads";

/// The path of the queue's URL.
pub const QUEUE_PATH: &str = "/123456789012/uploads";

impl Store {
    /// Makes bucket and queue at a port of this machine.
    ///
    /// # Panics
    /// Where the store refuses.
    pub async fn prepare(port: u16) -> Self {
        let store = Self {
            address: format!("http://127.0.0.1:{port}"),
            caller: Caller::new(),
        };
        store
            .call(Method::PUT, "s3", &format!("/{BUCKET}"), &[], String::new())
            .await;
        let headers = [
            ("x-amz-target", "AmazonSQS.CreateQueue"),
            ("content-type", "application/x-amz-json-1.0"),
        ];
        store
            .call(
                Method::POST,
                "sqs",
                "/",
                &headers,
                format!(r#"{{"QueueName":"{BUCKET}"}}"#),
            )
            .await;
        store
    }

    /// Has the store tell the queue of everything that happens in the bucket, or of nothing any
    /// more.
    pub async fn notify(&self, on: bool) {
        let queue = "<QueueConfiguration><Id>all</Id><Queue>arn:aws:sqs:us-east-1:123456789012:uploads</Queue>\
            <Event>s3:ObjectCreated:*</Event><Event>s3:ObjectRemoved:*</Event></QueueConfiguration>";
        let queue = if on { queue } else { "" };
        let body = format!(
            "<NotificationConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{queue}</NotificationConfiguration>"
        );
        self.call(
            Method::PUT,
            "s3",
            &format!("/{BUCKET}?notification"),
            &[],
            body,
        )
        .await;
    }

    /// Puts an object.
    pub async fn put(&self, key: &str, content: &str) {
        self.call(Method::PUT, "s3", &path(key), &[], content.to_owned())
            .await;
    }

    /// Deletes an object.
    pub async fn delete(&self, key: &str) {
        self.call(Method::DELETE, "s3", &path(key), &[], String::new())
            .await;
    }

    async fn call(
        &self,
        method: Method,
        service: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) {
        let scope = format!(
            "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=any"
        );
        let headers = [
            headers,
            &[
                ("authorization", &*scope),
                ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
            ],
        ]
        .concat();
        let (status, _, answer) = self
            .caller
            .call(method, &format!("{}{path}", self.address), &headers, body)
            .await
            .expect("the store answers");
        assert!(
            (200..300).contains(&status),
            "{path}: {status} {}",
            String::from_utf8_lossy(&answer)
        );
    }
}

fn path(key: &str) -> String {
    format!("/{BUCKET}/{}", utf8_percent_encode(key, KEPT))
}
