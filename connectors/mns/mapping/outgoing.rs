//! An event written into a message's body.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::{Encoding, Mode};
use crate::{Delivery, structured, xml};

/// The body of a delivery's message, as it stands in XML. A message has no headers: what they say
/// elsewhere are extensions of a structured event.
///
/// # Errors
/// Why it cannot be written, in words.
pub(in crate::mns) fn body_of(
    delivery: &Delivery,
    rule: &str,
    mode: Mode,
    encoding: Encoding,
) -> Result<String, String> {
    let bytes = match mode {
        Mode::Structured => {
            structured::encode(delivery, rule).map_err(|invalid| invalid.to_string())?
        }
        Mode::Data => delivery
            .event
            .data()
            .map(|data| data.bytes().clone())
            .unwrap_or_default(),
    };
    if bytes.is_empty() {
        return Err("the event has no data, and MNS takes no empty message".to_owned());
    }
    match encoding {
        Encoding::Base64 => Ok(BASE64_STANDARD.encode(&bytes)),
        Encoding::Text => std::str::from_utf8(&bytes)
            .ok()
            .and_then(xml::escaped)
            .ok_or_else(|| {
                "the event has bytes or control characters that MNS cannot carry as text; use \
                 encoding: base64"
                    .to_owned()
            }),
    }
}
