//! Poison messages: those that the client cannot read.
//!
//! Headers that are not UTF-8, or no headers at all, are no error of one message to `async-nats`:
//! it breaks the connection off. The message is then sent again with all that lay behind it, and
//! breaks off again: it would hold its stream up for ever. So after each new connection those that
//! were delivered first and are still unacknowledged are looked at through JetStream's own
//! interface, which carries headers as base64; what cannot be read is rejected. What lies before
//! such a message gets through, so that sooner or later it is among the first.

use pointsman_schemas::Reject;
use std::str::FromStr;

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::Info;
use async_nats::{HeaderName, StatusCode, Subject};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::StreamExt;
use serde::Deserialize;

use super::consumer::ConsumerSpec;

/// How many messages are looked at.
const LOOKED_AT_MAX: u64 = 64;

/// How many of them at once.
const AT_ONCE: usize = 8;

/// A message that cannot be read.
pub(super) struct PoisonMessage {
    pub(super) sequence: u64,
    /// Where it is acknowledged.
    pub(super) reply: Subject,
    pub(super) reject: Reject,
}

/// The answer to `STREAM.MSG.GET`, as far as it matters.
#[derive(Deserialize)]
struct GetResponse {
    message: Option<RawMessage>,
}

#[derive(Deserialize)]
struct RawMessage {
    subject: String,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
}

/// Looks for such messages among the first that the consumer has delivered.
pub(super) async fn find(
    jetstream: &Context,
    spec: &ConsumerSpec,
    info: &Info,
) -> Vec<PoisonMessage> {
    if info.num_ack_pending == 0 {
        return Vec::new();
    }
    let first = info.ack_floor.stream_sequence + 1;
    let last = info
        .delivered
        .stream_sequence
        .min(first.saturating_add(LOOKED_AT_MAX));
    let look = |sequence| async move {
        let request = serde_json::json!({ "seq": sequence });
        let answer: GetResponse = jetstream
            .request(format!("STREAM.MSG.GET.{}", spec.stream), &request)
            .await
            .ok()?;
        let stored = answer.message?;
        let headers = BASE64_STANDARD.decode(&stored.hdrs).ok()?;
        if is_readable(&headers) || !is_delivered(&stored.subject, info) {
            return None;
        }
        let data = BASE64_STANDARD.decode(&stored.data).unwrap_or_default();
        // The server goes by the message's number alone.
        let reply = format!(
            "$JS.ACK.{}.{}.1.{sequence}.{sequence}.0.0",
            spec.stream, spec.consumer
        );
        let reason = format!(
            "the headers of message {sequence} of the stream {} cannot be read",
            spec.stream
        );
        Some(PoisonMessage {
            sequence,
            reply: reply.into(),
            reject: Reject {
                raw: [headers, data].concat().into(),
                reason,
            },
        })
    };
    futures::stream::iter(first..=last)
        .map(look)
        .buffered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await
}

/// True where the client reads these headers.
fn is_readable(headers: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(headers) else {
        return false;
    };
    let mut lines = text.lines();
    let Some(version) = lines.next() else {
        return true;
    };
    let is_version = version.strip_prefix("NATS/1.0").is_some_and(|status| {
        let status = status.split_whitespace().next().unwrap_or_default();
        status.is_empty() || StatusCode::from_str(status).is_ok()
    });
    let is_header = |line: &str| {
        let name = line.split_once(':').map(|(name, _)| name);
        line.is_empty()
            || line.starts_with(char::is_whitespace)
            || name.is_some_and(|name| HeaderName::from_str(name).is_ok())
    };
    is_version && lines.all(|line| !line.contains('\r') && is_header(line))
}

/// True where the consumer takes messages of this subject.
fn is_delivered(subject: &str, info: &Info) -> bool {
    let config = &info.config;
    let mut filters = config
        .filter_subjects
        .iter()
        .chain([&config.filter_subject])
        .filter(|filter| !filter.is_empty())
        .peekable();
    filters.peek().is_none() || filters.any(|filter| matches(filter, subject))
}

fn matches(filter: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for spec in filter.split('.') {
        match (spec, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (spec, Some(token)) if spec == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_reads() {
        for (headers, readable) in [
            (&b""[..], true),
            (b"NATS/1.0\r\n\r\n", true),
            (b"NATS/1.0 503\r\n\r\n", true),
            (b"NATS/1.0\r\na: b\r\n c\r\nD:\r\n\r\n", true),
            (b"HTTP/1.0\r\n\r\n", false),
            (b"NATS/1.0 never\r\n\r\n", false),
            (b"NATS/1.0\r\na: \xfc\r\n\r\n", false),
            (b"NATS/1.0\r\nno colon\r\n\r\n", false),
            (b"NATS/1.0\r\na: b\rc\r\n\r\n", false),
        ] {
            assert_eq!(
                is_readable(headers),
                readable,
                "{}",
                String::from_utf8_lossy(headers)
            );
        }
    }

    #[test]
    fn filters() {
        for (filter, subject, expect) in [
            ("a.b", "a.b", true),
            ("a.*", "a.b", true),
            ("a.>", "a.b.c", true),
            (">", "a", true),
            ("a.>", "a", false),
            ("a.*", "a.b.c", false),
            ("a.b", "a.c", false),
        ] {
            assert_eq!(matches(filter, subject), expect, "{filter} {subject}");
        }
    }
}
