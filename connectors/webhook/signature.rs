//! Who may call a webhook: the signature schemes.
//!
//! `signature` is a map of one key: the name of a preset, or `custom`. A preset is written in the
//! language that `custom` is ([`Scheme`]), and adds what is its provider's own: how an event is
//! made of a call, the handshake, and the answer.
//!
//! Whose signature it is may take a key from elsewhere to tell: a certificate whose address the
//! call names, or the keys of an issuer of tokens. Then checking says which key it wants, which is
//! fetched ([`Keyring`](keyring::Keyring)), and the call is checked again. Nothing is taken
//! unchecked.
//!
//! A signature is checked over the body's raw bytes. Each scheme knows two secrets at most: the one
//! in force and the one before it, so that a secret can be changed without losing what is signed
//! with the old one.

mod canonical;
mod certificate;
mod check;
mod fetch;

#[cfg(test)]
pub(super) mod fixtures;

mod handshake;
mod hosts;
mod issuer;
mod jwt;
mod key;
mod keyring;
mod provider;
mod request;
mod rsa;
mod scheme;
mod settings;
mod template;
mod verify;

use std::borrow::Cow;
use std::fmt;

use pointsman_schemas::{Problem, Text};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{EnumAccess, VariantAccess, Visitor};
use serde::{Deserialize, Deserializer, de};

use super::preset::{self, Preset};
use settings::Settings;

pub(super) use handshake::{Answered, Moment};
pub(super) use hosts::Address;
pub(super) use request::{Call, Scope};
pub(super) use template::Template;
pub(super) use verify::{Unverified, Verifier};

pub use handshake::{AnswerForm, Handshake, HandshakeMethod, HmacEncoding};
pub use hosts::HostPattern;
pub use provider::{EventBridge, Mns, Paypal, PubSub, Sns};
pub use scheme::{
    Algorithm, Answer, Certificate, DigestAlgorithm, Encoding, Jwt, KeyEncoding, Requirement,
    Scheme, Unit, Values,
};

pub(super) use settings::Form;

pub use settings::{Hash, Hmac, Secrets, Unsigned, Verified};

/// How a webhook's caller proves himself: a preset with its settings.
#[derive(Clone, PartialEq, Eq)]
pub struct Signature {
    preset: &'static Preset,
    settings: Settings,
}

impl Signature {
    /// None: whoever knows the path may call.
    pub(super) fn none() -> Self {
        Self {
            preset: preset::NONE,
            settings: Settings::Unsigned(Unsigned {}),
        }
    }

    /// The scheme's name in the rule file.
    pub(super) fn name(&self) -> &'static str {
        self.preset.name
    }

    /// What is known of the provider.
    pub(super) fn preset(&self) -> &'static Preset {
        self.preset
    }

    /// True where nothing is checked.
    pub(super) fn is_none(&self) -> bool {
        matches!(self.settings, Settings::Unsigned(_))
    }

    /// Its secrets, by their keys.
    fn secrets(&self) -> impl Iterator<Item = (&'static str, &Text)> {
        let name = if matches!(self.settings, Settings::Paypal(_)) {
            "webhook_id"
        } else {
            "secret"
        };
        let (secret, previous) = match &self.settings {
            Settings::Secrets(own) => (Some(&own.secret), own.previous.as_ref()),
            Settings::Verified(own) => (Some(&own.secret), own.previous.as_ref()),
            Settings::Hmac(own) => (Some(&own.secret), own.previous.as_ref()),
            Settings::Custom(own) => (own.secret.as_ref(), own.previous.as_ref()),
            Settings::Paypal(own) => (Some(&own.webhook_id), own.previous.as_ref()),
            Settings::EventBridge(own) => (Some(&own.secret), own.previous.as_ref()),
            Settings::Sns(_) | Settings::PubSub(_) | Settings::Mns(_) | Settings::Unsigned(_) => {
                (None, None)
            }
        };
        secret
            .map(|secret| (name, secret))
            .into_iter()
            .chain(previous.map(|previous| ("previous", previous)))
    }

    /// The token that is asked for in a registration.
    fn verify_token(&self) -> Option<&Text> {
        match &self.settings {
            Settings::Verified(own) => own.verify_token.as_ref(),
            _ => None,
        }
    }

    /// The schemes of which any may fit.
    ///
    /// # Errors
    /// None of a preset that its tests have read; the language that the table is written in is read
    /// when a source opens.
    fn schemes(&self) -> Result<Vec<Scheme>, String> {
        match &self.settings {
            Settings::Custom(own) => Ok(vec![(**own).clone()]),
            Settings::Hmac(own) => Ok(vec![own.scheme()]),
            _ => {
                let read =
                    |text: &&str| serde_json::from_str(text).map_err(|error| error.to_string());
                let mut schemes: Vec<Scheme> = self
                    .preset
                    .schemes
                    .iter()
                    .map(read)
                    .collect::<Result<_, _>>()?;
                schemes
                    .iter_mut()
                    .for_each(|scheme| self.settings.apply(scheme));
                Ok(schemes)
            }
        }
    }

    /// How an address is registered.
    ///
    /// # Errors
    /// As [`schemes`](Self::schemes).
    fn handshakes(&self) -> Result<Vec<Handshake>, String> {
        match &self.settings {
            Settings::Custom(own) => Ok(own.handshake.clone()),
            _ => {
                let read =
                    |text: &&str| serde_json::from_str(text).map_err(|error| error.to_string());
                let mut handshakes: Vec<Handshake> = self
                    .preset
                    .handshakes
                    .iter()
                    .map(read)
                    .collect::<Result<_, _>>()?;
                handshakes
                    .iter_mut()
                    .for_each(|handshake| handshake.verify_token = self.verify_token().cloned());
                Ok(handshakes)
            }
        }
    }

    /// True where a delivery has an id that stays the same when the sender tries again.
    pub(super) fn has_stable_ids(&self) -> bool {
        match &self.settings {
            Settings::Hmac(own) => own.id.is_some(),
            Settings::Custom(own) => own.id.is_some(),
            Settings::Unsigned(_) => false,
            _ => self.preset.event.has_id(),
        }
    }

    /// What is answered once the event is stored, where it is not 202.
    pub(super) fn answer(&self) -> Option<Answer> {
        match &self.settings {
            Settings::Custom(own) => own.answer.clone(),
            _ => self.preset.answer.map(|(status, body)| Answer {
                status,
                body: body.to_owned(),
            }),
        }
    }

    /// Every mistake that can be found without reading a variable or a file.
    pub(super) fn check(&self) -> Vec<Problem> {
        let mut problems = match &self.settings {
            Settings::Hmac(own) => own.check(),
            Settings::Custom(own) => own.check(),
            Settings::Sns(own) => own.check(),
            Settings::PubSub(own) => own.check(),
            Settings::Mns(own) => own.check(),
            _ => Vec::new(),
        };
        if problems.iter().all(|problem| problem.warning)
            && let Ok(schemes) = self.schemes()
        {
            for (key, text) in self.secrets() {
                let literal = text.literal();
                let keys = literal.map(|secret| key::keys(&schemes, text, secret));
                if let Some(Err(problem)) = keys {
                    problems.push(problem.at(key));
                }
            }
        }
        problems
            .into_iter()
            .map(|problem| problem.at(self.name()))
            .collect()
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entry(&self.preset.name, &self.settings)
            .finish()
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Variants;
        impl<'de> Visitor<'de> for Variants {
            type Value = Signature;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a signature such as { github: { secret: { env: NAME } } }")
            }
            fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Signature, A::Error> {
                let (name, content) = data.variant::<String>()?;
                let preset = preset::find(&name)
                    .ok_or_else(|| de::Error::unknown_variant(&name, &preset::NAMES))?;
                let settings = match preset.form {
                    Form::Secrets => Settings::Secrets(content.newtype_variant()?),
                    Form::Verified => Settings::Verified(content.newtype_variant()?),
                    Form::Hmac => Settings::Hmac(content.newtype_variant()?),
                    Form::Custom => Settings::Custom(content.newtype_variant()?),
                    Form::Sns => Settings::Sns(content.newtype_variant()?),
                    Form::PubSub => Settings::PubSub(content.newtype_variant()?),
                    Form::Paypal => Settings::Paypal(content.newtype_variant()?),
                    Form::EventBridge => Settings::EventBridge(content.newtype_variant()?),
                    Form::Mns => Settings::Mns(content.newtype_variant()?),
                    Form::Unsigned => Settings::Unsigned(content.newtype_variant()?),
                };
                Ok(Signature { preset, settings })
            }
        }
        deserializer.deserialize_enum("Signature", &preset::NAMES, Variants)
    }
}

impl JsonSchema for Signature {
    fn schema_name() -> Cow<'static, str> {
        "Signature".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let alternatives: Vec<_> = preset::PRESETS
            .iter()
            .map(|preset| {
                let settings = match preset.form {
                    Form::Secrets => generator.subschema_for::<Secrets>(),
                    Form::Verified => generator.subschema_for::<Verified>(),
                    Form::Hmac => generator.subschema_for::<Hmac>(),
                    Form::Custom => generator.subschema_for::<Scheme>(),
                    Form::Sns => generator.subschema_for::<Sns>(),
                    Form::PubSub => generator.subschema_for::<PubSub>(),
                    Form::Paypal => generator.subschema_for::<Paypal>(),
                    Form::EventBridge => generator.subschema_for::<EventBridge>(),
                    Form::Mns => generator.subschema_for::<Mns>(),
                    Form::Unsigned => generator.subschema_for::<Unsigned>(),
                };
                json_schema!({
                    "type": "object",
                    "properties": { preset.name: settings },
                    "required": [preset.name],
                    "additionalProperties": false,
                    "description": preset.about,
                })
            })
            .collect();
        json_schema!({ "oneOf": alternatives, "description": "How a webhook's caller proves himself." })
    }
}
