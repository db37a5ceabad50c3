//! Vectors, and what is near them.

use http::{HeaderMap, HeaderName};
use serde_json::json;

use super::super::check::SIGNATURES_MAX;
use super::*;

fn verifier(json: &str) -> Verifier {
    Verifier::open(serde_json::from_str(json).unwrap()).unwrap()
}

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    lines
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
        .collect()
}

fn head(headers: &HeaderMap) -> Parts {
    let mut head = http::Request::post("/hooks/x")
        .body(())
        .unwrap()
        .into_parts()
        .0;
    head.headers = headers.clone();
    head
}

impl Verifier {
    fn verify_body(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<(), Refusal> {
        self.verify(&Call::new(&head(headers), body, None), now)
            .map(drop)
            .map_err(Unverified::refusal)
    }
}

struct Vector {
    scheme: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    body: &'static str,
    seconds: i64,
}

const STANDARD_ID: (&str, &str) = ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek");
const STANDARD_TIME: (&str, &str) = ("webhook-timestamp", "1614265330");

/// The last header of each is the one with the signature.
fn vectors() -> Vec<Vector> {
    vec![
        // GitHub's documentation, "Testing the webhook payload validation".
        Vector {
            scheme: r#"{"github":{"secret":"It's a Secret to Everybody"}}"#,
            headers: vec![(
                "x-hub-signature-256",
                "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
            )],
            body: "Hello, World!",
            seconds: 0,
        },
        // Slack's documentation, "Verifying requests from Slack".
        Vector {
            scheme: r#"{"slack":{"secret":"8f742231b10e8888abcd99yyyzzz85a5"}}"#,
            headers: vec![
                ("x-slack-request-timestamp", "1531420618"),
                (
                    "x-slack-signature",
                    "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
                ),
            ],
            body: "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
            seconds: 1_531_420_618,
        },
        // The reference libraries of Standard Webhooks.
        Vector {
            scheme: r#"{"standard":{"secret":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}}"#,
            headers: vec![
                STANDARD_ID,
                STANDARD_TIME,
                (
                    "webhook-signature",
                    "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
                ),
            ],
            body: r#"{"test": 2432232314}"#,
            seconds: 1_614_265_330,
        },
        // The same message, signed by OpenSSL with the first key of RFC 8032, section 7.1.
        Vector {
            scheme: r#"{"standard":{"secret":"whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="}}"#,
            headers: vec![
                STANDARD_ID,
                STANDARD_TIME,
                (
                    "webhook-signature",
                    "v1a,fldxM4gAKugP6nnt1hdz3sgGfZ6d99nzrMFnZOELIxbzEHoVmAb2ADpkJK7zgPePmPsle0zV9jSeGlHFG2NVAw==",
                ),
            ],
            body: r#"{"test": 2432232314}"#,
            seconds: 1_614_265_330,
        },
        // Stripe publishes the recipe and no vector: computed by Python's hmac.
        Vector {
            scheme: r#"{"stripe":{"secret":"whsec_test_secret"}}"#,
            headers: vec![(
                "stripe-signature",
                "t=1492774577,v1=125e110db325735d5e136ec2c6ee782021c14d02f1a6818d9b24f748c024b797,v0=6ffbb59b2300aae63f272406069a9788598b792a944a07aba816edb039989a39",
            )],
            body: r#"{"id":"evt_1MqqbKLt4dXK03v5qaIbiNCC","object":"event","type":"invoice.paid"}"#,
            seconds: 1_492_774_577,
        },
        Vector {
            scheme: r#"{"hmac":{"secret":"k1","header":"X-Sign","prefix":"s=","id":"X-Id"}}"#,
            headers: vec![(
                "x-sign",
                "s=6755cc564cc051cb17cbbaf8102fdb8fbb5811fe8061d98c165d4f9ed525a00b",
            )],
            body: "body",
            seconds: 0,
        },
        Vector {
            scheme: r#"{"hmac":{"secret":"k1","header":"X-Sign","algorithm":"sha512","encoding":"base64"}}"#,
            headers: vec![(
                "x-sign",
                "d8VqVALQR3noup+j/mqnIIQ9+tSOZ3lz6JdAk1X9XhvL5GduBaby2GsZFq1T5otkhXBs0Ne6Ofy/xKiyrDya6g",
            )],
            body: "body",
            seconds: 0,
        },
        Vector {
            scheme: r#"{"gitlab":{"secret":"tanuki"}}"#,
            headers: vec![("x-gitlab-token", "tanuki")],
            body: "",
            seconds: 0,
        },
    ]
}

fn at(seconds: i64) -> Timestamp {
    Timestamp(seconds * 1_000_000)
}

#[test]
fn published_vectors_fit_and_nothing_near_them_does() {
    for vector in vectors() {
        let (own, now) = (verifier(vector.scheme), at(vector.seconds));
        let signed = headers(&vector.headers);
        assert_eq!(
            own.verify_body(&signed, vector.body.as_bytes(), now),
            Ok(()),
            "{}",
            vector.scheme
        );
        assert_eq!(own.admit(&head(&signed)), Ok(()));
        let refused = |headers: &HeaderMap, body: &[u8], why: &str| {
            let refusal = own.verify_body(headers, body, now).expect_err(why);
            assert_eq!(
                refusal.status,
                StatusCode::UNAUTHORIZED,
                "{why}: {}",
                vector.scheme
            );
        };
        // GitLab's token does not depend on the body.
        if !vector.scheme.contains("gitlab") {
            refused(
                &signed,
                format!("{} ", vector.body).as_bytes(),
                "longer body",
            );
            refused(&signed, b"", "no body");
        }
        let (name, signature) = vector.headers[vector.headers.len() - 1];
        let with = |value: &str| {
            let mut changed = signed.clone();
            changed.insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
            changed
        };
        for (value, why) in [
            (
                signature
                    .split(",v0=")
                    .next()
                    .unwrap()
                    .trim_end_matches('=')
                    .split_at(signature.len() / 2)
                    .0
                    .to_owned(),
                "cut short",
            ),
            (format!("x{signature}"), "something in front"),
            (signature.chars().rev().collect(), "reversed"),
            (String::new(), "empty"),
        ] {
            refused(&with(&value), vector.body.as_bytes(), why);
        }
        let other = vector
            .scheme
            .replace("Secret to", "Segret to")
            .replace("8f74", "8f75")
            .replace("whsec_M", "whsec_N");
        let other = other
            .replace("test_s", "test_z")
            .replace("\"k1\"", "\"k2\"")
            .replace("tanuki", "tanukj")
            .replace("whpk_11qY", "whpk_21qY");
        assert_ne!(other, vector.scheme);
        if let Ok(other) = Verifier::open(serde_json::from_str(&other).unwrap()) {
            assert!(
                other
                    .verify_body(&signed, vector.body.as_bytes(), now)
                    .is_err(),
                "another secret: {}",
                vector.scheme
            );
        }
        for (gone, _) in &vector.headers {
            let mut without = signed.clone();
            without.remove(*gone);
            refused(&without, vector.body.as_bytes(), gone);
        }
        assert!(own.admit(&head(&HeaderMap::new())).is_err());
    }
}

#[test]
fn a_signed_time_counts_for_five_minutes_each_way() {
    for vector in vectors().into_iter().filter(|vector| vector.seconds != 0) {
        let (own, signed) = (verifier(vector.scheme), headers(&vector.headers));
        for (offset, fits) in [
            (-301, false),
            (-300, true),
            (300, true),
            (301, false),
            (-vector.seconds, false),
            (i64::MAX / 4_000_000, false),
        ] {
            let verified =
                own.verify_body(&signed, vector.body.as_bytes(), at(vector.seconds + offset));
            assert_eq!(verified.is_ok(), fits, "{offset}: {}", vector.scheme);
        }
    }
}

#[test]
fn two_secrets_are_alive_in_a_rotation() {
    for vector in vectors() {
        let scheme: serde_json::Value = serde_json::from_str(vector.scheme).unwrap();
        let (name, own) = scheme.as_object().unwrap().iter().next().unwrap();
        let mut rotated = own.clone();
        let new = if name == "standard" {
            "whsec_bmV3IHNlY3JldCBuZXcgc2VjcmV0"
        } else {
            "new"
        };
        (rotated["previous"], rotated["secret"]) = (own["secret"].clone(), new.into());
        let rotated = serde_json::json!({ name: rotated }).to_string();
        let verified = verifier(&rotated).verify_body(
            &headers(&vector.headers),
            vector.body.as_bytes(),
            at(vector.seconds),
        );
        assert_eq!(verified, Ok(()), "{rotated}");
    }
}

#[test]
fn one_signature_of_a_list_is_enough() {
    let own = verifier(r#"{"standard":{"secret":"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}}"#);
    let list = "v1,AAAA v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= \
                v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    let verify = |list: &str| {
        let signed = headers(&[STANDARD_ID, STANDARD_TIME, ("webhook-signature", list)]);
        own.verify_body(&signed, br#"{"test": 2432232314}"#, at(1_614_265_330))
            .is_ok()
    };
    assert!(verify(list));
    assert!(
        !verify(list.rsplit_once(' ').unwrap().0),
        "of an unknown version"
    );
    assert!(
        !verify(&format!("{}{list}", "v1,AAAA ".repeat(SIGNATURES_MAX))),
        "past the bound"
    );
    // A public key is no secret: nobody can sign with it by HMAC.
    let public =
        verifier(r#"{"standard":{"secret":"whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="}}"#);
    let signed = headers(&[
        STANDARD_ID,
        STANDARD_TIME,
        (
            "webhook-signature",
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
    ]);
    assert!(
        public
            .verify_body(&signed, br#"{"test": 2432232314}"#, at(1_614_265_330))
            .is_err()
    );
}

#[test]
fn hostile_headers_are_refused_in_words() {
    let time = ("x-slack-request-timestamp", "1531420618");
    let slack = vectors().remove(1);
    let (own, now) = (verifier(slack.scheme), at(slack.seconds));
    let told = |headers: &HeaderMap| {
        own.verify_body(headers, slack.body.as_bytes(), now)
            .unwrap_err()
            .detail
            .into_owned()
    };
    let mut twice = headers(&slack.headers);
    twice.append("x-slack-signature", "v0=00".parse().unwrap());
    assert_eq!(
        told(&twice),
        "the header x-slack-signature is there more than once; sign the request"
    );
    let mut times = headers(&slack.headers);
    times.append("x-slack-request-timestamp", "1531420618".parse().unwrap());
    assert_eq!(
        told(&times),
        "the header x-slack-request-timestamp is there more than once"
    );
    let mut odd = headers(&[time]);
    odd.insert(
        "x-slack-signature",
        http::HeaderValue::from_bytes(b"v0=\xff\xfe").unwrap(),
    );
    assert_eq!(
        told(&odd),
        "the header x-slack-signature is not ASCII; sign the request"
    );
    for value in [
        "v0=".to_owned(),
        "v0".to_owned(),
        format!("v0={}", "0".repeat(30_000)),
        "v0=\u{e4}".to_owned(),
        format!("v0={}", "zz".repeat(32)),
    ] {
        let mut changed = headers(&[time]);
        changed.insert(
            "x-slack-signature",
            http::HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
        assert!(
            own.verify_body(&changed, slack.body.as_bytes(), now)
                .is_err(),
            "{}",
            value.len()
        );
    }
    for time in [
        "1531420618000",
        "153142061",
        "-1531420618",
        "1531420618.0",
        "1531420618 ",
        "0x5b489a4a",
        "99999999999999999999",
        "",
        "soon",
    ] {
        let mut changed = headers(&slack.headers);
        changed.insert("x-slack-request-timestamp", time.parse().unwrap());
        assert!(
            own.verify_body(&changed, slack.body.as_bytes(), now)
                .is_err(),
            "{time}"
        );
    }
}

#[test]
fn a_list_may_come_in_several_lines_and_only_so_much_of_it_is_tried() {
    let stripe = vectors()
        .into_iter()
        .find(|vector| vector.scheme.contains("stripe"))
        .unwrap();
    let (own, now) = (verifier(stripe.scheme), at(stripe.seconds));
    let (whole, body) = (stripe.headers[0].1, stripe.body.as_bytes());
    let (time, signatures) = whole.split_once(',').unwrap();
    let mut lines = headers(&[("stripe-signature", time)]);
    lines.append("stripe-signature", signatures.parse().unwrap());
    assert_eq!(own.verify_body(&lines, body, now), Ok(()));
    let many = format!("{time},{}{signatures}", "v1=00,".repeat(1_000));
    assert!(
        own.verify_body(&headers(&[("stripe-signature", &many)]), body, now)
            .is_err()
    );
    let few = format!("{time},{}{signatures}", "v1=00,".repeat(SIGNATURES_MAX - 1));
    assert_eq!(
        own.verify_body(&headers(&[("stripe-signature", &few)]), body, now),
        Ok(())
    );
    // Of two times the first counts, for the age and for the signature alike.
    let doubled = format!("t=1,{whole}");
    assert!(
        own.verify_body(&headers(&[("stripe-signature", &doubled)]), body, now)
            .is_err()
    );
}

#[test]
fn secrets_that_cannot_be_used_are_told_and_none_is_shown() {
    let told = |json: &str| {
        Verifier::open(serde_json::from_str(json).unwrap())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        told(r#"{"github":{"secret":""}}"#),
        "signature.github.secret: the secret is empty: anybody could sign with it"
    );
    for empty in [
        r#"{"github":{"secret":" \n"}}"#,
        r#"{"adyen":{"secret":" "}}"#,
        r#"{"custom":{"secret":"==","key":"base64","header":"x"}}"#,
    ] {
        assert!(told(empty).contains("secret: "), "{empty}");
    }
    assert!(
        told(r#"{"slack":{"secret":"a","previous":{"file":"/nowhere"}}}"#)
            .starts_with("signature.slack.previous: cannot read")
    );
    let written = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(written.path(), "v1=hunter2").unwrap();
    let twice = |scheme: serde_json::Value| told(&scheme.to_string());
    for (scheme, expect) in [
        (
            json!({ "alertmanager": { "secret": "bearer hunter2" } }),
            "signature.alertmanager.secret: this begins with the word Bearer, which would be sent \
             twice (write what follows it alone, such as secret: { env: TOKEN })"
                .to_owned(),
        ),
        (
            json!({ "alertmanager": { "secret": "Basic aHVudGVyMg==" } }),
            "signature.alertmanager.secret: this begins with the word Basic, which would be sent \
             twice (write what follows it alone, such as secret: { env: TOKEN })"
                .to_owned(),
        ),
        (
            json!({ "custom": {
                "header": "x", "prefix": "v1=", "algorithm": "token",
                "secret": "hunter2", "previous": { "file": written.path() },
            } }),
            format!(
                "signature.custom.previous: the file {} begins with \"v1=\", which would be sent \
                 twice (write what follows it alone into it)",
                written.path().display()
            ),
        ),
    ] {
        assert_eq!(twice(scheme), expect);
    }
    // The whole header is the token where nothing is said to stand before it, and what signs is no
    // part of the header.
    for fine in [
        json!({ "custom": {
            "header": "x", "algorithm": "token", "secret": "Bearer hunter2", "id": "<$.headers.y>",
        } }),
        json!({ "custom": { "header": "x", "prefix": "v1=", "secret": "v1=hunter2" } }),
    ] {
        assert!(Verifier::open(serde_json::from_value(fine).unwrap()).is_ok());
    }
    for bad in [
        "whsec_hunter2!",
        "whpk_aGVsbG8=",
        "whsk_aGVsbG8=",
        "whsec_====",
    ] {
        let message = told(&serde_json::json!({ "standard": { "secret": bad } }).to_string());
        assert!(
            message.starts_with("signature.standard.secret: ") && !message.contains(bad),
            "{message}"
        );
    }
    for vector in vectors() {
        let secret: serde_json::Value = serde_json::from_str(vector.scheme).unwrap();
        let secret = secret.as_object().unwrap().values().next().unwrap()["secret"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(!format!("{:?}", verifier(vector.scheme)).contains(&secret));
    }
}
