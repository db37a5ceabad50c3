//! Which tasks are meant.

use pointsman_journal::TaskState;
use pointsman_schemas::{DeliveryId, Event, Name, SubscriptionNumber, Timestamp};
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::spelling::{Moment, States};
pub use crate::replay::IDS_MAX;
use crate::router::order_key;

/// Of which subscriptions: all conditions that are set must hold.
#[derive(Clone, Debug, Default, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
pub struct SubscriptionSelection {
    /// Of this tenant
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Name>,
    /// Of this rule
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Name>,
    /// For this target
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Name>,
    /// Of this subscription, as `subscriptions list` numbers it
    #[arg(long, value_name = "NUMBER")]
    #[serde(
        default,
        deserialize_with = "number",
        skip_serializing_if = "Option::is_none"
    )]
    pub subscription: Option<u32>,
}

impl SubscriptionSelection {
    /// Whether no condition is set.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the tasks of a subscription can be meant.
    #[must_use]
    pub fn admits(&self, number: SubscriptionNumber, [tenant, rule, target]: [&Name; 3]) -> bool {
        let is = |wanted: &Option<Name>, name: &Name| {
            wanted.as_ref().is_none_or(|wanted| wanted == name)
        };
        is(&self.tenant, tenant)
            && is(&self.rule, rule)
            && is(&self.target, target)
            && self.subscription.is_none_or(|wanted| wanted == number.0)
    }
}

/// Which tasks of them are meant: all conditions that are set must hold.
///
/// It does not hold the [`SubscriptionSelection`], but stands beside it: serde does not refuse
/// unknown fields where what is flattened flattens in turn.
#[derive(Clone, Debug, Default, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
pub struct TaskSelection {
    /// In this state; several with commas between them
    #[arg(long, value_name = "STATE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<States>,
    /// Whose run began at this time or later; of those that have ended: that ended at this time or
    /// later
    #[arg(long, value_name = "TIME")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Moment>,
    /// Whose run began before this time; of those that have ended: that ended before this time
    #[arg(long, value_name = "TIME")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Moment>,
    /// Whose event has this type
    #[arg(long = "type", value_name = "TYPE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<String>,
    /// Whose event has this source
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Whose event has this subject
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Whose event has this id
    #[arg(long, value_name = "ID")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// With this order key: what `order_by` finds in the event
    #[arg(long, value_name = "KEY")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_key: Option<String>,
}

/// Kinds of tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskKinds {
    /// Those that have not ended.
    pub waiting: bool,
    /// Those that have.
    pub ended: bool,
}

impl TaskSelection {
    /// Whether no condition is set.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// Which kinds of tasks are meant, by their states.
    ///
    /// # Errors
    /// It is asked for what is not kept of those that have ended.
    pub fn kinds(&self) -> Result<TaskKinds, String> {
        let states = self.state.as_ref().map_or(&[][..], |states| &states.0);
        let kinds = TaskKinds {
            waiting: states.is_empty() || states.iter().any(|state| !state.is_terminal()),
            ended: states.iter().any(|state| state.is_terminal()),
        };
        if kinds.ended && self.order_key.is_some() {
            return Err("the order key of a task that has ended is not kept".to_owned());
        }
        Ok(kinds)
    }

    /// Whether a state is meant.
    #[must_use]
    pub fn admits_state(&self, state: TaskState) -> bool {
        let states = self.state.as_ref();
        states.is_none_or(|states| states.0.contains(&state))
    }

    /// Whether a time is meant.
    #[must_use]
    pub fn admits_time(&self, time: Timestamp) -> bool {
        self.since.is_none_or(|since| time >= since.0)
            && self.until.is_none_or(|until| time < until.0)
    }

    /// The journal's own form of the order key that is meant.
    #[must_use]
    pub fn order_key(&self) -> Option<u64> {
        self.order_key.as_deref().map(order_key)
    }

    /// Whether the event has to be looked at.
    #[must_use]
    pub fn looks_at_events(&self) -> bool {
        let texts = [&self.r#type, &self.source, &self.subject, &self.event_id];
        texts.into_iter().any(Option::is_some)
    }

    /// Whether an event is meant.
    #[must_use]
    pub fn admits_event(&self, event: &Event) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| Some(wanted) == found)
        };
        is(&self.r#type, Some(event.ty()))
            && is(&self.source, Some(event.source()))
            && is(&self.subject, event.subject())
            && is(&self.event_id, Some(event.id()))
    }
}

/// What of a selection is set, as the API's queries name it.
#[must_use]
pub fn pairs(selection: &impl Serialize) -> Vec<(String, String)> {
    let Ok(serde_json::Value::Object(set)) = serde_json::to_value(selection) else {
        return Vec::new();
    };
    let text = |value| match value {
        serde_json::Value::String(text) => text,
        value => value.to_string(),
    };
    set.into_iter()
        .map(|(key, value)| (key, text(value)))
        .collect()
}

/// A number, which in a query is a text.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number<'t> {
        Number(u32),
        Text(#[serde(borrow)] std::borrow::Cow<'t, str>),
    }
    match Option::<Number<'_>>::deserialize(deserializer) {
        Ok(None) => Ok(None),
        Ok(Some(Number::Number(number))) => Ok(Some(number)),
        Ok(Some(Number::Text(text))) => {
            let invalid =
                |_| D::Error::custom(format!("{text:?} is not the number of a subscription"));
            text.parse().map(Some).map_err(invalid)
        }
        Err(_) => Err(D::Error::custom("this is not the number of a subscription")),
    }
}

/// Which tasks something is to be done to, as it is sent to the API.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TasksRequest {
    /// These, and no conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 10_000))]
    pub ids: Option<Vec<DeliveryId>>,
    #[serde(flatten)]
    pub of: SubscriptionSelection,
    #[serde(flatten)]
    pub selection: TaskSelection,
    /// Every one: has to be said where nothing else is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// Only count those that are meant.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Go on behind this one: the `next` of the answer before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<DeliveryId>,
}

impl TasksRequest {
    /// Checks that exactly one way of saying which tasks are meant was used.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        if let Some(ids) = &self.ids
            && !(1..=IDS_MAX).contains(&ids.len())
        {
            return Err(format!("ids holds 1 to {IDS_MAX} ids"));
        }
        let has_conditions = !(self.of.is_open() && self.selection.is_open());
        match (self.ids.is_some(), has_conditions, self.all) {
            (true, false, false) if self.after.is_some() => {
                Err("after goes on in a selection, and ids name each task".to_owned())
            }
            (true, false, false) | (false, false, true) => Ok(()),
            (false, true, false) if self.selection.kinds()?.ended => {
                Err("what has ended stays as it is; a dead letter is redriven".to_owned())
            }
            (false, true, false) => Ok(()),
            (false, false, false) => Err(
                "nothing is selected: give ids, conditions such as rule, target, subscription, \
                 state or type, or say all"
                    .to_owned(),
            ),
            _ => Err("ids, conditions and all exclude each other".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_rules_targets_and_subscriptions_are_kept_apart() {
        let name = |text: &str| Name::new(text).unwrap();
        let own = [name("a"), name("r"), name("t")];
        let admits =
            |selection: &SubscriptionSelection, [tenant, rule, target]: [&str; 3], number| {
                let names = [name(tenant), name(rule), name(target)];
                selection.admits(SubscriptionNumber(number), names.each_ref())
            };
        let [tenant, rule, target] = own.map(Some);
        let open = SubscriptionSelection::default();
        assert!(admits(&open, ["b", "x", "y"], 9));
        for (selection, other) in [
            (
                SubscriptionSelection {
                    tenant,
                    ..open.clone()
                },
                (["b", "r", "t"], 7),
            ),
            (
                SubscriptionSelection {
                    rule,
                    ..open.clone()
                },
                (["a", "x", "t"], 7),
            ),
            (
                SubscriptionSelection {
                    target,
                    ..open.clone()
                },
                (["a", "r", "y"], 7),
            ),
            (
                SubscriptionSelection {
                    subscription: Some(7),
                    ..open.clone()
                },
                (["a", "r", "t"], 8),
            ),
        ] {
            assert!(admits(&selection, ["a", "r", "t"], 7), "{selection:?}");
            assert!(!admits(&selection, other.0, other.1), "{selection:?}");
            assert!(!selection.is_open());
        }
    }

    #[test]
    fn one_way_of_saying_which_is_used() {
        let id = "9f86d081884c7d65-1f-2-0";
        for (body, expect) in [
            (r#"{"rule":"a"}"#.to_owned(), ""),
            (r#"{"all":true}"#.to_owned(), ""),
            (r#"{"all":true,"dry_run":true}"#.to_owned(), ""),
            (r#"{"subscription":7,"state":"pending"}"#.to_owned(), ""),
            (format!(r#"{{"ids":["{id}"]}}"#), ""),
            (format!(r#"{{"rule":"a","after":"{id}"}}"#), ""),
            ("{}".to_owned(), "nothing is selected"),
            (r#"{"dry_run":true}"#.to_owned(), "nothing is selected"),
            (r#"{"all":false}"#.to_owned(), "nothing is selected"),
            (
                r#"{"all":true,"rule":"a"}"#.to_owned(),
                "ids, conditions and all exclude",
            ),
            (
                format!(r#"{{"ids":["{id}"],"rule":"a"}}"#),
                "ids, conditions and all exclude",
            ),
            (
                format!(r#"{{"ids":["{id}"],"after":"{id}"}}"#),
                "after goes on in a selection",
            ),
            (r#"{"ids":[]}"#.to_owned(), "ids holds 1 to 10000"),
            (
                r#"{"ids":["x"]}"#.to_owned(),
                "\"x\" is not the id of a delivery",
            ),
            (
                r#"{"state":"failed"}"#.to_owned(),
                "what has ended stays as it is",
            ),
            (
                r#"{"state":"failed,pending"}"#.to_owned(),
                "what has ended stays as it is",
            ),
            (
                r#"{"state":"bored"}"#.to_owned(),
                "\"bored\" is no state of a task",
            ),
            (
                r#"{"since":"yesterday"}"#.to_owned(),
                "\"yesterday\" is no time",
            ),
            (
                r#"{"subscription":"x"}"#.to_owned(),
                "\"x\" is not the number",
            ),
            (
                r#"{"subscription":-1}"#.to_owned(),
                "this is not the number",
            ),
            (r#"{"rules":"a"}"#.to_owned(), "unknown field `rules`"),
            (r#"{"rule":"A"}"#.to_owned(), "the name \"A\""),
        ] {
            let read = serde_json::from_str::<TasksRequest>(&body);
            let told = match read.map(|request| request.check()) {
                Ok(Ok(())) => String::new(),
                Ok(Err(told)) => told,
                Err(error) => error.to_string(),
            };
            assert!(
                told.starts_with(expect) && told.is_empty() == expect.is_empty(),
                "{body}: {told}"
            );
        }
    }
}
