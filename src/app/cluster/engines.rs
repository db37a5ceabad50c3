//! The engines that keep the cluster's log: the one, or several with a part of the shards each.

use std::sync::Arc;

use pointsman_log::several::{Kept, Several};
use pointsman_log::{Cluster, Foreign, Log, OpenError, Part, Probed};
use pointsman_schemas::Name;

use super::engine;
use crate::config::{Engine, StoreLog};

/// Opens the log, and says what is at stake with its engines.
pub(super) async fn open(settings: &StoreLog, node: &Name) -> Result<Arc<dyn Log>, OpenError> {
    let (mut engines, mut set) = (Vec::new(), None);
    for one in log_engines(settings) {
        let cluster = one.cluster(settings, set);
        let opened = engine::open(one.engine, cluster, settings, node.as_str()).await;
        let opened = opened.map_err(|error| one.named(error))?;
        for warning in opened.warnings {
            tracing::warn!("{}", one.told(warning));
        }
        // The first one decides which set of engines it is.
        set = set.or(opened.part.and_then(|part| part.set));
        let (name, log) = (one.name(), opened.log);
        engines.push(Kept { name, log });
    }
    Ok(match <[Kept; 1]>::try_from(engines) {
        Ok([one]) => one.log,
        Err(several) => Arc::new(Several::new(several)),
    })
}

/// The engines of a log, by their places.
pub(crate) fn log_engines(settings: &StoreLog) -> impl Iterator<Item = LogEngine<'_>> {
    let of = u16::try_from(settings.engines.len()).unwrap_or(u16::MAX);
    let engines = (0..of).zip(&settings.engines);
    engines.map(move |(index, engine)| LogEngine { index, of, engine })
}

/// One of the engines of a log.
pub(crate) struct LogEngine<'s> {
    index: u16,
    of: u16,
    engine: &'s Engine,
}

impl LogEngine<'_> {
    fn part(&self, set: Option<u64>) -> Option<Part> {
        (self.of > 1).then_some(Part {
            index: self.index,
            engines: self.of,
            set,
        })
    }

    /// What it keeps of the cluster.
    fn cluster(&self, settings: &StoreLog, set: Option<u64>) -> Cluster {
        match self.part(set) {
            Some(part) => settings.cluster.of_part(part),
            None => settings.cluster.clone(),
        }
    }

    /// What kind of engine it is, as the rule file calls it.
    pub(crate) fn kind(&self) -> &'static str {
        self.engine.kind()
    }

    fn name(&self) -> String {
        format!("engine {} ({})", self.index + 1, self.kind())
    }

    /// With its name before it, where it is one of several.
    pub(crate) fn told(&self, text: String) -> String {
        match self.of {
            1 => text,
            _ => format!("{}: {text}", self.name()),
        }
    }

    fn named(&self, error: OpenError) -> OpenError {
        match error {
            OpenError::Settings(why) => OpenError::Settings(self.told(why)),
            OpenError::Unavailable(why) => OpenError::Unavailable(self.told(why)),
            error => OpenError::Refused(self.told(error.to_string())),
        }
    }
}

/// Looks at the engines of a log one after the other.
#[derive(Default)]
pub(crate) struct LookAtLog {
    /// Of the first one that has something.
    set: Option<u64>,
    /// One that is made anew draws another one.
    lacks_some: bool,
}

impl LookAtLog {
    /// Looks whether the next one could be opened, and changes nothing.
    pub(crate) async fn look(
        &mut self,
        settings: &StoreLog,
        one: &LogEngine<'_>,
    ) -> Result<Probed, OpenError> {
        let cluster = one.cluster(settings, self.set);
        let probed = engine::probe(one.engine, cluster, settings).await?;
        let found = probed.part.and_then(|part| part.set);
        if found.is_some() && self.set.is_none() && self.lacks_some {
            let cluster = settings.cluster.name().to_string();
            let why = Foreign::Set;
            return Err(OpenError::Part { cluster, why });
        }
        self.set = self.set.or(found);
        self.lacks_some |= found.is_none();
        Ok(probed)
    }
}
