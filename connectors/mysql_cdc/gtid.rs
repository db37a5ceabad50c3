//! Global transaction identifiers: one, and which of them are read.

use std::collections::BTreeMap;
use std::fmt;

/// A server of MySQL, by its UUID.
type Uuid = [u8; 16];

/// What tells a transaction from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gtid {
    MySql {
        server: Uuid,
        number: u64,
    },
    MariaDb {
        domain: u32,
        server: u32,
        number: u64,
    },
}

/// Which transactions are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gtids {
    /// All of these, as ranges by their first and the one behind the last.
    MySql(BTreeMap<Uuid, Vec<(u64, u64)>>),
    /// Of each domain all up to this one: a server, and the number that it gave.
    MariaDb(BTreeMap<u32, (u32, u64)>),
}

fn write_uuid(uuid: &Uuid, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            f.write_str("-")?;
        }
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

fn read_uuid(text: &str) -> Option<Uuid> {
    let mut uuid = [0; 16];
    hex::decode_to_slice(text.replace('-', ""), &mut uuid).ok()?;
    Some(uuid)
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MySql { server, number } => {
                write_uuid(server, f)?;
                write!(f, ":{number}")
            }
            Self::MariaDb {
                domain,
                server,
                number,
            } => write!(f, "{domain}-{server}-{number}"),
        }
    }
}

impl fmt::Display for Gtids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MySql(servers) => {
                for (index, (server, ranges)) in servers.iter().enumerate() {
                    f.write_str(if index > 0 { "," } else { "" })?;
                    write_uuid(server, f)?;
                    for (first, behind) in ranges {
                        match behind - first {
                            1 => write!(f, ":{first}")?,
                            _ => write!(f, ":{first}-{}", behind - 1)?,
                        }
                    }
                }
            }
            Self::MariaDb(domains) => {
                for (index, (domain, (server, number))) in domains.iter().enumerate() {
                    f.write_str(if index > 0 { "," } else { "" })?;
                    write!(f, "{domain}-{server}-{number}")?;
                }
            }
        }
        Ok(())
    }
}

impl Gtids {
    /// Reads what a server writes, or what was stored; nothing where it cannot be read, also where
    /// it has tags, which are not known here.
    pub(super) fn read(text: &str, is_mariadb: bool) -> Option<Self> {
        let parts = text.split(',').map(str::trim);
        let parts = parts.filter(|part| !part.is_empty());
        if is_mariadb {
            let one = |part: &str| {
                let mut numbers = part.split('-');
                let domain = numbers.next()?.parse().ok()?;
                let server = numbers.next()?.parse().ok()?;
                let number = numbers.next()?.parse().ok()?;
                Some((domain, (server, number)))
            };
            return parts.map(one).collect::<Option<_>>().map(Self::MariaDb);
        }
        let mut servers = BTreeMap::<_, Vec<_>>::new();
        for part in parts {
            let mut ranges = part.split(':');
            let own = servers.entry(read_uuid(ranges.next()?)?).or_default();
            for range in ranges {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
                own.push((first, last.checked_add(1).filter(|_| first <= last)?));
            }
        }
        servers.values_mut().for_each(merge);
        Some(Self::MySql(servers))
    }

    /// Adds one that is read.
    pub(super) fn add(&mut self, gtid: Gtid) {
        match (self, gtid) {
            (Self::MySql(servers), Gtid::MySql { server, number }) => {
                let ranges = servers.entry(server).or_default();
                match ranges.last_mut() {
                    // It nearly always is the next one.
                    Some((_, behind)) if *behind == number => *behind += 1,
                    _ => {
                        ranges.push((number, number.saturating_add(1)));
                        merge(ranges);
                    }
                }
            }
            (
                Self::MariaDb(domains),
                Gtid::MariaDb {
                    domain,
                    server,
                    number,
                },
            ) => {
                domains.insert(domain, (server, number));
            }
            // A server has either.
            _ => {}
        }
    }

    /// Whether some of these could be read from a server that has those: they share a server, or a
    /// domain, or there are none yet.
    pub(super) fn is_akin(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::MySql(own), Self::MySql(others)) => {
                own.is_empty() || own.keys().any(|server| others.contains_key(server))
            }
            (Self::MariaDb(own), Self::MariaDb(others)) => {
                own.is_empty() || own.keys().any(|domain| others.contains_key(domain))
            }
            _ => false,
        }
    }

    /// Those of MySQL as a replica sends them (`Gtid_set::encode` in its source).
    pub(super) fn encoded(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let Self::MySql(servers) = self else {
            return out;
        };
        out.extend_from_slice(&(servers.len() as u64).to_le_bytes());
        for (server, ranges) in servers {
            out.extend_from_slice(server);
            out.extend_from_slice(&(ranges.len() as u64).to_le_bytes());
            for (first, behind) in ranges {
                out.extend_from_slice(&first.to_le_bytes());
                out.extend_from_slice(&behind.to_le_bytes());
            }
        }
        out
    }
}

/// Sorts ranges, and makes one of those that touch.
fn merge(ranges: &mut Vec<(u64, u64)>) {
    ranges.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
    for (first, behind) in ranges.drain(..) {
        match merged.last_mut() {
            Some((_, end)) if first <= *end => *end = behind.max(*end),
            _ => merged.push((first, behind)),
        }
    }
    *ranges = merged;
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

    #[test]
    fn sets_are_read_as_they_are_written_and_merged() {
        for (text, is_mariadb, expect) in [
            ("", false, Some(String::new())),
            (
                &format!("{A}:1-5:7,\n{B}:3"),
                false,
                Some(format!("{A}:1-5:7,{B}:3")),
            ),
            (
                &format!("{A}:6:1-5:8-9"),
                false,
                Some(format!("{A}:1-6:8-9")),
            ),
            (&format!("{A}:tag:1-5"), false, None),
            (&format!("{A}:5-1"), false, None),
            ("0-1-5,7-2-9", true, Some("0-1-5,7-2-9".to_owned())),
            ("0-1", true, None),
        ] {
            let read = Gtids::read(text, is_mariadb);
            assert_eq!(read.map(|gtids| gtids.to_string()), expect, "{text}");
        }
    }

    #[test]
    fn transactions_are_added_in_any_order() {
        let mut gtids = Gtids::read(&format!("{A}:1-5"), false).unwrap();
        let server = read_uuid(A).unwrap();
        for (number, expect) in [
            (6, "1-6"),
            (9, "1-6:9"),
            (8, "1-6:8-9"),
            (7, "1-9"),
            (3, "1-9"),
        ] {
            gtids.add(Gtid::MySql { server, number });
            assert_eq!(gtids.to_string(), format!("{A}:{expect}"));
        }
        let mut gtids = Gtids::read("0-1-5", true).unwrap();
        gtids.add(Gtid::MariaDb {
            domain: 0,
            server: 2,
            number: 6,
        });
        assert_eq!(gtids.to_string(), "0-2-6");
    }

    #[test]
    fn a_set_is_sent_as_a_replica_does() {
        let gtids = Gtids::read(&format!("{A}:1-5"), false).unwrap();
        let expect = "01000000000000003e11fa4771ca11e19e33c80aa9429562\
                      010000000000000001000000000000000600000000000000";
        assert_eq!(hex::encode(gtids.encoded()), expect);
    }
}
