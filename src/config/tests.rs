mod documentation;

use std::path::{Path, PathBuf};

use super::*;
use crate::output::Screen;

const SCREEN: Screen = Screen {
    colours: false,
    width: Some(120),
};

fn folder(name: &str) -> PathBuf {
    Path::new("src/config/fixtures").join(name)
}

/// The entries of a folder of fixtures, sorted.
fn fixtures(name: &str) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(folder(name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

fn told(path: &Path) -> String {
    match Config::load(&[path.to_owned()]) {
        Ok((_, warnings)) => format!("sound\n{}", diagnostic::render(&warnings, SCREEN)),
        Err(diagnostics) => diagnostic::render(&diagnostics, SCREEN),
    }
}

#[test]
fn every_mistake_is_told_with_its_place() {
    for path in fixtures("broken")
        .into_iter()
        .chain(fixtures("broken_folders"))
    {
        let told = told(&path);
        assert!(!told.starts_with("sound"), "{} is broken", path.display());
        insta::with_settings!({ snapshot_path => "fixtures/told", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(path.file_stem().unwrap().to_string_lossy().into_owned(), told);
        });
    }
}

#[test]
fn what_is_written_as_elsewhere_is_warned_of() {
    for path in fixtures("odd") {
        let told = told(&path);
        assert!(
            told.starts_with("sound\n") && told.contains("warning"),
            "{}: {told}",
            path.display()
        );
        insta::with_settings!({ snapshot_path => "fixtures/told", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(path.file_stem().unwrap().to_string_lossy().into_owned(), told);
        });
    }
}

#[test]
fn what_is_sound_is_read() {
    for path in fixtures("good") {
        assert_eq!(told(&path), "sound\n0 errors\n", "{}", path.display());
    }
}

/// Reads a text as a file; the mistakes it has must be places in it.
fn read_text(text: &str) {
    let file = files::Found {
        name: "rules.yaml".into(),
        folder: Path::new("/").into(),
        text: text.to_owned(),
        attached: None,
    };
    for diagnostic in load::connect(&[file], Vec::new()).err().unwrap_or_default() {
        let mistake = &diagnostic.mistake;
        for span in std::iter::once(mistake.span).chain(mistake.also.iter().map(|(span, _)| *span))
        {
            assert!(
                text.get(span.start..span.end).is_some(),
                "{mistake:?} in\n{text}"
            );
        }
        assert!(!diagnostic::render(&[diagnostic], SCREEN).is_empty());
    }
}

#[test]
fn a_file_cut_off_anywhere_or_with_a_letter_changed_is_read_or_refused() {
    let text = std::fs::read_to_string(folder("good/everything.yaml")).unwrap();
    for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
        read_text(&text[..end]);
    }
    let letters = [
        '{', '}', '[', ']', ':', '#', '&', '*', '!', '|', '>', '\'', '"', '%', '\t', '\n', '-',
        '?', ',', '<', '$', '\u{e4}', '\0', '\r',
    ];
    for (nth, (at, old)) in text.char_indices().enumerate().step_by(5) {
        let letter = letters[nth % letters.len()];
        read_text(&format!(
            "{}{letter}{}",
            &text[..at],
            &text[at + old.len_utf8()..]
        ));
    }
}

#[test]
fn settings_lie_over_one_another_key_by_key() {
    let (config, _) = Config::load(&[folder("good/delivery.yaml")]).unwrap();
    let of = |rule: usize, to: usize| {
        let DeliverySettings {
            timeout,
            max_age,
            attempts,
            backoff,
            order_by,
            delay,
            priority,
            backlog_max,
            when_full,
            batch,
            history,
        } = &config.rules[rule].to[to].delivery;
        let order_by = order_by.as_ref().map(pointsman_rules::Path::as_str);
        let priority = match priority {
            DeliveryPriority::OfAll(priority) => priority.number().to_string(),
            DeliveryPriority::OfEach(_) => "each".to_owned(),
        };
        format!(
            "{timeout:?} {max_age:?} {attempts} {:?} {:?} {order_by:?} {delay:?} {priority} {backlog_max:?} {when_full:?} {history:?}{}",
            backoff.initial,
            backoff.max,
            batch.map_or(String::new(), |batch| format!(
                " {} {} {:?} {}",
                batch.events, batch.bytes, batch.window, batch.bisect
            ))
        )
    };
    assert_eq!(of(0, 0), "30s 86400s 4 1s 300s None 0ns 0 None Stop All");
    assert_eq!(
        of(1, 0),
        "5s 3600s 9 2s 60s Some(\"$.subject\") 600s 7 Some(10) Dead Failures"
    );
    assert_eq!(
        of(1, 1),
        "7s 3600s 2 2s 60s Some(\"$.id\") 0ns 0 Some(20) Dead None"
    );
    assert_eq!(
        of(1, 2),
        "30s 3600s 4 1s 60s Some(\"$.subject\") 600s 7 Some(10) Dead All"
    );
    assert_eq!(of(3, 0), "30s 86400s 4 1s 300s None 0ns each None Stop All");
    assert_eq!(
        of(3, 1),
        "30s 86400s 4 1s 300s Some(\"$.id\") 0ns 9 None Stop All"
    );
    let batch = |to: usize| {
        of(2, to)
            .split_once("Stop All ")
            .map(|(_, batch)| batch.to_owned())
    };
    assert_eq!(batch(0).as_deref(), Some("100 2097152 5s true"));
    assert_eq!(batch(1).as_deref(), Some("20 65536 5s false"));
    assert_eq!(config.targets[1].limits.concurrency_max.get(), 8);
    assert_eq!(
        config.targets[0].limits,
        TargetLimits {
            concurrency_max: 64.try_into().unwrap(),
            rate: None
        }
    );
    let follow_up = config.rules[1].on_failure.as_ref().unwrap();
    assert_eq!(
        (follow_up.send, follow_up.delivery.timeout),
        (FollowUpContent::Original, Duration::from_secs(5))
    );
}

#[test]
fn sources_and_rules_have_events_kept() {
    let file = files::Found {
        name: String::new(),
        folder: Path::new("/x").into(),
        text: "
listen: { address: 127.0.0.1:8080, retention: 10m }
sources:
  usual: { timer: { every: 30s } }
  own: { retention: 366d, timer: { every: 30s } }
targets: { function: { http: { url: \"http://127.0.0.1:9000/\" } } }
rules:
  usual: { to: function }
  own: { to: function, retention: 30d }
"
        .to_owned(),
        attached: None,
    };
    let (config, _) = load::connect(&[file], Vec::new()).unwrap();
    let days = |days: u64| Some(Duration::from_secs(days * 86_400));
    let of_sources = config.sources.iter().map(|source| source.retention);
    assert_eq!(of_sources.collect::<Vec<_>>(), [None, days(366)]);
    let of_rules = config.rules.iter().map(|rule| rule.retention);
    assert_eq!(of_rules.collect::<Vec<_>>(), [None, days(30)]);
    let of_listen = config.listen.retention.map(|interval| interval.0);
    assert_eq!(of_listen, Some(Duration::from_secs(600)));
}

#[test]
fn what_a_running_bus_cannot_change() {
    let read = |top: &str| {
        let file = files::Found {
            name: String::new(),
            folder: Path::new("/x").into(),
            text: format!("{top}\nrules: {{}}\n"),
            attached: None,
        };
        load::connect(&[file], Vec::new()).unwrap().0
    };
    let before = read("store: { path: ./pointsman-data, retention: 24h }\nadmin: 127.0.0.1:8081");
    for (top, expect) in [
        ("", None),
        (
            "listen: 127.0.0.1:8080\nadmin: { address: 127.0.0.1:8081 }\nstore: { path: /x/pointsman-data, max_size: 20GiB }",
            None,
        ),
        ("listen: 127.0.0.1:9090", Some("listen")),
        (
            "listen: { address: 127.0.0.1:8080, deduplicate: { by: <$.id> } }",
            Some("listen"),
        ),
        (
            "listen: { address: 127.0.0.1:8080, retention: 7d }",
            Some("listen"),
        ),
        ("admin: 127.0.0.1:9091", Some("admin")),
        ("store: { retention: 7d }", Some("store")),
    ] {
        assert_eq!(before.needs_restart(&read(top)), expect, "{top}");
    }
}

#[test]
fn a_fingerprint_sees_what_is_meant_and_not_how_it_is_written() {
    let of = |target: &str| {
        let text = format!("x-a: &a {{ A: b }}\ntargets:\n  t: {target}\n");
        let file = files::Found {
            name: String::new(),
            folder: Path::new("/").into(),
            text,
            attached: None,
        };
        load::connect(&[file], Vec::new()).unwrap().0.targets[0].fingerprint
    };
    let before = of("{ exec: { command: [run], env: { A: b } } }");
    assert_eq!(
        before,
        of("\n    exec:\n      command: ['run'] # the same\n      env: *a")
    );
    assert_ne!(before, of("{ exec: { command: [run], env: { A: c } } }"));
    assert_ne!(before, of("{ exec: { command: [run, A], env: { A: b } } }"));
}

#[test]
fn of_very_many_mistakes_the_first_are_kept_and_the_others_counted() {
    let rules: String = (0..5_000)
        .map(|number| format!("r{number}: {{ too: a }}, "))
        .collect();
    let text = format!("rules: {{ {rules} }}\n");
    let file = files::Found {
        name: "rules.yaml".into(),
        folder: Path::new("/").into(),
        text,
        attached: None,
    };
    let diagnostics = load::connect(&[file], Vec::new()).err().unwrap();
    assert!(
        (mistake::KEPT_MAX..2 * mistake::KEPT_MAX + 2).contains(&diagnostics.len()),
        "{}",
        diagnostics.len()
    );
    assert!(diagnostics.iter().any(|one| {
        one.mistake
            .message
            .contains("more mistakes, which are not listed")
    }));
    let shown = diagnostic::render(&diagnostics, SCREEN);
    assert!(
        shown.len() < 100_000 && shown.contains("more, which are not shown"),
        "{} bytes",
        shown.len()
    );
}

#[test]
fn a_broker_is_tied_where_somebody_takes_its_messages_in_an_order() {
    let rules = |from: &str| {
        let broker = "{ rabbitmq: { url: \"amqp://127.0.0.1\", queue: q } }";
        let to = "to: console, delivery: { order_by: $.subject }";
        format!(
            "sources:\n  orders: {broker}\n  other: {broker}\n  piped: {broker}\n  in-order: \
             {broker}\n  tick: {{ timer: {{ every: 1m }} }}\n  hook: {{ webhook: {{ path: /hook, \
             signature: {{ none: {{}} }} }} }}\ntargets:\n  console: {{ stdout: {{}} }}\nrules:\n  all: {{ to: \
             console }}\n  ordered: {{ {from}{to} }}\npipes:\n  one: {{ from: piped, to: console \
             }}\n  two: {{ from: in-order, {to} }}\n"
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.yaml");
    for (from, expect) in [
        ("from: orders, ", &["orders", "in-order", "tick"][..]),
        ("", &["orders", "other", "in-order", "tick"][..]),
    ] {
        std::fs::write(&file, rules(from)).unwrap();
        let (config, _) = Config::load(std::slice::from_ref(&file)).unwrap();
        let tied = config.sources.iter().filter(|source| source.is_tied());
        let tied: Vec<_> = tied.map(|source| source.name.as_str()).collect();
        assert_eq!(tied, expect, "{from}");
    }
}
