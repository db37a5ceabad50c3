//! A source's settings, and what of them is said by them alone.

use std::fmt;

use pointsman_schemas::{Problem, Segment, Text};
use regex::Regex;
use schemars::JsonSchema;
use serde::Deserialize;

use super::topics::Topics;
use crate::OpenError;
use crate::kafka::cluster::Cluster;
use crate::kafka::settings::{Auth, Brokers, Connection, Tls};
use crate::parameter::resolve;
use crate::texts::Texts;

/// The longest name of a topic.
const TOPIC_BYTES_MAX: usize = 249;

/// Reads topics of Kafka as a member of a consumer group.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaSource {
    /// A broker such as `127.0.0.1:9092`, or several of one cluster.
    pub(super) brokers: Brokers,
    /// The topic to read, or a list of them.
    #[schemars(with = "Option<TopicsSchema>")]
    pub(super) topics: Option<Texts>,
    /// A regular expression in the place of `topics`: every topic whose whole name it matches, those
    /// that are made later included.
    #[schemars(extend("format" = "regex", "examples" = ["orders\\..*"]))]
    pub(super) pattern: Option<String>,
    /// The consumer group. Its members, be they nodes or other programs, share the partitions.
    #[schemars(extend("minLength" = 1))]
    pub(super) group: Text,
    /// Where the group begins with a topic of which it has read nothing yet.
    pub(super) start: Start,
    /// How the servers are shown who connects.
    pub(super) auth: Option<Auth>,
    /// Certificates of a connection by TLS, which is spoken where these settings are there: `tls:
    /// {}`.
    pub(super) tls: Option<Tls>,
}

/// One name, or several.
#[derive(JsonSchema)]
#[schemars(inline)]
#[expect(dead_code, reason = "it is what the schema says")]
#[serde(untagged)]
enum TopicsSchema {
    One(Text),
    Several(Vec<Text>),
}

/// Where a group begins that has read nothing yet.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "KafkaStart")]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// With the first record that there is.
    Earliest,
    /// With what is written from now on.
    Latest,
    /// With the first record of this time or later, RFC 3339.
    Time(String),
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => f.write_str("the first record that there is"),
            Self::Latest => f.write_str("what is written from then on"),
            Self::Time(time) => write!(f, "the first record of {time} or later"),
        }
    }
}

impl Start {
    /// The time, in milliseconds since 1970.
    fn time(&self) -> Option<Result<i64, jiff::Error>> {
        match self {
            Self::Time(time) => {
                let time = time.parse::<jiff::Timestamp>();
                Some(time.map(jiff::Timestamp::as_millisecond))
            }
            Self::Earliest | Self::Latest => None,
        }
    }

    /// As Kafka is asked for it: a time in milliseconds, or -2 for the earliest and -1 for the latest
    /// (KIP-79).
    pub(super) fn asked(&self) -> i64 {
        match self.time() {
            // A time that is none is found by the check.
            Some(time) => time.unwrap_or_default(),
            None if *self == Self::Earliest => -2,
            None => -1,
        }
    }
}

impl KafkaSource {
    pub(super) fn connection(&self) -> Connection<'_> {
        Connection {
            brokers: &self.brokers,
            auth: self.auth.as_ref(),
            tls: self.tls.as_ref(),
        }
    }

    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = self.connection().check();
        match (&self.topics, &self.pattern) {
            (Some(_), Some(_)) => problems.push(
                Problem::new("topics are named, or found by a pattern; leave one of them out")
                    .at("pattern"),
            ),
            (None, None) => problems.push(
                Problem::new("name the topics to read")
                    .help("write topics: [orders], or pattern: \"orders\\\\..*\"")
                    .at("topics"),
            ),
            (None, Some(pattern)) => {
                let mistake = whole(pattern).err();
                problems.extend(mistake.map(|mistake| mistake.at("pattern")));
            }
            (Some(Texts(topics)), None) => problems.extend(
                topic_problems(topics)
                    .into_iter()
                    .map(|problem| problem.at("topics")),
            ),
        }
        if self.group.literal().is_some_and(str::is_empty) {
            problems.push(Problem::new("a group has a name").at("group"));
        }
        if let Some(Err(_)) = self.start.time() {
            problems.push(
                Problem::new("this is no time")
                    .at("time")
                    .at("start")
                    .help("write one such as 2026-01-31T09:30:00Z"),
            );
        }
        problems
    }

    /// The cluster and the group.
    pub(super) fn resolved(&self, client: String) -> Result<(Cluster, String), OpenError> {
        let cluster = self.connection().resolve(client)?;
        Ok((cluster, resolve(&self.group, &["group".into()])?))
    }

    pub(super) fn topics(&self) -> Result<Topics, OpenError> {
        if let Some(pattern) = &self.pattern {
            let pattern = whole(pattern).map_err(|problem| OpenError(problem.at("pattern")))?;
            return Ok(Topics::Matching(pattern));
        }
        let at: [Segment; 1] = ["topics".into()];
        let named = self.topics.iter().flat_map(|Texts(topics)| topics);
        let names: Result<Vec<_>, _> = named.map(|topic| resolve(topic, &at)).collect();
        Ok(Topics::Named(names?))
    }
}

fn topic_problems(topics: &[Text]) -> Vec<Problem> {
    if topics.is_empty() {
        return vec![Problem::new("name at least one topic")];
    }
    let found = topics.iter().enumerate().filter_map(|(index, topic)| {
        let mistake = topic_mistake(topic.literal()?)?;
        Some((index, Problem::new(mistake)))
    });
    found
        .map(|(index, problem)| {
            if topics.len() > 1 {
                problem.at(index)
            } else {
                problem
            }
        })
        .collect()
}

/// What is wrong with a topic's name.
pub(in crate::kafka) fn topic_mistake(name: &str) -> Option<&'static str> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > TOPIC_BYTES_MAX {
        return Some("a topic's name has 1 to 249 characters");
    }
    if matches!(name, "." | "..") || !name.bytes().all(is_allowed) {
        return Some("a topic's name is made of a-z, A-Z, 0-9, ., _ and -");
    }
    None
}

/// An expression that matches whole names alone.
fn whole(pattern: &str) -> Result<Regex, Problem> {
    Regex::new(&format!("^(?:{pattern})$")).map_err(|error| {
        let words = error.to_string();
        let last = words.lines().last().unwrap_or_default().to_owned();
        Problem::new(format!("this is no regular expression: {last}"))
    })
}
