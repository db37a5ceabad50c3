//! What is wrong, in the words of the settings, TLS and logins, and outages.

use pointsman_test_brokers::{Fault, Proxy, free_port};

use super::*;
use crate::net::tls::fixtures::ca;
use crate::suite::{Log, hangs, parse, read_on};

async fn told(settings: &Value) -> String {
    source(settings).probe().await.unwrap_err().0.to_string()
}

#[tokio::test]
async fn what_is_wrong_is_said_in_the_words_of_the_settings() {
    let server = RedisServer::start_with(&["--requirepass", "hunter2"]).await;
    let url = format!("redis://:hunter2@127.0.0.1:{}", server.port());
    let connection = connection(&url).await;
    let stream = Stream { server, connection };
    stream.run::<String>("SET text a").await;
    let acl = "ACL SETUSER reader on >hunter3 ~orders +xinfo";
    stream.run::<String>(acl).await;
    let nobody = format!("redis://127.0.0.1:{}", free_port());
    let reader = json!({ "username": "reader", "password": "hunter3" });
    for (more, expect) in [
        (
            json!({ "url": nobody }),
            "url: cannot connect to Redis at 127.0.0.1:",
        ),
        (
            json!({}),
            "password: the server refuses: NOAUTH Authentication required",
        ),
        (
            json!({ "password": "wrong" }),
            "password: Redis at 127.0.0.1:",
        ),
        (
            json!({ "password": "hunter2", "stream": "text" }),
            "stream: the server refuses: WRONGTYPE",
        ),
        (
            json!({ "password": "hunter2", "url": format!("{}/99", stream.server.url()) }),
            "url: Redis at 127.0.0.1:",
        ),
    ] {
        let told = told(&stream.settings(more.clone())).await;
        assert!(told.starts_with(expect), "{more}: {told}");
        assert!(open(&stream.settings(more)).await.is_err());
    }
    // It may look, and not read.
    let settings = stream.settings(reader);
    source(&settings).probe().await.unwrap();
    let refused = open(&settings).await.err().unwrap().0.to_string();
    assert!(
        refused.starts_with("username: the server refuses: NOPERM"),
        "{refused}"
    );

    for (url, expect) in [
        (
            {
                let http = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let url = format!("redis://{}", http.local_addr().unwrap());
                tokio::spawn(async move {
                    while let Ok((mut one, _)) = http.accept().await {
                        let answer = b"HTTP/1.1 400 Bad Request\r\n\r\n";
                        let _ = tokio::io::AsyncWriteExt::write_all(&mut one, answer).await;
                    }
                });
                url
            },
            "url: what answers at 127.0.0.1:",
        ),
        (
            format!("rediss://127.0.0.1:{}", stream.server.port()),
            "url: cannot connect to Redis at 127.0.0.1:",
        ),
    ] {
        let told = told(&stream.settings(json!({ "url": url }))).await;
        assert!(told.starts_with(expect), "{url}: {told}");
    }
}

#[tokio::test]
async fn tls_and_a_login_from_files_that_are_read_again() {
    let folder = ca().parent().unwrap().to_owned();
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let port = free_port().to_string();
    let words = [
        "--tls-port",
        &port,
        "--tls-cert-file",
        &file("leaf.pem"),
        "--tls-key-file",
        &file("leaf.key"),
        "--tls-ca-cert-file",
        &file("ca.pem"),
        "--tls-auth-clients",
        "no",
    ];
    let stream = Stream::of(RedisServer::start_with(&words).await).await;
    stream
        .run::<String>("ACL SETUSER app on >hunter2 ~* +@all")
        .await;
    let secrets = tempfile::tempdir().unwrap();
    let path = secrets.path().join("password");
    std::fs::write(&path, "old").unwrap();
    let settings = |more: Value| {
        let settings = json!({
            "url": format!("rediss://localhost:{port}"),
            "username": "app",
            "password": { "file": path },
            "tls": { "ca": { "file": file("ca.pem") } },
        });
        with(settings, more)
    };
    let to_stream = settings(json!({ "stream": "orders" }));
    let target = parse("redis", &to_stream).unwrap();
    let service = target.open(crate::suite::context()).await.unwrap();
    let send = async || {
        let attempt = crate::suite::attempt(&["1"], 0);
        tower::ServiceExt::oneshot(service.clone(), attempt).await
    };
    let refused = send().await.unwrap_err();
    assert_eq!(
        refused.class,
        pointsman_schemas::Class::Refused,
        "{refused:?}"
    );
    std::fs::write(&path, "hunter2").unwrap();
    let sent = send().await.unwrap();
    assert_eq!(
        sent[0].class,
        pointsman_schemas::Class::Delivered,
        "{sent:?}"
    );

    let of_group = json!({ "stream": "orders", "group": "g", "start": "earliest" });
    let (mut source, _) = open(&settings(of_group.clone())).await.unwrap();
    assert_eq!(take(&mut *source, 1).await.len(), 1);
    let untrusted = with(settings(of_group), json!({ "tls": null }));
    let told = told(&untrusted).await;
    assert!(
        told.starts_with("tls: cannot connect to Redis at localhost:"),
        "{told}"
    );
}

#[tokio::test]
async fn a_server_that_refuses_ends_the_source_and_what_is_in_hand_is_settled_after_it() {
    let stream = Stream::new().await;
    let proxy = Proxy::start(stream.server.port());
    let url = format!("redis://127.0.0.1:{}", proxy.port());
    let settings = stream.settings(json!({ "url": url }));
    stream.add("a").await;
    let (mut source, _) = open(&settings).await.unwrap();
    let held = take(&mut *source, 1).await;
    proxy.set(Fault::Refuse);
    let ended = next_within(&mut *source, LONG).await.unwrap().unwrap_err();
    let told = ended.to_string();
    assert!(
        told.contains("cannot receive from the stream orders"),
        "{told}"
    );
    drop(source);
    assert!(open(&settings).await.is_err());
    proxy.set(Fault::None);
    settle(held, &Verdict::Stored).await;
    assert_eq!(stream.pending().await, 0);
}

#[tokio::test]
async fn a_server_that_hangs_is_noticed_quietly_and_read_on() {
    let (log, _in_force) = Log::capture();
    let stream = Stream::new().await;
    let proxy = Proxy::start(stream.server.port());
    let url = format!("redis://127.0.0.1:{}", proxy.port());
    let settings = stream.settings(json!({ "url": url }));
    let (mut source, link) = open(&settings).await.unwrap();
    stream.add("a").await;
    settle(take(&mut *source, 1).await, &Verdict::Stored).await;
    hangs(&proxy, &link, &log, Duration::ZERO).await;
    stream.add("b").await;
    let again = async || open(&settings).await.unwrap().0;
    read_on(source, again, "{\"n\":\"b\"}").await;
    stream.drained().await;
}
