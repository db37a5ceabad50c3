//! What a delivery's end gives rise to: reports, the original event for another target, and the
//! events that targets answer with.

mod report;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use pointsman_journal::{Ending, Entry, FollowUp, Leased, NewDelivery};
use pointsman_schemas::{
    AttributeValue, Event, ExtensionValue, InvalidEvent, Name, Outcome, Reject, Replies, Timestamp,
};

use self::report::EndedDelivery;
use super::plan::{FollowUpPayload, FollowUpRoute, Route};
use crate::router::Matcher;
use crate::telemetry::traces::Received;

pub use self::report::{FAILED, SUCCEEDED, example_report};

/// The extension attribute that counts how often an event has come back from a target.
pub const HOPS: &str = "pointsmanhops";

/// How often it may: an event that has come back more often is a dead letter, and no target is
/// called with it.
pub const HOPS_MAX: u32 = 8;

/// Whether an event is a report of `on_success` or `on_failure`, which meets no rules.
#[must_use]
pub fn is_report(event: &Event) -> bool {
    [SUCCEEDED, FAILED].contains(&event.ty()) && event.source().starts_with("/rules/")
}

/// How often an event has come back from a target; what cannot be read counts as never.
#[must_use]
pub fn hops(event: &Event) -> u32 {
    match event.attribute(HOPS) {
        Some(AttributeValue::Integer(hops)) => u32::try_from(hops).unwrap_or(0),
        Some(AttributeValue::String(hops)) => hops.parse().unwrap_or(0),
        _ => 0,
    }
}

/// What follows from a delivery that leaves the dispatcher like this; `outcome` is none where the
/// target was not called.
pub(super) fn follow_ups(
    route: &Route,
    leased: &Leased,
    ending: &Ending,
    mut outcome: Option<&mut Outcome>,
    replies: &mut Matcher,
    now: Timestamp,
) -> Vec<FollowUp> {
    let follow = match ending {
        Ending::Delivered => route.on_success,
        Ending::Dead { .. } => route.on_failure,
        // The delivery has not ended: it comes back.
        Ending::Retry { .. } | Ending::Released => return Vec::new(),
        // Whoever has stopped it knows.
        Ending::Stopped => return Vec::new(),
    };
    // Events in the answer of a target that did not take the delivery are no replies.
    let replied = outcome
        .as_deref_mut()
        .and_then(|outcome| outcome.replies.take())
        .filter(|_| *ending == Ending::Delivered);
    let mut follow_ups = Vec::new();
    if let Some(FollowUpRoute { subscription, send }) = follow {
        let delivery = NewDelivery::now(subscription);
        match send {
            FollowUpPayload::Original => follow_ups.push(FollowUp::Original(delivery)),
            FollowUpPayload::Report => {
                let ended = EndedDelivery::of(route, leased, ending, outcome.as_deref());
                match report::of(ended, now) {
                    Ok(event) => follow_ups.push(FollowUp::Append {
                        origin: leased.origin.clone(),
                        entry: Entry {
                            event: traced(event, &leased.origin, route, leased),
                            deliveries: [delivery].into_iter().collect(),
                            deduplicate: None,
                            dead: None,
                            terms: None,
                        },
                    }),
                    Err(error) => {
                        tracing::error!(
                            delivery = %leased.id, %error,
                            "cannot report on a delivery"
                        );
                    }
                }
            }
        }
    }
    if let Some(replied) = replied {
        follow_replies(route, leased, *replied, replies, &mut follow_ups);
    }
    follow_ups
}

/// The events that a target answered with, and what in its answer could not be read.
fn follow_replies(
    route: &Route,
    leased: &Leased,
    Replies { events, unreadable }: Replies,
    replies: &mut Matcher,
    follow_ups: &mut Vec<FollowUp>,
) {
    let origin = Name::replies();
    let mut rejects: Vec<Reject> = unreadable
        .into_iter()
        .map(|one| Reject {
            raw: one.raw,
            reason: one.reason,
        })
        .collect();
    for reply in events {
        let entry = one_hop_further(reply, &leased.event)
            .map_err(|error| Reject {
                raw: Bytes::new(),
                reason: error.to_string(),
            })
            .and_then(|event| {
                let event = traced(event, &origin, route, leased);
                let entry = replies.entry(&leased.tenant, &origin, event, None);
                // Nobody waits who could be told.
                entry.map_err(|not_taken| not_taken.reject)
            });
        match entry {
            Ok(entry) => follow_ups.push(FollowUp::Append {
                entry,
                origin: origin.clone(),
            }),
            Err(reject) => rejects.push(reject),
        }
    }
    for mut reject in rejects {
        let identity = &route.identity;
        reject.reason = format!(
            "answer of {} to {} for {}: {}",
            identity.target, leased.id, identity.rule, reject.reason
        );
        route.observer.unreadable_reply(&reject.reason);
        follow_ups.push(FollowUp::Reject {
            origin: origin.clone(),
            reject,
        });
    }
}

/// An event that follows from an attempt, in the trace of its delivery unless it names one itself.
fn traced(event: Event, origin: &Name, route: &Route, leased: &Leased) -> Arc<Event> {
    let traces = route.observer.traces();
    let attempt = leased.attempts.saturating_add(1);
    let event = match traces.context(&leased.event, leased.id, attempt) {
        Some(context) => context.add_to(event),
        None => event,
    };
    let (event, receiving) = traces.receive(&leased.tenant, origin, Arc::new(event));
    if let Some(receiving) = receiving {
        traces.received(&receiving, Received::default());
    }
    event
}

fn one_hop_further(reply: Event, to: &Event) -> Result<Event, InvalidEvent> {
    reply
        .into_builder()
        .attribute(HOPS, hops_value(hops(to).saturating_add(1)))
        .build()
}

fn hops_value(hops: u32) -> ExtensionValue {
    ExtensionValue::Integer(i32::try_from(hops).unwrap_or(i32::MAX))
}
