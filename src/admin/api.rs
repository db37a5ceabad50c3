//! The registry of the admin API: the one place from which both the routes and the document that
//! describes them are made, so that no route can be without its description, and no description
//! can tell something else than what the route takes and answers.
//!
//! An operation is either read or changes something. Both are plain functions of what they are
//! given; taking requests apart, refusing what they do not know by its name, and writing the answer
//! is done here, once for all of them.

mod document;
mod idempotency;
mod input;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::handler::Handler;
use axum::http::{HeaderMap, Method, Uri, header};
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, sse};
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Json, Router};
use bytes::Bytes;
use futures::Stream;
use pointsman_connectors::listener::Endless;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(super) use self::document::SchemaOf;
use self::document::{Document, Operation};
pub(super) use self::idempotency::Answers;
use self::idempotency::Keyed;
pub(crate) use self::input::{InPath, Nothing};
pub(super) use self::input::{Segments, read_body};
use super::Admin;
use super::refused::Refused;
use super::routes::BODY_BYTES_MAX;

/// What an operation returns: its answer, or why there is none.
pub(crate) type Answer<T> = Result<T, Refused>;

/// Where the document is served.
const DOCUMENT_PATH: &str = "/openapi.json";

/// The operations of the API, as they are registered.
pub(super) struct Api {
    router: Router<Arc<Admin>>,
    document: Document,
    answers: Answers,
}

impl Api {
    /// No operations yet; these are the answers that are given again.
    pub(super) fn new(answers: Answers) -> Self {
        Self {
            router: Router::new(),
            document: Document::default(),
            answers,
        }
    }

    /// Registers an operation that changes nothing: `GET` on a path below `/api/v1`. `P` is what
    /// its path names, `Q` its query parameters, `A` its answer.
    pub(super) fn read<P, Q, A, F>(
        mut self,
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        handler: impl Fn(Arc<Admin>, P, Q) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        P: InPath + Send + 'static,
        Q: DeserializeOwned + JsonSchema + Send + 'static,
        A: Serialize + JsonSchema + 'static,
        F: Future<Output = Answer<A>> + Send + 'static,
    {
        let operation = Operation::new(Method::GET, path, id, summary);
        self.document.read::<P, Q, A>(operation);
        let route = get(
            async move |State(admin): State<Arc<Admin>>,
                        path: Segments,
                        query: Result<Query<Q>, QueryRejection>| {
                let read = async || {
                    let (path, Query(query)) = (P::of(&path)?, query?);
                    handler(admin, path, query).await
                };
                read().await.map(Json)
            },
        );
        self.route(path, route)
    }

    /// Registers an operation that changes something: `POST` on a path below `/api/v1`. `P` is what
    /// its path names, `B` its body, `A` its answer. A body that is empty stands for `{}`.
    pub(super) fn change<P, B, A, F>(
        self,
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        handler: impl Fn(Arc<Admin>, P, B) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        P: InPath + Send + 'static,
        B: DeserializeOwned + JsonSchema + Send + 'static,
        A: Serialize + JsonSchema + 'static,
        F: Future<Output = Answer<A>> + Send + 'static,
    {
        self.change_of(BODY_BYTES_MAX, path, id, summary, handler)
    }

    /// The same with a body of so many bytes at most.
    pub(super) fn change_of<P, B, A, F>(
        mut self,
        bytes_max: usize,
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        handler: impl Fn(Arc<Admin>, P, B) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        P: InPath + Send + 'static,
        B: DeserializeOwned + JsonSchema + Send + 'static,
        A: Serialize + JsonSchema + 'static,
        F: Future<Output = Answer<A>> + Send + 'static,
    {
        let operation = Operation::new(Method::POST, path, id, summary);
        self.document.change::<P, B, A>(operation);
        let answers = self.answers.clone();
        let route = post(
            async move |State(admin): State<Arc<Admin>>,
                        path: Segments,
                        query: Result<Query<Nothing>, QueryRejection>,
                        uri: Uri,
                        headers: HeaderMap,
                        body: Result<Bytes, BytesRejection>| {
                let body = body?;
                let keyed = Keyed::of(&headers, uri.path(), &body)?;
                let work = async move {
                    let change = async {
                        let (path, _none) = (P::of(&path)?, query?);
                        handler(admin, path, read_body(&headers, &body)?).await
                    };
                    change.await.map(Json).into_response()
                };
                Ok::<_, Refused>(match keyed {
                    Some(keyed) => answers.once(keyed, work).await,
                    None => work.await,
                })
            },
        );
        self.route(path, route.layer(DefaultBodyLimit::max(bytes_max)))
    }

    /// Registers what goes on for as long as somebody reads it: `GET` on a path below `/api/v1`,
    /// answered with server-sent events. `Q` is its query parameters; `items` are the names of the
    /// events, each with the schema of its data.
    pub(super) fn stream<Q, S, F>(
        mut self,
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        items: &[(&'static str, SchemaOf)],
        handler: impl Fn(Arc<Admin>, Q) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        Q: DeserializeOwned + JsonSchema + Send + 'static,
        S: Stream<Item = Result<sse::Event, Infallible>> + Send + 'static,
        F: Future<Output = Answer<S>> + Send + 'static,
    {
        let operation = Operation::new(Method::GET, path, id, summary);
        self.document.stream::<Q>(operation, items);
        let route = get(
            async move |State(admin): State<Arc<Admin>>,
                        query: Result<Query<Q>, QueryRejection>| {
                let Query(query) = query?;
                let stream = handler(admin, query).await?;
                let told = Sse::new(stream).keep_alive(KeepAlive::default());
                Ok::<_, Refused>((Extension(Endless), told))
            },
        );
        self.route(path, route)
    }

    /// Registers what is not of the API's own kind: a probe, or an answer in another format.
    pub(super) fn other<T: 'static>(
        mut self,
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        media_type: &'static str,
        handler: impl Handler<T, Arc<Admin>>,
    ) -> Self {
        let operation = Operation::new(Method::GET, path, id, summary);
        self.document.other(operation, media_type);
        self.router = self.router.route(path, get(handler));
        self
    }

    fn route(mut self, path: &str, route: MethodRouter<Arc<Admin>>) -> Self {
        self.router = self
            .router
            .route(&format!("{}{path}", document::BASE), route);
        self
    }

    /// The routes, and what is told of them.
    pub(super) fn finish(mut self) -> (Router<Arc<Admin>>, String) {
        let operation = Operation::new(Method::GET, DOCUMENT_PATH, "getDocument", "This document");
        self.document
            .read::<(), Nothing, document::Itself>(operation);
        let document = std::mem::take(&mut self.document).finish();
        let served = Bytes::from(document.clone());
        let route = get(async move |query: Result<Query<Nothing>, QueryRejection>| {
            query.map_err(Refused::from)?;
            let media_type = [(header::CONTENT_TYPE, "application/json")];
            Ok::<_, Refused>((media_type, served).into_response())
        });
        (self.route(DOCUMENT_PATH, route).router, document)
    }
}
