//! What the settings of a source and of a target have in common.

use std::borrow::Cow;
use std::fmt;

use pointsman_schemas::Problem;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

use super::packet::Version;
use crate::net::server::{Protocol, ServerSettings};

/// What a user may write.
pub(super) const PROTOCOL: Protocol = Protocol {
    plain: &["mqtt", "tcp"],
    secure: &["mqtts", "ssl"],
    ports: (1883, 8883),
    check_path: |path| match path {
        "" => Ok(()),
        _ => Err("behind the host stands nothing; topics have a setting of their own"),
    },
};

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Version;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"3.1.1\" or \"5\"")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Version, E> {
                match text {
                    "3.1.1" => Ok(Version::V3),
                    "5" | "5.0" => Ok(Version::V5),
                    _ => Err(E::custom("expected \"3.1.1\" or \"5\"")),
                }
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Version, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Version, E> {
                self.visit_str(&number.to_string())
            }
        }
        deserializer.deserialize_any(Number)
    }
}

impl JsonSchema for Version {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "MqttVersion".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": ["3.1.1", "5", 5] })
    }
}

/// The mistakes in who connects where.
pub(super) fn check(server: &ServerSettings<'_>, version: Version) -> Vec<Problem> {
    let mut problems = server.check(&PROTOCOL);
    if version == Version::V3 && server.username.is_none() && server.password.is_some() {
        let problem = Problem::new("MQTT 3.1.1 has no password without a user");
        problems.push(problem.help("write username, too").at("password"));
    }
    problems
}
