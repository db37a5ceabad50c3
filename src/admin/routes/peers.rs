//! What other nodes of the cluster ask this one about the shards that it owns.
//!
//! They speak in bytes of their own (`pointsman-peer`), in which also stands that this node does
//! not own a shard: an answer with another status than 200 is of somebody who has not looked at
//! the call.

use std::sync::Arc;

use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use bytes::Bytes;
use pointsman_journal::ShardNumber;
use pointsman_peer::{MESSAGE_BYTES_MAX, serve_one_of};

use super::Bus;
use crate::admin::Admin;
use crate::admin::api::Answer;
use crate::admin::refused::Refused;

/// Where they ask.
pub(in crate::admin) const PATH: &str = "/api/v1/shards/{number}/calls";

pub(super) fn calls() -> MethodRouter<Arc<Admin>> {
    post(call).layer(DefaultBodyLimit::max(MESSAGE_BYTES_MAX))
}

async fn call(
    State(admin): Bus,
    path: Result<Path<u16>, PathRejection>,
    call: Result<Bytes, BytesRejection>,
) -> Answer<Response> {
    let alone = || Refused::not_found("shard here: this bus runs on one machine");
    let shards = admin.shards.as_deref().ok_or_else(alone)?;
    let invalid = || Refused::bad_request("that is not the number of a shard");
    let Path(number) = path.map_err(|_| invalid())?;
    let number = ShardNumber::new(number).ok_or_else(invalid)?;
    Ok(answer(serve_one_of(shards, number, call?).await))
}

/// An answer in the nodes' own bytes.
pub(in crate::admin) fn answer(bytes: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response()
}
