//! What is changed in the console is written to the log: by whom, what, to what, and how much of it
//! there was. Never a key, nor what is in an event.

use crate::admin::Caller;

/// Writes that something was changed. `on` names what it was done to, as the API does.
pub(super) fn changed(who: Caller, what: &'static str, on: &str, count: u64) {
    tracing::info!(target: "audit", %who, what, on, count, "changed in the console");
}

/// Writes that somebody has shown a key.
pub(super) fn logged_in(who: Caller) {
    tracing::info!(target: "audit", %who, "logged in to the console");
}

/// Writes that somebody has shown what is no key of this bus.
pub(super) fn not_logged_in() {
    tracing::warn!(target: "audit", "a key that is none of admin.auth was shown to the console");
}
