//! Triggers that are neither `http` nor `log`.

use serde_json::{Map, Value, json};

use super::{Named, Target, text};
use crate::commands::import::draft::{Draft, literal};
use crate::commands::import::file::slug;

/// What there is to a trigger's template that says nothing of its kind.
const COMMON: [&str; 4] = ["name", "conditions", "conditionsReset", "id"];

/// The target of a trigger: `nats` has a counterpart, all others are called over HTTP.
pub(super) fn target(
    template: &Value,
    dependency: &str,
    unwrapped: &mut bool,
    of: &str,
    draft: &mut Draft,
) -> Result<Target, String> {
    let mut kinds = template.as_object().into_iter().flatten();
    let Some((kind, settings)) = kinds.find(|(key, _)| !COMMON.contains(&key.as_str())) else {
        return Err("it has no trigger".to_owned());
    };
    if kind == "nats" && settings.get("parameters").is_none() {
        return nats(settings, dependency, unwrapped, of, draft);
    }
    Ok(unknown(
        kind,
        template.get("name"),
        settings,
        dependency,
        unwrapped,
        of,
        draft,
    ))
}

/// The target of a trigger without a counterpart.
pub(super) fn unknown(
    kind: &str,
    trigger: Option<&Value>,
    settings: &Value,
    dependency: &str,
    unwrapped: &mut bool,
    of: &str,
    draft: &mut Draft,
) -> Target {
    let named = [
        "/functionName",
        "/actionName",
        "/topic",
        "/hubName",
        "/queueName",
        "/channel",
    ];
    let named = named
        .into_iter()
        .map(|pointer| text(settings, pointer))
        .find(|name| slug(name) != "unnamed");
    let named = named.filter(|_| !["http", "custom", "argoWorkflow", "k8s"].contains(&kind));
    let trigger = trigger.and_then(Value::as_str).unwrap_or(kind);
    let sensor = of.split(',').next().unwrap_or_default();
    let what = match named {
        Some(name) => format!("the {kind} trigger of {name}"),
        None => format!("the {kind} trigger {trigger} of the {sensor}"),
    };
    let payload = settings
        .get("payload")
        .and_then(Value::as_array)
        .filter(|payload| !payload.is_empty());
    let transform = match payload.map(|payload| super::data(payload, dependency, unwrapped)) {
        Some(Ok(data)) => Some(json!({ "data": data })),
        Some(Err(why)) => {
            draft.note(
                of,
                &format!("{why}; what is called is given the whole event"),
            );
            None
        }
        None => None,
    };
    if settings.get("parameters").is_some() {
        draft.note(
            of,
            "its `parameters`, which put values of the event into what it makes, are left to the \
             function",
        );
    }
    (
        Named::Unknown(named.unwrap_or(trigger).to_owned(), what),
        transform,
    )
}

/// Core NATS: what is published is answered by nobody.
fn nats(
    settings: &Value,
    dependency: &str,
    unwrapped: &mut bool,
    of: &str,
    draft: &mut Draft,
) -> Result<Target, String> {
    let url = text(settings, "/url");
    let url = if url.contains("://") {
        url.to_owned()
    } else {
        format!("nats://{url}")
    };
    let mut body = Map::from_iter([
        ("url".to_owned(), Value::from(url)),
        (
            "subject".to_owned(),
            literal(text(settings, "/subject")).into(),
        ),
        ("mode".to_owned(), "data".into()),
        ("acknowledge".to_owned(), false.into()),
    ]);
    body.extend(auth(settings, of, draft).map(|auth| ("auth".to_owned(), auth)));
    if settings.get("tls").is_some() {
        draft.note(of, "its `tls` has to be given to the target");
    }
    let payload = settings
        .get("payload")
        .and_then(Value::as_array)
        .filter(|payload| !payload.is_empty());
    let data = payload
        .map(|payload| super::data(payload, dependency, unwrapped))
        .transpose()?;
    let name = text(settings, "/subject");
    Ok((
        Named::New(
            if name.is_empty() {
                "nats".to_owned()
            } else {
                name.to_owned()
            },
            json!({ "nats": body }),
        ),
        data.map(|data| json!({ "data": data })),
    ))
}

/// Who calls a NATS server: secrets are taken from the environment.
pub(super) fn auth(settings: &Value, of: &str, draft: &mut Draft) -> Option<Value> {
    let auth = settings.get("auth")?;
    let (auth, note) = if auth.get("basic").is_some() {
        (
            json!({
                "basic": {
                    "username": { "env": "NATS_USER" },
                    "password": { "env": "NATS_PASSWORD" },
                },
            }),
            "put its user and password into NATS_USER and NATS_PASSWORD",
        )
    } else if auth.get("token").is_some() {
        (
            json!({ "token": { "env": "NATS_TOKEN" } }),
            "put its token into NATS_TOKEN",
        )
    } else if auth.get("nkey").is_some() {
        (
            json!({ "nkey": { "env": "NATS_NKEY" } }),
            "put its seed into NATS_NKEY",
        )
    } else {
        draft.note(
            of,
            "its `auth` has to be given as `auth: { credentials: { file: … } }`",
        );
        return None;
    };
    draft.note(of, note);
    Some(auth)
}
