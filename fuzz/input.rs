//! What the targets share: inputs cut into parts, and what is made of them.

use bytes::Bytes;
use pointsman_rules::{Condition, Filter, Filters, OriginSet, Pattern, Rule};
use pointsman_schemas::{Data, DataKind, Event, Problem, json};
use serde_json::Value;

/// What is compiled, on the input's first line, and what it is held against, below it.
pub fn parts(input: &[u8]) -> Option<(&str, &[u8])> {
    let end = input.iter().position(|byte| *byte == b'\n')?;
    Some((std::str::from_utf8(&input[..end]).ok()?, &input[end + 1..]))
}

/// A text as the CloudEvent that it is, else as the data of one, of the first kind that it fits.
pub fn event(text: &[u8]) -> Event {
    let bytes = Bytes::copy_from_slice(text);
    let kind = if std::str::from_utf8(text).is_ok() {
        DataKind::Text
    } else {
        DataKind::Binary
    };
    let data =
        || Data::json(bytes.clone()).unwrap_or_else(|_| Data::new_unchecked(kind, bytes.clone()));
    let made = || {
        Event::builder("1", "/s", "a")
            .subject("b.c")
            .attribute("n", 5_i32.into())
            .data(data())
            .build()
            .expect("it is valid")
    };
    json::decode(&bytes).unwrap_or_else(|_| made())
}

/// A rule of `match`, `where` and `filters` as a rule file holds them; none where one of them is
/// wrong.
pub fn rule(raw: &Value) -> Option<Rule> {
    let compile_filters =
        |raw: &Value| Filters::compile(&serde_json::from_value::<Vec<_>>(raw.clone()).ok()?).ok();
    Some(Rule {
        from: OriginSet::all_but(&[]),
        filter: Filter {
            pattern: raw
                .get("match")
                .map(|raw| Pattern::compile(raw).ok())
                .map_or(Some(None), |compiled| compiled.map(Some))?,
            condition: raw
                .get("where")
                .map(|raw| Condition::parse(raw.as_str()?).ok())
                .map_or(Some(None), |compiled| compiled.map(Some))?,
            filters: raw
                .get("filters")
                .map(compile_filters)
                .map_or(Some(None), |compiled| compiled.map(Some))?,
        },
    })
}

/// Problems in a text must lie within it: whoever shows them underlines the place.
pub fn check_places<'p>(text: &str, problems: impl IntoIterator<Item = &'p Problem>) {
    for problem in problems {
        if let Some(within) = &problem.within {
            assert!(text.get(within.clone()).is_some(), "{problem:?}");
        }
    }
}
