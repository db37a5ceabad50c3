//! Keys that are fetched by TLS, and issuers that say where theirs are.

use serde_json::{Value, json};

use super::*;
use crate::net::tls::fixtures::ca;
use crate::webhook::signature::fixtures::{KeyServer, SNS, TestKey};

/// The status that a call is answered; what it brings is stored.
async fn call(signature: Value, headers: &[(&str, &str)]) -> u16 {
    let (served, mut source) = open(signature, false).await;
    let storing = async {
        tell(&mut source, Verdict::Stored).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = served.post("/hooks/x", headers, b"{}") => answer.status(),
        () = storing => unreachable!(),
    }
}

fn by_certificate(server: &KeyServer, trusted: Value) -> Value {
    json!({ "custom": { "header": "x-signature", "encoding": "base64", "algorithm": "rsa-sha256",
        "certificate": { "url": "<$.headers.x-cert-url>", "hosts": [server.origin], "names": ["sns.amazonaws.com"], "ca": trusted } } })
}

fn by_token(jwt: Value) -> Value {
    json!({ "custom": { "header": "authorization", "prefix": "Bearer ", "algorithm": "jwt", "jwt": jwt } })
}

fn token(key: &TestKey, issuer: &str) -> String {
    let claims = json!({ "iss": issuer, "aud": "bus", "exp": NOW + 3_600 });
    format!(
        "Bearer {}",
        key.token(&json!({ "alg": "RS256", "kid": "k1" }), &claims)
    )
}

#[tokio::test]
async fn keys_are_fetched_by_tls_from_servers_that_are_trusted_alone() {
    let (server, key) = (KeyServer::start_with_tls().await, TestKey::new());
    // With its authority's in front, as some order a chain.
    server.serve(
        "/own.pem",
        "",
        &[&std::fs::read_to_string(ca()).unwrap(), SNS].concat(),
    );
    server.serve("/keys", "", &key.set("k1"));
    let [url, jwks] = ["own.pem", "keys"].map(|path| format!("{}/{path}", server.origin));
    let signature = key.sha256(b"{}");
    let signed = [
        ("x-signature", signature.as_str()),
        ("x-cert-url", url.as_str()),
    ];
    let bearer = token(&key, "idp");
    let by_keys = |trusted: Value| {
        by_token(json!({ "issuer": "idp", "audience": "bus", "jwks": jwks, "ca": trusted }))
    };
    // The system trusts nobody's tests.
    assert_eq!(
        call(by_certificate(&server, Value::Null), &signed).await,
        503
    );
    assert_eq!(
        call(by_keys(Value::Null), &[("authorization", &bearer)]).await,
        503
    );
    assert_eq!(
        server.asked(),
        0,
        "nothing is asked of a server that is not who it says it is"
    );
    let trusted = json!({ "file": ca() });
    assert_eq!(
        call(by_certificate(&server, trusted.clone()), &signed).await,
        202
    );
    assert_eq!(
        call(by_keys(trusted), &[("authorization", &bearer)]).await,
        202
    );
    assert_eq!(server.asked(), 2);
}

#[tokio::test]
async fn an_issuer_says_where_its_keys_are() {
    let (server, key) = (KeyServer::start_with_tls().await, TestKey::new());
    let issuer = format!("{}/realms/own/", server.origin);
    let says = |issuer: &str, keys: &str| {
        let configuration =
            json!({ "issuer": issuer, "jwks_uri": keys, "response_types_supported": ["id_token"] })
                .to_string();
        server.serve(
            "/realms/own/.well-known/openid-configuration",
            "cache-control: max-age=86400\r\n",
            &configuration,
        );
    };
    let own_keys = format!("{}/keys", server.origin);
    server.serve("/keys", "", &key.set("k1"));
    let settings = |issuer: &str| {
        by_token(json!({ "issuer": issuer, "audience": "bus", "ca": { "file": ca() } }))
    };
    let bearer = token(&key, &issuer);
    let bearer = [("authorization", bearer.as_str())];
    says(&issuer, &own_keys);
    assert_eq!(call(settings(&issuer), &bearer).await, 202);
    assert_eq!(server.asked(), 2, "its configuration, and its keys");
    // What another issuer on the same host says counts for nothing, and inner addresses that are
    // not the issuer's are not reached.
    for (name, keys) in [
        (format!("{}/realms/other", server.origin), own_keys.clone()),
        (issuer.clone(), own_keys.replace("localhost", "127.0.0.1")),
        (issuer.clone(), own_keys.replace("https", "http")),
    ] {
        says(&name, &keys);
        let asked = server.asked();
        assert_eq!(call(settings(&issuer), &bearer).await, 503, "{name} {keys}");
        assert_eq!(server.asked(), asked + 1, "{name} {keys}");
    }
    assert_eq!(
        call(
            settings(&issuer),
            &[("authorization", &token(&key, "https://other.example"))]
        )
        .await,
        401
    );
}
