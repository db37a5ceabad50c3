//! `where`, part by part.

use pointsman_schemas::json::parse;
use serde_json::{Value, json};

use super::{Check, Room, change, of_alternatives, of_negation, shorten};
use crate::comparator::Comparator;
use crate::condition::{Expression, Look, Operand, Regex};
use crate::document::Document;
use crate::scratch::Scratch;

/// What a condition asks for, held against a document.
pub(super) fn checks(
    expression: &Expression,
    document: &Document<'_>,
    room: &Room,
    checks: &mut Vec<Check>,
) {
    expression_checks(
        expression,
        Look {
            fields: None,
            document,
        },
        room,
        checks,
    );
}

fn expression_checks(
    expression: &Expression,
    look: Look<'_>,
    room: &Room,
    checks: &mut Vec<Check>,
) {
    let under =
        |part: &Expression| room.under(|checks| expression_checks(part, look, room, checks));
    if let Expression::All(parts) = expression {
        return parts
            .iter()
            .for_each(|part| expression_checks(part, look, room, checks));
    }
    if !room.take() {
        return;
    }
    let mut scratch = Scratch::default();
    let holds = look.holds(expression, &mut scratch);
    checks.push(match expression {
        Expression::Any(parts) => {
            of_alternatives(holds, "where ||", parts.iter().map(under).collect())
        }
        Expression::Not(part) if matches!(**part, Expression::All(_) | Expression::Any(_)) => {
            of_negation(holds, "where !", under(part))
        }
        part => Check {
            holds,
            field: "where".to_owned(),
            expected: shorten(&part.to_string()),
            found: seen(part, look, &mut scratch),
            change: if holds {
                None
            } else {
                change_of(part, look, &mut scratch)
            },
            ..Check::default()
        },
    });
}

/// What the operands are.
fn seen(part: &Expression, look: Look<'_>, scratch: &mut Scratch) -> Option<String> {
    let mut seen = Vec::new();
    part.each_operand(&mut |operand| {
        if !is_literal(operand) {
            let shown = look.shown(operand, scratch);
            seen.push(format!(
                "{operand} is {}",
                shown.as_deref().map_or("missing".to_owned(), shorten)
            ));
        }
    });
    (!seen.is_empty()).then(|| seen.join(", "))
}

fn is_literal(operand: &Operand) -> bool {
    matches!(
        operand,
        Operand::Text(_) | Operand::Number(..) | Operand::Boolean(_) | Operand::Null
    )
}

/// What would make a part hold that does not.
fn change_of(part: &Expression, look: Look<'_>, scratch: &mut Scratch) -> Option<String> {
    let (part, negated) = match part {
        Expression::Not(part) => (&**part, true),
        part => (part, false),
    };
    let (operand, wanted) = match part {
        Expression::Finds(operand) => (operand, json!({ "exists": !negated })),
        Expression::Compare(left, comparator, right) => {
            let comparator = if negated {
                opposite(*comparator)
            } else {
                *comparator
            };
            // What is no literal is what can change; where both can, the left one.
            let (operand, comparator, other) = if is_literal(left) {
                (right, mirrored(comparator), left)
            } else {
                (left, comparator, right)
            };
            (operand, wanted(comparator, &value(other, look, scratch)?)?)
        }
        Expression::Fits { text, pattern, .. } => {
            let pattern = match pattern {
                Regex::Known(_, pattern) => Value::from(&**pattern),
                Regex::Found(operand) => value(operand, look, scratch)?,
            };
            let fits = json!({ "fits": pattern });
            (
                text,
                if negated {
                    json!({ "anything-but": fits })
                } else {
                    fits
                },
            )
        }
        _ => return None,
    };
    let found = look
        .shown(operand, scratch)
        .and_then(|shown| parse(shown.as_bytes()).ok());
    change::nearest(
        &[wanted],
        &found.iter().collect::<Vec<_>>(),
        &format!(" at {operand}"),
    )
}

fn value(operand: &Operand, look: Look<'_>, scratch: &mut Scratch) -> Option<Value> {
    match operand {
        Operand::Text(text) => Some((&**text).into()),
        Operand::Number(_, text) => serde_json::from_str(text).ok(),
        Operand::Boolean(value) => Some((*value).into()),
        Operand::Null => Some(Value::Null),
        operand => parse(look.shown(operand, scratch)?.as_bytes()).ok(),
    }
}

/// A comparison in the form of a pattern. Only numbers can be made larger in words.
fn wanted(comparator: Comparator, value: &Value) -> Option<Value> {
    let symbol = match comparator {
        Comparator::Equal => return Some(value.clone()),
        Comparator::Unequal => return Some(json!({ "anything-but": value })),
        Comparator::Less => "<",
        Comparator::LessOrEqual => "<=",
        Comparator::Greater => ">",
        Comparator::GreaterOrEqual => ">=",
    };
    value
        .is_number()
        .then(|| json!({ "numeric": [symbol, value] }))
}

/// The comparison that holds where this one does not.
fn opposite(comparator: Comparator) -> Comparator {
    match comparator {
        Comparator::Equal => Comparator::Unequal,
        Comparator::Unequal => Comparator::Equal,
        Comparator::Less => Comparator::GreaterOrEqual,
        Comparator::LessOrEqual => Comparator::Greater,
        Comparator::Greater => Comparator::LessOrEqual,
        Comparator::GreaterOrEqual => Comparator::Less,
    }
}

/// The comparison that says the same with its sides exchanged.
fn mirrored(comparator: Comparator) -> Comparator {
    match comparator {
        Comparator::Less => Comparator::Greater,
        Comparator::LessOrEqual => Comparator::GreaterOrEqual,
        Comparator::Greater => Comparator::Less,
        Comparator::GreaterOrEqual => Comparator::LessOrEqual,
        same => same,
    }
}

impl Expression {
    fn each_operand(&self, visit: &mut impl FnMut(&Operand)) {
        match self {
            Self::All(parts) | Self::Any(parts) => {
                parts.iter().for_each(|part| part.each_operand(visit))
            }
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
