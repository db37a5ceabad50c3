//! How times, states and ids are spelt in queries and arguments.

use std::fmt;
use std::str::FromStr;

use pointsman_journal::TaskState;
use pointsman_schemas::{DeliveryId, Timestamp};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text of which serde, clap and the document know only how it is spelt.
macro_rules! spelt {
    ($type:ty, $schema:tt) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                text.parse().map_err(D::Error::custom)
            }
        }

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

/// A time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(pub Timestamp);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time: Result<jiff::Timestamp, _> = text.parse();
        time.map(|time| Self(Timestamp(time.as_microsecond())))
            .map_err(|_| format!("{text:?} is no time; write it as 2026-01-31T09:30:00Z"))
    }
}

spelt!(Moment, { "type": "string", "format": "date-time" });

/// One or several states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct States(pub Vec<TaskState>);

impl fmt::Display for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(|state| state.as_str()).collect();
        f.write_str(&names.join(","))
    }
}

impl FromStr for States {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let state = |name: &str| {
            name.parse().map_err(|_| {
                let all = Self(TaskState::ALL.to_vec()).to_string();
                format!("{name:?} is no state of a task; there are {all}")
            })
        };
        text.split(',')
            .map(state)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// A choice of all states, for a pattern.
fn states_pattern() -> String {
    let names = TaskState::ALL.map(TaskState::as_str).join("|");
    format!("^({names})(,({names}))*$")
}

spelt!(States, { "type": "string", "pattern": states_pattern() });

/// One or several ids of tasks, as a query names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids(pub Vec<DeliveryId>);

impl fmt::Display for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&ids.join(","))
    }
}

impl FromStr for Ids {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ids = text
            .split(',')
            .map(|id| id.parse().map_err(|error| format!("{error}")));
        ids.collect::<Result<_, _>>().map(Self)
    }
}

spelt!(Ids, {
    "type": "string",
    "pattern": "^[0-9a-f]{16}-[1-9a-f][0-9a-f]{0,6}-[1-9a-f][0-9a-f]{0,6}-0(,[0-9a-f]{16}-[1-9a-f][0-9a-f]{0,6}-[1-9a-f][0-9a-f]{0,6}-0)*$",
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_times_are_spelt_in_one_way() {
        let states: States = "pending,retrying".parse().unwrap();
        assert_eq!(states.to_string(), "pending,retrying");
        for bad in ["", "pending,", "Pending", "pending, retrying", "bored"] {
            assert!(bad.parse::<States>().is_err(), "{bad:?}");
        }
        let moment: Moment = "2026-01-31T10:30:00+01:00".parse().unwrap();
        assert_eq!(moment.to_string(), "2026-01-31T09:30:00Z");
        for bad in ["yesterday", "2026-01-31", "2026-01-31T09:30:00", "24h", ""] {
            assert!(bad.parse::<Moment>().is_err(), "{bad:?}");
        }
    }
}
