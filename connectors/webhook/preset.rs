//! The providers that are known: one row each.
//!
//! A row says how the provider signs, in the language of `custom`; how an event is made of what it
//! sends; how it registers an address and what it wants to hear.

mod answer;
mod cloud;
mod code;
mod commerce;
mod events;
mod messages;
mod operations;
mod table;
#[cfg(test)]
mod tests;

use crate::webhook::signature::Form;

pub(super) use answer::{Reaction, Reply};
pub(super) use events::{Rows, Templates};
pub(super) use table::{NAMES, NONE, PRESETS};

/// What is known of a provider.
#[derive(Debug)]
pub(super) struct Preset {
    /// The key in the rule file.
    pub(super) name: &'static str,
    /// One line for the schema.
    pub(super) about: &'static str,
    /// Which settings it takes.
    pub(super) form: Form,
    /// The schemes of which any may fit, in JSON.
    pub(super) schemes: &'static [&'static str],
    /// How an event is made of a call.
    pub(super) event: Events,
    /// How an address is registered, in JSON.
    pub(super) handshakes: &'static [&'static str],
    /// What else is answered that depends on the call.
    pub(super) reaction: Reaction,
    /// Status and body once the event is stored, where it is not 202 without one.
    pub(super) answer: Option<(u16, &'static str)>,
}

/// How events are made of a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Events {
    /// By the webhook's own name.
    Plain,
    /// By GitHub's adapter.
    Github,
    /// By GitLab's.
    Gitlab,
    /// By Slack's envelope.
    Slack,
    /// By the envelope of Amazon SNS.
    Sns,
    /// By the envelope of Google Pub/Sub.
    PubSub,
    /// By the envelope of Alibaba's Message Service.
    Mns,
    /// A CloudEvent that does not say so, else by templates.
    EventBridge(&'static Rows),
    /// By templates.
    Rows(&'static Rows),
}

impl Events {
    /// True where the provider gives an id that stays the same when it tries again.
    pub(super) fn has_id(&self) -> bool {
        match self {
            Self::Plain
            | Self::Github
            | Self::Gitlab
            | Self::Slack
            | Self::Sns
            | Self::PubSub
            | Self::Mns => true,
            Self::Rows(rows) | Self::EventBridge(rows) => !rows.id.is_empty() || rows.id_of_body,
        }
    }
}

impl PartialEq for Preset {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Preset {}

/// The preset of a name.
pub(super) fn find(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().copied().find(|preset| preset.name == name)
}
