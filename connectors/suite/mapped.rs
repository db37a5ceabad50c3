//! Events as messages, and back.

use bytes::Bytes;
use pointsman_schemas::{Data, Event, json};
use serde_json::Value;

use super::event;
use crate::Arrival;

/// Events of each kind: with JSON, with nothing, with bytes, with a text that could be JSON.
pub(crate) fn events() -> Vec<Event> {
    let new = || Event::builder("1", "/s", "t");
    let built = [
        new(),
        new().data(Data::binary(Bytes::from_static(b"\xff\0"))),
        new()
            .attribute("note", "ü, and % and \" are not encoded".into())
            .datacontenttype("text/plain")
            .data(Data::text("5".into())),
    ]
    .map(|builder| builder.build().unwrap());
    [event("1")].into_iter().chain(built).collect()
}

/// The event that a message brings, as JSON.
pub(crate) fn read(arrival: Result<Arrival, String>) -> Result<Value, String> {
    match arrival? {
        Arrival::Event(event) => {
            let mut text = Vec::new();
            json::encode(&event, &mut text);
            Ok(serde_json::from_slice(&text).unwrap())
        }
        Arrival::Plain(plain) => panic!("nothing is mapped: {plain:?}"),
    }
}

/// An event that came back, without what is told beside it and is an extension of it in JSON.
pub(crate) fn untold(event: &Event) -> Event {
    let mut builder = event.clone().into_builder();
    for name in ["pointsmantask", "pointsmanattempt", "pointsmanrule"] {
        builder = builder.without(name);
    }
    builder.build().unwrap()
}
