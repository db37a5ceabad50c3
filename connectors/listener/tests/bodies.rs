//! Bodies: cut, packed, asked for, and counted while they are in hand.

use super::*;

#[tokio::test]
async fn bodies_arrive_whole_however_they_are_cut() {
    let settings = ListenSettings {
        max_body: pointsman_schemas::Size { bytes: 1 << 20 },
        ..ListenSettings::default()
    };
    let (served, echo, _attachment) = echo(settings, Limits::default(), 100).await;
    let body: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
    let mut chunked =
        b"POST /e HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
            .to_vec();
    for part in body.chunks(7_001) {
        chunked.extend_from_slice(format!("{:x};ext=1\r\n", part.len()).as_bytes());
        chunked.extend_from_slice(part);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\ntrailer: t\r\n\r\n");
    let mut announced = format!(
        "POST /e HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    announced.extend_from_slice(&body);
    for request in [chunked, announced] {
        let mut stream = served.connect().await;
        let mut answer = Vec::new();
        let (mut reader, mut writer) = stream.split();
        let (written, read) =
            tokio::join!(writer.write_all(&request), reader.read_to_end(&mut answer));
        assert!(written.is_ok() && read.is_ok() && answer.starts_with(b"HTTP/1.1 200"));
    }
    let empty = served.post("/e", &[], b"").await;
    assert_eq!((empty.status(), empty.body()), (200, ""));
    let seen = echo.seen.lock();
    assert!(seen[0] == body && seen[1] == body && seen[2].is_empty());
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut encoder, body).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn packed_bodies_are_unpacked_within_the_same_bound() {
    let (served, echo, _attachment) = echo(small(), Limits::default(), 100).await;
    let body = "packed ".repeat(142);
    for coding in ["gzip", "GZIP", "x-gzip", "identity, gzip"] {
        let answer = served
            .post(
                "/e",
                &[("content-encoding", coding)],
                &gzip(body.as_bytes()),
            )
            .await;
        assert_eq!((answer.status(), answer.body()), (200, &*body), "{coding}");
    }
    // Two members are one body: RFC 1952, section 2.2.
    let members = [gzip(b"one "), gzip(b"two")].concat();
    assert_eq!(
        served
            .post("/e", &[("content-encoding", "gzip")], &members)
            .await
            .body(),
        "one two"
    );
    assert_eq!(
        served
            .post("/e", &[("content-encoding", "gzip")], &gzip(b""))
            .await
            .status(),
        200
    );
    assert_eq!(
        served
            .post("/e", &[("content-encoding", "gzip")], &gzip(&[b'x'; 1_000]))
            .await
            .status(),
        200
    );
    let seen = echo.seen.lock().len();
    let whole = gzip(&[b'x'; 900]);
    let mut broken = whole.clone();
    broken[12] ^= 0xFF;
    let table: [(&str, Vec<u8>, u16); 5] = [
        ("one byte more than may be", gzip(&[b'x'; 1_001]), 413),
        ("a bomb", gzip(&vec![0; 500_000]), 413),
        ("cut short", whole[..whole.len() - 3].to_vec(), 400),
        ("damaged", broken, 400),
        ("something behind it", [&whole[..], b"x"].concat(), 400),
    ];
    for (what, body, status) in table {
        assert!(body.len() <= 1_000, "{what}");
        assert_eq!(
            served
                .post("/e", &[("content-encoding", "gzip")], &body)
                .await
                .problem()
                .0,
            u64::from(status),
            "{what}"
        );
    }
    assert_eq!(
        echo.seen.lock().len(),
        seen,
        "nothing of it reached the handler"
    );
}

#[tokio::test]
async fn what_is_unpacked_counts_among_the_bytes_in_hand() {
    let settings = ListenSettings {
        max_body: pointsman_schemas::Size { bytes: 20_000 },
        ..ListenSettings::default()
    };
    // Raised to one request of the largest size, packed and unpacked: 48 KiB and a little less.
    let (served, echo, _attachment) = echo(
        settings,
        Limits {
            in_flight_bytes: 0,
            ..Limits::default()
        },
        0,
    )
    .await;
    let first = tokio::spawn({
        let mut stream = served.connect().await;
        let body = gzip(&[b'x'; 20_000]);
        async move {
            let head = format!(
                "POST /e HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            stream
                .write_all(&[head.as_bytes(), &body].concat())
                .await
                .unwrap();
            Answer::read(&mut stream).await
        }
    });
    echo.begun.acquire().await.unwrap().forget();
    assert_eq!(
        served
            .post(
                "/e",
                &[("content-encoding", "gzip")],
                &gzip(&[b'x'; 19_000])
            )
            .await
            .problem()
            .0,
        429
    );
    echo.gate.add_permits(2);
    assert_eq!(first.await.unwrap().status(), 200);
    assert_eq!(
        served
            .post(
                "/e",
                &[("content-encoding", "gzip")],
                &gzip(&[b'x'; 19_000])
            )
            .await
            .status(),
        200
    );
}

#[tokio::test]
async fn a_body_is_asked_for_only_where_the_head_is_let_in() {
    let (served, _echo, _attachment) = echo(small(), Limits::default(), 100).await;
    let head = "POST /e HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\nconnection: close\r\n";
    let answer = served
        .raw(format!("{head}content-length: 1\r\n\r\na"))
        .await;
    assert!(
        answer
            .0
            .starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"),
        "{answer:?}"
    );
    for refused in [
        "x-refuse: 1\r\ncontent-length: 1\r\n\r\n",
        "content-length: 1001\r\n\r\n",
    ] {
        let answer = served.raw(format!("{head}{refused}")).await;
        assert!(
            !answer.0.contains("100 Continue") && answer.problem().0 >= 401,
            "{answer:?}"
        );
    }
}
