//! Follows one shard, and notices what does not come.

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use bytes::Bytes;
use futures::{StreamExt, stream};
use tokio::time::{sleep, timeout};

use super::feed::Feed;
use crate::{FollowError, Follower, Next, Place, Shard};

/// How long a stream may take to say how far it reaches.
const ASKED_WITHIN: Duration = Duration::from_secs(5);

/// How often, and how far apart, a stream has to say that it ends before what was read: one that
/// has just got a new leader may not know its end yet.
const AHEAD_TIMES: u32 = 3;
const AHEAD_APART: Duration = Duration::from_secs(1);

pub(super) fn follow(context: Context, stream: String, shard: Shard, after: Place) -> Follower {
    let reader = Reader {
        feed: Feed::new(context.clone(), stream.clone(), after.0),
        context,
        stream,
        shard,
        after,
        is_checked: false,
        is_over: false,
    };
    stream::unfold(reader, async |mut reader| {
        if reader.is_over {
            return None;
        }
        let next = reader.next().await;
        reader.is_over = next.is_err();
        Some((next, reader))
    })
    .boxed()
}

struct Reader {
    context: Context,
    stream: String,
    feed: Feed,
    shard: Shard,
    after: Place,
    /// Whether it is known that the stream reaches from here.
    is_checked: bool,
    is_over: bool,
}

impl Reader {
    async fn next(&mut self) -> Result<Next, FollowError> {
        loop {
            if !self.is_checked
                && let Some(trimmed) = self.check().await?
            {
                return Ok(trimmed);
            }
            let Some(message) = self.feed.next().await else {
                // If there is something to be read, this consumer does not read it any more.
                self.is_checked = false;
                continue;
            };
            if message.sequence == self.after.0 + 1 {
                return Ok(self.record(message.body));
            }
            // Something is left out.
            if let Some(trimmed) = self.check().await? {
                return Ok(trimmed);
            }
            if let Some(next) = self.fetch().await? {
                return Ok(next);
            }
        }
    }

    fn record(&mut self, body: Bytes) -> Next {
        let place = self.after.next();
        self.after = place;
        self.feed.read(place.0);
        Next::Record { place, body }
    }

    async fn stream(&self) -> Option<Stream<()>> {
        self.context.get_stream_no_info(&self.stream).await.ok()
    }

    /// Looks how far the stream reaches, once it can be asked.
    async fn check(&mut self) -> Result<Option<Next>, FollowError> {
        let mut ahead = 0;
        loop {
            let ask = async { self.stream().await?.get_info().await.ok() };
            let Some(info) = timeout(ASKED_WITHIN, ask).await.ok().flatten() else {
                sleep(AHEAD_APART).await;
                continue;
            };
            let (first, last) = (info.state.first_sequence, info.state.last_sequence);
            if last < self.after.0 {
                ahead += 1;
                if ahead == AHEAD_TIMES {
                    return Err(FollowError::Ahead {
                        shard: self.shard,
                        after: self.after,
                        last: Place(last),
                    });
                }
                sleep(AHEAD_APART).await;
                continue;
            }
            self.is_checked = true;
            if last > self.after.0 {
                self.feed.begin_anew();
            }
            if first > self.after.0 + 1 {
                self.after = Place(first - 1);
                self.feed.read(first - 1);
                return Ok(Some(Next::Trimmed {
                    first: Place(first),
                }));
            }
            return Ok(None);
        }
    }

    /// Asks for the next record by itself; nothing where it cannot be asked for now.
    async fn fetch(&mut self) -> Result<Option<Next>, FollowError> {
        self.feed.begin_anew();
        let place = self.after.next();
        let ask = async { Some(self.stream().await?.get_raw_message(place.0).await) };
        match timeout(ASKED_WITHIN, ask).await.ok().flatten() {
            Some(Ok(message)) => Ok(Some(self.record(message.payload))),
            Some(Err(error)) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
                // It may have been trimmed since.
                match self.check().await? {
                    Some(trimmed) => Ok(Some(trimmed)),
                    None => Err(FollowError::Lost {
                        shard: self.shard,
                        place,
                    }),
                }
            }
            _ => Ok(None),
        }
    }
}
