//! A collector of traces and metrics, which speaks OTLP over HTTP and over gRPC and remembers what
//! it was given.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use futures::stream;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// A message of gRPC has so many bytes before it.
const FRAME_HEAD_BYTES: usize = 5;

/// What a collector was given so far.
#[derive(Debug, Default)]
struct Book {
    spans: Vec<Span>,
    /// The metrics of each call.
    metrics: Vec<Vec<Metric>>,
    /// The headers of each call.
    calls: Vec<HeaderMap>,
    /// The attributes that the last call had of its process.
    resource: Vec<(String, String)>,
    /// How many calls are still to be told to come again.
    unavailable: usize,
}

/// A server that takes spans and metrics.
pub struct Collector {
    address: SocketAddr,
    book: Arc<Mutex<Book>>,
    server: JoinHandle<()>,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Collector({})", self.address)
    }
}

impl Collector {
    /// A collector that tells the first calls to come again, so many of them.
    ///
    /// # Panics
    /// Where no port is free.
    pub async fn start(unavailable: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port is free");
        let address = listener
            .local_addr()
            .expect("a bound listener has an address");
        let book = Arc::new(Mutex::new(Book {
            unavailable,
            ..Book::default()
        }));
        let server = tokio::spawn(serve(listener, Arc::clone(&book)));
        Self {
            address,
            book,
            server,
        }
    }

    /// Its address, without a path.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The spans so far.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.book().spans.clone()
    }

    /// The metrics so far, of each call.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn metrics(&self) -> Vec<Vec<Metric>> {
        self.book().metrics.clone()
    }

    /// Whether it is to tell callers to come again from here on.
    pub fn set_away(&self, is_away: bool) {
        self.book().unavailable = if is_away { usize::MAX } else { 0 };
    }

    /// The headers of each call, those that were told to come again included.
    #[must_use]
    pub fn calls(&self) -> Vec<HeaderMap> {
        self.book().calls.clone()
    }

    /// What the last call said of the process.
    #[must_use]
    pub fn resource(&self) -> Vec<(String, String)> {
        self.book().resource.clone()
    }

    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().expect("no panic while it is held")
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// An attribute of a span as text; empty where it is not there.
#[must_use]
pub fn attribute(span: &Span, name: &str) -> String {
    let found = span.attributes.iter().find(|one| one.key == name);
    found.map(text).unwrap_or_default()
}

/// The value of an attribute as text.
#[must_use]
pub fn text(attribute: &KeyValue) -> String {
    match attribute
        .value
        .as_ref()
        .and_then(|value| value.value.as_ref())
    {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        _ => String::new(),
    }
}

async fn serve(listener: TcpListener, book: Arc<Mutex<Book>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let book = Arc::clone(&book);
        let service = service_fn(move |request| answer(request, Arc::clone(&book)));
        connections.spawn(async move {
            let server = auto::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

type Body = StreamBody<stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

async fn answer(
    request: Request<Incoming>,
    book: Arc<Mutex<Book>>,
) -> Result<Response<Body>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let media_type = head.headers.get("content-type").cloned();
    let (is_grpc, is_metrics) = match head.uri.path() {
        "/v1/traces" => (false, false),
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => (true, false),
        "/v1/metrics" => (false, true),
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => (true, true),
        _ => return Ok(response(StatusCode::NOT_FOUND, None, Vec::new())),
    };
    let mut book = book.lock().expect("no panic while it is held");
    book.calls.push(head.headers);
    let is_available = book.unavailable == 0;
    book.unavailable = book.unavailable.saturating_sub(1);
    if is_available {
        let message = body.slice(if is_grpc { FRAME_HEAD_BYTES } else { 0 }..);
        match is_metrics {
            true => book.take_metrics(decoded(message)),
            false => book.take_spans(decoded(message)),
        }
    }
    if !is_grpc {
        let status = match is_available {
            true => StatusCode::OK,
            false => StatusCode::SERVICE_UNAVAILABLE,
        };
        return Ok(response(status, media_type, Vec::new()));
    }
    let message = ExportTraceServiceResponse::default().encode_to_vec();
    let mut framed = BytesMut::from(&[0; FRAME_HEAD_BYTES - 4][..]);
    framed.extend_from_slice(
        &u32::try_from(message.len())
            .expect("it is short")
            .to_be_bytes(),
    );
    framed.extend_from_slice(&message);
    let mut trailers = HeaderMap::new();
    let status = HeaderValue::from_static(if is_available { "0" } else { "14" });
    trailers.insert("grpc-status", status);
    let frames = vec![
        Ok(Frame::data(framed.freeze())),
        Ok(Frame::trailers(trailers)),
    ];
    Ok(response(StatusCode::OK, media_type, frames))
}

fn decoded<M: Message + Default>(message: Bytes) -> M {
    M::decode(message).expect("a message of OTLP")
}

impl Book {
    fn take_spans(&mut self, request: ExportTraceServiceRequest) {
        for of_process in request.resource_spans {
            self.take_resource(of_process.resource);
            for of_scope in of_process.scope_spans {
                self.spans.extend(of_scope.spans);
            }
        }
    }

    fn take_metrics(&mut self, request: ExportMetricsServiceRequest) {
        for of_process in request.resource_metrics {
            self.take_resource(of_process.resource);
            let scopes = of_process.scope_metrics.into_iter();
            self.metrics
                .push(scopes.flat_map(|of_scope| of_scope.metrics).collect());
        }
    }

    fn take_resource(&mut self, resource: Option<Resource>) {
        let attributes = resource.unwrap_or_default().attributes;
        let pair = |one: &KeyValue| (one.key.clone(), text(one));
        self.resource = attributes.iter().map(pair).collect();
    }
}

fn response(
    status: StatusCode,
    media_type: Option<HeaderValue>,
    frames: Vec<Result<Frame<Bytes>, Infallible>>,
) -> Response<Body> {
    let mut response = Response::new(StreamBody::new(stream::iter(frames)));
    *response.status_mut() = status;
    if let Some(media_type) = media_type {
        response.headers_mut().insert("content-type", media_type);
    }
    response
}
