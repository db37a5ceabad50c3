//! What the rule files beside a command say of the bus that it speaks to.

use http::Uri;
use pointsman_connectors::listener::ListenSettings;
use pointsman_schemas::{Text, setting::Secret};

use crate::config::{Config, PathArgs};
use crate::output;

/// The addresses and keys of a bus, as far as they stand in the rule files that it would be run
/// with.
#[derive(Debug, Default)]
pub struct BusAddress {
    /// The admin API.
    pub admin: Option<Uri>,
    /// A key of it, and where it stands.
    pub admin_key: Option<(Text, Secret)>,
    /// Where events are taken.
    pub events: Option<Uri>,
    /// A key for that, and where it stands.
    pub events_key: Option<(Text, Secret)>,
}

impl BusAddress {
    /// Looks at the rule files that would be read where none is named. Files that are not there
    /// tell nothing, and nor do those with mistakes, which is said on standard error: the address
    /// that is called may be another one than the bus's.
    #[must_use]
    pub fn look() -> Self {
        let paths = PathArgs::default().resolve();
        match Config::load(&paths) {
            Ok((config, _)) => Self::of(&config),
            Err(_) => {
                if let Some(path) = paths.iter().find(|path| path.exists()) {
                    let path = path.display().to_string();
                    eprintln!(
                        "{} has mistakes (pointsman check shows them): its addresses and keys are \
                         not used",
                        output::line(&path)
                    );
                }
                Self::default()
            }
        }
    }

    fn of(config: &Config) -> Self {
        let key = |keys: &[Text]| {
            keys.iter()
                .find_map(|key| Some((key.clone(), key.resolve().ok()?)))
        };
        let ListenSettings {
            address, tls, auth, ..
        } = &config.listen;
        let scheme = if tls.is_some() { "https" } else { "http" };
        Self {
            admin: reachable("http", &config.admin.address, ""),
            admin_key: key(&config.admin.auth),
            events: reachable(scheme, address, "/events"),
            events_key: key(auth),
        }
    }
}

/// How somebody on this machine reaches what listens at an address. One whose port is chosen by the
/// system is not known.
fn reachable(scheme: &str, address: &Text, path: &str) -> Option<Uri> {
    let address = address.resolve().ok()?;
    let (host, port) = address.expose().rsplit_once(':')?;
    let host = match host {
        "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        host => host,
    };
    (port.parse::<u16>().ok()? > 0)
        .then(|| format!("{scheme}://{host}:{port}{path}").parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_keys_are_those_of_the_rule_file() {
        let of = |yaml: &str| {
            BusAddress::of(
                &Config::of_text("rules.yaml", std::path::Path::new("/"), yaml)
                    .unwrap()
                    .0,
            )
        };
        let shown = |uri: Option<Uri>| uri.map_or_else(|| "-".to_owned(), |uri| uri.to_string());
        let plain = of("targets: { a: { stdout: {} } }\nrules: { r: { to: a } }\n");
        assert_eq!(
            (shown(plain.admin), shown(plain.events)),
            (
                "http://127.0.0.1:8081/".into(),
                "http://127.0.0.1:8080/events".into()
            )
        );
        const KEY: &str = "a-key-of-thirty-characters-ok";
        let keys = format!("[{{ env: POINTSMAN_NO_SUCH_VARIABLE }}, {KEY}]");
        let full = of(&format!(
            "listen: {{ address: \"[::]:9080\", auth: {keys} }}\nadmin: {{ address: \
             \"0.0.0.0:9081\", auth: {keys} }}\n"
        ));
        assert_eq!(
            (shown(full.admin), shown(full.events)),
            (
                "http://127.0.0.1:9081/".into(),
                "http://[::1]:9080/events".into()
            )
        );
        for key in [full.admin_key, full.events_key] {
            let (text, key) = key.unwrap();
            assert_eq!((text.literal(), key.expose()), (Some(KEY), KEY));
        }
        assert_eq!(shown(of("listen: 127.0.0.1:0\n").events), "-");
    }
}
