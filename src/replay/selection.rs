//! Which dead letters are meant.

use pointsman_journal::{DeadReason, DeadSelection};
use pointsman_schemas::{DeliveryId, Name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Ids that one request may name.
pub const IDS_MAX: usize = 10_000;

/// Which dead letters are meant, as it is sent to the API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<DeliveryId>>", length(min = 1, max = 10_000))]
    pub ids: Option<Vec<String>>,
    /// Of this tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Name>,
    /// Of this rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Name>,
    /// For this target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Name>,
    /// With this reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<DeadReason>,
    /// Every one: has to be said where nothing else is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

impl DeadRequest {
    /// The selection.
    ///
    /// # Errors
    /// What is wrong with it, in words: nothing is selected, or everything and something, or an id
    /// is none.
    pub fn selection(&self) -> Result<DeadSelection, String> {
        let ids = match &self.ids {
            None => None,
            Some(ids) if ids.is_empty() || ids.len() > IDS_MAX => {
                return Err(format!("ids holds 1 to {IDS_MAX} ids"));
            }
            Some(ids) => Some(
                ids.iter()
                    .map(|id| id.parse().map_err(|error| format!("{error}")))
                    .collect::<Result<_, String>>()?,
            ),
        };
        let selection = DeadSelection {
            ids,
            tenant: self.tenant.clone(),
            rule: self.rule.clone(),
            target: self.target.clone(),
            reason: self.reason,
        };
        match (selection == DeadSelection::default(), self.all) {
            (true, false) => Err(
                "nothing is selected: give ids, tenant, rule, target or reason, or say all".into(),
            ),
            (false, true) => Err("all and a narrower selection exclude each other".into()),
            _ => Ok(selection),
        }
    }
}
