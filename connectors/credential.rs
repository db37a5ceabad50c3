//! A credential that was written down together with the scheme that is sent before it.

use std::fmt;

use pointsman_schemas::{Problem, Text};

/// The scheme of a key or token in `Authorization` (RFC 6750, section 2.1).
pub const BEARER: &str = "Bearer ";

/// Whether a credential begins with the scheme that is sent before it, in either case (RFC 9110,
/// section 11.1). Any white space stands for the space at the scheme's end.
#[must_use]
pub fn repeats(scheme: &str, credential: &str) -> bool {
    let word = scheme.trim_end();
    let Some((start, rest)) = credential.trim_start().split_at_checked(word.len()) else {
        return false;
    };
    let is_whole = word.len() == scheme.len() || rest.starts_with(char::is_whitespace);
    !word.is_empty() && start.eq_ignore_ascii_case(word) && is_whole
}

/// What is wrong with a credential that [`repeats`] its scheme. `of` says which credential it is;
/// its value is not shown.
#[must_use]
pub fn repeated(of: impl fmt::Display, scheme: &str) -> String {
    let word = scheme.trim_end();
    let scheme = match word.chars().all(char::is_alphanumeric) {
        true => format!("the word {word}"),
        false => format!("{word:?}"),
    };
    format!("{of} begins with {scheme}, which would be sent twice")
}

/// Refuses the value of a setting that [`repeats`] its scheme. `mended` is the setting as it may be
/// written.
///
/// # Errors
/// It does; what is told names the variable or file that the value comes from, and not the value.
pub(crate) fn check(text: &Text, value: &str, scheme: &str, mended: &str) -> Result<(), Problem> {
    if !repeats(scheme, value) {
        return Ok(());
    }
    let (problem, help) = match text {
        Text::Literal(_) => (repeated("this", scheme), format!("alone, such as {mended}")),
        _ => (repeated(place(text), scheme), "alone into it".to_owned()),
    };
    Err(Problem::new(problem).help(format!("write what follows it {help}")))
}

/// Where the value of a setting stands.
#[must_use]
pub fn place(text: &Text) -> String {
    match text {
        Text::Literal(_) => "the text in the rule file".to_owned(),
        Text::Env(name) => format!("the environment variable {name}"),
        Text::File(path) => format!("the file {}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_is_found_before_a_credential() {
        for (scheme, credential, expect) in [
            ("Bearer ", "Bearer hunter2", true),
            ("Bearer ", " bEARER\thunter2", true),
            ("Bearer ", "Bearer  ", true),
            ("Bearer ", "Bearer", false),
            ("Bearer ", "Bearerhunter2", false),
            ("Bearer ", "hunter2 Bearer x", false),
            ("Bearer ", "", false),
            ("Bearer ", "Beareé hunter2", false),
            ("v1=", "v1=hunter2", true),
            ("v1=", "V1=hunter2", true),
            ("v1=", "v1 =hunter2", false),
            ("Token token=", "token TOKEN=hunter2", true),
            ("", "hunter2", false),
            (" ", " hunter2", false),
        ] {
            assert_eq!(
                repeats(scheme, credential),
                expect,
                "{scheme:?} {credential:?}"
            );
        }
    }

    #[test]
    fn where_it_stands_is_said_and_not_what_it_is() {
        let told = |text: Text, scheme| {
            let value = format!("{scheme}hunter2");
            let problem = check(&text, &value, scheme, "auth: { env: KEY }").unwrap_err();
            assert!(!problem.to_string().contains("hunter2"), "{problem}");
            problem.to_string()
        };
        assert_eq!(check(&"hunter2".into(), "hunter2", BEARER, ""), Ok(()));
        assert_eq!(
            told("Bearer hunter2".into(), BEARER),
            "this begins with the word Bearer, which would be sent twice (write what follows it \
             alone, such as auth: { env: KEY })"
        );
        assert_eq!(
            told(Text::Env("KEY".into()), BEARER),
            "the environment variable KEY begins with the word Bearer, which would be sent twice \
             (write what follows it alone into it)"
        );
        assert_eq!(
            told(Text::File("/run/key".into()), "v1="),
            "the file /run/key begins with \"v1=\", which would be sent twice (write what follows \
             it alone into it)"
        );
    }
}
