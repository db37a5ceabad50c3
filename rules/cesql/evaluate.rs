//! An expression held against an event (sections 3.2 to 3.7).

use std::borrow::Cow;
use std::fmt;

use pointsman_schemas::Event;

use super::function::{self, Function};
use super::{Expression, Kind, Level, Operator, Type, Value};

/// What an expression gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation<'a> {
    /// The value; with an error what stands for it.
    pub value: Value<'a>,
    /// The error that ended the evaluation, where there was one.
    pub error: Option<EvaluationError<'a>>,
}

/// What can go wrong while an expression is evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EvaluationError<'a> {
    /// The event has no such attribute.
    MissingAttribute(&'a str),
    /// There is no function of this name that takes so many arguments.
    MissingFunction(&'a str),
    /// A value cannot be cast to a type.
    Cast(Value<'a>, Type),
    /// A division by 0.
    DivisionByZero,
    /// A number that leaves 32 bits.
    Overflow,
    /// An argument that its function cannot work with.
    Argument(&'static str),
    /// A string that would grow past a bound.
    TooLong {
        /// The bound.
        bytes_max: usize,
    },
}

/// The kinds of errors that there are (section 3.3), parse errors aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// `MathError`.
    Math,
    /// `CastError`.
    Cast,
    /// `MissingAttributeError`.
    MissingAttribute,
    /// `MissingFunctionError`.
    MissingFunction,
    /// `FunctionEvaluationError`.
    FunctionEvaluation,
}

impl EvaluationError<'_> {
    /// Which of the kinds it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::MissingAttribute(_) => ErrorKind::MissingAttribute,
            Self::MissingFunction(_) => ErrorKind::MissingFunction,
            Self::Cast(..) => ErrorKind::Cast,
            Self::DivisionByZero | Self::Overflow => ErrorKind::Math,
            Self::Argument(_) | Self::TooLong { .. } => ErrorKind::FunctionEvaluation,
        }
    }
}

impl fmt::Display for EvaluationError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingAttribute(name) => write!(f, "the event has no {name}"),
            Self::MissingFunction(name) => write!(f, "there is no such function {name}"),
            Self::Cast(value, to) => write!(f, "{value} is not {to}"),
            Self::DivisionByZero => f.write_str("a division by 0"),
            Self::Overflow => f.write_str("the number leaves 32 bits"),
            Self::Argument(message) => f.write_str(message),
            Self::TooLong { bytes_max } => write!(f, "the string grows past {bytes_max} bytes"),
        }
    }
}

impl std::error::Error for EvaluationError<'_> {}

/// An error with the value that stands for the one that there is not.
struct Failure<'a> {
    value: Value<'a>,
    error: EvaluationError<'a>,
}

type Result<'a, T = Value<'a>> = std::result::Result<T, Failure<'a>>;

/// Evaluates a part of an expression.
pub(crate) fn evaluate<'a>(expression: &'a Expression, event: &'a Event) -> Evaluation<'a> {
    match (Evaluator { event }).value(expression) {
        Ok(value) => Evaluation { value, error: None },
        Err(Failure { value, error }) => Evaluation {
            value,
            error: Some(error),
        },
    }
}

#[derive(Clone, Copy)]
struct Evaluator<'a> {
    event: &'a Event,
}

impl<'a> Evaluator<'a> {
    /// The recursion is as deep as the expression, which its parser bounds.
    fn value(self, expression: &'a Expression) -> Result<'a> {
        Ok(match &expression.kind {
            Kind::Boolean(value) => Value::Boolean(*value),
            Kind::Integer(number) => Value::Integer(*number),
            Kind::String(text) => Value::String(Cow::Borrowed(text)),
            Kind::Attribute(name) => match self.event.attribute(name) {
                Some(value) => value.into(),
                None => return fail(Type::Boolean, EvaluationError::MissingAttribute(name)),
            },
            Kind::Exists(name) => Value::Boolean(self.event.attribute(name).is_some()),
            Kind::Not(operand) => {
                let value = self.operand(operand, Type::Boolean)?;
                // Of all implicit casts the compatibility kit refuses the one from an integer here.
                let cast = if let Value::Integer(_) = value {
                    None
                } else {
                    value.to_boolean()
                };
                let negated_zero = Value::Boolean(true);
                let failure = || Failure {
                    value: negated_zero,
                    error: EvaluationError::Cast(value, Type::Boolean),
                };
                Value::Boolean(!cast.ok_or_else(failure)?)
            }
            Kind::Negate(operand) => {
                let number = self.integer(operand, Type::Integer)?;
                Value::Integer(checked(number.checked_neg())?)
            }
            Kind::Like {
                text,
                like,
                negated,
            } => {
                let text = self.text(text, Type::Boolean)?;
                Value::Boolean(like.fits(&text) != *negated)
            }
            Kind::In {
                value,
                set,
                negated,
            } => Value::Boolean(self.is_in(value, set)? != *negated),
            Kind::Chain { first, rest } => return self.chain(first, rest),
            Kind::Call {
                function: Some(function),
                arguments,
                ..
            } => return self.call(*function, arguments),
            Kind::Call {
                name,
                function: None,
                ..
            } => return fail(Type::Boolean, EvaluationError::MissingFunction(name)),
        })
    }

    /// The value of an operand; where that failed, so did the operator, whose type gives the value
    /// then.
    fn operand(self, operand: &'a Expression, gives: Type) -> Result<'a> {
        self.value(operand).map_err(|failure| Failure {
            value: gives.zero(),
            ..failure
        })
    }

    fn integer(self, operand: &'a Expression, gives: Type) -> Result<'a, i32> {
        to_integer(self.operand(operand, gives)?, gives)
    }

    fn text(self, operand: &'a Expression, gives: Type) -> Result<'a, Cow<'a, str>> {
        self.operand(operand, gives).map(Value::into_text)
    }

    /// Section 3.4.5: what is looked for decides the type.
    fn is_in(self, value: &'a Expression, set: &'a [Expression]) -> Result<'a, bool> {
        let value = self.operand(value, Type::Boolean)?;
        for element in set {
            let element = self.operand(element, Type::Boolean)?;
            if cast(element, value.type_of(), Type::Boolean)? == value {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn chain(self, first: &'a Expression, rest: &'a [(Operator, Expression)]) -> Result<'a> {
        let Some((operator, _)) = rest.first() else {
            return self.value(first);
        };
        let gives = operator.gives();
        let mut left = self.operand(first, gives)?;
        for (operator, right) in rest {
            left = match operator.level() {
                Level::Logic => {
                    let value = to_boolean(left)?;
                    // Section 3.6: the right operand must not be evaluated then.
                    if (*operator == Operator::And && !value)
                        || (*operator == Operator::Or && value)
                    {
                        left = Value::Boolean(value);
                        continue;
                    }
                    let right = to_boolean(self.operand(right, gives)?)?;
                    Value::Boolean(if *operator == Operator::Xor {
                        value != right
                    } else {
                        right
                    })
                }
                Level::Comparison => {
                    Value::Boolean(compare(left, *operator, self.operand(right, gives)?)?)
                }
                Level::Additive | Level::Multiplicative => {
                    let (left, right) = (to_integer(left, gives)?, self.integer(right, gives)?);
                    Value::Integer(calculate(left, *operator, right)?)
                }
            };
        }
        Ok(left)
    }

    fn call(self, function: Function, arguments: &'a [Expression]) -> Result<'a> {
        let gives = function.gives();
        // The number of arguments was checked when the function was looked up: only CONCAT goes
        // without.
        let Some(first) = arguments.first() else {
            return Ok(gives.zero());
        };
        match function {
            Function::Length => Ok(Value::Integer(
                i32::try_from(self.text(first, gives)?.chars().count()).unwrap_or(i32::MAX),
            )),
            Function::Abs => {
                let number = self.integer(first, gives)?;
                let overflow = || Failure {
                    value: Value::Integer(i32::MAX),
                    error: EvaluationError::Overflow,
                };
                number
                    .checked_abs()
                    .map(Value::Integer)
                    .ok_or_else(overflow)
            }
            Function::Int | Function::Bool => cast(self.operand(first, gives)?, gives, gives),
            Function::IsInt => Ok(Value::Boolean(
                self.operand(first, gives)?.to_integer().is_some(),
            )),
            Function::IsBool => Ok(Value::Boolean(
                self.operand(first, gives)?.to_boolean().is_some(),
            )),
            _ => self.call_for_text(function, arguments),
        }
    }

    /// Calls one of the functions that give a text.
    fn call_for_text(self, function: Function, arguments: &'a [Expression]) -> Result<'a> {
        let gives = function.gives();
        let (first, second, third) = (arguments.first(), arguments.get(1), arguments.get(2));
        let text = || first.map_or(Ok(Cow::Borrowed("")), |first| self.text(first, gives));
        let number = |argument: Option<&'a Expression>| {
            argument
                .map(|argument| self.integer(argument, gives))
                .transpose()
        };
        let outcome = match function {
            Function::Lower => Ok(Cow::Owned(text()?.to_lowercase())),
            Function::Upper => Ok(Cow::Owned(text()?.to_uppercase())),
            Function::Trim => {
                let text = text()?;
                let start = text.len() - text.trim_start().len();
                let end = start + text.trim().len();
                Ok(function::part(text, start, end))
            }
            Function::Concat | Function::ConcatWs => {
                let texts = arguments
                    .iter()
                    .map(|argument| self.text(argument, gives))
                    .collect::<Result<'a, Vec<_>>>()?;
                match texts.split_first() {
                    Some((delimiter, texts)) if function == Function::ConcatWs => {
                        function::concat(delimiter, texts)
                    }
                    _ => function::concat("", &texts),
                }
            }
            Function::Left => function::left(text()?, number(second)?.unwrap_or_default()),
            Function::Right => function::right(text()?, number(second)?.unwrap_or_default()),
            Function::Substring => {
                let (text, position) = (text()?, number(second)?.unwrap_or_default());
                function::substring(text, position, number(third)?)
            }
            _ => Ok(text()?),
        };
        outcome.map(Value::String).map_err(|(text, error)| Failure {
            value: Value::String(text),
            error,
        })
    }
}

fn fail<'a, T>(gives: Type, error: EvaluationError<'a>) -> Result<'a, T> {
    Err(Failure {
        value: gives.zero(),
        error,
    })
}

fn cast(value: Value<'_>, to: Type, gives: Type) -> Result<'_> {
    value
        .cast(to)
        .or_else(|value| fail(gives, EvaluationError::Cast(value, to)))
}

fn to_boolean(value: Value<'_>) -> Result<'_, bool> {
    match value.to_boolean() {
        Some(value) => Ok(value),
        None => fail(Type::Boolean, EvaluationError::Cast(value, Type::Boolean)),
    }
}

fn to_integer(value: Value<'_>, gives: Type) -> Result<'_, i32> {
    match value.to_integer() {
        Some(number) => Ok(number),
        None => fail(gives, EvaluationError::Cast(value, Type::Integer)),
    }
}

fn checked<'a>(number: Option<i32>) -> Result<'a, i32> {
    number.map_or_else(|| fail(Type::Integer, EvaluationError::Overflow), Ok)
}

/// Section 3.4.2. `=` is defined for every type: the right operand decides which (section 3.7).
fn compare<'a>(left: Value<'a>, operator: Operator, right: Value<'a>) -> Result<'a, bool> {
    if let Operator::Equal | Operator::Unequal = operator {
        let equal = cast(left, right.type_of(), Type::Boolean)? == right;
        return Ok(equal == (operator == Operator::Equal));
    }
    let (left, right) = (
        to_integer(left, Type::Boolean)?,
        to_integer(right, Type::Boolean)?,
    );
    Ok(match operator {
        Operator::Less => left < right,
        Operator::LessOrEqual => left <= right,
        Operator::Greater => left > right,
        _ => left >= right,
    })
}

fn calculate<'a>(left: i32, operator: Operator, right: i32) -> Result<'a, i32> {
    match operator {
        Operator::Divide | Operator::Remainder if right == 0 => {
            fail(Type::Integer, EvaluationError::DivisionByZero)
        }
        Operator::Divide => checked(left.checked_div(right)),
        // The remainder of the least number by -1 is 0, though its quotient overflows.
        Operator::Remainder => Ok(left.wrapping_rem(right)),
        Operator::Multiply => checked(left.checked_mul(right)),
        Operator::Subtract => checked(left.checked_sub(right)),
        _ => checked(left.checked_add(right)),
    }
}
