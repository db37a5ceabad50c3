//! What a bare word is.

use super::{OddNumber, Style, Value};

/// Reads a bare scalar: YAML 1.2's core schema with strict booleans, and JSON's numbers.
pub(super) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" => return Value::Boolean(true),
        "false" => return Value::Boolean(false),
        _ => {}
    }
    if !looks_like_a_number(text) {
        return Value::Text(text.to_owned(), Style::Plain);
    }
    match text.parse::<serde_json::Number>() {
        // A whole number that only a float could hold would lose digits.
        Ok(number) if number.is_f64() && !text.contains(['.', 'e', 'E']) => {
            Value::Odd(OddNumber::Range)
        }
        Ok(number) => Value::Number(number),
        // JSON's spelling, and yet refused: past what a float reaches.
        Err(_) if is_json_number(text) => Value::Odd(OddNumber::Range),
        Err(_) => Value::Odd(OddNumber::Spelling),
    }
}

/// True for what JSON, YAML 1.1, YAML 1.2 or C would read as a number.
fn looks_like_a_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    for (prefixes, radix) in [(["0x", "0X"], 16), (["0o", "0O"], 8), (["0b", "0B"], 2)] {
        if let Some(digits) = prefixes
            .iter()
            .find_map(|prefix| unsigned.strip_prefix(prefix))
        {
            return !digits.is_empty()
                && digits
                    .chars()
                    .all(|digit| digit == '_' || digit.is_digit(radix));
        }
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |part: &str| {
        part.bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'_')
    };
    let begins = unsigned.starts_with(|first: char| first.is_ascii_digit())
        || fraction.starts_with(|first: char| first.is_ascii_digit());
    let exponent = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !exponent.is_empty() && exponent.bytes().all(|byte| byte.is_ascii_digit())
    });
    begins && digits(whole) && digits(fraction) && exponent
}

/// RFC 8259, section 6.
fn is_json_number(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, _) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, ""));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    digits(whole) && digits(fraction) && (whole == "0" || !whole.starts_with('0'))
}
