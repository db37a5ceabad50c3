//! The settings of a connection to a database: their mistakes, and what they resolve to.

use std::sync::Arc;

use pointsman_schemas::{Problem, Text};
use rustls::ClientConfig;

use crate::OpenError;
use crate::net::server::{Parts, Protocol};
use crate::net::stream::Host;
use crate::net::tls::TlsSettings;
use crate::parameter::resolve;

/// What a user may write where a server is named.
#[derive(Clone, Copy, Debug)]
pub(crate) struct System {
    /// The URL without the parameters behind it.
    pub(crate) protocol: Protocol,
    /// What is said to who writes another one.
    pub(crate) example: &'static str,
    /// What is said where nobody logs in.
    pub(crate) nobody: &'static str,
    pub(crate) modes: Modes,
}

/// The parameters of a URL: whether TLS is spoken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Modes {
    pub(crate) plain: &'static str,
    pub(crate) secure: &'static [&'static str],
    /// What is said of any other.
    pub(crate) unknown: &'static str,
}

/// How a connection is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerSettings<'s> {
    pub(crate) url: &'s Text,
    pub(crate) username: Option<&'s Text>,
    pub(crate) password: Option<&'s Text>,
    pub(crate) tls: Option<&'s TlsSettings>,
}

/// Where a server is and who logs in. It holds secrets and shows none.
pub(crate) struct Login {
    pub(crate) host: Host,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) shows_certificate: bool,
    pub(crate) database: String,
    pub(crate) user: String,
    pub(crate) password: Option<String>,
}

impl System {
    /// Reads a URL, and whether it asks for TLS where it says so.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(&self, url: &str) -> Result<(Parts, Option<bool>), String> {
        let (address, parameters) = match url.split_once('?') {
            Some((address, parameters)) => (address, Some(parameters)),
            None => (url, None),
        };
        let parts = self.protocol.parse(address)?;
        let is = |mode: &str, parameters: &str| mode.eq_ignore_ascii_case(parameters);
        let is_secure = match parameters {
            None => None,
            Some(mode) if is(self.modes.plain, mode) => Some(false),
            Some(mode) if self.modes.secure.iter().any(|known| is(known, mode)) => Some(true),
            Some(_) => return Err(self.modes.unknown.to_owned()),
        };
        Ok((parts, is_secure))
    }

    fn at_url(&self, mistake: String) -> Problem {
        Problem::new(mistake).help(self.example).at("url")
    }
}

impl ServerSettings<'_> {
    /// Every mistake that can be found without resolving a text.
    pub(crate) fn check(&self, system: &System) -> Vec<Problem> {
        let mut problems = Vec::new();
        match self.url.literal().map(|url| system.parse(url)) {
            Some(Err(mistake)) => problems.push(system.at_url(mistake)),
            Some(Ok((parts, _))) if parts.password.is_some() => {
                let mistake = "a URL that is written out must not hold a password";
                let help =
                    "write password: { env: NAME }, or take the whole URL from { env: NAME }";
                problems.push(Problem::new(mistake).help(help).at("url"));
            }
            Some(Ok((parts, _))) if parts.user.is_none() && self.username.is_none() => {
                let mistake = "it is not said who logs in";
                problems.push(Problem::new(mistake).help(system.nobody).at("username"));
            }
            Some(Ok((_, Some(false)))) if self.tls.is_some() => {
                let plain = system.modes.plain;
                let mistake = format!("certificates are of no use with {plain}");
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
    pub(crate) fn resolve(&self, system: &System) -> Result<Login, OpenError> {
        let url = resolve(self.url, &["url".into()])?;
        let parsed = system.parse(url.trim());
        let parsed = parsed.map_err(|mistake| OpenError(system.at_url(mistake)));
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
        Ok(Login {
            host: parts.host,
            tls,
            shows_certificate: TlsSettings::shows_certificate(self.tls),
            database: parts.path,
            user: user.ok_or_else(nobody)?,
            password: text(self.password, "password")?.or(parts.password),
        })
    }
}
