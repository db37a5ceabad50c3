//! The settings of a connection: their mistakes, and the address that they resolve to.

use super::client::Address;
use crate::OpenError;
use crate::net::server::{Protocol, ServerSettings};

/// What a user may write.
pub(super) const PROTOCOL: Protocol = Protocol {
    plain: &["redis", "valkey"],
    secure: &["rediss", "valkeys"],
    ports: (6379, 6379),
    check_path: |path| database(path).map(drop),
};

/// The number of a database, behind the host.
fn database(path: &str) -> Result<i64, &'static str> {
    if path.is_empty() {
        return Ok(0);
    }
    path.parse()
        .ok()
        .filter(|number| *number >= 0)
        .ok_or("behind the host stands the number of a database, or nothing")
}

/// Resolves the texts of a connection.
pub(super) fn resolve(settings: &ServerSettings<'_>) -> Result<Address, OpenError> {
    let server = settings.resolve(&PROTOCOL)?;
    Ok(Address {
        // Checked as the URL was read.
        database: database(&server.path).unwrap_or_default(),
        server,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::server::Parts;
    use crate::net::stream::Host;

    #[test]
    fn urls() {
        let parts = |is_secure, host: &str, port, path: &str| Parts {
            is_secure,
            host: Host {
                name: host.to_owned(),
                port,
            },
            path: path.to_owned(),
            user: None,
            password: None,
        };
        for (url, expect) in [
            ("redis://127.0.0.1", Ok(parts(false, "127.0.0.1", 6379, ""))),
            ("valkey://h:1/", Ok(parts(false, "h", 1, ""))),
            (
                "rediss://h.example/15",
                Ok(parts(true, "h.example", 6379, "15")),
            ),
            ("redis://[::1]:7", Ok(parts(false, "::1", 7, ""))),
            (
                "redis://u:p%40@h",
                Ok(Parts {
                    user: Some("u".to_owned()),
                    password: Some("p@".to_owned()),
                    ..parts(false, "h", 6379, "")
                }),
            ),
            (
                "redis://:p@h",
                Ok(Parts {
                    password: Some("p".to_owned()),
                    ..parts(false, "h", 6379, "")
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
            let expect = expect.map_err(str::to_owned);
            assert_eq!(PROTOCOL.parse(url), expect, "{url}");
        }
    }
}
