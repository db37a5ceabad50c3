//! The processes around the bus: the function that it calls, and a forwarder that stores nothing.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use pointsman_integration_tests::load;

/// Serves HTTP/1.1 until the process is killed.
async fn serve<F, R>(port: u16, function: F)
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port))
        .await
        .expect("the port is free");
    loop {
        let (stream, _) = listener
            .accept()
            .await
            .expect("connections can be accepted");
        stream.set_nodelay(true).expect("a socket takes options");
        let function = function.clone();
        let service = service_fn(move |request| {
            let answer = function(request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service),
        );
    }
}

fn answer(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}

/// Counts what is posted, and tells the count to whoever gets `/`. `/delays` gives, and forgets,
/// how long each event of a paced load was on its way, in microseconds.
pub async fn sink(port: u16) {
    let count = Arc::new(AtomicU64::new(0));
    let delays = Arc::new(Mutex::new(Vec::new()));
    serve(port, move |request| {
        let (count, delays) = (Arc::clone(&count), Arc::clone(&delays));
        async move {
            if request.method() == Method::GET {
                if request.uri().path() != "/delays" {
                    return answer(StatusCode::OK, count.load(Ordering::Relaxed).to_string());
                }
                let delays: Vec<u64> =
                    std::mem::take(&mut *delays.lock().expect("no panic while it is held"));
                let lines: String = delays.iter().map(|delay| format!("{delay}\n")).collect();
                return answer(StatusCode::OK, lines);
            }
            let id = request.headers().get("ce-id").cloned();
            if request.into_body().collect().await.is_ok() {
                count.fetch_add(1, Ordering::Relaxed);
                if let Some(delay) = id.as_ref().and_then(load::micros_since_sent) {
                    delays
                        .lock()
                        .expect("no panic while it is held")
                        .push(delay);
                }
            }
            answer(StatusCode::NO_CONTENT, "")
        }
    })
    .await;
}

/// Pushes what is posted to the sink, and answers when the sink has.
pub async fn forward(port: u16, sink: String) {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    serve(port, move |request| {
        let (client, sink) = (client.clone(), sink.clone());
        async move {
            let (mut parts, body) = request.into_parts();
            let Ok(body) = body.collect().await else {
                return answer(StatusCode::BAD_REQUEST, "");
            };
            parts.uri = sink.parse().expect("the sink has a URL");
            parts.headers.remove(http::header::HOST);
            match client
                .request(Request::from_parts(parts, Full::new(body.to_bytes())))
                .await
            {
                Ok(_) => answer(StatusCode::ACCEPTED, ""),
                Err(_) => answer(StatusCode::BAD_GATEWAY, ""),
            }
        }
    })
    .await;
}
