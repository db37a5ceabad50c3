//! A client of AMQP 1.0 that sends events, apart from the connector that the tests are about: what it
//! has to say, byte by byte, over a connection for each.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an answer may take; without one the event is sent again.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);

/// What SASL and the protocol itself begin with.
const SASL: &[u8; 8] = b"AMQP\x03\x01\0\0";
const PROTOCOL: &[u8; 8] = b"AMQP\0\x01\0\0";

/// The codes of what a broker says.
const FLOW: u8 = 0x13;
const DISPOSITION: u8 = 0x15;
const OUTCOME: u8 = 0x44;
const ACCEPTED: &[u8] = b"\0\x53\x24";

/// Sends an event as a durable message to an address and returns whether the broker has accepted
/// it.
pub async fn amqp_send(port: u16, address: &str, id: &str) -> bool {
    let asked = timeout(ANSWERED_WITHIN, ask(port, address, id)).await;
    matches!(asked, Ok(Ok(true)))
}

async fn ask(port: u16, address: &str, id: &str) -> io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(SASL).await?;
    expect(&mut stream, SASL).await?;
    let nobody = performative(0x41, &[b"\xa3\x09ANONYMOUS"]);
    stream.write_all(&frame(1, &nobody)).await?;
    until(&mut stream, OUTCOME).await?;

    let window = b"\x70\0\0\x08\0";
    let container = [
        b"\xa1\x10",
        format!("tests-{:010x}", rand::random::<u32>()).as_bytes(),
    ]
    .concat();
    let target = performative(0x29, &[&text(address)]);
    let mut said = PROTOCOL.to_vec();
    said.extend(frame(0, &performative(0x10, &[&container])));
    said.extend(frame(
        0,
        &performative(0x11, &[b"\x40", b"\x43", window, window]),
    ));
    let link = performative(
        0x12,
        &[
            &text("link"),
            b"\x43",
            b"\x42",
            b"\x40",
            b"\x40",
            b"\0\x53\x28\x45",
            &target,
            b"\x40",
            b"\x40",
            b"\x43",
        ],
    );
    said.extend(frame(0, &link));
    stream.write_all(&said).await?;
    expect(&mut stream, PROTOCOL).await?;
    until(&mut stream, FLOW).await?;

    let data = crate::storm::DATA;
    let event = format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"/test","type":"order.paid","data":{data}}}"#
    );
    let mut transfer = performative(0x14, &[b"\x43", b"\x43", b"\xa0\x01\0", b"\x43", b"\x42"]);
    // Durable, and a section of data.
    transfer.extend(performative(0x70, &[b"\x41"]));
    transfer.extend(b"\0\x53\x75\xb0");
    transfer.extend(u32::try_from(event.len()).unwrap_or(0).to_be_bytes());
    transfer.extend(event.as_bytes());
    stream.write_all(&frame(0, &transfer)).await?;
    let told = until(&mut stream, DISPOSITION).await?;
    stream.write_all(&frame(0, b"\0\x53\x18\x45")).await?;
    Ok(told
        .windows(ACCEPTED.len())
        .any(|window| window == ACCEPTED))
}

fn text(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    [&[0xa1, length], text.as_bytes()].concat()
}

/// A list with a code; all that is said here is short.
fn performative(code: u8, fields: &[&[u8]]) -> Vec<u8> {
    let all = fields.concat();
    let size = u8::try_from(all.len() + 1).unwrap_or(u8::MAX);
    let count = u8::try_from(fields.len()).unwrap_or(u8::MAX);
    [&[0, 0x53, code, 0xc0, size, count], &*all].concat()
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len() + 8).unwrap_or(u32::MAX);
    [&size.to_be_bytes(), &[2, kind, 0, 0], body].concat()
}

async fn expect(stream: &mut TcpStream, protocol: &[u8; 8]) -> io::Result<()> {
    let mut said = [0; 8];
    stream.read_exact(&mut said).await?;
    match said == *protocol {
        true => Ok(()),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Reads frames until one has this code.
async fn until(stream: &mut TcpStream, code: u8) -> io::Result<Vec<u8>> {
    loop {
        let size = usize::try_from(stream.read_u32().await?).unwrap_or(usize::MAX);
        let mut rest = vec![0; size.clamp(8, 1 << 20) - 4];
        stream.read_exact(&mut rest).await?;
        match rest.get(4..) {
            Some([0, 0x53, found, ..]) if *found == code => return Ok(rest),
            // The end of the link, the session or the connection.
            Some([0, 0x53, 0x16..=0x18, ..]) => return Err(io::ErrorKind::ConnectionAborted.into()),
            _ => {}
        }
    }
}
