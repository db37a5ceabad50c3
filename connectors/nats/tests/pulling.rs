//! Pull requests against what servers of today say to them.

use futures::StreamExt;

use super::*;
use crate::{SourceState, Verdict};

nats_tests!(
    a_backlog_is_drained_without_a_fault,
    large_messages_are_drained_without_a_fault,
    what_a_consumer_allows_is_kept_to_without_a_fault,
    a_consumer_that_allows_less_from_now_on_is_pulled_on,
    a_message_that_is_larger_than_the_consumer_allows_is_told_in_words,
    a_consumer_whose_requests_are_all_taken_by_others_is_told_in_words,
);

/// Takes so many messages and has them acknowledged.
async fn drain(source: &mut dyn Source, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    while texts.len() < count {
        let batch = messages_within(source, SOON)
            .await
            .unwrap_or_else(|| panic!("{} of {count} have come", texts.len()))
            .unwrap();
        let mut acknowledgements = Vec::new();
        for message in batch {
            texts.push(text(&message));
            acknowledgements.push(message.acknowledgement.send(Verdict::Stored));
        }
        futures::future::join_all(acknowledgements).await;
    }
    texts
}

/// Nothing went wrong on the way, and nothing is left.
async fn assert_well(nats: &Nats, link: &Link) {
    assert_eq!(
        (link.status().state, link.status().last_error),
        (SourceState::Running, None)
    );
    let info = nats.consumer().await.get_info().await.unwrap();
    assert_eq!(
        (info.num_pending, info.num_ack_pending, info.num_redelivered),
        (0, 0, 0)
    );
}

async fn a_backlog_is_drained_without_a_fault(release: NatsRelease) {
    const MESSAGES: usize = 30_000;
    let mut nats = Nats::start(release).await;
    let mut pulls = nats
        .client()
        .subscribe("$JS.API.CONSUMER.MSG.NEXT.S.c")
        .await
        .unwrap();
    nats.client().flush().await.unwrap();
    let published = nats.publish(MESSAGES).await;
    let (mut source, link) = open(nats.settings(json!({}))).await;
    assert_eq!(
        drain(&mut *source, MESSAGES).await,
        published,
        "in order, each once"
    );
    assert_well(&nats, &link).await;
    nats.client().flush().await.unwrap();
    let mut asked = 0;
    while let Some(Some(_)) = futures::FutureExt::now_or_never(pulls.next()) {
        asked += 1;
    }
    assert!(
        (MESSAGES / 512..MESSAGES / 512 * 2).contains(&asked),
        "{asked} requests"
    );
}

async fn large_messages_are_drained_without_a_fault(release: NatsRelease) {
    const MESSAGES: usize = 100;
    let nats = Nats::start(release).await;
    let large = "x".repeat(900_000);
    for _ in 0..MESSAGES {
        nats.jetstream
            .publish("s.x", large.clone().into())
            .await
            .unwrap()
            .await
            .unwrap();
    }
    let (mut source, link) = open(nats.settings(json!({}))).await;
    let mut held = Vec::new();
    while held.len() < 30 {
        held.extend(
            messages_within(&mut *source, SOON)
                .await
                .unwrap_or_else(|| panic!("{} have come", held.len()))
                .unwrap(),
        );
    }
    while let Some(batch) = messages_within(&mut *source, Duration::from_secs(1)).await {
        held.extend(batch.unwrap());
    }
    assert!(
        (30..=37).contains(&held.len()),
        "32 MiB are in hand at most: {}",
        held.len()
    );
    futures::future::join_all(
        held.drain(..)
            .map(|message| message.acknowledgement.send(Verdict::Stored)),
    )
    .await;
    let info = nats.consumer().await.get_info().await.unwrap();
    drain(
        &mut *source,
        usize::try_from(info.num_pending).unwrap() + info.num_ack_pending,
    )
    .await;
    assert_well(&nats, &link).await;
}

async fn what_a_consumer_allows_is_kept_to_without_a_fault(release: NatsRelease) {
    for config in [
        pull::Config {
            max_batch: 3,
            ..pull::Config::default()
        },
        pull::Config {
            max_bytes: 700,
            ..pull::Config::default()
        },
        pull::Config {
            max_expires: Duration::from_secs(1),
            ..pull::Config::default()
        },
        pull::Config {
            max_waiting: 1,
            ..pull::Config::default()
        },
        pull::Config {
            max_ack_pending: 1,
            ..pull::Config::default()
        },
        pull::Config {
            max_batch: 1,
            max_bytes: 1_000,
            max_waiting: 2,
            max_expires: Duration::from_secs(2),
            ..pull::Config::default()
        },
    ] {
        let mut nats = Nats::start(release).await;
        nats.make_consumer(config).await;
        let (mut source, link) =
            open(json!({ "url": nats.server.url(), "stream": "S", "consumer": "c" })).await;
        for _ in 0..2 {
            let published = nats.publish(100).await;
            assert_eq!(drain(&mut *source, 100).await, published);
            // Requests end for want of messages meanwhile.
            assert!(
                messages_within(&mut *source, Duration::from_millis(1_500))
                    .await
                    .is_none()
            );
        }
        assert_well(&nats, &link).await;
    }
}

async fn a_consumer_that_allows_less_from_now_on_is_pulled_on(release: NatsRelease) {
    let mut nats = Nats::start(release).await;
    let config = pull::Config {
        max_expires: Duration::from_secs(1),
        ..pull::Config::default()
    };
    nats.make_consumer(config.clone()).await;
    let (mut source, link) = open(nats.settings(json!({}))).await;
    drain_all(&mut nats, &mut *source).await;
    nats.make_consumer(pull::Config {
        max_batch: 2,
        ..config
    })
    .await;
    // Those that are open were asked for before that.
    assert!(
        messages_within(&mut *source, Duration::from_millis(1_500))
            .await
            .is_none()
    );
    drain_all(&mut nats, &mut *source).await;
    assert_well(&nats, &link).await;
}

async fn drain_all(nats: &mut Nats, source: &mut dyn Source) {
    let published = nats.publish(10).await;
    assert_eq!(drain(source, 10).await, published);
}

async fn a_message_that_is_larger_than_the_consumer_allows_is_told_in_words(release: NatsRelease) {
    let nats = Nats::start(release).await;
    nats.make_consumer(pull::Config {
        max_bytes: 500,
        ..pull::Config::default()
    })
    .await;
    let (mut source, link) = open(nats.settings(json!({}))).await;
    nats.jetstream
        .publish("s.x", "x".repeat(1_000).into())
        .await
        .unwrap()
        .await
        .unwrap();
    holds("it is told", async || {
        link.status().last_error.is_some_and(|error| {
            error.contains("larger than the 500 bytes") && error.contains("raise max_bytes")
        })
    })
    .await;
    assert_eq!(link.status().state, SourceState::Waiting);
    nats.make_consumer(pull::Config {
        max_bytes: 5_000,
        ..pull::Config::default()
    })
    .await;
    assert_eq!(drain(&mut *source, 1).await[0].len(), 1_000);
    assert_eq!(link.status().state, SourceState::Running);
}

async fn a_consumer_whose_requests_are_all_taken_by_others_is_told_in_words(release: NatsRelease) {
    let mut nats = Nats::start(release).await;
    nats.make_consumer(pull::Config {
        max_waiting: 1,
        ..pull::Config::default()
    })
    .await;
    // Another client's request, which no heartbeats keep alive, waits for longer than anything
    // here.
    let mut other = nats.client().subscribe("other").await.unwrap();
    let ask = json!({ "batch": 1, "expires": 60_000_000_000_u64 }).to_string();
    nats.client()
        .publish_with_reply("$JS.API.CONSUMER.MSG.NEXT.S.c", "other", ask.into())
        .await
        .unwrap();
    nats.client().flush().await.unwrap();
    let (mut source, link) = open(nats.settings(json!({}))).await;
    holds("it is told", async || {
        link.status()
            .last_error
            .is_some_and(|error| error.contains("max_waiting"))
    })
    .await;
    let published = nats.publish(5).await;
    other.next().await.unwrap();
    assert_eq!(drain(&mut *source, 4).await, published[1..]);
    assert_eq!(link.status().state, SourceState::Running);
}
