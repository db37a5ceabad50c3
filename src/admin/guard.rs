//! Who may speak to the admin API.
//!
//! On a loopback address a browser is the one caller who is not the operator: a page from anywhere
//! can make it send requests there. So the `Host` must be a name of this machine (a name that an
//! attacker has pointed at 127.0.0.1 is not), and what changes something must not come from another
//! origin. No answer ever carries a CORS header. Elsewhere keys are needed.
//!
//! A key is shown in a header or, by a browser that has shown it once, as the cookie of a session.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use pointsman_connectors::OpenError;
use pointsman_connectors::listener::Keys;
use pointsman_schemas::Text;
use pointsman_schemas::setting::UnresolvedText;
use url::form_urlencoded;

use super::refused::Refused;
use super::sessions::{COOKIE, Sessions};

/// A request takes no longer, its body included: a slow sender holds nothing for ever.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);

/// What anybody may ask, even where every connection is at work: whether the process lives and is
/// ready.
pub(super) const OPEN_PATHS: [&str; 2] = ["/healthz", "/readyz"];

/// What changes nothing although it is posted: whoever may look alone may do it.
const LOOKING_PATHS: [&str; 4] = [LOGIN_PATH, "/logout", "/playground", "/playground/traffic"];

/// Where a browser shows its key, which it can do without having shown one.
pub(crate) const LOGIN_PATH: &str = "/login";

/// Scripts and styles, which are the same for everybody.
pub(crate) const ASSETS_PATH: &str = "/static/";

/// How long browsers keep what has its version in its path: for a year, without asking again.
pub(crate) const FOR_EVER: HeaderValue =
    HeaderValue::from_static("public, max-age=31536000, immutable");

/// Where the admin API listens, and who may use it.
#[derive(Clone, Debug)]
pub struct AdminSettings {
    /// `host:port`; the port may be 0 for any.
    pub address: Text,
    /// Keys, one of which a caller must show; may be empty on a loopback address.
    pub auth: Vec<Text>,
    /// Keys of callers who may look and change nothing.
    pub viewers: Vec<Text>,
}

/// The admin API cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Anybody who reaches the address could change everything.
    #[error(
        "refusing to serve the admin API on {0} without keys; set admin.auth, or a loopback \
         address such as 127.0.0.1:8081"
    )]
    Open(SocketAddr),
    /// The address has no value.
    #[error("cannot read the address of admin: {0}")]
    Unresolved(UnresolvedText),
    /// A key cannot be read, or can be guessed.
    #[error("admin.{0}")]
    Key(OpenError),
    /// The address cannot be had.
    #[error(
        "cannot listen on {address} for the admin API: {reason}; stop whoever holds it, or set \
         admin to another address"
    )]
    Bind {
        /// As it was given.
        address: String,
        reason: std::io::Error,
    },
}

/// Who sent a request that was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Somebody on this machine, of whom no key is asked.
    Anybody,
    /// Who has this one of the keys under `admin.auth`.
    Key(usize),
    /// Who has this one of the keys under `admin.viewers`.
    Viewer(usize),
    /// Somebody who has shown none yet, where none is needed.
    Stranger,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anybody => f.write_str("anybody on this machine"),
            Self::Key(index) => write!(f, "admin.auth[{index}]"),
            Self::Viewer(index) => write!(f, "admin.viewers[{index}]"),
            Self::Stranger => f.write_str("a stranger"),
        }
    }
}

/// Decides about every request before anything else is done with it.
#[derive(Debug)]
pub(crate) struct Guard {
    loopback: bool,
    keys: Keys,
    viewers: Keys,
    sessions: Sessions,
}

impl Guard {
    /// The guard of an address, with the keys that the settings have.
    pub(super) fn new(address: SocketAddr, settings: &AdminSettings) -> Result<Self, AdminError> {
        let loopback = address.ip().to_canonical().is_loopback();
        if !loopback && settings.auth.is_empty() {
            return Err(AdminError::Open(address));
        }
        let keys = |name, keys: &[Text]| Keys::resolve(name, keys).map_err(AdminError::Key);
        Ok(Self {
            loopback,
            keys: keys("auth", &settings.auth)?,
            viewers: keys("viewers", &settings.viewers)?,
            sessions: Sessions::default(),
        })
    }

    /// Whether nobody has to show a key.
    pub(crate) fn is_open(&self) -> bool {
        self.keys.is_empty()
    }

    /// Opens a session for whoever has this key. Returns which key it is, and the cookie; none where
    /// it is no key of this bus.
    pub(crate) fn log_in(&self, key: &str) -> Option<(Caller, String)> {
        let shown = key.trim().as_bytes();
        let caller = self.keys.find(shown).map(Caller::Key);
        let caller = caller.or_else(|| self.viewers.find(shown).map(Caller::Viewer))?;
        Some((caller, self.sessions.open(caller)))
    }

    /// Ends the session of a request. Returns the cookie that takes its own away.
    pub(crate) fn log_out(&self, headers: &HeaderMap) -> String {
        self.sessions.close(headers);
        format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0")
    }

    fn check(&self, request: &Request) -> Result<Caller, Refused> {
        let headers = request.headers();
        let host = host(request)?;
        if self.loopback && !is_this_machine(&host) {
            let detail =
                format!("the host {host} is not this machine; ask for localhost or 127.0.0.1");
            return Err(Refused::new(StatusCode::MISDIRECTED_REQUEST, detail));
        }
        let reads = matches!(
            *request.method(),
            Method::GET | Method::HEAD | Method::OPTIONS
        );
        if !reads && is_from_elsewhere(headers, &host) {
            return Err(Refused::new(
                StatusCode::FORBIDDEN,
                "a page of another origin may change nothing here",
            ));
        }
        if self.keys.is_empty() {
            return Ok(Caller::Anybody);
        }
        let path = request.uri().path();
        match self.known(headers) {
            Some(Caller::Viewer(_)) if !reads && !LOOKING_PATHS.contains(&path) => {
                return Err(Refused::new(
                    StatusCode::FORBIDDEN,
                    "this key is one of admin.viewers: it may look, and change nothing",
                ));
            }
            Some(caller) => return Ok(caller),
            None => {}
        }
        if OPEN_PATHS.contains(&path) || path == LOGIN_PATH || path.starts_with(ASSETS_PATH) {
            return Ok(Caller::Stranger);
        }
        self.keys.admit(headers)?;
        Ok(Caller::Stranger)
    }

    /// Whose key a request shows, or whose session it is of.
    fn known(&self, headers: &HeaderMap) -> Option<Caller> {
        let key = self.keys.shown(headers).map(Caller::Key);
        let viewer = || self.viewers.shown(headers).map(Caller::Viewer);
        key.or_else(viewer).or_else(|| self.sessions.find(headers))
    }
}

/// The layer in front of every route.
pub(super) async fn guard(
    State(guard): State<Arc<Guard>>,
    mut request: Request,
    next: Next,
) -> Response {
    let mut response = match guard.check(&request) {
        Err(problem) => refuse(problem, &request),
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            match tokio::time::timeout(REQUEST_TIME_MAX, next.run(request)).await {
                Ok(response) => response,
                Err(_) => {
                    let detail =
                        "it took too long; what had been handed to the store still happens";
                    Refused::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response()
                }
            }
        }
    };
    let headers = response.headers_mut();
    // But for what never changes.
    if headers.get(header::CACHE_CONTROL) != Some(&FOR_EVER) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// Why a request is refused. Who looks at a page and has shown no key is led to where that is done.
fn refuse(problem: Refused, request: &Request) -> Response {
    let headers = request.headers();
    let has = |name: HeaderName, wanted: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.is_some_and(|value| value.contains(wanted))
    };
    if problem.0.status != StatusCode::UNAUTHORIZED || headers.contains_key(header::AUTHORIZATION) {
        return problem.into_response();
    }
    // A part of a page that is asked for anew: the whole page goes there.
    if has(HeaderName::from_static("hx-request"), "true") {
        let mut response = problem.into_response();
        let to = HeaderValue::from_static(LOGIN_PATH);
        response
            .headers_mut()
            .insert(HeaderName::from_static("hx-redirect"), to);
        return response;
    }
    if *request.method() == Method::GET && has(header::ACCEPT, "text/html") {
        let wanted = request.uri().path_and_query();
        let wanted = wanted.map_or("/", |wanted| wanted.as_str());
        let mut to = form_urlencoded::Serializer::new(String::new());
        to.append_pair("to", wanted);
        let to = format!("{LOGIN_PATH}?{}", to.finish());
        return (StatusCode::SEE_OTHER, [(header::LOCATION, to)]).into_response();
    }
    problem.into_response()
}

/// Whom the caller thinks to speak to: RFC 9110, section 7.2; exactly one must be there.
fn host(request: &Request) -> Result<Authority, Refused> {
    let mut hosts = request.headers().get_all(header::HOST).into_iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => Authority::try_from(host.as_bytes())
            .map_err(|_| Refused::bad_request("the header Host is not an address")),
        (None, _) => Err(Refused::bad_request("the header Host is missing")),
        (Some(_), Some(_)) => Err(Refused::bad_request("the header Host is there twice")),
    }
}

fn is_this_machine(host: &Authority) -> bool {
    let name = host.host();
    let address = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(name);
    // The userinfo of `localhost@elsewhere` is no part of `host()`, but nobody honest sends one.
    !host.as_str().contains('@')
        && (name.eq_ignore_ascii_case("localhost")
            || address
                .parse::<IpAddr>()
                .is_ok_and(|address| address.to_canonical().is_loopback()))
}

/// True where a browser says that a page of another origin made it ask: Fetch, section 3.1, and
/// Fetch Metadata.
fn is_from_elsewhere(headers: &HeaderMap, host: &Authority) -> bool {
    let origin = headers.get(header::ORIGIN).is_some_and(|origin| {
        let authority = origin
            .to_str()
            .ok()
            .and_then(|origin| origin.split_once("://"))
            .map(|(_, authority)| authority);
        authority.is_none_or(|authority| !authority.eq_ignore_ascii_case(host.as_str()))
    });
    let fetch = headers
        .get("sec-fetch-site")
        .is_some_and(|site| site != "same-origin" && site != "none");
    origin || fetch
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    const KEY: &str = "0123456789abcdefghijkl";
    const VIEWER: &str = "viewer-0123456789abcdef";

    fn guard(address: &str, keys: &[&str]) -> Result<Guard, AdminError> {
        let texts = |keys: &[&str]| keys.iter().map(|key| Text::from(*key)).collect();
        let settings = AdminSettings {
            address: address.into(),
            auth: texts(keys),
            viewers: texts(if keys.is_empty() { &[] } else { &[VIEWER] }),
        };
        Guard::new(address.parse().unwrap(), &settings)
    }

    fn status(guard: &Guard, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
        let request = headers.iter().fold(
            Request::builder().method(method).uri(path),
            |request, (name, value)| request.header(*name, *value),
        );
        guard
            .check(&request.body(Body::empty()).unwrap())
            .map_or_else(|refused| refused.0.status.as_u16(), |_| 200)
    }

    #[test]
    fn without_keys_only_loopback_is_served() {
        for (address, keys, expect) in [
            ("127.0.0.1:0", &[][..], "ok"),
            ("[::1]:0", &[], "ok"),
            ("[::ffff:127.0.0.1]:0", &[], "ok"),
            (
                "0.0.0.0:0",
                &[],
                "refusing to serve the admin API on 0.0.0.0:0 without keys",
            ),
            ("[::]:0", &[], "refusing"),
            ("192.0.2.1:0", &[], "refusing"),
            ("192.0.2.1:0", &[KEY], "ok"),
            (
                "127.0.0.1:0",
                &[KEY, "short"],
                "admin.auth[1]: this key is shorter than 22 characters",
            ),
            (
                "127.0.0.1:0",
                &[KEY, "Bearer 0123456789abcdef0123456789abcdef"],
                "admin.auth[1]: this begins with the word Bearer, which would be sent twice",
            ),
        ] {
            let message =
                guard(address, keys).map_or_else(|error| error.to_string(), |_| "ok".to_owned());
            assert!(message.starts_with(expect), "{address}: {message}");
        }
    }

    #[test]
    fn a_host_that_is_not_this_machine_is_refused_on_loopback_alone() {
        let loopback = guard("127.0.0.1:0", &[]).unwrap();
        for good in [
            "localhost",
            "LOCALHOST:8081",
            "127.0.0.1:8081",
            "127.1.2.3",
            "[::1]:8081",
        ] {
            assert_eq!(
                status(&loopback, "GET", "/metrics", &[("host", good)]),
                200,
                "{good}"
            );
        }
        for bad in [
            "evil.example:8081",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost@evil.example",
            "0.0.0.0",
            "10.0.0.1",
        ] {
            assert_eq!(
                status(&loopback, "GET", "/metrics", &[("host", bad)]),
                421,
                "{bad}"
            );
        }
        assert_eq!(status(&loopback, "GET", "/metrics", &[]), 400);
        assert_eq!(
            status(
                &loopback,
                "GET",
                "/metrics",
                &[("host", "localhost"), ("host", "evil.example")]
            ),
            400
        );
        let outside = guard("192.0.2.1:0", &[KEY]).unwrap();
        assert_eq!(
            status(&outside, "GET", "/healthz", &[("host", "bus.example")]),
            200
        );
    }

    #[test]
    fn a_page_of_another_origin_changes_nothing() {
        let guard = guard("127.0.0.1:0", &[]).unwrap();
        for (header, value, expect) in [
            ("origin", "https://evil.example", 403),
            ("origin", "null", 403),
            ("origin", "http://127.0.0.1:9999", 403),
            ("origin", "http://127.0.0.1:8081", 200),
            ("sec-fetch-site", "cross-site", 403),
            ("sec-fetch-site", "same-site", 403),
            ("sec-fetch-site", "same-origin", 200),
        ] {
            let path = "/api/v1/dead/purge";
            assert_eq!(
                status(
                    &guard,
                    "POST",
                    path,
                    &[("host", "127.0.0.1:8081"), (header, value)]
                ),
                expect,
                "{header}: {value}"
            );
        }
    }

    #[test]
    fn a_key_is_asked_for_everywhere_but_at_the_probes() {
        let guard = guard("127.0.0.1:0", &["another-key-of-22-bytes", KEY]).unwrap();
        let with = |path: &str, value: &str| {
            status(
                &guard,
                "GET",
                path,
                &[("host", "localhost"), ("authorization", value)],
            )
        };
        for (value, expect) in [
            (&*format!("Bearer {KEY}"), 200),
            (&*format!("bearer {KEY}"), 200),
            (&*format!("Bearer {KEY}x"), 401),
            (&*format!("Basic  {KEY}"), 401),
            (KEY, 401),
            ("Bearer ", 401),
            ("", 401),
        ] {
            assert_eq!(with("/api/v1/status", value), expect, "{value}");
            assert_eq!(with("/metrics", value), expect, "{value}");
            assert_eq!(with("/healthz", value), 200);
        }
        assert!(!format!("{guard:?}").contains(KEY));
    }

    #[test]
    fn a_viewer_looks_and_changes_nothing() {
        let guard = guard("127.0.0.1:0", &[KEY]).unwrap();
        for (method, path, expect) in [
            ("GET", "/api/v1/dead", 200),
            ("HEAD", "/metrics", 200),
            ("POST", "/playground", 200),
            ("POST", "/playground/traffic", 200),
            ("POST", "/logout", 200),
            ("POST", "/api/v1/dead/purge", 403),
            ("POST", "/dead/do/purge", 403),
            ("POST", "/playground/", 403),
            ("PUT", "/playground", 200),
            ("POST", "/api/v1/shards/1/calls", 403),
        ] {
            for (key, expect) in [(VIEWER, expect), (KEY, 200)] {
                let authorization = format!("Bearer {key}");
                let headers = [("host", "localhost"), ("authorization", &*authorization)];
                assert_eq!(
                    status(&guard, method, path, &headers),
                    expect,
                    "{method} {path} {key}"
                );
            }
        }
        let (caller, cookie) = guard.log_in(VIEWER).unwrap();
        assert_eq!(caller.to_string(), "admin.viewers[0]");
        let session = cookie.split(';').next().unwrap();
        let headers = [("host", "localhost"), ("cookie", session)];
        assert_eq!(status(&guard, "GET", "/", &headers), 200);
        assert_eq!(status(&guard, "POST", "/dead/do/purge", &headers), 403);
    }
}
