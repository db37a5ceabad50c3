//! The client: one signed call.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, DATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use tokio::time::Instant;

use super::refusal::Refusal;
use super::signature::Signed;
use crate::alibaba::{Endpoint, Signer};
use crate::net::CallError;
use crate::net::answer::Answer;
use crate::net::explain::explain;

/// The API's version.
const VERSION: &str = "2015-06-06";

const XML: &str = "text/xml";

/// What requests in XML say of themselves.
pub(super) const NAMESPACE: &str = "http://mns.aliyuncs.com/doc/v1/";

/// The longest answer: 16 messages of 64 KiB, of which each character may be escaped.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// How many elements an answer has at most: a dozen for each of 16 messages, and what may be added
/// to them.
pub(super) const ELEMENTS_MAX: usize = 4_096;

/// What is called, and as whom. Clones share connections.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) http: crate::net::Client,
    pub(super) endpoint: Endpoint,
    pub(super) signer: Signer,
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// None has begun to come.
    Call(CallError),
    /// It broke off.
    Cut(String),
    /// The request cannot be written.
    Unsayable(String),
}

impl Unanswered {
    /// In one line.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Call(error) => explain(error),
            Self::Cut(why) => format!("the answer broke off: {why}"),
            Self::Unsayable(why) => why.clone(),
        }
    }
}

impl Client {
    /// Makes a call. There must be a connection by `connected`.
    pub(super) async fn call(
        &self,
        method: &Method,
        resource: &str,
        body: &Bytes,
        connected: Option<Instant>,
    ) -> Result<Answered, Unanswered> {
        let request = self
            .request(method, resource, body.clone())
            .map_err(Unanswered::Unsayable)?;
        let answered = self
            .http
            .call(request, connected)
            .await
            .map_err(Unanswered::Call)?;
        let (head, Answer { bytes, cut }) = Answer::read(answered, ANSWER_BYTES_MAX, None).await;
        match cut {
            Some(why) => Err(Unanswered::Cut(why)),
            None => Ok(Answered {
                status: head.status,
                headers: head.headers,
                body: bytes,
            }),
        }
    }

    /// Asks for something: again where a kept connection was closed while the request was on its way.
    /// What is no success is an error, in words.
    pub(super) async fn get(
        &self,
        resource: &str,
    ) -> Result<Result<Answered, Refusal>, Unanswered> {
        let (method, nothing) = (Method::GET, Bytes::new());
        let mut answered = self.call(&method, resource, &nothing, None).await;
        if let Err(Unanswered::Call(CallError::Broken { is_stale: true, .. })) = &answered {
            answered = self.call(&method, resource, &nothing, None).await;
        }
        let answered = answered?;
        Ok(match answered.status.is_success() {
            true => Ok(answered),
            false => Err(Refusal::read(&answered)),
        })
    }

    fn request(
        &self,
        method: &Method,
        resource: &str,
        body: Bytes,
    ) -> Result<Request<Bytes>, String> {
        let keys = self.signer.keys();
        let date = httpdate::fmt_http_date(SystemTime::now());
        let signature = Signed {
            method: method.as_str(),
            content_type: XML,
            date: &date,
            version: VERSION,
            resource,
        }
        .sign(&keys.secret);
        let value = |text: String, what: &str| {
            HeaderValue::try_from(text)
                .map_err(|_| format!("{what} holds characters that no header can"))
        };
        let mut request = Request::new(body);
        *request.method_mut() = method.clone();
        *request.uri_mut() = self.endpoint.uri(resource)?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(XML));
        headers.insert(DATE, value(date, "the date")?);
        let version = HeaderName::from_static("x-mns-version");
        headers.insert(version, HeaderValue::from_static(VERSION));
        if let Some(token) = keys.token {
            let name = HeaderName::from_static("security-token");
            headers.insert(name, value(token, "the security token")?);
        }
        let authorization = format!("MNS {}:{signature}", keys.id);
        headers.insert(AUTHORIZATION, value(authorization, "the access key")?);
        Ok(request)
    }
}

/// As MNS is told a time.
pub(super) fn seconds(duration: Duration) -> u64 {
    duration.as_secs()
}
