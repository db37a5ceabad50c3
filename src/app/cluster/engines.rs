//! The engines that keep the cluster's log: the one, or several with a part of the shards each.

use std::sync::Arc;
use std::time::Duration;

use pointsman_log::several::{Kept, Several};
use pointsman_log::{Cluster, Foreign, Log, OpenError, Opened, Part, Probed};
use pointsman_schemas::Name;
use tokio::time::sleep;

use super::engine;
use crate::config::{Engine, StoreLog};

/// How often an engine that has to have a part of the log may say that it has none, and how far
/// apart.
const LOOKS: u32 = 3;
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Opens the log, and says what is at stake with its engines.
pub(super) async fn open(settings: &StoreLog, node: &Name) -> Result<Arc<dyn Log>, OpenError> {
    let (mut engines, mut warnings, mut before) = (Vec::new(), Vec::new(), Before::default());
    for one in log_engines(settings) {
        let opened = one.open(settings, node, before).await;
        let opened = opened.map_err(|error| one.named(error))?;
        let told = opened.warnings.into_iter();
        warnings.extend(told.map(|warning| one.told(warning)));
        before.add(opened.part, opened.is_used);
        let (name, log) = (one.name(), opened.log);
        engines.push(Kept { name, log });
    }
    // Not at every try while one of them is away.
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(match <[Kept; 1]>::try_from(engines) {
        Ok([one]) => one.log,
        Err(several) => Arc::new(Several::new(several)),
    })
}

/// What is known of the engines before one.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    /// Which set of engines they are; the first one decides.
    set: Option<u64>,
    /// Whether nodes have worked with them, which have opened all of them before.
    in_use: bool,
}

impl Before {
    fn add(&mut self, part: Option<Part>, is_used: bool) {
        self.set = self.set.or(part.and_then(|part| part.set));
        self.in_use |= is_used;
    }
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
    /// What it keeps of the cluster.
    fn cluster(&self, settings: &StoreLog, before: Before) -> Cluster {
        if self.of == 1 {
            return settings.cluster.clone();
        }
        let part = settings.cluster.of_part(Part {
            index: self.index,
            engines: self.of,
            set: before.set,
        });
        match before.in_use {
            true => part.existing(),
            false => part,
        }
    }

    async fn open(
        &self,
        settings: &StoreLog,
        node: &Name,
        before: Before,
    ) -> Result<Opened<Arc<dyn Log>>, OpenError> {
        let mut looks = 1;
        loop {
            let cluster = self.cluster(settings, before);
            let opened = engine::open(self.engine, cluster, settings, node.as_str()).await;
            match opened {
                // Of several servers not each tells of what another node has just had made.
                Err(OpenError::Part {
                    why: Foreign::Missing,
                    ..
                }) if looks < LOOKS => {}
                opened => return opened,
            }
            looks += 1;
            sleep(LOOK_AGAIN).await;
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
    before: Before,
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
        let cluster = one.cluster(settings, self.before);
        let probed = engine::probe(one.engine, cluster, settings).await?;
        let found = probed.part.and_then(|part| part.set);
        if found.is_some() && self.before.set.is_none() && self.lacks_some {
            let cluster = settings.cluster.name().to_string();
            let why = Foreign::Set;
            return Err(OpenError::Part { cluster, why });
        }
        self.before.add(probed.part, probed.is_used);
        self.lacks_some |= found.is_none();
        Ok(probed)
    }
}
