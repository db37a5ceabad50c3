//! Makes a tree of the JSON that serde_json refuses although its grammar is right: numbers beyond
//! 64-bit floats, halves of surrogate pairs, and the last of
//! [`JSON_DEPTH_MAX`](super::JSON_DEPTH_MAX) levels. An event that came in must not be
//! invisible to conditions because of one such value.

use serde_json::{Map, Value};

use super::{JsonString, Scanner, validate};

/// The tree of a text; none where it is no JSON.
pub(crate) fn parse(bytes: &[u8]) -> Option<Value> {
    serde_json::from_slice(bytes)
        .ok()
        .or_else(|| read(std::str::from_utf8(bytes).ok()?))
}

/// The tree of a text; none where it is not JSON.
///
/// Numbers beyond the largest float become that float, and halves of surrogate pairs U+FFFD.
fn read(text: &str) -> Option<Value> {
    // This bounds the recursion below.
    validate(text).ok()?;
    value(&mut Scanner::new(text))
}

fn value(scanner: &mut Scanner<'_>) -> Option<Value> {
    Some(match scanner.peek()? {
        b'{' => {
            scanner.eat(b'{');
            let mut members = Map::new();
            while !scanner.eat(b'}') {
                let key = string(scanner.key().ok()?)?;
                members.insert(key, value(scanner)?);
                scanner.eat(b',');
            }
            Value::Object(members)
        }
        b'[' => {
            scanner.eat(b'[');
            let mut items = Vec::new();
            while !scanner.eat(b']') {
                items.push(value(scanner)?);
                scanner.eat(b',');
            }
            Value::Array(items)
        }
        b'"' => Value::String(string(scanner.string().ok()?)?),
        b'-' | b'0'..=b'9' => {
            let number = scanner.number().ok()?;
            let saturated = if number.starts_with('-') {
                f64::MIN
            } else {
                f64::MAX
            };
            serde_json::from_str(number).unwrap_or_else(|_| saturated.into())
        }
        _ => serde_json::from_str(scanner.value().ok()?).ok()?,
    })
}

fn string(string: JsonString<'_>) -> Option<String> {
    if !string.escaped {
        return Some(string.inner.to_owned());
    }
    serde_json::from_str(string.quoted)
        .or_else(|_| serde_json::from_str(&without_halves(string.quoted)))
        .ok()
}

/// The string with U+FFFD for every escaped half of a surrogate pair that has no other half.
fn without_halves(quoted: &str) -> String {
    let mut out = String::with_capacity(quoted.len());
    let mut rest = quoted;
    let unit = |text: &str| {
        text.strip_prefix("\\u")
            .and_then(|text| u16::from_str_radix(text.get(..4)?, 16).ok())
    };
    while let Some((plain, escape)) = rest.find('\\').and_then(|at| rest.split_at_checked(at)) {
        out.push_str(plain);
        let length = match unit(escape) {
            Some(0xD800..0xDC00)
                if matches!(escape.get(6..).and_then(unit), Some(0xDC00..0xE000)) =>
            {
                12
            }
            Some(0xD800..0xE000) => {
                out.push_str("\\ufffd");
                rest = escape.get(6..).unwrap_or_default();
                continue;
            }
            Some(_) => 6,
            None => 2,
        };
        let (whole, behind) = escape.split_at_checked(length).unwrap_or((escape, ""));
        out.push_str(whole);
        rest = behind;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_serde_json_reads_is_read_alike() {
        for text in [
            r#" {"a":[1,-2.5,true,null,{}],"b\n":"\u00e9\ud83d\ude00","a":[]} "#,
            "[]",
            "0",
            "\"\"",
            "12345678901234567890123",
        ] {
            assert_eq!(read(text), serde_json::from_str(text).ok(), "{text}");
        }
        for text in ["", "{", "[1,]", "nul"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn what_serde_json_refuses_comes_as_near_as_it_can() {
        assert_eq!(
            read("[1e999,-1e999,1]"),
            Some(json!([f64::MAX, f64::MIN, 1]))
        );
        for (text, expect) in [
            (r#""\ud800""#, "\u{fffd}"),
            (r#""a\udc00\\ud800\"""#, "a\u{fffd}\\ud800\""),
            (r#""\ud800\ud83d\ude00\ud83d\u0041""#, "\u{fffd}😀\u{fffd}A"),
            (r#""\ud800\n\uDfFf""#, "\u{fffd}\n\u{fffd}"),
        ] {
            assert_eq!(read(text), Some(json!(expect)), "{text}");
        }
        let deep = format!("{}{}", "[".repeat(128), "]".repeat(128));
        assert_eq!(read(&deep).map(|value| value.to_string()), Some(deep));
    }
}
