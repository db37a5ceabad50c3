//! What is wrong, in the words of the settings, TLS and logins, and outages.

use pointsman_schemas::{Class, Outcome};
use pointsman_test_brokers::{Fault, Proxy, free_port};
use tower::ServiceExt;

use super::*;
use crate::suite::{attempt, context, parse, read_on};

async fn told(settings: &Json) -> String {
    match source(settings).probe().await {
        Ok(told) => told,
        Err(error) => error.0.to_string(),
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_in_the_words_of_the_settings() {
    let server = guarded().await;
    let settings = with(
        json!({ "url": server.url(), "address": unique("orders") }),
        login(),
    );
    let nobody = format!("amqp://127.0.0.1:{}", free_port());
    let secure = format!("amqps://127.0.0.1:{}", server.port());
    for (more, expect) in [
        (json!({}), "it lets us read orders-"),
        (
            json!({ "kind": "topic" }),
            "whether there is such a topic shows when it is read",
        ),
        (
            json!({ "url": nobody }),
            "url: cannot connect to the AMQP broker at 127.0.0.1:",
        ),
        (
            json!({ "url": secure }),
            "url: cannot connect to the AMQP broker at 127.0.0.1:",
        ),
        (
            json!({ "password": "hunter3" }),
            "password: the AMQP broker at 127.0.0.1:",
        ),
        (
            json!({ "username": null, "password": null }),
            "username: the AMQP broker at 127.0.0.1:",
        ),
        (
            json!({ "address": "closed.a" }),
            "username: the AMQP broker at 127.0.0.1:",
        ),
        (
            json!({ "selector": "a = = b" }),
            "address: the AMQP broker at 127.0.0.1:",
        ),
    ] {
        let settings = with(settings.clone(), more.clone());
        let told = told(&settings).await;
        assert!(told.contains(expect), "{more}: {told}");
        assert!(!told.contains("hunter"), "{told}");
        if told.contains(": ") && expect.contains("the AMQP broker at") {
            assert!(open(&settings).await.is_err(), "{more}");
        }
    }
}

/// Answers each connection with these bytes.
async fn answering(bytes: &'static [u8]) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("amqp://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut one, _)) = listener.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut one, bytes).await;
            // It reads on, and ends nothing.
            tokio::spawn(async move {
                let _ = tokio::io::copy(&mut one, &mut tokio::io::sink()).await;
            });
        }
    });
    url
}

#[tokio::test]
async fn what_answers_and_is_no_broker_is_told() {
    for (answer, expect) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            "does not speak AMQP 1.0 with SASL",
        ),
        (b"AMQP\0\0\x09\x01", "speaks AMQP 0.9.1 and not 1.0"),
        (b"AMQP\x03\x01\0\0\0\0\0\x08\x01\0\0\0", "is understood"),
        (
            b"AMQP\x03\x01\0\0\0\0\0\x19\x02\x01\0\0\0\x53\x40\xc0\x0c\x01\xb3\0\0\0\x06GSSAPI",
            "it lets nobody in without a name, but by GSSAPI",
        ),
        (b"", "does not let us in"),
    ] {
        let url = answering(answer).await;
        let told = told(&json!({ "url": url, "address": "a" })).await;
        assert!(told.contains(expect), "{answer:?}: {told}");
    }
}

#[tokio::test]
async fn tls_with_a_certificate_and_a_login_from_files_that_are_read_again() {
    let server = guarded().await;
    let folder = ca().parent().unwrap().to_owned();
    let file = |name: &str| json!({ "file": folder.join(name) });
    let address = unique("secrets");
    // Who has a certificate needs no name.
    let certificate = json!({
        "url": format!("amqps://localhost:{}", server.tls_port()),
        "address": address,
        "tls": { "ca": file("ca.pem"), "certificate": file("leaf.pem"), "key": file("leaf.key") },
    });
    let found = told(&certificate).await;
    assert!(found.contains("it lets us read"), "{found}");
    let tls = &certificate["tls"];
    for tls in [
        json!(null),
        with(tls.clone(), json!({ "certificate": null, "key": null })),
    ] {
        let told = told(&with(certificate.clone(), json!({ "tls": tls }))).await;
        let expect = "tls: cannot connect to the AMQP broker at localhost:";
        assert!(told.starts_with(expect), "{told}");
    }

    let secrets = tempfile::tempdir().unwrap();
    let path = secrets.path().join("password");
    std::fs::write(&path, "old").unwrap();
    let login = json!({
        "url": server.url(),
        "address": address,
        "username": ARTEMIS_LOGIN.0,
        "password": { "file": path },
    });
    let target = parse("amqp", &login).unwrap();
    let service = target.open(context()).await.unwrap();
    let send = async || service.clone().oneshot(attempt(&["1"], 0)).await;
    let refused = send().await.unwrap_err();
    assert_eq!(refused.class, Class::Refused, "{refused:?}");
    std::fs::write(&path, ARTEMIS_LOGIN.1).unwrap();
    let sent = send().await.unwrap();
    assert_eq!(sent[0].class, Class::Delivered, "{sent:?}");
    let (mut source, _) = open(&login).await.unwrap();
    settle(take(&mut *source, 1).await, &Verdict::Stored).await;
    std::fs::write(&path, format!("{}\n", ARTEMIS_LOGIN.1)).unwrap();
    let ended = next_within(&mut *source, LONG).await.unwrap().unwrap_err();
    assert!(ended.to_string().contains("has changed"), "{ended}");
}

#[tokio::test]
async fn what_is_refused_to_a_target_is_told_by_its_class() {
    let server = guarded().await;
    let settings = with(json!({ "url": server.url(), "address": "a" }), login());
    let nobody = format!("amqp://127.0.0.1:{}", free_port());
    for (more, class, told) in [
        (json!({}), Class::Delivered, ""),
        (
            json!({ "address": "closed.a" }),
            Class::Refused,
            "amqp:unauthorized-access",
        ),
        (
            json!({ "password": "no" }),
            Class::Refused,
            "does not let us in",
        ),
        (
            json!({ "url": nobody }),
            Class::Unavailable,
            "cannot connect",
        ),
    ] {
        let target = parse("amqp", &with(settings.clone(), more.clone())).unwrap();
        let service = target.open(context()).await.unwrap();
        let outcome = match service.oneshot(attempt(&["1"], 0)).await {
            Ok(outcomes) => outcomes[0].clone(),
            Err(error) => Outcome::new(error.class, error.message),
        };
        assert_eq!(outcome.class, class, "{more}: {outcome:?}");
        assert!(outcome.message.contains(told), "{more}: {outcome:?}");
    }
    let closed = with(settings.clone(), json!({ "address": "closed.a" }));
    let told = parse("amqp", &closed).unwrap().probe().await.unwrap_err();
    assert!(told.0.to_string().starts_with("username: "), "{told}");
    let told = parse("amqp", &settings).unwrap().probe().await.unwrap();
    assert!(told.ends_with("it takes messages for a"), "{told}");
}

#[tokio::test]
async fn a_broker_that_hangs_is_noticed_and_read_on() {
    let address = unique("hangs");
    let server = server().await;
    let proxy = Proxy::start(server.port());
    let url = format!("amqp://127.0.0.1:{}", proxy.port());
    let settings = settings(&address, json!({ "url": url })).await;
    let (mut source, _) = open(&settings).await.unwrap();
    let mut peer = Peer::sender(&server.url(), &address).await;
    peer.send(text("a")).await;
    settle(take(&mut *source, 1).await, &Verdict::Stored).await;
    proxy.set(Fault::BlackHole);
    let began = Instant::now();
    let ended = next_within(&mut *source, LONG).await.unwrap().unwrap_err();
    assert!(ended.to_string().contains("does not answer"), "{ended}");
    assert!(
        began.elapsed() < Duration::from_secs(27),
        "{:?}",
        began.elapsed()
    );
    proxy.set(Fault::None);
    peer.send(text("b")).await;
    // The first may come again: that it was stored was perhaps still to be said.
    let again = async || open(&settings).await.unwrap().0;
    read_on(again().await, again, "b").await;
}
