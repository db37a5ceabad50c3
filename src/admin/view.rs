//! The shapes that the admin API answers with and the command line reads. Times are RFC 3339; what
//! only the journal counts stays its own.

mod dead;
mod event;
mod import;
mod owner;
mod replay;
mod tap;
mod task;

use pointsman_journal::{
    Activity, Counts, Reader, ShardNumber, SubscriptionIdentity, SubscriptionStatus, Totals,
};
use pointsman_schemas::{Event, SubscriptionNumber, Timestamp, json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::dispatcher::LaneReason;

pub use self::dead::*;
pub use self::event::*;
pub use self::import::*;
pub use self::owner::OwnerFilter;
pub use self::replay::*;
pub use self::tap::*;
pub(in crate::admin) use self::task::each_waiting;
pub use self::task::*;

/// A list, or a part of one.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "PageOf{T}")]
pub struct Page<T> {
    /// What it lists.
    pub items: Vec<T>,
    /// Where there is more: what to give as `after` for the next part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The shards of the cluster that could not be asked just now: what is in them is not listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub incomplete: Vec<u16>,
}

impl<T> Page<T> {
    /// All there is.
    #[must_use]
    pub fn whole(items: Vec<T>) -> Self {
        Self::part(items, None)
    }

    /// A part, and where the next one begins.
    #[must_use]
    pub fn part(items: Vec<T>, next: Option<String>) -> Self {
        Self {
            items,
            next,
            incomplete: Vec::new(),
        }
    }

    /// The same, with what a reader could not ask for it.
    #[must_use]
    pub fn read_by(mut self, reader: &dyn Reader) -> Self {
        let missing = reader.incomplete().into_iter();
        self.incomplete = missing.map(ShardNumber::get).collect();
        self
    }
}

/// A JSON object of which nothing more is said here.
type Object = serde_json::Map<String, serde_json::Value>;

/// A subscription as it stands.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SubscriptionView {
    pub number: SubscriptionNumber,
    #[serde(flatten)]
    pub identity: SubscriptionIdentity,
    /// False where no rule in force wants it.
    pub attached: bool,
    /// Whether its deliveries go out.
    pub activity: Activity,
    /// Why the bus itself leaves it alone for now, in the target's words: it refuses us. None where
    /// it does not.
    pub paused: Option<String>,
    /// `shared`, or `own` where it hangs, fails or floods: then it gives way to the others.
    pub lane: &'static str,
    /// Why it has a lane of its own. None where it has not.
    pub lane_reason: Option<LaneReason>,
    #[serde(flatten)]
    pub counts: Counts,
    /// When the oldest pending delivery's run began.
    pub oldest_pending: Option<String>,
    /// How long ago that was.
    pub oldest_pending_age_seconds: Option<f64>,
}

impl SubscriptionView {
    /// The status as it is shown at `now`.
    #[must_use]
    pub fn new(
        status: SubscriptionStatus,
        paused: Option<String>,
        lane: Option<LaneReason>,
        now: Timestamp,
    ) -> Self {
        Self {
            paused,
            lane: if lane.is_some() { "own" } else { "shared" },
            lane_reason: lane,
            number: status.number,
            identity: status.identity,
            attached: status.attached,
            activity: status.activity,
            counts: status.counts,
            oldest_pending: status.oldest_pending.map(|oldest| oldest.to_string()),
            oldest_pending_age_seconds: status
                .oldest_pending
                .map(|oldest| now.since(oldest).as_secs_f64()),
        }
    }
}

/// The bus as a whole.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct StatusView {
    /// The running version.
    pub version: &'static str,
    /// The journal's identity.
    pub journal: String,
    /// When the bus started.
    pub started: String,
    /// How long ago that was.
    pub uptime_seconds: f64,
    /// True where nothing is missing.
    pub ready: bool,
    /// What is missing before events can be taken.
    pub missing: Vec<String>,
    /// The whole store; none where it cannot be read, of which `missing` says why.
    pub totals: Option<Totals>,
    /// The counters of all subscriptions, added up; none likewise.
    pub deliveries: Option<Counts>,
    /// How many listen to what passes through this node.
    pub taps: usize,
    /// The shards of the cluster that could not be asked just now, of which these lack what is in
    /// them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub incomplete: Vec<u16>,
}

/// The counters of many subscriptions, added up.
#[must_use]
pub fn sum(subscriptions: &[SubscriptionStatus]) -> Counts {
    subscriptions.iter().map(|status| &status.counts).sum()
}

/// The event in the JSON format, data byte for byte.
fn structured(event: &Event) -> Option<Box<RawValue>> {
    let mut text = Vec::with_capacity(event.size_bytes());
    json::encode(event, &mut text);
    RawValue::from_string(String::from_utf8(text).ok()?).ok()
}
