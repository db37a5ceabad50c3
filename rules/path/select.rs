//! What selectors take of one value: RFC 9535, section 2.3.

use serde_json::Value;

pub(super) fn children(value: &Value) -> impl Iterator<Item = &Value> {
    let items = value.as_array().into_iter().flatten();
    items.chain(
        value
            .as_object()
            .into_iter()
            .flat_map(serde_json::Map::values),
    )
}

pub(super) fn element(value: &Value, index: i64) -> Option<&Value> {
    let items = value.as_array()?;
    items.get(normal(index, items.len()).and_then(|index| usize::try_from(index).ok())?)
}

/// An index from the beginning; one below 0 is before it.
fn normal(index: i64, length: usize) -> Option<i64> {
    Some(if index < 0 {
        index.checked_add(i64::try_from(length).ok()?)?
    } else {
        index
    })
}

/// Section 2.3.4.2.2.
pub(super) fn slice<'d>(
    value: &'d Value,
    start: Option<i64>,
    end: Option<i64>,
    step: i64,
    found: &mut Vec<&'d Value>,
) {
    let Some((items, length)) = value
        .as_array()
        .and_then(|items| Some((items, i64::try_from(items.len()).ok()?)))
    else {
        return;
    };
    let bound = |index: i64| normal(index, items.len()).unwrap_or(-1);
    let mut push = |at: i64| found.extend(usize::try_from(at).ok().and_then(|at| items.get(at)));
    if step > 0 {
        let (lower, upper) = (
            start.map_or(0, |start| bound(start).clamp(0, length)),
            end.map_or(length, |end| bound(end).clamp(0, length)),
        );
        let mut at = lower;
        while at < upper {
            push(at);
            at = at.saturating_add(step);
        }
    } else if step < 0 {
        let (upper, lower) = (
            start.map_or(length - 1, |start| bound(start).clamp(-1, length - 1)),
            end.map_or(-1, |end| bound(end).clamp(-1, length - 1)),
        );
        let mut at = upper;
        while at > lower {
            push(at);
            at = at.saturating_add(step);
        }
    }
}
