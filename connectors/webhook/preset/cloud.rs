//! Those whose keys are fetched.

use super::table::ROW;
use super::{Events, Preset, Reaction, Rows};
use crate::webhook::signature::Form;

/// A version of the signature of Amazon SNS.
macro_rules! sns_version {
    ($version:literal, $algorithm:literal) => {
        concat!(
            r#"{ "field": "Signature", "encoding": "base64", "signed": "<$.aws_sns>", "algorithm": ""#,
            $algorithm,
            r#"", "require": [{ "value": "<$.fields.SignatureVersion>", "is": ""#,
            $version,
            r#"" }],
             "certificate": { "url": "<$.fields.SigningCertURL>", "suffix": ".pem",
                              "hosts": ["sns.{region}.amazonaws.com", "sns.{region}.amazonaws.com.cn"],
                              "names": ["sns.amazonaws.com", "sns.{region}.amazonaws.com", "sns-{region}.amazonaws.com", "sns-signing.{region}.amazonaws.com",
                                        "sns.{region}.amazonaws.com.cn", "sns-{region}.amazonaws.com.cn", "sns-signing.{region}.amazonaws.com.cn"] } }"#
        )
    };
}

pub(super) const AWS_SNS: Preset = Preset {
    name: "aws-sns",
    about: "Amazon SNS by HTTP: the message's own signature, RSA by a certificate of Amazon's. \
            Subscriptions are confirmed; raw delivery is not signed.",
    form: Form::Sns,
    schemes: &[
        sns_version!("1", "rsa-sha1"),
        sns_version!("2", "rsa-sha256"),
    ],
    event: Events::Sns,
    reaction: Reaction::Sns,
    answer: Some((200, "")),
    ..ROW
};

pub(super) const GOOGLE_PUBSUB: Preset = Preset {
    name: "google-pubsub",
    about: "Google Pub/Sub's push with authentication: a token of the subscription's service \
            account, signed by Google.",
    form: Form::PubSub,
    schemes: &[
        r#"{ "header": "authorization", "prefix": "Bearer ", "algorithm": "jwt", "tolerance": "1m",
             "jwt": { "issuer": ["https://accounts.google.com", "accounts.google.com"], "audience": [],
                      "jwks": "https://www.googleapis.com/oauth2/v3/certs", "claims": { "email_verified": "true" } } }"#,
    ],
    event: Events::PubSub,
    answer: Some((204, "")),
    ..ROW
};

pub(super) const PAYPAL: Preset = Preset {
    name: "paypal",
    about: "PayPal: `PayPal-Transmission-Sig`, RSA with SHA-256 by a certificate of PayPal's over \
            id, time, the webhook's id and the body's CRC-32.",
    form: Form::Paypal,
    schemes: &[
        r#"{ "header": "paypal-transmission-sig", "encoding": "base64", "algorithm": "rsa-sha256",
             "signed": "<$.headers.paypal-transmission-id>|<$.headers.paypal-transmission-time>|<$.secret>|<$.crc32>",
             "certificate": { "url": "<$.headers.paypal-cert-url>", "hosts": ["api.paypal.com", "api-m.paypal.com", "api.sandbox.paypal.com", "api-m.sandbox.paypal.com"],
                              "names": ["*.paypal.com", "*.sandbox.paypal.com"] } }"#,
    ],
    event: Events::Rows(&Rows {
        ty: &["com.paypal.<$.fields.event_type>", "com.paypal.unknown"],
        source: &["https://api.paypal.com"],
        id: &["<$.fields.id>"],
        subject: &["<$.fields.resource.id>", "<$.fields.resource.dispute_id>"],
        time: &["<$.fields.create_time>"],
        ..Rows::NONE
    }),
    answer: Some((200, "")),
    ..ROW
};

pub(super) const ALIBABA_EVENTBRIDGE: Preset = Preset {
    name: "alibaba-eventbridge",
    about: "Alibaba Cloud EventBridge: the target's token, and a signature over address, headers \
            and body by a certificate of Alibaba's; set `url` behind a proxy.",
    form: Form::EventBridge,
    schemes: &[
        r#"{ "header": "x-eventbridge-signature-v2", "encoding": "base64", "algorithm": "rsa-sha256", "token": "<$.headers.x-eventbridge-signature-token>",
             "timestamp": "<$.headers.x-eventbridge-signature-timestamp>", "unit": "ms", "tolerance": "1m",
             "signed": "<$.url>\nx-eventbridge-signature-timestamp: <$.timestamp>\nx-eventbridge-hash-method: <$.headers.x-eventbridge-hash-method>\nx-eventbridge-signature-version: <$.headers.x-eventbridge-signature-version>\nx-eventbridge-signature-url: <$.headers.x-eventbridge-signature-url>\nx-eventbridge-signature-token: <$.headers.x-eventbridge-signature-token>\n<$.body>",
             "require": [{ "value": "<$.headers.x-eventbridge-hash-method>", "is": ["SHA256", "SHA-256"] }],
             "certificate": { "url": "<$.headers.x-eventbridge-signature-url>", "hosts": ["{region}-eventbridge.oss-accelerate.aliyuncs.com"], "allow_expired": true, "allow_weak_key": true } }"#,
        r#"{ "header": "x-eventbridge-signature", "encoding": "base64", "algorithm": "sha1", "token": "<$.headers.x-eventbridge-signature-token>",
             "timestamp": "<$.headers.x-eventbridge-signature-timestamp>", "unit": "ms", "tolerance": "1m",
             "signed": "<$.url>\nx-eventbridge-signature-timestamp: <$.timestamp>\nx-eventbridge-signature-method: <$.headers.x-eventbridge-signature-method>\nx-eventbridge-signature-version: <$.headers.x-eventbridge-signature-version>\nx-eventbridge-signature-url: <$.headers.x-eventbridge-signature-url>\nx-eventbridge-signature-token: <$.headers.x-eventbridge-signature-token>\n<$.body>\n",
             "require": [{ "value": "<$.headers.x-eventbridge-signature-method>", "is": "HMAC-SHA1" }],
             "certificate": { "url": "<$.headers.x-eventbridge-signature-url>", "hosts": ["{region}-eventbridge.oss-accelerate.aliyuncs.com"], "allow_expired": true, "allow_weak_key": true,
                              "hmac_key": "<$.headers.x-eventbridge-signature-secret>" } }"#,
    ],
    event: Events::EventBridge(&Rows {
        ty: &["<$.fields.type>", "com.aliyun.eventbridge"],
        source: &["<$.fields.source>", "/alibaba/eventbridge"],
        id: &["<$.fields.id>"],
        subject: &["<$.fields.subject>"],
        time: &["<$.fields.time>"],
        id_of_body: true,
        ..Rows::NONE
    }),
    answer: Some((200, "")),
    ..ROW
};

pub(super) const ALIBABA_MNS: Preset = Preset {
    name: "alibaba-mns",
    about: "Alibaba Cloud's Message Service (SMQ) by HTTP: `Authorization`, RSA with SHA-1 by a \
            certificate of Alibaba's over headers, address and the body's MD5.",
    form: Form::Mns,
    schemes: &[
        r#"{ "header": "authorization", "encoding": "base64", "algorithm": "rsa-sha1", "signed": "<$.alibaba_mns>",
             "timestamp": "<$.headers.date>", "unit": "http", "tolerance": "15m", "digest": "<$.headers.content-md5>", "digest_algorithm": "md5",
             "certificate": { "url": "<$.headers.x-mns-signing-cert-url>", "base64": true, "hosts": ["mnstest.oss-cn-hangzhou.aliyuncs.com"],
                              "allow_expired": true, "allow_weak_key": true } }"#,
    ],
    event: Events::Mns,
    answer: Some((204, "")),
    ..ROW
};
