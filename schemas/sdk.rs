//! Conversion from and to the event of `cloudevents-sdk`, for code that speaks its types.
//!
//! The SDK's event holds less than a CloudEvent, so not everything comes through:
//!
//! | what | to the SDK | from the SDK |
//! |---|---|---|
//! | `time` | the same moment in UTC, spelt anew; its offset is lost | as it is, in UTC |
//! | `dataschema` | refused where it is relative; else spelt as the `url` crate spells it | as it is |
//! | extensions | their order is lost | sorted by name; an integer beyond 32 bits is refused |
//! | JSON data | parsed: whitespace, duplicate keys and digits past 64 bits are lost | written anew |
//! | text, binary data | as it is | read as `datacontenttype` says, or its lack: [`Data::read`] |
//! | CloudEvents 0.3 | never made | refused: `EventBuilderV10::from` makes a 1.0 of it |
//!
//! And the SDK checks less: what it lets through and CloudEvents 1.0 does not (empty texts, odd
//! names) is refused on the way from it.

use cloudevents::event::{
    EventBuilderV10, ExtensionValue as SdkValue, SpecVersion, TryIntoTime, TryIntoUrl,
};
use cloudevents::{
    AttributesReader, AttributesWriter, Data as SdkData, Event as SdkEvent, EventBuilder as _,
};

use crate::data::{Data, DataKind};
use crate::event::{AttributeValue, Event, ExtensionValue, InvalidEvent, shorten};
use crate::media_type::is_json_media_type;

impl TryFrom<&Event> for SdkEvent {
    type Error = InvalidEvent;

    fn try_from(event: &Event) -> Result<Self, InvalidEvent> {
        let refused = |name: &'static str, value: &str, expected| InvalidEvent::Value {
            name: name.to_owned(),
            value: shorten(value),
            expected,
        };
        let mut builder = EventBuilderV10::new()
            .id(event.id())
            .source(event.source())
            .ty(event.ty());
        if let Some(subject) = event.subject() {
            builder = builder.subject(subject);
        }
        for (name, value) in event.extensions() {
            builder = match value {
                AttributeValue::String(text) => builder.extension(name, text),
                AttributeValue::Integer(number) => builder.extension(name, i64::from(number)),
                AttributeValue::Boolean(value) => builder.extension(name, value),
            };
        }
        let mut made = builder
            .build()
            .map_err(|error| InvalidEvent::Malformed(error.to_string()))?;
        if let Some(time) = event.time() {
            let time = time
                .into_time()
                .map_err(|_| refused("time", time, "a time that cloudevents-sdk can hold"))?;
            made.set_time(Some(time));
        }
        if let Some(schema) = event.dataschema() {
            let schema = schema.into_url().map_err(|_| {
                refused(
                    "dataschema",
                    schema,
                    "an absolute URI, which cloudevents-sdk asks for",
                )
            })?;
            made.set_dataschema(Some(schema));
        }
        made.set_datacontenttype(event.datacontenttype());
        if let Some(data) = event.data() {
            made.set_data_unchecked(match data.kind() {
                DataKind::Json => {
                    let value = data
                        .value()
                        .ok_or_else(|| InvalidEvent::DataNotJson("it does not parse".into()))?;
                    SdkData::Json(value.clone())
                }
                DataKind::Text => {
                    SdkData::String(String::from_utf8_lossy(data.bytes()).into_owned())
                }
                DataKind::Binary => SdkData::Binary(data.bytes().to_vec()),
            });
        }
        Ok(made)
    }
}

impl TryFrom<&SdkEvent> for Event {
    type Error = InvalidEvent;

    fn try_from(event: &SdkEvent) -> Result<Self, InvalidEvent> {
        if event.specversion() != SpecVersion::V10 {
            return Err(InvalidEvent::SpecVersion(event.specversion().to_string()));
        }
        let mut builder = Self::builder(event.id(), event.source(), event.ty());
        let optional = [
            ("subject", event.subject().map(str::to_owned)),
            // chrono writes UTC as an offset of zero.
            (
                "time",
                event
                    .time()
                    .map(|time| time.to_rfc3339().replace("+00:00", "Z")),
            ),
            (
                "datacontenttype",
                event.datacontenttype().map(str::to_owned),
            ),
            (
                "dataschema",
                event.dataschema().map(|schema| schema.as_str().to_owned()),
            ),
        ];
        for (name, value) in optional {
            if let Some(text) = value {
                builder = builder.attribute(name, ExtensionValue::String(text.into()));
            }
        }
        let mut extensions: Vec<_> = event.iter_extensions().collect();
        extensions.sort_unstable_by_key(|(name, _)| *name);
        for (name, value) in extensions {
            if builder.has(name) {
                return Err(InvalidEvent::Duplicate(shorten(name)));
            }
            let value = match value {
                SdkValue::String(text) => ExtensionValue::String(text.as_str().into()),
                SdkValue::Boolean(value) => ExtensionValue::Boolean(*value),
                SdkValue::Integer(number) => {
                    ExtensionValue::Integer(i32::try_from(*number).map_err(|_| {
                        InvalidEvent::Value {
                            name: shorten(name),
                            value: number.to_string(),
                            expected: "a whole number of 32 bits",
                        }
                    })?)
                }
            };
            builder = builder.attribute(name, value);
        }
        let is_json = event.datacontenttype().is_some_and(is_json_media_type);
        let data = event.data().map(|data| match data {
            SdkData::Json(value) => Data::json(value.to_string().into()),
            SdkData::String(text) if is_json => Data::json(text.clone().into()),
            SdkData::String(text) => Ok(Data::text(text.as_str().into())),
            SdkData::Binary(bytes) => Data::read(event.datacontenttype(), bytes.clone().into()),
        });
        builder.data(data.transpose()?).build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn full() -> crate::EventBuilder {
        Event::builder("1", "/s?q#f", "t")
            .subject("ü")
            .time("2026-01-31T09:30:00.250Z")
            .datacontenttype("APPLICATION/JSON; charset=utf-8")
            .attribute("dataschema", "https://example.com/schema".into())
            .attribute("a", true.into())
            .attribute("b", (-5).into())
            .attribute("c", "text".into())
            .data(Data::json(Bytes::from_static(br#"{"n":[1,2.5,null]}"#)).unwrap())
    }

    #[test]
    fn what_the_sdk_can_hold_comes_back_as_it_was() {
        for event in [
            full(),
            full().data(None),
            full()
                .datacontenttype("text/plain")
                .data(Data::text("".into())),
            full()
                .datacontenttype("image/png")
                .data(Data::binary(Bytes::from_static(b"\xff"))),
            full()
                .without("datacontenttype")
                .data(Data::json(Bytes::from_static(b"null")).unwrap()),
            Event::builder("1", "/s", "t"),
        ] {
            let event = event.build().unwrap();
            let sdk = SdkEvent::try_from(&event).unwrap();
            assert_eq!(Event::try_from(&sdk), Ok(event));
        }
    }

    #[test]
    fn what_it_cannot_hold_is_changed_or_refused() {
        let through = |event: crate::EventBuilder| {
            SdkEvent::try_from(&event.build()?).and_then(|sdk| Event::try_from(&sdk))
        };
        let time = through(full().time("2026-01-31t09:30:00+05:30")).unwrap();
        assert_eq!(time.time().unwrap(), "2026-01-31T04:00:00Z");
        let data = through(
            full().data(Data::json(Bytes::from_static(b" [12345678901234567890123, 1] ")).unwrap()),
        )
        .unwrap();
        assert_eq!(
            &data.data().unwrap().bytes()[..],
            b"[1.2345678901234568e+22,1]"
        );
        assert!(through(full().attribute("dataschema", "schema.json".into())).is_err());
    }

    #[test]
    fn what_the_sdk_lets_through_is_checked() {
        let sdk = || SdkEvent::try_from(&full().build().unwrap()).unwrap();
        type Change = fn(&mut SdkEvent);
        let changes: [(&str, Change); 7] = [
            ("an empty id", |event| _ = event.set_id("")),
            ("an odd name", |event| event.set_extension("a-b", "x")),
            ("an attribute as an extension", |event| {
                event.set_extension("subject", "x")
            }),
            ("a long integer", |event| {
                event.set_extension("n", 1_i64 << 31)
            }),
            ("no URI-reference", |event| _ = event.set_source("a b")),
            ("text that is no JSON", |event| {
                _ = event.set_data("application/json", "{")
            }),
            ("bytes that are no JSON", |event| {
                _ = event.set_data("application/json", vec![0xFF])
            }),
        ];
        assert!(Event::try_from(&sdk()).is_ok());
        for (what, change) in changes {
            let mut event = sdk();
            change(&mut event);
            assert!(Event::try_from(&event).is_err(), "{what}");
        }
        let old = cloudevents::EventBuilderV03::new()
            .id("1")
            .source("/s")
            .ty("t")
            .build()
            .unwrap();
        assert_eq!(
            Event::try_from(&old),
            Err(InvalidEvent::SpecVersion("0.3".into()))
        );
        // JSON that the SDK holds as text or bytes, as its HTTP binding may, is JSON here.
        let mut event = sdk();
        event.set_data("application/json", b"{}".to_vec());
        assert_eq!(
            Event::try_from(&event).unwrap().data().unwrap().kind(),
            DataKind::Json
        );
    }
}
