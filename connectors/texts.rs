//! A setting that is one text, or a list of them.

use std::borrow::Cow;
use std::fmt;

use pointsman_schemas::Text;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::{Deserialize, Deserializer, de};

/// One text, or several.
#[derive(Clone, Debug, Default)]
pub(crate) struct Texts(pub(crate) Vec<Text>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Texts;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, { env: NAME }, { file: path }, or a list of these")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Texts, E> {
                Text::deserialize(StrDeserializer::new(text)).map(|text| Texts(vec![text]))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Texts, A::Error> {
                Text::deserialize(MapAccessDeserializer::new(map)).map(|text| Texts(vec![text]))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = list.next_element()? {
                    texts.push(text);
                }
                Ok(Texts(texts))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Texts {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Texts".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let text = generator.subschema_for::<Text>();
        json_schema!({ "if": { "type": "array" }, "then": { "items": text }, "else": text })
    }
}
