use std::convert::Infallible;
use std::time::Duration;

use http::{Uri, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::*;

const SOON: Duration = Duration::from_secs(30);

fn host() -> HeaderValue {
    HeaderValue::from_static("h.example")
}

fn request(method: Method, body: &'static str) -> Request<Bytes> {
    let request = Request::builder()
        .method(method)
        .uri("http://h.example/p?q");
    request.body(Bytes::from_static(body.as_bytes())).unwrap()
}

/// What came of a call: the status and the body, or why there is none of it, and whether another
/// request could follow.
#[derive(Debug, PartialEq)]
struct Came {
    status: Option<u16>,
    body: Result<String, String>,
    can_go_on: bool,
}

async fn call<S: AsyncRead + AsyncWrite + Unpin>(http: &mut Http1<S>, method: Method) -> Came {
    let calling = async {
        let head = match http.send(&request(method, ""), &host()).await {
            Ok(head) => head,
            Err(failed) => return (None, Err(failed.error.to_string())),
        };
        let mut body = Vec::new();
        while let Some(piece) = poll_fn(|context| http.poll_piece(context)).await {
            match piece {
                Ok(piece) => body.extend(piece),
                Err(error) => return (Some(head.status.as_u16()), Err(error.to_string())),
            }
        }
        (
            Some(head.status.as_u16()),
            Ok(String::from_utf8(body).unwrap()),
        )
    };
    let (status, body) = timeout(SOON, calling).await.unwrap();
    Came {
        status,
        body,
        can_go_on: http.can_go_on(),
    }
}

/// A server that takes one request, writes these pieces, each once the last one was read, and
/// closes the connection where it is to.
fn serving(pieces: Vec<Vec<u8>>, closes: bool) -> (Http1<DuplexStream>, JoinSet<()>) {
    let longest = pieces.iter().map(Vec::len).max().unwrap_or_default();
    let (client, mut server) = duplex(longest.max(1));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(server.read_u8().await.unwrap());
        }
        for piece in pieces {
            if server.write_all(&piece).await.is_err() {
                return;
            }
        }
        if !closes {
            std::future::pending::<Infallible>().await;
        }
    });
    (Http1::new(client), tasks)
}

/// What came, however the answer is cut into pieces.
async fn came(method: &Method, answer: &[u8], closes: bool) -> Came {
    let whole = vec![answer.to_vec()];
    let (mut http, _tasks) = serving(whole, closes);
    let came = call(&mut http, method.clone()).await;
    let bytes = answer.iter().map(|byte| vec![*byte]).collect();
    let (mut http, _tasks) = serving(bytes, closes);
    let mut in_bytes = call(&mut http, method.clone()).await;
    // What follows an answer has not been read then.
    in_bytes.can_go_on &= came.can_go_on;
    assert_eq!(in_bytes, came, "{}", answer.escape_ascii());
    came
}

#[tokio::test]
async fn an_answer_is_read_as_it_is_framed() {
    let chunks = "4\r\nwiki\r\n5;x=\"y\"\r\npedia\r\n0\r\nX-Sum: 1\r\n\r\n";
    for (head, rest, body, can_go_on) in [
        ("200 OK\r\nContent-Length: 2", "ok", "ok", true),
        ("200 OK\r\nContent-Length: 0", "", "", true),
        ("200\r\ncontent-length:2", "ok", "ok", true),
        (
            "200 OK\r\nContent-Length: 2\r\nContent-Length: 2",
            "ok",
            "ok",
            true,
        ),
        ("200 OK\r\nContent-Length: 2, 2", "ok", "ok", true),
        (
            "200 OK\r\nContent-Length: 2\r\nConnection: keep-alive, Close",
            "ok",
            "ok",
            false,
        ),
        // Something else came with it.
        (
            "200 OK\r\nContent-Length: 2",
            "okHTTP/1.1 408 Request Timeout\r\n\r\n",
            "ok",
            false,
        ),
        (
            "500 Oh\r\nTransfer-Encoding: chunked",
            chunks,
            "wikipedia",
            true,
        ),
        (
            "200 OK\r\nTransfer-Encoding: gzip, Chunked",
            chunks,
            "wikipedia",
            true,
        ),
        (
            "200 OK\r\nTransfer-Encoding: chunked",
            "0\r\n\r\n",
            "",
            true,
        ),
        (
            "200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3",
            chunks,
            "wikipedia",
            false,
        ),
        ("204 No Content", "", "", true),
        ("304 Not Modified\r\nContent-Length: 100", "", "", true),
        ("101 Switching Protocols\r\nUpgrade: x", "", "", false),
    ] {
        let answer = format!("HTTP/1.1 {head}\r\n\r\n{rest}");
        let came = came(&Method::POST, answer.as_bytes(), false).await;
        let expect = Came {
            status: head[..3].parse().ok(),
            body: Ok(body.to_owned()),
            can_go_on,
        };
        assert_eq!(came, expect, "{answer}");
    }
}

#[tokio::test]
async fn what_goes_before_an_answer_is_passed_over() {
    let answer =
        b"\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n\
        HTTP/1.1 202 Accepted\nContent-Length: 2\n\nok";
    let came = came(&Method::POST, answer, false).await;
    assert_eq!((came.status, came.can_go_on), (Some(202), true));
    assert_eq!(came.body.unwrap(), "ok");
}

#[tokio::test]
async fn the_end_of_the_connection_ends_what_is_not_framed_and_breaks_what_is() {
    const CLOSED: Result<&str, &str> = Err("the server closed the connection");
    for (answer, status, body) in [
        ("", None, CLOSED),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", None, CLOSED),
        ("HTTP/1.1 100 Continue\r\n\r\n", None, CLOSED),
        (
            "HTTP/1.1 200 OK\r\n\r\nall of it",
            Some(200),
            Ok("all of it"),
        ),
        ("HTTP/1.1 200 OK\r\n\r\n", Some(200), Ok("")),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nzip",
            Some(200),
            Ok("zip"),
        ),
        ("HTTP/1.0 200 OK\r\n\r\nold", Some(200), Ok("old")),
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
            Some(200),
            Ok("ok"),
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",
            Some(200),
            CLOSED,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
            Some(200),
            CLOSED,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\no",
            Some(200),
            CLOSED,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            Some(200),
            CLOSED,
        ),
    ] {
        let came = came(&Method::POST, answer.as_bytes(), true).await;
        let told = came.body.as_deref().map_err(String::as_str);
        assert_eq!((came.status, told), (status, body), "{answer}");
        assert!(!came.can_go_on, "{answer}");
    }
}

#[tokio::test]
async fn of_some_methods_and_versions_the_connection_is_used_again() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n";
    let came_of_head = came(&Method::HEAD, head, false).await;
    assert_eq!(came_of_head.body.unwrap(), "");
    assert!(came_of_head.can_go_on);
    let kept = b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok";
    assert!(came(&Method::GET, kept, false).await.can_go_on);
}

#[tokio::test]
async fn what_is_no_answer_is_told() {
    let many: String = (0..1_001).map(|at| format!("x-{at}: 1\r\n")).collect();
    let long = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(70_000));
    let chunked =
        |rest: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{rest}");
    for (answer, expect) in [
        (
            "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned(),
            "first line does not begin",
        ),
        (
            "HTTP/2.0 200 OK\r\n\r\n".to_owned(),
            "first line does not begin",
        ),
        ("HTTP/1.1 20 OK\r\n\r\n".to_owned(), "status is no number"),
        ("HTTP/1.1 099 Low\r\n\r\n".to_owned(), "status is no number"),
        (
            "HTTP/1.1 200 OK\r\na b: c\r\n\r\n".to_owned(),
            "name has a character",
        ),
        (
            "HTTP/1.1 200 OK\r\na: b\x00c\r\n\r\n".to_owned(),
            "value has a character",
        ),
        (
            format!("HTTP/1.1 200 OK\r\n{many}\r\n"),
            "more than 1,000 headers",
        ),
        (long, "longer than 64 KiB"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok".to_owned(),
            "Content-Length",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok".to_owned(),
            "Content-Length",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok".to_owned(),
            "Content-Length",
        ),
        (chunked("x\r\n"), "begin with its size"),
        (chunked("fffffffffffffffff\r\n"), "begin with its size"),
        (chunked("2\r\nokay\r\n"), "longer than its size"),
        (
            chunked(&format!("2;{}", "x".repeat(17_000))),
            "longer than 16 KiB",
        ),
        (
            chunked(&format!("0\r\n{}", "x: y\r\n".repeat(12_000))),
            "trailers are longer",
        ),
        (
            chunked(&format!("0\r\n{}", "x".repeat(70_000))),
            "trailers are longer",
        ),
    ] {
        let (mut http, _tasks) = serving(vec![answer.clone().into_bytes()], false);
        let came = call(&mut http, Method::POST).await;
        let error = came.body.unwrap_err();
        assert!(
            error.contains(expect),
            "{error}: {}",
            &answer[..answer.len().min(100)]
        );
        assert!(!http.is_ready(), "{error}");
    }
}

#[tokio::test]
async fn a_request_is_written_with_its_host_and_its_length() {
    let written =
        |request: &Request<Bytes>| String::from_utf8(head::written(request, &host())).unwrap();
    let mut call = request(Method::POST, "body");
    call.headers_mut().append("x-a", "1".parse().unwrap());
    call.headers_mut().append("x-a", "2".parse().unwrap());
    // How the body is framed is nothing that headers decide.
    call.headers_mut().insert(header::CONTENT_LENGTH, 7.into());
    call.headers_mut()
        .insert(header::TRANSFER_ENCODING, "chunked".parse().unwrap());
    assert_eq!(
        written(&call),
        "POST /p?q HTTP/1.1\r\nhost: h.example\r\nx-a: 1\r\nx-a: 2\r\ncontent-length: 4\r\n\r\n"
    );
    for (method, length) in [
        (Method::POST, Some("0")),
        (Method::PATCH, Some("0")),
        (Method::GET, None),
        (Method::DELETE, None),
    ] {
        let head = written(&request(method, ""));
        let found = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        assert_eq!(found, length, "{head}");
    }
    let mut named = request(Method::GET, "");
    *named.uri_mut() = Uri::from_static("http://h.example");
    named
        .headers_mut()
        .insert(header::HOST, "other".parse().unwrap());
    assert_eq!(written(&named), "GET / HTTP/1.1\r\nhost: other\r\n\r\n");
}

#[tokio::test]
async fn an_answer_may_come_before_all_of_the_request_is_sent() {
    let (client, mut server) = duplex(64);
    let mut http = Http1::new(client);
    let mut large = request(Method::POST, "");
    *large.body_mut() = vec![b'x'; 1_000].into();
    let serving = async {
        server.read_u8().await.unwrap();
        let answer = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n";
        server.write_all(answer).await.unwrap();
        server
    };
    let host = host();
    let (answered, _server) = timeout(SOON, async {
        tokio::join!(http.send(&large, &host), serving)
    })
    .await
    .unwrap();
    assert_eq!(answered.unwrap().status, 413);
    assert!(!http.is_ready());
}

#[tokio::test]
async fn what_was_not_sent_is_told_from_what_was_sent_in_part() {
    // Nothing is written to who has gone; what he said before is no answer.
    let (client, mut server) = duplex(64);
    server
        .write_all(b"HTTP/1.1 408 Late\r\n\r\n")
        .await
        .unwrap();
    drop(server);
    let mut http = Http1::new(client);
    assert!(!http.is_ready());
    let failed = http
        .send(&request(Method::POST, ""), &host())
        .await
        .unwrap_err();
    assert!(failed.is_unsent, "{failed:?}");
    // He goes when some of it has been written.
    let (client, mut server) = duplex(16);
    let mut http = Http1::new(client);
    let going = async {
        server.read_u8().await.unwrap();
        drop(server);
    };
    let (call, host) = (request(Method::POST, ""), host());
    let (answered, ()) = tokio::join!(http.send(&call, &host), going);
    let failed = answered.unwrap_err();
    assert!(!failed.is_unsent, "{failed:?}");
    assert!(matches!(failed.error, Broken::Io(_)), "{failed:?}");
}

#[tokio::test]
async fn an_idle_connection_is_ready_until_something_comes() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    for closes in [false, true] {
        let (client, mut server) = duplex(1024);
        let mut http = Http1::new(client);
        server.write_all(answer).await.unwrap();
        call(&mut http, Method::POST).await.body.unwrap();
        assert!(http.is_ready());
        match closes {
            true => drop(server),
            false => server.write_all(b"x").await.unwrap(),
        }
        assert!(!http.is_ready());
    }
}

/// What hyper makes of the same.
async fn of_hyper(answer: Vec<u8>) -> Option<(u16, Option<Bytes>)> {
    let (client, mut server) = duplex(answer.len().max(1024));
    let serving = tokio::spawn(async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(server.read_u8().await.unwrap());
        }
        server.write_all(&answer).await.unwrap();
    });
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(client));
    let (mut sender, connection) = handshake.await.unwrap();
    let driving = tokio::spawn(connection);
    let call = request(Method::POST, "").map(Full::new);
    let answered = async {
        let answer = sender.send_request(call).await.ok()?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await;
        Some((status, body.ok().map(http_body_util::Collected::to_bytes)))
    };
    let came = timeout(SOON, answered).await.unwrap();
    serving.abort();
    driving.abort();
    came
}

fn answers() -> impl Strategy<Value = Vec<u8>> {
    const LINES: &[&str] = &[
        "Content-Length: 0",
        "Content-Length: 2",
        "content-length: 5",
        "Content-Length: x",
        "Transfer-Encoding: chunked",
        "transfer-encoding: gzip, chunked",
        "Connection: close",
        "X-A: b",
        "X-Empty:",
        "no colon",
        " folded",
    ];
    const STARTS: &[&str] = &[
        "HTTP/1.1 200 OK",
        "HTTP/1.1 204 No",
        "HTTP/1.0 500 Oh",
        "HTTP/1.1 404 ",
        "HTTP/1.1 1x",
    ];
    const BODIES: &[&str] = &[
        "",
        "ok",
        "hello",
        "2\r\nok\r\n0\r\n\r\n",
        "5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
        "2\r\nok",
        "zz\r\n",
    ];
    let lines = proptest::collection::vec(proptest::sample::select(LINES), 0..4);
    let whole = (
        proptest::sample::select(STARTS),
        lines,
        proptest::sample::select(BODIES),
    );
    whole.prop_map(|(start, lines, body)| {
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        format!("{start}\r\n{lines}\r\n{body}").into_bytes()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// But for what is framed twice, which we take and do not go on after, it is as hyper has it.
    #[test]
    fn an_answer_is_what_hyper_makes_of_it(answer in answers()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (ours, theirs) = runtime.block_on(async {
            (came(&Method::POST, &answer, true).await, of_hyper(answer.clone()).await)
        });
        let ours = ours.status.map(|status| (status, ours.body.ok().map(Bytes::from)));
        prop_assert_eq!(ours, theirs, "{}", answer.escape_ascii());
    }
}
