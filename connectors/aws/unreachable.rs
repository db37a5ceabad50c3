//! Why no answer came, and what a user does about it.

use super::error::is_about_credentials;
use crate::net::fault::{self, Advice};

/// What is said and done about each fault on the way.
const SETTINGS: fault::Settings = fault::Settings {
    url: "endpoint",
    tls: "endpoint",
    trust: "add that authority to those that the system trusts, or name its file in SSL_CERT_FILE",
    no_tls: "write http:// in the place of https://, or name the port that speaks TLS",
    closed: "check what it is that listens there, and whether it speaks TLS (https://)",
};

/// What it means that no answer came: what is wrong, the setting at fault, and what to do about it.
pub(crate) fn unreachable(server: &str, cause: &str) -> (String, &'static str, &'static str) {
    if is_about_credentials(cause) {
        return (
            format!("there are no credentials for {server}: {cause}"),
            "credentials",
            "write credentials, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        );
    }
    if cause.contains("region must be set") {
        return (
            "no region is known".to_owned(),
            "region",
            "write region, or set AWS_REGION",
        );
    }
    let (what, at, help) = match fault::advice(cause, &SETTINGS, false) {
        Some(Advice { at, what, help }) => (what, at, help),
        // An alert of TLS is no answer of HTTP.
        None if cause.contains("invalid HTTP version") => (
            "what answers there does not speak HTTP".to_owned(),
            "endpoint",
            "where TLS is spoken there, write https:// in the place of http://",
        ),
        None => (
            cause.to_owned(),
            "endpoint",
            "check the address and that it runs",
        ),
    };
    (format!("cannot reach {server}: {what}"), at, help)
}
