//! What the evaluation of patterns remembers of one document.

use crate::comparator::Comparator;
use crate::document::{Document, Node};
use crate::json::{self, Scalar};
use crate::number::Number;
use crate::path::{Found, Path};

/// Room for holding scalars against patterns, reused from document to document.
///
/// What `compare-to` compares with is looked for once for each document, however many values are
/// compared with it.
#[derive(Debug, Default)]
pub(crate) struct Workings {
    /// A text without its case.
    pub(crate) folded: String,
    /// How much work there was since the last document: values that were looked at, operators that
    /// were tried, bytes that were read.
    pub(crate) steps: u64,
    /// The number of the document at hand.
    document: u64,
    /// What was found, by the numbers of the paths, with the document that it was found in.
    compared: Vec<(u64, Option<Value>)>,
}

/// A scalar of a document, kept.
#[derive(Debug)]
enum Value {
    Text(Box<[u8]>),
    Number(Number),
    Boolean(bool),
    Null,
}

impl Workings {
    /// Forgets the document before.
    pub(crate) fn start(&mut self) {
        self.document += 1;
        self.steps = 0;
    }

    /// Whether a scalar compares like this to what a path finds, which has this number.
    pub(crate) fn compares(
        &mut self,
        left: Scalar<'_>,
        comparator: Comparator,
        path: &Path,
        number: usize,
        document: &Document<'_>,
    ) -> bool {
        // The number before the first document is that of room that has not been used.
        let at_hand = self.document + 1;
        if self.compared.len() <= number {
            self.compared.resize_with(number + 1, || (0, None));
        }
        let Some((found_in, value)) = self.compared.get_mut(number) else {
            return false;
        };
        if *found_in != at_hand {
            self.steps += document.len() as u64;
            (*found_in, *value) = (at_hand, find(path, document));
        }
        value
            .as_ref()
            .is_some_and(|value| compares(left, comparator, value.scalar()))
    }
}

impl Value {
    fn scalar(&self) -> Scalar<'_> {
        match self {
            Self::Text(text) => Scalar::Text(text),
            Self::Number(number) => Scalar::Number(*number),
            Self::Boolean(value) => Scalar::Boolean(*value),
            Self::Null => Scalar::Null,
        }
    }
}

fn find(path: &Path, document: &Document<'_>) -> Option<Value> {
    let mut buffer = Vec::new();
    let scalar = match path.find(document) {
        Found::One(Node::Text(text)) => Scalar::Text(text.as_bytes()),
        Found::One(Node::Integer(number)) => Scalar::Number(Number::Whole(number.into())),
        Found::One(Node::Boolean(value)) => Scalar::Boolean(value),
        Found::One(Node::Json(raw)) => json::scalar(raw, &mut buffer)?,
        _ => return None,
    };
    Some(match scalar {
        Scalar::Text(text) => Value::Text(text.into()),
        Scalar::Number(number) => Value::Number(number),
        Scalar::Boolean(value) => Value::Boolean(value),
        Scalar::Null => Value::Null,
    })
}

/// Numbers are ordered by value and texts by their characters; all others are equal or not.
fn compares(left: Scalar<'_>, comparator: Comparator, right: Scalar<'_>) -> bool {
    let order = match (left, right) {
        (Scalar::Number(left), Scalar::Number(right)) => Some(left.cmp(&right)),
        (Scalar::Text(left), Scalar::Text(right)) => Some(left.cmp(right)),
        _ => None,
    };
    match comparator {
        Comparator::Equal => left == right,
        Comparator::Unequal => left != right,
        Comparator::Less => order.is_some_and(std::cmp::Ordering::is_lt),
        Comparator::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
        Comparator::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
        Comparator::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
    }
}
