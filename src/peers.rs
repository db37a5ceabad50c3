//! The way to another node of the cluster: its admin listener, over HTTP/1.1 connections that are
//! kept.

#[cfg(test)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, StatusCode, Uri};
use pointsman_connectors::credential::BEARER;
use pointsman_connectors::listener::ProblemDocument;
use pointsman_connectors::net::{self, Trust, root};
use pointsman_journal::ShardNumber;
use pointsman_peer::{CallError, MESSAGE_BYTES_MAX, Transport};
use pointsman_schemas::Secret;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::output;

/// A connection, and the turn to call over it, must be had within this time.
const CONNECTED_WITHIN: Duration = Duration::from_secs(5);

/// Calls to one node at once: several nodes together take a part of its connections, and its
/// operator needs some too.
const CALLS_MAX: usize = 32;

/// Another node. Everything that asks it goes over one of these, whatever shard it is about.
#[derive(Debug)]
pub struct PeerNode {
    address: Authority,
    key: Option<HeaderValue>,
    client: net::Client,
    turns: Semaphore,
}

impl PeerNode {
    /// The node whose admin listener has this address, `host:port`, and takes this key where it
    /// asks for one.
    ///
    /// # Errors
    /// Why the one is no address, or the other no key.
    pub fn new(address: &str, key: Option<&Secret>) -> Result<Self, String> {
        let invalid = |error| format!("{address:?} is not the address of a node: {error}");
        Ok(Self {
            address: address.parse().map_err(invalid)?,
            key: key.map(authorization).transpose()?,
            client: net::unguarded(Trust::Nobody)?,
            turns: Semaphore::new(CALLS_MAX),
        })
    }

    fn request(&self, shard: ShardNumber, call: Bytes) -> http::Result<Request<Bytes>> {
        let uri = Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(self.address.clone())
            .path_and_query(format!("/api/v1/shards/{}/calls", shard.get()));
        let request = Request::post(uri.build()?);
        let request = match &self.key {
            Some(key) => request.header(AUTHORIZATION, key),
            None => request,
        };
        request.body(call)
    }

    /// Nothing has happened.
    fn unsent(&self, why: impl std::fmt::Display) -> CallError {
        CallError::Unsent(format!("cannot ask the node at {}: {why}", self.address))
    }

    /// It may have happened.
    fn lost(&self, why: impl std::fmt::Display) -> CallError {
        CallError::Lost(format!("the node at {}: {why}", self.address))
    }
}

fn authorization(key: &Secret) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::try_from(format!("{BEARER}{}", key.expose()))
        .map_err(|_| "the key has characters that no header holds".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

#[async_trait]
impl Transport for PeerNode {
    async fn call(&self, shard: ShardNumber, call: Bytes) -> Result<Bytes, CallError> {
        let connected = Instant::now() + CONNECTED_WITHIN;
        let turn = timeout_at(connected, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(self.unsent(format_args!("{CALLS_MAX} calls to it are under way")));
        };
        let request = self.request(shard, call);
        let request = request.map_err(|error| self.unsent(error))?;
        let answered = self.client.call(request, Some(connected)).await;
        let answered = answered.map_err(|error| match &error {
            net::CallError::Connect(_) | net::CallError::Late => self.unsent(root(&error)),
            net::CallError::Broken { .. } => self.lost(root(&error)),
        })?;
        let (head, body) = answered.whole(MESSAGE_BYTES_MAX).await;
        match (head.status, body) {
            (StatusCode::OK, Ok(body)) => Ok(body),
            (StatusCode::OK, Err(error)) => Err(self.lost(error)),
            // It was refused for what it is, before anybody looked at what it asks for.
            (status, body) if status.is_client_error() => {
                Err(self.unsent(refusal(status, body.ok())))
            }
            (status, body) => Err(self.lost(refusal(status, body.ok()))),
        }
    }
}

/// What an answer says that is none of a shard.
fn refusal(status: StatusCode, body: Option<Bytes>) -> String {
    let body = body.unwrap_or_default();
    match serde_json::from_slice::<ProblemDocument<'_>>(&body) {
        Ok(problem) => format!("it answered {status}: {}", output::line(&problem.detail)),
        Err(_) => format!("it answered {status}"),
    }
}
