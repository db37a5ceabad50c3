//! The ways to rules of CESQL expressions.

use super::key::Part;
use super::{Chooser, Costed, Way, cheapest, together};
use crate::cesql::{self, Literals};

impl<'r> Chooser<'_, 'r> {
    /// Of an expression that is true without an error. Its operators of one precedence are applied
    /// from left to right.
    pub(super) fn sql(&self, expression: &'r cesql::Expression) -> Option<Costed<'r>> {
        let logic = |rest: &[(cesql::Operator, _)]| {
            rest.iter()
                .all(|(operator, _)| operator.level() == cesql::Level::Logic)
        };
        match &expression.kind {
            cesql::Kind::Chain { first, rest } if logic(rest) => {
                rest.iter()
                    .fold(self.sql(first), |left, (operator, right)| {
                        let sides = [left, self.sql(right)];
                        if *operator == cesql::Operator::And {
                            cheapest(sides.into_iter().flatten())
                        } else {
                            together(sides.into_iter())
                        }
                    })
            }
            _ => cheapest(
                self.predicate(expression)
                    .into_iter()
                    .map(|way| self.all_of(way)),
            ),
        }
    }

    /// The ways to what a comparison of an attribute with texts takes; each alone is one.
    pub(super) fn predicate(&self, expression: &'r cesql::Expression) -> Vec<Way<'r>> {
        use cesql::Kind::{Attribute, Chain, In, Like, String};
        let one = |name, part, text| self.text(name, part, text).map(|key| vec![key]);
        match &expression.kind {
            Chain { first, rest } => match (&first.kind, rest.as_slice()) {
                (
                    Attribute(name),
                    [
                        (
                            cesql::Operator::Equal,
                            cesql::Expression {
                                kind: String(text), ..
                            },
                        ),
                    ],
                )
                | (
                    String(text),
                    [
                        (
                            cesql::Operator::Equal,
                            cesql::Expression {
                                kind: Attribute(name),
                                ..
                            },
                        ),
                    ],
                ) => one(name, Part::Whole, text).into_iter().collect(),
                _ => Vec::new(),
            },
            Like {
                text,
                like,
                negated: false,
            } => match (&text.kind, like.literals()) {
                (Attribute(name), Some(Literals::Whole(whole))) => {
                    one(name, Part::Whole, whole).into_iter().collect()
                }
                (Attribute(name), Some(Literals::Parts(prefix, inner, suffix))) => {
                    let inner = inner
                        .iter()
                        .filter_map(|part| std::str::from_utf8(part.needle()).ok())
                        .map(|part| (Part::Anywhere, part));
                    let all = [(Part::Beginning, prefix), (Part::End, suffix)]
                        .into_iter()
                        .chain(inner);
                    all.filter_map(|(part, text)| one(name, part, text))
                        .collect()
                }
                _ => Vec::new(),
            },
            In {
                value,
                set,
                negated: false,
            } => {
                let Attribute(name) = &value.kind else {
                    return Vec::new();
                };
                let key = |element: &'r cesql::Expression| match &element.kind {
                    String(text) => self.text(name, Part::Whole, text),
                    _ => None,
                };
                set.iter()
                    .map(key)
                    .collect::<Option<Way<'r>>>()
                    .into_iter()
                    .collect()
            }
            _ => Vec::new(),
        }
    }
}
