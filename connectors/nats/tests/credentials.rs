//! Ways to be let in, and to be kept out.

use pointsman_schemas::Class;

use super::*;

const CA: &str = include_str!("../../net/tls/ca.pem");
const CERTIFICATE: &str = include_str!("../../net/tls/leaf.pem");
const KEY: &str = include_str!("../../net/tls/leaf.key");
const OPERATOR: &str = include_str!("operator.conf");
const CREDENTIALS: &str = include_str!("user.creds");
const NKEY_SEED: &str = "SUACH75SWCM5D2JMJM6EKLR2WDARVGZT4QC6LX3AGHSWOMVAKERABBBRWM";

async fn probe(server: &NatsServer, more: Value) -> Result<String, String> {
    let mut given = json!({ "url": server.url(), "subject": "a" });
    given
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    settings(given)
        .probe()
        .await
        .map_err(|error| error.to_string())
}

nats_tests!(
    the_right_ones_are_let_in_and_wrong_ones_are_told_in_words,
    a_url_from_elsewhere_may_say_who_connects,
    tls_is_checked_on_both_sides,
    what_is_renewed_in_a_file_is_shown_from_then_on,
    a_subscription_that_is_refused_is_tried_until_it_is_allowed,
    a_server_that_begins_with_tls_is_spoken_to_where_that_is_said,
    a_stream_of_another_domain_is_read,
    renewed_certificates_are_taken_over,
);

async fn the_right_ones_are_let_in_and_wrong_ones_are_told_in_words(release: NatsRelease) {
    let nkey = "authorization { users: [{ nkey: \
                UAFHG6FUD2UU4SDFVAFUL5LDFO2XM4WYM76UNXTPJYJK7EEMYRBHT2VE }] }";
    let basic = |password: &str| json!({ "basic": { "username": "app", "password": password } });
    for (configuration, right, wrong) in [
        (
            "authorization { user: app, password: right }",
            basic("right"),
            basic("wrong"),
        ),
        (
            "authorization { token: right }",
            json!({ "token": "right" }),
            json!({ "token": "wrong" }),
        ),
        (
            nkey,
            json!({ "nkey": NKEY_SEED }),
            json!({ "token": "wrong" }),
        ),
        (
            OPERATOR,
            json!({ "credentials": CREDENTIALS }),
            json!({ "token": "wrong" }),
        ),
    ] {
        let server = NatsServer::start_with(release, configuration).await;
        let told = probe(&server, json!({ "auth": right })).await;
        assert!(
            told.as_ref()
                .is_ok_and(|told| told.contains("takes connections")),
            "{right}: {told:?}"
        );
        for wrong in [json!({ "auth": wrong }), json!({})] {
            let told = probe(&server, wrong.clone()).await.unwrap_err();
            assert!(
                told.starts_with("auth: the NATS server at 127.0.0.1:"),
                "{wrong}: {told}"
            );
            assert!(
                told.ends_with("does not let us in: authorization violation (check auth)"),
                "{wrong}: {told}"
            );
            assert!(!told.contains("wrong"), "{told}");
        }
    }
}

async fn a_url_from_elsewhere_may_say_who_connects(release: NatsRelease) {
    let server =
        NatsServer::start_with(release, "authorization { user: app, password: \"p@ss\" }").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    std::fs::write(
        &file,
        format!("nats://app:p%40ss@127.0.0.1:{}\n", server.port()),
    )
    .unwrap();
    let given = json!({ "url": { "file": file }, "subject": "a" });
    settings(given).probe().await.unwrap();
}

/// A server that asks for a client's certificate.
async fn verifying(release: NatsRelease) -> NatsServer {
    NatsServer::start_prepared(release, |folder| {
        for (name, content) in [("ca.pem", CA), ("cert.pem", CERTIFICATE), ("key.pem", KEY)] {
            std::fs::write(folder.join(name), content).unwrap();
        }
        let file = |name: &str| folder.join(name);
        let (cert, key, ca) = (file("cert.pem"), file("key.pem"), file("ca.pem"));
        format!("tls {{ cert_file: {cert:?}, key_file: {key:?}, ca_file: {ca:?}, verify: true }}")
    })
    .await
}

async fn tls_is_checked_on_both_sides(release: NatsRelease) {
    let server = verifying(release).await;
    probe(
        &server,
        json!({ "tls": { "ca": CA, "certificate": CERTIFICATE, "key": KEY } }),
    )
    .await
    .unwrap();
    let told = probe(&server, json!({ "tls": { "ca": CA } }))
        .await
        .unwrap_err();
    assert!(
        told.starts_with("tls: cannot connect")
            && told.contains("the server asks for a client certificate"),
        "{told}"
    );
    let (certificate, key) = (
        include_str!("../../listener/tests/certificate.pem"),
        include_str!("../../listener/tests/key.pem"),
    );
    let told = probe(
        &server,
        json!({ "tls": { "ca": CA, "certificate": certificate, "key": key } }),
    )
    .await
    .unwrap_err();
    assert!(
        told.starts_with("tls: cannot connect")
            && told.contains("does not accept the client's certificate"),
        "{told}"
    );
    for unasked in [
        json!({ "tls": { "certificate": CERTIFICATE, "key": KEY } }),
        json!({}),
    ] {
        let told = probe(&server, unasked).await.unwrap_err();
        assert!(
            told.starts_with("tls: cannot connect")
                && told.contains("name that authority: tls: { ca"),
            "{told}"
        );
    }
    let told = probe(&server, json!({ "tls": { "ca": "nothing" } }))
        .await
        .unwrap_err();
    assert_eq!(told, "tls.ca: there is no certificate in it");
    let told = probe(
        &server,
        json!({ "tls": { "ca": CA, "certificate": CERTIFICATE, "key": key } }),
    )
    .await
    .unwrap_err();
    assert!(
        told.starts_with("tls.key: the key does not belong to the certificate"),
        "{told}"
    );

    let plain = NatsServer::start(release).await;
    let told = probe(&plain, json!({ "tls": { "ca": CA } }))
        .await
        .unwrap_err();
    assert!(
        told.starts_with("url: cannot connect") && told.contains("does not speak TLS there"),
        "{told}"
    );
    probe(&plain, json!({ "tls": { "ca": CA, "required": false } }))
        .await
        .unwrap();
}

async fn what_is_renewed_in_a_file_is_shown_from_then_on(release: NatsRelease) {
    // One password for both, so that what is read between two writes is one of the two.
    let user = |name: &str| {
        format!(
            "{{ user: {name}, password: same, permissions: {{ subscribe: [\"{name}.>\", \
             \"_INBOX.>\"] }} }}"
        )
    };
    let mut server = NatsServer::start_with(release, "authorization { token: old }").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "old\n").unwrap();
    let (mut source, link) = open(
        json!({ "url": server.url(), "subject": "s.x", "auth": { "token": { "file": file } } }),
    )
    .await;

    // Refused first and renewed then.
    server.configure("authorization { token: new }");
    server.restart().await;
    let refused = async || {
        link.status()
            .last_error
            .is_some_and(|error| error.contains("does not let us in any more"))
    };
    holds("it is refused", refused).await;
    std::fs::write(&file, "new\n").unwrap();
    let publisher = async_nats::ConnectOptions::with_token("new".into())
        .connect(server.url())
        .await
        .unwrap();
    arrives(&publisher, &mut *source, "s.x").await;

    // Renewed while the old one is still good: one user may listen here, the other there.
    server.configure(&format!(
        "authorization {{ users: [{}, {}] }}",
        user("a"),
        user("b")
    ));
    server.restart().await;
    for (name, content) in [("user", "a"), ("password", "same")] {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let text = |name: &str| json!({ "file": folder.path().join(name) });
    let auth = json!({ "basic": { "username": text("user"), "password": text("password") } });
    let given = json!({ "url": server.url(), "subject": "b.x", "auth": auth });
    let told = settings(given.clone())
        .open(context())
        .await
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert_eq!(
        told,
        "subject: the NATS server forbids subscribing to b.x; allow it, or change auth"
    );
    assert_eq!(
        settings(given).probe().await.unwrap_err().to_string(),
        told,
        "a check finds it too"
    );
    let (mut source, _) =
        open(json!({ "url": server.url(), "subject": "a.x", "auth": auth })).await;
    std::fs::write(folder.path().join("user"), "b").unwrap();
    // Connected as the other, it is not allowed to listen there any more.
    let ended = messages_within(&mut *source, SOON)
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(
        ended,
        SourceError::Unavailable(
            "the NATS server forbids subscribing to a.x; allow it, or change auth".into()
        )
    );
}

/// Publishes until something comes of it: what is published before the subscription is in force
/// again is lost.
async fn arrives(publisher: &async_nats::Client, source: &mut dyn Source, subject: &'static str) {
    let publish = async {
        loop {
            publisher.publish(subject, "x".into()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = publish => {}
        batch = messages_within(source, SOON) => assert!(!batch.expect("it arrives").unwrap().is_empty()),
    }
}

async fn a_subscription_that_is_refused_is_tried_until_it_is_allowed(release: NatsRelease) {
    let users = |allowed: &str| {
        format!(
            "authorization {{ users: [{{ user: app, password: x, permissions: {{ subscribe: \
             [{allowed}], publish: \">\" }} }}] }}"
        )
    };
    let server = NatsServer::start_with(release, &users("\"s.>\", \"_INBOX.>\"")).await;
    let given = json!({ "url": server.url(), "subject": "s.x", "auth": { "basic": { "username": "app", "password": "x" } } });
    let (mut source, _) = open(given.clone()).await;
    server.configure(&users("\"_INBOX.>\""));
    server.reload();
    let words = "the NATS server forbids subscribing to s.x; allow it, or change auth";
    let ended = messages_within(&mut *source, SOON)
        .await
        .expect("it ends")
        .unwrap_err();
    assert_eq!(ended, SourceError::Unavailable(words.into()));
    let told = settings(given.clone())
        .open(context())
        .await
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert_eq!(told, format!("subject: {words}"));
    server.configure(&users("\"s.>\", \"_INBOX.>\""));
    server.reload();
    holds("it is allowed again", async || {
        settings(given.clone()).open(context()).await.is_ok()
    })
    .await;
    let (mut source, _) = open(given).await;
    let publisher = async_nats::ConnectOptions::with_user_and_password("app".into(), "x".into())
        .connect(server.url())
        .await
        .unwrap();
    arrives(&publisher, &mut *source, "s.x").await;
}

async fn a_server_that_begins_with_tls_is_spoken_to_where_that_is_said(release: NatsRelease) {
    // Servers before 2.10 cannot.
    if release == NatsRelease::Old {
        return;
    }
    let server = NatsServer::start_prepared(release, |folder| {
        for (name, content) in [("cert.pem", CERTIFICATE), ("key.pem", KEY)] {
            std::fs::write(folder.join(name), content).unwrap();
        }
        let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        format!("tls {{ cert_file: {cert:?}, key_file: {key:?}, handshake_first: true }}")
    })
    .await;
    probe(
        &server,
        json!({ "tls": { "ca": CA, "handshake_first": true } }),
    )
    .await
    .unwrap();
    let told = probe(&server, json!({ "tls": { "ca": CA } }))
        .await
        .unwrap_err();
    assert!(
        told.contains("set tls: { handshake_first: true }"),
        "{told}"
    );
    let plain = NatsServer::start(release).await;
    let told = probe(
        &plain,
        json!({ "tls": { "ca": CA, "handshake_first": true } }),
    )
    .await
    .unwrap_err();
    assert!(told.contains("does not speak TLS there"), "{told}");
}

async fn a_stream_of_another_domain_is_read(release: NatsRelease) {
    let mut nats = Nats::start(release).await;
    nats.server.configure("");
    let lines = std::fs::read_to_string(nats.server.process().folder().join("nats.conf")).unwrap();
    let lines = lines.replace("jetstream { ", "jetstream { domain: hub, ");
    std::fs::write(nats.server.process().folder().join("nats.conf"), lines).unwrap();
    nats.restart().await;
    let mut given = nats.settings(json!({}));
    given
        .as_object_mut()
        .unwrap()
        .insert("domain".into(), json!("hub"));
    let (mut source, _) = open(given.clone()).await;
    let published = nats.publish(3).await;
    let taken = take(&mut *source, 3).await.unwrap();
    assert_eq!(
        taken.into_iter().map(|(text, _)| text).collect::<Vec<_>>(),
        published
    );
    given
        .as_object_mut()
        .unwrap()
        .insert("domain".into(), json!("elsewhere"));
    let told = settings(given).probe().await.unwrap_err().to_string();
    assert!(
        told.contains("no JetStream of the domain elsewhere answers")
            && told.contains("check the domain's name"),
        "{told}"
    );
}

async fn renewed_certificates_are_taken_over(release: NatsRelease) {
    let server = verifying(release).await;
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    let replace = |content: &str| {
        std::fs::write(folder.path().join("next"), content).unwrap();
        std::fs::rename(folder.path().join("next"), &ca).unwrap();
    };
    let mut given = json!({ "url": server.url(), "subject": "s.x" });
    given["tls"] = json!({ "ca": { "file": ca }, "certificate": CERTIFICATE, "key": KEY });
    // A certificate, but that of nobody who signs.
    replace(CERTIFICATE);
    assert!(
        settings(given.clone())
            .open(context())
            .await
            .is_err_and(|error| error.to_string().contains("name that authority: tls: { ca"))
    );
    let service = super::target::publisher(
        json!({ "url": given["url"], "subject": "s.x", "tls": given["tls"], "acknowledge": false }),
    )
    .await;
    let outcome = super::target::publish(&service, None).await;
    assert_eq!(outcome.class, Class::Unavailable, "{outcome:?}");

    replace(CA);
    holds("the target takes it over", async || {
        super::target::publish(&service, None).await.class == Class::Delivered
    })
    .await;
    let (mut source, _) = open(given.clone()).await;
    // Renewed under a connection that stands, too.
    replace(CA);
    let ended = messages_within(&mut *source, SOON)
        .await
        .expect("it ends")
        .unwrap_err();
    assert_eq!(
        ended,
        SourceError::Unavailable(
            "the files of url or tls have changed; it is opened anew with them".into()
        )
    );
    let (mut source, _) = open(given.clone()).await;
    let arrives = async {
        while super::target::publish(&service, None).await.class == Class::Delivered {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = arrives => panic!("the target lost its way"),
        came = messages_within(&mut *source, SOON) => assert!(!came.unwrap().unwrap().is_empty()),
    }
    // What cannot be read is no reason to give up what works.
    replace("nothing");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(
        super::target::publish(&service, None).await.class,
        Class::Delivered
    );
}
