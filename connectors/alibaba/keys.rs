//! The keys to an account.

use std::fmt;
use std::sync::Arc;

use pointsman_schemas::{Problem, Text};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::OpenError;
use crate::files::Files;
use crate::parameter::resolve;
use crate::reread::Reread;

/// Where keys are found that the settings do not name, as every SDK of Alibaba Cloud finds them.
const ENVIRONMENT: [&str; 3] = [
    "ALIBABA_CLOUD_ACCESS_KEY_ID",
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
    "ALIBABA_CLOUD_SECURITY_TOKEN",
];

/// The keys to an account of Alibaba Cloud, or of RocketMQ.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessKey {
    /// The AccessKey's id.
    access_key: Text,
    /// The AccessKey's secret.
    #[schemars(extend("writeOnly" = true))]
    secret_key: Text,
    /// The token of temporary keys (STS).
    #[schemars(extend("writeOnly" = true))]
    security_token: Option<Text>,
}

impl AccessKey {
    /// Every mistake in what is written out.
    pub(crate) fn check(&self) -> Vec<Problem> {
        [
            ("access_key", &self.access_key),
            ("secret_key", &self.secret_key),
        ]
        .into_iter()
        .filter(|(_, text)| text.literal() == Some(""))
        .map(|(key, _)| Problem::new("must not be empty").at(key).at("credentials"))
        .collect()
    }

    /// The files that they are taken from.
    pub(crate) fn files(&self) -> Files {
        Files::of(
            [&self.access_key, &self.secret_key]
                .into_iter()
                .chain(&self.security_token),
        )
    }

    fn read(&self) -> Result<Keys, OpenError> {
        let text = |text: &Text, key: &str| resolve(text, &["credentials".into(), key.into()]);
        let token = self.security_token.as_ref();
        let token = token
            .map(|token| text(token, "security_token"))
            .transpose()?;
        Ok(Keys {
            id: text(&self.access_key, "access_key")?,
            secret: text(&self.secret_key, "secret_key")?,
            token: token.filter(|token| !token.is_empty()),
        })
    }
}

/// Keys, as they are now.
#[derive(Clone)]
pub(crate) struct Keys {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) token: Option<String>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Keys {
    fn of_environment() -> Result<Self, OpenError> {
        let [id, secret, token] = ENVIRONMENT.map(|name| {
            std::env::var(name)
                .ok()
                .filter(|value| !value.trim().is_empty())
        });
        let (Some(id), Some(secret)) = (id, secret) else {
            let problem = Problem::new("no keys to Alibaba Cloud are known").at("credentials");
            return Err(OpenError(problem.help(
                "write credentials, or set ALIBABA_CLOUD_ACCESS_KEY_ID and \
                 ALIBABA_CLOUD_ACCESS_KEY_SECRET",
            )));
        };
        Ok(Self { id, secret, token })
    }
}

/// Keys that are read again once their files have changed. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Signer(Arc<Reread<Keys>>);

impl Signer {
    /// The keys that the settings name, or those of the environment.
    ///
    /// # Errors
    /// They cannot be read, or there are none.
    pub(crate) fn open(written: Option<&AccessKey>) -> Result<Self, OpenError> {
        let what = "the keys to Alibaba Cloud";
        let reread = match written.cloned() {
            Some(written) => Reread::open(what, written.files(), move || written.read()),
            None => Reread::open(what, Files::of([]), Keys::of_environment),
        };
        reread.map(Arc::new).map(Self)
    }

    /// The keys that the settings name, of another system that has such.
    ///
    /// # Errors
    /// They cannot be read.
    #[cfg(feature = "rocketmq")]
    pub(crate) fn written(written: &AccessKey) -> Result<Self, OpenError> {
        let (files, written) = (written.files(), written.clone());
        let reread = Reread::open("the keys to RocketMQ", files, move || written.read());
        reread.map(Arc::new).map(Self)
    }

    /// The keys of this moment.
    pub(crate) fn keys(&self) -> Keys {
        self.0.current()
    }
}
