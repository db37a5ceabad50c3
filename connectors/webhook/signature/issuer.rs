//! Issuers of tokens that say themselves where their keys are: OpenID Connect Discovery 1.0.

use serde::Deserialize;
use url::Host;

use super::hosts::{self, Address};
use super::scheme::Values;

/// Where an issuer's configuration is, behind its own address: section 4.
const CONFIGURATION: &str = "/.well-known/openid-configuration";

/// An issuer, and where its configuration is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::webhook) struct Issuer {
    name: String,
    pub(super) configuration: Address,
}

impl Issuer {
    /// The one issuer of tokens, if it is an address.
    ///
    /// # Errors
    /// There are several, or it is none.
    pub(super) fn of(issuers: &Values) -> Result<Self, String> {
        let [name] = issuers.0.as_slice() else {
            return Err("of several issuers none is asked where its keys are".to_owned());
        };
        // Section 4.1: a slash at the end of its path is left out.
        let address = hosts::own(&format!("{}{CONFIGURATION}", name.trim_end_matches('/')));
        // Section 3: neither query nor fragment.
        let address = address.ok().filter(|_| !name.contains(['?', '#']));
        let configuration = address.ok_or_else(|| {
            "the issuer is no https:// address that could be asked where its keys are".to_owned()
        })?;
        Ok(Self {
            name: name.clone(),
            configuration,
        })
    }

    /// Where its keys are, by its configuration. Inner addresses are reached only on the host that
    /// the settings name.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub(super) fn keys(&self, configuration: &[u8]) -> Result<Address, String> {
        /// Section 3.
        #[derive(Deserialize)]
        struct Configuration {
            issuer: String,
            jwks_uri: String,
        }
        let read: Configuration = serde_json::from_slice(configuration)
            .map_err(|_| "the answer has no issuer and jwks_uri of OpenID Connect".to_owned())?;
        // Section 4.3: else whoever may write a configuration anywhere on the host would be the
        // issuer.
        if read.issuer != self.name {
            return Err(format!(
                "the answer is the configuration of another issuer, `{}`",
                read.issuer.escape_debug()
            ));
        }
        let keys =
            hosts::own(&read.jwks_uri).map_err(|message| format!("its jwks_uri {message}"))?;
        let own_host = self
            .configuration
            .url
            .host()
            .map(|host: Host<&str>| host.to_owned());
        let is_private = keys.url.host().map(|host| host.to_owned()) == own_host;
        Ok(Address { is_private, ..keys })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer(name: &str) -> Result<Issuer, String> {
        Issuer::of(&Values(vec![name.to_owned()]))
    }

    #[test]
    fn the_configuration_lies_behind_the_issuers_address() {
        for (name, expect) in [
            (
                "https://idp.example",
                "https://idp.example/.well-known/openid-configuration",
            ),
            (
                "https://idp.example/",
                "https://idp.example/.well-known/openid-configuration",
            ),
            (
                "https://idp.example/realms/a/",
                "https://idp.example/realms/a/.well-known/openid-configuration",
            ),
            (
                "http://127.0.0.1:9000",
                "http://127.0.0.1:9000/.well-known/openid-configuration",
            ),
        ] {
            assert_eq!(issuer(name).unwrap().configuration.url.as_str(), expect);
        }
        for name in [
            "accounts.google.com",
            "http://idp.example",
            "https://idp.example?a",
            "https://idp.example#a",
            "https://a@idp.example",
            "",
        ] {
            assert!(issuer(name).is_err(), "{name}");
        }
        assert!(
            Issuer::of(&Values(vec![
                "https://a.example".into(),
                "https://b.example".into()
            ]))
            .is_err()
        );
    }

    #[test]
    fn the_keys_are_where_the_configuration_of_that_very_issuer_says() {
        let own = issuer("https://idp.example/a").unwrap();
        let keys = |issuer: &str, keys: &str| {
            own.keys(
                serde_json::json!({ "issuer": issuer, "jwks_uri": keys })
                    .to_string()
                    .as_bytes(),
            )
        };
        for (uri, is_private) in [
            ("https://idp.example/keys", true),
            ("https://idp.example:8443/keys", true),
            ("https://keys.example/a", false),
        ] {
            let address = keys("https://idp.example/a", uri).unwrap();
            assert_eq!(
                (address.url.as_str(), address.is_private),
                (uri, is_private)
            );
        }
        for (name, uri, told) in [
            (
                "https://idp.example/b",
                "https://idp.example/keys",
                "another issuer, `https://idp.example/b`",
            ),
            (
                "https://idp.example/a/",
                "https://idp.example/keys",
                "another issuer",
            ),
            (
                "https://idp.example/a",
                "http://idp.example/keys",
                "its jwks_uri is not https://",
            ),
            (
                "https://idp.example/a",
                "file:///etc/passwd",
                "its jwks_uri is not https://",
            ),
        ] {
            assert!(keys(name, uri).unwrap_err().contains(told), "{uri}");
        }
        assert!(own.keys(b"<html>").unwrap_err().contains("no issuer"));
    }
}
