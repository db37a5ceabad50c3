//! A feed: pages of items behind an HTTP endpoint, asked again and again for what has come since.
//!
//! ```yaml
//! orders:
//!   feed: { url: "https://shop.example/orders", every: 10s }
//! ```
//!
//! **A page** is `{ "items": [ { "id": "…", … } ], "next": "…" }`; its `next` is what the next call
//! sends as `?after=`, and what is stored as the **position**.
//!
//! **Events** are of type `com.pointsman.feed.item`, source `/feeds/<name>`, id the item's `id`;
//! data is the item. One without an `id` is a dead letter.

#[cfg(test)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, StatusCode};
use pointsman_schemas::{Cursor, Data, Event, Interval, Problem, Reject, Text};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep_until, timeout};
use url::Url;

use crate::net::Names;
use crate::net::client::{Client, client};
use crate::net::dial::Way;
use crate::net::explain::explain;
use crate::net::guard::Guard;
use crate::net::tls::ClientTls;
use crate::source::fingerprint;
use crate::{Acknowledgement, Arrival, Batch, Guarantee, Message, OpenError, Plain, RunsOn};
use crate::{Source, SourceContext, SourceError, SourceSettings};

/// How long a call may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long an answer may be.
const BODY_BYTES_MAX: usize = 16 << 20;

/// Asks an HTTP endpoint for new items.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FeedSource {
    /// Where it is.
    url: Text,
    /// How long it waits before it asks again.
    every: Interval,
}

impl FeedSource {
    fn connect(&self) -> Result<Feed, OpenError> {
        let url = self.url.resolve().map_err(at_url)?;
        let url = Url::parse(url.expose()).map_err(at_url)?;
        let tls = ClientTls::default().config_for(url.scheme() == "https")?;
        // The operator names the address, and no event has a part in it.
        let allow_private_addresses = true;
        let guard = Guard {
            allow_private_addresses,
        };
        let names = Names::default();
        let client = client(Way { guard, names, tls });
        Ok(Feed { client, url })
    }
}

fn at_url(error: impl ToString) -> OpenError {
    OpenError(Problem::new(error.to_string()).at("url"))
}

#[async_trait]
impl SourceSettings for FeedSource {
    fn check(&self) -> Vec<Problem> {
        // What { env: NAME } stands for is not known yet.
        let wrong = self.url.literal().and_then(|url| Url::parse(url).err());
        Vec::from_iter(wrong.map(|error| at_url(error).0))
    }

    fn always_cloudevents(&self) -> bool {
        false
    }

    fn has_stable_ids(&self) -> bool {
        true
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn runs_on(&self) -> RunsOn {
        RunsOn::One
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let page = self.connect()?.ask(None).await.map_err(at_url)?;
        Ok(format!("the feed begins with {} items", page.items.len()))
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, OpenError> {
        Ok(Box::new(Reader {
            feed: self.connect()?,
            every: self.every.0,
            asks_at: Instant::now(),
            after: context.cursor.clone(),
            context,
        }))
    }
}

#[derive(Deserialize)]
struct Page {
    items: Vec<Box<RawValue>>,
    next: String,
}

struct Feed {
    client: Client,
    url: Url,
}

impl Feed {
    /// What has come since a position, or since the beginning.
    async fn ask(&self, after: Option<&str>) -> Result<Page, String> {
        let mut url = self.url.clone();
        if let Some(after) = after {
            url.query_pairs_mut().append_pair("after", after);
        }
        let request = Request::get(url.as_str()).body(Bytes::new());
        let request = request.map_err(|error| error.to_string())?;
        let call = async {
            let answered = self.client.call(request, None).await;
            let answered = answered.map_err(|error| explain(&error))?;
            let (head, body) = answered.whole(BODY_BYTES_MAX).await;
            match head.status {
                StatusCode::OK => body.map_err(|error| explain(&*error)),
                status => Err(format!("the feed answers {status}")),
            }
        };
        let body = timeout(TIMEOUT, call).await;
        let body = body.unwrap_or_else(|_| Err(format!("no answer within {TIMEOUT:?}")))?;
        serde_json::from_slice(&body).map_err(|error| format!("this is no page: {error}"))
    }
}

/// An open feed.
struct Reader {
    feed: Feed,
    every: Duration,
    asks_at: Instant,
    after: Option<Cursor>,
    context: SourceContext,
}

#[async_trait]
impl Source for Reader {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        let fingerprint = fingerprint(&[self.feed.url.as_str()]);
        loop {
            // Wherever this future is dropped, nothing has changed that would be missed.
            sleep_until(self.asks_at).await;
            let after = self.after.as_ref().map(|after| {
                let position = str::from_utf8(&after.position).ok();
                let position = position.filter(|_| after.fingerprint == fingerprint);
                let mismatch = "the stored position is of another feed".into();
                position.ok_or(SourceError::CursorMismatch(mismatch))
            });
            let page = self.feed.ask(after.transpose()?).await;
            let Page { items, next } = page.map_err(SourceError::Unavailable)?;
            self.context.link.up();
            let position = Bytes::from(next);
            self.after = Some(Cursor {
                fingerprint,
                position,
            });
            if !items.is_empty() {
                return Ok(Batch {
                    messages: items.iter().map(|item| self.message(item)).collect(),
                    cursor: self.after.clone(),
                });
            }
            self.asks_at = Instant::now() + self.every;
        }
    }
}

impl Reader {
    fn message(&self, item: &RawValue) -> Message {
        let raw = Bytes::copy_from_slice(item.get().as_bytes());
        let made = self.arrival(raw.clone());
        let made = made.map_err(|reason| Reject { raw, reason });
        // The cursor says how far it was read: nobody waits for an acknowledgement.
        Message::of(made, Acknowledgement::None)
    }

    fn arrival(&self, item: Bytes) -> Result<Arrival, String> {
        #[derive(Deserialize)]
        struct Item {
            id: String,
        }
        let Item { id } = serde_json::from_slice(&item).map_err(|error| error.to_string())?;
        let source = format!("/feeds/{}", self.context.name);
        let event = Event::builder(id, source, "com.pointsman.feed.item")
            .datacontenttype("application/json")
            .data(Data::json(item).map_err(|error| error.to_string())?);
        // What the rule file's `event:` mapping finds beside `body`.
        let mapped = self.context.mapped;
        let fields = mapped.then(|| Plain::fields([("headers", json!({}))]));
        Arrival::made(event, fields).map_err(|error| error.to_string())
    }
}
