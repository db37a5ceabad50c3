use std::path::PathBuf;

use pointsman_schemas::{Clock, Cursor, Event, SystemClock};
use serde_json::{Value, json};

use super::*;
use crate::suite::{SourceFixture, Stored, next_within, open, sources};
use crate::{Arrival, SourceError};

mod rows;
mod state;

/// Longer than anything takes; only a broken test waits for it.
const LONG: Duration = Duration::from_secs(20);

struct Fixture {
    folder: tempfile::TempDir,
    settings: Value,
    written: usize,
}

impl Fixture {
    fn new(more: &Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = json!({ "path": folder.path().join("inbox"), "settle": "30ms" });
        settings
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        std::fs::create_dir(folder.path().join("inbox")).unwrap();
        Self {
            folder,
            settings,
            written: 0,
        }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.path().join("inbox").join(key)
    }

    fn write(&self, key: &str, content: &str) {
        std::fs::create_dir_all(self.path(key).parent().unwrap()).unwrap();
        std::fs::write(self.path(key), content).unwrap();
    }
}

impl SourceFixture for Fixture {
    const KIND: &'static str = "directory";

    fn settings(&self) -> Value {
        self.settings.clone()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    async fn happen(&mut self, count: usize) -> Vec<String> {
        let keys: Vec<_> = (self.written..self.written + count)
            .map(|n| format!("folder-{}/{n}", n % 3))
            .collect();
        keys.iter().for_each(|key| self.write(key, key));
        self.written += count;
        keys
    }

    fn identity(&self, event: &Event) -> String {
        event.subject().unwrap().to_string()
    }

    fn batch_messages_max(&self) -> usize {
        BATCH_MESSAGES_MAX
    }

    fn mistakes(&self) -> Vec<(Value, &'static str)> {
        vec![
            (json!({ "path": "" }), "path"),
            (json!({ "path": "x", "reconcile": "10ms" }), "reconcile"),
            (
                json!({ "path": "x", "ignore": ["*.tmp", "a/b"] }),
                "ignore[1]",
            ),
            (json!({ "path": "x", "ignore": [""] }), "ignore[0]"),
        ]
    }
}

#[tokio::test]
async fn conforms() {
    sources(&mut Fixture::new(&json!({}))).await;
}

/// A source and what it has told so far.
struct Told {
    source: Box<dyn Source>,
    stored: Stored,
    events: Vec<Arc<Event>>,
}

impl Told {
    async fn open(fixture: &Fixture, stored: impl Into<Stored>) -> Self {
        let stored = stored.into();
        Self {
            source: open(fixture, stored.clone(), false).await,
            stored,
            events: Vec::new(),
        }
    }

    /// What is told next, in the order of keys, until so much has been.
    async fn next(&mut self, count: usize) -> Vec<String> {
        let mut told = Vec::new();
        while told.len() < count {
            let batch = next_within(&mut *self.source, LONG)
                .await
                .unwrap_or_else(|| panic!("only {told:?}"))
                .unwrap();
            self.stored.store(&batch);
            for message in batch.messages {
                assert_eq!(message.rejects, []);
                for arrival in message.arrivals {
                    let Arrival::Event(event) = arrival else {
                        panic!("nothing is mapped")
                    };
                    told.push(format!(
                        "{} {}",
                        event.ty().trim_start_matches(EVENT_TYPE_PREFIX),
                        event.subject().unwrap()
                    ));
                    self.events.push(event);
                }
            }
        }
        told.sort();
        told
    }
}

#[tokio::test]
async fn what_is_written_changed_renamed_and_removed_is_told_once_each() {
    let fixture = Fixture::new(&json!({}));
    fixture.write("there", "1");
    let mut told = Told::open(&fixture, None).await;
    assert_eq!(told.next(1).await, ["created there"]);
    fixture.write("new", "1");
    fixture.write("deep/er/file", "1");
    assert_eq!(told.next(2).await, ["created deep/er/file", "created new"]);
    fixture.write("new", "22");
    assert_eq!(told.next(1).await, ["updated new"]);
    std::fs::rename(fixture.path("new"), fixture.path("newer")).unwrap();
    assert_eq!(told.next(2).await, ["created newer", "deleted new"]);
    std::fs::remove_file(fixture.path("there")).unwrap();
    assert_eq!(told.next(1).await, ["deleted there"]);
    std::fs::rename(fixture.path("deep"), fixture.folder.path().join("outside")).unwrap();
    assert_eq!(told.next(1).await, ["deleted deep/er/file"]);
    std::fs::rename(fixture.folder.path().join("outside"), fixture.path("back")).unwrap();
    assert_eq!(told.next(1).await, ["created back/er/file"]);

    let mut ids: Vec<_> = told
        .events
        .iter()
        .map(|event| event.id().to_owned())
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(
        ids.len(),
        told.events.len(),
        "each change has an id of its own"
    );
}

#[tokio::test]
async fn a_file_that_comes_back_as_it_was_is_a_new_happening() {
    let fixture = Fixture::new(&json!({}));
    fixture.write("a", "1");
    let mut told = Told::open(&fixture, None).await;
    told.next(1).await;
    std::fs::rename(fixture.path("a"), fixture.folder.path().join("aside")).unwrap();
    assert_eq!(told.next(1).await, ["deleted a"]);
    std::fs::rename(fixture.folder.path().join("aside"), fixture.path("a")).unwrap();
    assert_eq!(told.next(1).await, ["created a"]);
    assert_ne!(told.events[0].id(), told.events[2].id());
}

#[tokio::test]
async fn what_happened_while_nothing_ran_is_found() {
    let fixture = Fixture::new(&json!({}));
    for key in ["kept", "changed", "removed", "folder/removed"] {
        fixture.write(key, "1");
    }
    let mut told = Told::open(&fixture, None).await;
    told.next(4).await;
    let Told { source, stored, .. } = told;
    drop(source);
    fixture.write("changed", "22");
    fixture.write("created", "1");
    std::fs::remove_file(fixture.path("removed")).unwrap();
    std::fs::remove_dir_all(fixture.path("folder")).unwrap();
    let expect = [
        "created created",
        "deleted folder/removed",
        "deleted removed",
        "updated changed",
    ];
    let mut again = Told::open(&fixture, stored.clone()).await;
    assert_eq!(again.next(4).await, expect);
    let mut once_more = Told::open(&fixture, stored).await;
    assert_eq!(once_more.next(4).await, expect);
    let ids = |told: &Told| {
        let mut ids: Vec<_> = told
            .events
            .iter()
            .map(|event| event.id().to_owned())
            .collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&again), ids(&once_more));
}

#[tokio::test]
async fn the_events_are_of_the_documented_shape() {
    let fixture = Fixture::new(&json!({}));
    fixture.write("photos/ü 1.jpg", "12345");
    let file = std::fs::File::options()
        .write(true)
        .open(fixture.path("photos/ü 1.jpg"))
        .unwrap();
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_millis(1_700_000_000_500))
        .unwrap();
    let mut told = Told::open(&fixture, None).await;
    told.next(1).await;
    std::fs::remove_file(fixture.path("photos/ü 1.jpg")).unwrap();
    told.next(1).await;
    let root = std::fs::canonicalize(fixture.path("")).unwrap();
    for (event, suffix) in told.events.iter().zip(["", "-deleted"]) {
        assert_eq!(event.source(), "/directories/suite");
        let data = event.data().unwrap().value().unwrap();
        let path = root.join("photos/ü 1.jpg");
        assert_eq!(
            *data,
            json!({ "key": "photos/ü 1.jpg", "path": path, "size": 5, "modified": "2023-11-14T22:13:20.5Z" })
        );
        assert!(
            event.id().starts_with(&format!(
                "photos/ü 1.jpg/{:x}-",
                1_700_000_000_500_000_000_u64
            )) && event.id().ends_with(&format!("-0{suffix}")),
            "{}",
            event.id()
        );
    }
    assert_eq!(told.events[0].time().unwrap(), "2023-11-14T22:13:20.5Z");
    assert_ne!(told.events[1].time(), told.events[0].time());
}

#[tokio::test]
async fn unfinished_hidden_and_linked_files_are_left_out_and_odd_names_are_not() {
    use std::os::unix::ffi::OsStringExt;
    let fixture = Fixture::new(&json!({}));
    let mut told = Told::open(&fixture, None).await;
    for key in ["a.tmp", ".hidden", ".git/config", "b.part", "c~"] {
        fixture.write(key, "1");
    }
    std::os::unix::fs::symlink("/etc/passwd", fixture.path("link")).unwrap();
    std::os::unix::fs::symlink("/etc", fixture.path("folder")).unwrap();
    let odd = std::ffi::OsString::from_vec(b"odd-\xff%\n".to_vec());
    std::fs::write(fixture.path("").join(odd), "1").unwrap();
    assert_eq!(told.next(1).await, ["created odd-%FF%25%0A"]);
    assert_eq!(
        told.events[0].data().unwrap().value().unwrap()["encoded"],
        true
    );
    std::fs::rename(fixture.path("a.tmp"), fixture.path("a")).unwrap();
    assert_eq!(told.next(1).await, ["created a"]);
}

/// Paused time passes only while no file is being looked at, so however slow the machine, no write
/// comes too late.
#[tokio::test(start_paused = true)]
async fn a_file_still_being_written_waits() {
    use std::io::Write;
    let fixture = Fixture::new(&json!({ "settle": "300ms" }));
    let mut told = Told::open(&fixture, None).await;
    let mut file = std::fs::File::create(fixture.path("slow")).unwrap();
    for _ in 0..40 {
        file.write_all(b"x").unwrap();
        let early = next_within(&mut *told.source, Duration::from_millis(15)).await;
        let messages = early
            .map(|batch| batch.unwrap().messages)
            .unwrap_or_default();
        assert!(
            messages.iter().all(|message| message.arrivals.is_empty()),
            "{messages:?}"
        );
    }
    assert_eq!(told.next(1).await, ["created slow"]);
    assert_eq!(told.events[0].data().unwrap().value().unwrap()["size"], 40);
}

#[tokio::test]
async fn what_lies_there_at_the_very_first_start_can_be_skipped() {
    let fixture = Fixture::new(&json!({ "existing": "skip" }));
    fixture.write("old", "1");
    let mut told = Told::open(&fixture, None).await;
    let first = next_within(&mut *told.source, LONG).await.unwrap().unwrap();
    assert!(first.messages[0].arrivals.is_empty() && first.cursor.is_some());
    let mut stored = Stored::default();
    stored.store(&first);
    fixture.write("new", "1");
    assert_eq!(told.next(1).await, ["created new"]);
    drop(told);
    fixture.write("newer", "1");
    assert_eq!(
        Told::open(&fixture, stored).await.next(2).await,
        ["created new", "created newer"]
    );
}

/// A source that is told nothing but what the test hints at.
fn unwatched(fixture: &Fixture, reconcile: Duration) -> (Told, Arc<Hints>) {
    let identity = listing::identity(&std::fs::metadata(fixture.path("")).unwrap());
    let scope = Scope {
        root: fixture.path(""),
        identity,
        inodes: Inodes::Lasting,
        recursive: true,
        ignore: Vec::new(),
    };
    let hints = Arc::new(Hints::default());
    let setup = Setup {
        context: context(),
        scope,
        stored: Some(position::Stored::default()),
        hints: Arc::clone(&hints),
        watches: None,
        settle: Duration::ZERO,
        reconcile,
        fingerprint: 1,
        skip_existing: false,
        holds: true,
    };
    (
        Told {
            source: Box::new(Folder::new(setup)),
            stored: Stored::default(),
            events: Vec::new(),
        },
        hints,
    )
}

#[tokio::test]
async fn no_hint_is_needed() {
    let fixture = Fixture::new(&json!({}));
    let (mut told, _) = unwatched(&fixture, Duration::from_millis(50));
    fixture.write("a", "1");
    assert_eq!(told.next(1).await, ["created a"]);
    std::fs::remove_file(fixture.path("a")).unwrap();
    assert_eq!(told.next(1).await, ["deleted a"]);
}

#[tokio::test]
async fn a_hint_that_a_file_has_gone_is_not_believed_where_the_folder_has() {
    let fixture = Fixture::new(&json!({}));
    let (mut told, hints) = unwatched(&fixture, LONG);
    fixture.write("a", "1");
    told.next(1).await;
    std::fs::rename(fixture.path(""), fixture.folder.path().join("elsewhere")).unwrap();
    hints.keep(Ok(
        notify::Event::new(notify::EventKind::Any).add_path(fixture.path("a"))
    ));
    let ended = next_within(&mut *told.source, LONG).await.unwrap();
    assert!(
        matches!(&ended, Err(SourceError::Unavailable(_))),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_folder_that_goes_deletes_nothing() {
    let fixture = Fixture::new(&json!({ "settle": "0ms" }));
    fixture.write("a", "1");
    let mut told = Told::open(&fixture, None).await;
    told.next(1).await;
    std::fs::rename(fixture.path(""), fixture.folder.path().join("elsewhere")).unwrap();
    let ended = next_within(&mut *told.source, LONG).await.unwrap();
    assert!(
        matches!(&ended, Err(SourceError::Unavailable(why)) if why.contains("inbox")),
        "{ended:?}"
    );

    let missing = parse(&fixture.settings).open_here().await;
    assert!(
        missing
            .as_ref()
            .is_err_and(|error| error.starts_with("path: cannot open the folder")
                && error.contains("create: true")),
        "{missing:?}"
    );
    let mut creating = fixture.settings.clone();
    creating["create"] = true.into();
    assert_eq!(parse(&creating).open_here().await, Ok(()));
    assert!(fixture.path("").is_dir());
}

fn parse(settings: &Value) -> DirectorySource {
    serde_json::from_value(settings.clone()).unwrap()
}

fn context() -> SourceContext {
    SourceContext {
        name: pointsman_schemas::Name::new("suite").unwrap(),
        tenant: pointsman_schemas::Name::default_tenant(),
        cursor: None,
        positions: crate::suite::Stored::default().positions(),
        mapped: false,
        clock: Arc::new(SystemClock),
        alarms: crate::Alarms::new(Arc::new(SystemClock)),
        routes: crate::listener::Routes::default(),
        link: crate::Link::new(
            pointsman_schemas::Name::new("suite").unwrap(),
            Arc::new(SystemClock),
        ),
    }
}

impl DirectorySource {
    async fn open_here(&self) -> Result<(), String> {
        self.open(context())
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    }
}

#[tokio::test]
async fn many_files_come_in_bounded_batches_each_with_its_rows() {
    let fixture = Fixture::new(&json!({}));
    let count = 6_000;
    for n in 0..count {
        fixture.write(
            &format!("a-rather-long-name-of-a-folder/{}", n * 1_000_003),
            "",
        );
    }
    let mut source = open(&fixture, None, false).await;
    let (mut told, mut stored) = (0, Stored::default());
    while told < count {
        let batch = next_within(&mut *source, LONG).await.unwrap().unwrap();
        assert!(batch.messages.len() <= BATCH_MESSAGES_MAX && batch.cursor.is_some());
        told += batch.messages.len();
        let of_a_file = |key: &[u8]| usize::from(!key.is_empty());
        let changes = batch.messages.iter().flat_map(|one| &one.positions);
        let rows: usize = changes.map(|change| of_a_file(&change.key)).sum();
        assert_eq!(rows, batch.messages.len());
        stored.store(&batch);
    }
    assert_eq!((told, stored.rows.len()), (count, count + 1));
    assert!(stored.cursor.unwrap().position.len() < 9);
}
