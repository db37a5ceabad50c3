//! The source at work: notifications and listings in, messages out.
//!
//! ```text
//! queue or hook ─▶ read ─▶ in scope, not told ─▶ settle ─▶ look at the object ─▶ heard ─┐
//! listing ─▶ reconciler ─(suspects)───────────────────────▶ look at the object ─▶ found ─┴─▶ batch
//! ```
//!
//! Everything that waits or works stands in the source itself, so that `next` may be dropped at any
//! await. Batches of what notifications told carry no cursor, so that many are stored at once; what
//! a listing found goes with the cursor that says so.

use pointsman_schemas::Reject;
use std::collections::VecDeque;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{BoxFuture, pending};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use smallvec::SmallVec;
use tokio::time::{Instant, sleep_until};

use super::connection::Bucket;
use super::happening::{Found, Happening, Kind};
use super::look::Look;
use super::reconciler::{Disbelief, Listing, OBJECTS_MAX, Reconciler, Suspect, Terms, TooMany};
use super::settling::{Settling, split};
use super::sqs::{Raw, Reading};
use super::{BATCH_MESSAGES_MAX, Scope, notification};
use crate::requests::Queued;
use crate::{Acknowledgement, Batch, Message, Source, SourceContext, SourceError, Verdict};

/// How many messages are made ready at once, each of which may look at its objects.
const WORK_MAX: usize = 32;

/// The shortest time between two listings.
pub(super) const LISTINGS_APART: Duration = Duration::from_secs(1);

/// How soon a listing that failed is tried again where notifications come in beside it.
const LIST_AGAIN: Duration = Duration::from_secs(60);

/// Where notifications come from.
pub(super) enum Feed {
    Sqs(Reading),
    Hook(Queued<Raw>),
    Nothing,
}

/// What a bucket is followed with.
pub(super) struct Setup {
    pub(super) context: SourceContext,
    pub(super) bucket: Bucket,
    pub(super) scope: Scope,
    pub(super) feed: Feed,
    pub(super) look: Look,
    /// How long a key must not change before it is told; zero tells at once.
    pub(super) settle: Duration,
    /// How often the bucket is listed; none for never.
    pub(super) reconcile: Option<Duration>,
    pub(super) terms: Terms,
}

/// What comes of work.
enum Done {
    /// A message made of notifications.
    Heard(Message),
    /// One made of what a listing found.
    Found(Message, Suspect),
    /// There was nothing in it to be handed over.
    Told,
}

/// A bucket that is being followed.
pub(super) struct Followed {
    setup: Setup,
    /// None until the stored cursor has been read, and where the bucket is not listed.
    reconciler: Option<Reconciler>,
    started: bool,
    list_at: Instant,
    listing: Option<BoxFuture<'static, Result<Listing, String>>>,
    settling: Settling,
    waiting: VecDeque<Draft>,
    work: FuturesUnordered<BoxFuture<'static, Result<Done, SourceError>>>,
    heard: Vec<Message>,
    found: Vec<(Message, Suspect)>,
    /// True where the last batch was of notifications: then it is the listing's turn.
    heard_last: bool,
    /// True once a cursor was handed over that the next call finds stored.
    cursor_out: bool,
}

/// A message in the making.
struct Draft {
    happenings: Vec<Happening>,
    rejects: Vec<Reject>,
    acknowledgement: Acknowledgement,
}

impl Followed {
    pub(super) fn new(setup: Setup) -> Self {
        Self {
            reconciler: None,
            started: false,
            list_at: Instant::now(),
            listing: None,
            settling: Settling::new(setup.settle),
            waiting: VecDeque::new(),
            work: FuturesUnordered::new(),
            heard: Vec::new(),
            found: Vec::new(),
            heard_last: false,
            cursor_out: false,
            setup,
        }
    }

    fn start(&mut self) -> Result<(), SourceError> {
        let Setup {
            context,
            scope,
            terms,
            ..
        } = &self.setup;
        let mismatch = |what: &str| {
            let name = &context.name;
            SourceError::CursorMismatch(format!(
                "what is stored of {name} is {what}, not of the bucket {}; give the source another name",
                scope.bucket
            ))
        };
        let stored = context.cursor.as_ref();
        if stored.is_some_and(|cursor| cursor.fingerprint != terms.fingerprint) {
            return Err(mismatch("of another bucket"));
        }
        if self.setup.reconcile.is_some() {
            let reconciler = Reconciler::new(*terms, stored).ok_or_else(|| mismatch("damaged"))?;
            // Settings may have changed since.
            reconciler.retain(|key| scope.covers(key));
            self.reconciler = Some(reconciler);
        }
        self.started = true;
        Ok(())
    }

    /// Takes in what a notification says.
    fn take(&mut self, raw: Raw) {
        let mut told = notification::read(&raw.body);
        let scope = &self.setup.scope;
        told.happenings.retain(|happening| {
            let news = self
                .reconciler
                .as_ref()
                .is_none_or(|reconciler| !reconciler.has_told(&happening.mark));
            happening.bucket == scope.bucket && scope.covers(&happening.mark.key) && news
        });
        let notification::Notification {
            happenings,
            rejects,
        } = told;
        let acknowledgement = raw.acknowledgement;
        if self.setup.settle.is_zero() || happenings.is_empty() {
            return self
                .waiting
                .push_back(self.draft(happenings, rejects, acknowledgement));
        }
        let (settle, at_once): (Vec<_>, Vec<_>) = happenings
            .into_iter()
            .partition(|happening| happening.mark.kind != Kind::Other);
        let now = Instant::now();
        let mut parts = split(acknowledgement, settle.len() + 1);
        let rest = parts.pop().map_or(Acknowledgement::None, |part| {
            Acknowledgement::io(move |verdict| part.tell(verdict))
        });
        for (happening, part) in settle.into_iter().zip(parts) {
            self.settling.put(happening, part, now);
        }
        let draft = self.draft(at_once, rejects, rest);
        self.waiting.push_back(draft);
    }

    /// A message that tells the reconciler, too, once it is stored.
    fn draft(
        &self,
        happenings: Vec<Happening>,
        rejects: Vec<Reject>,
        acknowledgement: Acknowledgement,
    ) -> Draft {
        let Some(reconciler) = self.reconciler.as_ref().filter(|_| !happenings.is_empty()) else {
            return Draft {
                happenings,
                rejects,
                acknowledgement,
            };
        };
        let hand = reconciler.take(
            happenings
                .iter()
                .map(|happening| happening.mark.clone())
                .collect(),
        );
        // Who calls is not kept waiting; a queue is in no hurry.
        let hold_back = matches!(self.setup.feed, Feed::Sqs(_));
        let acknowledgement = Acknowledgement::io(move |verdict| async move {
            if verdict != Verdict::Stored {
                drop(hand);
                acknowledgement.tell(verdict).await;
            } else if let Some(acknowledgement) = hand.stored(acknowledgement, hold_back) {
                acknowledgement.tell(verdict).await;
            }
        });
        Draft {
            happenings,
            rejects,
            acknowledgement,
        }
    }

    /// Tells what waited for a cursor. That this source is asked for more says that the last one is
    /// stored; where it is not, a crash makes some happenings come twice, and none is lost.
    fn vouch(&mut self) {
        if !std::mem::take(&mut self.cursor_out) {
            return;
        }
        for acknowledgement in self.reconciler.iter().flat_map(Reconciler::vouch) {
            self.work.push(Box::pin(async move {
                acknowledgement.tell(Verdict::Stored).await;
                Ok(Done::Told)
            }));
        }
    }

    /// Starts work on what waits for it.
    fn set_to_work(&mut self) {
        let now = Instant::now();
        while let Some((happening, parts)) = self.settling.take(now) {
            let all = Acknowledgement::io(move |verdict: Verdict| async move {
                for part in parts {
                    part.tell(verdict.clone()).await;
                }
            });
            let draft = self.draft(vec![happening], Vec::new(), all);
            self.waiting.push_back(draft);
        }
        let (look, mapped) = (self.setup.look, self.setup.context.mapped);
        while self.work.len() < WORK_MAX {
            let bucket = self.setup.bucket.clone();
            if let Some(Draft {
                happenings,
                rejects,
                acknowledgement,
            }) = self.waiting.pop_front()
            {
                self.work.push(Box::pin(async move {
                    if happenings.is_empty() && rejects.is_empty() {
                        acknowledgement.tell(Verdict::Stored).await;
                        return Ok(Done::Told);
                    }
                    Ok(Done::Heard(
                        message(&bucket, look, mapped, happenings, rejects, acknowledgement)
                            .await?,
                    ))
                }));
            } else if let Some(suspect) = self.suspect(now) {
                let happening = self.found(&suspect);
                self.work.push(Box::pin(async move {
                    let (happenings, rejects) = match happening {
                        Ok(happening) => (vec![happening], Vec::new()),
                        Err(reason) => (
                            Vec::new(),
                            vec![Reject {
                                raw: Bytes::from(suspect.key.clone()),
                                reason,
                            }],
                        ),
                    };
                    let message = message(
                        &bucket,
                        look,
                        mapped,
                        happenings,
                        rejects,
                        Acknowledgement::None,
                    )
                    .await?;
                    Ok(Done::Found(message, suspect))
                }));
            } else {
                return;
            }
        }
    }

    fn keep(&mut self, done: Done) {
        match done {
            Done::Heard(message) => self.heard.push(message),
            Done::Found(message, suspect) => self.found.push((message, suspect)),
            Done::Told => {}
        }
    }

    /// The next object that a listing is to tell of, where there is room for it.
    fn suspect(&self, now: Instant) -> Option<Suspect> {
        let emptied = match &self.setup.feed {
            Feed::Sqs(queue) => queue.emptied(),
            Feed::Hook(_) | Feed::Nothing => Some(now),
        };
        let is_room = self.found.len() + self.work.len() < BATCH_MESSAGES_MAX;
        is_room
            .then(|| self.reconciler.as_ref()?.due(now, emptied))
            .flatten()
    }

    fn found(&self, suspect: &Suspect) -> Result<Happening, String> {
        let Bucket { name, region, .. } = &self.setup.bucket;
        let now = self.setup.context.clock.now().to_string();
        let modified = suspect
            .listed
            .as_ref()
            .map(|listed| super::time(listed.modified))
            .unwrap_or_default();
        let found = match &suspect.listed {
            Some(listed) => Found::Object {
                etag: &listed.etag,
                size: listed.size,
                modified: &modified,
            },
            None => Found::Gone { now: &now },
        };
        Happening::listed(name, region, &suspect.key, suspect.generation, found)
    }

    /// Begins a listing where it is time for it.
    fn list(&mut self) {
        let Some(reconciler) = self
            .reconciler
            .as_ref()
            .filter(|_| self.listing.is_none() && Instant::now() >= self.list_at)
        else {
            return;
        };
        reconciler.begin();
        let began = self.setup.context.clock.now().0 / 1_000;
        self.listing = Some(Box::pin(
            self.setup
                .bucket
                .clone()
                .list(self.setup.scope.clone(), began),
        ));
    }

    /// Takes in a listing that has ended.
    fn listed(&mut self, listed: Result<Listing, String>) -> Result<(), SourceError> {
        self.listing = None;
        let now = Instant::now();
        let (Some(reconciler), Some(every)) = (&self.reconciler, self.setup.reconcile) else {
            return Ok(());
        };
        self.list_at = now + every;
        let compared = listed.and_then(|listing| {
            reconciler
                .compare(listing, self.setup.settle, now)
                .map_err(|disbelief| self.disbelieve(&disbelief))
        });
        match (compared, &self.setup.feed) {
            (Ok(all_settled), _) => {
                if !all_settled {
                    self.list_at = now + every.min(self.setup.settle.max(LISTINGS_APART));
                }
                Ok(())
            }
            (Err(error), Feed::Nothing) => Err(SourceError::Unavailable(error)),
            // Notifications go on meanwhile.
            (Err(error), _) => {
                tracing::warn!(source = %self.setup.context.name, error, "the bucket cannot be listed; what no notification tells is not found");
                self.list_at = now + every.max(LIST_AGAIN);
                Ok(())
            }
        }
    }

    fn disbelieve(&self, disbelief: &Disbelief) -> String {
        match disbelief {
            Disbelief::TooMany => self.too_many(),
            Disbelief::AnotherBucket => format!(
                "the bucket {} is another one than the one that was followed, and holds less than half of its objects; nothing that it lacks is told \
                until that one is back (to follow this one, and have the others told as removed, set replaced: tell)",
                self.setup.scope.bucket
            ),
        }
    }

    fn too_many(&self) -> String {
        let bucket = &self.setup.scope.bucket;
        format!(
            "the bucket {bucket} holds more than {OBJECTS_MAX} objects under the prefix; set a longer prefix, or reconcile: 0s with notifications"
        )
    }

    /// What is ready to be handed over.
    fn batch(&mut self) -> Option<Batch> {
        if !self.heard.is_empty() && (self.found.is_empty() || !self.heard_last) {
            self.heard_last = true;
            let count = self.heard.len().min(BATCH_MESSAGES_MAX);
            return Some(Batch {
                messages: self.heard.drain(..count).collect(),
                cursor: None,
            });
        }
        self.heard_last = false;
        let reconciler = self.reconciler.as_ref()?;
        let mut messages = Vec::with_capacity(self.found.len());
        for (message, suspect) in self.found.drain(..) {
            // Its notification may have come while it was looked at.
            if reconciler.is_news(&suspect) {
                reconciler.tell(&suspect);
                messages.push(message);
            }
        }
        let cursor = reconciler
            .cursor(!messages.is_empty(), Instant::now())
            .unwrap_or_else(|TooMany| {
                self.cursor_out = true;
                tracing::warn!(source = %self.setup.context.name, "{}", self.too_many());
                None
            });
        self.cursor_out |= cursor.is_some();
        (!messages.is_empty() || cursor.is_some()).then_some(Batch { messages, cursor })
    }
}

/// Makes a message of what happened.
async fn message(
    bucket: &Bucket,
    look: Look,
    mapped: bool,
    happenings: Vec<Happening>,
    mut rejects: Vec<Reject>,
    acknowledgement: Acknowledgement,
) -> Result<Message, SourceError> {
    let mut arrivals = SmallVec::new();
    for happening in happenings {
        let seen = bucket.look(&happening, look).await?;
        let key = happening.mark.key.clone();
        match happening.arrival(seen, mapped) {
            Ok(arrival) => arrivals.push(arrival),
            Err(error) => rejects.push(Reject {
                raw: Bytes::from(key),
                reason: format!("the object's key makes no event: {error}"),
            }),
        }
    }
    Ok(Message {
        arrivals,
        rejects,
        acknowledgement,
        positions: Vec::new(),
    })
}

impl Feed {
    /// What came. Safe to cancel.
    async fn next(&mut self) -> Result<Vec<Raw>, SourceError> {
        match self {
            Self::Sqs(queue) => queue.next().await,
            Self::Hook(queue) => queue.take_up_to(BATCH_MESSAGES_MAX).await,
            Self::Nothing => pending().await,
        }
    }
}

#[async_trait]
impl Source for Followed {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        if !self.started {
            self.start()?;
        }
        loop {
            self.vouch();
            self.list();
            self.set_to_work();
            if let Some(batch) = self.batch() {
                return Ok(batch);
            }
            let reconciler = self.reconciler.as_ref();
            let list_at = self
                .listing
                .is_none()
                .then_some(self.list_at)
                .filter(|_| reconciler.is_some());
            let suspect_at = reconciler
                .and_then(Reconciler::due_at)
                .filter(|_| self.work.len() < WORK_MAX);
            let cursor_at = reconciler.and_then(Reconciler::cursor_at);
            let far = Instant::now() + Duration::from_secs(3_600);
            let wake = [list_at, suspect_at, cursor_at, self.settling.next_at()]
                .into_iter()
                .flatten()
                .fold(far, Instant::min);
            let takes = self.waiting.is_empty() && !self.settling.is_full();
            let listing = async {
                match &mut self.listing {
                    Some(listing) => listing.await,
                    None => pending().await,
                }
            };
            tokio::select! {
                Some(done) = self.work.next(), if !self.work.is_empty() => self.keep(done?),
                listed = listing => self.listed(listed)?,
                raws = self.setup.feed.next(), if takes => raws?.into_iter().for_each(|raw| self.take(raw)),
                () = sleep_until(wake) => {}
            }
            // What else is ready goes with it.
            while self.heard.len() < BATCH_MESSAGES_MAX
                && let Some(Some(done)) = self.work.next().now_or_never()
            {
                self.keep(done?);
            }
        }
    }
}
