//! Messages, calls and people.

use super::table::ROW;
use super::{Events, Preset, Reaction, Rows};
use crate::webhook::signature::Form;

pub(super) const CALENDLY: Preset = Preset {
    name: "calendly",
    about: "Calendly: `Calendly-Webhook-Signature`, HMAC-SHA256 over time and body.",
    schemes: &[
        r#"{"header": "calendly-webhook-signature", "separator": ",", "prefix": "v1=", "signed": "<$.timestamp>.<$.body>", "timestamp": "<$.pairs.t>"}"#,
    ],
    event: Events::Rows(&Rows {
        ty: &["com.calendly.<$.fields.event>", "com.calendly.unknown"],
        source: &["<$.fields.created_by>", "https://calendly.com"],
        subject: &["<$.fields.payload.uri>"],
        time: &["<$.fields.created_at>"],
        id_of_body: true,
        ..Rows::NONE
    }),
    ..ROW
};

pub(super) const DISCORD: Preset = Preset {
    name: "discord",
    about: "Discord: `X-Signature-Ed25519` over time and body; the secret is the application's \
            public key. PING is answered, interactions are deferred.",
    schemes: &[
        r#"{"header": "x-signature-ed25519", "algorithm": "ed25519", "key": "hex", "signed": "<$.timestamp><$.body>", "timestamp": "<$.headers.x-signature-timestamp>"}"#,
    ],
    event: Events::Rows(&Rows {
        ty: &[
            "com.discord.<$.fields.event.type>",
            "com.discord.interaction.<$.fields.type>",
            "com.discord.unknown",
        ],
        source: &[
            "https://discord.com/applications/<$.fields.application_id>",
            "https://discord.com",
        ],
        id: &["<$.fields.id>"],
        subject: &["<$.fields.data.name>", "<$.fields.data.custom_id>"],
        time: &["<$.fields.event.timestamp>"],
        id_of_body: true,
        ..Rows::NONE
    }),
    reaction: Reaction::Discord,
    answer: Some((204, "")),
    ..ROW
};

pub(super) const INTERCOM: Preset = Preset {
    name: "intercom",
    about: "Intercom: `X-Hub-Signature`, HMAC-SHA1 over the body, by the app's client secret.",
    schemes: &[r#"{"header": "x-hub-signature", "prefix": "sha1=", "algorithm": "sha1"}"#],
    event: Events::Rows(&Rows {
        ty: &["com.intercom.<$.fields.topic>", "com.intercom.unknown"],
        source: &[
            "https://api.intercom.io/apps/<$.fields.app_id>",
            "https://api.intercom.io",
        ],
        id: &["<$.fields.id>"],
        subject: &["<$.fields.data.item.id>"],
        time: &["<$.fields.created_at>"],
        ..Rows::NONE
    }),
    answer: Some((200, "")),
    ..ROW
};

pub(super) const MAILGUN: Preset = Preset {
    name: "mailgun",
    about: "Mailgun: the body's own signature, HMAC-SHA256 over its time and token (of a \
            subaccount also its parent's). What else is in the body is not signed.",
    schemes: &[
        r#"{"field": "signature.signature", "signed": "<$.timestamp><$.fields.signature.token>", "timestamp": "<$.fields.signature.timestamp>"}"#,
        r#"{"field": "signature.parent-signature", "signed": "<$.timestamp><$.fields.signature.token>", "timestamp": "<$.fields.signature.timestamp>"}"#,
        r#"{"field": "signature", "signed": "<$.timestamp><$.fields.token>", "timestamp": "<$.fields.timestamp>"}"#,
    ],
    event: Events::Rows(&Rows {
        ty: &[
            "com.mailgun.<$.fields.event-data.event>",
            "com.mailgun.<$.fields.event>",
            "com.mailgun.received",
        ],
        source: &["https://api.mailgun.net"],
        id: &["<$.fields.event-data.id>", "<$.fields.token>"],
        subject: &["<$.fields.event-data.recipient>", "<$.fields.recipient>"],
        time: &["<$.fields.event-data.timestamp>", "<$.fields.timestamp>"],
        ..Rows::NONE
    }),
    answer: Some((200, "")),
    ..ROW
};

pub(super) const META: Preset = Preset {
    name: "meta",
    about: "Meta (Facebook, Instagram, WhatsApp): `X-Hub-Signature-256`, HMAC-SHA256 over the \
            body, by the app's secret; `verify_token` is for the registration.",
    form: Form::Verified,
    schemes: &[r#"{"header": "x-hub-signature-256", "prefix": "sha256="}"#],
    event: Events::Rows(&Rows {
        ty: &[
            "com.meta.<$.fields.object>.<$.fields.entry.0.changes.0.field>",
            // Where the app does not ask for values.
            "com.meta.<$.fields.object>.<$.fields.entry.0.changed_fields.0>",
            "com.meta.<$.fields.object>",
            "com.meta.unknown",
        ],
        source: &["https://graph.facebook.com"],
        subject: &["<$.fields.entry.0.id>"],
        // WhatsApp says it of the message alone.
        time: &[
            "<$.fields.entry.0.time>",
            "<$.fields.entry.0.changes.0.value.messages.0.timestamp>",
            "<$.fields.entry.0.changes.0.value.statuses.0.timestamp>",
            "<$.fields.entry.0.changes.0.value.message_echoes.0.timestamp>",
        ],
        id_of_body: true,
        ..Rows::NONE
    }),
    handshakes: &[
        r#"{ "method": "GET", "challenge": "<$.query['hub.challenge']>", "token": "<$.query['hub.verify_token']>",
             "require": [{ "value": "<$.query['hub.mode']>", "is": "subscribe" }] }"#,
    ],
    answer: Some((200, "")),
    ..ROW
};

pub(super) const TWILIO: Preset = Preset {
    name: "twilio",
    about: "Twilio: `X-Twilio-Signature`, HMAC-SHA1 over address and form, by the account's auth \
            token, or HMAC-SHA256 by a shared key; set `url` behind a proxy.",
    schemes: &[
        r#"{"header": "x-twilio-signature", "encoding": "base64", "algorithm": "sha1", "signed": "<$.url><$.sorted_form>"}"#,
        r#"{"header": "x-twilio-signature", "encoding": "base64", "algorithm": "sha1", "signed": "<$.url>", "digest": "<$.query.bodySHA256>"}"#,
        r#"{"header": "x-twilio-signature", "encoding": "base64", "signed": "<$.url><$.sorted_form>"}"#,
        r#"{"header": "x-twilio-signature", "encoding": "base64", "signed": "<$.url>", "digest": "<$.query.bodySHA256>"}"#,
    ],
    event: Events::Rows(&Rows {
        ty: &[
            "com.twilio.message.<$.fields.MessageStatus>",
            "com.twilio.message.<$.fields.SmsStatus>",
            "com.twilio.call.<$.fields.CallStatus>",
            "com.twilio.webhook",
        ],
        source: &[
            "https://api.twilio.com/2010-04-01/Accounts/<$.fields.AccountSid>",
            "https://api.twilio.com",
        ],
        id: &["<$.headers.i-twilio-idempotency-token>"],
        subject: &[
            "<$.fields.MessageSid>",
            "<$.fields.SmsSid>",
            "<$.fields.CallSid>",
        ],
        ..Rows::NONE
    }),
    answer: Some((204, "")),
    ..ROW
};

pub(super) const ZENDESK: Preset = Preset {
    name: "zendesk",
    about: "Zendesk: `X-Zendesk-Webhook-Signature`, HMAC-SHA256 over time and body.",
    schemes: &[
        r#"{"header": "x-zendesk-webhook-signature", "encoding": "base64", "signed": "<$.timestamp><$.body>", "timestamp": "<$.headers.x-zendesk-webhook-signature-timestamp>", "unit": "rfc3339"}"#,
    ],
    event: Events::Rows(&Rows {
        ty: &["com.zendesk.<$.fields.type>", "com.zendesk.webhook"],
        source: &[
            "https://<$.fields.subdomain>.zendesk.com",
            "https://zendesk.com/accounts/<$.fields.account_id>",
            "https://zendesk.com",
        ],
        id: &[
            "<$.fields.id>",
            "<$.headers.x-zendesk-webhook-invocation-id>",
        ],
        subject: &["<$.fields.subject>"],
        time: &["<$.fields.time>"],
        strip: "zen:event-type:",
        ..Rows::NONE
    }),
    ..ROW
};

pub(super) const ZOOM: Preset = Preset {
    name: "zoom",
    about: "Zoom: `x-zm-signature`, HMAC-SHA256 over time and body; the registration's challenge \
            is answered.",
    schemes: &[
        r#"{"header": "x-zm-signature", "prefix": "v0=", "signed": "v0:<$.timestamp>:<$.body>", "timestamp": "<$.headers.x-zm-request-timestamp>"}"#,
    ],
    event: Events::Rows(&Rows {
        ty: &["com.zoom.<$.fields.event>", "com.zoom.unknown"],
        source: &[
            "https://zoom.us/accounts/<$.fields.payload.account_id>",
            "https://zoom.us",
        ],
        subject: &["<$.fields.payload.object.id>"],
        time: &["<$.fields.event_ts>"],
        id_of_body: true,
        ..Rows::NONE
    }),
    handshakes: &[
        r#"{ "challenge": "<$.fields.payload.plainToken>", "require": [{ "value": "<$.fields.event>", "is": "endpoint.url_validation" }], "as": "json",
             "answer": "{\"plainToken\":\"<$.challenge>\",\"encryptedToken\":\"<$.hmac>\"}" }"#,
    ],
    answer: Some((200, "")),
    ..ROW
};
