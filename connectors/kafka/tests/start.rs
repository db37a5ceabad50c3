//! Where a group begins.

use super::*;

#[tokio::test]
async fn a_new_group_begins_where_it_is_told() {
    for (start, expect) in [
        (json!("earliest"), &["old", "young", "new"][..]),
        (json!("latest"), &["new"]),
        (json!("between"), &["young", "new"]),
        (json!({ "time": "2100-01-01T00:00:00Z" }), &["new"]),
    ] {
        let topics = Topics::new(&[1]).await;
        topics.write("k", "old").await;
        sleep(Duration::from_millis(20)).await;
        let between = json!({ "time": jiff::Timestamp::now().to_string() });
        sleep(Duration::from_millis(20)).await;
        topics.write("k", "young").await;
        let start = if start == "between" { between } else { start };
        let settings = topics.settings(json!({ "start": start }));
        let (mut source, _) = open(&settings).await.unwrap();
        topics.write("k", "new").await;
        let taken = take(&mut *source, expect.len()).await;
        assert_eq!(bodies(&taken), expect, "{start}");
        store(taken).await;
        source.finish().await;

        // And never again.
        topics.write("k", "newer").await;
        let (mut source, _) = open(&settings).await.unwrap();
        assert_eq!(bodies(&take(&mut *source, 1).await), ["newer"], "{start}");
    }
}

#[tokio::test]
async fn what_nobody_has_read_yet_is_kept_though_nothing_was_stored() {
    let topics = Topics::new(&[1]).await;
    let settings = topics.settings(json!({ "start": "latest" }));
    let (source, _) = open(&settings).await.unwrap();
    topics.commits(&[(0, 0)]).await;
    topics.write("k", "0").await;
    drop(source);
    let (mut source, _) = open(&settings).await.unwrap();
    assert_eq!(bodies(&take(&mut *source, 1).await), ["0"]);
}

#[tokio::test]
async fn partitions_that_are_added_are_read_from_their_first_record_on() {
    let topics = Topics::new(&[1]).await;
    topics.write("k", "old").await;
    let settings = topics.settings(json!({ "start": "latest" }));
    let (source, _) = open(&settings).await.unwrap();
    topics.commits(&[(0, 1)]).await;
    drop(source);
    let admin = topics.admin();
    let more = admin.create_partitions([(topics.name(), 2)], CreatePartitionsOptions::default());
    more.await.unwrap();
    sleep(Duration::from_secs(1)).await;
    topics.kafka.rebootstrap().await;
    topics
        .write_record(Record::new(topics.name(), "0").partition(1))
        .await;
    let (mut source, link) = open(&settings).await.unwrap();
    let taken = take(&mut *source, 1).await;
    assert_eq!(bodies(&taken), ["0"]);
    assert_eq!(link.status().skipped, 0);
    store(taken).await;
    topics.commits(&[(0, 1), (1, 1)]).await;
}

#[tokio::test]
async fn what_retention_took_is_told() {
    let topics = Topics::new(&[1]).await;
    for text in ["0", "1", "2", "3"] {
        topics.write("k", text).await;
    }
    let settings = topics.settings(json!({}));
    let (mut source, _) = open(&settings).await.unwrap();
    store(take(&mut *source, 4).await.drain(..1).collect()).await;
    source.finish().await;
    topics.commits(&[(0, 1)]).await;
    let partition = TopicPartition::new(topics.name(), 0);
    let admin = topics.admin();
    let deleted = admin.delete_records([(partition, 3)], DeleteRecordsOptions::default());
    deleted.await.unwrap();
    let (mut source, link) = open(&settings).await.unwrap();
    let taken = take(&mut *source, 1).await;
    assert_eq!(
        (bodies(&taken), link.status().skipped),
        (vec!["3".to_owned()], 2)
    );
    store(taken).await;
    topics.commits(&[(0, 4)]).await;
}

#[tokio::test]
async fn a_topic_that_was_made_anew_is_read_from_its_first_record_on() {
    let topics = Topics::new(&[1]).await;
    for text in ["0", "1", "2"] {
        topics.write("k", text).await;
    }
    let settings = topics.settings(json!({}));
    let (mut source, _) = open(&settings).await.unwrap();
    store(take(&mut *source, 3).await).await;
    source.finish().await;
    topics.commits(&[(0, 3)]).await;
    let admin = topics.admin();
    let deleted = admin.delete_topics([topics.name()], DeleteTopicsOptions::default());
    deleted.await.unwrap();
    sleep(Duration::from_secs(1)).await;
    topics.make(topics.name(), 1).await;
    let fresh = Kafka::builder(&topics.brokers).connect().await.unwrap();
    let producer = fresh.producer().build().await.unwrap();
    let _written = producer
        .send(Record::new(topics.name(), "anew"))
        .await
        .unwrap();
    let (mut source, _) = open(&settings).await.unwrap();
    let taken = take(&mut *source, 1).await;
    assert_eq!(bodies(&taken), ["anew"]);
    store(taken).await;
    topics.commits(&[(0, 1)]).await;
}
