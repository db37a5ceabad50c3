//! The signature of a request, ACS3-HMAC-SHA256:
//! <https://www.alibabacloud.com/help/en/sdk/product-overview/v3-request-structure-and-signature>.

use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

const ALGORITHM: &str = "ACS3-HMAC-SHA256";

/// What is signed of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signed<'r> {
    pub(super) method: &'r str,
    /// The path, percent-encoded.
    pub(super) path: &'r str,
    /// The query, its parameters percent-encoded and in their order.
    pub(super) query: &'r str,
    /// Headers by their names in lower case, in their order.
    pub(super) headers: &'r [(&'static str, String)],
    /// The body's hash, which stands in `x-acs-content-sha256` as well.
    pub(super) content: &'r str,
}

/// The hash of a body.
pub(super) fn hash(body: &[u8]) -> String {
    hex::encode(Sha256::digest(body))
}

impl Signed<'_> {
    /// The names of what is signed.
    fn names(self) -> String {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| *name).collect();
        names.join(";")
    }

    fn canonical(self) -> String {
        let mut text = format!("{}\n{}\n{}\n", self.method, self.path, self.query);
        for (name, value) in self.headers {
            let _infallible = writeln!(text, "{name}:{}", value.trim());
        }
        let _infallible = write!(text, "\n{}\n{}", self.names(), self.content);
        text
    }

    /// The header `Authorization`.
    pub(super) fn authorization(self, id: &str, secret: &str) -> String {
        let text = format!("{ALGORITHM}\n{}", hash(self.canonical().as_bytes()));
        // A key of any length will do.
        let signature = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map(|mut mac| {
            mac.update(text.as_bytes());
            hex::encode(mac.finalize().into_bytes())
        });
        format!(
            "{ALGORITHM} Credential={id},SignedHeaders={},Signature={}",
            self.names(),
            signature.unwrap_or_default()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_documentation() {
        let empty = hash(b"");
        let headers = [
            ("host", "ecs.cn-shanghai.aliyuncs.com"),
            ("x-acs-action", "RunInstances"),
            ("x-acs-content-sha256", &empty),
            ("x-acs-date", "2023-10-26T10:22:32Z"),
            ("x-acs-signature-nonce", "3156853299f313e23d1673dc12e1703d"),
            ("x-acs-version", "2014-05-26"),
        ]
        .map(|(name, value)| (name, value.to_owned()));
        let signed = Signed {
            method: "POST",
            path: "/",
            query: "ImageId=win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd&RegionId=cn-shanghai",
            headers: &headers,
            content: &empty,
        };
        assert_eq!(
            hash(signed.canonical().as_bytes()),
            "7ea06492da5221eba5297e897ce16e55f964061054b7695beedaac1145b1e259"
        );
        assert_eq!(
            signed.authorization("YourAccessKeyId", "YourAccessKeySecret"),
            "ACS3-HMAC-SHA256 Credential=YourAccessKeyId,\
             SignedHeaders=host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version,\
             Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
        );
    }
}
