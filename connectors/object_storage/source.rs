//! The source at work: notifications and listings in, messages out.
//!
//! ```text
//! queue or hook ─▶ read ─▶ in scope, not told ─▶ settle ─▶ look at the object ─▶ heard ─┐
//! listing ─▶ reconciler ─(suspects)───────────────────────▶ look at the object ─▶ found ─┴─▶ batch
//! ```
//!
//! Everything that waits or works stands in the source itself, so that `next` may be dropped at any
//! await. Batches of what notifications told carry no cursor, so that many are stored at once; what
//! a listing found, and rows that are owed, go one batch after the other.

mod draft;
mod feed;
mod listed;

use std::collections::VecDeque;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{BoxFuture, pending};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use pointsman_schemas::Reject;
use tokio::time::{Instant, sleep_until};

use super::connection::Bucket;
use super::happening::{Happening, Kind};
use super::known::Stored;
use super::look::Look;
use super::notification::Raw;
use super::reconciler::{Listing, Reconciler, Rows, Suspect, Terms};
use super::settling::{Settling, split};
use super::{BATCH_MESSAGES_MAX, Scope, notification};
use crate::{Acknowledgement, Batch, Message, Source, SourceContext, SourceError, Verdict};
use draft::Draft;

pub(super) use feed::Feed;

/// How many messages are made ready at once, each of which may look at its objects.
const WORK_MAX: usize = 32;

/// The shortest time between two listings.
pub(super) const LISTINGS_APART: Duration = Duration::from_secs(1);

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
    /// What is stored; none where it is damaged, or the bucket is not listed.
    pub(super) stored: Option<Stored>,
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
    /// None before the start, and where the bucket is not listed.
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
            setup,
        }
    }

    fn start(&mut self) -> Result<(), SourceError> {
        let Setup {
            context,
            scope,
            terms,
            stored,
            reconcile,
            ..
        } = &mut self.setup;
        let mismatch = |what: &str| {
            let name = &context.name;
            SourceError::CursorMismatch(format!(
                "what is stored of {name} is {what}, not of the bucket {}; give the source another \
                 name",
                scope.bucket
            ))
        };
        let cursor = context.cursor.as_ref();
        if cursor.is_some_and(|cursor| cursor.fingerprint != terms.fingerprint) {
            return Err(mismatch("of another bucket"));
        }
        if reconcile.is_some() {
            let stored = stored.take().ok_or_else(|| mismatch("damaged"))?;
            self.reconciler = Some(Reconciler::new(*terms, stored));
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
            Acknowledgement::io(move |verdict| part.send(verdict))
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
                positions: Vec::new(),
            };
        };
        let hand = reconciler.take(
            happenings
                .iter()
                .map(|happening| happening.mark.clone())
                .collect(),
        );
        let positions = hand.rows();
        let acknowledgement = Acknowledgement::io(move |verdict| async move {
            if verdict == Verdict::Stored {
                hand.stored();
            } else {
                drop(hand);
            }
            acknowledgement.send(verdict).await;
        });
        Draft {
            happenings,
            rejects,
            acknowledgement,
            positions,
        }
    }

    /// Starts work on what waits for it.
    fn set_to_work(&mut self) {
        let now = Instant::now();
        while let Some((happening, parts)) = self.settling.take(now) {
            let all = Acknowledgement::io(move |verdict: Verdict| async move {
                for part in parts {
                    part.send(verdict.clone()).await;
                }
            });
            let draft = self.draft(vec![happening], Vec::new(), all);
            self.waiting.push_back(draft);
        }
        let (look, mapped) = (self.setup.look, self.setup.context.mapped);
        while self.work.len() < WORK_MAX {
            let bucket = self.setup.bucket.clone();
            if let Some(draft) = self.waiting.pop_front() {
                self.work.push(Box::pin(async move {
                    if draft.happenings.is_empty() && draft.rejects.is_empty() {
                        draft.acknowledgement.send(Verdict::Stored).await;
                        return Ok(Done::Told);
                    }
                    Ok(Done::Heard(draft.message(&bucket, look, mapped).await?))
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
                    let draft = Draft {
                        happenings,
                        rejects,
                        acknowledgement: Acknowledgement::None,
                        positions: Vec::new(),
                    };
                    let message = draft.message(&bucket, look, mapped).await?;
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
}

#[async_trait]
impl Source for Followed {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        if !self.started {
            self.start()?;
        }
        loop {
            if let Some(Rows { positions, cursor }) =
                self.reconciler.as_ref().and_then(Reconciler::unwritten)
            {
                let messages = vec![Message::position(positions)];
                return Ok(Batch { messages, cursor });
            }
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
            let far = Instant::now() + Duration::from_secs(3_600);
            let wake = [list_at, suspect_at, self.settling.next_at()]
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
