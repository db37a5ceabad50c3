//! What is wrong, in the words of the settings, TLS and logins, and outages.

use std::process::Command;

use pointsman_schemas::Class;
use pointsman_test_brokers::{Fault, Proxy, free_port};
use tower::ServiceExt;

use super::*;
use crate::net::tls::fixtures::ca;
use crate::suite::{attempt, context, parse};

async fn told(settings: &Value) -> String {
    match source(settings).probe().await {
        Ok(told) => told,
        Err(error) => error.0.to_string(),
    }
}

/// A file of mosquitto's passwords.
fn passwords(folder: &std::path::Path) -> std::path::PathBuf {
    let path = folder.join("passwords");
    std::fs::write(&path, "").unwrap();
    for (user, password) in [("app", "hunter2"), ("reader", "hunter3")] {
        let made = Command::new("mosquitto_passwd")
            .args(["-b", path.to_str().unwrap(), user, password])
            .status();
        assert!(made.unwrap().success());
    }
    path
}

/// A broker with users, of whom one may not read all, and none may write what is closed.
async fn guarded(folder: &std::path::Path) -> MqttServer {
    let rights = "user app\ntopic readwrite #\n\nuser reader\ntopic read open/#\n";
    std::fs::write(folder.join("rights"), rights).unwrap();
    let settings = format!(
        "password_file {}\nacl_file {}\nmax_packet_size 2000",
        passwords(folder).display(),
        folder.join("rights").display()
    );
    MqttServer::start_with(free_port(), &settings).await
}

#[tokio::test]
async fn what_is_wrong_is_said_in_the_words_of_the_settings() {
    let folder = tempfile::tempdir().unwrap();
    let server = guarded(folder.path()).await;
    let nobody = format!("mqtt://127.0.0.1:{}", free_port());
    let app = json!({ "username": "app", "password": "hunter2" });
    let reader = json!({ "username": "reader", "password": "hunter3" });
    for version in ["5", "3.1.1"] {
        for (user, more, expect) in [
            (&app, json!({}), "lets it subscribe to orders/#"),
            (
                &app,
                json!({ "topic": "$share/g/a" }),
                "lets it subscribe to $share/g/a",
            ),
            (
                &app,
                json!({ "url": nobody }),
                "url: cannot connect to the MQTT broker at 127.0.0.1:",
            ),
            (
                &app,
                json!({ "url": format!("mqtts://127.0.0.1:{}", server.port()) }),
                "url: cannot connect to the MQTT broker at 127.0.0.1:",
            ),
            (
                &app,
                json!({ "password": "wrong" }),
                "does not take the connection: ",
            ),
            (&json!({}), json!({}), "does not take the connection: "),
            (
                &reader,
                json!({ "topic": "open/#" }),
                "lets it subscribe to open/#",
            ),
        ] {
            let settings = with(
                settings(&server, json!({ "version": version })),
                user.clone(),
            );
            let told = told(&with(settings, more.clone())).await;
            assert!(told.contains(expect), "{version} {more}: {told}");
        }
    }
    // Debian's broker lets everybody subscribe, and hands over what he may read.
    let wrong = with(settings(&server, app.clone()), json!({ "password": "no" }));
    let error = open(&wrong).await.err().unwrap().0.to_string();
    assert!(
        error.starts_with("username: ") || error.starts_with("password: "),
        "{error}"
    );
}

#[tokio::test]
async fn what_answers_and_is_no_broker_is_told() {
    let http = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("mqtt://{}", http.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut one, _)) = http.accept().await {
            let answer = [b"HTTP/1.1 400 Bad Request\r\n\r\n".repeat(9)].concat();
            let _ = tokio::io::AsyncWriteExt::write_all(&mut one, &answer).await;
        }
    });
    let settings = json!({ "url": url, "client_id": "c", "topic": "a" });
    let told = told(&settings).await;
    assert!(
        told.starts_with("url: ") && told.contains("no MQTT broker"),
        "{told}"
    );
}

#[tokio::test]
async fn tls_with_a_certificate_and_a_login_from_files_that_are_read_again() {
    let folder = ca().parent().unwrap().to_owned();
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (secrets, port) = (tempfile::tempdir().unwrap(), free_port());
    let tls = format!(
        "cafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\npassword_file {}",
        file("ca.pem"),
        file("leaf.pem"),
        file("leaf.key"),
        passwords(secrets.path()).display()
    );
    let _server = MqttServer::start_with(port, &tls).await;
    let path = secrets.path().join("password");
    std::fs::write(&path, "old").unwrap();
    let login = json!({
        "url": format!("mqtts://localhost:{port}"),
        "username": "app",
        "password": { "file": path },
        "tls": {
            "ca": { "file": file("ca.pem") },
            "certificate": { "file": file("leaf.pem") },
            "key": { "file": file("leaf.key") },
        },
    });
    let target = parse("mqtt", &with(login.clone(), json!({ "topic": "a" }))).unwrap();
    let service = target.open(context()).await.unwrap();
    let send = async || service.clone().oneshot(attempt(&["1"], 0)).await;
    let refused = send().await.unwrap_err();
    assert_eq!(refused.class, Class::Refused, "{refused:?}");
    std::fs::write(&path, "hunter2").unwrap();
    let sent = send().await.unwrap();
    assert_eq!(sent[0].class, Class::Delivered, "{sent:?}");

    let of_source = with(login, json!({ "client_id": "c", "topic": "a" }));
    let (mut source, _) = open(&of_source).await.unwrap();
    send().await.unwrap();
    settle(take(&mut *source, 1).await, &Verdict::Stored).await;
    std::fs::write(&path, "hunter2\n").unwrap();
    let ended = next_within(&mut *source, LONG).await.unwrap().unwrap_err();
    assert!(ended.to_string().contains("has changed"), "{ended}");

    let certificates = &of_source["tls"];
    let nobody = with(
        certificates.clone(),
        json!({ "certificate": null, "key": null }),
    );
    for (tls, expect) in [
        (
            json!(null),
            "tls: cannot connect to the MQTT broker at localhost:",
        ),
        (
            nobody,
            "tls: cannot connect to the MQTT broker at localhost:",
        ),
    ] {
        let told = told(&with(of_source.clone(), json!({ "tls": tls }))).await;
        assert!(told.starts_with(expect), "{told}");
    }
}

#[tokio::test]
async fn who_takes_the_identifier_ends_the_source_with_words() {
    let server = MqttServer::start().await;
    let settings = settings(&server, json!({}));
    let (mut first, _) = open(&settings).await.unwrap();
    while quiet(&mut *first).await.is_some() {}
    let (_second, _) = open(&settings).await.unwrap();
    let ended = next_within(&mut *first, LONG).await.unwrap().unwrap_err();
    let told = ended.to_string();
    assert!(
        told.contains("another client") && told.contains("same client_id"),
        "{told}"
    );
}

#[tokio::test]
async fn a_broker_that_hangs_is_noticed() {
    let server = MqttServer::start().await;
    let proxy = Proxy::start(server.port());
    let url = format!("mqtt://127.0.0.1:{}", proxy.port());
    let settings = settings(&server, json!({ "url": url }));
    let (mut source, _) = open(&settings).await.unwrap();
    while quiet(&mut *source).await.is_some() {}
    proxy.set(Fault::BlackHole);
    let hangs = Instant::now();
    let ended = next_within(&mut *source, LONG).await.unwrap().unwrap_err();
    assert!(ended.to_string().contains("does not answer"), "{ended}");
    assert!(
        hangs.elapsed() < Duration::from_secs(15),
        "{:?}",
        hangs.elapsed()
    );
}

#[tokio::test]
async fn what_is_refused_to_a_target_is_told_by_its_class() {
    let folder = tempfile::tempdir().unwrap();
    let server = guarded(folder.path()).await;
    let app = json!({ "username": "app", "password": "hunter2" });
    let reader = json!({ "username": "reader", "password": "hunter3" });
    let nobody = json!({ "url": format!("mqtt://127.0.0.1:{}", free_port()) });
    for (user, more, class, told) in [
        (&app, json!({}), Class::Delivered, ""),
        (
            &app,
            json!({ "topic": "<$.id>" }),
            Class::Rejected,
            "wildcard",
        ),
        (&reader, json!({}), Class::Refused, "not authorized"),
        (
            &app,
            json!({ "password": "no" }),
            Class::Refused,
            "does not take the connection",
        ),
        (&app, nobody, Class::Unavailable, "cannot connect"),
    ] {
        let settings = with(json!({ "url": server.url(), "topic": "a" }), user.clone());
        let target = parse("mqtt", &with(settings, more.clone())).unwrap();
        let texts = target.templates().len();
        let service = target.open(context()).await.unwrap();
        let outcome = match service.oneshot(attempt(&["#"], texts)).await {
            Ok(outcomes) => outcomes[0].clone(),
            Err(error) => pointsman_schemas::Outcome::new(error.class, error.message),
        };
        assert_eq!(outcome.class, class, "{more}: {outcome:?}");
        assert!(outcome.message.contains(told), "{more}: {outcome:?}");
    }
}
