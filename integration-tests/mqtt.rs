//! A client of MQTT that publishes events, apart from the connector that the tests are about: the
//! packets of 3.1.1 over a connection for each.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an answer may take; without one the event is published again.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);

/// Publishes an event with QoS 1 and tells whether the broker has it, also after a crash: it answers
/// a ping once it has written what it had acknowledged before.
pub async fn publish(port: u16, topic: &str, id: &str) -> bool {
    let asked = timeout(ANSWERED_WITHIN, ask(port, topic, id)).await;
    matches!(asked, Ok(Ok(true)))
}

async fn ask(port: u16, topic: &str, id: &str) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    // Nobody in particular, with a clean session, for a minute.
    stream
        .write_all(b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0")
        .await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    if answer != *b"\x20\x02\0\0" {
        return Ok(false);
    }
    let data = crate::storm::DATA;
    let event = format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"/test","type":"order.paid","data":{data}}}"#
    );
    let mut body = length_of(topic).to_be_bytes().to_vec();
    body.extend_from_slice(topic.as_bytes());
    body.extend_from_slice(b"\0\x01");
    body.extend_from_slice(event.as_bytes());
    let length = length_of(&String::from_utf8_lossy(&body));
    // Two bytes of seven bits are enough.
    let length = [length & 0x7f | 0x80, length >> 7];
    let mut packet = vec![0x32];
    packet.extend(length.map(|byte| u8::try_from(byte).unwrap_or(0)));
    packet.extend(body);
    stream.write_all(&packet).await?;
    stream.read_exact(&mut answer).await?;
    if answer != *b"\x40\x02\0\x01" {
        return Ok(false);
    }
    stream.write_all(b"\xc0\0").await?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await?;
    // What follows has the broker close the connection.
    stream.write_all(b"\xe0\0").await?;
    Ok(answer == *b"\xd0\0")
}

fn length_of(text: &str) -> u16 {
    u16::try_from(text.len()).unwrap_or(u16::MAX)
}
