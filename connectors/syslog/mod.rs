//! Syslog: messages that programs and devices send over UDP, TCP and TLS.
//!
//! ```yaml
//! sources:
//!   network:
//!     syslog:
//!       udp: 0.0.0.0:514
//!       tcp: 0.0.0.0:601
//!       tls: { address: "0.0.0.0:6514", certificate: { file: cert.pem }, key: { file: key.pem } }
//! ```
//!
//! **Messages** are those of RFC 5424 (`rfc5424.rs`) and what RFC 3164 describes (`rfc3164.rs`);
//! `message.rs` decides which. What is neither is kept whole, and its event says so. Over UDP
//! each datagram is one (RFC 5426); in a stream they stand behind their length or in front of a line
//! break (RFC 6587, RFC 5425; `frames.rs`).
//!
//! **Events** are of type `com.pointsman.syslog.message`, source `/syslog/<name of the source>`,
//! subject `<host>/<program>`, with what the message says as their data; see `event.rs`.
//!
//! **Nothing is acknowledged**: the protocol has no answer, so that a sender cannot know what is
//! stored. Nothing is queued here for that reason either: the sockets are read by whoever asks for the
//! next batch (`receiver.rs`), and by nobody else. While the intake is full, streams are not read,
//! which makes their senders wait, and datagrams wait in the kernel, which drops what it has no room
//! for and counts it (`drops.rs`).

mod connection;
mod drops;
mod event;
mod frames;
mod message;
mod receiver;
mod rfc3164;
mod rfc5424;
mod settings;
mod source;
#[cfg(test)]
mod tests;

pub use settings::SyslogSource;
