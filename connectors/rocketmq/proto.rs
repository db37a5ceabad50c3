//! The messages of `apache.rocketmq.v2.MessagingService`, as far as they are used here, by the names
//! and numbers of `definition.proto` and `service.proto`
//! (<https://github.com/apache/rocketmq-apis>). Written by hand: what they leave out is skipped
//! where it is read, as protobuf has it.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::{Enumeration, Message as Protobuf, Oneof};

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, Eq, Protobuf)]
pub(super) struct Duration {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

impl From<std::time::Duration> for Duration {
    fn from(duration: std::time::Duration) -> Self {
        Self {
            seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
        }
    }
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Eq, Protobuf)]
pub(super) struct Timestamp {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

impl Timestamp {
    /// One that is counted in microseconds since 1970.
    pub(super) fn of_micros(micros: i64) -> Self {
        Self {
            seconds: micros.div_euclid(1_000_000),
            nanos: i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or(0),
        }
    }

    /// Microseconds since 1970.
    pub(super) fn micros(self) -> Option<i64> {
        let seconds = self.seconds.checked_mul(1_000_000)?;
        seconds.checked_add(i64::from(self.nanos) / 1_000)
    }
}

/// A topic or a consumer group.
#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct Resource {
    #[prost(string, tag = "1")]
    pub(super) resource_namespace: String,
    #[prost(string, tag = "2")]
    pub(super) name: String,
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct Status {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub(super) enum AddressScheme {
    Unspecified = 0,
    Ipv4 = 1,
    Ipv6 = 2,
    DomainName = 3,
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct Address {
    #[prost(string, tag = "1")]
    pub(super) host: String,
    #[prost(int32, tag = "2")]
    pub(super) port: i32,
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct Endpoints {
    #[prost(enumeration = "AddressScheme", tag = "1")]
    pub(super) scheme: i32,
    #[prost(message, repeated, tag = "2")]
    pub(super) addresses: Vec<Address>,
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct Broker {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(int32, tag = "2")]
    pub(super) id: i32,
    #[prost(message, optional, tag = "3")]
    pub(super) endpoints: Option<Endpoints>,
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct MessageQueue {
    #[prost(message, optional, tag = "1")]
    pub(super) topic: Option<Resource>,
    #[prost(int32, tag = "2")]
    pub(super) id: i32,
    #[prost(int32, tag = "3")]
    pub(super) permission: i32,
    #[prost(message, optional, tag = "4")]
    pub(super) broker: Option<Broker>,
    #[prost(enumeration = "MessageType", repeated, tag = "5")]
    pub(super) accept_message_types: Vec<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub(super) enum MessageType {
    Unspecified = 0,
    Normal = 1,
    Fifo = 2,
    Delay = 3,
    Transaction = 4,
    Lite = 5,
    Priority = 6,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub(super) enum DigestType {
    Unspecified = 0,
    Crc32 = 1,
    Md5 = 2,
    Sha1 = 3,
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct Digest {
    #[prost(enumeration = "DigestType", tag = "1")]
    pub(super) r#type: i32,
    #[prost(string, tag = "2")]
    pub(super) checksum: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub(super) enum Encoding {
    Unspecified = 0,
    Identity = 1,
    Gzip = 2,
}

/// What is not read is left out: the host that stores it, transactions, dead letters' origin.
#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct SystemProperties {
    #[prost(string, optional, tag = "1")]
    pub(super) tag: Option<String>,
    #[prost(string, repeated, tag = "2")]
    pub(super) keys: Vec<String>,
    #[prost(string, tag = "3")]
    pub(super) message_id: String,
    #[prost(message, optional, tag = "4")]
    pub(super) body_digest: Option<Digest>,
    #[prost(enumeration = "Encoding", tag = "5")]
    pub(super) body_encoding: i32,
    #[prost(enumeration = "MessageType", tag = "6")]
    pub(super) message_type: i32,
    #[prost(message, optional, tag = "7")]
    pub(super) born_timestamp: Option<Timestamp>,
    #[prost(string, tag = "8")]
    pub(super) born_host: String,
    #[prost(message, optional, tag = "11")]
    pub(super) delivery_timestamp: Option<Timestamp>,
    #[prost(string, optional, tag = "12")]
    pub(super) receipt_handle: Option<String>,
    #[prost(int32, tag = "13")]
    pub(super) queue_id: i32,
    #[prost(int64, optional, tag = "14")]
    pub(super) queue_offset: Option<i64>,
    #[prost(int32, optional, tag = "16")]
    pub(super) delivery_attempt: Option<i32>,
    #[prost(string, optional, tag = "17")]
    pub(super) message_group: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct Message {
    #[prost(message, optional, tag = "1")]
    pub(super) topic: Option<Resource>,
    #[prost(btree_map = "string, string", tag = "2")]
    pub(super) user_properties: BTreeMap<String, String>,
    #[prost(message, optional, tag = "3")]
    pub(super) system_properties: Option<SystemProperties>,
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) body: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub(super) enum FilterType {
    Unspecified = 0,
    Tag = 1,
    Sql = 2,
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct FilterExpression {
    #[prost(enumeration = "FilterType", tag = "1")]
    pub(super) r#type: i32,
    #[prost(string, tag = "2")]
    pub(super) expression: String,
}

/// Of the policy only how often a message is handed out is of use here.
#[derive(Clone, Copy, PartialEq, Eq, Protobuf)]
pub(super) struct RetryPolicy {
    #[prost(int32, tag = "1")]
    pub(super) max_attempts: i32,
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct SubscriptionEntry {
    #[prost(message, optional, tag = "1")]
    pub(super) topic: Option<Resource>,
    #[prost(message, optional, tag = "2")]
    pub(super) expression: Option<FilterExpression>,
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct Subscription {
    #[prost(message, optional, tag = "1")]
    pub(super) group: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub(super) subscriptions: Vec<SubscriptionEntry>,
    #[prost(bool, optional, tag = "3")]
    pub(super) fifo: Option<bool>,
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct Publishing {
    #[prost(message, repeated, tag = "1")]
    pub(super) topics: Vec<Resource>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub(super) enum ClientType {
    Unspecified = 0,
    Producer = 1,
    PushConsumer = 2,
    SimpleConsumer = 3,
}

#[derive(Clone, PartialEq, Eq, Oneof)]
pub(super) enum PubSub {
    #[prost(message, tag = "5")]
    Publishing(Publishing),
    #[prost(message, tag = "6")]
    Subscription(Subscription),
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct UserAgent {
    #[prost(int32, tag = "1")]
    pub(super) language: i32,
    #[prost(string, tag = "2")]
    pub(super) version: String,
    #[prost(string, tag = "3")]
    pub(super) platform: String,
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct Settings {
    #[prost(enumeration = "ClientType", optional, tag = "1")]
    pub(super) client_type: Option<i32>,
    #[prost(message, optional, tag = "2")]
    pub(super) access_point: Option<Endpoints>,
    #[prost(message, optional, tag = "3")]
    pub(super) backoff_policy: Option<RetryPolicy>,
    #[prost(message, optional, tag = "4")]
    pub(super) request_timeout: Option<Duration>,
    #[prost(oneof = "PubSub", tags = "5, 6")]
    pub(super) pub_sub: Option<PubSub>,
    #[prost(message, optional, tag = "7")]
    pub(super) user_agent: Option<UserAgent>,
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct ThreadStackTrace {
    #[prost(string, tag = "1")]
    pub(super) nonce: String,
}

/// A command that asks for an answer with the same nonce.
#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct Nonce {
    #[prost(string, tag = "1")]
    pub(super) nonce: String,
}

/// A command whose contents do not matter.
#[derive(Clone, Copy, PartialEq, Eq, Protobuf)]
pub(super) struct Unread {}

#[derive(Clone, PartialEq, Eq, Oneof)]
pub(super) enum Command {
    #[prost(message, tag = "2")]
    Settings(Settings),
    #[prost(message, tag = "3")]
    ThreadStackTrace(ThreadStackTrace),
    #[prost(message, tag = "4")]
    VerifyMessageResult(Nonce),
    #[prost(message, tag = "5")]
    RecoverOrphanedTransaction(Unread),
    #[prost(message, tag = "6")]
    PrintThreadStackTrace(Nonce),
    #[prost(message, tag = "7")]
    VerifyMessage(Nonce),
    #[prost(message, tag = "8")]
    ReconnectEndpoints(Unread),
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct TelemetryCommand {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
    #[prost(oneof = "Command", tags = "2, 3, 4, 5, 6, 7, 8")]
    pub(super) command: Option<Command>,
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct HeartbeatRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) group: Option<Resource>,
    #[prost(enumeration = "ClientType", tag = "2")]
    pub(super) client_type: i32,
}

/// An answer that is a status and nothing else that is read.
#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct NotifyClientTerminationRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) group: Option<Resource>,
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct QueryRouteRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) topic: Option<Resource>,
    #[prost(message, optional, tag = "2")]
    pub(super) endpoints: Option<Endpoints>,
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct QueryRouteResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
    #[prost(message, repeated, tag = "2")]
    pub(super) message_queues: Vec<MessageQueue>,
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct QueryAssignmentRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) topic: Option<Resource>,
    #[prost(message, optional, tag = "2")]
    pub(super) group: Option<Resource>,
    #[prost(message, optional, tag = "3")]
    pub(super) endpoints: Option<Endpoints>,
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct Assignment {
    #[prost(message, optional, tag = "1")]
    pub(super) message_queue: Option<MessageQueue>,
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct QueryAssignmentResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
    #[prost(message, repeated, tag = "2")]
    pub(super) assignments: Vec<Assignment>,
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct ReceiveMessageRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) group: Option<Resource>,
    #[prost(message, optional, tag = "2")]
    pub(super) message_queue: Option<MessageQueue>,
    #[prost(message, optional, tag = "3")]
    pub(super) filter_expression: Option<FilterExpression>,
    #[prost(int32, tag = "4")]
    pub(super) batch_size: i32,
    #[prost(message, optional, tag = "5")]
    pub(super) invisible_duration: Option<Duration>,
    #[prost(bool, tag = "6")]
    pub(super) auto_renew: bool,
    #[prost(message, optional, tag = "7")]
    pub(super) long_polling_timeout: Option<Duration>,
    #[prost(string, optional, tag = "8")]
    pub(super) attempt_id: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Oneof)]
#[expect(
    clippy::large_enum_variant,
    reason = "most of them are messages, which are moved out at once"
)]
pub(super) enum Received {
    #[prost(message, tag = "1")]
    Status(Status),
    #[prost(message, tag = "2")]
    Message(Message),
    #[prost(message, tag = "3")]
    DeliveryTimestamp(Timestamp),
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct ReceiveMessageResponse {
    #[prost(oneof = "Received", tags = "1, 2, 3")]
    pub(super) content: Option<Received>,
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct AckMessageEntry {
    #[prost(string, tag = "1")]
    pub(super) message_id: String,
    #[prost(string, tag = "2")]
    pub(super) receipt_handle: String,
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct AckMessageRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) group: Option<Resource>,
    #[prost(message, optional, tag = "2")]
    pub(super) topic: Option<Resource>,
    #[prost(message, repeated, tag = "3")]
    pub(super) entries: Vec<AckMessageEntry>,
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct AckMessageResultEntry {
    #[prost(string, tag = "1")]
    pub(super) message_id: String,
    #[prost(string, tag = "2")]
    pub(super) receipt_handle: String,
    #[prost(message, optional, tag = "3")]
    pub(super) status: Option<Status>,
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct AckMessageResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
    #[prost(message, repeated, tag = "2")]
    pub(super) entries: Vec<AckMessageResultEntry>,
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct ChangeInvisibleDurationRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) group: Option<Resource>,
    #[prost(message, optional, tag = "2")]
    pub(super) topic: Option<Resource>,
    #[prost(string, tag = "3")]
    pub(super) receipt_handle: String,
    #[prost(message, optional, tag = "4")]
    pub(super) invisible_duration: Option<Duration>,
    #[prost(string, tag = "5")]
    pub(super) message_id: String,
    /// Whether this is not counted as an attempt; servers know of it from 5.4 on.
    #[prost(bool, optional, tag = "7")]
    pub(super) suspend: Option<bool>,
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct ChangeInvisibleDurationResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
    #[prost(string, tag = "2")]
    pub(super) receipt_handle: String,
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct SendMessageRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) messages: Vec<Message>,
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct SendResultEntry {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
    #[prost(string, tag = "2")]
    pub(super) message_id: String,
}

#[derive(Clone, PartialEq, Eq, Protobuf)]
pub(super) struct SendMessageResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
    #[prost(message, repeated, tag = "2")]
    pub(super) entries: Vec<SendResultEntry>,
}
