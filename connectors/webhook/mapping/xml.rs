//! As much XML as a flat envelope has.

use serde_json::{Map, Value};
use xmlparser::{ElementEnd, Token, Tokenizer};

/// How many elements an envelope may have.
const ELEMENTS_MAX: usize = 100;

/// The texts of the elements right under the root of this name; none where it is something else.
/// Entities but the five predefined ones and references to characters are none either: nothing is
/// expanded.
pub(super) fn fields(text: &str, root: &str) -> Option<Map<String, Value>> {
    let mut fields = Map::new();
    let mut path: Vec<&str> = Vec::new();
    let mut value = String::new();
    for token in Tokenizer::from(text.trim_start_matches('\u{feff}')) {
        match token.ok()? {
            Token::ElementStart { local, .. } => {
                let is_known = if path.is_empty() {
                    local.as_str() == root && fields.is_empty()
                } else {
                    path.len() < 8
                };
                if !is_known {
                    return None;
                }
                path.push(local.as_str());
                value.clear();
            }
            Token::ElementEnd {
                end: ElementEnd::Open,
                ..
            } => {}
            Token::ElementEnd {
                end: ElementEnd::Close(..) | ElementEnd::Empty,
                ..
            } => {
                if let [_, name] = path.as_slice() {
                    fields.insert((*name).to_owned(), std::mem::take(&mut value).into());
                }
                path.pop();
                if fields.len() > ELEMENTS_MAX {
                    return None;
                }
            }
            Token::Text { text } if path.len() == 2 => value.push_str(&unescaped(text.as_str())?),
            Token::Cdata { text, .. } if path.len() == 2 => value.push_str(text.as_str()),
            // A document type could declare entities.
            Token::DtdStart { .. } | Token::EmptyDtd { .. } | Token::EntityDeclaration { .. } => {
                return None;
            }
            _ => {}
        }
    }
    (path.is_empty() && !fields.is_empty()).then_some(fields)
}

/// XML 1.0, sections 4.1 and 4.6.
fn unescaped(text: &str) -> Option<String> {
    let mut rest = text;
    let mut plain = String::with_capacity(text.len());
    while let Some((before, after)) = rest.split_once('&') {
        plain.push_str(before);
        let (name, after) = after.split_once(';')?;
        plain.push(match name {
            "lt" => '<',
            "gt" => '>',
            "amp" => '&',
            "apos" => '\'',
            "quot" => '"',
            _ => {
                let number = name.strip_prefix('#')?;
                let code = number.strip_prefix('x').map_or_else(
                    || number.parse().ok(),
                    |hex| u32::from_str_radix(hex, 16).ok(),
                )?;
                char::from_u32(code)?
            }
        });
        rest = after;
    }
    plain.push_str(rest);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_envelope_is_read_and_nothing_is_expanded() {
        let read = |text: &str| fields(text, "N").map(|fields| Value::Object(fields).to_string());
        let told = read(
            "\u{feff}<?xml version=\"1.0\"?>\n<N xmlns=\"u:x\">\n <a>1 \
             &lt;&#x41;&#66;&amp;lt;</a>\n <b/><c><![CDATA[<x>&y;]]></c><d><e>no</e></d></N>\n",
        );
        assert_eq!(
            told.unwrap(),
            r#"{"a":"1 <AB&lt;","b":"","c":"<x>&y;","d":""}"#
        );
        for bad in [
            "",
            "text",
            "<M><a>1</a></M>",
            "<N><a>1</a>",
            "<N></N>",
            "<N><a>&lol;</a></N>",
            "<!DOCTYPE N [<!ENTITY lol \"lol\">]><N><a>1</a></N>",
            "<N><a>1</a></N><N><a>2</a></N>",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        let many = format!(
            "<N>{}</N>",
            (0..=ELEMENTS_MAX)
                .map(|n| format!("<a{n}>1</a{n}>"))
                .collect::<String>()
        );
        assert_eq!(read(&many), None);
        assert_eq!(
            read(&("<N>".to_owned() + &"<a>".repeat(100_000))),
            None,
            "as deep as it likes"
        );
    }
}
