//! How an address is registered: what a sender asks to see whether somebody is there, and what he
//! is answered.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::StatusCode;
use memchr::memmem;
use pointsman_schemas::{Problem, Text};
use schemars::JsonSchema;
use serde::Deserialize;

use super::key::Key;
use super::request::{Call, Scope};
use super::scheme::{Algorithm, Requirement};
use super::template::{Ref, Template};
use crate::listener::Refusal;

/// The longest challenge that is sent back: known ones have 60 characters at most, a validation
/// token of Microsoft's some hundred.
const CHALLENGE_BYTES_MAX: usize = 4_096;

/// What stands for the challenge and for its HMAC in an answer.
const CHALLENGE: &str = "<$.challenge>";
const HMAC: &str = "<$.hmac>";

/// A question by which a sender sees whether an address is the registrant's, and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Handshake {
    /// How it is asked; by POST by default.
    #[serde(default)]
    pub method: HandshakeMethod,
    /// Where the challenge is, such as `<$.query.challenge>` or `<$.fields.challenge>`.
    pub challenge: Template,
    /// What must be in the request besides, by which the question is told from an event.
    #[serde(default)]
    pub require: Vec<Requirement>,
    /// Where the token is that was agreed on for the registration.
    pub token: Option<Template>,
    /// That token.
    #[schemars(extend("writeOnly" = true))]
    pub verify_token: Option<Text>,
    /// Whether a POST must be signed as events are; it must by default. A GET is not.
    pub signed: Option<bool>,
    /// How the challenge's HMAC by the secret is written, where `<$.hmac>` is in the answer.
    #[serde(default)]
    pub hmac: HmacEncoding,
    /// The answer's body, with `<$.challenge>` and `<$.hmac>`; the challenge by default.
    pub answer: Option<String>,
    /// What the answer is: `text` by default, or `json`, in which the challenge is written as in a
    /// JSON text.
    #[serde(default, rename = "as")]
    pub form: AnswerForm,
}

/// How a question is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum HandshakeMethod {
    /// By GET.
    #[serde(alias = "get")]
    Get,
    /// By POST.
    #[default]
    #[serde(alias = "post")]
    Post,
}

/// How an HMAC is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HmacEncoding {
    /// Hexadecimal.
    #[default]
    Hex,
    /// Base64.
    Base64,
}

/// What an answer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AnswerForm {
    /// `text/plain`.
    #[default]
    Text,
    /// `application/json`.
    Json,
}

/// When a question is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::webhook) enum Moment {
    Get,
    /// A POST whose signature has not been looked at.
    Unsigned,
    /// One whose signature fits.
    Signed,
}

/// What is answered to a question: a body, and whether it is JSON.
pub(in crate::webhook) type Answered = (String, AnswerForm);

/// A handshake with its token, resolved.
#[derive(Debug)]
pub(super) struct Registration {
    pub(super) handshake: Handshake,
    pub(super) token: Option<Key>,
}

impl Handshake {
    fn moment(&self) -> Moment {
        match (self.method, self.signed) {
            (HandshakeMethod::Get, _) => Moment::Get,
            (HandshakeMethod::Post, Some(false)) => Moment::Unsigned,
            (HandshakeMethod::Post, _) => Moment::Signed,
        }
    }

    /// Every mistake of one that a user wrote; `hashes` where there is a secret that an HMAC can be
    /// made by.
    pub(super) fn check(&self, hashes: bool) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.challenge.refs().next().is_none() {
            let help = "write <$.query.challenge> or <$.fields.challenge>";
            problems.push(
                Problem::new("is the same for everybody, and no challenge")
                    .at("challenge")
                    .help(help),
            );
        }
        if self.token.is_some() != self.verify_token.is_some() {
            let help = "write token: <$.query.token> and verify_token: { env: NAME } together";
            problems.push(
                Problem::new("one of token and verify_token is missing")
                    .at("token")
                    .help(help),
            );
        }
        let answer = self.answer.as_deref().unwrap_or(CHALLENGE);
        if answer.contains(HMAC) && !hashes {
            problems
                .push(Problem::new("there is no secret that an HMAC can be made by").at("answer"));
        }
        if answer
            .replace(CHALLENGE, "")
            .replace(HMAC, "")
            .contains("<$")
        {
            problems.push(
                Problem::new(
                    "has places that are not filled in; there are <$.challenge> and <$.hmac>",
                )
                .at("answer"),
            );
        }
        if self.method == HandshakeMethod::Get
            && self
                .challenge
                .refs()
                .any(|part| matches!(part, Ref::Field(_) | Ref::Body))
        {
            problems.push(
                Problem::new("a GET has no body")
                    .at("challenge")
                    .help("write <$.query.challenge>"),
            );
        }
        problems
    }
}

impl Registration {
    /// Whether a POST with this head may ask this without a signature.
    pub(super) fn may_be_asked(&self, call: &Call<'_>) -> bool {
        let own = &self.handshake;
        let needs_body = |template: &Template| {
            template
                .refs()
                .any(|part| matches!(part, Ref::Field(_) | Ref::Body | Ref::SortedForm))
        };
        own.moment() == Moment::Unsigned
            && (needs_body(&own.challenge) || call.text(&own.challenge, Scope::default()).is_ok())
    }

    /// What a call is answered if it asks this; `hmac` makes one of the challenge.
    pub(super) fn answer(
        &self,
        call: &Call<'_>,
        moment: Moment,
        hmac: impl FnOnce(&str) -> Option<Vec<u8>>,
    ) -> Option<Result<Answered, Refusal>> {
        let own = &self.handshake;
        if own.moment() != moment || !own.require.iter().all(|require| is_met(require, call)) {
            return None;
        }
        let text = |place| call.text(place, Scope::default()).ok();
        let challenge = text(&own.challenge)
            .filter(|challenge| !challenge.is_empty() && challenge.len() <= CHALLENGE_BYTES_MAX)?;
        if let Some(place) = &own.token {
            let shown = text(place).unwrap_or_default();
            if !self
                .token
                .as_ref()
                .is_some_and(|token| token.fits(Algorithm::Token, &[b""], shown.as_bytes()))
            {
                let detail = format!(
                    "{} is not the webhook's verify_token; set both to the same text",
                    place.place()
                );
                return Some(Err(Refusal::new(StatusCode::FORBIDDEN, detail)));
            }
        }
        let mut answer = own.answer.clone().unwrap_or_else(|| CHALLENGE.to_owned());
        if answer.contains(HMAC) {
            let hmac = hmac(&challenge)?;
            let written = match own.hmac {
                HmacEncoding::Hex => hex::encode(hmac),
                HmacEncoding::Base64 => BASE64_STANDARD.encode(hmac),
            };
            answer = answer.replace(HMAC, &written);
        }
        let challenge = match own.form {
            AnswerForm::Text => challenge,
            // A text's JSON without its quotes. A text always serializes.
            AnswerForm::Json => serde_json::to_string(&challenge)
                .unwrap_or_default()
                .trim_matches('"')
                .to_owned(),
        };
        // Last, so that nothing in the challenge is filled in.
        Some(Ok((answer.replace(CHALLENGE, &challenge), own.form)))
    }
}

/// Whether a requirement is met. The body is read only where a value is in it at all.
fn is_met(require: &Requirement, call: &Call<'_>) -> bool {
    let is_field = require
        .value
        .refs()
        .any(|part| matches!(part, Ref::Field(_)));
    let mentioned = |value: &String| memmem::find(call.body(), value.as_bytes()).is_some();
    if is_field && !require.is.0.iter().any(mentioned) {
        return false;
    }
    call.text(&require.value, Scope::default())
        .is_ok_and(|found| require.is.contains(&found))
}
