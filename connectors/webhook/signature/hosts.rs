//! Hosts that keys may be fetched from.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};
use url::{Host, Url};

/// The longest address that a sender may name.
const URL_BYTES_MAX: usize = 2_048;

/// What stands for the name of a region, such as `us-gov-west-1`. A plain `*` would also take
/// `s3-us-west-2`, where anybody may own a name.
const REGION: &str = "{region}";

/// A host: `api.example.com`; `*.example.com` with any one label; `{region}` where a cloud's region
/// stands; or an origin such as `http://127.0.0.1:9000`, which alone may be without TLS, and only
/// on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    text: String,
    origin: Option<Url>,
}

/// An address that passed, and whether its host was written out by the operator as one of his own
/// network.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::webhook) struct Address {
    pub(super) url: Url,
    pub(super) is_private: bool,
}

impl HostPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.contains("://") {
            let origin =
                Url::parse(text).map_err(|error| format!("`{text}` is no address: {error}"))?;
            let bare = origin.path() == "/"
                && origin.query().is_none()
                && origin.username().is_empty()
                && origin.password().is_none();
            if !bare || !is_secure(&origin) {
                return Err(format!(
                    "`{text}` is not https://host:port; without TLS only this machine may be \
                     asked, by http://127.0.0.1:port"
                ));
            }
            return Ok(Self {
                text: text.to_owned(),
                origin: Some(origin),
            });
        }
        let plain = text.replace(REGION, "r").replace('*', "s");
        let labels = plain.split('.').all(|label| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        });
        if !labels
            || text
                .split('.')
                .any(|label| label.matches(['*', '{']).count() > 1)
            || text
                .split('.')
                .rev()
                .take(2)
                .any(|label| label.contains('*'))
        {
            return Err(format!(
                "`{text}` is not a host such as keys.example.com or *.keys.example.com"
            ));
        }
        Ok(Self {
            text: text.to_ascii_lowercase(),
            origin: None,
        })
    }

    fn fits(&self, url: &Url) -> bool {
        if let Some(origin) = &self.origin {
            return origin.origin() == url.origin();
        }
        let Some(host) = url
            .host_str()
            .filter(|_| url.scheme() == "https" && url.port().is_none())
        else {
            return false;
        };
        is_host_of(&self.text, host)
    }

    /// Whether a name in a certificate is one of these hosts.
    pub(super) fn names(&self, name: &str) -> bool {
        is_host_of(&self.text, &name.to_ascii_lowercase())
    }

    /// Whether it is an address of the operator's own network, by being spelled out.
    fn is_private(&self) -> bool {
        match self.origin.as_ref().and_then(Url::host) {
            Some(Host::Ipv4(_) | Host::Ipv6(_)) => true,
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        }
    }
}

/// The address that a text names, where one of the hosts allows it. Where `upgrade` is set, `http:`
/// is read as `https:`.
///
/// # Errors
/// Why it is not taken, in words for the sender.
pub(super) fn allowed(text: &str, hosts: &[HostPattern], upgrade: bool) -> Result<Address, String> {
    let refuse =
        || "the address of the signer's certificate is not on a host that is allowed".to_owned();
    if text.len() > URL_BYTES_MAX {
        return Err(refuse());
    }
    let mut url = Url::parse(text.trim()).map_err(|_| refuse())?;
    // Whom a name and password would be shown to is nobody's business here, and a fragment is not
    // part of what is fetched.
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse());
    }
    url.set_fragment(None);
    let by_origin = hosts
        .iter()
        .find(|host| host.origin.is_some() && host.fits(&url));
    if by_origin.is_none() && upgrade && url.scheme() == "http" && url.port().is_none() {
        url.set_scheme("https").map_err(|()| refuse())?;
    }
    let host = hosts
        .iter()
        .find(|host| host.fits(&url))
        .ok_or_else(refuse)?;
    Ok(Address {
        is_private: host.is_private(),
        url,
    })
}

/// An address that the operator has written: by TLS, or on this machine.
///
/// # Errors
/// What is wrong with it.
pub(super) fn own(text: &str) -> Result<Address, String> {
    let url = Url::parse(text)
        .ok()
        .filter(|url| url.host().is_some() && is_secure(url) && url.username().is_empty());
    url.map(|url| Address {
        url,
        is_private: true,
    })
    .ok_or_else(|| {
        "is not https://…; without TLS only this machine may be asked, by http://127.0.0.1:port/…"
            .to_owned()
    })
}

fn is_secure(url: &Url) -> bool {
    match (url.scheme(), url.host()) {
        ("https", Some(_)) => true,
        ("http", Some(Host::Ipv4(address))) => address.is_loopback(),
        ("http", Some(Host::Ipv6(address))) => address.is_loopback(),
        ("http", Some(Host::Domain(name))) => name == "localhost",
        _ => false,
    }
}

fn is_host_of(pattern: &str, host: &str) -> bool {
    let (mut patterns, mut labels) = (pattern.split('.'), host.split('.'));
    loop {
        match (patterns.next(), labels.next()) {
            (None, None) => return true,
            (Some(pattern), Some(label)) if is_label_of(pattern, label) => {}
            _ => return false,
        }
    }
}

fn is_label_of(pattern: &str, label: &str) -> bool {
    let (wild, is_region) = if pattern.contains(REGION) {
        (REGION, true)
    } else {
        ("*", false)
    };
    let Some((before, after)) = pattern.split_once(wild) else {
        return pattern == label;
    };
    let Some(middle) = label
        .strip_prefix(before)
        .and_then(|rest| rest.strip_suffix(after))
    else {
        return false;
    };
    if is_region {
        is_region_name(middle)
    } else {
        !middle.is_empty()
    }
}

/// Two letters, words, and perhaps a number: `us-east-1`, `cn-hangzhou`.
fn is_region_name(text: &str) -> bool {
    let is_word =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_number = |part: &str| {
        (1..=2).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    let Some((country, rest)) = text.split_once('-') else {
        return false;
    };
    let (words, last) = rest
        .rsplit_once('-')
        .map_or((None, rest), |(words, last)| (Some(words), last));
    let words_are = words.is_none_or(|words| words.split('-').all(is_word));
    country.len() == 2
        && is_word(country)
        && words_are
        && (is_word(last) || words.is_some() && is_number(last))
}

impl<'de> Deserialize<'de> for HostPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

impl JsonSchema for HostPattern {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "HostPattern".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<HostPattern> {
        texts
            .iter()
            .map(|text| HostPattern::parse(text).unwrap())
            .collect()
    }

    #[test]
    fn only_the_hosts_that_are_allowed_are_asked() {
        let sns = patterns(&[
            "sns.{region}.amazonaws.com",
            "sns.{region}.amazonaws.com.cn",
        ]);
        for fits in [
            "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem",
            "https://SNS.us-gov-west-1.amazonaws.com/x.pem",
            "https://sns.cn-north-1.amazonaws.com.cn/x.pem",
            "https://sns.ap-southeast-2.amazonaws.com:443/x.pem",
        ] {
            assert!(allowed(fits, &sns, false).is_ok(), "{fits}");
        }
        for other in [
            "http://sns.us-east-1.amazonaws.com/x.pem",
            "https://sns.us-east-1.amazonaws.com:8443/x.pem",
            "https://u:p@sns.us-east-1.amazonaws.com/x.pem",
            "https://sns.us-east-1.amazonaws.com@evil.example/x.pem",
            "https://sns.us-east-1.amazonaws.com.evil.example/x.pem",
            "https://evil.example/sns.us-east-1.amazonaws.com/x.pem",
            "https://evil.example#sns.us-east-1.amazonaws.com/x.pem",
            "https://evilsns.us-east-1.amazonaws.com/x.pem",
            // Buckets and functions have names of their owner's choice.
            "https://sns.s3.amazonaws.com/x.pem",
            "https://sns.s3-us-west-2.amazonaws.com/x.pem",
            "https://a.sns.us-east-1.amazonaws.com/x.pem",
            "https://sns.amazonaws.com/x.pem",
            "https://sns..amazonaws.com/x.pem",
            "https://169.254.169.254/x.pem",
            "file:///etc/passwd",
            "gopher://sns.us-east-1.amazonaws.com/x.pem",
            "not an address",
            "",
        ] {
            assert!(allowed(other, &sns, false).is_err(), "{other}");
        }
        let long = format!(
            "https://sns.us-east-1.amazonaws.com/{}",
            "x".repeat(URL_BYTES_MAX)
        );
        assert!(allowed(&long, &sns, false).is_err());
        let alibaba = patterns(&["*-eventbridge.oss-accelerate.aliyuncs.com"]);
        assert!(
            allowed(
                "https://cn-hangzhou-eventbridge.oss-accelerate.aliyuncs.com/c.pem",
                &alibaba,
                false
            )
            .is_ok()
        );
        assert!(
            allowed(
                "https://a.b-eventbridge.oss-accelerate.aliyuncs.com/c.pem",
                &alibaba,
                false
            )
            .is_err()
        );
        assert!(
            allowed(
                "https://-eventbridge.oss-accelerate.aliyuncs.com/c.pem",
                &alibaba,
                false
            )
            .is_err()
        );
    }

    #[test]
    fn tls_is_left_out_on_this_machine_alone() {
        let local = patterns(&["http://127.0.0.1:9000", "keys.example.com"]);
        assert!(
            allowed("http://127.0.0.1:9000/x.pem", &local, false)
                .unwrap()
                .is_private
        );
        for other in [
            "http://127.0.0.1:9001/x.pem",
            "http://127.0.0.1/x.pem",
            "http://keys.example.com/x.pem",
        ] {
            assert!(allowed(other, &local, false).is_err(), "{other}");
        }
        let upgraded = allowed("http://keys.example.com/x.pem", &local, true).unwrap();
        assert_eq!(
            (upgraded.url.as_str(), upgraded.is_private),
            ("https://keys.example.com/x.pem", false)
        );
        for bad in [
            "http://keys.example.com",
            "http://10.0.0.1",
            "https://a.example/path",
            "*.com",
            "*",
            "a..b",
            "**.example.com",
            "a b.example.com",
            "",
        ] {
            assert!(HostPattern::parse(bad).is_err(), "{bad}");
        }
        assert!(
            own("https://idp.internal/keys").is_ok()
                && own("http://localhost:8080/keys").is_ok()
                && own("http://[::1]:8080/keys").is_ok()
        );
        for bad in [
            "http://idp.internal/keys",
            "ftp://a.example/",
            "keys",
            "https://u:p@a.example/",
        ] {
            assert!(own(bad).is_err(), "{bad}");
        }
    }
}
