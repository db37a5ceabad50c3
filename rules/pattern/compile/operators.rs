//! The operators of leaf lists, checked and compiled.

use pointsman_schemas::{Problem, Segment, suggest};
use serde_json::Value;

use super::{Compiler, OPERATORS, meant};
use crate::literal::{self, Compared};
use crate::pattern::network;
use crate::pattern::operator::Folded;
use crate::pattern::wildcard::{Refused, Wildcard};
use crate::pattern::{List, Operator};

impl Compiler {
    /// One alternative of a leaf list.
    pub(super) fn operator(&mut self, item: &Value) -> Option<Operator> {
        self.values += 1;
        match item {
            Value::String(text) => {
                self.doubt(text, Compared::Whole);
                Some(Operator::Text(text.as_bytes().into()))
            }
            Value::Number(number) => Some(Operator::Number(number.into())),
            Value::Bool(value) => Some(Operator::Boolean(*value)),
            Value::Null => Some(Operator::Null),
            Value::Array(_) => {
                self.problem(
                    Problem::new("a list inside the list of alternatives")
                        .help("write its values into the outer list"),
                );
                None
            }
            Value::Object(map) => {
                let mut members = map.iter();
                match (members.next(), members.next()) {
                    (Some((name, operand)), None) => {
                        self.within(name.as_str(), |compiler| compiler.named(name, operand))
                    }
                    (Some(_), Some((second, _))) => {
                        let problem = Problem::new("an operator stands alone in its object").help(
                            "write one object each for alternatives; where one value must fit \
                             both, write [{ all: [{ … }, { … }] }]",
                        );
                        self.within(second.as_str(), |compiler| compiler.problem(problem.key()));
                        None
                    }
                    _ => {
                        self.problem(
                            Problem::new("an operator is missing")
                                .help(format!("one of {}", OPERATORS.join(", "))),
                        );
                        None
                    }
                }
            }
        }
    }

    fn named(&mut self, name: &str, operand: &Value) -> Option<Operator> {
        let bytes = |text: &str| -> Box<[u8]> { text.as_bytes().into() };
        match name {
            "prefix" => self.cased(
                operand,
                Compared::Beginning,
                |text| Operator::Prefix(bytes(text)),
                Operator::PrefixIgnoreCase,
            ),
            "suffix" => self.cased(
                operand,
                Compared::End,
                |text| Operator::Suffix(bytes(text)),
                Operator::SuffixIgnoreCase,
            ),
            "equals-ignore-case" => {
                let text = self.text(operand)?;
                self.doubt(text, Compared::WholeIgnoringCase);
                Some(Operator::EqualsIgnoreCase(Folded::new(text)))
            }
            "contains" => {
                let text = self.text(operand)?;
                self.doubt(text, Compared::Part);
                self.sought_bytes += text.len();
                Some(Operator::Contains(bytes(text)))
            }
            "wildcard" => self.wildcard(operand),
            "anything-but" => self.anything_but(operand),
            "numeric" => self.numeric(operand),
            "all" => self.all(operand),
            "compare-to" => self.compare_to(operand),
            "cidr" => {
                let text = self.text(operand)?;
                match network::range(text) {
                    Ok(net) => Some(Operator::Cidr(net)),
                    Err(refused) => {
                        self.problem(Problem::new(refused.message).help(refused.help));
                        None
                    }
                }
            }
            "exists" => match operand {
                Value::Bool(value) => Some(Operator::Exists(*value)),
                _ => {
                    let is_no = matches!(operand.as_str(), Some("false" | "no"));
                    self.problem(
                        Problem::new("exists takes true or false")
                            .help(format!("write {{ exists: {} }}", !is_no)),
                    );
                    None
                }
            },
            _ => {
                self.unknown_operator(name, operand);
                None
            }
        }
    }

    fn unknown_operator(&mut self, name: &str, operand: &Value) {
        let problem = Problem::new(format!("there is no operator {name:?}")).key();
        let lower = name.to_lowercase().replace(['_', ' '], "-");
        // The path ends with the operator's own name; what its list stands under comes
        // before.
        let keys = self.path.iter().rev().filter_map(|segment| match segment {
            Segment::Key(key) => Some(key.as_str()),
            Segment::Index(_) => None,
        });
        let is_or = keys.clone().nth(1).is_some_and(meant::is_or) && operand.is_array();
        self.problem(problem.help(
            match (
                suggest::nearest(&lower, OPERATORS),
                meant::operator(&lower, operand),
            ) {
                _ if is_or => format!(
                    "alternatives over several fields are written $or: [{{ \
                     {name}: {operand} }}, …]"
                ),
                (_, Some(written)) => format!("write {written}"),
                (Some(meant), None) => format!("write {meant}"),
                (None, None) => format!(
                    "one of {}; a field of an object in a list is written without the list",
                    OPERATORS.join(", ")
                ),
            },
        ));
    }

    /// Warns of a text that looks as if it was not meant letter by letter.
    fn doubt(&mut self, text: &str, compared: Compared) {
        if let Some(problem) = literal::odd(text, compared) {
            self.problem(problem);
        }
    }

    fn text<'v>(&mut self, operand: &'v Value) -> Option<&'v str> {
        let text = operand.as_str();
        if text.is_none() {
            let problem = Problem::new("this operator takes a text");
            self.problem(if operand.is_number() || operand.is_boolean() {
                problem.help(format!("write \"{operand}\""))
            } else {
                problem
            });
        }
        text
    }

    /// A text, or `{ equals-ignore-case: text }`.
    fn cased(
        &mut self,
        operand: &Value,
        compared: Compared,
        exact: impl Fn(&str) -> Operator,
        folded: impl Fn(Folded) -> Operator,
    ) -> Option<Operator> {
        let Value::Object(map) = operand else {
            let text = self.text(operand)?;
            self.doubt(text, compared);
            return Some(exact(text));
        };
        let mut members = map.iter();
        match (members.next(), members.next()) {
            (Some((name, operand)), None) if name == "equals-ignore-case" => self
                .within(name.as_str(), |compiler| compiler.text(operand))
                .map(|text| folded(Folded::new(text))),
            _ => {
                self.problem(Problem::new(
                    "this operator takes a text or { equals-ignore-case: text }",
                ));
                None
            }
        }
    }

    fn wildcard(&mut self, operand: &Value) -> Option<Operator> {
        let text = self.text(operand)?;
        self.sought_bytes += text.len();
        let refused = match Wildcard::compile(text, &mut self.wildcard_steps_left) {
            Ok(wildcard) => {
                self.tried += usize::from(wildcard.parts().len() > 1);
                return Some(Operator::Wildcard(wildcard));
            }
            Err(refused) => refused,
        };
        match refused {
            Refused::At(at, message) => self.problem(Problem::new(message).inside(at..at + 1)),
            Refused::TooComplex => {
                self.problem(Problem::new(
                    "the wildcard is too complex; use fewer stars, or fewer repetitions behind a \
                     star",
                ));
            }
            // Told once, of the whole pattern.
            Refused::TooMany => {}
        }
        None
    }

    fn anything_but(&mut self, operand: &Value) -> Option<Operator> {
        self.tried += 1;
        let Value::Object(map) = operand else {
            let listed = self.one_or_many(operand, |compiler, item| match item {
                Value::String(text) => {
                    compiler.values += 1;
                    compiler.doubt(text, Compared::AnythingBut);
                    Some(Operator::Text(text.as_bytes().into()))
                }
                Value::Number(_) => compiler.operator(item),
                _ => {
                    compiler.problem(Problem::new("anything-but takes texts or numbers"));
                    None
                }
            })?;
            let texts = listed
                .iter()
                .filter(|operator| matches!(operator, Operator::Text(_)))
                .count();
            if texts != 0 && texts != listed.len() {
                self.problem(Problem::new(
                    "anything-but takes either texts or numbers, not both",
                ));
                return None;
            }
            return Some(Operator::AnythingBut(List::new(listed)));
        };
        let mut members = map.iter();
        let (Some((name, operand)), None) = (members.next(), members.next()) else {
            self.problem(Problem::new("anything-but takes one operator"));
            return None;
        };
        self.within(name.as_str(), |compiler| {
            compiler.values += operand.as_array().map_or(1, Vec::len);
            let listed = match name.as_str() {
                "prefix" | "suffix" => {
                    compiler.one_or_many(operand, |compiler, item| match compiler.text(item)? {
                        "" => {
                            compiler.problem(Problem::new(
                                "every text begins and ends with the empty \
                                 text, so this matches no text",
                            ));
                            None
                        }
                        text if name == "prefix" => Some(Operator::Prefix(text.as_bytes().into())),
                        text => Some(Operator::Suffix(text.as_bytes().into())),
                    })
                }
                "equals-ignore-case" => compiler.one_or_many(operand, |compiler, item| {
                    compiler
                        .text(item)
                        .map(|text| Operator::EqualsIgnoreCase(Folded::new(text)))
                }),
                "wildcard" => compiler.one_or_many(operand, Self::wildcard),
                _ => {
                    let known = ["prefix", "suffix", "equals-ignore-case", "wildcard"];
                    let problem =
                        Problem::new(format!("anything-but does not take {name:?}")).key();
                    compiler.problem(problem.help(match suggest::nearest(name, known) {
                        Some(meant) => format!("write {meant}"),
                        None => format!("a value, a list, or one of {}", known.join(", ")),
                    }));
                    None
                }
            };
            listed.map(|listed| Operator::AnythingBut(List::new(listed)))
        })
    }

    fn one_or_many(
        &mut self,
        operand: &Value,
        mut read: impl FnMut(&mut Self, &Value) -> Option<Operator>,
    ) -> Option<Vec<Operator>> {
        match operand {
            Value::Array(list) if list.is_empty() => {
                self.problem(Problem::new("the list is empty"));
                None
            }
            Value::Array(list) => {
                let read: Vec<_> = list
                    .iter()
                    .enumerate()
                    .map(|(index, item)| self.within(index, |compiler| read(compiler, item)))
                    .collect();
                read.into_iter().collect()
            }
            one => read(self, one).map(|operator| vec![operator]),
        }
    }

    /// A list of operators that one value must fit together.
    fn all(&mut self, operand: &Value) -> Option<Operator> {
        let list = match operand {
            Value::Array(list) if list.len() >= 2 => list,
            _ => {
                self.problem(
                    Problem::new("all takes a list of at least two operators")
                        .help("write [{ prefix: a }, { suffix: z }]"),
                );
                return None;
            }
        };
        self.tried += list.len();
        let read = list.iter().enumerate().map(|(index, item)| {
            self.within(index, |compiler| match (item, compiler.operator(item)?) {
                (_, Operator::Exists(false)) => {
                    compiler.problem(Problem::new("what does not exist fits no other operator"));
                    None
                }
                (Value::Object(_), operator) => Some(operator),
                _ => {
                    compiler.problem(Problem::new(
                        "a value stands alone: nothing else fits what equals it",
                    ));
                    None
                }
            })
        });
        let read: Vec<_> = read.collect();
        read.into_iter().collect::<Option<_>>().map(Operator::All)
    }
}
