use super::*;

const RULES: &str = r#"
targets: { console: { stdout: {} }, audit: { stdout: {} } }
rules:
  paid:
    match: { type: [order.paid] }
    transform: { set: { subject: <$.data.id> }, data: { total: <$.data.total>, lines: <$.data.lines> } }
    to: [console, { target: audit, transform: { data: <$.data.total> } }]
  dear: { where: $.data.total > 100, to: console }
  answers: { from: replies, to: console }
sources: { beat: { timer: { every: 1s } } }
pipes:
  beats: { from: beat, match: { type: [tick] }, to: audit }
tests:
  both fire:
    event: { type: order.paid, source: /s, id: "1", data: { id: "7", total: 250, lines: [{ sku: a, n: 1 }] } }
    expect: { paid: { subject: "7", data: { total: 250.0, lines: [{ sku: a }] } }, dear: {} }
  any of the targets will do:
    event: { type: order.paid, source: /s, id: "1", data: { total: 250 } }
    expect: { paid: { data: 250 } }
  of a source:
    from: ingress
    event: { type: a, source: /s, id: "1" }
    expect: {}
  it makes another event:
    event: { type: order.paid, source: /s, id: "1", data: { id: "7", total: 1, lines: [1] } }
    expect: { paid: { subject: "8", data: { total: 2, lines: [1, 2], note: x } } }
  it does not fire:
    event: { type: order.sent, source: /s, id: "1", data: { total: 5 } }
    expect: { paid: {}, dear: {} }
  nothing should:
    from: ingress
    event: { type: order.paid, source: /s, id: "1" }
    expect: {}
  one should not:
    event: { type: order.paid, source: /s, id: "1" }
    expect: { paid: false }
  a pipe takes its source's events alone:
    from: beat
    event: { type: tick, source: /s, id: "1", data: { total: 250 } }
    expect: { beats: {}, dear: false }
  it takes nothing from there:
    from: ingress
    event: { type: order.paid, source: /s, id: "1" }
    expect: { answers: {} }
"#;

#[test]
fn the_files_own_tests_pass_or_say_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rules.yaml");
    std::fs::write(&path, RULES).unwrap();
    let report = |json| {
        report(&TestArgs {
            files: PathArgs {
                paths: vec![path.clone()],
            },
            watch: false,
            output: OutputArgs { json },
        })
        .unwrap()
    };
    let (text, passed) = report(false);
    assert!(!passed);
    insta::assert_snapshot!(
        "results",
        text.replace(&folder.path().display().to_string(), "")
    );
    let json: Value = serde_json::from_str(&report(true).0).unwrap();
    assert_eq!(json[0]["fires"], serde_json::json!(["paid", "dear"]));
    assert_eq!(json[0]["failures"], serde_json::json!([]));
}

#[test]
fn targets_are_tried_read_by_their_texts() {
    let yaml = r#"
targets:
  function: { http: { url: "http://h/orders/<$.data.id>", headers: { X-Total: "<$.data.total>" } } }
  command: { exec: { command: [./x.sh, "<$.subject>"] } }
rules:
  paid:
    match: { type: [order.paid] }
    transform: { data: { number: <$.data.id>, total: <$.data.total> } }
    to: [{ target: function, transform: { set: { subject: x } } }, command]
tests:
  all is there:
    event: { type: order.paid, source: /s, id: "1", subject: a, data: { id: "7/8", total: 5 } }
    expect: { paid: { to: function, request: { url: http://h/orders/7%2F8, headers: { X-Total: "5" } } } }
  the command too:
    event: { type: order.paid, source: /s, id: "1", subject: a, data: { id: "7", total: 5 } }
    expect: { paid: { to: [command], subject: a, request: { command: { "1": a } } } }
  another address:
    event: { type: order.paid, source: /s, id: "1", subject: a, data: { id: "7", total: 5 } }
    expect: { paid: { to: function, request: { url: http://h/orders/8 } } }
  nothing for the address:
    event: { type: order.paid, source: /s, id: "1", subject: a, data: { total: 5 } }
    expect: { paid: {} }
  nobody of that name:
    event: { type: order.paid, source: /s, id: "1", subject: a, data: { id: "7", total: 5 } }
    expect: { paid: { to: nobody } }
"#;
    let (config, _) = Config::of_text("rules.yaml", std::path::Path::new("/"), yaml).unwrap();
    let results = RulesInTest::new(config).run();
    insta::assert_snapshot!("requests", render(&results, false));
}

#[test]
fn what_is_told_of_an_end_is_made_as_it_would_be() {
    let yaml = r#"
targets:
  function: { stdout: {} }
  chat: { http: { url: "http://h/<$.data.channel>" } }
  archive: { http: { url: "http://h/<$.data.id>" } }
  broken: { http: { url: "http://h/<$.data.requestContext.nothing>" } }
  answers: { http: { url: "http://h/<$.data.responsePayload.id>" } }
rules:
  paid:
    match: { type: [order.paid] }
    transform: { data: gone }
    to: function
    on_success: { to: archive, send: original, transform: { set: { type: kept }, data: { id: <$.data.id> } } }
    on_failure:
      to: chat
      transform: { data: { channel: ops, text: "<$.data.requestContext.target>: <$.data.requestContext.condition> <$.data.responseContext.code>" } }
  silent: { match: { type: [order.lost] }, to: function, on_failure: broken, on_success: answers }
tests:
  both are told:
    event: { type: order.paid, source: /s, id: "1", data: { id: "7" } }
    expect:
      paid:
        data: gone
        on_success: { type: kept, data: { id: "7" }, request: { url: http://h/7 } }
        on_failure: { data: { text: "function: exhausted 500" }, request: { url: http://h/ops } }
  another text:
    event: { type: order.paid, source: /s, id: "1", data: { id: "7" } }
    expect: { paid: { on_failure: { data: { text: x } } } }
  an id that is not there is null:
    event: { type: order.paid, source: /s, id: "1" }
    expect: { paid: {} }
  nothing in the report:
    event: { type: order.lost, source: /s, id: "1" }
    expect: { silent: {} }
"#;
    let (config, warnings) =
        Config::of_text("rules.yaml", std::path::Path::new("/"), yaml).unwrap();
    assert_eq!(warnings.len(), 1, "of the broken one: {warnings:?}");
    let results = RulesInTest::new(config).run();
    insta::assert_snapshot!("told_of_an_end", render(&results, false));
}

#[test]
fn an_event_may_be_given_as_its_json_and_is_then_read_as_the_bus_reads_it() {
    let rules = r#"
targets: { console: { stdout: {} } }
rules:
  large: { match: { data: { n: [{ numeric: [">", 5] }] } }, to: console }
  torn: { match: { data: { t: [{ prefix: a }] } }, to: console }
  where: { where: $.data.n > 5, to: console }
"#;
    let events = r#"
tests:
  beyond all doubles:
    event: '{ "type": "t", "source": "/s", "id": "1", "data": { "n": 1e400, "t": "a\ud800" } }'
    expect: { large: {}, torn: {}, where: {} }
  with its version:
    event: |
      {"specversion":"1.0","type":"t","source":"/s","id":"1","data":{"n":1,"n":7,"t":"b"}}
    expect: { large: {}, torn: false, where: {} }
"#;
    // With more rules they are found by an index.
    let more: String = (0..20)
        .map(|n| {
            format!(
                "  other-{n}: {{ match: {{ data: {{ n: [{}] }} }}, to: console }}\n",
                100 + n
            )
        })
        .collect();
    for text in [format!("{rules}{events}"), format!("{rules}{more}{events}")] {
        let (config, _) = Config::of_text("rules.yaml", std::path::Path::new("/"), &text).unwrap();
        let results = RulesInTest::new(config).run();
        assert!(
            results.iter().all(TestResult::passed),
            "{}",
            render(&results, false)
        );
    }
    let broken = "tests: { t: { event: '{\"type\": ', expect: {} } }";
    let told = Config::of_text("rules.yaml", std::path::Path::new("/"), broken).unwrap_err();
    assert!(
        told[0].mistake.message.contains("the JSON is broken"),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_change_of_the_files_runs_the_tests_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rules.yaml");
    let rules = |subject: &str| {
        let test = "tests: { t: { event: { type: a, source: /s, id: \"1\" }, expect: { r: { \
                        subject: x } } } }\n";
        format!(
            "targets: {{ console: {{ stdout: {{}} }} }}\nrules: {{ r: {{ match: {{ type: [a] \
                 }}, transform: {{ set: {{ subject: {subject} }} }}, to: console }} }}\n{test}"
        )
    };
    std::fs::write(&path, rules("y")).unwrap();
    let args = TestArgs {
        files: PathArgs {
            paths: vec![path.clone()],
        },
        watch: true,
        output: OutputArgs::default(),
    };
    let mut rounds = Vec::new();
    // What is printed is the cue for the next change; after the last one nobody reads any more.
    let mut print = |text: &str| {
        if text == "\n" {
            return Ok(());
        }
        rounds.push(text.lines().last().unwrap_or_default().to_owned());
        match rounds.len() {
            1 => std::fs::write(&path, rules("x")),
            2 => std::fs::write(&path, "rules: {"),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    };
    let ended = run_with(&args, &mut print);
    assert!(
        tokio::time::timeout(std::time::Duration::from_secs(60), ended)
            .await
            .expect("the files are watched")
            .is_err()
    );
    assert_eq!(
        rounds,
        ["0 passed, 1 failed", "1 passed, 0 failed", "1 error"]
    );
}
