//! The settings of a connection to a database: their mistakes, and what they resolve to.

use std::sync::Arc;

use pointsman_schemas::{Problem, Text};
use rustls::ClientConfig;

use crate::OpenError;
use crate::net::Names;
use crate::net::explain::explain;
use crate::net::fault::{self, Advice};
use crate::net::guard::Guard;
use crate::net::server::{Parts, Protocol, ServerSettings};
use crate::net::stream::{self, Host, Stream, secured};
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
    /// What a server is called in the middle of a sentence.
    pub(crate) called: &'static str,
    /// What to do where none is reached.
    pub(crate) runs: &'static str,
    /// What is said and done about each fault on the way to one.
    pub(crate) faults: fault::Settings,
}

/// The parameters of a URL: whether TLS is spoken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Modes {
    pub(crate) plain: &'static str,
    pub(crate) secure: &'static [&'static str],
    /// What is said of any other.
    pub(crate) unknown: &'static str,
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

impl Login {
    /// Connects, without TLS.
    ///
    /// # Errors
    /// Why that is not possible, in words.
    pub(crate) async fn connect(&self) -> Result<Stream, String> {
        // The operator names the address, and no event has a part in it.
        let guard = Guard {
            allow_private_addresses: true,
        };
        let connected = stream::connect(&self.host, None, guard, Names::default()).await;
        connected.map_err(|error| explain(&*error))
    }

    /// Speaks TLS over a connection.
    ///
    /// # Errors
    /// Why that is not possible, in words.
    pub(crate) async fn secure(
        &self,
        plain: Stream,
        tls: Arc<ClientConfig>,
    ) -> Result<Stream, String> {
        let secured = secured(plain, &self.host.name, tls).await;
        secured.map_or_else(
            |error| Err(explain(&*error)),
            |secured| Ok(Box::new(secured) as Stream),
        )
    }
}

impl System {
    /// What is wrong on the way to a server, in these words.
    pub(crate) fn unreachable(&self, login: &Login, words: &str) -> Problem {
        let advice = fault::advice(words, &self.faults, login.shows_certificate);
        let Advice { at, what, help } = advice.unwrap_or_else(|| Advice {
            at: "url",
            what: words.to_owned(),
            help: self.runs,
        });
        let message = format!(
            "cannot connect to {} at {}: {what}",
            self.called, login.host
        );
        Problem::new(message).help(help).at(at)
    }

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

    /// Every mistake of settings that can be found without resolving a text.
    pub(crate) fn check(&self, settings: &ServerSettings<'_>) -> Vec<Problem> {
        let mut problems = Vec::new();
        match settings.url.literal().map(|url| self.parse(url)) {
            Some(Err(mistake)) => problems.push(self.at_url(mistake)),
            Some(Ok((parts, _))) if parts.password.is_some() => {
                let mistake = "a URL that is written out must not hold a password";
                let help =
                    "write password: { env: NAME }, or take the whole URL from { env: NAME }";
                problems.push(Problem::new(mistake).help(help).at("url"));
            }
            Some(Ok((parts, _))) if parts.user.is_none() && settings.username.is_none() => {
                let mistake = "it is not said who logs in";
                problems.push(Problem::new(mistake).help(self.nobody).at("username"));
            }
            Some(Ok((_, Some(false)))) if settings.tls.is_some() => {
                let plain = self.modes.plain;
                let mistake = format!("certificates are of no use with {plain}");
                problems.push(Problem::new(mistake).at("tls"));
            }
            Some(Ok(_)) | None => {}
        }
        problems.extend(TlsSettings::check(settings.tls));
        problems
    }

    /// Resolves the texts of settings.
    ///
    /// # Errors
    /// One is missing or wrong, by its setting.
    pub(crate) fn resolve(&self, settings: &ServerSettings<'_>) -> Result<Login, OpenError> {
        let url = resolve(settings.url, &["url".into()])?;
        let parsed = self.parse(url.trim());
        let parsed = parsed.map_err(|mistake| OpenError(self.at_url(mistake)));
        let (parts, is_secure) = parsed?;
        let text = |text: Option<&Text>, key: &str| {
            text.map(|text| resolve(text, &[key.into()])).transpose()
        };
        let tls = match is_secure.unwrap_or(settings.tls.is_some()) {
            true => Some(TlsSettings::config(settings.tls)?),
            false => None,
        };
        let user = text(settings.username, "username")?.or(parts.user);
        let nobody = || OpenError(Problem::new("it is not said who logs in").at("username"));
        Ok(Login {
            host: parts.host,
            tls,
            shows_certificate: TlsSettings::shows_certificate(settings.tls),
            database: parts.path,
            user: user.ok_or_else(nobody)?,
            password: text(settings.password, "password")?.or(parts.password),
        })
    }
}
