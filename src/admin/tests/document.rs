//! The routes and the API's document: they say the same, and what neither knows is refused.

use super::*;

/// A sample of each operation, by its id: its path, what is sent, and what a bus answers. `{dead}`
/// is a dead letter's id, `{task}` a task's.
const SAMPLES: [(&str, &str, &str, u16); 48] = [
    ("isAlive", "/healthz", "", 200),
    ("isReady", "/readyz", "", 200),
    ("getMetrics", "/metrics", "", 200),
    ("getDocument", "/api/v1/openapi.json", "", 200),
    ("getStatus", "/api/v1/status", "", 200),
    ("listSources", "/api/v1/sources", "", 200),
    ("listRules", "/api/v1/rules", "", 200),
    ("listTargets", "/api/v1/targets", "", 200),
    ("listQuotas", "/api/v1/quotas", "", 200),
    ("listNodes", "/api/v1/nodes", "", 200),
    ("listShards", "/api/v1/shards", "", 200),
    ("drainNode", "/api/v1/nodes/drain", "", 409),
    ("getRulesVersion", "/api/v1/rules/version", "", 200),
    ("getRuleFiles", "/api/v1/rules/version/files", "", 200),
    (
        "proposeRules",
        "/api/v1/rules/proposals",
        r#"{"files":[]}"#,
        409,
    ),
    ("getRulesProposal", "/api/v1/rules/proposals/1f", "", 404),
    ("listSubscriptions", "/api/v1/subscriptions", "", 200),
    (
        "suspendSubscription",
        "/api/v1/subscriptions/1/suspend",
        "",
        200,
    ),
    (
        "resumeSubscription",
        "/api/v1/subscriptions/1/resume",
        "",
        200,
    ),
    (
        "moveSubscription",
        "/api/v1/subscriptions/1/move",
        r#"{"to":99}"#,
        404,
    ),
    (
        "cancelSubscription",
        "/api/v1/subscriptions/2/cancel",
        "",
        200,
    ),
    ("listDeadLetters", "/api/v1/dead", "", 200),
    ("getDeadLetter", "/api/v1/dead/{dead}", "", 200),
    (
        "editDeadLetter",
        "/api/v1/dead/{dead}/edit",
        r#"{"undo":true}"#,
        200,
    ),
    (
        "importDeadLetters",
        "/api/v1/dead/import",
        r#"{"letters":[{"id":"00000000000000aa-1-0-0","tenant":"default","origin":"s","reason":"unreadable"}]}"#,
        200,
    ),
    (
        "redriveDeadLetters",
        "/api/v1/dead/redrive",
        r#"{"rule":"nobody"}"#,
        200,
    ),
    (
        "purgeDeadLetters",
        "/api/v1/dead/purge",
        r#"{"rule":"nobody"}"#,
        200,
    ),
    ("listReplays", "/api/v1/replays", "", 200),
    (
        "beginReplay",
        "/api/v1/replays",
        r#"{"rule":"audit","dry_run":true}"#,
        200,
    ),
    ("getReplay", "/api/v1/replays/00000000000000aa", "", 404),
    (
        "stopReplay",
        "/api/v1/replays/00000000000000aa/stop",
        "",
        404,
    ),
    ("listTasks", "/api/v1/tasks", "", 200),
    ("listBlocked", "/api/v1/tasks/blocked", "", 200),
    ("getTask", "/api/v1/tasks/{task}", "", 200),
    (
        "skipTasks",
        "/api/v1/tasks/skip",
        r#"{"rule":"nobody"}"#,
        200,
    ),
    (
        "skipTask",
        "/api/v1/tasks/00000000000000aa-1-1-0/skip",
        "",
        404,
    ),
    (
        "suspendTasks",
        "/api/v1/tasks/suspend",
        r#"{"rule":"nobody"}"#,
        200,
    ),
    (
        "resumeTasks",
        "/api/v1/tasks/resume",
        r#"{"rule":"nobody"}"#,
        200,
    ),
    (
        "retryTasks",
        "/api/v1/tasks/retry",
        r#"{"rule":"nobody"}"#,
        200,
    ),
    (
        "cancelTask",
        "/api/v1/tasks/00000000000000aa-1-1-0/cancel",
        "",
        404,
    ),
    ("suspendTask", "/api/v1/tasks/{task}/suspend", "", 200),
    ("resumeTask", "/api/v1/tasks/{task}/resume", "", 200),
    ("retryTask", "/api/v1/tasks/{task}/retry", "", 200),
    (
        "cancelTasks",
        "/api/v1/tasks/cancel",
        r#"{"rule":"nobody"}"#,
        200,
    ),
    ("listEvents", "/api/v1/events", "", 200),
    ("getEvent", "/api/v1/events/1", "", 200),
    ("explainEvent", "/api/v1/events/1/explain", "", 200),
    ("tap", "/api/v1/tap", "", 200),
];

/// The operations that are registered: path, verb and id.
fn operations() -> Vec<(String, String, String)> {
    let document: Value = serde_json::from_str(&document()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, verbs)| {
        let verbs = verbs.as_object().unwrap();
        verbs.iter().map(move |(verb, operation)| {
            let id = operation["operationId"].as_str().unwrap().to_owned();
            (path.clone(), verb.to_uppercase(), id)
        })
    });
    operations.collect()
}

#[tokio::test]
async fn every_route_knows_its_verbs_and_asks_for_its_key() {
    let authorization = format!("Bearer {KEY}");
    for keys in [&[][..], &[KEY]] {
        let bus = TestBus::start(keys).await;
        // What would go on for ever ends at once.
        bus.tap.close();
        let dead = bus.dead().await[0].to_string();
        let reader = bus.journal.reader();
        let task = reader
            .pending(SubscriptionNumber(1), None, 1)
            .await
            .unwrap()[0]
            .id;
        for (path, own, id) in operations() {
            let sample = SAMPLES.iter().find(|sample| sample.0 == id);
            let (_, sample, body, expect) = *sample.unwrap_or_else(|| panic!("no sample of {id}"));
            let of_path = path.split('/').zip(sample.split('/'));
            let is_one = of_path
                .into_iter()
                .all(|(a, b)| a == b || a.starts_with('{'));
            assert!(is_one, "{sample} is no {path}");
            let registered = path;
            let path = sample.replace("{dead}", &dead);
            let path = path.replace("{task}", &task.to_string());
            let verbs: Vec<String> = operations()
                .into_iter()
                .filter(|(other, ..)| *other == registered)
                .map(|(_, verb, _)| verb)
                .collect();
            for verb in VERBS {
                let own = &*own;
                // Another operation of this path has a sample of its own.
                let is_read = verb == "HEAD" && verbs.iter().any(|other| other == "GET");
                if verb != own
                    && (is_read && own != "GET" || verbs.iter().any(|other| other == verb))
                {
                    continue;
                }
                let has = verb == own || (verb == "HEAD" && own == "GET");
                let expect = if has { expect } else { 405 };
                let body = if has { body } else { "" };
                let headers = [
                    ("content-type", "application/json"),
                    ("authorization", &*authorization),
                ];
                let answer = bus.ask(verb, &path, &headers, body).await;
                assert_eq!(answer.status, expect, "{verb} {path}: {:?}", answer.body);
                if !has {
                    let allow = match verbs.as_slice() {
                        [_, _] => "GET,HEAD,POST",
                        _ if own == "GET" => "GET,HEAD",
                        _ => own,
                    };
                    assert_eq!(
                        (&answer.headers["allow"], &answer.headers["content-type"]),
                        (
                            &allow.parse().unwrap(),
                            &Refusal::MEDIA_TYPE.parse().unwrap()
                        )
                    );
                }
                let open = keys.is_empty() || ["/healthz", "/readyz"].contains(&&*path);
                let answer = bus.ask(verb, &path, &headers[..1], body).await;
                assert_eq!(
                    answer.status,
                    if open { expect } else { 401 },
                    "{verb} {path} without a key"
                );
                assert_eq!(answer.headers.get("access-control-allow-origin"), None);
                assert_eq!(answer.headers["cache-control"], "no-store");
            }
        }
    }
}

const COMMITTED: &str = "schemas/json/openapi.json";

#[test]
fn the_committed_document_is_the_one_that_is_served() {
    let served = document();
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        std::fs::write(COMMITTED, &served).unwrap();
    }
    let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
    assert!(
        committed == served,
        "{COMMITTED} is not what the routes are; run the tests with UPDATE_SCHEMAS=1"
    );
}

/// Every `$ref` below a value.
fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            found.extend(
                object
                    .get("$ref")
                    .and_then(Value::as_str)
                    .map(str::to_owned),
            );
            object.values().for_each(|value| references(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn the_document_is_whole() {
    let document: Value = serde_json::from_str(&document()).unwrap();
    let mut found = Vec::new();
    references(&document, &mut found);
    for reference in &found {
        let place = reference.strip_prefix('#').unwrap();
        assert!(
            document.pointer(place).is_some(),
            "{reference} leads nowhere"
        );
    }
    for name in document["components"]["schemas"]
        .as_object()
        .unwrap()
        .keys()
    {
        let reference = format!("#/components/schemas/{name}");
        assert!(found.contains(&reference), "nobody needs {reference}");
    }
    let mut ids: Vec<String> = operations().into_iter().map(|(_, _, id)| id).collect();
    ids.sort_unstable();
    let count = ids.len();
    ids.dedup();
    assert_eq!((count, ids.len()), (SAMPLES.len(), SAMPLES.len()));
}

#[tokio::test]
async fn what_no_operation_knows_is_refused_by_its_name_everywhere() {
    let bus = TestBus::start(&[]).await;
    let dead = bus.dead().await[0].to_string();
    for (path, verb, id) in operations() {
        if !path.starts_with("/api/v1") {
            continue;
        }
        let (_, sample, ..) = SAMPLES.iter().find(|sample| sample.0 == id).unwrap();
        let sample = sample.replace("{dead}", &dead).replace("{task}", &dead);
        let json = [("content-type", "application/json")];
        let in_query = format!("{sample}?colour=red");
        let answer = bus.ask(&verb, &in_query, &json, "{}").await;
        let refused: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(refused["status"], 400, "{id}: {refused}");
        assert!(
            refused["detail"].as_str().unwrap().contains("colour"),
            "{id}: {refused}"
        );
        if verb != "GET" {
            let answer = bus.ask(&verb, &sample, &json, r#"{"colour":"red"}"#).await;
            let refused: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(refused["status"], 400, "{id}: {refused}");
            assert!(
                refused["detail"].as_str().unwrap().contains("`colour`"),
                "{id}: {refused}"
            );
        }
    }
}

#[tokio::test]
async fn whatever_is_no_success_is_a_problem_document() {
    let bus = TestBus::start(&[]).await;
    let json = "application/json";
    let many = format!(r#"{{"ids":[{}]}}"#, vec![r#""x""#; 10_001].join(","));
    let large = format!(r#"{{"rule":"{}"}}"#, "x".repeat(1024 * 1024));
    let foreign = "00000000000000aa-1-1-0";
    for (verb, path, content_type, body, expect, detail) in [
        (
            "GET",
            "/nothing",
            "",
            "",
            404,
            "there is no /nothing here; the API is under /api/v1/",
        ),
        (
            "GET",
            "/api/v1/nothing",
            "",
            "",
            404,
            "there is no /api/v1/nothing here",
        ),
        (
            "GET",
            "/api/v1/dead?limit=0",
            "",
            "",
            400,
            "limit is 0; it lies between 1 and 1000",
        ),
        (
            "GET",
            "/api/v1/dead?limit=1001",
            "",
            "",
            400,
            "limit is 1001",
        ),
        (
            "GET",
            "/api/v1/dead?limit=-1",
            "",
            "",
            400,
            "Failed to deserialize query string: limit",
        ),
        (
            "GET",
            "/api/v1/dead?rule=a.b",
            "",
            "",
            400,
            "Failed to deserialize query string: rule: the name \"a.b\"",
        ),
        (
            "GET",
            "/api/v1/dead?tenant=..%2f",
            "",
            "",
            400,
            "Failed to deserialize query string: tenant: the name \"../\"",
        ),
        (
            "GET",
            "/api/v1/dead?reason=bored",
            "",
            "",
            400,
            "Failed to deserialize query string: reason: unknown variant",
        ),
        (
            "GET",
            "/api/v1/dead?rul=a",
            "",
            "",
            400,
            "Failed to deserialize query string: rul: unknown field",
        ),
        (
            "GET",
            "/api/v1/dead?after=1",
            "",
            "",
            400,
            "\"1\" is not the id of a delivery",
        ),
        (
            "GET",
            "/api/v1/dead/x",
            "",
            "",
            400,
            "\"x\" is not the id of a delivery",
        ),
        (
            "GET",
            &format!("/api/v1/dead/{foreign}"),
            "",
            "",
            404,
            "there is no dead letter 00000000000000aa-1-1-0",
        ),
        (
            "GET",
            "/api/v1/events?limit=1001",
            "",
            "",
            400,
            "limit is 1001",
        ),
        (
            "GET",
            "/api/v1/events?since=yesterday",
            "",
            "",
            400,
            "since is \"yesterday\"; write it as",
        ),
        (
            "GET",
            "/api/v1/events?since=2026-01-31T09:30:00Z&after=1",
            "",
            "",
            400,
            "since and after exclude each other",
        ),
        (
            "GET",
            "/api/v1/events/x",
            "",
            "",
            400,
            "\"x\" is not the sequence of an event",
        ),
        (
            "GET",
            "/api/v1/events/99",
            "",
            "",
            404,
            "there is no event 99",
        ),
        ("GET", "/api/v1/events/%ff", "", "", 400, "Invalid URL"),
        (
            "GET",
            "/api/v1/events/99/explain",
            "",
            "",
            404,
            "there is no event 99",
        ),
        (
            "GET",
            "/api/v1/events/1/explain?limit=0",
            "",
            "",
            400,
            "limit is 0; it lies between 1 and 100",
        ),
        (
            "GET",
            "/api/v1/events/1/explain?rule=A",
            "",
            "",
            400,
            "Failed to deserialize query string: rule: the name \"A\"",
        ),
        (
            "GET",
            "/api/v1/events/1/explain?rule=nobody",
            "",
            "",
            404,
            "there is no rule nobody of tenant default",
        ),
        (
            "POST",
            "/api/v1/subscriptions/x/suspend",
            "",
            "",
            400,
            "\"x\" is not the number of a subscription",
        ),
        (
            "POST",
            "/api/v1/subscriptions/99/resume",
            "",
            "",
            404,
            "there is no subscription",
        ),
        (
            "POST",
            "/api/v1/dead/purge",
            "",
            r#"{"all":true}"#,
            415,
            "Content-Type is \"\"; send application/json",
        ),
        (
            "POST",
            "/api/v1/dead/purge",
            "text/plain",
            r#"{"all":true}"#,
            415,
            "Content-Type is \"text/plain\"",
        ),
        (
            "POST",
            "/api/v1/dead/purge",
            json,
            "",
            400,
            "nothing is selected",
        ),
        (
            "POST",
            "/api/v1/dead/purge",
            json,
            "{}",
            400,
            "nothing is selected",
        ),
        (
            "POST",
            "/api/v1/dead/purge",
            json,
            r#"{"all":false}"#,
            400,
            "nothing is selected",
        ),
        (
            "POST",
            "/api/v1/dead/purge",
            json,
            r#"{"all":true,"rule":"a"}"#,
            400,
            "all and a narrower selection exclude each other",
        ),
        (
            "POST",
            "/api/v1/dead/purge",
            json,
            r#"{"ids":[]}"#,
            400,
            "ids holds 1 to 10000 ids",
        ),
        (
            "POST",
            "/api/v1/dead/purge",
            json,
            &many,
            400,
            "ids holds 1 to 10000 ids",
        ),
        (
            "POST",
            "/api/v1/dead/purge",
            json,
            r#"{"ids":["x"]}"#,
            400,
            "\"x\" is not the id of a delivery",
        ),
        (
            "POST",
            "/api/v1/dead/purge",
            json,
            r#"{"rules":"a"}"#,
            400,
            "the body cannot be used: unknown field `rules`",
        ),
        (
            "POST",
            "/api/v1/replays",
            json,
            r#"{"rule":"a","form":"2026-01-31T09:30:00Z"}"#,
            400,
            "the body cannot be used: unknown field `form`",
        ),
        (
            "POST",
            "/api/v1/dead/redrive",
            json,
            r#"{"target":"A"}"#,
            400,
            "the body cannot be used: the name \"A\"",
        ),
        (
            "POST",
            "/api/v1/subscriptions/1/move",
            json,
            r#"{"to":1.0}"#,
            400,
            "subscription 1 cannot be moved to itself",
        ),
        (
            "POST",
            "/api/v1/subscriptions/1/move",
            json,
            r#"{"to":1.5}"#,
            400,
            "the body cannot be used: invalid type: floating point `1.5`",
        ),
        (
            "POST",
            "/api/v1/dead/redrive",
            json,
            &large,
            413,
            "Failed to buffer the request body",
        ),
    ] {
        let headers = if content_type.is_empty() {
            &[][..]
        } else {
            &[("content-type", content_type)][..]
        };
        let answer = bus.ask(verb, path, headers, body).await;
        let problem: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(
            (answer.status.as_u16(), problem["status"].as_u64()),
            (expect, Some(u64::from(expect))),
            "{verb} {path}: {problem}"
        );
        assert_eq!(answer.headers["content-type"], Refusal::MEDIA_TYPE);
        assert!(
            problem["detail"].as_str().unwrap().starts_with(detail),
            "{verb} {path}: {problem}"
        );
    }
    assert_eq!(
        bus.dead().await.len(),
        5,
        "nothing of this changes anything"
    );
}
