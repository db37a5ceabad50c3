//! The body of a message as it came: whether it is whole, and unpacked where it was packed.

use std::io::Read;

use bytes::Bytes;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use md5::Md5;
use sha1::{Digest as _, Sha1};

use super::proto::{Digest, DigestType, Encoding, SystemProperties};

/// How large a body may be once it is unpacked: a multiple of what a broker takes.
const UNPACKED_BYTES_MAX: u64 = 32 << 20;

/// What packed bodies begin with. Clients of RocketMQ 4 pack in several ways, all of which a proxy
/// calls `GZIP`.
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZLIB: u8 = 0x78;
const LZ4: &[u8] = &[0x04, 0x22, 0x4d, 0x18];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Reads a body.
///
/// # Errors
/// It is another than the one that was sent, or cannot be unpacked.
pub(super) fn read(properties: &SystemProperties, body: &Bytes) -> Result<Bytes, String> {
    if let Some(digest) = &properties.body_digest {
        check(digest, body)?;
    }
    match properties.body_encoding() {
        Encoding::Gzip => unpack(body),
        Encoding::Unspecified | Encoding::Identity => Ok(body.clone()),
    }
}

fn check(digest: &Digest, body: &[u8]) -> Result<(), String> {
    let sum = match digest.r#type() {
        // `Long.toHexString`, which has no leading zeros.
        DigestType::Crc32 => format!("{:x}", crc32fast::hash(body)),
        DigestType::Md5 => hex::encode(Md5::digest(body)),
        DigestType::Sha1 => hex::encode(Sha1::digest(body)),
        DigestType::Unspecified => return Ok(()),
    };
    let told = digest.checksum.trim();
    let bare = |sum: &str| sum.trim_start_matches('0').to_ascii_lowercase();
    match bare(told) == bare(&sum) {
        true => Ok(()),
        false => Err(format!(
            "its body is not the one that was sent: its {:?} is {sum} and not {told}",
            digest.r#type()
        )),
    }
}

fn unpack(body: &Bytes) -> Result<Bytes, String> {
    let mut unpacked = Vec::new();
    let read = if body.starts_with(GZIP) {
        let packed = MultiGzDecoder::new(&body[..]);
        packed
            .take(UNPACKED_BYTES_MAX + 1)
            .read_to_end(&mut unpacked)
    } else if body.first() == Some(&ZLIB) {
        let packed = ZlibDecoder::new(&body[..]);
        packed
            .take(UNPACKED_BYTES_MAX + 1)
            .read_to_end(&mut unpacked)
    } else {
        let how = match &body[..] {
            body if body.starts_with(LZ4) => "by LZ4",
            body if body.starts_with(ZSTD) => "by Zstandard",
            _ => "in an unknown way",
        };
        return Err(format!(
            "its body is packed {how}: only gzip and zlib are unpacked"
        ));
    };
    read.map_err(|error| format!("its body cannot be unpacked: {error}"))?;
    if unpacked.len() as u64 > UNPACKED_BYTES_MAX {
        let most = UNPACKED_BYTES_MAX >> 20;
        return Err(format!("its body unpacks to more than {most} MiB"));
    }
    Ok(unpacked.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::*;

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(body).unwrap();
        packed.finish().unwrap()
    }

    fn zlib(body: &[u8]) -> Vec<u8> {
        let mut packed = ZlibEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(body).unwrap();
        packed.finish().unwrap()
    }

    fn properties(encoding: Encoding, digest: Option<(DigestType, &str)>) -> SystemProperties {
        SystemProperties {
            body_encoding: encoding.into(),
            body_digest: digest.map(|(kind, sum)| Digest {
                r#type: kind.into(),
                checksum: sum.to_owned(),
            }),
            ..SystemProperties::default()
        }
    }

    #[test]
    fn a_digest_tells_whether_a_body_is_the_one_that_was_sent() {
        const MD5: &str = "5D41402ABC4B2A76B9719D911017C592";
        const SHA1: &str = "AAF4C61DDCC5E8A2DABEDE0F3B482CD9AEA9434D";
        for (body, kind, sum, expect) in [
            ("hello", DigestType::Crc32, "3610A686", true),
            ("hello", DigestType::Crc32, "3610a686", true),
            ("hello", DigestType::Crc32, "3610A687", false),
            ("hello", DigestType::Md5, MD5, true),
            ("hellO", DigestType::Md5, MD5, false),
            ("hello", DigestType::Sha1, SHA1, true),
            ("hellO", DigestType::Sha1, SHA1, false),
            ("hello", DigestType::Sha1, "", false),
            ("hello", DigestType::Unspecified, "?", true),
        ] {
            let properties = properties(Encoding::Identity, Some((kind, sum)));
            let read = read(&properties, &Bytes::from(body));
            assert_eq!(read.is_ok(), expect, "{body} {kind:?} {sum}: {read:?}");
        }
        let zero = (0..).map(|number: u32| number.to_string());
        let zero = zero
            .map(Bytes::from)
            .find(|body| crc32fast::hash(body) < 0x1000_0000)
            .unwrap();
        let sum = format!("{:X}", crc32fast::hash(&zero));
        let properties = properties(Encoding::Identity, Some((DigestType::Crc32, &sum)));
        assert_eq!(read(&properties, &zero), Ok(zero.clone()));
    }

    #[test]
    fn packed_bodies_are_unpacked_up_to_a_bound() {
        let bomb = vec![0; usize::try_from(UNPACKED_BYTES_MAX).unwrap() + 1];
        let most = "unpacks to more than 32 MiB";
        for (packed, expect) in [
            (gzip(b"hello"), Ok("hello")),
            (zlib(b"hello"), Ok("hello")),
            (gzip(&bomb), Err(most)),
            (zlib(&bomb), Err(most)),
            (gzip(b"hello")[..12].to_vec(), Err("cannot be unpacked")),
            (zlib(b"hello")[..4].to_vec(), Err("cannot be unpacked")),
            ([LZ4, b"x"].concat(), Err("packed by LZ4")),
            ([ZSTD, b"x"].concat(), Err("packed by Zstandard")),
            (b"hello".to_vec(), Err("in an unknown way")),
            (Vec::new(), Err("in an unknown way")),
        ] {
            let found = read(&properties(Encoding::Gzip, None), &packed.into());
            match (&found, expect) {
                (Ok(found), Ok(expect)) => assert_eq!(&found[..], expect.as_bytes()),
                (Err(found), Err(expect)) => assert!(found.contains(expect), "{found}"),
                other => panic!("{other:?}"),
            }
        }
    }
}
