//! Google's Pub/Sub, which pushes with a token.

use super::*;

fn claims() -> Value {
    json!({ "iss": "https://accounts.google.com", "aud": "https://bus.example/hooks/x", "email": "push@p.iam.gserviceaccount.com", "email_verified": true,
        "iat": NOW - 10, "exp": NOW + 3_600, "sub": "113774264463038321964" })
}

fn pubsub(server: &KeyServer) -> Value {
    json!({ "google-pubsub": { "audience": "https://bus.example/hooks/x", "email": "push@p.iam.gserviceaccount.com", "jwks": format!("{}/certs", server.origin) } })
}

#[tokio::test]
async fn pushed_messages_of_googles_are_taken_by_their_token() {
    let (server, key) = (KeyServer::start().await, TestKey::new());
    server.serve(
        "/certs",
        "cache-control: public, max-age=20000\r\n",
        &key.set("k1"),
    );
    let (served, mut source) = open(pubsub(&server), false).await;
    let token = bearer(&key, &claims());
    let headers = [
        ("authorization", token.as_str()),
        ("content-type", "application/json"),
    ];
    // The message of Google's documentation.
    let wrapped = json!({ "message": { "attributes": { "key": "value", "eventType": "OBJECT_FINALIZE", "id": "no", "with-dash": "no", "pointsmanhops": "9" },
        "data": "SGVsbG8gQ2xvdWQgUHViL1N1YiEgSGVyZSBpcyBteSBtZXNzYWdlIQ==", "messageId": "2070443601311540", "message_id": "2070443601311540",
        "publishTime": "2021-02-26T19:13:55.749Z", "publish_time": "2021-02-26T19:13:55.749Z", "orderingKey": "o1" },
        "subscription": "projects/myproject/subscriptions/mysubscription" });
    let source_name = "//pubsub.googleapis.com/projects/myproject/subscriptions/mysubscription";
    let expect = format!(
        "google.cloud.pubsub.topic.v1.messagePublished | {source_name} | 2070443601311540 | - | 2021-02-26T19:13:55.749Z | Hello Cloud Pub/Sub! Here is my message! partitionkey=o1 key=value eventtype=OBJECT_FINALIZE"
    );
    assert_eq!(
        stored(
            &served,
            &mut source,
            "/hooks/x",
            &headers,
            &wrapped.to_string()
        )
        .await,
        (204, vec![expect])
    );
    let bare = [
        headers[0],
        headers[1],
        (
            "x-goog-pubsub-subscription-name",
            "projects/myproject/subscriptions/mysubscription",
        ),
        ("x-goog-pubsub-message-id", "2070443601311541"),
        ("x-goog-pubsub-publish-time", "2021-02-26T19:13:55.749Z"),
    ];
    let expect = format!(
        "google.cloud.pubsub.topic.v1.messagePublished | {source_name} | 2070443601311541 | - | 2021-02-26T19:13:55.749Z | {{\"status\": \"Hello there\"}}"
    );
    assert_eq!(
        stored(
            &served,
            &mut source,
            "/hooks/x",
            &bare,
            r#"{"status": "Hello there"}"#
        )
        .await,
        (204, vec![expect])
    );
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn cloudevents_come_by_pubsub_in_both_modes() {
    let (server, key) = (KeyServer::start().await, TestKey::new());
    server.serve("/certs", "", &key.set("k1"));
    let (served, mut source) = open(pubsub(&server), false).await;
    let token = bearer(&key, &claims());
    let headers = [
        ("authorization", token.as_str()),
        ("content-type", "application/json"),
    ];
    let message = |attributes: Value, data: &str| {
        json!({ "message": { "attributes": attributes, "data": BASE64_STANDARD.encode(data), "messageId": "1" }, "subscription": "projects/p/subscriptions/s" })
            .to_string()
    };
    let binary = json!({ "ce-specversion": "1.0", "ce-id": "e1", "ce-source": "/own", "ce-type": "own", "ce-subject": "100% süß", "content-type": "application/json" });
    let expect = "own | /own | e1 | 100% süß | - | {\"a\":1}".to_owned();
    assert_eq!(
        stored(
            &served,
            &mut source,
            "/hooks/x",
            &headers,
            &message(binary, r#"{"a":1}"#)
        )
        .await,
        (204, vec![expect])
    );
    let event = r#"{"specversion":"1.0","id":"e2","source":"/own","type":"own","data":{"a":2}}"#;
    let structured = json!({ "content-type": "application/cloudevents+json; charset=utf-8" });
    let expect = "own | /own | e2 | - | - | {\"a\":2}".to_owned();
    assert_eq!(
        stored(
            &served,
            &mut source,
            "/hooks/x",
            &headers,
            &message(structured, event)
        )
        .await,
        (204, vec![expect])
    );
    let unwrapped = [
        headers[0],
        headers[1],
        ("ce-specversion", "1.0"),
        ("ce-id", "e3"),
        ("ce-source", "/own"),
        ("ce-type", "own"),
    ];
    let expect = "own | /own | e3 | - | - | {\"a\":3}".to_owned();
    assert_eq!(
        stored(&served, &mut source, "/hooks/x", &unwrapped, r#"{"a":3}"#).await,
        (204, vec![expect])
    );
}

#[tokio::test]
async fn tokens_that_are_not_the_subscriptions_are_refused() {
    let (server, key) = (KeyServer::start().await, TestKey::new());
    server.serve("/certs", "cache-control: max-age=3600\r\n", &key.set("k1"));
    let (served, mut source) = open(pubsub(&server), false).await;
    let with = |claim: &str, value: Value| {
        let mut claims = claims();
        claims[claim] = value;
        bearer(&key, &claims)
    };
    let signed = |header: Value| format!("Bearer {}", key.token(&header, &claims()));
    let good = bearer(&key, &claims());
    let (head, signature) = good.rsplit_once('.').unwrap();
    let public = key.set("k1");
    let confused = {
        let head = format!(
            "{}.{}",
            base64url(br#"{"alg":"HS256","kid":"k1"}"#),
            base64url(claims().to_string().as_bytes())
        );
        format!(
            "Bearer {head}.{}",
            base64url(&hex::decode(sign(&public, head.as_bytes())).unwrap())
        )
    };
    let unsigned = format!(
        "Bearer {}.{}.",
        base64url(br#"{"alg":"none"}"#),
        base64url(claims().to_string().as_bytes())
    );
    let table = [
        (with("iss", "https://evil.example".into()), "issuer"),
        (with("aud", "https://other.example/".into()), "audience"),
        (with("aud", json!([])), "audience"),
        (
            with("email", "push@evil.iam.gserviceaccount.com".into()),
            "email",
        ),
        (with("email_verified", false.into()), "email_verified"),
        (with("email_verified", Value::Null), "email_verified"),
        (with("exp", (NOW - 61).into()), "expired"),
        (with("exp", Value::Null), "exp is not a number"),
        (with("exp", "soon".into()), "exp is not a number"),
        (with("nbf", (NOW + 61).into()), "not valid yet"),
        (with("iat", ((NOW + 61) * 1_000).into()), "not valid yet"),
        (
            signed(json!({ "alg": "RS256", "kid": "k2" })),
            "does not name",
        ),
        (
            signed(json!({ "alg": "RS512", "kid": "k1" })),
            "does not name",
        ),
        (
            signed(json!({ "alg": "ES256", "kid": "k1" })),
            "does not name",
        ),
        (
            signed(json!({ "alg": "RS256", "kid": "k1", "crit": ["b64"] })),
            "critical",
        ),
        (confused, "does not name"),
        (unsigned, "does not name"),
        (
            format!("{head}.{}", signature.replace(['A', 'B', 'C'], "D")),
            "does not fit",
        ),
        (format!("{head}."), "does not fit"),
        ("Bearer x".to_owned(), "not a signed JSON Web Token"),
        ("Bearer ..".to_owned(), "not a signed JSON Web Token"),
        (
            "Basic dXNlcjpwYXNz".to_owned(),
            "no token where it should be",
        ),
    ];
    for (token, told) in &table {
        let (status, detail) =
            refused(&served, "/hooks/x", &[("authorization", token)], "{}").await;
        assert!(
            status == 401 && detail.contains(told),
            "{told}: {status} {detail}"
        );
        assert!(
            !detail.contains("accounts.google.com") && !detail.contains("push@"),
            "{detail}"
        );
    }
    assert_eq!(served.post("/hooks/x", &[], b"{}").await.status(), 401);
    assert_eq!(
        server.asked(),
        1,
        "an unknown key does not have them fetched again at once"
    );
    let several = with("aud", json!(["x", "https://bus.example/hooks/x"]));
    let headers = [("authorization", several.as_str())];
    let (answer, _) = tokio::join!(
        served.post("/hooks/x", &headers, b"{}"),
        tell(&mut source, Verdict::Stored)
    );
    assert_eq!(answer.status(), 204, "one of several audiences");
    let late = with("exp", (NOW - 59).into());
    let headers = [("authorization", late.as_str())];
    let (answer, _) = tokio::join!(
        served.post("/hooks/x", &headers, b"{}"),
        tell(&mut source, Verdict::Stored)
    );
    assert_eq!(answer.status(), 204, "clocks differ");
}
