//! Schemas derived from data that was seen.
//!
//! Each value that is seen is counted into a tree of what its place has held, and forgotten: so the
//! memory goes by how many places there are, which is bounded, and not by how many samples. What
//! does not fit into the bounds is let be anything. So every sample fits what is derived.

use indexmap::IndexMap;
use jsonschema::Validator;
use serde_json::{Map, Number, Value, json};

use super::compile::compile;

/// How many fields of one object are told apart: more are keys of a table, such as ids.
const FIELDS_MAX: usize = 128;

/// How many places of all samples of a type are told apart.
const PLACES_MAX: usize = 2_000;

/// How deep a place may lie.
const DEPTH_MAX: usize = 20;

/// How many different texts are known of one place.
const TEXTS_MAX: usize = 10;

/// How long those may be, in bytes.
const TEXT_BYTES_MAX: usize = 64;

/// How long a field's name may be, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// From how many texts on those of a place may be all that there are.
const ENUM_SEEN_MIN: u64 = 20;

/// The formats that are looked for, the most particular one first.
const FORMATS: [&str; 4] = ["date-time", "uuid", "email", "uri"];

/// What the data of events of one type has been.
#[derive(Debug)]
pub struct Inference {
    root: Place,
    bounds: Bounds,
}

/// What all places of a type share.
#[derive(Debug)]
struct Bounds {
    /// How many more places may be told apart.
    left: usize,
    /// What holds each of [`FORMATS`] against a text.
    formats: Vec<Validator>,
}

impl Bounds {
    /// Takes one of the places that are left.
    fn take(&mut self) -> bool {
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }

    /// Whether a text is in a format, and looks as if it were meant.
    fn is_in(&self, format: usize, text: &Value) -> bool {
        let as_text = text.as_str().unwrap_or_default();
        let is_meant = match FORMATS.get(format) {
            Some(&"email") => as_text
                .rsplit('@')
                .next()
                .is_some_and(|host| host.contains('.')),
            Some(&"uri") => as_text.contains("://"),
            _ => true,
        };
        is_meant
            && self
                .formats
                .get(format)
                .is_some_and(|format| format.is_valid(text))
    }
}

impl Default for Inference {
    fn default() -> Self {
        let formats = FORMATS
            .iter()
            .filter_map(|format| compile(&json!({ "format": format })).ok());
        Self {
            root: Place::default(),
            bounds: Bounds {
                left: PLACES_MAX,
                formats: formats.collect(),
            },
        }
    }
}

impl Inference {
    /// Takes in a sample; what has no data counts as `null`.
    pub fn see(&mut self, data: &Value) {
        self.root.see(data, DEPTH_MAX, &mut self.bounds);
    }

    /// How many samples were taken in.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.root.seen
    }

    /// A schema that holds for all samples.
    #[must_use]
    pub fn schema(&self) -> Value {
        self.root.schema()
    }
}

/// What was seen at one place.
#[derive(Debug, Default)]
struct Place {
    seen: u64,
    nulls: u64,
    booleans: u64,
    integers: u64,
    /// Those with a fraction or an exponent.
    fractions: u64,
    texts: Texts,
    objects: u64,
    /// None where there were too many to tell them apart.
    fields: Option<IndexMap<String, Place>>,
    is_table: bool,
    arrays: u64,
    items: Option<Box<Place>>,
    /// It lies too deep, or there were too many: anything may be below it.
    is_cut: bool,
}

impl Place {
    fn see(&mut self, value: &Value, depth: usize, bounds: &mut Bounds) {
        self.seen += 1;
        match value {
            Value::Null => self.nulls += 1,
            Value::Bool(_) => self.booleans += 1,
            Value::Number(number) if is_integer(number) => self.integers += 1,
            Value::Number(_) => self.fractions += 1,
            Value::String(text) => self.texts.see(text, value, bounds),
            Value::Array(items) => {
                self.arrays += 1;
                self.see_items(items, depth, bounds);
            }
            Value::Object(members) => {
                self.objects += 1;
                self.see_fields(members, depth, bounds);
            }
        }
    }

    fn see_items(&mut self, items: &[Value], depth: usize, bounds: &mut Bounds) {
        if items.is_empty() || self.is_cut {
            return;
        }
        if depth == 0 || (self.items.is_none() && !bounds.take()) {
            self.is_cut = true;
            return;
        }
        let below = self.items.get_or_insert_default();
        for item in items {
            below.see(item, depth - 1, bounds);
        }
    }

    fn see_fields(&mut self, members: &Map<String, Value>, depth: usize, bounds: &mut Bounds) {
        if self.is_table || self.is_cut {
            return;
        }
        if depth == 0 {
            self.is_cut = true;
            return;
        }
        for (name, value) in members {
            let fields = self.fields.get_or_insert_default();
            let is_new = !fields.contains_key(name);
            let is_too_much = fields.len() >= FIELDS_MAX || name.len() > NAME_BYTES_MAX;
            if is_new && (is_too_much || !bounds.take()) {
                self.is_table = true;
                self.fields = None;
                return;
            }
            let field = fields.entry(name.clone()).or_default();
            field.see(value, depth - 1, bounds);
        }
    }

    fn schema(&self) -> Value {
        let mut schema = Map::new();
        let types = self.types();
        match types.as_slice() {
            // Nothing was seen here.
            [] => return Value::Bool(true),
            [one] => schema.insert("type".to_owned(), json!(one)),
            several => schema.insert("type".to_owned(), json!(several)),
        };
        if self.texts.count > 0 {
            let is_alone = self.texts.count + self.nulls == self.seen;
            self.texts.describe(&mut schema, is_alone, self.nulls > 0);
        }
        if let Some(items) = self.items.as_ref().filter(|_| !self.is_cut) {
            schema.insert("items".to_owned(), items.schema());
        }
        if let Some(fields) = self
            .fields
            .as_ref()
            .filter(|_| !self.is_table && !self.is_cut)
        {
            let always = fields
                .iter()
                .filter(|(_, field)| field.seen == self.objects);
            let required: Vec<&String> = always.map(|(name, _)| name).collect();
            if !required.is_empty() {
                schema.insert("required".to_owned(), json!(required));
            }
            let fields = fields
                .iter()
                .map(|(name, field)| (name.clone(), field.schema()));
            let properties: Map<String, Value> = fields.collect();
            schema.insert("properties".to_owned(), Value::Object(properties));
        }
        Value::Object(schema)
    }

    fn types(&self) -> Vec<&'static str> {
        // Every integer is a number.
        let (numbers, integers) = match self.fractions {
            0 => (0, self.integers),
            _ => (1, 0),
        };
        let counts = [
            (self.objects, "object"),
            (self.arrays, "array"),
            (self.texts.count, "string"),
            (integers, "integer"),
            (numbers, "number"),
            (self.booleans, "boolean"),
            (self.nulls, "null"),
        ];
        let seen = counts.into_iter().filter(|(count, _)| *count > 0);
        seen.map(|(_, name)| name).collect()
    }
}

fn is_integer(number: &Number) -> bool {
    number.is_i64() || number.is_u64()
}

/// The texts of one place.
#[derive(Debug, Default)]
struct Texts {
    count: u64,
    /// How often each was seen; none where they are too many or too long.
    different: Option<IndexMap<String, u64>>,
    are_many: bool,
    /// Which of [`FORMATS`] some text was not in.
    misses: [bool; FORMATS.len()],
}

impl Texts {
    fn see(&mut self, text: &str, value: &Value, bounds: &Bounds) {
        self.count += 1;
        for (format, misses) in self.misses.iter_mut().enumerate() {
            // Looked for only as long as all were in it.
            *misses = *misses || !bounds.is_in(format, value);
        }
        if self.are_many {
            return;
        }
        let different = self.different.get_or_insert_default();
        let is_new = !different.contains_key(text);
        if is_new && (different.len() >= TEXTS_MAX || text.len() > TEXT_BYTES_MAX) {
            (self.are_many, self.different) = (true, None);
            return;
        }
        *different.entry(text.to_owned()).or_default() += 1;
    }

    fn describe(&self, schema: &mut Map<String, Value>, is_alone: bool, has_nulls: bool) {
        let formats = self
            .misses
            .iter()
            .zip(FORMATS)
            .find(|(misses, _)| !**misses);
        if let Some((_, format)) = formats {
            schema.insert("format".to_owned(), json!(format));
            return;
        }
        let Some(different) = &self.different else {
            return;
        };
        // Few that come again and again; one alone may be a matter of where the samples are from.
        let are_few = different.len() > 1
            && self.count >= ENUM_SEEN_MIN
            && different.values().all(|count| *count > 1)
            && different.len() as u64 * 4 <= self.count;
        if !are_few || !is_alone {
            return;
        }
        let mut values: Vec<&String> = different.keys().collect();
        values.sort();
        let mut values: Vec<Value> = values.into_iter().map(|text| json!(text)).collect();
        if has_nulls {
            values.push(Value::Null);
        }
        schema.insert("enum".to_owned(), Value::Array(values));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::EventSchema;

    fn inferred(samples: &[Value]) -> Value {
        let mut inference = Inference::default();
        samples.iter().for_each(|sample| inference.see(sample));
        inference.schema()
    }

    #[test]
    fn what_was_seen_is_described() {
        let many = |values: &[Value]| values.iter().cycle().take(40).cloned().collect::<Vec<_>>();
        let table = [
            (vec![], json!(true)),
            (vec![json!(null)], json!({ "type": "null" })),
            (vec![json!(1), json!(2)], json!({ "type": "integer" })),
            (vec![json!(1), json!(2.5)], json!({ "type": "number" })),
            (
                vec![json!("a"), json!(null), json!(true)],
                json!({ "type": ["string", "boolean", "null"] }),
            ),
            (
                vec![json!([1, "a"]), json!([])],
                json!({ "type": "array", "items": { "type": ["string", "integer"] } }),
            ),
            (vec![json!([])], json!({ "type": "array" })),
            (
                vec![json!({ "a": 1, "b": null }), json!({ "a": 2 })],
                json!({ "type": "object", "required": ["a"], "properties": { "a": { "type": "integer" }, "b": { "type": "null" } } }),
            ),
            (
                vec![
                    json!("2026-01-31T09:00:00Z"),
                    json!("2026-01-31T09:00:00+01:00"),
                ],
                json!({ "type": "string", "format": "date-time" }),
            ),
            (
                vec![json!("2026-01-31T09:00:00Z"), json!("soon")],
                json!({ "type": "string" }),
            ),
            (
                vec![json!("2eb8aa08-aa98-11ea-b4aa-73b441d16380")],
                json!({ "type": "string", "format": "uuid" }),
            ),
            (
                vec![json!("a@example.com")],
                json!({ "type": "string", "format": "email" }),
            ),
            (vec![json!("a@b")], json!({ "type": "string" })),
            (
                vec![json!("https://example.com/a")],
                json!({ "type": "string", "format": "uri" }),
            ),
            (vec![json!("a:b")], json!({ "type": "string" })),
            (
                many(&[json!("paid"), json!("open")]),
                json!({ "type": "string", "enum": ["open", "paid"] }),
            ),
            (
                many(&[json!("paid"), json!("open"), json!(null)]),
                json!({ "type": ["string", "null"], "enum": ["open", "paid", null] }),
            ),
            (many(&[json!("paid")]), json!({ "type": "string" })),
            (
                many(&[json!("paid"), json!("open"), json!(1)]),
                json!({ "type": ["string", "integer"] }),
            ),
            (
                vec![json!("paid"), json!("open")],
                json!({ "type": "string" }),
            ),
        ];
        for (samples, expect) in table {
            assert_eq!(inferred(&samples), expect, "{samples:?}");
        }
    }

    #[test]
    fn what_is_without_bounds_is_described_within_some() {
        let keys = |from: usize| (from..from + 100).map(|key| (format!("id-{key}"), json!(1)));
        let table: Vec<Value> = [0, 100]
            .map(|from| Value::Object(keys(from).collect()))
            .into();
        assert_eq!(inferred(&table), json!({ "type": "object" }));
        let deep = (0..100).fold(json!(1), |below, _| json!({ "a": below }));
        assert!(inferred(&[deep]).to_string().len() < 2_000);
        let wide = |sample: usize| json!({ format!("f{sample}"): Value::Object(keys(sample * 100).collect()) });
        let mut inference = Inference::default();
        let samples: Vec<Value> = (0..200).map(wide).collect();
        samples.iter().for_each(|sample| inference.see(sample));
        assert_eq!(inference.bounds.left, 0);
        let schema = EventSchema::compile(&inference.schema()).unwrap();
        assert!(
            samples
                .iter()
                .all(|sample| schema.check_value(sample).is_ok())
        );
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            "[a-c]{0,2}",
            Just("2026-01-31T09:00:00Z".to_owned()),
            Just("2eb8aa08-aa98-11ea-b4aa-73b441d16380".to_owned()),
            Just("a@example.com".to_owned()),
            Just("https://example.com/".to_owned()),
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            Just(json!(3.0)),
            text.prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec(("[a-d]", inner), 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_sample_fits_what_is_derived(samples in prop::collection::vec(any_json(), 1..60)) {
            let derived = inferred(&samples);
            let schema = EventSchema::compile(&derived);
            prop_assert!(schema.is_ok(), "{derived}");
            let schema = schema.unwrap();
            prop_assert!(schema.warnings().is_empty());
            for sample in samples {
                let checked = schema.check_value(&sample);
                prop_assert!(checked.is_ok(), "{checked:?} {derived} {sample}");
            }
        }
    }
}
