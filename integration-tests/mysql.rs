//! A client of MariaDB and MySQL that adds rows, apart from the connector that the tests are about:
//! as much of the protocol as that takes, over a connection for each.

use std::io::{Error, Result};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a commit may take; without it the row is added again.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);

/// The version 4.1 of the protocol, passwords that are mixed with what the server says, and the
/// ways of telling them.
const CAPABILITIES: u32 = 0x200 | 0x8000 | 0x8_0000;

async fn packet(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let length = stream.read_u32_le().await? & 0xff_ffff;
    let mut packet = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    stream.read_exact(&mut packet).await?;
    Ok(packet)
}

async fn send(stream: &mut TcpStream, number: u8, content: &[u8]) -> Result<()> {
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    let mut whole = (length | u32::from(number) << 24).to_le_bytes().to_vec();
    whole.extend_from_slice(content);
    stream.write_all(&whole).await
}

/// Waits until the server says that something is done.
async fn done(stream: &mut TcpStream) -> Result<()> {
    match packet(stream).await?.first() {
        Some(0) => Ok(()),
        _ => Err(Error::other("it is refused")),
    }
}

async fn insert(port: u16, table: &str, id: &str) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    packet(&mut stream).await?;
    let mut login = CAPABILITIES.to_le_bytes().to_vec();
    login.extend_from_slice(&(1_u32 << 24).to_le_bytes());
    login.push(45);
    login.extend_from_slice(&[0; 23]);
    // Nobody has a password, so that every way of telling it is the same.
    login.extend_from_slice(b"root\0\0mysql_native_password\0");
    send(&mut stream, 1, &login).await?;
    let mut answer = packet(&mut stream).await?;
    if answer.first() == Some(&0xfe) {
        send(&mut stream, 3, &[]).await?;
        answer = packet(&mut stream).await?;
    }
    if answer.first() != Some(&0) {
        return Err(Error::other("nobody is let in"));
    }
    let sql = format!(
        "\u{3}INSERT IGNORE INTO {table} (id, data) VALUES ('{id}', '{}')",
        crate::storm::DATA
    );
    send(&mut stream, 0, sql.as_bytes()).await?;
    done(&mut stream).await
}

/// Adds a row with this key, unless it is there, and tells whether it is committed.
pub async fn publish(port: u16, table: &str, id: &str) -> bool {
    matches!(
        timeout(ANSWERED_WITHIN, insert(port, table, id)).await,
        Ok(Ok(()))
    )
}
