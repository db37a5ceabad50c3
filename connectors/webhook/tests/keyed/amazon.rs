//! Amazon's notification service.

use super::*;

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
