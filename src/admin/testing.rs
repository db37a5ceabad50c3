//! A small bus with something of everything in it, served on a port of its own: for the tests of
//! the API and of what speaks to it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use parking_lot::Mutex;
use pointsman_connectors::{Guarantee, SourceState};
use pointsman_peer::Shards;
use pointsman_rules::{Condition, Filter, Pattern};
use pointsman_schemas::{
    Class, Clock, Data, DeliveryId, Event, Name, Reject, SubscriptionNumber, Text, Timestamp,
};
use prometheus_client::registry::Registry;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Admin, AdminListener, AdminSettings, Circuit, Overview, RuleStatus, SourceStatus, TargetStatus,
};
use crate::commands::client::{Answer, Client};
use crate::config::Written;
use crate::console::{self, Console};
use crate::dispatcher::LaneReason;
use crate::pipes::Pipes;
use crate::replay::Replays;
use crate::router::{Explained, Router, RuleInForce, SubscriptionInForce};
use crate::telemetry::metrics::Detail;
use crate::telemetry::{Metrics, QuotaUse, Tap};
use pointsman_journal::disk::{DiskJournal, DiskOptions};
use pointsman_journal::memory::{MemoryJournal, MemoryOptions};
use pointsman_journal::{
    Append, DeadReason, Ending, Entry, Grant, Identity, Journal, LastOutcome, NewDelivery, Role,
    SettleAnswer, Settlement, Subscription, SubscriptionIdentity, SubscriptionStatus,
};

pub(crate) const NOON: Timestamp = Timestamp(1_769_851_800_000_000);

/// Data whose bytes a parser would change.
pub(crate) const DATA: &str = r#"{"n":12345678901234567890123,"a":1,"a":2}"#;

#[derive(Debug)]
struct Fixed(Timestamp);

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        self.0
    }
}

/// An overview with one of everything, of which the test says what is missing.
#[derive(Debug, Default)]
pub(crate) struct FixedOverview {
    pub(crate) missing: Mutex<Vec<String>>,
    pub(crate) written: Mutex<Arc<Written>>,
    pub(crate) refused: Mutex<Option<String>>,
    pub(crate) lanes: Mutex<std::collections::BTreeMap<SubscriptionNumber, LaneReason>>,
}

impl Overview for FixedOverview {
    fn probe(&self, _: SubscriptionNumber) {}

    /// Nothing is under way here.
    fn stop(
        &self,
        _: Vec<DeliveryId>,
    ) -> tokio::sync::mpsc::UnboundedReceiver<crate::dispatcher::StopReport> {
        tokio::sync::mpsc::unbounded_channel().1
    }

    fn stopping(&self) -> std::collections::HashSet<DeliveryId> {
        std::collections::HashSet::new()
    }

    fn paused(&self) -> std::collections::BTreeMap<pointsman_schemas::SubscriptionNumber, String> {
        std::collections::BTreeMap::new()
    }

    fn lanes(&self) -> std::collections::BTreeMap<SubscriptionNumber, LaneReason> {
        self.lanes.lock().clone()
    }

    fn written(&self) -> Arc<Written> {
        Arc::clone(&self.written.lock())
    }

    fn refused_change(&self) -> Option<String> {
        self.refused.lock().clone()
    }

    fn quotas(&self) -> Vec<QuotaUse> {
        let quota = |rule: Option<Name>| QuotaUse {
            tenant: name("default"),
            rule,
            rate: Some("100/s".to_owned()),
            in_flight: 0,
            rate_share: None,
            in_flight_max: Some(20),
            share: Some(7),
            pending: 0,
            backlog_max: None,
            when_full: None,
        };
        vec![quota(None), quota(Some(name("thumbnails")))]
    }

    fn sources(&self) -> Vec<SourceStatus> {
        vec![source("orders")]
    }
    fn rules(&self) -> Vec<RuleStatus> {
        vec![RuleStatus {
            name: name("thumbnails"),
            tenant: name("default"),
            pipe: false,
            description: Some("every photo gets a thumbnail".into()),
            from: vec![name("uploads")],
            to: vec![name("thumbnailer")],
            conditions: serde_json::json!({ "match": { "type": ["photo"] } }),
            matches: 3,
            duplicates: 0,
        }]
    }
    fn targets(&self) -> Vec<TargetStatus> {
        vec![target("thumbnailer", Circuit::Closed)]
    }
    fn forget_others(&self, _statuses: &[SubscriptionStatus]) {}
    fn ready(&self) -> Vec<String> {
        self.missing.lock().clone()
    }
    fn identities(&self, _: &Name, _: &[Name], _: &Event) -> Vec<(Name, Identity)> {
        Vec::new()
    }

    fn explain(
        &self,
        tenant: &Name,
        origin: &Name,
        event: &Event,
        rule: Option<&Name>,
        limit: usize,
    ) -> Option<Explained> {
        let rule_in_force = |rule: &str,
                             from: Option<&str>,
                             pattern: serde_json::Value,
                             condition: Option<&str>| RuleInForce {
            tenant: name("default"),
            pipe: false,
            name: name(rule),
            from: from.map(|from| vec![name(from)]),
            filter: Filter {
                pattern: Some(Pattern::compile(&pattern).unwrap()),
                condition: condition.map(|condition| Condition::parse(condition).unwrap()),
                filters: None,
            },
            deduplicate: None,
            retention: None,
            subscriptions: Vec::new(),
        };
        let photo = || serde_json::json!({ "type": ["photo"] });
        let rules = vec![
            rule_in_force(
                "answers",
                Some("replies"),
                serde_json::json!({ "type": ["video", "Photo"], "source": ["/camera"] }),
                None,
            ),
            rule_in_force("thumbnails", Some("uploads"), photo(), None),
            rule_in_force(
                "several",
                None,
                photo(),
                Some("$.data.a > 5 && $.subject == 'a.jpg'"),
            ),
        ];
        Router::new(rules).explain(tenant, origin, event, rule, limit)
    }
}

/// A target that is not called.
pub(crate) fn target(text: &str, circuit: Circuit) -> TargetStatus {
    TargetStatus {
        name: name(text),
        tenant: name("default"),
        kind: "http".into(),
        circuit,
        since: NOON.to_string(),
        last_error: None,
        in_flight: 0,
        limit: 4,
        share: None,
    }
}

/// A source that waits for its system.
pub(crate) fn source(text: &str) -> SourceStatus {
    SourceStatus {
        name: name(text),
        tenant: name("default"),
        kind: "rabbitmq".into(),
        state: SourceState::Waiting,
        since: NOON.to_string(),
        last_error: Some("connection refused".into()),
        guarantee: Guarantee::AtLeastOnce,
        lag: Some(12),
        skipped: 900,
        events: 7,
        rejects: 1,
    }
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A key of whoever may look alone, where keys are asked for.
pub(crate) const VIEWER: &str = "a-key-of-a-viewer-1234";

pub(crate) struct TestBus<J = MemoryJournal> {
    pub(crate) address: SocketAddr,
    pub(crate) journal: Arc<J>,
    pub(crate) overview: Arc<FixedOverview>,
    pub(crate) tap: Arc<Tap>,
    _stop: DropGuard,
}

impl TestBus {
    /// A bus whose journal is in memory.
    pub(crate) async fn start(keys: &[&str]) -> Self {
        Self::start_with(None, keys).await
    }

    /// One that other nodes can ask about shards.
    pub(crate) async fn start_with(shards: Option<Arc<dyn Shards>>, keys: &[&str]) -> Self {
        let journal = MemoryJournal::new(Arc::new(Fixed(NOON)), MemoryOptions::default());
        Self::over(journal, shards, keys).await
    }
}

impl TestBus<DiskJournal> {
    /// A bus whose journal lies in a folder.
    pub(crate) async fn start_on_disk(folder: &Path) -> Self {
        let journal = DiskJournal::open(folder, DiskOptions::default(), Arc::new(Fixed(NOON)));
        Self::over(journal.unwrap(), None, &[]).await
    }
}

impl<J: Journal + 'static> TestBus<J> {
    /// Three events for two subscriptions and a reject: the first subscription has one delivered,
    /// one dead and one to be retried; the second has all three dead.
    async fn over(journal: Arc<J>, shards: Option<Arc<dyn Shards>>, keys: &[&str]) -> Self {
        let clock = Arc::new(Fixed(NOON));
        let numbers = journal
            .subscribe(vec![
                subscription("thumbnails", "thumbnailer"),
                subscription("audit", "archive"),
            ])
            .await
            .unwrap();
        append(&*journal, &numbers, 3).await;
        let dead = |reason| Ending::Dead {
            reason,
            last: Some(last(Class::Rejected)),
        };
        let first = [
            Ending::Delivered,
            dead(DeadReason::Rejected),
            Ending::Retry {
                at: NOON.plus(Duration::from_secs(9)),
                failure: true,
                batch_max: None,
                last: last(Class::Failed),
            },
        ];
        settle(&*journal, numbers[0], first).await;
        settle(
            &*journal,
            numbers[1],
            [
                DeadReason::Exhausted,
                DeadReason::Transform,
                DeadReason::Expired,
            ]
            .map(dead),
        )
        .await;

        let overview = Arc::new(FixedOverview::default());
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry, NOON);
        let tap = Arc::clone(metrics.tap());
        let settings = AdminSettings {
            address: "127.0.0.1:0".into(),
            auth: keys.iter().map(|key| Text::from(*key)).collect(),
            viewers: (keys.iter().take(1)).map(|_| Text::from(VIEWER)).collect(),
        };
        let listener = AdminListener::bind(&settings).await.unwrap();
        let (address, stop) = (listener.address(), CancellationToken::new());
        let started = NOON.minus(Duration::from_secs(60));
        let rules = [("thumbnails", numbers[0]), ("audit", numbers[1])];
        let router = Router::new(rules.map(|(rule, number)| takes_all(rule, number)).into());
        let router = Arc::new(ArcSwap::from_pointee(router));
        let admin = Admin {
            replays: Replays::new(journal.clone(), router, None),
            pipes: Pipes::new(journal.clone(), clock.clone()),
            journal: journal.clone(),
            overview: overview.clone(),
            waiting: Arc::default(),
            registry: Arc::new(registry),
            histograms: metrics.histograms(),
            tap: Arc::clone(&tap),
            metrics: Detail::default(),
            clock,
            started,
            nodes: None,
            versions: None,
            shards,
        };
        let admin = Arc::new(admin);
        let pages = console::pages(Console {
            admin: Arc::clone(&admin),
            guard: listener.guard(),
            history: Arc::default(),
        });
        tokio::spawn(listener.serve(admin, pages, stop.clone()));
        Self {
            address,
            journal,
            overview,
            tap,
            _stop: stop.drop_guard(),
        }
    }

    /// One request, whatever the answer.
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let uri = format!("http://{}{path}", self.address).parse().unwrap();
        let header = |(key, value): &(&str, &str)| {
            (
                HeaderName::try_from(*key).unwrap(),
                HeaderValue::try_from(*value).unwrap(),
            )
        };
        let headers: HeaderMap = headers.iter().map(header).collect();
        let client = Client::new(uri, None).unwrap();
        client
            .send(
                Method::from_bytes(method.as_bytes()).unwrap(),
                headers,
                body.to_owned().into(),
            )
            .await
            .unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, serde_json::Value) {
        json(&self.ask("GET", path, &[], "").await)
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> (u16, serde_json::Value) {
        json(
            &self
                .ask("POST", path, &[("content-type", "application/json")], body)
                .await,
        )
    }

    /// The ids of all dead letters, oldest first, the reject's included.
    pub(crate) async fn dead(&self) -> Vec<DeliveryId> {
        let letters = self
            .journal
            .reader()
            .dead(&Default::default(), None, 100)
            .await
            .unwrap();
        letters.into_iter().map(|letter| letter.id).collect()
    }

    /// A text in which this journal's identity is another's, so that snapshots of it are always the
    /// same.
    pub(crate) fn anonymous(&self, text: &str) -> String {
        text.replace(&format!("{:016x}", self.journal.id().0), "00000000000000aa")
    }
}

fn json(answer: &Answer) -> (u16, serde_json::Value) {
    (
        answer.status.as_u16(),
        serde_json::from_slice(&answer.body).unwrap(),
    )
}

pub(crate) fn subscription(rule: &str, target: &str) -> Subscription {
    let identity = SubscriptionIdentity {
        tenant: name("default"),
        rule: name(rule),
        role: Role::To,
        target: name(target),
    };
    Subscription {
        identity,
        renamed_from: None,
        backlog: None,
        start: None,
    }
}

fn takes_all(rule: &str, number: SubscriptionNumber) -> RuleInForce {
    RuleInForce {
        tenant: name("default"),
        pipe: false,
        name: name(rule),
        from: None,
        filter: Filter::default(),
        deduplicate: None,
        retention: None,
        subscriptions: vec![SubscriptionInForce {
            target: name("thumbnailer"),
            number,
            order_by: None,
            delay: Duration::ZERO,
            priority: None,
        }],
    }
}

async fn append(journal: &dyn Journal, numbers: &[SubscriptionNumber], events: usize) {
    let entry = |index: usize| {
        let data = Data::json(DATA.into()).unwrap();
        let event = Event::builder(format!("{index}"), "/camera", "photo")
            .subject("a.jpg")
            .data(data)
            .build()
            .unwrap();
        Entry {
            event: Arc::new(event),
            deliveries: numbers
                .iter()
                .map(|number| NewDelivery::now(*number))
                .collect(),
            deduplicate: None,
            dead: None,
            terms: None,
        }
    };
    let rejects = vec![Reject {
        raw: "no JSON\u{1b}[2J".into(),
        reason: "expected value at line 1 column 1".into(),
    }];
    let entries = (1..=events).map(entry).collect();
    journal
        .append(Append {
            tenant: name("default"),
            origin: name("uploads"),
            entries,
            rejects,
            cursor: None,
            positions: Vec::new(),
        })
        .await
        .unwrap();
}

fn last(class: Class) -> LastOutcome {
    LastOutcome {
        at: NOON,
        class,
        code: Some(400),
        message: "400 Bad Request".into(),
        response: "no such\u{1b}]0;title\u{7} bucket".into(),
    }
}

pub(crate) async fn settle(
    journal: &dyn Journal,
    subscription: SubscriptionNumber,
    endings: impl IntoIterator<Item = Ending>,
) {
    let endings: Vec<Ending> = endings.into_iter().collect();
    let grant = Grant {
        subscription,
        count: endings.len(),
        lease: Duration::from_secs(60),
        bytes_max: usize::MAX,
        batching: None,
    };
    let leased = journal.lease(&[grant], usize::MAX).await.unwrap().leased;
    assert_eq!(leased.len(), endings.len());
    let settlement = |(leased, ending): (pointsman_journal::Leased, Ending)| {
        Settlement::new(leased.token, ending)
    };
    assert!(
        journal
            .settle(leased.into_iter().zip(endings).map(settlement).collect())
            .await
            .unwrap()
            .into_iter()
            .all(|answer| answer == SettleAnswer::Settled)
    );
}
