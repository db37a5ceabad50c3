//! The bucket itself: its listing, and what its objects say of themselves.

use std::collections::BTreeMap;

use aws_sdk_s3::types::EncodingType;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use pointsman_schemas::media_type::is_json_media_type;
use serde_json::{Map, Value, json};

use super::Scope;
use super::connection::Bucket;
use super::happening::{Happening, Kind, content_hash, decode_key};
use super::known::{Identity, Listed};
use super::reconciler::Listing;
use crate::SourceError;
use crate::aws::explain;

/// The documented keys of an object's metadata, from an answer to HEAD or GET: two types with the
/// same fields.
macro_rules! metadata {
    ($told:expr) => {{
        let told = &$told;
        let mut found = Map::new();
        let texts = [
            ("contentType", told.content_type()),
            ("contentEncoding", told.content_encoding()),
            ("contentLanguage", told.content_language()),
            ("contentDisposition", told.content_disposition()),
            ("cacheControl", told.cache_control()),
            (
                "storageClass",
                told.storage_class().map(|class| class.as_str()),
            ),
        ];
        found.extend(
            texts
                .into_iter()
                .filter_map(|(name, text)| Some((name.to_owned(), Value::from(text?)))),
        );
        found.extend(
            told.content_length()
                .map(|length| ("size".to_owned(), length.into())),
        );
        let modified = told
            .last_modified()
            .and_then(|time| time.to_millis().ok())
            .map(super::time);
        found.extend(modified.map(|time| ("lastModified".to_owned(), time.into())));
        found.extend(
            told.metadata()
                .map(|own| ("metadata".to_owned(), json!(own))),
        );
        found
    }};
}

/// What stores write where whoever made the object did not say what it is.
fn is_undeclared(media_type: &str) -> bool {
    ["binary/octet-stream", "application/octet-stream"]
        .iter()
        .any(|nothing| nothing.eq_ignore_ascii_case(media_type.trim()))
}

/// The eTag as HTTP writes it: what was told is looked at, not what came after it.
fn quoted(happening: &Happening) -> Option<String> {
    happening.etag.as_ref().map(|etag| format!("\"{etag}\""))
}

/// What is looked up of each object that is created.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Its metadata.
    pub(super) head: bool,
    /// The object itself, up to so many bytes.
    pub(super) inline_bytes: Option<u64>,
}

impl Bucket {
    /// Lists the bucket; `began` is when, milliseconds since 1970.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(super) async fn list(self, scope: Scope, began: i64) -> Result<Listing, String> {
        let identity = self.identity().await;
        let mut objects = BTreeMap::new();
        let mut token = None;
        loop {
            let page = self
                .client
                .list_objects_v2()
                .bucket(&self.name)
                .set_prefix(Some(scope.prefix.clone()).filter(|prefix| !prefix.is_empty()))
                // XML cannot hold every key.
                .encoding_type(EncodingType::Url)
                .set_continuation_token(token)
                .send()
                .await
                .map_err(|error| {
                    format!("cannot list the bucket {}: {}", self.name, explain(&error))
                })?;
            let encoded = page.encoding_type() == Some(&EncodingType::Url);
            for object in page.contents() {
                let Some(key) = object.key() else { continue };
                let key = if encoded {
                    decode_key(key)?
                } else {
                    key.to_owned()
                };
                if !scope.covers(&key) {
                    continue;
                }
                let etag = object
                    .e_tag()
                    .unwrap_or_default()
                    .trim_matches('"')
                    .to_owned();
                let listed = Listed {
                    hash: content_hash(&etag),
                    etag,
                    size: object
                        .size()
                        .and_then(|size| u64::try_from(size).ok())
                        .unwrap_or_default(),
                    modified: object
                        .last_modified()
                        .and_then(|time| time.to_millis().ok())
                        .unwrap_or_default(),
                };
                objects.insert(key, listed);
            }
            token = page
                .next_continuation_token
                .filter(|_| page.is_truncated == Some(true));
            if token.is_none() {
                return Ok(Listing {
                    objects,
                    began,
                    identity,
                });
            }
        }
    }

    /// What tells this bucket from another one of its name, as far as the store tells and we may
    /// ask.
    async fn identity(&self) -> Identity {
        let head = self.client.head_bucket().bucket(&self.name).send().await;
        let region = head
            .ok()
            .and_then(|head| head.bucket_region)
            .unwrap_or_default();
        // Stores that do not know the prefix list them all.
        let buckets = self
            .client
            .list_buckets()
            .prefix(&self.name)
            .send()
            .await
            .ok()
            .and_then(|all| all.buckets)
            .unwrap_or_default();
        let bucket = buckets
            .into_iter()
            .find(|bucket| bucket.name() == Some(&*self.name));
        let created = bucket.and_then(|bucket| bucket.creation_date()?.to_millis().ok());
        Identity { region, created }
    }

    /// What an object says of itself. Where it is gone, was rewritten meanwhile or may not be seen,
    /// that is told in its place.
    ///
    /// # Errors
    /// The store cannot be asked now.
    pub(super) async fn look(
        &self,
        happening: &Happening,
        look: Look,
    ) -> Result<Map<String, Value>, SourceError> {
        let wanted = look.head || look.inline_bytes.is_some();
        if !wanted || happening.mark.kind != Kind::Created {
            return Ok(Map::new());
        }
        match look.inline_bytes {
            // Its size is told by nearly every store; one that is not asked for by its size is seen
            // before its content is.
            Some(max) if happening.size.is_none_or(|size| size <= max) => {
                self.get(happening, look, max).await
            }
            _ if look.head => self.head(happening).await,
            _ => Ok(Map::new()),
        }
    }

    async fn head(&self, happening: &Happening) -> Result<Map<String, Value>, SourceError> {
        let request = self
            .client
            .head_object()
            .bucket(&self.name)
            .key(&happening.mark.key)
            .set_version_id(happening.version.clone());
        match request.set_if_match(quoted(happening)).send().await {
            Ok(told) => Ok(metadata!(told)),
            Err(error) => self.unseen(
                error
                    .raw_response()
                    .map(|response| response.status().as_u16()),
                || explain(&error),
            ),
        }
    }

    async fn get(
        &self,
        happening: &Happening,
        look: Look,
        max: u64,
    ) -> Result<Map<String, Value>, SourceError> {
        let request = self
            .client
            .get_object()
            .bucket(&self.name)
            .key(&happening.mark.key)
            .set_version_id(happening.version.clone());
        let told = match request.set_if_match(quoted(happening)).send().await {
            Ok(told) => told,
            Err(error) => {
                return self.unseen(
                    error
                        .raw_response()
                        .map(|response| response.status().as_u16()),
                    || explain(&error),
                );
            }
        };
        let mut found = if look.head {
            metadata!(told)
        } else {
            Map::new()
        };
        if told
            .content_length
            .is_some_and(|length| u64::try_from(length).is_ok_and(|length| length <= max))
        {
            let is_json = told
                .content_type
                .as_deref()
                .is_none_or(|declared| is_json_media_type(declared) || is_undeclared(declared));
            let body = told.body.collect().await;
            let body = body.map_err(|error| {
                SourceError::Unavailable(format!(
                    "cannot read {} of {}: {error}",
                    happening.mark.key, self.name
                ))
            })?;
            let body = body.into_bytes();
            let (name, value) = match std::str::from_utf8(&body) {
                Ok(text) => (
                    "body",
                    is_json
                        .then(|| serde_json::from_str(text).ok())
                        .flatten()
                        .unwrap_or_else(|| Value::from(text)),
                ),
                Err(_) => ("body_base64", BASE64_STANDARD.encode(&body).into()),
            };
            found.insert(name.to_owned(), value);
        }
        Ok(found)
    }

    /// What is told of an object that could not be looked at.
    fn unseen(
        &self,
        status: Option<u16>,
        explain: impl Fn() -> String,
    ) -> Result<Map<String, Value>, SourceError> {
        let unseen = match status {
            Some(404) => "it is gone",
            Some(412) => "it was rewritten",
            // One object that we may not see must not stop the others.
            Some(400..=499) if status != Some(429) => "it may not be seen",
            _ => {
                return Err(SourceError::Unavailable(format!(
                    "cannot look at the objects of {}: {}",
                    self.name,
                    explain()
                )));
            }
        };
        Ok(Map::from_iter([("unseen".to_owned(), json!(unseen))]))
    }
}
