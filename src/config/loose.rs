//! A piece of a rule file that somebody has written by itself: JSON, or YAML as a rule file has it.

use std::sync::Arc;

use serde_json::Value;

use super::diagnostic::{Diagnostic, File, sort};
use super::mistake::{Mistake, Mistakes};
use super::reader::{self, Piece};
use super::yaml::{self, Node, Span};

/// A text that was read, with the places of what is in it.
#[derive(Debug)]
pub struct Loose {
    /// What it says.
    pub value: Value,
    root: Node,
    text: String,
    file: Arc<File>,
}

impl Loose {
    /// Reads a text, which mistakes call by this name.
    ///
    /// # Errors
    /// It is neither JSON nor YAML, or has a key twice.
    pub fn read(name: String, text: String) -> Result<Self, Vec<Diagnostic>> {
        let file = Arc::new(File::new(name, &text, &[]));
        let (value, root) = read(&text).map_err(|mistakes| placed(&file, mistakes))?;
        Ok(Self {
            value,
            root,
            text,
            file,
        })
    }

    /// Mistakes in it, at their places.
    pub fn mistakes(
        &self,
        problems: impl IntoIterator<Item = pointsman_schemas::Problem>,
    ) -> Vec<Diagnostic> {
        let place = |problem| Mistake::of(problem, None, &self.root, &self.text);
        placed(&self.file, problems.into_iter().map(place).collect())
    }
}

fn placed(file: &Arc<File>, mistakes: Vec<Mistake>) -> Vec<Diagnostic> {
    let place = |mistake| Diagnostic {
        file: Arc::clone(file),
        mistake,
    };
    let mut diagnostics: Vec<_> = mistakes.into_iter().map(place).collect();
    sort(&mut diagnostics);
    diagnostics
}

fn read(text: &str) -> Result<(Value, Node), Vec<Mistake>> {
    // JSON is tried first: it may hold what YAML refuses, such as surrogate escapes. The tree is
    // for the places then.
    let json = serde_json::from_str::<Value>(text);
    let tree = yaml::read(text);
    // A key that stands twice is JSON, of which one would be read and the other not.
    if let (Ok(_), Err(mistakes)) = (&json, &tree) {
        let twice = mistakes.iter().filter(|mistake| mistake.also.is_some());
        let twice: Vec<Mistake> = twice.cloned().collect();
        if !twice.is_empty() {
            return Err(twice);
        }
    }
    match (json, tree) {
        (Ok(value), tree) => {
            let nowhere = |_| Node {
                value: yaml::Value::Null,
                span: Span::default(),
            };
            Ok((value, tree.unwrap_or_else(nowhere)))
        }
        (Err(_), Ok(root)) => {
            let mistakes = Mistakes::default();
            let piece = Piece {
                node: &root,
                entry: None,
                text,
                mistakes: &mistakes,
            };
            let value = reader::read::<Value>(piece).unwrap_or_default();
            let mistakes = mistakes.into_inner();
            match mistakes.is_empty() {
                true => Ok((value, root)),
                false => Err(mistakes),
            }
        }
        (Err(_), Err(mistakes)) => Err(mistakes),
    }
}
