//! Why a rule did or did not take an event, field by field.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::condition::{Condition, Expression, Look, Operand, Regex};
use crate::document::{Document, Root};
use crate::filters::Filters;
use crate::json::Scalar;
use crate::number::Number;
use crate::pattern::{Body, Group, Leaf, Operator, Pattern};
use crate::ruleset::Scratch;

/// How much of a value is shown.
const SHOWN_CHARS_MAX: usize = 120;

/// Why a filter did or did not hold for a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The verdict.
    pub matches: bool,
    /// What had to hold, each part with its own verdict.
    pub checks: Vec<Check>,
    /// What the verdicts of the parts do not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// One thing that had to hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Whether it held.
    pub holds: bool,
    /// What was looked at: a field such as `data.total`, `from`, `where` or `$or`.
    pub field: String,
    /// What it had to be, as written in the rule.
    pub expected: String,
    /// What was there; none where nothing was.
    pub found: Option<String>,
    /// Of `$or` and `||`: the alternatives, one of which had to hold as a whole.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<Vec<Check>>,
}

/// What must hold for a rule to fire, as far as it is given.
#[derive(Clone, Copy, Debug, Default)]
pub struct Criteria<'r> {
    /// `match`.
    pub pattern: Option<&'r Pattern>,
    /// `where`.
    pub condition: Option<&'r Condition>,
    /// `filters`, which hold for events alone.
    pub filters: Option<&'r Filters>,
}

impl Criteria<'_> {
    /// True where nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pattern.is_none() && self.condition.is_none() && self.filters.is_none()
    }

    /// Whether all of it holds.
    #[must_use]
    pub fn hold(&self, document: &Document<'_>, scratch: &mut Scratch) -> bool {
        let event = match document.root() {
            Root::Event(event) => Some(event),
            _ => None,
        };
        self.filters.is_none_or(|filters| event.is_some_and(|event| filters.hold(event)))
            && self.pattern.is_none_or(|pattern| pattern.matches(document, scratch))
            && self.condition.is_none_or(|condition| condition.holds(document, scratch))
    }
}

/// Explains criteria against a document.
#[must_use]
pub fn explain(criteria: Criteria<'_>, document: &Document<'_>) -> Explanation {
    with_verdict(criteria.hold(document, &mut Scratch::default()), criteria, document)
}

/// Explains a verdict that is known.
pub(crate) fn with_verdict(matches: bool, criteria: Criteria<'_>, document: &Document<'_>) -> Explanation {
    let mut checks = Vec::new();
    let Criteria { pattern, condition, filters } = criteria;
    if let Some(pattern) = pattern {
        group_checks(&pattern.root, &mut Vec::new(), document.tree(), &mut checks);
    }
    if let (Some(filters), Root::Event(event)) = (filters, document.root()) {
        let holds = filters.hold(event);
        checks.push(Check { holds, field: "filters".to_owned(), expected: String::new(), found: None, alternatives: Vec::new() });
    }
    if let Some(condition) = condition {
        expression_checks(&condition.expression, Look { fields: None, document }, &mut checks);
    }
    let note = (!matches && checks.iter().all(|check| check.holds))
        .then(|| "each of these holds by itself, but not all of them within one element of a list".to_owned());
    Explanation { matches, checks, note }
}

/// The rules that did not match, the nearest first: those with the fewest failed checks, and among them those with the most that held.
#[must_use]
pub fn nearest_misses<N>(explained: &[(N, Explanation)]) -> Vec<&(N, Explanation)> {
    let mut misses: Vec<_> = explained.iter().filter(|(_, explanation)| !explanation.matches).collect();
    misses.sort_by_key(|(_, explanation)| {
        (failures(&explanation.checks), std::cmp::Reverse(explanation.checks.iter().filter(|check| check.holds).count()))
    });
    misses
}

/// How many checks failed; of alternatives those of the nearest one.
fn failures(checks: &[Check]) -> usize {
    let of = |check: &Check| check.alternatives.iter().map(|checks| failures(checks).max(1)).min().unwrap_or(1);
    checks.iter().filter(|check| !check.holds).map(of).sum()
}

fn group_checks(group: &Group, path: &mut Vec<String>, tree: &Value, checks: &mut Vec<Check>) {
    for field in &group.fields {
        path.push(field.name.to_string());
        match &field.body {
            Body::Group(group) => group_checks(group, path, tree, checks),
            Body::Leaf(leaf) => checks.push(leaf_check(leaf, path, tree)),
        }
        path.pop();
    }
    for groups in &group.any {
        let alternatives: Vec<Vec<Check>> = groups
            .iter()
            .map(|group| {
                let mut checks = Vec::new();
                group_checks(group, path, tree, &mut checks);
                checks
            })
            .collect();
        let mut field = path.clone();
        field.push("$or".to_owned());
        checks.push(alternatives_check(field.join("."), alternatives));
    }
}

fn alternatives_check(field: String, alternatives: Vec<Vec<Check>>) -> Check {
    let holds = alternatives.iter().any(|checks| checks.iter().all(|check| check.holds));
    Check { holds, field, expected: "one of the alternatives".to_owned(), found: None, alternatives }
}

fn leaf_check(leaf: &Leaf, path: &[String], tree: &Value) -> Check {
    let mut values = Vec::new();
    gather(tree, path, &mut values);
    let scalars = values.iter().filter_map(|value| scalar(value));
    let holds =
        scalars.clone().any(|scalar| leaf.fits(scalar)) || scalars.count() == 0 && leaf.operators.iter().any(Operator::fits_absence);
    let found = match values.as_slice() {
        [] => None,
        [value] => Some(shorten(&value.to_string())),
        values => Some(shorten(&crate::path::list(values))),
    };
    Check { holds, field: path.join("."), expected: leaf.written.to_string(), found, alternatives: Vec::new() }
}

/// The values at a path; through arrays it goes into each element, and a key may spell several steps with dots.
fn gather<'v>(value: &'v Value, path: &[String], values: &mut Vec<&'v Value>) {
    match (value, path) {
        (Value::Array(list), _) if !list.is_empty() => list.iter().for_each(|item| gather(item, path, values)),
        (value, []) => values.push(value),
        (Value::Object(map), path) => {
            for length in 1..=path.len() {
                let (head, rest) = path.split_at(length);
                if let Some(value) = map.get(&head.join(".")) {
                    gather(value, rest, values);
                }
            }
        }
        _ => {}
    }
}

fn scalar(value: &Value) -> Option<Scalar<'_>> {
    match value {
        Value::String(text) => Some(Scalar::Text(text.as_bytes())),
        Value::Number(number) => Some(Scalar::Number(Number::from(number))),
        Value::Bool(value) => Some(Scalar::Boolean(*value)),
        Value::Null => Some(Scalar::Null),
        Value::Array(_) | Value::Object(_) => None,
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn expression_checks(expression: &Expression, look: Look<'_>, checks: &mut Vec<Check>) {
    match expression {
        Expression::All(parts) => parts.iter().for_each(|part| expression_checks(part, look, checks)),
        Expression::Any(parts) => {
            let alternatives = parts
                .iter()
                .map(|part| {
                    let mut checks = Vec::new();
                    expression_checks(part, look, &mut checks);
                    checks
                })
                .collect();
            checks.push(alternatives_check("where ||".to_owned(), alternatives));
        }
        part => {
            let mut scratch = Scratch::default();
            let holds = look.holds(part, &mut scratch);
            let mut found = Vec::new();
            part.each_operand(&mut |operand| {
                if let Operand::One(..) | Operand::Many(_) | Operand::Length(_) | Operand::Count(_) | Operand::Value(_) = operand {
                    let shown = look.shown(operand, &mut scratch);
                    found.push(format!("{operand} is {}", shown.as_deref().map_or("missing".to_owned(), shorten)));
                }
            });
            let found = (!found.is_empty()).then(|| found.join(", "));
            checks.push(Check { holds, field: "where".to_owned(), expected: part.to_string(), found, alternatives: Vec::new() });
        }
    }
}

impl Expression {
    fn each_operand(&self, visit: &mut impl FnMut(&Operand)) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.each_operand(visit)),
            Self::Not(part) => part.each_operand(visit),
            Self::Finds(operand) => visit(operand),
            Self::Compare(left, _, right) => {
                visit(left);
                visit(right);
            }
            Self::Fits { text, pattern, .. } => {
                visit(text);
                if let Regex::Found(operand) = pattern {
                    visit(operand);
                }
            }
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.matches { "matches\n" } else { "does not match\n" })?;
        write_checks(f, &self.checks, 1)?;
        match &self.note {
            Some(note) => writeln!(f, "  {note}"),
            None => Ok(()),
        }
    }
}

fn write_checks(f: &mut fmt::Formatter<'_>, checks: &[Check], depth: usize) -> fmt::Result {
    for check in checks {
        let (indent, verdict) = ("  ".repeat(depth), if check.holds { "yes" } else { "no " });
        let Check { field, expected, .. } = check;
        match &check.found {
            _ if !check.alternatives.is_empty() => writeln!(f, "{indent}{verdict} {field}: {expected}")?,
            Some(found) if field == "where" => writeln!(f, "{indent}{verdict} {expected}: {found}")?,
            None if field == "where" => writeln!(f, "{indent}{verdict} {expected}")?,
            Some(found) => writeln!(f, "{indent}{verdict} {field} is {found}, expected {expected}")?,
            None => writeln!(f, "{indent}{verdict} {field} is missing, expected {expected}")?,
        }
        for (index, alternative) in check.alternatives.iter().enumerate() {
            writeln!(f, "{indent}    {}.", index + 1)?;
            write_checks(f, alternative, depth + 3)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(pattern: Option<Value>, condition: Option<&str>, event: &Value) -> Explanation {
        let pattern = pattern.map(|pattern| Pattern::compile_for_any_json(&pattern).unwrap());
        let condition = condition.map(|condition| Condition::parse(condition).unwrap());
        let text = event.to_string();
        let criteria = Criteria { pattern: pattern.as_ref(), condition: condition.as_ref(), filters: None };
        explain(criteria, &Document::json(text.as_bytes()).unwrap())
    }

    #[test]
    fn it_says_why_field_by_field() {
        let event =
            json!({"type": "order.paid", "data": {"total": 50, "lines": [{"sku": "a", "n": 1}, {"sku": "b", "n": 2}], "a.b": true}});
        let pattern = json!({
            "type": [{"prefix": "order."}],
            "data": {
                "total": [{"numeric": [">", 100]}], "missing": ["x"], "gone": [{"exists": false}], "a": {"b": [true]},
                "$or": [{"total": [1]}, {"total": [50], "status": ["new"]}],
            },
        });
        let explanation =
            of(Some(pattern), Some("$.data.total > 100 && (match($.type, 'x.*') || !$.data.total) && count($.data.lines[*]) == 2"), &event);
        insta::assert_snapshot!(explanation.to_string(), @r##"
        does not match
          yes type is "order.paid", expected [{"prefix":"order."}]
          no  data.total is 50, expected [{"numeric":[">",100]}]
          no  data.missing is missing, expected ["x"]
          yes data.gone is missing, expected [{"exists":false}]
          yes data.a.b is true, expected [true]
          no  data.$or: one of the alternatives
              1.
                no  data.total is 50, expected [1]
              2.
                yes data.total is 50, expected [50]
                no  data.status is missing, expected ["new"]
          no  $.data.total > 100: $.data.total is 50
          no  where ||: one of the alternatives
              1.
                no  match($.type, "x.*"): $.type is "order.paid"
              2.
                no  !$.data.total: $.data.total is 50
          yes count($.data.lines[*]) == 2: count($.data.lines[*]) is 2
        "##);
        let together = of(Some(json!({"data": {"lines": {"sku": ["a"], "n": [2]}}})), None, &event);
        insta::assert_snapshot!(together.to_string(), @r##"
        does not match
          yes data.lines.sku is ["a","b"], expected ["a"]
          yes data.lines.n is [1,2], expected [2]
          each of these holds by itself, but not all of them within one element of a list
        "##);
        let json = serde_json::to_value(&together).unwrap();
        assert_eq!(json["checks"][0]["field"], "data.lines.sku");
    }

    #[test]
    fn the_nearest_miss_comes_first() {
        let event = json!({"a": 1, "b": 2});
        let explained = [
            ("two wrong", of(Some(json!({"a": [9], "b": [9]})), None, &event)),
            ("matches", of(Some(json!({"a": [1]})), None, &event)),
            ("one wrong", of(Some(json!({"a": [9]})), None, &event)),
            ("one wrong, one right", of(Some(json!({"a": [1], "b": [9]})), None, &event)),
        ];
        let order: Vec<_> = nearest_misses(&explained).iter().map(|(name, _)| *name).collect();
        assert_eq!(order, ["one wrong, one right", "one wrong", "two wrong"]);
    }
}
