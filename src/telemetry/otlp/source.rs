//! What is told of the process that an export comes from, and values as OTLP writes them.

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use pointsman_schemas::Timestamp;

/// What is told of the process that an export comes from, with each call.
#[derive(Clone, Debug)]
pub struct Source {
    pub resource: Resource,
    pub scope: InstrumentationScope,
}

impl Source {
    /// A process of these attributes.
    pub fn of(attributes: &[(String, String)]) -> Self {
        let attributes = attributes.iter();
        let attributes =
            attributes.map(|(key, value)| attribute(key, Any::StringValue(value.clone())));
        Self {
            resource: Resource {
                attributes: attributes.collect(),
                ..Resource::default()
            },
            scope: InstrumentationScope {
                name: env!("CARGO_PKG_NAME").to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ..InstrumentationScope::default()
            },
        }
    }
}

/// An attribute.
pub fn attribute(key: &str, value: Any) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// A time of day.
pub fn nanoseconds(time: Timestamp) -> u64 {
    u64::try_from(time.0).unwrap_or(0).saturating_mul(1_000)
}
