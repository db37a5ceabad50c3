//! The settings of a connection: their mistakes, and the address that they resolve to.

use pointsman_schemas::{Problem, Text};

use super::wire::Address;
use crate::OpenError;
use crate::net::server::{Parts, Protocol};
use crate::net::tls::TlsSettings;
use crate::parameter::resolve;

/// What a user may write, without the parameters behind it.
const PROTOCOL: Protocol = Protocol {
    plain: &["postgres", "postgresql"],
    secure: &[],
    ports: (5432, 5432),
    check_path: |path| match path.is_empty() || path.contains('/') {
        true => Err("the URL names no database: postgres://host/database"),
        false => Ok(()),
    },
};

/// How a connection is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerSettings<'s> {
    pub(super) url: &'s Text,
    pub(super) username: Option<&'s Text>,
    pub(super) password: Option<&'s Text>,
    pub(super) tls: Option<&'s TlsSettings>,
}

/// A URL, and whether it asks for TLS where it says so.
fn parse(url: &str) -> Result<(Parts, Option<bool>), String> {
    let (address, parameters) = match url.split_once('?') {
        Some((address, parameters)) => (address, Some(parameters)),
        None => (url, None),
    };
    let parts = PROTOCOL.parse(address)?;
    let is_secure = match parameters {
        None => None,
        Some("sslmode=disable") => Some(false),
        // What trusts anybody is not there.
        Some("sslmode=require" | "sslmode=verify-ca" | "sslmode=verify-full") => Some(true),
        Some(_) => {
            return Err(
                "of the URL's parameters only sslmode=disable, require and verify-full are known"
                    .to_owned(),
            );
        }
    };
    Ok((parts, is_secure))
}

fn at_url(mistake: String) -> Problem {
    let help = "write one such as postgres://127.0.0.1/shop";
    Problem::new(mistake).help(help).at("url")
}

impl ServerSettings<'_> {
    /// Every mistake that can be found without resolving a text.
    pub(super) fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        match self.url.literal().map(parse) {
            Some(Err(mistake)) => problems.push(at_url(mistake)),
            Some(Ok((parts, _))) if parts.password.is_some() => {
                let mistake = "a URL that is written out must not hold a password";
                let help =
                    "write password: { env: NAME }, or take the whole URL from { env: NAME }";
                problems.push(Problem::new(mistake).help(help).at("url"));
            }
            Some(Ok((parts, _))) if parts.user.is_none() && self.username.is_none() => {
                let mistake = "it is not said who logs in";
                let help = "write username: …, or postgres://user@host/database";
                problems.push(Problem::new(mistake).help(help).at("username"));
            }
            Some(Ok((_, Some(false)))) if self.tls.is_some() => {
                let mistake = "certificates are of no use with sslmode=disable";
                problems.push(Problem::new(mistake).at("tls"));
            }
            Some(Ok(_)) | None => {}
        }
        problems.extend(TlsSettings::check(self.tls));
        problems
    }

    /// Resolves the texts.
    ///
    /// # Errors
    /// One is missing or wrong, by its setting.
    pub(super) fn resolve(&self) -> Result<Address, OpenError> {
        let url = resolve(self.url, &["url".into()])?;
        let parsed = parse(url.trim()).map_err(|mistake| OpenError(at_url(mistake)));
        let (parts, is_secure) = parsed?;
        let text = |text: Option<&Text>, key: &str| {
            text.map(|text| resolve(text, &[key.into()])).transpose()
        };
        let tls = match is_secure.unwrap_or(self.tls.is_some()) {
            true => Some(TlsSettings::config(self.tls)?),
            false => None,
        };
        let user = text(self.username, "username")?.or(parts.user);
        let nobody = || OpenError(Problem::new("it is not said who logs in").at("username"));
        Ok(Address {
            host: parts.host,
            tls,
            shows_certificate: TlsSettings::shows_certificate(self.tls),
            database: parts.path,
            user: user.ok_or_else(nobody)?,
            password: text(self.password, "password")?.or(parts.password),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (url, expect) in [
            ("postgres://h/shop", Ok((5432, "shop", None))),
            (
                "postgresql://u@h:6/shop?sslmode=disable",
                Ok((6, "shop", Some(false))),
            ),
            (
                "postgres://h/shop?sslmode=require",
                Ok((5432, "shop", Some(true))),
            ),
            (
                "postgres://h/shop?sslmode=verify-full",
                Ok((5432, "shop", Some(true))),
            ),
            (
                "postgres://h/shop?sslmode=prefer",
                Err(
                    "of the URL's parameters only sslmode=disable, require and verify-full are known",
                ),
            ),
            (
                "postgres://h",
                Err("the URL names no database: postgres://host/database"),
            ),
            ("mysql://h/shop", Err("the URL must begin with postgres://")),
            ("h/shop", Err("the URL cannot be read")),
        ] {
            let found = parse(url);
            let found = found
                .as_ref()
                .map(|(parts, is_secure)| (parts.host.port, parts.path.as_str(), *is_secure));
            assert_eq!(found.map_err(String::as_str), expect, "{url}");
        }
    }
}
