//! What is called, and what is wrong with it, in words.

use pointsman_schemas::Problem;

use super::refusal::Refusal;
use crate::OpenError;
use crate::aws::unreachable;

/// What is called, for words about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'s> {
    /// The service, as people call it.
    pub(crate) service: &'static str,
    /// What of it: `queue orders`.
    pub(crate) what: &'s str,
    /// The setting that names it.
    pub(crate) at: &'static str,
    /// The setting that says where the service is.
    pub(crate) address: &'static str,
    /// What the credentials have to be allowed.
    pub(crate) rights: &'static str,
}

impl Subject<'_> {
    /// What a refusal means for who looks after the settings.
    pub(crate) fn refused(self, refusal: &Refusal) -> OpenError {
        let Self {
            service,
            what,
            at,
            address,
            rights,
        } = self;
        let (message, at, help) = if refusal.is_missing() {
            let help = "make it, or check its name, the region and the account";
            (format!("there is no {what}: {refusal}"), at, help)
        } else if refusal.is_unknown() {
            let help = "check the keys and the region, and that they have not expired";
            let message = format!("{service} does not accept the credentials: {refusal}");
            (message, "credentials", help)
        } else if refusal.is_forbidden() || matches!(refusal.status(), Some(401 | 403)) {
            let message = format!("the credentials may not use the {what}: {refusal}");
            (message, "credentials", rights)
        } else if refusal.code.is_empty() {
            let message = format!("what answers there is not {service}: {refusal}");
            (message, address, "check the address")
        } else {
            let help = "check its name, the region and the endpoint";
            (format!("cannot ask the {what}: {refusal}"), at, help)
        };
        OpenError(Problem::new(message).at(at).help(help))
    }

    /// What it means for who looks after the settings that no answer came.
    pub(crate) fn unanswered(self, cause: &str) -> OpenError {
        let (message, at, help) = unreachable(self.service, cause);
        let at = match at {
            "endpoint" => self.address,
            at => at,
        };
        OpenError(Problem::new(message).at(at).help(help))
    }
}
