//! `quota`: what all subscriptions of a tenant or of a rule may use together.

use std::num::{NonZeroU32, NonZeroU64};

use pointsman_schemas::Rate;
use schemars::JsonSchema;
use serde::Deserialize;

use super::raw::{RawBacklog, WhenFull};
use super::reader::{Piece, read};
use super::yaml::Value;

/// What all subscriptions of a tenant or of a rule may use together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Attempts in a time, at most.
    pub rate: Option<Rate>,
    /// Attempts at once, at most.
    pub in_flight: Option<NonZeroU32>,
    /// Deliveries that may wait, and what happens to more.
    pub backlog: Option<(u64, WhenFull)>,
}

/// `quota`, of a file's tenant or of a rule.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Quota")]
pub struct RawQuota {
    /// How many attempts begin in a time, such as `100/s`, at all targets together.
    pub rate: Option<Rate>,
    /// How many attempts run at once, at all targets together.
    pub in_flight: Option<NonZeroU32>,
    /// The bound on what waits, for all targets together.
    pub backlog: Option<RawBacklog>,
}

/// Reads the `quota` below a piece.
pub(super) fn quota_of(piece: Piece<'_>) -> Option<Quota> {
    let at = piece.get("quota")?;
    // That a key has no value is said where it is read.
    if matches!(&at.node.value, Value::Map(entries) if entries.is_empty()) {
        at.report(
            "this quota bounds nothing",
            "give it a `rate`, `in_flight` or `backlog: { max }`, or remove it",
        );
        return None;
    }
    let raw = read::<RawQuota>(at)?;
    let backlog = raw.backlog.and_then(|backlog| {
        let Some(max) = backlog.max.map(NonZeroU64::get) else {
            let at = at.get("backlog").unwrap_or(at);
            at.report(
                "this backlog has no bound",
                "give it a `max`, such as { max: 100000 }",
            );
            return None;
        };
        Some((max, backlog.when_full.unwrap_or_default()))
    });
    Some(Quota {
        rate: raw.rate,
        in_flight: raw.in_flight,
        backlog,
    })
}
