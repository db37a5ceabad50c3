//! How we say who we are (part 5, section 5.3).

use bytestring::ByteString;

/// Who connects.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    /// Whether TLS shows a certificate of ours.
    pub(super) shows_certificate: bool,
}

/// A mechanism, and its first words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) mechanism: &'static str,
    pub(super) response: Vec<u8>,
}

impl Identity {
    /// The mechanism that is used of those that a broker offers.
    ///
    /// # Errors
    /// It offers none that we could, in words.
    pub(super) fn start(&self, offered: &[ByteString]) -> Result<Start, (&'static str, String)> {
        let offers = |mechanism: &str| offered.iter().any(|offered| *offered == mechanism);
        let names: Vec<_> = offered.iter().map(|name| &**name).collect();
        let names = names.join(", ");
        if let Some(user) = &self.user {
            if !offers("PLAIN") {
                let why = format!("it takes no user and password by PLAIN, but {names}");
                return Err(("username", why));
            }
            let password = self.password.as_deref().unwrap_or_default();
            return Ok(Start {
                mechanism: "PLAIN",
                response: format!("\0{user}\0{password}").into_bytes(),
            });
        }
        // Nothing is to be said beside the certificate.
        let start = |mechanism| Start {
            mechanism,
            response: Vec::new(),
        };
        if self.shows_certificate && offers("EXTERNAL") {
            return Ok(start("EXTERNAL"));
        }
        if offers("ANONYMOUS") {
            return Ok(Start {
                mechanism: "ANONYMOUS",
                response: b"pointsman".to_vec(),
            });
        }
        let why = format!("it lets nobody in without a name, but by {names}");
        Err(("username", why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mechanism_is_chosen_by_what_there_is_to_say() {
        let start = |user: Option<&str>, shows_certificate, offered: &[&'static str]| {
            let identity = Identity {
                user: user.map(str::to_owned),
                password: user.map(|_| "hunter2".to_owned()),
                shows_certificate,
            };
            let offered: Vec<_> = offered
                .iter()
                .map(|name| ByteString::from_static(name))
                .collect();
            let start = identity.start(&offered);
            start.map(|start| (start.mechanism, start.response))
        };
        let all = &["ANONYMOUS", "PLAIN", "EXTERNAL"][..];
        for (user, shows, offered, expect) in [
            (Some("a"), false, all, ("PLAIN", &b"\0a\0hunter2"[..])),
            (Some("a"), true, all, ("PLAIN", b"\0a\0hunter2")),
            (None, true, all, ("EXTERNAL", b"")),
            (None, false, all, ("ANONYMOUS", b"pointsman")),
            (None, true, &["ANONYMOUS"], ("ANONYMOUS", b"pointsman")),
        ] {
            let expect = (expect.0, expect.1.to_vec());
            assert_eq!(start(user, shows, offered), Ok(expect), "{offered:?}");
        }
        for (user, offered) in [(Some("a"), &["EXTERNAL", "GSSAPI"][..]), (None, &["PLAIN"])] {
            let (at, why) = start(user, false, offered).unwrap_err();
            assert!(
                at == "username" && why.ends_with(offered.last().unwrap()),
                "{why}"
            );
            assert!(!why.contains("hunter"), "{why}");
        }
    }
}
