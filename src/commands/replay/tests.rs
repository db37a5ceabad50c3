use clap::Parser;
use pointsman_journal::Journal;

use super::*;
use crate::admin::testing::TestBus;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: ReplayArgs,
}

/// What a command line prints when it is spoken to a bus.
async fn typed(bus: &TestBus<impl Journal + 'static>, line: &str) -> String {
    let words = format!("replay {line} --admin http://{}", bus.address);
    let args = match Line::try_parse_from(words.split_whitespace()) {
        Ok(line) => line.args,
        Err(error) => return error.to_string(),
    };
    execute(args)
        .await
        .unwrap_or_else(|error| format!("{error}\n{}", error.help_text()))
}

/// The replay that a command has begun, once it has ended.
async fn ended(bus: &TestBus<impl Journal + 'static>, printed: &str) -> ReplayView {
    let id = printed.lines().next().unwrap().split_whitespace().last();
    let id = id.unwrap().to_owned();
    for _ in 0..500 {
        let shown = typed(bus, &format!("show {id} --json")).await;
        let replay: ReplayView = serde_json::from_str(&shown).unwrap();
        if replay.ended.is_some() {
            return replay;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{id} does not end");
}

#[tokio::test]
async fn events_are_replayed_to_a_rule_and_shown() {
    let bus = TestBus::start(&[]).await;
    // Of the three events one was delivered, one is dead and one waits.
    let dry = typed(&bus, "--rule thumbnails --dry-run").await;
    assert!(dry.starts_with("3 of 3 events would be replayed"), "{dry}");
    let printed = typed(&bus, "--rule thumbnails --rate 100/s").await;
    let replay = ended(&bus, &printed).await;
    assert_eq!(
        (replay.seen, replay.made, replay.progress),
        (3, 1, Some(1.0))
    );
    assert_eq!(replay.state.as_str(), "finished");
    let listed = typed(&bus, "list").await;
    assert!(listed.contains("thumbnails/thumbnailer"), "{listed}");
    assert!(listed.contains("100 %"), "{listed}");
    let stopped = typed(&bus, &format!("stop {}", replay.id)).await;
    assert!(
        stopped.contains("finished"),
        "it stays as it ended: {stopped}"
    );
    let unknown = typed(&bus, "show 00000000000000aa").await;
    assert!(unknown.contains("there is no replay"), "{unknown}");
}

#[tokio::test]
async fn a_pattern_and_a_time_narrow_it() {
    let bus = TestBus::start(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let counted = async |pattern: &str, rest: &str| {
        let path = folder.path().join("pattern.yaml");
        std::fs::write(&path, pattern).unwrap();
        let line = format!("--rule audit --dry-run --pattern {} {rest}", path.display());
        typed(&bus, &line).await
    };
    for (pattern, rest, expect) in [
        (
            "match: { type: [photo] }\nwhere: $.id == '2'\n",
            "",
            "1 of 3",
        ),
        ("subject: [a.jpg]\n", "", "3 of 3"),
        ("filters: [{ exact: { id: '1' } }]\n", "", "1 of 3"),
        ("type: [photo]\n", "--from 2030-01-01T00:00:00Z", "0 of 0"),
        ("type: [photo]\n", "--to 2020-01-01T00:00:00Z", "0 of 0"),
        ("type: photo\n", "", "cannot use the pattern"),
        ("where: '$.'\n", "", "cannot use the pattern"),
        ("- 1\n", "", "it is no mapping"),
    ] {
        let told = counted(pattern, rest).await;
        assert!(told.contains(expect), "{pattern} {rest}: {told}");
    }
}

#[tokio::test]
async fn who_is_meant_has_to_be_clear() {
    let bus = TestBus::start(&[]).await;
    for (line, expect) in [
        ("", "nothing says to whom"),
        ("--rule nobody", "tenant default has no rule nobody"),
        (
            "--rule audit --target x",
            "rule audit of tenant default sends nothing to x",
        ),
        ("--subscription 99", "there is no subscription 99"),
        ("--rule audit --rate fast", "\"fast\" is not a rate"),
        ("--rule audit --from noon", "\"noon\" is no time"),
        (
            "--rule audit --from 2026-02-01T00:00:00Z --to 2026-01-01T00:00:00Z",
            "from lies behind to",
        ),
        ("stop xyz", "is not the id of a replay"),
    ] {
        let told = typed(&bus, line).await;
        assert!(told.contains(expect), "{line}: {told}");
    }
}
