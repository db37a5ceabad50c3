//! What is wrong, in the words of the settings.

use super::*;

async fn told(settings: &Value) -> String {
    source(settings).probe().await.unwrap_err().0.to_string()
}

#[tokio::test]
async fn a_queue_that_is_not_there_is_named() {
    let queue = Queue::new().await;
    for missing in [
        json!({ "queue": "no-such-queue" }),
        json!({ "queue": server().await.queue_url("no-such-queue") }),
    ] {
        let told = told(&queue.settings(missing)).await;
        assert!(
            told.starts_with("queue: there is no queue no-such-queue"),
            "{told}"
        );
    }
    assert!(
        open(&queue.settings(json!({ "queue": "no-such-queue" })))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn what_sqs_answers_is_said_in_the_words_of_the_settings() {
    let queue = Queue::new().await;
    for (status, answer, expect) in [
        (
            400,
            r#"{"__type":"com.amazonaws.sqs#InvalidClientTokenId","message":"no such token"}"#,
            "credentials: SQS does not accept the credentials",
        ),
        (
            403,
            r#"{"__type":"com.amazon.coral.service#AccessDeniedException","message":"not allowed"}"#,
            "credentials: the credentials may not use the queue",
        ),
        (
            400,
            r#"{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"none"}"#,
            "queue: there is no queue",
        ),
        (404, "<html>", "endpoint: what answers there is not SQS"),
        (500, "{}", "endpoint: what answers there is not SQS"),
    ] {
        let server = Canned::start(move |_, _| (status, answer.to_owned())).await;
        let settings = queue.settings(json!({ "endpoint": server.endpoint() }));
        let told = told(&settings).await;
        assert!(told.starts_with(expect), "{status} {answer}: {told}");
    }
}

#[tokio::test]
async fn nobody_there_is_said_where_the_address_is_written() {
    let queue = Queue::new().await;
    let nobody = format!("http://127.0.0.1:{}", pointsman_test_brokers::free_port());
    let by_endpoint = told(&queue.settings(json!({ "endpoint": nobody }))).await;
    assert!(
        by_endpoint.starts_with("endpoint: cannot reach SQS: "),
        "{by_endpoint}"
    );
    let url = format!("{nobody}/123456789012/orders");
    let by_url = told(&queue.settings(json!({ "queue": url, "endpoint": null }))).await;
    assert!(by_url.starts_with("queue: cannot reach SQS: "), "{by_url}");
}

#[tokio::test]
async fn whoever_may_receive_need_not_be_allowed_to_look() {
    let server = Canned::start(|action, _| match action {
        "GetQueueUrl" => (200, r#"{"QueueUrl":"http://h/1/orders"}"#.to_owned()),
        _ => (
            403,
            r#"{"__type":"com.amazonaws.sqs#AccessDenied","message":"no"}"#.to_owned(),
        ),
    })
    .await;
    let queue = Queue::new().await;
    let settings = queue.settings(json!({ "endpoint": server.endpoint() }));
    let told = source(&settings).probe().await.unwrap();
    assert!(told.contains("may not be asked"), "{told}");
}

#[tokio::test]
async fn what_was_deleted_in_part_is_deleted_for_the_rest() {
    // Of the first call, one is refused by its own fault, one by the queue's.
    let messages: Vec<_> = (0..4)
        .map(|n| json!({ "MessageId": n.to_string(), "ReceiptHandle": format!("r{n}"), "Body": "x" }))
        .collect();
    let messages = json!({ "Messages": messages }).to_string();
    let server = Canned::start(move |action, count| match (action, count) {
        ("GetQueueUrl", _) => (200, r#"{"QueueUrl":"http://h/1/orders"}"#.to_owned()),
        ("ReceiveMessage", 0) => (200, messages.clone()),
        ("DeleteMessageBatch", 0) => (
            200,
            r#"{"Successful":[{"Id":"0"},{"Id":"3"}],"Failed":[
                {"Id":"1","Code":"ReceiptHandleIsInvalid","SenderFault":true},
                {"Id":"2","Code":"InternalError","SenderFault":false}]}"#
                .to_owned(),
        ),
        ("DeleteMessageBatch", _) => (200, r#"{"Successful":[{"Id":"0"}],"Failed":[]}"#.to_owned()),
        ("ReceiveMessage", _) => (200, "{}".to_owned()),
        _ => (200, r#"{"Successful":[],"Failed":[]}"#.to_owned()),
    })
    .await;
    let queue = Queue::new().await;
    let settings = queue.settings(json!({ "endpoint": server.endpoint() }));
    let (mut source, _) = open(&settings).await.unwrap();
    let taken = take(&mut *source, 4).await;
    settle(taken, &Verdict::Stored).await;
    let deleted: Vec<Vec<String>> = server
        .asked("DeleteMessageBatch")
        .iter()
        .map(|asked| {
            let entries = asked["Entries"].as_array().unwrap();
            let receipt = |entry: &Value| entry["ReceiptHandle"].as_str().unwrap().to_owned();
            entries.iter().map(receipt).collect()
        })
        .collect();
    assert_eq!(deleted, [vec!["r0", "r1", "r2", "r3"], vec!["r2"]]);
}
