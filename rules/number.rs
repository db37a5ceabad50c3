//! JSON numbers compared by value.

use std::cmp::Ordering;

/// A number as far as it can be told apart: whole numbers of 38 digits exactly, all others as the
/// nearest double.
///
/// Whatever an event holds as a whole number is held as one, so that `300`, `300.0` and `3.0e2` are
/// the same, and so are `1e23` and its 24 digits. What is left as a double has a fraction, and so
/// lies below 2⁵³, or lies past all that is held exactly.
///
/// A number of a rule comes here as a double where it was not written as a whole number of 64 bits.
/// Past 2⁵³ such a double stands for all numbers that round to it: [`Number::literal`] leaves it a
/// double, and what an event spells with a point or an exponent, or with more than 64 bits, is
/// rounded before the two are compared. So a number always equals itself, however many digits it
/// was written with. Among the numbers of events, and among those of rules, the order is total;
/// across the two, different exact numbers may equal the same double.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    Whole(i128),
    /// A whole number that a rule cannot hold exactly if it spells it the same.
    Spelt(i128),
    Double(f64),
}

/// Below this every whole double is that number and no other one: 2⁵³.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

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
        if let Some(double) = fraction(digits) {
            let double = if negative { -double } else { double };
            // Past 2⁵³ the nearest double is a whole number.
            return Some(if double.abs() < EXACT_MAX {
                Self::Double(double)
            } else {
                Self::from(double)
            });
        }
        match whole(digits) {
            Some((whole, is_plain)) => {
                let whole = if negative { -whole } else { whole };
                let is_held = is_plain && whole >= i64::MIN.into();
                Some(if is_held {
                    Self::Whole(whole)
                } else {
                    Self::Spelt(whole)
                })
            }
            None => std::str::from_utf8(text)
                .ok()?
                .parse::<f64>()
                .ok()
                .map(Self::from),
        }
    }

    /// A number of a rule, of which the digits that it was written with are gone.
    pub(crate) fn literal(double: f64) -> Self {
        if double.abs() < EXACT_MAX {
            Self::from(double)
        } else {
            Self::Double(double)
        }
    }

    /// Exact numbers between which all lie that equal this one.
    pub(crate) fn bounds(self) -> (Self, Self) {
        match self {
            Self::Double(double) if double.abs() >= EXACT_MAX => {
                (Self::from(double.next_down()), Self::from(double.next_up()))
            }
            exact => (exact, exact),
        }
    }
}

/// Reads digits with a fraction that ends with another digit than 0, of at most nineteen digits in
/// all and without an exponent; none of all others. These are most numbers that are no whole ones.
fn fraction(text: &[u8]) -> Option<f64> {
    const DIGITS_MAX: usize = 19;
    /// Powers of ten that a double holds exactly.
    const POWERS: [f64; 20] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
        1e17, 1e18, 1e19,
    ];
    let point = text.iter().position(|byte| !byte.is_ascii_digit())?;
    let (whole, behind) = text.split_at(point);
    let digits = behind
        .strip_prefix(b".")
        .filter(|digits| matches!(digits.last(), Some(b'1'..=b'9')))?;
    if whole.len() + digits.len() > DIGITS_MAX {
        return None;
    }
    let all = whole.iter().chain(digits);
    let mantissa = all.copied().try_fold(0_u64, |sum, byte| {
        byte.is_ascii_digit()
            .then(|| sum * 10 + u64::from(byte - b'0'))
    })?;
    // Where both are exact, their quotient is rounded once, and so correctly.
    match POWERS.get(digits.len()) {
        Some(power) if mantissa < EXACT_MAX as u64 => Some(mantissa as f64 / power),
        _ => std::str::from_utf8(text).ok()?.parse().ok(),
    }
}

/// Reads digits, a fraction and an exponent, with whether they are digits alone of at most 64 bits;
/// none where they are no whole number of at most [`DIGITS_MAX`] digits.
fn whole(text: &[u8]) -> Option<(i128, bool)> {
    // Most numbers are short and plain.
    if text.len() <= 18
        && let Some(sum) = text.iter().try_fold(0_i64, |sum, byte| {
            byte.is_ascii_digit()
                .then(|| sum * 10 + i64::from(byte - b'0'))
        })
    {
        return Some((sum.into(), true));
    }
    let (mut mantissa, mut length, mut exponent) = (0_i128, 0, 0_i64);
    let (mut in_fraction, mut zeros, mut at) = (false, 0, 0);
    while let Some(byte) = text.get(at) {
        match byte {
            // Zeros at the end of a fraction say nothing, however many there are.
            b'0' if in_fraction => zeros += 1,
            b'0'..=b'9' => {
                let digits = std::mem::take(&mut zeros) + 1;
                exponent -= if in_fraction { digits } else { 0 };
                length += if mantissa == 0 {
                    i64::from(*byte != b'0')
                } else {
                    digits
                };
                if length > DIGITS_MAX {
                    return None;
                }
                let shifted = if mantissa == 0 {
                    0
                } else {
                    mantissa * 10_i128.pow(u32::try_from(digits).ok()?)
                };
                mantissa = shifted + i128::from(byte - b'0');
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
        return Some((0, true));
    }
    let is_plain = mantissa <= u64::MAX.into() && text.iter().all(u8::is_ascii_digit);
    while exponent < 0 && mantissa % 10 == 0 {
        (mantissa, exponent, length) = (mantissa / 10, exponent + 1, length - 1);
    }
    if exponent == 0 {
        return Some((mantissa, is_plain));
    }
    let power = u32::try_from(exponent)
        .ok()
        .filter(|_| length + exponent <= DIGITS_MAX)?;
    Some((mantissa.checked_mul(10_i128.pow(power))?, is_plain))
}

impl From<f64> for Number {
    fn from(double: f64) -> Self {
        if double.fract() == 0.0 && double.abs() < WHOLE_MAX {
            Self::Whole(double as i128)
        } else {
            Self::Double(double)
        }
    }
}

impl From<&serde_json::Number> for Number {
    fn from(number: &serde_json::Number) -> Self {
        match number.as_i128() {
            Some(whole) => Self::Whole(whole),
            None => Self::literal(number.as_f64().unwrap_or(f64::NAN)),
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
        match (*self, *other) {
            (Self::Whole(left) | Self::Spelt(left), Self::Whole(right) | Self::Spelt(right)) => {
                left.cmp(&right)
            }
            (Self::Double(left), Self::Double(right)) => left.total_cmp(&right),
            (Self::Double(left), Self::Spelt(right)) => left.total_cmp(&(right as f64)),
            (Self::Spelt(left), Self::Double(right)) => (left as f64).total_cmp(&right),
            (Self::Double(left), Self::Whole(right)) => exactly(left, right),
            (Self::Whole(left), Self::Double(right)) => exactly(right, left).reverse(),
        }
    }
}

fn exactly(double: f64, whole: i128) -> Ordering {
    if (EXACT_MAX..WHOLE_MAX).contains(&double.abs()) {
        (double as i128).cmp(&whole)
    } else {
        double.total_cmp(&(whole as f64))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
            (
                "17014120000000000000000.0000000000000000000",
                "17014120000000000000000",
            ),
            (
                "0.000000000000000000000000000000000000000000000000000000001e57",
                "1",
            ),
        ] {
            assert_eq!(read(left).unwrap(), read(right).unwrap(), "{left} {right}");
        }
        for (less, more) in [
            ("9007199254740992", "9007199254740993"),
            ("12345678901234567890122", "12345678901234567890123"),
            ("-1", "0.5"),
            ("1e3", "1000.5"),
            ("9007199254740995", "9007199254740996.0"),
            ("0.5", "99999999999999999999999999999999999999"),
        ] {
            assert!(read(less).unwrap() < read(more).unwrap(), "{less} {more}");
        }
        for bad in [
            "", "-", "nan", "inf", "infinity", "x", "1x", "+1", ".5", "1e", "1.5x", "1..5",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(
            Number::from(&serde_json::Number::from(u64::MAX)),
            read("18446744073709551615").unwrap()
        );
    }
    fn rule(text: &str) -> Number {
        Number::from(&serde_json::from_str::<serde_json::Number>(text).unwrap())
    }

    /// Up to 25 digits with a point and an exponent wherever they may stand.
    fn spelling() -> impl Strategy<Value = String> {
        let whole = prop_oneof![3 => "[1-9][0-9]{0,4}", 1 => Just("0".to_owned()), 2 => "[1-9][0-9]{14,24}"];
        let fraction =
            prop_oneof![2 => Just(String::new()), 2 => r"\.[0-9]{1,4}", 3 => r"\.[0-9]{12,18}"];
        let exponent =
            prop_oneof![3 => Just(String::new()), 1 => "[eE][+-]?[0-9]{1,2}", 1 => "e-?1[0-9]{2}"];
        ("-?", whole, fraction, exponent).prop_map(|(sign, whole, fraction, exponent)| {
            format!("{sign}{whole}{fraction}{exponent}")
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn a_number_of_a_rule_equals_itself_in_an_event(text in spelling()) {
            let (rule, event) = (rule(&text), Number::parse(text.as_bytes()).unwrap());
            prop_assert_eq!(rule, event);
            prop_assert_eq!(event, event);
            let (from, to) = rule.bounds();
            prop_assert!(from <= event && event <= to);
        }

        #[test]
        fn whole_numbers_of_64_bits_are_exact(number in any::<i64>(), offset in 1..4_i64) {
            let other = number.saturating_sub(offset);
            for event in [number.to_string(), format!("{number}.0"), format!("{number}.000e0"), format!("{number}0e-1")] {
                let event = Number::parse(event.as_bytes()).unwrap();
                prop_assert_eq!(rule(&number.to_string()), event);
                prop_assert_eq!(rule(&other.to_string()) < event, other < number);
            }
        }

        #[test]
        fn numbers_are_in_order(left in spelling(), right in spelling()) {
            let read = |text: &str| Number::parse(text.as_bytes()).unwrap();
            let doubles = left.parse::<f64>().unwrap().total_cmp(&right.parse::<f64>().unwrap());
            // Rounding keeps the order, but for what it makes equal.
            for (left, right) in [(read(&left), read(&right)), (rule(&left), read(&right)), (read(&left), rule(&right))] {
                prop_assert!(doubles == left.cmp(&right) || doubles == Ordering::Equal || left == right);
                prop_assert_eq!(left.cmp(&right), right.cmp(&left).reverse());
            }
        }
    }

    #[test]
    fn the_numbers_of_rules_are_read_like_those_of_events() {
        for text in [
            "-122.42916360922355",
            "1e30",
            "-0",
            "-0.0",
            "0e0",
            "1e22",
            "1e23",
            "9007199254740993.0",
            "90071992547409931e3",
            "12345678901234567890123",
            "99999999999999999999999999999999999999",
            "1e38",
            "1.7976931348623157e308",
            "5e-324",
            "2.2250738585072011e-308",
        ] {
            assert_eq!(
                rule(text),
                Number::parse(text.as_bytes()).unwrap(),
                "{text}"
            );
        }
        for (left, right) in [
            ("1e30", "1.0000000000000002e30"),
            ("0.1", "0.10000000000000002"),
            ("9007199254740993", "9007199254740992"),
        ] {
            assert_ne!(
                rule(left),
                Number::parse(right.as_bytes()).unwrap(),
                "{left} {right}"
            );
        }
    }
}
