//! What becomes of the values of a type.

use super::charset::Charset;
use super::table_map::{WireType, code};

/// What becomes of the values of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Integer {
        is_unsigned: bool,
    },
    Float,
    Double,
    Decimal,
    Bit,
    Year,
    Date,
    Time,
    Datetime,
    Timestamp,
    /// With what there is to choose from, where that is known.
    Enum(Vec<String>),
    Set(Vec<String>),
    /// As MySQL stores it.
    Json,
    /// As MariaDB has it: a text that is checked.
    TextOfJson(Charset),
    Text(Charset),
    Bytes,
    Uuid,
    Inet4,
    Inet6,
}

/// The codes that the log may have for a type of the catalog.
type Codes = &'static [u8];

const TEXTS: Codes = &[code::BLOB, code::BLOB_COMPRESSED];
const VARYING: Codes = &[code::VARCHAR, code::VAR_STRING, code::VARCHAR_COMPRESSED];

impl Kind {
    /// The kind of a column, and how its values may come in the log, by what the catalog says:
    /// `data_type` is the name of the type alone, `column_type` has the rest of it.
    pub(super) fn of_catalog(
        data_type: &str,
        column_type: &str,
        charset: Option<&str>,
        is_json: bool,
    ) -> (Self, Codes) {
        let integer = Self::Integer {
            is_unsigned: column_type.contains("unsigned"),
        };
        let text = |codes: Codes| match charset.map(Charset::of_name) {
            Some(charset) if is_json => (Self::TextOfJson(charset), codes),
            Some(charset) => (Self::Text(charset), codes),
            None => (Self::Bytes, codes),
        };
        match data_type {
            "tinyint" => (integer, &[code::TINY]),
            "smallint" => (integer, &[code::SHORT]),
            "mediumint" => (integer, &[code::INT24]),
            "int" => (integer, &[code::LONG]),
            "bigint" => (integer, &[code::LONGLONG]),
            "float" => (Self::Float, &[code::FLOAT]),
            "double" => (Self::Double, &[code::DOUBLE]),
            "decimal" => (Self::Decimal, &[code::DECIMAL]),
            "bit" => (Self::Bit, &[code::BIT]),
            "year" => (Self::Year, &[code::YEAR]),
            "date" => (Self::Date, &[code::DATE, code::NEWDATE]),
            "time" => (Self::Time, &[code::TIME, code::TIME_OLD]),
            "datetime" => (Self::Datetime, &[code::DATETIME, code::DATETIME_OLD]),
            "timestamp" => (Self::Timestamp, &[code::TIMESTAMP, code::TIMESTAMP_OLD]),
            "enum" => (Self::Enum(labels(column_type)), &[code::ENUM]),
            "set" => (Self::Set(labels(column_type)), &[code::SET]),
            "json" => (Self::Json, &[code::JSON]),
            "uuid" => (Self::Uuid, &[code::STRING]),
            "inet4" => (Self::Inet4, &[code::STRING]),
            "inet6" => (Self::Inet6, &[code::STRING]),
            "char" | "binary" => text(&[code::STRING]),
            "varchar" | "varbinary" => text(VARYING),
            "vector" => (Self::Bytes, &[code::VECTOR, code::VARCHAR]),
            "tinytext" | "text" | "mediumtext" | "longtext" | "tinyblob" | "blob"
            | "mediumblob" | "longblob" => text(TEXTS),
            // Geometries of each shape, and what is newer than this.
            _ => (Self::Bytes, &[code::GEOMETRY, code::VECTOR]),
        }
    }

    /// The kind of a column, by what the log says alone.
    pub(super) fn of_log_alone(
        ty: WireType,
        is_unsigned: Option<bool>,
        charset: Option<&str>,
        labels: Option<Vec<String>>,
    ) -> Self {
        match ty.code {
            code::FLOAT => Self::Float,
            code::DOUBLE => Self::Double,
            code::DECIMAL => Self::Decimal,
            code::BIT => Self::Bit,
            code::YEAR => Self::Year,
            code::DATE | code::NEWDATE => Self::Date,
            code::TIME | code::TIME_OLD => Self::Time,
            code::DATETIME | code::DATETIME_OLD => Self::Datetime,
            code::TIMESTAMP | code::TIMESTAMP_OLD => Self::Timestamp,
            code::ENUM => Self::Enum(labels.unwrap_or_default()),
            code::SET => Self::Set(labels.unwrap_or_default()),
            code::JSON => Self::Json,
            code::GEOMETRY | code::VECTOR => Self::Bytes,
            code::TINY | code::SHORT | code::INT24 | code::LONG | code::LONGLONG => Self::Integer {
                is_unsigned: is_unsigned.unwrap_or(false),
            },
            _ => match charset {
                Some("binary") => Self::Bytes,
                Some(charset) => Self::Text(Charset::of_name(charset)),
                None => Self::Text(Charset::Utf8),
            },
        }
    }

    /// Whether values are stored in a way that only the catalog tells of.
    pub(super) fn is_of_catalog_alone(&self) -> bool {
        matches!(
            self,
            Self::Uuid | Self::Inet4 | Self::Inet6 | Self::TextOfJson(_)
        )
    }
}

/// What there is to choose from: `enum('a','b''c')`.
fn labels(column_type: &str) -> Vec<String> {
    let (mut labels, mut label) = (Vec::new(), None::<String>);
    let mut rest = column_type.chars().peekable();
    while let Some(c) = rest.next() {
        match (&mut label, c) {
            (None, '\'') => label = Some(String::new()),
            (None, _) => {}
            (Some(own), '\'') if rest.next_if_eq(&'\'').is_some() => own.push('\''),
            (Some(_), '\'') => labels.extend(label.take()),
            (Some(own), '\\') => match rest.next() {
                Some('n') => own.push('\n'),
                Some('r') => own.push('\r'),
                Some('0') => own.push('\0'),
                Some(c) => own.push(c),
                None => {}
            },
            (Some(own), c) => own.push(c),
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_enums_and_sets() {
        for (column_type, expect) in [
            ("enum('a','b')", &["a", "b"][..]),
            ("set('it''s','a,b','','\\\\')", &["it's", "a,b", "", "\\"]),
            ("enum()", &[]),
        ] {
            assert_eq!(labels(column_type), expect, "{column_type}");
        }
    }
}
