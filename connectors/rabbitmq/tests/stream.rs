//! Streams that are not what they were when they were left.

use pointsman_schemas::Cursor;
use tokio::time::sleep;

use super::source::{body, event, take};
use super::*;
use crate::suite::next_within;
use crate::{SourceError, Verdict};

impl Queue {
    /// Deletes a stream, and makes another one of the same name.
    async fn make_anew(&self) {
        self.channel
            .queue_delete(
                self.name.as_str().into(),
                lapin::options::QueueDeleteOptions::default(),
            )
            .await
            .unwrap();
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), text("stream"));
        self.channel
            .queue_declare(
                self.name.as_str().into(),
                QueueDeclareOptions::durable(),
                arguments,
            )
            .await
            .unwrap();
    }
}

/// Opens a stream where it was left.
async fn open_at(queue: &Queue, cursor: Cursor) -> (Box<dyn Source>, Link) {
    let (mut context, link) = context();
    context.cursor = Some(cursor);
    (
        source(&queue.settings(json!({ "offset": "first" })))
            .open(context)
            .await
            .unwrap(),
        link,
    )
}

/// Reads so many messages, and tells where the stream was left.
async fn read(source: &mut dyn Source, count: usize) -> (Vec<String>, Cursor) {
    let (mut bodies, mut cursor) = (Vec::new(), None);
    while bodies.len() < count {
        let batch = next_within(source, LONG).await.expect("more come").unwrap();
        cursor = batch.cursor.or(cursor);
        for message in batch.messages {
            bodies.push(body(&event(&message)));
            message.acknowledgement.send(Verdict::Stored).await;
        }
    }
    (bodies, cursor.unwrap())
}

#[tokio::test]
async fn what_retention_has_removed_unread_is_counted() {
    let small = [
        ("x-max-length-bytes", AMQPValue::LongLongInt(4_000)),
        (
            "x-stream-max-segment-size-bytes",
            AMQPValue::LongLongInt(2_000),
        ),
    ];
    let queue = Queue::new("stream", &small).await;
    let (mut source, _link) = open(&queue.settings(json!({ "offset": "first" })))
        .await
        .unwrap();
    queue.publish("0", plain()).await;
    let (_, cursor) = read(&mut *source, 1).await;
    drop(source);

    // Nothing is missing, and nothing comes twice.
    queue.publish("1", plain()).await;
    let (mut source, link) = open_at(&queue, cursor).await;
    let (bodies, cursor) = read(&mut *source, 1).await;
    assert_eq!((bodies, link.status().skipped), (vec!["1".to_owned()], 0));
    drop(source);

    for n in 2..200 {
        queue.publish(format!("{n:0100}"), plain()).await;
    }
    // Until the server has removed some.
    let gone = async || {
        let (mut source, _link) = open(&queue.settings(json!({ "offset": "first" })))
            .await
            .unwrap();
        event(&take_first(&mut *source).await)
            .id()
            .parse::<u64>()
            .unwrap()
    };
    while gone().await <= 2 {
        queue.publish(format!("{:0100}", 0), plain()).await;
        sleep(Duration::from_millis(50)).await;
    }
    let (mut source, link) = open_at(&queue, cursor).await;
    let first: u64 = event(&take_first(&mut *source).await).id().parse().unwrap();
    assert!(first > 2);
    skips(&mut *source, &link, first - 2).await;
}

/// Reads on until so many messages are said to be gone.
async fn skips(source: &mut dyn Source, link: &Link, messages: u64) {
    let until = tokio::time::Instant::now() + LONG;
    while link.status().skipped < messages && tokio::time::Instant::now() < until {
        let _ = next_within(source, Duration::from_millis(50)).await;
    }
    assert_eq!(link.status().skipped, messages);
}

#[tokio::test]
async fn what_retention_removes_while_a_reader_lags_behind_is_counted() {
    let small = [
        ("x-max-length-bytes", AMQPValue::LongLongInt(40_000)),
        (
            "x-stream-max-segment-size-bytes",
            AMQPValue::LongLongInt(5_000),
        ),
    ];
    let queue = Queue::new("stream", &small).await;
    let (mut source, link) = open(&queue.settings(json!({ "offset": "first", "prefetch": 5 })))
        .await
        .unwrap();
    queue.publish("0", plain()).await;
    let (bodies, _) = read(&mut *source, 1).await;
    assert_eq!((bodies, link.status().skipped), (vec!["0".to_owned()], 0));
    for n in 1..3_000 {
        queue.publish(format!("{n:0100}"), plain()).await;
    }
    // What came before it fell behind, what was removed meanwhile, and what is left.
    let (mut offsets, mut last): (Vec<u64>, _) = (vec![0], String::new());
    while !last.ends_with("2999") {
        for message in next_within(&mut *source, LONG)
            .await
            .expect("more come")
            .unwrap()
            .messages
        {
            last = body(&event(&message));
            offsets.push(event(&message).id().parse().unwrap());
            message.acknowledgement.send(Verdict::Stored).await;
        }
    }
    // At each new segment the server uses an offset for itself, and nobody can tell those that are
    // removed from messages.
    let (missing, unused) = (
        3_000 - offsets.len() as u64,
        offsets
            .windows(2)
            .map(|pair| pair[1] - pair[0] - 1)
            .sum::<u64>(),
    );
    assert!(missing > 0, "the stream has kept all");
    let until = tokio::time::Instant::now() + LONG;
    while link.status().skipped < missing && tokio::time::Instant::now() < until {
        let _ = next_within(&mut *source, Duration::from_millis(50)).await;
    }
    let skipped = link.status().skipped;
    assert!(
        (missing..=unused).contains(&skipped),
        "{skipped} of {missing} to {unused}"
    );
}

#[tokio::test]
async fn a_longer_stream_of_the_same_name_is_another_one() {
    let queue = Queue::new("stream", &[]).await;
    for n in 0..3 {
        queue.publish(format!("{n}"), plain()).await;
    }
    let (mut source, _link) = open(&queue.settings(json!({ "offset": "first" })))
        .await
        .unwrap();
    let (_, cursor) = read(&mut *source, 3).await;
    drop(source);
    queue.make_anew().await;
    for n in 0..9 {
        queue.publish(format!("new {n}"), plain()).await;
    }
    let (mut source, _link) = open_at(&queue, cursor).await;
    let ended = next_within(&mut *source, LONG)
        .await
        .expect("it stops")
        .unwrap_err();
    assert!(
        matches!(&ended, SourceError::CursorMismatch(why) if why.contains("offset 2 is another message now")),
        "{ended}"
    );
}

async fn take_first(source: &mut dyn Source) -> crate::Message {
    loop {
        if let Some(message) = next_within(source, LONG)
            .await
            .expect("more come")
            .unwrap()
            .messages
            .into_iter()
            .next()
        {
            return message;
        }
    }
}

#[tokio::test]
async fn a_stream_that_was_made_anew_stops_its_source_with_words() {
    let queue = Queue::new("stream", &[]).await;
    for n in 0..5 {
        queue.publish(format!("{n}"), plain()).await;
    }
    let (mut source, _link) = open(&queue.settings(json!({ "offset": "first" })))
        .await
        .unwrap();
    let (_, cursor) = read(&mut *source, 5).await;
    drop(source);
    queue.make_anew().await;
    queue.publish("new", plain()).await;
    let (mut source, _link) = open_at(&queue, cursor).await;
    let ended = next_within(&mut *source, LONG)
        .await
        .expect("it stops")
        .unwrap_err();
    assert!(
        matches!(&ended, SourceError::CursorMismatch(why) if why.contains("has been made anew") && why.contains("offset 4 was read last")),
        "{ended}"
    );
    // One that has only been read to its end waits.
    let queue = Queue::new("stream", &[]).await;
    queue.publish("0", plain()).await;
    let (mut source, _link) = open(&queue.settings(json!({ "offset": "first" })))
        .await
        .unwrap();
    let (_, cursor) = read(&mut *source, 1).await;
    let (mut source, link) = open_at(&queue, cursor).await;
    assert!(
        next_within(&mut *source, Duration::from_secs(12))
            .await
            .is_none()
    );
    queue.publish("1", plain()).await;
    assert_eq!(
        (
            body(&event(&take(&mut *source, 1).await[0])),
            link.status().skipped
        ),
        ("1".to_owned(), 0)
    );
}
