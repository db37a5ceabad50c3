//! A client that keeps its connections and remembers nothing it was not told.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// How long an answer may take: longer than anything in a test does, and shorter than the patience
/// of who waits for a call.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A caller of HTTP services, with a connection pool.
#[derive(Clone, Debug)]
pub struct Caller(Client<HttpConnector, Full<Bytes>>);

/// What went wrong with a call; nothing is known of what the other side did.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

impl Default for Caller {
    fn default() -> Self {
        Self::new()
    }
}

impl Caller {
    /// A caller without connections.
    #[must_use]
    pub fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self(Client::builder(TokioExecutor::new()).build(connector))
    }

    /// Makes a call and reads the whole answer.
    ///
    /// # Errors
    /// Where no whole answer came, or none within half a minute.
    pub async fn call(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<(u16, HeaderMap, Bytes), Error> {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into()))?;
        let answer = async {
            let (parts, body) = self.0.request(request).await?.into_parts();
            Ok((
                parts.status.as_u16(),
                parts.headers,
                body.collect().await?.to_bytes(),
            ))
        };
        tokio::time::timeout(ANSWER_WITHIN, answer)
            .await
            .unwrap_or_else(
                |_| Err(format!("no answer from {url} within {ANSWER_WITHIN:?}").into()),
            )
    }

    /// Reads a URL.
    ///
    /// # Errors
    /// As [`Caller::call`].
    pub async fn get(&self, url: &str) -> Result<(u16, Bytes), Error> {
        self.call(Method::GET, url, &[], Bytes::new())
            .await
            .map(|(status, _, body)| (status, body))
    }

    /// Posts a JSON document.
    ///
    /// # Errors
    /// As [`Caller::call`].
    pub async fn post_json(
        &self,
        url: &str,
        body: impl Into<Bytes>,
    ) -> Result<(u16, Bytes), Error> {
        self.call(
            Method::POST,
            url,
            &[("content-type", "application/json")],
            body,
        )
        .await
        .map(|(status, _, body)| (status, body))
    }

    /// Posts an event in binary mode: 202 means that it is on disk.
    ///
    /// # Errors
    /// As [`Caller::call`].
    pub async fn event(
        &self,
        url: &str,
        id: &str,
        ty: &str,
        data: impl Into<Bytes>,
    ) -> Result<u16, Error> {
        let headers = [
            ("ce-specversion", "1.0"),
            ("ce-id", id),
            ("ce-source", "/test"),
            ("ce-type", ty),
            ("content-type", "application/json"),
        ];
        self.call(Method::POST, url, &headers, data)
            .await
            .map(|(status, _, _)| status)
    }
}
