//! What streams remove, and consumers that somebody deletes.

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::stream::RetentionPolicy;

use futures::StreamExt;
use pointsman_schemas::Cursor;

use super::super::consumer::ConsumerSpec;
use super::super::progress::{ConsumerProgress, Gap};
use super::*;
use crate::{SourceState, Verdict};

nats_tests!(
    what_limits_removed_while_nobody_read_is_counted,
    what_lies_before_the_first_message_is_counted_where_the_start_is_a_number,
    a_deleted_consumer_of_a_work_queue_is_made_again,
    a_deleted_consumer_of_an_interest_stream_is_made_again,
    what_a_work_queue_refuses_is_found_before_it_does,
    a_stream_that_was_made_anew_while_nobody_read_is_told,
    a_consumer_that_was_deleted_while_nobody_read_is_made_anew_behind_what_is_stored,
    what_is_purged_unread_is_counted,
    what_is_removed_from_the_middle_unread_is_counted,
    a_position_of_another_configuration_or_that_is_damaged_is_passed_over,
    a_probe_finds_a_filter_that_selects_nothing,
    a_consumer_with_priority_groups_is_refused,
);

async fn make(nats: &Nats, change: impl FnOnce(&mut stream::Config)) {
    nats.jetstream.delete_stream("S").await.unwrap();
    let mut config = stream::Config {
        name: "S".into(),
        subjects: vec!["s.>".into()],
        ..Default::default()
    };
    change(&mut config);
    nats.jetstream.create_stream(config).await.unwrap();
}

/// Takes so many messages and has them acknowledged; tells their texts.
async fn store(source: &mut dyn Source, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    for (text, acknowledgement) in take(source, count).await.unwrap() {
        acknowledgement.send(Verdict::Stored).await;
        texts.push(text);
    }
    texts
}

async fn what_limits_removed_while_nobody_read_is_counted(release: NatsRelease) {
    let mut nats = Nats::start(release).await;
    make(&nats, |config| config.max_messages = 150).await;
    nats.make_consumer(pull::Config::default()).await;
    nats.publish(100).await;
    acknowledge(&nats, 100).await;
    let published = nats.publish(1_050).await;
    let (mut source, link) = open(nats.settings(json!({}))).await;
    assert_eq!(link.status().skipped, 900);
    assert_eq!(store(&mut *source, 150).await, published[900..]);
    drop(source);
    let (_source, link) = open(nats.settings(json!({}))).await;
    assert_eq!(link.status().skipped, 0, "once is enough");
}

async fn what_lies_before_the_first_message_is_counted_where_the_start_is_a_number(
    release: NatsRelease,
) {
    let mut nats = Nats::start(release).await;
    make(&nats, |config| config.max_messages = 10).await;
    let published = nats.publish(30).await;
    let (mut source, link) = open(nats.settings(json!({ "start": { "sequence": 6 } }))).await;
    assert_eq!(link.status().skipped, 15, "of 6 to 30 there are 21 to 30");
    assert_eq!(store(&mut *source, 10).await, published[20..]);
    // Else both would make the consumer that is gone.
    drop(source);
    nats.delete_consumer().await;
    let (_source, link) = open(nats.settings(json!({}))).await;
    assert_eq!(
        link.status().skipped,
        0,
        "all that are there is what was asked for"
    );
}

async fn a_deleted_consumer_of_a_work_queue_is_made_again(release: NatsRelease) {
    let mut nats = Nats::start(release).await;
    make(&nats, |config| {
        config.retention = RetentionPolicy::WorkQueue
    })
    .await;
    let (mut source, link) = open(nats.settings(json!({}))).await;
    nats.publish(10).await;
    store(&mut *source, 10).await;
    nats.delete_consumer().await;
    let published = nats.publish(5).await;
    assert_eq!(store(&mut *source, 5).await, published);
    assert_eq!(
        nats.consumer().await.cached_info().config.deliver_policy,
        DeliverPolicy::All
    );
    let status = link.status();
    assert_eq!((status.skipped, status.state), (0, SourceState::Running));
    // A server that takes long to delete it may be worth a word, but it has nothing against the new
    // one.
    assert!(
        status
            .last_error
            .as_deref()
            .is_none_or(|error| !error.contains("work queue") && !error.contains("10101")),
        "{status:?}"
    );
}

async fn a_deleted_consumer_of_an_interest_stream_is_made_again(release: NatsRelease) {
    let mut nats = Nats::start(release).await;
    make(&nats, |config| config.retention = RetentionPolicy::Interest).await;
    let spec = ConsumerSpec {
        stream: "S".into(),
        consumer: "c".into(),
        create: Some(Default::default()),
        domain: None,
        hosts: String::new(),
    };
    let known = spec.ensure(&nats.jetstream, None).await.unwrap().1;
    nats.publish(10).await;
    acknowledge(&nats, 10).await;
    let (_, known, gap) = spec.ensure(&nats.jetstream, Some(known)).await.unwrap();
    assert_eq!((known.acknowledged, gap), (10, vec![]));
    nats.delete_consumer().await;
    // Nobody is interested in these, so that the stream keeps none of them.
    nats.publish(7).await;
    let (info, known, gap) = spec.ensure(&nats.jetstream, Some(known)).await.unwrap();
    assert_eq!(
        info.config.deliver_policy,
        DeliverPolicy::ByStartSequence { start_sequence: 11 }
    );
    assert_eq!(
        gap,
        [Gap {
            messages: 7,
            why: "messages 11 to 17 were removed from the stream S".into()
        }]
    );
    assert_eq!(
        spec.ensure(&nats.jetstream, Some(known)).await.unwrap().2,
        [],
        "told once"
    );
}

/// Another client of the same consumer takes so many messages.
async fn acknowledge(nats: &Nats, count: usize) {
    let messages = nats
        .consumer()
        .await
        .fetch()
        .max_messages(count)
        .messages()
        .await
        .unwrap();
    let acknowledged = messages
        .then(async |message| message.unwrap().double_ack().await.unwrap())
        .count()
        .await;
    assert_eq!(acknowledged, count);
}

async fn what_a_work_queue_refuses_is_found_before_it_does(release: NatsRelease) {
    let nats = Nats::start(release).await;
    make(&nats, |config| {
        config.retention = RetentionPolicy::WorkQueue
    })
    .await;
    let both = |given: Value| async {
        let probed = settings(given.clone())
            .probe()
            .await
            .unwrap_err()
            .to_string();
        let opened = settings(given)
            .open(context())
            .await
            .map(|_| ())
            .unwrap_err()
            .to_string();
        (probed, opened)
    };
    let (probed, opened) = both(nats.settings(json!({ "start": "new" }))).await;
    let words = "the stream S is a work queue, whose consumers begin with its first message; leave \
                 out create.start";
    assert_eq!(
        (probed.as_str(), opened.as_str()),
        (&*format!("create: {words}"), words)
    );

    let other = pull::Config {
        durable_name: Some("other".into()),
        filter_subject: "s.a.*".into(),
        ..Default::default()
    };
    nats.jetstream
        .create_consumer_on_stream(other, "S")
        .await
        .unwrap();
    for filter in ["s.a.b", "s.>", "s.*.c", ">"] {
        let (probed, opened) = both(nats.settings(json!({ "filter": filter }))).await;
        assert!(
            probed.contains("the consumer other takes the same subjects")
                && opened.contains("the consumer other"),
            "{probed} {opened}"
        );
    }
    settings(nats.settings(json!({ "filter": "s.b.*" })))
        .probe()
        .await
        .unwrap();
    open(nats.settings(json!({ "filter": "s.b.*" }))).await;
}

async fn a_probe_finds_a_filter_that_selects_nothing(release: NatsRelease) {
    let nats = Nats::start(release).await;
    let stream = |name: &str| stream::Config {
        name: name.into(),
        subjects: vec![format!("{name}.*.in"), format!("{name}.*.more.>")],
        ..Default::default()
    };
    let copy = stream::Config {
        name: "copy".into(),
        sources: Some(vec![stream::Source {
            name: "a".into(),
            ..Default::default()
        }]),
        subjects: vec!["b".into()],
        ..Default::default()
    };
    for config in [stream("a"), copy] {
        nats.jetstream.create_stream(config).await.unwrap();
    }
    for (name, filter, is_matched) in [
        ("a", "a.1.in", true),
        ("a", "a.>", true),
        ("a", "*.1.more.c", true),
        ("a", ">", true),
        ("a", "a.1.out", false),
        ("a", "a.1.more", false),
        ("a", "a", false),
        ("a", "b.>", false),
        // What it copies is not among its own subjects.
        ("copy", "a.1.in", true),
    ] {
        let given = json!({
            "url": nats.server.url(), "stream": name, "consumer": "c", "create": { "filter": filter }
        });
        let found = settings(given)
            .probe()
            .await
            .map_err(|error| error.to_string());
        let subjects = "it has a.*.in, a.*.more.>";
        let expect =
            format!("create.filter: no subject of the stream a matches {filter}; {subjects}");
        match found {
            Ok(_) => assert!(is_matched, "{filter}"),
            Err(problem) => assert_eq!((problem, is_matched), (expect, false), "{filter}"),
        }
    }
}

async fn a_consumer_with_priority_groups_is_refused(release: NatsRelease) {
    let nats = Nats::start(release).await;
    let config = pull::Config {
        priority_groups: vec!["jobs".into()],
        priority_policy: async_nats::jetstream::consumer::PriorityPolicy::PinnedClient,
        ..Default::default()
    };
    nats.make_consumer(config).await;
    // A server before 2.11 knows no such groups and makes an ordinary consumer.
    let grouped = !nats
        .consumer()
        .await
        .cached_info()
        .config
        .priority_groups
        .is_empty();
    assert_eq!(grouped, release == NatsRelease::Current);
    let told = settings(nats.settings(json!({})))
        .probe()
        .await
        .map_err(|error| error.to_string());
    assert_eq!(
        told.is_err_and(|told| told.contains("it has priority groups (jobs)")),
        grouped
    );
}

/// Opens a source where it was left.
async fn open_at(given: Value, cursor: Option<Cursor>) -> (Box<dyn Source>, Link) {
    let context = SourceContext {
        cursor,
        positions: crate::suite::Stored::default().positions(),
        ..context()
    };
    let link = context.link.clone();
    (settings(given).open(context).await.unwrap(), link)
}

/// The next position, whatever else comes meanwhile.
async fn position(source: &mut dyn Source) -> Cursor {
    loop {
        if let Some(cursor) = next_within(source, SOON)
            .await
            .expect("a position comes")
            .unwrap()
            .cursor
        {
            return cursor;
        }
    }
}

async fn a_stream_that_was_made_anew_while_nobody_read_is_told(release: NatsRelease) {
    let mut nats = Nats::start(release).await;
    nats.publish(4).await;
    let given = nats.settings(json!({ "start": { "sequence": 3 } }));
    let (mut source, link) = open(given.clone()).await;
    let cursor = position(&mut *source).await;
    drop(source);
    assert_eq!(link.status().skipped, 0);

    nats.jetstream.delete_stream("S").await.unwrap();
    nats.make_stream().await;
    let published = nats.publish(2).await;
    let (mut source, link) = open_at(given.clone(), Some(cursor)).await;
    assert_eq!(
        link.status().skipped,
        2,
        "3 and 4 of the old one had not been read"
    );
    let cursor = position(&mut *source).await;
    assert_eq!(store(&mut *source, 2).await, published);
    drop(source);
    let (_source, link) = open_at(given, Some(cursor)).await;
    assert_eq!(link.status().skipped, 0, "told once");
}

async fn a_consumer_that_was_deleted_while_nobody_read_is_made_anew_behind_what_is_stored(
    release: NatsRelease,
) {
    let mut nats = Nats::start(release).await;
    let given = nats.settings(json!({ "start": "new" }));
    let (mut source, _link) = open(given.clone()).await;
    nats.publish(5).await;
    store(&mut *source, 5).await;
    let cursor = loop {
        let cursor = position(&mut *source).await;
        if ConsumerProgress::read(&cursor.position)
            .unwrap()
            .acknowledged
            == 5
        {
            break cursor;
        }
    };
    drop(source);
    nats.delete_consumer().await;
    let published = nats.publish(3).await;
    let (mut source, link) = open_at(given.clone(), Some(cursor.clone())).await;
    assert_eq!(
        store(&mut *source, 3).await,
        published,
        "although it was to begin with what is new"
    );
    assert_eq!(link.status().skipped, 0);
    drop(source);

    // The same, and some of it is gone.
    nats.delete_consumer().await;
    nats.publish(2).await;
    nats.jetstream
        .get_stream("S")
        .await
        .unwrap()
        .purge()
        .sequence(8)
        .await
        .unwrap();
    let (mut source, link) = open_at(given, Some(cursor)).await;
    assert_eq!(
        link.status().skipped,
        2,
        "6 and 7, since that 8 were stored is not in this position"
    );
    assert_eq!(store(&mut *source, 3).await.len(), 3);
}

async fn what_is_purged_unread_is_counted(release: NatsRelease) {
    let mut nats = Nats::start(release).await;
    let given = nats.settings(json!({ "max_ack_pending": 3 }));
    let (mut source, link) = open(given.clone()).await;
    nats.publish(10).await;
    let held = take(&mut *source, 3).await.unwrap();
    let stream = nats.jetstream.get_stream("S").await.unwrap();
    stream.purge().await.unwrap();
    holds("it is told", async || link.status().skipped > 0).await;
    assert_eq!(link.status().skipped, 7, "three are in hand");
    for (_, acknowledgement) in held {
        acknowledgement.send(Verdict::Stored).await;
    }
    let cursor = position(&mut *source).await;
    drop(source);
    // The server would hand three of the next to a request that nobody waits for any more.
    holds("its requests have ended", async || {
        nats.consumer().await.info().await.unwrap().num_waiting == 0
    })
    .await;

    nats.publish(5).await;
    stream.purge().await.unwrap();
    let published = nats.publish(2).await;
    let (mut source, link) = open_at(given, Some(cursor)).await;
    assert_eq!(link.status().skipped, 5);
    assert_eq!(store(&mut *source, 2).await, published);
}

async fn what_is_removed_from_the_middle_unread_is_counted(release: NatsRelease) {
    let mut nats = Nats::start(release).await;
    let stream = nats.jetstream.get_stream("S").await.unwrap();
    // Of what was there before nobody knows what it had lost by then.
    nats.publish(3).await;
    stream.delete_message(2).await.unwrap();
    let given = nats.settings(json!({ "max_ack_pending": 3 }));
    let (mut source, link) = open(given.clone()).await;
    let published = nats.publish(10).await;
    let held = take(&mut *source, 3).await.unwrap();
    assert_eq!(held[2].0, published[0]);
    for removed in [6, 7, 9] {
        stream.delete_message(removed).await.unwrap();
    }
    for (_, acknowledgement) in held {
        acknowledgement.send(Verdict::Stored).await;
    }
    for three in [[1, 4, 6], [7, 8, 9]] {
        assert_eq!(
            store(&mut *source, 3).await,
            three.map(|n| published[n].clone())
        );
    }
    holds("it is told", async || link.status().skipped > 0).await;
    assert_eq!(link.status().skipped, 3);
    let cursor = loop {
        let cursor = position(&mut *source).await;
        if ConsumerProgress::read(&cursor.position)
            .unwrap()
            .acknowledged
            == 13
        {
            break cursor;
        }
    };
    drop(source);
    holds("its requests have ended", async || {
        nats.consumer().await.info().await.unwrap().num_waiting == 0
    })
    .await;

    // Also while nobody reads.
    let published = nats.publish(5).await;
    for removed in [14, 16, 17] {
        stream.delete_message(removed).await.unwrap();
    }
    let (mut source, link) = open_at(given, Some(cursor)).await;
    assert_eq!(
        store(&mut *source, 2).await,
        [published[1].clone(), published[4].clone()]
    );
    holds("it is told", async || link.status().skipped >= 3).await;
    assert_eq!(link.status().skipped, 3);
}

async fn a_position_of_another_configuration_or_that_is_damaged_is_passed_over(
    release: NatsRelease,
) {
    let mut nats = Nats::start(release).await;
    let published = nats.publish(3).await;
    let given = nats.settings(json!({}));
    let (mut source, _link) = open(given.clone()).await;
    let cursor = position(&mut *source).await;
    assert_eq!(
        ConsumerProgress::read(&cursor.position).unwrap().write(),
        cursor.position
    );
    drop(source);
    for stored in [
        Cursor {
            fingerprint: !cursor.fingerprint,
            ..cursor.clone()
        },
        Cursor {
            position: "?".into(),
            ..cursor
        },
    ] {
        nats.delete_consumer().await;
        let (mut source, link) = open_at(given.clone(), Some(stored)).await;
        assert_eq!(store(&mut *source, 3).await, published);
        assert_eq!(link.status().skipped, 0);
    }
}
