//! An event in JSON, with its data byte for byte.

use bytes::Bytes;
use pointsman_schemas::{AttributeValue, Data, DataKind, Event};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::line::Base64;

/// An event. Its extensions are in the order in which they came.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PortableEvent {
    id: String,
    source: String,
    #[serde(rename = "type")]
    ty: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    datacontenttype: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dataschema: Option<String>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    extensions: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<PortableData>,
}

/// Data, by its kind and by how it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PortableData {
    /// JSON on one line, as it is.
    Json(Box<RawValue>),
    Text(String),
    Binary(Base64),
    /// JSON that would not come back as it is.
    JsonBase64(Base64),
    /// What was taken for text, and is none.
    TextBase64(Base64),
}

impl PortableData {
    fn of(data: &Data) -> Self {
        let bytes = || Base64(data.bytes().clone());
        let text = std::str::from_utf8(data.bytes()).ok();
        match data.kind() {
            DataKind::Json => text
                .and_then(json_line)
                .map_or_else(|| Self::JsonBase64(bytes()), Self::Json),
            DataKind::Text => text.map_or_else(
                || Self::TextBase64(bytes()),
                |text| Self::Text(text.to_owned()),
            ),
            DataKind::Binary => Self::Binary(bytes()),
        }
    }

    fn into_data(self) -> Result<Data, String> {
        let data = match self {
            Self::Json(json) => Data::json(Bytes::from(Box::<str>::from(json).into_string())),
            Self::JsonBase64(Base64(bytes)) => Data::json(bytes),
            Self::Text(text) => Ok(Data::text(text.into())),
            Self::TextBase64(Base64(bytes)) => Ok(Data::new_unchecked(DataKind::Text, bytes)),
            Self::Binary(Base64(bytes)) => Ok(Data::binary(bytes)),
        };
        data.map_err(|error| error.to_string())
    }
}

/// JSON that can stand in a line and is read from there as it is.
fn json_line(text: &str) -> Option<Box<RawValue>> {
    let json: &RawValue = serde_json::from_str(text).ok()?;
    let is_line = json.get() == text && !text.contains(['\n', '\r']);
    is_line.then(|| json.to_owned())
}

impl PortableEvent {
    pub(super) fn of(event: &Event) -> Self {
        let extension = |(name, value): (&str, AttributeValue<'_>)| {
            let value = match value {
                AttributeValue::String(text) => text.into(),
                AttributeValue::Integer(number) => number.into(),
                AttributeValue::Boolean(value) => value.into(),
            };
            (name.to_owned(), value)
        };
        Self {
            id: event.id().to_owned(),
            source: event.source().to_owned(),
            ty: event.ty().to_owned(),
            subject: event.subject().map(str::to_owned),
            time: event.time().map(str::to_owned),
            datacontenttype: event.datacontenttype().map(str::to_owned),
            dataschema: event.dataschema().map(str::to_owned),
            extensions: event.extensions().map(extension).collect(),
            data: event.data().map(PortableData::of),
        }
    }

    pub(super) fn into_event(self) -> Result<Event, String> {
        let mut event = Event::builder(self.id, self.source, self.ty);
        let optional = [
            ("subject", &self.subject),
            ("time", &self.time),
            ("datacontenttype", &self.datacontenttype),
            ("dataschema", &self.dataschema),
        ];
        for (name, text) in optional {
            if let Some(text) = text {
                event.set(name, AttributeValue::String(text));
            }
        }
        for (name, value) in &self.extensions {
            let number = || i32::try_from(value.as_i64()?).ok();
            let value = match value {
                Value::String(text) => AttributeValue::String(text),
                Value::Bool(value) => AttributeValue::Boolean(*value),
                _ => AttributeValue::Integer(number().ok_or("an extension is out of range")?),
            };
            event.set(name, value);
        }
        if let Some(data) = self.data {
            event = event.data(data.into_data()?);
        }
        event.build().map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_comes_back_byte_for_byte() {
        let datas = [
            Data::json(Bytes::from_static(
                br#"{"a":1,"a":12345678901234567890123,"b":"\ud800\u00e9"}"#,
            )),
            Data::json(Bytes::from_static(b" [1,\n 2] ")),
            Data::json(Bytes::from_static(b"[1, 2 ]\t")),
            Ok(Data::text("one\ntwo \u{2028}".into())),
            Ok(Data::binary(Bytes::from_static(&[0, 0xFF, b'\n']))),
            Ok(Data::new_unchecked(
                DataKind::Text,
                Bytes::from_static(&[0xFF]),
            )),
        ];
        for data in datas {
            let event = Event::builder("1", "/s", "t")
                .subject("s\u{fc}")
                .time("2026-01-01T00:00:00+02:00")
                .attribute("zz", (-7).into())
                .attribute("flag", false.into())
                .attribute("aa", "\u{fc}".into())
                .data(data.unwrap())
                .build()
                .unwrap();
            let line = serde_json::to_string(&PortableEvent::of(&event)).unwrap();
            assert!(!line.contains('\n'));
            let read: PortableEvent = serde_json::from_str(&line).unwrap();
            assert_eq!(read.into_event().unwrap(), event, "{line}");
        }
    }
}
