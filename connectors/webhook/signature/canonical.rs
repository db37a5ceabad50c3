//! Texts that providers put together by rules of their own before they sign them.

use http::HeaderMap;
use http::header::{CONTENT_TYPE, DATE, HeaderName};
use http::request::Parts;
use serde_json::Value;

const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

/// What headers begin with that are signed.
const MNS_PREFIX: &str = "x-mns-";

/// "Verifying the signatures of Amazon SNS messages", step 4: names and values, a line each, in the
/// order of the alphabet.
///
/// None where the message has not the fields of its type, or has those of the other: what is not
/// signed in one must not be taken for signed.
pub(super) fn aws_sns(message: &Value) -> Option<String> {
    let names: &[&str] = match message.get("Type")?.as_str()? {
        "Notification" => &[
            "Message",
            "MessageId",
            "Subject",
            "Timestamp",
            "TopicArn",
            "Type",
        ],
        "SubscriptionConfirmation" | "UnsubscribeConfirmation" => &[
            "Message",
            "MessageId",
            "SubscribeURL",
            "Timestamp",
            "Token",
            "TopicArn",
            "Type",
        ],
        _ => return None,
    };
    let mut text = String::new();
    for name in names {
        let value = match message.get(*name) {
            None | Some(Value::Null) if *name == "Subject" => continue,
            value => value?.as_str()?,
        };
        for piece in [*name, "\n", value, "\n"] {
            text.push_str(piece);
        }
    }
    Some(text)
}

/// "Verify HTTP push message signatures" of the Message Service, step 2. The body is in it by its
/// MD5, so that this must be there.
pub(super) fn alibaba_mns(head: &Parts, target: &str) -> Option<Vec<u8>> {
    let once = |name: &HeaderName| single(&head.headers, name);
    let media_type = if head.headers.contains_key(CONTENT_TYPE) {
        once(&CONTENT_TYPE)?.to_ascii_lowercase()
    } else {
        Vec::new()
    };
    let mut signed: Vec<_> = head
        .headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with(MNS_PREFIX))
        .collect();
    signed.sort_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
    let mut text = Vec::new();
    for line in [
        head.method.as_str().as_bytes(),
        once(&CONTENT_MD5)?,
        media_type.as_slice(),
        once(&DATE)?,
    ] {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    for (name, value) in signed {
        text.extend_from_slice(name.as_str().as_bytes());
        text.push(b':');
        text.extend_from_slice(value.as_bytes());
        text.push(b'\n');
    }
    text.extend_from_slice(target.as_bytes());
    Some(text)
}

fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then(|| first.as_bytes())
}
