//! A client of Redis that adds events, apart from the connector that the tests are about: the words
//! of its protocol over a connection for each.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an answer may take; without one the event is added again.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);

/// The answer to a command, as far as it has come once nothing more does.
async fn ask(port: u16, words: &[&str]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let mut command = format!("*{}\r\n", words.len());
    for word in words {
        command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    // What follows has the server close the connection behind its answer.
    command.push_str("*1\r\n$4\r\nQUIT\r\n");
    stream.write_all(command.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Adds an event in binary mode and tells whether the server has it.
pub async fn publish(port: u16, stream: &str, id: &str) -> bool {
    let words = [
        "XADD",
        stream,
        "*",
        "ce_specversion",
        "1.0",
        "ce_id",
        id,
        "ce_source",
        "/test",
        "ce_type",
        "order.paid",
        "ce_datacontenttype",
        "application/json",
        "data",
        crate::storm::DATA,
    ];
    let asked = timeout(ANSWERED_WITHIN, ask(port, &words)).await;
    matches!(asked, Ok(Ok(answer)) if answer.starts_with('$') && answer.ends_with("+OK\r\n"))
}

/// The ids of the events in a stream, in its order; none where it does not answer.
pub async fn ids(port: u16, stream: &str) -> Vec<String> {
    let answer = ask(port, &["XRANGE", stream, "-", "+"])
        .await
        .unwrap_or_default();
    let mut lines = answer.lines();
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if line == "ce_id" {
            // The length stands in between.
            found.extend(lines.nth(1).map(str::to_owned));
        }
    }
    found
}
