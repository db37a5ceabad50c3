//! Against a mail server for each test.

use pointsman_schemas::{Class, Outcome};
use pointsman_test_brokers::SmtpServer;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::net::tls::fixtures::ca;
use crate::suite::{Received, Silent, TargetFixture, attempt, context, parse, targets, with};
use crate::{Attempt, TargetService, TargetSettings};

/// Settings of a target that sends to a server, with others and without those that are null.
fn settings(server: &SmtpServer, more: Value) -> Value {
    let settings = json!({
        "server": "127.0.0.1",
        "port": server.port(),
        "tls": { "ca": { "file": ca() } },
        "from": "Orders <orders@example.com>",
        "to": "ada@example.com",
        "subject": "an order",
        "body": "It is paid.",
    });
    with(settings, more)
}

fn parsed(settings: &Value) -> Box<dyn TargetSettings> {
    parse("smtp", settings).unwrap()
}

async fn service(settings: &Value) -> TargetService {
    parsed(settings).open(context()).await.unwrap()
}

fn taken(server: &SmtpServer) -> Vec<Value> {
    let taken = server.taken();
    taken
        .iter()
        .map(|mail| serde_json::from_str(mail).unwrap())
        .collect()
}

fn content(mail: &Value) -> String {
    mail["content"].as_str().unwrap().replace("\r\n", "\n")
}

/// A header of a message, without its folds.
fn header(mail: &Value, name: &str) -> Option<String> {
    let content = content(mail);
    let (head, _) = content.split_once("\n\n").unwrap();
    let head = head.replace("\n ", " ");
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    let found = lines.find(|(found, _)| found.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.to_owned())
}

async fn send(service: &TargetService, attempt: Attempt) -> Vec<Outcome> {
    service.clone().oneshot(attempt).await.unwrap()
}

/// What becomes of one delivery with these texts.
async fn outcome(settings: &Value, texts: &[&str]) -> Outcome {
    let mut attempt = attempt(&["1"], 0);
    attempt.deliveries[0].texts = texts.iter().map(|text| (*text).to_owned()).collect();
    send(&service(settings).await, attempt).await.remove(0)
}

struct Fixture {
    server: SmtpServer,
    silent: Silent,
}

impl TargetFixture for Fixture {
    const KIND: &'static str = "smtp";

    fn settings(&self) -> Value {
        let texts = json!({ "subject": "<$.id>", "body": "<$.type>" });
        settings(&self.server, texts)
    }

    async fn received(&self) -> Vec<Received> {
        let received = |mail: &Value| {
            let subject = header(mail, "subject").unwrap();
            let content = content(mail);
            let (_, body) = content.split_once("\n\n").unwrap();
            Received {
                id: subject.split_once('-').unwrap().1.to_owned(),
                texts: vec![subject, body.trim_end().to_owned()],
                trace: None,
            }
        };
        taken(&self.server).iter().map(received).collect()
    }

    fn stalling(&self) -> Option<Value> {
        let address = self.silent.address();
        let (_, port) = address.rsplit_once(':').unwrap();
        let port: u16 = port.parse().unwrap();
        Some(settings(&self.server, json!({ "port": port })))
    }

    async fn begun(&self) {
        self.silent.begun().await;
    }

    async fn abandoned(&self) {
        self.silent.abandoned().await;
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        let mistakes = [
            (json!({ "server": "smtp://h" }), "server"),
            (json!({ "server": "" }), "server"),
            (json!({ "port": 0 }), "port"),
            (
                json!({ "server": "h.example", "encryption": "none", "tls": null }),
                "encryption",
            ),
            (json!({ "encryption": "none" }), "tls"),
            (json!({ "tls": { "key": "k" } }), "tls.key"),
            (json!({ "hello": "a b" }), "hello"),
            (json!({ "from": "orders" }), "from"),
            (
                json!({ "to": ["ada@example.com", "a@example.com, b@example.com"] }),
                "to[1]",
            ),
            (json!({ "to": null }), "to"),
            (
                json!({ "reply_to": "a@example.com\r\nBcc: b@example.com" }),
                "reply_to",
            ),
            (json!({ "subject": "a\nb" }), "subject"),
            (json!({ "body": null }), "body"),
        ];
        let mistaken = |(more, path)| (settings(&self.server, more), path);
        mistakes.into_iter().map(mistaken).collect()
    }
}

#[tokio::test]
async fn it_conforms() {
    let fixture = Fixture {
        server: SmtpServer::start("starttls", false).await,
        silent: Silent::start().await,
    };
    targets(&fixture).await;
    assert!(
        taken(&fixture.server)
            .iter()
            .all(|mail| mail["encrypted"] == true)
    );
}

#[tokio::test]
async fn what_a_message_is_made_of() {
    let server = SmtpServer::start("implicit", true).await;
    let settings = settings(
        &server,
        json!({
            "encryption": "implicit",
            "auth": { "username": "me", "password": "hunter2" },
            "from": "<$.data.from>",
            "to": ["<$.data.to>", "Bob <bob@bücher.example>", "<$.data.nobody>"],
            "cc": "cäcilie@example.com",
            "bcc": ["di@example.com"],
            "reply_to": "re@example.com",
            "subject": "<$.subject>",
            "body": "It is paid.\r.\rIt is.",
            "html": "<$.data.html>",
        }),
    );
    let texts = [
        "Käthe <k@example.com>",
        "ada@example.com",
        "",
        "grün.",
        "<p>ü</p>",
    ];
    let service = service(&settings).await;
    for attempted in 1..=2 {
        let mut attempt = attempt(&["1"], 0);
        attempt.deliveries[0].attempt = attempted;
        attempt.deliveries[0].texts = texts.map(str::to_owned).to_vec();
        assert_eq!(send(&service, attempt).await[0].class, Class::Delivered);
    }
    let taken = taken(&server);
    let [mail, again] = taken.as_slice() else {
        panic!("{taken:?}")
    };
    assert_eq!(mail["user"], "me");
    assert_eq!(mail["from"], "k@example.com");
    let everybody = [
        "ada@example.com",
        "bob@xn--bcher-kva.example",
        "cäcilie@example.com",
        "di@example.com",
    ];
    assert_eq!(mail["to"], json!(everybody));
    assert_eq!(mail["connection"], again["connection"], "it is kept");
    for (name, expect) in [
        ("message-id", Some("<0000000000000001-2-3-0@example.com>")),
        ("from", Some("=?utf-8?b?S8OkdGhl?= <k@example.com>")),
        (
            "to",
            Some("ada@example.com, Bob <bob@xn--bcher-kva.example>"),
        ),
        ("cc", Some("cäcilie@example.com")),
        ("bcc", None),
        ("reply-to", Some("re@example.com")),
        ("subject", Some("=?utf-8?b?Z3LDvG4u?=")),
        ("auto-submitted", Some("auto-generated")),
    ] {
        assert_eq!(header(mail, name).as_deref(), expect, "{name}");
        assert_eq!(
            header(again, name).as_deref(),
            expect,
            "{name} of the second attempt"
        );
    }
    let content = content(mail);
    for part in [
        "multipart/alternative",
        "It is paid.\n.\nIt is.\n",
        "<p>=C3=BC</p>",
    ] {
        assert!(content.contains(part), "{part}: {content}");
    }
}

#[tokio::test]
async fn an_answer_says_what_follows() {
    let server = SmtpServer::start("none", false).await;
    let open = json!({ "encryption": "none", "tls": null });
    for (more, expect, told) in [
        (
            json!({ "to": "answer-450@example.com" }),
            Class::Failed,
            "450 as was wished",
        ),
        (
            json!({ "to": "answer-550@example.com" }),
            Class::Rejected,
            "550 as was wished",
        ),
        (
            json!({ "to": "answer-530@example.com" }),
            Class::Refused,
            "asks for a login",
        ),
        (
            json!({ "cc": "answer-550@example.com" }),
            Class::Rejected,
            "550",
        ),
        (
            json!({ "to": "käthe@example.com" }),
            Class::Rejected,
            "SMTPUTF8",
        ),
        (
            json!({ "from": "data-452@example.com" }),
            Class::Failed,
            "452",
        ),
        (
            json!({ "from": "data-552@example.com" }),
            Class::Rejected,
            "552",
        ),
        (
            json!({ "encryption": null }),
            Class::Unavailable,
            "offers no STARTTLS",
        ),
        (
            json!({ "encryption": "implicit" }),
            Class::Unavailable,
            "does not speak TLS",
        ),
        (
            json!({ "port": 1 }),
            Class::Unavailable,
            "cannot connect to the mail server",
        ),
        (
            json!({ "auth": { "username": "me", "password": "wrong" } }),
            Class::Refused,
            "does not let us in: 535",
        ),
    ] {
        let settings = with(settings(&server, open.clone()), more.clone());
        let outcome = outcome(&settings, &[]).await;
        assert_eq!(outcome.class, expect, "{more}: {outcome:?}");
        assert!(outcome.message.contains(told), "{more}: {outcome:?}");
        assert!(!outcome.message.contains("wrong"), "{outcome:?}");
    }
    assert_eq!(taken(&server), Vec::<Value>::new(), "all get it, or none");
    let told = outcome(&settings(&server, open), &[]).await;
    assert_eq!(told.class, Class::Delivered, "{told:?}");
}

#[tokio::test]
async fn no_event_writes_a_header_or_another_address() {
    let server = SmtpServer::start("none", false).await;
    let settings = settings(
        &server,
        json!({
            "encryption": "none",
            "tls": null,
            "to": "<$.data.to>",
            "subject": "<$.data.subject>",
        }),
    );
    for (to, subject, told) in [
        ("a@example.com\r\nBcc: b@example.com", "s", "to: "),
        ("a@example.com>\r\nRCPT TO:<b@example.com", "s", "to: "),
        ("a@example.com, b@example.com", "s", "is no address"),
        ("a@example.com b@example.com", "s", "is no address"),
        ("A <a@example.com> (<b@example.com>", "s", "is no address"),
        ("nobody", "s", "is no address"),
        ("", "s", "nobody to send it to"),
        (
            "a@example.com",
            "s\r\nBcc: b@example.com",
            "a control character",
        ),
        (
            "a@example.com",
            "s\nBcc: b@example.com",
            "a control character",
        ),
    ] {
        let outcome = outcome(&settings, &[to, subject]).await;
        assert_eq!(
            outcome.class,
            Class::Rejected,
            "{to:?} {subject:?}: {outcome:?}"
        );
        assert!(
            outcome.message.contains(told),
            "{to:?} {subject:?}: {outcome:?}"
        );
    }
    assert_eq!(taken(&server), Vec::<Value>::new());
}

#[tokio::test]
async fn a_server_that_was_away_is_connected_to_again() {
    let mut server = SmtpServer::start("starttls", false).await;
    let service = service(&settings(&server, json!({}))).await;
    let mut classes = Vec::new();
    for is_away in [false, true, false] {
        match is_away {
            true => server.kill(),
            false => server.restart().await,
        }
        classes.push(send(&service, attempt(&["1"], 0)).await[0].class);
    }
    let expect = [Class::Delivered, Class::Unavailable, Class::Delivered];
    assert_eq!(classes, expect, "the kept connection is not used blindly");
}

#[tokio::test]
async fn a_message_without_an_answer_may_have_been_sent() {
    let server = SmtpServer::start("none", false).await;
    let to = json!({ "encryption": "none", "tls": null, "to": "<$.data.to>" });
    let service = service(&settings(&server, to)).await;
    let mut attempt = attempt(&["1", "2", "3"], 0);
    attempt.timeout = std::time::Duration::from_secs(3);
    let to = ["a@example.com", "stall@example.com", "b@example.com"];
    for (delivery, to) in attempt.deliveries.iter_mut().zip(to) {
        delivery.texts = vec![to.to_owned()];
    }
    let outcomes = send(&service, attempt).await;
    let classes: Vec<_> = outcomes.iter().map(|outcome| outcome.class).collect();
    let expect = [Class::Delivered, Class::Failed, Class::Unavailable];
    assert_eq!(classes, expect, "{outcomes:?}");
}

#[tokio::test]
async fn what_a_probe_tells() {
    let server = SmtpServer::start("starttls", true).await;
    let login = |password: &str| json!({ "auth": { "username": "me", "password": password } });
    for (more, expect) in [
        (
            login("hunter2"),
            "takes the login, by TLS; nothing was sent",
        ),
        (login("wrong"), "auth: the mail server 127.0.0.1:"),
        (
            json!({ "tls": null }),
            "tls: cannot connect to the mail server",
        ),
        (
            json!({ "server": "no-such-host.invalid" }),
            "its host name has no address",
        ),
    ] {
        let told = parsed(&settings(&server, more.clone())).probe().await;
        let told = told.unwrap_or_else(|error| error.0.to_string());
        assert!(told.contains(expect), "{more}: {told}");
    }
    assert_eq!(taken(&server), Vec::<Value>::new());
}
