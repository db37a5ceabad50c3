//! A log line as JSON: what is told under its own name, and the part of the program that tells it
//! under `module`.
//!
//! The library's own form calls that part `target`, which here is somebody to whom events go.

use std::fmt;

use pointsman_schemas::Timestamp;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// Writes one object per line: `timestamp`, `level`, `message`, the event's fields, those of the
/// spans around it that it does not set itself, and `module`.
pub(super) struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let mut line = Fields(Map::new());
        line.0
            .insert("timestamp".into(), Timestamp::now().to_string().into());
        line.0
            .insert("level".into(), metadata.level().as_str().into());
        event.record(&mut line);
        // The innermost span is the nearest to what happened.
        for span in context.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            let fields = extensions
                .get::<FormattedFields<N>>()
                .map_or("", |fields| fields.fields.as_str());
            for (name, value) in
                serde_json::from_str::<Map<String, Value>>(fields).unwrap_or_default()
            {
                line.0.entry(name).or_insert(value);
            }
        }
        line.0.insert("module".into(), metadata.target().into());
        writeln!(writer, "{}", Value::Object(line.0))
    }
}

/// The fields of an event.
struct Fields(Map<String, Value>);

impl Fields {
    fn set(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value);
    }
}
