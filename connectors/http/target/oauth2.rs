//! Tokens by OAuth 2.0 client credentials: RFC 6749, section 4.4.
//!
//! One token serves all attempts. It is asked for when it is first needed and again shortly before
//! it expires; whoever needs it meanwhile waits for the one request under way. A token that the
//! target answers with 401 is given up, and the call is made once more with a new one.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use pointsman_schemas::outcome::RESPONSE_BYTES_MAX;
use pointsman_schemas::{Class, Outcome};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use url::form_urlencoded;

use super::auth::{CredentialsIn, basic};
use crate::net::answer::Answer;
use crate::net::classify::{classify, retry_after};
use crate::net::client::{Client, client};
use crate::net::dial::Way;
use crate::net::unanswered::failed;

/// How long before it expires a token is no longer used: the time that a call may take to arrive,
/// and clocks that differ.
const MARGIN: Duration = Duration::from_secs(30);

/// How long may be waited for a token, the requests of others included: below the usual timeout of
/// an attempt, so that an endpoint that hangs counts as unavailable.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a token is used whose endpoint does not say.
const LIFETIME_UNSAID: Duration = Duration::from_secs(300);

/// What to ask a token endpoint for.
pub(super) struct TokenRequest {
    pub(super) client_id: String,
    pub(super) client_secret: String,
    /// Scopes, separated by spaces; empty for none.
    pub(super) scope: String,
    pub(super) audience: Option<String>,
    pub(super) credentials: CredentialsIn,
}

/// The tokens of one client at one endpoint.
pub(super) struct OAuth2 {
    client: Client,
    endpoint: Uri,
    headers: HeaderMap,
    form: Bytes,
    token: Mutex<Option<Token>>,
}

/// A token and when it is no longer used.
#[derive(Clone)]
struct Token {
    header: HeaderValue,
    until: Instant,
}

/// What an endpoint answers with: RFC 6749, section 5.1.
#[derive(Deserialize)]
struct TokenResponse {
    access_token: String,
    /// Seconds; some endpoints write it as a text.
    expires_in: Option<serde_json::Value>,
}

impl OAuth2 {
    /// Makes ready to ask; asks nothing yet.
    pub(super) fn new(endpoint: Uri, request: &TokenRequest, way: Way) -> Self {
        let mut headers = HeaderMap::from_iter([
            (
                CONTENT_TYPE,
                HeaderValue::from_static("application/x-www-form-urlencoded"),
            ),
            (ACCEPT, HeaderValue::from_static("application/json")),
        ]);
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        if !request.scope.is_empty() {
            form.append_pair("scope", &request.scope);
        }
        if let Some(audience) = &request.audience {
            form.append_pair("audience", audience);
        }
        match request.credentials {
            CredentialsIn::Header => {
                // Section 2.3.1 has both form-encoded before they are joined.
                let encode = |text: &str| {
                    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>()
                };
                headers.insert(
                    AUTHORIZATION,
                    basic(&encode(&request.client_id), &encode(&request.client_secret)),
                );
            }
            CredentialsIn::Body => {
                form.append_pair("client_id", &request.client_id)
                    .append_pair("client_secret", &request.client_secret);
            }
        }
        Self {
            client: client(way),
            endpoint,
            headers,
            form: form.finish().into(),
            token: Mutex::new(None),
        }
    }

    /// A token for the header `Authorization`, and whether it had been used before.
    ///
    /// Dropping the future gives the request up; the next one to need a token asks anew.
    ///
    /// # Errors
    /// The outcome of the attempt that needed it: refused where the endpoint does not know us,
    /// unavailable where it fails.
    pub(super) async fn token(&self) -> Result<(HeaderValue, bool), Outcome> {
        let late = |_| {
            Outcome::new(
                Class::Unavailable,
                format!(
                    "no token: the token endpoint took longer than {} s",
                    TOKEN_TIMEOUT.as_secs()
                ),
            )
        };
        timeout(TOKEN_TIMEOUT, self.current()).await.map_err(late)?
    }

    async fn current(&self) -> Result<(HeaderValue, bool), Outcome> {
        let mut token = self.token.lock().await;
        if let Some(token) = token.as_ref().filter(|token| Instant::now() < token.until) {
            return Ok((token.header.clone(), true));
        }
        let new = self.request().await?;
        Ok((token.insert(new).header.clone(), false))
    }

    /// Gives up a token that the target did not take, unless it has been replaced already.
    pub(super) async fn forget(&self, header: &HeaderValue) {
        let mut token = self.token.lock().await;
        if token.as_ref().is_some_and(|token| token.header == header) {
            *token = None;
        }
    }

    async fn request(&self) -> Result<Token, Outcome> {
        let mut request = Request::new(self.form.clone());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.clone();
        *request.headers_mut() = self.headers.clone();
        let asked = Instant::now();
        let called = self.client.call(request, Some(asked + TOKEN_TIMEOUT)).await;
        let answered = called.map_err(|error| {
            let outcome = *failed(error);
            Outcome {
                class: Class::Unavailable,
                message: format!("no token: {}", outcome.message),
                ..outcome
            }
        })?;
        let (parts, answer) = Answer::read(answered, RESPONSE_BYTES_MAX, None).await;
        let wait = retry_after(&parts.headers, SystemTime::now());
        let no_token = |class, why: &str| Outcome {
            retry_after: wait,
            ..Outcome::new(class, format!("no token: the token endpoint {why}"))
        };
        match classify(parts.status, wait) {
            Class::Delivered => {
                let token = serde_json::from_slice(&answer.bytes)
                    .ok()
                    .and_then(|response| Token::new(response, asked));
                token.ok_or_else(|| {
                    no_token(Class::Unavailable, "answered without a usable access_token")
                })
            }
            // What is wrong with our request stays wrong until somebody changes the settings: the
            // subscription pauses, and nothing is lost.
            Class::Refused | Class::Rejected | Class::Gone => Err(no_token(
                Class::Refused,
                &format!("answered {}", parts.status),
            )),
            Class::Throttled => Err(no_token(
                Class::Throttled,
                &format!("answered {}", parts.status),
            )),
            Class::Failed | Class::Unavailable => Err(no_token(
                Class::Unavailable,
                &format!("answered {}", parts.status),
            )),
        }
    }
}

impl Token {
    fn new(response: TokenResponse, asked: Instant) -> Option<Self> {
        let mut header = HeaderValue::try_from(format!("Bearer {}", response.access_token))
            .ok()
            .filter(|_| !response.access_token.is_empty())?;
        header.set_sensitive(true);
        let seconds = response.expires_in.and_then(|seconds| match seconds {
            serde_json::Value::String(text) => text.parse().ok(),
            other => other.as_u64(),
        });
        let lifetime = seconds
            .map_or(LIFETIME_UNSAID, Duration::from_secs)
            .min(Duration::from_secs(86_400));
        // A token that lives shorter than the margin is still good for half its life.
        Some(Self {
            header,
            until: asked + lifetime.saturating_sub(MARGIN).max(lifetime / 2),
        })
    }
}
