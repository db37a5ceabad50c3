//! Numbers with a unit, written as texts: durations, sizes and rates.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

/// Reads a number with a unit behind it: `(digits, unit)`.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let end = text
        .bytes()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    Some((digits.parse().ok()?, unit))
}

/// Implements `Deserialize` and `JsonSchema` for a type that is written as a text.
macro_rules! written_as_text {
    ($type:ident, $expected:literal, $pattern:literal, $parse:expr) => {
        impl std::str::FromStr for $type {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                let parse: fn(&str) -> Option<Self> = $parse;
                parse(text).ok_or_else(|| format!(concat!("{:?} is not ", $expected), text))
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Visitor)
            }
        }
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $expected, "pattern": $pattern })
            }
        }
    };
}

/// A duration: `500ms`, `30s`, `5m`, `24h`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval(pub Duration);

written_as_text!(
    Interval,
    "a duration such as 500ms, 30s, 5m, 24h or 7d",
    "^[0-9]+(ms|s|m|h|d)$",
    |text| {
        let (number, unit) = split_unit(text)?;
        let seconds = |per: u64| number.checked_mul(per).map(Duration::from_secs);
        let duration = match unit {
            "ms" => Duration::from_millis(number),
            "s" => seconds(1)?,
            "m" => seconds(60)?,
            "h" => seconds(3_600)?,
            "d" => seconds(86_400)?,
            _ => return None,
        };
        // A thousand years: far past any use, and far from overflowing microseconds in an i64.
        (duration <= Duration::from_secs(86_400 * 366 * 1_000)).then_some(Interval(duration))
    }
);

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        for (unit, per) in [
            ("d", 86_400_000),
            ("h", 3_600_000),
            ("m", 60_000),
            ("s", 1_000),
        ] {
            if millis > 0 && millis.is_multiple_of(per) {
                return write!(f, "{}{unit}", millis / per);
            }
        }
        write!(f, "{millis}ms")
    }
}

/// A size in bytes: `512B`, `64KiB`, `1MiB`, `20GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size {
    /// How many bytes.
    pub bytes: u64,
}

written_as_text!(
    Size,
    "a size such as 512B, 64KiB, 1MiB or 20GiB",
    "^[0-9]+(B|KiB|MiB|GiB|TiB)$",
    |text| {
        let (number, unit) = split_unit(text)?;
        let shift = match unit {
            "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            "TiB" => 40,
            _ => return None,
        };
        number
            .checked_mul(1 << shift)
            .filter(|bytes| i64::try_from(*bytes).is_ok())
            .map(|bytes| Size { bytes })
    }
);

/// How many per second, minute or hour: `100/s`, `30/m`, `10/h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many; at least one.
    pub count: NonZeroU32,
    /// In which time.
    pub per: Duration,
}

written_as_text!(
    Rate,
    "a rate such as 100/s, 30/m or 10/h",
    "^[0-9]+/(s|m|h)$",
    |text| {
        let (number, unit) = split_unit(text)?;
        let per = match unit {
            "/s" => Duration::from_secs(1),
            "/m" => Duration::from_secs(60),
            "/h" => Duration::from_secs(3_600),
            _ => return None,
        };
        Some(Rate {
            count: u32::try_from(number).ok().and_then(NonZeroU32::new)?,
            per,
        })
    }
);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per.as_secs() {
            1 => "s",
            60 => "m",
            _ => "h",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_sizes_and_rates() {
        for (text, millis) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("24h", 86_400_000),
            ("7d", 604_800_000),
        ] {
            let interval: Interval = text.parse().unwrap();
            assert_eq!(interval.0, Duration::from_millis(millis));
            assert_eq!(
                interval.0,
                interval.to_string().parse::<Interval>().unwrap().0
            );
        }
        for bad in [
            "",
            "5",
            "s",
            "1.5s",
            "-1s",
            "5 m",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert!(bad.parse::<Interval>().is_err(), "{bad}");
        }
        assert_eq!("64KiB".parse(), Ok(Size { bytes: 65_536 }));
        assert!("1MB".parse::<Size>().is_err() && "9999999999TiB".parse::<Size>().is_err());
        assert_eq!("100/s".parse::<Rate>().unwrap().count.get(), 100);
        for rate in ["100/s", "30/m", "10/h"] {
            assert_eq!(rate.parse::<Rate>().unwrap().to_string(), rate);
        }
        assert!("0/s".parse::<Rate>().is_err() && "1/d".parse::<Rate>().is_err());
    }
}
