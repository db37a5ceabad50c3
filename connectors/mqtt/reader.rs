//! A source that is connected.
//!
//! What the session is subscribed to is stored as the source's cursor: a filter that is taken out
//! of the rule file has to be unsubscribed from, or its messages would come for ever; with MQTT
//! 3.1.1 one that the session has is not subscribed to again, which would bring all its retained
//! messages anew; and a session that the broker has lost is told of.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use pointsman_schemas::{Cursor, Problem, Reject};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;

use super::client::{ANSWER_WITHIN, Connected, Plan, subscribe};
use super::mapping::Decoder;
use super::packet::{Outgoing, Publish, Qos, Reason, Retained, Subscribe, Version};
use super::reason::FAILURE;
use super::session::{Session, receive};
use super::source::GUARD;
use super::wire::Wire;
use crate::files::Files;
use crate::in_hand::{InHand, Taken};
use crate::net::Names;
use crate::source::fingerprint;
use crate::{Batch, Message, OpenError, Source, SourceContext, SourceError};

/// So many messages a batch holds at most.
pub(super) const BATCH_MESSAGES_MAX: usize = 512;

/// What a session is subscribed to.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    pub(super) filters: Vec<String>,
    pub(super) qos: Qos,
}

/// The same, as it is stored.
#[derive(Debug, Deserialize, Serialize, PartialEq, Eq)]
struct Stored {
    filters: Vec<String>,
    qos: u8,
}

/// What a source is opened with.
pub(super) struct Opening {
    pub(super) plan: Plan,
    pub(super) files: Files,
    pub(super) subscription: Subscription,
    pub(super) prefetch: usize,
}

impl Opening {
    /// Connects and subscribes.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub(super) async fn open(self, context: SourceContext) -> Result<Reader, OpenError> {
        let host = self.plan.server.host.to_string();
        let fingerprint = fingerprint(&["mqtt", &host, &self.plan.client_id]);
        let before = context.cursor.as_ref();
        let before = before.filter(|cursor| cursor.fingerprint == fingerprint);
        let before: Option<Stored> =
            before.and_then(|cursor| serde_json::from_slice(&cursor.position).ok());
        let Connected {
            mut wire,
            session_present,
            ping_every,
            ..
        } = self.plan.connect(GUARD, Names::default()).await?;
        if before.is_some() && !session_present {
            let client = &self.plan.client_id;
            let why = format!(
                "the broker at {host} had no session of {client} any more, and what came while \
                 nobody was connected is not there"
            );
            context.link.skipped(0, why);
        }
        let in_hand = Arc::<InHand<Publish>>::default();
        let had = before.as_ref().filter(|_| session_present);
        let released = self.subscribe(&mut wire, &in_hand, had).await?;
        let stored = Stored {
            filters: self.subscription.filters,
            qos: self.subscription.qos as u8,
        };
        let cursor = (before.as_ref() != Some(&stored)).then(|| Cursor {
            fingerprint,
            position: Bytes::from(serde_json::to_vec(&stored).unwrap_or_default()),
        });
        let stop = CancellationToken::new();
        let session = Session {
            wire,
            in_hand: Arc::clone(&in_hand),
            released,
            messages_max: self.prefetch,
            ping_every,
            files: self.files,
            stop: stop.clone(),
        };
        Ok(Reader {
            in_hand,
            decoder: Decoder {
                name: context.name,
                mapped: context.mapped,
                clock: context.clock,
                nonce: rand::random(),
            },
            cursor,
            stop: Some(stop.drop_guard()),
            session: Some(AbortOnDropHandle::new(tokio::spawn(session.run()))),
        })
    }

    /// Brings the session's subscriptions to what they are to be, and returns the messages that the
    /// broker has finished with meanwhile. `had` is what it has already.
    async fn subscribe(
        &self,
        wire: &mut Wire,
        in_hand: &InHand<Publish>,
        had: Option<&Stored>,
    ) -> Result<Vec<u16>, OpenError> {
        let at_url = |why: String| OpenError(Problem::new(why).at("url"));
        let wanted = &self.subscription;
        let filters = had.into_iter().flat_map(|had| &had.filters);
        let gone: Vec<_> = filters
            .filter(|filter| !wanted.filters.contains(filter))
            .cloned()
            .collect();
        if !gone.is_empty() {
            // Its answer is awaited with that to the subscription behind it.
            let put = wire.put(Outgoing::Unsubscribe(&gone));
            put.map_err(|error| at_url(error.to_string()))?;
        }
        // Only MQTT 5 can be asked for no retained messages of what the session has.
        let is_there = |filter: &String| {
            wire.version() == Version::V3
                && had
                    .is_some_and(|had| had.filters.contains(filter) && had.qos == wanted.qos as u8)
        };
        let filters: Vec<_> = wanted
            .filters
            .iter()
            .filter(|filter| !is_there(filter))
            .cloned()
            .collect();
        if filters.is_empty() {
            return Ok(Vec::new());
        }
        let subscription = Subscribe {
            filters,
            qos: wanted.qos,
            retained: Retained::WhereNew,
        };
        let mut released = Vec::new();
        let take = |packet| receive(&mut released, in_hand, packet);
        let codes = subscribe(wire, &subscription, take).await.map_err(at_url)?;
        granted(wire.version(), &subscription.filters, &codes, wanted.qos)?;
        Ok(released)
    }
}

/// Looks at what a broker says of each filter.
///
/// # Errors
/// It refuses one, or grants so little that messages would be lost.
pub(super) fn granted(
    version: Version,
    filters: &[String],
    codes: &[u8],
    qos: Qos,
) -> Result<(), OpenError> {
    for (filter, code) in filters.iter().zip(codes) {
        if *code >= FAILURE {
            let why = match version {
                // 3.1.1 has one code for all that may be wrong.
                Version::V3 => "it may not be subscribed to, or is not valid".to_owned(),
                Version::V5 => Reason {
                    code: *code,
                    said: None,
                }
                .words(),
            };
            let message = format!("the MQTT broker refuses the topic filter {filter}: {why}");
            let help = "allow it there, or take it out";
            return Err(OpenError(Problem::new(message).help(help).at("topic")));
        }
        if *code == 0 && qos > Qos::AtMostOnce {
            let message = format!("the MQTT broker grants QoS 0 alone for {filter}");
            let help = "allow more there, or write qos: 0, with which messages may be lost";
            return Err(OpenError(Problem::new(message).help(help).at("qos")));
        }
    }
    match codes.len() == filters.len() {
        true => Ok(()),
        false => {
            let message = "the MQTT broker does not answer for each topic filter";
            Err(OpenError(Problem::new(message).at("topic")))
        }
    }
}

/// Hands over what a session brings.
pub(super) struct Reader {
    in_hand: Arc<InHand<Publish>>,
    decoder: Decoder,
    /// What the session is subscribed to now, where that is not stored yet.
    cursor: Option<Cursor>,
    stop: Option<DropGuard>,
    session: Option<AbortOnDropHandle<()>>,
}

impl Reader {
    fn message(&self, taken: Taken<Publish>) -> Message {
        let (number, publish) = &taken;
        let made = self.decoder.arrival(publish, *number);
        let made = made.map_err(|reason| Reject {
            raw: publish.payload.clone(),
            reason,
        });
        Message::of(made, self.in_hand.acknowledgement(taken))
    }
}

#[async_trait]
impl Source for Reader {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        if let Some(cursor) = self.cursor.take() {
            // Nothing is awaited: it is handed over.
            return Ok(Batch {
                messages: Vec::new(),
                cursor: Some(cursor),
            });
        }
        loop {
            // Nothing is awaited once something is taken.
            let taken = self.in_hand.take(BATCH_MESSAGES_MAX);
            if !taken.is_empty() {
                let messages = taken.into_iter().map(|taken| self.message(taken));
                return Ok(Batch {
                    messages: messages.collect(),
                    cursor: None,
                });
            }
            if let Some(why) = self.in_hand.ended() {
                return Err(SourceError::Unavailable(why));
            }
            self.in_hand.arrived().await;
        }
    }

    async fn finish(&mut self) -> Option<Batch> {
        self.stop.take();
        if let Some(session) = self.session.take() {
            // It ends by itself; whoever shuts down does not wait for ever.
            let _ = timeout(ANSWER_WITHIN, session).await;
        }
        // Nobody would send messages of QoS 0 again.
        self.in_hand.end("the source has been stopped".to_owned());
        let taken = self.in_hand.take(BATCH_MESSAGES_MAX);
        let messages: Vec<_> = taken.into_iter().map(|taken| self.message(taken)).collect();
        (!messages.is_empty()).then_some(Batch {
            messages,
            cursor: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_broker_does_not_grant_is_told_by_its_filter() {
        let filters = ["a/#".to_owned(), "b".to_owned()];
        let told = |version, codes: &[u8], qos| {
            let granted = granted(version, &filters, codes, qos);
            granted.err().map(|error| error.to_string())
        };
        let once = Qos::AtLeastOnce;
        for version in [Version::V3, Version::V5] {
            assert_eq!(told(version, &[1, 2], once), None);
            assert_eq!(told(version, &[0, 0], Qos::AtMostOnce), None);
            for (codes, expect) in [
                (&[1, 0x80][..], "refuses the topic filter b: "),
                (&[0x87, 1], "refuses the topic filter a/#: "),
                (&[1, 0], "grants QoS 0 alone for b"),
                (&[1], "does not answer for each topic filter"),
            ] {
                let told = told(version, codes, once).unwrap();
                assert!(told.contains(expect), "{told}");
            }
        }
        let told = told(Version::V5, &[1, 0x87], once).unwrap();
        assert!(told.contains("not authorized"), "{told}");
    }
}
