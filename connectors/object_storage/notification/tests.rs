use super::*;

fn told(body: &str) -> Notification {
    read(&Bytes::copy_from_slice(body.as_bytes()))
}

/// What the one event of a message is, in a line.
fn event(body: &str) -> String {
    let Notification {
        mut happenings,
        rejects,
    } = told(body);
    assert!(
        rejects.is_empty() && happenings.len() == 1,
        "{rejects:?} {happenings:?}"
    );
    let crate::Arrival::Event(event) = happenings.remove(0).arrival(Map::new(), false).unwrap()
    else {
        panic!("nothing is mapped")
    };
    let object = &event.data().unwrap().value().unwrap()["object"];
    let (ty, source, subject, time) = (
        event.ty(),
        event.source(),
        event.subject().unwrap(),
        event.time().unwrap(),
    );
    format!(
        "{ty} | {source} | {subject} | {} | {time} | {object}",
        event.id()
    )
}

const AWS: &str = r#"{"Records":[{"eventVersion":"2.1","eventSource":"aws:s3","awsRegion":"us-west-2","eventTime":"1970-01-01T00:00:00.000Z",
"eventName":"ObjectCreated:Put","userIdentity":{"principalId":"AIDAJDPLRKLG7UEXAMPLE"},"requestParameters":{"sourceIPAddress":"127.0.0.1"},
"responseElements":{"x-amz-request-id":"C3D13FE58DE4C810","x-amz-id-2":"FMyUVURIY8/IgAtTv8xRjskZQpcIZ9KG4V5Wp6S7S/JRWeUWerMUE5JgHvANOjpD"},
"s3":{"s3SchemaVersion":"1.0","configurationId":"testConfigRule","bucket":{"name":"amzn-s3-demo-bucket","arn":"arn:aws:s3:::amzn-s3-demo-bucket"},
"object":{"key":"Happy+Face%2B50%25.jpg","size":1024,"eTag":"d41d8cd98f00b204e9800998ecf8427e","versionId":"096fKKXTRTtl3on89fVO.nfljtsv6qko",
"sequencer":"0055AED6DCD90281E5"}}}]}"#;

const EVENT_BRIDGE: &str = r#"{"version":"0","id":"17793124-05d4-b198-2fde-7ededc63b103","detail-type":"Object Created","source":"aws.s3",
"account":"111122223333","time":"2021-11-12T00:00:00Z","region":"ca-central-1","resources":["arn:aws:s3:::amzn-s3-demo-bucket1"],
"detail":{"version":"0","bucket":{"name":"amzn-s3-demo-bucket1"},"object":{"key":"a+b %20.jpg","size":5,"etag":"b1946ac92492d2347c6235b4d2611184",
"version-id":"IYV3p45BT0ac8hjHg1houSdS1a.Mro8e","sequencer":"617f08299329d189"},"request-id":"N4N7GDK58NMKJ12R","requester":"123456789012",
"source-ip-address":"1.2.3.4","reason":"PutObject"}}"#;

const MINIO: &str = r#"{"EventName":"s3:ObjectCreated:Put","Key":"images/a b/myphoto.jpg","Records":[{"eventVersion":"2.0","eventSource":"minio:s3","awsRegion":"",
"eventTime":"2017-07-07T18:46:37Z","eventName":"s3:ObjectCreated:Put","userIdentity":{"principalId":"minio"},"requestParameters":{"sourceIPAddress":"192.168.1.80:55328"},
"responseElements":{"x-amz-request-id":"14CF20BD1EFD5B93","x-minio-origin-endpoint":"http://127.0.0.1:9000"},"s3":{"s3SchemaVersion":"1.0","configurationId":"Config",
"bucket":{"name":"images","ownerIdentity":{"principalId":"minio"},"arn":"arn:aws:s3:::images"},"object":{"key":"a+b%2Fmyphoto.jpg","size":248083,
"eTag":"f1671feacb8bbf7b0397c6e9364e8c92","contentType":"image/jpeg","userMetadata":{"content-type":"image/jpeg"},"versionId":"1","sequencer":"14CF20BD1EFD5B93"}},
"source":{"host":"192.168.1.80","port":"55328","userAgent":"MinIO (linux; amd64)"}}],"level":"info","msg":"","time":"2017-07-07T11:46:37-07:00"}"#;

const CEPH: &str = r#"{"Records":[{"eventVersion":"2.2","eventSource":"ceph:s3","awsRegion":"us-east-1","eventTime":"2019-11-22T13:47:35.124724Z","eventName":"ObjectRemoved:Delete",
"userIdentity":{"principalId":"tester"},"requestParameters":{"sourceIPAddress":""},"responseElements":{"x-amz-request-id":"503a4c37-85eb-47cd-8681-2817e80b4281.5330.903595",
"x-amz-id-2":"14d2-zone1-zonegroup1"},"s3":{"s3SchemaVersion":"1.0","configurationId":"mynotif1","bucket":{"name":"mybucket1","ownerIdentity":{"principalId":"tester"},
"arn":"arn:aws:s3:us-east-1::mybucket1","id":"503a4c37-85eb-47cd-8681-2817e80b4281.5332.38"},"object":{"key":"myimage1.jpg","size":"1024","eTag":"37b51d194a7513e45b56f6524f2d51f2",
"versionId":"","sequencer":"F7E6D75DC742D108","metadata":[],"tags":[]}},"eventId":"","opaqueData":"me@example.com"}]}"#;

const OSS: &str = r#"{"events":[{"eventName":"ObjectCreated:PutObject","eventSource":"acs:oss","eventTime":"2020-09-01T08:01:02.000Z","eventVersion":"1.0",
"oss":{"bucket":{"arn":"acs:oss:cn-hangzhou:123456789:bucketname","name":"testbucket","ownerIdentity":"123456789","virtualBucket":""},
"object":{"deltaSize":122539,"eTag":"688A7BF4F233DC9C88A80BF985AB7329","key":"image/a%20b.jpg","size":122539},"ossSchemaVersion":"1.0","ruleId":"9adac8e253828f4f7c0466d941fa3db8"},
"region":"cn-hangzhou","requestParameters":{"sourceIPAddress":"140.205.128.221"},"responseElements":{"requestId":"58F9FF2D3DF792092E12044C"},
"userIdentity":{"principalId":"262561392693583141"}}]}"#;

#[test]
fn each_store_is_read() {
    let record =
        |records: &str| serde_json::from_str::<Value>(records).unwrap()["Records"][0].to_string();
    let sns = json!({ "Type": "Notification", "MessageId": "1", "TopicArn": "arn:aws:sns:x", "Message": AWS }).to_string();
    let oss = serde_json::from_str::<Value>(OSS).unwrap()["events"][0].clone();
    let oss_bus =
        json!({ "id": "1", "source": "acs.oss", "specversion": "1.0", "type": "oss:ObjectCreated:PutObject", "data": oss }).to_string();
    let aws = "com.amazonaws.s3.ObjectCreated:Put | aws:s3.us-west-2.amzn-s3-demo-bucket | Happy Face+50%.jpg | \
        C3D13FE58DE4C810.FMyUVURIY8/IgAtTv8xRjskZQpcIZ9KG4V5Wp6S7S/JRWeUWerMUE5JgHvANOjpD/Happy Face+50%25.jpg/\
        096fKKXTRTtl3on89fVO.nfljtsv6qko/0055AED6DCD90281E5/ObjectCreated:Put | 1970-01-01T00:00:00.000Z | \
        {\"bucket\":\"amzn-s3-demo-bucket\",\"key\":\"Happy Face+50%.jpg\",\"eTag\":\"d41d8cd98f00b204e9800998ecf8427e\",\
        \"versionId\":\"096fKKXTRTtl3on89fVO.nfljtsv6qko\",\"size\":1024}";
    let oss_expected = "com.amazonaws.s3.ObjectCreated:Put | acs:oss.cn-hangzhou.testbucket | image/a b.jpg | \
        testbucket.58F9FF2D3DF792092E12044C/image/a b.jpg/688A7BF4F233DC9C88A80BF985AB7329/2020-09-01T08:01:02.000Z/ObjectCreated:Put | 2020-09-01T08:01:02.000Z | \
        {\"bucket\":\"testbucket\",\"key\":\"image/a b.jpg\",\"eTag\":\"688A7BF4F233DC9C88A80BF985AB7329\",\"size\":122539}";
    for (body, expect) in [
        (AWS, aws),
        (&record(AWS), aws),
        (&sns, aws),
        (
            EVENT_BRIDGE,
            "com.amazonaws.s3.ObjectCreated:Put | aws:s3.ca-central-1.amzn-s3-demo-bucket1 | a+b %20.jpg | \
            amzn-s3-demo-bucket1/a+b %2520.jpg/IYV3p45BT0ac8hjHg1houSdS1a.Mro8e/617f08299329d189/ObjectCreated:Put | 2021-11-12T00:00:00Z | \
            {\"bucket\":\"amzn-s3-demo-bucket1\",\"key\":\"a+b %20.jpg\",\"eTag\":\"b1946ac92492d2347c6235b4d2611184\",\
            \"versionId\":\"IYV3p45BT0ac8hjHg1houSdS1a.Mro8e\",\"size\":5}",
        ),
        (
            MINIO,
            "com.amazonaws.s3.ObjectCreated:Put | minio:s3..images | a b/myphoto.jpg | \
            images/a b/myphoto.jpg/1/14CF20BD1EFD5B93/ObjectCreated:Put | 2017-07-07T18:46:37Z | \
            {\"bucket\":\"images\",\"key\":\"a b/myphoto.jpg\",\"eTag\":\"f1671feacb8bbf7b0397c6e9364e8c92\",\"versionId\":\"1\",\"size\":248083}",
        ),
        (
            CEPH,
            "com.amazonaws.s3.ObjectRemoved:Delete | ceph:s3.us-east-1.mybucket1 | myimage1.jpg | \
            503a4c37-85eb-47cd-8681-2817e80b4281.5330.903595.14d2-zone1-zonegroup1/myimage1.jpg/37b51d194a7513e45b56f6524f2d51f2/F7E6D75DC742D108/ObjectRemoved:Delete | \
            2019-11-22T13:47:35.124724Z | {\"bucket\":\"mybucket1\",\"key\":\"myimage1.jpg\",\"eTag\":\"37b51d194a7513e45b56f6524f2d51f2\",\"size\":1024}",
        ),
        (OSS, oss_expected),
        (&BASE64_STANDARD.encode(OSS), oss_expected),
        (&oss_bus, oss_expected),
    ] {
        assert_eq!(event(body), expect);
    }
}

/// What S3 tells of one thing by both ways has the same identity where there are no request ids.
#[test]
fn records_and_the_event_bridge_agree() {
    let record = json!({ "eventSource": "aws:s3", "awsRegion": "ca-central-1", "eventTime": "2021-11-12T00:00:00.000Z", "eventName": "ObjectCreated:Put",
        "s3": { "bucket": { "name": "amzn-s3-demo-bucket1" }, "object": { "key": "a%2Bb+%2520.jpg", "size": 5, "eTag": "b1946ac92492d2347c6235b4d2611184",
        "versionId": "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e", "sequencer": "617f08299329d189" } } });
    let identity = |body: &str| {
        event(body)
            .split(" | ")
            .take(4)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        identity(&json!({ "Records": [record] }).to_string()),
        identity(EVENT_BRIDGE)
    );
}

#[test]
fn the_event_bridge_is_named_as_s3_names_it() {
    for (detail_type, reason, deletion, expect) in [
        ("Object Created", "CopyObject", "", "ObjectCreated:Copy"),
        ("Object Created", "POST Object", "", "ObjectCreated:Post"),
        (
            "Object Created",
            "CompleteMultipartUpload",
            "",
            "ObjectCreated:CompleteMultipartUpload",
        ),
        (
            "Object Deleted",
            "DeleteObject",
            "Permanently Deleted",
            "ObjectRemoved:Delete",
        ),
        (
            "Object Deleted",
            "DeleteObject",
            "Delete Marker Created",
            "ObjectRemoved:DeleteMarkerCreated",
        ),
        (
            "Object Deleted",
            "Lifecycle Expiration",
            "Permanently Deleted",
            "LifecycleExpiration:Delete",
        ),
        (
            "Object Deleted",
            "Lifecycle Expiration",
            "Delete Marker Created",
            "LifecycleExpiration:DeleteMarkerCreated",
        ),
        (
            "Object Restore Completed",
            "",
            "",
            "ObjectRestore:Completed",
        ),
        ("Object Tags Deleted", "", "", "ObjectTagging:Delete"),
    ] {
        let mut message: Value = serde_json::from_str(EVENT_BRIDGE).unwrap();
        message["detail-type"] = detail_type.into();
        message["detail"]["reason"] = reason.into();
        message["detail"]["deletion-type"] = deletion.into();
        assert_eq!(
            event(&message.to_string()).split(" | ").next(),
            Some(&*format!("com.amazonaws.s3.{expect}"))
        );
    }
}

/// The ids of all events of a message.
fn ids(body: &str) -> Vec<String> {
    let told = told(body);
    assert_eq!(told.rejects, []);
    let arrivals = told
        .happenings
        .into_iter()
        .map(|happening| happening.arrival(Map::new(), false).unwrap());
    arrivals
        .map(|arrival| {
            let crate::Arrival::Event(event) = arrival else {
                panic!("nothing is mapped")
            };
            event.id().to_string()
        })
        .collect()
}

/// One request that creates or deletes many objects (MinIO's Snowball and fan-out uploads, a
/// multi-object delete) makes an event of each, and the same events when it is told again, however
/// its records are put together then.
#[test]
fn objects_of_one_request_are_told_apart_and_told_again_they_are_the_same() {
    // The keys are written as S3 encodes them; the last two differ only in how their names are
    // encoded.
    let keys = ["x", "y", "z", "x/y", "line%0Abreak", "line%250Abreak"];
    let of = |text: &str, list: &str, object: &str| {
        let record = serde_json::from_str::<Value>(text).unwrap()[list][0].clone();
        keys.map(|key| {
            let mut record = record.clone();
            record[object]["object"]["key"] = key.into();
            record
        })
    };
    let mut without_sequencers = of(AWS, "Records", "s3");
    for record in &mut without_sequencers {
        record["s3"]["object"]
            .as_object_mut()
            .unwrap()
            .retain(|name, _| name == "key");
    }
    // A tar file that holds one name twice.
    let mut one_key = of(MINIO, "Records", "s3");
    for (number, record) in one_key.iter_mut().enumerate() {
        record["responseElements"]["x-amz-id-2"] =
            "dd9025bab4ad464b049177c95eb6ebf374d3b3fd1af9251148b658df7ac2e3e8".into();
        record["s3"]["object"]["key"] = "same".into();
        record["s3"]["object"]["sequencer"] = format!("14CF20BD1EFD5B9{number}").into();
    }
    for (list, records) in [
        ("Records", of(AWS, "Records", "s3")),
        ("Records", without_sequencers),
        ("Records", of(MINIO, "Records", "s3")),
        ("Records", one_key),
        ("Records", of(CEPH, "Records", "s3")),
        ("events", of(OSS, "events", "oss")),
    ] {
        let together = ids(&json!({ list: records }).to_string());
        let mut apart = together.clone();
        apart.sort();
        apart.dedup();
        assert_eq!(apart.len(), keys.len(), "{together:?}");
        let again: Vec<_> = records
            .iter()
            .rev()
            .flat_map(|record| ids(&json!({ list: [record] }).to_string()))
            .collect();
        assert_eq!(again.into_iter().rev().collect::<Vec<_>>(), together);
    }
    let bridged = keys.map(|key| {
        let mut message: Value = serde_json::from_str(EVENT_BRIDGE).unwrap();
        message["detail"]["object"]["key"] = key.into();
        ids(&message.to_string())
    });
    let apart: std::collections::BTreeSet<_> = bridged.iter().collect();
    assert_eq!(apart.len(), keys.len(), "{bridged:?}");
}

/// Events without a sequencer, such as those about tags, are told apart by their request.
#[test]
fn changes_of_tags_within_a_second_are_told_apart() {
    let told = ["N4N7GDK58NMKJ12R", "N4N7GDK58NMKJ12S"].map(|request| {
        let mut message: Value = serde_json::from_str(EVENT_BRIDGE).unwrap();
        message["detail-type"] = "Object Tags Added".into();
        message["detail"]["request-id"] = request.into();
        message["detail"]["object"]
            .as_object_mut()
            .unwrap()
            .remove("sequencer");
        assert_eq!(ids(&message.to_string()), ids(&message.to_string()));
        ids(&message.to_string())
    });
    assert_ne!(told[0], told[1]);
}

#[test]
fn what_is_no_notification_is_told_with_why() {
    for (body, reason) in [
        (
            "",
            "the message is no notification in JSON: EOF while parsing a value at line 1 column 0",
        ),
        (
            "[]",
            "the message is no notification of an object store that is known here",
        ),
        (
            "{}",
            "the message is no notification of an object store that is known here",
        ),
        (
            r#"{"Type":"SubscriptionConfirmation","Message":"x"}"#,
            "the message is no notification of an object store that is known here",
        ),
        (r#"{"Records":[{}]}"#, "the record has no s3.bucket.name"),
        (r#"{"Records":[5]}"#, "the record is no object"),
        (
            r#"{"Records":[{"eventName":"a","eventTime":"noon","s3":{"bucket":{"name":"b"},"object":{"key":"k"}}}]}"#,
            "its eventTime \"noon\" is no time",
        ),
        (
            r#"{"Records":[{"eventName":"a","eventTime":"2026-01-01T00:00:00Z","s3":{"bucket":{"name":"b"},"object":{"key":"%FF"}}}]}"#,
            "the key \"%FF\" is not UTF-8",
        ),
        (
            r#"{"detail-type":"Object Eaten","detail":{}}"#,
            "the detail-type \"Object Eaten\" is none of S3's",
        ),
    ] {
        let Notification {
            happenings,
            rejects,
        } = told(body);
        assert_eq!((happenings.len(), rejects.len()), (0, 1), "{body}");
        assert_eq!(rejects[0].reason, reason, "{body}");
    }
    let deep = format!("{}{}", r#"{"Records":"#, "[".repeat(100_000));
    assert_eq!(told(&deep).rejects.len(), 1);
}

#[test]
fn tests_of_the_store_are_nothing() {
    let test = r#"{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2014-10-13T15:57:02.089Z","Bucket":"bucketname","RequestId":"5582815E1AEA5ADF","HostId":"8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR+YstdA6Knx4Ip8EXAMPLE"}"#;
    assert_eq!(told(test), Notification::default());
    assert_eq!(told(r#"{"Records":[]}"#), Notification::default());
}
