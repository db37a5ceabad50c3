//! GitLab's events: the CloudEvents adapter `gitlab.md`.
//!
//! The document has a new id generated: GitLab's `Idempotency-Key` is one, and the same when GitLab
//! tries again; without it the id is random. What the document does not list is
//! `com.gitlab.<object_kind>`, with the action where there is one, from the project.

use http::HeaderMap;
use serde_json::Value;

use super::place::{first_text, text};
use crate::webhook::attributes::Attributes;
use crate::webhook::content::header;

/// Where the attributes of one kind of event stand in its body.
struct Row {
    /// What `object_kind` says.
    kind: &'static str,
    /// Of a note, what it is written on; empty for other kinds.
    noteable: &'static str,
    /// What the type has behind `com.gitlab.`; empty where that is the kind.
    name: &'static str,
    /// What is added to the type; empty where nothing is.
    suffix: &'static str,
    source: &'static str,
    subject: &'static str,
    /// Empty where the body tells no time.
    time: &'static str,
}

/// What the adapter does not list.
const OTHER: Row = Row {
    kind: "",
    noteable: "",
    name: "",
    suffix: "object_attributes.action",
    source: "project.web_url",
    subject: "object_attributes.id",
    time: "",
};

const NOTE: Row = Row {
    kind: "note",
    suffix: "",
    source: "object_attributes.url",
    time: "object_attributes.created_at",
    ..OTHER
};

const JOB: Row = Row {
    kind: "job",
    name: "job",
    suffix: "build_status",
    source: "repository.homepage",
    subject: "build_id",
    ..OTHER
};

const ROWS: [Row; 12] = [
    Row {
        kind: "push",
        suffix: "",
        source: "repository.homepage",
        subject: "checkout_sha",
        ..OTHER
    },
    Row {
        kind: "tag_push",
        suffix: "",
        source: "repository.homepage",
        subject: "ref",
        ..OTHER
    },
    Row {
        kind: "issue",
        suffix: "object_attributes.state",
        source: "repository.homepage",
        subject: "object_attributes.iid",
        ..OTHER
    },
    Row {
        noteable: "Commit",
        name: "note.commit",
        source: "commit.url",
        ..NOTE
    },
    Row {
        noteable: "MergeRequest",
        name: "note.merge_request",
        ..NOTE
    },
    Row {
        noteable: "Issue",
        name: "note.issue",
        ..NOTE
    },
    Row {
        noteable: "Snippet",
        name: "note.snippet",
        ..NOTE
    },
    Row {
        kind: "merge_request",
        source: "repository.homepage",
        subject: "object_attributes.iid",
        time: "object_attributes.created_at",
        ..OTHER
    },
    Row {
        kind: "wiki_page",
        subject: "object_attributes.slug",
        ..OTHER
    },
    Row {
        kind: "pipeline",
        suffix: "object_attributes.status",
        ..OTHER
    },
    JOB,
    // A job was called a build once, and still is in its hooks.
    Row {
        kind: "build",
        ..JOB
    },
];

pub(super) fn attributes(headers: &HeaderMap, body: &Value) -> Attributes {
    // `event_name` is what system hooks have in its place.
    let kind =
        first_text(body, &["object_kind", "event_name"]).unwrap_or_else(|| "unknown".to_owned());
    let noteable = text(body, "object_attributes.noteable_type");
    let is_row = |row: &&Row| {
        row.kind == kind && (row.noteable.is_empty() || noteable.as_deref() == Some(row.noteable))
    };
    let row = ROWS.iter().find(is_row).unwrap_or(&OTHER);
    let name = match row.name {
        "" => kind.as_str(),
        name => name,
    };
    let mut ty = format!("com.gitlab.{name}");
    let suffix = match name {
        "job" => first_text(body, &["job_status", row.suffix]),
        _ => text(body, row.suffix),
    };
    if let Some(suffix) = suffix {
        ty.push('.');
        ty.push_str(&suffix);
    }
    let source = text(body, row.source)
        .map(|url| match url.split_once("#note_") {
            Some((page, _)) if name.starts_with("note.") => page.to_owned(),
            _ => url,
        })
        .or_else(|| first_text(body, &["project.web_url", "repository.homepage"]))
        .or_else(|| header(headers, "x-gitlab-instance").map(str::to_owned));
    let subject = if name == "job" {
        first_text(body, &["job_id", row.subject])
    } else {
        text(body, row.subject)
    };
    Attributes {
        ty,
        source: source.unwrap_or_else(|| "https://gitlab.com".to_owned()),
        id: header(headers, "idempotency-key").map(str::to_owned),
        subject,
        time: text(body, row.time),
    }
}
