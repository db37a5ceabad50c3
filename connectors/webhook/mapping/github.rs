//! GitHub's events: the CloudEvents adapter `github.md`.
//!
//! Where the document leaves a doubt: `status` ends with the state; `repository_dispatch` and
//! `repository_ruleset` have the dot that all others have; a release's time is that of its action.
//! What it does not list is `com.github.<event>`, with the action where there is one.

use http::HeaderMap;
use serde_json::Value;

use super::place::{first_text, text};
use crate::webhook::attributes::Attributes;
use crate::webhook::content::header;

/// Event, what is added to its type, `source`, `subject`, and the first of `time` that is set.
type Row = (
    &'static str,
    &'static [&'static str],
    &'static str,
    &'static str,
    &'static [&'static str],
);

const ROWS: &[Row] = &[
    (
        "branch_protection_configuration",
        &["action"],
        "repository.url",
        "",
        &[],
    ),
    (
        "branch_protection_rule",
        &["action"],
        "repository.url",
        "rule.id",
        &["rule.updated_at"],
    ),
    (
        "check_run",
        &["action"],
        "repository.url",
        "check_run.id",
        &["check_run.completed_at", "check_run.started_at"],
    ),
    (
        "check_suite",
        &["action"],
        "repository.url",
        "check_suite.id",
        &["check_suite.updated_at"],
    ),
    (
        "code_scanning_alert",
        &["action"],
        "repository.url",
        "alert.number",
        &[],
    ),
    (
        "commit_comment",
        &["action"],
        "comment.url",
        "comment.id",
        &["comment.updated_at"],
    ),
    (
        "content_reference",
        &["action"],
        "repository.url",
        "content_reference.id",
        &[],
    ),
    ("create", &["ref_type"], "repository.url", "ref", &[]),
    (
        "custom_property",
        &["action"],
        "repository.url",
        "definition.property_name",
        &[],
    ),
    (
        "custom_property_values",
        &["action"],
        "repository.url",
        "",
        &[],
    ),
    ("delete", &["ref_type"], "repository.url", "ref", &[]),
    (
        "dependabot_alert",
        &["action"],
        "repository.url",
        "alert.id",
        &[],
    ),
    (
        "deploy_key",
        &["action"],
        "repository.url",
        "key.id",
        &["key.deleted_at", "key.created_at"],
    ),
    (
        "deployment",
        &[],
        "repository.url",
        "deployment.id",
        &["deployment.updated_at"],
    ),
    (
        "deployment_protection_rule",
        &["action"],
        "deployment.url",
        "deployment.id",
        &[],
    ),
    (
        "deployment_review",
        &["action"],
        "deployment.url",
        "workflow_run.id",
        &[],
    ),
    (
        "deployment_status",
        &["deployment_status.state"],
        "deployment.url",
        "deployment_status.url",
        &["deployment_status.updated_at"],
    ),
    (
        "discussion",
        &["action"],
        "repository.url",
        "discussion.id",
        &[],
    ),
    (
        "discussion_comment",
        &["action"],
        "repository.url",
        "discussion.id",
        &["comment.updated_at"],
    ),
    (
        "fork",
        &[],
        "repository.url",
        "forkee.url",
        &["forkee.created_at"],
    ),
    ("github_app_authorization", &[], "sender.url", "", &[]),
    ("gollum", &[], "repository.url", "", &[]),
    (
        "installation",
        &["action"],
        "installation.account.url",
        "installation.id",
        &["installation.updated_at"],
    ),
    (
        "installation_repositories",
        &["action"],
        "installation.account.url",
        "installation.id",
        &["installation.updated_at"],
    ),
    (
        "installation_target",
        &["action"],
        "installation.account.url",
        "installation.id",
        &[],
    ),
    (
        "issue_comment",
        &["action"],
        "issue.url",
        "comment.id",
        &["comment.updated_at"],
    ),
    (
        "issues",
        &["action"],
        "repository.url",
        "issue.number",
        &["issue.updated_at"],
    ),
    ("label", &["action"], "repository.url", "label.name", &[]),
    (
        "marketplace_purchase",
        &["action"],
        "sender.url",
        "marketplace_purchase.account.login",
        &["effective_date"],
    ),
    ("member", &["action"], "repository.url", "member.login", &[]),
    (
        "membership",
        &["scope", "action"],
        "team.url",
        "member.login",
        &[],
    ),
    (
        "merge_group",
        &["action"],
        "repository.url",
        "merge_group.head_ref",
        &[],
    ),
    (
        "meta",
        &["action"],
        "repository.url",
        "hook_id",
        &["hook.updated_at"],
    ),
    (
        "milestone",
        &["action"],
        "repository.url",
        "milestone.number",
        &["milestone.updated_at"],
    ),
    (
        "organization",
        &["action"],
        "organization.url",
        "membership.user.login",
        &[],
    ),
    (
        "org_block",
        &["action"],
        "organization.url",
        "blocked_user.login",
        &[],
    ),
    (
        "package",
        &["action"],
        "repository.url",
        "package.id",
        &["package.updated_at", "package.created_at"],
    ),
    (
        "page_build",
        &[],
        "repository.url",
        "build.url",
        &["pusher.updated_at"],
    ),
    (
        "project_card",
        &["action"],
        "repository.url",
        "project_card.id",
        &["project_card.updated_at"],
    ),
    (
        "project_column",
        &["action"],
        "repository.url",
        "project_column.id",
        &["project_column.updated_at"],
    ),
    (
        "project",
        &["action"],
        "repository.url",
        "project.id",
        &["project.updated_at"],
    ),
    (
        "projects_v2",
        &["action"],
        "repository.url",
        "projects_v2.id",
        &["projects_v2.updated_at"],
    ),
    (
        "projects_v2_item",
        &["action"],
        "repository.url",
        "projects_v2_item.id",
        &["projects_v2_item.updated_at"],
    ),
    (
        "projects_v2_status_update",
        &["action"],
        "repository.url",
        "projects_v2_status_update.id",
        &["projects_v2_status_update.updated_at"],
    ),
    (
        "public",
        &[],
        "repository.owner.url",
        "repository.name",
        &["repository.updated_at"],
    ),
    (
        "pull_request",
        &["action"],
        "repository.url",
        "number",
        &["pull_request.updated_at"],
    ),
    (
        "pull_request_review",
        &["action"],
        "pull_request.url",
        "review.id",
        &["review.submitted_at"],
    ),
    (
        "pull_request_review_comment",
        &["action"],
        "pull_request.url",
        "comment.id",
        &["pull_request.updated_at"],
    ),
    (
        "pull_request_review_thread",
        &["action"],
        "pull_request.url",
        "pull_request.id",
        &[],
    ),
    ("push", &[], "repository.url", "ref", &[]),
    (
        "registry_package",
        &["action"],
        "repository.url",
        "registry_package.html_url",
        &["registry_package.updated_at"],
    ),
    ("release", &["action"], "repository.url", "release.id", &[]),
    (
        "repository",
        &["action"],
        "repository.owner.url",
        "repository.name",
        &["repository.updated_at"],
    ),
    (
        "repository_advisory",
        &["action"],
        "repository.url",
        "repository_advisory.ghsa_id",
        &["repository_advisory.updated_at"],
    ),
    (
        "repository_dispatch",
        &["action"],
        "repository.owner.url",
        "",
        &[],
    ),
    (
        "repository_import",
        &[],
        "repository.owner.url",
        "repository.name",
        &["repository.updated_at"],
    ),
    (
        "repository_ruleset",
        &["action"],
        "repository.owner.url",
        "repository.name",
        &["repository.updated_at"],
    ),
    (
        "repository_vulnerability_alert",
        &["action"],
        "repository.url",
        "alert.id",
        &[],
    ),
    (
        "secret_scanning_alert",
        &["action"],
        "repository.url",
        "alert.number",
        &["alert.updated_at", "alert.created_at"],
    ),
    (
        "secret_scanning_alert_location",
        &["action"],
        "repository.url",
        "alert.number",
        &["alert.updated_at", "alert.created_at"],
    ),
    (
        "security_advisory",
        &["action"],
        "",
        "security_advisory.ghsa_id",
        &["security_advisory.updated_at"],
    ),
    ("security_and_analysis", &[], "repository.url", "", &[]),
    (
        "sponsorship",
        &["action"],
        "repository.url",
        "sponsorship.sponsor.login",
        &[],
    ),
    ("star", &["action"], "repository.url", "", &["starred_at"]),
    (
        "status",
        &["state"],
        "repository.url",
        "sha",
        &["updated_at"],
    ),
    (
        "team",
        &["action"],
        "repository.url",
        "team.id",
        &["updated_at"],
    ),
    ("team_add", &["action"], "repository.url", "team.id", &[]),
    ("watch", &["action"], "repository.url", "", &[]),
    ("workflow_dispatch", &[], "repository.url", "workflow", &[]),
    (
        "workflow_job",
        &["action"],
        "repository.url",
        "workflow_job.name",
        &[],
    ),
    (
        "workflow_run",
        &["action"],
        "repository.url",
        "workflow.name",
        &[],
    ),
];

pub(super) fn attributes(headers: &HeaderMap, body: &Value) -> Attributes {
    let event = header(headers, "x-github-event").unwrap_or("unknown");
    let &(_, suffix, source, subject, time) = ROWS.iter().find(|row| row.0 == event).unwrap_or(&(
        "",
        &["action"],
        "repository.url",
        "",
        &[],
    ));
    let mut ty = format!("com.github.{event}");
    for part in suffix.iter().filter_map(|path| text(body, path)) {
        ty.push('.');
        ty.push_str(&part);
    }
    let action = text(body, "action").unwrap_or_default();
    let source = match event {
        "commit_comment" => text(body, source)
            .zip(text(body, "comment.commit_id"))
            .map(|(url, commit)| format!("{url}/{commit}")),
        "marketplace_purchase" => {
            text(body, source).and_then(|url| url.rsplit_once('/').map(|(url, _)| url.to_owned()))
        }
        "security_advisory" => Some("github.com".to_owned()),
        _ => text(body, source),
    };
    // Events of an organisation or of an account have no repository.
    let source = source.or_else(|| {
        first_text(
            body,
            &[
                "repository.url",
                "organization.url",
                "installation.account.url",
                "sender.url",
            ],
        )
    });
    let time = match event {
        "release" => text(body, &format!("release.{action}_at"))
            .or_else(|| first_text(body, &["release.published_at", "release.created_at"])),
        _ => first_text(body, time),
    };
    Attributes {
        ty,
        source: source.unwrap_or_else(|| "https://github.com".to_owned()),
        id: header(headers, "x-github-delivery").map(str::to_owned),
        subject: text(body, subject),
        time,
    }
}
