//! What a source does where something else stands in the place of what it followed: another folder,
//! another bucket.

use schemars::JsonSchema;
use serde::Deserialize;

/// What to do where another one stands in the place of what was followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Replaced {
    /// Nothing that it lacks is told until the old one is back.
    #[default]
    Hold,
    /// The new one is followed: what it lacks is told as deleted.
    Tell,
}
