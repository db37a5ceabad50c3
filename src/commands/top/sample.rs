//! One look at a bus.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Deserialize;

use super::super::client::Client;
use super::super::error::CommandError;
use super::latency::{self, Latency};
use crate::admin::view::Page;
use crate::admin::{SourceStatus, TargetStatus};

/// Everything that is looked at.
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) bus: BusLine,
    pub(super) sources: Vec<SourceStatus>,
    pub(super) subscriptions: Vec<SubscriptionLine>,
    pub(super) targets: Vec<TargetStatus>,
    pub(super) latencies: BTreeMap<(String, String), Latency>,
}

/// What is said of the bus as a whole.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct BusLine {
    pub(super) version: String,
    pub(super) uptime_seconds: f64,
    pub(super) ready: bool,
    #[serde(default)]
    pub(super) missing: Vec<String>,
}

/// What is said of a subscription, as far as it is shown.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct SubscriptionLine {
    pub(super) number: u32,
    pub(super) tenant: String,
    pub(super) rule: String,
    pub(super) role: String,
    pub(super) target: String,
    pub(super) attached: bool,
    pub(super) activity: String,
    pub(super) paused: Option<String>,
    pub(super) lane: String,
    pub(super) delivered: u64,
    pub(super) dead: u64,
    pub(super) pending: u64,
    pub(super) retrying: u64,
    pub(super) in_flight: u64,
    pub(super) oldest_pending_age_seconds: Option<f64>,
}

impl Sample {
    /// Looks.
    ///
    /// # Errors
    /// There is no bus there, or it refuses.
    pub(super) async fn take(client: &Client) -> Result<Self, CommandError> {
        let asked = tokio::join!(
            client.get("/status"),
            client.get::<Page<SourceStatus>>("/sources"),
            client.get::<Page<SubscriptionLine>>("/subscriptions"),
            client.get::<Page<TargetStatus>>("/targets"),
            client.text("/metrics"),
        );
        let (bus, sources, subscriptions, targets, metrics) = asked;
        Ok(Self {
            at: Instant::now(),
            bus: bus?,
            sources: sources?.items,
            subscriptions: subscriptions?.items,
            targets: targets?.items,
            latencies: latency::read(&metrics?),
        })
    }
}
