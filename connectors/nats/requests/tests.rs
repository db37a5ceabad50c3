use async_nats::HeaderMap;
use async_nats::jetstream::consumer::Config;
use tokio::time::advance;

use super::*;

const BYTES_MIN: usize = 1_000;

fn requests(config: &Config) -> Requests {
    Requests::new("_INBOX.x".to_owned(), Limits::of(config))
}

/// What the server says to one request, with what it leaves of it.
fn status(number: u64, status: u16, description: &str, left: Option<(usize, usize)>) -> Message {
    let headers = left.map(|(messages, bytes)| {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Pending-Messages", messages.to_string());
        headers.insert("Nats-Pending-Bytes", bytes.to_string());
        headers
    });
    Message {
        subject: format!("_INBOX.x.{number}").into(),
        reply: None,
        payload: bytes::Bytes::new(),
        headers,
        status: Some(StatusCode::from_u16(status).unwrap()),
        description: Some(description.to_owned()),
        length: 0,
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_has_ended_is_no_fault_and_ends_no_other() {
    for (code, description, left, expect) in [
        (
            408,
            "Request Timeout",
            Some((10, 9_000)),
            RequestStatus::Completed,
        ),
        (
            408,
            "Interest Expired",
            Some((10, 9_000)),
            RequestStatus::Completed,
        ),
        (408, "Requests Pending", None, RequestStatus::Completed),
        (404, "No Messages", None, RequestStatus::Completed),
        (
            409,
            "Batch Completed",
            Some((0, 9_000)),
            RequestStatus::Completed,
        ),
        (
            409,
            "Message Size Exceeds MaxBytes",
            Some((7, 100)),
            RequestStatus::Completed,
        ),
        (
            409,
            "Server Shutdown",
            Some((10, 10_000)),
            RequestStatus::Completed,
        ),
        (409, "Leadership Change", None, RequestStatus::Completed),
        (409, "Exceeded MaxWaiting", None, RequestStatus::Completed),
        (
            409,
            "Message Size Exceeds MaxBytes",
            Some((10, 10_000)),
            RequestStatus::InspectConsumer(
                "the next message is larger than the 10000 bytes that one request may bring; \
                 raise max_bytes of the consumer, or the server's max_payload"
                    .into(),
            ),
        ),
        (
            409,
            "Consumer Deleted",
            None,
            RequestStatus::InspectConsumer(
                "the NATS server ends each request for messages: 409 Consumer Deleted".into(),
            ),
        ),
        (
            409,
            "Consumer is push based",
            None,
            RequestStatus::InspectConsumer(
                "the NATS server ends each request for messages: 409 Consumer is push based".into(),
            ),
        ),
        (
            409,
            "Exceeded MaxRequestBatch of 3",
            None,
            RequestStatus::InspectConsumer(
                "the NATS server ends each request for messages: 409 Exceeded MaxRequestBatch \
                 of 3"
                    .into(),
            ),
        ),
        (
            400,
            "Bad Request - Priority Group missing",
            None,
            RequestStatus::InspectConsumer(
                "the NATS server ends each request for messages: 400 Bad Request - Priority \
                 Group missing"
                    .into(),
            ),
        ),
        (
            423,
            "Nats-Wrong-Pin-Id",
            Some((10, 10_000)),
            RequestStatus::InspectConsumer(
                "the NATS server ends each request for messages: 423 Nats-Wrong-Pin-Id".into(),
            ),
        ),
        (
            503,
            "",
            None,
            RequestStatus::InspectConsumer("nobody answers for the consumer".into()),
        ),
    ] {
        let mut requests = requests(&Config::default());
        requests.open(10, BYTES_MIN, 10_000);
        requests.open(20, BYTES_MIN, 20_000);
        let brought = left.map_or(0, |(messages, _): (usize, usize)| 10 - messages);
        for _ in 0..brought {
            requests.arrived(100);
        }
        let bytes =
            30_000 - brought * 100 - left.map_or(10_000, |(_, bytes): (usize, usize)| bytes);
        assert_eq!(
            requests.on_status(&status(1, code, description, left)),
            expect,
            "{code} {description}"
        );
        assert_eq!(
            requests.to_come(),
            (20, bytes.min(20_000)),
            "{code} {description}: the other goes on"
        );
        assert_eq!(
            requests.on_status(&status(1, 409, "Consumer Deleted", None)),
            RequestStatus::Completed,
            "nobody waits for it any more"
        );
        assert_eq!(requests.to_come().0, 20);
    }
}

#[tokio::test(start_paused = true)]
async fn what_ends_without_a_word_is_forgotten() {
    let mut requests = requests(&Config::default());
    requests.open(2, BYTES_MIN, 10_000);
    requests.arrived(100);
    requests.arrived(100);
    assert_eq!(
        (requests.to_come(), requests.silent_at()),
        ((0, 0), None),
        "a server before 2.10 does not tell of one that is filled"
    );

    requests.open(2, BYTES_MIN, 10_000);
    advance(Duration::from_secs(20)).await;
    requests.open(3, BYTES_MIN, 10_000);
    advance(Duration::from_secs(20)).await;
    requests.expire();
    assert_eq!(
        requests.to_come(),
        (3, 10_000),
        "the first never reached the server"
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_consumer_allows_is_kept_to() {
    let config = Config {
        max_batch: 3,
        max_bytes: 2_000,
        max_waiting: 2,
        max_expires: Duration::from_secs(4),
        ..Config::default()
    };
    let mut requests = requests(&config);
    for _ in 0..2 {
        assert!(requests.may_ask());
        let (request, _) = requests.open(512, BYTES_MIN, 1_000_000);
        assert_eq!((request.batch, request.max_bytes), (3, 2_000));
        assert_eq!(
            (request.expires, request.idle_heartbeat),
            (Some(Duration::from_secs(4)), Duration::from_secs(2))
        );
    }
    assert!(!requests.may_ask());
}

#[tokio::test(start_paused = true)]
async fn what_brings_nothing_is_asked_for_ever_more_slowly() {
    let mut requests = requests(&Config::default());
    for millis in [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
        requests.open(10, BYTES_MIN, 10_000);
        let status_of =
            requests.on_status(&status(requests.last, 409, "Exceeded MaxWaiting", None));
        assert_eq!(
            status_of == RequestStatus::Completed,
            millis < 400,
            "{status_of:?}"
        );
        assert_eq!(
            requests.not_before(),
            Some(Instant::now() + Duration::from_millis(millis))
        );
    }
    requests.open(10, BYTES_MIN, 10_000);
    advance(Duration::from_secs(30)).await;
    requests.arrived(10);
    assert_eq!(requests.not_before(), None);
    assert_eq!(
        requests.on_status(&status(
            requests.last,
            408,
            "Request Timeout",
            Some((9, 9_990))
        )),
        RequestStatus::Completed
    );
    assert_eq!(
        requests.not_before(),
        None,
        "one whose time is over is replaced at once"
    );
}

#[tokio::test(start_paused = true)]
async fn bytes_follow_what_messages_take() {
    let mut requests = requests(&Config::default());
    for _ in 0..200 {
        requests.open(512, BYTES_MIN, 32_000_000);
        requests.arrived(1_000);
    }
    let bytes = |requests: &mut Requests| requests.open(512, BYTES_MIN, 32_000_000).0.max_bytes;
    assert!((1_000_000..1_100_000).contains(&bytes(&mut requests)));
    for _ in 0..200 {
        requests.arrived(1_000_000);
    }
    assert_eq!(
        bytes(&mut requests),
        32_000_000,
        "no more than there is room for"
    );
}
