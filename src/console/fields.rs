//! What a page is asked with: the pairs of a query or of a form. What is left empty in a form is
//! not there.

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::Uri;
use axum::http::request::Parts;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use url::form_urlencoded;

use super::failure::Failure;
use crate::admin::refused::Refused;

/// Pairs of names and values, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    pub(super) fn of(text: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(text).into_owned();
        Self(
            pairs
                .filter(|(_, value)| !value.trim().is_empty())
                .collect(),
        )
    }

    /// The first value of a name; empty where there is none.
    pub(super) fn text(&self, name: &str) -> &str {
        let mut named = self.0.iter().filter(|(own, _)| own == name);
        named.next().map_or("", |(_, value)| value)
    }

    /// Whether a name is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// Every value of a name.
    pub(super) fn all<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'f str> {
        let named = self.0.iter().filter(move |(own, _)| own == name);
        named.map(|(_, value)| value.as_str())
    }

    /// Only the pairs of these names.
    pub(super) fn only(&self, names: &[&str]) -> Self {
        let wanted = self
            .0
            .iter()
            .filter(|(name, _)| names.contains(&name.as_str()));
        Self(wanted.cloned().collect())
    }

    /// The same with another value of a name, or with none.
    pub(super) fn with(&self, name: &str, value: Option<&str>) -> Self {
        let others = self.0.iter().filter(|(own, _)| own != name).cloned();
        let new = value.map(|value| (name.to_owned(), value.to_owned()));
        Self(others.chain(new).collect())
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A path that is asked with these.
    pub(super) fn at(&self, path: &str) -> String {
        if self.0.is_empty() {
            return path.to_owned();
        }
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(self.pairs());
        format!("{path}?{}", query.finish())
    }

    /// These as a query of the API, read as the API reads it.
    pub(super) fn query<Q: DeserializeOwned>(&self) -> Result<Q, Failure> {
        let uri: Result<Uri, _> = self.at("/").parse();
        let uri = uri.map_err(|_| Refused::bad_request("this is no query"))?;
        let Query(query) = Query::try_from_uri(&uri).map_err(Refused::from)?;
        Ok(query)
    }

    /// These as a body of the API: texts, and lists under the names that say `lists`.
    pub(super) fn body<B: DeserializeOwned>(&self, lists: &[&str]) -> Result<B, Failure> {
        let mut body = Map::new();
        for (name, value) in &self.0 {
            if lists.contains(&name.as_str()) {
                let list = body.entry(name).or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(list) = list {
                    list.push(value.as_str().into());
                }
            } else {
                let value = match value.as_str() {
                    "true" => Value::Bool(true),
                    text => text.into(),
                };
                body.insert(name.clone(), value);
            }
        }
        let wrong = |error: serde_json::Error| Refused::bad_request(format!("{error}"));
        Ok(serde_json::from_value(Value::Object(body)).map_err(wrong)?)
    }
}

/// The query of a request.
#[derive(Debug)]
pub(super) struct Asked(pub(super) Fields);

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let query = parts.uri.query().unwrap_or_default();
        Ok(Self(Fields::of(query.as_bytes())))
    }
}

/// The form of a request.
#[derive(Debug)]
pub(super) struct Form(pub(super) Fields);

impl<S: Send + Sync> FromRequest<S> for Form {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let body = Bytes::from_request(request, state).await;
        let body = body.map_err(Refused::from)?;
        Ok(Self(Fields::of(&body)))
    }
}
