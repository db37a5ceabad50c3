//! Addresses, and ranges of them: what `cidr` takes, and what it is held against.
//!
//! Both sides are read alike and strictly (RFC 6943, section 3.1.1). A part with a leading zero is
//! octal to some readers and decimal to others, so it is no address at all. An IPv4-mapped address
//! (RFC 4291, section 2.5.5.2) is the IPv4 address in it, however it is spelt: that is how sockets
//! for both families name their IPv4 peers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Why a text is no range, and what to write in its place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) message: String,
    pub(super) help: String,
}

/// The bits in front of the IPv4 address in a mapped one.
const MAPPED_BITS: u8 = 96;

const FORM: &str = "write 10.0.0.0/8 or 2001:db8::/32";

/// The address that a text of an event is.
pub(crate) fn address(text: &[u8]) -> Option<IpAddr> {
    // The longest address has 45 bytes, and every one has a point or a colon near its beginning.
    if text.len() > 45 || !text.iter().take(5).any(|byte| matches!(byte, b'.' | b':')) {
        return None;
    }
    std::str::from_utf8(text)
        .ok()?
        .parse::<IpAddr>()
        .ok()
        .map(|address| address.to_canonical())
}

/// Reads `address/length`; bits past the length may be set, and say nothing.
pub(super) fn range(text: &str) -> Result<IpNet, Refused> {
    let refused = |message: String, help: String| Err(Refused { message, help });
    let Some((before, behind)) = text.split_once('/') else {
        return match text.parse::<IpAddr>() {
            Ok(address) => refused(
                format!("{text:?} is one address, and no range"),
                format!("write {}", IpNet::from(address.to_canonical())),
            ),
            Err(_) => refused(
                format!("{text:?} is not a range of addresses"),
                FORM.to_owned(),
            ),
        };
    };
    let Ok(address) = before.parse::<IpAddr>() else {
        return match without_zeros(before) {
            Some(meant) => refused(
                format!(
                    "{before:?} has a part with a leading zero, which is octal to some and \
                     decimal to others"
                ),
                format!("write {meant}/{behind}"),
            ),
            None => refused(
                format!("{text:?} is not a range of addresses"),
                FORM.to_owned(),
            ),
        };
    };
    let is_plain = !behind.is_empty()
        && behind.bytes().all(|byte| byte.is_ascii_digit())
        && (behind == "0" || !behind.starts_with('0'));
    let Some(length) = behind.parse::<u8>().ok().filter(|_| is_plain) else {
        return refused(
            format!("{behind:?} is not the length of a range"),
            FORM.to_owned(),
        );
    };
    match (address, address.to_canonical()) {
        (IpAddr::V6(_), IpAddr::V4(mapped)) => {
            let within = length
                .checked_sub(MAPPED_BITS)
                .filter(|length| *length <= 32);
            refused(
                format!(
                    "{text:?} is written as an IPv4 address inside an IPv6 one; such addresses \
                     are held against ranges of IPv4"
                ),
                within.map_or(FORM.to_owned(), |length| format!("write {mapped}/{length}")),
            )
        }
        (address, _) => IpNet::new(address, length).or_else(|_| {
            let longest = if address.is_ipv4() {
                Ipv4Addr::BITS
            } else {
                Ipv6Addr::BITS
            };
            refused(
                format!("{length} is longer than the address, which has {longest} bits"),
                FORM.to_owned(),
            )
        }),
    }
}

/// An IPv4 address without the zeros in front of its parts, where it is one but for those.
fn without_zeros(text: &str) -> Option<Ipv4Addr> {
    let parts: Option<Vec<_>> = text
        .split('.')
        .map(|part| part.parse::<u8>().ok().map(|part| part.to_string()))
        .collect();
    parts?.join(".").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_an_address_and_a_length() {
        for (text, expect) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3/8", "10.1.2.3/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("255.255.255.255/32", "255.255.255.255/32"),
            ("::/0", "::/0"),
            ("2001:DB8::1/32", "2001:db8::1/32"),
            ("0011:0:0::/24", "11::/24"),
            ("::1/128", "::1/128"),
            ("::10.0.0.1/128", "::a00:1/128"),
            ("64:ff9b::10.0.0.0/104", "64:ff9b::a00:0/104"),
        ] {
            assert_eq!(
                range(text).map(|net| net.to_string()),
                Ok(expect.to_owned()),
                "{text}"
            );
        }
        for (text, help) in [
            ("010.0.0.1/8", "write 10.0.0.1/8"),
            ("10.0.00.1/8", "write 10.0.0.1/8"),
            ("10.0.0.0/08", FORM),
            ("10.0.0.0/+8", FORM),
            ("10.0.0.0/-8", FORM),
            ("10.0.0.0/", FORM),
            ("10.0.0.0/33", FORM),
            ("::/129", FORM),
            ("::/256", FORM),
            ("10.0.0.0/8/8", FORM),
            ("10.0.0.0", "write 10.0.0.0/32"),
            ("::ffff:1.2.3.4", "write 1.2.3.4/32"),
            ("::ffff:10.0.0.0/104", "write 10.0.0.0/8"),
            ("::FFFF:a00:0/104", "write 10.0.0.0/8"),
            ("::ffff:0:0/96", "write 0.0.0.0/0"),
            ("::ffff:10.0.0.0/8", FORM),
            ("10.0.0/8", FORM),
            ("0x10.0.0.1/8", FORM),
            ("167772161/8", FORM),
            (" 10.0.0.0/8", FORM),
            ("fe80::1%eth0/64", FORM),
            ("[::1]/64", FORM),
            ("١.0.0.0/8", FORM),
            ("", FORM),
            ("/8", FORM),
        ] {
            assert_eq!(
                range(text).map_err(|refused| refused.help),
                Err(help.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn an_address_of_an_event_is_one_address_whatever_its_spelling() {
        for (text, expect) in [
            ("10.0.0.1", Some("10.0.0.1")),
            ("::ffff:10.0.0.1", Some("10.0.0.1")),
            ("::FFFF:a00:1", Some("10.0.0.1")),
            (
                "0000:0000:0000:0000:0000:ffff:255.255.255.255",
                Some("255.255.255.255"),
            ),
            (
                "2001:0db8:0000:0000:0000:0000:0000:0001",
                Some("2001:db8::1"),
            ),
            ("::10.0.0.1", Some("::a00:1")),
            ("::", Some("::")),
            ("1::", Some("1::")),
            ("010.0.0.1", None),
            ("10.0.0.1:80", None),
            ("10.0.0.1/8", None),
            ("10.1", None),
            ("0x7f.0.0.1", None),
            ("2130706433", None),
            ("[::1]", None),
            ("fe80::1%eth0", None),
            (" 10.0.0.1", None),
            ("10.0.0.1 ", None),
            ("", None),
        ] {
            assert_eq!(
                address(text.as_bytes()).map(|address| address.to_string()),
                expect.map(ToOwned::to_owned),
                "{text}"
            );
        }
        assert_eq!(address(b"10.0.0.\xff"), None);
    }
}
