//! Operators that compare: `numeric`, with numbers, and `compare-to`, with what a path finds.

use pointsman_schemas::Problem;
use serde_json::Value;

use super::{Compiler, meant};
use crate::comparator::Comparator;
use crate::number::Number;
use crate::path::Path;
use crate::pattern::Operator;
use crate::pattern::operator::Range;

impl Compiler {
    /// `[comparison, path]`.
    pub(super) fn compare_to(&mut self, operand: &Value) -> Option<Operator> {
        const FORM: &str = r#"write [">", "$.data.limit"]"#;
        self.tried += 1;
        let (comparison, path) = match operand.as_array().map(Vec::as_slice) {
            Some([Value::String(comparison), Value::String(path)]) => (comparison, path),
            _ => {
                self.problem(
                    Problem::new("compare-to takes a comparison and the path of another field")
                        .help(FORM),
                );
                return None;
            }
        };
        let comparator = match comparison.as_str() {
            "=" => Some(Comparator::Equal),
            "!=" => Some(Comparator::Unequal),
            "<" => Some(Comparator::Less),
            "<=" => Some(Comparator::LessOrEqual),
            ">" => Some(Comparator::Greater),
            ">=" => Some(Comparator::GreaterOrEqual),
            _ => {
                let problem = Problem::new(format!("{comparison:?} is no comparison"))
                    .help("one of =, !=, <, <=, >, >=");
                self.within(0, |compiler| compiler.problem(problem));
                None
            }
        };
        let path = self.within(1, |compiler| match Path::parse(path) {
            Ok(path) if path.is_singular() => Some(path),
            Ok(_) => {
                compiler.problem(
                    Problem::new("the path can find more than one value")
                        .help("name each step: $.data.items[0].total"),
                );
                None
            }
            Err(problem) => {
                compiler.problem(problem);
                None
            }
        });
        Some(Operator::CompareTo(comparator?, path?, 0))
    }

    /// `["=", n]`, `[">" or ">=", n]`, `["<" or "<=", n]`, or a lower bound and then an upper one.
    pub(super) fn numeric(&mut self, operand: &Value) -> Option<Operator> {
        const FORM: &str = r#"write ["=", 5], [">", 0], or [">", 0, "<=", 5]"#;
        let list = operand.as_array().map(Vec::as_slice).unwrap_or_default();
        let terms = match list {
            [operator, number] => vec![(operator, number)],
            [lower, from, upper, to] => vec![(lower, from), (upper, to)],
            _ => {
                let help = meant::comparison(operand)
                    .map_or_else(|| FORM.to_owned(), |written| format!("write {written}"));
                self.problem(
                    Problem::new(
                        "numeric takes a comparison and a number, or a lower and an upper bound",
                    )
                    .help(help),
                );
                return None;
            }
        };
        let mut range = Range::default();
        for (index, (operator, number)) in terms.into_iter().enumerate() {
            let number = match number {
                Value::Number(number) => Number::from(number),
                _ => {
                    let help = meant::number(number).map_or_else(
                        || FORM.to_owned(),
                        |number| format!("write {number} without quotes"),
                    );
                    self.within(2 * index + 1, |compiler| {
                        compiler.problem(Problem::new("numeric compares with a number").help(help))
                    });
                    return None;
                }
            };
            match (operator.as_str(), index) {
                (Some("="), 0) if list.len() == 2 => range = Range::only(number),
                (Some(">"), 0) => range.from = Some((number, false)),
                (Some(">="), 0) => range.from = Some((number, true)),
                (Some("<"), 0) if list.len() == 2 => range.to = Some((number, false)),
                (Some("<="), 0) if list.len() == 2 => range.to = Some((number, true)),
                (Some("<"), 1) => range.to = Some((number, false)),
                (Some("<="), 1) => range.to = Some((number, true)),
                _ => {
                    self.within(2 * index, |compiler| {
                        compiler.problem(
                            Problem::new(format!(
                                "{operator} is not a comparison that can stand here"
                            ))
                            .help(FORM),
                        );
                    });
                    return None;
                }
            }
        }
        if let (Some((from, _)), Some((to, _))) = (range.from, range.to)
            && list.len() == 4
            && from >= to
        {
            self.problem(
                Problem::new("no number lies between these bounds")
                    .help("the lower bound comes first"),
            );
            return None;
        }
        Some(Operator::Numeric(range))
    }
}
