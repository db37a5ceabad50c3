//! Values of PostgreSQL, which come as text, as JSON.
//!
//! | type | JSON |
//! |---|---|
//! | `boolean` | `true`, `false` |
//! | integers, `real`, `double precision`, `numeric` | a number with all its digits; what is none (`NaN`, `Infinity`) a text |
//! | `json`, `jsonb` | as it is |
//! | `timestamptz` | RFC 3339 in UTC |
//! | `timestamp` | the same without a zone |
//! | `bytea` | base64 |
//! | an array of these, or of an own type | an array |
//! | everything else | its text |

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::cdc::json::{write_no_text, write_text};

/// What becomes of the values of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Boolean,
    Number,
    Json,
    /// With a zone or without one.
    Timestamp,
    Bytes,
    Text,
}

/// A type: one value, or an array of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Type {
    pub(super) kind: Kind,
    pub(super) is_array: bool,
}

/// Types that are built in: the name, the number, that of their array, and what becomes of values.
/// Those that are texts stand here for their arrays.
const BUILT_IN: [(&str, u32, u32, Kind); 26] = [
    ("bool", 16, 1000, Kind::Boolean),
    ("bytea", 17, 1001, Kind::Bytes),
    ("int8", 20, 1016, Kind::Number),
    ("int2", 21, 1005, Kind::Number),
    ("int4", 23, 1007, Kind::Number),
    ("oid", 26, 1028, Kind::Number),
    ("float4", 700, 1021, Kind::Number),
    ("float8", 701, 1022, Kind::Number),
    ("numeric", 1700, 1231, Kind::Number),
    ("json", 114, 199, Kind::Json),
    ("jsonb", 3802, 3807, Kind::Json),
    ("timestamp", 1114, 1115, Kind::Timestamp),
    ("timestamptz", 1184, 1185, Kind::Timestamp),
    ("text", 25, 1009, Kind::Text),
    ("varchar", 1043, 1015, Kind::Text),
    ("bpchar", 1042, 1014, Kind::Text),
    ("name", 19, 1003, Kind::Text),
    ("char", 18, 1002, Kind::Text),
    ("uuid", 2950, 2951, Kind::Text),
    ("date", 1082, 1182, Kind::Text),
    ("time", 1083, 1183, Kind::Text),
    ("timetz", 1266, 1270, Kind::Text),
    ("interval", 1186, 1187, Kind::Text),
    ("inet", 869, 1041, Kind::Text),
    ("cidr", 650, 651, Kind::Text),
    ("macaddr", 829, 1040, Kind::Text),
];

impl Type {
    const TEXT: Self = Self {
        kind: Kind::Text,
        is_array: false,
    };

    /// The type of a number, where it is built in; others are texts.
    pub(super) fn of_oid(oid: u32) -> Self {
        let found = BUILT_IN
            .iter()
            .find(|(_, one, array, _)| [*one, *array].contains(&oid));
        found.map_or(Self::TEXT, |(_, _, array, kind)| Self {
            kind: *kind,
            is_array: *array == oid,
        })
    }

    /// The type of a name, which begins with an underscore where it is an array.
    pub(super) fn of_name(name: &str) -> Self {
        let element = name.strip_prefix('_');
        let found = BUILT_IN
            .iter()
            .find(|(one, ..)| *one == element.unwrap_or(name));
        Self {
            kind: found.map_or(Kind::Text, |(.., kind)| *kind),
            // Its elements stand apart by a semicolon.
            is_array: element.is_some_and(|element| element != "box"),
        }
    }

    /// Writes a value behind what is in `out`.
    pub(super) fn write(self, value: &[u8], out: &mut String) {
        let Ok(text) = str::from_utf8(value) else {
            // A database of the encoding SQL_ASCII may have anything.
            write_no_text(value, out);
            return;
        };
        let before = out.len();
        if self.is_array && array(self.kind, text, out).is_none() {
            out.truncate(before);
            write_text(text, out);
        } else if !self.is_array {
            self.kind.write(text, out);
        }
    }
}

impl Kind {
    fn write(self, text: &str, out: &mut String) {
        match self {
            Self::Boolean if text == "t" => out.push_str("true"),
            Self::Boolean if text == "f" => out.push_str("false"),
            Self::Number if is_number(text) => out.push_str(text),
            Self::Json => out.push_str(text),
            Self::Timestamp => write_text(&timestamp(text), out),
            Self::Bytes => match text.strip_prefix("\\x").map(hex::decode) {
                Some(Ok(bytes)) => write_text(&STANDARD.encode(bytes), out),
                _ => write_text(text, out),
            },
            Self::Boolean | Self::Number | Self::Text => write_text(text, out),
        }
    }
}

/// Whether a text of PostgreSQL is a number of JSON, too: `NaN` and `Infinity` are none.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.starts_with(|c: char| c.is_ascii_digit())
}

/// `2026-01-02 03:04:05.6+00` as RFC 3339 has it; what is out of its reach stays as it is.
fn timestamp(text: &str) -> String {
    let year = text.split('-').next().unwrap_or_default();
    if year.len() != 4 || text.ends_with("BC") {
        return text.to_owned();
    }
    let text = text.replacen(' ', "T", 1);
    match text.strip_suffix("+00") {
        Some(utc) => format!("{utc}Z"),
        None => text,
    }
}

/// Writes an array: `{1,NULL,"a \"b\""}`, nested where it has several dimensions, with bounds in
/// front of it where they do not begin with one. Nothing where it is none.
fn array(kind: Kind, text: &str, out: &mut String) -> Option<()> {
    let text = match text.starts_with('[') {
        true => text.split_once('=')?.1,
        false => text,
    };
    let mut rest = text.chars().peekable();
    let mut depth = 0_usize;
    while let Some(c) = rest.next() {
        match c {
            '{' => {
                depth += 1;
                out.push('[');
            }
            '}' => {
                depth = depth.checked_sub(1)?;
                out.push(']');
            }
            ',' if depth > 0 => out.push(','),
            _ if depth == 0 => return None,
            '"' => {
                let mut element = String::new();
                loop {
                    match rest.next()? {
                        '"' => break,
                        '\\' => element.push(rest.next()?),
                        c => element.push(c),
                    }
                }
                kind.write(&element, out);
            }
            first => {
                let mut element = String::from(first);
                while let Some(c) = rest.next_if(|c| !matches!(c, ',' | '}')) {
                    element.push(c);
                }
                match element.as_str() {
                    "NULL" => out.push_str("null"),
                    element => kind.write(element, out),
                }
            }
        }
    }
    (depth == 0).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(kind: Type, value: &[u8]) -> String {
        let mut out = String::new();
        kind.write(value, &mut out);
        out
    }

    #[test]
    fn values() {
        for (name, value, expect) in [
            ("bool", "t", "true"),
            ("bool", "f", "false"),
            ("int8", "-9223372036854775808", "-9223372036854775808"),
            (
                "numeric",
                "12345678901234567890123.4500",
                "12345678901234567890123.4500",
            ),
            ("numeric", "NaN", "\"NaN\""),
            ("float8", "-Infinity", "\"-Infinity\""),
            ("float8", "1e-05", "1e-05"),
            ("text", "5", "\"5\""),
            ("text", "a\"\\\n\u{1}ü", "\"a\\\"\\\\\\n\\u0001ü\""),
            ("jsonb", "{\"a\": [1]}", "{\"a\": [1]}"),
            (
                "timestamptz",
                "2026-01-02 03:04:05.678+00",
                "\"2026-01-02T03:04:05.678Z\"",
            ),
            (
                "timestamp",
                "2026-01-02 03:04:05",
                "\"2026-01-02T03:04:05\"",
            ),
            ("timestamptz", "infinity", "\"infinity\""),
            (
                "timestamptz",
                "0044-03-15 00:00:00+00 BC",
                "\"0044-03-15 00:00:00+00 BC\"",
            ),
            (
                "timestamptz",
                "20000-01-01 00:00:00+00",
                "\"20000-01-01 00:00:00+00\"",
            ),
            ("date", "2026-01-02", "\"2026-01-02\""),
            ("bytea", "\\xdeadbeef", "\"3q2+7w==\""),
            ("bytea", "\\x", "\"\""),
            (
                "uuid",
                "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
                "\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\"",
            ),
            ("_int4", "{1,NULL,-3}", "[1,null,-3]"),
            ("_int4", "{}", "[]"),
            ("_int4", "[0:1]={1,2}", "[1,2]"),
            ("_int4", "{{1,2},{3,4}}", "[[1,2],[3,4]]"),
            (
                "_text",
                "{a,\"NULL\",NULL,\"b,\\\"c\\\\}\",\"\"}",
                "[\"a\",\"NULL\",null,\"b,\\\"c\\\\}\",\"\"]",
            ),
            ("_bool", "{t,f}", "[true,false]"),
            (
                "_timestamptz",
                "{\"2026-01-02 03:04:05+00\"}",
                "[\"2026-01-02T03:04:05Z\"]",
            ),
            ("_jsonb", "{\"{\\\"a\\\": 1}\",2}", "[{\"a\": 1},2]"),
            ("_mood", "{sad,happy}", "[\"sad\",\"happy\"]"),
            (
                "_box",
                "{(1,1),(0,0);(2,2),(0,0)}",
                "\"{(1,1),(0,0);(2,2),(0,0)}\"",
            ),
            ("_text", "{a", "\"{a\""),
            ("mood", "sad", "\"sad\""),
            ("point", "(1,2)", "\"(1,2)\""),
        ] {
            assert_eq!(
                written(Type::of_name(name), value.as_bytes()),
                expect,
                "{name} {value}"
            );
        }
        assert_eq!(written(Type::TEXT, b"\xff"), "{\"base64\":\"/w==\"}");
    }

    #[test]
    fn built_in_types_are_known_by_their_numbers() {
        for (oid, expect) in [
            (23, "int4"),
            (1007, "_int4"),
            (3802, "jsonb"),
            (600, "point"),
        ] {
            assert_eq!(Type::of_oid(oid), Type::of_name(expect), "{oid}");
        }
    }
}
