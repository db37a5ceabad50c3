//! What a server says of itself before anybody has logged in: `Connection.Start`, AMQP 0.9.1, section 1.4.2.1. The client library keeps
//! that to itself, so the probe asks once more.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a server may take for it.
const GREETING_TIMEOUT: Duration = Duration::from_secs(3);

/// More than any server says.
const GREETING_BYTES_MAX: u32 = 16 * 1024;

/// The server's product and version; none where it does not tell.
pub(super) async fn product(address: SocketAddr) -> Option<String> {
    let greeting = timeout(GREETING_TIMEOUT, greeting(address)).await.ok()?.ok()?;
    read(&greeting)
}

/// The payload of the first frame.
async fn greeting(address: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"AMQP\0\0\x09\x01").await?;
    let (_kind, _channel, length) = (stream.read_u8().await?, stream.read_u16().await?, stream.read_u32().await?);
    if length > GREETING_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut payload = vec![0; usize::try_from(length).unwrap_or_default()];
    stream.read_exact(&mut payload).await?;
    Ok(payload)
}

/// Reads class and method, two bytes of version, and the table of the server's properties.
fn read(payload: &[u8]) -> Option<String> {
    let mut table = sized(&mut payload.strip_prefix(&[0, 10, 0, 10])?.get(2..)?)?;
    let (mut product, mut version) = (None, None);
    while let Some((&length, rest)) = table.split_first() {
        let (name, rest) = rest.split_at_checked(usize::from(length))?;
        let (&kind, rest) = rest.split_first()?;
        table = rest;
        let value = match kind {
            b'S' | b'x' | b'F' | b'A' => sized(&mut table)?,
            other => {
                let length = match other {
                    b'V' => 0,
                    b't' | b'b' | b'B' => 1,
                    b's' | b'u' | b'U' => 2,
                    b'i' | b'I' | b'f' => 4,
                    b'D' => 5,
                    _ => 8,
                };
                let (value, rest) = table.split_at_checked(length)?;
                table = rest;
                value
            }
        };
        match name {
            b"product" => product = printable(value),
            b"version" => version = printable(value),
            _ => {}
        }
    }
    Some(format!("{} {}", product?, version?))
}

/// A part with its length in front.
fn sized<'p>(payload: &mut &'p [u8]) -> Option<&'p [u8]> {
    let (length, rest) = payload.split_first_chunk::<4>()?;
    let (part, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    *payload = rest;
    Some(part)
}

/// Whoever answers there may answer anything, and this is shown to a person.
fn printable(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    (text.len() <= 64 && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_is_read_or_there_is_none() {
        let entry = |name: &str, kind: u8, value: &[u8]| {
            let length = u32::try_from(value.len()).unwrap().to_be_bytes();
            let length: &[u8] = if b"SF".contains(&kind) { &length } else { &[] };
            [&[u8::try_from(name.len()).unwrap()], name.as_bytes(), &[kind], length, value].concat()
        };
        let table = [
            entry("capabilities", b'F', &entry("x", b't', &[1])),
            entry("n", b'l', &[0; 8]),
            entry("product", b'S', b"RabbitMQ"),
            entry("version", b'S', b"3.10.8"),
        ]
        .concat();
        let whole = [&[0, 10, 0, 10, 0, 9][..], &u32::try_from(table.len()).unwrap().to_be_bytes(), &table, b"more"].concat();
        assert_eq!(read(&whole).as_deref(), Some("RabbitMQ 3.10.8"));
        for length in 0..whole.len() - 4 {
            assert_eq!(read(&whole[..length]), None, "{length}");
        }
        assert_eq!(printable(b"\x1b[2J"), None);
    }
}
