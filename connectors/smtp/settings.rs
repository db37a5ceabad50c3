//! The settings of a connection: their mistakes, and the address that they resolve to.

use std::net::IpAddr;

use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::extension::ClientId;
use pointsman_schemas::{Problem, Text};
use schemars::JsonSchema;
use serde::Deserialize;

use super::client::Address;
use crate::OpenError;
use crate::files::Files;
use crate::net::stream::Host;
use crate::net::tls::TlsSettings;
use crate::parameter::resolve;

/// How what is said to a server is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encryption {
    /// By TLS, which is asked for once connected, and which must be there.
    #[default]
    Starttls,
    /// By TLS from the beginning.
    Implicit,
    /// Not at all.
    None,
}

/// Who sends.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The user.
    username: Text,
    /// The user's password.
    #[schemars(extend("writeOnly" = true))]
    password: Text,
}

/// The settings of a target that say how to connect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection<'s> {
    pub(super) server: &'s Text,
    pub(super) port: Option<u16>,
    pub(super) encryption: Encryption,
    pub(super) allow_plaintext: bool,
    pub(super) tls: Option<&'s TlsSettings>,
    pub(super) auth: Option<&'s Login>,
    pub(super) hello: Option<&'s Text>,
}

/// What is wrong with the name of a server.
fn mistake_in_server(name: &str) -> Option<Problem> {
    let is_address = bare(name).parse::<IpAddr>().is_ok();
    let is_name = !name.is_empty()
        && name
            .chars()
            .all(|char| char.is_alphanumeric() || "-._".contains(char));
    (!is_address && !is_name).then(|| {
        Problem::new("this is not the name of a host")
            .help("write the name alone, such as smtp.example.com, and port beside it")
            .at("server")
    })
}

fn bare(name: &str) -> &str {
    name.trim_start_matches('[').trim_end_matches(']')
}

/// What is wrong with the name that we say is ours.
fn mistake_in_hello(name: &str) -> Option<Problem> {
    let is_name = !name.is_empty()
        && name
            .chars()
            .all(|char| char.is_ascii_alphanumeric() || "-.[]:".contains(char));
    (!is_name).then(|| {
        Problem::new("this is not the name of a host")
            .help("write the name that this machine has in the DNS, such as bus.example.com")
            .at("hello")
    })
}

impl Connection<'_> {
    /// Every mistake that can be found without resolving a text.
    pub(super) fn check(&self) -> Vec<Problem> {
        let server = self.server.literal();
        let hello = self.hello.and_then(Text::literal);
        let mut problems: Vec<Problem> = Vec::new();
        problems.extend(server.and_then(mistake_in_server));
        problems.extend(server.and_then(|server| self.readable(server)));
        problems.extend(hello.and_then(mistake_in_hello));
        if self.port == Some(0) {
            problems.push(Problem::new("there is no port 0").at("port"));
        }
        if self.encryption == Encryption::None && self.tls.is_some() {
            let problem = Problem::new("without encryption certificates are of no use");
            let help = "leave one of them out";
            problems.push(problem.help(help).at("tls"));
        }
        problems.extend(TlsSettings::check(self.tls));
        problems
    }

    /// Mail that anybody on the way could read, and a password, which nobody allowed.
    fn readable(&self, server: &str) -> Option<Problem> {
        let address = bare(server).parse::<IpAddr>();
        let is_here = server == "localhost" || address.is_ok_and(|address| address.is_loopback());
        let is_open = self.encryption == Encryption::None && !self.allow_plaintext && !is_here;
        is_open.then(|| {
            Problem::new("without encryption anybody on the way to the server can read the mail")
                .help(
                    "leave it out for STARTTLS, write encryption: implicit, or say that it may \
                     be: allow_plaintext: true",
                )
                .at("encryption")
        })
    }

    /// The files that they are taken from.
    pub(super) fn files(&self) -> Files {
        let login = self.auth.map(|login| [&login.username, &login.password]);
        let texts = [self.server].into_iter().chain(self.hello);
        let texts = texts.chain(login.into_iter().flatten());
        Files::of(texts.chain(TlsSettings::texts(self.tls)))
    }

    /// Resolves the texts.
    pub(super) fn resolve(&self) -> Result<Address, OpenError> {
        let server = resolve(self.server, &["server".into()])?;
        let server = server.trim();
        let mistake = mistake_in_server(server).or_else(|| self.readable(server));
        if let Some(problem) = mistake {
            return Err(OpenError(problem));
        }
        let tls = match self.encryption {
            Encryption::Starttls | Encryption::Implicit => Some(TlsSettings::config(self.tls)?),
            Encryption::None => None,
        };
        let port = self.port.unwrap_or(match self.encryption {
            Encryption::Starttls => 587,
            Encryption::Implicit => 465,
            Encryption::None => 25,
        });
        let name = bare(server).to_owned();
        Ok(Address {
            host: Host { name, port },
            encryption: self.encryption,
            tls,
            shows_certificate: TlsSettings::shows_certificate(self.tls),
            hello: self.client_id()?,
            credentials: self.credentials()?,
        })
    }

    fn client_id(&self) -> Result<ClientId, OpenError> {
        let Some(hello) = self.hello else {
            return Ok(ClientId::default());
        };
        let name = resolve(hello, &["hello".into()])?;
        let name = name.trim();
        match mistake_in_hello(name) {
            Some(problem) => Err(OpenError(problem)),
            None => Ok(ClientId::Domain(name.to_owned())),
        }
    }

    fn credentials(&self) -> Result<Option<Credentials>, OpenError> {
        let Some(Login { username, password }) = self.auth else {
            return Ok(None);
        };
        let username = resolve(username, &["auth".into(), "username".into()])?;
        let password = resolve(password, &["auth".into(), "password".into()])?;
        Ok(Some(Credentials::new(username, password)))
    }
}
