//! Callers who are slow, idle, or have more connections than there are.

use super::*;

#[tokio::test]
async fn whoever_is_slow_is_told_so() {
    let limits = Limits {
        head_timeout: Duration::from_millis(600),
        body_timeout: Duration::from_millis(600),
        ..Limits::default()
    };
    let (served, _echo, _attachment) = echo(small(), limits, 100).await;
    let head = served.raw("POST /e HTTP/1.1\r\nhost:").await;
    assert_eq!(head.problem().0, 408);
    let body = served
        .raw("POST /e HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\na")
        .await;
    assert_eq!(
        (body.problem().0, body.header("connection")),
        (408, Some("close"))
    );
    let chunk = served
        .raw("POST /e HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nab")
        .await;
    assert_eq!(chunk.problem().0, 408);
    assert_eq!(
        served.raw("").await.0,
        "",
        "who says nothing is told nothing"
    );
    // The second head of a connection has its own deadline.
    let second = served
        .raw("POST /e HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\nPOST")
        .await;
    assert!(
        second.0.starts_with("HTTP/1.1 200") && second.0.contains("HTTP/1.1 408"),
        "{second:?}"
    );
}

#[tokio::test]
async fn a_trickle_does_not_move_the_deadline() {
    let limits = Limits {
        body_timeout: Duration::from_millis(100),
        ..Limits::default()
    };
    let (served, _echo, _attachment) = echo(small(), limits, 100).await;
    let stream = served.connect().await;
    let (mut reader, mut writer) = stream.into_split();
    writer
        .write_all(b"POST /e HTTP/1.1\r\nhost: x\r\ncontent-length: 900\r\n\r\n")
        .await
        .unwrap();
    let trickle = tokio::spawn(async move {
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert_eq!(Answer::read(&mut reader).await.problem().0, 408);
    trickle.abort();
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_an_unfinished_request_is_not_taken() {
    let limits = Limits {
        idle_timeout: Duration::from_millis(800),
        ..Limits::default()
    };
    let (served, echo, _attachment) = echo(small(), limits, 100).await;
    let answer = served
        .raw("POST /e HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\na")
        .await;
    assert_eq!((answer.status(), answer.body()), (200, "a"));
    for cut in [
        "POST /e HTTP/1.1\r\nho",
        "POST /e HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nab",
    ] {
        let mut stream = served.connect().await;
        stream.write_all(cut.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = Answer::read(&mut stream).await;
        assert!(answer.0.is_empty() || answer.status() == 400, "{answer:?}");
    }
    assert_eq!(echo.seen.lock().len(), 1);
}

#[tokio::test]
async fn who_says_nothing_or_says_it_slowly_gives_way_to_who_has_something_to_say() {
    let (served, _echo, _attachment) = echo(
        ListenSettings {
            max_connections: 4,
            ..small()
        },
        Limits::default(),
        100,
    )
    .await;
    // One request is at work all the while.
    let slow = Arc::new(Echo {
        gate: Semaphore::new(0),
        begun: Semaphore::new(0),
        seen: Mutex::default(),
    });
    let _slow = served
        .routes
        .attach("/slow", "test", Arc::clone(&slow) as Arc<dyn Handler>)
        .unwrap();
    let mut working = served.connect().await;
    working
        .write_all(
            b"POST /slow HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 1\r\n\r\na",
        )
        .await
        .unwrap();
    slow.begun.acquire().await.unwrap().forget();
    let kinds: [&[u8]; 5] = [
        b"",
        b"POST /e HT",
        b"POST /e HTTP/1.1\r\nhost: x\r\n",
        b"POST /e HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\na",
        b"POST /e HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\na",
    ];
    for kind in kinds {
        let mut silent = Vec::new();
        for _ in 0..10 {
            let mut stream = served.connect().await;
            stream.write_all(kind).await.unwrap();
            silent.push(stream);
        }
        let answer = served.post("/e", &[], b"b").await;
        assert_eq!(
            (answer.status(), answer.body()),
            (200, "b"),
            "behind ten of {:?}",
            String::from_utf8_lossy(kind)
        );
    }
    // Connections that were kept open after their last answer.
    let mut idle = Vec::new();
    for _ in 0..10 {
        let mut stream = served.connect().await;
        stream
            .write_all(b"POST /e HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nc")
            .await
            .unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        idle.push(stream);
    }
    slow.gate.add_permits(1);
    assert_eq!(
        Answer::read(&mut working).await.status(),
        200,
        "what was at work was not broken off"
    );
    assert!(
        served
            .counts
            .gave_way
            .load(std::sync::atomic::Ordering::Relaxed)
            >= 40
    );
}

#[tokio::test]
async fn connections_past_the_cap_wait_for_their_turn() {
    let (served, echo, _attachment) = echo(
        ListenSettings {
            max_connections: 1,
            ..small()
        },
        Limits::default(),
        0,
    )
    .await;
    let request = b"POST /e HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 1\r\n\r\na";
    let mut first = served.connect().await;
    first.write_all(request).await.unwrap();
    echo.begun.acquire().await.unwrap().forget();
    let mut second = served.connect().await;
    second.write_all(request).await.unwrap();
    echo.gate.add_permits(2);
    assert_eq!(echo.begun.available_permits(), 0);
    assert_eq!(Answer::read(&mut first).await.status(), 200);
    assert_eq!(Answer::read(&mut second).await.status(), 200);
}
