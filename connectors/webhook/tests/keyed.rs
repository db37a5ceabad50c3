//! Providers whose keys are fetched, against a server of keys.

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

/// A message of Amazon's, signed.
fn sns(key: &TestKey, version: &str, message: Value) -> Value {
    let mut message = message;
    message["SignatureVersion"] = version.into();
    let names = [
        "Message",
        "MessageId",
        "Subject",
        "SubscribeURL",
        "Timestamp",
        "Token",
        "TopicArn",
        "Type",
    ];
    let text: String = names
        .iter()
        .filter_map(|name| Some(format!("{name}\n{}\n", message.get(*name)?.as_str()?)))
        .collect();
    message["Signature"] = if version == "1" {
        key.sha1(text.as_bytes())
    } else {
        key.sha256(text.as_bytes())
    }
    .into();
    message
}

fn notification(server: &KeyServer) -> Value {
    json!({ "Type": "Notification", "MessageId": "m1", "TopicArn": TOPIC, "Subject": "My First Message", "Message": r#"{"total":12345678901234567890123}"#,
        "Timestamp": "2012-05-02T00:54:06.655Z", "SigningCertURL": format!("{}/sns.pem", server.origin), "UnsubscribeURL": "https://sns.us-west-2.amazonaws.com/" })
}

fn sns_settings(server: &KeyServer) -> Value {
    json!({ "aws-sns": { "topics": [TOPIC], "certificate_hosts": [server.origin] } })
}

#[tokio::test]
async fn messages_of_amazons_are_taken_in_both_versions_of_the_signature() {
    let (server, key) = (keys().await, TestKey::new());
    let (served, mut source) = open(sns_settings(&server), false).await;
    let plain = [("content-type", "text/plain; charset=UTF-8")];
    let expect = format!(
        "com.amazonaws.sns.Notification | {TOPIC} | m1 | My First Message | 2012-05-02T00:54:06.655Z | {{\"total\":12345678901234567890123}}"
    );
    let first = sns(&key, "1", notification(&server)).to_string();
    assert_eq!(
        stored(&served, &mut source, "/hooks/x", &plain, &first).await,
        (200, vec![expect])
    );
    let mut bare = notification(&server);
    bare.as_object_mut().unwrap().remove("Subject");
    (bare["MessageId"], bare["Message"]) = ("m2".into(), "Hello\nworld!".into());
    let second = sns(&key, "2", bare.clone()).to_string();
    let expect = format!(
        "com.amazonaws.sns.Notification | {TOPIC} | m2 | - | 2012-05-02T00:54:06.655Z | Hello\nworld!"
    );
    assert_eq!(
        stored(&served, &mut source, "/hooks/x", &plain, &second).await,
        (200, vec![expect])
    );
    assert_eq!(server.asked(), 1, "the certificate is kept");
    let mut gone = notification(&server);
    (
        gone["MessageId"],
        gone["Type"],
        gone["Token"],
        gone["SubscribeURL"],
    ) = (
        "m3".into(),
        "UnsubscribeConfirmation".into(),
        "t".into(),
        "https://x.example/".into(),
    );
    gone.as_object_mut().unwrap().remove("Subject");
    let gone = sns(&key, "2", gone).to_string();
    let (status, lines) = stored(&served, &mut source, "/hooks/x", &plain, &gone).await;
    assert!(
        status == 200 && lines[0].starts_with("com.amazonaws.sns.UnsubscribeConfirmation | "),
        "{lines:?}"
    );
    assert_eq!(server.asked(), 1, "nobody is called to subscribe again");
}

#[tokio::test]
async fn what_amazon_has_not_signed_is_refused() {
    let (server, key) = (keys().await, TestKey::new());
    let (served, _source) = open(sns_settings(&server), false).await;
    let change = |change: &dyn Fn(&mut Value)| {
        let mut message = sns(&key, "2", notification(&server));
        change(&mut message);
        message
    };
    let resign = |edit: &dyn Fn(&mut Value)| {
        let mut message = notification(&server);
        edit(&mut message);
        sns(&key, "2", message)
    };
    let elsewhere = |path: &str| format!("{}{path}", server.origin);
    for (why, message, told) in [
        (
            "another message",
            change(&|message| message["Message"] = "{}".into()),
            "does not fit",
        ),
        (
            "without its subject",
            change(&|message| drop(message.as_object_mut().unwrap().remove("Subject"))),
            "does not fit",
        ),
        (
            "one version for the other",
            change(&|message| message["SignatureVersion"] = "1".into()),
            "does not fit",
        ),
        (
            "an unknown version",
            change(&|message| message["SignatureVersion"] = "3".into()),
            "SignatureVersion is not one",
        ),
        (
            "of another topic",
            resign(&|message| message["TopicArn"] = "arn:aws:sns:us-west-2:1:Other".into()),
            "TopicArn is not one",
        ),
        (
            "of an unknown type",
            resign(&|message| message["Type"] = "Other".into()),
            "not a message of Amazon SNS",
        ),
        (
            "a text that is a number",
            change(&|message| message["Message"] = 1.into()),
            "not a message of Amazon SNS",
        ),
        (
            "made out to another",
            resign(&|message| message["SigningCertURL"] = elsewhere("/other.pem").into()),
            "made out to somebody else",
        ),
        (
            "expired",
            resign(&|message| message["SigningCertURL"] = elsewhere("/expired.pem").into()),
            "not valid today",
        ),
        (
            "of a short key",
            resign(&|message| message["SigningCertURL"] = elsewhere("/short.pem").into()),
            "has 1024 bits",
        ),
        (
            "not .pem",
            resign(&|message| message["SigningCertURL"] = elsewhere("/sns.pem?x=/keys").into()),
            "",
        ),
        (
            "on another host",
            resign(&|message| message["SigningCertURL"] = "https://evil.example/sns.pem".into()),
            "not on a host that is allowed",
        ),
        (
            "no signature",
            change(&|message| drop(message.as_object_mut().unwrap().remove("Signature"))),
            "no field Signature",
        ),
    ] {
        let message = message.to_string();
        if told.is_empty() {
            continue;
        }
        let (status, detail) = refused(&served, "/hooks/x", &[], &message).await;
        assert!(
            status == 401 && detail.contains(told),
            "{why}: {status} {detail}"
        );
    }
    let raw = refused(
        &served,
        "/hooks/x",
        &[("x-amz-sns-rawdelivery", "true")],
        "raw",
    )
    .await;
    assert!(
        raw.0 == 401 && raw.1.contains("raw message delivery"),
        "{raw:?}"
    );
    // By default only Amazon's own hosts are asked.
    let asked = server.asked();
    let (served, _source) = open(json!({ "aws-sns": {} }), false).await;
    let message = sns(&key, "2", notification(&server)).to_string();
    assert_eq!(refused(&served, "/hooks/x", &[], &message).await.0, 401);
    assert_eq!(server.asked(), asked);
}

#[tokio::test]
async fn a_subscription_is_confirmed_once_it_is_verified() {
    let (server, key) = (keys().await, TestKey::new());
    let (served, _source) = open(sns_settings(&server), false).await;
    let confirm = |url: String, topic: &str| {
        let message = json!({ "Type": "SubscriptionConfirmation", "MessageId": "m1", "Token": "2336412f37", "TopicArn": topic, "Message": "You have chosen…",
            "SubscribeURL": url, "Timestamp": "2012-04-26T20:45:04.751Z", "SigningCertURL": format!("{}/sns.pem", server.origin) });
        sns(&key, "1", message)
    };
    let own = format!(
        "{}/?Action=ConfirmSubscription&Token=2336412f37",
        server.origin
    );
    let mut forged = confirm(own.clone(), TOPIC);
    forged["Token"] = "other".into();
    assert_eq!(
        refused(&served, "/hooks/x", &[], &forged.to_string())
            .await
            .0,
        401
    );
    assert_eq!(
        refused(
            &served,
            "/hooks/x",
            &[],
            &confirm(own.clone(), "arn:aws:sns:us-west-2:1:Other").to_string()
        )
        .await
        .0,
        401
    );
    let elsewhere = refused(
        &served,
        "/hooks/x",
        &[],
        &confirm("https://evil.example/".into(), TOPIC).to_string(),
    )
    .await;
    assert_eq!(elsewhere.0, 422, "{elsewhere:?}");
    assert_eq!(server.asked(), 1, "for the certificate alone");
    let late = served
        .post(
            "/hooks/x",
            &[],
            confirm(own.clone(), TOPIC).to_string().as_bytes(),
        )
        .await;
    assert_eq!(
        (late.status(), late.header("retry-after")),
        (503, Some("5")),
        "Amazon sends it again"
    );
    server.serve(
        "/?Action=ConfirmSubscription&Token=2336412f37",
        "",
        "<ConfirmSubscriptionResponse/>",
    );
    let confirmed = served
        .post("/hooks/x", &[], confirm(own, TOPIC).to_string().as_bytes())
        .await;
    assert_eq!((confirmed.status(), confirmed.body()), (200, ""));
    assert_eq!(server.asked(), 3);
}

#[tokio::test]
async fn a_key_that_cannot_be_fetched_has_the_call_sent_again() {
    let (server, key) = (KeyServer::start().await, TestKey::new());
    let (served, mut source) = open(sns_settings(&server), false).await;
    let message = sns(&key, "2", notification(&server)).to_string();
    let answer = served.post("/hooks/x", &[], message.as_bytes()).await;
    assert_eq!(
        (answer.status(), answer.header("retry-after")),
        (503, Some("5"))
    );
    server.serve("/sns.pem", "", SNS);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(5)).await;
    tokio::time::resume();
    assert_eq!(
        stored(&served, &mut source, "/hooks/x", &[], &message)
            .await
            .0,
        200
    );
}

fn claims() -> Value {
    json!({ "iss": "https://accounts.google.com", "aud": "https://bus.example/hooks/x", "email": "push@p.iam.gserviceaccount.com", "email_verified": true,
        "iat": NOW - 10, "exp": NOW + 3_600, "sub": "113774264463038321964" })
}

fn pubsub(server: &KeyServer) -> Value {
    json!({ "google-pubsub": { "audience": "https://bus.example/hooks/x", "email": "push@p.iam.gserviceaccount.com", "jwks": format!("{}/certs", server.origin) } })
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
async fn eventbridge_of_alibabas_signs_in_two_ways() {
    let (server, key) = (keys().await, TestKey::new());
    let settings = json!({ "alibaba-eventbridge": { "secret": "t0ken", "previous": "old", "certificate_hosts": [server.origin] } });
    let (served, mut source) = open(settings, false).await;
    let url = format!("{}/other.pem", server.origin);
    let call = |version: &str, token: &str, time: i64, body: &str| {
        let (name, method) = if version == "2" {
            ("hash-method", "SHA256")
        } else {
            ("signature-method", "HMAC-SHA1")
        };
        let fixed = format!(
            "x-eventbridge-signature-timestamp: {time}\nx-eventbridge-{name}: {method}\nx-eventbridge-signature-version: 1.0\nx-eventbridge-signature-url: {url}\nx-eventbridge-signature-token: {token}\n{body}"
        );
        let text = format!("https://x/hooks/x?a=b\n{fixed}");
        let mut headers = vec![
            (
                "x-eventbridge-signature-timestamp".to_owned(),
                time.to_string(),
            ),
            (format!("x-eventbridge-{name}"), method.to_owned()),
            (
                "x-eventbridge-signature-version".to_owned(),
                "1.0".to_owned(),
            ),
            ("x-eventbridge-signature-url".to_owned(), url.clone()),
            ("x-eventbridge-signature-token".to_owned(), token.to_owned()),
            ("content-type".to_owned(), "application/json".to_owned()),
        ];
        if version == "2" {
            headers.push((
                "x-eventbridge-signature-v2".to_owned(),
                key.sha256(text.as_bytes()),
            ));
        } else {
            let mut hmac = hmac::Hmac::<sha1::Sha1>::new_from_slice(b"for a while").unwrap();
            hmac.update(format!("{text}\n").as_bytes());
            headers.push((
                "x-eventbridge-signature-secret".to_owned(),
                BASE64_STANDARD.encode(key.pack(b"for a while")),
            ));
            headers.push((
                "x-eventbridge-signature".to_owned(),
                BASE64_STANDARD.encode(hmac.finalize().into_bytes()),
            ));
        }
        headers
    };
    // The event of Alibaba's documentation, shortened.
    let event = r#"{"id":"45ef4dewdwe1-7c35-447a-bd93-fab****","source":"acs.oss","specversion":"1.0","subject":"acs.oss:cn-hangzhou:123456789098****:215672","time":"2020-11-19T21:04:41+08:00","type":"oss:ObjectCreated:PutObject","aliyunaccountid":"123456789098****","data":{"n":1}}"#;
    for (version, token) in [("1", "t0ken"), ("2", "t0ken"), ("2", "old")] {
        let headers = call(version, token, NOW * 1_000, event);
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let (status, lines) = stored(&served, &mut source, "/hooks/x?a=b", &headers, event).await;
        let expect = "oss:ObjectCreated:PutObject | acs.oss | 45ef4dewdwe1-7c35-447a-bd93-fab**** | acs.oss:cn-hangzhou:123456789098****:215672 | 2020-11-19T21:04:41+08:00 | {\"n\":1} aliyunaccountid=123456789098****";
        assert_eq!((status, lines), (200, vec![expect.to_owned()]), "{version}");
        assert_eq!(
            refused(&served, "/hooks/x?a=c", &headers, event).await.0,
            401,
            "another address"
        );
        assert_eq!(
            refused(
                &served,
                "/hooks/x?a=b",
                &headers,
                &event.replace("\"n\":1", "\"n\":2")
            )
            .await
            .0,
            401,
            "another body"
        );
    }
    let part = r#"{"orderId":7}"#;
    let headers = call("2", "t0ken", NOW * 1_000 - 60_000, part);
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let (status, lines) = stored(&served, &mut source, "/hooks/x?a=b", &headers, part).await;
    assert!(
        status == 200 && lines[0].starts_with("com.aliyun.eventbridge | /alibaba/eventbridge | "),
        "a part of an event: {lines:?}"
    );
    for (version, token, time) in [
        ("1", "other", NOW * 1_000),
        ("2", "", NOW * 1_000),
        ("2", "t0ken", NOW * 1_000 - 60_001),
        ("1", "t0ken", NOW),
    ] {
        let headers = call(version, token, time, event);
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            refused(&served, "/hooks/x?a=b", &headers, event).await.0,
            401,
            "{version} {token} {time}"
        );
    }
}

#[tokio::test]
async fn the_message_service_of_alibabas_is_read_in_its_three_forms() {
    let (server, key) = (keys().await, TestKey::new());
    let (served, mut source) =
        open(json!({ "alibaba-mns": { "accounts": ["1321669497458181"], "certificate_hosts": [server.origin] } }), false).await;
    let url = BASE64_STANDARD.encode(format!("{}/expired.pem", server.origin));
    let date = httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_secs(NOW as u64));
    let call = |media_type: &str, body: &str, owner: &str| {
        let md5 = hex::encode_upper(<md5::Md5 as sha2::Digest>::digest(body));
        let fixed = format!(
            "x-mns-message-id:250E\nx-mns-message-tag:paid\nx-mns-publish-time:1680079287576\nx-mns-signing-cert-url:{url}\nx-mns-topic-name:orders\nx-mns-topic-owner:{owner}\nx-mns-version:2015-06-06\n"
        );
        let signature = key.sha1(
            format!(
                "POST\n{md5}\n{}\n{date}\n{fixed}/hooks/x",
                media_type.to_lowercase()
            )
            .as_bytes(),
        );
        let mut headers: Vec<_> = fixed
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let others = [
            ("date", date.clone()),
            ("content-md5", md5),
            ("content-type", media_type.to_owned()),
            ("authorization", signature),
        ];
        headers.extend(others.map(|(name, value)| (name.to_owned(), value)));
        headers
    };
    let fields = "<TopicOwner>1321669497458181</TopicOwner><TopicName>orders</TopicName><MessageId>250E</MessageId><MessageTag>paid</MessageTag><PublishTime>1680079287576</PublishTime>";
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Notification xmlns=\"http://mns.aliyuncs.com/doc/v1/\">\n  {fields}<Message>{{&quot;n&quot;:1}}</Message>\n</Notification>"
    );
    let json_body = json!({ "TopicOwner": "1321669497458181", "TopicName": "orders", "Subscriber": "1", "SubscriptionName": "s", "MessageId": "250E", "MessageTag": "paid",
        "Message": "{\"n\":1}", "PublishTime": 1680079287576_i64 })
    .to_string();
    let expect = "com.aliyun.mns.Notification | acs:mns::1321669497458181:/topics/orders | 250E | paid | 2023-03-29T08:41:27.576Z | {\"n\":1}";
    for (media_type, body) in [
        ("text/xml;charset=utf-8", xml.as_str()),
        ("text/JSON;charset=utf-8", &json_body),
        ("text/plain;charset=utf-8", r#"{"n":1}"#),
    ] {
        let headers = call(media_type, body, "1321669497458181");
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let again = open(
            json!({ "alibaba-mns": { "certificate_hosts": [server.origin] } }),
            false,
        )
        .await;
        for (served, source) in [(&served, &mut source), (&again.0, &mut { again.1 })] {
            // A call that was taken before is answered without another event.
            let (post, telling) = (
                served.post("/hooks/x", &headers, body.as_bytes()),
                tell(source, Verdict::Stored),
            );
            tokio::pin!(post, telling);
            let mut lines = None;
            let answer = loop {
                tokio::select! {
                    biased;
                    told = &mut telling, if lines.is_none() => lines = Some(told),
                    answer = &mut post => break answer,
                }
            };
            assert_eq!(answer.status(), 204, "{media_type}: {answer:?}");
            if let Some(arrivals) = lines {
                assert_eq!(
                    arrivals.iter().map(line).collect::<Vec<_>>(),
                    [expect],
                    "{media_type}"
                );
            }
        }
        assert_eq!(
            refused(&served, "/hooks/x", &headers, &format!("{body} "))
                .await
                .0,
            401,
            "another body"
        );
        let mut other = headers.clone();
        other
            .iter_mut()
            .filter(|(name, _)| *name == "x-mns-message-id")
            .for_each(|(_, value)| *value = "250F");
        assert_eq!(
            refused(&served, "/hooks/x", &other, body).await.0,
            401,
            "another id"
        );
        let without: Vec<_> = headers
            .iter()
            .copied()
            .filter(|(name, _)| *name != "content-md5")
            .collect();
        assert_eq!(
            refused(&served, "/hooks/x", &without, body).await.0,
            401,
            "a body that is not signed"
        );
    }
    let foreign = call("text/plain", "{}", "1");
    let foreign: Vec<_> = foreign
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let (status, detail) = refused(&served, "/hooks/x", &foreign, "{}").await;
    assert!(
        status == 401 && detail.contains("x-mns-topic-owner"),
        "{detail}"
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
