//! RSA public keys: RFC 8017.

use num_bigint::BigUint;
use ring::signature::{
    RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
    RsaParameters, RsaPublicKeyComponents,
};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Below this, a key can be broken by whoever wants to.
pub(super) const BITS_MIN: usize = 2_048;

/// The shortest key that a provider still signs with (Alibaba's Message Service).
const WEAK_BITS_MIN: usize = 512;

/// The longest: each bit more costs the receiver.
const BITS_MAX: usize = 8_192;

/// The `DigestInfo` in front of a hash: RFC 8017, section 9.2, note 1.
const SHA1_INFO: &[u8] = &[
    0x30, 0x21, 0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00, 0x04, 0x14,
];
const SHA256_INFO: &[u8] = &[
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];

/// The hash under a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RsaHash {
    Sha1,
    Sha256,
}

/// A public key: modulus and exponent, big-endian, without zeros in front.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct RsaKey {
    n: Vec<u8>,
    e: Vec<u8>,
}

impl RsaKey {
    /// A key by its numbers, big-endian.
    pub(super) fn new(n: &[u8], e: &[u8]) -> Option<Self> {
        let trim = |bytes: &[u8]| {
            bytes
                .iter()
                .copied()
                .skip_while(|byte| *byte == 0)
                .collect::<Vec<_>>()
        };
        let key = Self {
            n: trim(n),
            e: trim(e),
        };
        // An even exponent has no inverse, 1 signs nothing, and a long one only costs: ring takes
        // up to 33 bits.
        let is_odd = |bytes: &[u8]| bytes.last().is_some_and(|byte| byte % 2 == 1);
        let fine = (WEAK_BITS_MIN..=BITS_MAX).contains(&key.bits())
            && is_odd(&key.n)
            && is_odd(&key.e)
            && key.e != [1]
            && key.e.len() <= 4;
        fine.then_some(key)
    }

    /// RFC 5280, section 4.1: a `SubjectPublicKeyInfo` around an `RSAPublicKey` of RFC 8017,
    /// appendix A.1.1.
    pub(super) fn from_info(der: &[u8]) -> Option<Self> {
        use x509_parser::prelude::FromDer;
        use x509_parser::public_key::PublicKey;
        let (_, info) = x509_parser::x509::SubjectPublicKeyInfo::from_der(der).ok()?;
        match info.parsed().ok()? {
            PublicKey::RSA(key) => Self::new(key.modulus, key.exponent),
            _ => None,
        }
    }

    /// How long the modulus is.
    pub(super) fn bits(&self) -> usize {
        let first = self
            .n
            .first()
            .map_or(0, |byte| byte.leading_zeros() as usize);
        (self.n.len() * 8).saturating_sub(first)
    }

    /// Whether a signature by PKCS #1 v1.5 fits.
    pub(super) fn fits(&self, hash: RsaHash, message: &[u8], signature: &[u8]) -> bool {
        let parameters: &RsaParameters = match hash {
            RsaHash::Sha1 => &RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
            RsaHash::Sha256 => &RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
        };
        if self.bits() >= 1_024 {
            return self.verify(parameters, message, signature);
        }
        let (info, digest) = match hash {
            RsaHash::Sha1 => (SHA1_INFO, Sha1::digest(message).to_vec()),
            RsaHash::Sha256 => (SHA256_INFO, Sha256::digest(message).to_vec()),
        };
        // The whole block is compared, padding included, so that nothing can hide in it (RFC 8017,
        // section 8.2.2).
        self.opened(signature)
            .is_some_and(|block| block == padded(self.n.len(), &[info, &digest].concat()))
    }

    /// Whether a signature fits by parameters of ring's.
    pub(super) fn verify(
        &self,
        parameters: &RsaParameters,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        RsaPublicKeyComponents {
            n: &self.n,
            e: &self.e,
        }
        .verify(parameters, message, signature)
        .is_ok()
    }

    /// What was packed up with the private key: the content of a block of type 1 (RFC 2313, section
    /// 8.1).
    pub(super) fn recover(&self, packed: &[u8]) -> Option<Vec<u8>> {
        let block = self.opened(packed)?;
        let padding = block.strip_prefix(&[0, 1])?;
        let filled = padding.iter().take_while(|byte| **byte == 0xff).count();
        let content = padding.get(filled..)?.strip_prefix(&[0])?;
        (filled >= 8 && !content.is_empty()).then(|| content.to_vec())
    }

    /// RSAVP1 of RFC 8017, section 5.2.2, as long as the modulus.
    fn opened(&self, packed: &[u8]) -> Option<Vec<u8>> {
        let (n, e) = (
            BigUint::from_bytes_be(&self.n),
            BigUint::from_bytes_be(&self.e),
        );
        let packed_number = BigUint::from_bytes_be(packed);
        if packed.len() != self.n.len() || packed_number >= n {
            return None;
        }
        let opened = packed_number.modpow(&e, &n).to_bytes_be();
        let mut block = vec![0; self.n.len().checked_sub(opened.len())?];
        block.extend_from_slice(&opened);
        Some(block)
    }
}

/// EMSA-PKCS1-v1_5 of RFC 8017, section 9.2; empty where the content is too long.
fn padded(length: usize, content: &[u8]) -> Vec<u8> {
    let Some(filled) = length
        .checked_sub(content.len() + 3)
        .filter(|filled| *filled >= 8)
    else {
        return Vec::new();
    };
    [&[0, 1][..], &vec![0xff; filled], &[0], content].concat()
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;

    use super::*;
    use crate::webhook::signature::certificate::Signer;
    use crate::webhook::signature::fixtures::{SNS, TestKey};

    /// The certificate that Alibaba's Message Service signs by, of 512 bits and long expired, and a
    /// call of March 2023 that it signed.
    const MNS: &str = "-----BEGIN CERTIFICATE-----
MIICiDCCAjKgAwIBAgIJAL+acWZrTrlfMA0GCSqGSIb3DQEBBQUAMGMxCzAJBgNV
BAYTAjg2MREwDwYDVQQIEwhaaGVqaWFuZzERMA8GA1UEBxMISGFuZ3pob3UxDzAN
BgNVBAoTBkFsaXl1bjEMMAoGA1UECxMDTW5zMQ8wDQYDVQQDEwZub3RpZnkwHhcN
MTUwNzAyMDIwNjE2WhcNMTYwNzAxMDIwNjE2WjBjMQswCQYDVQQGEwI4NjERMA8G
A1UECBMIWmhlamlhbmcxETAPBgNVBAcTCEhhbmd6aG91MQ8wDQYDVQQKEwZBbGl5
dW4xDDAKBgNVBAsTA01uczEPMA0GA1UEAxMGbm90aWZ5MFwwDQYJKoZIhvcNAQEB
BQADSwAwSAJBALX0sFVowct1NAQjDyYSUf0rp1rOHLkz4kp0zNWcDyXMXa5PzsPU
UwJXaLwhvNCDLLWuiLK6Oh5elmOmL8Gy/5MCAwEAAaOByDCBxTAdBgNVHQ4EFgQU
kEah2o9HpCUCxhN/fY3kUtPkP4owgZUGA1UdIwSBjTCBioAUkEah2o9HpCUCxhN/
fY3kUtPkP4qhZ6RlMGMxCzAJBgNVBAYTAjg2MREwDwYDVQQIEwhaaGVqaWFuZzER
MA8GA1UEBxMISGFuZ3pob3UxDzANBgNVBAoTBkFsaXl1bjEMMAoGA1UECxMDTW5z
MQ8wDQYDVQQDEwZub3RpZnmCCQC/mnFma065XzAMBgNVHRMEBTADAQH/MA0GCSqG
SIb3DQEBBQUAA0EAluPg+k0Fc7WRcpP78+eLptYD8an7YOapUdNUmT2/SQC5BZ+t
cyWFit5pAEipngFL105d7AuW2AtwqG0FgV0ipw==
-----END CERTIFICATE-----";
    const SIGNED: &str = "POST
4CCBAD7AF2D23C2D00DDECCA59323A8C
text/plain;charset=utf-8
Wed, 29 Mar 2023 08:41:27 GMT
x-mns-message-id:250EB49D5F8D737A391C93C6ED165396
x-mns-publish-time:1680079287576
x-mns-request-id:6423F9B7BF94313030AF5EA0
x-mns-signing-cert-url:aHR0cHM6Ly9tbnN0ZXN0Lm9zcy1jbi1oYW5nemhvdS5hbGl5dW5jcy5jb20veDUwOV9wdWJsaWNfY2VydGlmaWNhdGUucGVt
x-mns-subscriber:1321669497458181
x-mns-subscription-name:mns-en-subs-oss-fecdn-internal-pre-1-22849529855680
x-mns-topic-name:mns-en-topics-oss-fecdn-internal-pre-22849529792243
x-mns-topic-owner:1321669497458181
x-mns-version:2015-06-06
/notifications";
    const SIGNATURE: &str =
        "LP3cxoTCbhsiLJi0KQdEiRaufaxMfWUdLH064yoVoKl8xNcY+299itGmGsirVMY8vDpuZ1VwS0Uw7R5dNduSXg==";

    #[test]
    fn a_real_call_of_alibabas_fits_and_nothing_near_it_does() {
        let key = Signer::read(MNS.as_bytes()).unwrap().key;
        assert_eq!(key.bits(), 512);
        let signature = BASE64_STANDARD.decode(SIGNATURE).unwrap();
        assert!(key.fits(RsaHash::Sha1, SIGNED.as_bytes(), &signature));
        assert!(!key.fits(RsaHash::Sha1, &SIGNED.as_bytes()[1..], &signature));
        assert!(!key.fits(RsaHash::Sha256, SIGNED.as_bytes(), &signature));
        for place in [0, 31, 63] {
            let mut other = signature.clone();
            other[place] ^= 1;
            assert!(
                !key.fits(RsaHash::Sha1, SIGNED.as_bytes(), &other),
                "{place}"
            );
        }
        for other in [
            &signature[..63],
            &[&[0][..], &signature].concat(),
            &[0xff; 64],
            &[0; 64],
            &[],
        ] {
            assert!(!key.fits(RsaHash::Sha1, SIGNED.as_bytes(), other));
        }
    }

    #[test]
    fn what_is_packed_up_is_recovered_whole_or_not_at_all() {
        let (own, key) = (Signer::read(SNS.as_bytes()).unwrap().key, TestKey::new());
        assert_eq!(own.bits(), 2_048);
        assert_eq!(own.recover(&key.pack(b"secret")), Some(b"secret".to_vec()));
        assert_eq!(own.recover(&key.pack(b"")), None);
        assert_eq!(
            own.recover(&key.pack(&[1; 246])),
            None,
            "too little padding"
        );
        assert_eq!(own.recover(&[7; 256]), None);
        assert_eq!(own.recover(&[0xff; 256]), None, "above the modulus");
        assert_eq!(own.recover(b"secret"), None);
        let signature = BASE64_STANDARD.decode(key.sha256(b"text")).unwrap();
        assert!(
            own.fits(RsaHash::Sha256, b"text", &signature)
                && !own.fits(RsaHash::Sha1, b"text", &signature)
        );
    }

    #[test]
    fn numbers_that_are_no_key_are_none() {
        let odd = [[0x80; 255].as_slice(), &[1]].concat();
        assert!(RsaKey::new(&odd, &[1, 0, 1]).is_some());
        for (n, e) in [
            (&odd[..], &[1][..]),
            (&odd, &[4]),
            (&odd, &[]),
            (&odd, &[0]),
            (&odd, &[1, 1, 1, 1, 1]),
            (&[0x80; 256], &[3]),
            (&[1; 8], &[3]),
            (&[0xff; 2_000], &[3]),
            (&[], &[3]),
        ] {
            assert!(RsaKey::new(n, e).is_none(), "{} {e:?}", n.len());
        }
    }
}
