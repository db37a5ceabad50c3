//! A proxy that answers as it is told, for what the real one cannot be made to say.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::super::grpc::framed;
use super::super::proto::{Command, Nonce, Settings, Status, StatusResponse, TelemetryCommand};

/// A proxy, and what it was asked.
pub(super) struct Stub {
    pub(super) url: String,
    seen: Arc<Mutex<Seen>>,
    _serving: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Seen {
    /// Methods, in the order in which they were called.
    methods: Vec<String>,
    /// The headers of the last call.
    headers: HeaderMap,
    /// What came over streams of telemetry.
    commands: Vec<TelemetryCommand>,
}

impl Stub {
    /// One that answers each call but telemetry with a status of this code.
    pub(super) async fn start(code: i32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("rocketmq://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Seen::default()));
        let all = Arc::clone(&seen);
        let serving = tokio::spawn(async move {
            while let Ok((one, _)) = listener.accept().await {
                let seen = Arc::clone(&all);
                let serve = service_fn(move |request| answer(request, code, Arc::clone(&seen)));
                let connection = http2::Builder::new(TokioExecutor::new());
                tokio::spawn(connection.serve_connection(TokioIo::new(one), serve));
            }
        });
        Self {
            url,
            seen,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    pub(super) fn called(&self, method: &str) -> usize {
        let seen = self.seen.lock();
        seen.methods.iter().filter(|found| *found == method).count()
    }

    pub(super) fn header(&self, name: &str) -> String {
        let seen = self.seen.lock();
        let value = seen.headers.get(name);
        value.map_or(String::new(), |value| value.to_str().unwrap().to_owned())
    }

    pub(super) fn commands(&self) -> Vec<TelemetryCommand> {
        self.seen.lock().commands.clone()
    }
}

/// The body of an answer.
type Frames = StreamBody<stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

async fn answer(
    request: Request<Incoming>,
    code: i32,
    seen: Arc<Mutex<Seen>>,
) -> Result<Response<Frames>, Infallible> {
    let (head, mut body) = request.into_parts();
    let method = head.uri.path().rsplit('/').next().unwrap().to_owned();
    {
        let mut seen = seen.lock();
        seen.methods.push(method.clone());
        seen.headers = head.headers;
    }
    let frame = |message: Bytes| Ok(Frame::data(message));
    let frames = if method == "Telemetry" {
        tokio::spawn(async move {
            while let Some(Ok(frame)) = body.frame().await {
                if let Ok(data) = frame.into_data() {
                    let command = TelemetryCommand::decode(&data[5..]).unwrap();
                    seen.lock().commands.push(command);
                }
            }
        });
        let commands = [
            Command::Settings(Settings::default()),
            Command::PrintThreadStackTrace(Nonce {
                nonce: "7".to_owned(),
            }),
        ];
        let commands = commands.map(|command| {
            framed(&TelemetryCommand {
                status: None,
                command: Some(command),
            })
        });
        // It stays open.
        stream::iter(commands)
            .map(frame)
            .chain(stream::pending())
            .boxed()
    } else {
        let status = Status {
            code,
            message: "as it was told".to_owned(),
        };
        let answer = framed(&StatusResponse {
            status: Some(status),
        });
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        let trailers = stream::iter([Ok(Frame::trailers(trailers))]);
        stream::iter([answer]).map(frame).chain(trailers).boxed()
    };
    let answer = Response::builder().header("content-type", "application/grpc");
    Ok(answer.body(StreamBody::new(frames)).unwrap())
}
