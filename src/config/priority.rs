//! `delivery.priority`: a number, or a text with templates over the event that makes one.

use std::borrow::Cow;

use pointsman_journal::Priority;
use pointsman_rules::TextTemplate;
use pointsman_schemas::{Placement, TemplateText};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

use super::load::addresses;
use super::reader::Piece;

/// How urgent the deliveries of a subscription are.
#[derive(Clone, Debug)]
pub enum DeliveryPriority {
    /// All alike: it says what share of its target the subscription has.
    OfAll(Priority),
    /// Each as its event says: it decides which of them goes first.
    OfEach(TextTemplate),
}

impl Default for DeliveryPriority {
    fn default() -> Self {
        Self::OfAll(Priority::USUAL)
    }
}

/// A priority as it is written.
#[derive(Clone, Debug)]
pub struct RawPriority(String);

impl<'de> Deserialize<'de> for RawPriority {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = RawPriority;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number from 0 to 9, or a text with templates that makes one")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<RawPriority, E> {
                Ok(RawPriority(text.to_owned()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<RawPriority, E> {
                Ok(RawPriority(number.to_string()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<RawPriority, E> {
                Ok(RawPriority(number.to_string()))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<RawPriority, E> {
                Ok(RawPriority(number.to_string()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for RawPriority {
    fn schema_name() -> Cow<'static, str> {
        "Priority".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number from 0 to 9, or a text with templates over the event as it \
                            came that makes one.",
            "examples": [7, "<$.data.urgency ?? 0>"],
            "anyOf": [
                { "type": "integer", "minimum": 0, "maximum": 9 },
                { "type": "string", "pattern": "^[0-9]$|<\\$" },
            ],
        })
    }
}

impl RawPriority {
    /// What it means; none where that is nothing, which is reported.
    pub(super) fn compile(&self, at: Piece<'_>) -> Option<DeliveryPriority> {
        let Self(text) = self;
        let template = TextTemplate::compile(text, Placement::Address)
            .map_err(|problem| at.report_problems([problem]))
            .ok()?;
        if template.is_constant() {
            let number = text.parse().ok().and_then(Priority::new);
            if number.is_none() {
                at.report(
                    format!("`{text}` is no priority"),
                    "give a number from 0, which is usual, to 9, the most urgent; or a template \
                     that finds one in the event, such as <$.data.urgency>",
                );
            }
            return number.map(DeliveryPriority::OfAll);
        }
        let written = TemplateText {
            path: Vec::new(),
            text: text.clone(),
            placement: Placement::Address,
        };
        addresses::in_no_event(at, &written, &template);
        Some(DeliveryPriority::OfEach(template))
    }
}
