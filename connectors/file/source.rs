//! The source: its settings, and what the bus asks of it.

use std::time::Duration;

use async_trait::async_trait;
use glob::Pattern;
use pointsman_schemas::{Interval, Problem, Segment};
use regex::bytes::Regex;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::follow::{Follow, Setup};
use super::position::{Stored, is_own};
use crate::existing::Existing;
use crate::parameter::resolve;
use crate::texts::Texts;
use crate::{
    Batch, Guarantee, OpenError, RunsOn, Source, SourceContext, SourceError, SourceSettings,
};

/// The shortest time between two looks.
const EVERY_MIN: Duration = Duration::from_millis(10);

/// Follows files that grow, line by line.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSource {
    /// Where the files are: paths with `*`, `?`, `[a-z]`, and `**` for folders within folders.
    #[schemars(extend("examples" = [["/var/log/app/*.log"]]))]
    paths: Texts,
    /// Files to leave out, by path or name.
    #[serde(default = "compressed")]
    #[schemars(inner(length(min = 1)))]
    exclude: Vec<String>,
    /// What a record is.
    #[serde(default)]
    format: Format,
    /// How lines belong together: each is a record unless it is given.
    multiline: Option<Multiline>,
    /// What becomes of what lies there at the very first start; files that come later are read from
    /// their beginning.
    #[serde(default)]
    existing: Existing,
    /// How often to look whether there is something new.
    #[serde(default = "second")]
    every: Interval,
}

/// What a record is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    /// Text.
    #[default]
    Text,
    /// JSON.
    Json,
    /// A CloudEvent in the JSON format, as the target writes it.
    Cloudevents,
}

/// How lines belong together.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Multiline {
    /// A regular expression that the first line of a record matches.
    #[schemars(length(min = 1), extend("examples" = ["^\\d{4}-\\d\\d-\\d\\d"]))]
    starts: String,
}

fn compressed() -> Vec<String> {
    ["*.gz", "*.xz", "*.zst", "*.bz2"].map(str::to_owned).into()
}

fn second() -> Interval {
    Interval(Duration::from_secs(1))
}

impl FileSource {
    fn starts(&self) -> Result<Option<Regex>, Problem> {
        let starts = self
            .multiline
            .as_ref()
            .map(|lines| Regex::new(&lines.starts));
        starts.transpose().map_err(|error| {
            let mistake = format!("this regular expression cannot be read: {error}");
            Problem::new(mistake).at("starts").at("multiline")
        })
    }

    fn exclude(&self) -> Result<Vec<Pattern>, Problem> {
        let patterns = self.exclude.iter().enumerate();
        let patterns = patterns.map(|(index, text)| {
            pattern(text).map_err(|mistake| Problem::new(mistake).at(index).at("exclude"))
        });
        patterns.collect()
    }

    fn paths(&self) -> Result<Vec<Pattern>, OpenError> {
        let texts = self.paths.0.iter().enumerate();
        let patterns = texts.map(|(index, text)| {
            let at: [Segment; 2] = ["paths".into(), index.into()];
            let problem = |mistake| OpenError(Problem::new(mistake).at(index).at("paths"));
            pattern(&resolve(text, &at)?).map_err(problem)
        });
        patterns.collect()
    }
}

fn pattern(text: &str) -> Result<Pattern, String> {
    if text.is_empty() {
        return Err("a path must not be empty".to_owned());
    }
    Pattern::new(text).map_err(|error| format!("this pattern cannot be read: {error}"))
}

#[async_trait]
impl SourceSettings for FileSource {
    fn check(&self) -> Vec<Problem> {
        let none = self.paths.0.is_empty().then(|| {
            let problem = Problem::new("no file is followed").at("paths");
            problem.help("write paths: [\"/var/log/app/*.log\"]")
        });
        let paths = self.paths.0.iter().enumerate().filter_map(|(index, text)| {
            let mistake = pattern(text.literal()?).err()?;
            Some(Problem::new(mistake).at(index).at("paths"))
        });
        let every = (self.every.0 < EVERY_MIN)
            .then(|| Problem::new("files are looked at every 10 ms at most").at("every"));
        let others = [self.starts().err(), self.exclude().err(), every];
        none.into_iter()
            .chain(paths)
            .chain(others.into_iter().flatten())
            .collect()
    }

    fn always_cloudevents(&self) -> bool {
        self.format == Format::Cloudevents
    }

    fn has_stable_ids(&self) -> bool {
        true
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn runs_on(&self) -> RunsOn {
        RunsOn::One
    }

    async fn probe(&self) -> Result<String, OpenError> {
        let patterns = self.paths()?;
        let look = move || {
            let found = patterns
                .iter()
                .filter_map(|one| glob::glob(one.as_str()).ok());
            let mut files = 0;
            for path in found.flatten() {
                let path = path.map_err(std::io::Error::from)?;
                if path.is_file() {
                    std::fs::File::open(&path).map_err(|error| {
                        std::io::Error::new(error.kind(), format!("{}: {error}", path.display()))
                    })?;
                    files += 1;
                }
            }
            Ok::<_, std::io::Error>(files)
        };
        let looked = tokio::task::spawn_blocking(look).await;
        let looked = looked.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        let problem = |error| {
            let problem = Problem::new(format!("cannot read the files: {error}")).at("paths");
            OpenError(problem.help("let the user that runs pointsman read them"))
        };
        Ok(match looked.map_err(problem)? {
            0 => "there is no such file yet".to_owned(),
            1 => "1 file can be read".to_owned(),
            many => format!("{many} files can be read"),
        })
    }

    async fn open(&self, context: SourceContext) -> Result<Box<dyn Source>, OpenError> {
        let paths = self.paths()?;
        let (exclude, starts) = (
            self.exclude().map_err(OpenError)?,
            self.starts().map_err(OpenError)?,
        );
        let stored = match &context.cursor {
            Some(cursor) if !is_own(cursor) => None,
            _ => Stored::read(&context).await?,
        };
        let setup = Setup {
            name: context.name,
            mapped: context.mapped,
            clock: context.clock,
            paths,
            exclude,
            starts,
            format: self.format,
            every: self.every.0,
            skips_existing: self.existing == Existing::Skip,
        };
        let name = setup.name.clone();
        let follow = stored.map(|stored| Box::new(Follow::begin(setup, stored)));
        Ok(Box::new(Files {
            follow: follow.ok_or_else(|| {
                format!(
                    "what is stored for {name} is damaged, or of another kind of source; give the \
                     source another name"
                )
            }),
            round: None,
            every: self.every.0,
        }))
    }
}

/// Files that are followed.
struct Files {
    /// Between two rounds; or why there will be none.
    follow: Result<Box<Follow>, String>,
    /// The round under way. It is awaited by whichever call of `next` comes.
    round: Option<JoinHandle<(Box<Follow>, Option<Batch>)>>,
    every: Duration,
}

#[async_trait]
impl Source for Files {
    async fn next(&mut self) -> Result<Batch, SourceError> {
        loop {
            if self.round.is_none() {
                let away = Err("a look at the files broke off".to_owned());
                let mut follow = std::mem::replace(&mut self.follow, away)
                    .map_err(SourceError::CursorMismatch)?;
                self.round = Some(tokio::task::spawn_blocking(move || {
                    let batch = follow.round();
                    (follow, batch)
                }));
            }
            if let Some(round) = &mut self.round {
                let ended = round.await;
                self.round = None;
                let (follow, batch) =
                    ended.map_err(|error| SourceError::Unavailable(error.to_string()))?;
                self.follow = Ok(follow);
                if let Some(batch) = batch {
                    return Ok(batch);
                }
            }
            sleep(self.every).await;
        }
    }
}
