//! A client that keeps its connections and remembers nothing it was not told.

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

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
    /// Where no whole answer came.
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
        let response = self.0.request(request.body(Full::new(body.into()))?).await?;
        let (parts, body) = response.into_parts();
        Ok((parts.status.as_u16(), parts.headers, body.collect().await?.to_bytes()))
    }

    /// Reads a URL.
    ///
    /// # Errors
    /// As [`Caller::call`].
    pub async fn get(&self, url: &str) -> Result<(u16, Bytes), Error> {
        self.call(Method::GET, url, &[], Bytes::new()).await.map(|(status, _, body)| (status, body))
    }

    /// Posts a JSON document.
    ///
    /// # Errors
    /// As [`Caller::call`].
    pub async fn post_json(&self, url: &str, body: impl Into<Bytes>) -> Result<(u16, Bytes), Error> {
        self.call(Method::POST, url, &[("content-type", "application/json")], body).await.map(|(status, _, body)| (status, body))
    }

    /// Posts an event in binary mode: 202 means that it is on disk.
    ///
    /// # Errors
    /// As [`Caller::call`].
    pub async fn event(&self, url: &str, id: &str, ty: &str, data: impl Into<Bytes>) -> Result<u16, Error> {
        let headers =
            [("ce-specversion", "1.0"), ("ce-id", id), ("ce-source", "/test"), ("ce-type", ty), ("content-type", "application/json")];
        self.call(Method::POST, url, &headers, data).await.map(|(status, _, _)| status)
    }
}
