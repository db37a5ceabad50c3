use std::sync::Arc;

use bytes::Bytes;
use clap::Parser;
use pointsman_schemas::{Data, Event};
use serde_json::Value;

use super::*;
use crate::admin::testing::{NOON, TestBus, name};
use pointsman_journal::{Append, Entry, Journal};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: DiffArgs,
}

const OLD: &str = "
sources: { uploads: { directory: { path: . } } }
targets: { console: { stdout: {} }, audit: { stdout: {} } }
rules:
  dear: { match: { type: [order], data: { total: [{ numeric: ['>', 100] }] } }, to: [console, audit] }
  pictures: { from: uploads, match: { type: [photo] }, transform: { data: { key: <$.subject> } }, to: console }
  old-name: { match: { type: [other] }, to: console }
  left: { match: { type: [nothing] }, to: audit }
";

const NEW: &str = "
sources: { uploads: { directory: { path: . } } }
targets: { console: { stdout: {} }, audit: { stdout: {} } }
rules:
  dear: { match: { type: [order], data: { total: [{ numeric: ['>', 200] }] } }, to: console }
  pictures: { from: uploads, match: { type: [photo] }, transform: { data: { key: <$.subject>, n: <$.data.n> } }, to: console }
  new-name: { match: { type: [other] }, to: console, renamed_from: old-name }
  all: { where: $.data.total >= 250, transform: { data: { total: <$.data.total> } }, to: audit }
";

/// Events of the last hours.
async fn events(bus: &TestBus<impl Journal + 'static>) {
    let event = |id: usize, ty: &'static str, data: String| {
        let event = Event::builder(id.to_string(), "/shop", ty)
            .subject("a.jpg")
            .data(Data::json(Bytes::from(data)).unwrap());
        Entry {
            event: Arc::new(event.build().unwrap()),
            deliveries: [].into_iter().collect(),
            deduplicate: None,
            dead: None,
            terms: None,
        }
    };
    let orders = [50, 150, 180, 250]
        .iter()
        .enumerate()
        .map(|(id, total)| event(id, "order", format!("{{\"total\":{total}}}")));
    let report = Event::builder("r", "/rules/dear", crate::dispatcher::follow::FAILED)
        .data(Data::json(Bytes::from_static(br#"{"total":900}"#)).unwrap());
    let report = Entry {
        event: Arc::new(report.build().unwrap()),
        deliveries: [].into_iter().collect(),
        deduplicate: None,
        dead: None,
        terms: None,
    };
    let entries = orders
        .chain([event(9, "other", "{}".to_owned()), report])
        .collect();
    let append = Append {
        tenant: name("default"),
        origin: name("ingress"),
        entries,
        rejects: Vec::new(),
        cursor: None,
        positions: Vec::new(),
    };
    bus.journal.append(append).await.unwrap();
}

/// What a command line prints when it is spoken to a bus, and its exit code.
async fn typed(
    bus: &TestBus<impl Journal + 'static>,
    old: &str,
    new: &str,
    line: &str,
) -> (String, u8) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let words = [
        "diff".to_owned(),
        path("new.yaml", new),
        "--from".to_owned(),
        path("old.yaml", old),
        "--admin".to_owned(),
        format!("http://{}", bus.address),
    ];
    let args = Line::try_parse_from(
        words
            .into_iter()
            .chain(line.split_whitespace().map(str::to_owned)),
    )
    .map(|line| line.args);
    let args = match args {
        Ok(args) => args,
        Err(error) => return (error.to_string(), 2),
    };
    let (text, code) = execute(&args, NOON)
        .await
        .unwrap_or_else(|error| (error.to_string(), 2));
    (text.replace(&folder.path().display().to_string(), ""), code)
}

#[tokio::test]
async fn what_would_go_elsewhere_is_told_with_examples() {
    let folder = tempfile::tempdir().unwrap();
    let bus = TestBus::start_on_disk(folder.path()).await;
    events(&bus).await;
    let (text, code) = typed(&bus, OLD, NEW, "--examples 2").await;
    assert_eq!(code, 1);
    insta::assert_snapshot!(text);
    let store = format!("--store {}", folder.path().display());
    let (of_store, _) = typed(&bus, OLD, NEW, &format!("--examples 2 {store}")).await;
    assert_eq!(of_store, text, "a store says the same as the bus on it");
    let json: Value =
        serde_json::from_str(&typed(&bus, OLD, NEW, "--json --examples 1").await.0).unwrap();
    assert_eq!((&json["events"], &json["moved"]), (&8.into(), &6.into()));
    let lost = json["targets"]
        .as_array()
        .unwrap()
        .iter()
        .find(|line| line["rule"] == "dear" && line["target"] == "audit")
        .unwrap();
    assert_eq!(
        (
            &lost["lost"]["count"],
            lost["lost"]["examples"].as_array().unwrap().len(),
            &lost["in_new"]
        ),
        (&3.into(), 1, &false.into())
    );
}

#[tokio::test]
async fn the_same_rules_send_nothing_elsewhere() {
    let bus = TestBus::start(&[]).await;
    events(&bus).await;
    let (text, code) = typed(&bus, OLD, OLD, "").await;
    assert_eq!(
        (
            code,
            text.lines()
                .next()
                .unwrap()
                .ends_with(": all go where they go now")
        ),
        (0, true),
        "{text}"
    );
    let (text, code) = typed(&bus, OLD, "rules: { r: { tö: a } }", "").await;
    assert_eq!(
        (code, text.contains("unknown key `tö`")),
        (2, true),
        "{text}"
    );
    assert!(
        typed(&bus, OLD, NEW, "--against yesterday")
            .await
            .0
            .starts_with("error: invalid value 'yesterday' for '--against <DURATION>'")
    );
}

#[tokio::test]
async fn many_events_are_read_page_by_page() {
    let folder = tempfile::tempdir().unwrap();
    let bus = TestBus::start_on_disk(folder.path()).await;
    for _ in 0..500 {
        events(&bus).await;
    }
    let of_bus = typed(&bus, OLD, NEW, "--json").await;
    let json: Value = serde_json::from_str(&of_bus.0).unwrap();
    assert_eq!(json["events"], 3 + 500 * 5);
    let line = format!("--json --store {}", folder.path().display());
    assert_eq!(typed(&bus, OLD, NEW, &line).await, of_bus);
}
