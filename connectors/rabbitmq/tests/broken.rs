//! What is wrong is said in words.

use std::sync::Arc;

use lapin::options::BasicAckOptions;
use pointsman_schemas::{Class, Name, SystemClock};

use super::source::{body, ends, event, take};
use super::target::{came_to, publish, service};
use super::*;
use crate::Verdict;
use crate::rabbitmq::RabbitmqSource;
use crate::rabbitmq::consume::{Consuming, Reading};

impl RabbitmqSource {
    /// A source whose channel a test may spoil.
    pub(super) async fn consuming(&self) -> Consuming {
        let (address, queue) = self.resolved("test".to_owned()).unwrap();
        let name = Name::new("spoilt").unwrap();
        let clock = Arc::new(SystemClock);
        let reading = Reading { name: name.clone(), mapped: false, clock: clock.clone(), stream: None, nonce: 0 };
        self.consume(&address, &queue, None, reading, Link::new(name, clock)).await.unwrap()
    }
}

#[tokio::test]
async fn a_server_that_does_not_let_us_in() {
    let queue = Queue::new("classic", &[]).await;
    let closed = format!("amqp://127.0.0.1:{}", free_port());
    for (more, class, words, help) in [
        (
            json!({ "username": "app", "password": "hunter2" }),
            Class::Refused,
            ["username: cannot connect to RabbitMQ", "Login was refused"],
            "(check username and password)",
        ),
        (
            json!({ "vhost": "elsewhere" }),
            Class::Refused,
            ["vhost: cannot connect to RabbitMQ", "vhost elsewhere not found"],
            "(make the vhost",
        ),
        (json!({ "url": closed }), Class::Unavailable, ["url: cannot connect to RabbitMQ", "refused"], "(check that RabbitMQ runs"),
    ] {
        let settings = queue.settings(more);
        for problem in [open(&settings).await.err().unwrap().0, source(&settings).probe().await.unwrap_err().0] {
            told(&problem, &words);
            told(&problem, &[help]);
            assert!(!problem.to_string().contains("hunter2"));
        }
        let mut settings = settings;
        let name = settings.as_object_mut().unwrap().remove("queue").unwrap();
        settings["routing_key"] = name;
        came_to(&publish(&service(&settings).await, "1", &[]).await, class, &words[1..]);
    }
}

#[tokio::test]
async fn a_queue_that_is_there_is_told_of() {
    let queue = Queue::new("quorum", &[]).await;
    queue.publish("1", plain()).await;
    let found = source(&queue.settings(json!({}))).probe().await.unwrap();
    assert!(
        found.starts_with("RabbitMQ ")
            && found.contains(" at 127.0.0.1")
            && found.contains("vhost /: the queue")
            && found.contains("holds 1 messages and has 0 consumers"),
        "{found}"
    );
    let declared = source(&queue.settings(json!({ "declare": { "type": "classic" } }))).probe().await.unwrap();
    assert_eq!(declared, format!("{found}; whether it is as declared shows when the source starts"));
    assert!(queue.get().await.is_some(), "nothing was taken");
}

#[tokio::test]
async fn a_queue_that_is_deleted_ends_the_source_with_words() {
    let queue = Queue::new("classic", &[]).await;
    let (mut source, _link) = open(&queue.settings(json!({}))).await.unwrap();
    queue.channel.queue_delete(queue.name.as_str().into(), lapin::options::QueueDeleteOptions::default()).await.unwrap();
    let why = ends(&mut *source).await;
    assert!(why.contains("the queue has been deleted"), "{why}");
}

#[tokio::test]
async fn a_tag_that_the_server_does_not_know_ends_the_source_and_loses_nothing() {
    let queue = Queue::new("classic", &[]).await;
    let settings: RabbitmqSource = serde_json::from_value(queue.settings(json!({}))).unwrap();
    let mut source = settings.consuming().await;
    queue.publish("1", plain()).await;
    let held = take(&mut source, 1).await.remove(0);
    source.channel().basic_ack(99, BasicAckOptions::default()).await.unwrap();
    let why = ends(&mut source).await;
    assert!(why.contains("unknown delivery tag 99 (code 406)"), "{why}");
    let (mut source, _link) = open(&queue.settings(json!({}))).await.unwrap();
    let again = take(&mut *source, 1).await.remove(0);
    assert_eq!(body(&event(&again)), "1");
    held.acknowledgement.tell(Verdict::Stored).await;
    again.acknowledgement.tell(Verdict::Stored).await;
    queue.publish("2", plain()).await;
    assert_eq!(body(&event(&take(&mut *source, 1).await[0])), "2", "the new channel stands");
}

#[tokio::test]
async fn tls() {
    let (_, port) = server().await;
    let queue = Queue::new("classic", &[]).await;
    let ca = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("http/target/tls/ca.pem");
    let settings = |more: Value| queue.settings(more);
    let trusting = settings(json!({ "url": format!("amqps://localhost:{port}"), "tls": { "ca": { "file": ca } } }));
    let (mut source, _link) = open(&trusting).await.unwrap();
    queue.publish("1", plain()).await;
    let message = take(&mut *source, 1).await.remove(0);
    assert_eq!(body(&event(&message)), "1");
    message.acknowledgement.tell(Verdict::Stored).await;
    let OpenError(problem) = open(&settings(json!({ "url": format!("amqps://localhost:{port}") }))).await.err().unwrap();
    told(&problem, &["tls: cannot connect to RabbitMQ", "signed by nobody who is trusted", "tls: { ca:"]);
}
