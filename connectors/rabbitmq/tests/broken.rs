//! What is wrong is said in words.

use pointsman_schemas::Class;

use super::source::{body, ends, event, take};
use super::target::{came_to, publish, service};
use super::*;
use crate::Verdict;

#[tokio::test]
async fn a_server_that_does_not_let_us_in() {
    let queue = Queue::new("classic", &[]).await;
    let closed = format!("amqp://127.0.0.1:{}", free_port());
    for (more, class, words) in [
        (
            json!({ "username": "app", "password": "hunter2" }),
            Class::Refused,
            ["username: cannot connect to RabbitMQ", "Login was refused"],
        ),
        (json!({ "vhost": "elsewhere" }), Class::Refused, ["username: cannot connect to RabbitMQ", "vhost elsewhere not found"]),
        (json!({ "url": closed }), Class::Unavailable, ["url: cannot connect to RabbitMQ", "refused"]),
    ] {
        let settings = queue.settings(more);
        for problem in [open(&settings).await.err().unwrap().0, source(&settings).probe().await.unwrap_err().0] {
            told(&problem, &words);
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
    assert!(found.contains("vhost /: the queue") && found.contains("holds 1 messages and has 0 consumers"), "{found}");
    assert!(queue.get().await.is_some(), "nothing was taken");
}

#[tokio::test]
async fn a_queue_that_is_deleted_ends_the_source_with_words() {
    let queue = Queue::new("classic", &[]).await;
    let (mut source, _link) = open(&queue.settings(json!({}))).await.unwrap();
    queue.channel.queue_delete(queue.name.as_str().into(), lapin::options::QueueDeleteOptions::default()).await.unwrap();
    let why = ends(&mut *source).await;
    assert!(why.contains("has the queue been deleted?"), "{why}");
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
    told(&problem, &["url: cannot connect to RabbitMQ", "certificate"]);
}
