//! What lies there before a source looks for the first time.

use schemars::JsonSchema;
use serde::Deserialize;

/// What becomes of files that lie there at the very first start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Existing {
    /// They are told.
    #[default]
    Tell,
    /// They are taken to be known.
    Skip,
}
