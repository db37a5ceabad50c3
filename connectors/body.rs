//! The body of a message or a line, as an event's data.

use bytes::Bytes;
use pointsman_schemas::{Data, DataKind, InvalidEvent};

/// Reads a body as [`Data::read`] does, with its media type: the declared one, or else the one of
/// what it is found to be. An empty body is no data.
///
/// # Errors
/// As [`Data::read`].
pub(crate) fn read(
    declared: Option<&str>,
    body: Bytes,
) -> Result<(Option<Data>, Option<&str>), InvalidEvent> {
    if body.is_empty() {
        return Ok((None, declared));
    }
    let data = Data::read(declared, body)?;
    let implied = match data.kind() {
        DataKind::Json => "application/json",
        DataKind::Text => "text/plain",
        DataKind::Binary => "application/octet-stream",
    };
    Ok((Some(data), Some(declared.unwrap_or(implied))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_the_declared_one_or_that_of_what_is_found() {
        for (declared, body, expect) in [
            (None, &b"{}"[..], Some((DataKind::Json, "application/json"))),
            (None, b"a", Some((DataKind::Text, "text/plain"))),
            (
                None,
                b"\xff",
                Some((DataKind::Binary, "application/octet-stream")),
            ),
            (Some("text/css"), b"5", Some((DataKind::Text, "text/css"))),
            (Some("text/css"), b"", None),
        ] {
            let (data, media_type) = read(declared, Bytes::from_static(body)).unwrap();
            let found = data.map(|data| (data.kind(), media_type.unwrap()));
            assert_eq!(found, expect, "{declared:?} {body:?}");
        }
        assert_eq!(
            read(Some("text/css"), Bytes::new()).unwrap().1,
            Some("text/css")
        );
        assert!(read(Some("application/json"), Bytes::from_static(b"x")).is_err());
    }
}
