//! Spans as OTLP writes them.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{self as otlp, ResourceSpans, ScopeSpans, Status};
use pointsman_schemas::Timestamp;
use prost::Message;

use crate::telemetry::traces::span::{Kind, Span, Value};

/// What is told of the process that spans come from, with each call.
#[derive(Clone, Debug)]
pub(super) struct Source {
    resource: Resource,
    scope: InstrumentationScope,
}

impl Source {
    /// A process of these attributes.
    pub(super) fn of(attributes: &[(String, String)]) -> Self {
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

/// The body of a call with these spans.
pub(super) fn request(source: &Source, spans: &[Span]) -> Bytes {
    let scope_spans = ScopeSpans {
        scope: Some(source.scope.clone()),
        spans: spans.iter().map(written).collect(),
        ..ScopeSpans::default()
    };
    let resource_spans = ResourceSpans {
        resource: Some(source.resource.clone()),
        scope_spans: vec![scope_spans],
        ..ResourceSpans::default()
    };
    let request = ExportTraceServiceRequest {
        resource_spans: vec![resource_spans],
    };
    request.encode_to_vec().into()
}

fn attribute(key: &str, value: Any) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn written(span: &Span) -> otlp::Span {
    let attributes = span.attributes.iter().map(|(key, value)| {
        let value = match value {
            Value::Text(text) => Any::StringValue(text.clone()),
            Value::Number(number) => Any::IntValue(*number),
            Value::Flag(flag) => Any::BoolValue(*flag),
        };
        attribute(key, value)
    });
    let links = span.links.iter().map(|(trace, id)| Link {
        trace_id: trace.to_bytes().into(),
        span_id: id.to_bytes().into(),
        ..Link::default()
    });
    let kind = match span.kind {
        Kind::Internal => SpanKind::Internal,
        Kind::Consumer => SpanKind::Consumer,
        Kind::Client => SpanKind::Client,
    };
    let status = span.error.as_ref().map(|message| Status {
        message: message.clone(),
        code: StatusCode::Error.into(),
    });
    let state = span.state.as_ref().map(ToString::to_string);
    otlp::Span {
        trace_id: span.trace_id.to_bytes().into(),
        span_id: span.id.to_bytes().into(),
        trace_state: state.unwrap_or_default(),
        parent_span_id: span.parent.map_or_else(Vec::new, |id| id.to_bytes().into()),
        flags: span.flags.bits().into(),
        name: span.name.clone(),
        kind: kind.into(),
        start_time_unix_nano: nanoseconds(span.began),
        end_time_unix_nano: nanoseconds(span.ended),
        attributes: attributes.collect(),
        links: links.collect(),
        status,
        ..otlp::Span::default()
    }
}

fn nanoseconds(time: Timestamp) -> u64 {
    u64::try_from(time.0).unwrap_or(0).saturating_mul(1_000)
}
