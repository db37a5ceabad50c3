//! What a peer says is wrong (part 2, section 2.8.14), what follows, and what to do.

use std::fmt;

use bytestring::ByteString;
use pointsman_schemas::Class;

use super::value::Value;

/// The code of an error.
const ERROR: u64 = 0x1d;

/// An error of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) condition: ByteString,
    pub(super) description: Option<String>,
    /// Where else a peer wants to be spoken to.
    elsewhere: Option<String>,
}

impl Fault {
    pub(super) fn new(condition: &'static str) -> Self {
        Self {
            condition: ByteString::from_static(condition),
            description: None,
            elsewhere: None,
        }
    }

    pub(super) fn read(value: &Value) -> Self {
        let fields = value.as_described().map(|(_, fields)| fields.as_list());
        let fields = fields.unwrap_or_default();
        let text = |value: Option<&Value>| value.and_then(Value::as_text).cloned();
        let condition = text(fields.first()).unwrap_or_default();
        let described = text(fields.get(1)).filter(|text| !text.is_empty());
        let elsewhere = fields.get(2).filter(|_| condition.ends_with(":redirect"));
        Self {
            description: described.map(|text| text.to_string()),
            elsewhere: elsewhere.and_then(elsewhere_of),
            condition,
        }
    }

    pub(super) fn value(&self) -> Value {
        let mut fields = vec![Value::Symbol(self.condition.clone())];
        if let Some(description) = &self.description {
            fields.push(Value::string(description));
        }
        Value::described(ERROR, Value::List(fields))
    }

    /// What follows for a message that it is said of.
    pub(super) fn class(&self) -> Class {
        match &*self.condition {
            "amqp:unauthorized-access" | "amqp:connection:unauthorized" => Class::Refused,
            "amqp:resource-limit-exceeded"
            | "amqp:link:transfer-limit-exceeded"
            | "com.microsoft:server-busy" => Class::Throttled,
            "amqp:link:message-size-exceeded"
            | "amqp:decode-error"
            | "amqp:invalid-field"
            | "amqp:not-allowed"
            | "amqp:not-implemented" => Class::Rejected,
            "amqp:connection:forced" | "amqp:connection:redirect" | "amqp:link:redirect" => {
                Class::Unavailable
            }
            _ => Class::Failed,
        }
    }

    /// What to do about it where it is said of a connection or a link: the setting, and the advice.
    pub(super) fn advice(&self) -> (&'static str, &'static str) {
        match &*self.condition {
            "amqp:unauthorized-access" => (
                "username",
                "check username and password, or the client certificate, and what the broker allows",
            ),
            "amqp:not-found" => (
                "address",
                "check its spelling, or make it; brokers differ in what addresses look like",
            ),
            "amqp:connection:redirect" | "amqp:link:redirect" => {
                ("url", "write the address that it names there")
            }
            "amqp:link:stolen" => (
                "address",
                "another client has taken the link: give one of them another container_id",
            ),
            "amqp:resource-locked" => ("address", "another client reads it alone"),
            "amqp:invalid-field" | "amqp:not-implemented" | "amqp:not-allowed" => {
                ("address", "see what the broker offers, and its log")
            }
            _ => ("url", "see the broker's log"),
        }
    }
}

/// The host and port in what a redirect says.
fn elsewhere_of(info: &Value) -> Option<String> {
    let text = |key| info.get(key).and_then(Value::as_text);
    let host = text("network-host").or_else(|| text("hostname"))?;
    Some(match info.get("port").and_then(Value::as_u32) {
        Some(port) => format!("{host}:{port}"),
        None => host.to_string(),
    })
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.condition {
            "" => f.write_str("an error without a name")?,
            condition => f.write_str(condition)?,
        }
        if let Some(description) = &self.description {
            write!(f, " ({description})")?;
        }
        if let Some(elsewhere) = &self.elsewhere {
            write!(f, "; it sends us to {elsewhere}")?;
        }
        Ok(())
    }
}
