//! The CESQL technology compatibility kit, run in place: `POINTSMAN_CONFORMANCE`, by default
//! `../shared/conformance` beside the workspace.

#[cfg(test)]
mod kit {
    use std::path::PathBuf;

    use bytes::Bytes;
    use pointsman_rules::cesql::{Cesql, ErrorKind, Value as Given};
    use pointsman_schemas::Event;
    use saphyr_parser::{Event as Yaml, Parser, ScalarStyle, StrInput};
    use serde_json::{Map, Value, json};

    /// Reads YAML into JSON: as much of it as the kit uses.
    fn yaml(text: &str) -> Value {
        fn next<'t>(parser: &mut Parser<'t, StrInput<'t>>) -> Yaml<'t> {
            parser.next_event().unwrap().unwrap().0
        }
        fn value<'t>(event: Yaml<'t>, parser: &mut Parser<'t, StrInput<'t>>) -> Option<Value> {
            Some(match event {
                Yaml::Scalar(text, ScalarStyle::Plain, ..) => match text.to_lowercase().as_str() {
                    "true" => true.into(),
                    "false" => false.into(),
                    _ => text
                        .parse::<i64>()
                        .map_or_else(|_| text.clone().into_owned().into(), Value::from),
                },
                Yaml::Scalar(text, ..) => text.into_owned().into(),
                Yaml::SequenceStart(..) => {
                    let mut list = Vec::new();
                    loop {
                        match next(parser) {
                            Yaml::SequenceEnd => break list.into(),
                            event => list.extend(value(event, parser)),
                        }
                    }
                }
                Yaml::MappingStart(..) => {
                    let mut map = Map::new();
                    loop {
                        match next(parser) {
                            Yaml::MappingEnd => break map.into(),
                            // A key such as `true` would be text too.
                            Yaml::Scalar(key, ..) => {
                                let event = next(parser);
                                map.insert(key.into_owned(), value(event, parser).unwrap());
                            }
                            event => panic!("{event:?} is no key"),
                        }
                    }
                }
                _ => return None,
            })
        }
        let mut parser = Parser::new_from_str(text);
        loop {
            let event = next(&mut parser);
            if let Some(value) = value(event, &mut parser) {
                return value;
            }
        }
    }

    fn event(case: &Value) -> Event {
        let mut event =
            json!({"specversion": "1.0", "id": "id", "source": "/source", "type": "type"});
        for key in ["event", "eventOverrides"] {
            for (name, value) in case[key].as_object().into_iter().flatten() {
                event[name] = value.clone();
            }
        }
        pointsman_schemas::json::decode(&Bytes::from(event.to_string())).unwrap()
    }

    /// What a case gives: a result and an error, each as far as there is one.
    fn given(case: &Value) -> (Option<Value>, Option<&'static str>) {
        // An expression such as `TRUE` or `1` is no text to YAML.
        let expression = match &case["expression"] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let event = event(case);
        let Ok(expression) = Cesql::parse(&expression) else {
            return (None, Some("parse"));
        };
        let evaluation = expression.evaluate(&event);
        let value = match evaluation.value {
            Given::Boolean(value) => value.into(),
            Given::Integer(number) => number.into(),
            Given::String(text) => text.into_owned().into(),
        };
        let error = evaluation.error.map(|error| match error.kind() {
            ErrorKind::Math => "math",
            ErrorKind::Cast => "cast",
            ErrorKind::MissingAttribute => "missingAttribute",
            ErrorKind::MissingFunction => "missingFunction",
            ErrorKind::FunctionEvaluation => "functionEvaluation",
        });
        (Some(value), error)
    }

    #[test]
    fn the_compatibility_kit_passes() {
        let folder = std::env::var_os("POINTSMAN_CONFORMANCE").map_or_else(
            || {
                PathBuf::from(concat!(
                    env!("CARGO_MANIFEST_DIR"),
                    "/../../shared/conformance"
                ))
            },
            PathBuf::from,
        );
        let folder = folder.join("cesql-tck");
        if !folder.is_dir() {
            println!(
                "skipped: there is no folder {}; name its parent in POINTSMAN_CONFORMANCE",
                folder.display()
            );
            return;
        }
        let (mut passed, mut failed) = (0, Vec::new());
        for entry in std::fs::read_dir(folder).unwrap() {
            let suite = yaml(&std::fs::read_to_string(entry.unwrap().path()).unwrap());
            for case in suite["tests"].as_array().unwrap() {
                let (result, error) = given(case);
                // What does not parse has no value, whatever the case says.
                let as_expected = result.is_none()
                    || case
                        .get("result")
                        .is_none_or(|expected| result.as_ref() == Some(expected));
                if error == case["error"].as_str() && as_expected {
                    passed += 1;
                } else {
                    failed.push(format!(
                        "{} / {}: {} gives {result:?} {error:?}",
                        suite["name"], case["name"], case["expression"]
                    ));
                }
            }
        }
        println!("CESQL: {passed} of {} pass", passed + failed.len());
        assert!(failed.is_empty() && passed > 0, "{failed:#?}");
    }
}
