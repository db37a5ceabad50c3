//! What is asked for, in the words of the admin API. The journal keeps it with the replay.

use bytes::Bytes;
use pointsman_rules::{Condition, Filter, Filters, Pattern, RawFilter};
use pointsman_schemas::{Problem, Rate, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DeadRequest, ReplayError};
use crate::router::Taken;
use pointsman_journal::DeadSelection;

/// What a rule may ask of its events, as a rule file has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawFilters {
    /// An event pattern.
    #[serde(rename = "match", default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<serde_json::Map<String, serde_json::Value>>,
    /// A JSONPath query or a logical expression.
    #[serde(rename = "where", default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// Filters in the dialects of the CloudEvents Subscriptions API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<Vec<RawFilter>>,
}

impl RawFilters {
    /// From a mapping with `match`, `where` and `filters`, or an event pattern alone.
    ///
    /// # Errors
    /// It is neither, in words.
    pub fn of(object: serde_json::Map<String, serde_json::Value>) -> Result<Self, String> {
        let is_whole = !object.is_empty()
            && object
                .keys()
                .all(|key| ["match", "where", "filters"].contains(&key.as_str()));
        if is_whole {
            return Self::deserialize(serde_json::Value::Object(object))
                .map_err(|error| error.to_string());
        }
        Ok(Self {
            pattern: Some(object),
            ..Self::default()
        })
    }

    /// The filter.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn compile(&self) -> Result<Filter, String> {
        let told = |key: &'static str| {
            move |problems: Vec<Problem>| {
                let told = problems.iter().map(|problem| problem.message.as_str());
                format!("`{key}`: {}", told.collect::<Vec<_>>().join("; "))
            }
        };
        let pattern = self.pattern.clone().map(serde_json::Value::from);
        let pattern = pattern.map(|pattern| Pattern::compile(&pattern));
        let condition = self.condition.as_deref().map(Condition::parse);
        let filters = self.filters.as_deref().map(Filters::compile);
        Ok(Filter {
            pattern: pattern.transpose().map_err(told("match"))?,
            condition: condition.transpose().map_err(told("where"))?,
            filters: filters.transpose().map_err(told("filters"))?,
        })
    }
}

/// Which of the retained events a replay takes, and how fast.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventSelection {
    /// From this time on, RFC 3339; from the first event that is there where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Up to this time; to the last event that is there where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// What must hold of the events beside what the rule asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<RawFilters>,
    /// Also events that the rule does not take.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// Deliveries made in a time, such as `100/s`; as many as the subscription takes where left
    /// out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
}

impl EventSelection {
    pub(super) fn from(&self) -> Result<Option<Timestamp>, ReplayError> {
        time("from", self.from.as_deref())
    }

    pub(super) fn to(&self) -> Result<Option<Timestamp>, ReplayError> {
        time("to", self.to.as_deref())
    }

    /// The rate.
    ///
    /// # Errors
    /// It is none.
    pub fn rate(&self) -> Result<Option<Rate>, String> {
        rate(self.rate.as_deref())
    }

    /// What of the events is taken.
    ///
    /// # Errors
    /// What is wrong with the request, in words.
    pub fn taken(&self) -> Result<Taken, String> {
        self.rate()?;
        let (from, to) = (self.from(), self.to());
        let told = |error: ReplayError| error.to_string();
        if let (Some(from), Some(to)) = (from.map_err(told)?, to.map_err(told)?)
            && from > to
        {
            return Err("from lies behind to".to_owned());
        }
        let filter = self.pattern.as_ref().map(RawFilters::compile);
        Ok(Taken {
            all: self.all,
            filter: filter.transpose()?.unwrap_or_default(),
        })
    }
}

/// A replay of retained events for one subscription.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventReplay {
    /// The subscription.
    pub subscription: u32,
    /// What it takes.
    #[serde(flatten)]
    pub events: EventSelection,
}

impl EventReplay {
    pub(super) fn encode(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// Reads what the journal has kept.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(request: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(request)
            .map_err(|error| format!("its request cannot be read: {error}"))
    }
}

/// A redrive of dead letters at a rate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeadReplay {
    /// Which.
    pub selection: DeadRequest,
    /// For this subscription, in the place of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u32>,
    /// How many are redriven in a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
}

impl DeadReplay {
    pub(super) fn encode(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// Reads what the journal has kept.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(request: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(request)
            .map_err(|error| format!("its request cannot be read: {error}"))
    }

    /// The rate.
    ///
    /// # Errors
    /// It is none.
    pub fn rate(&self) -> Result<Option<Rate>, String> {
        rate(self.rate.as_deref())
    }

    /// Which dead letters are meant.
    ///
    /// # Errors
    /// What is wrong with the request, in words.
    pub fn selection(&self) -> Result<DeadSelection, String> {
        self.rate()?;
        self.selection.selection()
    }
}

fn rate(rate: Option<&str>) -> Result<Option<Rate>, String> {
    let read = |rate: &str| rate.parse().map_err(|error| format!("rate: {error}"));
    rate.map(read).transpose()
}

fn time(name: &str, time: Option<&str>) -> Result<Option<Timestamp>, ReplayError> {
    let read = |text: &str| {
        let time = text.parse::<jiff::Timestamp>().map_err(|_| {
            ReplayError::Invalid(format!(
                "{name} is {text:?}; write it as 2026-01-31T09:30:00Z"
            ))
        })?;
        Ok(Timestamp(time.as_microsecond()))
    };
    time.map(read).transpose()
}
