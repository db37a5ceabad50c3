//! Several members of one group.

use std::collections::BTreeSet;

use super::*;

#[tokio::test]
async fn members_share_the_partitions_and_what_is_given_up_is_drained() {
    let topics = Topics::new(&[4]).await;
    let settings = topics.settings(json!({}));
    let (mut first, _) = open(&settings).await.unwrap();
    for partition in 0..4 {
        let record = Record::new(topics.name(), format!("old {partition}"));
        topics.write_record(record.partition(partition)).await;
    }
    let held = take(&mut *first, 4).await;

    let (mut second, _) = open(&settings).await.unwrap();
    // While the first is asked to give up two, it keeps them for what is in hand.
    let early = next_within(&mut *second, Duration::from_secs(2)).await;
    assert!(early.is_none(), "{early:?}");
    store(held).await;
    let (mut found, until) = (BTreeSet::new(), Instant::now() + LONG);
    let (mut number, mut shared) = (0, [0, 0]);
    while shared.contains(&0) {
        assert!(Instant::now() < until, "{shared:?}");
        for partition in 0..4 {
            let text = format!("new {number} {partition}");
            topics
                .write_record(Record::new(topics.name(), text).partition(partition))
                .await;
        }
        number += 1;
        for (index, member) in [&mut first, &mut second].into_iter().enumerate() {
            while let Some(batch) = next_within(&mut **member, Duration::from_millis(150)).await {
                let messages = batch.unwrap().messages;
                shared[index] += messages.len();
                found.extend(bodies(&messages));
                store(messages).await;
            }
        }
    }
    assert!(
        !found.iter().any(|text| text.starts_with("old")),
        "{found:?}"
    );

    // Who leaves leaves all to the other.
    first.finish().await;
    topics.write("k", "last").await;
    while found.len() < number * 4 + 1 {
        let messages = take(&mut *second, 1).await;
        found.extend(bodies(&messages));
        store(messages).await;
    }
    assert!(found.contains("last"));
}

#[tokio::test]
async fn topics_are_found_by_a_pattern() {
    let topics = Topics::new(&[1, 1]).await;
    let pattern = format!("{}.*", topics.name().trim_end_matches("-0"));
    let settings =
        topics.settings(json!({ "topics": null, "pattern": pattern, "start": "latest" }));
    let (mut member, _) = open(&settings).await.unwrap();
    topics.commits(&[(0, 0)]).await;
    let write = async |topic: &str, text: &str| {
        let producer = topics.kafka.producer().build().await.unwrap();
        producer
            .send(Record::new(topic, text.to_owned()))
            .await
            .unwrap()
            .offset
    };
    write(&topics.names[0], "a").await;
    write(&topics.names[1], "b").await;
    let first = take(&mut *member, 2).await;
    assert_eq!(
        BTreeSet::from_iter(bodies(&first)),
        BTreeSet::from(["a".into(), "b".into()])
    );
    store(first).await;
    // One that is made later is read from its first record on.
    let later = format!("{}-later", topics.names[1]);
    topics.make(&later, 1).await;
    write(&later, "c").await;
    assert_eq!(bodies(&take(&mut *member, 1).await), ["c"]);

    let settings = topics.settings(json!({ "topics": null, "pattern": "no-such-.*" }));
    let Err(OpenError(problem)) = open(&settings).await else {
        panic!("no topic is matched")
    };
    told(&problem, &["pattern: no topic's name is matched"]);
}
