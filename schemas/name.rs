//! Names of sources, targets, rules, pipes and tenants.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A name as the rule file gives it: `[a-z0-9-]{1,63}`.
///
/// It becomes a metric label, a journal key and later a subject, so nothing wider is let in.
/// Cloning is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// A text is no [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the name {0:?} is not made of 1 to 63 of the characters a-z, 0-9 and -")]
pub struct InvalidName(pub String);

impl Name {
    /// Checks a text and makes a name of it.
    ///
    /// # Errors
    /// [`InvalidName`] where the text is empty, longer than 63 bytes, or has a character outside
    /// `[a-z0-9-]`.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        let fits = (1..=63).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if fits {
            Ok(Self(text.into()))
        } else {
            Err(InvalidName(text.to_owned()))
        }
    }

    /// The tenant of rule files that name none.
    #[must_use]
    pub fn default_tenant() -> Self {
        Self("default".into())
    }

    /// The origin of events that come in by CloudEvents HTTP.
    #[must_use]
    pub fn ingress() -> Self {
        Self("ingress".into())
    }

    /// The origin of events that targets answered with.
    #[must_use]
    pub fn replies() -> Self {
        Self("replies".into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl FromStr for Name {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::new(text)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl serde::Serialize for Name {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Name {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Name".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[a-z0-9-]{1,63}$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_fits_a_subject_a_key_and_a_path_is_a_name() {
        for good in ["a", "every-morning", "0", &"x".repeat(63)] {
            assert_eq!(Name::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "a.b",
            "*",
            ">",
            "/",
            "..",
            "ü",
            "A",
            "a b",
            "a_b",
            &"x".repeat(64),
        ] {
            assert_eq!(Name::new(bad), Err(InvalidName(bad.to_owned())), "{bad}");
        }
    }
}
