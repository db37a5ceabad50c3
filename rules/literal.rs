//! Texts that are compared letter by letter, and look as if something else was meant: `*.png`.

use pointsman_schemas::Problem;
use pointsman_schemas::yaml::scalar;

/// With what a text is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compared {
    /// A whole value, as an alternative of a pattern.
    Whole,
    /// A whole value, as one of `anything-but`.
    AnythingBut,
    /// A whole value whatever its case.
    WholeIgnoringCase,
    /// The beginning of a value.
    Beginning,
    /// The end of a value.
    End,
    /// Any part of a value.
    Part,
}

/// Returns a warning of a text of a pattern whose `*` or regular expression is none here, with how
/// the operator is written that was probably meant.
pub(crate) fn odd(text: &str, compared: Compared) -> Option<Problem> {
    let warned = |help: String| {
        let problem = Problem::new(format!(
            "{text:?} is compared letter by letter: its `*` stands for itself"
        ));
        problem.help(help).warn()
    };
    if !text.contains('*') {
        return None;
    }
    // `order.*` is a star far more often than a regular expression.
    if text.starts_with('^') || text.starts_with(".*") || text.ends_with(".*$") {
        return Some(warned(format!(
            "take a `where` for a regular expression: where: search($.subject, {text:?})"
        )));
    }
    let inner = text.trim_matches('*');
    let is_plain = !inner.is_empty() && !inner.contains('*');
    let (begins, ends) = (text.starts_with('*'), text.ends_with('*'));
    Some(warned(match compared {
        Compared::Whole if inner.is_empty() => "write { exists: true } for any value".to_owned(),
        Compared::Whole => format!("write {{ wildcard: {} }}", scalar(text)),
        Compared::AnythingBut => {
            format!("write {{ anything-but: {{ wildcard: {} }} }}", scalar(text))
        }
        Compared::WholeIgnoringCase if is_plain && begins != ends => format!(
            "write {{ {}: {{ equals-ignore-case: {} }} }}",
            if begins { "suffix" } else { "prefix" },
            scalar(inner)
        ),
        Compared::WholeIgnoringCase => {
            "no operator with a star ignores the case: list the spellings, each as { wildcard: … }"
                .to_owned()
        }
        Compared::Beginning if is_plain && !begins => {
            format!("write {{ prefix: {} }}", scalar(inner))
        }
        Compared::End if is_plain && !ends => format!("write {{ suffix: {} }}", scalar(inner)),
        Compared::Part if is_plain => format!("write {{ contains: {} }}", scalar(inner)),
        Compared::Beginning => format!(
            "write {{ wildcard: {} }}",
            scalar(&format!("{}*", text.trim_end_matches('*')))
        ),
        Compared::End => format!(
            "write {{ wildcard: {} }}",
            scalar(&format!("*{}", text.trim_start_matches('*')))
        ),
        Compared::Part => format!(
            "write {{ wildcard: {} }}",
            scalar(&format!("*{}*", text.trim_matches('*')))
        ),
    }))
}

/// The same of a text of the filters `exact`, `prefix` and `suffix`, for an attribute.
pub(crate) fn odd_in_filter(attribute: &str, text: &str, compared: Compared) -> Option<Problem> {
    let problem = odd(text, compared)?;
    let inner = text.trim_matches('*');
    let (begins, ends) = (text.starts_with('*'), text.ends_with('*'));
    let is_plain = !inner.is_empty() && !inner.contains('*') && begins != ends;
    let written = match compared {
        Compared::Whole if inner.is_empty() => format!("{{ sql: \"EXISTS {attribute}\" }}"),
        Compared::End if is_plain && begins => {
            format!("{{ suffix: {{ {attribute}: {} }} }}", scalar(inner))
        }
        Compared::Beginning if is_plain && ends => {
            format!("{{ prefix: {{ {attribute}: {} }} }}", scalar(inner))
        }
        Compared::Whole if is_plain => format!(
            "{{ {}: {{ {attribute}: {} }} }}",
            if begins { "suffix" } else { "prefix" },
            scalar(inner)
        ),
        _ => {
            let like = text.replace('*', "%").replace('\'', "\\'");
            let like = match compared {
                Compared::Beginning => format!("{}%", like.trim_end_matches('%')),
                Compared::End => format!("%{}", like.trim_start_matches('%')),
                _ => like,
            };
            format!("{{ sql: \"{attribute} LIKE '{like}'\" }}")
        }
    };
    Some(problem.help(format!("write {written}")))
}

/// The same of a text in a condition or in SQL, where `how` says what does it there.
pub(crate) fn odd_in_text(text: &str, how: &str) -> Option<Problem> {
    odd(text, Compared::Whole).map(|problem| problem.help(how))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_by_a_star_is_written_out() {
        use Compared::*;
        for (text, compared, expect) in [
            ("*.png", Whole, Some("write { wildcard: \"*.png\" }")),
            (
                "orders/*/paid",
                Whole,
                Some("write { wildcard: \"orders/*/paid\" }"),
            ),
            ("*", Whole, Some("write { exists: true } for any value")),
            (
                "^a.*",
                Whole,
                Some("take a `where` for a regular expression: where: search($.subject, \"^a.*\")"),
            ),
            (
                "*.tmp",
                AnythingBut,
                Some("write { anything-but: { wildcard: \"*.tmp\" } }"),
            ),
            (
                "*.PNG",
                WholeIgnoringCase,
                Some("write { suffix: { equals-ignore-case: .PNG } }"),
            ),
            (
                "a*",
                WholeIgnoringCase,
                Some("write { prefix: { equals-ignore-case: a } }"),
            ),
            ("orders/*", Beginning, Some("write { prefix: orders/ }")),
            ("a*b", Beginning, Some("write { wildcard: \"a*b*\" }")),
            ("*.png", End, Some("write { suffix: .png }")),
            ("*x*", Part, Some("write { contains: x }")),
            ("a*b", Part, Some("write { wildcard: \"*a*b*\" }")),
            ("order.paid", Whole, None),
            ("", Whole, None),
        ] {
            let help = odd(text, compared).map(|problem| {
                assert!(problem.warning);
                problem.help.unwrap()
            });
            assert_eq!(help.as_deref(), expect, "{text:?} {compared:?}");
        }
        for (text, compared, expect) in [
            ("order.*", Whole, "write { prefix: { type: order. } }"),
            ("*.paid", Whole, "write { suffix: { type: .paid } }"),
            ("a*b", Whole, "write { sql: \"type LIKE 'a%b'\" }"),
            ("*", Whole, "write { sql: \"EXISTS type\" }"),
            ("order.*", Beginning, "write { prefix: { type: order. } }"),
            ("*.paid", End, "write { suffix: { type: .paid } }"),
        ] {
            let help = odd_in_filter("type", text, compared).unwrap().help;
            assert_eq!(help.as_deref(), Some(expect), "{text:?} {compared:?}");
        }
    }
}
