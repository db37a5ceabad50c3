//! The HTTP client of the live commands.

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::BodyExt;
use pointsman_connectors::credential::{self, BEARER};
use pointsman_connectors::listener::ProblemDocument;
use pointsman_connectors::net::{self, Answered, CallError, Trust, root};
use pointsman_schemas::{Secret, Text};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::bus_address::BusAddress;
use super::error::CommandError;
use crate::admin::view::Page;
use crate::output;

/// Longer than the server's own limit on a request, so that its answer is seen.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(65);

/// An answer that is larger is not one of ours.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Where the admin API is, and with which key it is spoken to.
#[derive(Clone, Debug, clap::Args)]
pub struct AdminArgs {
    /// The address of the admin API; else what the rule files say that `run` would read, or
    /// http://127.0.0.1:8081
    #[arg(long = "admin", env = "POINTSMAN_ADMIN", value_name = "URL")]
    pub url: Option<Uri>,
    /// A key of admin.auth, where the bus asks for one; better set by the variable
    #[arg(
        long = "admin-key",
        env = "POINTSMAN_ADMIN_KEY",
        hide_env_values = true,
        value_name = "KEY",
        value_parser = secret
    )]
    pub key: Option<Secret>,
}

/// Takes any text: what clap refuses it shows.
#[expect(clippy::unnecessary_wraps, reason = "the form of a parser of clap's")]
pub fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text.to_owned()))
}

/// Makes the value of an `Authorization` header of the key that a command is given, which `given`
/// names, or else of the first in the rule file that has a value; none where there is none. It is
/// not shown when printed.
///
/// # Errors
/// The key has characters that no header holds, or the scheme before it.
pub fn authorization(
    key: Option<&Secret>,
    given: &str,
    in_rules: Option<&(Text, Secret)>,
) -> Result<Option<HeaderValue>, CommandError> {
    let (key, of) = match (key, in_rules) {
        (Some(key), _) => (key, format!("the key of {given}")),
        (None, Some((text, key))) => (key, credential::place(text)),
        (None, None) => return Ok(None),
    };
    let key = key.expose();
    if credential::repeats(BEARER, key) {
        return Err(CommandError::new(credential::repeated(of, BEARER)).help("give the key alone"));
    }
    let mut value = HeaderValue::try_from(format!("{BEARER}{key}")).map_err(|_| {
        CommandError::new(format!(
            "{of} is no key: it has characters that are not printable ASCII"
        ))
    })?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests look at them"))]
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// Speaks to one server, with TLS where the address says so.
#[derive(Debug)]
pub struct Client {
    base: Uri,
    key: Option<HeaderValue>,
    http: net::Client,
    answer_time_max: Duration,
}

impl Client {
    /// A client that waits so much longer for an answer.
    #[must_use]
    pub fn waiting(self, longer: Duration) -> Self {
        let answer_time_max = ANSWER_TIME_MAX + longer;
        Self {
            answer_time_max,
            ..self
        }
    }

    /// A client of the server that `base` names.
    ///
    /// # Errors
    /// `base` is no `http` or `https` address, or the system has no certificates to check an
    /// `https` one with.
    pub fn new(base: Uri, key: Option<HeaderValue>) -> Result<Self, CommandError> {
        Self::trusting(base, key, None)
    }

    /// A client that trusts the certificates of a file in place of the system's, where one is
    /// named.
    ///
    /// # Errors
    /// As [`Client::new`], and the file cannot be read or holds none.
    pub fn trusting(
        base: Uri,
        key: Option<HeaderValue>,
        ca: Option<&Path>,
    ) -> Result<Self, CommandError> {
        let scheme = base
            .scheme_str()
            .filter(|scheme| ["http", "https"].contains(scheme) && base.host().is_some());
        let Some(scheme) = scheme else {
            let full = base.authority().map_or_else(
                || "http://127.0.0.1:8080".to_owned(),
                |authority| format!("http://{authority}"),
            );
            return Err(
                CommandError::new(format!("{base} is not an address to call"))
                    .help(format!("write it in full: {full}")),
            );
        };
        let http = match ca {
            Some(ca) if scheme == "https" => trusting(ca)?,
            Some(ca) => {
                let help = format!("leave out --ca {}, or write https://", ca.display());
                return Err(
                    CommandError::new(format!("{base} has no certificate to check")).help(help),
                );
            }
            // The system's certificates are read only where one is checked.
            None => {
                let trust = match scheme {
                    "https" => Trust::System,
                    _ => Trust::Nobody,
                };
                net::unguarded(trust).map_err(|error| {
                    CommandError::new(format!("cannot prepare TLS for {base}: {error}"))
                })?
            }
        };
        Ok(Self {
            base,
            key,
            http,
            answer_time_max: ANSWER_TIME_MAX,
        })
    }

    /// A client of the admin API.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn of_admin(args: &AdminArgs) -> Result<Self, CommandError> {
        let key = |in_rules: Option<&(Text, Secret)>| {
            let given = "--admin-key or POINTSMAN_ADMIN_KEY";
            authorization(args.key.as_ref(), given, in_rules)
        };
        if let Some(url) = &args.url {
            return Self::new(url.clone(), key(None)?);
        }
        let bus = BusAddress::look();
        Self::new(
            bus.admin
                .unwrap_or_else(|| Uri::from_static("http://127.0.0.1:8081")),
            key(bus.admin_key.as_ref())?,
        )
    }

    /// A client of the admin API of another node of the same bus, which takes the same keys.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn of_node(&self, address: &str) -> Result<Self, CommandError> {
        let scheme = self.base.scheme_str().unwrap_or("http");
        let base = format!("{scheme}://{address}");
        let base = base.parse().map_err(|error| {
            CommandError::new(format!("{base} is not an address to call: {error}"))
        })?;
        Self::new(base, self.key.clone())
    }

    /// Sends one request to the base address itself and waits for the whole answer, whatever its
    /// status.
    ///
    /// # Errors
    /// There is no answer: nothing listens, TLS fails, it takes too long, it is too large.
    pub async fn send(
        &self,
        method: Method,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, CommandError> {
        self.exchange(&self.base, method, headers, body).await
    }

    /// A request with the key, where the bus wants one.
    fn request(
        &self,
        uri: &Uri,
        method: Method,
        headers: HeaderMap,
        body: Bytes,
    ) -> Request<Bytes> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers;
        if let Some(key) = &self.key {
            request
                .headers_mut()
                .entry(header::AUTHORIZATION)
                .or_insert_with(|| key.clone());
        }
        request
    }

    async fn call(&self, uri: &Uri, request: Request<Bytes>) -> Result<Answered, CommandError> {
        self.http.call(request, None).await.map_err(|error| {
            let failed = CommandError::new(format!("cannot reach {uri}: {}", root(&error)));
            let cause = root(&error);
            match () {
                () if cause.contains("invalid peer certificate") => {
                    failed.help(of_certificate(&cause))
                }
                () if matches!(error, CallError::Connect(_)) => failed.help(
                    "is a bus listening there? start one with `pointsman run`, or give its \
                     address",
                ),
                () => failed,
            }
        })
    }

    async fn exchange(
        &self,
        uri: &Uri,
        method: Method,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, CommandError> {
        let request = self.request(uri, method, headers, body);
        let exchange = async {
            let answered = self.call(uri, request).await?;
            let (parts, body) = answered.whole(ANSWER_BYTES_MAX).await;
            let body = body.map_err(|error| {
                CommandError::new(format!("cannot read what {uri} answered: {error}"))
            })?;
            Ok(Answer {
                status: parts.status,
                headers: parts.headers,
                body,
            })
        };
        self.in_time(uri, exchange).await
    }

    async fn in_time<T>(
        &self,
        uri: &Uri,
        exchange: impl Future<Output = Result<T, CommandError>>,
    ) -> Result<T, CommandError> {
        let late = |_| {
            CommandError::new(format!(
                "{uri} did not answer within {} s",
                self.answer_time_max.as_secs()
            ))
        };
        tokio::time::timeout(self.answer_time_max, exchange)
            .await
            .map_err(late)?
    }

    /// Asks the admin listener for a text, such as `/metrics`; `path` begins with a slash.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn text(&self, path: &str) -> Result<String, CommandError> {
        let uri = self.uri(path)?;
        let answer = self
            .exchange(&uri, Method::GET, HeaderMap::new(), Bytes::new())
            .await?;
        if !answer.status.is_success() {
            return Err(refusal(&uri, &answer));
        }
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }

    /// Where the bus is.
    #[must_use]
    pub fn address(&self) -> String {
        self.base.to_string()
    }

    /// Asks the admin API for what goes on for as long as somebody reads it, and hands on the
    /// pieces in which it comes; it ends where the bus ends it.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn stream(&self, path: &str) -> Result<mpsc::Receiver<Bytes>, CommandError> {
        let uri = self.api_uri(path)?;
        let request = self.request(&uri, Method::GET, HeaderMap::new(), Bytes::new());
        let mut answered = self.in_time(&uri, self.call(&uri, request)).await?;
        if !answered.head.status.is_success() {
            let (head, body) = answered.whole(ANSWER_BYTES_MAX).await;
            let answer = Answer {
                status: head.status,
                headers: head.headers,
                body: body.unwrap_or_default(),
            };
            return Err(refusal(&uri, &answer));
        }
        let (sender, pieces) = mpsc::channel(16);
        tokio::spawn(async move {
            while let Some(Ok(frame)) = answered.body().frame().await {
                let Ok(piece) = frame.into_data() else {
                    continue;
                };
                if sender.send(piece).await.is_err() {
                    break;
                }
            }
        });
        Ok(pieces)
    }

    /// Asks the admin API; `path` begins with a slash, query included.
    ///
    /// # Errors
    /// As [`Client::send`], and what the API's problem document says.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CommandError> {
        let (uri, answer) = self
            .api(Method::GET, path, HeaderMap::new(), Bytes::new())
            .await?;
        read(&uri, &answer)
    }

    /// As [`Client::get`], of a list. Where it lacks something that is said on standard error.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Page<T>, CommandError> {
        let page: Page<T> = self.get(path).await?;
        if !page.incomplete.is_empty() {
            let shards: Vec<String> = page.incomplete.iter().map(u16::to_string).collect();
            eprintln!(
                "what is in these shards is missing here, since no node that can be reached owns \
                 them: {}",
                shards.join(", ")
            );
        }
        Ok(page)
    }

    /// As [`Client::get`]; none where there is no such thing.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, CommandError> {
        let (uri, answer) = self
            .api(Method::GET, path, HeaderMap::new(), Bytes::new())
            .await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        read(&uri, &answer).map(Some)
    }

    /// Has the admin API do something.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CommandError> {
        let body = serde_json::to_vec(body)
            .map_err(|error| CommandError::new(format!("cannot write the request: {error}")))?;
        let json = HeaderMap::from_iter([(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        )]);
        let (uri, answer) = self.api(Method::POST, path, json, body.into()).await?;
        read(&uri, &answer)
    }

    fn api_uri(&self, path: &str) -> Result<Uri, CommandError> {
        self.uri(&format!("/api/v1{path}"))
    }

    fn uri(&self, path: &str) -> Result<Uri, CommandError> {
        let base = self.base.to_string();
        let uri = format!("{}{path}", base.trim_end_matches('/'));
        uri.parse()
            .map_err(|error| CommandError::new(format!("{uri} is not an address to call: {error}")))
    }

    async fn api(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<(Uri, Answer), CommandError> {
        let uri = self.api_uri(path)?;
        let answer = self.exchange(&uri, method, headers, body).await?;
        Ok((uri, answer))
    }
}

fn read<T: DeserializeOwned>(uri: &Uri, answer: &Answer) -> Result<T, CommandError> {
    if !answer.status.is_success() {
        return Err(refusal(uri, answer));
    }
    serde_json::from_slice(&answer.body).map_err(|error| {
        CommandError::new(format!("cannot understand what {uri} answered: {error}"))
            .help("is that the admin address of a bus?")
    })
}

fn refusal(uri: &Uri, answer: &Answer) -> CommandError {
    let problem = serde_json::from_slice::<ProblemDocument<'_>>(&answer.body).ok();
    let detail = problem.map_or_else(
        || "and no reason".to_owned(),
        |problem| problem.detail.into_owned(),
    );
    let failed = CommandError::new(format!(
        "{uri} answered {}: {}",
        answer.status,
        output::line(&detail)
    ));
    match answer.status {
        StatusCode::UNAUTHORIZED => failed.help("give a key: POINTSMAN_ADMIN_KEY=… or --admin-key"),
        _ => failed,
    }
}

/// What to do about a certificate that was refused.
fn of_certificate(cause: &str) -> &'static str {
    match () {
        () if cause.contains("UnknownIssuer") => {
            "name the authority's certificate, or the bus's own: --ca FILE"
        }
        () if cause.contains("not valid for name") || cause.contains("NotValidForName") => {
            "write the address with a name that stands in the certificate"
        }
        () if cause.contains("CaUsedAsEndEntity") => {
            "the bus shows an authority's own certificate: let that sign one for the bus"
        }
        () if cause.contains("xpired") => "let the bus have a new certificate",
        () => {
            "the bus's certificate is not one that this system takes; --ca FILE names others to \
             trust"
        }
    }
}

fn trusting(path: &Path) -> Result<net::Client, CommandError> {
    let wrong = |why: String| {
        CommandError::new(format!(
            "cannot trust the certificates in {}: {why}",
            path.display()
        ))
    };
    let pem = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    net::unguarded(Trust::Certificates(&pem))
        .map_err(|why| wrong(why).help("it is to be a file in PEM: -----BEGIN CERTIFICATE-----"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: AdminArgs,
    }

    #[test]
    fn a_key_with_the_scheme_before_it_is_refused_and_not_shown() {
        for key in ["Bearer hunter2", "bearer\thunter2", "hunter2\n"] {
            let line = ["dead", "--admin", "http://127.0.0.1:1", "--admin-key", key];
            let args = Line::try_parse_from(line).ok().unwrap().args;
            let error = Client::of_admin(&args).unwrap_err();
            let told = format!("{error} {} {error:?} {args:?}", error.help_text());
            assert!(!told.contains("hunter2"), "{told}");
            let of = "the key of --admin-key or POINTSMAN_ADMIN_KEY";
            let expect = match key.ends_with('\n') {
                true => format!("{of} is no key"),
                false => format!("{of} begins with the word Bearer, which would be sent twice"),
            };
            assert!(told.starts_with(&expect), "{told}");
        }
    }

    #[test]
    fn the_key_that_is_given_goes_before_that_of_the_rule_file() {
        let of_rules = |key: &str| (Text::Env("KEY".into()), Secret::new(key.to_owned()));
        let header = |given: Option<&str>, in_rules: &(Text, Secret)| {
            let given = given.map(|key| Secret::new(key.to_owned()));
            authorization(given.as_ref(), "--key", Some(in_rules))
        };
        let value = header(Some("mine"), &of_rules("Bearer theirs"));
        assert_eq!(value.unwrap().unwrap(), "Bearer mine");
        let value = header(None, &of_rules("theirs"));
        assert_eq!(value.unwrap().unwrap(), "Bearer theirs");
        assert_eq!(
            header(None, &of_rules("Bearer theirs"))
                .unwrap_err()
                .to_string(),
            "the environment variable KEY begins with the word Bearer, which would be sent twice"
        );
    }
}
