//! Where a server is and who logs in, as a rule file has them, for protocols that are not HTTP.

use std::sync::Arc;

use percent_encoding::percent_decode_str;
use pointsman_schemas::{Problem, Text};
use rustls::ClientConfig;
use url::Url;

use super::stream::Host;
use super::tls::TlsSettings;
use crate::OpenError;
use crate::files::Files;
use crate::parameter::resolve;

/// What the URLs of a protocol look like, and what is said of those that do not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Protocol {
    /// The schemes without TLS, the first of which is shown.
    pub(crate) plain: &'static [&'static str],
    /// The schemes with TLS, the first of which is shown.
    pub(crate) secure: &'static [&'static str],
    /// The port of a server that names none, and the one with TLS.
    pub(crate) ports: (u16, u16),
    /// What is wrong with a path, which begins without a slash; most have none.
    pub(crate) check_path: fn(&str) -> Result<(), &'static str>,
}

/// The settings of a source or a target that say how to connect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerSettings<'s> {
    pub(crate) url: &'s Text,
    pub(crate) username: Option<&'s Text>,
    pub(crate) password: Option<&'s Text>,
    pub(crate) tls: Option<&'s TlsSettings>,
}

/// A server and who logs in. It holds secrets and shows none.
pub(crate) struct Server {
    pub(crate) host: Host,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) shows_certificate: bool,
    pub(crate) path: String,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
}

/// The parts of a URL.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) is_secure: bool,
    pub(crate) host: Host,
    pub(crate) path: String,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
}

fn first<'t>(schemes: &[&'t str]) -> &'t str {
    schemes.first().copied().unwrap_or_default()
}

impl Protocol {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it, without what it holds.
    pub(crate) fn parse(&self, text: &str) -> Result<Parts, String> {
        let url = Url::parse(text).map_err(|_| "the URL cannot be read")?;
        let is_secure = match url.scheme() {
            scheme if self.plain.contains(&scheme) => false,
            scheme if self.secure.contains(&scheme) => true,
            _ => {
                let schemes = [first(self.plain), first(self.secure)];
                let schemes = schemes.into_iter().filter(|scheme| !scheme.is_empty());
                let schemes: Vec<_> = schemes.map(|scheme| format!("{scheme}://")).collect();
                return Err(format!("the URL must begin with {}", schemes.join(" or ")));
            }
        };
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or("the URL names no host")?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err("options have settings of their own, beside the URL".to_owned());
        }
        let path = url.path().trim_start_matches('/');
        (self.check_path)(path)?;
        let decode = |part: &str| {
            percent_decode_str(part)
                .decode_utf8()
                .map(String::from)
                .map_err(|_| "the URL is not UTF-8")
        };
        let user = Some(url.username()).filter(|user| !user.is_empty());
        let port = if is_secure {
            self.ports.1
        } else {
            self.ports.0
        };
        Ok(Parts {
            is_secure,
            host: Host {
                name: host
                    .trim_start_matches('[')
                    .trim_end_matches(']')
                    .to_owned(),
                port: url.port().unwrap_or(port),
            },
            path: path.to_owned(),
            user: user.map(decode).transpose()?,
            password: url.password().map(decode).transpose()?,
        })
    }

    fn problem(&self, mistake: String) -> Problem {
        let (scheme, port) = (first(self.plain), self.ports.0);
        let example = format!("write one such as {scheme}://127.0.0.1:{port}");
        Problem::new(mistake).help(example).at("url")
    }
}

impl ServerSettings<'_> {
    /// Every mistake that can be found without resolving a text.
    pub(crate) fn check(&self, protocol: &Protocol) -> Vec<Problem> {
        let mut problems = Vec::new();
        match self.url.literal().map(|url| protocol.parse(url)) {
            Some(Err(mistake)) => problems.push(protocol.problem(mistake)),
            Some(Ok(parts)) if parts.user.is_some() || parts.password.is_some() => {
                let mistake = "a URL that is written out must not hold a user or a password";
                let help = "write username: … and password: { env: NAME }, or take the whole URL \
                            from { env: NAME }";
                problems.push(Problem::new(mistake).help(help).at("url"));
            }
            Some(Ok(parts)) if !parts.is_secure && self.tls.is_some() => {
                let secure = first(protocol.secure);
                let mistake = format!("certificates are of use with {secure}:// alone");
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
    pub(crate) fn files(&self) -> Files {
        let user = self.username.into_iter().chain(self.password);
        let texts = [self.url].into_iter().chain(user);
        Files::of(texts.chain(TlsSettings::texts(self.tls)))
    }

    /// Resolves the texts.
    ///
    /// # Errors
    /// One is missing or wrong, by its setting.
    pub(crate) fn resolve(&self, protocol: &Protocol) -> Result<Server, OpenError> {
        let url = resolve(self.url, &["url".into()])?;
        let parts = protocol
            .parse(url.trim())
            .map_err(|mistake| OpenError(protocol.problem(mistake)))?;
        let text = |text: Option<&Text>, key: &str| {
            text.map(|text| resolve(text, &[key.into()])).transpose()
        };
        let tls = match parts.is_secure {
            true => Some(TlsSettings::config(self.tls)?),
            false => None,
        };
        Ok(Server {
            host: parts.host,
            tls,
            shows_certificate: TlsSettings::shows_certificate(self.tls),
            path: parts.path,
            user: text(self.username, "username")?.or(parts.user),
            password: text(self.password, "password")?.or(parts.password),
        })
    }
}
