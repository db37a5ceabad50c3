//! Fetches keys.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, AGE, CACHE_CONTROL, EXPIRES};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};
use tokio::time::timeout;

use super::hosts::Address;
use crate::net::CallError;
use crate::net::Names;
use crate::net::client::{Client, client};
use crate::net::dial::{DialError, Way};
use crate::net::explain::{causes, explain};
use crate::net::guard::Guard;

/// How long a request may take, its body included: senders wait meanwhile, and the most impatient
/// for ten seconds.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer may be: the largest key sets known have some 30 KiB.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// How long what says nothing about it is kept.
const FRESH_BY_DEFAULT: Duration = Duration::from_secs(3_600);

/// At least so long, whatever is said: a call for each call would be a flood that anybody could
/// begin.
const FRESH_MIN: Duration = Duration::from_secs(60);

/// And at most.
const FRESH_MAX: Duration = Duration::from_secs(86_400);

/// What was fetched, and how long it counts.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) body: Bytes,
    pub(super) fresh: Duration,
}

/// Asks other hosts for keys. It follows no redirects, and reaches inner addresses only where the
/// operator has written them.
pub(super) struct Fetcher {
    outer: Client,
    inner: Client,
}

impl Fetcher {
    pub(super) fn new(tls: rustls::ClientConfig) -> Self {
        let names = Names::default();
        let to = |allow_private_addresses| {
            client(Way {
                guard: Guard {
                    allow_private_addresses,
                },
                names: names.clone(),
                tls: tls.clone(),
            })
        };
        Self {
            outer: to(false),
            inner: to(true),
        }
    }

    /// Fetches what lies at an address.
    ///
    /// # Errors
    /// Why it cannot be had, for the log.
    pub(super) async fn get(&self, address: &Address) -> Result<Fetched, String> {
        let asked = timeout(TIMEOUT, self.request(address)).await;
        asked.unwrap_or_else(|_| Err(format!("took longer than {} s", TIMEOUT.as_secs())))
    }

    async fn request(&self, address: &Address) -> Result<Fetched, String> {
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() =
            Uri::try_from(address.url.as_str()).map_err(|error| error.to_string())?;
        request
            .headers_mut()
            .insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let client = if address.is_private {
            &self.inner
        } else {
            &self.outer
        };
        let called = client.call(request, None).await;
        let answered = called.map_err(|error| why(&error))?;
        if answered.head.status != StatusCode::OK {
            return Err(format!("answered {}", answered.head.status));
        }
        let (head, body) = answered.whole(BODY_BYTES_MAX).await;
        Ok(Fetched {
            body: body.map_err(|error| explain(&*error))?,
            fresh: freshness(&head.headers, SystemTime::now()),
        })
    }
}

/// Why there is no answer; where the guard is in the way, what would let it through.
fn why(error: &CallError) -> String {
    let is_denied =
        causes(error).any(|cause| matches!(cause.downcast_ref(), Some(DialError::Denied(_))));
    let help = if is_denied {
        "; only where the settings spell out the address of a host are inner ones asked for keys"
    } else {
        ""
    };
    format!("{}{help}", explain(error))
}

/// How long an answer is fresh: RFC 9111, section 4.2, within our own bounds.
fn freshness(headers: &HeaderMap, now: SystemTime) -> Duration {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let seconds = |text: &str| {
        text.trim()
            .trim_matches('"')
            .parse()
            .ok()
            .map(Duration::from_secs)
    };
    let lines = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|line| line.to_str().ok());
    let directives: Vec<_> = lines
        .flat_map(|line| line.split(','))
        .map(|part| part.trim().to_ascii_lowercase())
        .collect();
    let is_never = directives
        .iter()
        .any(|directive| directive == "no-store" || directive.starts_with("no-cache"));
    let age = text(AGE).and_then(seconds).unwrap_or_default();
    let said = directives
        .iter()
        .find_map(|directive| seconds(directive.strip_prefix("max-age=")?))
        .map(|max| max.saturating_sub(age));
    let until = || {
        httpdate::parse_http_date(text(EXPIRES)?)
            .ok()
            .map(|until| until.duration_since(now).unwrap_or_default())
    };
    let fresh = if is_never {
        Some(Duration::ZERO)
    } else {
        said.or_else(until)
    };
    fresh
        .unwrap_or(FRESH_BY_DEFAULT)
        .clamp(FRESH_MIN, FRESH_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_freshness_is_kept_to() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 600);
        let table: [(&[(&str, &str)], u64); 10] = [
            (&[], 3_600),
            (
                &[(
                    "cache-control",
                    "public, max-age=19845, must-revalidate, no-transform",
                )],
                19_845,
            ),
            (
                &[("cache-control", "public, MAX-AGE=600"), ("age", "200")],
                400,
            ),
            (&[("cache-control", "max-age=600"), ("age", "700")], 60),
            (&[("cache-control", "max-age=1000000000000")], 86_400),
            (&[("cache-control", "max-age=never")], 3_600),
            (&[("cache-control", "no-store")], 60),
            (
                &[
                    ("cache-control", "public"),
                    ("expires", "Sun, 06 Nov 1994 08:49:37 GMT"),
                ],
                600,
            ),
            (
                &[
                    ("cache-control", "max-age=700"),
                    ("expires", "Sun, 06 Nov 1994 08:49:37 GMT"),
                ],
                700,
            ),
            (&[("expires", "0")], 3_600),
        ];
        for (lines, expect) in table {
            let headers = lines
                .iter()
                .map(|(name, value)| {
                    (
                        name.parse::<http::HeaderName>().unwrap(),
                        value.parse().unwrap(),
                    )
                })
                .collect();
            assert_eq!(freshness(&headers, now).as_secs(), expect, "{lines:?}");
        }
    }
}
