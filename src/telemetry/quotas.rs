//! The quotas of tenants and rules, with what is used of them: counted from the journal's own
//! counters when somebody asks.

use std::collections::HashMap;
use std::fmt;

use pointsman_journal::SubscriptionStatus;
use pointsman_schemas::Name;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A quota with what is used of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QuotaUse {
    pub tenant: Name,
    /// The rule; none where it is the tenant's own.
    pub rule: Option<Name>,
    /// Attempts that may begin in a time, such as `100/s`.
    pub rate: Option<String>,
    /// The share of it that the node of a cluster may use which is asked, where that is not the
    /// whole.
    #[serde(default)]
    pub rate_share: Option<String>,
    /// Deliveries in flight.
    pub in_flight: u64,
    /// How many may be; none where nothing bounds them but their targets.
    pub in_flight_max: Option<u64>,
    /// The share of these that the node of a cluster may use which is asked, where that is not the
    /// whole.
    #[serde(default)]
    pub share: Option<u64>,
    /// Deliveries that wait, in flight included.
    pub pending: u64,
    /// How many may wait.
    pub backlog_max: Option<u64>,
    /// What becomes of more: `stop`, or `dead`.
    pub when_full: Option<String>,
}

impl QuotaUse {
    /// Counts what is used of quotas.
    pub fn count(quotas: &mut [Self], subscriptions: &[SubscriptionStatus]) {
        let places: HashMap<(Name, Option<Name>), usize> = quotas
            .iter()
            .enumerate()
            .map(|(index, quota)| ((quota.tenant.clone(), quota.rule.clone()), index))
            .collect();
        if places.is_empty() {
            return;
        }
        for SubscriptionStatus {
            identity, counts, ..
        } in subscriptions
        {
            for rule in [None, Some(identity.rule.clone())] {
                let place = places.get(&(identity.tenant.clone(), rule));
                if let Some(quota) = place.and_then(|index| quotas.get_mut(*index)) {
                    quota.pending += counts.pending;
                    quota.in_flight += counts.in_flight;
                }
            }
        }
    }

    /// Writes them as metrics. They have no sums: a quota that is used up is to be seen by itself,
    /// and somebody has written each.
    ///
    /// # Errors
    /// Those of the encoder.
    pub(super) fn encode(quotas: &[Self], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        type Column = (&'static str, &'static str, fn(&QuotaUse) -> Option<u64>);
        const COLUMNS: [Column; 4] = [
            (
                "pointsman_quota_in_flight",
                "Deliveries in flight of a tenant or a rule that has a quota",
                |quota| Some(quota.in_flight),
            ),
            (
                "pointsman_quota_in_flight_max",
                "Attempts that its quota allows at once",
                |quota| quota.in_flight_max,
            ),
            (
                "pointsman_quota_pending",
                "Deliveries that wait of a tenant or a rule that has a quota",
                |quota| Some(quota.pending),
            ),
            (
                "pointsman_quota_backlog_max",
                "Deliveries that may wait by its quota",
                |quota| quota.backlog_max,
            ),
        ];
        for (name, help, number) in COLUMNS {
            if quotas.is_empty() {
                break;
            }
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for quota in quotas {
                let Some(number) = number(quota) else {
                    continue;
                };
                let rule = quota.rule.as_ref().map_or("", Name::as_str);
                let labels = [("tenant", quota.tenant.as_str()), ("rule", rule)];
                ConstGauge::new(number).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
