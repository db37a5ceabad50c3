//! What somebody probably meant who wrote an operator of another language.

use serde_json::{Value, json};

/// True of a key under which other languages have alternatives.
pub(super) fn is_or(key: &str) -> bool {
    matches!(
        key.to_ascii_lowercase().as_str(),
        "or" | "any" | "anyof" | "any-of" | "oneof" | "one-of"
    )
}

/// What is written in the place of an operator that there is not, in lower case with `-`.
pub(super) fn operator(name: &str, operand: &Value) -> Option<String> {
    let numeric = |sign: &str| Some(json!({ "numeric": [sign, operand] }).to_string());
    let named = |operator: &str| Some(json!({ operator: operand }).to_string());
    match name {
        ">" | "gt" | "greater" | "greater-than" | "more-than" | "above" => numeric(">"),
        ">=" | "gte" | "ge" | "greater-than-or-equal" | "greater-or-equal" | "at-least" | "min" => {
            numeric(">=")
        }
        "<" | "lt" | "less" | "less-than" | "below" => numeric("<"),
        "<=" | "lte" | "le" | "less-than-or-equal" | "less-or-equal" | "at-most" | "max" => {
            numeric("<=")
        }
        "between" | "range" => match operand.as_array().map(Vec::as_slice) {
            Some([from, to]) => Some(json!({ "numeric": [">=", from, "<=", to] }).to_string()),
            _ => None,
        },
        "=" | "==" | "eq" | "equals" | "equal" | "is" | "exactly" | "exact" => {
            Some(format!("the value itself: [{operand}]"))
        }
        "!=" | "<>" | "ne" | "not" | "not-equals" | "not-equal" | "neq" | "nin" | "not-in" => {
            named("anything-but")
        }
        "in" | "one-of" | "any-of" | "anyof" => match operand {
            Value::Array(_) => Some(format!(
                "the list itself, whose values are alternatives: {operand}"
            )),
            _ => Some(format!("the value itself: [{operand}]")),
        },
        "starts-with" | "startswith" | "begins-with" => named("prefix"),
        "ends-with" | "endswith" => named("suffix"),
        "glob" | "like" | "matches-glob" => {
            Some(json!({ "wildcard": of_glob(operand) }).to_string())
        }
        "regex" | "regexp" | "matches" | "match" | "pattern" | "~" | "=~" => Some(format!(
            "{{\"wildcard\":\"a*\"}}, or take a `where` with a regular expression: where: \
             search($.subject, {operand})"
        )),
        "present" | "has" | "defined" => Some(json!({ "exists": true }).to_string()),
        "absent" | "missing" => Some(json!({ "exists": false }).to_string()),
        "includes" | "substring" | "has-substring" => named("contains"),
        "ip" | "network" | "subnet" | "ip-range" => named("cidr"),
        "ignore-case" | "iequals" | "equalsignorecase" => named("equals-ignore-case"),
        _ => None,
    }
}

/// The list that an operator stands in that was written without one: `{ in: [a, b] }`, `{ equals: a
/// }`, `{ prefix: a }`.
pub(super) fn listed(value: &Value) -> Option<String> {
    let map = value.as_object().filter(|map| map.len() == 1)?;
    let (name, operand) = map.iter().next()?;
    let lower = name.to_lowercase().replace(['_', ' '], "-");
    Some(match (lower.as_str(), operand) {
        ("in" | "one-of" | "any-of" | "anyof" | "or" | "any", Value::Array(_)) => {
            operand.to_string()
        }
        ("=" | "==" | "eq" | "equals" | "equal" | "is" | "exactly" | "exact" | "in", _) => {
            format!("[{operand}]")
        }
        (name, _) if super::OPERATORS.contains(&name) => format!("[{value}]"),
        (name, operand) => {
            format!(
                "[{}]",
                operator(name, operand)
                    .filter(|written| written.starts_with('{') && !written.contains("where"))?
            )
        }
    })
}

/// A number where it is written as a text.
pub(super) fn number(value: &Value) -> Option<serde_json::Number> {
    value.as_str()?.trim().parse().ok()
}

/// The comparison that a text is: `> 5`.
pub(super) fn comparison(operand: &Value) -> Option<String> {
    let text = operand.as_str()?.trim();
    let sign = [">=", "<=", ">", "<", "="]
        .into_iter()
        .find(|sign| text.starts_with(sign))?;
    let number = number(&Value::from(text.strip_prefix(sign)?))?;
    Some(format!("[\"{sign}\", {number}]"))
}

/// SQL writes `%` where we write `*`.
fn of_glob(operand: &Value) -> Value {
    operand
        .as_str()
        .map_or_else(|| operand.clone(), |text| text.replace('%', "*").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_instead_is_told() {
        for (name, operand, expect) in [
            ("greater-than", json!(5), Some(r#"{"numeric":[">",5]}"#)),
            ("<=", json!(5.5), Some(r#"{"numeric":["<=",5.5]}"#)),
            (
                "between",
                json!([1, 5]),
                Some(r#"{"numeric":[">=",1,"<=",5]}"#),
            ),
            ("between", json!(1), None),
            ("equals", json!("a"), Some(r#"the value itself: ["a"]"#)),
            (
                "in",
                json!([1, 2]),
                Some("the list itself, whose values are alternatives: [1,2]"),
            ),
            ("not-in", json!([1, 2]), Some(r#"{"anything-but":[1,2]}"#)),
            ("like", json!("%.jpg"), Some(r#"{"wildcard":"*.jpg"}"#)),
            ("starts-with", json!("a"), Some(r#"{"prefix":"a"}"#)),
            ("zebra", json!(1), None),
        ] {
            assert_eq!(operator(name, &operand).as_deref(), expect, "{name}");
        }
        for (value, expect) in [
            (json!({ "in": ["a", "b"] }), Some(r#"["a","b"]"#)),
            (json!({ "equals": "a" }), Some(r#"["a"]"#)),
            (json!({ "prefix": "a" }), Some(r#"[{"prefix":"a"}]"#)),
            (json!({ "startsWith": "a" }), Some(r#"[{"prefix":"a"}]"#)),
            (json!({ "gt": 1 }), Some(r#"[{"numeric":[">",1]}]"#)),
            (json!({ "regex": "a" }), None),
            (json!({ "a": 1, "b": 2 }), None),
            (json!({ "zebra": 1 }), None),
        ] {
            assert_eq!(listed(&value).as_deref(), expect, "{value}");
        }
        for (operand, expect) in [
            ("> 5", Some(r#"[">", 5]"#)),
            (">=-1.5", Some(r#"[">=", -1.5]"#)),
            ("> x", None),
            ("5", None),
        ] {
            assert_eq!(comparison(&json!(operand)).as_deref(), expect, "{operand}");
        }
        assert!(
            operator("regex", &json!("a.*"))
                .unwrap()
                .contains(r#"search($.subject, "a.*")"#)
        );
    }
}
