//! What streams remove, and consumers that somebody deletes.

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::stream::RetentionPolicy;

use futures::StreamExt;

use super::super::consumer::{Gap, Wanted};
use super::*;
use crate::Verdict;

nats_tests!(
    what_limits_removed_while_nobody_read_is_counted,
    what_lies_before_the_first_message_is_counted_where_the_start_is_a_number,
    a_deleted_consumer_of_a_work_queue_is_made_again,
    a_deleted_consumer_of_an_interest_stream_is_made_again,
    what_a_work_queue_refuses_is_found_before_it_does,
    a_consumer_with_priority_groups_is_refused,
);

async fn make(nats: &Nats, change: impl FnOnce(&mut stream::Config)) {
    nats.jetstream.delete_stream("S").await.unwrap();
    let mut config = stream::Config { name: "S".into(), subjects: vec!["s.>".into()], ..Default::default() };
    change(&mut config);
    nats.jetstream.create_stream(config).await.unwrap();
}

/// Takes so many messages and has them acknowledged; tells their texts.
async fn store(source: &mut dyn Source, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    for (text, acknowledgement) in take(source, count).await.unwrap() {
        acknowledgement.tell(Verdict::Stored).await;
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

async fn what_lies_before_the_first_message_is_counted_where_the_start_is_a_number(release: NatsRelease) {
    let mut nats = Nats::start(release).await;
    make(&nats, |config| config.max_messages = 10).await;
    let published = nats.publish(30).await;
    let (mut source, link) = open(nats.settings(json!({ "start": { "sequence": 6 } }))).await;
    assert_eq!(link.status().skipped, 15, "of 6 to 30 there are 21 to 30");
    assert_eq!(store(&mut *source, 10).await, published[20..]);
    nats.delete_consumer().await;
    let (_source, link) = open(nats.settings(json!({}))).await;
    assert_eq!(link.status().skipped, 0, "all that are there is what was asked for");
}

async fn a_deleted_consumer_of_a_work_queue_is_made_again(release: NatsRelease) {
    let mut nats = Nats::start(release).await;
    make(&nats, |config| config.retention = RetentionPolicy::WorkQueue).await;
    let (mut source, link) = open(nats.settings(json!({}))).await;
    nats.publish(10).await;
    store(&mut *source, 10).await;
    nats.delete_consumer().await;
    let published = nats.publish(5).await;
    assert_eq!(store(&mut *source, 5).await, published);
    assert_eq!(nats.consumer().await.cached_info().config.deliver_policy, DeliverPolicy::All);
    assert_eq!((link.status().skipped, link.status().last_error), (0, None));
}

async fn a_deleted_consumer_of_an_interest_stream_is_made_again(release: NatsRelease) {
    let mut nats = Nats::start(release).await;
    make(&nats, |config| config.retention = RetentionPolicy::Interest).await;
    let wanted = Wanted { stream: "S".into(), consumer: "c".into(), create: Some(Default::default()), domain: None };
    let known = wanted.ensure(&nats.jetstream, None).await.unwrap().1;
    nats.publish(10).await;
    acknowledge(&nats, 10).await;
    let (_, known, gap) = wanted.ensure(&nats.jetstream, Some(known)).await.unwrap();
    assert_eq!((known.acknowledged, gap), (10, None));
    nats.delete_consumer().await;
    // Nobody is interested in these, so that the stream keeps none of them.
    nats.publish(7).await;
    let (info, known, gap) = wanted.ensure(&nats.jetstream, Some(known)).await.unwrap();
    assert_eq!(info.config.deliver_policy, DeliverPolicy::ByStartSequence { start_sequence: 11 });
    assert_eq!(gap, Some(Gap { messages: 7, why: "messages 11 to 17 were removed from the stream S".into() }));
    assert_eq!(wanted.ensure(&nats.jetstream, Some(known)).await.unwrap().2, None, "told once");
}

/// Another client of the same consumer takes so many messages.
async fn acknowledge(nats: &Nats, count: usize) {
    let messages = nats.consumer().await.fetch().max_messages(count).messages().await.unwrap();
    let acknowledged = messages.then(async |message| message.unwrap().double_ack().await.unwrap()).count().await;
    assert_eq!(acknowledged, count);
}

async fn what_a_work_queue_refuses_is_found_before_it_does(release: NatsRelease) {
    let nats = Nats::start(release).await;
    make(&nats, |config| config.retention = RetentionPolicy::WorkQueue).await;
    let both = |given: Value| async {
        let probed = settings(given.clone()).probe().await.unwrap_err().to_string();
        let opened = settings(given).open(context()).await.map(|_| ()).unwrap_err().to_string();
        (probed, opened)
    };
    let (probed, opened) = both(nats.settings(json!({ "start": "new" }))).await;
    let words = "the stream S is a work queue, whose consumers begin with its first message; leave out create.start";
    assert_eq!((probed.as_str(), opened.as_str()), (&*format!("create: {words}"), words));

    let other = pull::Config { durable_name: Some("other".into()), filter_subject: "s.a.*".into(), ..Default::default() };
    nats.jetstream.create_consumer_on_stream(other, "S").await.unwrap();
    for filter in ["s.a.b", "s.>", "s.*.c", ">"] {
        let (probed, opened) = both(nats.settings(json!({ "filter": filter }))).await;
        assert!(
            probed.contains("the consumer other takes the same subjects") && opened.contains("the consumer other"),
            "{probed} {opened}"
        );
    }
    settings(nats.settings(json!({ "filter": "s.b.*" }))).probe().await.unwrap();
    open(nats.settings(json!({ "filter": "s.b.*" }))).await;
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
    let grouped = !nats.consumer().await.cached_info().config.priority_groups.is_empty();
    assert_eq!(grouped, release == NatsRelease::Current);
    let told = settings(nats.settings(json!({}))).probe().await.map_err(|error| error.to_string());
    assert_eq!(told.is_err_and(|told| told.contains("it has priority groups (jobs)")), grouped);
}
