//! What a proxy refuses, by the codes of `definition.proto`, and what that means.

use std::fmt;

use pointsman_schemas::{Class, Problem};

use super::proto::Status;

/// The code that is none.
pub(super) const OK: i32 = 20_000;

/// Several results, which the entries of an answer tell.
pub(super) const MULTIPLE_RESULTS: i32 = 30_000;

/// There is no message, which is no fault of anybody.
pub(super) const MESSAGE_NOT_FOUND: i32 = 40_401;

const BAD_REQUEST: i32 = 40_000;
const ILLEGAL_TOPIC: i32 = 40_002;
const ILLEGAL_CONSUMER_GROUP: i32 = 40_003;
const ILLEGAL_MESSAGE_ID: i32 = 40_009;
const ILLEGAL_FILTER_EXPRESSION: i32 = 40_010;
const ILLEGAL_INVISIBLE_TIME: i32 = 40_011;
const INVALID_RECEIPT_HANDLE: i32 = 40_013;
const MESSAGE_PROPERTY_CONFLICT_WITH_TYPE: i32 = 40_014;
const UNRECOGNIZED_CLIENT_TYPE: i32 = 40_015;
const CLIENT_ID_REQUIRED: i32 = 40_017;
const UNAUTHORIZED: i32 = 40_100;
const PAYMENT_REQUIRED: i32 = 40_200;
const FORBIDDEN: i32 = 40_300;
const NOT_FOUND: i32 = 40_400;
const TOPIC_NOT_FOUND: i32 = 40_402;
const CONSUMER_GROUP_NOT_FOUND: i32 = 40_403;
const PAYLOAD_TOO_LARGE: i32 = 41_300;
const MESSAGE_BODY_EMPTY: i32 = 41_302;
const TOO_MANY_REQUESTS: i32 = 42_900;
const LITE_SUBSCRIPTION_QUOTA_EXCEEDED: i32 = 42_902;
const REQUEST_HEADER_FIELDS_TOO_LARGE: i32 = 43_100;
const MESSAGE_PROPERTIES_TOO_LARGE: i32 = 43_101;
pub(super) const UNSUPPORTED: i32 = 50_500;
const NOT_IMPLEMENTED: i32 = 50_100;
const VERSION_UNSUPPORTED: i32 = 50_501;

/// What a proxy refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: i32,
    message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl Refusal {
    /// Tells what is done from what is refused.
    pub(super) fn check(status: Option<&Status>) -> Result<(), Self> {
        match status {
            Some(status) if status.code == OK => Ok(()),
            Some(status) => Err(Self {
                code: status.code,
                message: status.message.clone(),
            }),
            None => Err(Self {
                code: 0,
                message: "the answer has no status".to_owned(),
            }),
        }
    }

    /// What gRPC itself tells (`grpc-status`), where that says what was refused; none where the call
    /// broke.
    pub(super) fn of_grpc(status: u32, message: &str) -> Option<Self> {
        let code = match status {
            3 | 11 => BAD_REQUEST,
            5 => NOT_FOUND,
            7 => FORBIDDEN,
            8 => TOO_MANY_REQUESTS,
            12 => NOT_IMPLEMENTED,
            16 => UNAUTHORIZED,
            _ => return None,
        };
        Some(Self {
            code,
            message: message.to_owned(),
        })
    }

    /// What answers is a server of gRPC, and no proxy.
    pub(super) fn is_of_no_proxy(&self) -> bool {
        self.code == NOT_IMPLEMENTED
    }

    /// The proxy knows nothing of this client, which has to tell it everything again.
    pub(super) fn is_of_unknown_client(&self) -> bool {
        matches!(self.code, UNRECOGNIZED_CLIENT_TYPE | CLIENT_ID_REQUIRED)
    }

    /// Whether the same call about a message may do another time: its receipt is one still.
    pub(super) fn may_pass(&self) -> bool {
        !matches!(
            self.code,
            INVALID_RECEIPT_HANDLE | ILLEGAL_MESSAGE_ID | MESSAGE_NOT_FOUND
        )
    }

    /// What follows for a delivery.
    pub(super) fn class(&self) -> Class {
        match self.code {
            UNAUTHORIZED | PAYMENT_REQUIRED | FORBIDDEN => Class::Refused,
            TOO_MANY_REQUESTS..=LITE_SUBSCRIPTION_QUOTA_EXCEEDED => Class::Throttled,
            // Nothing was done, and it passes by what an operator does, or over a new connection.
            NOT_FOUND
            | TOPIC_NOT_FOUND
            | UNRECOGNIZED_CLIENT_TYPE
            | CLIENT_ID_REQUIRED
            | NOT_IMPLEMENTED
            | UNSUPPORTED
            | VERSION_UNSUPPORTED => Class::Unavailable,
            // What is wrong is the message: its topic, tag, keys, group, properties, time or size.
            BAD_REQUEST..UNAUTHORIZED
            | PAYLOAD_TOO_LARGE..=MESSAGE_BODY_EMPTY
            | REQUEST_HEADER_FIELDS_TOO_LARGE..=MESSAGE_PROPERTIES_TOO_LARGE => Class::Rejected,
            // It may have been taken: timeouts, a disk or a replica that is late, errors of no kind.
            _ => Class::Failed,
        }
    }

    /// The setting at fault, and what to do; where its own words say so, nothing.
    fn advice(&self) -> (&'static str, Option<&'static str>) {
        match self.code {
            UNAUTHORIZED => ("credentials", Some("check access_key and secret_key")),
            FORBIDDEN => (
                "credentials",
                Some("allow the user this topic and this group"),
            ),
            NOT_FOUND | TOPIC_NOT_FOUND => (
                "topic",
                Some("make the topic (mqadmin updateTopic), or name another"),
            ),
            ILLEGAL_TOPIC => ("topic", None),
            CONSUMER_GROUP_NOT_FOUND => (
                "group",
                Some("make the group (mqadmin updateSubGroup), or name another"),
            ),
            ILLEGAL_CONSUMER_GROUP => ("group", None),
            ILLEGAL_FILTER_EXPRESSION => ("sql", None),
            ILLEGAL_INVISIBLE_TIME => ("visibility", None),
            MESSAGE_PROPERTY_CONFLICT_WITH_TYPE => (
                "topic",
                Some(
                    "the topic is of another type: a FIFO topic needs group, a DELAY topic delay \
                     or deliver_at, and a NORMAL one none of them",
                ),
            ),
            NOT_IMPLEMENTED => (
                "url",
                Some("name the proxy of RocketMQ 5, whose usual port is 8081"),
            ),
            _ => ("url", None),
        }
    }

    /// In words, with what to do.
    pub(super) fn words(&self) -> String {
        match self.advice().1 {
            Some(help) => format!("{self}; {help}"),
            None => self.to_string(),
        }
    }

    /// The problem of a source or target that cannot be opened.
    pub(super) fn problem(&self) -> Problem {
        let (at, help) = self.advice();
        let problem = Problem::new(format!("RocketMQ refuses: {self}")).at(at);
        match help {
            Some(help) => problem.help(help),
            None => problem,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_says_what_follows() {
        for (code, class) in [
            (BAD_REQUEST, Class::Rejected),
            (ILLEGAL_TOPIC, Class::Rejected),
            (MESSAGE_PROPERTY_CONFLICT_WITH_TYPE, Class::Rejected),
            (UNRECOGNIZED_CLIENT_TYPE, Class::Unavailable),
            (40_016, Class::Rejected),
            (UNAUTHORIZED, Class::Refused),
            (PAYMENT_REQUIRED, Class::Refused),
            (FORBIDDEN, Class::Refused),
            (TOPIC_NOT_FOUND, Class::Unavailable),
            (40_800, Class::Failed),
            (41_301, Class::Rejected),
            (42_800, Class::Failed),
            (TOO_MANY_REQUESTS, Class::Throttled),
            (42_901, Class::Throttled),
            (MESSAGE_PROPERTIES_TOO_LARGE, Class::Rejected),
            (50_001, Class::Failed),
            (50_002, Class::Failed),
            (NOT_IMPLEMENTED, Class::Unavailable),
            (50_400, Class::Failed),
            (50_402, Class::Failed),
            (0, Class::Failed),
        ] {
            let message = "m".to_owned();
            assert_eq!(Refusal { code, message }.class(), class, "{code}");
        }
    }
}
