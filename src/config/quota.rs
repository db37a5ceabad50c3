//! `quota`: what all subscriptions of a tenant or of a rule may use together.

use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};

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

impl Quota {
    /// Whether it says nothing.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `quota` of a rule.
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

/// `quota` of a file's tenant.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TenantQuota")]
pub struct RawTenantQuota {
    /// How many attempts begin in a time, such as `100/s`, at all targets together.
    pub rate: Option<Rate>,
    /// How many attempts run at once, at all targets together.
    pub in_flight: Option<NonZeroU32>,
    /// The bound on what waits, for all targets together.
    pub backlog: Option<RawBacklog>,
    /// In how many of a cluster's shards the tenant's events lie: `1` unless it is given, and all
    /// for `default`. More than there are means all.
    pub shards: Option<NonZeroU16>,
}

/// Reads the `quota` of a rule.
pub(super) fn quota_of(piece: Piece<'_>) -> Option<Quota> {
    let at = given(piece, "`rate`, `in_flight` or `backlog: { max }`")?;
    let RawQuota {
        rate,
        in_flight,
        backlog,
    } = read(at)?;
    let backlog = backlog.and_then(|backlog| backlog_of(at, &backlog));
    Some(Quota {
        rate,
        in_flight,
        backlog,
    })
}

/// Reads the `quota` of a file's tenant, and how many shards it says that the tenant has.
pub(super) fn tenant_quota_of(piece: Piece<'_>) -> Option<(Quota, Option<NonZeroU16>)> {
    let at = given(piece, "`rate`, `in_flight`, `backlog: { max }` or `shards`")?;
    let RawTenantQuota {
        rate,
        in_flight,
        backlog,
        shards,
    } = read(at)?;
    let backlog = backlog.and_then(|backlog| backlog_of(at, &backlog));
    let quota = Quota {
        rate,
        in_flight,
        backlog,
    };
    Some((quota, shards))
}

/// The quota below a piece, where it says anything.
fn given<'t>(piece: Piece<'t>, keys: &str) -> Option<Piece<'t>> {
    let at = piece.get("quota")?;
    // That a key has no value is said where it is read.
    if matches!(&at.node.value, Value::Map(entries) if entries.is_empty()) {
        at.report(
            "this quota bounds nothing",
            format!("give it a {keys}, or remove it"),
        );
        return None;
    }
    Some(at)
}

fn backlog_of(at: Piece<'_>, backlog: &RawBacklog) -> Option<(u64, WhenFull)> {
    let Some(max) = backlog.max.map(NonZeroU64::get) else {
        let at = at.get("backlog").unwrap_or(at);
        at.report(
            "this backlog has no bound",
            "give it a `max`, such as { max: 100000 }",
        );
        return None;
    };
    Some((max, backlog.when_full.unwrap_or_default()))
}
