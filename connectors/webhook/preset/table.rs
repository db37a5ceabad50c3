//! The table of providers.

use std::sync::LazyLock;

use super::{Events, Preset, Reaction, Rows, cloud, code, commerce, messages, operations};
use crate::webhook::signature::Form;

/// A signature of Standard Webhooks, by the names of its headers: with a shared secret, or with a
/// public key.
macro_rules! standard {
    ($name:literal, $prefix:literal, $more:literal) => {
        concat!(
            r#"{ "header": ""#,
            $name,
            r#"-signature", "separator": " ", "prefix": ""#,
            $prefix,
            r#",", "encoding": "base64", "key": "whsec", "signed": "<$.headers."#,
            $name,
            r#"-id>.<$.timestamp>.<$.body>", "timestamp": "<$.headers."#,
            $name,
            r#"-timestamp>", "id": "<$.headers."#,
            $name,
            r#"-id>""#,
            $more,
            " }"
        )
    };
}

const STANDARD_SCHEMES: &[&str] = &[
    standard!("webhook", "v1", ""),
    standard!("webhook", "v1a", r#", "algorithm": "ed25519""#),
    standard!("svix", "v1", ""),
    standard!("svix", "v1a", r#", "algorithm": "ed25519""#),
];

/// What most rows are.
pub(super) const ROW: Preset = Preset {
    name: "",
    about: "",
    form: Form::Secrets,
    schemes: &[],
    event: Events::Plain,
    handshakes: &[],
    reaction: Reaction::None,
    answer: None,
};

const GITHUB: Preset = Preset {
    name: "github",
    about: "GitHub: `X-Hub-Signature-256`, HMAC-SHA256 over the body.",
    schemes: &[r#"{ "header": "x-hub-signature-256", "prefix": "sha256=" }"#],
    event: Events::Github,
    ..ROW
};

const GITLAB: Preset = Preset {
    name: "gitlab",
    about: "GitLab: a signing token (`webhook-signature`, HMAC-SHA256 over id, time and body), or \
            the secret itself as `X-Gitlab-Token`, over TLS only.",
    schemes: &[
        r#"{ "header": "x-gitlab-token", "encoding": "text", "algorithm": "token" }"#,
        standard!("webhook", "v1", ""),
    ],
    event: Events::Gitlab,
    ..ROW
};

const STRIPE: Preset = Preset {
    name: "stripe",
    about: "Stripe: `Stripe-Signature`, HMAC-SHA256 over time and body.",
    schemes: &[
        r#"{ "header": "stripe-signature", "separator": ",", "prefix": "v1=", "signed": "<$.timestamp>.<$.body>", "timestamp": "<$.pairs.t>" }"#,
    ],
    event: Events::Rows(&Rows {
        ty: &["com.stripe.<$.fields.type>", "com.stripe.unknown"],
        source: &[
            "https://api.stripe.com/v1/accounts/<$.fields.account>",
            "https://api.stripe.com/v1/accounts/<$.fields.context>",
            "https://api.stripe.com",
        ],
        id: &["<$.fields.id>"],
        subject: &["<$.fields.data.object.id>", "<$.fields.related_object.id>"],
        time: &["<$.fields.created>"],
        ..Rows::NONE
    }),
    ..ROW
};

const SLACK: Preset = Preset {
    name: "slack",
    about: "Slack: `X-Slack-Signature`, HMAC-SHA256 over time and body; the registration's \
            challenge is answered.",
    schemes: &[
        r#"{ "header": "x-slack-signature", "prefix": "v0=", "signed": "v0:<$.timestamp>:<$.body>", "timestamp": "<$.headers.x-slack-request-timestamp>" }"#,
    ],
    event: Events::Slack,
    handshakes: &[
        r#"{ "challenge": "<$.fields.challenge>", "require": [{ "value": "<$.fields.type>", "is": "url_verification" }] }"#,
    ],
    ..ROW
};

const STANDARD: Preset = Preset {
    name: "standard",
    about: "Standard Webhooks 1.0: `webhook-signature` or `svix-signature`, over id, time and \
            body; `v1` with a `whsec_…` secret, `v1a` with a `whpk_…` public key.",
    schemes: STANDARD_SCHEMES,
    ..ROW
};

const HMAC: Preset = Preset {
    name: "hmac",
    about: "Any other HMAC over the body.",
    form: Form::Hmac,
    ..ROW
};

const CUSTOM: Preset = Preset {
    name: "custom",
    about: "Any other signature, described: where it is, what it is, and over what.",
    form: Form::Custom,
    ..ROW
};

const NONE_ROW: Preset = Preset {
    name: "none",
    about: "None: whoever knows the path may call.",
    form: Form::Unsigned,
    ..ROW
};

/// The preset that checks nothing.
pub(in crate::webhook) const NONE: &Preset = &NONE_ROW;

/// All of them, in the order of the schema.
pub(in crate::webhook) const PRESETS: &[&Preset] = &[
    &GITHUB,
    &GITLAB,
    &STRIPE,
    &SLACK,
    &STANDARD,
    &commerce::SHOPIFY,
    &commerce::PADDLE,
    &commerce::ADYEN,
    &messages::CALENDLY,
    &messages::DISCORD,
    &messages::INTERCOM,
    &messages::MAILGUN,
    &messages::META,
    &messages::TWILIO,
    &messages::ZENDESK,
    &messages::ZOOM,
    &code::BITBUCKET,
    &code::GITEA,
    &code::GOGS,
    &code::DOCKER_HUB,
    &code::JIRA,
    &code::LINEAR,
    &code::SENTRY,
    &code::TRELLO,
    &code::VERCEL,
    &operations::PAGERDUTY,
    &operations::ALERTMANAGER,
    &operations::GRAFANA,
    &operations::KUBERNETES_AUDIT,
    &operations::AZURE_EVENT_GRID,
    &operations::MICROSOFT_GRAPH,
    &cloud::AWS_SNS,
    &cloud::GOOGLE_PUBSUB,
    &cloud::PAYPAL,
    &cloud::ALIBABA_EVENTBRIDGE,
    &cloud::ALIBABA_MNS,
    &HMAC,
    &CUSTOM,
    NONE,
];

/// Their names.
pub(in crate::webhook) static NAMES: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| PRESETS.iter().map(|preset| preset.name).collect());
