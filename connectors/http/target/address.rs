//! The URLs of settings: written out, or with templates in them.

use http::Uri;
use pointsman_schemas::template::lexer::{self, Token};
use pointsman_schemas::{Problem, Text};
use url::Url;

use crate::net::guard::{Guard, HOW_TO_ALLOW};
use crate::parameter::is_template;

/// What is wrong with a URL of the settings, as far as it is written out there.
pub(super) fn check(text: &Text) -> Option<Problem> {
    let text = text.literal()?;
    let lower = text
        .get(..8.min(text.len()))
        .unwrap_or(text)
        .to_ascii_lowercase();
    if !lower.starts_with("http://") && !lower.starts_with("https://") {
        let problem = Problem::new("the URL must begin with http:// or https://");
        // What may hold a password is not said again.
        let is_host = !text.contains("://") && !text.contains(['@', '<']);
        return Some(match is_host {
            true => problem.help(format!("write `http://{}`", text.trim_start_matches('/'))),
            false => problem.help("write the scheme out; the rest may hold templates"),
        });
    }
    match Url::parse(&blank_templates(text)) {
        Err(error) => Some(Problem::new(format!("the URL cannot be read: {error}"))),
        Ok(url) if has_credentials(&url) => Some(
            Problem::new("a URL must not hold a user or a password")
                .help("write auth: { basic: { username: …, password: { env: NAME } } }"),
        ),
        Ok(_) => None,
    }
}

/// Reads a whole URL and checks where it leads.
///
/// # Errors
/// Why it must not be called, in one line that does not repeat it: it may hold secrets.
pub(super) fn parse(text: &str, guard: Guard) -> Result<Uri, String> {
    let url = Url::parse(text).map_err(|error| format!("the URL cannot be read: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("the URL must begin with http:// or https://".into());
    }
    if has_credentials(&url) {
        return Err("a URL must not hold a user or a password".into());
    }
    guard
        .check_url(&url)
        .map_err(|denied| format!("{denied}; {HOW_TO_ALLOW}"))?;
    url.as_str()
        .parse()
        .map_err(|error| format!("the URL cannot be used: {error}"))
}

/// As [`parse`], for a URL that an event took part in: its path must not climb.
pub(super) fn parse_filled(text: &str, guard: Guard) -> Result<Uri, String> {
    let path = text.split(['?', '#']).next().unwrap_or_default();
    let climbs = |segment: &str| {
        matches!(
            segment.to_ascii_lowercase().replace("%2e", ".").as_str(),
            "." | ".."
        )
    };
    if path.split(['/', '\\']).any(climbs) {
        return Err(
            "the URL's path has a segment \".\" or \"..\" in it, which would lead elsewhere".into(),
        );
    }
    parse(text, guard)
}

/// Scheme, host and port of a URL, where no template takes part in them.
pub(super) fn fixed_host(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next()?;
    (!is_template(host)).then(|| format!("{scheme}://{host}"))
}

/// Whether the host, if not the port, is the same for every event.
pub(super) fn has_fixed_host(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    match authority.split_once("<$") {
        None => true,
        Some((host, _)) => {
            host.ends_with(':')
                && !host.trim_end_matches(':').is_empty()
                && (!host.starts_with('[') || host.ends_with("]:"))
        }
    }
}

/// A URL as a person may see it: without user, query and fragment, where secrets stand.
pub(super) fn shown(text: &str) -> String {
    let (address, rest) = text.split_at(text.find(['?', '#']).unwrap_or(text.len()));
    let query = if rest.starts_with('?') { "?…" } else { "" };
    match address.split_once("://") {
        None => format!("{address}{query}"),
        Some((scheme, behind)) => {
            // However many slashes there are, the host begins behind them.
            let behind = behind.trim_start_matches(['/', '\\', '\t', '\n', '\r']);
            let end = behind.find(['/', '\\']).unwrap_or(behind.len());
            let (host, path) = behind.split_at(end);
            let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
            format!("{scheme}://{host}{path}{query}")
        }
    }
}

fn has_credentials(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// The URL with a plain letter in place of each template, as if something harmless had been filled
/// in.
fn blank_templates(text: &str) -> String {
    lexer::tokens(text)
        .map(|token| match token {
            Ok(Token::Text(plain)) => plain,
            Ok(Token::Slot { .. }) => "x",
            // The template language's to complain about.
            Err(_) => "x",
        })
        .collect()
}

/// Whether a URL of the settings may ask for TLS.
pub(super) fn is_https(text: &str) -> bool {
    text.get(..6)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"))
}

/// True where the URL differs from event to event.
pub(super) fn varies(text: &Text) -> bool {
    text.literal().is_some_and(is_template)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_settings() {
        for good in [
            "http://127.0.0.1:9000/a",
            "HTTPS://example.com",
            "http://<$.data.host>:80/<$.data['a>b']>?q=<$.data.x[?@.a > 1]>",
            "http://h/<$.data.\"a b\" ?? \"@\">",
            "http://h/<$.unclosed",
        ] {
            assert_eq!(check(&good.into()), None, "{good}");
        }
        for (bad, why) in [
            ("", "must begin"),
            ("localhost:80", "must begin"),
            ("ftp://h", "must begin"),
            ("<$.data.url>", "must begin"),
            ("http://", "cannot be read"),
            ("http://h:99999/", "cannot be read"),
            ("http://u:p@h/", "user or a password"),
            ("http://token@h/", "user or a password"),
            (
                "http://<$.data.user>:<$.data.password>@h/",
                "user or a password",
            ),
        ] {
            let problem = check(&bad.into()).unwrap_or_else(|| panic!("{bad}"));
            assert!(problem.message.contains(why), "{bad}: {problem}");
        }
        assert_eq!(check(&Text::Env("URL".into())), None);
    }

    #[test]
    fn what_may_be_secret_of_a_url_is_not_shown() {
        for (url, expect) in [
            ("http://h:80/a/b", "http://h:80/a/b"),
            ("https://h/a?key=hunter2", "https://h/a?…"),
            ("https://h?key=hunter2#hunter2", "https://h?…"),
            ("http://h/a#hunter2", "http://h/a"),
            ("http://h/a#hunter2?b", "http://h/a"),
            ("http://hunter2@h/a@b", "http://h/a@b"),
            ("http://u:hunter2@h", "http://h"),
            ("http://u:hunter2@@h/", "http://h/"),
            ("http://u:hunter2@h\\a", "http://h\\a"),
            ("http:///u:hunter2@h/a", "http://h/a"),
            ("http://\\\\u:hunter2@h/a", "http://h/a"),
            ("http://\t/u:hunter2@h/a", "http://h/a"),
            ("HTTP://[::1]:80/?hunter2", "HTTP://[::1]:80/?…"),
        ] {
            assert_eq!(shown(url), expect, "{url}");
        }
    }

    #[test]
    fn who_decides_the_host() {
        for (url, is_fixed) in [
            ("http://127.0.0.1/<$.data.path>?q=<$.data.q>", true),
            ("http://127.0.0.1:<$.data.port>/", true),
            ("http://[::1]:<$.data.port>/", true),
            ("http://h?<$.data.q>", true),
            ("http://<$.data.host>/", false),
            ("http://<$.data['a/b']>/", false),
            ("http://<$.data.host>:80/", false),
            ("http://a.<$.data.zone>/", false),
            ("http://a<$.data.zone>:80/", false),
            ("http://:<$.data.host>/", false),
            ("http://[fe80::<$.data.host>]/", false),
        ] {
            assert_eq!(has_fixed_host(url), is_fixed, "{url}");
        }
    }

    #[test]
    fn a_filled_in_url_leads_where_its_template_says() {
        let guard = Guard {
            allow_private_addresses: false,
        };
        assert_eq!(
            parse_filled("http://example.com/a%2Fb?x=..", guard)
                .unwrap()
                .to_string(),
            "http://example.com/a%2Fb?x=.."
        );
        for bad in [
            "http://example.com/a/../b",
            "http://example.com/%2E./b",
            "http://example.com/a\\..\\b",
            "http://example.com/.",
        ] {
            assert!(
                parse_filled(bad, guard)
                    .unwrap_err()
                    .contains("lead elsewhere"),
                "{bad}"
            );
        }
        for bad in [
            "http://127.1/",
            "http://[::ffff:10.0.0.1]/",
            "file:///etc/passwd",
            "http://u:p@example.com/",
            "//example.com",
        ] {
            assert!(parse_filled(bad, guard).is_err(), "{bad}");
        }
        assert!(
            !parse("http://u:hunter2@h/", guard)
                .unwrap_err()
                .contains("hunter2")
        );
    }
}
