use clap::Parser;

use super::*;
use crate::admin::testing::TestBus;
use pointsman_journal::Journal;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: DeadArgs,
}

/// What a command line prints when it is spoken to a bus.
async fn typed(bus: &TestBus<impl Journal + 'static>, line: &str) -> String {
    let words = format!("dead {line}");
    let words = words
        .split_whitespace()
        .map(str::to_owned)
        .chain(["--admin".to_owned(), format!("http://{}", bus.address)]);
    let args = match Line::try_parse_from(words) {
        Ok(line) => line.args,
        Err(error) => return error.to_string(),
    };
    let text = execute(args)
        .await
        .unwrap_or_else(|error| format!("{error}\n{}", error.help_text()));
    bus.anonymous(&text)
        .replace(&bus.address.to_string(), "127.0.0.1:1")
}

#[tokio::test]
async fn they_are_listed_in_a_table_or_as_json() {
    let bus = TestBus::start(&[]).await;
    insta::assert_snapshot!(typed(&bus, "list").await);
    insta::assert_snapshot!(typed(&bus, "list --rule nobody").await);
    let list: serde_json::Value =
        serde_json::from_str(&typed(&bus, "list --json --rule thumbnails --limit 1").await)
            .unwrap();
    assert_eq!(
        (list.as_array().unwrap().len(), &list[0]["target"]),
        (1, &"thumbnailer".into())
    );
}

#[tokio::test]
async fn one_is_shown_whole_and_does_nothing_to_the_terminal() {
    let bus = TestBus::start(&[]).await;
    let ids = bus.dead().await;
    let one = |number: u32| ids.iter().find(|id| id.subscription.0 == number).unwrap();
    insta::assert_snapshot!(typed(&bus, &format!("show {}", one(1))).await);
    insta::assert_snapshot!(typed(&bus, &format!("show {}", one(0))).await);
    let json = typed(&bus, &format!("show {} --json", one(1))).await;
    assert!(json.contains(crate::admin::testing::DATA), "{json}");
    insta::assert_snapshot!(typed(&bus, "show 00000000000000aa-9-1-0").await);
}

#[tokio::test]
async fn what_was_answered_does_not_look_like_a_line_of_the_sheet() {
    let bus = TestBus::start(&[]).await;
    let list = typed(&bus, "list --json --rule thumbnails --limit 1").await;
    let mut letter = serde_json::from_str::<Vec<DeadView>>(&list)
        .unwrap()
        .remove(0);
    letter.last.as_mut().unwrap().response =
        "no\nrule      innocent\n\u{1b}[1Aid        1\u{202e}".into();
    let sheet = as_sheet(&letter, &view::DeadContent::default());
    let lines: Vec<&str> = sheet
        .lines()
        .filter(|line| line.starts_with("rule") || line.starts_with("id"))
        .collect();
    assert!(
        lines.len() == 2 && !lines.iter().any(|line| line.contains("innocent")),
        "{sheet}"
    );
    assert!(
        sheet.contains("\n          rule      innocent\n")
            && !sheet.contains(['\u{1b}', '\u{202e}']),
        "{sheet}"
    );
}

#[tokio::test]
async fn a_store_says_the_same_as_the_bus_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let bus = TestBus::start_on_disk(folder.path()).await;
    let store = format!("--store {}", folder.path().display());
    let shows = bus.dead().await.into_iter().map(|id| format!("show {id}"));
    let lists = [
        "list",
        "list --json",
        "list --rule audit --reason expired",
        "list --after 00000000000000aa-2-1-0 --limit 2",
    ];
    for line in lists.map(str::to_owned).into_iter().chain(shows) {
        assert_eq!(
            typed(&bus, &format!("{line} {store}")).await,
            typed(&bus, &line).await,
            "{line}"
        );
    }
    assert_eq!(
        typed(&bus, &format!("show 00000000000000aa-9-1-0 {store}")).await,
        "there is no dead letter 00000000000000aa-9-1-0\n"
    );
    assert_eq!(
        typed(&bus, "list --store there").await,
        "cannot open the store: there is no store in \"there\"; check store.path, or start the bus \
         once\n"
    );
}

#[tokio::test]
async fn they_are_redriven_and_purged() {
    let bus = TestBus::start(&[]).await;
    let id = *bus
        .dead()
        .await
        .iter()
        .find(|id| id.subscription.0 == 1)
        .unwrap();
    assert_eq!(
        typed(&bus, &format!("redrive {id}")).await,
        "1 dead letter redriven\n"
    );
    assert_eq!(
        typed(&bus, "redrive --rule audit --reason transform --json").await,
        "{\"redriven\":1}\n"
    );
    assert!(
        typed(&bus, "redrive --reason unreadable")
            .await
            .starts_with("0 dead letters redriven: there is none that is selected and can")
    );
    assert_eq!(
        typed(&bus, "purge --all --yes").await,
        "3 dead letters purged\n"
    );
    assert_eq!(
        typed(&bus, "purge --all --yes").await,
        "0 dead letters purged\n"
    );
    for (line, expect) in [
        (
            "purge --yes",
            "nothing is selected: give ids, tenant, rule, target or reason, or say all\ngive \
                 ids, --rule,",
        ),
        (
            "redrive --all --rule audit",
            "all and a narrower selection exclude each other",
        ),
        (
            "redrive --rule a.b",
            "error: invalid value 'a.b' for '--rule <RULE>': the name \"a.b\" is not made of",
        ),
        (
            "list --reason bored",
            "error: invalid value 'bored' for '--reason <REASON>': unknown variant `bored`, \
                 expected one of `rejected`",
        ),
        (
            "list --limit 0",
            "error: invalid value '0' for '--limit <LIMIT>'",
        ),
        (
            "show x",
            "error: invalid value 'x' for '<ID>': \"x\" is not the id of a delivery",
        ),
    ] {
        let said = typed(&bus, line).await;
        assert!(said.starts_with(expect), "{line}: {said}");
    }
}

#[tokio::test]
async fn what_stands_in_the_way_is_said() {
    let bus = TestBus::start(&["a-key-of-the-operator-7"]).await;
    insta::assert_snapshot!(typed(&bus, "list").await);
    assert!(
        typed(&bus, "list --admin-key a-key-of-the-operator-7")
            .await
            .starts_with("ID ")
    );
    let address = bus.address;
    drop(bus);
    // Nobody else gets this port while it was ours a moment ago; should somebody, then he is no
    // bus either.
    let args = Line::try_parse_from(["dead", "list", "--admin", &format!("http://{address}")])
        .unwrap()
        .args;
    assert!(execute(args).await.is_err());
}

#[tokio::test]
async fn they_are_redriven_elsewhere_and_at_a_rate() {
    let bus = TestBus::start(&[]).await;
    let id = *bus
        .dead()
        .await
        .iter()
        .find(|id| id.subscription.0 == 1)
        .unwrap();
    let line = format!("redrive {id} --to audit");
    assert_eq!(typed(&bus, &line).await, "1 dead letter redriven\n");
    let statuses = bus.journal.reader().subscriptions().await.unwrap();
    let counts = |number: usize| statuses[number - 1].counts;
    assert_eq!((counts(1).redriven, counts(1).created), (1, 3));
    assert_eq!((counts(2).pending, counts(2).created), (1, 4));
    let printed = typed(&bus, "redrive --rule audit --rate 100/s --to 1").await;
    let id = printed.split_whitespace().nth(1).unwrap();
    let mut state = String::new();
    for _ in 0..500 {
        let (status, replay) = bus.get(&format!("/api/v1/replays/{id}")).await;
        assert_eq!(status, 200, "{replay}");
        state = format!("{} {}", replay["state"], replay["made"]);
        if state.starts_with("\"finished") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(state, "\"finished\" 3");
    for (line, expect) in [
        ("redrive --all --to nobody", "has no rule nobody"),
        ("redrive --all --to 99", "there is no subscription 99"),
        (
            "redrive --all --to a.b",
            "error: invalid value 'a.b' for '--to",
        ),
        ("redrive --all --rate 7", "\"7\" is not a rate"),
    ] {
        let said = typed(&bus, line).await;
        assert!(said.contains(expect), "{line}: {said}");
    }
}

#[tokio::test]
async fn one_is_edited_from_a_file_redriven_as_that_and_given_back() {
    let bus = TestBus::start(&[]).await;
    let ids = bus.dead().await;
    let id = ids.iter().find(|id| id.subscription.0 == 1).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let write = |text: &str| std::fs::write(file.path(), text).unwrap();
    write(
        r#"{"specversion":"1.0","id":"mended","source":"/s","type":"t","data":{"n":12345678901234567890123}}"#,
    );
    let from_file = format!("edit {id} --file {}", file.path().display());
    let sheet = typed(&bus, &from_file).await;
    assert!(
        sheet.contains("edited to") && sheet.contains("12345678901234567890123"),
        "{sheet}"
    );
    assert!(sheet.contains("event     "), "the original stays: {sheet}");
    let undone = typed(&bus, &format!("edit {id} --undo")).await;
    assert!(!undone.contains("edited to"), "{undone}");
    write("{}");
    let refused = typed(&bus, &from_file).await;
    assert!(refused.contains("specversion"), "{refused}");
    let nobody = typed(&bus, "edit 00000000000000aa-9-1-0 --undo").await;
    assert!(nobody.contains("there is no dead letter"), "{nobody}");
    write(r#"{"specversion":"1.0","id":"mended","source":"/s","type":"t"}"#);
    typed(&bus, &from_file).await;
    let redriven = typed(&bus, &format!("redrive {id}")).await;
    assert_eq!(redriven, "1 dead letter redriven\n");
    let last = bus.journal.reader().last_event().await.unwrap().unwrap();
    assert_eq!(last.event.id(), "mended");
}

#[tokio::test]
async fn they_are_written_to_a_file_and_kept_by_another_bus_once() {
    let (from, to) = (TestBus::start(&[]).await, TestBus::start(&[]).await);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("letters.jsonl");
    let all = from.dead().await;
    let edited = all.iter().find(|id| id.subscription.0 == 1).unwrap();
    let event = folder.path().join("event.json");
    // Data may have line breaks.
    let text = "{\"specversion\":\"1.0\",\"id\":\"mended\",\"source\":\"/s\",\"type\":\"t\",\"data\":{\n\"n\":1}}";
    std::fs::write(&event, text).unwrap();
    typed(&from, &format!("edit {edited} --file {}", event.display())).await;

    let export = format!("export --file {}", file.display());
    let told = typed(&from, &export).await;
    assert!(
        told.starts_with(&format!("{} dead letters written to", all.len())),
        "{told}"
    );
    let lines = std::fs::read_to_string(&file).unwrap();
    assert_eq!(lines.lines().count(), all.len(), "{lines}");
    let twice = typed(&from, &export).await;
    assert!(twice.contains("exists"), "what is there stays: {twice}");

    // Nothing of its own comes twice.
    let import = format!("import {}", file.display());
    let with_event = all.len() - 1;
    let back = typed(&from, &import).await;
    assert!(
        back.contains(&format!(
            "0 dead letters imported\n{with_event} dead letter"
        )),
        "{back}"
    );
    // In another bus they are kept, once, also where they are gone again. What a source could not
    // read is no use there.
    typed(&to, "purge --all --yes").await;
    let told = typed(&to, &import).await;
    assert_eq!(
        told,
        format!("{with_event} dead letters imported\n1 dead letter left out: no event is in it\n")
    );
    let letters = to
        .journal
        .reader()
        .dead(&Default::default(), None, 100)
        .await
        .unwrap();
    assert_eq!(letters.len(), with_event);
    let mended = letters.iter().filter_map(|letter| letter.edited.as_ref());
    assert_eq!(
        mended.map(|event| event.id()).collect::<Vec<_>>(),
        ["mended"]
    );
    typed(&to, "redrive --all").await;
    assert!(
        typed(&to, &import)
            .await
            .starts_with("0 dead letters imported")
    );

    std::fs::write(
        &file,
        lines.replace("\"rule\":\"thumbnails\"", "\"rule\":\"nobody\""),
    )
    .unwrap();
    let refused = typed(&to, &import).await;
    assert!(
        refused.contains("has no rule nobody with to thumbnailer"),
        "{refused}"
    );
    std::fs::write(&file, format!("{lines}{{\"id\":1}}\n")).unwrap();
    let refused = typed(&to, &import).await;
    assert!(
        refused.contains(&format!("line {}", all.len() + 1)),
        "{refused}"
    );
}
