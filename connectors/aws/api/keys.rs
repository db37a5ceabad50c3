//! The credentials that requests are signed with.

use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use pointsman_schemas::{Class, Outcome};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use crate::net::explain::explain;

/// How long before they end credentials are asked for again.
const BEFORE_END: Duration = Duration::from_secs(60);

/// How long those are used that say of no end: as long as in the SDK.
const ENDLESS: Duration = Duration::from_secs(15 * 60);

/// Where credentials come from, and those that were found last.
#[derive(Debug)]
pub(super) struct Keys {
    provider: Option<SharedCredentialsProvider>,
    /// Whether they are the rule file's own, which know by themselves when they have changed.
    are_written: bool,
    found: Mutex<Option<(Credentials, SystemTime)>>,
}

impl Keys {
    pub(super) fn of(shared: &SdkConfig, are_written: bool) -> Self {
        Self {
            provider: shared.credentials_provider(),
            are_written,
            found: Mutex::default(),
        }
    }

    /// Those that count now, by a time at which nobody waits any more.
    ///
    /// # Errors
    /// There are none, and what follows from that.
    pub(super) async fn credentials(&self, until: Instant) -> Result<Credentials, Box<Outcome>> {
        let none = |class, why: &str| {
            let told = format!("there are no credentials for AWS: {why}");
            Box::new(Outcome::new(class, told))
        };
        let Some(provider) = &self.provider else {
            return Err(none(Class::Refused, "nobody provides any"));
        };
        // Whoever comes meanwhile waits for what is found, and does not ask a second time.
        let finding = async {
            let mut found = self.found.lock().await;
            let now = SystemTime::now();
            if let Some((credentials, end)) = &*found
                && *end > now
            {
                return Ok(credentials.clone());
            }
            let credentials = provider.provide_credentials().await?;
            if !self.are_written {
                let end = match credentials.expiry() {
                    Some(end) => end.checked_sub(BEFORE_END).unwrap_or(now),
                    None => now + ENDLESS,
                };
                *found = Some((credentials.clone(), end));
            }
            Ok(credentials)
        };
        match timeout_at(until, finding).await {
            Ok(Ok(credentials)) => Ok(credentials),
            Ok(Err(error)) => Err(none(class(&error), &explain(&error))),
            Err(_elapsed) => Err(none(Class::Unavailable, "none came in time")),
        }
    }

    /// Asks for others before the next call.
    pub(super) async fn forget(&self) {
        *self.found.lock().await = None;
    }
}

/// What is not there, or is written wrongly, is not there the next time either.
fn class(error: &CredentialsError) -> Class {
    match error {
        CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => {
            Class::Refused
        }
        _ => Class::Unavailable,
    }
}
