//! GitLab's events: the CloudEvents adapter `gitlab.md`.
//!
//! The document has a new id generated: GitLab's `Idempotency-Key` is one, and the same when GitLab
//! tries again; without it the id is random. What the document does not list is
//! `com.gitlab.<object_kind>`, with the action where there is one, from the project.

use http::HeaderMap;
use serde_json::Value;

use super::{Attributes, first_text, header, text};

pub(super) fn attributes(headers: &HeaderMap, body: &Value) -> Attributes {
    // `event_name` is what system hooks have in its place.
    let kind =
        first_text(body, &["object_kind", "event_name"]).unwrap_or_else(|| "unknown".to_owned());
    let noteable = text(body, "object_attributes.noteable_type");
    let row: (&str, &str, &str, &str, &str) = match (kind.as_str(), noteable.as_deref()) {
        // Name, what is added to it, source, subject, time.
        ("push", _) => ("push", "", "repository.homepage", "checkout_sha", ""),
        ("tag_push", _) => ("tag_push", "", "repository.homepage", "ref", ""),
        ("issue", _) => (
            "issue",
            "object_attributes.state",
            "repository.homepage",
            "object_attributes.iid",
            "",
        ),
        ("note", Some("Commit")) => (
            "note.commit",
            "",
            "commit.url",
            "object_attributes.id",
            "object_attributes.created_at",
        ),
        ("note", Some("MergeRequest")) => (
            "note.merge_request",
            "",
            "object_attributes.url",
            "object_attributes.id",
            "object_attributes.created_at",
        ),
        ("note", Some("Issue")) => (
            "note.issue",
            "",
            "object_attributes.url",
            "object_attributes.id",
            "object_attributes.created_at",
        ),
        ("note", Some("Snippet")) => (
            "note.snippet",
            "",
            "object_attributes.url",
            "object_attributes.id",
            "object_attributes.created_at",
        ),
        ("merge_request", _) => (
            "merge_request",
            "object_attributes.action",
            "repository.homepage",
            "object_attributes.iid",
            "object_attributes.created_at",
        ),
        ("wiki_page", _) => (
            "wiki_page",
            "object_attributes.action",
            "project.web_url",
            "object_attributes.slug",
            "",
        ),
        ("pipeline", _) => (
            "pipeline",
            "object_attributes.status",
            "project.web_url",
            "object_attributes.id",
            "",
        ),
        // A job was called a build once, and still is in its hooks.
        ("build" | "job", _) => ("job", "build_status", "repository.homepage", "build_id", ""),
        (other, _) => (
            other,
            "object_attributes.action",
            "project.web_url",
            "object_attributes.id",
            "",
        ),
    };
    let (name, suffix, source, subject, time) = row;
    let mut ty = format!("com.gitlab.{name}");
    let suffix = match name {
        "job" => first_text(body, &["job_status", suffix]),
        _ => text(body, suffix),
    };
    if let Some(suffix) = suffix {
        ty.push('.');
        ty.push_str(&suffix);
    }
    let source = text(body, source)
        .map(|url| match url.split_once("#note_") {
            Some((page, _)) if name.starts_with("note.") => page.to_owned(),
            _ => url,
        })
        .or_else(|| first_text(body, &["project.web_url", "repository.homepage"]))
        .or_else(|| header(headers, "x-gitlab-instance").map(str::to_owned));
    let subject = if name == "job" {
        first_text(body, &["job_id", subject])
    } else {
        text(body, subject)
    };
    Attributes {
        ty,
        source: source.unwrap_or_else(|| "https://gitlab.com".to_owned()),
        id: header(headers, "idempotency-key").map(str::to_owned),
        subject,
        time: text(body, time),
    }
}
