//! A piece of a rule: the conditions and the transform that stand in a rule file, compiled by
//! themselves.

use pointsman_rules::{
    Condition, Explanation, Filter, Filters, Origin, OriginSet, Pattern, RawFilter, RawTransform,
    Rule, RuleSet, Scratch, Transform,
};
use pointsman_schemas::{Event, Problem};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::config::Diagnostic;
use crate::config::loose::Loose;

/// What of a rule is tried here.
const TRIED: [&str; 4] = ["match", "where", "filters", "transform"];

/// What else a rule may have, which means nothing to one event.
const BESIDE: [&str; 11] = [
    "description",
    "from",
    "to",
    "delivery",
    "on_success",
    "on_failure",
    "deduplicate",
    "retention",
    "start",
    "quota",
    "renamed_from",
];

/// A piece of a rule, compiled.
pub(super) struct Piece {
    rules: RuleSet,
    pub(super) transform: Option<Transform>,
}

impl Piece {
    /// As a running bus has it that has this one rule.
    fn new(filter: Filter, transform: Option<Transform>) -> Self {
        let rule = Rule {
            from: OriginSet::all_but(&[]),
            filter,
        };
        Self {
            rules: RuleSet::compile(vec![rule]),
            transform,
        }
    }

    /// Reads a piece.
    ///
    /// # Errors
    /// Every mistake in it, each a line.
    pub(super) fn read(text: String) -> Result<Self, Vec<String>> {
        let lines = |all: Vec<Diagnostic>| all.iter().map(Diagnostic::line).collect::<Vec<_>>();
        let read = Loose::read("rule".to_owned(), text).map_err(lines)?;
        let Value::Object(object) = &read.value else {
            return Err(vec![
                "a rule is a mapping, such as { match: { type: [order.paid] } }".to_owned(),
            ]);
        };
        let is_rule = object.keys().any(|key| TRIED.contains(&key.as_str()));
        if !is_rule && !object.is_empty() {
            let pattern = Pattern::compile(&read.value);
            let pattern = pattern.map_err(|problems| lines(read.mistakes(problems)))?;
            return Ok(Self::new(pattern.into(), None));
        }
        let (piece, problems) = Self::compile(object);
        match problems.is_empty() {
            true => Ok(piece),
            false => Err(lines(read.mistakes(problems))),
        }
    }

    pub(super) fn compile(object: &Map<String, Value>) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        for key in object.keys() {
            if !TRIED.contains(&key.as_str()) && !BESIDE.contains(&key.as_str()) {
                let tried = TRIED.join(", ");
                let problem =
                    Problem::new(format!("a rule has no {key:?}; here {tried} are tried"));
                problems.push(problem.at(key.as_str()));
            }
        }
        let part = |key: &'static str| Part {
            key,
            value: object.get(key),
        };
        let filter = Filter {
            pattern: part("match").compile(&mut problems, |value: &Value| Pattern::compile(value)),
            condition: part("where").read(&mut problems, |text: String| Condition::parse(&text)),
            filters: part("filters").read(&mut problems, |filters: Vec<RawFilter>| {
                Filters::compile(&filters)
            }),
        };
        let transform =
            part("transform").read(&mut problems, |raw: RawTransform| Transform::compile(&raw));
        (Self::new(filter, transform), problems)
    }

    /// Whether it takes an event, from wherever that came.
    pub(super) fn takes(&self, event: &Event, scratch: &mut Scratch) -> bool {
        self.rules.takes(0, Origin(0), event, scratch)
    }

    pub(super) fn explain(&self, event: &Event) -> Explanation {
        let explained = self.rules.explain(0, Origin(0), event);
        let mut explanation = explained.unwrap_or_else(|| Explanation {
            matches: false,
            checks: Vec::new(),
            note: None,
        });
        // Here every source is meant.
        explanation.checks.retain(|check| check.field != "from");
        explanation
    }
}

/// One key of a rule.
struct Part<'v> {
    key: &'static str,
    value: Option<&'v Value>,
}

impl Part<'_> {
    fn compile<T>(
        &self,
        problems: &mut Vec<Problem>,
        compile: impl FnOnce(&Value) -> Result<T, Vec<Problem>>,
    ) -> Option<T> {
        match compile(self.value?) {
            Ok(made) => Some(made),
            Err(found) => {
                problems.extend(found.into_iter().map(|problem| problem.at(self.key)));
                None
            }
        }
    }

    fn read<R: for<'de> Deserialize<'de>, T>(
        &self,
        problems: &mut Vec<Problem>,
        compile: impl FnOnce(R) -> Result<T, Vec<Problem>>,
    ) -> Option<T> {
        self.compile(problems, |value| {
            let read = R::deserialize(value);
            compile(read.map_err(|error| vec![Problem::new(error.to_string())])?)
        })
    }
}
