use std::path::Path;

use crate::config::Config;

/// What `check` warns of, one a line: the place, the message and the help.
fn warned(yaml: &str) -> String {
    let (_, warnings) =
        Config::of_text("rules.yaml", Path::new("/"), yaml).unwrap_or_else(|mistakes| {
            panic!(
                "{}",
                crate::config::diagnostic::render(&mistakes, crate::output::Screen::TEXT)
            );
        });
    let line = |one: &crate::config::Diagnostic| {
        let span = one.mistake.span;
        let place = yaml.get(span.start..span.end).unwrap();
        format!(
            "{place}: {} ({})\n",
            one.mistake.message,
            one.mistake.help.as_deref().unwrap_or_default()
        )
    };
    warnings.iter().map(line).collect()
}

#[test]
fn what_the_transform_does_not_make_is_told_for_every_kind_of_template() {
    let targets = r#"
sources: { clock: { timer: { every: 1m } }, inbox: { directory: { path: . } } }
targets:
  function: { http: { url: "http://h/<$.data.bucket>/<$.data.key>?<$.data.page ?? 1>", headers: { X-Total: "<$.data.totl>" } } }
  subject: { nats: { url: "nats://127.0.0.1", subject: "a.<$.subject>" } }
  routed: { rabbitmq: { url: "amqp://127.0.0.1", exchange: e, routing_key: "<$.data.note.x>" } }
  stored: { object-storage: { bucket: bucket, key: "<$.data.list[1]>" } }
  command: { exec: { command: [./x.sh, "<$.data.total.cents>"], env: { A: "<$.data_base64>" } } }
"#;
    let rules = r#"
rules:
  one:
    match: { type: [a] }
    transform:
      set: { subject: null }
      data: { Bucket: b, key: "<$.data.key>", total: 5, note: "of <$.id>", list: [1] }
    to: [function, { target: subject }, routed, stored, command]
  other: { match: { type: [b] }, to: function, transform: { jq: .data } }
  third: { match: { type: [c] }, to: function, transform: { set: { type: d } } }
  clock: { from: clock, to: function }
  inbox: { from: inbox, to: function }
  both: { from: [clock, inbox], to: function }
  end:
    match: { type: [d] }
    to: { target: function, transform: { data: <$.data.x> } }
    on_success: { to: function, send: original }
    on_failure: function
"#;
    insta::assert_snapshot!("by_shape", warned(&format!("{targets}{rules}")));
}

#[test]
fn what_is_in_no_event_is_told_where_it_stands() {
    insta::assert_snapshot!(
        "in_no_event",
        warned(
            r#"
targets:
  function: { http: { url: "http://h/<$.Data.id>", headers: { A: "<$.body.x ?? 1>" } }, delivery: { order_by: $.order_id } }
rules:
  one:
    match: { type: [a] }
    to: function
    transform: { set: { subject: "<$.detail.id>" }, data: { a: ["<$.Subject>", "<$.data.fine>", "<$.body>"] } }
"#
        )
    );
}

#[test]
fn what_finds_nothing_in_the_event_of_a_test_is_told_once() {
    insta::assert_snapshot!(
        "by_tests",
        warned(
            r#"
targets:
  function: { http: { url: "http://h/<$.data.id>" } }
  chat: { http: { url: "http://h/<$.data.requestPayload.room>/<$.data.responsePayload.x>" } }
rules:
  one:
    match: { type: [a] }
    to: { target: function, delivery: { order_by: $.data.number } }
    on_failure: chat
  two: { match: { type: [b] }, to: function }
tests:
  first: { event: { type: a, source: /s, id: "1", data: { Id: 7 } }, expect: { one: {}, two: false } }
  second: { event: { type: a, source: /s, id: "1" }, expect: { one: {} } }
  silent: { event: { type: c, source: /s, id: "1" }, expect: { two: false } }
"#
        )
    );
}
