//! JSON numbers compared by value.

use std::cmp::Ordering;

/// A number as far as it can be told apart: whole numbers to 127 bits exactly, all others as the nearest double.
///
/// A double that is a whole number is held as one, so that `300`, `300.0` and `3.0e2` are the same.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    Whole(i128),
    Double(f64),
}

/// Past this every double is whole and most whole numbers are not doubles.
const EXACT_DOUBLE: f64 = 9_007_199_254_740_992.0;

impl Number {
    /// Reads a JSON number; none where the text is no number.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let (digits, negative) = match text.strip_prefix(b"-") {
            Some(digits) => (digits, true),
            None => (text, false),
        };
        // 38 digits always fit into an i128.
        if (1..=38).contains(&digits.len())
            && let Some(sum) = digits.iter().try_fold(0_i128, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i128::from(byte - b'0')))
        {
            return Some(Self::Whole(if negative { -sum } else { sum }));
        }
        if !digits.first()?.is_ascii_digit() {
            return None;
        }
        std::str::from_utf8(text).ok()?.parse::<f64>().ok().map(Self::from)
    }

    fn as_f64(self) -> f64 {
        match self {
            Self::Whole(whole) => whole as f64,
            Self::Double(double) => double,
        }
    }
}

impl From<f64> for Number {
    fn from(double: f64) -> Self {
        if double.fract() == 0.0 && double.abs() <= EXACT_DOUBLE { Self::Whole(double as i128) } else { Self::Double(double) }
    }
}

impl From<&serde_json::Number> for Number {
    fn from(number: &serde_json::Number) -> Self {
        match number.as_i128() {
            Some(whole) => Self::Whole(whole),
            None => Self::from(number.as_f64().unwrap_or(f64::NAN)),
        }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.partial_cmp(other) == Some(Ordering::Equal)
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Whole(left), Self::Whole(right)) => Some(left.cmp(right)),
            _ => self.as_f64().partial_cmp(&other.as_f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_equal_by_value() {
        let read = |text: &str| Number::parse(text.as_bytes());
        for (left, right) in [("300", "3.0e2"), ("300", "300.00"), ("-0", "0"), ("0.1", "1e-1"), ("1e400", "1e999")] {
            assert_eq!(read(left).unwrap(), read(right).unwrap(), "{left} {right}");
        }
        for (less, more) in [
            ("9007199254740992", "9007199254740993"),
            ("12345678901234567890122", "12345678901234567890123"),
            ("-1", "0.5"),
            ("1e3", "1000.5"),
        ] {
            assert!(read(less).unwrap() < read(more).unwrap(), "{less} {more}");
        }
        for bad in ["", "-", "nan", "inf", "infinity", "x", "1x", "+1", ".5"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(Number::from(&serde_json::Number::from(u64::MAX)), read("18446744073709551615").unwrap());
    }
}
