//! Which fields a schema lets data have, as far as that is sure.
//!
//! At each step all schemas are gathered that say something of the value: the schema itself, what it
//! refers to, and every branch of it. A field is lacking where some of these have `properties`, none
//! names it, and none lets others be: by `patternProperties`, or by `additionalProperties` or
//! `unevaluatedProperties` that are a schema or `true`. Whatever is not understood lets anything be.

use serde_json::{Map, Value};

use super::EventSchema;
use super::visit::resolve;

/// How many schemas are looked at for one value: more are taken to let anything be.
const GATHERED_MAX: usize = 256;

/// One step from a value to another one inside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step<'n> {
    /// To a field, also of the objects that lie in an array.
    Name(&'n str),
    /// To an element of an array.
    Element,
}

/// A field that data lacks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lacking<'s> {
    /// Which of the steps leads to it.
    pub(super) step: usize,
    /// The fields that are there in its place; none where the value has none at all.
    pub(super) known: Vec<&'s str>,
}

impl EventSchema {
    /// The first step, of some that lead into the data, to what it surely lacks.
    pub(super) fn lacking(&self, steps: &[Step<'_>]) -> Option<Lacking<'_>> {
        let mut at = vec![&self.schema];
        for (index, step) in steps.iter().enumerate() {
            let gathered = Gathered::of(&self.schema, &at);
            at = match (step, gathered) {
                (_, None) => return None,
                (Step::Element, Some(gathered)) => gathered.elements,
                (Step::Name(name), Some(gathered)) => {
                    let below: Vec<&Value> = gathered.fields_of(name);
                    let known = gathered.names(name)?;
                    // Another branch may let the same name be anything.
                    if gathered.is_open && gathered.is_several {
                        return None;
                    }
                    if below.is_empty() && !gathered.is_open {
                        return (gathered.has_fields || gathered.is_scalar)
                            .then_some(Lacking { step: index, known });
                    }
                    below
                }
            };
            if at.is_empty() {
                return None;
            }
        }
        None
    }
}

/// What all schemas say of one value.
#[derive(Default)]
struct Gathered<'s> {
    /// Each mapping of `properties`.
    properties: Vec<&'s Map<String, Value>>,
    /// The schemas of elements.
    elements: Vec<&'s Value>,
    /// Some have `properties`.
    has_fields: bool,
    /// The one that there is lets the value be neither an object nor an array.
    is_scalar: bool,
    /// There is more than one.
    is_several: bool,
    /// Some let it have fields that they do not name.
    is_open: bool,
}

impl<'s> Gathered<'s> {
    /// What these schemas say, and those that they lead to; none where that cannot be told.
    fn of(root: &'s Value, schemas: &[&'s Value]) -> Option<Self> {
        let mut gathered = Self::default();
        let mut seen: Vec<&Value> = Vec::new();
        let mut rest: Vec<&Value> = schemas.to_vec();
        while let Some(schema) = rest.pop() {
            if seen.iter().any(|known| std::ptr::eq(*known, schema)) {
                continue;
            }
            seen.push(schema);
            let keywords = match schema {
                Value::Object(keywords) => keywords,
                Value::Bool(false) => continue,
                _ => return None,
            };
            let has_base = keywords.contains_key("$id") && !std::ptr::eq(schema, root);
            if seen.len() > GATHERED_MAX || has_base || keywords.contains_key("$dynamicRef") {
                return None;
            }
            if let Some(reference) = keywords.get("$ref") {
                rest.push(resolve(root, reference.as_str()?)?);
            }
            gathered.add(keywords);
            gathered.is_open |= has_open_branch(keywords);
            branches(keywords, &mut rest);
        }
        gathered.is_several = seen.len() > 1;
        gathered.is_scalar &= !gathered.is_several;
        // An array may lie in the way, whose elements have the fields.
        let elements = std::mem::take(&mut gathered.elements);
        if !elements.is_empty() && seen.len() < GATHERED_MAX {
            let inner = Self::of(root, &elements)?;
            gathered.has_fields |= inner.has_fields;
            gathered.is_open |= inner.is_open || !inner.has_fields && !inner.is_scalar;
            gathered.properties.extend(inner.properties);
        }
        gathered.elements = elements;
        Some(gathered)
    }

    fn add(&mut self, keywords: &'s Map<String, Value>) {
        if let Some(Value::Object(properties)) = keywords.get("properties") {
            self.has_fields = true;
            self.properties.push(properties);
        }
        self.is_open |= keywords
            .get("patternProperties")
            .and_then(Value::as_object)
            .is_some_and(|patterns| !patterns.is_empty());
        for keyword in ["additionalProperties", "unevaluatedProperties"] {
            let others = keywords.get(keyword);
            self.is_open |= others.is_some_and(|others| *others != Value::Bool(false));
        }
        for keyword in ["items", "contains", "unevaluatedItems"] {
            self.elements.extend(keywords.get(keyword));
        }
        if let Some(Value::Array(items)) = keywords.get("prefixItems") {
            self.elements.extend(items);
        }
        let types: Vec<&str> = match keywords.get("type") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
            _ => return,
        };
        self.is_scalar = !types.contains(&"object") && !types.contains(&"array");
        // Nothing says what its elements are.
        let has_elements = ["items", "prefixItems"]
            .iter()
            .any(|keyword| keywords.contains_key(*keyword));
        self.is_open |= types.contains(&"array") && !has_elements;
    }

    fn fields_of(&self, name: &str) -> Vec<&'s Value> {
        self.properties
            .iter()
            .filter_map(|named| named.get(name))
            .collect()
    }

    /// The names of all fields; none where one of them may be meant that is spelt with dots.
    fn names(&self, name: &str) -> Option<Vec<&'s str>> {
        let all = self.properties.iter().flat_map(|named| named.keys());
        let mut names: Vec<&str> = all.map(String::as_str).collect();
        let spelt = |known: &&str| {
            known
                .strip_prefix(name)
                .is_some_and(|rest| rest.starts_with('.'))
        };
        if names.iter().any(spelt) {
            return None;
        }
        names.sort_unstable();
        names.dedup();
        Some(names)
    }
}

/// The schemas that may hold for the same value beside one.
fn branches<'s>(keywords: &'s Map<String, Value>, rest: &mut Vec<&'s Value>) {
    for keyword in ["allOf", "anyOf", "oneOf"] {
        if let Some(Value::Array(branches)) = keywords.get(keyword) {
            rest.extend(branches);
        }
    }
    for keyword in ["if", "then", "else"] {
        // One that is `true` says nothing of fields, in whatever it stands.
        rest.extend(keywords.get(keyword).filter(|branch| branch.is_object()));
    }
    if let Some(Value::Object(dependent)) = keywords.get("dependentSchemas") {
        rest.extend(dependent.values().filter(|branch| branch.is_object()));
    }
}

/// Whether one of several alternatives says nothing of fields, where nothing else does.
fn has_open_branch(keywords: &Map<String, Value>) -> bool {
    const TELLING: [&str; 6] = ["$ref", "allOf", "anyOf", "oneOf", "properties", "const"];
    if keywords.contains_key("properties") {
        return false;
    }
    let alternatives = ["anyOf", "oneOf"]
        .iter()
        .filter_map(|keyword| keywords.get(*keyword));
    alternatives
        .filter_map(Value::as_array)
        .flatten()
        .any(|branch| {
            let Value::Object(own) = branch else {
                return *branch == Value::Bool(true);
            };
            let is_scalar = own
                .get("type")
                .and_then(Value::as_str)
                .is_some_and(|one| one != "object" && one != "array");
            !is_scalar && TELLING.iter().all(|telling| !own.contains_key(*telling))
        })
}
