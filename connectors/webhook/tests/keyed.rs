//! Providers whose keys are fetched, against a server of keys.

mod alibaba;
mod amazon;
mod google;

use serde_json::{Value, json};

use super::*;
use crate::webhook::signature::Verifier;
use crate::webhook::signature::fixtures::{EXPIRED, KeyServer, OTHER, PAYPAL, SHORT, SNS, TestKey};
use crate::{Arrival, Source};

const TOPIC: &str = "arn:aws:sns:us-west-2:123456789012:MyTopic";

async fn keys() -> KeyServer {
    let server = KeyServer::start().await;
    for (path, page) in [
        ("/sns.pem", SNS),
        ("/paypal.pem", PAYPAL),
        ("/other.pem", OTHER),
        ("/expired.pem", EXPIRED),
        ("/short.pem", SHORT),
    ] {
        server.serve(path, "", page);
    }
    server
}

fn line(arrival: &Arrival) -> String {
    let Arrival::Event(event) = arrival else {
        panic!("no mapping")
    };
    let [subject, time] = [event.subject(), event.time()].map(|text| text.unwrap_or("-"));
    let data = event.data().map_or("-".into(), |data| {
        String::from_utf8_lossy(data.bytes()).into_owned()
    });
    let extensions: String = event
        .extensions()
        .filter_map(|(name, _)| Some(format!(" {name}={}", event.attribute(name)?)))
        .collect();
    format!(
        "{} | {} | {} | {subject} | {time} | {data}{extensions}",
        event.ty(),
        event.source(),
        event.id()
    )
}

/// What a call is answered that is to be stored, and its events.
async fn stored(
    served: &Served,
    source: &mut Box<dyn Source>,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, Vec<String>) {
    let taken = async {
        tokio::time::timeout(Duration::from_secs(60), tell(source, Verdict::Stored)).await
    };
    let (answer, arrivals) = tokio::join!(served.post(path, headers, body.as_bytes()), taken);
    let Ok(arrivals) = arrivals else {
        panic!("nothing came: {answer:?}")
    };
    (answer.status(), arrivals.iter().map(line).collect())
}

/// Status and detail of a call that is refused.
async fn refused(
    served: &Served,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u64, String) {
    served.post(path, headers, body.as_bytes()).await.problem()
}

fn bearer(key: &TestKey, claims: &Value) -> String {
    format!(
        "Bearer {}",
        key.token(
            &json!({ "alg": "RS256", "kid": "k1", "typ": "JWT" }),
            claims
        )
    )
}

fn base64url(bytes: &[u8]) -> String {
    base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

#[tokio::test]
async fn calls_of_paypals_are_checked_by_its_certificate() {
    let (server, key) = (keys().await, TestKey::new());
    let settings = json!({ "paypal": { "webhook_id": "9XL90610J3647323C", "previous": "1AB", "certificate_hosts": [server.origin] } });
    let (served, mut source) = open(settings, false).await;
    // The event of PayPal's own samples.
    let body = r#"{"id":"WH-9UG43882HX7271132-6E0871324L7949614","event_version":"1.0","create_time":"2016-09-21T22:00:45Z","resource_type":"sale","event_type":"PAYMENT.SALE.COMPLETED","resource":{"id":"80F85758S3080410K"}}"#;
    let signature = |id: &str, body: &str| {
        key.sha256(
            format!(
                "d938e770-8046-11e6-8103-6b62a8a99ac4|2016-09-21T22:00:46Z|{id}|{}",
                crc32fast::hash(body.as_bytes())
            )
            .as_bytes(),
        )
    };
    let url = format!("{}/paypal.pem", server.origin);
    let call = |signature: String, url: &str| {
        vec![
            (
                "paypal-transmission-id",
                "d938e770-8046-11e6-8103-6b62a8a99ac4".to_owned(),
            ),
            (
                "paypal-transmission-time",
                "2016-09-21T22:00:46Z".to_owned(),
            ),
            ("paypal-auth-algo", "SHA256withRSA".to_owned()),
            ("paypal-cert-url", url.to_owned()),
            ("paypal-transmission-sig", signature),
        ]
    };
    fn borrowed<'h>(headers: &'h [(&'h str, String)]) -> Vec<(&'h str, &'h str)> {
        headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect()
    }
    let expect = format!(
        "com.paypal.PAYMENT.SALE.COMPLETED | https://api.paypal.com | WH-9UG43882HX7271132-6E0871324L7949614 | 80F85758S3080410K | 2016-09-21T22:00:45Z | {body}"
    );
    let headers = call(signature("9XL90610J3647323C", body), &url);
    assert_eq!(
        stored(&served, &mut source, "/hooks/x", &borrowed(&headers), body).await,
        (200, vec![expect])
    );
    let other = body.replace("80F85758S3080410K", "00000000000000000");
    assert_eq!(
        refused(&served, "/hooks/x", &borrowed(&headers), &other)
            .await
            .0,
        401,
        "another body"
    );
    let of_another = call(signature("OTHER", body), &url);
    assert_eq!(
        refused(&served, "/hooks/x", &borrowed(&of_another), body)
            .await
            .0,
        401,
        "another webhook's"
    );
    let previous = body.replace("WH-9", "WH-8");
    let of_previous = call(signature("1AB", &previous), &url);
    assert_eq!(
        stored(
            &served,
            &mut source,
            "/hooks/x",
            &borrowed(&of_previous),
            &previous
        )
        .await
        .0,
        200,
        "the one before"
    );
    for cert in [
        format!("{}/other.pem", server.origin),
        "https://api.paypal.com.evil.example/x".into(),
        "https://evil.example/?https://api.paypal.com".into(),
    ] {
        assert_eq!(
            refused(
                &served,
                "/hooks/x",
                &borrowed(&call(signature("9XL90610J3647323C", body), &cert)),
                body
            )
            .await
            .0,
            401,
            "{cert}"
        );
    }
    let mut twice = borrowed(&headers);
    twice.push(("paypal-cert-url", "https://evil.example/"));
    assert_eq!(
        refused(&served, "/hooks/x", &twice, body).await.0,
        401,
        "two addresses"
    );
}

#[tokio::test]
async fn custom_takes_certificates_and_tokens_of_anybody() {
    let (server, key) = (keys().await, TestKey::new());
    let custom = json!({ "custom": { "header": "X-Sign", "encoding": "base64", "algorithm": "rsa-sha256", "signed": "<$.headers.x-id>.<$.body>", "id": "<$.headers.x-id>",
        "certificate": { "url": "<$.headers.x-cert>", "hosts": [server.origin], "names": ["evil.example"] } } });
    let (served, mut source) = open(custom, false).await;
    let (cert, signature) = (format!("{}/other.pem", server.origin), key.sha256(b"d1.{}"));
    let headers = [
        ("x-id", "d1"),
        ("x-cert", cert.as_str()),
        ("x-sign", signature.as_str()),
    ];
    let (answer, arrivals) = tokio::join!(
        served.post("/hooks/x", &headers, b"{}"),
        tell(&mut source, Verdict::Stored)
    );
    assert_eq!(
        (answer.status(), types(&arrivals)),
        (202, vec!["com.pointsman.webhook.shop"])
    );
    assert_eq!(
        served.post("/hooks/x", &headers, b"{}").await.status(),
        202,
        "known by its id"
    );

    let set = key.set("k1");
    let custom = json!({ "custom": { "header": "Authorization", "prefix": "Bearer ", "algorithm": "jwt",
        "jwt": { "issuer": "https://idp.example", "audience": ["bus"], "keys": set, "claims": { "role": ["sender", "admin"] } } } });
    let (served, mut source) = open(custom, false).await;
    let token = |role: &str| {
        bearer(
            &key,
            &json!({ "iss": "https://idp.example", "aud": "bus", "exp": NOW + 60, "role": role }),
        )
    };
    let admin = token("admin");
    let headers = [("authorization", admin.as_str())];
    let (answer, _) = tokio::join!(
        served.post("/hooks/x", &headers, b"{}"),
        tell(&mut source, Verdict::Stored)
    );
    assert_eq!(answer.status(), 202);
    assert_eq!(
        refused(
            &served,
            "/hooks/x",
            &[("authorization", &token("reader"))],
            "{}"
        )
        .await,
        (
            401,
            "the token's role is not the one that is expected".to_owned()
        )
    );
}

#[test]
fn mistakes_in_what_is_fetched_are_found() {
    let table = [
        (
            json!({ "aws-sns": {} }),
            "signature.aws-sns.topics: whoever has an account there can have messages sent here, and they are signed too (add topics: [arn:aws:sns:…])",
        ),
        (json!({ "aws-sns": { "topics": TOPIC } }), ""),
        (
            json!({ "google-pubsub": { "audience": "a", "email": "e" } }),
            "",
        ),
        (
            json!({ "google-pubsub": { "audience": [], "email": "" } }),
            "signature.google-pubsub.audience: is empty: nothing would be taken\nsignature.google-pubsub.email: is empty: nothing would be taken",
        ),
        (
            json!({ "google-pubsub": { "audience": "a", "email": "e", "jwks": "http://idp.example/" } }),
            "signature.google-pubsub.jwks: is not https://…; without TLS only this machine may be asked, by http://127.0.0.1:port/…",
        ),
        (
            json!({ "custom": { "header": "Authorization", "prefix": "Bearer ", "algorithm": "token", "secret": "BEARER hunter2" } }),
            "signature.custom.secret: this begins with the word Bearer, which would be sent twice (write what follows it alone, such as secret: { env: TOKEN })",
        ),
        (
            json!({ "paypal": { "webhook_id": "" } }),
            "signature.paypal.webhook_id: the secret is empty: anybody could sign with it",
        ),
        (
            json!({ "custom": { "header": "x", "algorithm": "rsa-sha256", "certificate": { "url": "<$.headers.u>", "hosts": [] } } }),
            "signature.custom.certificate.hosts: there is no host that the certificate may be fetched from (write hosts: [keys.example.com]: whoever chooses the host chooses the key)",
        ),
        (
            json!({ "custom": { "header": "x", "certificate": { "url": "<$.headers.u>", "hosts": ["a.example"] } } }),
            "signature.custom.algorithm: this is not signed with a certificate's key (write rsa-sha256 or rsa-sha1; of an HMAC whose key is packed up, name it with hmac_key)",
        ),
        (
            json!({ "custom": { "header": "x", "algorithm": "jwt" } }),
            "signature.custom: the secret is missing (add secret: { env: NAME })\nsignature.custom.algorithm: one of algorithm: jwt and jwt is missing (write algorithm: jwt and jwt: { issuer: …, audience: …, jwks: https://… } together)",
        ),
        (
            json!({ "custom": { "header": "x", "algorithm": "jwt", "jwt": { "issuer": "i", "audience": "a" } } }),
            "signature.custom.jwt.issuer: the issuer is no https:// address that could be asked where its keys are (write jwks: https://… to have them fetched, or keys: { file: keys.json })",
        ),
    ];
    for (signature, expect) in table {
        let told: Vec<_> = settings(signature.clone())
            .check()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(told.join("\n"), expect, "{signature}");
    }
    for bad in ["http://keys.example.com", "*", "a b"] {
        let text = json!({ "path": "/x", "signature": { "paypal": { "webhook_id": "1", "certificate_hosts": [bad] } } }).to_string();
        assert!(serde_json::from_str::<Webhook>(&text).is_err(), "{bad}");
    }
    let open = Verifier::open(
        serde_json::from_value(json!({ "custom": { "secret": SHORT, "key": "pem", "header": "x", "algorithm": "rsa-sha256" } })).unwrap(),
    );
    assert_eq!(
        open.unwrap_err().to_string(),
        "signature.custom.secret: is an RSA key of fewer than 2048 bits, which others can break"
    );
    let pinned = Verifier::open(
        serde_json::from_value(json!({ "custom": { "secret": SNS, "key": "pem", "header": "x", "algorithm": "rsa-sha256" } })).unwrap(),
    );
    assert!(pinned.is_ok(), "a certificate is as good as its key");
}
