//! The JSON Schema of the rule file: composed of the raw structs' own and of the connectors'.
//!
//! It finds what the shape of a file shows: unknown keys, wrong kinds of values, patterns and
//! operators, the formats of names, durations, cron lines and addresses. What needs the whole of a
//! file (names that lead nowhere) it finds where it is made for that file; what needs a parser
//! (paths, expressions, programs) is `check`'s alone.

mod names;
mod pattern;
mod texts;

use pointsman_connectors::listener::ListenSettings;
use pointsman_connectors::{CONNECTORS, Connector};
use pointsman_rules::transform::RawMapping;
use pointsman_schemas::{Duplicates, Interval, Name};
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::event_schema::RawEventSchema;
use super::quota::RawTenantQuota;
use crate::telemetry::metrics::settings::MetricSettings;
use crate::telemetry::traces::settings::TraceSettings;

use super::raw::{RawAdmin, RawDelivery, RawPipe, RawRule, RawStore, RawTest};

pub use names::Known;
pub(super) use pattern::EventPattern;
pub(super) use texts::{
    Address, ConditionText, Expected, PathText, RuleDelivery, SourceName, TargetName, TestEvent,
};

/// The pattern of names.
const NAME: &str = "^[a-z0-9-]{1,63}$";

/// What the schema is called. A URN, since it is read from where it lies: the modeline of a rule
/// file names that.
const ID: &str = "urn:pointsman:rule-file";

/// Makes a type that stands for a schema with a name of its own.
macro_rules! described {
    ($(#[$meta:meta])* $type:ident($name:literal, |$generator:ident| $schema:expr)) => {
        $(#[$meta])*
        pub(in crate::config) struct $type;
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}
pub(super) use described;

/// `retention` of a source.
fn retention(generator: &mut SchemaGenerator) -> Schema {
    let mut retention = generator.subschema_for::<Interval>();
    let told = "How long its events are kept once nothing waits for them; `store.retention` by \
                default.";
    retention.insert("description".to_owned(), told.into());
    retention
}

/// The schema, in the draft 2020-12.
#[must_use]
pub fn rule_file() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let of_source = vec![
        ("event", generator.subschema_for::<RawMapping>()),
        ("deduplicate", generator.subschema_for::<Duplicates>()),
        ("retention", retention(&mut generator)),
    ];
    let of_target = vec![("delivery", generator.subschema_for::<RawDelivery>())];
    let source = entity(&mut generator, of_source, |connector, generator| {
        connector
            .source
            .built()
            .map(|kind| (kind.schema)(generator))
    });
    let target = entity(&mut generator, of_target, |connector, generator| {
        connector
            .target
            .built()
            .map(|kind| (kind.schema)(generator))
    });
    let mut rule: Value = generator.subschema_for::<RawRule>().into();
    let mut pipes: Value = generator.subschema_for::<RawPipe>().into();
    let mut tests: Value = generator.subschema_for::<RawTest>().into();
    let mut schemas: Value = generator.subschema_for::<RawEventSchema>().into();
    let mut outer = outer(&mut generator);
    let mut definitions = Value::Object(generator.take_definitions(true));
    let (mut source, mut target) = (source, target);
    for schema in [
        &mut source,
        &mut target,
        &mut rule,
        &mut pipes,
        &mut tests,
        &mut schemas,
        &mut outer,
        &mut definitions,
    ] {
        refuse_null(schema);
        unwrap_lines(schema);
    }
    let mut properties = json!({
        "sources": sources(source),
        "targets": targets(target),
        "rules": rules(rule),
        "pipes": named("Straight from one source to one target: the source is told once the target \
                        has answered.", pipes),
        "schemas": event_schemas(schemas),
        "tests": {
            "description": "What the rules are expected to do; run by `pointsman test`.",
            "type": ["object", "null"],
            "additionalProperties": tests,
        },
    });
    if let (Value::Object(properties), Value::Object(outer)) = (&mut properties, outer) {
        properties.extend(outer);
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": ID,
        "title": "Pointsman rule file",
        "description": "What happens (sources), who is told (targets), and which events go where (rules).",
        "type": "object",
        "properties": properties,
        "patternProperties": { "^x-": true },
        "additionalProperties": false,
        "$defs": definitions,
    })
}

/// What stands at the top of a file once.
fn outer(generator: &mut SchemaGenerator) -> Value {
    json!({
        "listen": generator.subschema_for::<ListenSettings>(),
        "admin": generator.subschema_for::<RawAdmin>(),
        "store": generator.subschema_for::<RawStore>(),
        "traces": generator.subschema_for::<TraceSettings>(),
        "metrics": generator.subschema_for::<MetricSettings>(),
        "tenant": generator.subschema_for::<Name>(),
        "quota": generator.subschema_for::<RawTenantQuota>(),
    })
}

fn sources(source: Value) -> Value {
    let sources = named(
        "Where events come from; the HTTP ingress is always there.",
        source,
    );
    // Those that are always there cannot be defined.
    let names = json!({ "pattern": NAME, "not": { "enum": super::load::names::BUILT_IN_SOURCES } });
    with(
        with(sources, "propertyNames", names),
        "examples",
        json!([
            { "heartbeat": { "timer": { "every": "30s" } } },
            { "inbox": { "directory": { "path": "./uploads" } } },
        ]),
    )
}

fn event_schemas(schema: Value) -> Value {
    let total = json!({ "type": "object", "required": ["total"], "properties": { "total": { "type": "number" } } });
    json!({
        "description": "What the data of events has to be, by their type.",
        "type": ["object", "null"],
        "propertyNames": { "pattern": "^[^*]+$" },
        "additionalProperties": schema,
        "examples": [{ "order.paid": { "schema": total, "on_mismatch": "refuse" } }],
    })
}

fn targets(target: Value) -> Value {
    with(
        named("Where events go.", target),
        "examples",
        json!([
            { "function": { "http": { "url": "http://127.0.0.1:9000/" } } },
            { "console": { "stdout": {} } },
        ]),
    )
}

fn rules(rule: Value) -> Value {
    with(
        named("Which events go where.", rule),
        "examples",
        json!([
            {
                "large-orders": {
                    "match": {
                        "type": ["order.paid"],
                        "data": { "total": [{ "numeric": [">", 100] }] },
                    },
                    "to": "function",
                },
            },
        ]),
    )
}

/// Takes null out of what may be left out: a key without a value is a mistake.
fn refuse_null(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(refuse_null),
        Value::Object(keys) => {
            if let Some(Value::Array(types)) = keys.get_mut("type")
                && let [one, Value::String(null)] = types.as_slice()
                && null == "null"
            {
                let one = one.clone();
                keys.insert("type".to_owned(), one);
            }
            if let Some(Value::Array(choices)) = keys.get_mut("anyOf") {
                choices.retain(|choice| *choice != json!({ "type": "null" }));
                if let [Value::Object(one)] = choices.as_slice() {
                    let one = one.clone();
                    keys.remove("anyOf");
                    // What the key itself says of it is nearer than what its kind says.
                    for (key, value) in one {
                        keys.entry(key).or_insert(value);
                    }
                }
            }
            keys.values_mut().for_each(refuse_null);
        }
        _ => {}
    }
}

/// Joins the lines of descriptions, which are comments of the code: an editor breaks them itself.
fn unwrap_lines(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(unwrap_lines),
        Value::Object(keys) => {
            if let Some(Value::String(text)) = keys.get_mut("description") {
                let paragraphs = text.split("\n\n").map(|lines| lines.replace('\n', " "));
                *text = paragraphs.collect::<Vec<_>>().join("\n\n");
            }
            keys.values_mut().for_each(unwrap_lines);
        }
        _ => {}
    }
}

/// A section: a mapping of names.
fn named(description: &str, entity: Value) -> Value {
    json!({
        "description": description,
        "type": ["object", "null"],
        "propertyNames": { "pattern": NAME },
        "additionalProperties": entity,
    })
}

fn with(mut schema: Value, key: &str, value: Value) -> Value {
    if let Some(entries) = schema.as_object_mut() {
        entries.insert(key.to_owned(), value);
    }
    schema
}

/// A source or a target: one connector's settings under its name, beside what all have.
fn entity(
    generator: &mut SchemaGenerator,
    options: Vec<(&str, Schema)>,
    side: impl Fn(&Connector, &mut SchemaGenerator) -> Option<Schema>,
) -> Value {
    let options = options.into_iter();
    let mut properties: Map<String, Value> = options
        .map(|(option, schema)| (option.to_owned(), schema.into()))
        .collect();
    let mut kinds = Vec::new();
    for connector in CONNECTORS {
        if let Some(schema) = side(connector, generator) {
            properties.insert(connector.kind.to_owned(), schema.into());
            kinds.push(json!({ "required": [connector.kind] }));
        }
    }
    json!({
        "type": "object",
        "properties": properties,
        "oneOf": kinds,
        "additionalProperties": false,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::mistake::Mistakes;
    use crate::config::reader::{Piece, read};
    use crate::config::yaml;

    const COMMITTED: &str = "schemas/json/rules.schema.json";

    #[test]
    fn the_committed_schema_is_the_one_that_is_printed() {
        let printed = format!("{:#}\n", rule_file());
        if std::env::var_os("UPDATE_SCHEMAS").is_some() {
            std::fs::create_dir_all("schemas/json").unwrap();
            std::fs::write(COMMITTED, &printed).unwrap();
        }
        let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
        assert!(
            committed == printed,
            "{COMMITTED} is not what `pointsman schema` prints; run the tests with UPDATE_SCHEMAS=1"
        );
    }

    fn value(path: &Path) -> Value {
        let text = std::fs::read_to_string(path).unwrap();
        let root = yaml::read(&text).unwrap();
        read(Piece {
            node: &root,
            entry: None,
            text: &text,
            mistakes: &Mistakes::default(),
        })
        .unwrap()
    }

    fn yaml_files(folder: &str) -> Vec<std::path::PathBuf> {
        let files = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        files
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "yaml")
            })
            .collect()
    }

    fn told(schema: &jsonschema::Validator, path: &Path) -> Vec<String> {
        schema
            .iter_errors(&value(path))
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect()
    }

    /// The schema that is made for a file.
    fn made_for(path: &Path) -> jsonschema::Validator {
        let mut schema = rule_file();
        Known::of_files(&[path.to_owned()])
            .unwrap()
            .put_into(&mut schema);
        jsonschema::validator_for(&schema).unwrap()
    }

    #[test]
    fn what_is_sound_fits_the_schema() {
        let schema = jsonschema::validator_for(&rule_file()).unwrap();
        let examples = std::fs::read_dir("examples")
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let folders = examples
            .chain(["src/config/fixtures/good".into()])
            .map(|folder| folder.display().to_string());
        let sound: Vec<_> = folders.flat_map(|folder| yaml_files(&folder)).collect();
        assert!(sound.len() >= 10, "{sound:?}");
        for path in sound {
            assert_eq!(
                told(&schema, &path),
                Vec::<String>::new(),
                "{}",
                path.display()
            );
            assert_eq!(
                told(&made_for(&path), &path),
                Vec::<String>::new(),
                "{}",
                path.display()
            );
        }
    }

    #[test]
    fn cron_lines_fit_as_check_takes_them() {
        let schema = jsonschema::validator_for(&rule_file()).unwrap();
        let lines = [
            "0 9 * * MON-FRI",
            "*/15 * * * *",
            "/15 * * * *",
            "0 0 1 1 *",
            "30 9 * * sun,Sat",
            "0 0 L * ?",
            "0 0 LW * *",
            "0 0 15W * *",
            "0 0 * * FRI#2",
            "0 0 * * 5L",
            "0 0 ? JAN-MAR *",
            "1 2 3 4 5 6",
            "0 0 9 * * * 2030-2035",
            "  0   9 * *  1-5 ",
            "CRON_TZ=Europe/Berlin 0 9 * * *",
            "TZ=UTC @daily",
            "@Daily",
            "@midnight",
            "@hourly",
            "00 09 01 01 7",
            "0 9 1 * +MON",
            "5/10 * * * *",
            "0 0 * * 1,3,5",
            "0-10/2 * * * *",
            "59 23 31 12 7",
            "0 9 * * MON-FRY",
            "61 9 * * *",
            "0 24 * * *",
            "0 9 0 * *",
            "0 9 32 * *",
            "0 9 * 13 *",
            "0 9 * * 8",
            "0 9 * *",
            "0 9 * * * * * *",
            "@dayly",
            "@every 30s",
            "cron(0 9 ? * MON-FRI *)",
            "rate(5 minutes)",
            "",
            "every day",
            "*/0 * * * *",
            "0 9 ? * MON-FRI *",
            "1,,2 * * * *",
            "0 9 * * FRI#6",
            "0 9 * * L",
            "-1 * * * *",
            "0 9 * * MON FRI TUE 5",
            "0 0 9 * * * 2001",
            "0 0 9 * * * 2020-2025,1999",
            "0 0 9 * * * 2020-2030",
            "0 0 9 * * * 2020,2031",
            "0 0 9 * * * 2020/5",
        ];
        for line in lines {
            let text = format!("sources: {{ s: {{ timer: {{ cron: {line:?} }} }} }}");
            let loaded = crate::config::Config::of_text("pointsman.yaml", Path::new("/"), &text);
            let file = json!({ "sources": { "s": { "timer": { "cron": line } } } });
            assert_eq!(schema.is_valid(&file), loaded.is_ok(), "{line:?}");
        }
    }

    #[test]
    fn examples_name_the_schema_for_editors() {
        for example in std::fs::read_dir("examples").unwrap() {
            let path = example.unwrap().path().join("pointsman.yaml");
            let text = std::fs::read_to_string(&path).unwrap();
            let schema = text
                .lines()
                .next()
                .unwrap()
                .strip_prefix("# yaml-language-server: $schema=")
                .unwrap();
            let schema = path.parent().unwrap().join(schema).canonicalize().unwrap();
            assert_eq!(schema, Path::new(COMMITTED).canonicalize().unwrap());
        }
    }

    #[test]
    fn slips_do_not_fit() {
        let schema = jsonschema::validator_for(&rule_file()).unwrap();
        let (mut missed, mut missed_for_the_file, mut count) = (Vec::new(), Vec::new(), 0);
        for path in yaml_files("src/config/fixtures/slips") {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let refused = crate::config::Config::load(std::slice::from_ref(&path)).is_err();
            assert!(refused, "{name} is no mistake");
            count += 1;
            // What is no YAML an editor finds without a schema.
            let Ok(known) = Known::of_files(std::slice::from_ref(&path)) else {
                continue;
            };
            let mut made = rule_file();
            known.put_into(&mut made);
            if told(&schema, &path).is_empty() {
                missed.push(name.clone());
            }
            if told(&jsonschema::validator_for(&made).unwrap(), &path).is_empty() {
                missed_for_the_file.push(name);
            }
        }
        missed.sort();
        missed_for_the_file.sort();
        assert!(count >= 57, "{count}");
        insta::assert_snapshot!(format!(
            "{count} files\nby the schema, not found:\n  {}\nby the schema made for the file, not found:\n  {}",
            missed.join("\n  "),
            missed_for_the_file.join("\n  ")
        ));
        assert!(missed.len() * 5 <= count && missed_for_the_file.len() * 10 <= count);
    }
}
