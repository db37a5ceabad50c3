//! What was probably meant by a name that is not known.

use serde_json::Value;

/// The known name nearest to a misspelt one, if it is near enough to be meant.
pub(crate) fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let bound = match name.chars().count() {
        0..3 => 0,
        3..5 => 1,
        _ => 2,
    };
    known
        .into_iter()
        .map(|known| (strsim::osa_distance(&name.to_lowercase(), known), known))
        .filter(|(distance, _)| *distance <= bound)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// A value as one would write it in YAML: plain where that is safe.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::String(text)
            if text
                .bytes()
                .next()
                .is_some_and(|byte| byte.is_ascii_alphabetic())
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte)) =>
        {
            text.clone()
        }
        other => other.to_string(),
    }
}
