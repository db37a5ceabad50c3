//! EventSources of Argo that a provider calls: webhooks with the provider's signature.

use serde_json::{Map, Value, json};

use super::text;
use crate::commands::import::draft::Draft;
use crate::commands::import::file::{slug, variable};

/// A provider's kind in Argo, its signature here, and where Argo has the secret, if it has one.
const PROVIDERS: [(&str, &str, &str); 6] = [
    ("github", "github", "/webhookSecret"),
    ("gitlab", "gitlab", "/secretToken"),
    ("bitbucket", "bitbucket", ""),
    ("bitbucketserver", "bitbucket", "/webhookSecret"),
    ("slack", "slack", "/signingSecret"),
    ("stripe", "stripe", ""),
];

/// The webhook of a source that a provider calls, and the data of its events where that is not what
/// comes; none of other kinds.
pub(super) fn provider(
    kind: &str,
    settings: &Value,
    (name, event): (&str, &str),
    of: &str,
    draft: &mut Draft,
) -> Option<(Map<String, Value>, Option<Value>)> {
    let endpoint = text(settings, "/webhook/endpoint");
    if kind == "sns" {
        let path = free_path(endpoint, (name, event), of, draft);
        draft.note(
            of,
            &format!(
                "Argo subscribes by itself; here that is left to you: subscribe {path} to the \
                 topic, without raw message delivery"
            ),
        );
        return Some((of_topic(settings, &path), Some("<$.envelope>".into())));
    }
    let (_, signature, secret) = PROVIDERS.iter().find(|(known, _, _)| *known == kind)?;
    let path = free_path(endpoint, (name, event), of, draft);
    let events = events_asked_for(settings);
    draft.note(
        of,
        &format!(
            "have {signature} call {path}{events}: Argo registers itself there, and here that is \
             left to you"
        ),
    );
    let variable = format!("{}_SECRET", variable(&format!("{kind}-{name}-{event}")));
    draft.note(
        of,
        &match settings.pointer(secret).filter(|_| !secret.is_empty()) {
            Some(_) => format!("put the secret that {signature} signs with into {variable}"),
            None => {
                format!(
                    "Argo takes its calls unsigned; here they are checked: put the secret that \
                     {signature} signs with into {variable}"
                )
            }
        },
    );
    if kind == "slack" {
        draft.note(
            of,
            "Argo tells of the `event` in what Slack sends; here the data is all of it: what was \
             `body.type` is `event.type`",
        );
    }
    Some((
        webhook(
            &path,
            json!({ *signature: { "secret": { "env": variable } } }),
        ),
        None,
    ))
}

/// The webhook of a topic of SNS.
fn of_topic(settings: &Value, path: &str) -> Map<String, Value> {
    let topics: Vec<&str> = Some(text(settings, "/topicArn"))
        .filter(|topic| !topic.is_empty())
        .into_iter()
        .collect();
    webhook(path, json!({ "aws-sns": { "topics": topics } }))
}

/// Which events a provider is asked to call for, in words; empty where it is for all.
fn events_asked_for(settings: &Value) -> String {
    let events: Vec<&str> = settings
        .get("events")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if events.is_empty() || events.contains(&"*") {
        String::new()
    } else {
        format!(" for {}", events.join(", "))
    }
}

/// Argo's own webhook, whose sender may show a token.
pub(super) fn plain(
    settings: &Value,
    (name, event): (&str, &str),
    of: &str,
    draft: &mut Draft,
) -> Result<Map<String, Value>, String> {
    let path = text(settings, "/endpoint");
    if !path.starts_with('/') {
        return Err("it has no endpoint".to_owned());
    }
    let path = free_path(path, (name, event), of, draft);
    if settings.get("authSecret").is_none() {
        draft.note(
            of,
            "it listens on the bus's own port; give it a `signature` where its sender signs",
        );
        return Ok(webhook(&path, json!({ "none": {} })));
    }
    let variable = format!("{}_TOKEN", variable(&format!("{name}-{event}")));
    draft.note(
        of,
        &format!("put the token that its sender shows into {variable}"),
    );
    let bearer = json!({
        "header": "Authorization",
        "prefix": "Bearer ",
        "algorithm": "token",
        "secret": { "env": variable },
    });
    Ok(webhook(&path, json!({ "custom": bearer })))
}

fn webhook(path: &str, signature: Value) -> Map<String, Value> {
    Map::from_iter([(
        "webhook".to_owned(),
        json!({ "path": path, "signature": signature }),
    )])
}

/// A path that no other source has: in Argo each has a port of its own.
fn free_path(wanted: &str, (name, event): (&str, &str), of: &str, draft: &mut Draft) -> String {
    let own = format!("/hooks/{}", slug(&format!("{name}-{event}")));
    if wanted.starts_with('/')
        && !["/", "/events"].contains(&wanted)
        && !draft.has_webhook_at(wanted)
    {
        return wanted.to_owned();
    }
    if !wanted.is_empty() {
        draft.note(
            of,
            &format!("its path `{wanted}` is not free here: it is {own}"),
        );
    }
    own
}
