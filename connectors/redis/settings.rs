//! The settings of a connection: their mistakes, and the address that they resolve to.

use percent_encoding::percent_decode_str;
use pointsman_schemas::{Problem, Text};
use url::Url;

use super::client::Address;
use crate::OpenError;
use crate::files::Files;
use crate::net::stream::Host;
use crate::net::tls::TlsSettings;
use crate::parameter::resolve;

/// What a user may write.
const EXAMPLE: &str = "write one such as redis://127.0.0.1:6379";

/// The port of a server that names none.
const PORT: u16 = 6379;

/// The settings of a source or a target that say how to connect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection<'s> {
    pub(super) url: &'s Text,
    pub(super) username: Option<&'s Text>,
    pub(super) password: Option<&'s Text>,
    pub(super) tls: Option<&'s TlsSettings>,
}

/// The parts of a URL.
#[derive(Debug, PartialEq, Eq)]
struct Parts {
    is_secure: bool,
    host: Host,
    database: i64,
    user: Option<String>,
    password: Option<String>,
}

impl Parts {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let url = Url::parse(text).map_err(|_| "the URL cannot be read")?;
        let is_secure = match url.scheme() {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            _ => return Err("the URL must begin with redis:// or rediss://"),
        };
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or("the URL names no host")?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err("options have settings of their own, beside the URL");
        }
        let database = match url.path().trim_start_matches('/') {
            "" => 0,
            number => number
                .parse()
                .ok()
                .filter(|number| *number >= 0)
                .ok_or("behind the host stands the number of a database, or nothing")?,
        };
        let decode = |part: &str| {
            percent_decode_str(part)
                .decode_utf8()
                .map(String::from)
                .map_err(|_| "the URL is not UTF-8")
        };
        let user = Some(url.username()).filter(|user| !user.is_empty());
        Ok(Self {
            is_secure,
            host: Host {
                name: host
                    .trim_start_matches('[')
                    .trim_end_matches(']')
                    .to_owned(),
                port: url.port().unwrap_or(PORT),
            },
            database,
            user: user.map(decode).transpose()?,
            password: url.password().map(decode).transpose()?,
        })
    }
}

impl Connection<'_> {
    /// Every mistake that can be found without resolving a text.
    pub(super) fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        match self.url.literal().map(Parts::parse) {
            Some(Err(mistake)) => problems.push(Problem::new(mistake).help(EXAMPLE).at("url")),
            Some(Ok(parts)) if parts.user.is_some() || parts.password.is_some() => {
                let mistake = "a URL that is written out must not hold a user or a password";
                let help = "write username: … and password: { env: NAME }, or take the whole URL \
                            from { env: NAME }";
                problems.push(Problem::new(mistake).help(help).at("url"));
            }
            Some(Ok(parts)) if !parts.is_secure && self.tls.is_some() => {
                let mistake = "certificates are of use with rediss:// alone";
                problems.push(Problem::new(mistake).at("tls"));
            }
            Some(Ok(_)) | None => {}
        }
        if self.username.is_some() && self.password.is_none() {
            let problem = Problem::new("there is a user and no password");
            problems.push(problem.help("write password, too").at("username"));
        }
        problems.extend(TlsSettings::check(self.tls));
        problems
    }

    /// The files that they are taken from.
    pub(super) fn files(&self) -> Files {
        let user = self.username.into_iter().chain(self.password);
        let texts = [self.url].into_iter().chain(user);
        Files::of(texts.chain(TlsSettings::texts(self.tls)))
    }

    /// Resolves the texts.
    pub(super) fn resolve(&self) -> Result<Address, OpenError> {
        let url = resolve(self.url, &["url".into()])?;
        let parts = Parts::parse(url.trim())
            .map_err(|mistake| OpenError(Problem::new(mistake).help(EXAMPLE).at("url")))?;
        let text = |text: Option<&Text>, key: &str| {
            text.map(|text| resolve(text, &[key.into()])).transpose()
        };
        let tls = match parts.is_secure {
            true => Some(TlsSettings::config(self.tls)?),
            false => None,
        };
        Ok(Address {
            host: parts.host,
            tls,
            shows_certificate: TlsSettings::shows_certificate(self.tls),
            database: parts.database,
            user: text(self.username, "username")?.or(parts.user),
            password: text(self.password, "password")?.or(parts.password),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let parts = |is_secure, host: &str, port, database| Parts {
            is_secure,
            host: Host {
                name: host.to_owned(),
                port,
            },
            database,
            user: None,
            password: None,
        };
        for (url, expect) in [
            ("redis://127.0.0.1", Ok(parts(false, "127.0.0.1", 6379, 0))),
            ("valkey://h:1/", Ok(parts(false, "h", 1, 0))),
            (
                "rediss://h.example/15",
                Ok(parts(true, "h.example", 6379, 15)),
            ),
            ("redis://[::1]:7", Ok(parts(false, "::1", 7, 0))),
            (
                "redis://u:p%40@h",
                Ok(Parts {
                    user: Some("u".to_owned()),
                    password: Some("p@".to_owned()),
                    ..parts(false, "h", 6379, 0)
                }),
            ),
            (
                "redis://:p@h",
                Ok(Parts {
                    password: Some("p".to_owned()),
                    ..parts(false, "h", 6379, 0)
                }),
            ),
            ("redis://", Err("the URL names no host")),
            ("redis:///0", Err("the URL names no host")),
            ("127.0.0.1:6379", Err("the URL cannot be read")),
            (
                "http://h",
                Err("the URL must begin with redis:// or rediss://"),
            ),
            (
                "redis://h/orders",
                Err("behind the host stands the number of a database, or nothing"),
            ),
            (
                "redis://h/-1",
                Err("behind the host stands the number of a database, or nothing"),
            ),
            (
                "redis://h?db=1",
                Err("options have settings of their own, beside the URL"),
            ),
        ] {
            assert_eq!(Parts::parse(url), expect, "{url}");
        }
    }
}
