//! What was probably meant by a word that is not known.

/// Past these a comparison with each takes longer than anybody waits.
const COMPARED_MAX: usize = 1_000;

/// Returns the word without what people spell in different ways: capitals, `-`, `_` and spaces.
#[must_use]
pub fn fold(word: &str) -> String {
    word.to_lowercase().replace(['-', '_', ' '], "")
}

/// Returns the known word that is nearest to another one, if it is near enough to be meant: a third
/// of its letters may differ, one letter at least and three at most, a swap of two counted as one
/// (Damerau and Levenshtein). A word of one or two letters is near only to itself, [`fold`]ed.
///
/// Of several that are equally near it is the first.
#[must_use]
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let word = fold(word);
    let length = word.chars().count();
    let bound = if length < 3 {
        0
    } else {
        (length / 3).clamp(1, 3)
    };
    known
        .into_iter()
        .take(COMPARED_MAX)
        .map(|known| (strsim::damerau_levenshtein(&word, &fold(known)), known))
        .filter(|(distance, _)| *distance <= bound)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Returns how alike two texts are, from 0 to 1, where 1 is equal. It takes time by the product of
/// their lengths.
#[must_use]
pub fn likeness(one: &str, other: &str) -> f64 {
    strsim::normalized_damerau_levenshtein(one, other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_another_word_does_not() {
        let known = ["description", "on_failure", "order-by", "match", "to"];
        for (given, expect) in [
            ("descripton", Some("description")),
            ("Descriptoin", Some("description")),
            ("onFailure", Some("on_failure")),
            ("order_by", Some("order-by")),
            ("mach", Some("match")),
            ("TO", Some("to")),
            ("ta", None),
            ("t", None),
            ("", None),
            ("zebra", None),
            ("mxxch", None),
        ] {
            assert_eq!(nearest(given, known), expect, "{given:?}");
        }
        assert_eq!(nearest("x", []), None);
        assert_eq!(nearest("abd", ["abx", "aby"]), Some("abx"));
    }
}
