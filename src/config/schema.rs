//! The JSON Schema of the rule file: composed of the raw structs' own and of the connectors'.

use pointsman_connectors::http::ListenSettings;
use pointsman_connectors::{CONNECTORS, Connector};
use pointsman_rules::transform::RawMapping;
use pointsman_schemas::Name;
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::raw::{RawAdmin, RawDelivery, RawPipe, RawRule, RawStore, RawTest};

/// The schema, in the draft 2020-12.
#[must_use]
pub fn rule_file() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let event = ("event", generator.subschema_for::<RawMapping>());
    let delivery = ("delivery", generator.subschema_for::<RawDelivery>());
    let source = entity(&mut generator, event, |connector, generator| connector.source.as_ref().map(|kind| (kind.schema)(generator)));
    let target = entity(&mut generator, delivery, |connector, generator| connector.target.as_ref().map(|kind| (kind.schema)(generator)));
    let properties = json!({
        "listen": generator.subschema_for::<ListenSettings>(),
        "admin": generator.subschema_for::<RawAdmin>(),
        "store": generator.subschema_for::<RawStore>(),
        "tenant": generator.subschema_for::<Name>(),
        "sources": named("Where events come from; the HTTP ingress is always there.", source),
        "targets": named("Where events go.", target),
        "rules": named("Which events go where.", generator.subschema_for::<RawRule>().into()),
        "pipes": named("Straight from one source to one target: the source is told once the target has answered.", generator.subschema_for::<RawPipe>().into()),
        "tests": {
            "description": "What the rules are expected to do; run by `pointsman test`.",
            "type": ["object", "null"],
            "additionalProperties": generator.subschema_for::<RawTest>(),
        },
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Pointsman rule file",
        "type": "object",
        "properties": properties,
        "patternProperties": { "^x-": true },
        "additionalProperties": false,
        "$defs": generator.take_definitions(true),
    })
}

/// A section: a mapping of names.
fn named(description: &str, entity: Value) -> Value {
    json!({
        "description": description,
        "type": ["object", "null"],
        "propertyNames": { "pattern": "^[a-z0-9-]{1,63}$" },
        "additionalProperties": entity,
    })
}

/// A source or a target: one connector's settings under its name, beside what all have.
fn entity(
    generator: &mut SchemaGenerator,
    (option, schema): (&str, Schema),
    side: impl Fn(&Connector, &mut SchemaGenerator) -> Option<Schema>,
) -> Value {
    let mut properties = Map::from_iter([(option.to_owned(), schema.into())]);
    let mut kinds = Vec::new();
    for connector in CONNECTORS {
        if let Some(schema) = side(connector, generator) {
            properties.insert(connector.kind.to_owned(), schema.into());
            kinds.push(json!({ "required": [connector.kind] }));
        }
    }
    json!({ "type": "object", "properties": properties, "oneOf": kinds, "additionalProperties": false })
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
        assert!(committed == printed, "{COMMITTED} is not what `pointsman schema` prints; run the tests with UPDATE_SCHEMAS=1");
    }

    fn value(path: &Path) -> Value {
        let text = std::fs::read_to_string(path).unwrap();
        let root = yaml::read(&text).unwrap();
        read(Piece { node: &root, entry: None, text: &text, mistakes: &Mistakes::default() }).unwrap()
    }

    fn yaml_files(folder: &str) -> Vec<std::path::PathBuf> {
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect()
    }

    #[test]
    fn what_is_sound_fits_the_schema_and_slips_do_not() {
        let schema = jsonschema::validator_for(&rule_file()).unwrap();
        let sound: Vec<_> = ["src/config/fixtures/good", "examples/quickstart"].into_iter().flat_map(yaml_files).collect();
        assert!(sound.len() >= 3);
        for path in sound {
            let errors: Vec<String> =
                schema.iter_errors(&value(&path)).map(|error| format!("{}: {error}", error.instance_path())).collect();
            assert_eq!(errors, Vec::<String>::new(), "{}", path.display());
        }
        for name in ["unknown_keys", "wrong_types", "bad_names", "unknown_connectors", "going_nowhere", "outer_settings", "a_list"] {
            let path = Path::new("src/config/fixtures/broken").join(name).with_extension("yaml");
            assert!(!schema.is_valid(&value(&path)), "{name}");
        }
    }
}
