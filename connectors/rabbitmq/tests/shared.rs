//! Many messages on their way by one channel.

use futures::future::join_all;
use lapin::ExchangeKind;
use lapin::options::{
    ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueuePurgeOptions,
};
use pointsman_schemas::{Class, Outcome};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tower::ServiceExt;

use super::target::{came_to, publish, service};
use super::*;
use crate::suite::attempt;
use crate::{Attempt, TargetService};

/// An attempt at one delivery of its own.
fn numbered(number: u64, texts: &[&str]) -> Attempt {
    let mut one = attempt(&[&number.to_string()], 0);
    one.deliveries[0].id.sequence.0 = number;
    one.deliveries[0].texts = texts.iter().map(|text| (*text).to_owned()).collect();
    one
}

async fn outcome(service: &TargetService, attempt: Attempt) -> Outcome {
    match service.clone().oneshot(attempt).await {
        Ok(outcomes) => outcomes.into_iter().next().unwrap(),
        Err(error) => Outcome::new(error.class, error.message),
    }
}

/// Begins to publish a message of its own.
fn begin(service: &TargetService, attempt: Attempt) -> JoinHandle<Outcome> {
    let service = service.clone();
    tokio::spawn(async move { outcome(&service, attempt).await })
}

impl Queue {
    /// How many messages it holds.
    async fn holds(&self) -> u32 {
        let passive = QueueDeclareOptions::default().passive();
        let declared =
            self.channel
                .queue_declare(self.name.as_str().into(), passive, FieldTable::default());
        declared.await.unwrap().message_count()
    }

    /// Makes an exchange of its own that leads to this queue.
    async fn led_to_by(&self, exchange: &str) {
        let options = ExchangeDeclareOptions::default();
        let declared = self.channel.exchange_declare(
            exchange.into(),
            ExchangeKind::Fanout,
            options,
            FieldTable::default(),
        );
        declared.await.unwrap();
        let bound = self.channel.queue_bind(
            self.name.as_str().into(),
            exchange.into(),
            "".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        bound.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_on_their_way_each_ends_by_its_own_confirmation() {
    let queue = Queue::new("classic", &[]).await;
    let full = [
        ("x-max-length", AMQPValue::LongLongInt(1)),
        ("x-overflow", text("reject-publish")),
    ];
    let full = Queue::new("classic", &full).await;
    full.publish("1", plain()).await;
    let service = service(&json!({ "url": queue.url, "routing_key": "<$.subject>" })).await;
    let ways = [
        (queue.name.as_str(), Class::Delivered),
        ("nowhere", Class::Failed),
        (queue.name.as_str(), Class::Delivered),
        (full.name.as_str(), Class::Throttled),
        ("elsewhere", Class::Failed),
    ];
    // The first has a channel to itself. From then on they share one.
    came_to(
        &publish(&service, "0", &[&queue.name]).await,
        Class::Delivered,
        &[],
    );
    for round in 0..5 {
        let calls = (0..300).map(|number| {
            let (key, class) = ways[number as usize % ways.len()];
            let service = &service;
            async move {
                let outcome = outcome(service, numbered(number, &[key])).await;
                assert_eq!(
                    outcome.class, class,
                    "{round} {number} to {key}: {outcome:?}"
                );
                assert!(
                    class != Class::Failed || outcome.message.contains(key),
                    "{outcome:?}"
                );
            }
        });
        join_all(calls).await;
        assert_eq!(queue.holds().await, 1 + 120 * (round + 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_one_message_has_closed_costs_the_others_nothing() {
    let queue = Queue::new("classic", &[]).await;
    let (stays, goes) = (
        format!("{}-stays", queue.name),
        format!("{}-goes", queue.name),
    );
    for exchange in [&stays, &goes] {
        queue.led_to_by(exchange).await;
    }
    let settings = json!({ "url": queue.url, "exchange": "<$.subject>", "routing_key": "x", "mandatory": false });
    let service = service(&settings).await;
    for exchange in [&stays, &goes] {
        came_to(
            &publish(&service, "0", &[exchange]).await,
            Class::Delivered,
            &[],
        );
    }
    for round in 0..2 {
        let deleted = queue
            .channel
            .exchange_delete(goes.as_str().into(), ExchangeDeleteOptions::default());
        deleted.await.unwrap();
        let purged = queue
            .channel
            .queue_purge(queue.name.as_str().into(), QueuePurgeOptions::default());
        purged.await.unwrap();
        let calls = (0..200).map(|number| {
            let (service, stays, goes) = (&service, &stays, &goes);
            async move {
                let (exchange, class) = match number % 10 {
                    7 => (goes, Class::Failed),
                    _ => (stays, Class::Delivered),
                };
                let outcome = outcome(service, numbered(number, &[exchange])).await;
                let words: &[&str] = match class {
                    Class::Failed => &["no exchange", "code 404"],
                    _ => &[],
                };
                came_to(&outcome, class, words);
            }
        });
        join_all(calls).await;
        // What was taken before the channel was closed came once more.
        let holds = queue.holds().await;
        assert!((180..=360).contains(&holds), "{round}: {holds}");
        queue.led_to_by(&goes).await;
        came_to(
            &publish(&service, "0", &[&goes]).await,
            Class::Delivered,
            &[],
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_confirmed_in_time_fails_and_holds_nobody_up() {
    let server = &server().await.0;
    let (queue, stuck) = (
        Queue::new("classic", &[]).await,
        Queue::new("classic", &[]).await,
    );
    let service = service(&json!({ "url": queue.url, "routing_key": "<$.subject>" })).await;
    came_to(
        &publish(&service, "0", &[&queue.name]).await,
        Class::Delivered,
        &[],
    );
    let process = |what: &str| {
        server.ctl(&[
            "eval",
            &format!(
                "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"{}\">>)), \
                 sys:{what}(amqqueue:get_pid(Q)).",
                stuck.name
            ),
        ])
    };
    let _suspended = process("suspend");
    let waiting: Vec<_> = (0..20)
        .map(|number| {
            let mut late = numbered(number, &[&stuck.name]);
            late.timeout = Duration::from_secs(8);
            begin(&service, late)
        })
        .collect();
    let others = (20..220).map(|number| outcome(&service, numbered(number, &[&queue.name])));
    for outcome in timeout(LONG, join_all(others)).await.unwrap() {
        assert_eq!(outcome, Outcome::delivered());
    }
    assert!(waiting.iter().all(|one| !one.is_finished()), "they wait");
    for one in waiting {
        came_to(&one.await.unwrap(), Class::Failed, &["did not confirm"]);
    }
    assert_eq!(
        publish(&service, "0", &[&queue.name]).await,
        Outcome::delivered()
    );
    let _resumed = process("resume");
    assert_eq!(
        publish(&service, "0", &[&stuck.name]).await,
        Outcome::delivered()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_ends_all_that_are_on_their_way() {
    let mut server = RabbitServer::start("", "").await;
    let queue = Queue::at(&server.url(), "classic", &[]).await;
    let service = service(&json!({ "url": queue.url, "routing_key": queue.name })).await;
    assert_eq!(publish(&service, "0", &[]).await, Outcome::delivered());
    let _suspended = server.ctl(&[
        "eval",
        &format!(
            "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"{}\">>)), \
             sys:suspend(amqqueue:get_pid(Q)).",
            queue.name
        ),
    ]);
    let waiting: Vec<_> = (1..=100)
        .map(|number| begin(&service, numbered(number, &[])))
        .collect();
    let unconfirmed = || server.ctl(&["-q", "list_channels", "messages_unconfirmed"]);
    let all_are_there = async {
        while !unconfirmed().lines().any(|line| line.trim() == "100") {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LONG, all_are_there).await.unwrap();
    server.kill();
    for one in waiting {
        let outcome = timeout(LONG, one).await.unwrap().unwrap();
        assert_eq!(outcome.class, Class::Unavailable, "{outcome:?}");
    }
    server.restart().await;
    let again = (1..=100).map(|number| {
        let service = &service;
        async move {
            while outcome(service, numbered(number, &[])).await != Outcome::delivered() {
                sleep(Duration::from_millis(50)).await;
            }
        }
    });
    timeout(LONG, join_all(again)).await.unwrap();
    let queue_again = Queue {
        name: queue.name.clone(),
        ..Queue::at(&server.url(), "classic", &[]).await
    };
    assert!(queue_again.holds().await >= 101);
}
