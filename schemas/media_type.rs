//! Media types (RFC 9110, section 8.3.1), as far as they decide how data is read.

/// What nearly all events declare: not looked at byte by byte.
const MOST_COMMON: &str = "application/json";

/// True for `type/subtype`, with anything printable behind a `;`.
#[must_use]
pub fn is_media_type(text: &str) -> bool {
    if text == MOST_COMMON {
        return true;
    }
    let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
    let is_token = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    essence
        .trim_end()
        .split_once('/')
        .is_some_and(|(ty, subtype)| is_token(ty) && is_token(subtype))
        && parameters
            .bytes()
            .all(|byte| byte == b'\t' || (0x20..0x7F).contains(&byte))
}

/// `type/subtype`, as it is spelt.
pub(crate) fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

/// The parameter `charset`, without its quotes.
pub(crate) fn charset(media_type: &str) -> Option<&str> {
    media_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("charset")
            .then(|| value.trim().trim_matches('"'))
    })
}

/// True for `application/json`, `text/json` and every `+json`, whatever their case and parameters:
/// RFC 6839, section 3.1.
#[must_use]
pub fn is_json_media_type(media_type: &str) -> bool {
    if media_type == MOST_COMMON {
        return true;
    }
    let essence = essence(media_type);
    ends_with(essence, "/json") || ends_with(essence, "+json")
}

/// True where bytes of this type are text for people or parsers, in UTF-8 as far as is declared:
/// then the JSON format carries them as a string, and as base64 otherwise.
#[must_use]
pub fn is_utf8_media_type(media_type: &str) -> bool {
    const TEXTS: [&str; 5] = ["/xml", "+xml", "/yaml", "+yaml", "/x-www-form-urlencoded"];
    let essence = essence(media_type);
    let is_text =
        starts_with(essence, "text/") || TEXTS.iter().any(|suffix| ends_with(essence, suffix));
    is_text && charset(media_type).is_none_or(is_utf8)
}

/// True for the names of UTF-8 and of its subset ASCII.
pub(crate) fn is_utf8(charset: &str) -> bool {
    charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("us-ascii")
}

/// True where `text` begins with `prefix`, in whatever case.
pub(crate) fn starts_with(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// True where something stands before `suffix`, in whatever case.
fn ends_with(text: &str, suffix: &str) -> bool {
    let before = text.len().saturating_sub(suffix.len());
    before > 0
        && text
            .get(before..)
            .is_some_and(|end| end.eq_ignore_ascii_case(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_media_types() {
        for yes in [
            "application/json",
            "APPLICATION/JSON",
            "text/json;charset=utf-8",
            "application/cloudevents+json",
            "a/b+JSON ; x=y",
        ] {
            assert!(is_json_media_type(yes), "{yes}");
        }
        for no in [
            "text/plain",
            "json",
            "+json",
            "/json",
            "application/jsonx",
            "text/plain; x=/json",
            "ü/json".trim_end_matches("/json"),
            "",
        ] {
            assert!(!is_json_media_type(no), "{no}");
        }
    }

    #[test]
    fn text_media_types() {
        for yes in [
            "text/plain",
            "TEXT/html; charset=\"UTF-8\"",
            "application/xml",
            "image/svg+xml",
            "text/csv;charset=us-ascii",
        ] {
            assert!(is_utf8_media_type(yes), "{yes}");
        }
        for no in [
            "text/plain; charset=iso-8859-1",
            "text",
            "application/octet-stream",
            "image/png",
            "application/json",
            "",
        ] {
            assert!(!is_utf8_media_type(no), "{no}");
        }
    }
}
