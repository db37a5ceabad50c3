//! `match`, field by field.

use serde_json::Value;

use super::{Check, ELEMENTS_MAX, Room, change, distance, of_alternatives, shorten};
use crate::document::Document;
use crate::json::Scalar;
use crate::number::Number;
use crate::pattern::{Body, Group, Leaf, Operator};
use crate::workings::Workings;

/// Where a part of the pattern looks: from the document's root or from an element of an array, some
/// steps down.
struct Place<'v, 'w> {
    document: &'v Document<'v>,
    workings: &'w mut Workings,
    base: &'v Value,
    /// How the base is written: empty for the root.
    written: String,
    path: Vec<String>,
}

/// What a pattern asks for, held against a document.
pub(super) fn checks(group: &Group, document: &Document<'_>, room: &Room) -> Vec<Check> {
    let mut checks = Vec::new();
    let workings = &mut Workings::default();
    group_checks(
        group,
        &mut Place {
            document,
            workings,
            base: document.tree(),
            written: String::new(),
            path: Vec::new(),
        },
        room,
        &mut checks,
    );
    checks
}

fn group_checks(group: &Group, place: &mut Place<'_, '_>, room: &Room, checks: &mut Vec<Check>) {
    for field in &group.fields {
        place.path.push(field.name.to_string());
        match &field.body {
            Body::Leaf(leaf) if room.take() => checks.push(leaf_check(leaf, place)),
            Body::Leaf(_) => {}
            Body::Group(group) => match nearest_element(group, place, room) {
                Some(nearest) => checks.extend(nearest),
                None => group_checks(group, place, room, checks),
            },
        }
        place.path.pop();
    }
    for groups in &group.any {
        let alternatives: Vec<_> = groups
            .iter()
            .map(|group| room.under(|checks| group_checks(group, place, room, checks)))
            .collect();
        let holds = alternatives
            .iter()
            .any(|checks| !checks.is_empty() && checks.iter().all(|check| check.holds));
        place.path.push("$or".to_owned());
        let field = place.field();
        place.path.pop();
        checks.push(of_alternatives(holds, field, alternatives));
    }
}

/// Where objects lie in an array: the checks within the element that comes nearest. None where
/// there is no such array.
fn nearest_element(group: &Group, place: &mut Place<'_, '_>, room: &Room) -> Option<Vec<Check>> {
    let values = place.values();
    let [array @ Value::Array(_)] = values.as_slice() else {
        return None;
    };
    let (mut elements, mut nearest) = (Vec::new(), None::<Vec<Check>>);
    objects(array, &place.field(), &mut elements);
    room.cut
        .set(room.cut.get() || elements.len() > ELEMENTS_MAX);
    for (base, written) in elements.into_iter().take(ELEMENTS_MAX) {
        let mut checks = Vec::new();
        group_checks(
            group,
            &mut Place {
                document: place.document,
                workings: place.workings,
                base,
                written,
                path: Vec::new(),
            },
            room,
            &mut checks,
        );
        if nearest
            .as_ref()
            .is_none_or(|nearest| distance(&checks) < distance(nearest))
        {
            nearest = Some(checks);
        }
        // What holds cannot be beaten.
        if nearest
            .as_ref()
            .is_some_and(|nearest| nearest.iter().all(|check| check.holds))
        {
            break;
        }
    }
    nearest
}

/// The objects in an array, also in arrays within it, with how they are written.
fn objects<'v>(value: &'v Value, written: &str, found: &mut Vec<(&'v Value, String)>) {
    let Value::Array(list) = value else { return };
    for (index, item) in list.iter().enumerate() {
        let written = format!("{written}[{index}]");
        match item {
            Value::Object(_) => found.push((item, written)),
            item => objects(item, &written, found),
        }
    }
}

impl<'v> Place<'v, '_> {
    fn field(&self) -> String {
        let path = self.path.join(".");
        if self.written.is_empty() {
            path
        } else {
            format!("{}.{path}", self.written)
        }
    }

    fn values(&self) -> Vec<&'v Value> {
        let mut values = Vec::new();
        gather(self.base, &self.path, &mut values);
        values
    }
}

/// The values at a path, a key of which may spell several steps with dots.
fn gather<'v>(value: &'v Value, path: &[String], values: &mut Vec<&'v Value>) {
    match (value, path) {
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

fn leaf_check(leaf: &Leaf, place: &mut Place<'_, '_>) -> Check {
    let values = place.values();
    let mut scalars = Vec::new();
    values.iter().for_each(|value| flatten(value, &mut scalars));
    let mut fits = |value: &&Value| {
        scalar(value).is_some_and(|scalar| leaf.list.fits(scalar, place.document, place.workings))
    };
    let holds = scalars.iter().any(&mut fits)
        || scalars.is_empty() && leaf.list.operators().iter().any(Operator::fits_absence);
    let found = match values.as_slice() {
        [] => None,
        [value] => Some(shorten(&value.to_string())),
        values => Some(shorten(&crate::path::list(values))),
    };
    let written: Vec<Value> = serde_json::from_str(&leaf.written).unwrap_or_default();
    let change = if holds {
        None
    } else {
        change::nearest(&written, &scalars, "")
    };
    Check {
        holds,
        field: place.field(),
        expected: shorten(&leaf.written),
        found,
        change,
        ..Check::default()
    }
}

/// The values that are no arrays, in an array or arrays within it.
fn flatten<'v>(value: &'v Value, scalars: &mut Vec<&'v Value>) {
    match value {
        Value::Array(list) => list.iter().for_each(|item| flatten(item, scalars)),
        Value::Object(_) => {}
        value => scalars.push(value),
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
