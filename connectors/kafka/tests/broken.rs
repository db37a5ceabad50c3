//! What cannot work is told in words.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::*;

async fn refused(settings: &Value) -> Problem {
    let probed = source(settings).probe().await;
    let OpenError(probed) = probed.expect_err("it cannot be reached");
    let Err(OpenError(opened)) = open(settings).await else {
        panic!("it cannot be opened")
    };
    assert_eq!(probed.to_string(), opened.to_string());
    probed
}

#[tokio::test]
async fn why_a_source_cannot_be_opened() {
    let topics = Topics::new(&[1]).await;
    let settings = topics.settings(json!({ "topics": ["no-such-topic"] }));
    told(
        &refused(&settings).await,
        &["topics: there is no topic no-such-topic", "make it"],
    );
    let settings = topics.settings(json!({ "brokers": "127.0.0.1:1" }));
    told(
        &refused(&settings).await,
        &["brokers: cannot connect to Kafka at 127.0.0.1:1", "refused"],
    );
    let settings = topics.settings(json!({ "brokers": "no-such-host.invalid" }));
    told(
        &refused(&settings).await,
        &["brokers: ", "its host name has no address"],
    );
    let settings = topics.settings(json!({ "tls": {} }));
    told(&refused(&settings).await, &["cannot connect to Kafka"]);

    // Something else listens there.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let settings = topics.settings(json!({ "brokers": address }));
    told(
        &refused(&settings).await,
        &["brokers: ", "does not answer as Kafka does"],
    );
}

#[tokio::test]
async fn what_a_probe_tells() {
    let topics = Topics::new(&[3]).await;
    let probe = async |more: Value| source(&topics.settings(more)).probe().await.unwrap();
    let told = probe(json!({ "start": "latest" })).await;
    let expect = format!(
        "the topic {} has 3 partitions; the group {} is new and begins with what is written from then on",
        topics.name(),
        topics.group
    );
    assert!(told.ends_with(&expect), "{told}");
    let (mut member, _) = open(&topics.settings(json!({}))).await.unwrap();
    topics.write("k", "0").await;
    store(take(&mut *member, 1).await).await;
    member.finish().await;
    topics.write("k", "1").await;
    topics.write("k", "2").await;
    let told = probe(json!({})).await;
    assert!(told.contains("2 records wait for the group"), "{told}");
}
