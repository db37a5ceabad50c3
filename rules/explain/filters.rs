//! `filters`, one by one, and CESQL, part by part.

use pointsman_schemas::{AttributeValue, Event};
use serde_json::{Value, json};

use super::{Check, Room, change, of_alternatives, of_negation, shorten};
use crate::cesql::{self, Cesql, Evaluation, Expression, Kind, Operator};
use crate::filters::{Comparison, Filter};

/// How many values of one CESQL condition are shown.
const SEEN_MAX: usize = 12;

/// What a filter asks for, held against an event.
pub(super) fn checks(filter: &Filter, event: &Event, room: &Room, checks: &mut Vec<Check>) {
    let under = |filter: &Filter| room.under(|checks| self::checks(filter, event, room, checks));
    match filter {
        Filter::Attributes(comparison, texts) => {
            checks.extend(
                texts
                    .iter()
                    .take_while(|_| room.take())
                    .map(|(name, text)| attribute(*comparison, name, text, event)),
            );
        }
        Filter::All(filters) => filters
            .iter()
            .for_each(|filter| self::checks(filter, event, room, checks)),
        Filter::Any(filters) if room.take() => {
            checks.push(of_alternatives(
                filter.holds(event),
                "any",
                filters.iter().map(under).collect(),
            ));
        }
        Filter::Not(inner) if room.take() => {
            checks.push(of_negation(filter.holds(event), "not", under(inner)))
        }
        Filter::Any(_) | Filter::Not(_) => {}
        Filter::Sql(sql) => expression(sql, &sql.root, true, event, room, checks),
    }
}

fn attribute(comparison: Comparison, name: &str, text: &str, event: &Event) -> Check {
    let value = event.attribute(name);
    let holds = value.is_some_and(|value| comparison.holds(value, text));
    let wanted = match comparison {
        Comparison::Exact => json!(text),
        Comparison::Prefix => json!({ "prefix": text }),
        Comparison::Suffix => json!({ "suffix": text }),
    };
    // Compared as text, whatever its type.
    let found = value.map(|value| Value::from(value.to_string()));
    let change = if holds {
        None
    } else {
        change::nearest(
            std::slice::from_ref(&wanted),
            &found.iter().collect::<Vec<_>>(),
            "",
        )
    };
    let (expected, found) = (
        shorten(&wanted.to_string()),
        value.map(|value| shorten(&json(value).to_string())),
    );
    Check {
        holds,
        field: name.to_owned(),
        expected,
        found,
        change,
        ..Check::default()
    }
}

fn json(value: AttributeValue<'_>) -> Value {
    match value {
        AttributeValue::String(text) => text.into(),
        AttributeValue::Integer(number) => number.into(),
        AttributeValue::Boolean(value) => value.into(),
    }
}

/// The whole of an expression must be a boolean; operands of `AND` and `OR` are cast to one.
fn expression(
    sql: &Cesql,
    part: &Expression,
    whole: bool,
    event: &Event,
    room: &Room,
    checks: &mut Vec<Check>,
) {
    if let Kind::Chain { first, rest } = &part.kind
        && rest.iter().all(|(operator, _)| *operator == Operator::And)
    {
        return std::iter::once(&**first)
            .chain(rest.iter().map(|(_, part)| part))
            .for_each(|part| expression(sql, part, false, event, room, checks));
    }
    if !room.take() {
        return;
    }
    let Evaluation { value, error } = cesql::evaluate(part, event);
    let holds = error.is_none()
        && if whole {
            value == cesql::Value::Boolean(true)
        } else {
            value.to_boolean() == Some(true)
        };
    let under =
        |part: &Expression| room.under(|checks| expression(sql, part, false, event, room, checks));
    checks.push(match &part.kind {
        Kind::Chain { first, rest }
            if rest.iter().all(|(operator, _)| *operator == Operator::Or) =>
        {
            let mut check = of_alternatives(
                holds,
                "sql OR",
                std::iter::once(&**first)
                    .chain(rest.iter().map(|(_, part)| part))
                    .map(under)
                    .collect(),
            );
            // Of an alternative that holds a failed one before it makes nothing.
            check.change = error
                .filter(|_| !holds)
                .map(|error| format!("without this error, which comes first: {error}"));
            check
        }
        Kind::Not(inner) if matches!(inner.kind, Kind::Chain { .. } | Kind::Not(_)) => {
            of_negation(holds, "sql NOT", under(inner))
        }
        _ => {
            let mut seen = Vec::new();
            gather(sql, part, event, &mut seen);
            seen.extend(error.map(|error| format!("error: {error}")));
            let found = (!seen.is_empty()).then(|| seen.join(", "));
            let change = if holds {
                None
            } else {
                change_of(sql, part, event)
            };
            Check {
                holds,
                field: "sql".to_owned(),
                expected: shorten(source(sql, part)),
                found,
                change,
                ..Check::default()
            }
        }
    });
}

fn source<'s>(sql: &'s Cesql, part: &Expression) -> &'s str {
    sql.as_str()
        .get(part.span.clone())
        .unwrap_or_default()
        .trim()
}

/// What a part holds, each value once: attributes, and what is made of them on the way to what it
/// gives itself.
fn gather(sql: &Cesql, part: &Expression, event: &Event, seen: &mut Vec<String>) {
    for inner in part
        .parts()
        .into_iter()
        .chain(matches!(part.kind, Kind::Attribute(_)).then_some(part))
    {
        let shown = match (&inner.kind, cesql::evaluate(inner, event)) {
            (Kind::Boolean(_) | Kind::Integer(_) | Kind::String(_), _) => continue,
            (Kind::Attribute(name), Evaluation { error: Some(_), .. }) => {
                format!("{name} is missing")
            }
            (Kind::Attribute(name), Evaluation { value, .. }) => {
                format!("{name} is {}", shorten(&value.to_string()))
            }
            (_, Evaluation { value, error: None }) => format!(
                "{} is {}",
                shorten(source(sql, inner)),
                shorten(&value.to_string())
            ),
            (_, Evaluation { error: Some(_), .. }) => {
                format!("{} fails", shorten(source(sql, inner)))
            }
        };
        if seen.len() < SEEN_MAX && !seen.contains(&shown) {
            seen.push(shown);
        }
        if !matches!(inner.kind, Kind::Attribute(_)) {
            gather(sql, inner, event, seen);
        }
    }
}

/// What would make a part hold that does not: known where an attribute is held against literals.
fn change_of(sql: &Cesql, part: &Expression, event: &Event) -> Option<String> {
    let (name, wanted) = match &part.kind {
        Kind::Attribute(name) => (&**name, vec![Value::from(true)]),
        Kind::Exists(name) => (&**name, vec![json!({ "exists": true })]),
        Kind::Like { text, .. } => {
            let test = sql
                .as_str()
                .get(text.span.end..part.span.end)?
                .trim()
                .trim_end_matches(')');
            return Some(format!(
                "with a text {} in {}",
                shorten(test),
                attribute_of(text)?
            ));
        }
        Kind::Not(inner) => match &inner.kind {
            Kind::Exists(name) => (&**name, vec![json!({ "exists": false })]),
            Kind::Attribute(name) => (&**name, vec![Value::from(false)]),
            _ => return None,
        },
        Kind::In {
            value,
            set,
            negated,
        } => {
            let set: Option<Vec<Value>> = set.iter().map(literal).collect();
            (
                attribute_of(value)?,
                if *negated {
                    vec![json!({ "anything-but": set? })]
                } else {
                    set?
                },
            )
        }
        Kind::Chain { first, rest } => match rest.as_slice() {
            [(operator, right)] => {
                let (name, operator, other) = match attribute_of(first) {
                    Some(name) => (name, *operator, right),
                    None => (attribute_of(right)?, mirrored(*operator), &**first),
                };
                (name, vec![wanted(operator, literal(other)?)?])
            }
            _ => return None,
        },
        _ => return None,
    };
    let found = event.attribute(name).map(json);
    // CESQL casts: a text of digits is a number to it.
    let found = found.map(|found| match (&found, wanted.first()) {
        (Value::String(text), Some(Value::Number(_) | Value::Object(_))) => {
            text.parse::<i32>().map_or(found, Value::from)
        }
        _ => found,
    });
    change::nearest(
        &wanted,
        &found.iter().collect::<Vec<_>>(),
        &format!(" in {name}"),
    )
}

fn attribute_of(part: &Expression) -> Option<&str> {
    match &part.kind {
        Kind::Attribute(name) => Some(name),
        _ => None,
    }
}

fn literal(part: &Expression) -> Option<Value> {
    match &part.kind {
        Kind::Boolean(value) => Some((*value).into()),
        Kind::Integer(number) => Some((*number).into()),
        Kind::String(text) => Some((&**text).into()),
        _ => None,
    }
}

fn wanted(operator: Operator, literal: Value) -> Option<Value> {
    let symbol = match operator {
        Operator::Equal => return Some(literal),
        Operator::Unequal => return Some(json!({ "anything-but": literal })),
        Operator::Less => "<",
        Operator::LessOrEqual => "<=",
        Operator::Greater => ">",
        Operator::GreaterOrEqual => ">=",
        _ => return None,
    };
    literal
        .is_number()
        .then(|| json!({ "numeric": [symbol, literal] }))
}

fn mirrored(operator: Operator) -> Operator {
    match operator {
        Operator::Less => Operator::Greater,
        Operator::LessOrEqual => Operator::GreaterOrEqual,
        Operator::Greater => Operator::Less,
        Operator::GreaterOrEqual => Operator::LessOrEqual,
        same => same,
    }
}
