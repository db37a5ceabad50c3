//! Where a service is.

use http::Uri;
use pointsman_schemas::{Problem, Text};
use url::Url;

use crate::OpenError;
use crate::net::Names;
use crate::net::client::{Client, client};
use crate::net::dial::Way;
use crate::net::fault::{self, Advice};
use crate::net::guard::Guard;
use crate::net::tls::ClientTls;
use crate::parameter::resolve;

/// What is said and done about each fault on the way.
const FAULTS: fault::Settings = fault::Settings {
    url: "endpoint",
    tls: "endpoint",
    trust: "add that authority to those that the system trusts, or name its file in SSL_CERT_FILE",
    no_tls: "write http:// in the place of https://, or name the port that speaks TLS",
    closed: "check what it is that listens there, and whether it speaks TLS (https://)",
};

/// The address of a service: scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    origin: String,
    /// As it stands in `Host`.
    pub(crate) host: String,
    is_tls: bool,
}

impl Endpoint {
    /// What the setting says.
    ///
    /// # Errors
    /// It cannot be read, or is no address.
    pub(crate) fn open(text: &Text) -> Result<Self, OpenError> {
        let text = resolve(text, &["endpoint".into()])?;
        Self::read(&text).map_err(|problem| OpenError(problem.at("endpoint")))
    }

    /// Reads an address.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn read(text: &str) -> Result<Self, Problem> {
        let problem = |message: &str| {
            Problem::new(message)
                .help("write one such as https://1234567890.mns.cn-hangzhou.aliyuncs.com")
        };
        let url = Url::parse(text).map_err(|_| problem("is not a URL"))?;
        let is_http = matches!(url.scheme(), "http" | "https");
        let Some(name) = url.host_str().filter(|_| is_http) else {
            return Err(problem("is not an http:// or https:// URL"));
        };
        if url.password().is_some() || !url.username().is_empty() {
            return Err(Problem::new("a URL must not hold credentials")
                .help("write credentials: { access_key: …, secret_key: { env: NAME } }"));
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(problem("is more than a host and a port"));
        }
        Ok(Self {
            host: match url.port() {
                Some(port) => format!("{name}:{port}"),
                None => name.to_owned(),
            },
            origin: url.origin().ascii_serialization(),
            is_tls: url.scheme() == "https",
        })
    }

    /// The address of a resource, which begins with a slash and is percent-encoded.
    ///
    /// # Errors
    /// It is no part of an address.
    pub(crate) fn uri(&self, resource: &str) -> Result<Uri, String> {
        let text = format!("{}{resource}", self.origin);
        Uri::try_from(text).map_err(|error| format!("{resource} is no resource: {error}"))
    }
}

/// The mistake in an address that is written out, if there is one.
pub(crate) fn check_endpoint(text: &Text) -> Option<Problem> {
    let mistake = Endpoint::read(text.literal()?).err()?;
    Some(mistake.at("endpoint"))
}

/// A client that calls a service.
///
/// # Errors
/// The certificates that the system trusts cannot be read.
pub(crate) fn http(
    endpoint: &Endpoint,
    allow_private_addresses: bool,
    names: Names,
) -> Result<Client, OpenError> {
    let tls = ClientTls::default().config_for(endpoint.is_tls)?;
    let guard = Guard {
        allow_private_addresses,
    };
    Ok(client(Way { guard, names, tls }))
}

/// What it means that no answer came.
pub(crate) fn unreachable(server: &str, cause: &str) -> Problem {
    let (at, what, help) = match fault::advice(cause, &FAULTS, false) {
        Some(Advice { at, what, help }) => (at, what, help),
        None => (
            "endpoint",
            cause.to_owned(),
            "check the address and that it runs",
        ),
    };
    Problem::new(format!("cannot reach {server}: {what}"))
        .at(at)
        .help(help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (text, expect) in [
            (
                "https://1.mns.cn-hangzhou.aliyuncs.com",
                Some("https://1.mns.cn-hangzhou.aliyuncs.com/queues/q"),
            ),
            ("http://127.0.0.1:9/", Some("http://127.0.0.1:9/queues/q")),
            ("1.mns.cn-hangzhou.aliyuncs.com", None),
            ("ftp://h", None),
            ("http://h/queues/q", None),
            ("http://h/?a", None),
            ("http://user@h", None),
        ] {
            let read = Endpoint::read(text).ok();
            let found = read.map(|endpoint| endpoint.uri("/queues/q").unwrap().to_string());
            assert_eq!(found.as_deref(), expect, "{text}");
        }
    }
}
