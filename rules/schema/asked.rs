//! What rules ask of events whose type has a schema: fields that the schema does not have.

use pointsman_schemas::suggest::nearest;
use pointsman_schemas::{Problem, Segment};
use serde_json::{Map, Value};

use super::EventSchema;
use super::fields::{Lacking, Step};
use crate::comparator::Comparator;
use crate::condition::{Condition, Expression, Operand};
use crate::document;
use crate::path::Path;

/// How many fields are listed that a schema has.
const LISTED_MAX: usize = 8;

/// The schemas of the types that a rule asks for.
///
/// It is warned of a field only where all of them surely lack it.
pub struct AskedTypes<'s>(Vec<(String, &'s EventSchema)>);

impl<'s> AskedTypes<'s> {
    /// The types that `match` and `where` ask for, where they ask for some by name and each has a
    /// schema. Who looks for what does not fit its schema looks for other fields too, so that there
    /// are none then.
    #[must_use]
    pub fn of(
        pattern: Option<&Map<String, Value>>,
        condition: Option<&Condition>,
        schema_of: impl Fn(&str) -> Option<&'s EventSchema>,
    ) -> Self {
        let looks_for_marked = pattern.is_some_and(|pattern| pattern.contains_key(super::MARK))
            || condition.is_some_and(|condition| condition.as_str().contains(super::MARK));
        if looks_for_marked {
            return Self(Vec::new());
        }
        let by_pattern = pattern
            .and_then(|pattern| pattern.get("type"))
            .and_then(exact);
        let by_condition = || condition.and_then(|condition| type_of(&condition.expression));
        let types = by_pattern.or_else(by_condition).unwrap_or_default();
        let known = types.into_iter().map(|ty| {
            let schema = schema_of(&ty)?;
            Some((ty, schema))
        });
        Self(known.collect::<Option<_>>().unwrap_or_default())
    }

    /// Warnings of what `match` asks for, with their places in it.
    #[must_use]
    pub fn warnings_of_pattern(&self, pattern: &Map<String, Value>) -> Vec<Problem> {
        let mut warnings = Vec::new();
        if self.0.is_empty() {
            return warnings;
        }
        each_leaf(
            pattern,
            &mut Vec::new(),
            &mut Vec::new(),
            &mut |path, names| {
                let Some((data, steps)) = names.split_first() else {
                    return;
                };
                if data.0 != "data" {
                    return;
                }
                let steps_in: Vec<Step<'_>> =
                    steps.iter().map(|(name, _)| Step::Name(name)).collect();
                let Some((lacking, message, help)) = self.lacking(&steps_in) else {
                    return;
                };
                let depth = steps.get(lacking).map_or(path.len(), |(_, depth)| *depth);
                let place = path.iter().take(depth).rev().cloned();
                let problem = Problem::new(message).key().warn().help(help);
                warnings.push(place.fold(problem, Problem::at));
            },
        );
        warnings
    }

    /// Warnings of what `where` looks at, with their places in its text.
    #[must_use]
    pub fn warnings_of_condition(&self, condition: &Condition) -> Vec<Problem> {
        let mut warnings = Vec::new();
        if self.0.is_empty() {
            return warnings;
        }
        each_path(&condition.expression, &mut |path| {
            let problem = self.warning_of_query(path);
            let at = condition.as_str().find(path.as_str());
            warnings.extend(problem.map(|problem| match at {
                Some(at) => problem.inside(at..at + path.as_str().len()),
                None => problem,
            }));
        });
        warnings
    }

    /// A warning of what a query looks at, where it is one for one value.
    #[must_use]
    pub fn warning_of_query(&self, path: &Path) -> Option<Problem> {
        let (data, steps) = path.steps()?.split_first()?;
        if !matches!(data, document::Step::Name(name) if &**name == "data") {
            return None;
        }
        let steps = steps.iter().map(|step| match step {
            document::Step::Name(name) => Step::Name(name),
            document::Step::Index(_) => Step::Element,
        });
        let (_, message, help) = self.lacking(&steps.collect::<Vec<_>>())?;
        Some(Problem::new(message).warn().help(help))
    }

    /// Which step leads to what all schemas lack, and what to say of it.
    fn lacking(&self, steps: &[Step<'_>]) -> Option<(usize, String, String)> {
        let mut found = Vec::with_capacity(self.0.len());
        for (ty, schema) in &self.0 {
            found.push((ty, schema.lacking(steps)?));
        }
        let (ty, Lacking { step, known }) =
            found.into_iter().min_by_key(|(_, lacking)| lacking.step)?;
        let Some(Step::Name(name)) = steps.get(step) else {
            return None;
        };
        let of = match self.0.len() {
            1 => format!("the schema of `{ty}`"),
            _ => "the schemas of these types".to_owned(),
        };
        let message = format!("{of} has no `{name}` here").replace("types has", "types have");
        Some((step, message, help(name, &known)))
    }
}

fn help(name: &str, known: &[&str]) -> String {
    if let Some(meant) = nearest(name, known.iter().copied()) {
        return format!("did you mean `{meant}`?");
    }
    if known.is_empty() {
        return "what is there has no fields at all".to_owned();
    }
    let listed: Vec<String> = known
        .iter()
        .take(LISTED_MAX)
        .map(|name| format!("`{name}`"))
        .collect();
    let more = if known.len() > LISTED_MAX {
        ", …"
    } else {
        ""
    };
    format!("there are {}{more}", listed.join(", "))
}

/// The texts of a leaf that holds nothing else.
fn exact(leaf: &Value) -> Option<Vec<String>> {
    let texts = leaf
        .as_array()?
        .iter()
        .map(|one| one.as_str().map(str::to_owned));
    texts
        .collect::<Option<Vec<_>>>()
        .filter(|texts| !texts.is_empty())
}

/// The type that a condition asks for, in whatever else it asks.
fn type_of(expression: &Expression) -> Option<Vec<String>> {
    match expression {
        Expression::All(parts) => parts.iter().find_map(type_of),
        Expression::Compare(Operand::One(path, _), Comparator::Equal, Operand::Text(text))
        | Expression::Compare(Operand::Text(text), Comparator::Equal, Operand::One(path, _)) => {
            (path.attribute() == Some("type")).then(|| vec![text.to_string()])
        }
        _ => None,
    }
}

/// A name on the way to a leaf, and how many steps of the pattern's path lead to it.
type Named = (String, usize);

/// Visits each leaf of a pattern that asks for something to be there.
fn each_leaf(
    group: &Map<String, Value>,
    path: &mut Vec<Segment>,
    names: &mut Vec<Named>,
    visit: &mut impl FnMut(&[Segment], &[Named]),
) {
    for (key, value) in group {
        path.push(Segment::Key(key.clone()));
        match value {
            Value::Array(groups) if key == "$or" => {
                for (index, group) in groups.iter().enumerate() {
                    path.push(Segment::Index(index));
                    if let Value::Object(group) = group {
                        each_leaf(group, path, names, visit);
                    }
                    path.pop();
                }
            }
            _ => {
                let before = names.len();
                names.extend(key.split('.').map(|name| (name.to_owned(), path.len())));
                match value {
                    Value::Object(group) => each_leaf(group, path, names, visit),
                    Value::Array(leaf) if !leaf.iter().all(is_absence) => visit(path, names),
                    _ => {}
                }
                names.truncate(before);
            }
        }
        path.pop();
    }
}

/// Whether an operator asks for nothing to be there.
fn is_absence(operator: &Value) -> bool {
    operator.get("exists") == Some(&Value::Bool(false))
}

/// Visits each query for one value, but for those that are denied: what is not there may be looked
/// for that way.
fn each_path(expression: &Expression, visit: &mut impl FnMut(&Path)) {
    match expression {
        Expression::All(parts) | Expression::Any(parts) => {
            parts.iter().for_each(|part| each_path(part, visit));
        }
        Expression::Not(_) => {}
        Expression::Finds(operand) => of_operand(operand, visit),
        Expression::Compare(left, _, right) => {
            of_operand(left, visit);
            of_operand(right, visit);
        }
        Expression::Fits { text, .. } => of_operand(text, visit),
    }
}

fn of_operand(operand: &Operand, visit: &mut impl FnMut(&Path)) {
    match operand {
        Operand::One(path, _) => visit(path),
        Operand::Length(inner) | Operand::Count(inner) | Operand::Value(inner) => {
            of_operand(inner, visit)
        }
        _ => {}
    }
}
