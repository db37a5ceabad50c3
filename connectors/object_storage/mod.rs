//! Buckets of any store that speaks S3: objects created, replaced and deleted, and a target that
//! puts objects.
//!
//! ```yaml
//! uploads:
//!   object-storage:
//!     endpoint: "http://127.0.0.1:9000"      # leave it out for AWS
//!     bucket: photos
//!     prefix: incoming/
//!     notifications: { sqs: "http://127.0.0.1:9324/000000000000/uploads" }   # or { webhook: { path, token } }, or none
//!     reconcile: 5m
//! ```
//!
//! **Events** follow the CloudEvents adapter for AWS S3: type `com.amazonaws.s3.ObjectCreated:Put`
//! and its like, source `<eventSource>.<awsRegion>.<bucket>`, subject the key as it is, time that
//! of the record. Data is S3's record, whose own key is URL-encoded, with `object` beside it: `{
//! "bucket", "key", "eTag", "versionId", "size" }`, the key as it is; `"listed": true` where a
//! listing found it. The id is `<x-amz-request-id>.<x-amz-id-2>` with key, version or eTag,
//! sequencer or time, and name behind it, since one request may create or delete many objects;
//! where the store sends no such ids, the bucket stands in their place. With an `event:` mapping
//! these are its defaults, and its root has the data as `body`, `bucket` and `key`.
//!
//! **Notifications** are read in all of the shapes that `object_storage/notification.rs` lists. A
//! queue's message is deleted, and a webhook answered, once everything in it is stored; what in it
//! cannot be read is a dead letter of the source. `s3:TestEvent`, other buckets and other keys are
//! passed over.
//!
//! **Listings**, at the start and every `reconcile`, find what no notification told. What they show
//! is left to the notifications for `grace`, and where the queue is still being read, longer; what
//! a notification has told is remembered by key, eTag and time, so that neither tells it twice. A
//! listing shows the last state alone, does not tell who changed it, and calls what it finds
//! `ObjectCreated:Put` (or `:CompleteMultipartUpload`) or `ObjectRemoved:Delete`.
//!
//! After a start, a queue may hide messages that were handed out before and not stored; for as
//! long, listings tell nothing.
//!
//! **Identity** of what listings find: key, eTag, time and generation, which counts the changes of
//! a key that listings tell. A bucket whose region or creation date is another, and which holds
//! less than half of what is known, is not believed, unless `replaced: tell`.
//!
//! **Position**: one row for each object, whatever their number, stored in the append that tells of
//! it. A queue's message is deleted, and a webhook answered, once both are stored.
//!
//! **`settle`** lets a key wait until it has not changed for so long; then the last thing that
//! happened to it is told, and acknowledges the others. **`head`** adds an object's metadata to
//! `object`, **`inline`** the object itself up to a size: as `body` where it is text or JSON, else
//! `body_base64`.

mod bucket_name;
mod connection;
mod happening;
mod hook;
mod known;
mod look;
mod notification;
mod probe;
mod reconciler;
mod settling;
mod source;
mod target;

use std::time::Duration;

use async_trait::async_trait;
use pointsman_schemas::{Interval, Problem, Size, Text};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::aws::queue::{Queue, ROUNDING};
use crate::aws::{check_url, explain};
use crate::leased::{Bounds, Reading};
use crate::parameter::resolve;
use crate::replaced::Replaced;
use crate::source::fingerprint;
use crate::{Guarantee, OpenError, RunsOn, Source, SourceContext, SourceSettings};
use connection::{Bucket, Connection};
use known::{KEY_BYTES_MAX, Stored};
use look::Look;
use reconciler::Terms;
use settling::WAITING_MAX;
use source::{Feed, Followed, LISTINGS_APART, Setup};

pub use crate::aws::KeyPair;
pub use happening::EVENT_TYPE_PREFIX;
pub use hook::Hook;
pub use target::ObjectStorageTarget;

/// How many messages a batch holds at most.
pub const BATCH_MESSAGES_MAX: usize = 100;

/// The largest object that may go into an event.
const INLINE_BYTES_MAX: u64 = 1024 * 1024;

/// How often the SDK itself tries a request of a source, whose connection is opened again where it
/// fails.
const ATTEMPTS: u32 = 2;

/// How long a queue's call waits for messages: as long as SQS allows, and not so long that a grace
/// is over before it has shown the queue empty.
const POLL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(20));

/// For how long at least and at most a message is in our hand before the queue hands it to another,
/// unless it is extended.
const IN_HAND: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(30));

/// How much of a queue is in hand: more than the keys that may wait to settle.
const BOUNDS: Bounds = Bounds {
    messages: 2 * WAITING_MAX,
    bytes: 256 << 20,
};

/// Watches a bucket: objects created, replaced and deleted.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectStorageSource {
    /// The store's address; without it, AWS.
    #[schemars(extend("pattern" = "^https?://", "examples" = ["http://127.0.0.1:9000"]))]
    endpoint: Option<Text>,
    /// The bucket.
    #[schemars(extend("minLength" = 1))]
    bucket: Text,
    /// Its region; else the SDK's own, and with an endpoint `us-east-1`.
    region: Option<Text>,
    /// The keys to show; without them, those that the SDK finds: environment, profile, web
    /// identity, instance.
    credentials: Option<KeyPair>,
    /// Whether the bucket stands in the path and not in the host; true with an endpoint unless it
    /// is given.
    path_style: Option<bool>,
    /// What keys must begin with.
    prefix: Option<Text>,
    /// What keys must end with.
    suffix: Option<Text>,
    /// How the store tells of changes.
    #[serde(default)]
    notifications: Notifications,
    /// How often to list the bucket, for what no notification told of; 0s for never.
    #[serde(default = "reconcile")]
    reconcile: Interval,
    /// How long a listing leaves what it finds to the notifications.
    #[serde(default = "grace")]
    grace: Interval,
    /// How long a key must not change before it is told; 0s tells of each change.
    #[serde(default = "at_once")]
    settle: Interval,
    /// Whether to look up the metadata of created objects.
    #[serde(default)]
    head: bool,
    /// Up to which size to take created objects themselves into the data; 1MiB at most.
    inline: Option<Size>,
    /// What becomes of objects that lie there at the very first start.
    #[serde(default)]
    existing: Existing,
    /// What to do where another bucket stands in the place of the one that was followed.
    #[serde(default)]
    replaced: Replaced,
}

/// How a store tells of changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Notifications {
    /// The URL of a queue of SQS, or of what speaks like it.
    Sqs(Text),
    /// It calls a path of the listener.
    Webhook(Hook),
    /// It does not: the bucket is only listed.
    #[default]
    None,
}

/// What becomes of objects that lie there at the very first start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Existing {
    /// They are told as created.
    #[default]
    Tell,
    /// They are taken to be known.
    Skip,
}

fn reconcile() -> Interval {
    Interval(Duration::from_secs(300))
}

fn grace() -> Interval {
    Interval(Duration::from_secs(60))
}

fn at_once() -> Interval {
    Interval(Duration::ZERO)
}

/// Which objects are looked at.
#[derive(Clone, Debug)]
struct Scope {
    bucket: String,
    prefix: String,
    suffix: String,
}

impl Scope {
    fn covers(&self, key: &str) -> bool {
        key.starts_with(&self.prefix) && key.ends_with(&self.suffix) && key.len() <= KEY_BYTES_MAX
    }
}

/// A time as RFC 3339, of milliseconds since 1970.
fn time(milliseconds: i64) -> String {
    jiff::Timestamp::from_millisecond(milliseconds)
        .unwrap_or_default()
        .to_string()
}

impl ObjectStorageSource {
    fn connection(&self) -> Connection<'_> {
        Connection {
            endpoint: self.endpoint.as_ref(),
            bucket: &self.bucket,
            region: self.region.as_ref(),
            credentials: self.credentials.as_ref(),
            path_style: self.path_style,
        }
    }

    /// How long the queue hides a message that is handed to us: the grace, in bounds, so that what
    /// a crash leaves hidden is there again soon.
    fn in_hand(&self) -> Duration {
        self.grace.0.clamp(IN_HAND.0, IN_HAND.1)
    }

    fn lists(&self) -> bool {
        !self.reconcile.0.is_zero()
    }

    /// Connects to the bucket, where it is needed, and to the queue, and tells how many messages
    /// wait there.
    async fn connect(&self) -> Result<(Bucket, Option<(Queue, Option<u64>)>), OpenError> {
        let bucket = self.connection().open(ATTEMPTS).await?;
        if self.lists() || self.head || self.inline.is_some() {
            bucket.find().await?;
        }
        let Notifications::Sqs(url) = &self.notifications else {
            return Ok((bucket, None));
        };
        let url = resolve(url, &["notifications".into(), "sqs".into()])?;
        let client = bucket
            .queues(&url)
            .map_err(|problem| OpenError(problem.at("sqs").at("notifications")))?;
        let queue = Queue {
            client,
            url,
            in_hand: self.in_hand(),
        };
        let waiting = queue.waiting().await.map_err(|error| {
            let problem = Problem::new(format!("cannot ask the queue: {}", explain(&error)));
            OpenError(
                problem
                    .help("check its URL and that the credentials may receive from it")
                    .at("sqs")
                    .at("notifications"),
            )
        })?;
        Ok((bucket, Some((queue, waiting))))
    }
}

#[async_trait]
impl SourceSettings for ObjectStorageSource {
    fn check(&self) -> Vec<Problem> {
        let mut problems = self.connection().check();
        match &self.notifications {
            Notifications::Sqs(url) => {
                let mistake = url.literal().and_then(|url| check_url(url).err());
                problems.extend(mistake.map(|problem| problem.at("sqs").at("notifications")));
            }
            Notifications::Webhook(hook) => {
                problems.extend(
                    hook.check()
                        .into_iter()
                        .map(|problem| problem.at("webhook").at("notifications")),
                );
            }
            Notifications::None if !self.lists() => {
                let problem = Problem::new(
                    "without notifications and without listings nothing would ever come",
                );
                problems.push(
                    problem
                        .at("reconcile")
                        .help("set an interval such as 5m, or notifications"),
                );
            }
            Notifications::None => {}
        }
        if self.lists() && self.reconcile.0 < LISTINGS_APART {
            problems.push(Problem::new("a bucket is listed at most once a second").at("reconcile"));
        }
        if self
            .inline
            .is_some_and(|inline| inline.bytes > INLINE_BYTES_MAX)
        {
            let problem = Problem::new("an object in an event is at most 1MiB").at("inline");
            problems.push(problem.help("let the function fetch larger ones"));
        }
        problems
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
        match &self.notifications {
            _ if self.lists() => RunsOn::One,
            Notifications::Sqs(_) => RunsOn::EachUnlessOrdered,
            Notifications::Webhook(_) | Notifications::None => RunsOn::Each,
        }
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let (bucket, queue) = self.connect().await?;
        let told = match (&self.notifications, queue) {
            (_, Some((_, Some(waiting)))) => format!("{waiting} messages wait in the queue"),
            (_, Some(_)) => "the queue answers".to_owned(),
            (Notifications::Webhook(hook), None) => format!("waits to be called at {}", hook.path),
            (_, None) => "it is only listed".to_owned(),
        };
        Ok(format!("the bucket {} can be seen; {told}", bucket.name))
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, OpenError> {
        let (bucket, queue) = self.connect().await?;
        let text = |text: &Option<Text>, key: &str| {
            text.as_ref()
                .map(|text| resolve(text, &[key.into()]))
                .transpose()
                .map(Option::unwrap_or_default)
        };
        let scope = Scope {
            bucket: bucket.name.clone(),
            prefix: text(&self.prefix, "prefix")?,
            suffix: text(&self.suffix, "suffix")?,
        };
        let poll = (self.grace.0 / 2).clamp(POLL.0, POLL.1);
        let feed = match (&self.notifications, queue) {
            (_, Some((queue, _))) => {
                Feed::Sqs(Reading::begin(queue, poll, BOUNDS, context.link.clone()))
            }
            (Notifications::Webhook(hook), None) => Feed::Hook(hook.open(&context)?),
            (_, None) => Feed::Nothing,
        };
        let terms = Terms {
            fingerprint: fingerprint(&["object-storage", &bucket.endpoint, &bucket.name]),
            grace: if matches!(feed, Feed::Nothing) {
                Duration::ZERO
            } else {
                self.grace.0
            },
            // A call that was open at a crash may be answered until it would have ended, to nobody.
            hidden: if matches!(feed, Feed::Sqs(_)) {
                poll + self.in_hand() + ROUNDING
            } else {
                Duration::ZERO
            },
            skip_existing: self.existing == Existing::Skip,
            holds: self.replaced == Replaced::Hold,
        };
        let cursor = context.cursor.as_ref();
        let is_other = cursor.is_some_and(|cursor| cursor.fingerprint != terms.fingerprint);
        let stored = if self.lists() && !is_other {
            Stored::read(&context, |key| scope.covers(key)).await?
        } else {
            None
        };
        Ok(Box::new(Followed::new(Setup {
            stored,
            context,
            bucket,
            scope,
            feed,
            look: Look {
                head: self.head,
                inline_bytes: self.inline.map(|inline| inline.bytes),
            },
            settle: self.settle.0,
            reconcile: self.lists().then_some(self.reconcile.0),
            terms,
        })))
    }
}

#[cfg(test)]
mod tests;
