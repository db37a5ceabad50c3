//! Which parts of a schema are schemas themselves, and where a reference inside it leads.

use pointsman_schemas::Segment;
use serde_json::{Map, Value};

/// Keywords whose value is a schema.
const ONE: [&str; 11] = [
    "additionalProperties",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];

/// Keywords whose value is a list of schemas.
const MANY: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];

/// Keywords whose value holds a schema under each of its keys.
const NAMED: [&str; 4] = [
    "$defs",
    "dependentSchemas",
    "patternProperties",
    "properties",
];

/// Every other keyword of the draft.
const OTHER: [&str; 39] = [
    "$anchor",
    "$comment",
    "$dynamicAnchor",
    "$dynamicRef",
    "$id",
    "$ref",
    "$schema",
    "$vocabulary",
    "const",
    "contentEncoding",
    "contentMediaType",
    "default",
    "definitions",
    "dependencies",
    "dependentRequired",
    "deprecated",
    "description",
    "enum",
    "examples",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "pattern",
    "readOnly",
    "required",
    "title",
    "type",
    "uniqueItems",
];

/// Every keyword of the draft, those of earlier ones that it keeps included.
pub(super) fn keywords() -> impl Iterator<Item = &'static str> {
    let others = OTHER.into_iter().chain(["writeOnly"]);
    ONE.into_iter().chain(MANY).chain(NAMED).chain(others)
}

/// Visits a schema and every schema in it that is an object, each with its path from the root.
pub(super) fn visit<'s>(
    schema: &'s Value,
    path: &mut Vec<Segment>,
    visitor: &mut impl FnMut(&'s Map<String, Value>, &[Segment]),
) {
    let Value::Object(keywords) = schema else {
        return;
    };
    visitor(keywords, path);
    for (keyword, value) in keywords {
        path.push(Segment::Key(keyword.clone()));
        match value {
            Value::Object(named) if NAMED.contains(&keyword.as_str()) => {
                for (name, below) in named {
                    path.push(Segment::Key(name.clone()));
                    visit(below, path, visitor);
                    path.pop();
                }
            }
            Value::Array(list) if MANY.contains(&keyword.as_str()) => {
                for (index, below) in list.iter().enumerate() {
                    path.push(Segment::Index(index));
                    visit(below, path, visitor);
                    path.pop();
                }
            }
            _ if ONE.contains(&keyword.as_str()) => visit(value, path, visitor),
            _ => {}
        }
        path.pop();
    }
}

/// Where a reference of the form `#` or `#/…` leads inside a schema that has no base of its own.
pub(super) fn resolve<'s>(root: &'s Value, reference: &str) -> Option<&'s Value> {
    let pointer = reference.strip_prefix('#')?;
    let pointer = percent_encoding::percent_decode_str(pointer)
        .decode_utf8()
        .ok()?;
    root.pointer(&pointer)
}

/// A JSON Pointer as the steps of a path.
pub(super) fn steps(root: &Value, pointer: &str) -> Vec<Segment> {
    let mut at = Some(root);
    let tokens = pointer.split('/').skip(1);
    let tokens = tokens.map(|token| token.replace("~1", "/").replace("~0", "~"));
    tokens
        .map(|token| match at {
            Some(Value::Array(items)) => {
                let index = token.parse().unwrap_or(0);
                at = items.get(index);
                Segment::Index(index)
            }
            _ => {
                at = at.and_then(|at| at.get(&token));
                Segment::Key(token)
            }
        })
        .collect()
}
