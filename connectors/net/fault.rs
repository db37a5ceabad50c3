//! Why a server cannot be reached, and what a user does about it.
//!
//! Client libraries wrap errors differently, and some keep only their words. The words are those of
//! rustls, of the system and of the libraries, so they are what is looked at here.

/// What is wrong on the way to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The host's name has no address.
    UnknownHost,
    /// The server's certificate is signed by an authority that is not trusted.
    Untrusted,
    /// The server's certificate names other hosts.
    OtherHost,
    /// The server's certificate has expired.
    Expired,
    /// The server's certificate is wrong in some other way.
    BadCertificate,
    /// The server refused the TLS handshake, which it does where it requires a client certificate.
    ClientCertificate,
    /// The server answers a TLS handshake with something else.
    NoTls,
    /// The server closed the connection without an answer.
    Closed,
}

/// What to tell a user about a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Advice {
    /// The setting at fault.
    pub(crate) at: &'static str,
    /// What has happened.
    pub(crate) what: String,
    /// What to do.
    pub(crate) help: &'static str,
}

/// How a connector calls its settings, and what its protocol makes of a fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// The setting with the server's address.
    pub(crate) url: &'static str,
    /// The setting with the certificates.
    pub(crate) tls: &'static str,
    /// How to trust another authority.
    pub(crate) trust: &'static str,
    /// What to do where the server does not speak TLS.
    pub(crate) no_tls: &'static str,
    /// What to do where the server closes a connection without an answer.
    pub(crate) closed: &'static str,
}

/// The words of an error, and the fault that they stand for. The first that is found counts.
const WORDS: [(&str, Fault); 18] = [
    ("failed to lookup address", Fault::UnknownHost),
    ("the name has no address", Fault::UnknownHost),
    ("UnknownIssuer", Fault::Untrusted),
    ("not valid for name", Fault::OtherHost),
    ("NotValidForName", Fault::OtherHost),
    ("certificate expired", Fault::Expired),
    ("certificate: Expired", Fault::Expired),
    ("invalid peer certificate", Fault::BadCertificate),
    ("fatal alert: ", Fault::ClientCertificate),
    ("InvalidContentType", Fault::NoTls),
    ("corrupt message", Fault::NoTls),
    ("connection aborted", Fault::Closed),
    ("onnection reset by peer", Fault::Closed),
    ("roken pipe", Fault::Closed),
    ("handshake eof", Fault::Closed),
    ("unexpected end of file", Fault::Closed),
    ("closed before message completed", Fault::Closed),
    ("the server closed the connection", Fault::Closed),
];

/// Alerts that say nothing about a client's certificate.
const OTHER_ALERTS: [&str; 4] = [
    "ProtocolVersion",
    "InternalError",
    "UnrecognisedName",
    "NoApplicationProtocol",
];

/// What to tell a user about the fault that the words of an error stand for; none where they say
/// something else. `shows_certificate` says whether the client has a certificate of its own.
pub(crate) fn advice(words: &str, settings: &Settings, shows_certificate: bool) -> Option<Advice> {
    let fault = Fault::of(words)?;
    let (at, what, help) = fault.told(settings, shows_certificate);
    let what = match fault {
        // The words name the hosts that the certificate is for.
        Fault::OtherHost => format!("{what}: {words}"),
        _ => what.to_owned(),
    };
    Some(Advice { at, what, help })
}

impl Fault {
    /// The fault that the words of an error stand for; none where they say something else.
    fn of(words: &str) -> Option<Self> {
        let (_, fault) = WORDS.iter().find(|(part, _)| words.contains(part))?;
        let is_other = *fault == Self::ClientCertificate
            && OTHER_ALERTS.iter().any(|alert| words.contains(alert));
        (!is_other).then_some(*fault)
    }

    /// The setting at fault, what has happened, and what to do.
    fn told(
        self,
        settings: &Settings,
        shows_certificate: bool,
    ) -> (&'static str, &'static str, &'static str) {
        let Settings { url, tls, .. } = *settings;
        match self {
            Self::UnknownHost => (
                url,
                "its host name has no address",
                "check the spelling of the host name, and that this machine can resolve it",
            ),
            Self::Untrusted => (
                tls,
                "the server's certificate is signed by an authority that is not trusted here",
                settings.trust,
            ),
            Self::OtherHost => (
                url,
                "the server's certificate is for another host name",
                "write the name that the certificate has into the URL",
            ),
            Self::Expired => (
                tls,
                "the server's certificate has expired",
                "have it renewed at the server, and check the clock of this machine",
            ),
            Self::BadCertificate => (
                tls,
                "the server's certificate is not valid",
                "have the server's certificate checked, and those that are trusted here",
            ),
            Self::ClientCertificate if shows_certificate => (
                tls,
                "the server does not accept the client's certificate",
                "have tls.certificate signed by an authority that the server trusts",
            ),
            Self::ClientCertificate => (
                tls,
                "the server asks for a client certificate",
                "write tls: { certificate: { file: … }, key: { file: … } }",
            ),
            Self::NoTls => (url, "the server does not speak TLS there", settings.no_tls),
            Self::Closed => (
                url,
                "the server closed the connection without an answer",
                settings.closed,
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use rustls::{AlertDescription, CertificateError, InvalidMessage};

    use super::*;

    #[test]
    fn faults_are_known_by_the_words_of_rustls_and_the_system() {
        let certificate = |error| rustls::Error::InvalidCertificate(error).to_string();
        let alert = |alert| rustls::Error::AlertReceived(alert).to_string();
        let system = |kind| io::Error::from(kind).to_string();
        for (words, expect) in [
            (
                certificate(CertificateError::UnknownIssuer),
                Some(Fault::Untrusted),
            ),
            (
                certificate(CertificateError::NotValidForName),
                Some(Fault::OtherHost),
            ),
            (
                certificate(CertificateError::NotValidForNameContext {
                    expected: rustls_pki_types::ServerName::try_from("a.example").unwrap(),
                    presented: vec!["b.example".to_owned()],
                }),
                Some(Fault::OtherHost),
            ),
            (certificate(CertificateError::Expired), Some(Fault::Expired)),
            (
                certificate(CertificateError::ExpiredContext {
                    time: rustls_pki_types::UnixTime::now(),
                    not_after: rustls_pki_types::UnixTime::now(),
                }),
                Some(Fault::Expired),
            ),
            (
                certificate(CertificateError::BadSignature),
                Some(Fault::BadCertificate),
            ),
            (
                alert(AlertDescription::BadCertificate),
                Some(Fault::ClientCertificate),
            ),
            (
                alert(AlertDescription::UnknownCA),
                Some(Fault::ClientCertificate),
            ),
            (
                alert(AlertDescription::CertificateRequired),
                Some(Fault::ClientCertificate),
            ),
            (alert(AlertDescription::ProtocolVersion), None),
            (
                rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType).to_string(),
                Some(Fault::NoTls),
            ),
            (
                system(io::ErrorKind::ConnectionAborted),
                Some(Fault::Closed),
            ),
            (
                io::Error::from_raw_os_error(104).to_string(),
                Some(Fault::Closed),
            ),
            (system(io::ErrorKind::UnexpectedEof), Some(Fault::Closed)),
            (io::Error::from_raw_os_error(111).to_string(), None),
        ] {
            assert_eq!(Fault::of(&words), expect, "{words}");
        }
    }

    #[tokio::test]
    async fn a_name_without_an_address_is_known_by_the_systems_words() {
        let error = tokio::net::lookup_host("no-such-host.invalid:1").await;
        let words = error.map(drop).unwrap_err().to_string();
        assert_eq!(Fault::of(&words), Some(Fault::UnknownHost), "{words}");
    }
}
