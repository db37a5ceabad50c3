//! What is wrong is said in words.

use std::sync::Arc;

use lapin::options::BasicAckOptions;
use pointsman_schemas::{Class, Name, SystemClock};
use tokio::io::AsyncReadExt;
use tokio_util::task::AbortOnDropHandle;

use super::source::{body, ends, event, take};
use super::target::{came_to, publish, service};
use super::*;
use crate::Verdict;
use crate::rabbitmq::RabbitmqSource;
use crate::rabbitmq::consume::QueueSource;
use crate::rabbitmq::message::Decoder;

impl RabbitmqSource {
    /// A source whose channel a test may spoil.
    pub(super) async fn consuming(&self) -> QueueSource {
        let (address, queue) = self.resolved("test".to_owned()).unwrap();
        let name = Name::new("spoilt").unwrap();
        let clock = Arc::new(SystemClock);
        let decoder = Decoder {
            name: name.clone(),
            mapped: false,
            clock: clock.clone(),
            stream: None,
            nonce: 0,
        };
        self.consume(&address, &queue, None, decoder, Link::new(name, clock))
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn a_server_that_does_not_let_us_in() {
    let queue = Queue::new("classic", &[]).await;
    let closed = format!("amqp://127.0.0.1:{}", free_port());
    for (more, class, words, help) in [
        (
            json!({ "username": "app", "password": "hunter2" }),
            Class::Refused,
            ["username: cannot connect to RabbitMQ", "Login was refused"],
            "(check username and password",
        ),
        (
            json!({ "vhost": "elsewhere" }),
            Class::Refused,
            [
                "vhost: cannot connect to RabbitMQ",
                "vhost elsewhere not found",
            ],
            "(make the vhost",
        ),
        (
            json!({ "url": closed }),
            Class::Unavailable,
            ["url: cannot connect to RabbitMQ", "refused"],
            "(check that RabbitMQ runs",
        ),
    ] {
        let settings = queue.settings(more);
        for problem in [
            open(&settings).await.err().unwrap().0,
            source(&settings).probe().await.unwrap_err().0,
        ] {
            told(&problem, &words);
            told(&problem, &[help]);
            assert!(!problem.to_string().contains("hunter2"));
        }
        let mut settings = settings;
        let name = settings.as_object_mut().unwrap().remove("queue").unwrap();
        settings["routing_key"] = name;
        came_to(
            &publish(&service(&settings).await, "1", &[]).await,
            class,
            &words[1..],
        );
    }
}

#[tokio::test]
async fn a_queue_that_is_there_is_told_of() {
    let queue = Queue::new("quorum", &[]).await;
    queue.publish("1", plain()).await;
    let found = source(&queue.settings(json!({}))).probe().await.unwrap();
    assert!(
        found.starts_with("RabbitMQ ")
            && found.contains(" at 127.0.0.1")
            && found.contains("vhost /: the queue")
            && found.contains("holds 1 messages and has 0 consumers"),
        "{found}"
    );
    let declared = source(&queue.settings(json!({ "declare": { "type": "quorum" } })))
        .probe()
        .await
        .unwrap();
    // RabbitMQ 4 limits deliveries by default, of which there is a warning behind it.
    assert_eq!(
        declared.replace(
            "; whether it is as declared shows when the source starts",
            ""
        ),
        found
    );
    assert_ne!(declared, found);
    assert!(queue.get().await.is_some(), "nothing was taken");
}

#[tokio::test]
async fn a_queue_that_is_deleted_ends_the_source_with_words() {
    let queue = Queue::new("classic", &[]).await;
    let (mut source, _link) = open(&queue.settings(json!({}))).await.unwrap();
    queue
        .channel
        .queue_delete(
            queue.name.as_str().into(),
            lapin::options::QueueDeleteOptions::default(),
        )
        .await
        .unwrap();
    let why = ends(&mut *source).await;
    assert!(why.contains("the queue has been deleted"), "{why}");
}

#[tokio::test]
async fn a_tag_that_the_server_does_not_know_ends_the_source_and_loses_nothing() {
    let queue = Queue::new("classic", &[]).await;
    let settings: RabbitmqSource = serde_json::from_value(queue.settings(json!({}))).unwrap();
    let mut source = settings.consuming().await;
    queue.publish("1", plain()).await;
    let held = take(&mut source, 1).await.remove(0);
    source
        .channel()
        .basic_ack(99, BasicAckOptions::default())
        .await
        .unwrap();
    let why = ends(&mut source).await;
    assert!(why.contains("unknown delivery tag 99 (code 406)"), "{why}");
    let (mut source, _link) = open(&queue.settings(json!({}))).await.unwrap();
    let again = take(&mut *source, 1).await.remove(0);
    assert_eq!(body(&event(&again)), "1");
    held.acknowledgement.send(Verdict::Stored).await;
    again.acknowledgement.send(Verdict::Stored).await;
    queue.publish("2", plain()).await;
    assert_eq!(
        body(&event(&take(&mut *source, 1).await[0])),
        "2",
        "the new channel stands"
    );
}

#[tokio::test]
async fn tls() {
    let (_, port) = server().await;
    let queue = Queue::new("classic", &[]).await;
    let ca = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("net/tls/ca.pem");
    let settings = |more: Value| queue.settings(more);
    let trusting = settings(
        json!({ "url": format!("amqps://localhost:{port}"), "tls": { "ca": { "file": ca } } }),
    );
    let (mut source, _link) = open(&trusting).await.unwrap();
    queue.publish("1", plain()).await;
    let message = take(&mut *source, 1).await.remove(0);
    assert_eq!(body(&event(&message)), "1");
    message.acknowledgement.send(Verdict::Stored).await;
    let OpenError(problem) = open(&settings(
        json!({ "url": format!("amqps://localhost:{port}") }),
    ))
    .await
    .err()
    .unwrap();
    told(
        &problem,
        &[
            "tls: cannot connect to RabbitMQ",
            "signed by an authority that is not trusted",
            "tls: { ca:",
        ],
    );
}

#[tokio::test]
async fn what_speaks_another_protocol_is_said() {
    let (server, tls_port) = server().await;
    let queue = Queue::new("classic", &[]).await;
    for (url, words) in [
        (
            format!("amqp://localhost:{tls_port}"),
            [
                "url: cannot connect",
                "it speaks TLS there",
                "write amqps://",
            ],
        ),
        (
            format!("amqps://localhost:{}", server.port()),
            [
                "url: cannot connect",
                "the server does not speak TLS there",
                "write amqp://",
            ],
        ),
    ] {
        let settings = queue.settings(json!({ "url": url }));
        for problem in [
            open(&settings).await.err().unwrap().0,
            source(&settings).probe().await.unwrap_err().0,
        ] {
            told(&problem, &words);
        }
    }
}

#[tokio::test]
async fn a_server_that_closes_the_connection_without_a_word_may_speak_tls() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let _closing = AbortOnDropHandle::new(tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 8]).await;
        }
    }));
    for (scheme, words) in [
        ("amqp", "the port may speak TLS: write amqps://"),
        ("amqps", "the port may not speak TLS: write amqp://"),
    ] {
        let url = format!("{scheme}://127.0.0.1:{port}");
        let settings = json!({ "url": url, "queue": "q" });
        let OpenError(problem) = source(&settings).probe().await.unwrap_err();
        told(
            &problem,
            &[
                "url: cannot connect to RabbitMQ",
                "the server closed the connection without an answer",
                words,
            ],
        );
    }
}

#[tokio::test]
async fn certificates_that_cannot_be_used_are_said_before_anything_is_dialled() {
    let certificates = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("net/tls");
    let file = |name: &str| json!({ "file": certificates.join(name) });
    let nothing = json!("nothing");
    for (tls, words) in [
        (
            json!({ "ca": nothing }),
            "tls.ca: there is no certificate in it",
        ),
        (
            json!({ "certificate": nothing, "key": file("leaf.key") }),
            "tls.certificate: there is no certificate in it",
        ),
        (
            json!({ "certificate": file("leaf.pem"), "key": nothing }),
            "tls.key: cannot read the key",
        ),
        (
            json!({ "certificate": file("ca.pem"), "key": file("leaf.key") }),
            "tls.key: the key does not belong to the certificate",
        ),
    ] {
        let settings = json!({ "url": "amqps://127.0.0.1:1", "queue": "q", "tls": tls });
        let OpenError(problem) = source(&settings).probe().await.unwrap_err();
        told(&problem, &[words]);
    }
}

#[tokio::test]
async fn a_server_without_the_way_to_log_in_by_is_told_from_one_that_is_down() {
    let (_, port) = server().await;
    let certificates = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("net/tls");
    let file = |name: &str| json!({ "file": certificates.join(name) });
    // A client with a certificate and without a password is who the certificate says, which takes
    // a plugin of the server.
    let settings = json!({
        "url": format!("amqps://localhost:{port}"),
        "queue": "q",
        "tls": { "ca": file("ca.pem"), "certificate": file("leaf.pem"), "key": file("leaf.key") },
    });
    let OpenError(problem) = source(&settings).probe().await.unwrap_err();
    told(
        &problem,
        &[
            "username: cannot connect to RabbitMQ",
            "it does not let clients log in by their certificate",
            "rabbitmq_auth_mechanism_ssl",
        ],
    );
}

#[tokio::test]
async fn a_client_certificate_that_is_missing_or_not_trusted() {
    let certificates = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("net/tls");
    let file = |name: &str| certificates.join(name).display().to_string();
    // The server trusts an authority that has signed nobody.
    let stranger =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("listener/tests/certificate.pem");
    for (trusted, with, words) in [
        (
            file("ca.pem"),
            json!({}),
            [
                "tls: cannot connect",
                "the server asks for a client certificate",
                "certificate: { file:",
            ],
        ),
        (
            stranger.display().to_string(),
            json!({ "certificate": { "file": file("leaf.pem") }, "key": { "file": file("leaf.key") } }),
            [
                "tls: cannot connect",
                "the server does not accept the client's certificate",
                "signed by an authority",
            ],
        ),
    ] {
        let port = free_port();
        let options = format!(
            "listeners.ssl.1 = 127.0.0.1:{port}\nssl_options.cacertfile = {trusted}\n\
             ssl_options.certfile = {}\nssl_options.keyfile = {}\nssl_options.verify = \
             verify_peer\nssl_options.fail_if_no_peer_cert = true",
            file("leaf.pem"),
            file("leaf.key")
        );
        let server = RabbitServer::start(&options, "").await;
        let queue = Queue::at(&server.url(), "classic", &[]).await;
        // Its listeners do not begin all at once.
        let begun = std::time::Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .is_err()
        {
            assert!(begun.elapsed().as_secs() < 60, "no listener for TLS");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut tls = json!({ "ca": { "file": file("ca.pem") } });
        tls.as_object_mut()
            .unwrap()
            .extend(with.as_object().unwrap().clone());
        let settings =
            queue.settings(json!({ "url": format!("amqps://localhost:{port}"), "tls": tls }));
        for problem in [
            open(&settings).await.err().unwrap().0,
            source(&settings).probe().await.unwrap_err().0,
        ] {
            told(&problem, &words);
        }
    }
}

/// What a probe finds wrong with reading a queue: from RabbitMQ 4 on that cannot be tried without
/// taking messages.
async fn probed(settings: &dyn SourceSettings) -> Option<Problem> {
    let probed = settings.probe().await;
    if server().await.0.version() >= (4, 0) {
        assert!(probed.is_ok(), "{probed:?}");
        return None;
    }
    Some(probed.unwrap_err().0)
}

#[tokio::test]
async fn a_queue_that_somebody_else_has_for_himself() {
    let queue = Queue::new("classic", &[]).await;
    let exclusive = lapin::options::BasicConsumeOptions {
        exclusive: true,
        ..Default::default()
    };
    let _reader = queue
        .channel
        .basic_consume(
            queue.name.as_str().into(),
            "".into(),
            exclusive,
            FieldTable::default(),
        )
        .await
        .unwrap();
    let settings = queue.settings(json!({}));
    for problem in [
        Some(open(&settings).await.err().unwrap().0),
        probed(&*source(&settings)).await,
    ]
    .into_iter()
    .flatten()
    {
        told(
            &problem,
            &[
                "queue: cannot read the queue",
                "in exclusive use",
                "another reader has the queue for itself",
            ],
        );
        assert!(!problem.to_string().contains("password"), "{problem}");
    }
    let name = format!("{}-own", queue.name);
    let own = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    queue
        .channel
        .queue_declare(name.as_str().into(), own, FieldTable::default())
        .await
        .unwrap();
    let settings = queue.settings(json!({ "queue": name }));
    for problem in [
        open(&settings).await.err().unwrap().0,
        source(&settings).probe().await.unwrap_err().0,
    ] {
        told(
            &problem,
            &[
                "queue: cannot look at the queue",
                "code 405",
                "exclusive to the connection that declared it",
            ],
        );
    }
}

#[tokio::test]
async fn rights_that_are_missing_and_a_password_that_is_renewed() {
    let server = &server().await.0;
    let queue = Queue::new("quorum", &[("x-delivery-limit", AMQPValue::LongLongInt(3))]).await;
    let user = format!("app-{:x}", rand::random::<u64>());
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "stale\n").unwrap();
    let _added = server.ctl(&["add_user", &user, "fresh"]);
    let login = json!({ "username": user, "password": { "file": password } });
    let settings = source(&queue.settings(login.clone()));
    let target = service(&json!({
        "url": queue.url, "routing_key": queue.name, "username": user, "password": { "file": password },
    }))
    .await;
    told(
        &settings.open(context().0).await.err().unwrap().0,
        &[
            "username: cannot connect",
            "Login was refused",
            "(check username and password",
        ],
    );
    came_to(
        &publish(&target, "1", &[]).await,
        Class::Refused,
        &["Login was refused"],
    );
    std::fs::write(&password, "fresh\n").unwrap();
    for problem in [
        settings.open(context().0).await.err().unwrap().0,
        settings.probe().await.unwrap_err().0,
    ] {
        told(
            &problem,
            &[
                "vhost: cannot connect",
                "access to vhost '/' refused",
                "let the user use the vhost",
            ],
        );
    }
    let _permitted = server.ctl(&["set_permissions", "-p", "/", &user, "", ".*", ""]);
    for problem in [
        Some(settings.open(context().0).await.err().unwrap().0),
        probed(&*settings).await,
    ]
    .into_iter()
    .flatten()
    {
        told(
            &problem,
            &[
                "username: cannot read the queue",
                "access to queue",
                "give the user that permission",
            ],
        );
    }
    let _permitted = server.ctl(&["set_permissions", "-p", "/", &user, "", ".*", ".*"]);
    came_to(&publish(&target, "2", &[]).await, Class::Delivered, &[]);
    // What it may not configure it does not learn of.
    let found = settings.probe().await.unwrap();
    assert!(
        found.contains("holds 1 messages") && !found.contains("warning"),
        "{found}"
    );
    let mut source = settings.open(context().0).await.unwrap();
    let message = take(&mut *source, 1).await.remove(0);
    assert_eq!(event(&message).id(), "2");
}
