//! Schemas that lead to themselves by several ways at once.
//!
//! A value is held against each alternative of a schema by itself. Where two of them hold the same
//! inner value against the whole schema again, the work doubles with each level of the data, so that
//! a sender with a few hundred bytes could stop the bus. Such a schema is refused.
//!
//! The schemas in a schema are a graph: some hold for the same value (`$ref`, `anyOf`, …), others for
//! a part of it (`properties`, `items`, …). The work doubles only where two different ways lead from
//! one schema over the same part of the value, and both come back to it. That none do is checked
//! schema by schema: of all that hold for one value no two may lead over the same part into the
//! circle that they are in.

use std::collections::HashMap;

use pointsman_schemas::Segment;
use serde_json::{Map, Value};

use super::visit::{resolve, visit};

/// A schema, by its place among all in the schema.
type Id = usize;

/// Which part of a value a schema leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part<'s> {
    Named(&'s str),
    /// A field that the schema's own `properties` do not name.
    Other,
    /// A field that some pattern names.
    Matching,
    /// An element that the schema's other keywords do not lead to.
    Element,
    /// Any element.
    AnyElement,
}

impl Part<'_> {
    /// Whether some value has a part that both lead to.
    fn meets(&self, other: &Self, of_one_schema: bool) -> bool {
        let is_element = |part: &Self| matches!(part, Self::Element | Self::AnyElement);
        if is_element(self) != is_element(other) {
            return false;
        }
        match (self, other) {
            (Self::Named(one), Self::Named(other)) => one == other,
            (Self::Element, Self::Element) => !of_one_schema,
            (Self::Other, other) | (other, Self::Other) => !of_one_schema || *other == Self::Other,
            _ => true,
        }
    }
}

#[derive(Default)]
struct Node<'s> {
    path: Vec<Segment>,
    /// What holds for the same value.
    same: Vec<Id>,
    /// What holds for a part of it.
    parts: Vec<(Part<'s>, Id)>,
}

/// The path to a schema that leads to itself by several ways at once, if there is one.
pub(super) fn ambiguous(schema: &Value) -> Option<Vec<Segment>> {
    let nodes = graph(schema);
    let circles = circles(&nodes);
    let starts = nodes
        .iter()
        .flat_map(|node| node.parts.iter().map(|(_, to)| *to));
    let mut starts: Vec<Id> = starts.chain([0]).collect();
    starts.sort_unstable();
    starts.dedup();
    let is_ambiguous = |start: &Id| {
        let inner = ways_inward(*start, &nodes, &circles);
        inner.iter().enumerate().any(|(at, (from, visit, part))| {
            inner
                .iter()
                .skip(at + 1)
                .any(|(other_from, other_visit, other)| {
                    part.meets(other, from == other_from && visit == other_visit)
                })
        })
    };
    let found = starts.into_iter().find(is_ambiguous)?;
    nodes.into_iter().nth(found).map(|node| node.path)
}

/// The ways from a value that a schema holds for to its parts, as far as they come back to it: from
/// which schema, on which visit to it, and to which part.
fn ways_inward<'n, 's>(
    start: Id,
    nodes: &'n [Node<'s>],
    circles: &[usize],
) -> Vec<(Id, u8, &'n Part<'s>)> {
    let circle = circles.get(start);
    let mut visits: HashMap<Id, u8> = HashMap::new();
    let (mut rest, mut found) = (vec![start], Vec::new());
    while let Some(id) = rest.pop() {
        let visit = visits.entry(id).or_default();
        *visit += 1;
        // Twice is enough to see that it is more than once.
        let (Some(node), 1..=2) = (nodes.get(id), *visit) else {
            continue;
        };
        rest.extend(&node.same);
        let back = node
            .parts
            .iter()
            .filter(|(_, to)| circles.get(*to) == circle);
        found.extend(back.map(|(part, _)| (id, *visit, part)));
    }
    found
}

/// The schemas in a schema.
fn graph(schema: &Value) -> Vec<Node<'_>> {
    let (mut ids, mut anchors, mut all) = (HashMap::new(), HashMap::new(), Vec::new());
    visit(schema, &mut Vec::new(), &mut |keywords, path| {
        let id = all.len();
        ids.insert(std::ptr::from_ref(keywords), id);
        for keyword in ["$anchor", "$dynamicAnchor", "$id"] {
            if let Some(Value::String(name)) = keywords.get(keyword) {
                anchors
                    .entry(name.rsplit('/').next().unwrap_or(name))
                    .or_insert(id);
            }
        }
        all.push((keywords, path.to_vec()));
    });
    let id_of = |value: &Value| ids.get(&std::ptr::from_ref(value.as_object()?)).copied();
    let nodes = all.iter().map(|(keywords, path)| {
        let mut node = Node {
            path: path.clone(),
            ..Node::default()
        };
        for keyword in ["$ref", "$dynamicRef"] {
            let Some(Value::String(reference)) = keywords.get(keyword) else {
                continue;
            };
            let name = reference.rsplit(['/', '#']).next().unwrap_or_default();
            let by_pointer = resolve(schema, reference).and_then(id_of);
            node.same
                .extend(by_pointer.or_else(|| anchors.get(name).copied()));
        }
        links(keywords, &id_of, &mut node);
        node
    });
    nodes.collect()
}

/// Where the keywords of a schema lead.
fn links<'s>(
    keywords: &'s Map<String, Value>,
    id_of: &impl Fn(&Value) -> Option<Id>,
    node: &mut Node<'s>,
) {
    for (keyword, value) in keywords {
        let named = value.as_object().into_iter().flatten();
        let listed = value.as_array().into_iter().flatten();
        match keyword.as_str() {
            "allOf" | "anyOf" | "oneOf" => node.same.extend(listed.filter_map(id_of)),
            "dependentSchemas" => node.same.extend(named.filter_map(|(_, one)| id_of(one))),
            "if" | "then" | "else" | "not" => node.same.extend(id_of(value)),
            "properties" => {
                let parts = named.filter_map(|(name, one)| Some((Part::Named(name), id_of(one)?)));
                node.parts.extend(parts);
            }
            "patternProperties" => {
                let parts = named.filter_map(|(_, one)| Some((Part::Matching, id_of(one)?)));
                node.parts.extend(parts);
            }
            "additionalProperties" | "unevaluatedProperties" => {
                node.parts.extend(id_of(value).map(|id| (Part::Other, id)));
            }
            "contains" => node
                .parts
                .extend(id_of(value).map(|id| (Part::AnyElement, id))),
            "items" | "unevaluatedItems" => {
                node.parts
                    .extend(id_of(value).map(|id| (Part::Element, id)));
            }
            "prefixItems" => {
                let parts = listed.filter_map(|one| Some((Part::Element, id_of(one)?)));
                node.parts.extend(parts);
            }
            _ => {}
        }
    }
}

/// Which circle each schema is in: those that lead to each other have the same number (Kosaraju's
/// algorithm).
fn circles(nodes: &[Node<'_>]) -> Vec<usize> {
    let forward: Vec<Vec<Id>> = nodes
        .iter()
        .map(|node| {
            let parts = node.parts.iter().map(|(_, to)| *to);
            node.same.iter().copied().chain(parts).collect()
        })
        .collect();
    let mut backward = vec![Vec::new(); nodes.len()];
    for (from, all) in forward.iter().enumerate() {
        for to in all {
            if let Some(back) = backward.get_mut(*to) {
                back.push(from);
            }
        }
    }
    let mut order = Vec::with_capacity(nodes.len());
    let mut seen = vec![false; nodes.len()];
    for start in 0..nodes.len() {
        walk(start, &forward, &mut seen, &mut |id| order.push(id));
    }
    let mut circles = vec![0; nodes.len()];
    seen.fill(false);
    for (number, start) in order.into_iter().rev().enumerate() {
        walk(start, &backward, &mut seen, &mut |id| {
            if let Some(circle) = circles.get_mut(id) {
                *circle = number;
            }
        });
    }
    circles
}

/// Visits what a schema leads to and nobody has seen, each behind all that it leads to itself.
fn walk(start: Id, edges: &[Vec<Id>], seen: &mut [bool], visit: &mut impl FnMut(Id)) {
    let mut see = |id: Id| {
        seen.get_mut(id)
            .is_some_and(|seen| !std::mem::replace(seen, true))
    };
    if !see(start) {
        return;
    }
    let mut stack = vec![(start, 0)];
    while let Some((id, next)) = stack.last_mut() {
        match edges.get(*id).and_then(|all| all.get(*next)) {
            Some(to) => {
                *next += 1;
                if see(*to) {
                    stack.push((*to, 0));
                }
            }
            None => {
                visit(*id);
                stack.pop();
            }
        }
    }
}
