//! Alibaba's EventBridge and its message service.

use super::*;

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
