//! What a server says of itself before anybody has logged in: `Connection.Start`, AMQP 0.9.1,
//! section 1.4.2.1. The client library keeps that to itself, so the probe asks once more.

use std::fmt;
use std::io;

use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// More than any server says.
const GREETING_BYTES_MAX: u32 = 16 * 1024;

/// Major and minor version of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub(super) u32, pub(super) u32);

/// What a server says that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Product {
    name: String,
    version: String,
}

impl Product {
    /// The version, where it is RabbitMQ's.
    pub(super) fn version(&self) -> Option<Version> {
        let mut numbers = self.version.split(['.', '-', '+']).map(str::parse);
        let (Some(Ok(major)), Some(Ok(minor)), true) =
            (numbers.next(), numbers.next(), self.name == "RabbitMQ")
        else {
            return None;
        };
        Some(Version(major, minor))
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

/// What answers to the protocol's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Greeting {
    /// A server of AMQP 0.9.1.
    Amqp {
        /// What it is, unless it keeps that to itself.
        product: Option<Product>,
        /// The SASL mechanisms that it offers, parted by spaces; empty where they are not known.
        mechanisms: String,
    },
    /// Something that speaks TLS: its record of type alert or handshake.
    Tls,
    /// Something else.
    Other,
}

impl Greeting {
    /// The version of RabbitMQ that answers.
    pub(super) fn version(&self) -> Option<Version> {
        match self {
            Self::Amqp { product, .. } => product.as_ref()?.version(),
            _ => None,
        }
    }
}

/// Sends the protocol's header and reads what is said to that.
pub(super) async fn greet(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> io::Result<Greeting> {
    stream.write_all(b"AMQP\0\0\x09\x01").await?;
    stream.flush().await?;
    let mut head = [0; 7];
    stream.read_exact(&mut head).await?;
    let [kind, first, second, length @ ..] = head;
    match (kind, first, second) {
        (0x15 | 0x16, 3, _) => return Ok(Greeting::Tls),
        // A frame of a method on the connection itself.
        (1, 0, 0) => {}
        _ => return Ok(Greeting::Other),
    }
    let length = u32::from_be_bytes(length);
    if length > GREETING_BYTES_MAX {
        return Ok(Greeting::Other);
    }
    let mut payload = vec![0; usize::try_from(length).unwrap_or_default()];
    stream.read_exact(&mut payload).await?;
    let (product, mechanisms) = read(&payload).unwrap_or_default();
    Ok(Greeting::Amqp {
        product,
        mechanisms,
    })
}

/// Reads class and method, two bytes of version, the table of the server's properties, and the
/// mechanisms that it offers.
fn read(payload: &[u8]) -> Option<(Option<Product>, String)> {
    let mut rest = payload.strip_prefix(&[0, 10, 0, 10])?.get(2..)?;
    let product = product(sized(&mut rest)?);
    let mechanisms = sized(&mut rest).and_then(printable).unwrap_or_default();
    Some((product, mechanisms))
}

/// Finds name and version in the server's properties.
fn product(mut table: &[u8]) -> Option<Product> {
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
    Some(Product {
        name: product?,
        version: version?,
    })
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
            [
                &[u8::try_from(name.len()).unwrap()],
                name.as_bytes(),
                &[kind],
                length,
                value,
            ]
            .concat()
        };
        let table = [
            entry("capabilities", b'F', &entry("x", b't', &[1])),
            entry("n", b'l', &[0; 8]),
            entry("product", b'S', b"RabbitMQ"),
            entry("version", b'S', b"3.10.8"),
        ]
        .concat();
        let whole = [
            &[0, 10, 0, 10, 0, 9][..],
            &u32::try_from(table.len()).unwrap().to_be_bytes(),
            &table,
            &14_u32.to_be_bytes(),
            b"PLAIN AMQPLAIN",
            b"more",
        ]
        .concat();
        let (product, mechanisms) = read(&whole).unwrap();
        assert_eq!(mechanisms, "PLAIN AMQPLAIN");
        let product = product.unwrap();
        assert_eq!(
            (product.to_string().as_str(), product.version()),
            ("RabbitMQ 3.10.8", Some(Version(3, 10)))
        );
        for (version, expect) in [
            ("4.0.5", Some(Version(4, 0))),
            ("4.2.0-rc.1", Some(Version(4, 2))),
            ("next", None),
            ("4", None),
        ] {
            let product = Product {
                name: "RabbitMQ".to_owned(),
                version: version.to_owned(),
            };
            assert_eq!(product.version(), expect, "{version}");
        }
        assert!(Version(4, 0) > Version(3, 13));
        let cut = |length: usize| read(&whole[..length]);
        let properties = whole.len() - 22;
        for length in 0..whole.len() - 4 {
            let found = cut(length);
            assert_eq!(found.is_some(), length >= properties, "{length}");
            assert!(
                found.is_none_or(|(_, mechanisms)| mechanisms.is_empty()),
                "{length}"
            );
        }
        assert_eq!(printable(b"\x1b[2J"), None);
    }
}
