//! Patterns that several benchmarks measure. Each takes the event of its number, which is theirs.

use serde_json::{Value, json};

/// Exact values of three fields.
pub fn exact(n: usize) -> Value {
    json!({
        "type": [format!("com.example.kind{n:05}.created")],
        "data": { "userIdentity": { "principalId": [format!("AWS:{n:05}:EXAMPLE")] }, "s3": { "bucket": { "name": [format!("photos-{n:05}")] } } },
    })
}

/// Wildcards, prefixes, ranges, `anything-but` and exact values over eight fields, by the number of
/// the sort.
pub fn mixed(n: usize, sort: usize) -> Value {
    match sort % 5 {
        0 => {
            json!({ "data": { "s3": { "object": { "key": [{ "wildcard": format!("albums/*/{n:05}/*.jpg") }] } } } })
        }
        1 => {
            json!({ "subject": [{ "prefix": format!("albums/{n:05}/") }], "data": { "eventName": [{ "prefix": "Object" }] } })
        }
        2 => {
            json!({
                "data": {
                    "s3": {
                        "object": { "size": [{ "numeric": [">=", 10 * n, "<", 10 * n + 10] }] },
                    },
                },
            })
        }
        3 => json!({
            "data": {
                "state": [{ "anything-but": ["deleted", format!("gone-{n}")] }],
                "userIdentity": { "principalId": [{ "suffix": format!("{n:05}:EXAMPLE") }] },
            },
        }),
        _ => exact(n),
    }
}
