//! Alerts, audits and clouds.

use super::table::ROW;
use super::{Events, Preset, Rows};

/// The secret as a token: RFC 6750, section 2.1.
const BEARER: &str =
    r#"{"header": "authorization", "prefix": "Bearer ", "encoding": "text", "algorithm": "token"}"#;

/// The secret as `user:password`: RFC 7617.
const BASIC: &str = r#"{"header": "authorization", "prefix": "Basic ", "encoding": "base64", "algorithm": "token"}"#;

pub(super) const PAGERDUTY: Preset = Preset {
    name: "pagerduty",
    about: "PagerDuty: `X-PagerDuty-Signature`, HMAC-SHA256 over the body, of several while \
            secrets change.",
    schemes: &[r#"{"header": "x-pagerduty-signature", "separator": ",", "prefix": "v1="}"#],
    event: Events::Rows(&Rows {
        ty: &[
            "com.pagerduty.<$.fields.event.event_type>",
            "com.pagerduty.unknown",
        ],
        source: &[
            "<$.fields.event.data.service.self>",
            "https://api.pagerduty.com",
        ],
        id: &["<$.fields.event.id>"],
        subject: &["<$.fields.event.data.id>"],
        time: &["<$.fields.event.occurred_at>"],
        ..Rows::NONE
    }),
    ..ROW
};

pub(super) const ALERTMANAGER: Preset = Preset {
    name: "alertmanager",
    about: "Prometheus Alertmanager: the secret as bearer token, or `user:password` by Basic \
            authentication. Use it over TLS only.",
    schemes: &[BEARER, BASIC],
    event: Events::Rows(&Rows {
        ty: &[
            "com.alertmanager.<$.fields.status>",
            "com.alertmanager.unknown",
        ],
        source: &["<$.fields.externalURL>", "/alertmanager"],
        subject: &["<$.fields.groupKey>"],
        ..Rows::NONE
    }),
    ..ROW
};

pub(super) const GRAFANA: Preset = Preset {
    name: "grafana",
    about: "Grafana alerting: `X-Grafana-Alerting-Signature` (HMAC-SHA256 over the body, or over \
            `X-Grafana-Alerting-Timestamp` and body), a bearer token, or `user:password` by Basic \
            authentication.",
    schemes: &[
        r#"{"header": "x-grafana-alerting-signature", "signed": "<$.timestamp>:<$.body>", "timestamp": "<$.headers.x-grafana-alerting-timestamp>"}"#,
        r#"{"header": "x-grafana-alerting-signature"}"#,
        BEARER,
        BASIC,
    ],
    event: Events::Rows(&Rows {
        ty: &["com.grafana.<$.fields.status>", "com.grafana.unknown"],
        source: &["<$.fields.externalURL>", "/grafana"],
        subject: &["<$.fields.groupKey>"],
        ..Rows::NONE
    }),
    ..ROW
};

pub(super) const KUBERNETES_AUDIT: Preset = Preset {
    name: "kubernetes-audit",
    about: "Kubernetes' audit webhook: the secret as bearer token, or `user:password` by Basic \
            authentication; each audit event becomes one.",
    schemes: &[BEARER, BASIC],
    event: Events::Rows(&Rows {
        ty: &[
            "com.kubernetes.audit.<$.fields.verb>",
            "com.kubernetes.audit.unknown",
        ],
        source: &["/kubernetes/audit"],
        id: &["<$.fields.auditID>/<$.fields.stage>", "<$.fields.auditID>"],
        subject: &["<$.fields.requestURI>"],
        time: &[
            "<$.fields.stageTimestamp>",
            "<$.fields.requestReceivedTimestamp>",
        ],
        items: Some("items"),
        ..Rows::NONE
    }),
    answer: Some((200, "")),
    ..ROW
};

pub(super) const AZURE_EVENT_GRID: Preset = Preset {
    name: "azure-event-grid",
    about: "Azure Event Grid: the secret as `?code=` in the address or as bearer token; its own \
            schema and CloudEvents. The validation is answered.",
    schemes: &[
        r#"{"query": "code", "encoding": "text", "algorithm": "token"}"#,
        BEARER,
    ],
    event: Events::Rows(&Rows {
        ty: &["<$.fields.eventType>", "com.azure.eventgrid"],
        source: &["<$.fields.topic>", "/azure/event-grid"],
        id: &["<$.fields.id>"],
        subject: &["<$.fields.subject>"],
        time: &["<$.fields.eventTime>"],
        items: Some(""),
        data: Some("data"),
        ..Rows::NONE
    }),
    handshakes: &[
        r#"{ "challenge": "<$.fields.0.data.validationCode>", "as": "json", "answer": "{\"validationResponse\":\"<$.challenge>\"}",
             "require": [{ "value": "<$.fields.0.eventType>", "is": "Microsoft.EventGrid.SubscriptionValidationEvent" }] }"#,
    ],
    answer: Some((200, "")),
    ..ROW
};

pub(super) const MICROSOFT_GRAPH: Preset = Preset {
    name: "microsoft-graph",
    about: "Microsoft Graph: the secret as each notification's `clientState`. The validation token \
            is answered.",
    schemes: &[
        r#"{"each": "value", "field": "clientState", "encoding": "text", "algorithm": "token"}"#,
    ],
    event: Events::Rows(&Rows {
        ty: &[
            "com.microsoft.graph.<$.fields.lifecycleEvent>",
            "com.microsoft.graph.<$.fields.changeType>",
            "com.microsoft.graph.unknown",
        ],
        source: &[
            "https://graph.microsoft.com/subscriptions/<$.fields.subscriptionId>",
            "https://graph.microsoft.com",
        ],
        id: &["<$.fields.id>"],
        subject: &["<$.fields.resource>"],
        items: Some("value"),
        ..Rows::NONE
    }),
    handshakes: &[r#"{ "challenge": "<$.query.validationToken>", "signed": false }"#],
    ..ROW
};
