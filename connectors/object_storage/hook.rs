//! Notifications that the store sends by HTTP.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::future::BoxFuture;
use http::StatusCode;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::request::Parts;
use pointsman_schemas::{Problem, Secret, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::notification::Raw;
use crate::listener::EVENTS_PATH;
use crate::listener::{Handler, Refusal, Request, Response};
use crate::parameter::resolve;
use crate::requests::{Queue, Queued, accepted, queue};
use crate::{OpenError, SourceContext};

/// Where the store sends its notifications: a path of the listener.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// The path on the listener, such as `/hooks/photos`.
    pub path: String,
    /// What the store shows in `Authorization`: MinIO's `auth_token` as it is or behind `Bearer`,
    /// or `user:password` of a URL.
    #[schemars(extend("writeOnly" = true))]
    pub token: Option<Text>,
}

impl Hook {
    pub(super) fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let printable = |byte: u8| byte.is_ascii_graphic() && !b"?#\\\"<>".contains(&byte);
        if !self.path.starts_with('/')
            || !self.path.bytes().all(printable)
            || self.path == EVENTS_PATH
        {
            problems.push(
                Problem::new("is not a path of its own")
                    .at("path")
                    .help("write one such as /hooks/photos"),
            );
        }
        match &self.token {
            None => problems.push(
                Problem::new("whoever knows the path can send notifications here")
                    .at("path")
                    .warn()
                    .help("add token: { env: NAME }"),
            ),
            Some(token) if token.literal() == Some("") => {
                problems.push(Problem::new("a token must not be empty").at("token"))
            }
            Some(_) => {}
        }
        problems
    }

    /// Answers on the path.
    ///
    /// # Errors
    /// The path is taken, or the token is missing.
    pub(super) fn open(&self, context: &SourceContext) -> Result<Queued<Raw>, OpenError> {
        let path = ["notifications".into(), "webhook".into(), "token".into()];
        let token = self
            .token
            .as_ref()
            .map(|token| resolve(token, &path).map(Secret::new))
            .transpose()?;
        let (queue, waiting) = queue();
        let owner = format!("{}/{}", context.tenant, context.name);
        let attached = context
            .routes
            .attach(&self.path, &owner, Arc::new(Door { token, queue }));
        let attachment = attached.map_err(|taken| {
            OpenError(OpenError::from(taken).0.at("webhook").at("notifications"))
        })?;
        Ok(waiting.attached(attachment))
    }
}

/// What answers on the path.
struct Door {
    token: Option<Secret>,
    queue: Queue<Raw>,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
    }
}

impl Handler for Door {
    fn admit(&self, head: &Parts) -> Result<(), Refusal> {
        let Some(token) = &self.token else {
            return Ok(());
        };
        let token = token.expose();
        let shown = head
            .headers
            .get(AUTHORIZATION)
            .map(|value| value.as_bytes())
            .unwrap_or_default();
        let basic = format!("Basic {}", BASE64_STANDARD.encode(token));
        // Hashes are of one length, so that the time says nothing of how much fits.
        let fits = |right: &str| Sha256::digest(shown).ct_eq(&Sha256::digest(right.as_bytes()));
        if bool::from(fits(token) | fits(&format!("Bearer {token}")) | fits(&basic)) {
            return Ok(());
        }
        let refusal = Refusal::new(
            StatusCode::UNAUTHORIZED,
            "the token in Authorization is missing or wrong",
        );
        Err(refusal.with(WWW_AUTHENTICATE, http::HeaderValue::from_static("Bearer")))
    }

    fn post(&self, request: Request) -> BoxFuture<'_, Result<Response, Refusal>> {
        let Request { body, held, .. } = request;
        // A store that only tries whether somebody listens sends nothing.
        let stored = (!body.is_empty()).then(|| {
            self.queue.hand(held, |acknowledgement| Raw {
                body,
                acknowledgement,
            })
        });
        Box::pin(async {
            if let Some(stored) = stored {
                stored.await?;
            }
            Ok(accepted())
        })
    }

    fn consents_to(&self, _: &str) -> bool {
        true
    }
}
