//! Character sets of columns.

use encoding_rs::Encoding;

/// How the bytes of a text are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Charset {
    Utf8,
    /// `ucs2` and `utf16`, the highest byte first, or `utf16le`.
    Utf16 {
        is_little: bool,
    },
    Utf32,
    /// By a table.
    Other(&'static Encoding),
    /// One that nobody here knows; most texts are ASCII all the same.
    Unknown,
}

/// What the others are called by MySQL, and by the Encoding Standard.
const OTHERS: [(&str, &Encoding); 24] = [
    ("latin1", encoding_rs::WINDOWS_1252),
    ("latin2", encoding_rs::ISO_8859_2),
    ("latin5", encoding_rs::WINDOWS_1254),
    ("latin7", encoding_rs::ISO_8859_13),
    ("greek", encoding_rs::ISO_8859_7),
    ("hebrew", encoding_rs::ISO_8859_8),
    ("cp1250", encoding_rs::WINDOWS_1250),
    ("cp1251", encoding_rs::WINDOWS_1251),
    ("cp1256", encoding_rs::WINDOWS_1256),
    ("cp1257", encoding_rs::WINDOWS_1257),
    ("cp866", encoding_rs::IBM866),
    ("koi8r", encoding_rs::KOI8_R),
    ("koi8u", encoding_rs::KOI8_U),
    ("macroman", encoding_rs::MACINTOSH),
    ("tis620", encoding_rs::WINDOWS_874),
    ("gb2312", encoding_rs::GBK),
    ("gbk", encoding_rs::GBK),
    ("gb18030", encoding_rs::GB18030),
    ("big5", encoding_rs::BIG5),
    ("euckr", encoding_rs::EUC_KR),
    ("ujis", encoding_rs::EUC_JP),
    ("eucjpms", encoding_rs::EUC_JP),
    ("sjis", encoding_rs::SHIFT_JIS),
    ("cp932", encoding_rs::SHIFT_JIS),
];

impl Charset {
    /// The one of this name.
    pub(super) fn of_name(name: &str) -> Self {
        match name {
            "utf8mb4" | "utf8mb3" | "utf8" | "ascii" => return Self::Utf8,
            "ucs2" | "utf16" => return Self::Utf16 { is_little: false },
            "utf16le" => return Self::Utf16 { is_little: true },
            "utf32" => return Self::Utf32,
            _ => {}
        }
        let found = OTHERS.iter().find(|(own, _)| *own == name);
        found.map_or(Self::Unknown, |(_, encoding)| Self::Other(encoding))
    }

    /// Reads a text; nothing where it is none.
    pub(super) fn decode(self, bytes: &[u8]) -> Option<String> {
        match self {
            Self::Utf8 => str::from_utf8(bytes).ok().map(ToOwned::to_owned),
            Self::Unknown => {
                let text = str::from_utf8(bytes).ok();
                text.filter(|text| text.is_ascii()).map(ToOwned::to_owned)
            }
            Self::Other(encoding) => encoding
                .decode_without_bom_handling_and_without_replacement(bytes)
                .map(std::borrow::Cow::into_owned),
            Self::Utf16 { is_little } => {
                let (units, rest) = bytes.as_chunks::<2>();
                let unit = |unit: &[u8; 2]| match is_little {
                    true => u16::from_le_bytes(*unit),
                    false => u16::from_be_bytes(*unit),
                };
                let text = char::decode_utf16(units.iter().map(unit));
                let text: Option<String> = text.map(Result::ok).collect();
                text.filter(|_| rest.is_empty())
            }
            Self::Utf32 => {
                let (units, rest) = bytes.as_chunks::<4>();
                let unit = |unit: &[u8; 4]| char::from_u32(u32::from_be_bytes(*unit));
                let text: Option<String> = units.iter().map(unit).collect();
                text.filter(|_| rest.is_empty())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_other_character_sets() {
        for (name, bytes, expect) in [
            ("latin1", &b"caf\xe9 \x80"[..], Some("café €")),
            ("cp1251", b"\xcf\xf0\xe8\xe2\xe5\xf2", Some("Привет")),
            ("sjis", b"\x93\xfa\x96{", Some("日本")),
            ("ucs2", b"\x00a\x26\x03", Some("a☃")),
            ("utf16le", b"=\xd8\x00\xde", Some("😀")),
            ("utf32", b"\x00\x01\xf6\x00", Some("😀")),
            ("utf32", b"\x00\x01\xf6", None),
            ("utf8mb4", b"\xff", None),
            ("dec8", b"plain", Some("plain")),
            ("dec8", b"\xe9", None),
        ] {
            let found = Charset::of_name(name).decode(bytes);
            assert_eq!(found.as_deref(), expect, "{name} {bytes:?}");
        }
    }
}
