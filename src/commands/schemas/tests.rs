use std::path::Path;

use clap::Parser;
use pointsman_schemas::{Data, Event, Sequence};

use super::*;
use crate::config::Config;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: InferArgs,
}

fn args(line: &[&str]) -> InferArgs {
    Line::parse_from(line).args
}

fn stored(ty: &str, data: Option<Data>) -> StoredEvent {
    StoredEvent {
        sequence: Sequence(1),
        tenant: Name::default_tenant(),
        origin: Name::ingress(),
        at: Timestamp(0),
        kept_until: None,
        event: Event::builder("1", "/s", ty)
            .data(data)
            .build()
            .unwrap()
            .into(),
    }
}

fn json(text: &str) -> Option<Data> {
    Some(Data::json(text.to_owned().into()).unwrap())
}

/// What is printed is a rule file that has a schema for each type, for which all events hold.
#[test]
fn what_is_derived_can_be_pasted_and_holds_for_what_it_is_from() {
    let mut events = Vec::new();
    for at in 0..40 {
        let state = ["open", "paid"][at % 2];
        let order = format!(
            "{{\"id\":\"2eb8aa08-aa98-11ea-b4aa-73b441d163{:02}\",\"total\":{at}.5,\"state\":\"{state}\",\
             \"lines\":[{{\"sku\":\"a\",\"count\":{at}}}],\"note\":null,\"yes\":true,\
             \"odd \\\"key\\\"\\u0085\\u2028: [\":{{\"#\":\"- x\"}}}}",
            at
        );
        events.push(stored("order.paid", json(&order)));
        events.push(stored(
            "odd: type #1",
            json(if at == 0 { "1" } else { "null" }),
        ));
    }
    events.push(stored("nothing", None));
    events.push(stored("picture", Some(Data::binary("x".into()))));
    events.push(stored("order.*", json("1")));
    let mut deep = "1".to_owned();
    for _ in 0..60 {
        deep = format!("{{\"a\":[{deep}]}}");
    }
    events.push(stored("deep", json(&deep)));

    let args = args(&["infer"]);
    let mut seen = Seen::new(&args);
    events.iter().for_each(|event| seen.event(event));
    let printed = seen.to_string();
    let (config, warnings) =
        Config::of_text("a.yaml", Path::new("/"), &printed).unwrap_or_else(|mistakes| {
            let told: Vec<_> = mistakes
                .iter()
                .map(crate::config::Diagnostic::line)
                .collect();
            panic!("{told:?}\n{printed}")
        });
    assert!(warnings.is_empty(), "{warnings:?}");
    let types: Vec<&str> = config.schemas.iter().map(|schema| &*schema.ty).collect();
    assert_eq!(types, ["deep", "nothing", "odd: type #1", "order.paid"]);
    for StoredEvent { event, .. } in &events {
        let schema = config
            .schemas
            .iter()
            .find(|schema| *schema.ty == *event.ty());
        let checked = schema.map_or(Ok(()), |schema| schema.schema.check(event));
        assert!(checked.is_ok(), "{checked:?} {event:?}");
    }
    let shown: String = printed
        .lines()
        .skip_while(|line| !line.contains("order.paid"))
        .map(|line| format!("{line}\n"))
        .collect();
    insta::assert_snapshot!(shown);
}

#[test]
fn only_what_is_asked_for_is_looked_at_and_no_more() {
    let args = args(&["infer", "--type", "a", "--samples", "2"]);
    let mut seen = Seen::new(&args);
    for ty in ["b", "a", "a"] {
        assert!(!seen.is_done());
        seen.event(&stored(ty, json("1")));
    }
    assert!(seen.is_done());
    seen.event(&stored("a", json("\"text\"")));
    let other = StoredEvent {
        tenant: Name::new("acme").unwrap(),
        ..stored("a", json("\"text\""))
    };
    seen.event(&other);
    assert_eq!(
        seen.to_string(),
        "schemas:\n  a:  # from 2 events\n    schema:\n      type: integer\n"
    );
}

#[test]
fn types_are_bounded() {
    let args = args(&["infer"]);
    let mut seen = Seen::new(&args);
    for ty in 0..TYPES_MAX + 3 {
        seen.event(&stored(&format!("t{ty}"), json("1")));
    }
    assert_eq!(seen.types.len(), TYPES_MAX);
    assert!(
        seen.to_string()
            .contains("# 3 events of other types are left out")
    );
}
