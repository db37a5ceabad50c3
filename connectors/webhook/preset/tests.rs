//! Vectors of the providers: their own where one is published, which a comment says, else made by
//! Python's hmac.

use std::collections::HashSet;

use bytes::Bytes;
use http::header::HeaderName;
use http::request::Parts;
use pointsman_schemas::{Event, Name, Timestamp};
use serde_json::json;

use super::*;
use crate::webhook::mapping::Mapping;
use crate::webhook::signature::{Call, Handshake, Scheme, Signature, Unverified, Verifier};

struct Vector {
    preset: &'static str,
    secret: &'static str,
    uri: &'static str,
    url: Option<&'static str>,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    seconds: i64,
    /// Whether the whole body is signed.
    whole: bool,
    /// `type | source | id | subject | time` of each event.
    lines: &'static [&'static str],
}

#[rustfmt::skip]
fn vectors() -> Vec<Vector> {
    vec![
        // Atlassian's documentation, "Manage webhooks".
        Vector { preset: "bitbucket", secret: "It's a Secret to Everybody", uri: "/hooks/x", url: None, headers: &[("content-type", "text/plain"), ("x-event-key", "repo:push"), ("x-request-uuid", "u1"), ("x-hub-signature", "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9")], body: "Hello World!", seconds: 1700000000, whole: true, lines: &["com.bitbucket.repo.push | https://bitbucket.org | u1 | - | NOW"] },
        // Atlassian's documentation, "Webhooks".
        Vector { preset: "jira", secret: "It's a Secret to Everybody", uri: "/hooks/x", url: None, headers: &[("content-type", "text/plain"), ("x-atlassian-webhook-identifier", "w1"), ("x-hub-signature", "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9")], body: "Hello World!", seconds: 1700000000, whole: true, lines: &["com.jira.unknown | https://jira.atlassian.com | w1 | - | NOW"] },
        Vector { preset: "jira", secret: "k1", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json"), ("x-atlassian-webhook-identifier", "w2"), ("x-hub-signature", "sha256=c538c3b0b92248f156b6e7a5f07d547ab0608c55c660aaf5e7cd4c08c760079a")], body: r#"{"timestamp":1699999999000,"webhookEvent":"jira:issue_created","issue":{"key":"P-1","self":"https://j.example/rest/api/2/issue/1"}}"#, seconds: 1700000000, whole: true, lines: &["com.jira.issue_created | https://j.example/rest/api/2/issue/1 | w2 | P-1 | 2023-11-14T22:13:19Z"] },
        Vector { preset: "bitbucket", secret: "k1", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json"), ("x-event-key", "pullrequest:created"), ("x-request-uuid", "u2"), ("x-hub-signature", "sha256=db67525f0f111a352a943cc3b69a12096330104454de54b4b1d848c96f005747")], body: r#"{"pullrequest":{"id":7},"repository":{"links":{"html":{"href":"https://bitbucket.org/t/r"}}}}"#, seconds: 1700000000, whole: true, lines: &["com.bitbucket.pullrequest.created | https://bitbucket.org/t/r | u2 | 7 | NOW"] },
        Vector { preset: "gitea", secret: "k1", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json"), ("x-gitea-event", "pull_request"), ("x-gitea-delivery", "d1"), ("x-gitea-signature", "8a2803d2dd5c4f0d70ee5e45caa4b84773877e4bbce8704f7db4a408104b495a")], body: r#"{"action":"opened","number":3,"repository":{"html_url":"https://g.example/o/r"}}"#, seconds: 1700000000, whole: true, lines: &["com.gitea.pull_request.opened | https://g.example/o/r | d1 | 3 | NOW"] },
        Vector { preset: "gitea", secret: "k1", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json"), ("x-forgejo-event", "push"), ("x-forgejo-delivery", "d3"), ("x-forgejo-signature", "3342d14e512dcaec21a3c433fdabd53a93d2607fc967bd7c880afac56ac46b05")], body: r#"{"ref":"refs/heads/main"}"#, seconds: 1700000000, whole: true, lines: &["com.gitea.push | https://gitea.com | d3 | refs/heads/main | NOW"] },
        Vector { preset: "gogs", secret: "k1", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json"), ("x-gogs-event", "push"), ("x-gogs-delivery", "d2"), ("x-gogs-signature", "8259775d7b4bd4bbdd7f01ff3bb82abcd4a03c3b2007c02f698adc6b1717bb74")], body: r#"{"ref":"refs/heads/main","repository":{"html_url":"https://g.example/o/r"}}"#, seconds: 1700000000, whole: true, lines: &["com.gogs.push | https://g.example/o/r | d2 | refs/heads/main | NOW"] },
        // The push of Gogs' documentation, whose secret is not published; its signature by Python's
        // hmac.
        Vector { preset: "gogs", secret: "k1", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json"), ("x-gogs-delivery", "f6266f16-1bf3-46a5-9ea4-602e06ead473"), ("x-gogs-event", "push"), ("x-gogs-signature", "2dca9b419d3c10772128c264671cc9cbba8d62b95b4c81ec3fd12b5840f8741f")], body: r#"{"ref":"refs/heads/main","before":"28e1879d029cb852e4844d9c718537df08844e03","after":"bffeb74224043ba2feb48d137756c8a9331c449a","repository":{"id":140,"name":"moonlanding","full_name":"alice/moonlanding","html_url":"https://gogs.example.com/alice/moonlanding"}}"#, seconds: 1700000000, whole: true, lines: &["com.gogs.push | https://gogs.example.com/alice/moonlanding | f6266f16-1bf3-46a5-9ea4-602e06ead473 | refs/heads/main | NOW"] },
        Vector { preset: "docker-hub", secret: "k1", uri: "/hooks/x?token=k1", url: None, headers: &[("content-type", "application/json")], body: r#"{"callback_url":"https://registry.hub.docker.com/u/a/b/hook/x/","push_data":{"pushed_at":1417566161,"tag":"latest"},"repository":{"repo_url":"https://hub.docker.com/r/a/b"}}"#, seconds: 1700000000, whole: false, lines: &["com.docker.hub.push | https://hub.docker.com/r/a/b | 59ac439ee490eeaffcb07fd651608eb9 | latest | 2014-12-03T00:22:41Z"] },
        Vector { preset: "linear", secret: "k1", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json"), ("linear-delivery", "l1"), ("linear-event", "Issue"), ("linear-signature", "3bfce54f61021e2463b5ade7c9c80359b1cd216751fde9f252a0473183ad809c")], body: r#"{"action":"create","type":"Issue","createdAt":"2023-11-14T22:13:10.123Z","data":{"id":"i1"},"webhookTimestamp":1700000000000}"#, seconds: 1700000000, whole: true, lines: &["com.linear.Issue.create | https://linear.app | l1 | i1 | 2023-11-14T22:13:10.123Z"] },
        Vector { preset: "sentry", secret: "k1", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json"), ("sentry-hook-resource", "issue"), ("sentry-hook-timestamp", "1699999990"), ("request-id", "r1"), ("sentry-hook-signature", "f0fe906ae0f7cc500fbcb759dd8083279d848480291cdaddb77ef7fa437e31f9")], body: r#"{"action":"created","data":{"issue":{"id":"170"}},"installation":{"uuid":"x"}}"#, seconds: 1700000000, whole: true, lines: &["com.sentry.issue.created | https://sentry.io | r1 | 170 | 2023-11-14T22:13:10Z"] },
        Vector { preset: "trello", secret: "k1", uri: "/hooks/x", url: Some("https://bus.example/hooks/x"), headers: &[("content-type", "application/json"), ("x-trello-webhook", "elwYAWFXhf5FsqvqQWjhDbWyTx4=")], body: r#"{"action":{"id":"a1","type":"updateCard","date":"2023-11-14T22:13:10.000Z","data":{"card":{"id":"c1"}}},"model":{"id":"m","url":"https://trello.com/b/m"}}"#, seconds: 1700000000, whole: true, lines: &["com.trello.updateCard | https://trello.com/b/m | a1 | c1 | 2023-11-14T22:13:10.000Z"] },
        Vector { preset: "vercel", secret: "k1", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json"), ("x-vercel-signature", "e3291a5029e92df4afb460f86fb7d1614685736f")], body: r#"{"id":"uev_1","type":"deployment.created","createdAt":1699999999000,"payload":{"deployment":{"id":"dpl_1"}}}"#, seconds: 1700000000, whole: true, lines: &["com.vercel.deployment.created | https://vercel.com | uev_1 | dpl_1 | 2023-11-14T22:13:19Z"] },
        Vector { preset: "shopify", secret: "k1", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json"), ("x-shopify-topic", "orders/create"), ("x-shopify-shop-domain", "s.myshopify.com"), ("x-shopify-webhook-id", "w1"), ("x-shopify-triggered-at", "2023-11-14T22:13:10.5Z"), ("x-shopify-hmac-sha256", "0IF6j/QznWU9T2mAcERHmBPpGn00xuk6RJq9VVtbxJM=")], body: r#"{"id":820982911946154508}"#, seconds: 1700000000, whole: true, lines: &["com.shopify.orders.create | https://s.myshopify.com | w1 | 820982911946154508 | 2023-11-14T22:13:10.5Z"] },
        Vector { preset: "shopify", secret: "k1", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json"), ("x-shopify-topic", "orders/create"), ("x-shopify-shop-domain", "s.myshopify.com"), ("x-shopify-webhook-id", "w2"), ("x-shopify-event-id", "e1"), ("x-shopify-triggered-at", "2023-11-14T22:13:10.5Z"), ("x-shopify-hmac-sha256", "0IF6j/QznWU9T2mAcERHmBPpGn00xuk6RJq9VVtbxJM=")], body: r#"{"id":820982911946154508}"#, seconds: 1700000000, whole: true, lines: &["com.shopify.orders.create | https://s.myshopify.com | e1/orders/create/820982911946154508 | 820982911946154508 | 2023-11-14T22:13:10.5Z"] },
        Vector { preset: "paddle", secret: "k1", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json"), ("paddle-signature", "ts=1700000000;h1=60a985ebc601cdc37f1677eee21489f97d81c3139c923d36d7754e4bbb1f561a")], body: r#"{"event_id":"evt_1","event_type":"transaction.completed","occurred_at":"2023-11-14T22:13:10.5Z","data":{"id":"txn_1"}}"#, seconds: 1700000000, whole: true, lines: &["com.paddle.transaction.completed | https://api.paddle.com | evt_1 | txn_1 | 2023-11-14T22:13:10.5Z"] },
        // Adyen's documentation, "Verify HMAC signatures".
        Vector { preset: "adyen", secret: "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json")], body: r#"{"live":"false","notificationItems":[{"NotificationRequestItem":{"additionalData":{"hmacSignature":"coqCmt/IZ4E3CzPvMY8zTjQVL5hYJUiBRg8UU+iCWo0="},"amount":{"value":1130,"currency":"EUR"},"pspReference":"7914073381342284","eventCode":"AUTHORISATION","eventDate":"2023-11-14T23:13:10+01:00","merchantAccountCode":"TestMerchant","merchantReference":"TestPayment-1407325143704","success":"true"}}]}"#, seconds: 1700000000, whole: false, lines: &["com.adyen.AUTHORISATION | https://www.adyen.com/merchants/TestMerchant | 7914073381342284/AUTHORISATION/true | 7914073381342284 | 2023-11-14T23:13:10+01:00"] },
        Vector { preset: "calendly", secret: "k1", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json"), ("calendly-webhook-signature", "t=1700000000,v1=46a35dd7540fbb6210c98f4e97ca5a566e609537a44f42ee86df5eba7e5a75c3")], body: r#"{"event":"invitee.created","created_at":"2023-11-14T22:13:10.000000Z","created_by":"https://api.calendly.com/users/A","payload":{"uri":"https://api.calendly.com/i/1"}}"#, seconds: 1700000000, whole: true, lines: &["com.calendly.invitee.created | https://api.calendly.com/users/A | 9a75eeaaee15d04da2ce77c4de40325a | https://api.calendly.com/i/1 | 2023-11-14T22:13:10.000000Z"] },
        Vector { preset: "intercom", secret: "k1", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json"), ("x-hub-signature", "sha1=da0cb2af82bbcee2f8a172bb16e74b7c8bdc97d0")], body: r#"{"type":"notification_event","topic":"conversation.user.created","id":"notif_1","app_id":"a1","created_at":1699999999,"data":{"item":{"id":"5"}}}"#, seconds: 1700000000, whole: true, lines: &["com.intercom.conversation.user.created | https://api.intercom.io/apps/a1 | notif_1 | 5 | 2023-11-14T22:13:19Z"] },
        Vector { preset: "mailgun", secret: "k1", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json")], body: r#"{"signature":{"timestamp":"1700000000","token":"tok","signature":"89b959311f6a9f2faff83599335011d8aa1cc4ba1dce12658d606f1bbaf7fe3f"},"event-data":{"event":"delivered","id":"m1","timestamp":1699999999.5,"recipient":"a@b.example"}}"#, seconds: 1700000000, whole: false, lines: &["com.mailgun.delivered | https://api.mailgun.net | m1 | a@b.example | 2023-11-14T22:13:19.5Z"] },
        Vector { preset: "mailgun", secret: "k1", uri: "/hooks/x", url: None, headers: &[("content-type", "application/x-www-form-urlencoded")], body: "timestamp=1700000000&token=tok&signature=89b959311f6a9f2faff83599335011d8aa1cc4ba1dce12658d606f1bbaf7fe3f&recipient=a%40b.example", seconds: 1700000000, whole: false, lines: &["com.mailgun.received | https://api.mailgun.net | tok | a@b.example | NOW"] },
        Vector { preset: "meta", secret: "k1", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json"), ("x-hub-signature-256", "sha256=98cdea62499a2783b69fe08962c3b3989499b4b051f082c86f557f4da5cd609f")], body: r#"{"object":"whatsapp_business_account","entry":[{"id":"e1","changes":[{"field":"messages","value":{}}]}]}"#, seconds: 1700000000, whole: true, lines: &["com.meta.whatsapp_business_account.messages | https://graph.facebook.com | f017fddede0cd6ac5a7de19768528091 | e1 | NOW"] },
        // The sample of Meta's documentation, its changes without their values, and one of
        // Messenger; signatures by Python's hmac.
        Vector { preset: "meta", secret: "k1", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json"), ("x-hub-signature-256", "sha256=f22ed59d04f587d63fc1c78192f92fb5002874c5cd5d07f865f4db1360c10126")], body: r#"{"entry":[{"time":1520383571,"changes":[{"field":"photos","value":{"verb":"update","object_id":"10211885744794461"}}],"id":"10210299214172187","uid":"10210299214172187"}],"object":"user"}"#, seconds: 1700000000, whole: true, lines: &["com.meta.user.photos | https://graph.facebook.com | c602f4b63c3bb3f7a90e43f105ee0839 | 10210299214172187 | 2018-03-07T00:46:11Z"] },
        Vector { preset: "meta", secret: "k1", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json"), ("x-hub-signature-256", "sha256=f523eb6ba3feb2728f8b8f4bfe4efa2728febdcf971824ff1e6af4cd16534175")], body: r#"{"object":"user","entry":[{"uid":"7","id":"7","time":1520383571,"changed_fields":["photos"]}]}"#, seconds: 1700000000, whole: true, lines: &["com.meta.user.photos | https://graph.facebook.com | 98bfd57b78d3349cbd285246b56c5893 | 7 | 2018-03-07T00:46:11Z"] },
        Vector { preset: "meta", secret: "k1", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json"), ("x-hub-signature-256", "sha256=bd3c2f8ab9d699b54f0e590454eb902cd1f2c8937e051f67349128177acbcb1c")], body: r#"{"object":"page","entry":[{"id":"1","time":1458692752478,"messaging":[{"sender":{"id":"2"},"recipient":{"id":"1"},"timestamp":1458692752478,"message":{"mid":"m","text":"hello"}}]}]}"#, seconds: 1700000000, whole: true, lines: &["com.meta.page | https://graph.facebook.com | e9dac84840aefb99cae71fb0e7fb5fef | 1 | 2016-03-23T00:25:52.478Z"] },
        Vector { preset: "meta", secret: "k1", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json"), ("x-hub-signature-256", "sha256=74a172720de20673e86510736bbcf2c8b90c4d1b56149ca2e265c30eb89a2b9a")], body: r#"{"object":"whatsapp_business_account","entry":[{"id":"102290129340398","changes":[{"value":{"messaging_product":"whatsapp","message_echoes":[{"from":"15550783881","to":"16505551234","id":"wamid.1","timestamp":"1739321024","type":"text","text":{"body":"hello"}}]},"field":"smb_message_echoes"}]}]}"#, seconds: 1700000000, whole: true, lines: &["com.meta.whatsapp_business_account.smb_message_echoes | https://graph.facebook.com | 047050585746dacdd17c0ce5c28833ec | 102290129340398 | 2025-02-12T00:43:44Z"] },
        // Twilio's documentation, "Validating requests".
        Vector { preset: "twilio", secret: "12345", uri: "/hooks/x?foo=1&bar=2", url: Some("https://mycompany.com/myapp.php"), headers: &[("content-type", "application/x-www-form-urlencoded"), ("i-twilio-idempotency-token", "i1"), ("x-twilio-signature", "RSOYDt4T1cUTdK1PDd93/VVr8B8=")], body: "To=%2B18005551212&CallSid=CA1234567890ABCDE&Digits=1234&From=%2B14158675309&Caller=%2B14158675309", seconds: 1700000000, whole: true, lines: &["com.twilio.webhook | https://api.twilio.com | i1 | CA1234567890ABCDE | NOW"] },
        // The tests of Twilio's libraries.
        Vector { preset: "twilio", secret: "12345", uri: "/hooks/x?foo=1&bar=2&bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620", url: Some("https://mycompany.com/myapp.php"), headers: &[("content-type", "application/json"), ("i-twilio-idempotency-token", "i2"), ("x-twilio-signature", "a9nBmqA0ju/hNViExpshrM61xv4=")], body: r#"{"property": "value", "boolean": true}"#, seconds: 1700000000, whole: true, lines: &["com.twilio.webhook | https://api.twilio.com | i2 | - | NOW"] },
        Vector { preset: "zendesk", secret: "dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ==", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json"), ("x-zendesk-webhook-signature-timestamp", "2023-11-14T22:13:20Z"), ("x-zendesk-webhook-signature", "VZ6ZUDL9pysZYBStV7xqXFQq10oREpIn0FAK/w5Nqh4=")], body: r#"{"type":"zen:event-type:ticket.created","id":"z1","time":"2023-11-14T22:13:10Z","subject":"zen:ticket:1","account_id":7}"#, seconds: 1700000000, whole: true, lines: &["com.zendesk.ticket.created | https://zendesk.com/accounts/7 | z1 | zen:ticket:1 | 2023-11-14T22:13:10Z"] },
        Vector { preset: "zoom", secret: "k1", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json"), ("x-zm-request-timestamp", "1700000000"), ("x-zm-signature", "v0=bf0930425ef915daae6b95356e47e9521018e90995b4cedbdeae54fa5376bc9b")], body: r#"{"event":"meeting.started","event_ts":1699999999000,"payload":{"account_id":"A","object":{"id":"99"}}}"#, seconds: 1700000000, whole: true, lines: &["com.zoom.meeting.started | https://zoom.us/accounts/A | 89c2faacb07d98b2c55ea8ba035c9600 | 99 | 2023-11-14T22:13:19Z"] },
        // The tests of PagerDuty's library for Go.
        Vector { preset: "pagerduty", secret: "lDQHScfUeXUKaQRNF+8XIiDKZ7XX3itBAYzwU0TARw8lJqRnkKl2iB1anSb0Z+IK", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json"), ("x-pagerduty-signature", "v1=7020c8a7ec668a9b7012bc3dd82e483394b038f4230acc6785efbf2a7d8bcaf5,v1=0c0b9495b893a39e70d1fea2fe11fbe0a825f88b9f67846f6cc07dd2bc5476cd")], body: r#"{"event":{"id":"01BWDWL3NYY7LUFPZCC28QUCMK","event_type":"incident.priority_updated","resource_type":"incident","occurred_at":"2021-04-26T17:36:27.458Z","agent":{"html_url":"https://acme.pagerduty.com/users/PLH1HKV","id":"PLH1HKV","self":"https://api.pagerduty.com/users/PLH1HKV","summary":"Tenex Engineer","type":"user_reference"},"client":null,"data":{"id":"PGR0VU2","type":"incident","self":"https://api.pagerduty.com/incidents/PGR0VU2","html_url":"https://acme.pagerduty.com/incidents/PGR0VU2","number":2,"status":"triggered","title":"A little bump in the road","service":{"html_url":"https://acme.pagerduty.com/services/PF9KMXH","id":"PF9KMXH","self":"https://api.pagerduty.com/services/PF9KMXH","summary":"API Service","type":"service_reference"},"assignees":[{"html_url":"https://acme.pagerduty.com/users/PTUXL6G","id":"PTUXL6G","self":"https://api.pagerduty.com/users/PTUXL6G","summary":"User 123","type":"user_reference"}],"escalation_policy":{"html_url":"https://acme.pagerduty.com/escalation_policies/PUS0KTE","id":"PUS0KTE","self":"https://api.pagerduty.com/escalation_policies/PUS0KTE","summary":"Default","type":"escalation_policy_reference"},"teams":[{"html_url":"https://acme.pagerduty.com/teams/PFCVPS0","id":"PFCVPS0","self":"https://api.pagerduty.com/teams/PFCVPS0","summary":"Engineering","type":"team_reference"}],"priority":{"html_url":"https://acme.pagerduty.com/account/incident_priorities","id":"PSO75BM","self":"https://api.pagerduty.com/priorities/PSO75BM","summary":"P1","type":"priority_reference"},"urgency":"high","conference_bridge":{"conference_number":1000,"conference_url":"https://example.com"},"resolve_reason":null}}}"#, seconds: 1700000000, whole: true, lines: &["com.pagerduty.incident.priority_updated | https://api.pagerduty.com/services/PF9KMXH | 01BWDWL3NYY7LUFPZCC28QUCMK | PGR0VU2 | 2021-04-26T17:36:27.458Z"] },
        // The tests of Paddle's library for Python.
        Vector { preset: "paddle", secret: "pdl_ntf_01hbpjmytsa32fhr36nqgc3kgb_WvRO0eL4Bj9rgYYIBZY6wZhG4EHy9jzh", uri: "/hooks/x", url: None, headers: &[("paddle-signature", "ts=1696195954;h1=dummy;h1=d96299976a6eb066f484d7fde011ac56fc32b38fc9940bc419d6e537fdc6ef02")], body: "hello-world", seconds: 1696195954, whole: true, lines: &["com.paddle.unknown | https://api.paddle.com | ID | - | NOW"] },
        // By a shared key of Twilio's webhook rules.
        Vector { preset: "twilio", secret: "12345", uri: "/hooks/x?foo=1&bar=2", url: Some("https://mycompany.com/myapp.php"), headers: &[("content-type", "application/x-www-form-urlencoded"), ("i-twilio-idempotency-token", "i1"), ("x-twilio-signature", "033hgUJA9M/hXIZsYjwkerEP/DBm35nEri5FhCYjA5s=")], body: "To=%2B18005551212&CallSid=CA1234567890ABCDE&Digits=1234&From=%2B14158675309&Caller=%2B14158675309", seconds: 1700000000, whole: true, lines: &["com.twilio.webhook | https://api.twilio.com | i1 | CA1234567890ABCDE | NOW"] },
        // Of a subaccount, by the key of the account above it.
        Vector { preset: "mailgun", secret: "k1", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json")], body: r#"{"signature":{"token":"tok","timestamp":"1700000000","signature":"4eb56a0e41f55807a186019da0bdfa849582bbcb3e0e0a0462a514f5461c8395","parent-signature":"89b959311f6a9f2faff83599335011d8aa1cc4ba1dce12658d606f1bbaf7fe3f"},"event-data":{"event":"opened","id":"Ase7i2zsRYeDXztHGENqRA","recipient":"a@b.example","timestamp":1521243339.873676}}"#, seconds: 1700000000, whole: false, lines: &["com.mailgun.opened | https://api.mailgun.net | Ase7i2zsRYeDXztHGENqRA | a@b.example | 2018-03-16T23:35:39.873676Z"] },
        Vector { preset: "alertmanager", secret: "k1", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json"), ("authorization", "Bearer k1")], body: r#"{"version":"4","status":"firing","groupKey":"g","externalURL":"http://am.example"}"#, seconds: 1700000000, whole: false, lines: &["com.alertmanager.firing | http://am.example | ID | g | NOW"] },
        Vector { preset: "alertmanager", secret: "user:pass", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json"), ("authorization", "basic dXNlcjpwYXNz")], body: r#"{"version":"4","status":"firing","groupKey":"g","externalURL":"http://am.example"}"#, seconds: 1700000000, whole: false, lines: &["com.alertmanager.firing | http://am.example | ID | g | NOW"] },
        Vector { preset: "grafana", secret: "k1", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json"), ("x-grafana-alerting-signature", "4b181ac3082abfb6ce29756ba390083c0cccc7ae03846e732ae2f84f31d4dd93")], body: r#"{"version":"4","status":"firing","groupKey":"g","externalURL":"http://am.example"}"#, seconds: 1700000000, whole: true, lines: &["com.grafana.firing | http://am.example | ID | g | NOW"] },
        Vector { preset: "grafana", secret: "k1", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json"), ("x-grafana-alerting-timestamp", "1700000000"), ("x-grafana-alerting-signature", "d647af74155fa6d1b3db6c05e99107852f777f65b218a77fc319c3688791d41b")], body: r#"{"version":"4","status":"firing","groupKey":"g","externalURL":"http://am.example"}"#, seconds: 1700000000, whole: true, lines: &["com.grafana.firing | http://am.example | ID | g | NOW"] },
        Vector { preset: "kubernetes-audit", secret: "k1", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json"), ("authorization", "Bearer k1")], body: r#"{"kind":"EventList","items":[{"auditID":"a1","stage":"ResponseComplete","verb":"create","requestURI":"/api/v1/pods","stageTimestamp":"2023-11-14T22:13:10.5Z"},{"auditID":"a2","stage":"Panic","verb":"get"}]}"#, seconds: 1700000000, whole: false, lines: &["com.kubernetes.audit.create | /kubernetes/audit | a1/ResponseComplete | /api/v1/pods | 2023-11-14T22:13:10.5Z", "com.kubernetes.audit.get | /kubernetes/audit | a2/Panic | - | NOW"] },
        // The fields of `audit.k8s.io/v1`.
        Vector { preset: "kubernetes-audit", secret: "k1", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json"), ("authorization", "Bearer k1")], body: r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[{"level":"Metadata","auditID":"45d0b7a8-5b8c-4b0a-8c8e-0b1d5d4c1a2b","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/default/configmaps?limit=500","verb":"list","user":{"username":"admin","groups":["system:masters"]},"objectRef":{"resource":"configmaps","namespace":"default","apiVersion":"v1"},"responseStatus":{"metadata":{},"code":200},"requestReceivedTimestamp":"2026-11-27T09:00:00.123456Z","stageTimestamp":"2026-11-27T09:00:00.234567Z"}]}"#, seconds: 1700000000, whole: false, lines: &["com.kubernetes.audit.list | /kubernetes/audit | 45d0b7a8-5b8c-4b0a-8c8e-0b1d5d4c1a2b/ResponseComplete | /api/v1/namespaces/default/configmaps?limit=500 | 2026-11-27T09:00:00.234567Z"] },
        Vector { preset: "azure-event-grid", secret: "k1", uri: "/hooks/x?code=k1", url: None, headers: &[("content-type", "application/json")], body: r#"[{"id":"g1","topic":"/subscriptions/s","subject":"/blob/a","eventType":"Microsoft.Storage.BlobCreated","eventTime":"2023-11-14T22:13:10Z","data":{"n":1}}]"#, seconds: 1700000000, whole: false, lines: &["Microsoft.Storage.BlobCreated | /subscriptions/s | g1 | /blob/a | 2023-11-14T22:13:10Z"] },
        Vector { preset: "microsoft-graph", secret: "k1", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json")], body: r#"{"value":[{"subscriptionId":"s1","clientState":"k1","changeType":"updated","resource":"me/messages/1","id":"n1"},{"subscriptionId":"s1","clientState":"k1","lifecycleEvent":"missed","id":"n2"}]}"#, seconds: 1700000000, whole: false, lines: &["com.microsoft.graph.updated | https://graph.microsoft.com/subscriptions/s1 | n1 | me/messages/1 | NOW", "com.microsoft.graph.missed | https://graph.microsoft.com/subscriptions/s1 | n2 | - | NOW"] },
        Vector { preset: "gitlab", secret: "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json"), ("webhook-id", "g1"), ("idempotency-key", "g1"), ("webhook-timestamp", "1700000000"), ("webhook-signature", "v1,VBPamEJc6UAmt3jvEI5V5RLXyAGPSflMEco0JVKl88o=")], body: r#"{"object_kind":"push","checkout_sha":"da15","project":{"web_url":"https://gitlab.com/p"}}"#, seconds: 1700000000, whole: true, lines: &["com.gitlab.push | https://gitlab.com/p | g1 | da15 | NOW"] },
        // The tests of Svix's libraries.
        Vector { preset: "standard", secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json"), ("svix-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"), ("svix-timestamp", "1614265330"), ("svix-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")], body: r#"{"test": 2432232314}"#, seconds: 1614265330, whole: true, lines: &["com.pointsman.webhook.shop | /webhooks/shop | msg_p5jXN8AQM9LWM0D4loKWxJek | - | NOW"] },
        // Signed by OpenSSL.
        Vector { preset: "discord", secret: "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", uri: "/hooks/x", url: None, headers: &[("content-type", "application/json"), ("x-signature-timestamp", "1700000000"), ("x-signature-ed25519", "1aab691d5385da57a62c7420da0dc1f1098c0ea1eb345cd015ee8885657d52cfed191f95b5914e87882e130694b917e43143dffc22af498ffad894ffcf9f650d")], body: r#"{"application_id":"app","id":"i1","type":2,"data":{"name":"deploy"}}"#, seconds: 1700000000, whole: true, lines: &["com.discord.interaction.2 | https://discord.com/applications/app | i1 | deploy | NOW"] },
    ]
}

fn head(uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut head = http::Request::post(uri)
        .header("host", "bus.example")
        .body(())
        .unwrap()
        .into_parts()
        .0;
    for (name, value) in headers {
        head.headers
            .insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    head
}

fn open(signature: serde_json::Value) -> Verifier {
    Verifier::open(serde_json::from_value(signature).unwrap()).unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp(seconds * 1_000_000)
}

impl Vector {
    fn signature(&self, secret: &str) -> serde_json::Value {
        json!({ self.preset: { "secret": secret } })
    }

    fn verify(&self, verifier: &Verifier, head: &Parts, body: &str, seconds: i64) -> bool {
        let verified = verifier.verify(&Call::new(head, body.as_bytes(), self.url), at(seconds));
        if let Err(unverified) = &verified {
            let Unverified::Refused(refusal) = unverified else {
                panic!("no key is fetched")
            };
            assert_eq!(refusal.status, http::StatusCode::UNAUTHORIZED);
            assert!(!refusal.detail.contains(self.secret), "{}", refusal.detail);
        }
        verified.is_ok()
    }
}

#[test]
fn vectors_fit_and_nothing_near_them_does() {
    for vector in vectors() {
        let (preset, head) = (vector.preset, head(vector.uri, vector.headers));
        let own = open(vector.signature(vector.secret));
        assert!(own.admit(&head).is_ok(), "{preset}");
        assert!(
            vector.verify(&own, &head, vector.body, vector.seconds),
            "{preset}"
        );
        // One character is another: of a secret behind whsec_ and of one in hexadecimal it stays
        // readable.
        let place = 7.min(vector.secret.len() - 1);
        let other: String = vector
            .secret
            .chars()
            .enumerate()
            .map(|(n, char)| {
                if n == place {
                    if char == '0' { '1' } else { '0' }
                } else {
                    char
                }
            })
            .collect();
        assert_ne!(other, vector.secret);
        if let Ok(other) = Verifier::open(serde_json::from_value(vector.signature(&other)).unwrap())
        {
            assert!(
                !vector.verify(&other, &head, vector.body, vector.seconds),
                "{preset}: another secret"
            );
        }
        let rotated = json!({ preset: { "secret": vector.secret, "previous": vector.secret } });
        assert!(
            vector.verify(&open(rotated), &head, vector.body, vector.seconds),
            "{preset}: two secrets"
        );
        if vector.whole {
            let longer = format!("{} ", vector.body);
            assert!(
                !vector.verify(&own, &head, &longer, vector.seconds),
                "{preset}: a longer body"
            );
            assert!(
                !vector.verify(&own, &head, "", vector.seconds),
                "{preset}: no body"
            );
        }
        let signed = |name: &str| {
            name.contains("signature")
                || name.contains("hmac")
                || name.contains("timestamp")
                || name == "authorization"
                || name == "x-trello-webhook"
                || name == "webhook-id"
                || name == "svix-id"
        };
        for (name, _) in vector.headers.iter().filter(|(name, _)| signed(name)) {
            // Sentry does not sign its time.
            if *name == "sentry-hook-timestamp" {
                continue;
            }
            let mut without = head.clone();
            without.headers.remove(*name);
            assert!(
                !vector.verify(&own, &without, vector.body, vector.seconds),
                "{preset}: without {name}"
            );
        }
        let bare = super::tests::head("/hooks/x", &[("content-type", "application/json")]);
        assert!(
            !vector.verify(
                &own,
                &bare,
                r#"{"value":[],"notificationItems":[]}"#,
                vector.seconds
            ),
            "{preset}: nothing"
        );
    }
}

#[test]
fn stale_times_are_refused() {
    let timed = [
        "linear", "paddle", "calendly", "mailgun", "zendesk", "zoom", "discord", "standard",
    ];
    for vector in vectors()
        .into_iter()
        .filter(|vector| timed.contains(&vector.preset))
    {
        let (own, head) = (
            open(vector.signature(vector.secret)),
            head(vector.uri, vector.headers),
        );
        let tolerance = if vector.preset == "linear" { 60 } else { 300 };
        for (offset, fits) in [
            (-tolerance - 1, false),
            (-tolerance, true),
            (tolerance, true),
            (tolerance + 1, false),
        ] {
            assert_eq!(
                vector.verify(&own, &head, vector.body, vector.seconds + offset),
                fits,
                "{}: {offset}",
                vector.preset
            );
        }
    }
}

fn line(event: &Event) -> String {
    let [subject, time] = [event.subject(), event.time()].map(|text| text.map_or("-", |text| text));
    format!(
        "{} | {} | {} | {subject} | {time}",
        event.ty(),
        event.source(),
        event.id()
    )
}

#[test]
fn events_are_what_users_expect() {
    for vector in vectors() {
        let signature: Signature = serde_json::from_value(vector.signature(vector.secret)).unwrap();
        let mapping = Mapping::new(signature.preset().event, Name::new("shop").unwrap()).unwrap();
        let head = head(vector.uri, vector.headers);
        let body = Bytes::from_static(vector.body.as_bytes());
        let call = Call::new(&head, &body, vector.url);
        let id = Verifier::open(signature.clone())
            .unwrap()
            .verify(&call, at(vector.seconds))
            .unwrap();
        let mapped = mapping
            .map(&call, id, body.clone(), at(vector.seconds))
            .unwrap();
        let events: Vec<_> = mapped
            .into_iter()
            .map(|mapped| mapped.event.data(mapped.data).build().unwrap())
            .collect();
        assert_eq!(events.len(), vector.lines.len(), "{}", vector.preset);
        for (event, expect) in events.iter().zip(vector.lines) {
            let now = at(vector.seconds).to_string();
            let expect = expect
                .replace("NOW", &now)
                .replace("| ID |", &format!("| {} |", event.id()));
            assert_eq!(line(event), expect, "{}", vector.preset);
            assert_eq!(
                signature.has_stable_ids(),
                !matches!(vector.preset, "alertmanager" | "grafana"),
                "{}",
                vector.preset
            );
        }
    }
}

#[test]
fn the_table_can_be_read_and_its_names_are_its_own() {
    assert_eq!(NAMES.iter().collect::<HashSet<_>>().len(), PRESETS.len());
    let tested: HashSet<_> = vectors().iter().map(|vector| vector.preset).collect();
    let elsewhere = ["github", "stripe", "slack", "hmac", "custom", "none"];
    let keyed = [
        "aws-sns",
        "google-pubsub",
        "paypal",
        "alibaba-eventbridge",
        "alibaba-mns",
    ];
    for preset in PRESETS {
        for scheme in preset.schemes {
            serde_json::from_str::<Scheme>(scheme)
                .unwrap_or_else(|error| panic!("{}: {error}", preset.name));
        }
        for handshake in preset.handshakes {
            serde_json::from_str::<Handshake>(handshake)
                .unwrap_or_else(|error| panic!("{}: {error}", preset.name));
        }
        if let Events::Rows(rows) | Events::EventBridge(rows) = preset.event {
            Templates::read(rows).unwrap();
        }
        assert!(
            tested.contains(preset.name)
                || elsewhere.contains(&preset.name)
                || keyed.contains(&preset.name),
            "{} has no vector",
            preset.name
        );
    }
}

#[test]
fn each_item_is_signed_on_its_own() {
    let adyen = vectors()
        .into_iter()
        .find(|vector| vector.preset == "adyen")
        .unwrap();
    let (own, head) = (
        open(adyen.signature(adyen.secret)),
        head(adyen.uri, adyen.headers),
    );
    assert!(
        !adyen.verify(&own, &head, &adyen.body.replace("1130", "1131"), 0),
        "a signed field"
    );
    let unsigned = r#","#.to_owned()
        + &adyen.body[adyen.body.find(r#"{"Notif"#).unwrap()..].replace("1130", "9");
    assert!(
        !adyen.verify(
            &own,
            &head,
            &adyen.body.replace("}]}", &format!("}}{unsigned}")),
            0
        ),
        "a second item"
    );
    let graph = vectors()
        .into_iter()
        .find(|vector| vector.preset == "microsoft-graph")
        .unwrap();
    let own = open(graph.signature(graph.secret));
    assert!(!graph.verify(&own, &head, &graph.body.replacen("k1", "k2", 1), 0));
}

#[test]
fn custom_reads_public_keys_and_says_what_is_missing() {
    let pem = "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAxHmCGTmQdRdBOQOo3pU3\nNGmVU+Oy1UTO7tSNabuo37hrwPC+SHQWNAOapy7NqnDBKK9NrqL+G9P/C9dt0gjX\nmgg4Nbzc7ONm0TOgebeokqBEHGzZKu5Bg32eE05QWjX8PWl4f5Ie5qDZR0HXegJK\nIwuIGlYZv5YY8WiZRvcSVxb4CfmbU9Hf77vijYoKSy+/p0lImbolv2kjdEiYSOdP\nAC51ol1m44pxye+vb3Ptr1kWRONEoWuMdmfyss9/L/bcaPw1HzZbjpMAhFwQKzJB\nkljPlyES/blW8j8VR4vUyeD9Sk30JJggF3yAco64U20wC/KrHEDTXlNdQ5UTR1UP\nowIDAQAB\n-----END PUBLIC KEY-----";
    for (algorithm, signature) in [
        (
            "rsa-sha1",
            "tKQMz8HauIub1u6VBWJpHP0Kt1Mkl3hUu4e9-qbSw0NyT98a5OcSu1qyI8dSqwJDU_w310cIhx5MPLTV1DzCTKnOEcrJZP-bBVHzSeaYHTUg8Q9YCwinUY8jL5UB2X_tpR4NRAb0DcIeXkBUP_fv0YUqh7nsWpKD1EsESfYaa6buRss37uT11-g1DYvkgkgdVGyuCRVRcOdU_jrm_Pq6FLETQOUUScNLucSWtdzR7FmrqAlyQiBF0EteWBp-wwbwlWmJ6J35RyDEHxaBKs6Sqsu1VrYSH6my5lyj6ktnjEgmhs4l12GSudWkkxRyMIuPV4-66SF6PTIQYUrL46P0UA",
        ),
        (
            "rsa-sha256",
            "Md00tlpwafO7WiIH2j4Mf8uXbb7eW1ng2m5Fni1c4s36pOSdbZ4DZDZHmPIj-MknnVY04K_49VcDF0G_OKszGFDfx7WE2UuFr6BpzuAXtGXTBIPBaEO522uOXFmScRntudnFCQOubX4cs-wbTWhDCL-X4ENpbr6A1D5yjDodKI1S2bXXZdAxadF0S-LCPQcy8eX8f6wJJu3nDm22ahrzIVOXRT8oXgocC3DfydhOsvF7HkQpU9EZPTMywoI9NAvvNKpF_iYEVg1U-ZwkT1EMYti5Bkg7ADooDDDLKPvlQzwTZ46l864Q6dwAeZ07yxWPzyCFxIvkCDKXHXsiS74-tA",
        ),
    ] {
        let own = open(
            json!({ "custom": { "secret": pem, "key": "pem", "header": "x-sign", "encoding": "base64url", "algorithm": algorithm } }),
        );
        let signed = head("/x", &[("x-sign", signature)]);
        let verify = |body: &[u8]| own.verify(&Call::new(&signed, body, None), at(0)).is_ok();
        assert!(verify(b"body") && !verify(b"bodz"), "{algorithm}");
    }
    let own = open(
        json!({ "custom": { "secret": "k1", "query": "s", "algorithm": "sha512", "signed": "<$.method> <$.path> <$.headers.x-a> <$.query.q> <$.fields.a.b> <$.timestamp>",
        "timestamp": "<$.fields.t>", "unit": "ms", "tolerance": "10s" } }),
    );
    let told = |uri: &str, headers: &[(&str, &str)], body: &str| {
        own.verify(
            &Call::new(&head(uri, headers), body.as_bytes(), None),
            at(100),
        )
        .unwrap_err()
        .refusal()
        .detail
        .into_owned()
    };
    let body = r#"{"a":{"b":1},"t":100000}"#;
    assert_eq!(
        told("/x", &[], body),
        "the query parameter s is missing; sign the request"
    );
    assert_eq!(told("/x?s=00", &[], "{}"), "the body has no field t");
    assert_eq!(
        told("/x?s=00", &[], r#"{"t":"soon"}"#),
        "the signed time is not in milliseconds since 1970"
    );
    assert_eq!(
        told("/x?s=00", &[], r#"{"t":89999}"#),
        "the signed time lies more than 10s from this clock; send it anew, and check both clocks"
    );
    assert_eq!(told("/x?s=00", &[], body), "the header x-a is missing");
    assert_eq!(
        told("/x?s=00", &[("x-a", "1")], body),
        "the query parameter q is missing"
    );
    assert_eq!(
        told("/x?s=00&q=2", &[("x-a", "1")], body),
        "the signature does not fit the body and the secret"
    );
}
