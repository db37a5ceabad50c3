//! Reads what must hold of events, as several commands take it.

use std::path::Path;

use serde_json::Value;

use super::error::CommandError;
use crate::config::mistake::Mistakes;
use crate::config::reader::{self, Piece};
use crate::config::yaml;
use crate::replay::RawFilters;

/// Reads what must hold of the events: a mapping with `match`, `where` and `filters`, or an event
/// pattern alone.
///
/// # Errors
/// The file cannot be read, or says something else.
pub fn read_filters(path: &Path) -> Result<RawFilters, CommandError> {
    let wrong = |why: String| {
        CommandError::new(format!(
            "cannot use the pattern in {}: {why}",
            path.display()
        ))
        .help("it is a mapping with match, where and filters, or an event pattern alone")
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let told = |mistakes: Vec<crate::config::mistake::Mistake>| {
        let told = mistakes.into_iter().map(|mistake| mistake.message);
        wrong(told.collect::<Vec<_>>().join("; "))
    };
    let root = yaml::read(&text).map_err(told)?;
    let mistakes = Mistakes::default();
    let piece = Piece {
        node: &root,
        entry: None,
        text: &text,
        mistakes: &mistakes,
    };
    let value = reader::read::<Value>(piece);
    let mistakes = mistakes.into_inner();
    if !mistakes.is_empty() {
        return Err(told(mistakes));
    }
    let Some(Value::Object(object)) = value else {
        return Err(wrong("it is no mapping".to_owned()));
    };
    let filters = RawFilters::of(object).map_err(wrong)?;
    filters.compile().map_err(wrong)?;
    Ok(filters)
}
