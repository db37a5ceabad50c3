//! Connections and streams that break, time out or go away: what uses up an attempt and what does
//! not.

use super::*;

#[tokio::test]
async fn what_breaks_before_a_connection_is_unavailable_and_after_it_failed() {
    let unused = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let refused = run(&format!("http://{unused}/")).await;
    assert_eq!(refused.class, Class::Unavailable);
    assert!(
        refused
            .message
            .contains(&format!("cannot connect to {unused}: Connection refused")),
        "{}",
        refused.message
    );
    let unknown = run("http://no-such-host.invalid/").await;
    assert_eq!(unknown.class, Class::Unavailable);
    assert!(
        unknown.message.contains("no-such-host.invalid"),
        "{}",
        unknown.message
    );

    for broken in [
        "",
        "HTTP/1.1 200",
        "garbage\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
    ] {
        let (url, _server) = raw(Some(broken.into())).await;
        let outcome = run(&url).await;
        assert_eq!(outcome.class, Class::Failed, "{broken:?}: {outcome:?}");
        assert!(
            outcome
                .message
                .starts_with("the connection broke before an answer came: "),
            "{}",
            outcome.message
        );
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let no_tls = format!("https://{}", listener.local_addr().unwrap());
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        std::future::pending().await
    };
    let outcome =
        tokio::select! { outcome = run(&no_tls) => outcome, () = server => unreachable!() };
    assert_eq!(
        outcome.class,
        Class::Unavailable,
        "no TLS is no connection: {outcome:?}"
    );

    let endless = [
        b"HTTP/1.1 500 No\r\n".as_slice(),
        b"X: y\r\n".repeat(100_000).as_slice(),
    ]
    .concat();
    let (url, _server) = raw(Some(endless)).await;
    assert_eq!(run(&url).await.class, Class::Failed);
}

#[tokio::test]
async fn a_status_stands_though_its_body_breaks_off_or_is_endless() {
    let cases: [(&str, Vec<u8>, Class); 3] = [
        (
            "broken off",
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec(),
            Class::Delivered,
        ),
        (
            "broken off",
            b"HTTP/1.1 400 No\r\nContent-Length: 10\r\n\r\nhalf".to_vec(),
            Class::Rejected,
        ),
        (
            "long",
            [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &[b'x'; 1 << 20]].concat(),
            Class::Delivered,
        ),
    ];
    for (what, answer, class) in cases {
        let (url, _server) = raw(Some(answer)).await;
        let outcome = run(&url).await;
        assert_eq!(outcome.class, class, "{what}");
        let expect = if what == "long" {
            pointsman_schemas::outcome::RESPONSE_BYTES_MAX
        } else {
            4
        };
        assert_eq!(outcome.response.len(), expect);
    }
}

#[tokio::test]
async fn a_body_that_never_ends_does_not_make_a_failure_of_a_success() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 1]).await.unwrap() > 0);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            .await
            .unwrap();
        std::future::pending::<()>().await;
    };
    let mut short = attempt(&["1"], 0);
    short.timeout = Duration::from_secs(2);
    let target = target(json!({ "url": url }));
    let outcome = tokio::select! { outcome = run_with(&target, short) => outcome, () = server => unreachable!() };
    assert_eq!(
        (outcome.class, &outcome.response[..]),
        (Class::Delivered, &b"half"[..]),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn what_was_never_sent_is_unavailable_whatever_the_timeout() {
    // A server that takes no more connections answers no SYN; one that says nothing leaves the
    // handshake hanging.
    let full = tokio::net::TcpSocket::new_v4().unwrap();
    full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = full.listen(1).unwrap();
    let full_address = full.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) =
        timeout(Duration::from_secs(1), TcpStream::connect(full_address)).await
    {
        waiting.push(stream);
    }
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for url in [
        format!("http://{full_address}/"),
        format!("https://{}/", silent.local_addr().unwrap()),
    ] {
        let mut short = attempt(&["1"], 0);
        short.timeout = Duration::from_secs(4);
        let start = tokio::time::Instant::now();
        let outcome = run_with(&target(json!({ "url": url, "insecure": true })), short).await;
        assert_eq!(outcome.class, Class::Unavailable, "{outcome:?}");
        assert!(
            start.elapsed() < Duration::from_secs(4),
            "{:?}",
            start.elapsed()
        );
    }
}

/// A server that answers the first request of each connection and does as it is told with the
/// second.
async fn answers_once(
    then: impl Fn(TcpStream) -> BoxFuture<'static, ()> + Send + Sync + 'static,
) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move {
        let then = Arc::new(then);
        let mut served = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let then = Arc::clone(&then);
            served.spawn(async move {
                for turn in 0..2 {
                    let mut head = Vec::new();
                    while !head.ends_with(b"}") {
                        head.push(stream.read_u8().await.unwrap());
                    }
                    if turn == 0 {
                        stream
                            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                            .await
                            .unwrap();
                    }
                }
                then(stream).await;
            });
        }
    });
    (url, server)
}

#[tokio::test]
async fn a_kept_connection_that_breaks_before_an_answer_is_unavailable() {
    for (said, expect) in [("", Class::Unavailable), ("HTTP/1.1 200", Class::Failed)] {
        let (url, _server) = answers_once(move |mut stream| {
            Box::pin(async move {
                stream.write_all(said.as_bytes()).await.unwrap();
                // Whoever reads it has to see what was said before the end.
                tokio::time::sleep(Duration::from_millis(100)).await;
            })
        })
        .await;
        let service = target(json!({ "url": url })).open(context()).await.unwrap();
        let mut classes = Vec::new();
        for _ in 0..2 {
            classes.push(
                service
                    .clone()
                    .oneshot(attempt(&["1"], 0))
                    .await
                    .unwrap()
                    .remove(0)
                    .class,
            );
        }
        assert_eq!(classes, [Class::Delivered, expect], "{said:?}");
    }
}

#[tokio::test]
async fn a_connection_on_which_an_attempt_timed_out_is_not_used_again() {
    let (url, _server) = answers_once(|stream| {
        Box::pin(async move {
            std::future::pending::<()>().await;
            drop(stream);
        })
    })
    .await;
    let service = target(json!({ "url": url })).open(context()).await.unwrap();
    let call = || service.clone().oneshot(attempt(&["1"], 0));
    assert_eq!(call().await.unwrap()[0].class, Class::Delivered);
    assert!(timeout(Duration::from_millis(300), call()).await.is_err());
    assert_eq!(call().await.unwrap()[0].class, Class::Delivered);
}

/// A server that speaks HTTP/2 over TLS and does with the streams of each connection, counted from
/// 0, as it is told.
async fn with_streams(
    answer: impl Fn(usize, usize) -> Stream2 + Send + Sync + 'static,
) -> (HttpTarget, JoinSet<()>) {
    let acceptor = acceptor(&[b"h2"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings =
        json!({ "url": format!("https://{}/", listener.local_addr().unwrap()), "insecure": true });
    let mut server = JoinSet::new();
    server.spawn(async move {
        let answer = Arc::new(answer);
        let (mut served, mut connections) = (JoinSet::new(), 0..);
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, answer, number) = (
                acceptor.clone(),
                Arc::clone(&answer),
                connections.next().unwrap(),
            );
            served.spawn(async move {
                let mut connection = h2::server::handshake(acceptor.accept(stream).await.unwrap())
                    .await
                    .unwrap();
                let (mut streams, mut silent) = (0.., Vec::new());
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    match answer(number, streams.next().unwrap()) {
                        Stream2::Answers => {
                            drop(respond.send_response(Response::new(()), true).unwrap())
                        }
                        Stream2::Refuses => respond.send_reset(h2::Reason::REFUSED_STREAM),
                        Stream2::Resets => respond.send_reset(h2::Reason::INTERNAL_ERROR),
                        Stream2::Silent => silent.push(respond),
                    }
                }
            });
        }
    });
    (target(settings), server)
}

/// What a server does with a stream.
#[derive(Clone, Copy)]
enum Stream2 {
    Answers,
    Refuses,
    Resets,
    Silent,
}

#[tokio::test]
async fn a_stream_that_was_refused_is_unavailable_and_one_that_broke_is_failed() {
    for (ends, expect) in [
        (Stream2::Refuses, Class::Unavailable),
        (Stream2::Resets, Class::Failed),
    ] {
        let (target, _server) =
            with_streams(move |_, stream| if stream == 1 { ends } else { Stream2::Answers }).await;
        let service = target.open(context()).await.unwrap();
        let call = async || {
            service
                .clone()
                .oneshot(attempt(&["1"], 0))
                .await
                .unwrap()
                .remove(0)
                .class
        };
        assert_eq!(
            [call().await, call().await, call().await],
            [Class::Delivered, expect, Class::Delivered]
        );
    }
}

#[tokio::test]
async fn a_connection_of_many_streams_is_not_used_again_once_one_has_timed_out() {
    let (target, _server) = with_streams(|connection, stream| {
        if connection == 0 && stream > 0 {
            Stream2::Silent
        } else {
            Stream2::Answers
        }
    })
    .await;
    let service = target.open(context()).await.unwrap();
    let call = || service.clone().oneshot(attempt(&["1"], 0));
    assert_eq!(call().await.unwrap()[0].class, Class::Delivered);
    assert!(timeout(Duration::from_millis(300), call()).await.is_err());
    assert_eq!(call().await.unwrap()[0].class, Class::Delivered);
}

/// The parts of HTTP/2 that the tests below need, frame by frame (RFC 9113, sections 4.1 and 6).
mod frames {
    use super::*;

    pub(super) const STREAM_MAX: u32 = u32::MAX >> 1;

    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;
    const ACK: u8 = 1;

    pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    /// `:status: 200` with nothing behind it: entry 8 of the static table, END_STREAM and
    /// END_HEADERS.
    pub(super) fn answer(stream: u32) -> Vec<u8> {
        frame(HEADERS, 0x5, stream, &[0x88])
    }

    pub(super) fn go_away(last: u32, reason: h2::Reason) -> Vec<u8> {
        frame(
            GOAWAY,
            0,
            0,
            &[last.to_be_bytes(), u32::from(reason).to_be_bytes()].concat(),
        )
    }

    /// Reads up to the next stream that begins; none at the end. What the connection itself needs
    /// is answered meanwhile.
    pub(super) async fn next_stream(
        connection: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin),
    ) -> Option<u32> {
        loop {
            let mut head = [0; 9];
            connection.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            connection.read_exact(&mut payload).await.ok()?;
            match (head[3], head[4] & ACK) {
                (HEADERS, _) => {
                    return Some(u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
                }
                (SETTINGS, 0) => connection
                    .write_all(&frame(SETTINGS, ACK, 0, &[]))
                    .await
                    .ok()?,
                (PING, 0) => connection
                    .write_all(&frame(PING, ACK, 0, &payload))
                    .await
                    .ok()?,
                _ => {}
            }
        }
    }
}

/// A server that answers one call on its first connection, waits for three more at once, says
/// `last` and closes; on later connections it answers.
async fn that_goes_away(last: Vec<u8>) -> (HttpTarget, JoinSet<()>) {
    let acceptor = acceptor(&[b"h2"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings =
        json!({ "url": format!("https://{}/", listener.local_addr().unwrap()), "insecure": true });
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut is_first = true;
        while let Ok((stream, _)) = listener.accept().await {
            let mut connection = acceptor.accept(stream).await.unwrap();
            connection
                .write_all(&frames::frame(4, 0, 0, &[]))
                .await
                .unwrap();
            let mut preface = [0; 24];
            connection.read_exact(&mut preface).await.unwrap();
            let mut count = 0;
            while let Some(stream) = frames::next_stream(&mut connection).await {
                count += 1;
                if !is_first || count == 1 {
                    connection.write_all(&frames::answer(stream)).await.unwrap();
                } else if count == 4 {
                    connection.write_all(&last).await.unwrap();
                    break;
                }
            }
            let _ = connection.shutdown().await;
            is_first = false;
        }
    });
    (target(settings), server)
}

#[tokio::test]
async fn what_a_server_says_it_has_not_looked_at_when_it_goes_away_uses_up_no_attempt() {
    use frames::{STREAM_MAX, answer, go_away};
    use h2::Reason;
    // The streams of the three calls are 3, 5 and 7. How many are delivered, unavailable and
    // failed.
    for (last, expect) in [
        // The usual end of a server that is restarted: what it has begun it answers.
        (
            [go_away(3, Reason::NO_ERROR), answer(3)].concat(),
            (1, 2, 0),
        ),
        // In two steps, as RFC 9113 recommends in section 6.8.
        (
            [
                go_away(STREAM_MAX, Reason::NO_ERROR),
                answer(3),
                go_away(3, Reason::NO_ERROR),
            ]
            .concat(),
            (1, 2, 0),
        ),
        ([go_away(0, Reason::ENHANCE_YOUR_CALM)].concat(), (0, 3, 0)),
        // What it says it has begun, or may have begun, and does not answer: the function may have
        // run.
        (go_away(7, Reason::NO_ERROR), (0, 0, 3)),
        (go_away(7, Reason::INTERNAL_ERROR), (0, 0, 3)),
        (go_away(STREAM_MAX, Reason::NO_ERROR), (0, 0, 3)),
        (go_away(5, Reason::NO_ERROR), (0, 1, 2)),
        (
            [
                go_away(STREAM_MAX, Reason::NO_ERROR),
                go_away(5, Reason::NO_ERROR),
                answer(5),
            ]
            .concat(),
            (1, 1, 1),
        ),
        // The connection is none that had been closed already.
        (answer(5), (1, 0, 2)),
        (Vec::new(), (0, 3, 0)),
    ] {
        let (target, _server) = that_goes_away(last.clone()).await;
        let service = target.open(context()).await.unwrap();
        let call = || {
            let service = service.clone();
            async move { service.oneshot(attempt(&["1"], 0)).await.unwrap().remove(0) }
        };
        assert_eq!(call().await.class, Class::Delivered);
        let outcomes = timeout(
            Duration::from_secs(60),
            futures::future::join_all([call(), call(), call()]),
        )
        .await
        .unwrap();
        let count = |class| {
            outcomes
                .iter()
                .filter(|outcome| outcome.class == class)
                .count()
        };
        assert_eq!(
            (
                count(Class::Delivered),
                count(Class::Unavailable),
                count(Class::Failed)
            ),
            expect,
            "{last:?}: {outcomes:?}"
        );
        assert_eq!(call().await.class, Class::Delivered, "by a new connection");
    }
}
