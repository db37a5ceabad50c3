//! What every target must hold to.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use pointsman_schemas::{
    Class, DeliveryId, Epoch, Name, Sequence, SubscriptionNumber, Timestamp, TraceContext,
};
use serde_json::Value;
use tower::ServiceExt;

use super::event;
use crate::{Attempt, Delivery, TargetContext, TargetService, TargetSettings, connector};

/// An outside system that a target is tried against.
pub(crate) trait TargetFixture {
    /// The connector's key.
    const KIND: &'static str;

    /// Whether what goes out has headers, or something of the kind, beside the event.
    const HAS_HEADERS: bool = false;

    /// Settings that lead to something that takes everything, with templates where the kind has
    /// any.
    fn settings(&self) -> Value;

    /// Opens the target; overridden where the real outside cannot be looked at.
    async fn open(&self, settings: &dyn TargetSettings) -> TargetService {
        settings.open(context()).await.unwrap()
    }

    /// What has come out so far, in order.
    async fn received(&self) -> Vec<Received>;

    /// Settings that lead to something that begins and never ends, if there can be such.
    fn stalling(&self) -> Option<Value>;

    /// Returns once an attempt at the stalling one has begun.
    async fn begun(&self);

    /// Returns once nothing is left of that attempt.
    async fn abandoned(&self);

    /// Settings with one mistake, and the path at which it is told.
    fn mistakes(&self) -> Vec<(Value, &'static str)>;
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Received {
    /// The event's id.
    pub(crate) id: String,
    /// The texts that were filled in.
    pub(crate) texts: Vec<String>,
    /// The header `traceparent`, where messages have headers.
    pub(crate) trace: Option<String>,
}

/// The trace that every attempt of the suite belongs to.
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A context in which everything may be called.
pub(crate) fn context() -> TargetContext {
    TargetContext {
        name: Name::new("suite").unwrap(),
        tenant: Name::default_tenant(),
        allow_private_addresses: true,
        names: Default::default(),
    }
}

/// An attempt at the events of these ids, their texts being `<n>-<id>`.
pub(crate) fn attempt(ids: &[&str], texts: usize) -> Attempt {
    let delivery = |id: &&str| Delivery {
        id: DeliveryId {
            epoch: Epoch(1),
            sequence: Sequence(2),
            subscription: SubscriptionNumber(3),
            run: 0,
        },
        attempt: 1,
        event: Arc::new(event(id)),
        texts: (0..texts).map(|n| format!("{n}-{id}")).collect(),
        trace: TraceContext::read(TRACE, None).map(Box::new),
    };
    Attempt {
        tenant: Name::default_tenant(),
        rule: Name::new("rule").unwrap(),
        deadline: Timestamp(1_800_000_000_000_000),
        timeout: Duration::from_secs(30),
        deliveries: ids.iter().map(delivery).collect(),
        is_batch: false,
        end: crate::AttemptEnd::default(),
    }
}

/// Reads settings as the rule file's reader does.
pub(crate) fn parse(kind: &str, settings: &Value) -> Result<Box<dyn TargetSettings>, String> {
    let kind = connector(kind).unwrap().target.built().unwrap();
    (kind.parse)(&mut <dyn erased_serde::Deserializer>::erase(settings))
        .map_err(|error| error.to_string())
}

/// Runs the suite.
pub(crate) async fn targets<F: TargetFixture>(fixture: &F) {
    settings_are_checked(fixture);
    let settings = parse(F::KIND, &fixture.settings()).unwrap();
    let texts = settings.templates().len();
    let service = fixture.open(&*settings).await;

    let ids = ["first", "second", "third"];
    let outcomes = service.clone().oneshot(attempt(&ids, texts)).await.unwrap();
    assert_eq!(
        outcomes
            .iter()
            .map(|outcome| outcome.class)
            .collect::<Vec<_>>(),
        [Class::Delivered; 3],
        "one outcome each: {outcomes:?}"
    );
    let expect = |id: &str| Received {
        id: id.to_owned(),
        texts: (0..texts).map(|n| format!("{n}-{id}")).collect(),
        trace: F::HAS_HEADERS.then(|| TRACE.to_owned()),
    };
    assert_eq!(
        fixture.received().await,
        ids.map(expect),
        "in order, with the texts filled in"
    );

    let many: Vec<_> = (10..42).map(|n| format!("e{n}")).collect();
    let calls = many
        .iter()
        .map(|id| service.clone().oneshot(attempt(&[id], texts)));
    for outcomes in join_all(calls).await {
        assert_eq!(outcomes.unwrap()[0].class, Class::Delivered);
    }
    let mut received = fixture.received().await.split_off(ids.len());
    received.sort();
    assert_eq!(
        received,
        many.iter().map(|id| expect(id)).collect::<Vec<_>>(),
        "each of the concurrent ones once"
    );

    let before = fixture.received().await.len();
    let outcomes = service
        .clone()
        .oneshot(attempt(&["odd"], texts + 1))
        .await
        .unwrap();
    if texts > 0 {
        assert_ne!(
            outcomes[0].class,
            Class::Delivered,
            "texts that nobody declared are a mistake"
        );
        assert_eq!(fixture.received().await.len(), before);
    }

    if let Some(stalling) = fixture.stalling() {
        let settings = parse(F::KIND, &stalling).unwrap();
        let texts = settings.templates().len();
        let stalling = fixture.open(&*settings).await;
        let mut call = Box::pin(stalling.oneshot(attempt(&["stalled"], texts)));
        tokio::select! {
            outcome = &mut call => panic!("the stalled attempt ended: {outcome:?}"),
            () = fixture.begun() => {}
        }
        drop(call);
        fixture.abandoned().await;
    }
    let outcomes = service.oneshot(attempt(&["last"], texts)).await.unwrap();
    assert_eq!(
        outcomes[0].class,
        Class::Delivered,
        "an abandoned attempt leaves the target usable"
    );
    assert_eq!(fixture.received().await.last(), Some(&expect("last")));
}

fn settings_are_checked<F: TargetFixture>(fixture: &F) {
    let settings = parse(F::KIND, &fixture.settings()).unwrap();
    assert_eq!(settings.check(), [], "the suite's own settings are right");
    assert_eq!(
        settings.templates(),
        settings.templates(),
        "the order of templates is fixed"
    );
    for template in settings.templates() {
        assert!(
            template.text.contains("<$") && !template.path.is_empty(),
            "{template:?}"
        );
    }
    let mut unknown = fixture.settings();
    unknown
        .as_object_mut()
        .unwrap()
        .insert("no-such-setting".into(), true.into());
    assert!(parse(F::KIND, &unknown).is_err_and(|error| error.contains("no-such-setting")));
    for (mistaken, path) in fixture.mistakes() {
        let problems = parse(F::KIND, &mistaken)
            .unwrap_or_else(|error| panic!("{mistaken}: {error}"))
            .check();
        let found: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert!(
            found
                .iter()
                .any(|problem| problem.starts_with(&format!("{path}: "))),
            "{mistaken} at {path}: {found:?}"
        );
    }
}
