//! Where servers are: a URL or `key=value`s, as libpq reads them.

use tokio_postgres::Config;
use tokio_postgres::config::{Host as Named, SslMode as Negotiated};

use crate::net::stream::Host;

/// What is said of TLS, in libpq's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SslMode {
    Disable,
    /// TLS where the server has it, whatever its certificate.
    Prefer,
    /// TLS, whatever the certificate, unless it is said whom to trust.
    Require,
    /// A certificate of somebody who is trusted, of any host.
    VerifyCa,
    /// A certificate of the host.
    VerifyFull,
}

impl SslMode {
    fn read(word: &str) -> Option<Self> {
        Some(match word {
            "disable" => Self::Disable,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return None,
        })
    }
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Over TCP; the name is what its certificate is to have.
    Tcp { dialled: Host, name: String },
    /// By the socket of this path.
    Unix(std::path::PathBuf),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { dialled, name } => Host {
                name: name.clone(),
                port: dialled.port,
            }
            .fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// What a URL says. It holds secrets and shows none.
pub(super) struct Parts {
    /// Who logs in, and to what; TLS and the hosts are dialled here.
    pub(super) config: Config,
    pub(super) places: Vec<Place>,
    /// None where it says nothing of it.
    pub(super) mode: Option<SslMode>,
}

/// The port of a server that names none.
const PORT: u16 = 5432;

/// Reads a URL.
///
/// # Errors
/// What is wrong with it, without what it holds.
pub(super) fn parse(text: &str) -> Result<Parts, &'static str> {
    let (text, mode) = split_mode(text)?;
    let config = text.parse::<Config>();
    let mut config = config.map_err(
        |_| "the URL cannot be read; certificates have settings of their own, beside it: tls",
    )?;
    config.ssl_mode(Negotiated::Disable);
    if config.get_application_name().is_none() {
        config.application_name("pointsman");
    }
    let places = places(&config)?;
    Ok(Parts {
        config,
        places,
        mode,
    })
}

/// Takes out what is said of TLS, of which the client's own parser knows less.
fn split_mode(text: &str) -> Result<(String, Option<SslMode>), &'static str> {
    const KEY: &str = "sslmode=";
    let is_key = |at: &usize| {
        let before = text.get(..*at).and_then(|text| text.chars().next_back());
        before.is_none_or(|before| before.is_whitespace() || "?&".contains(before))
    };
    let Some(at) = text.match_indices(KEY).map(|(at, _)| at).find(is_key) else {
        return Ok((text.to_owned(), None));
    };
    let (before, behind) = text.split_at(at);
    let behind = behind.get(KEY.len()..).unwrap_or_default();
    let ends = |char: char| char == '&' || char.is_whitespace();
    let (word, rest) = behind.split_at(behind.find(ends).unwrap_or(behind.len()));
    let mode = SslMode::read(word.trim_matches('\''))
        .ok_or("sslmode is disable, prefer, require, verify-ca or verify-full")?;
    // What stands around it stays well formed.
    Ok((format!("{before}{KEY}disable{rest}"), Some(mode)))
}

fn places(config: &Config) -> Result<Vec<Place>, &'static str> {
    let (hosts, addresses) = (config.get_hosts(), config.get_hostaddrs());
    let ports = config.get_ports();
    let port = |index: usize| match ports {
        [one] => *one,
        several => several.get(index).copied().unwrap_or(PORT),
    };
    let count = hosts.len().max(addresses.len());
    let place = |index: usize| {
        let port = port(index);
        let address = addresses.get(index).map(ToString::to_string);
        Some(match (hosts.get(index), address) {
            (Some(Named::Unix(folder)), _) => Place::Unix(folder.join(format!(".s.PGSQL.{port}"))),
            (Some(Named::Tcp(name)), address) => Place::Tcp {
                dialled: Host {
                    name: address.unwrap_or_else(|| name.clone()),
                    port,
                },
                name: name.clone(),
            },
            (None, address) => {
                let name = address?;
                Place::Tcp {
                    dialled: Host {
                        name: name.clone(),
                        port,
                    },
                    name,
                }
            }
        })
    };
    let places: Vec<_> = (0..count).filter_map(place).collect();
    if places.is_empty() {
        return Err("the URL names no host");
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Result<(String, Option<SslMode>), &'static str> {
        parse(text).map(|parts| {
            let places = parts.places.iter().map(ToString::to_string);
            (places.collect::<Vec<_>>().join(" "), parts.mode)
        })
    }

    #[test]
    fn urls() {
        const UNREADABLE: Result<(&str, Option<SslMode>), &str> = Err("the URL cannot be read");
        for (url, expect) in [
            ("postgres://u:p@h/d", Ok(("h:5432", None))),
            ("postgresql://h:1,[::1]:2/d", Ok(("h:1 [::1]:2", None))),
            (
                "postgres://h/d?sslmode=verify-full&connect_timeout=3",
                Ok(("h:5432", Some(SslMode::VerifyFull))),
            ),
            (
                "postgres://h/d?target_session_attrs=read-write&sslmode=verify-ca",
                Ok(("h:5432", Some(SslMode::VerifyCa))),
            ),
            (
                "host=h port=7 dbname=d user=u password='a b' sslmode='require'",
                Ok(("h:7", Some(SslMode::Require))),
            ),
            (
                "sslmode=prefer host=a,b port=7",
                Ok(("a:7 b:7", Some(SslMode::Prefer))),
            ),
            (
                "host=db.example hostaddr=10.0.0.1",
                Ok(("db.example:5432", None)),
            ),
            (
                "postgres:///d?host=/var/run/postgresql",
                Ok(("/var/run/postgresql/.s.PGSQL.5432", None)),
            ),
            ("postgres:///d", Err("the URL names no host")),
            ("postgres://h/d?sslmode=always", Err("sslmode is disable")),
            ("postgres://h/d?sslrootcert=/ca.pem", UNREADABLE),
            ("redis://h", UNREADABLE),
            ("hunter2", UNREADABLE),
        ] {
            match (told(url), expect) {
                (Ok((places, mode)), Ok(expect)) => assert_eq!((&*places, mode), expect, "{url}"),
                (Err(error), Err(expect)) => assert!(error.starts_with(expect), "{url}: {error}"),
                (found, _) => panic!("{url}: {found:?}"),
            }
        }
    }
}
