//! One request and its answer.

use std::borrow::Cow;
use std::convert::Infallible;

use bytes::{Bytes, BytesMut};
use http::header::{ALLOW, CONNECTION, HOST, HeaderName};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::coding;
use super::refusal::Refusal;
use super::routes::{Handler, REQUEST_BYTES, Request, Routes};
use super::serving::Watched;
use super::{BUSY_WAIT, Response};

const METHODS: HeaderValue = HeaderValue::from_static("OPTIONS, POST");
const METHODS_WITH_PUT: HeaderValue = HeaderValue::from_static("OPTIONS, POST, PUT");
const REQUEST_ORIGIN: HeaderName = HeaderName::from_static("webhook-request-origin");
const REQUEST_RATE: HeaderName = HeaderName::from_static("webhook-request-rate");
const ALLOWED_ORIGIN: HeaderName = HeaderName::from_static("webhook-allowed-origin");
const ALLOWED_RATE: HeaderName = HeaderName::from_static("webhook-allowed-rate");

/// Bodies up to this length are copied: a slice would keep 8 KiB of the connection's buffer from
/// being read into again, and making another costs more than the copy.
const COPIED_BYTES_MAX: usize = 4 * 1024;

impl Routes {
    /// Answers a request: everything that can be refused by the head alone is, before the body is
    /// asked for.
    pub(super) async fn answer(
        self,
        request: http::Request<Watched>,
    ) -> Result<Response, Infallible> {
        // A part of the address that is kept would keep the connection's buffer from being used
        // again.
        let shown = tracing::enabled!(tracing::Level::DEBUG).then(|| {
            (
                request.method().clone(),
                request.uri().path_and_query().cloned(),
            )
        });
        let taken = self.take(request).await;
        Ok(taken.unwrap_or_else(|refusal| {
            if let Some((method, address)) = shown {
                // The query may hold a secret, so it is not shown.
                let path = address
                    .as_ref()
                    .map(|address| address.path())
                    .unwrap_or_default();
                tracing::debug!(
                    %method, path, status = refusal.status.as_u16(), detail = %refusal.detail,
                    "request refused"
                );
            }
            refusal.into()
        }))
    }

    async fn take(&self, request: http::Request<Watched>) -> Result<Response, Refusal> {
        let (head, body) = request.into_parts();
        check_host(&head)?;
        let Some(handler) = self.handler(head.uri.path()) else {
            return Err(Refusal::new(
                StatusCode::NOT_FOUND,
                "nothing is received at this path; CloudEvents are taken at /events",
            ));
        };
        match head.method {
            Method::POST => {}
            Method::PUT if handler.takes_put() => {}
            Method::OPTIONS => return Ok(handshake(&head, &*handler)),
            _ => {
                if matches!(head.method, Method::GET | Method::HEAD)
                    && let Some(answer) = handler.get(&head)
                {
                    return answer;
                }
                let refusal = Refusal::new(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "this method is not understood here; send what you have by POST",
                );
                return Err(refusal.with(ALLOW, methods(&*handler)));
            }
        }
        handler.admit(&head)?;
        let packed = coding::is_packed(&head.headers)?;
        let (max, caller) = (self.max_body_bytes(&*handler), body.caller());
        let (body, mut held) = self.read(body, max).await?;
        if !packed {
            return handler
                .post(Request {
                    head,
                    body,
                    packed: None,
                    held,
                    caller,
                })
                .await;
        }
        let unpacked = self.unpack(&body, max, &mut held).await?;
        handler
            .post(Request {
                head,
                body: unpacked,
                packed: Some(body),
                held,
                caller,
            })
            .await
    }

    async fn read(
        &self,
        mut body: Watched,
        max: u64,
    ) -> Result<(Bytes, OwnedSemaphorePermit), Refusal> {
        let announced = body.size_hint().exact();
        if announced.is_some_and(|length| length > max) {
            return Err(too_large(max));
        }
        let length = usize::try_from(announced.unwrap_or_default()).unwrap_or(usize::MAX);
        let mut held = self
            .reserve(REQUEST_BYTES.saturating_add(length))
            .ok_or_else(busy)?;
        let has_come = body.has_come();
        let chunked = announced.is_none();
        let read = async {
            // Nearly every body comes in one piece; one of some length is handed on as it lies in
            // the connection's buffer.
            let mut whole = Bytes::new();
            let mut pieces = BytesMut::new();
            while let Some(frame) = body.frame().await {
                let Ok(data) = frame.map_err(|_| broken())?.into_data() else {
                    continue;
                };
                let total = whole.len() + pieces.len() + data.len();
                if total as u64 > max {
                    return Err(too_large(max));
                }
                if chunked {
                    held.merge(self.reserve(data.len()).ok_or_else(busy)?);
                }
                if whole.is_empty() && pieces.is_empty() {
                    whole = data;
                    continue;
                }
                if pieces.is_empty() {
                    pieces.reserve(length.max(total));
                    pieces.extend_from_slice(&std::mem::take(&mut whole));
                }
                pieces.extend_from_slice(&data);
            }
            Ok(match whole.len() {
                _ if !pieces.is_empty() => pieces.freeze(),
                1..=COPIED_BYTES_MAX => Bytes::copy_from_slice(&whole),
                _ => whole,
            })
        };
        if has_come {
            let whole = read.await?;
            return Ok((whole, held));
        }
        let whole = timeout(self.limits().body_timeout, read)
            .await
            .map_err(|_| {
                let detail =
                    "the body did not arrive in time; send it again, faster or in smaller parts";
                closing(Refusal::new(StatusCode::REQUEST_TIMEOUT, detail))
            })??;
        Ok((whole, held))
    }
}

/// RFC 9112, section 3.2: exactly one `Host` in HTTP/1.1, which hyper leaves to its caller to see
/// to.
fn check_host(head: &Parts) -> Result<(), Refusal> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let refuse = |detail| Err(closing(Refusal::new(StatusCode::BAD_REQUEST, detail)));
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => refuse("there is more than one Host header; send one"),
        (None, _) if head.version > Version::HTTP_10 => {
            refuse("the Host header is missing; HTTP/1.1 asks for it")
        }
        _ => Ok(()),
    }
}

/// What `Allow` says.
fn methods(handler: &dyn Handler) -> HeaderValue {
    if handler.takes_put() {
        METHODS_WITH_PUT
    } else {
        METHODS
    }
}

/// CloudEvents HTTP webhooks 1.0.2, section 4: consent is the header, not the status.
fn handshake(head: &Parts, handler: &dyn Handler) -> Response {
    let mut response = Response::default();
    response.headers_mut().insert(ALLOW, methods(handler));
    let origin = head
        .headers
        .get(REQUEST_ORIGIN)
        .filter(|origin| origin.to_str().is_ok_and(|name| handler.consents_to(name)));
    if let Some(origin) = origin {
        response
            .headers_mut()
            .insert(ALLOWED_ORIGIN, origin.clone());
        let asked = head.headers.get(REQUEST_RATE).filter(|rate| {
            rate.to_str()
                .is_ok_and(|rate| rate.parse::<u32>().is_ok_and(|rate| rate > 0))
        });
        response.headers_mut().insert(
            ALLOWED_RATE,
            asked.cloned().unwrap_or(HeaderValue::from_static("*")),
        );
    }
    response
}

/// What is wrong is the conversation and not what it brought: it ends here.
fn closing(refusal: Refusal) -> Refusal {
    refusal.with(CONNECTION, HeaderValue::from_static("close"))
}

pub(super) fn too_large(max: u64) -> Refusal {
    let detail = format!(
        "the body is longer than {max} bytes; send it in parts, or raise max_body (of listen, or \
         of the webhook)"
    );
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
}

fn broken() -> Refusal {
    Refusal::new(
        StatusCode::BAD_REQUEST,
        "the body ended early or its chunks are malformed; send the request again, whole",
    )
}

/// All bytes that may be in hand at once are.
pub(super) fn busy() -> Refusal {
    let detail = Cow::Borrowed(
        "too much has been taken in that is not stored yet; send it again a little later",
    );
    Refusal::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(BUSY_WAIT)
}
