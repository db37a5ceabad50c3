use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use pointsman_schemas::{Data, DataKind, Event, Name, Timestamp};
use serde_json::Value;

use super::super::signature::Call;
use super::*;
use crate::webhook::Signature;

type Headers<'a> = &'a [(&'a str, &'a str)];

fn head(headers: Headers) -> Parts {
    let mut request = http::Request::post("/hooks/x?a=1&b=%20");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn event(scheme: &str, headers: Headers, body: &str) -> Event {
    let secret = serde_json::json!({ "secret": "c2VjcmV0" });
    let scheme = match scheme {
        "none" => serde_json::json!({ "none": {} }),
        "hmac" => {
            serde_json::json!({ "hmac": { "secret": "s", "header": "x", "id": "X-Delivery" } })
        }
        scheme => serde_json::json!({ scheme: secret }),
    };
    let signature: Signature = serde_json::from_value(scheme).unwrap();
    let now = Timestamp(1_700_000_000_000_000);
    let mapping = Mapping::new(signature.preset().event, Name::new("shop").unwrap()).unwrap();
    let head = head(headers);
    // Where `hmac` says that the id is, as its verifier finds it.
    let id = head
        .headers
        .get("x-delivery")
        .map(|id| id.to_str().unwrap().to_owned());
    let mut mapped = mapping
        .map(
            &Call::new(&head, body.as_bytes(), None),
            id,
            body.to_owned().into(),
            now,
        )
        .unwrap();
    assert_eq!(mapped.len(), 1);
    let mapped = mapped.remove(0);
    mapped.event.data(mapped.data).build().unwrap()
}

/// `type | source | id | subject | time`.
fn line(event: &Event) -> String {
    let [subject, time] = [event.subject(), event.time()].map(|text| text.map_or("-", |text| text));
    format!(
        "{} | {} | {} | {subject} | {time}",
        event.ty(),
        event.source(),
        event.id()
    )
}

const NOW: &str = "2023-11-14T22:13:20Z";

#[test]
fn github_events_map_as_the_adapter_says() {
    let repository = r#""repository":{"url":"https://api.github.com/repos/o/r","name":"r","updated_at":"2020-01-02T03:04:05Z","owner":{"url":"https://api.github.com/users/o"}}"#;
    let table = [
        (
            "push",
            r#""ref":"refs/heads/main""#,
            "push | https://api.github.com/repos/o/r | 72d3162e | refs/heads/main | NOW",
        ),
        (
            "issues",
            r#""action":"opened","issue":{"number":7,"updated_at":"2019-05-15T15:20:18Z"}"#,
            "issues.opened | https://api.github.com/repos/o/r | 72d3162e | 7 | \
             2019-05-15T15:20:18Z",
        ),
        (
            "pull_request",
            r#""action":"closed","number":2,"pull_request":{"updated_at":"2019-05-15T15:20:33Z"}"#,
            "pull_request.closed | https://api.github.com/repos/o/r | 72d3162e | 2 | \
             2019-05-15T15:20:33Z",
        ),
        (
            "check_run",
            r#""action":"created","check_run":{"id":128620228,"completed_at":null,"started_at":"2019-05-15T15:21:12Z"}"#,
            "check_run.created | https://api.github.com/repos/o/r | 72d3162e | 128620228 | \
             2019-05-15T15:21:12Z",
        ),
        (
            "commit_comment",
            r#""action":"created","comment":{"url":"https://api.github.com/c/1","commit_id":"abc","id":1,"updated_at":"2019-05-15T15:20:39Z"}"#,
            "commit_comment.created | https://api.github.com/c/1/abc | 72d3162e | 1 | \
             2019-05-15T15:20:39Z",
        ),
        (
            "issue_comment",
            r#""action":"created","issue":{"url":"https://api.github.com/i/1"},"comment":{"id":5,"updated_at":"2019-05-15T15:20:21Z"}"#,
            "issue_comment.created | https://api.github.com/i/1 | 72d3162e | 5 | \
             2019-05-15T15:20:21Z",
        ),
        (
            "create",
            r#""ref":"tag","ref_type":"tag""#,
            "create.tag | https://api.github.com/repos/o/r | 72d3162e | tag | NOW",
        ),
        (
            "deployment_status",
            r#""deployment_status":{"state":"success","url":"https://api.github.com/s","updated_at":"2019-05-15T15:20:53Z"},"deployment":{"url":"https://api.github.com/d"}"#,
            "deployment_status.success | https://api.github.com/d | 72d3162e | \
             https://api.github.com/s | 2019-05-15T15:20:53Z",
        ),
        (
            "public",
            "",
            "public | https://api.github.com/users/o | 72d3162e | r | 2020-01-02T03:04:05Z",
        ),
        (
            "release",
            r#""action":"published","release":{"id":17,"published_at":"2019-05-15T15:20:53Z","created_at":"2018-01-01T00:00:00Z"}"#,
            "release.published | https://api.github.com/repos/o/r | 72d3162e | 17 | \
             2019-05-15T15:20:53Z",
        ),
        (
            "membership",
            r#""scope":"team","action":"added","team":{"url":"https://api.github.com/t"},"member":{"login":"octocat"}"#,
            "membership.team.added | https://api.github.com/t | 72d3162e | octocat | NOW",
        ),
        (
            "marketplace_purchase",
            r#""action":"purchased","sender":{"url":"https://api.github.com/users/username"},"effective_date":"2017-10-25T00:00:00+00:00","marketplace_purchase":{"account":{"login":"u"}}"#,
            "marketplace_purchase.purchased | https://api.github.com/users | 72d3162e | u | \
             2017-10-25T00:00:00+00:00",
        ),
        (
            "security_advisory",
            r#""action":"published","security_advisory":{"ghsa_id":"GHSA-1","updated_at":"2018-08-01T00:00:00Z"}"#,
            "security_advisory.published | github.com | 72d3162e | GHSA-1 | 2018-08-01T00:00:00Z",
        ),
        (
            "repository_dispatch",
            r#""action":"on-demand""#,
            "repository_dispatch.on-demand | https://api.github.com/users/o | 72d3162e | - | NOW",
        ),
        (
            "status",
            r#""state":"success","sha":"abc","updated_at":"2019-05-15T15:20:41+00:00""#,
            "status.success | https://api.github.com/repos/o/r | 72d3162e | abc | \
             2019-05-15T15:20:41+00:00",
        ),
        (
            "watch",
            r#""action":"started""#,
            "watch.started | https://api.github.com/repos/o/r | 72d3162e | - | NOW",
        ),
        (
            "ping",
            r#""zen":"Design for failure.""#,
            "ping | https://api.github.com/repos/o/r | 72d3162e | - | NOW",
        ),
        (
            "brand_new",
            r#""action":"done""#,
            "brand_new.done | https://api.github.com/repos/o/r | 72d3162e | - | NOW",
        ),
    ];
    for (name, members, expect) in table {
        let body = format!(
            "{{{members}{}{repository}}}",
            if members.is_empty() { "" } else { "," }
        );
        let headers = [
            ("content-type", "application/json"),
            ("x-github-event", name),
            ("x-github-delivery", "72d3162e"),
        ];
        let event = event("github", &headers, &body);
        assert_eq!(
            line(&event),
            format!("com.github.{}", expect.replace("NOW", NOW))
        );
        assert_eq!(
            (event.data().unwrap().bytes(), event.datacontenttype()),
            (&Bytes::from(body), Some("application/json"))
        );
    }
    let headers = [
        ("x-github-event", "organization"),
        ("x-github-delivery", "1"),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let form = "payload=%7B%22action%22%3A%22member_added%22%2C%22organization%22%3A%7B%22url%22%3A%22https%3A%2F%2Fa%2Fo%22%7D%7D";
    let event = event("github", &headers, form);
    assert_eq!(
        line(&event),
        format!("com.github.organization.member_added | https://a/o | 1 | - | {NOW}")
    );
    assert_eq!(
        &event.data().unwrap().bytes()[..],
        br#"{"action":"member_added","organization":{"url":"https://a/o"}}"#
    );
}

#[test]
fn gitlab_events_map_as_the_adapter_says() {
    let common = r#""repository":{"homepage":"https://gitlab.com/a/b"},"project":{"web_url":"https://gitlab.com/p"}"#;
    let note = |kind: &str| {
        format!(
            r#""object_kind":"note","object_attributes":{{"id":12,"noteable_type":"{kind}","created_at":"2015-05-17 18:08:09 UTC","url":"https://gitlab.com/a/b/x/1#note_12"}},"commit":{{"url":"https://gitlab.com/c/1"}}"#
        )
    };
    let table = [
        (r#""object_kind":"push","checkout_sha":"da15""#.to_owned(), "push | https://gitlab.com/a/b | k | da15 | NOW"),
        (r#""object_kind":"tag_push","ref":"refs/tags/v1""#.to_owned(), "tag_push | https://gitlab.com/a/b | k | refs/tags/v1 | NOW"),
        (
            r#""object_kind":"issue","object_attributes":{"iid":23,"state":"opened"}"#.to_owned(),
            "issue.opened | https://gitlab.com/a/b | k | 23 | NOW",
        ),
        (note("Commit"), "note.commit | https://gitlab.com/c/1 | k | 12 | 2015-05-17T18:08:09Z"),
        (note("MergeRequest"), "note.merge_request | https://gitlab.com/a/b/x/1 | k | 12 | \
                                2015-05-17T18:08:09Z"),
        (note("Issue"), "note.issue | https://gitlab.com/a/b/x/1 | k | 12 | 2015-05-17T18:08:09Z"),
        (note("Snippet"), "note.snippet | https://gitlab.com/a/b/x/1 | k | 12 | \
                           2015-05-17T18:08:09Z"),
        (
            r#""object_kind":"merge_request","object_attributes":{"iid":1,"action":"open","created_at":"2013-12-03T17:23:34Z"}"#.to_owned(),
            "merge_request.open | https://gitlab.com/a/b | k | 1 | 2013-12-03T17:23:34Z",
        ),
        (
            r#""object_kind":"wiki_page","object_attributes":{"slug":"home","action":"create"}"#.to_owned(),
            "wiki_page.create | https://gitlab.com/p | k | home | NOW",
        ),
        (
            r#""object_kind":"pipeline","object_attributes":{"id":31,"status":"success"}"#.to_owned(),
            "pipeline.success | https://gitlab.com/p | k | 31 | NOW",
        ),
        (
            r#""object_kind":"build","build_id":1977,"build_status":"created""#.to_owned(),
            "job.created | https://gitlab.com/a/b | k | 1977 | NOW",
        ),
        (r#""object_kind":"job","job_id":1977,"job_status":"created""#.to_owned(), "job.created | https://gitlab.com/a/b | k | 1977 | NOW"),
        (r#""object_kind":"release""#.to_owned(), "release | https://gitlab.com/p | k | - | NOW"),
    ];
    for (members, expect) in table {
        let headers = [
            ("content-type", "application/json"),
            ("idempotency-key", "k"),
        ];
        let event = event("gitlab", &headers, &format!("{{{members},{common}}}"));
        assert_eq!(
            line(&event),
            format!("com.gitlab.{}", expect.replace("NOW", NOW))
        );
    }
    let (first, second) = (event("gitlab", &[], "{}"), event("gitlab", &[], "{}"));
    assert!(first.id().len() == 32 && first.id() != second.id());
}

#[test]
fn other_senders_map_by_documented_defaults() {
    let json = ("content-type", "application/json");
    let form = ("content-type", "application/x-www-form-urlencoded");
    let table: [(&str, Headers, &str, &str); 9] = [
        (
            "stripe",
            &[json],
            r#"{"id":"evt_1","type":"invoice.paid","created":1680064028,"data":{"object":{"id":"in_1"}}}"#,
            "com.stripe.invoice.paid | https://api.stripe.com | evt_1 | in_1 | \
             2023-03-29T04:27:08Z",
        ),
        (
            "stripe",
            &[json],
            r#"{"id":"evt_2","type":"payout.paid","account":"acct_1"}"#,
            "com.stripe.payout.paid | https://api.stripe.com/v1/accounts/acct_1 | evt_2 | - | NOW",
        ),
        (
            "stripe",
            &[json],
            r#"{"id":"evt_3","type":"v1.billing.meter.no_meter_found","created":"2024-09-26T17:46:22.134Z","related_object":{"id":"m"}}"#,
            "com.stripe.v1.billing.meter.no_meter_found | https://api.stripe.com | evt_3 | m | \
             2024-09-26T17:46:22.134Z",
        ),
        (
            "slack",
            &[json],
            r#"{"type":"event_callback","team_id":"T1","event_id":"Ev1","event_time":1234567890,"event":{"type":"message","channel":"C1"}}"#,
            "com.slack.message | https://slack.com/teams/T1 | Ev1 | C1 | 2009-02-13T23:31:30Z",
        ),
        (
            "slack",
            &[json],
            r#"{"type":"event_callback","team_id":"T1","event_id":"Ev2","event":{"type":"reaction_added","item":{"channel":"C2"}}}"#,
            "com.slack.reaction_added | https://slack.com/teams/T1 | Ev2 | C2 | NOW",
        ),
        (
            "slack",
            &[form],
            "team_id=T1&channel_id=C3&command=%2Fdeploy&text=now",
            "com.slack.slash_command | https://slack.com/teams/T1 | ID | C3 | NOW",
        ),
        (
            "slack",
            &[form],
            "payload=%7B%22type%22%3A%22block_actions%22%2C%22team%22%3A%7B%22id%22%3A%22T1%22%7D%7D",
            "com.slack.block_actions | https://slack.com/teams/T1 | ID | - | NOW",
        ),
        (
            "hmac",
            &[("x-delivery", "d1"), ("webhook-id", "w")],
            "x",
            "com.pointsman.webhook.shop | /webhooks/shop | d1 | - | NOW",
        ),
        (
            "none",
            &[("idempotency-key", "i1")],
            "",
            "com.pointsman.webhook.shop | /webhooks/shop | i1 | - | NOW",
        ),
    ];
    for (scheme, headers, body, expect) in table {
        let event = event(scheme, headers, body);
        assert_eq!(
            line(&event),
            expect.replace("NOW", NOW).replace("ID", event.id()),
            "{body}"
        );
    }
}

#[test]
fn bodies_are_kept_as_what_they_are() {
    type Mapped<'a> = (Option<DataKind>, Option<&'a str>);
    let table: [(Option<&str>, &str, Mapped); 16] = [
        (
            Some("application/json"),
            r#"{"n":12345678901234567890123,"a":1,"a":2}"#,
            (Some(DataKind::Json), Some("application/json")),
        ),
        (
            Some("application/vnd.x+JSON; charset=utf-8"),
            "[1]",
            (
                Some(DataKind::Json),
                Some("application/vnd.x+JSON; charset=utf-8"),
            ),
        ),
        (
            Some("text/plain"),
            "hé",
            (Some(DataKind::Text), Some("text/plain")),
        ),
        (
            Some("application/xml"),
            "<a/>",
            (Some(DataKind::Text), Some("application/xml")),
        ),
        (
            Some("application/protobuf"),
            "a",
            (Some(DataKind::Binary), Some("application/protobuf")),
        ),
        // What some senders declare who send JSON: Amazon SNS, curl, loggers, and those who declare
        // no media type at all.
        (
            Some("text/plain; charset=UTF-8"),
            " {\"a\":1}",
            (Some(DataKind::Json), Some("application/json")),
        ),
        (
            Some("application/x-www-form-urlencoded"),
            "[{\"a\":1}]",
            (Some(DataKind::Json), Some("application/json")),
        ),
        (
            Some("application/octet-stream"),
            "{}",
            (Some(DataKind::Json), Some("application/json")),
        ),
        (
            Some("json"),
            "{}",
            (Some(DataKind::Json), Some("application/json")),
        ),
        (
            Some("text/plain"),
            "5",
            (Some(DataKind::Text), Some("text/plain")),
        ),
        (
            Some("text/plain"),
            "{a}",
            (Some(DataKind::Text), Some("text/plain")),
        ),
        (None, "5", (Some(DataKind::Json), Some("application/json"))),
        (
            None,
            " {\"a\":1}",
            (Some(DataKind::Json), Some("application/json")),
        ),
        (None, "{", (Some(DataKind::Text), Some("text/plain"))),
        (None, "", (None, None)),
        (
            Some("application/json"),
            "",
            (None, Some("application/json")),
        ),
    ];
    for (declared, body, (kind, media_type)) in table {
        let headers: Vec<_> = declared
            .iter()
            .map(|declared| ("content-type", *declared))
            .collect();
        let event = event("none", &headers, body);
        assert_eq!(
            (event.data().map(Data::kind), event.datacontenttype()),
            (kind, media_type),
            "{body}"
        );
        assert_eq!(
            event.data().map_or(&b""[..], |data| data.bytes()),
            body.as_bytes()
        );
    }
    let broken = data(Some("application/json"), Bytes::from_static(b"{")).unwrap_err();
    assert_eq!(broken.status, StatusCode::BAD_REQUEST);
    let binary = data(None, Bytes::from_static(b"\xff")).unwrap();
    assert_eq!(
        (binary.0.unwrap().kind(), binary.1),
        (DataKind::Binary, Some("application/octet-stream"))
    );
    for declared in [
        None,
        Some("application/json"),
        Some("application/vnd.x+json"),
        Some("text/plain"),
    ] {
        let marked = data(declared, Bytes::from_static(b"\xEF\xBB\xBF{\"a\":1}"))
            .unwrap()
            .0
            .unwrap();
        assert_eq!(
            (marked.kind(), &marked.bytes()[..]),
            (DataKind::Json, &b"{\"a\":1}"[..]),
            "{declared:?}"
        );
    }
}

#[test]
fn forms_become_objects() {
    const FORM: Option<&str> = Some("application/X-WWW-Form-urlencoded; charset=utf-8");
    for (body, expect) in [
        ("a=1", r#"{"a":"1"}"#),
        (
            "token=x&command=%2Fdeploy&text=now+or+%C3%BCber&empty=",
            r#"{"token":"x","command":"/deploy","text":"now or \u00fcber","empty":""}"#,
        ),
        ("z=1&a=2&z=3&z=4", r#"{"z":["1","3","4"],"a":"2"}"#),
        ("alone", r#"{"alone":""}"#),
        ("a=%22%5C%00", r#"{"a":"\"\\\u0000"}"#),
        (
            "payload=%7B%22a%22%3A+12345678901234567890123%7D",
            r#"{"a": 12345678901234567890123}"#,
        ),
        ("payload=%5B1%5D", "[1]"),
        // Not JSON, or not alone.
        ("payload=hello", r#"{"payload":"hello"}"#),
        ("payload=%7B", r#"{"payload":"{"}"#),
        ("payload=%7B%7D&a=1", r#"{"payload":"{}","a":"1"}"#),
        (
            "payload=%7B%7D&payload=%7B%7D",
            r#"{"payload":["{}","{}"]}"#,
        ),
    ] {
        let (made, declared) = data(FORM, body.to_owned().into()).unwrap();
        let made = String::from_utf8(made.unwrap().bytes().to_vec()).unwrap();
        assert_eq!(
            (made.replace("ü", "\\u00fc"), declared),
            (expect.to_owned(), Some("application/json")),
            "{body}"
        );
    }
    // Not UTF-8: as a browser's reader has it.
    let (made, _) = data(FORM, Bytes::from_static(b"a=%FF")).unwrap();
    assert_eq!(made.unwrap().value().unwrap()["a"], "\u{FFFD}");
}

#[test]
fn the_root_of_a_mapping_holds_the_request_without_its_secrets() {
    let headers = [
        ("X-One", "1"),
        ("x-one", "2"),
        ("authorization", "Bearer hunter2"),
        ("x-gitlab-token", "hunter2"),
        ("cookie", "hunter2"),
    ];
    let envelope = serde_json::json!({ "kind": "wrapped" });
    let fields = |envelope| root_fields(&head(&headers), envelope, &["X-Gitlab-Token"]);
    let mut expect = serde_json::json!({ "headers": { "x-one": "1, 2" }, "query": { "a": "1", "b": " " }, "path": "/hooks/x" });
    assert_eq!(Value::Object(fields(None)), expect);
    expect["envelope"] = envelope.clone();
    assert_eq!(Value::Object(fields(Some(envelope))), expect);
}
