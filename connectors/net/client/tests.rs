use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Method, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::super::tls::fixtures::{acceptor, ca};
use super::*;

const SOON: Duration = Duration::from_secs(30);

/// A server that counts its connections, answers each request with 200 and `ok`, and tells its
/// head, and how the connection ended for it.
struct Server {
    url: String,
    connections: Arc<AtomicUsize>,
    heads: mpsc::UnboundedReceiver<String>,
    ends: mpsc::UnboundedReceiver<std::io::Result<usize>>,
    _tasks: JoinSet<()>,
}

/// Answers until so many requests have come, then says something more and closes the connection.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    closes_after: usize,
    last_words: &[u8],
    heads: mpsc::UnboundedSender<String>,
) -> std::io::Result<usize> {
    for _ in 0..closes_after {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read(&mut byte).await? == 0 {
                return Ok(0);
            }
            head.extend(byte);
        }
        heads.send(String::from_utf8(head).unwrap()).unwrap();
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        stream.write_all(answer).await?;
    }
    stream.write_all(last_words).await?;
    Ok(0)
}

impl Server {
    async fn start(scheme: &str, closes_after: usize) -> Self {
        Self::start_saying(scheme, closes_after, b"").await
    }

    async fn start_saying(scheme: &str, closes_after: usize, last_words: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{scheme}://{}/a?b", listener.local_addr().unwrap());
        let connections = Arc::<AtomicUsize>::default();
        let (heads_sender, heads) = mpsc::unbounded_channel();
        let (ends_sender, ends) = mpsc::unbounded_channel();
        let (is_tls, count) = (scheme == "https", Arc::clone(&connections));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut served = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (heads, ends) = (heads_sender.clone(), ends_sender.clone());
                served.spawn(async move {
                    let ended = if is_tls {
                        let stream = acceptor(&[]).accept(stream).await.unwrap();
                        serve(stream, closes_after, last_words, heads).await
                    } else {
                        serve(stream, closes_after, last_words, heads).await
                    };
                    drop(ends.send(ended));
                });
            }
        });
        Self {
            url,
            connections,
            heads,
            ends,
            _tasks: tasks,
        }
    }

    fn count(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    async fn ended(&mut self) -> std::io::Result<usize> {
        timeout(SOON, self.ends.recv()).await.unwrap().unwrap()
    }

    fn request(&self) -> Request<Bytes> {
        let request = Request::builder().method(Method::POST).uri(&self.url);
        request.body(Bytes::new()).unwrap()
    }
}

fn any() -> Client {
    let pem = std::fs::read_to_string(ca()).unwrap();
    unguarded(Trust::Certificates(&pem)).unwrap()
}

async fn call(client: &Client, server: &Server) {
    let answered = client.call(server.request(), None).await.unwrap();
    let (head, body) = answered.whole(100).await;
    assert_eq!(
        (head.status, &body.unwrap()[..]),
        (StatusCode::OK, &b"ok"[..])
    );
}

#[tokio::test]
async fn calls_share_what_is_idle_and_say_whom_they_call() {
    let mut server = Server::start("http", usize::MAX).await;
    let client = any();
    for _ in 0..3 {
        call(&client, &server).await;
    }
    assert_eq!(server.count(), 1);
    let host = server.url["http://".len()..].split('/').next().unwrap();
    let head = server.heads.recv().await.unwrap();
    assert!(head.starts_with("POST /a?b HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("host: {host}\r\n")), "{head}");
    // Two at the same time need two.
    let first = client.call(server.request(), None).await.unwrap();
    let second = client.call(server.request(), None).await.unwrap();
    assert_eq!(server.count(), 2);
    for answered in [first, second] {
        answered.whole(100).await.1.unwrap();
    }
    call(&client, &server).await;
    assert_eq!(server.count(), 2);
}

/// Whether it keeps a connection that could be called over.
fn keeps_any(client: &Client) -> bool {
    client.0.hosts.lock().values().any(|host| {
        let mut idle = host.0.lock();
        idle.own.iter_mut().any(|(kept, _)| kept.is_ready())
    })
}

#[tokio::test]
async fn what_its_server_has_closed_is_not_called_over() {
    let mut server = Server::start("http", 1).await;
    let client = any();
    for count in 1..=3 {
        call(&client, &server).await;
        assert_eq!(server.count(), count);
        server.ended().await.unwrap();
        // The system has told us of it once the runtime has asked.
        let told = async {
            while keeps_any(&client) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, told).await.unwrap();
    }
}

#[tokio::test]
async fn what_a_server_says_unasked_is_the_answer_to_nothing() {
    let timeout = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";
    let mut server = Server::start_saying("http", 1, timeout).await;
    let client = any();
    for count in 1..=3 {
        call(&client, &server).await;
        assert_eq!(server.count(), count);
        // The connection is kept, and what was said on it waits in the system.
        server.ended().await.unwrap();
    }
}

#[tokio::test]
async fn a_connection_whose_answer_was_not_read_is_closed() {
    let mut server = Server::start("http", usize::MAX).await;
    let client = any();
    drop(client.call(server.request(), None).await.unwrap());
    server.ended().await.unwrap();
    call(&client, &server).await;
    assert_eq!(server.count(), 2);
    let answered = client.call(server.request(), None).await.unwrap();
    answered.whole(1).await.1.unwrap_err();
    server.ended().await.unwrap();
}

#[tokio::test]
async fn what_is_idle_is_closed_after_a_while_and_with_the_client_and_over_tls_in_order() {
    for scheme in ["http", "https"] {
        let mut server = Server::start(scheme, usize::MAX).await;
        let client = any();
        call(&client, &server).await;
        // Of a TLS connection that ends without a word this would be an error.
        assert_eq!(server.ended().await.unwrap(), 0);
        call(&client, &server).await;
        assert_eq!(server.count(), 2);
        drop(client);
        assert_eq!(server.ended().await.unwrap(), 0);
    }
}

#[tokio::test]
async fn there_must_be_a_connection_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let request = Request::builder().uri(url).body(Bytes::new()).unwrap();
    let until = Instant::now() + Duration::from_millis(100);
    let called = any().call(request, Some(until)).await;
    assert!(matches!(called, Err(CallError::Late)));
}

#[test]
fn the_host_is_told_with_its_port_unless_that_is_usual() {
    for (url, expect) in [
        ("http://a.example/x", "a.example"),
        ("http://a.example:80/", "a.example"),
        ("http://a.example:443/", "a.example:443"),
        ("https://a.example:443/", "a.example"),
        ("https://a.example:80/", "a.example:80"),
        ("http://[::1]:8080/", "[::1]:8080"),
        ("https://[::1]", "[::1]"),
    ] {
        let uri = Uri::from_static(url);
        assert_eq!(super::super::connection::host(&uri), expect, "{url}");
    }
}
