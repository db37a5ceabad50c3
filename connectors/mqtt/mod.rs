//! Topics of an MQTT broker, subscribed to and published to, by MQTT 3.1.1 and 5.
//!
//! ```yaml
//! sources:
//!   readings:
//!     mqtt:
//!       url: "mqtt://127.0.0.1:1883"         # mqtts://…, with tls: { ca, certificate, key }
//!       client_id: pointsman-readings
//!       topic: ["sensors/+/temperature", "$share/bus/orders/#"]
//! targets:
//!   commands:
//!     mqtt: { url: "mqtt://127.0.0.1:1883", topic: "devices/<$.subject>/commands" }
//! ```
//!
//! **Reading** is at least once: the broker keeps a session under the client identifier, and a
//! message is acknowledged once it is stored. A task of its own holds the connection (`session.rs`),
//! so that the broker hears of the source also while nobody asks for messages; what was received
//! and is not acknowledged is bounded, and acknowledged in the order in which it came
//! (`connectors/in_hand.rs`). All of that goes with the connection: over the next, the broker sends again what
//! was not acknowledged.
//!
//! **Events**: a message that is a CloudEvent is taken as that (see `mapping.rs`); one that is
//! broken is a dead letter, and acknowledged. Any other message is of type
//! `com.pointsman.mqtt.message`, source `/mqtt/<name of the source>`, subject the topic, and its
//! payload is the data. What the broker had retained has the attribute `mqttretained`. With an
//! `event:` mapping these are the defaults under it, and its root is `{ body, headers, topic,
//! content_type, qos, retained, time }`.
//!
//! **A target** publishes with QoS 1; what the broker acknowledges is delivered. See `publisher.rs`
//! for what else an answer means.
//!
//! **The protocol** is read and written here (`packet.rs`), over connections that are dialled as all
//! others are; see docs/develop/dependencies.md.

mod ack;
mod client;
mod mapping;
mod packet;
mod publisher;
mod pulse;
mod reader;
mod reason;
mod session;
mod settings;
mod source;
mod target;
#[cfg(test)]
mod tests;
mod topic;
mod wire;

pub use mapping::Mode;
pub use source::MqttSource;
pub use target::MqttTarget;
