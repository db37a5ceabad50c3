//! Ways to be let in, and to be kept out.

use super::*;

const CA: &str = include_str!("../../http/target/tls/ca.pem");
const CERTIFICATE: &str = include_str!("../../http/target/tls/leaf.pem");
const KEY: &str = include_str!("../../http/target/tls/leaf.key");
const OPERATOR: &str = include_str!("operator.conf");
const CREDENTIALS: &str = include_str!("user.creds");
const NKEY_SEED: &str = "SUACH75SWCM5D2JMJM6EKLR2WDARVGZT4QC6LX3AGHSWOMVAKERABBBRWM";

async fn probe(server: &NatsServer, more: Value) -> Result<String, String> {
    let mut given = json!({ "url": server.url(), "subject": "a" });
    given.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    settings(given).probe().await.map_err(|error| error.to_string())
}

nats_tests!(
    the_right_ones_are_let_in_and_wrong_ones_are_told_in_words,
    a_url_from_elsewhere_may_say_who_connects,
    tls_is_checked_on_both_sides,
);

async fn the_right_ones_are_let_in_and_wrong_ones_are_told_in_words(release: NatsRelease) {
    let nkey = "authorization { users: [{ nkey: UAFHG6FUD2UU4SDFVAFUL5LDFO2XM4WYM76UNXTPJYJK7EEMYRBHT2VE }] }";
    let basic = |password: &str| json!({ "basic": { "username": "app", "password": password } });
    for (configuration, right, wrong) in [
        ("authorization { user: app, password: right }", basic("right"), basic("wrong")),
        ("authorization { token: right }", json!({ "token": "right" }), json!({ "token": "wrong" })),
        (nkey, json!({ "nkey": NKEY_SEED }), json!({ "token": "wrong" })),
        (OPERATOR, json!({ "credentials": CREDENTIALS }), json!({ "token": "wrong" })),
    ] {
        let server = NatsServer::start_with(release, configuration).await;
        let told = probe(&server, json!({ "auth": right })).await;
        assert!(told.as_ref().is_ok_and(|told| told.contains("takes connections")), "{right}: {told:?}");
        for wrong in [json!({ "auth": wrong }), json!({})] {
            let told = probe(&server, wrong.clone()).await.unwrap_err();
            assert!(told.starts_with("auth: the NATS server at 127.0.0.1:"), "{wrong}: {told}");
            assert!(told.ends_with("does not let us in: authorization violation (check auth)"), "{wrong}: {told}");
            assert!(!told.contains("wrong"), "{told}");
        }
    }
}

async fn a_url_from_elsewhere_may_say_who_connects(release: NatsRelease) {
    let server = NatsServer::start_with(release, "authorization { user: app, password: \"p@ss\" }").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    std::fs::write(&file, format!("nats://app:p%40ss@127.0.0.1:{}\n", server.port())).unwrap();
    let given = json!({ "url": { "file": file }, "subject": "a" });
    settings(given).probe().await.unwrap();
}

async fn tls_is_checked_on_both_sides(release: NatsRelease) {
    let server = NatsServer::start_prepared(release, |folder| {
        for (name, content) in [("ca.pem", CA), ("cert.pem", CERTIFICATE), ("key.pem", KEY)] {
            std::fs::write(folder.join(name), content).unwrap();
        }
        let file = |name: &str| folder.join(name);
        let (cert, key, ca) = (file("cert.pem"), file("key.pem"), file("ca.pem"));
        format!("tls {{ cert_file: {cert:?}, key_file: {key:?}, ca_file: {ca:?}, verify: true }}")
    })
    .await;
    probe(&server, json!({ "tls": { "ca": CA, "certificate": CERTIFICATE, "key": KEY } })).await.unwrap();
    let told = probe(&server, json!({ "tls": { "ca": CA } })).await.unwrap_err();
    assert!(told.starts_with("url: cannot connect"), "a client without a certificate: {told}");
    let told = probe(&server, json!({ "tls": { "certificate": CERTIFICATE, "key": KEY } })).await.unwrap_err();
    assert!(told.contains("certificate"), "a server whom the system does not trust: {told}");
    let told = probe(&server, json!({ "tls": { "ca": "nothing" } })).await.unwrap_err();
    assert_eq!(told, "tls.ca: there is no certificate in it");

    let plain = NatsServer::start(release).await;
    let told = probe(&plain, json!({ "tls": { "ca": CA } })).await;
    assert!(told.is_err(), "a server without TLS is refused: {told:?}");
    probe(&plain, json!({ "tls": { "ca": CA, "required": false } })).await.unwrap();
}
