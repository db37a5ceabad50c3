//! What is wrong, in the words of the settings, and outages.

use pointsman_test_brokers::{Fault, Proxy, Told};

use super::*;
use crate::suite::{Log, hangs, read_on};

async fn told(settings: &Value) -> String {
    source(settings).probe().await.unwrap_err().0.to_string()
}

#[tokio::test]
async fn what_mns_answers_is_said_in_the_words_of_the_settings() {
    let queue = Queue::new().await;
    let keys = |id: &str, secret: &str| json!({ "credentials": { "access_key": id, "secret_key": secret } });
    for (more, expect) in [
        (
            json!({ "queue": "no-such-queue" }),
            "queue: there is no queue no-such-queue",
        ),
        (
            keys("nobody", "s"),
            "credentials: MNS does not accept the credentials: 403 InvalidAccessKeyId",
        ),
        (
            keys(MNS_KEYS.0, "wrong"),
            "credentials: MNS does not accept the credentials: 403 SignatureDoesNotMatch",
        ),
    ] {
        let told = told(&queue.settings(more.clone())).await;
        assert!(told.starts_with(expect), "{more}: {told}");
        assert!(open(&queue.settings(more)).await.is_err());
    }
    let error = |code: &str| format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
    for (answer, expect) in [
        (
            Told::new(403, error("AccessDenied")),
            "credentials: the credentials may not use the queue",
        ),
        (
            Told::new(408, error("TimeExpired")),
            "endpoint: MNS finds the request too old",
        ),
        (
            Told::new(404, "<html>"),
            "endpoint: what answers there is not MNS",
        ),
        (
            Told::new(200, "hello"),
            "endpoint: what answers there is not MNS",
        ),
        (
            Told::new(500, error("InternalError")),
            "queue: cannot ask the queue",
        ),
    ] {
        queue.server.answer("GetQueueAttributes", answer.clone());
        let told = told(&queue.settings(json!({}))).await;
        assert!(told.starts_with(expect), "{answer:?}: {told}");
    }
}

#[tokio::test]
async fn nobody_there_is_said_where_the_address_is_written() {
    let queue = Queue::new().await;
    let nobody = format!("http://127.0.0.1:{}", pointsman_test_brokers::free_port());
    let told = told(&queue.settings(json!({ "endpoint": nobody }))).await;
    assert!(told.starts_with("endpoint: cannot reach MNS: "), "{told}");
}

#[tokio::test]
async fn a_server_that_refuses_ends_the_source_and_what_is_in_hand_is_settled_after_it() {
    let queue = Queue::new().await;
    let proxy = Proxy::start(queue.server.port());
    let endpoint = format!("http://127.0.0.1:{}", proxy.port());
    let settings = queue.settings(json!({ "endpoint": endpoint }));
    queue.send("a");
    let (mut source, _) = open(&settings).await.unwrap();
    let held = take(&mut *source, 1).await;
    proxy.set(Fault::Refuse);
    let ended = next_within(&mut *source, LONG).await.unwrap().unwrap_err();
    let told = ended.to_string();
    assert!(
        told.contains("cannot receive from the queue") && told.contains(&queue.name),
        "{told}"
    );
    drop(source);
    assert!(open(&settings).await.is_err());
    proxy.set(Fault::None);
    settle(held, &Verdict::Stored).await;
    assert_eq!(queue.left(), 0);
}

#[tokio::test]
async fn a_server_that_hangs_is_noticed_quietly_and_read_on() {
    let (log, _in_force) = Log::capture();
    let queue = Queue::new().await;
    let proxy = Proxy::start(queue.server.port());
    let endpoint = format!("http://127.0.0.1:{}", proxy.port());
    let settings = queue.settings(json!({ "endpoint": endpoint }));
    let (mut source, link) = open(&settings).await.unwrap();
    queue.send("a");
    settle(take(&mut *source, 1).await, &Verdict::Stored).await;
    hangs(&proxy, &link, &log, Duration::ZERO).await;
    queue.send("b");
    let again = async || open(&settings).await.unwrap().0;
    read_on(source, again, "b").await;
    queue.drained().await;
}
