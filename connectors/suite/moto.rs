//! What stands for AWS, one for all tests, and how it is set up.

use pointsman_test_brokers::ObjectStore;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::aws::api::{Api, JsonVersion, Reach, Service};
use crate::aws::{Access, KeyPair};
use crate::net::answer::Deadlines;
use crate::xml::Element;

/// How long an answer may take.
const WITHIN: std::time::Duration = std::time::Duration::from_secs(30);

/// The server.
pub(crate) async fn moto() -> &'static ObjectStore {
    static SERVER: OnceCell<ObjectStore> = OnceCell::const_new();
    SERVER.get_or_init(ObjectStore::start).await
}

/// The keys that anybody has.
pub(crate) fn keys() -> Value {
    json!({ "access_key": "k", "secret_key": "s" })
}

fn deadlines() -> Deadlines {
    Deadlines::new(tokio::time::Instant::now(), WITHIN)
}

/// A service of the server.
pub(crate) async fn service(name: &'static str) -> Api {
    let keys: KeyPair = serde_json::from_value(keys()).unwrap();
    let service = Service {
        name,
        access: Access {
            endpoint: None,
            region: None,
            credentials: Some(&keys),
        },
        region: None,
        endpoint: Some(moto().await.endpoint()),
    };
    Api::open(service, Reach::anywhere()).await.unwrap()
}

/// Calls an action of a service that speaks JSON.
pub(crate) async fn act(name: &'static str, action: &str, body: Value) -> Value {
    let api = service(name).await;
    let told = api.act(action, JsonVersion::V11, &body, deadlines()).await;
    told.unwrap_or_else(|failure| panic!("{action}: {failure:?}"))
}

/// Calls an action of a service that takes forms.
pub(crate) async fn query(
    name: &'static str,
    action: &str,
    version: &str,
    fields: &[(&str, &str)],
) -> Element {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let fields: Vec<_> = fields.iter().map(owned).collect();
    let api = service(name).await;
    let told = api.query(action, version, &fields, deadlines()).await;
    told.unwrap_or_else(|failure| panic!("{action}: {failure:?}"))
}

/// Posts JSON to a path of a service.
pub(crate) async fn post(name: &'static str, path: &str, body: Value) {
    let request = http::Request::post("/").header("content-type", "application/json");
    let request = request.body(body.to_string().into()).unwrap();
    let told = service(name)
        .await
        .succeed(path, request, deadlines())
        .await;
    told.unwrap_or_else(|failure| panic!("{path}: {failure:?}"));
}

/// Makes a queue with a name that no other has, and tells its URL and its ARN.
pub(crate) async fn queue() -> (String, String) {
    let name = unique("queue");
    act("sqs", "AmazonSQS.CreateQueue", json!({ "QueueName": name })).await;
    (moto().await.queue_url(&name), moto().await.queue_arn(&name))
}

/// A name that no other has.
pub(crate) fn unique(kind: &str) -> String {
    format!("{kind}-{:x}", rand::random::<u64>())
}

/// Takes the bodies of all messages out of a queue.
pub(crate) async fn take_all(url: &str) -> Vec<Value> {
    let mut bodies = Vec::new();
    loop {
        let asked = json!({ "QueueUrl": url, "MaxNumberOfMessages": 10 });
        let told = act("sqs", "AmazonSQS.ReceiveMessage", asked).await;
        let messages = told["Messages"].as_array().cloned().unwrap_or_default();
        if messages.is_empty() {
            return bodies;
        }
        for message in messages {
            let deleted = json!({ "QueueUrl": url, "ReceiptHandle": message["ReceiptHandle"] });
            act("sqs", "AmazonSQS.DeleteMessage", deleted).await;
            bodies.push(serde_json::from_str(message["Body"].as_str().unwrap()).unwrap());
        }
    }
}
