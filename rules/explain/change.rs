//! The smallest change to a value with which a condition would hold, in words.
//!
//! Conditions come in the form in which a pattern has them: a literal, or an object of operators.
//! Of several the one is told that the value comes nearest to.

use pointsman_schemas::suggest;
use serde_json::{Map, Value};

use super::shorten;
use crate::number::Number;

/// How many values of an array are looked at, and how many characters of a text are compared.
const COMPARED_MAX: usize = 100;

/// How near a value comes: first by kind, then by degree.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Nearness {
    /// The same, if it were spelt or typed otherwise.
    Almost,
    /// Of the right type; the part of it that differs.
    Like(f64),
    /// Of another type.
    Unlike,
}

/// What would make one of the conditions hold, where the values are these: the words follow "it
/// would hold". `place` says where: empty, or such as " at $.data".
pub(super) fn nearest(conditions: &[Value], found: &[&Value], place: &str) -> Option<String> {
    let (mut best, mut words) = (None, None);
    for condition in conditions {
        let of = |value: Option<&Value>| {
            let (nearness, hint) = nearness(condition, value);
            (
                nearness,
                format!("with {}{place}{hint}", described(condition)),
            )
        };
        let candidates: Vec<_> = if found.is_empty() {
            vec![of(None)]
        } else {
            found
                .iter()
                .take(COMPARED_MAX)
                .map(|value| of(Some(value)))
                .collect()
        };
        for (nearness, candidate) in candidates {
            if best.is_none_or(|best| nearness < best) {
                (best, words) = (Some(nearness), Some(candidate));
            }
        }
    }
    words
}

/// What a condition asks for: "a number above 5".
fn described(condition: &Value) -> String {
    match condition {
        Value::Object(operators) if !operators.is_empty() => operators
            .iter()
            .map(|(operator, operand)| operation(operator, operand))
            .collect::<Vec<_>>()
            .join(", and "),
        literal => shorten(&literal.to_string()),
    }
}

fn operation(operator: &str, operand: &Value) -> String {
    let (folded, text) = match operand.get("equals-ignore-case") {
        Some(folded) => (", whatever its case", shorten(&folded.to_string())),
        None => ("", shorten(&operand.to_string())),
    };
    match (operator, operand) {
        ("prefix", _) => format!("a text that begins with {text}{folded}"),
        ("suffix", _) => format!("a text that ends with {text}{folded}"),
        ("equals-ignore-case", _) => format!("{text}, whatever its case"),
        ("contains", _) => format!("a text with {text} in it"),
        ("wildcard" | "like", _) => format!("a text like {text}"),
        ("fits", _) => format!("a text that fits {text}"),
        ("anything-but", Value::Object(inner)) => {
            format!("anything but {}", described(&Value::Object(inner.clone())))
        }
        ("anything-but", Value::Array(list)) if list.len() > 1 => {
            format!("anything that is none of {text}")
        }
        ("anything-but", Value::Array(list)) => format!(
            "anything but {}",
            list.first().map_or(String::new(), Value::to_string)
        ),
        ("anything-but", _) => format!("anything but {text}"),
        ("numeric", Value::Array(bounds)) => range(bounds),
        ("cidr", Value::String(range)) => format!("an address in {range}"),
        ("exists", Value::Bool(true)) => "any value there".to_owned(),
        ("exists", _) => "nothing there".to_owned(),
        (operator, _) => shorten(
            &Value::Object(Map::from_iter([(operator.to_owned(), operand.clone())])).to_string(),
        ),
    }
}

fn range(bounds: &[Value]) -> String {
    let bound = |pair: &[Value]| match pair {
        [Value::String(operator), number] => match operator.as_str() {
            ">" => format!("above {number}"),
            ">=" => format!("of at least {number}"),
            "<" => format!("below {number}"),
            "<=" => format!("of at most {number}"),
            _ => format!("equal to {number}"),
        },
        _ => String::new(),
    };
    format!(
        "a number {}",
        bounds
            .chunks(2)
            .map(bound)
            .collect::<Vec<_>>()
            .join(" and ")
    )
}

/// How near a value comes to a condition, and what is odd about it then.
fn nearness(condition: &Value, found: Option<&Value>) -> (Nearness, &'static str) {
    let Some(found) = found else {
        return (Nearness::Unlike, "");
    };
    match (condition, found) {
        (Value::String(wanted), Value::String(text)) => texts(wanted, text),
        (Value::Number(wanted), Value::Number(number)) => {
            (numbers(wanted.as_f64(), number.as_f64()), "")
        }
        (Value::Number(wanted), Value::String(text))
            if Number::parse(text.trim().as_bytes()) == Some(Number::from(wanted)) =>
        {
            (Nearness::Almost, ": this is a text, and no number")
        }
        (Value::String(wanted), Value::Number(_) | Value::Bool(_))
            if found.to_string().eq(wanted) =>
        {
            (Nearness::Almost, ": this is no text")
        }
        (Value::Bool(wanted), Value::String(text))
            if text.eq_ignore_ascii_case(&wanted.to_string()) =>
        {
            (Nearness::Almost, ": this is a text, and no boolean")
        }
        (Value::Object(operators), found) => operators
            .iter()
            .next()
            .map_or((Nearness::Unlike, ""), |(operator, operand)| {
                to_operator(operator, operand, found)
            }),
        _ => (Nearness::Unlike, ""),
    }
}

fn to_operator(operator: &str, operand: &Value, found: &Value) -> (Nearness, &'static str) {
    let wanted = operand.get("equals-ignore-case").unwrap_or(operand);
    match (operator, wanted, found) {
        ("prefix", Value::String(wanted), Value::String(text)) => texts(
            wanted,
            &text
                .chars()
                .take(wanted.chars().count())
                .collect::<String>(),
        ),
        ("suffix", Value::String(wanted), Value::String(text)) => {
            let skipped = text.chars().count().saturating_sub(wanted.chars().count());
            texts(wanted, &text.chars().skip(skipped).collect::<String>())
        }
        ("equals-ignore-case", Value::String(wanted), Value::String(text)) => texts(wanted, text),
        ("contains" | "wildcard" | "like" | "fits" | "cidr", _, Value::String(_)) => {
            (Nearness::Like(1.0), "")
        }
        ("numeric", Value::Array(bounds), Value::Number(number)) => {
            let of = |bound: &Value| {
                bound
                    .as_f64()
                    .map(|bound| numbers(Some(bound), number.as_f64()))
            };
            let near = bounds
                .iter()
                .filter_map(of)
                .min_by(|one, other| one.partial_cmp(other).unwrap_or(std::cmp::Ordering::Equal));
            (near.unwrap_or(Nearness::Like(1.0)), "")
        }
        ("numeric", _, Value::String(text)) if Number::parse(text.trim().as_bytes()).is_some() => {
            (Nearness::Like(0.0), ": this is a text, and no number")
        }
        ("anything-but", _, _) => (Nearness::Like(1.0), ""),
        _ => (Nearness::Unlike, ""),
    }
}

fn texts(wanted: &str, text: &str) -> (Nearness, &'static str) {
    if wanted.to_lowercase() == text.to_lowercase() {
        return (Nearness::Almost, ": only the case differs");
    }
    if wanted.trim() == text.trim() {
        return (Nearness::Almost, ": only white space around it differs");
    }
    let cut = |text: &str| text.chars().take(COMPARED_MAX).collect::<String>();
    (
        Nearness::Like(1.0 - suggest::likeness(&cut(wanted), &cut(text))),
        "",
    )
}

fn numbers(wanted: Option<f64>, found: Option<f64>) -> Nearness {
    match (wanted, found) {
        (Some(wanted), Some(found)) => Nearness::Like(
            (wanted - found).abs() / (wanted.abs() + found.abs()).max(f64::MIN_POSITIVE),
        ),
        _ => Nearness::Unlike,
    }
}
