//! As much XML as Alibaba Cloud's and Amazon's services speak: elements and texts. Nothing is expanded but the
//! five predefined entities and references to characters, and nothing is declared.

use serde_json::{Map, Value};
use xmlparser::{ElementEnd, Token, Tokenizer};

/// How deep elements may be nested.
const DEPTH_MAX: usize = 8;

/// An element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Element {
    /// Its name, without the prefix of a namespace.
    pub(crate) name: String,
    /// The text right in it.
    pub(crate) text: String,
    /// The elements right in it.
    pub(crate) children: Vec<Element>,
}

impl Element {
    /// The first element of a name right in it.
    #[cfg(feature = "sqs")]
    pub(crate) fn find(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The text of the first element of a name right in it, unless it is empty.
    pub(crate) fn text_of(&self, name: &str) -> Option<&str> {
        let found = self.children.iter().find(|child| child.name == name)?;
        Some(found.text.as_str()).filter(|text| !text.is_empty())
    }

    /// The texts of the elements right in it.
    pub(crate) fn fields(&self) -> Map<String, Value> {
        let field = |child: &Element| (child.name.clone(), child.text.as_str().into());
        self.children.iter().map(field).collect()
    }
}

/// Reads a document of at most so many elements; none where it is not one.
pub(crate) fn read(text: &str, elements_max: usize) -> Option<Element> {
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    let mut elements = 0;
    for token in Tokenizer::from(text.trim_start_matches('\u{feff}')) {
        match token.ok()? {
            Token::ElementStart { local, .. } => {
                elements += 1;
                if root.is_some() || elements > elements_max || open.len() >= DEPTH_MAX {
                    return None;
                }
                open.push(Element {
                    name: local.as_str().to_owned(),
                    ..Element::default()
                });
            }
            Token::ElementEnd {
                end: ElementEnd::Open,
                ..
            } => {}
            Token::ElementEnd {
                end: ElementEnd::Close(..) | ElementEnd::Empty,
                ..
            } => {
                let mut closed = open.pop()?;
                if !closed.children.is_empty() {
                    // What lies between elements is how they are laid out.
                    closed.text.clear();
                }
                match open.last_mut() {
                    Some(parent) => parent.children.push(closed),
                    None => root = Some(closed),
                }
            }
            Token::Text { text } => {
                if let Some(element) = open.last_mut() {
                    element.text.push_str(&unescaped(text.as_str())?);
                }
            }
            Token::Cdata { text, .. } => open.last_mut()?.text.push_str(text.as_str()),
            // A document type could declare entities.
            Token::DtdStart { .. } | Token::EmptyDtd { .. } | Token::EntityDeclaration { .. } => {
                return None;
            }
            _ => {}
        }
    }
    root.filter(|_| open.is_empty())
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

/// A text as it stands in an element; none where XML has no way to say one of its characters
/// (section 2.2).
pub(crate) fn escaped(text: &str) -> Option<String> {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            // Written as it is, it would be read as a line feed.
            '\r' => escaped.push_str("&#13;"),
            '\t' | '\n' => escaped.push(c),
            '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => return None,
            c => escaped.push(c),
        }
    }
    Some(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_document_is_read_and_nothing_is_expanded() {
        let read = |text: &str| {
            let root = read(text, 100).filter(|root| root.name == "N")?;
            Some(Value::Object(root.fields()).to_string())
        };
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
            "<N><a>&lol;</a></N>",
            "<!DOCTYPE N [<!ENTITY lol \"lol\">]><N><a>1</a></N>",
            "<N><a>1</a></N><N><a>2</a></N>",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        let of = |count| format!("<N>{}</N>", "<a>1</a>".repeat(count));
        assert!(read(&of(99)).is_some());
        assert_eq!(read(&of(100)), None);
        assert_eq!(
            read(&("<N>".to_owned() + &"<a>".repeat(100_000))),
            None,
            "as deep as it likes"
        );
    }

    #[test]
    fn lists_keep_their_order() {
        let list = read("<L>\n<m><id>1</id></m>\n<m><id>2</id><e/></m></L>", 10).unwrap();
        let ids: Vec<_> = list.children.iter().map(|m| m.text_of("id")).collect();
        assert_eq!(ids, [Some("1"), Some("2")]);
        assert_eq!(list.children[1].text_of("e"), None);
        assert_eq!(list.text, "");
    }

    #[test]
    fn what_is_escaped_is_read_as_it_was() {
        let text = "a <b> & 'c'\r\n\t\"d\" ü \u{1f600} ]]>";
        let written = format!("<N><a>{}</a></N>", escaped(text).unwrap());
        assert_eq!(read(&written, 9).unwrap().text_of("a"), Some(text));
        assert_eq!(escaped("a\u{1}b"), None);
    }
}
