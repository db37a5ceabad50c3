use std::path::Path;

use pointsman_schemas::{Class, json as format};
use tower::ServiceExt;

use super::*;
use crate::TargetService;
use crate::suite::{Received, TargetFixture, attempt, context, parse, targets};

struct Appending(tempfile::TempDir);

impl Appending {
    fn path(&self) -> PathBuf {
        self.0.path().join("events.jsonl")
    }
}

/// The ids of the events in a file.
fn ids(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let id =
        |line: &str| format::decode(&line.to_owned().into()).map(|event| event.id().to_owned());
    text.lines()
        .map(|line| id(line).unwrap_or_else(|_| format!("torn: {line}")))
        .collect()
}

impl TargetFixture for Appending {
    const KIND: &'static str = "file";

    fn settings(&self) -> Value {
        json!({ "path": self.path() })
    }

    async fn received(&self) -> Vec<Received> {
        let received = |id| Received {
            id,
            texts: Vec::new(),
            trace: None,
        };
        ids(&self.path()).into_iter().map(received).collect()
    }

    fn stalling(&self) -> Option<Value> {
        None
    }

    async fn begun(&self) {}

    async fn abandoned(&self) {}

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        vec![
            (json!({ "path": "" }), "path"),
            (json!({ "path": "/var/<$.type>" }), "path"),
            (
                json!({ "path": "a", "rotate": { "size": "10B" } }),
                "rotate.size",
            ),
            (
                json!({ "path": "a", "rotate": { "size": "1MiB", "keep": 0 } }),
                "rotate.keep",
            ),
        ]
    }
}

async fn opened(settings: &Value) -> TargetService {
    parse("file", settings)
        .unwrap()
        .open(context())
        .await
        .unwrap()
}

async fn class(service: &TargetService, id: &str) -> Class {
    let outcomes = service.clone().oneshot(attempt(&[id], 0)).await.unwrap();
    outcomes[0].class
}

#[tokio::test]
async fn conforms() {
    targets(&Appending(tempfile::tempdir().unwrap())).await;
}

#[tokio::test]
async fn a_file_is_put_aside_once_it_is_large_and_so_many_are_kept() {
    let fixture = Appending(tempfile::tempdir().unwrap());
    let mut settings = fixture.settings();
    settings["rotate"] = json!({ "size": "1KiB", "keep": 2 });
    let service = opened(&settings).await;
    let all: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    for id in &all {
        assert_eq!(class(&service, id).await, Class::Delivered);
    }
    let path = fixture.path();
    let of = |suffix: &str| ids(&PathBuf::from(format!("{}{suffix}", path.display())));
    let kept = [of(".2"), of(".1"), of("")].concat();
    assert!(all.ends_with(&kept) && kept.len() > 10, "{kept:?}");
    assert!(!of(".1").is_empty() && !of(".2").is_empty());
    let others = std::fs::read_dir(fixture.0.path()).unwrap().count();
    assert_eq!(others, 3);
}

#[tokio::test]
async fn a_file_that_was_moved_away_or_torn_is_gone_on_with_on_a_line_of_its_own() {
    let fixture = Appending(tempfile::tempdir().unwrap());
    let path = fixture.path();
    std::fs::write(&path, "torn").unwrap();
    let service = opened(&fixture.settings()).await;
    assert_eq!(class(&service, "1").await, Class::Delivered);
    assert_eq!(ids(&path), ["torn: torn", "1"]);
    let aside = fixture.0.path().join("aside");
    std::fs::rename(&path, &aside).unwrap();
    assert_eq!(class(&service, "2").await, Class::Delivered);
    assert_eq!(
        (ids(&aside), ids(&path)),
        (
            vec!["torn: torn".to_owned(), "1".to_owned()],
            vec!["2".to_owned()]
        )
    );
}

#[tokio::test]
async fn a_full_disk_is_waited_for() {
    let service = opened(&json!({ "path": "/dev/full" })).await;
    assert_eq!(class(&service, "1").await, Class::Unavailable);
    let missing = parse("file", &json!({ "path": "/nowhere/at/all" })).unwrap();
    let error = missing.open(context()).await.err().unwrap().to_string();
    assert!(error.contains("cannot open /nowhere/at/all"), "{error}");
}

#[tokio::test]
async fn data_alone_is_a_line() {
    let fixture = Appending(tempfile::tempdir().unwrap());
    let mut settings = fixture.settings();
    settings["mode"] = "data".into();
    let service = opened(&settings).await;
    assert_eq!(class(&service, "1").await, Class::Delivered);
    let text = std::fs::read_to_string(fixture.path()).unwrap();
    let data: Value = serde_json::from_str(&text).unwrap();
    assert!(
        text.ends_with('\n') && text.lines().count() == 1 && data["id"] == "1",
        "{text}"
    );
}
