//! What a response means.

use std::time::{Duration, SystemTime};

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use pointsman_schemas::Class;

/// The class of a response: 410 first, then 401 and 403, then `Retry-After` on any failure, then
/// the status alone.
pub(crate) fn classify(status: StatusCode, retry_after: Option<Duration>) -> Class {
    match status.as_u16() {
        200..=299 => Class::Delivered,
        410 => Class::Gone,
        401 | 403 => Class::Refused,
        _ if retry_after.is_some() => Class::Throttled,
        429 | 503 => Class::Throttled,
        502 | 504 => Class::Unavailable,
        404 | 408 | 409 | 425 => Class::Failed,
        300..=499 => Class::Rejected,
        _ => Class::Failed,
    }
}

/// How long the target asks to be left alone: RFC 9110, section 10.2.3, seconds or a date. What is
/// neither says nothing.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_classes_and_its_precedence() {
        let soon = Some(Duration::from_secs(2));
        for (statuses, given, expect) in [
            (&[200, 201, 202, 204, 299][..], None, Class::Delivered),
            (&[200], soon, Class::Delivered),
            (&[410], soon, Class::Gone),
            (&[410], None, Class::Gone),
            (&[401, 403], soon, Class::Refused),
            (&[401, 403], None, Class::Refused),
            (
                &[301, 400, 404, 408, 422, 429, 500, 502, 503, 504, 599],
                soon,
                Class::Throttled,
            ),
            (&[429, 503], None, Class::Throttled),
            (&[502, 504], None, Class::Unavailable),
            (
                &[
                    404, 408, 409, 425, 500, 501, 505, 507, 511, 599, 600, 999, 101,
                ],
                None,
                Class::Failed,
            ),
            (
                &[
                    300, 301, 302, 303, 304, 307, 308, 400, 402, 405, 406, 411, 412, 413, 415, 418,
                    421, 422, 431, 451, 499,
                ],
                None,
                Class::Rejected,
            ),
        ] {
            for status in statuses {
                assert_eq!(
                    classify(StatusCode::from_u16(*status).unwrap(), given),
                    expect,
                    "{status} {given:?}"
                );
            }
        }
    }

    #[test]
    fn retry_after_is_seconds_or_any_of_the_three_dates() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 30);
        for (text, expect) in [
            ("2", Some(2)),
            (" 120 ", Some(120)),
            ("0", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(30)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(30)),
            ("Sun Nov  6 08:49:37 1994", Some(30)),
            ("Tue, 06 Nov 1984 08:49:37 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            assert_eq!(
                retry_after(&headers, now),
                expect.map(Duration::from_secs),
                "{text}"
            );
        }
    }
}
