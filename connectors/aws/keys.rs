//! The keys to an account, which are read again once their files have changed.

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, future};
use pointsman_schemas::Text;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::OpenError;
use crate::files::Files;
use crate::parameter::resolve;
use crate::reread::Reread;

/// Keys in place of what the SDK finds by itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyPair {
    /// The access key's id.
    pub access_key: Text,
    /// The secret access key.
    #[schemars(extend("writeOnly" = true))]
    pub secret_key: Text,
    /// The token of temporary keys.
    #[schemars(extend("writeOnly" = true))]
    pub session_token: Option<Text>,
}

impl KeyPair {
    /// The files that they are taken from.
    pub(super) fn files(&self) -> Files {
        Files::of(
            [&self.access_key, &self.secret_key]
                .into_iter()
                .chain(&self.session_token),
        )
    }

    fn open(&self) -> Result<Credentials, OpenError> {
        let text = |text: &Text, key: &str| resolve(text, &["credentials".into(), key.into()]);
        let token = self
            .session_token
            .as_ref()
            .map(|token| text(token, "session_token"))
            .transpose()?;
        Ok(Credentials::new(
            text(&self.access_key, "access_key")?,
            text(&self.secret_key, "secret_key")?,
            token,
            None,
            "rule file",
        ))
    }
}

/// Keys that are read again once their files have changed.
#[derive(Debug)]
pub(super) struct Renewed(Reread<Credentials>);

impl Renewed {
    pub(super) fn open(keys: &KeyPair) -> Result<Self, OpenError> {
        let (files, keys) = (keys.files(), keys.clone());
        Reread::open("the keys to AWS", files, move || keys.open()).map(Self)
    }
}

impl ProvideCredentials for Renewed {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Ok(self.0.current()))
    }
}
