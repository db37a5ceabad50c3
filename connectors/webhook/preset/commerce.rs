//! Shops and payments.

use super::table::ROW;
use super::{Events, Preset, Rows};

pub(super) const SHOPIFY: Preset = Preset {
    name: "shopify",
    about: "Shopify: `X-Shopify-Hmac-Sha256`, HMAC-SHA256 over the body.",
    schemes: &[r#"{"header": "x-shopify-hmac-sha256", "encoding": "base64"}"#],
    event: Events::Rows(&Rows {
        ty: &[
            "com.shopify.<$.headers.x-shopify-topic>",
            "com.shopify.unknown",
        ],
        source: &[
            "https://<$.headers.x-shopify-shop-domain>",
            "https://shopify.com",
        ],
        // "Ignore duplicate webhooks": the same event may come by several webhooks. One act may
        // have several topics and objects.
        id: &[
            "<$.headers.x-shopify-event-id>/<$.headers.x-shopify-topic>/<$.fields.id>",
            "<$.headers.x-shopify-webhook-id>",
        ],
        subject: &["<$.fields.id>"],
        time: &["<$.headers.x-shopify-triggered-at>"],
        ..Rows::NONE
    }),
    answer: Some((200, "")),
    ..ROW
};

pub(super) const PADDLE: Preset = Preset {
    name: "paddle",
    about: "Paddle Billing: `Paddle-Signature`, HMAC-SHA256 over time and body.",
    schemes: &[
        r#"{"header": "paddle-signature", "separator": ";", "prefix": "h1=", "signed": "<$.timestamp>:<$.body>", "timestamp": "<$.pairs.ts>"}"#,
    ],
    event: Events::Rows(&Rows {
        ty: &["com.paddle.<$.fields.event_type>", "com.paddle.unknown"],
        source: &["https://api.paddle.com"],
        id: &["<$.fields.event_id>"],
        subject: &["<$.fields.data.id>"],
        time: &["<$.fields.occurred_at>"],
        ..Rows::NONE
    }),
    answer: Some((200, "")),
    ..ROW
};

pub(super) const ADYEN: Preset = Preset {
    name: "adyen",
    about: "Adyen standard webhooks: `hmacSignature` of each item, HMAC-SHA256 over its main \
            fields; the key is hexadecimal.",
    schemes: &[
        r#"{"each": "notificationItems", "field": "NotificationRequestItem.additionalData.hmacSignature", "encoding": "base64", "key": "hex", "signed": "<$.fields.NotificationRequestItem.pspReference?>:<$.fields.NotificationRequestItem.originalReference?>:<$.fields.NotificationRequestItem.merchantAccountCode?>:<$.fields.NotificationRequestItem.merchantReference?>:<$.fields.NotificationRequestItem.amount.value?>:<$.fields.NotificationRequestItem.amount.currency?>:<$.fields.NotificationRequestItem.eventCode>:<$.fields.NotificationRequestItem.success>"}"#,
    ],
    event: Events::Rows(&Rows {
        ty: &["com.adyen.<$.fields.NotificationRequestItem.eventCode>"],
        source: &[
            "https://www.adyen.com/merchants/<$.fields.NotificationRequestItem.merchantAccountCode>",
            "https://www.adyen.com",
        ],
        id: &[
            "<$.fields.NotificationRequestItem.pspReference>/<$.fields.NotificationRequestItem.eventCode>/<$.fields.NotificationRequestItem.success>",
        ],
        subject: &["<$.fields.NotificationRequestItem.pspReference>"],
        time: &["<$.fields.NotificationRequestItem.eventDate>"],
        items: Some("notificationItems"),
        data: Some("NotificationRequestItem"),
        ..Rows::NONE
    }),
    answer: Some((200, "[accepted]")),
    ..ROW
};
