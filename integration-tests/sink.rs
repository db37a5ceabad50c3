//! A function that remembers what it was given.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// One request that a sink was given.
#[derive(Clone, Debug)]
pub struct Received {
    /// When it came.
    pub at: Instant,
    /// Where it came: the path and the query.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Received {
    /// A header as text; empty where it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

/// What a sink answers.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Bytes,
    /// How long it takes.
    pub after: Duration,
}

impl Answer {
    /// An answer of a status and nothing else.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
            after: Duration::ZERO,
        }
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

type Function = dyn Fn(&Received) -> Answer + Send + Sync;

/// What a sink was given so far.
#[derive(Debug, Default)]
struct Book {
    /// Each request, where they are kept.
    received: Option<Vec<Received>>,
    /// How often each event id came.
    ids: HashMap<String, usize>,
}

impl Book {
    fn write(&mut self, one: Received) {
        *self.ids.entry(one.header("ce-id").to_owned()).or_default() += 1;
        if let Some(received) = &mut self.received {
            received.push(one);
        }
    }
}

/// An HTTP server that records each request and answers as a function of it.
pub struct Sink {
    address: SocketAddr,
    book: Arc<Mutex<Book>>,
    server: tokio::task::JoinHandle<()>,
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sink({})", self.address)
    }
}

impl Sink {
    /// A sink that takes everything.
    pub async fn start() -> Self {
        Self::answering(|_| Answer::status(204)).await
    }

    /// A sink that takes everything and keeps nothing but how often each event id came: for loads
    /// that would not fit into memory.
    pub async fn counting() -> Self {
        Self::forgetting(|_| Answer::status(204)).await
    }

    /// A sink that answers by a function and keeps nothing but how often each event id came.
    pub async fn forgetting(
        function: impl Fn(&Received) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::with_book(0, Book::default(), function).await
    }

    /// A sink that answers by a function.
    pub async fn answering(function: impl Fn(&Received) -> Answer + Send + Sync + 'static) -> Self {
        Self::on_port(0, function).await
    }

    /// A sink on a given port.
    ///
    /// # Panics
    /// Where the port is taken.
    pub async fn on_port(
        port: u16,
        function: impl Fn(&Received) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::with_book(
            port,
            Book {
                received: Some(Vec::new()),
                ids: HashMap::new(),
            },
            function,
        )
        .await
    }

    async fn with_book(
        port: u16,
        book: Book,
        function: impl Fn(&Received) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port))
            .await
            .expect("the sink's port is free");
        let address = listener
            .local_addr()
            .expect("a bound listener has an address");
        let book = Arc::new(Mutex::new(book));
        let server = tokio::spawn(serve(listener, Arc::clone(&book), Arc::new(function)));
        Self {
            address,
            book,
            server,
        }
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Everything that it was given so far.
    ///
    /// # Panics
    /// Where it only counts.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.book()
            .received
            .clone()
            .expect("the sink keeps what it is given")
    }

    /// How often each event id was given.
    #[must_use]
    pub fn ids(&self) -> HashMap<String, usize> {
        self.book().ids.clone()
    }

    /// How many different event ids were given.
    #[must_use]
    pub fn arrived(&self) -> usize {
        self.book().ids.len()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("no panic while it is held")
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, book: Arc<Mutex<Book>>, function: Arc<Function>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let _ = stream.set_nodelay(true);
                let (book, function) = (Arc::clone(&book), Arc::clone(&function));
                let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let (book, function) = (Arc::clone(&book), Arc::clone(&function));
                    async move {
                        let at = Instant::now();
                        let (parts, body) = request.into_parts();
                        // A caller that breaks off in the middle has not called.
                        let Ok(body) = body.collect().await else { return Ok(Response::new(Full::default())) };
                        let (path, headers) = (parts.uri.to_string(), parts.headers);
                        let one = Received { at, path, headers, body: body.to_bytes() };
                        let answer = function(&one);
                        book.lock().expect("no panic while it is held").write(one);
                        if !answer.after.is_zero() {
                            tokio::time::sleep(answer.after).await;
                        }
                        let mut response = Response::builder().status(answer.status);
                        for (name, value) in answer.headers {
                            response = response.header(name, value);
                        }
                        Ok::<_, Infallible>(response.body(Full::new(answer.body)).expect("a test's answer is a response"))
                    }
                });
                connections.spawn(async move { hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
