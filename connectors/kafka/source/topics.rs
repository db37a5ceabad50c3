//! The topics of a source, and their partitions as they are.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use krafka::Kafka;
use krafka::admin::{DescribeTopicsOptions, ListTopicsOptions};
use krafka::consumer::TopicPartition;
use pointsman_schemas::Problem;
use regex::Regex;

use crate::OpenError;
use crate::kafka::cluster::{Broken, Cluster};

/// How often topics are looked for that a pattern matches.
pub(in crate::kafka) const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Which topics to read.
#[derive(Clone, Debug)]
pub(in crate::kafka) enum Topics {
    Named(Vec<String>),
    Matching(Regex),
}

/// Topics, and how many partitions each has.
#[derive(Debug, Default)]
pub(in crate::kafka) struct Partitions(BTreeMap<String, Vec<i32>>);

impl Topics {
    /// The names of those that there are.
    pub(in crate::kafka) async fn names(
        &self,
        cluster: &Cluster,
        kafka: &Kafka,
    ) -> Result<Vec<String>, Broken> {
        let pattern = match self {
            Self::Named(names) => return Ok(names.clone()),
            Self::Matching(pattern) => pattern,
        };
        let admin = kafka.admin();
        let listed = admin.list_topics(ListTopicsOptions::default());
        let mut names = cluster.answer("cannot list the topics", listed).await?;
        names.retain(|name| pattern.is_match(name));
        Ok(names)
    }

    /// Those that there are, with their partitions.
    ///
    /// # Errors
    /// One that is named is missing, or none matches; or nobody answers.
    pub(super) async fn find(
        &self,
        cluster: &Cluster,
        kafka: &Kafka,
    ) -> Result<Partitions, OpenError> {
        let names = self
            .names(cluster, kafka)
            .await
            .map_err(|broken| broken.problem("pattern"))?;
        if let Self::Matching(pattern) = self
            && names.is_empty()
        {
            let mistake = format!("no topic's name is matched by {}", pattern.as_str());
            return Err(OpenError(Problem::new(mistake).at("pattern").help(
                "the whole name has to match; and a user sees those topics alone that he may describe",
            )));
        }
        let admin = kafka.admin();
        let described = admin.describe_topics(&names, DescribeTopicsOptions::default());
        let described = cluster
            .answer("cannot look at the topics", described)
            .await
            .map_err(|broken| broken.problem("topics"))?;
        let mut partitions = BTreeMap::new();
        for (name, topic) in described {
            let topic = topic.map_err(|error| cluster.topic_problem(&name, error, "topics"))?;
            let numbers = topic.partitions.iter().map(|each| each.partition);
            partitions.insert(name, numbers.collect());
        }
        Ok(Partitions(partitions))
    }
}

impl Partitions {
    pub(in crate::kafka) fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    pub(super) fn has(&self, partition: &TopicPartition) -> bool {
        let numbers = self.0.get(&partition.topic);
        numbers.is_some_and(|numbers| numbers.contains(&partition.partition))
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<TopicPartition> {
        let each = |(topic, numbers): (&String, &Vec<i32>)| -> Vec<TopicPartition> {
            let of = |number: &i32| TopicPartition::new(topic.clone(), *number);
            numbers.iter().map(of).collect()
        };
        self.0.iter().flat_map(each).collect()
    }
}

impl fmt::Display for Partitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_MAX: usize = 5;
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        for (index, (topic, numbers)) in self.0.iter().take(SHOWN_MAX).enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let (count, s) = (numbers.len(), plural(numbers.len()));
            write!(f, "{comma}the topic {topic} has {count} partition{s}")?;
        }
        match self.0.len().saturating_sub(SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, ", and {more} topic{} more", plural(more)),
        }
    }
}
