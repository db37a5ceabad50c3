//! The forms of subjects, and of the names of streams, consumers and queue groups.

/// True for a subject that can be published to or, with wildcards, subscribed to.
pub(super) fn is_subject(subject: &str, wildcards: bool) -> bool {
    let last = subject.split('.').count() - 1;
    let is_token = |(index, token): (usize, &str)| match token {
        "*" => wildcards,
        ">" => wildcards && index == last,
        token => {
            !token.is_empty()
                && !token
                    .chars()
                    .any(|c| c.is_whitespace() || c.is_control() || matches!(c, '*' | '>'))
        }
    };
    subject.split('.').enumerate().all(is_token)
}

/// True for the name of a stream, a consumer or a queue group.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.chars().any(|c| {
            c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>' | '/' | '\\')
        })
}
