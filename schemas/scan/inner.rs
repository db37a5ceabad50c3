//! What lies in one object or array of a JSON text, found by reading it.

use super::{JsonString, Scanner};

/// The members of an object: each key, and the text of its value. It ends where the text is no
/// object, or no JSON from there on.
pub fn members(text: &str) -> impl Iterator<Item = (JsonString<'_>, &str)> {
    let mut inner = Inner::new(text, b'{', b'}');
    std::iter::from_fn(move || {
        inner.next(|scanner| {
            let key = scanner.key().ok()?;
            Some((key, scanner.value().ok()?))
        })
    })
}

/// The texts of an array's elements. It ends where the text is no array, or no JSON from there on.
pub fn elements(text: &str) -> impl Iterator<Item = &str> {
    let mut inner = Inner::new(text, b'[', b']');
    std::iter::from_fn(move || inner.next(|scanner| scanner.value().ok()))
}

/// A place between two of what an object or array holds; none behind the last one.
struct Inner<'t> {
    scanner: Option<Scanner<'t>>,
    is_first: bool,
    close: u8,
}

impl<'t> Inner<'t> {
    fn new(text: &'t str, open: u8, close: u8) -> Self {
        let mut scanner = Scanner::new(text);
        Self {
            scanner: scanner.eat(open).then_some(scanner),
            is_first: true,
            close,
        }
    }

    fn next<T>(&mut self, read: impl FnOnce(&mut Scanner<'t>) -> Option<T>) -> Option<T> {
        let mut scanner = self.scanner.take()?;
        let is_first = std::mem::replace(&mut self.is_first, false);
        if scanner.eat(self.close) || !is_first && !scanner.eat(b',') {
            return None;
        }
        let found = read(&mut scanner)?;
        self.scanner = Some(scanner);
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_inside_is_found_up_to_the_first_mistake() {
        let members = |text| {
            let found = super::members(text).map(|(key, value)| format!("{}={value}", key.inner));
            found.collect::<Vec<_>>().join(" ")
        };
        let elements = |text| super::elements(text).collect::<Vec<_>>().join(" ");
        for (text, expect) in [
            (
                r#" { "a" : 1 , "b\"" : [ {} ] ,"a":"}" } "#,
                r#"a=1 b\"=[ {} ] a="}""#,
            ),
            ("{}", ""),
            ("[1]", ""),
            ("", ""),
            (r#"{"a":1,"b"}"#, "a=1"),
            (r#"{"a":1 "b":2}"#, "a=1"),
            (r#"{,"a":1}"#, ""),
        ] {
            assert_eq!(members(text), expect, "{text}");
        }
        for (text, expect) in [
            (
                r#" [ 1 , "]" ,[ 2 ],{"a":[]}, null ] "#,
                r#"1 "]" [ 2 ] {"a":[]} null"#,
            ),
            ("[]", ""),
            ("{}", ""),
            ("[1,2", "1 2"),
            ("[1 2]", "1"),
            ("[1,x,2]", "1"),
        ] {
            assert_eq!(elements(text), expect, "{text}");
        }
    }
}
