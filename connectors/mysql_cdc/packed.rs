//! Values that a binary log has packed, as the texts that the server writes of them.

use super::take::{big, little};

/// How many bytes so many decimal digits are packed into, up to nine.
const DIGIT_BYTES: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

/// How many digits four bytes have.
const DIGITS: usize = 9;

/// How many bytes some digits are packed into.
fn bytes_of(digits: usize) -> usize {
    let rest = DIGIT_BYTES.get(digits % DIGITS).copied();
    digits / DIGITS * 4 + rest.unwrap_or_default()
}

/// How many bytes a decimal number has.
pub(super) fn decimal_bytes(precision: u8, scale: u8) -> usize {
    let (precision, scale) = (usize::from(precision), usize::from(scale));
    bytes_of(precision.saturating_sub(scale)) + bytes_of(scale)
}

/// A decimal number, with all the digits behind its point.
pub(super) fn decimal(bytes: &[u8], precision: u8, scale: u8) -> String {
    let (precision, scale) = (usize::from(precision), usize::from(scale));
    let whole = precision.saturating_sub(scale);
    let mut bytes = bytes.to_vec();
    let is_negative = bytes.first().is_some_and(|first| first & 0x80 == 0);
    if let Some(first) = bytes.first_mut() {
        *first ^= 0x80;
    }
    if is_negative {
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
    }
    let (front, behind) = bytes.split_at(bytes_of(whole).min(bytes.len()));
    // The digits that are left over stand first before the point, and last behind it.
    let (first, others) = front.split_at(bytes_of(whole % DIGITS).min(front.len()));
    let mut digits = String::new();
    push_digits(first, whole % DIGITS, &mut digits);
    for group in others.chunks(4) {
        push_digits(group, DIGITS, &mut digits);
    }
    let digits = digits.trim_start_matches('0');
    let mut out = String::from(if is_negative { "-" } else { "" });
    out.push_str(if digits.is_empty() { "0" } else { digits });
    if scale > 0 {
        out.push('.');
        let (groups, last) = behind.split_at((scale / DIGITS * 4).min(behind.len()));
        for group in groups.chunks(4) {
            push_digits(group, DIGITS, &mut out);
        }
        push_digits(last, scale % DIGITS, &mut out);
    }
    out
}

fn push_digits(bytes: &[u8], digits: usize, out: &mut String) {
    if digits > 0 {
        out.push_str(&format!("{:0digits$}", big(bytes)));
    }
}

/// A fraction of a second: so many digits of those that its bytes have.
fn fraction(value: u64, bytes: usize, digits: u8) -> String {
    let there = bytes * 2;
    let all = format!("{value:0there$}");
    match all.get(..usize::from(digits)) {
        Some(digits) if !digits.is_empty() => format!(".{digits}"),
        _ => String::new(),
    }
}

/// `2026-01-02`.
pub(super) fn date(bytes: &[u8]) -> String {
    let packed = little(bytes);
    let (year, month, day) = (packed >> 9, packed >> 5 & 15, packed & 31);
    format!("{year:04}-{month:02}-{day:02}")
}

/// `-12:34:56.7`, with as many digits of the fraction as the type has.
pub(super) fn time(bytes: &[u8], digits: u8) -> String {
    let fraction_bytes = bytes.len().saturating_sub(3);
    let shift = 8 * fraction_bytes as u32;
    // Half of the range is below zero; the fraction goes with the rest.
    let zero = 0x80_0000_i64 << shift;
    let value = i64::try_from(big(bytes)).unwrap_or(zero) - zero;
    let sign = if value < 0 { "-" } else { "" };
    let value = value.unsigned_abs();
    let whole = value >> shift;
    let (hours, minutes, seconds) = (whole >> 12 & 0x3ff, whole >> 6 & 63, whole & 63);
    let fraction = fraction(value & ((1 << shift) - 1), fraction_bytes, digits);
    format!("{sign}{hours:02}:{minutes:02}:{seconds:02}{fraction}")
}

/// The same as servers before 5.6 have it.
pub(super) fn old_time(bytes: &[u8]) -> String {
    const SIGN: u64 = 1 << 23;
    let value = little(bytes);
    let (sign, value) = match value & SIGN {
        0 => ("", value),
        _ => ("-", (1 << 24) - value),
    };
    let (hours, minutes, seconds) = (value / 10_000, value / 100 % 100, value % 100);
    format!("{sign}{hours:02}:{minutes:02}:{seconds:02}")
}

/// `2026-01-02 03:04:05.678`.
pub(super) fn datetime(bytes: &[u8], digits: u8) -> String {
    let (whole, rest) = bytes.split_at(5.min(bytes.len()));
    let value = big(whole) & 0x7f_ffff_ffff;
    let fraction = fraction(big(rest), rest.len(), digits);
    format!("{}{fraction}", civil(value))
}

/// A date and a time, as MySQL packs them: years and months, days, hours, minutes and seconds.
fn civil(value: u64) -> String {
    let (date, time) = (value >> 17, value & 0x1_ffff);
    let (months, day) = (date >> 5, date & 31);
    let (year, month) = (months / 13, months % 13);
    let (hour, minute, second) = (time >> 12, time >> 6 & 63, time & 63);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// The same as servers before 5.6 have it: its digits are the number's.
pub(super) fn old_datetime(bytes: &[u8]) -> String {
    let value = little(bytes);
    let (date, time) = (value / 1_000_000, value % 1_000_000);
    let (year, month, day) = (date / 10_000, date / 100 % 100, date % 100);
    let (hour, minute, second) = (time / 10_000, time / 100 % 100, time % 100);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// A moment, in UTC: `2026-01-02 03:04:05.678`. `bytes` has the seconds first, the highest byte in
/// front.
pub(super) fn timestamp(bytes: &[u8], digits: u8) -> String {
    let (seconds, rest) = bytes.split_at(4.min(bytes.len()));
    let fraction = fraction(big(rest), rest.len(), digits);
    format!("{}{fraction}", moment(big(seconds)))
}

/// A moment by its seconds; zero is none.
pub(super) fn moment(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().filter(|seconds| *seconds > 0);
    match time.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok()) {
        Some(time) => time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        None => "0000-00-00 00:00:00".to_owned(),
    }
}

/// A date and a time as a document of JSON has them, with millionths of a second.
pub(super) fn datetime_in_json(bytes: &[u8]) -> String {
    let value = little(bytes);
    format!(
        "{}.{:06}",
        civil(value >> 24 & 0xff_ffff_ffff),
        value & 0xff_ffff
    )
}

/// A time as a document of JSON has it.
pub(super) fn time_in_json(bytes: &[u8]) -> String {
    let value = little(bytes).cast_signed();
    let sign = if value < 0 { "-" } else { "" };
    let value = value.unsigned_abs();
    let whole = value >> 24;
    let (hours, minutes, seconds) = (whole >> 12 & 0x3ff, whole >> 6 & 63, whole & 63);
    format!(
        "{sign}{hours:02}:{minutes:02}:{seconds:02}.{:06}",
        value & 0xff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        hex::decode(hex).unwrap()
    }

    #[test]
    fn decimals() {
        // As in the comment of decimal2bin() in MySQL's source, and from a server.
        for (packed, precision, scale, expect) in [
            ("810dfb38d204d2", 14, 4, "1234567890.1234"),
            ("7ef204c72dfb2d", 14, 4, "-1234567890.1234"),
            ("8000", 4, 2, "0.00"),
            ("7ffe", 4, 2, "-0.01"),
            ("80000005", 9, 0, "5"),
            ("8000000000000000", 18, 9, "0.000000000"),
        ] {
            let packed = bytes(packed);
            assert_eq!(packed.len(), decimal_bytes(precision, scale), "{expect}");
            assert_eq!(decimal(&packed, precision, scale), expect);
        }
    }

    #[test]
    fn times() {
        assert_eq!(date(&bytes("22d40f")), "2026-01-02");
        assert_eq!(time(&bytes("80c8b8"), 0), "12:34:56");
        assert_eq!(time(&bytes("7f3748"), 0), "-12:34:56");
        assert_eq!(time(&bytes("7ffffff6"), 1), "-00:00:00.1");
        assert_eq!(datetime(&bytes("99b8c430c5"), 0), "2026-01-02 03:03:05");
        assert_eq!(
            timestamp(&bytes("000000011a85"), 4),
            "1970-01-01 00:00:01.6789"
        );
        assert_eq!(timestamp(&bytes("00000000"), 0), "0000-00-00 00:00:00");
        assert_eq!(old_time(&bytes("40e201")), "12:34:56");
        assert_eq!(
            old_datetime(&20_260_102_030_405_u64.to_le_bytes()),
            "2026-01-02 03:04:05"
        );
    }
}
