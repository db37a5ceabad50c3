//! The two conformance suites: what every source and every target must hold to, tried from outside.

mod target;

use bytes::Bytes;
use pointsman_schemas::{Data, Event};

pub(crate) use target::{Received, TargetFixture, attempt, context, targets};

/// An event with JSON data, a subject and an extension.
pub(crate) fn event(id: &str) -> Event {
    Event::builder(id, "/suite", "com.example.suite")
        .subject("a subject")
        .attribute("ext", "ü".into())
        .datacontenttype("application/json")
        .data(Data::json(Bytes::from(format!("{{\n  \"id\": \"{id}\",\r\n \"long\": 12345678901234567890123}}"))).unwrap())
        .build()
        .unwrap()
}
