//! Who calls: the headers of each call, and the signature that shows the keys
//! (`Signature.java` of the clients of Apache RocketMQ 5).

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue};
use pointsman_schemas::Timestamp;
use sha1::Sha1;

use crate::alibaba::{Keys, Signer};

const AUTHORIZATION: HeaderName = HeaderName::from_static("authorization");
const DATE_TIME: &str = "x-mq-date-time";
const DATE_TIME_HEADER: HeaderName = HeaderName::from_static(DATE_TIME);
const SESSION_TOKEN: HeaderName = HeaderName::from_static("x-mq-session-token");

/// Who calls.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    /// Differs from one connection's to the next.
    pub(super) client_id: String,
    pub(super) namespace: String,
    pub(super) signer: Option<Signer>,
}

impl Identity {
    /// One that nobody else has.
    pub(super) fn new(namespace: String, signer: Option<Signer>) -> Self {
        Self {
            client_id: format!("pointsman@{:032x}", rand::random::<u128>()),
            namespace,
            signer,
        }
    }

    /// The headers of a call at this moment.
    pub(super) fn headers(&self, now: Timestamp) -> HeaderMap {
        let time = date_time(now);
        let mut headers = HeaderMap::new();
        let mut put = |name: HeaderName, value: &str, is_secret: bool| {
            if let Ok(mut value) = HeaderValue::try_from(value) {
                value.set_sensitive(is_secret);
                headers.insert(name, value);
            }
        };
        let named = [
            ("x-mq-client-id", self.client_id.as_str()),
            ("x-mq-namespace", &self.namespace),
            ("x-mq-language", "RUST"),
            ("x-mq-protocol", "v2"),
            ("x-mq-client-version", env!("CARGO_PKG_VERSION")),
        ];
        for (name, value) in named {
            put(HeaderName::from_static(name), value, false);
        }
        put(DATE_TIME_HEADER, &time, false);
        if let Some(keys) = self.signer.as_ref().map(Signer::keys) {
            put(AUTHORIZATION, &authorization(&keys, &time), true);
            if let Some(token) = &keys.token {
                put(SESSION_TOKEN, token, true);
            }
        }
        headers
    }
}

/// `20261130T021500Z`.
fn date_time(now: Timestamp) -> String {
    let now = jiff::Timestamp::from_microsecond(now.0).unwrap_or_default();
    now.strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn authorization(keys: &Keys, time: &str) -> String {
    let id = &keys.id;
    // HMAC takes keys of any length.
    let signature = Hmac::<Sha1>::new_from_slice(keys.secret.as_bytes())
        .map(|mac| hex::encode_upper(mac.chain_update(time).finalize().into_bytes()))
        .unwrap_or_default();
    format!("MQv2-HMAC-SHA1 Credential={id}, SignedHeaders={DATE_TIME}, Signature={signature}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_time() {
        let keys = Keys {
            id: "app".to_owned(),
            secret: "hunter2".to_owned(),
            token: None,
        };
        let time = date_time(Timestamp(1_796_004_900_000_000));
        assert_eq!(time, "20261130T021500Z");
        // printf 20261130T021500Z | openssl dgst -sha1 -hmac hunter2
        let expect = "MQv2-HMAC-SHA1 Credential=app, SignedHeaders=x-mq-date-time, \
                      Signature=806104C36E2FAADD80058A8F8B71C33878E43F4C";
        assert_eq!(authorization(&keys, &time), expect);
    }
}
