//! Who connects, and how.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pointsman_schemas::Class;

use super::target::{service, write};
use super::*;

fn certificates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("net/tls")
}

/// Lines for a server with TLS, and the file that they need.
fn tls() -> (String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str| std::fs::read_to_string(certificates().join(name)).unwrap();
    let keys = folder.path().join("keys.pem");
    std::fs::write(&keys, read("leaf.key") + &read("leaf.pem")).unwrap();
    let lines = format!(
        "ssl.keystore.type=PEM\nssl.keystore.location={}\nssl.truststore.type=PEM\nssl.truststore.location={}\n",
        keys.display(),
        certificates().join("ca.pem").display()
    );
    (lines, folder)
}

const LOGINS: &str = "\
listener.name.client.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_plain=\"hunter2\";
listener.name.client.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.client.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.client.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"x\";
listener.name.client.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
";

/// A token that is not signed, which such a server takes.
fn token(valid_for: i64) -> String {
    let now = jiff::Timestamp::now().as_second();
    let claims = json!({ "sub": "app", "iat": now - 60, "exp": now + valid_for });
    let encode = |part: &str| URL_SAFE_NO_PAD.encode(part);
    let header = encode("{\"alg\":\"none\"}");
    format!("{header}.{}.", encode(&claims.to_string()))
}

fn user(name: &str, password: &str) -> Value {
    json!({ "username": name, "password": password })
}

#[tokio::test]
async fn logins_of_all_kinds_by_tls() {
    let (lines, folder) = tls();
    let listener = KafkaListener {
        protocol: "SASL_SSL",
        ..KafkaListener::default()
    };
    let server = KafkaServer::start(&format!("{lines}{LOGINS}"), listener).await;
    let brokers = server.address().replace("127.0.0.1", "localhost");
    let settings = |auth: Value, tls: Value| json!({ "brokers": brokers, "topics": "t", "group": "g", "start": "earliest", "auth": auth, "tls": tls });
    let ca = json!({ "ca": { "file": certificates().join("ca.pem") } });
    let token_file = folder.path().join("token");
    std::fs::write(&token_file, token(3_600)).unwrap();
    let missing_topic = "there is no topic t";
    for (auth, expect) in [
        (json!({ "plain": user("plain", "hunter2") }), missing_topic),
        (
            json!({ "scram-sha-256": user("scram", "hunter2") }),
            missing_topic,
        ),
        (
            json!({ "scram-sha-512": user("scram", "hunter2") }),
            missing_topic,
        ),
        (json!({ "token": token(3_600) }), missing_topic),
        (json!({ "token": { "file": token_file } }), missing_topic),
        (json!({ "plain": user("plain", "hunter3") }), "auth: "),
        (
            json!({ "scram-sha-256": user("scram", "hunter3") }),
            "auth: ",
        ),
        (
            json!({ "scram-sha-512": user("nobody", "hunter2") }),
            "auth: ",
        ),
        (json!({ "token": token(-30) }), "auth: "),
    ] {
        let settings = settings(auth.clone(), ca.clone());
        let OpenError(problem) = source(&settings).probe().await.unwrap_err();
        let words = problem.to_string();
        assert!(words.contains(expect), "{auth}: {words}");
        assert!(!words.contains("hunter"), "{words}");
    }
    let scram = json!({ "scram-sha-256": user("scram", "hunter2") });
    for (auth, tls, expect) in [
        (&scram, json!({}), "tls: "),
        (&scram, Value::Null, "tls: {}"),
        (&Value::Null, ca.clone(), "brokers: "),
    ] {
        let OpenError(problem) = source(&settings(auth.clone(), tls.clone()))
            .probe()
            .await
            .unwrap_err();
        let words = format!("{problem:?}");
        assert!(
            words.contains(expect) || problem.to_string().contains(expect),
            "{tls}: {words}"
        );
    }

    let wrong = json!({ "brokers": brokers, "topic": "t", "auth": { "plain": user("plain", "x") }, "tls": ca });
    let outcome = write(&service(&wrong).await, "1", &[]).await;
    assert_eq!(outcome.class, Class::Refused, "{outcome:?}");
}

#[tokio::test]
async fn a_certificate_of_ones_own() {
    let (lines, _folder) = tls();
    let listener = KafkaListener {
        protocol: "SSL",
        ..KafkaListener::default()
    };
    let server = KafkaServer::start(&format!("{lines}ssl.client.auth=required\n"), listener).await;
    let brokers = server.address().replace("127.0.0.1", "localhost");
    let file = |name: &str| json!({ "file": certificates().join(name) });
    let with =
        json!({ "ca": file("ca.pem"), "certificate": file("leaf.pem"), "key": file("leaf.key") });
    let without = json!({ "ca": file("ca.pem") });
    for (tls, expect) in [(with, "there is no topic t"), (without, "tls: ")] {
        let settings = json!({
            "brokers": brokers, "topics": "t", "group": "g", "start": "earliest", "tls": tls,
        });
        let OpenError(problem) = source(&settings).probe().await.unwrap_err();
        assert!(problem.to_string().contains(expect), "{tls}: {problem:?}");
    }
}
