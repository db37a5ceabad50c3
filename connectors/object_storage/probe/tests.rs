use pointsman_schemas::Text;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::aws::KeyPair;
use crate::object_storage::connection::Connection;

/// A store that answers each request with a status, headers and a body of its own.
async fn answering(status: u16, headers: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 16 * 1024];
            let length = stream.read(&mut request).await.unwrap_or_default();
            let body = if request[..length].starts_with(b"HEAD") {
                ""
            } else {
                body
            };
            let answer = format!(
                "HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    format!("http://{address}")
}

async fn found(endpoint: &str, bucket: &str) -> String {
    let (endpoint, bucket) = (Text::from(endpoint), Text::from(bucket));
    let keys = KeyPair {
        access_key: Text::from("key"),
        secret_key: Text::from("secret"),
        session_token: None,
    };
    let connection = Connection {
        endpoint: Some(&endpoint),
        bucket: &bucket,
        region: None,
        credentials: Some(&keys),
        path_style: None,
    };
    let opened = connection.open(1).await.unwrap();
    opened.find().await.unwrap_err().to_string()
}

#[tokio::test]
async fn what_a_store_answers_is_said_in_the_words_of_the_settings() {
    const IRELAND: &str = "x-amz-bucket-region: eu-west-1\r\n";
    const MALFORMED: &str = "<Error><Code>AuthorizationHeaderMalformed</Code><Message>the region 'us-east-1' is wrong; expecting 'eu-west-1'</Message></Error>";
    const DENIED: &str = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
    const HTTPS: &str = "Client sent an HTTP request to an HTTPS server.\n";
    let elsewhere =
        "region: the bucket photos is in the region eu-west-1, not in us-east-1 (set this region)";
    for (status, headers, body, bucket, expect) in [
        (301, IRELAND, "", "photos", elsewhere),
        (400, IRELAND, "", "photos", elsewhere),
        (403, IRELAND, DENIED, "photos", elsewhere),
        (
            301,
            "",
            "",
            "photos",
            "region: the bucket photos is in another region than us-east-1",
        ),
        (
            400,
            "",
            MALFORMED,
            "photos",
            "region: the bucket photos is in another region: 400 AuthorizationHeaderMalformed",
        ),
        (
            403,
            "",
            DENIED,
            "photos",
            "bucket: the store does not let us see the bucket photos: 403 AccessDenied",
        ),
        (404, "", "", "photos", "bucket: there is no bucket photos ("),
        (
            404,
            "",
            "",
            "Photos",
            "bucket: there is no bucket \"Photos\", and none can have that name: it has no capital",
        ),
        (
            400,
            "",
            "",
            "ab",
            "bucket: there is no bucket \"ab\", and none can have that name: it has 3 to 63",
        ),
        (
            404,
            "",
            "",
            "photos--x-s3",
            "bucket: there is no bucket photos--x-s3 (",
        ),
        (
            400,
            "",
            HTTPS,
            "photos",
            "endpoint: the store speaks TLS there (write https://",
        ),
        (503, "", "", "photos", "endpoint: the store answers 503"),
    ] {
        let told = found(&answering(status, headers, body).await, bucket).await;
        assert!(told.starts_with(expect), "{status} {bucket}: {told}");
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_reached_is_said_in_the_words_of_the_settings() {
    let store = answering(200, "", "").await;
    let tls = store.replace("http://", "https://");
    for (endpoint, expect) in [
        (
            &*tls,
            "endpoint: cannot reach the store: the server does not speak TLS there (write http://",
        ),
        (
            "http://127.0.0.1:1",
            "endpoint: cannot reach the store: Connection refused",
        ),
        (
            "http://no-such-host.invalid",
            "endpoint: cannot reach the store: its host name has no address (check the spelling",
        ),
    ] {
        let told = found(endpoint, "photos").await;
        assert!(told.starts_with(expect), "{endpoint}: {told}");
    }
}
