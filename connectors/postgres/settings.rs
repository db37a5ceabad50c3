//! The settings of a connection: their mistakes, and the servers that they resolve to.

use pointsman_schemas::{Problem, Text};

use super::client::Address;
use super::url::{Parts, Place, SslMode, parse};
use crate::OpenError;
use crate::files::Files;
use crate::net::tls::TlsSettings;
use crate::parameter::resolve;

/// The settings of a target that say how to connect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection<'s> {
    pub(super) url: &'s Text,
    pub(super) password: Option<&'s Text>,
    pub(super) tls: Option<&'s TlsSettings>,
}

fn at_url(mistake: &str) -> Problem {
    Problem::new(mistake)
        .help("write one such as postgres://user@127.0.0.1:5432/database?sslmode=verify-full")
        .at("url")
}

impl Connection<'_> {
    /// Every mistake that can be found without resolving a text.
    pub(super) fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        match self.url.literal().map(parse) {
            Some(Err(mistake)) => problems.push(at_url(mistake)),
            Some(Ok(parts)) if parts.config.get_password().is_some() => {
                let mistake = "a URL that is written out must not hold a password";
                let help =
                    "write password: { env: NAME }, or take the whole URL from { env: NAME }";
                problems.push(Problem::new(mistake).help(help).at("url"));
            }
            Some(Ok(parts)) => problems.extend(self.mistake_in_tls(&parts)),
            None => {}
        }
        problems.extend(TlsSettings::check(self.tls));
        problems
    }

    /// What the URL and the certificates say that does not go together.
    fn mistake_in_tls(&self, parts: &Parts) -> Option<Problem> {
        match parts.mode {
            Some(SslMode::Disable) if self.tls.is_some() => {
                let problem = Problem::new("with sslmode=disable certificates are of no use");
                Some(problem.help("leave one of them out").at("tls"))
            }
            Some(SslMode::VerifyCa) if !TlsSettings::has_ca(self.tls) => {
                let mistake = "sslmode=verify-ca takes any host that an authority vouches for, and \
                               it is not said which authority";
                let help = "write tls: { ca: { file: … } }, or sslmode=verify-full";
                Some(Problem::new(mistake).help(help).at("url"))
            }
            _ => None,
        }
    }

    /// The files that they are taken from.
    pub(super) fn files(&self) -> Files {
        let texts = [self.url].into_iter().chain(self.password);
        Files::of(texts.chain(TlsSettings::texts(self.tls)))
    }

    /// Resolves the texts.
    pub(super) fn resolve(&self) -> Result<Address, OpenError> {
        let url = resolve(self.url, &["url".into()])?;
        let mut parts = parse(url.trim()).map_err(|mistake| OpenError(at_url(mistake)))?;
        if let Some(problem) = self.mistake_in_tls(&parts) {
            return Err(OpenError(problem));
        }
        if let Some(password) = self.password {
            parts
                .config
                .password(resolve(password, &["password".into()])?);
        }
        // Whoever names certificates wants them looked at.
        let unsaid = match self.tls {
            Some(_) => SslMode::VerifyFull,
            None => SslMode::Prefer,
        };
        let mode = parts.mode.unwrap_or(unsaid);
        let is_local = |place: &Place| matches!(place, Place::Unix(_));
        let tls = match mode {
            SslMode::Disable => None,
            _ if parts.places.iter().all(is_local) => None,
            SslMode::VerifyFull => Some(TlsSettings::config(self.tls)?),
            SslMode::Prefer | SslMode::Require | SslMode::VerifyCa => {
                Some(TlsSettings::lax_config(self.tls)?)
            }
        };
        Ok(Address {
            config: parts.config,
            places: parts.places,
            tls,
            needs_tls: mode != SslMode::Prefer,
            shows_certificate: TlsSettings::shows_certificate(self.tls),
        })
    }
}
