//! Counts deliveries, tells whoever listens of attempts, and logs dead letters.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pointsman_journal::{DeadReason, Ending, Leased, SubscriptionIdentity};
use pointsman_schemas::{Class, Name, Outcome, Timestamp};
use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;

use super::record::EndedCall;
use crate::telemetry::Metrics;
use crate::telemetry::digest::{Digest, Tell};
use crate::telemetry::metrics::{SubscriptionMetrics, TargetMetrics};
use crate::telemetry::tap::{Glimpse, Next, PassedAttempt, Tap};
use crate::telemetry::traces::{Batch, Traces, Tried};

/// Counts the outcomes of one subscription's deliveries, and logs its dead letters. It is
/// called from the dispatcher's own task, so it must be quick.
pub struct Observer {
    subscription: SubscriptionMetrics,
    target: TargetMetrics,
    unreadable_replies: Counter,
    digest: Arc<Digest>,
    digest_entry: Arc<LogDigest>,
    tap: Arc<Tap>,
    traces: Traces,
}

/// The log lines of one subscription, of which there is at most one of a kind in ten seconds.
struct LogDigest {
    identity: SubscriptionIdentity,
    unlogged: Mutex<Unlogged>,
}

/// What has happened and is not logged yet.
#[derive(Default)]
struct Unlogged {
    /// When this was logged last, or will be next.
    at: Option<Instant>,
    /// Dead letters since then, by their reason.
    dead: Vec<(DeadReason, u64)>,
    /// How many answers since then were no events, and the reason of the last one.
    unreadable: (u64, String),
}

impl Unlogged {
    fn is_empty(&self) -> bool {
        self.dead.is_empty() && self.unreadable.0 == 0
    }
}

impl Observer {
    fn log_later(&self, add: impl FnOnce(&mut Unlogged)) {
        let mut unlogged = self.digest_entry.unlogged.lock();
        if unlogged.is_empty() {
            let spoke_at = unlogged.at;
            unlogged.at = Some(
                self.digest
                    .announce(Arc::clone(&self.digest_entry) as Arc<dyn Tell>, spoke_at),
            );
        }
        add(&mut unlogged);
    }
}

impl Tell for LogDigest {
    fn tell(&self) {
        let (dead, (unreadable, why)) = {
            let mut unlogged = self.unlogged.lock();
            (
                std::mem::take(&mut unlogged.dead),
                std::mem::take(&mut unlogged.unreadable),
            )
        };
        let SubscriptionIdentity {
            tenant,
            rule,
            target,
            ..
        } = &self.identity;
        for (reason, dead) in dead {
            tracing::warn!(
                %tenant, %rule, to = %target, reason = reason.as_str(), dead,
                "deliveries became dead letters; see pointsman dead list"
            );
        }
        if unreadable > 0 {
            tracing::warn!(
                %tenant, %rule, to = %target, unreadable, last = why,
                "answers of the target are no CloudEvents though they say so; they are dead \
                 letters of the source replies"
            );
        }
    }
}

impl Observer {
    /// An observer of one subscription.
    #[must_use]
    pub fn new(identity: SubscriptionIdentity, metrics: &Metrics, digest: Arc<Digest>) -> Self {
        Self {
            subscription: metrics.subscription(&identity),
            target: metrics.target(&identity.tenant, &identity.target),
            unreadable_replies: metrics.rejects(&identity.tenant, &Name::replies()),
            digest,
            tap: Arc::clone(metrics.tap()),
            traces: metrics.traces().clone(),
            digest_entry: Arc::new(LogDigest {
                identity,
                unlogged: Mutex::default(),
            }),
        }
    }

    /// An attempt at these deliveries has ended in this class, after `took`.
    pub fn attempted(&self, call: &[Leased], class: Class, took: Duration) {
        let traced = call.iter().filter(|_| self.traces.is_on());
        let mut traces = traced.filter_map(|leased| self.traces.trace_id(&leased.event));
        self.target.attempted(class, took, traces.next());
    }

    /// Measures a delivery by an attempt that counts: how long it had waited for its first, and how
    /// old it was when it was delivered.
    fn measure(&self, leased: &Leased, ending: &Ending, call: &EndedCall) {
        let (is_first, is_delivered) = (leased.attempts == 0, *ending == Ending::Delivered);
        if *ending == Ending::Released || !(is_first || is_delivered) {
            return;
        }
        let trace = self.traces.trace_id(&leased.event);
        let waited = call.began.since(leased.since);
        if is_first {
            self.target.waited(waited, trace);
        }
        if is_delivered {
            self.target.delivered(waited + call.ran, trace);
        }
    }

    /// An attempt at this delivery has come to `outcome`, whereupon it is to leave the dispatcher
    /// with `ending`; the call was one of `batch`.
    pub(super) fn tried(
        &self,
        leased: &Leased,
        outcome: &Outcome,
        ending: &Ending,
        call: &EndedCall,
        batch: &Batch,
    ) {
        self.measure(leased, ending, call);
        if self.traces.is_on() {
            self.traces.tried(&Tried {
                leased,
                subscription: &self.digest_entry.identity,
                outcome,
                ending,
                since: call.shown(leased.since),
                began: call.began_at,
                ended: call.began_at.plus(call.ran),
                batch,
            });
        }
        if !self.tap.is_open() {
            return;
        }
        let identity = &self.digest_entry.identity;
        let of = Glimpse {
            tenant: &identity.tenant,
            origin: &leased.origin,
            event: &leased.event,
        };
        self.tap
            .attempt(of, (identity, outcome.class), || PassedAttempt {
                at: Timestamp::now(),
                subscription: identity.clone(),
                origin: leased.origin.clone(),
                id: leased.id,
                event: Arc::clone(&leased.event),
                attempt: leased.attempts.saturating_add(1),
                class: outcome.class,
                code: outcome.code,
                message: outcome.message.clone(),
                took: call.ran,
                next: Next::from(ending),
            });
    }

    /// An attempt is given up since the bus stops, and its delivery put back.
    pub(super) fn given_up(&self, leased: &Leased, call: &EndedCall) {
        let outcome = Outcome::new(Class::Failed, "the bus stopped before it had answered");
        let batch = Batch::default();
        self.tried(leased, &outcome, &Ending::Released, call, &batch);
    }

    /// What records its attempts in traces.
    pub(super) fn traces(&self) -> &Traces {
        &self.traces
    }

    /// The attempts of a call, as far as they are recorded.
    pub(super) fn batch(&self, call: &[Leased]) -> Batch {
        self.traces.batch(call)
    }

    /// A delivery has left the dispatcher with this ending, durably.
    pub fn settled(&self, ending: &Ending) {
        let counter = match ending {
            Ending::Delivered => &self.subscription.delivered,
            Ending::Retry { .. } => &self.subscription.retried,
            Ending::Dead { reason, .. } => {
                self.log_later(|unlogged| {
                    match unlogged.dead.iter_mut().find(|(known, _)| known == reason) {
                        Some((_, count)) => *count += 1,
                        None => unlogged.dead.push((*reason, 1)),
                    }
                });
                &self.subscription.dead
            }
            Ending::Stopped => &self.subscription.stopped,
            Ending::Released => &self.subscription.released,
        };
        counter.inc();
    }

    /// The target accepted a delivery, but its answer holds something that is no event; `reason`
    /// says why, in one line.
    pub fn unreadable_reply(&self, reason: &str) {
        self.unreadable_replies.inc();
        self.log_later(|unlogged| {
            unlogged.unreadable = (unlogged.unreadable.0 + 1, reason.to_owned())
        });
    }
}

#[cfg(test)]
mod tests {
    use pointsman_journal::{LastOutcome, LeaseOwner, LeaseToken, Role};
    use pointsman_schemas::Event;
    use pointsman_schemas::trace::TRACEPARENT;
    use prometheus_client::registry::Registry;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::dispatcher::record::CalledSlot;
    use crate::dispatcher::testing::{id, identity};
    use crate::telemetry::traces::testing::recording;

    fn observer(digest: &Arc<Digest>) -> Observer {
        let name = |name| Name::new(name).unwrap();
        let identity = SubscriptionIdentity {
            tenant: name("default"),
            rule: name("paid"),
            role: Role::To,
            target: name("function"),
        };
        let metrics = Metrics::new(&mut Registry::default(), pointsman_schemas::Timestamp(0));
        Observer::new(identity, &metrics, Arc::clone(digest))
    }

    #[test]
    fn waits_and_ages_are_measured_and_name_the_traces_that_are_recorded() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let unsampled = parent.replace("0af7", "1af7").replace("-01", "-00");
        let (traces, _) = recording();
        let metrics = Metrics::new(&mut Registry::default(), Timestamp(0)).traced(traces);
        let observer = Observer::new(identity("paid"), &metrics, Arc::default());
        let second = |number: i64| Timestamp(number * 1_000_000);
        let call = EndedCall {
            began: second(3),
            began_at: second(1_003),
            ran: Duration::from_secs(10),
            called: CalledSlot::default(),
        };
        let last = LastOutcome {
            at: second(5),
            class: Class::Failed,
            code: None,
            message: String::new(),
            response: String::new(),
        };
        let retry = Ending::Retry {
            at: second(9),
            failure: true,
            batch_max: None,
            last,
        };
        for (parent, attempts, ending) in [
            (parent, 0, Ending::Released),
            (parent, 0, retry),
            (parent, 1, Ending::Delivered),
            (&*unsampled, 0, Ending::Delivered),
        ] {
            let event = Event::builder("1", "/s", "t").attribute(TRACEPARENT, parent.into());
            let leased = Leased {
                token: LeaseToken::new(LeaseOwner::Disk, 1),
                id: id(),
                event: Arc::new(event.build().unwrap()),
                tenant: Name::default_tenant(),
                replay: None,
                origin: Name::ingress(),
                attempts,
                failures: attempts,
                since: second(1),
                begins_call: true,
                fence: None,
            };
            let outcome = Outcome::delivered();
            observer.tried(&leased, &outcome, &ending, &call, &Batch::default());
            if ending == Ending::Delivered {
                observer.attempted(&[leased], Class::Delivered, call.ran);
            }
        }
        let mut text = String::new();
        metrics.histograms().write(&mut text).unwrap();
        let labels = "{tenant=\"default\",target=\"t\"}";
        for line in [
            format!("pointsman_delivery_wait_seconds_sum{labels} 4.0"),
            format!("pointsman_delivery_wait_seconds_count{labels} 2"),
            format!("pointsman_delivery_age_seconds_sum{labels} 24.0"),
            format!("pointsman_delivery_age_seconds_count{labels} 2"),
        ] {
            assert!(text.lines().any(|own| own == line), "{line} in\n{text}");
        }
        let named = text.lines().filter(|line| line.contains(" # {"));
        let named: Vec<_> = named.collect();
        assert_eq!(named.len(), 3, "{text}");
        assert!(
            named.iter().all(|line| line.contains(&parent[3..35])),
            "{text}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_is_told_of_all_dead_letters_and_at_most_once_in_ten_seconds() {
        let digest = Arc::<Digest>::default();
        let (observer, other) = (observer(&digest), observer(&digest));
        let (logged, _guard) = crate::telemetry::testing::capture("warn", false);
        let stop = CancellationToken::new();
        let running = digest.run(stop.clone());
        let dead =
            |observer: &Observer, reason| observer.settled(&Ending::Dead { reason, last: None });
        let lines = || logged.text().lines().count();
        let happens = async {
            // What dies at once is one line, for each reason.
            (0..3).for_each(|_| dead(&observer, DeadReason::Rejected));
            dead(&observer, DeadReason::Exhausted);
            tokio::time::sleep(Duration::from_secs(1)).await;
            let text = logged.text();
            assert!(
                text.contains("rule=paid") && text.contains("reason=\"rejected\" dead=3"),
                "{text}"
            );
            assert!(
                lines() == 2 && text.contains("reason=\"exhausted\" dead=1"),
                "{text}"
            );
            // What comes behind it is told once the ten seconds are over, although nothing follows.
            dead(&observer, DeadReason::Rejected);
            dead(&observer, DeadReason::Rejected);
            tokio::time::sleep(Duration::from_secs(1)).await;
            dead(&other, DeadReason::Hops);
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(
                lines() == 3
                    && logged
                        .text()
                        .ends_with("see pointsman dead list reason=\"hops\" dead=1\n")
                    || lines() == 3,
                "{}",
                logged.text()
            );
            tokio::time::sleep(Duration::from_secs(8)).await;
            assert!(
                lines() == 4 && logged.text().contains("dead=2"),
                "{}",
                logged.text()
            );
            for _ in 0..300 {
                dead(&observer, DeadReason::Rejected);
                observer.unreadable_reply("it is no object");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            assert!(
                (10..=12).contains(&lines()),
                "thirty seconds: {}",
                logged.text()
            );
            observer.settled(&Ending::Delivered);
            stop.cancel();
        };
        tokio::join!(running, happens);
        let told: u64 = logged
            .text()
            .lines()
            .filter_map(|line| {
                line.split("dead=")
                    .nth(1)?
                    .split(' ')
                    .next()?
                    .parse::<u64>()
                    .ok()
            })
            .sum();
        assert_eq!(
            (told, observer.unreadable_replies.get()),
            (3 + 1 + 2 + 1 + 300, 300),
            "{}",
            logged.text()
        );
    }
}
