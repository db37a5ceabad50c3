//! What senders are answered: registrations, their questions, and what they wait for.

use super::*;

#[tokio::test]
async fn registrations_are_answered() {
    let secret = serde_json::json!({ "secret": SECRET });
    let (served, _source) = open(
        serde_json::json!({ "meta": { "secret": SECRET, "verify_token": "v" } }),
        false,
    )
    .await;
    let ask = |token: &str| {
        format!("/hooks/x?hub.mode=subscribe&hub.challenge=115%3C8201444&hub.verify_token={token}")
    };
    let answer = served.request("GET", &ask("v"), &[], b"").await;
    assert_eq!(
        (
            answer.status(),
            answer.header("content-type"),
            answer.body()
        ),
        (200, Some("text/plain"), "115<8201444")
    );
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(
        served.request("GET", &ask("w"), &[], b"").await.status(),
        403
    );
    assert_eq!(
        served.request("GET", "/hooks/x", &[], b"").await.status(),
        405
    );
    let head = served
        .raw("HEAD /hooks/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await;
    assert_eq!((head.status(), head.body()), (200, ""));
    assert_eq!(
        served
            .raw("GET /nothing HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await
            .status(),
        404
    );

    let (served, _source) = open(serde_json::json!({ "meta": secret }), false).await;
    assert_eq!(
        served.request("GET", &ask(""), &[], b"").await.status(),
        403,
        "no token is set"
    );

    let (served, mut source) = open(
        serde_json::json!({ "microsoft-graph": { "secret": "s" } }),
        false,
    )
    .await;
    let answer = served
        .post("/hooks/x?validationToken=a%20b", &[], b"")
        .await;
    assert_eq!((answer.status(), answer.body()), (200, "a b"));
    let body = br#"{"value":[{"clientState":"s","changeType":"created","id":"1"},{"clientState":"s","changeType":"deleted","id":"2"}]}"#;
    let (answer, arrivals) = tokio::join!(
        served.post("/hooks/x", &[], body),
        tell(&mut source, Verdict::Stored)
    );
    assert_eq!(
        (answer.status(), types(&arrivals)),
        (
            202,
            vec!["com.microsoft.graph.created", "com.microsoft.graph.deleted"]
        )
    );

    let (served, mut source) = open(serde_json::json!({ "zoom": secret }), false).await;
    let zoom = async |body: &str, secret: &str| {
        let (time, signature) = (
            NOW.to_string(),
            format!("v0={}", sign(secret, format!("v0:{NOW}:{body}").as_bytes())),
        );
        served
            .post(
                "/hooks/x",
                &[
                    ("x-zm-request-timestamp", &time),
                    ("x-zm-signature", &signature),
                ],
                body.as_bytes(),
            )
            .await
    };
    let validation =
        r#"{"event":"endpoint.url_validation","payload":{"plainToken":"qgg8vlvZRS6UYooatFL8Aw"}}"#;
    let expect = format!(
        r#"{{"plainToken":"qgg8vlvZRS6UYooatFL8Aw","encryptedToken":"{}"}}"#,
        sign(SECRET, b"qgg8vlvZRS6UYooatFL8Aw")
    );
    let answer = zoom(validation, SECRET).await;
    assert_eq!(
        (
            answer.status(),
            answer.header("content-type"),
            answer.body()
        ),
        (200, Some("application/json"), &*expect)
    );
    assert_eq!(zoom(validation, "another").await.status(), 401);
    let (answer, _) = tokio::join!(
        zoom(r#"{"event":"meeting.started"}"#, SECRET),
        tell(&mut source, Verdict::Stored)
    );
    assert_eq!((answer.status(), answer.body()), (200, ""));

    let (served, mut source) = open(
        serde_json::json!({ "azure-event-grid": { "secret": "s" } }),
        false,
    )
    .await;
    let validation = br#"[{"id":"1","eventType":"Microsoft.EventGrid.SubscriptionValidationEvent","data":{"validationCode":"512d38b6"}}]"#;
    assert_eq!(
        served.post("/hooks/x?code=s", &[], validation).await.body(),
        r#"{"validationResponse":"512d38b6"}"#
    );
    assert_eq!(
        served
            .post("/hooks/x?code=t", &[], validation)
            .await
            .status(),
        401
    );
    let event = br#"[{"id":"g1","topic":"/t","eventType":"Microsoft.Storage.BlobCreated","data":{"n":12345678901234567890123}}]"#;
    let (_, arrivals) = tokio::join!(
        served.post("/hooks/x?code=s", &[], event),
        tell(&mut source, Verdict::Stored)
    );
    let Arrival::Event(event) = &arrivals[0] else {
        panic!("no mapping")
    };
    assert_eq!(
        &event.data().unwrap().bytes()[..],
        br#"{"n":12345678901234567890123}"#
    );
}

#[tokio::test]
async fn grafana_may_put_and_others_may_not_at_events() {
    let (served, mut source) = open(
        serde_json::json!({ "grafana": { "secret": SECRET } }),
        false,
    )
    .await;
    let (body, bearer) = (br#"{"status":"firing"}"#, format!("Bearer {SECRET}"));
    let headers = [("authorization", bearer.as_str())];
    let (answer, arrivals) = tokio::join!(
        served.request("PUT", "/hooks/x", &headers, body),
        tell(&mut source, Verdict::Stored)
    );
    assert_eq!(
        (answer.status(), types(&arrivals)),
        (202, vec!["com.grafana.firing"])
    );
    assert_eq!(
        served
            .request("PUT", "/hooks/x", &[("authorization", "Bearer x")], body)
            .await
            .status(),
        401
    );
    let patch = served.request("PATCH", "/hooks/x", &[], body).await;
    assert_eq!(
        (patch.status(), patch.header("allow")),
        (405, Some("OPTIONS, POST, PUT"))
    );
    let consent = served
        .request(
            "OPTIONS",
            "/hooks/x",
            &[("webhook-request-origin", "a.example")],
            b"",
        )
        .await;
    assert_eq!(consent.header("allow"), Some("OPTIONS, POST, PUT"));
}

#[tokio::test]
async fn custom_answers_the_questions_of_a_registration() {
    let custom = serde_json::json!({ "secret": SECRET, "header": "x-sign", "handshake": [
        { "method": "GET", "challenge": "<$.query.crc_token>", "hmac": "base64", "as": "json", "answer": r#"{"response_token":"sha256=<$.hmac>"}"# },
        { "method": "get", "challenge": "<$.query.echo>", "token": "<$.query.token>", "verify_token": "t" },
        { "challenge": "<$.query.validationToken>", "signed": false },
        { "challenge": "<$.fields.challenge>", "require": [{ "value": "<$.fields.type>", "is": ["hello", "ping"] }], "as": "json", "answer": r#"{"challenge":"<$.challenge>"}"# },
    ] });
    let (served, mut source) = open(serde_json::json!({ "custom": custom }), false).await;
    let get = async |query: &str| {
        served
            .request("GET", &format!("/hooks/x?{query}"), &[], b"")
            .await
    };
    let crc = get("crc_token=abc").await;
    let expect = BASE64_STANDARD.encode(hex::decode(sign(SECRET, b"abc")).unwrap());
    assert_eq!(
        (crc.status(), crc.header("content-type"), crc.body()),
        (
            200,
            Some("application/json"),
            &*format!(r#"{{"response_token":"sha256={expect}"}}"#)
        )
    );
    let echo = get("echo=%3Cb%3E&token=t").await;
    assert_eq!(
        (
            echo.status(),
            echo.header("content-type"),
            echo.header("x-content-type-options"),
            echo.body()
        ),
        (200, Some("text/plain"), Some("nosniff"), "<b>")
    );
    assert_eq!(get("echo=a&token=u").await.problem().0, 403);
    assert_eq!(get("echo=a").await.problem().0, 403);
    assert_eq!(get("other=a").await.status(), 405);
    assert_eq!(
        get(&format!("echo={}&token=t", "a".repeat(5_000)))
            .await
            .status(),
        405,
        "too long"
    );
    let validation = served
        .post("/hooks/x?validationToken=a%22b", &[], b"")
        .await;
    assert_eq!(
        (validation.status(), validation.body()),
        (200, "a\"b"),
        "unsigned"
    );
    let question = r#"{"type":"hello","challenge":"a\"<$.hmac>"}"#;
    let signature = sign(SECRET, question.as_bytes());
    let post = async |signature: &str, body: &str| {
        served
            .post("/hooks/x", &[("x-sign", signature)], body.as_bytes())
            .await
    };
    assert_eq!(
        post(&signature, question).await.body(),
        question.replace(r#""type":"hello","#, ""),
        "nothing in it is filled in"
    );
    assert_eq!(post("00", question).await.status(), 401, "only signed");
    assert_eq!(
        served
            .post("/hooks/x", &[], question.as_bytes())
            .await
            .status(),
        401
    );
    let event = r#"{"type":"event","challenge":"hello"}"#;
    let signature = sign(SECRET, event.as_bytes());
    let (answer, _) = tokio::join!(post(&signature, event), tell(&mut source, Verdict::Stored));
    assert_eq!((answer.status(), answer.body()), (202, ""), "an event");
    let head = served
        .raw("HEAD /hooks/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await;
    assert_eq!((head.status(), head.body()), (200, ""));
}

#[tokio::test]
async fn senders_hear_what_they_wait_for() {
    let open = async |signature: serde_json::Value| open(signature, false).await;
    let custom = serde_json::json!({ "secret": "s", "header": "x-token", "algorithm": "token", "answer": { "body": "[ok]" } });
    let (served, mut source) = open(serde_json::json!({ "custom": custom })).await;
    let (answer, _) = tokio::join!(
        served.post("/hooks/x", &[("x-token", "s")], b"{}"),
        tell(&mut source, Verdict::Stored)
    );
    assert_eq!((answer.status(), answer.body()), (200, "[ok]"));
    assert_eq!(
        served
            .post("/hooks/x", &[("x-token", "t")], b"{}")
            .await
            .problem()
            .0,
        401
    );

    // The first key of RFC 8032, section 7.1.
    let seed: [u8; 32] =
        hex::decode("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
            .unwrap()
            .try_into()
            .unwrap();
    let key = ed25519_dalek::SigningKey::from_bytes(&seed);
    let (served, mut source) = open(
        serde_json::json!({ "discord": { "secret": hex::encode(key.verifying_key().as_bytes()) } }),
    )
    .await;
    let post = async |body: &str| {
        let signature = hex::encode(
            ed25519_dalek::Signer::sign(&key, format!("{NOW}{body}").as_bytes()).to_bytes(),
        );
        let time = NOW.to_string();
        served
            .post(
                "/hooks/x",
                &[
                    ("x-signature-timestamp", &time),
                    ("x-signature-ed25519", &signature),
                ],
                body.as_bytes(),
            )
            .await
    };
    assert_eq!(post(r#"{"type":1}"#).await.body(), r#"{"type":1}"#);
    assert_eq!(post(r#"{"type":0}"#).await.status(), 204);
    let (answer, _) = tokio::join!(
        post(r#"{"type":2,"id":"1"}"#),
        tell(&mut source, Verdict::Stored)
    );
    assert_eq!((answer.status(), answer.body()), (200, r#"{"type":5}"#));
    let event = r#"{"type":1,"application_id":"a","event":{"type":"QUEST_USER_ENROLLMENT","timestamp":"2023-11-14T22:13:10Z"}}"#;
    let (answer, arrivals) = tokio::join!(post(event), tell(&mut source, Verdict::Stored));
    assert_eq!(
        (answer.status(), types(&arrivals)),
        (204, vec!["com.discord.QUEST_USER_ENROLLMENT"])
    );
}
