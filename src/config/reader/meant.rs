//! What somebody probably meant who wrote a value of another kind, spelt as it is wanted.

use crate::config::yaml::{Node, Style, Value};

/// Help for a value that is not of the kind that is wanted.
pub(super) fn of_kind(expected: &str, node: &Node, source: &str) -> Option<String> {
    match &node.value {
        Value::Number(number)
            if number.as_f64().is_some_and(|number| number < 0.0)
                && expected.contains(" such as ") =>
        {
            None
        }
        Value::Number(_) if expected.starts_with("a duration") => {
            Some(format!("write it with its unit: `{source}s`"))
        }
        Value::Number(_) if expected.starts_with("a size") => {
            Some(format!("write it with its unit: `{source}MiB`"))
        }
        Value::Number(_) if expected.starts_with("a rate") => {
            Some(format!("write it with its time: `{source}/s`"))
        }
        Value::Number(_) if expected.starts_with("an address") => {
            Some(format!("write `127.0.0.1:{source}`"))
        }
        Value::Number(_) | Value::Boolean(_)
            if expected.contains("text") || expected.contains("name") =>
        {
            Some(format!("quote it to make a text of it: \"{source}\""))
        }
        Value::Text(text, Style::Quoted)
            if expected.contains("number") && text.parse::<f64>().is_ok() =>
        {
            Some(format!("write it without quotes: `{text}`"))
        }
        Value::Text(text, Style::Quoted)
            if expected == "true or false" && matches!(&**text, "true" | "false") =>
        {
            Some(format!("write it without quotes: `{text}`"))
        }
        Value::Text(text, _) if expected == "true or false" => Some(match &*text.to_lowercase() {
            "yes" | "y" | "on" => "write `true`; only `true` and `false` are booleans".to_owned(),
            "no" | "n" | "off" => "write `false`; only `true` and `false` are booleans".to_owned(),
            _ => "only `true` and `false` are booleans".to_owned(),
        }),
        _ if expected == "true or false" => Some("only `true` and `false` are booleans".to_owned()),
        _ => None,
    }
}

/// Help for a text in the place of a mapping: `to:console` is one, since a key's colon is followed
/// by a space. Else what a preset is given.
pub(super) fn glued(expected: &str, fields: Option<&[&str]>, node: &Node) -> Option<String> {
    let text = node.text().filter(|_| expected == "a mapping")?;
    let is_key = |key: &str| fields.is_some_and(|fields| fields.contains(&key));
    match text.split_once(':') {
        Some((key, value))
            if is_key(key)
                && !value.starts_with([' ', '/'])
                && !value.is_empty()
                && !text.contains('\n') =>
        {
            Some(format!(
                "a space stands behind the colon: write `{key}: {value}`"
            ))
        }
        _ => None,
    }
}

/// A number that is spelt as older YAML, or C, has it, as JSON spells it: in backticks, and of an
/// octal one both readings.
pub(super) fn number(source: &str) -> Option<String> {
    let (sign, digits) = match source.strip_prefix(['+', '-']) {
        Some(rest) => (if source.starts_with('-') { "-" } else { "" }, rest),
        None => ("", source),
    };
    let plain = digits.replace('_', "");
    let radix = |prefix: &str, radix: u32| {
        plain
            .to_ascii_lowercase()
            .strip_prefix(prefix)
            .and_then(|digits| u64::from_str_radix(digits, radix).ok())
    };
    if let Some(number) = radix("0x", 16)
        .or_else(|| radix("0o", 8))
        .or_else(|| radix("0b", 2))
    {
        return Some(format!("`{sign}{number}`"));
    }
    let bare = plain.trim_start_matches('0');
    let bare = if bare.is_empty() || bare.starts_with(['.', 'e', 'E']) {
        format!("0{bare}")
    } else {
        bare.to_owned()
    };
    let bare = if bare.ends_with('.') {
        format!("{bare}0")
    } else {
        bare.replace(".e", ".0e").replace(".E", ".0E")
    };
    let number: serde_json::Number = bare.parse().ok()?;
    // A file's mode is what people write so.
    let octal = (plain.len() > 1 && plain.starts_with('0'))
        .then(|| u64::from_str_radix(&plain, 8).ok())
        .flatten();
    Some(match octal {
        Some(octal) => {
            format!("`{sign}{octal}` (older YAML reads it as octal) or `{sign}{number}`")
        }
        None => format!("`{sign}{bare}`"),
    })
}

/// Help for a text that a type could not read, by what the type says of it.
pub(super) fn of_text(message: &str, node: &Node) -> Option<String> {
    let text = node.text()?;
    let written = if message.contains("is not a duration") {
        duration(text)
    } else if message.contains("is not a size") {
        size(text)
    } else if message.contains("is not a rate") {
        rate(text)
    } else {
        None
    };
    written.map(|written| format!("write `{written}`"))
}

/// A number, which may have a point in it, as thousandths, and what stands behind it.
fn thousandths(text: &str) -> Option<(u64, String)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let fraction: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let whole: u64 = whole.parse().ok()?;
    Some((
        whole.checked_mul(1_000)?.checked_add(fraction)?,
        unit.trim().to_lowercase(),
    ))
}

/// Milliseconds of a unit, by what people call it.
fn unit_millis(unit: &str) -> Option<u64> {
    Some(match unit {
        "ms" | "msec" | "millis" | "milliseconds" => 1,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000,
        "m" | "min" | "mins" | "minute" | "minutes" => 60_000,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3_600_000,
        "d" | "day" | "days" => 86_400_000,
        "w" | "wk" | "week" | "weeks" => 604_800_000,
        _ => return None,
    })
}

/// `1.5h`, `5 min`, `1w`.
pub(super) fn duration(text: &str) -> Option<String> {
    let (number, unit) = thousandths(text.trim())?;
    let millis = number.checked_mul(unit_millis(&unit)?)? / 1_000;
    let units = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    units
        .iter()
        .find(|(_, per)| millis > 0 && millis.is_multiple_of(*per))
        .map(|(unit, per)| format!("{}{unit}", millis / per))
}

/// `20GB`, `1.5 GiB`, `512k`.
fn size(text: &str) -> Option<String> {
    let (number, unit) = thousandths(text.trim())?;
    let bytes: u64 = match unit.as_str() {
        "b" | "byte" | "bytes" => 1,
        "k" | "kb" | "ki" | "kib" => 1 << 10,
        "m" | "mb" | "mi" | "mib" => 1 << 20,
        "g" | "gb" | "gi" | "gib" => 1 << 30,
        "t" | "tb" | "ti" | "tib" => 1 << 40,
        _ => return None,
    };
    let bytes = number.checked_mul(bytes)? / 1_000;
    let units: [(&str, u64); 5] = [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("B", 1),
    ];
    units
        .iter()
        .find(|(_, per)| bytes > 0 && bytes.is_multiple_of(*per))
        .map(|(unit, per)| format!("{}{unit}", bytes / per))
}

/// `100/sec`, `100 per minute`, `100rps`, `100`.
fn rate(text: &str) -> Option<String> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, behind) = text.split_at(end);
    let per = behind
        .trim()
        .trim_start_matches('/')
        .trim_start_matches("per")
        .trim()
        .to_lowercase();
    let per = match per.as_str() {
        "" | "rps" | "hz" => 1_000,
        other => unit_millis(other)?,
    };
    let unit = [("s", 1_000), ("m", 60_000), ("h", 3_600_000)]
        .into_iter()
        .find(|(_, millis)| *millis == per)?
        .0;
    (!number.is_empty()).then(|| format!("{number}/{unit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spelt_as_json_has_them() {
        for (source, expect) in [
            (
                "0644",
                Some("`420` (older YAML reads it as octal) or `644`"),
            ),
            ("0o644", Some("`420`")),
            ("0x1F", Some("`31`")),
            ("-0b101", Some("`-5`")),
            ("1_000", Some("`1000`")),
            (".5", Some("`0.5`")),
            ("+1", Some("`1`")),
            ("5.", Some("`5.0`")),
            ("099", Some("`99`")),
            ("00", Some("`0` (older YAML reads it as octal) or `0`")),
            (".inf", None),
            (".nan", None),
        ] {
            assert_eq!(number(source).as_deref(), expect, "{source}");
        }
    }

    #[test]
    fn what_was_meant_is_spelt_as_it_is_wanted() {
        for (text, expect) in [
            ("1.5h", Some("90m")),
            ("5 min", Some("5m")),
            ("30sec", Some("30s")),
            ("0.5s", Some("500ms")),
            ("2 weeks", Some("14d")),
            ("1 fortnight", None),
            ("h", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(duration(text).as_deref(), expect, "{text}");
        }
        for (text, expect) in [
            ("20GB", Some("20GiB")),
            ("1.5 GiB", Some("1536MiB")),
            ("512k", Some("512KiB")),
            ("10Mb", Some("10MiB")),
            ("x", None),
        ] {
            assert_eq!(size(text).as_deref(), expect, "{text}");
        }
        for (text, expect) in [
            ("100/sec", Some("100/s")),
            ("100 per minute", Some("100/m")),
            ("100rps", Some("100/s")),
            ("5/hour", Some("5/h")),
            ("100", Some("100/s")),
            ("7/d", None),
            ("/s", None),
        ] {
            assert_eq!(rate(text).as_deref(), expect, "{text}");
        }
    }
}
