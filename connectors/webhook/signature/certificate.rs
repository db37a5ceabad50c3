//! Certificates of those who sign.

use pointsman_schemas::Timestamp;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::rsa::{BITS_MIN, RsaKey};
use super::scheme::Certificate;

/// The names that a certificate is made out to, at most: a provider's has a few.
const NAMES_MAX: usize = 100;

/// What is read of a certificate.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Signer {
    pub(super) key: RsaKey,
    names: Vec<String>,
    /// First and last second in which it counts; none of a bare key.
    valid: Option<(i64, i64)>,
}

/// How many certificates of a file are looked at.
const CHAIN_MAX: usize = 10;

/// Whether it may sign certificates: RFC 5280, section 4.2.1.9.
fn is_authority(der: &[u8]) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(_, certificate)| certificate.is_ca())
}

impl Signer {
    /// Reads the certificate of a PEM file, one in DER, or a bare public key in PEM. Of a chain it
    /// is the first one that is no authority's, in whatever order it comes. The others are not
    /// looked at: the signer is known by the host that the file was fetched from, by TLS, and by
    /// its name. A chain would say no more: several providers serve none, and who can put a file
    /// onto their hosts could put a chain there, too.
    ///
    /// # Errors
    /// There is none with an RSA key.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, &'static str> {
        const NONE: &str = "there is no certificate with an RSA key of 512 to 8192 bits";
        let chain: Vec<_> = CertificateDer::pem_slice_iter(bytes)
            .take(CHAIN_MAX)
            .map_while(Result::ok)
            .collect();
        if let Some(certificate) = chain
            .iter()
            .find(|certificate| !is_authority(certificate))
            .or_else(|| chain.first())
        {
            return Self::from_der(certificate).ok_or(NONE);
        }
        if let Ok(info) = SubjectPublicKeyInfoDer::from_pem_slice(bytes) {
            let key = RsaKey::from_info(&info).ok_or(NONE)?;
            return Ok(Self {
                key,
                names: Vec::new(),
                valid: None,
            });
        }
        Self::from_der(bytes).ok_or(NONE)
    }

    fn from_der(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let key = RsaKey::from_info(certificate.public_key().raw)?;
        let common = certificate
            .subject()
            .iter_common_name()
            .filter_map(|name| name.as_str().ok());
        let alternative = certificate.subject_alternative_name().ok().flatten();
        let alternatives = alternative
            .iter()
            .flat_map(|extension| &extension.value.general_names)
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(*name),
                _ => None,
            });
        let names = common
            .chain(alternatives)
            .take(NAMES_MAX)
            .map(str::to_owned)
            .collect();
        let validity = certificate.validity();
        Some(Self {
            key,
            names,
            valid: Some((
                validity.not_before.timestamp(),
                validity.not_after.timestamp(),
            )),
        })
    }

    /// Whether it counts for what a scheme asks.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check(&self, wanted: &Certificate, now: Timestamp) -> Result<(), String> {
        if self.key.bits() < BITS_MIN && !wanted.allow_weak_key {
            return Err(format!(
                "the signer's key has {} bits, and {BITS_MIN} are needed",
                self.key.bits()
            ));
        }
        let seconds = now.0.div_euclid(1_000_000);
        if !wanted.allow_expired
            && self
                .valid
                .is_some_and(|(from, to)| !(from..=to).contains(&seconds))
        {
            return Err("the signer's certificate is not valid today".to_owned());
        }
        let is_named = |name: &String| wanted.names.iter().any(|pattern| pattern.names(name));
        if !wanted.names.is_empty() && !self.names.iter().any(is_named) {
            return Err("the signer's certificate is made out to somebody else".to_owned());
        }
        Ok(())
    }
}
