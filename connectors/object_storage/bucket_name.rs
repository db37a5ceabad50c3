//! What the name of a bucket may be.

/// Why this cannot be the name of a bucket by the rules of S3 for general purpose buckets, which
/// other stores follow or widen.
pub(super) fn why_invalid(name: &str) -> Option<&'static str> {
    (!(3..=63).contains(&name.len()))
        .then_some("it has 3 to 63 characters")
        .or_else(|| why_misspelt(name))
}

/// The same, whatever its length.
pub(super) fn why_misspelt(name: &str) -> Option<&'static str> {
    let is_edge = |byte: Option<&u8>| {
        byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let bytes = name.as_bytes();
    if bytes.iter().any(u8::is_ascii_uppercase) {
        Some("it has no capital letters")
    } else if !bytes.iter().all(|byte| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.')
    }) {
        Some("it has lower case letters, digits, hyphens and dots alone")
    } else if !is_edge(bytes.first()) || !is_edge(bytes.last()) {
        Some("it begins and ends with a letter or a digit")
    } else if name.contains("..") {
        Some("no two dots stand side by side in it")
    } else if name.parse::<std::net::Ipv4Addr>().is_ok() {
        Some("it is not written as an IP address")
    } else if ["xn--", "sthree-", "amzn-s3-demo-"]
        .iter()
        .any(|start| name.starts_with(start))
    {
        Some("xn--, sthree- and amzn-s3-demo- do not begin one")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_buckets_follow_the_rules_of_s3() {
        for name in [
            "abc",
            "my-bucket",
            "my.bucket.1",
            "0-0",
            "192.168.5",
            // What such names stand for is read as a bucket is: access points, directory buckets.
            "photos-s3alias",
            "photos--ol-s3",
            "photos--euw1-az1--x-s3",
            "photos.mrap",
            "photos-xn--0",
            &*"a".repeat(63),
        ] {
            assert_eq!(why_invalid(name), None, "{name}");
        }
        for (name, why) in [
            ("ab", "3 to 63"),
            (&*"a".repeat(64), "3 to 63"),
            ("Photos", "capital"),
            ("my_bucket", "hyphens"),
            ("fotos\u{fc}", "hyphens"),
            ("-photos", "begins"),
            ("photos.", "ends"),
            ("my..photos", "side by side"),
            ("192.168.5.4", "IP address"),
            ("xn--photos", "begin one"),
            ("sthree-photos", "begin one"),
            ("amzn-s3-demo-bucket", "begin one"),
        ] {
            assert!(
                why_invalid(name).is_some_and(|found| found.contains(why)),
                "{name}: {:?}",
                why_invalid(name)
            );
        }
    }
}
