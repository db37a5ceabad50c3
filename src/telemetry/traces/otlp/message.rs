//! Spans as OTLP writes them.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{self as otlp, ResourceSpans, ScopeSpans, Status};
use prost::Message;

use crate::telemetry::otlp::{Source, attribute, nanoseconds};
use crate::telemetry::traces::span::{Kind, Span, Value};

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
