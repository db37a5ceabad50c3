//! Which addresses may be called: the guard against server-side request forgery.
//!
//! A URL's host is parsed once, by the WHATWG rules that also read `2130706433`, `0x7f.1`, `127.1`
//! and full-width digits, and what is dialled is what was parsed. Names are resolved first, every
//! address found is checked, and exactly a checked one is dialled.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use url::{Host, Url};

/// Not the public internet: IANA's special-purpose registry (RFC 6890 and its updates), multicast
/// and reserved space.
const DENIED_V4: [(Ipv4Net, &str); 15] = [
    (v4([0, 0, 0, 0], 8), "of this network"),
    (v4([10, 0, 0, 0], 8), "private"),
    (v4([100, 64, 0, 0], 10), "of a carrier's shared space"),
    (v4([127, 0, 0, 0], 8), "loopback"),
    (v4([169, 254, 0, 0], 16), "link-local"),
    (v4([172, 16, 0, 0], 12), "private"),
    (v4([192, 0, 0, 0], 24), "reserved"),
    (v4([192, 0, 2, 0], 24), "for documentation"),
    (v4([192, 88, 99, 0], 24), "a 6to4 relay"),
    (v4([192, 168, 0, 0], 16), "private"),
    (v4([198, 18, 0, 0], 15), "for benchmarks"),
    (v4([198, 51, 100, 0], 24), "for documentation"),
    (v4([203, 0, 113, 0], 24), "for documentation"),
    (v4([224, 0, 0, 0], 4), "multicast"),
    (v4([240, 0, 0, 0], 4), "reserved"),
];

/// Those that hold an IPv4 address are denied whatever it is: nobody needs them to name a function.
const DENIED_V6: [(Ipv6Net, &str); 13] = [
    (
        v6([0, 0, 0, 0, 0, 0, 0, 0], 96),
        "loopback, unspecified or IPv4-compatible",
    ),
    (v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96), "IPv4-mapped"),
    (v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96), "IPv4-translated"),
    (v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96), "behind NAT64"),
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), "behind NAT64"),
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), "discarded"),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), "reserved"),
    (
        v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),
        "for documentation",
    ),
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), "6to4"),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), "unique local"),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "link-local"),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), "site-local"),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "multicast"),
];

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6([a, b, c, d, e, f, g, h]: [u16; 8], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix)
}

/// What a target's outcome says besides, whose host an event decided.
pub(crate) const HOW_TO_ALLOW: &str = "allow_private_addresses: true of the target allows it";

/// Whether addresses outside the public internet may be called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guard {
    /// True lets every address through.
    pub(crate) allow_private_addresses: bool,
}

/// An address that must not be called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the address {address} is {what} and must not be called")]
pub(crate) struct Denied {
    address: IpAddr,
    what: &'static str,
}

impl Guard {
    /// Checks an address.
    pub(crate) fn check(self, address: IpAddr) -> Result<(), Denied> {
        let found = match address {
            _ if self.allow_private_addresses => None,
            IpAddr::V4(v4) => DENIED_V4
                .iter()
                .find(|(net, _)| net.contains(&v4))
                .map(|(_, what)| *what),
            IpAddr::V6(v6) => DENIED_V6
                .iter()
                .find(|(net, _)| net.contains(&v6))
                .map(|(_, what)| *what),
        };
        found.map_or(Ok(()), |what| Err(Denied { address, what }))
    }

    /// Checks the address that a URL spells out, if it does; a name is checked once it is resolved.
    pub(crate) fn check_url(self, url: &Url) -> Result<(), Denied> {
        match url.host() {
            Some(Host::Ipv4(address)) => self.check(address.into()),
            Some(Host::Ipv6(address)) => self.check(address.into()),
            Some(Host::Domain(_)) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON: Guard = Guard {
        allow_private_addresses: false,
    };

    #[test]
    fn every_spelling_of_an_inner_address_is_denied() {
        for host in [
            "127.0.0.1",
            "2130706433",
            "0x7f.1",
            "0177.0.0.1",
            "127.1",
            "0x7f000001",
            "017700000001",
            "127.0.0.1.",
            "１２７.０.０.１",
            "127。0。0。1",
            "%31%32%37.0.0.1",
            "①②⑦.⓪.⓪.①",
            "10.0.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "2852039166",
            "100.64.0.1",
            "0.0.0.0",
            "0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "198.18.0.1",
            "192.0.2.1",
            "192.0.0.170",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::127.0.0.1]",
            "[0:0:0:0:0:ffff:a00:1]",
            "[::ffff:0:127.0.0.1]",
            "[64:ff9b::127.0.0.1]",
            "[64:ff9b:1::1]",
            "[2002:7f00:1::]",
            "[2001::1]",
            "[fc00::1]",
            "[fd12:3456::1]",
            "[fe80::1]",
            "[fec0::1]",
            "[ff02::1]",
            "[2001:db8::1]",
            "[100::1]",
        ] {
            let url = Url::parse(&format!("http://{host}/"))
                .unwrap_or_else(|error| panic!("{host}: {error}"));
            assert!(ON.check_url(&url).is_err(), "{host} is {:?}", url.host());
            assert!(
                Guard {
                    allow_private_addresses: true
                }
                .check_url(&url)
                .is_ok()
            );
        }
    }

    #[test]
    fn the_public_internet_is_not() {
        for host in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "223.255.255.255",
            "[2606:4700::1111]",
            "[2001:4860:4860::8888]",
            "example.com",
        ] {
            assert_eq!(
                ON.check_url(&Url::parse(&format!("http://{host}/")).unwrap()),
                Ok(()),
                "{host}"
            );
        }
    }
}
