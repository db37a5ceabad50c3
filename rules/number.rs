//! JSON numbers compared by value.

use std::cmp::Ordering;

/// A number as far as it can be told apart: whole numbers of 38 digits exactly, all others as the nearest double.
///
/// Whatever is a whole number is held as one, so that `300`, `300.0` and `3.0e2` are the same, and so are `1e23` and its 24 digits.
/// What is left as a double has a fraction, and so lies below 2⁵³, or lies past all that is held exactly: the order is total, and what
/// is equal to the same number is equal.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    Whole(i128),
    Double(f64),
}

/// So many digits always fit into an `i128`.
const DIGITS_MAX: i64 = 38;

/// Past this no number is held exactly.
const WHOLE_MAX: f64 = 1e38;

impl Number {
    /// Reads a JSON number; none where the text is no number.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let (digits, negative) = match text.strip_prefix(b"-") {
            Some(digits) => (digits, true),
            None => (text, false),
        };
        if !digits.first()?.is_ascii_digit() {
            return None;
        }
        match whole(digits) {
            Some(whole) => Some(Self::Whole(if negative { -whole } else { whole })),
            None => std::str::from_utf8(text).ok()?.parse::<f64>().ok().map(Self::from),
        }
    }
}

/// Reads digits, a fraction and an exponent; none where they are no whole number of at most [`DIGITS_MAX`] digits.
fn whole(text: &[u8]) -> Option<i128> {
    // Most numbers are short and plain.
    if text.len() <= 18
        && let Some(sum) = text.iter().try_fold(0_i64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
    {
        return Some(sum.into());
    }
    let (mut mantissa, mut length, mut exponent) = (0_i128, 0, 0_i64);
    let (mut in_fraction, mut at) = (false, 0);
    while let Some(byte) = text.get(at) {
        match byte {
            b'0'..=b'9' => {
                mantissa = mantissa * 10 + i128::from(byte - b'0');
                length += i64::from(mantissa != 0);
                exponent -= i64::from(in_fraction);
                if length > DIGITS_MAX {
                    return None;
                }
            }
            b'.' if !in_fraction => in_fraction = true,
            b'e' | b'E' => {
                let written = std::str::from_utf8(text.get(at + 1..)?).ok()?;
                exponent = exponent.checked_add(written.parse::<i32>().ok()?.into())?;
                break;
            }
            _ => return None,
        }
        at += 1;
    }
    if mantissa == 0 {
        return Some(0);
    }
    while exponent < 0 && mantissa % 10 == 0 {
        (mantissa, exponent, length) = (mantissa / 10, exponent + 1, length - 1);
    }
    if exponent == 0 {
        return Some(mantissa);
    }
    let power = u32::try_from(exponent).ok().filter(|_| length + exponent <= DIGITS_MAX)?;
    mantissa.checked_mul(10_i128.pow(power))
}

impl From<f64> for Number {
    fn from(double: f64) -> Self {
        if double.fract() == 0.0 && double.abs() < WHOLE_MAX { Self::Whole(double as i128) } else { Self::Double(double) }
    }
}

impl From<&serde_json::Number> for Number {
    fn from(number: &serde_json::Number) -> Self {
        match number.as_i128() {
            Some(whole) => Self::Whole(whole),
            // The shortest text of a double is what was meant by it.
            None => Self::parse(number.to_string().as_bytes()).unwrap_or(Self::Double(f64::NAN)),
        }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Number {}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        let past =
            |double: f64, whole: i128| if double.abs() < WHOLE_MAX { double.total_cmp(&(whole as f64)) } else { double.total_cmp(&0.0) };
        match (*self, *other) {
            (Self::Whole(left), Self::Whole(right)) => left.cmp(&right),
            (Self::Double(left), Self::Double(right)) => left.total_cmp(&right),
            (Self::Double(left), Self::Whole(right)) => past(left, right),
            (Self::Whole(left), Self::Double(right)) => past(right, left).reverse(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_equal_by_value() {
        let read = |text: &str| Number::parse(text.as_bytes());
        for (left, right) in [
            ("300", "3.0e2"),
            ("300", "300.00"),
            ("-0", "0"),
            ("-0.0e5", "0"),
            ("0.1", "1e-1"),
            ("0.10", "0.1"),
            ("1e400", "1e999"),
            ("1e23", "100000000000000000000000"),
            ("1.5e1", "15"),
            ("9007199254740993", "9007199254740993.0"),
            ("12300e-2", "123"),
        ] {
            assert_eq!(read(left).unwrap(), read(right).unwrap(), "{left} {right}");
        }
        for (less, more) in [
            ("9007199254740992", "9007199254740993"),
            ("12345678901234567890122", "12345678901234567890123"),
            ("-1", "0.5"),
            ("1e3", "1000.5"),
            ("9007199254740995", "9007199254740996.0"),
            ("99999999999999999999999999999999999999", "1e38"),
            ("-1e38", "-99999999999999999999999999999999999999"),
            ("0.5", "99999999999999999999999999999999999999"),
        ] {
            assert!(read(less).unwrap() < read(more).unwrap(), "{less} {more}");
        }
        for bad in ["", "-", "nan", "inf", "infinity", "x", "1x", "+1", ".5", "1e", "1.5x", "1..5"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(Number::from(&serde_json::Number::from(u64::MAX)), read("18446744073709551615").unwrap());
    }
}
