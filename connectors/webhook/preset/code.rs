//! Where software is written and planned.

use super::table::ROW;
use super::{Events, Preset, Rows};

pub(super) const BITBUCKET: Preset = Preset {
    name: "bitbucket",
    about: "Bitbucket: `X-Hub-Signature`, HMAC-SHA256 over the body.",
    schemes: &[r#"{"header": "x-hub-signature", "prefix": "sha256="}"#],
    event: Events::Rows(&Rows {
        ty: &["com.bitbucket.<$.headers.x-event-key>"],
        source: &[
            "<$.fields.repository.links.html.href>",
            "<$.fields.repository.links.self.0.href>",
            "https://bitbucket.org",
        ],
        id: &["<$.headers.x-request-uuid>", "<$.headers.x-request-id>"],
        subject: &[
            "<$.fields.pullrequest.id>",
            "<$.fields.pullRequest.id>",
            "<$.fields.issue.id>",
            "<$.fields.push.changes.0.new.name>",
        ],
        time: &["<$.fields.date>"],
        ..Rows::NONE
    }),
    ..ROW
};

pub(super) const GITEA: Preset = Preset {
    name: "gitea",
    about: "Gitea and Forgejo: `X-Gitea-Signature` or `X-Forgejo-Signature`, HMAC-SHA256 over the \
            body.",
    schemes: &[
        r#"{"header": "x-gitea-signature"}"#,
        r#"{"header": "x-forgejo-signature"}"#,
    ],
    event: Events::Rows(&Rows {
        ty: &[
            "com.gitea.<$.headers.x-gitea-event>.<$.fields.action>",
            "com.gitea.<$.headers.x-gitea-event>",
            "com.gitea.<$.headers.x-forgejo-event>.<$.fields.action>",
            "com.gitea.<$.headers.x-forgejo-event>",
            "com.gitea.unknown",
        ],
        source: &[
            "<$.fields.repository.html_url>",
            "<$.fields.organization.url>",
            "https://gitea.com",
        ],
        id: &[
            "<$.headers.x-gitea-delivery>",
            "<$.headers.x-forgejo-delivery>",
        ],
        subject: &[
            "<$.fields.number>",
            "<$.fields.issue.number>",
            "<$.fields.release.tag_name>",
            "<$.fields.ref>",
        ],
        ..Rows::NONE
    }),
    ..ROW
};

pub(super) const GOGS: Preset = Preset {
    name: "gogs",
    about: "Gogs: `X-Gogs-Signature`, HMAC-SHA256 over the body.",
    schemes: &[r#"{"header": "x-gogs-signature"}"#],
    event: Events::Rows(&Rows {
        ty: &[
            "com.gogs.<$.headers.x-gogs-event>.<$.fields.action>",
            "com.gogs.<$.headers.x-gogs-event>",
            "com.gogs.unknown",
        ],
        source: &["<$.fields.repository.html_url>", "https://gogs.io"],
        id: &["<$.headers.x-gogs-delivery>"],
        subject: &[
            "<$.fields.number>",
            "<$.fields.issue.number>",
            "<$.fields.ref>",
        ],
        ..Rows::NONE
    }),
    ..ROW
};

pub(super) const DOCKER_HUB: Preset = Preset {
    name: "docker-hub",
    about: "Docker Hub, which does not sign: the secret as `?token=` in the address. Use it over \
            TLS only.",
    schemes: &[r#"{"query": "token", "encoding": "text", "algorithm": "token"}"#],
    event: Events::Rows(&Rows {
        ty: &["com.docker.hub.push"],
        source: &["<$.fields.repository.repo_url>", "https://hub.docker.com"],
        subject: &["<$.fields.push_data.tag>"],
        time: &["<$.fields.push_data.pushed_at>"],
        id_of_body: true,
        ..Rows::NONE
    }),
    ..ROW
};

pub(super) const JIRA: Preset = Preset {
    name: "jira",
    about: "Jira: `X-Hub-Signature`, HMAC-SHA256 over the body.",
    schemes: &[r#"{"header": "x-hub-signature", "prefix": "sha256="}"#],
    event: Events::Rows(&Rows {
        ty: &["com.jira.<$.fields.webhookEvent>", "com.jira.unknown"],
        source: &[
            "<$.fields.issue.self>",
            "<$.fields.project.self>",
            "<$.fields.user.self>",
            "https://jira.atlassian.com",
        ],
        id: &["<$.headers.x-atlassian-webhook-identifier>"],
        subject: &[
            "<$.fields.issue.key>",
            "<$.fields.project.key>",
            "<$.fields.sprint.id>",
            "<$.fields.version.id>",
        ],
        time: &["<$.fields.timestamp>"],
        strip: "jira:",
        ..Rows::NONE
    }),
    ..ROW
};

pub(super) const LINEAR: Preset = Preset {
    name: "linear",
    about: "Linear: `Linear-Signature`, HMAC-SHA256 over the body, whose time counts for a minute.",
    schemes: &[
        r#"{"header": "linear-signature", "timestamp": "<$.fields.webhookTimestamp>", "unit": "ms", "tolerance": "1m"}"#,
    ],
    event: Events::Rows(&Rows {
        ty: &[
            "com.linear.<$.fields.type>.<$.fields.action>",
            "com.linear.<$.headers.linear-event>",
        ],
        source: &["https://linear.app"],
        id: &["<$.headers.linear-delivery>"],
        subject: &["<$.fields.data.id>"],
        time: &["<$.fields.createdAt>", "<$.fields.webhookTimestamp>"],
        ..Rows::NONE
    }),
    ..ROW
};

pub(super) const SENTRY: Preset = Preset {
    name: "sentry",
    about: "Sentry: `Sentry-Hook-Signature`, HMAC-SHA256 over the body, by the integration's \
            client secret.",
    schemes: &[r#"{"header": "sentry-hook-signature"}"#],
    event: Events::Rows(&Rows {
        ty: &[
            "com.sentry.<$.headers.sentry-hook-resource>.<$.fields.action>",
            "com.sentry.<$.headers.sentry-hook-resource>",
            "com.sentry.unknown",
        ],
        source: &[
            "<$.fields.data.issue.web_url>",
            "<$.fields.data.event.web_url>",
            "https://sentry.io",
        ],
        id: &["<$.headers.request-id>"],
        subject: &[
            "<$.fields.data.issue.id>",
            "<$.fields.data.error.event_id>",
            "<$.fields.data.event.event_id>",
            "<$.fields.data.metric_alert.id>",
            "<$.fields.data.comment_id>",
            "<$.fields.installation.uuid>",
        ],
        time: &["<$.headers.sentry-hook-timestamp>"],
        ..Rows::NONE
    }),
    ..ROW
};

pub(super) const TRELLO: Preset = Preset {
    name: "trello",
    about: "Trello: `X-Trello-Webhook`, HMAC-SHA1 over body and address; set `url` behind a proxy.",
    schemes: &[
        r#"{"header": "x-trello-webhook", "encoding": "base64", "algorithm": "sha1", "signed": "<$.body><$.url>"}"#,
    ],
    event: Events::Rows(&Rows {
        ty: &["com.trello.<$.fields.action.type>", "com.trello.unknown"],
        source: &["<$.fields.model.url>", "https://trello.com"],
        id: &["<$.fields.action.id>"],
        subject: &["<$.fields.action.data.card.id>", "<$.fields.model.id>"],
        time: &["<$.fields.action.date>"],
        ..Rows::NONE
    }),
    answer: Some((200, "")),
    ..ROW
};

pub(super) const VERCEL: Preset = Preset {
    name: "vercel",
    about: "Vercel: `X-Vercel-Signature`, HMAC-SHA1 over the body.",
    schemes: &[r#"{"header": "x-vercel-signature", "algorithm": "sha1"}"#],
    event: Events::Rows(&Rows {
        ty: &["com.vercel.<$.fields.type>", "com.vercel.unknown"],
        source: &["https://vercel.com"],
        id: &["<$.fields.id>"],
        subject: &[
            "<$.fields.payload.deployment.id>",
            "<$.fields.payload.project.id>",
            "<$.fields.payload.domain.name>",
        ],
        time: &["<$.fields.createdAt>"],
        ..Rows::NONE
    }),
    ..ROW
};
