//! Topic names and topic filters (section 4.7 of both versions).

/// What the filter of a shared subscription begins with.
const SHARED: &str = "$share/";

/// The longest topic or filter.
const BYTES_MAX: usize = 65_535;

/// Whether a filter is of a shared subscription.
pub(super) fn is_shared(filter: &str) -> bool {
    filter.starts_with(SHARED)
}

/// What is wrong with a topic filter.
///
/// # Errors
/// The mistake.
pub(super) fn check_filter(filter: &str) -> Result<(), &'static str> {
    let filter = match filter.strip_prefix(SHARED) {
        Some(shared) => match shared.split_once('/') {
            Some((group, filter)) if !group.is_empty() && !group.contains(['#', '+']) => filter,
            _ => return Err("a shared subscription is written $share/<group>/<filter>"),
        },
        None => filter,
    };
    check_length(filter)?;
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        if level.len() > 1 && level.contains(['#', '+']) {
            return Err("a wildcard, # or +, stands alone between slashes");
        }
        if level == "#" && levels.peek().is_some() {
            return Err("the wildcard # stands at the end");
        }
    }
    Ok(())
}

/// What is wrong with a topic name.
///
/// # Errors
/// The mistake.
pub(super) fn check_topic(topic: &str) -> Result<(), &'static str> {
    check_length(topic)?;
    match topic.contains(['#', '+']) {
        true => Err("a topic that is published to holds no wildcard, # or +"),
        false => Ok(()),
    }
}

fn check_length(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("a topic is not empty");
    }
    if text.len() > BYTES_MAX {
        return Err("a topic has at most 65535 bytes");
    }
    match text.contains('\0') {
        true => Err("a topic holds no null character"),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_and_topics() {
        for (filter, is_right) in [
            ("a", true),
            ("/", true),
            ("a/+/c/#", true),
            ("#", true),
            ("+", true),
            ("$share/g/a/#", true),
            ("$share/g//", true),
            ("", false),
            ("a/b#", false),
            ("a+/b", false),
            ("#/a", false),
            ("a\0", false),
            ("$share/g", false),
            ("$share//a", false),
            ("$share/+/a", false),
            ("$share/g/", false),
        ] {
            assert_eq!(check_filter(filter).is_ok(), is_right, "{filter:?}");
        }
        for (topic, is_right) in [("a/b", true), ("a/#", false), ("+", false), ("", false)] {
            assert_eq!(check_topic(topic).is_ok(), is_right, "{topic:?}");
        }
    }
}
