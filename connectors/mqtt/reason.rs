//! What a broker refuses, in words: return codes of MQTT 3.1.1 and reason codes of 5.

use std::borrow::Cow;

use pointsman_schemas::Class;

use super::packet::{Reason, Version};

/// From this on a reason code is a failure.
pub(super) const FAILURE: u8 = 0x80;

/// Another client has connected under the same client identifier.
pub(super) const TAKEN_OVER: u8 = 0x8e;

/// What a reason code of MQTT 5 says (section 2.4).
fn words(code: u8) -> Cow<'static, str> {
    let words = match code {
        0x80 => "unspecified error",
        0x81 => "malformed packet",
        0x82 => "protocol error",
        0x83 => "an error of its own",
        0x84 => "unsupported protocol version",
        0x85 => "the client identifier is not valid",
        0x86 => "bad user name or password",
        0x87 => "not authorized",
        0x88 => "server unavailable",
        0x89 => "server busy",
        0x8a => "banned",
        0x8b => "the server is shutting down",
        0x8c => "bad authentication method",
        0x8d => "keep alive timeout",
        TAKEN_OVER => "another client has connected with the same client_id",
        0x8f => "the topic filter is not valid",
        0x90 => "the topic name is not valid",
        0x91 => "the packet identifier is in use",
        0x93 => "more messages are in flight than it allows",
        0x94 => "the topic alias is not valid",
        0x95 => "the packet is too large",
        0x96 => "the message rate is too high",
        0x97 => "a quota is exceeded",
        0x98 => "an administrator's action",
        0x99 => "the payload has another format than it says",
        0x9a => "retained messages are not supported",
        0x9b => "the QoS is not supported",
        0x9c => "use another server",
        0x9d => "the server has moved",
        0x9e => "shared subscriptions are not supported",
        0x9f => "the connection rate is exceeded",
        0xa1 => "subscription identifiers are not supported",
        0xa2 => "wildcards in topic filters are not supported",
        _ => return format!("reason code 0x{code:02x}").into(),
    };
    words.into()
}

impl Reason {
    /// The reason for a person.
    pub(super) fn words(&self) -> String {
        let words = words(self.code);
        match &self.said {
            Some(said) => format!("{words} ({said})"),
            None => words.into_owned(),
        }
    }
}

/// The reason code that stands for a return code of CONNACK in MQTT 3.1.1 (section 3.2.2.3).
pub(super) fn of_connect(version: Version, code: u8) -> u8 {
    match (version, code) {
        (Version::V5, code) => code,
        (Version::V3, 0) => 0,
        (Version::V3, 1) => 0x84,
        (Version::V3, 2) => 0x85,
        (Version::V3, 3) => 0x88,
        (Version::V3, 4) => 0x86,
        (Version::V3, 5) => 0x87,
        (Version::V3, _) => FAILURE,
    }
}

/// The setting that a refused connection has to do with, and what to do.
pub(super) fn advice(code: u8) -> (&'static str, &'static str) {
    match code {
        0x84 => ("version", "write version: \"3.1.1\", or \"5\""),
        0x85 => ("client_id", "choose another client_id"),
        0x86 => ("password", "check username and password"),
        0x87 | 0x8a | 0x8c => (
            "username",
            "check username and password, or the client certificate, and what the broker allows",
        ),
        _ => ("url", "see the broker's log"),
    }
}

/// Whether it has to do with who connects.
pub(super) fn is_of_credentials(code: u8) -> bool {
    matches!(code, 0x85..=0x87 | 0x8a | 0x8c)
}

/// What follows for a message that was refused.
pub(super) fn class(code: u8) -> Class {
    match code {
        0..FAILURE => Class::Delivered,
        0x87 => Class::Refused,
        0x90 | 0x95 | 0x99 | 0x9a | 0x9b => Class::Rejected,
        0x89 | 0x96 | 0x97 => Class::Throttled,
        _ => Class::Failed,
    }
}
