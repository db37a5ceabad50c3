//! Instructions for each event by stage, as they are kept in a file, and how two of them compare.

use std::fmt;

use crate::stages::{STAGES, Stage};

/// By which part a stage, or all of them, may grow.
const GROWTH_MAX: f64 = 0.05;

/// What is no growth of a stage: a small stage moves by so many instructions by chance.
const NOISE: f64 = 600.0;

/// Instructions for each event, by stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// What they were made with: another compiler makes other instructions of the same code.
    pub made_with: String,
    /// In the order of [`Stage::ALL`].
    pub stages: [f64; STAGES],
}

impl Figures {
    /// All stages together.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.stages.iter().sum()
    }

    fn named(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let stages = Stage::ALL.iter().zip(self.stages);
        stages
            .map(|(stage, instructions)| (stage.name(), instructions))
            .chain([("total", self.total())])
    }

    /// Reads what [`Display`](fmt::Display) wrote.
    ///
    /// # Errors
    /// What is missing.
    pub fn parse(text: &str) -> Result<Self, String> {
        let value = |key: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(' '));
            let (_, value) = lines
                .find(|(found, _)| *found == key)
                .ok_or_else(|| format!("no line {key:?}"))?;
            Ok::<_, String>(value.trim())
        };
        let mut stages = [0.0; STAGES];
        for (instructions, stage) in stages.iter_mut().zip(Stage::ALL) {
            *instructions = value(stage.name())?
                .parse()
                .map_err(|error| format!("{}: {error}", stage.name()))?;
        }
        Ok(Self {
            made_with: value("made-with")?.to_owned(),
            stages,
        })
    }

    /// What has grown more than it may since the other figures, a line each. The rest hangs on how
    /// much time goes by, and counts in the total alone.
    #[must_use]
    pub fn grown_since(&self, before: &Self) -> Vec<String> {
        self.named()
            .zip(before.named())
            .filter(|((name, now), (_, before))| {
                *name != Stage::Rest.name()
                    && now - before > NOISE && *now > before * (1.0 + GROWTH_MAX)
            })
            .map(|((name, now), (_, before))| {
                let part = (now / before - 1.0) * 100.0;
                format!("{name}: {now:.0} instructions for each event, {part:.1} % more than {before:.0}")
            })
            .collect()
    }

    /// A table of these figures and what has changed since others.
    #[must_use]
    pub fn table(&self, before: Option<&Self>) -> String {
        let mut table = String::new();
        let total = self.total();
        let befores = before.map(|before| before.named().collect::<Vec<_>>());
        for (row, (name, now)) in self.named().enumerate() {
            table += &format!("{name:<10}{now:>10.0}{:>7.1} %", now / total * 100.0);
            let before = befores.as_ref().and_then(|befores| befores.get(row));
            if let Some((_, before)) = before.filter(|(_, before)| *before > 0.0) {
                table += &format!("{:>+9.1} %", (now / before - 1.0) * 100.0);
            }
            table.push('\n');
        }
        table
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "made-with {}", self.made_with)?;
        for (name, instructions) in self.named() {
            writeln!(f, "{name} {instructions:.0}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(stages: [f64; STAGES]) -> Figures {
        Figures {
            made_with: "rustc 1".to_owned(),
            stages,
        }
    }

    fn plain() -> [f64; STAGES] {
        [
            40_000.0, 10_000.0, 2_000.0, 30_000.0, 20_000.0, 15_000.0, 60_000.0, 20_000.0, 9_000.0,
        ]
    }

    #[test]
    fn figures_are_read_as_they_were_written() {
        let given = figures(plain());
        assert_eq!(Figures::parse(&given.to_string()), Ok(given));
        let error = Figures::parse("made-with rustc 1\nreceive 1\n").unwrap_err();
        assert_eq!(error, "no line \"decode\"");
    }

    #[test]
    fn a_stage_that_grows_by_more_than_a_twentieth_is_told_and_noise_is_not() {
        let grown = |stage: Stage, by: f64| {
            let mut stages = plain();
            stages[stage as usize] += by;
            figures(stages).grown_since(&figures(plain()))
        };
        assert_eq!(grown(Stage::Receive, 1_900.0), [""; 0]);
        let told = "receive: 42100 instructions for each event, 5.2 % more than 40000";
        assert_eq!(grown(Stage::Receive, 2_100.0), [told]);
        // Of a small stage a twentieth is less than chance.
        assert_eq!(grown(Stage::Match, 500.0), [""; 0]);
        assert_eq!(grown(Stage::Match, 700.0).len(), 1);
        assert_eq!(grown(Stage::Receive, -9_000.0), [""; 0]);
        assert_eq!(grown(Stage::Rest, 5_000.0), [""; 0]);
    }

    #[test]
    fn many_stages_that_grow_a_little_make_a_total_that_grows() {
        let stages = plain().map(|instructions| instructions * 1.049);
        assert_eq!(figures(stages).grown_since(&figures(plain())), [""; 0]);
        let mut stages = plain().map(|instructions| instructions * 1.049);
        stages[Stage::Rest as usize] += 2_000.0;
        let told = figures(stages).grown_since(&figures(plain()));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("total: "), "{told:?}");
    }
}
