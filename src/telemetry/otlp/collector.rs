//! A call of whoever collects what is exported: OTLP over HTTP, or over gRPC, of which a call without streams
//! is a request of HTTP/2 with five bytes before its message, and a status in the trailers.
//!
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, RETRY_AFTER, TE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use pointsman_connectors::net::{self, Client, Trust, root};
use prost::Message;
use tokio::time::timeout;

use super::settings::{Export, Protocol};

/// How much of an answer is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How long the head of a message is in gRPC: whether it is compressed, and its length.
const FRAME_HEAD_BYTES: usize = 5;

/// Statuses of HTTP after which a call may be made again.
const AGAIN_HTTP: [u16; 4] = [429, 502, 503, 504];

/// Statuses of gRPC likewise: cancelled, deadline exceeded, aborted, out of range, unavailable,
/// data loss.
const AGAIN_GRPC: [u32; 6] = [1, 4, 10, 11, 14, 15];

/// The status of gRPC that says too much.
const RESOURCE_EXHAUSTED: u32 = 8;

/// Who collects what is exported.
#[derive(Debug)]
pub(super) struct Collector {
    client: Client,
    uri: Uri,
    protocol: Protocol,
    headers: HeaderMap,
    timeout: Duration,
}

/// What came of a call.
#[derive(Debug)]
pub(super) enum Answer {
    /// What was sent is taken, but for so many spans or points.
    Taken { rejected: u64, why: String },
    /// They are not. The call may be made again where `again` says so, after a time that it may
    /// say too.
    Untaken {
        why: String,
        again: Option<Option<Duration>>,
    },
}

impl Collector {
    /// # Errors
    /// The address or a header is none, or a certificate cannot be read.
    pub(super) fn new(export: &Export) -> Result<Self, String> {
        let uri: Uri = export
            .endpoint
            .parse()
            .map_err(|error| format!("{:?} is no address: {error}", export.endpoint))?;
        let is_https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => {
                let what = "begins with neither http:// nor https://";
                return Err(format!(
                    "the collector's address {:?} {what}",
                    export.endpoint
                ));
            }
        };
        let trust = match &export.ca {
            _ if !is_https => Trust::Nobody,
            Some(pem) => Trust::Certificates(pem),
            None => Trust::System,
        };
        // The operator says where it is: it may be on this machine.
        let client = match export.protocol {
            Protocol::Http => net::unguarded(trust)?,
            Protocol::Grpc => net::unguarded_http2(trust)?,
        };
        Ok(Self {
            client,
            uri,
            protocol: export.protocol,
            headers: headers(export)?,
            timeout: export.timeout,
        })
    }

    /// Where it is.
    pub(super) fn address(&self) -> String {
        let authority = self.uri.authority().map(|authority| authority.as_str());
        authority.unwrap_or_default().to_owned()
    }

    /// Calls it with the message of a request.
    pub(super) async fn call(&self, message: Bytes) -> Answer {
        match timeout(self.timeout, self.ask(message)).await {
            Ok(answer) => answer,
            Err(_elapsed) => away(format!("no answer within {:?}", self.timeout)),
        }
    }

    async fn ask(&self, message: Bytes) -> Answer {
        let body = match self.protocol {
            Protocol::Http => message,
            Protocol::Grpc => framed(&message),
        };
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().clone_from(&self.headers);
        let mut answered = match self.client.call(request, None).await {
            Ok(answered) => answered,
            Err(error) => return away(root(&error).to_string()),
        };
        let body = Limited::new(answered.body(), ANSWER_BYTES_MAX);
        let body = match body.collect().await {
            Ok(body) => body,
            Err(error) => return away(format!("its answer broke off: {error}")),
        };
        let head = answered.keep();
        let trailers = body.trailers().cloned().unwrap_or_default();
        let body = body.to_bytes();
        match self.protocol {
            Protocol::Http => of_http(head.status, &head.headers, &body),
            Protocol::Grpc => of_grpc(head.status, &head.headers, &trailers, &body),
        }
    }
}

fn headers(export: &Export) -> Result<HeaderMap, String> {
    let (media_type, te) = match export.protocol {
        Protocol::Http => ("application/x-protobuf", None),
        Protocol::Grpc => (
            "application/grpc",
            Some(HeaderValue::from_static("trailers")),
        ),
    };
    let agent = concat!("pointsman/", env!("CARGO_PKG_VERSION"));
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, HeaderValue::from_static(agent));
    for (name, value) in &export.headers {
        let of = |what| format!("the header {name:?} for the collector has {what}");
        let key = HeaderName::try_from(name.as_str())
            .map_err(|_| of("a name that no header can have"))?;
        let mut value = HeaderValue::try_from(value.expose())
            .map_err(|_| of("a value that no header can have"))?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.extend(te.map(|te| (TE, te)));
    Ok(headers)
}

fn away(why: String) -> Answer {
    Answer::Untaken {
        why,
        again: Some(None),
    }
}

/// A message of gRPC, uncompressed.
fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(FRAME_HEAD_BYTES + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(message);
    framed.freeze()
}

fn of_http(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> Answer {
    if status.is_success() {
        return taken(body);
    }
    let after = headers.get(RETRY_AFTER);
    let after = after.and_then(|after| after.to_str().ok()?.trim().parse().ok());
    Answer::Untaken {
        why: format!("it answered {status}"),
        again: AGAIN_HTTP
            .contains(&status.as_u16())
            .then(|| after.map(Duration::from_secs)),
    }
}

fn of_grpc(status: StatusCode, headers: &HeaderMap, trailers: &HeaderMap, body: &Bytes) -> Answer {
    // Where there is no message the trailers are the headers.
    let of = |name: &str| trailers.get(name).or(headers.get(name))?.to_str().ok();
    let Some(code) = of("grpc-status").and_then(|code| code.trim().parse::<u32>().ok()) else {
        return Answer::Untaken {
            why: format!("it answered {status}, and not by gRPC"),
            again: AGAIN_HTTP.contains(&status.as_u16()).then_some(None),
        };
    };
    if code == 0 {
        return taken(&body.slice(FRAME_HEAD_BYTES.min(body.len())..));
    }
    let message = of("grpc-message").unwrap_or_default();
    let message = percent_encoding::percent_decode_str(message).decode_utf8_lossy();
    let is_full = code == RESOURCE_EXHAUSTED && trailers.contains_key("grpc-retry-pushback-ms");
    Answer::Untaken {
        why: format!("it answered with the status {code} of gRPC: {message}"),
        again: (AGAIN_GRPC.contains(&code) || is_full).then_some(None),
    }
}

/// What an answer says of what was sent with its call: those of all signals have the same fields
/// under the same numbers. One that cannot be read says that everything is taken.
fn taken(message: &Bytes) -> Answer {
    let answer = ExportTraceServiceResponse::decode(message.clone()).unwrap_or_default();
    let partial = answer.partial_success.unwrap_or_default();
    Answer::Taken {
        rejected: u64::try_from(partial.rejected_spans).unwrap_or(0),
        why: partial.error_message,
    }
}
