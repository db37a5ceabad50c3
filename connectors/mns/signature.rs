//! The signature of a request:
//! <https://www.alibabacloud.com/help/en/mns/developer-reference/sign-requests>.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// What is signed of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signed<'r> {
    pub(super) method: &'r str,
    /// The header `Content-Type`.
    pub(super) content_type: &'r str,
    /// The header `Date`.
    pub(super) date: &'r str,
    /// The header `x-mns-version`, the only one of its kind here.
    pub(super) version: &'r str,
    /// Path and query as they are sent.
    pub(super) resource: &'r str,
}

impl Signed<'_> {
    /// The text that is signed. `Content-MD5`, which may be left out, is.
    fn text(self) -> String {
        let Self {
            method,
            content_type,
            date,
            version,
            resource,
        } = self;
        format!("{method}\n\n{content_type}\n{date}\nx-mns-version:{version}\n{resource}")
    }

    /// The signature.
    pub(super) fn sign(self, secret: &str) -> String {
        // A key of any length will do.
        let signed = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).map(|mut mac| {
            mac.update(self.text().as_bytes());
            BASE64_STANDARD.encode(mac.finalize().into_bytes())
        });
        signed.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_documentation() {
        // "How do I obtain the signature string of an API request", which hides the last four
        // characters.
        let signed = Signed {
            method: "GET",
            content_type: "",
            date: "Thu, 09 Jul 2015 03:01:34 GMT",
            version: "2015-06-06",
            resource: "/MyQueue",
        };
        assert_eq!(
            signed.text(),
            "GET\n\n\nThu, 09 Jul 2015 03:01:34 GMT\nx-mns-version:2015-06-06\n/MyQueue"
        );
        let signature = signed.sign("TestAccessSecret");
        assert!(
            signature.starts_with("uwx3yeWoILzgmvesW0BQSgfM"),
            "{signature}"
        );
        assert_eq!(signature.len(), "uwx3yeWoILzgmvesW0BQSgfM****".len());
    }
}
